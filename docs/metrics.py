# SPDX-License-Identifier: BSD-3-Clause
"""Writes the table of metrics in docs/operations.md from what the daemon says of itself.

    python3 docs/metrics.py build/app/ringwayd/ringwayd            writes it
    python3 docs/metrics.py --check build/app/ringwayd/ringwayd    says whether it is up to date, and
                                                                  whether config/ names only metrics
                                                                  that there are, and whether each reason
                                                                  for a drop is explained in the manual
"""

import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
MANUAL = "docs/operations.md"
DROPS = "lib/frame/drop.h"
USERS = ["config/ringway.rules.yml", "config/grafana-dashboard.json"]
BEGIN = "<!-- from docs/metrics.py -->\n"
END = "<!-- to here -->\n"

# What samples of these kinds are called beyond their family.
ENDS = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_count", "_sum"], "info": ["_info"]}


def families(daemon):
    """{family: {type, labels, rows, help}}, in the order of the daemon."""
    answer = subprocess.run([daemon, "--metrics"], stdout=subprocess.PIPE, check=True, timeout=60)
    found = {}
    for row in json.loads(answer.stdout):
        family = found.setdefault(row["family"] + ("_info" if row["type"] == "info" else ""),
                                  {**row, "rows": [], "helps": []})
        family["helps"].append(row["help"])
        if row["row"]:
            family["rows"].append(row["row"])
    return found


def table(found):
    text = "| metric | type | labels | in `stats.get` | meaning |\n| --- | --- | --- | --- | --- |\n"
    for name, family in found.items():
        sample = name + {"counter": "_total"}.get(family["type"], "")
        rows = ", ".join(f"`{row}`" for row in family["rows"])
        text += (f"| `{sample}` | {family['type']} | {family['labels']} | {rows} | "
                 f"{'; '.join(family['helps'])} |\n")
    return text


def unknown(found):
    """(path, line, name) of each metric in config/ that the daemon does not have."""
    known = {name.removesuffix("_info") + end for name, family in found.items()
             for end in ENDS[family["type"]]}
    for path in USERS:
        for number, line in enumerate((ROOT / path).read_text(encoding="utf-8").split("\n"), 1):
            for name in re.findall(r"\bringway_[a-z_]+", line):
                if name not in known:
                    yield path, number, name


def unexplained(manual):
    """The reasons for drops without a row in the manual."""
    reasons = re.findall(r'ROW\(\w+, "(\w+)"', (ROOT / DROPS).read_text(encoding="utf-8"))
    assert reasons
    return [reason for reason in reasons if f"\n| `{reason}` |" not in manual]


def main():
    arguments = sys.argv[1:]
    check = "--check" in arguments
    daemon, = [argument for argument in arguments if argument != "--check"]
    found = families(daemon)
    old = (ROOT / MANUAL).read_text(encoding="utf-8")
    before, rest = old.split(BEGIN)
    new = before + BEGIN + table(found) + END + rest.split(END)[1]
    faults = list(unknown(found)) if check else []
    for path, line, name in faults:
        print(f"{path}:{line}: there is no metric {name}")
    for reason in unexplained(old) if check else []:
        print(f"{MANUAL}:1: does not say what to do about drops for the reason {reason}")
        faults.append(reason)
    if not check:
        (ROOT / MANUAL).write_text(new, encoding="utf-8")
    elif new != old:
        print(f"{MANUAL}:1: is not what the daemon says: run python3 docs/metrics.py {daemon}")
        faults.append(MANUAL)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
