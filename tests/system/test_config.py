# SPDX-License-Identifier: BSD-3-Clause
"""The configuration of a running switch: what a change touches and what it leaves alone, what a restart
brings back, and which file counts."""
import contextlib
import grp
import json
import os
import pathlib
import pwd
import signal
import socket
import stat
import statistics
import subprocess
import time

import pytest

from frontend import BROADCAST, Guest, ethernet
from harness import (RINGWAYD, SWITCH_CPU, Daemon, Pipeline, RpcError, Workdir, assert_ledgers, drops,
                     sockets, vhost_port, wait_until)

WORKERS = [{"cpu": SWITCH_CPU, "idle": "adaptive"}]


@pytest.fixture
def place():
    with Workdir() as directory:
        yield directory


@pytest.fixture
def plug(place):
    """A function that brings a guest up on PLACE/vmN.sock."""
    with contextlib.ExitStack() as guests:
        def connect(number, **options):
            return guests.enter_context(Guest(str(place / f"vm{number}.sock"), number, **options)).up()
        yield connect


def whole(*ports, **more):
    return {"workers": WORKERS, **more, "ports": list(ports)}


def start(place, *ports, **options):
    return Daemon(place, config=whole(*ports, **options.pop("more", {})), idle="adaptive", **options)


def carried(source, to, size=60, timeout=5.0):
    """A frame goes from one guest to the other."""
    frame = ethernet(to.mac, source.mac, os.urandom(size - 14))
    source.send(frame)
    while to.receive(timeout).data != frame:
        pass


def alive(*pair):
    carried(pair[0], pair[1])
    carried(pair[1], pair[0])


def logged(daemon, text):
    wait_until(lambda: text in daemon.log(), 5, f"the log says {text!r}")


# ---- config.apply ----

def test_the_plan_is_what_happens(place, plug):
    """One port each to be left alone, set, opened anew, removed and added."""
    ports = [vhost_port(place, f"vm{n}") for n in range(1, 6)]
    with start(place, *ports) as daemon:
        one, two, three, four = (plug(n) for n in range(1, 5))
        alive(one, two)
        wanted = whole(ports[0], {**ports[1], "mtu": 1500, "labels": {"a": "b"}}, {**ports[2], "queues": 2},
                       ports[4], vhost_port(place, "vm6"), bridge={"ageing": 60})
        before = daemon.rpc("config.get")
        plan = daemon.rpc("config.apply", configuration=wanted, dry_run=True)
        assert daemon.rpc("config.get") == before
        assert "vm6.sock" not in sockets(place)
        alive(one, two)
        alive(three, four)
        done = daemon.rpc("config.apply", configuration=wanted)
        assert plan.pop("dry_run") is True and done.pop("dry_run") is False
        assert (plan.pop("revision"), done.pop("revision")) == (before["revision"], before["revision"] + 1)
        assert plan == done
        assert done == {"faults": [], "restart_required": False, "changes": [
            {"port": "vm4", "action": "remove"},
            {"port": "vm2", "action": "set", "keys": ["mtu", "labels"]},
            {"port": "vm3", "action": "reopen", "keys": ["queues"]},
            {"port": "vm6", "action": "add"},
            {"object": "bridge", "action": "set"}]}
        alive(one, two)
        assert three.link.closed() and four.link.closed()
        assert "vm6.sock" in sockets(place) and "vm4.sock" not in sockets(place)
        three.disconnect()
        again = plug(3, queues=2)
        daemon.wait_port("vm3", "up")
        alive(one, again)
        assert daemon.rpc("config.get")["configuration"]["bridge"]["ageing"] == 60
        assert [p["name"] for p in daemon.rpc("config.get")["configuration"]["ports"]] == \
            ["vm1", "vm2", "vm3", "vm5", "vm6"]
        # Once more there is nothing to do.
        again = daemon.rpc("config.apply", configuration=wanted)
        assert (again["changes"], again["revision"]) == ([], before["revision"] + 1)
        assert_ledgers(daemon)


