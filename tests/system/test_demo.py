# SPDX-License-Identifier: BSD-3-Clause
"""The demonstration: all it claims holds, it says so when something does not, and whatever ends it,
nothing is left behind."""
import os
import pathlib
import re
import select
import shutil
import signal
import subprocess
import sys
import time

import pytest

import harness

DEMO = pathlib.Path(__file__).with_name("demo.py")


def start(**environment):
    return subprocess.Popen([sys.executable, "-B", DEMO], stdout=subprocess.PIPE, text=True,
                            stderr=subprocess.STDOUT, start_new_session=True,
                            env={**os.environ, "BUILD": str(harness.BUILD), **environment})


def read_until(demo, word, timeout=120):
    """What the demonstration has said when it says `word`; None stands for the end."""
    said, deadline = "", time.monotonic() + timeout
    try:
        while word is None or word not in said:
            left = deadline - time.monotonic()
            assert select.select([demo.stdout], [], [], max(left, 0))[0], f"no {word}:\n{said}"
            data = os.read(demo.stdout.fileno(), 4096).decode()
            if not data:
                assert word is None, f"ended without {word}:\n{said}"
                break
            said += data
    except BaseException:
        os.killpg(demo.pid, signal.SIGTERM)
        demo.wait(20)
        raise
    return said


def directory_of(said):
    directory = pathlib.Path(re.search(r"runs in (\S+),", said)[1])
    harness.directories.append(directory)
    return directory


def assert_nothing_left(said):
    directory_of(said)
    assert harness.leftovers() == []


def test_all_claims_hold():
    with start() as demo:
        said = read_until(demo, None, 200)
    print(said)
    assert demo.returncode == 0
    assert re.findall(r"^(\d+)\.", said, re.MULTILINE) == [str(n) for n in range(1, 10)]
    assert said.count("  ok: ") == 13 and "All of it holds" in said
    assert "\033" not in said, "colours in a pipe"
    assert_nothing_left(said)


# With guests, and between the switch that is killed and the one that takes over.
@pytest.mark.parametrize("number, moment", [(signal.SIGINT, "kill -9"), (signal.SIGINT, "$ qemu"),
                                            (signal.SIGTERM, "iperf3 -c")])
def test_interrupted(number, moment):
    with start() as demo:
        said = read_until(demo, moment)
        # Ctrl-C reaches the whole group of the terminal, and people press it twice.
        if number == signal.SIGINT:
            os.killpg(demo.pid, number)
            os.killpg(demo.pid, number)
        else:
            demo.send_signal(number)
        said += read_until(demo, None, 20)
    assert demo.returncode == 128 + number, said
    assert "Traceback" not in said
    assert_nothing_left(said)


def test_killed():
    """Then it cannot remove its directory, but no process outlives it."""
    with start() as demo:
        said = read_until(demo, "booted after")
        demo.kill()
    directory = directory_of(said)
    harness.wait_until(lambda: harness.leftovers() == [f"directory {directory}"], 10,
                       "all processes have ended")
    shutil.rmtree(directory)


def test_a_claim_that_does_not_hold():
    """A client that does nothing: the ports are not there."""
    with start(RINGWAYCTL="/bin/true") as demo:
        said = read_until(demo, None, 60)
    assert demo.returncode == 1, said
    assert "FAILED: this does not hold: both ports wait" in said
    assert_nothing_left(said)


def test_no_switch():
    with start(RINGWAYD="/bin/false") as demo:
        said = read_until(demo, None, 60)
    assert demo.returncode == 1, said
    assert "ringwayd ended with 1" in said
    assert_nothing_left(said)
