# SPDX-License-Identifier: BSD-3-Clause
"""Events from their real causes: front-ends that come, go and speak, interfaces that vanish, requests,
signals, limits, a worker that is held. And those who follow them: who comes back, who is too slow."""
import contextlib
import ctypes
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest

from frontend import Guest, ethernet
from harness import Daemon, Namespace, RpcError, Workdir, vhost_port, wait_until

CLIENTS_MAX = 256
HISTORY = 4096  # events that are kept
BURST = 32      # events of one family at a port before some are left out
BROADCAST = b"\xff" * 6


class Follower:
    """A connection that follows events, and may ask for other things, too."""

    def __init__(self, daemon, **wish):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(str(daemon.socket))
        self.received, self.waiting, self.seen = b"", [], []
        self.answer = self.ask("event.subscribe", **wish)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.socket.close()

    def line(self):
        while b"\n" not in self.received:
            data = self.socket.recv(1 << 20)
            if not data:
                raise ConnectionError(f"closed after {self.received!r}")
            self.received += data
        line, self.received = self.received.split(b"\n", 1)
        return json.loads(line)

    def send(self, method, **params):
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        self.socket.sendall(json.dumps(request).encode())

    def ask(self, method, **params):
        self.send(method, **params)
        while "id" not in (line := self.line()):
            self.waiting.append(line)
        if "error" in line:
            raise RpcError(line["error"])
        return line["result"]

    def next(self):
        """The parameters of the next event."""
        line = self.waiting.pop(0) if self.waiting else self.line()
        assert (line["jsonrpc"], line["method"], "id" in line) == ("2.0", "event", False)
        self.seen.append(line["params"])
        return line["params"]

    def expect(self, kind, port=None, **fields):
        """The next event of this kind, port and fields; others may come before it."""
        wanted = {"kind": kind, **fields, **({"port": port} if port else {})}
        before, deadline = len(self.seen), time.monotonic() + 20
        with contextlib.suppress(TimeoutError):
            while time.monotonic() < deadline:
                event = self.next()
                if all(event.get(key) == value for key, value in wanted.items()):
                    return event
        raise AssertionError(f"no {wanted} among {self.seen[before:]}")

    def quiet(self, seconds):
        """What comes within so long."""
        deadline, found = time.monotonic() + seconds, []
        while (left := deadline - time.monotonic()) > 0:
            self.socket.settimeout(left)
            with contextlib.suppress(TimeoutError):
                found.append(self.next())
        self.socket.settimeout(10)
        return found


def mac(number):
    return bytes([0x02, 0, 0, 0, number >> 8, number & 255])


def text(address):
    return ":".join(f"{byte:02x}" for byte in address)


@pytest.fixture(scope="module")
def daemon(workdir):
    ports = [vhost_port(workdir, name, queues=1) for name in ("a", "b")]
    with Daemon(workdir, ports) as daemon:
        yield daemon


@pytest.fixture
def follower(daemon):
    with Follower(daemon) as follower:
        yield follower


def guest(daemon, name, **options):
    return Guest(str(daemon.directory / f"{name}.sock"), **options)


# ---- from what they come ----

def test_what_happened_before_anybody_asked(daemon):
    with Follower(daemon, since=0) as follower:
        assert follower.answer["missed"] == 0 and not follower.answer["restarted"]
        first = [follower.next() for _ in range(2)]
    assert {(event["kind"], event["port"]) for event in first} == {("port.down", "a"), ("port.down", "b")}
    assert [event["sequence"] for event in first] == [1, 2]
    assert first[0]["reason"] == "waiting for the VMM to connect"