LIVE = {
    "mtu": {"mtu": 1500},
    "limits": {"limits": {"ingress": {"bandwidth": {"rate": "1Gbit"}}}},
    "labels": {"labels": {"vm": "6f1c"}},
    "mac": {"mac": "52:54:00:00:00:01"},
    "enabled": {"enabled": True},
    "queues that it has": {"queues": 1},
}
ANEW = {
    "queues": {"queues": 2},
    "socket": {"socket": "other.sock"},
    "permissions": {"permissions": {"mode": "0600"}},
}


@pytest.mark.parametrize("case", [*LIVE, *ANEW])
def test_what_closes_a_connection(place, plug, case):
    with start(place, vhost_port(place, "vm1"), vhost_port(place, "vm2")) as daemon:
        one, two = plug(1), plug(2)
        alive(one, two)
        change = dict({**LIVE, **ANEW}[case])
        if "socket" in change:
            change["socket"] = str(place / change["socket"])
        answer = daemon.rpc("port.set", name="vm1", **change)
        assert answer["reopened"] is (case in ANEW)
        port = next(p for p in daemon.rpc("config.get")["configuration"]["ports"] if p["name"] == "vm1")
        assert port.items() >= change.items()
        if case in LIVE:
            alive(one, two)
        else:
            assert one.link.closed()
            assert ("vm1.sock" in sockets(place)) is (case != "socket")
            assert pathlib.Path(port["socket"]).name in sockets(place)
        # null takes it back.
        if case not in ("socket", "queues that it has"):
            daemon.rpc("port.set", name="vm1", **dict.fromkeys(change))
            port = next(p for p in daemon.rpc("config.get")["configuration"]["ports"] if p["name"] == "vm1")
            assert port == vhost_port(place, "vm1")
        if case in LIVE:
            alive(one, two)


def test_a_strict_failure_costs_no_connection(place, plug):
    """The port that cannot be opened is found out before any other is closed."""
    ports = [vhost_port(place, f"vm{n}") for n in (1, 2)]
    with start(place, *ports) as daemon:
        one, two = plug(1), plug(2)
        before = daemon.rpc("config.get"), sockets(place)
        with pytest.raises(RpcError, match="No such file"):
            daemon.rpc("config.apply", strict=True, configuration=whole(
                {**ports[0], "queues": 2, "mtu": 1500}, vhost_port(place, "vm3"),
                vhost_port(place, "vm4", socket=str(place / "none/vm4.sock"))))
        assert (daemon.rpc("config.get"), sockets(place)) == before
        alive(one, two)


def test_a_strict_failure_brings_back_what_was_closed(place, plug):
    """Here it is found out later, for the port waits for the socket of another."""
    ports = [vhost_port(place, f"vm{n}") for n in (1, 2, 3)]
    with start(place, *ports) as daemon:
        one, two, three = plug(1), plug(2), plug(3)
        daemon.rpc("fdb.add", mac="52:54:00:00:00:03", port="vm3")
        before = daemon.rpc("config.get"), sockets(place), daemon.rpc("fdb.list", port="vm3")
        with pytest.raises(RpcError, match="nobodyatall"):
            daemon.rpc("config.apply", strict=True, configuration=whole(*ports[:2], vhost_port(
                place, "vm4", socket=ports[2]["socket"], permissions={"user": "nobodyatall"})))
        assert (daemon.rpc("config.get"), sockets(place), daemon.rpc("fdb.list", port="vm3")) == before
        alive(one, two)
        assert three.link.closed()
        three.disconnect()
        three = plug(3)
        daemon.wait_port("vm3", "up")
        alive(one, three)


def test_faults_of_the_world_wait_for_it(place, plug):
    """Not strict: the port is down with its reason, listed, and comes when the world has changed."""
    with start(place, vhost_port(place, "vm1")) as daemon:
        one = plug(1)
        late = vhost_port(place, "vm2", socket=str(place / "late/vm2.sock"))
        answer = daemon.rpc("config.apply", configuration=whole(vhost_port(place, "vm1"), late))
        assert answer["changes"] == [{"port": "vm2", "action": "add"}]
        assert [fault["port"] for fault in answer["faults"]] == ["vm2"]
        assert "No such file" in answer["faults"][0]["reason"]
        row = next(p for p in daemon.rpc("port.list") if p["name"] == "vm2")
        assert row["state"] == "down" and row["reason"] == answer["faults"][0]["reason"]
        revision = daemon.rpc("config.get")["revision"]
        (place / "late").mkdir()
        wait_until((place / "late/vm2.sock").exists, 10, "the port is tried again")
        with Guest(str(place / "late/vm2.sock"), 2) as two:
            two.up()
            daemon.wait_port("vm2", "up")
            alive(one, two)
        assert daemon.rpc("config.get")["revision"] == revision


