#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Builds ringway into build/ and measures it against its peers:
#   sudo sh tests/bench/run.sh [--switches ringway,policed,io,bare] [--layout split,packed]
#       [--traffic closed,open] [--sizes 64,1500,65226] [--turns N] [--seconds S] [--qemu]
# --help says what these are, docs/performance.md what is measured and why. A turn takes S and some
# 2 seconds.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
. "$root/app/install.sh"
# shellcheck disable=SC2086 # lists of words
install_packages $build_packages $test_packages
[ -f "$root/build/build.ninja" ] || meson setup "$root/build" "$root" --buildtype=release
ninja -C "$root/build" >&2
BUILD=$root/build PYTHONDONTWRITEBYTECODE=1 exec /usr/bin/python3 "$root/tests/bench/bench.py" "$@"
