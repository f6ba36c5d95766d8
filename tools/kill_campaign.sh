#!/usr/bin/env bash
# Kills a process that spills, with SIGKILL, at random moments, 1000 times or as often as told, and checks each time that the spill log
# has all that counted as spilled. The same as tests/spill_kill.rs and
# tests/spill_kill_moves.rs in the test suite, for longer.
#
#   tools/kill_campaign.sh [ROUNDS] [CARGO OPTIONS...]
#
# An optimised build, with other moments: tools/kill_campaign.sh 1000 --release
set -euo pipefail
rounds=${1:-1000}
shift || true
cd "$(dirname "$0")/.."
PLIMSOLL_KILL_ROUNDS=$rounds cargo test "$@" --test spill_kill --test spill_kill_moves -- --nocapture