def test_revisions(place):
    with start(place, vhost_port(place, "vm1")) as daemon:
        first = daemon.rpc("config.get")["revision"]
        assert daemon.rpc("system.info")["revision"] == first > 0
        assert daemon.rpc("port.set", name="vm1", mtu=1500)["revision"] == first + 1
        assert daemon.rpc("port.set", name="vm1", mtu=1500)["revision"] == first + 1
        assert daemon.rpc("port.add", **vhost_port(place, "vm2"))["revision"] == first + 2
        assert daemon.rpc("fdb.add", mac="52:54:00:00:00:09", blackhole=True)["revision"] == first + 3
        assert daemon.rpc("fdb.remove", mac="52:54:00:00:00:09")["revision"] == first + 4
        configuration = daemon.rpc("config.get")["configuration"]
        configuration["ports"].pop()
        with pytest.raises(RpcError) as refusal:
            daemon.rpc("config.apply", configuration=configuration, revision=first + 3)
        assert refusal.value.code == -32005
        answer = daemon.rpc("config.apply", configuration=configuration, revision=first + 4)
        assert answer["revision"] == first + 5
        assert [p["name"] for p in daemon.rpc("port.list")] == ["vm1"]


def test_workers_are_read_at_start(place):
    with start(place) as daemon:
        other = {"workers": [{"cpu": SWITCH_CPU, "idle": "busy"}]}
        assert daemon.rpc("config.apply", configuration=other)["restart_required"]
        assert daemon.rpc("config.get")["restart_required"]
        assert daemon.rpc("worker.list")[0]["idle"] == "adaptive"
        assert daemon.rpc("config.get")["configuration"]["workers"] == other["workers"]
        assert not daemon.rpc("config.apply", configuration=whole())["restart_required"]
        assert daemon.rpc("config.apply", configuration=whole(bridge={"capacity": 64}))["restart_required"]


# ---- the state file ----

def state_of(daemon):
    answer = daemon.rpc("config.get")
    return answer["revision"], answer["configuration"]


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_restart_brings_back_what_ran(place, plug, end):
    state = ["--state", str(place / "state.json")]
    with start(place, vhost_port(place, "vm1"), vhost_port(place, "vm2"), arguments=state) as daemon:
        daemon.rpc("port.add", **vhost_port(place, "vm3", queues=2, labels={"vm": "6f1c"}))
        daemon.rpc("port.set", name="vm1", mtu=1400, limits={"ingress": {"bandwidth": {"rate": "1Gbit"}}})
        daemon.rpc("port.remove", name="vm2")
        daemon.rpc("fdb.add", mac="52:54:00:00:00:07", port="vm3")
        daemon.rpc("fdb.add", mac="52:54:00:00:00:08", blackhole=True)
        before = state_of(daemon)
        assert daemon.rpc("config.get")["state"] == state[1]
        fdb = [{**row, "age": 0} for row in daemon.rpc("fdb.list")]
        if end == "kill":
            daemon.kill()
        else:
            assert daemon.stop() == 0
    with start(place, vhost_port(place, "vm1"), vhost_port(place, "vm2"), arguments=state) as daemon:
        assert state_of(daemon) == before
        assert [{**row, "age": 0} for row in daemon.rpc("fdb.list")] == fdb
        assert [p["name"] for p in daemon.rpc("port.list")] == ["vm1", "vm3"]
        assert daemon.port("vm1")["limits"]["ingress"]["bandwidth"]["rate"] == 1000000000
        assert daemon.rpc("port.list")[1]["labels"] == {"vm": "6f1c"}
        alive(plug(1), plug(3, queues=2))
        assert daemon.rpc("port.remove", name="vm3")["revision"] == before[0] + 1
        assert daemon.rpc("fdb.list", limit=10)[-1]["blackhole"]