def test_guest(daemon, follower):
    with guest(daemon, "a").up() as one:
        connected = follower.expect("guest.connected", "a", pid=os.getpid(), uid=os.getuid(), waiting=False)
        features = follower.expect("guest.features", "a", pid=os.getpid())["features"]
        assert {"VIRTIO_F_VERSION_1", "VIRTIO_NET_F_MRG_RXBUF"} <= set(features)
        up = follower.expect("port.up", "a")
        assert connected["sequence"] < up["sequence"]
        assert connected["monotonic_ms"] <= up["monotonic_ms"] <= time.monotonic() * 1000
        one.send(ethernet(BROADCAST, mac(1)))
        follower.expect("address.learned", "a", mac=text(mac(1)), vlan=0)
        with guest(daemon, "a") as other:
            other.connect()
            follower.expect("guest.connected", "a", waiting=True)
        follower.expect("guest.gone", "a", reason="the VMM waited, and disconnected")
        with guest(daemon, "b").up() as third:
            follower.expect("port.up", "b")
            third.send(ethernet(BROADCAST, mac(1)))
            follower.expect("address.moved", "b", mac=text(mac(1)), **{"from": "a"})
    gone = {event["port"]: event for event in (follower.expect("guest.gone") for _ in range(2))}
    assert gone["a"]["reason"] == "the VMM disconnected" and gone["a"]["pid"] == os.getpid()
    kinds = [(event["kind"], event["port"]) for event in follower.seen if event["kind"] != "port.down"]
    assert len(kinds) == len(set(kinds)) + 2, kinds  # but the one that waited came and went as well


def test_another_process_is_refused(daemon, follower):
    connect = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.recv(1)"
    with guest(daemon, "a").up():
        follower.expect("port.up", "a")
        with subprocess.Popen([sys.executable, "-c", connect, daemon.directory / "a.sock"]) as stranger:
            follower.expect("guest.refused", "a", pid=stranger.pid,
                            reason=f"process {os.getpid()} uses the socket")
            follower.expect("guest.gone", "a", pid=stranger.pid)
    follower.expect("port.down", "a")


def test_address_is_refused(daemon, follower):
    daemon.rpc("port.set", name="a", max_addresses=1)
    daemon.rpc("fdb.flush")
    with guest(daemon, "a").up() as one:
        for number in (2, 3):
            one.send(ethernet(BROADCAST, mac(number)))
        follower.expect("address.learned", "a", mac=text(mac(2)))
        reason = follower.expect("address.refused", "a", mac=text(mac(3)))["reason"]
    assert reason == "the port has as many addresses as it may have"
    daemon.rpc("port.set", name="a", max_addresses=None)


def test_switched_off(daemon, follower):
    with guest(daemon, "a").up():
        follower.expect("port.up", "a")
        daemon.rpc("port.set", name="a", enabled=False)
        follower.expect("port.down", "a", reason="switched off")
        daemon.rpc("port.set", name="a", enabled=True)
        follower.expect("port.up", "a")


def test_limit(daemon, follower):
    daemon.rpc("port.set", name="a", limits={"ingress": {"bandwidth": {"rate": "64kbit", "burst": 1500}}})
    with guest(daemon, "a").up() as one:
        for _ in range(12):
            one.send(ethernet(BROADCAST, mac(1), bytes(1000)))
        reached = follower.expect("limit.reached", "a", direction="ingress")
        left = follower.expect("limit.left", "a", direction="ingress")
        follower.quiet(2)
    # 12 kB take a second and a half; then one more without any that had to wait.
    assert 1000 <= left["monotonic_ms"] - reached["monotonic_ms"] < 6000
    assert sum(event["kind"].startswith("limit.") for event in follower.seen) == 2
    daemon.rpc("port.set", name="a", limits=None)


def test_requests(daemon, follower):
    revision = daemon.rpc("port.set", name="b", mtu=1400)["revision"]
    changed = follower.expect("config.changed", "b", method="port.set", revision=revision)
    assert (changed["pid"], changed["uid"]) == (os.getpid(), os.getuid())
    daemon.rpc("port.set", name="b", mtu=1400)
    daemon.rpc("config.apply", configuration={"ports": []}, dry_run=True)
    with pytest.raises(RpcError):
        daemon.rpc("port.set", name="b", mtu=1)
    wanted = daemon.rpc("config.get")["configuration"]
    wanted["bridge"]["ageing"] = 299
    revision = daemon.rpc("config.apply", configuration=wanted)["revision"]
    # None of those in between has changed anything.
    event = follower.next()
    assert (event["kind"], event["method"], event["revision"]) == ("config.changed", "config.apply", revision)
    assert "port" not in event
    daemon.rpc("port.add", name="c", type="vhost-user", socket=str(daemon.directory / "c.sock"))
    follower.expect("config.changed", "c", method="port.add")
    daemon.rpc("port.remove", name="c")
    follower.expect("port.removed", "c")
    follower.expect("config.changed", "c", method="port.remove")
    # Its own request; the answer comes first.
    follower.ask("port.set", name="b", mtu=None)
    follower.expect("config.changed", "b", method="port.set")


