#!/usr/bin/env bash
# Runs the program under overload, has a real Prometheus scrape it every 100 ms, and asks it every query of the dashboard and every
# rule: each has to give something. No scrape may fail.
#
#   tools/check_dashboard.sh [PLIMSOLL [SECONDS]]
#
# Wants prometheus (Debian: package prometheus), curl and python3.
set -euo pipefail
cd "$(dirname "$0")/.."
plimsoll=${1:-target/release/plimsoll}
seconds=${2:-20}
scratch=$(mktemp -d)
pids=()
finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$scratch"
}
trap finish EXIT
port=${PLIMSOLL_TEST_PROMETHEUS_PORT:-19190}

"$plimsoll" gen --seed 1 --messages 3000000 --out "$scratch/day.itch" >/dev/null
cat >"$scratch/run.toml" <<TOML
[thresholds]                  # so low that ordinary bursts are storms
lag_soft = 300
lag_graceful = 400
lag_aggressive = 500
lag_circuit_break = 2_000
recovery_cooldown_seconds = 0.1
[shadow.thresholds]
lag_soft = 200
[signals.age]
soft = 60_000
graceful = 70_000
aggressive = 80_000
circuit_break = 90_000
[spill]
dir = "$scratch/spool"
free_space_floor_bytes = 0
[[feed]]
kind = "itch"
input = "$scratch/day.itch"
pace = "$((3000000 / (seconds + 30)))/s"
TOML
"$plimsoll" run --config "$scratch/run.toml" --bars "$scratch/bars.csv" --metrics 127.0.0.1:0 \
    --control "$scratch/control.sock" >"$scratch/out" 2>"$scratch/err" &
pids+=($!)
for _ in $(seq 100); do
    url=$(sed -n 's|^metrics on http://\(.*\)/metrics$|\1|p' "$scratch/err")
    [ -n "$url" ] && break
    sleep 0.1
done
[ -n "$url" ] || { cat "$scratch/err"; exit 1; }

cat >"$scratch/prometheus.yml" <<YAML
global: { scrape_interval: 100ms, scrape_timeout: 100ms, evaluation_interval: 1s }
rule_files: [ $PWD/tools/prometheus/plimsoll.rules.yml, $PWD/tools/scaling/prometheus.rules.yml ]
scrape_configs: [ { job_name: plimsoll, static_configs: [ { targets: [ "$url" ] } ] } ]
YAML
prometheus --config.file="$scratch/prometheus.yml" --storage.tsdb.path="$scratch/tsdb" \
    --web.listen-address="127.0.0.1:$port" --log.level=warn >"$scratch/prometheus.log" 2>&1 &
pids+=($!)

# Through all levels, now and then, so that there is something to see.
end=$((SECONDS + seconds))
while [ $SECONDS -lt $end ]; do
    for level in 2 3 4 0; do
        "$plimsoll" ctl --socket "$scratch/control.sock" pin "$level" --for 2s >/dev/null
        sleep 0.7
    done
    "$plimsoll" ctl --socket "$scratch/control.sock" reset >/dev/null
    sleep 0.5
done
# What Prometheus has of it is a trace.
curl -fsS -G "http://127.0.0.1:$port/api/v1/query_range" --data-urlencode 'query={__name__=~"k2_.+"}' \
    -d "start=$(($(date +%s) - seconds))" -d "end=$(date +%s)" -d step=1s >"$scratch/incident.json"
"$plimsoll" simulate --trace "$scratch/incident.json" --summary >"$scratch/summary.txt"
grep '^as recorded' "$scratch/summary.txt"
grep -q '^Shares are of what was offered' "$scratch/summary.txt"
python3 tools/grafana/check_queries.py tools/grafana/plimsoll.json "http://127.0.0.1:$port"
