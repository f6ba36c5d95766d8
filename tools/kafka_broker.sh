#!/usr/bin/env bash
# Starts a broker that is not ours, for the tests and for trying things out: Tansu, a Kafka-compatible broker, with its storage in memory. Installs
# it first, if it is not there (some minutes), and kcat, an independent client.
#
#   tools/kafka_broker.sh [PORT]                 # 19092 by default; ends with Ctrl-C
#   PLIMSOLL_TEST_KAFKA=127.0.0.1:19092 cargo test --features kafka --test kafka -- --test-threads 1
set -euo pipefail
port=${1:-19092}
root=${PLIMSOLL_BROKER_ROOT:-$HOME/.cache/plimsoll-broker}
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

command -v kcat >/dev/null || { as_root apt-get update -qq; as_root apt-get install -y -qq --no-install-recommends kcat; }
tansu=$(command -v tansu || true)
if [ -z "$tansu" ]; then
    tansu=$root/bin/tansu
    [ -x "$tansu" ] || cargo install --quiet --locked --root "$root" --features dynostore tansu@0.6.0
fi
echo "a broker at 127.0.0.1:$port"
exec "$tansu" broker --listener-url "tcp://127.0.0.1:$port" --advertised-listener-url "tcp://127.0.0.1:$port" \
    --storage-engine memory://tansu/
