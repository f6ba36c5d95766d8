#!/usr/bin/env bash
# Scrapes a live run and lets promtool judge the exposition.
#
#   tools/check_metrics.sh PLIMSOLL
set -euo pipefail
plimsoll=$1
scratch=$(mktemp -d)
pid=
# Not before the run has ended, which writes there.
trap '[ -z "$pid" ] || { kill "$pid" && wait "$pid"; } 2>/dev/null || true; rm -rf "$scratch"' EXIT

mkdir -p "$scratch/week/"{trades,quotes,reference-data}
printf 'company_id,symbol\n1,BHP\n' >"$scratch/week/reference-data/company_info.csv"
for second in $(seq 10 59); do
    echo "03/10/2014,10:00:$second.000,36.5,100,0,,"
done >"$scratch/week/trades/1.csv"
echo '03/10/2014,10:00:10.000,36.4,36.6,10,10' >"$scratch/week/quotes/1.csv"

"$plimsoll" run --format asx --input "$scratch/week" --bars "$scratch/bars.csv" --bbo "$scratch/bbo.csv" --pace 5/s \
    --metrics 127.0.0.1:0 >"$scratch/out" 2>"$scratch/err" &
pid=$!
url=
for _ in $(seq 100); do
    url=$(sed -n 's/^metrics on //p' "$scratch/err")
    [ -n "$url" ] && break
    kill -0 "$pid" || { cat "$scratch/err" >&2; exit 1; }
    sleep 0.1
done
python3 -c 'import sys, urllib.request; sys.stdout.write(urllib.request.urlopen(sys.argv[1]).read().decode())' \
    "$url" >"$scratch/metrics"
promtool check metrics <"$scratch/metrics"
for series in k2_degradation_level k2_degradation_transitions_total k2_messages_shed_total k2_books k2_books_stale_seconds; do
    grep -q "^$series{service=\"k2-platform\",environment=\"dev\",component=\"plimsoll\"" "$scratch/metrics"
done
grep -q '^k2_feed_messages_total{.*feed="asx"' "$scratch/metrics"
echo "promtool accepts $(grep -c '^k2_' "$scratch/metrics") samples of $(grep -c '^# TYPE' "$scratch/metrics") metrics"
