#!/usr/bin/env bash
# Runs a recorded ASX directory with 1, 2 and 4 workers, and compares the bars with an independent computation.
#
#   tools/verify_week.sh PLIMSOLL DIR
set -euo pipefail
plimsoll=$1 week=$2
here=$(dirname "$0")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

for workers in 1 2 4; do
    "$plimsoll" run --format asx --input "$week" --bars "$scratch/bars-$workers.csv" \
        --ledger "$scratch/ledger.json" --workers "$workers" >"$scratch/summary.txt"
    python3 - "$scratch/ledger.json" "$week" <<'PY'
import json, pathlib, sys
ledger = json.load(open(sys.argv[1]))
week = pathlib.Path(sys.argv[2])
ticks = sum(sum(1 for _ in path.open()) for kind in ("trades", "quotes") for path in (week / kind).glob("*.csv"))
companies = sum(1 for _ in (week / "reference-data/company_info.csv").open()) - 1
expected = ticks + companies
assert ledger["offered"] == ledger["processed"] == expected, (ledger, expected)
assert ledger["shed"] == ledger["refused"] == ledger["full"] == ledger["in_flight"] == 0, ledger
assert ledger["balanced"]
print(f"{ticks} ticks and {companies} companies: all processed, none shed")
PY
    "$here/verify_bars.py" "$week" "$scratch/bars-$workers.csv"
done
cmp "$scratch/bars-1.csv" "$scratch/bars-2.csv"
cmp "$scratch/bars-1.csv" "$scratch/bars-4.csv"
echo "the same bars with 1, 2 and 4 workers"