def test_signal(daemon, follower):
    file = daemon.directory / "ringway.json"
    config = json.loads(file.read_text())
    config["ports"][1]["mtu"] = 1300
    file.write_text(json.dumps(config))
    daemon.process.send_signal(signal.SIGHUP)
    event = follower.expect("config.changed", method="SIGHUP")
    assert event["revision"] == daemon.rpc("config.get")["revision"] and "pid" not in event


def test_interfaces():
    with Workdir() as directory, Namespace() as home:
        home.run("ip", "link", "add", "lan0", "type", "veth", "peer", "name", "lan1")
        for name in ("lan0", "lan1"):
            home.run("ip", "link", "set", name, "up")
        ports = [{"name": "host", "type": "tap", "interface": "rwhost"},
                 {"name": "lan", "type": "af_packet", "interface": "lan0"}]
        with Daemon(directory, ports, netns=home.name) as daemon, Follower(daemon, since=0) as follower:
            assert {follower.expect("port.up")["port"] for _ in range(2)} == {"host", "lan"}
            home.run("ip", "link", "set", "lan0", "down")
            follower.expect("port.down", "lan", reason="the interface is down")
            home.run("ip", "link", "set", "lan0", "up")
            follower.expect("port.up", "lan")
            home.run("ip", "link", "set", "lan1", "down")
            follower.expect("port.down", "lan", reason="the interface has no carrier")
            home.run("ip", "link", "delete", "rwhost")
            assert "interface" in follower.expect("port.down", "host")["reason"]
            follower.expect("port.up", "host")


class Held:
    """A thread that is stopped, while the others of its process go on, as a debugger does it."""

    SEIZE, INTERRUPT, DETACH = 0x4206, 0x4207, 17
    WALL = 0x40000000

    def __init__(self, thread):
        self.thread, self.libc = thread, ctypes.CDLL(None, use_errno=True)
        self.libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]

    def ptrace(self, request):
        if self.libc.ptrace(request, self.thread, None, None) != 0:
            raise OSError(ctypes.get_errno(), f"ptrace {request:#x}")

    def __enter__(self):
        self.ptrace(self.SEIZE)
        self.ptrace(self.INTERRUPT)
        os.waitpid(self.thread, self.WALL)
        return self

    def __exit__(self, *unused):
        self.ptrace(self.DETACH)


def worker_thread(daemon):
    """By the name that EAL gives it."""
    thread, = [int(task.name) for task in pathlib.Path(f"/proc/{daemon.pid}/task").iterdir()
               if "worker" in (task / "comm").read_text()]
    return thread


def test_worker_is_held(daemon, follower):
    with Held(worker_thread(daemon)):
        began = time.monotonic()
        follower.expect("worker.stalled", worker=0)
        assert time.monotonic() - began > 0.8
        assert not [event for event in follower.quiet(0.5) if event["kind"].startswith("worker.")]
    resumed = follower.expect("worker.resumed", worker=0)
    assert 1300 < resumed["ms"] < 1e3 * (time.monotonic() - began) + 500


def test_worker_is_held_while_it_sleeps():
    """It cannot say that it should be awake by now, as others have its CPU."""
    with Workdir() as directory, \
            Daemon(directory, [vhost_port(directory, "a")], idle="adaptive") as daemon, \
            Follower(daemon) as follower:
        with Held(worker_thread(daemon)):
            began = time.monotonic()
            assert not [event for event in follower.quiet(2) if event["kind"].startswith("worker.")]
            follower.expect("worker.stalled", worker=0)
            assert daemon.rpc("worker.list")[0]["running"] == 0
            held = time.monotonic() - began
        resumed = follower.expect("worker.resumed", worker=0)
        assert 1e3 * held - 500 < resumed["ms"] < 1e3 * (time.monotonic() - began) + 1500
        assert daemon.rpc("worker.list")[0]["running"] == 1