def test_which_file_counts(place):
    """State wins, unless the configuration has changed since it was applied last."""
    state = ["--state", str(place / "state.json")]

    def names(daemon):
        return [p["name"] for p in daemon.rpc("port.list")]

    one, two, three = (vhost_port(place, f"vm{n}") for n in (1, 2, 3))
    with start(place, one, arguments=state) as daemon:
        daemon.rpc("port.add", **two)
        revision = daemon.rpc("config.get")["revision"]
    with start(place, one, arguments=state) as daemon:
        assert names(daemon) == ["vm1", "vm2"]
        assert "has changed since" not in daemon.log()
    with start(place, one, three, arguments=state) as daemon:
        assert names(daemon) == ["vm1", "vm3"]
        logged(daemon, "ringway.json has changed since it was applied")
        assert daemon.rpc("config.get")["revision"] == revision + 1
        daemon.rpc("port.remove", name="vm1")
    with start(place, one, three, arguments=state) as daemon:
        assert names(daemon) == ["vm3"]
        assert daemon.log().count("has changed since") == 1  # of the start before
        daemon.kill()
    # Without the state the file is all there is, and without the file the state.
    with start(place, one, three) as daemon:
        assert names(daemon) == ["vm1", "vm3"]


def test_the_state_alone(place):
    argv = [RINGWAYD, "--socket", str(place / "alone.sock"), "--state", str(place / "state.json")]

    def answers(method, **params):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(argv[2])
            connection.sendall(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method,
                                           "params": params}).encode())
            return json.loads(connection.recv(65536))["result"]

    for expected in ["vm1"], ["vm1", "vm2"]:
        child = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *argv], stderr=subprocess.DEVNULL,
                                 env={**os.environ, "RUNTIME_DIRECTORY": str(place)})
        try:
            def ready():
                with contextlib.suppress(OSError):
                    return answers("system.info")["pid"] == child.pid
                return False
            wait_until(ready, 10, "the daemon answers")
            answers("port.add", **vhost_port(place, expected[-1]))
            assert [p["name"] for p in answers("port.list")] == expected
            assert answers("config.get")["file"] is None
        finally:
            child.terminate()
            assert child.wait(10) == 0


def test_a_full_disk_takes_changes_back(place, plug):
    """A caller who is told of a failure finds nothing changed; the others do not notice."""
    with start(place, vhost_port(place, "vm1"), vhost_port(place, "vm2"),
               arguments=["--state", str(place / "state.json")]) as daemon:
        one, two = plug(1), plug(2)
        alive(one, two)
        before = daemon.rpc("config.get")["configuration"], sockets(place)
        # What was offered to whom is written down when it is known, without anybody waiting for it.
        wait_until(lambda: len(json.loads((place / "state.json").read_text())["remembered"]) == 2, 5,
                   "both offers are saved")
        content = (place / "state.json").read_text()
        subprocess.run(["prlimit", f"--pid={daemon.pid}", "--fsize=0:"], check=True)
        for method, params in (("port.add", vhost_port(place, "vm3")),
                               ("port.set", {"name": "vm1", "mtu": 1400}),
                               ("port.remove", {"name": "vm2"}),
                               ("fdb.add", {"mac": "52:54:00:00:00:09", "port": "vm1"})):
            with pytest.raises(RpcError, match="could not be saved") as refusal:
                daemon.rpc(method, **params)
            assert refusal.value.code == -32004
            wait_until(lambda: (daemon.rpc("config.get")["configuration"], sockets(place)) == before, 5,
                       "all is as before")
            assert (place / "state.json").read_text() == content
            if method == "port.remove":
                assert two.link.closed()
                two.disconnect()
                two = plug(2)
                daemon.wait_port("vm2", "up")
            alive(one, two)
        subprocess.run(["prlimit", f"--pid={daemon.pid}", "--fsize=unlimited:"], check=True)
        daemon.rpc("port.set", name="vm1", mtu=1400)
        assert json.loads((place / "state.json").read_text())["configuration"] == \
            daemon.rpc("config.get")["configuration"]


