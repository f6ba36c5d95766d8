#!/usr/bin/env bash
# Three processes of one consumer group, killed, stopped for longer than the group waits, and flooded up to CIRCUIT_BREAK, for ten minutes or as
# many seconds as told: every number has to come out. The same as in tests/kafka/program.rs, for longer.
#
#   tools/kafka_campaign.sh [SECONDS] [CARGO OPTIONS...]
#
# An optimised build: tools/kafka_campaign.sh 600 --release
set -euo pipefail
seconds=${1:-600}
shift || true
cd "$(dirname "$0")/.."
PLIMSOLL_KAFKA_CAMPAIGN=$seconds cargo test "$@" --features kafka --test kafka \
    program::a_group_whose_processes_die_and_stand_still_loses_nothing -- --nocapture