def test_too_many_of_one_port(daemon, follower):
    """A guest makes up addresses: some are told of, the rest is counted; the other port is not touched."""
    daemon.rpc("fdb.flush")
    before = daemon.rpc("stats.get")["events"]
    with guest(daemon, "a").up() as one, guest(daemon, "b").up() as two:
        for number in range(500):
            one.send(ethernet(BROADCAST, mac(0x100 + number)))
        wait_until(lambda: one.reap() or not any(ring.chains for ring in one.rings[1::2]), 10, "all is sent")
        two.send(ethernet(BROADCAST, mac(0x80)))
        told = left_out = 0
        other = False
        while told + left_out < 500 or not other:
            event = follower.next()
            if event["kind"] == "address.learned":
                told += event["port"] == "a"
                other |= event["port"] == "b"
            if event["kind"] == "event.left_out":
                assert (event["port"], event["kinds"]) == ("a", "address")
                left_out += event["count"]
    assert told + left_out == 500
    assert BURST <= told < BURST + 20
    assert daemon.rpc("stats.get")["events"]["left_out"] - before["left_out"] == left_out


def test_too_many_of_a_port_that_goes(daemon, follower):
    """What was left out is told before the port is gone, so that nothing is missing unsaid."""
    for _ in range(3):
        daemon.rpc("port.add", **vhost_port(daemon.directory, "c"))
        with guest(daemon, "c").up() as one:
            left_out = daemon.rpc("stats.get")["events"]["left_out"]
            for number in range(100):
                one.send(ethernet(BROADCAST, mac(0x900 + number)))
            wait_until(lambda: daemon.rpc("stats.get")["events"]["left_out"] > left_out, 10, "too many")
            daemon.rpc("port.remove", name="c")
        follower.expect("port.removed", "c")
        gone, follower.seen = follower.seen, []
        assert sum(event["count"] for event in gone if event["kind"] == "event.left_out") == \
            daemon.rpc("stats.get")["events"]["left_out"] - left_out


# ---- who gets them ----

def change(daemon, number):
    """An event of the operator's own, who is not held to any rate."""
    daemon.rpc("port.set", name="b", labels={"n": str(number)})


def test_filters(daemon):
    with Follower(daemon, kinds=["config"]) as config, Follower(daemon, ports=["a"]) as only_a, \
            Follower(daemon, kinds=["guest.gone", "port"], ports=["a", "nobody"]) as both:
        change(daemon, 1)
        with guest(daemon, "a").up():
            only_a.expect("port.up")
        both.expect("guest.gone")
        change(daemon, 2)
        assert [config.next()["method"] for _ in range(2)] == ["port.set"] * 2
    assert {event["port"] for event in only_a.seen} == {"a"}
    assert {event["kind"] for event in both.seen} <= {"port.up", "port.down", "guest.gone"}


@pytest.mark.parametrize("wish, field", [
    ({"kinds": ["port.up", "prot"]}, "kinds"), ({"kinds": [1]}, "kinds"), ({"kinds": "port"}, "kinds"),
    ({"ports": [None]}, "ports"), ({"since": -1}, "since"), ({"since": "1"}, "since"),
    ({"history": 1}, "history"), ({"port": "a"}, "port")])
def test_bad_wishes(daemon, wish, field):
    with pytest.raises(RpcError) as refused:
        daemon.rpc("event.subscribe", **wish)
    assert refused.value.code == -32602 and refused.value.data["field"] == field


def test_subscribing_again_is_another_wish(daemon, follower):
    assert follower.ask("event.subscribe", kinds=["worker"])["history"] == follower.answer["history"]
    change(daemon, 3)
    assert follower.quiet(0.2) == []
    follower.ask("event.subscribe", kinds=["config"])
    change(daemon, 4)
    follower.expect("config.changed")


def test_who_comes_back(daemon):
    with Follower(daemon) as follower:
        change(daemon, 10)
        last = follower.expect("config.changed")["sequence"]
        history = follower.answer["history"]
    for number in range(11, 15):
        change(daemon, number)
    with Follower(daemon, since=last, history=history) as follower:
        assert follower.answer == {"history": history, "sequence": last + 4, "oldest": 1, "missed": 0,
                                   "restarted": False}
        assert [follower.next()["sequence"] for _ in range(4)] == list(range(last + 1, last + 5))
        change(daemon, 15)
        assert follower.next()["sequence"] == last + 5


