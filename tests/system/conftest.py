# SPDX-License-Identifier: BSD-3-Clause
"""Fixtures of the system tests: a directory, evidence on failure, and nothing left behind."""
import signal

import pytest

import harness
import matrix

# The test runner ends a test that takes too long with SIGTERM: unwind, so that all is cleaned up.
signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="module")
def workdir():
    with harness.Workdir() as path:
        yield path


def pytest_generate_tests(metafunc):
    """Runs what has the fixture `rings` over the ring matrix; matrix.py says how."""
    given = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")]
    if "rings" in metafunc.fixturenames and "rings" not in given:
        mark = metafunc.definition.get_closest_marker("over")
        rows = matrix.rows(*mark.args, **mark.kwargs) if mark else matrix.rows(*matrix.CHOICES)
        metafunc.parametrize("rings", rows, ids=str)


@pytest.fixture(scope="session", autouse=True)
def nothing_left_behind():
    yield
    assert harness.leftovers() == []


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Adds to the report of a failure what the processes that took part said last."""
    outcome = yield
    if call.excinfo is not None:
        for process in harness.processes:
            if process.directory.exists():
                kind, name = type(process).__name__, getattr(process, "name", "")
                title = f"{kind} {name} (pid {process.pid})"
                outcome.get_result().sections.append((title, process.evidence()))
