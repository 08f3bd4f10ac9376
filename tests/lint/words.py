# SPDX-License-Identifier: BSD-3-Clause
"""Lines, comments and words: 100 columns (Python 110), no trailing blanks, no // comments, no banned
functions, no names of one machine or of package registries."""

import re

import tree

# Python names every step of a nested expression with words, and has no tabs to make it wider.
COLUMNS = {".py": 110}
COLUMNS_ELSE = 100
TAB = 8

# No bound, no error, or hidden state; what stands there instead.
BANNED = {
    "strcpy": "snprintf or text_copy", "strcat": "snprintf", "sprintf": "snprintf",
    "vsprintf": "vsnprintf", "gets": "fgets", "atoi": "a parser that tells of errors",
    "atol": "a parser that tells of errors", "atof": "a parser that tells of errors",
    "strtok": "strtok_r or a loop", "alloca": "an array or malloc", "mktemp": "mkstemp",
    "tmpnam": "mkstemp", "system": "posix_spawn", "popen": "posix_spawn",
}
CALL = re.compile(r"(?<![\w.>])(" + "|".join(BANNED) + r")\s*\(")

# Put together here, so that this file passes its own check.
UNWANTED = [
    re.compile("/wor" "k/"),
    re.compile("|".join(re.escape(host) for host in (
        "pypi" ".org", "pythonhosted" ".org", "npmjs" ".org", "crates" ".io",
        "proxy.golang" ".org", "deb.debian" ".org", "snapshot.debian" ".org",
        "archive.ubuntu" ".com", "docker" ".io", "ghcr" ".io", "quay" ".io"))),
]

# Somebody else's long lines: the licence's, and those of documents and data.
WIDE = {".md", ".json", ".svg"}
WIDE_NAMES = {"LICENSE"}


def width(line):
    return len(line.expandtabs(TAB))


def check_lines(report, path, source):
    if source and not source.endswith("\n"):
        report.add(path, source.count("\n") + 1, "no newline at the end")
    for number, line in enumerate(source.split("\n"), 1):
        columns = COLUMNS.get(path.suffix, COLUMNS_ELSE)
        if path.suffix not in WIDE and path.name not in WIDE_NAMES and width(line) > columns:
            report.add(path, number, f"{width(line)} columns")
        if line != line.rstrip():
            report.add(path, number, "blanks at the end")
        for pattern in UNWANTED:
            match = pattern.search(line)
            if match:
                report.add(path, number, f"{match.group()} has no business here")


def check_c(report, path, source):
    for kind, line, _ in tree.tokens(source):
        if kind == "line":
            report.add(path, line, "a // comment")
    code = tree.code(source)
    for match in CALL.finditer(code):
        name = match.group(1)
        line = code.count("\n", 0, match.start()) + 1
        report.add(path, line, f"{name} is banned: use {BANNED[name]}")


def main():
    report = tree.Report()
    looked_at = 0
    for path in tree.files():
        source = tree.text(path)
        if source is None:
            continue
        looked_at += 1
        check_lines(report, path, source)
        if path.suffix in (".c", ".h"):
            check_c(report, path, source)
    report.finish(looked_at)


main()
