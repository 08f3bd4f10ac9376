# SPDX-License-Identifier: BSD-3-Clause
"""docs/architecture.md exists and names only files and folders that exist; docs/virtio.md and
docs/host-interfaces.md name only tests that exist, the former each feature that port/features.c knows;
docs/operations.md has a row for each kind of event, and for no other."""

import re

import tree

DOCUMENT = "docs/architecture.md"

# A path in backticks: with a folder, or with the suffix of a source file.
NAME = re.compile(r"`([A-Za-z0-9_][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_.{},*-]+)*/?)`")
SUFFIXES = (".c", ".h", ".py", ".sh", ".md", ".json", ".build")

VIRTIO = "docs/virtio.md"
HOST = "docs/host-interfaces.md"
FEATURES = "lib/port/features.c"

OPERATIONS = "docs/operations.md"
EVENTS = "lib/base/event.c"

# Kinds of events: in the table, and where their names are given.
EVENT_ROW = re.compile(r"^\| `([a-z]+\.[a-z_]+)` \|", re.MULTILINE)
EVENT = re.compile(r'\] = \{ "([a-z]+\.[a-z_]+)",')

# A test in backticks, and where a feature's name is given to its bit.
TEST = re.compile(r"`(test_\w+\.(?:py|c))::(\w+)`")
FEATURE = re.compile(r"(?:ROW\(|\] = \")((?:VIRTIO|VHOST)\w*_F_\w+)")


def expand(name):
    """`metric.{c,h}` stands for two files."""
    match = re.fullmatch(r"(.*)\{([^}]*)\}(.*)", name)
    if not match:
        return [name]
    return [match.group(1) + part + match.group(3) for part in match.group(2).split(",")]


def exists(name):
    """From the project's root, or from lib/ as includes are written; a bare name: anywhere."""
    if "*" in name:
        return any(tree.ROOT.glob(name)) or any((tree.ROOT / "lib").glob(name))
    if "/" not in name:
        return any(path.name == name for path in tree.files())
    return (tree.ROOT / name).exists() or (tree.ROOT / "lib" / name).exists()


def is_path(name):
    first = name.split("/")[0]
    if name.endswith(SUFFIXES):
        return True
    return "/" in name and ((tree.ROOT / first).is_dir() or (tree.ROOT / "lib" / first).is_dir())


def check_paths(report):
    for number, line in enumerate(lines(report, DOCUMENT), 1):
        for match in NAME.finditer(line):
            for name in expand(match.group(1)):
                if is_path(name) and not exists(name):
                    report.add(DOCUMENT, number, f"{name} does not exist")


def has_test(file, name):
    folder, begin = {"py": ("system", "def "), "c": ("unit", "static void ")}[file.rsplit(".")[-1]]
    path = tree.ROOT / "tests" / folder / file
    return path.is_file() and f"\n{begin}{name}(" in path.read_text()


def check_tests(report, document):
    found = 0
    for number, line in enumerate(lines(report, document), 1):
        for match in TEST.finditer(line):
            found += 1
            if not has_test(*match.groups()):
                report.add(document, number, f"there is no test {match.group()}")
    if found == 0:
        report.add(document, 1, "no test is named")


def check_features(report):
    text = lines(report, VIRTIO)
    rows = {line.split("|")[2].strip() for line in text if line.count("|") > 3}
    features = FEATURE.findall((tree.ROOT / FEATURES).read_text())
    for name in features if len(features) > 20 else ["feature in the form that this lint knows"]:
        if name not in rows:
            report.add(VIRTIO, 1, f"no row tells of {name}")


def check_events(report):
    rows = set(EVENT_ROW.findall("\n".join(lines(report, OPERATIONS))))
    kinds = set(EVENT.findall((tree.ROOT / EVENTS).read_text()))
    for name in rows ^ kinds if len(kinds) > 10 else ["kinds in the form that this lint knows"]:
        report.add(OPERATIONS, 1, f"{name}: an event without a row, or a row without one")


def lines(report, document):
    path = tree.ROOT / document
    if not path.is_file():
        report.add(document, 1, "there is no such file")
        return []
    return path.read_text().split("\n")


def main():
    report = tree.Report()
    check_paths(report)
    check_tests(report, VIRTIO)
    check_tests(report, HOST)
    check_features(report)
    check_events(report)
    report.finish(4)


main()
