# SPDX-License-Identifier: BSD-3-Clause
"""Each header of lib/ and app/ compiles by itself: headers.py COMPILER [ARGUMENT...]"""

import subprocess
import sys

import tree

OWN = ["-std=gnu11", "-D_GNU_SOURCE", '-DRINGWAY_VERSION="0"', "-Wall", "-Wextra", "-Werror",
       "-fsyntax-only", "-x", "c"]

LINES_SHOWN = 12


def main():
    report = tree.Report()
    headers = tree.files(".h", under="lib") + tree.files(".h", under="app")
    for path in headers:
        # Included, not compiled itself: a main file's #pragma once is worth a warning.
        result = subprocess.run(
            sys.argv[1:] + OWN + ["-I", str(tree.ROOT / "lib"), "-"],
            input=f'#include "{tree.ROOT / path}"\n', text=True, capture_output=True)
        if result.returncode != 0:
            said = result.stderr.strip().split("\n")[:LINES_SHOWN]
            report.add(path, 1, "does not compile alone:\n" + "\n".join(said))
        if "#pragma once" not in tree.text(path):
            report.add(path, 1, "has no #pragma once")
    report.finish(len(headers))


main()