# ---- SIGHUP ----

def test_sighup(place, plug):
    state = ["--state", str(place / "state.json")]
    file = place / "ringway.json"
    with start(place, vhost_port(place, "vm1"), vhost_port(place, "vm2"), arguments=state) as daemon:
        one, two = plug(1), plug(2)
        revision = daemon.rpc("config.get")["revision"]

        def hang_up(says):
            seen = daemon.log().count(says)
            os.kill(daemon.pid, signal.SIGHUP)
            wait_until(lambda: daemon.log().count(says) > seen, 5, says)
            alive(one, two)

        hang_up("ringway.json has not changed since it was applied")
        assert daemon.rpc("config.get")["revision"] == revision
        wanted = whole(vhost_port(place, "vm1"), vhost_port(place, "vm2", mtu=1400), vhost_port(place, "vm3"))
        file.write_text(json.dumps(wanted))
        hang_up(f"ringway.json is applied: revision {revision + 1}")
        assert daemon.rpc("config.get")["configuration"]["ports"] == wanted["ports"]
        hang_up("has not changed since it was applied")
        # What is wrong is refused as a whole.
        for text, says in ((json.dumps(wanted)[:-1], "line 1"), ('{"ports": 7}', "ports"),
                           (None, "No such file")):
            if text is None:
                file.unlink()
            else:
                file.write_text(text)
            hang_up("is not applied")
            assert says in daemon.log().rsplit("is not applied: ", 1)[1]
            assert daemon.rpc("config.get")["configuration"]["ports"] == wanted["ports"]
        assert daemon.rpc("config.get")["revision"] == revision + 1
    # The file that was applied last is known at the next start.
    with start(place, *wanted["ports"], arguments=state) as daemon:
        # Daemon writes it in its own way: then it is another file, and nothing else has changed.
        assert daemon.rpc("config.get")["configuration"]["ports"] == wanted["ports"]


def test_the_end_during_a_reload(place):
    """What is saved meanwhile is one of the two configurations, never what a switch that ends has
    left of them."""
    arguments = ["--state", str(place / "state.json")]
    # Its socket cannot be made, so that nothing has to be closed and the end comes at once.
    ports = [vhost_port(place / "none", f"vm{n}") for n in range(8)]
    for mtu in range(1400, 1410):
        with start(place, *ports, arguments=arguments) as daemon:
            wanted = [{**port, "mtu": mtu} for port in ports]
            (place / "ringway.json").write_text(json.dumps(whole(*wanted)))
            os.kill(daemon.pid, signal.SIGHUP)
            os.kill(daemon.pid, signal.SIGTERM)
            daemon.wait(10)
        saved = json.loads((place / "state.json").read_text())["configuration"]["ports"]
        assert saved in (ports, wanted)


def test_sighup_without_a_configuration(place):
    argv = [RINGWAYD, "--socket", str(place / "none.sock")]
    with open(place / "none.log", "wb") as log:
        child = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *argv], stderr=log,
                                 env={**os.environ, "RUNTIME_DIRECTORY": str(place)})
    try:
        wait_until(lambda: "ready" in (place / "none.log").read_text(), 10, "the daemon is ready")
        os.kill(child.pid, signal.SIGHUP)
        wait_until(lambda: "no --config" in (place / "none.log").read_text(), 5, "it says why not")
    finally:
        child.terminate()
        assert child.wait(10) == 0


# ---- config.save ----