def test_restart():
    with Workdir() as directory:
        with Daemon(directory, [vhost_port(directory, "a")]) as daemon, Follower(daemon, since=0) as follower:
            history = follower.answer["history"]
            for number in range(5):
                daemon.rpc("port.set", name="a", labels={"n": str(number)})
            last = [follower.expect("config.changed") for _ in range(5)][-1]["sequence"]
            daemon.kill()
            with pytest.raises(ConnectionError):
                follower.quiet(5)
        with Daemon(directory, [vhost_port(directory, "a")]) as daemon, \
                Follower(daemon, since=last, history=history) as follower:
            assert follower.answer["restarted"] and follower.answer["history"] != history
            assert (follower.next()["sequence"], follower.seen[0]["kind"]) == (1, "port.down")
            # Also where the new history has come as far as the old one.
            with Follower(daemon, since=1, history=history) as other:
                assert other.answer["restarted"] and other.next()["sequence"] == 1
            with Follower(daemon, since=1, history=other.answer["history"]) as other:
                assert not other.answer["restarted"] and other.answer["sequence"] == 1


def make_events(daemon, count):
    """So many, by requests of one connection; returns the longest that one took."""
    longest = 0
    with Follower(daemon, kinds=["worker"]) as asker:
        for number in range(count):
            begun = time.monotonic()
            asker.ask("port.set", name="b", labels={"n": str(number), "padding": "x" * 40})
            longest = max(longest, time.monotonic() - begun)
    return longest


def iterations_a_second(daemon):
    """Of the worker, the best of a few tries: others use its CPU, too."""
    def sample():
        return daemon.rpc("worker.list")[0]["iterations"], time.monotonic()
    best = 0
    for _ in range(5):
        (first, begun) = sample()
        time.sleep(0.1)
        (last, ended) = sample()
        best = max(best, (last - first) / (ended - begun))
    return best


def test_a_crowd(daemon):
    """A hundred follow, of whom ten never read. The others get all in order, and nobody waits."""
    count = HISTORY + 1500
    alone, rate = make_events(daemon, 200), iterations_a_second(daemon)
    with contextlib.ExitStack() as stack:
        stuck = [stack.enter_context(Follower(daemon, kinds=["config"])) for _ in range(10)]
        others = [stack.enter_context(Follower(daemon, kinds=["config"])) for _ in range(90)]
        longest, made = 0, 0
        rates = []
        while made < count:
            longest = max(longest, make_events(daemon, 100))
            made += 100
            for follower in others:
                numbers = [follower.next()["revision"] for _ in range(100)]
                assert numbers == list(range(numbers[0], numbers[0] + 100))
            if made % 1000 == 0:
                rates.append(iterations_a_second(daemon))
        assert longest < max(20 * alone, 0.5), (longest, alone)
        assert max(rates) > rate / 2, (rates, rate)
        # What waited for the others was kept and comes; what was too much is told, and all adds up.
        for follower in stuck:
            got = missed = 0
            last = 0
            while got + missed < made:
                event = follower.next()
                assert event["sequence"] > last
                last = event["sequence"]
                if event["kind"] == "event.missed":
                    missed += event["missed"]
                else:
                    got += 1
            assert missed > 0 and got >= HISTORY
            assert not follower.quiet(0.01)
    with Follower(daemon, since=0) as late:
        assert late.answer["missed"] == late.answer["oldest"] - 1 > 0
        assert late.next()["sequence"] == late.answer["oldest"]


def test_one_client_too_many(daemon):
    with contextlib.ExitStack() as stack:
        for _ in range(CLIENTS_MAX):
            stack.enter_context(Follower(daemon))
        with socket.socket(socket.AF_UNIX) as last:
            last.settimeout(10)
            last.connect(str(daemon.socket))
            answer = json.loads(last.makefile().readline())
        assert answer["error"]["message"] == "too many clients are connected"
    wait_until(daemon.answers, 5, "there is room again")
