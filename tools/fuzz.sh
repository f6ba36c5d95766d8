#!/usr/bin/env bash
# Fuzzes the decoders, each for so long: cargo-fuzz on a nightly toolchain, from seeds that are made here.
#
#   tools/fuzz.sh [SECONDS [TARGET...]]      default: 600, all of them
#
# A crash is left in tests/fuzz/artifacts/TARGET. Needs `rustup toolchain install nightly` and `cargo install cargo-fuzz`.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-600}
shift || true
targets=("$@")
[ "${#targets[@]}" -gt 0 ] || targets=(itch mold pcap dbn csv ndjson)

cargo build --release
plimsoll=target/release/plimsoll
fuzz=tests/fuzz
seeds=$(mktemp -d)
trap 'rm -rf "$seeds"' EXIT
mkdir -p "$seeds"/{itch,mold,pcap,dbn,csv,ndjson}

# Beginnings of a generated day; each target has its own first byte before it, where it wants one.
"$plimsoll" gen --messages 300 --symbols 5 --out "$seeds/itch/day.itch" >/dev/null
"$plimsoll" gen --messages 300 --symbols 5 --lines 2 --loss 0.05 --reorder 0.05 --out "$seeds/pcap/day.pcap" >/dev/null
for kind in csv ndjson; do
    "$plimsoll" gen --messages 300 --symbols 5 --out "$seeds/rows.$kind" >/dev/null
    { printf '\0'; head -20 "$seeds/rows.$kind"; } >"$seeds/$kind/day"
done
python3 - "$seeds" <<'PYTHON'
import struct, sys
seeds = sys.argv[1]
packet = lambda first, messages: b"SESSION001" + struct.pack(">QH", first, len(messages)) + b"".join(
    struct.pack(">H", len(m)) + m for m in messages)
step = lambda what, time, p: bytes([what, time, len(p)]) + p
stream = [packet(1, [b"a"]), packet(3, [b"c", b"d"]), packet(2, [b"b"]), packet(9, []), b"SESSION001" + struct.pack(">QH", 9, 65535)]
for name, first in (("plain", 0), ("asks", 3)):
    with open(f"{seeds}/mold/{name}", "wb") as file:
        file.write(bytes([first]) + b"".join(step(i % 4, 3, p) for i, p in enumerate(stream)))
# An order, its cancellation and its change: record header, then fields, of the schema mbo.
order = lambda action, side, oid: struct.pack("<BBHIQQqIBBccQiI", 14, 160, 1, 7, 1, oid, 100, 10, 0, 0, action, side, 2, 0, 1)
with open(f"{seeds}/dbn/orders", "wb") as file:
    file.write(b"\3" + order(b"A", b"B", 1) + order(b"C", b"B", 1) + order(b"M", b"A", 2) + order(b"R", b"N", 0))
PYTHON

for target in "${targets[@]}"; do
    echo "== $target, $seconds s"
    mkdir -p "$fuzz/corpus/$target"
    cargo +nightly fuzz run --fuzz-dir "$fuzz" --target-dir target/fuzz "$target" "$fuzz/corpus/$target" "$seeds/$target" -- \
        -max_total_time="$seconds" -rss_limit_mb=1024 -max_len=8192 -timeout=10 -print_final_stats=1 2>&1 | tail -12
done