def test_what_is_saved_starts_the_same_switch(place):
    with start(place, vhost_port(place, "vm1")) as daemon:
        daemon.rpc("port.add", **vhost_port(place, "vm2", queues=2, labels={"a": "b"},
                                            mac="52:54:00:00:00:02"))
        daemon.rpc("port.set", name="vm1", mtu=1400, limits={"ingress": {"bandwidth": {"rate": "1Gbit"}}})
        daemon.rpc("fdb.add", mac="52:54:00:00:00:07", port="vm1")
        before = daemon.rpc("config.get")["configuration"], daemon.rpc("port.list")
        saved = place / "saved.json"
        assert daemon.rpc("config.save", file=str(saved)) == {"file": str(saved)}
        first = saved.read_text()
        assert json.loads(first) == before[0]
        assert daemon.rpc("config.save") == {"file": str(place / "ringway.json")}
        assert (place / "ringway.json").read_text() == first
        # What was just saved has been applied already.
        os.kill(daemon.pid, signal.SIGHUP)
        logged(daemon, "has not changed since it was applied")
        # By whatever name it was meant.
        with open(place / "ringway.json", "a") as file:
            file.write("\n")
        assert "file" in daemon.rpc("config.save", file=f"{place}/./ringway.json")
        before_again = daemon.log().count("has not changed")
        os.kill(daemon.pid, signal.SIGHUP)
        wait_until(lambda: daemon.log().count("has not changed") > before_again, 5, "it is known")
    with Daemon(place, config=json.loads(first)) as daemon:
        assert (daemon.rpc("config.get")["configuration"], daemon.rpc("port.list")) == before


def test_nowhere_to_save_to(place):
    """Without --config there is no file that goes without saying."""
    argv = [RINGWAYD, "--socket", str(place / "none.sock")]
    child = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *argv], stderr=subprocess.DEVNULL,
                             env={**os.environ, "RUNTIME_DIRECTORY": str(place)})
    try:
        wait_until((place / "none.sock").exists, 10, "the daemon is ready")
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(argv[2])
            connection.sendall(b'{"jsonrpc": "2.0", "id": 1, "method": "config.save"}')
            error = json.loads(connection.recv(65536))["error"]
        assert error["code"] == -32602 and error["data"]["field"] == "file"
    finally:
        child.terminate()
        assert child.wait(10) == 0


# ---- many ----

@pytest.mark.parametrize("saved", [False, True], ids=["", "with a state file"])
def test_many_ports_and_many_changes(place, saved, capsys):
    """The budget is 5 ms for an answer of port.add with 256 ports; here it may be ten times as much, for
    the machine is shared."""
    arguments = ["--state", str(place / "state.json")] if saved else []
    ports = [vhost_port(place, f"vm{n}") for n in range(256)]
    with start(place, *ports, arguments=arguments) as daemon, Pipeline(daemon.socket) as line:
        assert len(daemon.rpc("port.list")) == 256
        times = {"port.add": [], "port.set": [], "port.remove": []}
        for n in range(20):
            for method, params in (("port.add", vhost_port(place, f"new{n}")),
                                   ("port.set", {"name": f"new{n}", "mtu": 1500}),
                                   ("port.remove", {"name": f"new{n}"})):
                begin = time.perf_counter()
                answer, = line.run([(method, params)])
                times[method].append(time.perf_counter() - begin)
                assert "result" in answer, answer
        begin = time.perf_counter()
        answers = line.run([("port.set", {"name": f"vm{n % 256}", "mtu": 1300 + n}) for n in range(1000)])
        took = time.perf_counter() - begin
        with capsys.disabled():
            print(f"\n256 ports{', saved' if saved else ''}: " + ", ".join(
                f"{method} {1e3 * statistics.median(t):.1f} ms" for method, t in times.items())
                + f" (medians); 1,000 port.set on one connection {took:.2f} s")
        assert all("result" in answer for answer in answers)
        assert [answer["id"] for answer in answers] == list(range(1000))
        revisions = [answer["result"]["revision"] for answer in answers]
        # Each says its own, or a guard by the last one would let another's change be lost.
        assert revisions == list(range(revisions[0], revisions[0] + 1000))
        assert [daemon.port(f"vm{n}")["mtu"] for n in (0, 231, 232, 255)] == [2068, 2299, 2044, 2067]
        assert statistics.median(times["port.add"]) < 0.05
        assert took < 20


# ---- what settings do ----

def dropped(daemon, name):
    return drops(daemon.counters(name))


