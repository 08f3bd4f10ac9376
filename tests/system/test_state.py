# SPDX-License-Identifier: BSD-3-Clause
"""The state file, whoever is killed and whatever fails: first a program that keeps one and does
nothing else (state_writer.c), then the daemon.

strace stands at the thread that writes and kills the process, or lets a system call fail, at the
one that is asked for: every one that a write makes has its turn.
"""
import errno
import itertools
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import threading
import time

import pytest

from harness import (BUILD, SWITCH_CPU, Console, Daemon, Process, RpcError, vhost_port,
                     wait_until)

WRITER = BUILD / "tests/system/state_writer"

# More than a pipe or a page takes at once.
SIZE = 300000

# What a write consists of, beside what the allocator and the C library do in between.
STEPS = [("openat", 1), ("unlinkat", 1), ("openat", 2), ("write", 1), ("fsync", 1), ("close", 1),
         ("renameat", 1), ("fsync", 2), ("close", 2), ("write", 2)]

# Where the new content has taken the place of the old one.
REPLACED = STEPS.index(("renameat", 1))


def thread_named(process, name):
    """The id of the thread; it has its name a moment after it has begun."""
    def find():
        for task in pathlib.Path(f"/proc/{process.pid}/task").iterdir():
            if (task / "comm").read_text().strip() == name:
                return int(task.name)
        return None
    return wait_until(find, 5, f"pid {process.pid} has a thread {name}")


def sleeps(thread):
    """Nothing but work makes the writing thread wait so that a signal would wake it: not the disk."""
    return "State:\tS" in pathlib.Path(f"/proc/{thread}/status").read_text()


class Tracer(Process):
    """strace at the writing thread of a process; `inject` as strace takes it."""

    def __init__(self, directory, process, inject=None):
        self.path = pathlib.Path(directory) / "trace"
        self.path.write_text("")
        thread = thread_named(process, "state")
        # What is saved at the start, or after another change, is not what is to be disturbed.
        wait_until(lambda: sleeps(thread), 10, "the thread waits for work")
        argv = ["strace", "-o", self.path, "-e", "trace=all", "-p", str(thread)]
        if inject:
            argv += ["-e", f"inject={inject}"]
        super().__init__(argv, directory, stderr=subprocess.DEVNULL)
        # strace has seen it wait.
        wait_until(lambda: re.search(r"(futex|restart_syscall)\(", self.path.read_text()), 10,
                   "strace is attached")

    def calls(self):
        """The system calls of the thread since it was given work: [(name, nth of this name)]."""
        count, found = {}, []
        for name in re.findall(r"^(\w+)\(", self.path.read_text(), re.MULTILINE)[1:]:
            count[name] = count.get(name, 0) + 1
            found.append((name, count[name]))
        return found


def content_of(path):
    """The number in the file, which must be whole; 0 where there is none."""
    if not path.exists():
        return 0
    content = json.loads(path.read_text())
    assert content["text"] in ("", chr(ord("a") + content["number"] % 26) * SIZE)
    return content["number"]


class Writer(Console):
    TTY = False

    def __init__(self, path):
        super().__init__([WRITER, path], path.parent)
        self.path = path
        self.loaded = int(self.expect(r"loaded (\d+)\nready\n", 5)[1])

    def write(self, number, size=SIZE):
        """Returns 0 or the number of an error, or None where the writer has been killed."""
        try:
            self.send(f"{number} {size}")
            answer = self.expect(r"(safe|fault) (\d+)([^\n]*)\n", 10)
        except (AssertionError, BrokenPipeError):
            assert self.wait(10) == -signal.SIGKILL
            return None
        if answer[1] == "safe":
            assert int(answer[2]) == number
            return 0
        assert str(self.path) in answer[3]
        return int(answer[2])


@pytest.fixture
def path(workdir):
    """Of a state file in a directory of its own, in which nothing else may be left."""
    directory = workdir / "state"
    directory.mkdir()
    yield directory / "state.json"
    assert [file.name for file in directory.iterdir() if file.name != "state.json"] == []
    for file in directory.iterdir():
        file.unlink()
    directory.rmdir()


def expect_ordered(calls, steps):
    """The steps are among the calls, in this order."""
    rest = iter(calls)
    assert all(step in rest for step in steps), calls


def test_the_order_of_a_write(workdir, path):
    """What makes it safe: the draft is synced before it is renamed, the directory behind that, and
    only then is anybody told."""
    with Writer(path) as writer:
        with Tracer(workdir, writer) as tracer:
            assert writer.write(1) == 0
            wait_until(lambda: ("write", 2) in tracer.calls(), 5, "the loop is woken")
        expect_ordered(tracer.calls(), STEPS)
        lines = tracer.path.read_text()
    draft, directory = (re.search(pattern, lines)[1] for pattern in (
        r'"state.json.new", O_WRONLY\|O_CREAT\|O_EXCL\|O_CLOEXEC, 0600\) = (\d+)',
        r"O_DIRECTORY\) = (\d+)"))
    assert re.findall(r"fsync\((\d+)\) += 0", lines) == [draft, directory]


