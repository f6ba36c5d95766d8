#!/usr/bin/env bash
# Starts a broker that is not ours, for the tests and for trying things out: Tansu, a Kafka-compatible broker, with its storage in memory. Installs
# it first, if it is not there (some minutes). What it does not do as Kafka does is told in the module `kafka`.
#
#   tools/kafka_broker.sh [PORT]                 # 19092 by default; ends with Ctrl-C
#   PLIMSOLL_TEST_KAFKA=127.0.0.1:19092 cargo test --features kafka --test kafka -- --test-threads 1
set -euo pipefail
port=${1:-19092}
root=${PLIMSOLL_BROKER_ROOT:-$HOME/.cache/plimsoll-broker}
tansu=$root/bin/tansu
[ -x "$tansu" ] || cargo install --locked --root "$root" --features dynostore tansu@0.5.9
echo "a broker at 127.0.0.1:$port"
exec "$tansu" broker --listener-url "tcp://127.0.0.1:$port" --advertised-listener-url "tcp://127.0.0.1:$port" \
    --storage-engine memory://tansu/