@pytest.fixture
def trio(place, plug):
    """A switch of three ports, and guests at all of them."""
    with start(place, *[vhost_port(place, f"vm{n}") for n in (1, 2, 3)]) as daemon:
        guests = [plug(n) for n in (1, 2, 3)]
        for n in (1, 2, 3):
            daemon.wait_port(f"vm{n}", "up")
        for guest in guests:
            guest.send(ethernet(BROADCAST, guest.mac, bytes(46)))
        wait_until(lambda: len(daemon.rpc("fdb.list")) == 3, 5, "addresses are learned")
        for guest in guests:
            guest.flush()
            guest.drain()
        yield daemon, *guests
        assert_ledgers(daemon)


def test_a_port_that_is_switched_off(trio):
    """Its rings are kept; frames from it and to it are dropped as `disabled`, and only these."""
    daemon, one, two, three = trio
    daemon.rpc("port.set", name="vm1", enabled=False)
    row = daemon.rpc("port.list")[0]
    assert (row["state"], row["reason"]) == ("down", "switched off")
    for _ in range(3):
        one.send(ethernet(two.mac, one.mac, bytes(46)))
        one.send(ethernet(BROADCAST, one.mac, bytes(46)))
    one.flush()
    for _ in range(5):
        two.send(ethernet(one.mac, two.mac, bytes(46)))
    two.send(ethernet(BROADCAST, two.mac, b"all".ljust(46)))
    two.flush()
    assert three.receive().data[14:17] == b"all"
    assert dropped(daemon, "vm1") == {"rx.disabled": 6, "tx.disabled": 6}
    assert one.drain() == [] and two.drain() == [] and three.drain() == []
    alive(two, three)
    daemon.rpc("port.set", name="vm1", enabled=True)
    daemon.wait_port("vm1", "up")
    alive(one, two)
    assert dropped(daemon, "vm1") == {"rx.disabled": 6, "tx.disabled": 6}


def test_the_mtu_is_enforced_towards_the_port(trio):
    daemon, one, two, three = trio
    daemon.rpc("port.set", name="vm2", mtu=1400)
    assert daemon.port("vm2")["mtu"] == 1400
    carried(one, two, 1414)
    one.send(ethernet(two.mac, one.mac, bytes(1401)))
    one.flush()
    wait_until(lambda: dropped(daemon, "vm2") == {"tx.mtu": 1}, 5, "the frame is dropped")
    # A VLAN tag does not count, and what comes from the port is not asked.
    carried(one, two, 1414)
    one.send(two.mac + one.mac + bytes.fromhex("8100000a88b5") + bytes(1400))
    assert len(two.receive().data) == 1418
    carried(two, one, 1514)
    # The copies of a flooded frame go where they fit.
    one.send(ethernet(BROADCAST, one.mac, bytes(1401)))
    assert len(three.receive().data) == 1415
    wait_until(lambda: dropped(daemon, "vm2") == {"tx.mtu": 2}, 5, "the frame is dropped")
    daemon.rpc("port.set", name="vm2", mtu=None)
    carried(one, two, 1514)


def learned(daemon, guest, mac, port):
    """The guest speaks with an address until it is known to be at the port; a worker does not repeat what it
    has posted a moment ago."""
    def speak():
        guest.send(ethernet(BROADCAST, mac, bytes(46)))
        guest.flush()
        return (port, False) in [(row["port"], row["static"]) for row in daemon.rpc("fdb.list")
                                 if row["mac"] == mac.hex(":")]
    wait_until(speak, 5, f"{mac.hex(':')} is learned at {port}")


def leads_to(daemon, guest):
    """Where frames to a guest go, and whether somebody said so; None: it is not known."""
    return next(((row["port"], row["static"]) for row in daemon.rpc("fdb.list")
                 if row["mac"] == guest.mac.hex(":")), None)


def test_the_mac_of_a_port_is_not_learned_elsewhere(trio):
    daemon, one, two, three = trio
    daemon.rpc("port.set", name="vm1", mac=one.mac.hex(":"))
    assert leads_to(daemon, one) == ("vm1", True)
    for _ in range(3):
        three.send(ethernet(BROADCAST, one.mac, bytes(46)))
    three.flush()
    alive(one, two)
    assert leads_to(daemon, one) == ("vm1", True)
    one.drain()
    three.drain()
    carried(two, one)
    assert three.drain() == []
    # Without it the address belongs to whoever speaks with it.
    daemon.rpc("port.set", name="vm1", mac=None)
    learned(daemon, three, one.mac, "vm3")


