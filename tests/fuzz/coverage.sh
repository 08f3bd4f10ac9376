#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Which lines and branches of the rings' and frames' code the ring fuzzer reaches, and whether more
# of it with time: sh tests/fuzz/coverage.sh DIRECTORY SECONDS...
# Leaves the annotated sources in the directory; lines that were never reached are marked #####.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
work=$1
shift
mkdir -p "$work"
cd "$work"
rm -f ./*.gcda ./*.gcov
flags="-D_GNU_SOURCE -std=gnu11 -O0 -g -I$root/lib"
tested="$root/lib/virtqueue/*.c $root/lib/frame/parse.c $root/lib/frame/vnet.c"
objects=
# The code under test is measured and has no sanitizers, whose own branches would be counted.
for source in $tested; do
    object=$(basename "$source" .c).o
    # shellcheck disable=SC2086 # lists of words
    cc $flags --coverage -c "$source" -o "$object"
    objects="$objects $object"
done
fuzzer="$root/lib/frame/frame.c"
for name in driver_packed driver_split fuzz_ring guest guest_chain model model_packed model_split \
    packet step stress; do
    fuzzer="$fuzzer $root/tests/fuzz/$name.c"
done
# shellcheck disable=SC2086
cc $flags --coverage -fsanitize=address $objects -x c -fno-profile-arcs -fno-test-coverage $fuzzer \
    -x none -o stress_ring -lpthread

# Each run goes on where the last one ended: counts add up in the .gcda files.
seed=1
for seconds in "$@"; do
    ./stress_ring --seconds "$seconds" --seed "$seed"
    seed=$((seed + 1))
    echo "after another $seconds s:"
    # shellcheck disable=SC2086
    gcov -b -o . $objects | awk -v root="$root/lib/" '
        /^File/ { file = substr($0, 7, length($0) - 7); ours = sub(root, "", file) }
        /^Lines/ && ours { lines = $0 }
        /^Taken/ && ours { print "   ", file ": " lines ", branches t" substr($0, 2) }'
done
