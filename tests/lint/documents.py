# SPDX-License-Identifier: BSD-3-Clause
"""docs/architecture.md exists and names only files and folders that exist."""

import re

import tree

DOCUMENT = "docs/architecture.md"

# A path in backticks: with a folder, or with the suffix of a source file.
NAME = re.compile(r"`([A-Za-z0-9_][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_.{},*-]+)*/?)`")
SUFFIXES = (".c", ".h", ".py", ".sh", ".md", ".json", ".build")


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


def main():
    report = tree.Report()
    path = tree.ROOT / DOCUMENT
    if not path.is_file():
        report.add(DOCUMENT, 1, "there is no such file")
        report.finish(1)
    for number, line in enumerate(path.read_text().split("\n"), 1):
        for match in NAME.finditer(line):
            for name in expand(match.group(1)):
                if is_path(name) and not exists(name):
                    report.add(DOCUMENT, number, f"{name} does not exist")
    report.finish(1)


main()