def kill_at_each_call(names, attempt):
    """Calls attempt(name, n), which says whether the process was killed at the nth call of this
    name, for n = 1, 2, ... until it survives. Returns where it was killed."""
    killed = []
    for name in names:
        for n in itertools.count(1):
            if not attempt(name, n):
                break
            killed.append((name, n))
    return killed


def test_killed_at_every_system_call(workdir, path):
    with Writer(path) as writer:
        assert writer.write(1) == 0
        with Tracer(workdir, writer) as tracer:
            # The second write of a process finds the allocator warm, the first one does not.
            assert writer.write(2) == 0
            assert writer.write(3) == 0
        names = {name for name, _ in tracer.calls()} | {"mmap", "brk"}
    outcomes = {}

    def attempt(name, n):
        with Writer(path) as victim:
            old = victim.loaded
            assert old == content_of(path)
            with Tracer(workdir, victim, f"{name}:signal=KILL:when={n}"):
                answer = victim.write(old + 1)
            found = content_of(path)
            assert found in (old, old + 1)
            if answer == 0:
                assert found == old + 1
            # What it has told before it was killed holds as well.
            assert "safe" not in victim.text or found == old + 1
        outcomes[(name, n)] = found - old
        with Writer(path) as successor:
            assert successor.loaded == found
            assert successor.write(old + 2) == 0
        assert content_of(path) == old + 2
        return answer is None

    killed = kill_at_each_call(sorted(names), attempt)
    assert set(STEPS) <= set(killed)
    for place, step in enumerate(STEPS):
        assert outcomes[step] == (place > REPLACED), step


def test_killed_at_any_moment(path):
    """Also in the middle of a system call, while one write follows the other."""
    choose = random.Random(1)
    for _ in range(20):
        with Writer(path) as victim:
            number = victim.loaded
            for more in range(1, 200):
                victim.send(f"{number + more} {SIZE}")
            time.sleep(choose.uniform(0, 0.05))
            victim.kill()
            safe = [int(word) for word in re.findall(r"safe (\d+)\n", victim.text)]
        assert content_of(path) >= max(safe, default=number)
    with Writer(path) as successor:
        assert successor.write(successor.loaded + 1) == 0


FALLIBLE = [step for step in STEPS[:-1] if step[0] not in ("unlinkat", "close")]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT],
                         ids=errno.errorcode.get)
@pytest.mark.parametrize("name, n", FALLIBLE)
def test_a_call_that_fails(workdir, path, name, n, error):
    with Writer(path) as writer:
        # First without an older file, then with one.
        for old in 0, 7:
            if old:
                assert writer.write(old) == 0
            with Tracer(workdir, writer, f"{name}:error={errno.errorcode[error]}:when={n}"):
                assert writer.write(old + 1) == error
            assert content_of(path) == old
            assert os.listdir(path.parent) == (["state.json"] if old else [])
        assert writer.write(8) == 0
    assert content_of(path) == 8


@pytest.mark.parametrize("inject", ["unlinkat:error=EIO", "close:error=EIO",
                                    "fsync:error=EINVAL:when=2"])
def test_a_call_that_may_fail(workdir, path, inject):
    """There was no draft to be removed, what is synced needs no closing, and some file systems
    cannot sync a directory."""
    with Writer(path) as writer:
        with Tracer(workdir, writer, inject):
            assert writer.write(1) == 0
            assert writer.write(2) == 0
    assert content_of(path) == 2


def test_what_was_refused_cannot_be_taken_back(workdir, path):
    """The directory cannot be synced, and then nothing can: the log says so."""
    with Writer(path) as writer:
        assert writer.write(1) == 0
        with Tracer(workdir, writer, "fsync:error=EIO:when=2+"):
            assert writer.write(2) == errno.EIO
        assert "it holds a change that was refused" in writer.text
        assert content_of(path) == 2


# ---- the daemon ----


def start(workdir, path):
    return Daemon(workdir, config={"workers": [{"cpu": SWITCH_CPU}]}, arguments=["--state", path])


def ports_of(daemon):
    return [port["name"] for port in daemon.rpc("port.list")]


def add_port(daemon, workdir, name):
    """Says whether there was an answer, that is, whether the daemon lives."""
    try:
        daemon.rpc("port.add", **vhost_port(workdir, name))
        return True
    except (ConnectionError, TimeoutError):
        daemon.killed = True
        assert daemon.wait(10) == -signal.SIGKILL
        return False


def expect_whole(path, names):
    """The file holds these ports, also when all is saved that is to be, and there is no draft."""
    def ports():
        return [port["name"] for port in json.loads(path.read_text())["configuration"]["ports"]]
    assert ports() == names
    wait_until(lambda: os.listdir(path.parent) == [path.name], 5, "no draft is left")
    assert ports() == names


