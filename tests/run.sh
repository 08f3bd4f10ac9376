#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Builds ringway into build/ and runs all its tests: sudo sh tests/run.sh [full]
# Installs what is missing first (app/install.sh). `full` runs the tests of rings over all
# combinations of what a guest may choose (tests/system/matrix.py); then the unit and fuzz suites
# once more, built by clang with the address and undefined behaviour sanitizers into
# build-sanitize/, and there the survival tests in their long form. That takes some forty minutes.
# The last line is "N passed, N failed"; the exit status is 1 when a test failed or none ran.
set -u

root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root" || exit 1
passed=0
failed=0

finish() {
    echo "$passed passed, $failed failed"
    [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
    exit
}

# What keeps the tests from being run at all counts as one failure.
give_up() {
    echo "tests/run.sh: $1" >&2
    failed=$((failed + 1))
    finish
}

# build DIRECTORY [SETUP OPTIONS]
build() {
    directory=$1
    shift
    if [ -f "$directory/build.ninja" ]; then
        # It may have been set up by app/run.sh, before the packages for tests were there.
        meson setup --reconfigure "$directory" || return 1
    else
        meson setup "$directory" "$@" || return 1
    fi
    ninja -C "$directory"
}

# run_suites DIRECTORY [MESON OPTIONS]: runs tests and adds what meson noted of each to the counts.
run_suites() {
    directory=$1
    shift
    results=$directory/meson-logs/testlog.json
    rm -f "$results"
    meson test -C "$directory" --no-rebuild --print-errorlogs "$@"
    [ -f "$results" ] || return 1
    # One JSON object a line. A skipped test neither passed nor failed, an expected failure passed.
    counts=$(/usr/bin/python3 -c '
import json, sys
results = [json.loads(line)["result"] for line in open(sys.argv[1])]
passed = sum(result in ("OK", "EXPECTEDFAIL") for result in results)
print(passed, len(results) - passed - results.count("SKIP"))' "$results") || return 1
    passed=$((passed + ${counts% *}))
    failed=$((failed + ${counts#* }))
}

case ${1-} in
    '' | full) ;;
    *)
        echo "usage: $0 [full]" >&2
        exit 2
        ;;
esac

. "$root/app/install.sh"
# shellcheck disable=SC2086 # lists of words
install_packages $build_packages $test_packages || give_up "packages are missing"
build build --buildtype=release || give_up "the build failed"
# Made before the tests, whose time is bounded.
sh tests/system/guest/build.sh build/guest || give_up "the test guest could not be made"
run_suites build || give_up "meson left no results"

if [ "${1-}" = full ]; then
    FULL=1 run_suites build --timeout-multiplier 8 system_protocol system_faults system_testpmd \
        system_gso || give_up "meson left no results"
    CC=clang build build-sanitize -Db_sanitize=address,undefined -Db_lundef=false \
        --buildtype=debugoptimized || give_up "the build with sanitizers failed"
    run_suites build-sanitize --suite unit --suite fuzz || give_up "meson left no results"
    sh tests/system/guest/build.sh build-sanitize/guest || give_up "no test guest"
    export FULL=1
    run_suites build-sanitize --timeout-multiplier 8 system_survival ||
        give_up "meson left no results"
fi
finish
