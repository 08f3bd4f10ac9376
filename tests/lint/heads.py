# SPDX-License-Identifier: BSD-3-Clause
"""Every file begins with its licence and a sentence on what it is for."""

import tree

LICENCE = "SPDX-License-Identifier: BSD-3-Clause"

# What has no comments, or is documentation itself.
WITHOUT_HEAD = {".json", ".md", ".txt", ".1", ".5", ".8"}
WITHOUT_PURPOSE = {".ini", ".build", ".toml", ".yml", ".yaml"}
NAMES_WITHOUT_HEAD = {"LICENSE", ".gitignore", ".gitattributes"}
NAMES_WITHOUT_PURPOSE = {"meson.build", "meson_options.txt", ".clang-format", ".editorconfig"}

WORDS_OF_A_PURPOSE = 4


def strip(line):
    """The words of a comment line, without its marks."""
    return line.strip().strip("/*#\"'").replace("\\", " ").strip()


def purpose(path, lines):
    """The comment behind the licence line, as words."""
    begins, ends = {".c": ("/*", "*/"), ".h": ("/*", "*/"), ".py": ('"""', '"""'),
                    ".xml": ("<!--", "-->"), ".html": ("<!--", "-->")}.get(path.suffix, ("#", None))
    words = []
    for number, line in enumerate(lines):
        mark = line.strip()
        if (number == 0 or ends is None) and not mark.startswith(begins):
            break
        words += strip(line).split()
        if ends is not None and mark.endswith(ends) and (number > 0 or len(mark) > len(begins)):
            break
    return words


def main():
    report = tree.Report()
    looked_at = 0
    for path in tree.files():
        source = tree.text(path)
        if source is None or path.suffix in WITHOUT_HEAD or path.name in NAMES_WITHOUT_HEAD:
            continue
        looked_at += 1
        lines = source.split("\n")
        first = 1 if lines[0].startswith("#!") else 0
        if LICENCE not in (lines[first] if len(lines) > first else ""):
            report.add(path, first + 1, f"the first line is not {LICENCE}")
            continue
        if path.suffix in WITHOUT_PURPOSE or path.name in NAMES_WITHOUT_PURPOSE:
            continue
        if len(purpose(path, lines[first + 1:])) < WORDS_OF_A_PURPOSE:
            report.add(path, first + 2, "no comment says what the file is for")
    report.finish(looked_at)


main()
