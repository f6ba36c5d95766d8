#!/usr/bin/env python3
"""Asks a Prometheus every query of a Grafana dashboard, and how its scrapes and rules have fared.

    check_queries.py DASHBOARD.json http://HOST:PORT

Exit code 1 if a query gives nothing or an error, a scrape has failed, or a rule cannot be evaluated. A rule that was not evaluated yet
is waited for.
"""

import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request


def ask(base, path, **parameters):
    url = f"{base}{path}?{urllib.parse.urlencode(parameters)}"
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)["data"]


def rules(base):
    """All rules, once each of them was evaluated, or after a minute."""
    deadline = time.monotonic() + 60
    while True:
        found = [rule for group in ask(base, "/api/v1/rules")["groups"] for rule in group["rules"]]
        if time.monotonic() > deadline or all(rule["health"] != "unknown" for rule in found):
            return found
        time.sleep(0.2)


def main():
    dashboard, base = json.load(open(sys.argv[1])), sys.argv[2]
    variables = {"$__rate_interval": "5s", "$instance": ".*", "$component": ".*"}
    bad = asked = 0
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            query = target["expr"]
            for name, value in variables.items():
                query = query.replace(name, value)
            asked += 1
            try:
                series = ask(base, "/api/v1/query", query=query)["result"]
                why = None if series else "it gives nothing"
            except urllib.error.HTTPError as error:
                why = error.read().decode()
            if why:
                bad += 1
                print(f"{panel['title']}: {query}: {why}")
    scrapes = ask(base, "/api/v1/query", query="count_over_time(up[1h])")["result"][0]["value"][1]
    failed = ask(base, "/api/v1/query", query="count_over_time((up == 0)[1h:100ms])")["result"]
    failed = failed[0]["value"][1] if failed else "0"
    if failed != "0":
        bad += 1
    for rule in rules(base):
        if rule["health"] != "ok":
            bad += 1
            print(f"rule {rule['name']}: {rule.get('lastError', rule['health'])}")
    print(f"{asked} queries, {scrapes} scrapes of which {failed} failed, {bad} things wrong")
    sys.exit(1 if bad else 0)


main()
