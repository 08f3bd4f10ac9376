# SPDX-License-Identifier: BSD-3-Clause
"""What the lints share: the project's files, C without comments and strings, the report."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]

# What a check-out contains beside sources.
SKIPPED_NAMES = {".git", "__pycache__", ".pytest_cache", "corpus"}


def is_build(path):
    return (path / "meson-info").is_dir()


def files(*suffixes, under=""):
    """All files with one of these suffixes, relative to the project's root; none: all files."""
    found = []
    waiting = [ROOT / under]
    while waiting:
        for path in sorted(waiting.pop().iterdir()):
            if path.name in SKIPPED_NAMES or path.is_symlink():
                continue
            if path.is_dir():
                if not is_build(path):
                    waiting.append(path)
            elif not suffixes or path.suffix in suffixes:
                found.append(path.relative_to(ROOT))
    return sorted(found)


def text(path):
    """The file's text, or None where it is not text."""
    data = (ROOT / path).read_bytes()
    if b"\0" in data:
        return None
    return data.decode("utf-8", errors="replace")


TOKEN = re.compile(
    r'/\*.*?\*/'            # a comment
    r'|//[^\n]*'            # one of the other kind
    r'|"(?:\\.|[^"\\\n])*"'  # a string
    r"|'(?:\\.|[^'\\\n])*'",
    re.DOTALL)


def tokens(source):
    """(kind, line, text) of each comment and literal: kind is "block", "line" or "literal"."""
    for match in TOKEN.finditer(source):
        word = match.group()
        kind = {"/*": "block", "//": "line"}.get(word[:2], "literal")
        yield kind, source.count("\n", 0, match.start()) + 1, word


def code(source):
    """The source with comments and the insides of literals blanked out, lines kept."""
    def blank(match):
        word = match.group()
        if word[0] in "\"'":
            return word[0] * 2
        return " " + "\n" * word.count("\n")
    return TOKEN.sub(blank, source)


class Report:
    """Collects complaints and ends the script: 0 without any, else 1."""

    def __init__(self):
        self.count = 0

    def add(self, path, line, message):
        self.count += 1
        print(f"{path}:{line}: {message}")

    def finish(self, looked_at):
        if looked_at == 0:
            print("found nothing to look at: is this the project's folder?")
            sys.exit(1)
        print(f"{looked_at} files, {self.count} complaints")
        sys.exit(1 if self.count else 0)
