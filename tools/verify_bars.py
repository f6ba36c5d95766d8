#!/usr/bin/env python3
"""Computes the bars of a recorded ASX directory anew, in exact fractions, and compares them with a bars file.

    tools/verify_bars.py DIR BARS.csv [INTERVAL_SECONDS]

Shares no code with the program. Prints one line; exits with 1 on the first difference. Needs Python 3.9, nothing else.
"""

import calendar
import csv
import pathlib
import sys
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from fractions import Fraction

BILLION = 10**9


def event_ns(date, time):
    month, day, year = map(int, date.split("/"))
    hms, _, fraction = time.partition(".")
    hour, minute, second = map(int, hms.split(":"))
    seconds = calendar.timegm((year, month, day, hour, minute, second))
    return seconds * BILLION + int(fraction.ljust(9, "0") or 0)


def text(value):
    """A fraction, rounded half-even to nine decimals, without trailing zeros."""
    rounded = round(value * BILLION)  # Fraction.__round__ rounds halves to even
    with localcontext() as context:
        context.prec = 60
        context.rounding = ROUND_HALF_EVEN
        out = format(Decimal(rounded).scaleb(-9), "f")
    return out.rstrip("0").rstrip(".") if "." in out else out


def stream(root, companies):
    """All ticks as (time, rank of the kind, id, position, kind, row), in stream order."""
    ticks = []
    for rank, kind in enumerate(("trades", "quotes")):
        for path in (root / kind).glob("*.csv"):
            for position, row in enumerate(csv.reader(path.open(newline=""))):
                ticks.append((event_ns(row[0], row[1]), rank, int(path.stem), position, kind, row))
    ticks.sort(key=lambda tick: tick[:4])
    return ticks


def bars(root, interval_ns):
    with (root / "reference-data/company_info.csv").open(newline="") as file:
        companies = {int(row["company_id"]): row["symbol"] for row in csv.DictReader(file)}
    groups, quote = {}, {}
    for time, _, company, _, kind, row in stream(root, companies):
        symbol = companies[company]
        if kind == "quotes":
            bid, ask, bid_size, ask_size = Fraction(row[2]), Fraction(row[3]), int(row[4]), int(row[5])
            quote[symbol] = (bid, ask) if bid and ask and bid_size and ask_size else None
        else:
            key = (time // interval_ns * interval_ns, symbol)
            groups.setdefault(key, []).append((Fraction(row[2]), int(row[3]), quote.get(symbol)))
    for (start, symbol), trades in sorted(groups.items()):
        prices = [price for price, _, _ in trades]
        volume = sum(size for _, size, _ in trades)
        vwap = sum(price * size for price, size, _ in trades) / volume
        fields = [prices[0], max(prices), min(prices), prices[-1]]
        row = [symbol, str(start), *map(text, fields), str(volume), str(len(trades)), text(vwap)]
        last = trades[-1][2]
        if last is None:
            yield [*row, "", "", ""]
        else:
            mid = (last[0] + last[1]) / 2
            yield [*row, text(mid), text(last[1] - last[0]), text(vwap - mid)]


def main():
    root, path = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    interval_ns = int(sys.argv[3]) * BILLION if len(sys.argv) > 3 else 60 * BILLION
    with path.open(newline="") as file:
        found = list(csv.reader(file))[1:]
    expected = list(bars(root, interval_ns))
    for line, (one, other) in enumerate(zip(expected, found), start=2):
        if one != other:
            sys.exit(f"{path}:{line}: {other}\n  expected {one}")
    if len(expected) != len(found):
        sys.exit(f"{path}: {len(found)} bars, expected {len(expected)}")
    volumes = {}
    for row in found:
        volumes[row[0]] = volumes.get(row[0], 0) + int(row[6])
    print(f"{len(found)} bars equal; volumes {volumes}")


if __name__ == "__main__":
    main()