def test_the_daemon_is_killed_at_every_system_call(workdir, path):
    daemon = start(workdir, path)
    outcomes = {}

    def attempt(name, n):
        nonlocal daemon
        before = ports_of(daemon)
        new = f"{name}-{n}"
        with Tracer(workdir, daemon, f"{name}:signal=KILL:when={n}"):
            alive = add_port(daemon, workdir, new)
        if not alive:
            json.loads(path.read_text())
            daemon = start(workdir, path)
        after = ports_of(daemon)
        outcomes[(name, n)] = after != before
        assert after in (before, before + [new])
        assert after == before + [new] or not alive
        return not alive

    try:
        assert add_port(daemon, workdir, "first")
        killed = kill_at_each_call(sorted({name for name, _ in STEPS}), attempt)
        assert set(STEPS) <= set(killed)
        for place, step in enumerate(STEPS):
            assert outcomes[step] == (place > REPLACED), step
        expect_whole(path, ports_of(daemon))
    finally:
        daemon.stop()


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO], ids=errno.errorcode.get)
def test_the_daemon_cannot_save(workdir, path, error):
    """The request is refused and nothing has changed, neither there nor in the switch."""
    with start(workdir, path) as daemon:
        assert add_port(daemon, workdir, "old")
        before = daemon.rpc("config.get")["configuration"]
        for name, n in FALLIBLE:
            requests = [("port.add", vhost_port(workdir, "new")),
                        ("port.set", {"name": "old", "mtu": 1500}),
                        ("port.remove", {"name": "old"})]
            for method, params in requests:
                with Tracer(workdir, daemon, f"{name}:error={errno.errorcode[error]}:when={n}"):
                    with pytest.raises(RpcError) as refused:
                        daemon.rpc(method, **params)
                assert (refused.value.code, refused.value.data["errno"]) == (-32004, error)
                assert str(path) in refused.value.message
                wait_until(lambda: daemon.rpc("config.get")["configuration"] == before, 5,
                           f"{method} is undone")
                assert not (workdir / "new.sock").exists()
                assert daemon.port("old")["state"] == "down"
                expect_whole(path, ["old"])
        assert add_port(daemon, workdir, "new")
        expect_whole(path, ["old", "new"])
    with start(workdir, path) as daemon:
        assert ports_of(daemon) == ["old", "new"]


class Changer(threading.Thread):
    """Adds ports, and takes away every second one, until the daemon has gone. Knows for each what
    the last answer said: there or not; None while there is none."""

    def __init__(self, daemon, workdir, prefix):
        super().__init__()
        self.daemon, self.workdir, self.prefix = daemon, workdir, prefix
        self.known = {}
        self.start()

    def change(self, method, params, there):
        self.known[params["name"]] = None
        self.daemon.rpc(method, **params)
        self.known[params["name"]] = there

    def run(self):
        for i in range(1000):
            name = f"{self.prefix}{i}"
            try:
                self.change("port.add", vhost_port(self.workdir, name), True)
                if i % 2:
                    self.change("port.remove", {"name": name}, False)
            except (OSError, ConnectionError):
                return


def test_what_was_answered_is_on_the_disk(workdir, path):
    """Four clients change ports at once, and the daemon is killed."""
    choose = random.Random(2)
    answered = 0
    for turn in range(5):
        with start(workdir, path) as daemon:
            changers = [Changer(daemon, workdir, f"{turn}-{letter}-") for letter in "abcd"]
            time.sleep(choose.uniform(0.05, 0.4))
            daemon.kill()
            for changer in changers:
                changer.join(20)
                assert not changer.is_alive()
        with start(workdir, path) as daemon:
            found = ports_of(daemon)
        for changer in changers:
            for name, there in changer.known.items():
                assert there is None or (name in found) == there, (name, there)
                answered += there is not None
    assert answered > 50


def test_a_state_file_that_is_none(workdir, path):
    """One sentence with the place, and no start: the file is left as it was."""
    path.write_text('{"configuration":\n  {"ports": [}}\n')
    daemon = Daemon(workdir, config={}, arguments=["--state", path], ready=False)
    assert daemon.wait(10) == 1
    daemon.killed = True
    assert f"{path}, line 2, column 14" in daemon.log()
    assert path.read_text().startswith('{"configuration":\n')


def test_what_could_not_start_is_refused(workdir, path):
    """A restart has to bring back what was accepted: a CPU that is not there would keep it from
    starting at all."""
    with start(workdir, path) as daemon:
        with pytest.raises(RpcError) as refused:
            daemon.rpc("config.apply", configuration={"workers": [{"cpu": 1023}]})
        assert refused.value.code == -32602
        assert add_port(daemon, workdir, "one")
    with start(workdir, path) as daemon:
        assert ports_of(daemon) == ["one"]
