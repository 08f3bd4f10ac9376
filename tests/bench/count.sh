#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Counts the worker's instructions a frame (inprocess.c under callgrind): plain frames between
# guests without and with offloads, in both layouts of rings, and with what ports may be held to.
# The same in every run of one build.
#   sh tests/bench/count.sh [BUILD]
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
. "$root/app/install.sh"
install_packages valgrind
inprocess=${1:-$root/build}/tests/bench/inprocess
frames=32000
[ -x "$inprocess" ] || { echo "$inprocess is not there: build it first" >&2; exit 1; }

# count ARGUMENT...: prints the instructions that all frames took in worker_visit.
count() {
    output=$(valgrind --tool=callgrind --toggle-collect=worker_visit \
        --callgrind-out-file=/dev/null "$inprocess" --frames $frames "$@" 2>&1) ||
        { echo "$output" >&2; return 1; }
    echo "$output" | sed -n 's/.*Collected : //p'
}

printf '%-6s %5s %9s %7s %11s\n' layout bytes without with difference
for layout in split packed; do
    for size in 64 1500; do
        set -- --size $size
        [ $layout = split ] || set -- "$@" --packed
        off=$(count "$@" --no-offloads)
        on=$(count "$@")
        echo "$layout $size $off $on $frames" |
            awk '{ printf "%-6s %5d %9.1f %7.1f %+11.1f\n",
                          $1, $2, $3 / $5, $4 / $5, ($4 - $3) / $5 }'
    done
done

printf '\n%-44s %5s %9s %11s\n' rules bytes with difference
for size in 64 1500; do
    bare=$(count --size $size)
    for rules in "--guard ip" "--vlan access" "--limits" "--guard ip --vlan access --limits"; do
        # shellcheck disable=SC2086 # words
        with=$(count --size $size $rules)
        printf '%-44s ' "$rules"
        echo "$size $bare $with $frames" |
            awk '{ printf "%5d %9.1f %+11.1f\n", $1, $3 / $4, ($3 - $2) / $4 }'
    done
done