def test_static_addresses_and_blackholes(trio):
    daemon, one, two, three = trio
    daemon.rpc("fdb.add", mac=two.mac.hex(":"), port="vm3")
    frame = ethernet(two.mac, one.mac, b"led astray".ljust(46))
    one.send(frame)
    assert three.receive().data == frame
    daemon.rpc("fdb.add", mac=two.mac.hex(":"), blackhole=True)
    before = dropped(daemon, "vm1").get("rx.blackhole", 0)
    one.send(frame)
    one.flush()
    wait_until(lambda: dropped(daemon, "vm1").get("rx.blackhole", 0) == before + 1, 5, "it is dropped")
    assert two.drain() == [] and three.drain() == []
    daemon.rpc("fdb.remove", mac=two.mac.hex(":"))
    learned(daemon, two, two.mac, "vm2")
    assert daemon.rpc("fdb.flush", port="vm2")["removed"] == 1
    assert [row["port"] for row in daemon.rpc("fdb.list")] == ["vm1", "vm3"]


# ---- the control socket, the schema, the log ----

def test_who_may_use_the_control_socket(place):
    user, group = pwd.getpwnam("nobody"), grp.getgrgid(pwd.getpwnam("daemon").pw_gid)
    with start(place, arguments=["--socket-mode", "0640", "--socket-user", user.pw_name, "--socket-group",
                                 group.gr_name]) as daemon:
        found = os.stat(daemon.socket)
        assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o640, user.pw_uid, group.gr_gid)
    with start(place) as daemon:
        found = os.stat(daemon.socket)
        assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o660, os.getuid(), os.getgid())


def test_the_schema_needs_no_switch(place):
    """It is printed without a word beside it, without EAL, and where no switch could run."""
    run = subprocess.run([RINGWAYD, "--schema"], capture_output=True, text=True, timeout=20,
                         env={**os.environ, "RUNTIME_DIRECTORY": str(place)}, check=True)
    document = json.loads(run.stdout)
    assert run.stderr == "" and list(place.iterdir()) == []
    assert document["openrpc"].startswith("1.")
    methods = {method["name"] for method in document["methods"]}
    assert methods >= {"port.add", "port.set", "port.remove", "port.list", "port.get", "fdb.list", "fdb.add",
                       "fdb.remove", "fdb.flush", "worker.list", "worker.place", "stats.get", "config.get",
                       "config.apply", "config.save", "log.set", "system.info", "system.shutdown",
                       "rpc.discover"}
    schemas = document["components"]["schemas"]
    assert schemas["configuration"]["properties"].keys() == {"workers", "bridge", "metrics", "ports"}
    assert schemas["port"]["properties"].keys() >= {"name", "type", "socket", "mtu", "mac", "limits"}
    with start(place) as daemon:
        assert daemon.rpc("rpc.discover") == document


def test_the_log_says_who_changed_what(place):
    with start(place, vhost_port(place, "vm1")) as daemon:
        me = f"by pid {os.getpid()}, uid {os.getuid()}"
        daemon.rpc("port.set", name="vm1", mtu=1400)
        logged(daemon, f"port.set vm1 {me}")
        with pytest.raises(RpcError):
            daemon.rpc("port.remove", name="vm9")
        logged(daemon, f"port.remove vm9 {me}: refused: there is no port vm9")
        daemon.rpc("port.list")
        assert "port.list" not in daemon.log()
        # Another process has another number.
        code = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({str(daemon.socket)!r}); " \
               "s.sendall(b'{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"log.set\", " \
               "\"params\": {\"level\": \"debug\"}}'); s.recv(999)"
        with subprocess.Popen(["/usr/bin/python3", "-c", code]) as child:
            assert child.wait(10) == 0
            logged(daemon, f"log.set by pid {child.pid}, uid {os.getuid()}")
