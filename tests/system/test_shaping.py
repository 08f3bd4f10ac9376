# SPDX-License-Identifier: BSD-3-Clause
"""Limits between the kernels of two hosts (TAP ports): of packets on the way in, and on the way out,
where the excess is dropped or queues. What passed is what the receiving kernel counts."""
import contextlib
import json
import threading
import time

import pytest

from harness import Daemon, Pipeline, Process, assert_ledgers, drops, wait_stable, wait_until
from test_limits import measure
from test_tap import site, tap_port

MIB = 1 << 20

# Sends datagrams of argv[2] bytes from argv[3] sockets, as fast as it goes, or argv[4] of them.
SENDER = """
import socket, sys
size, flows, count = map(int, sys.argv[2:5])
sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(flows)]
data = bytes(size)
n = 0
while count == 0 or n < count:
    sockets[n % flows].sendto(data, (sys.argv[1], 9))
    n += 1
"""


def sender_argv(size, flows=1, count=0):
    """`size`: of the frame, without FCS."""
    return ["python3", "-c", SENDER, "10.7.0.2", size - 42, flows, count]


@contextlib.contextmanager
def two(a=None, b=None, **options):
    """Host 0 behind port a and host 1 behind port b, with these limits. Adaptive: idle while it waits."""
    queues = options.pop("queues", 1)
    limits = {name: {"limits": value} for name, value in (("a", a), ("b", b)) if value}
    with site([tap_port("a", queues=queues, **limits.get("a", {})), tap_port("b", **limits.get("b", {}))],
              idle="adaptive", **options) as place:
        for number, name in enumerate("ab"):
            # Nothing but the test's own frames.
            for space in place.home, *place.hosts:
                space.run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1",
                          "net.ipv6.conf.all.disable_ipv6=1")
            host = place.hosts[number]
            place.home.run("ip", "link", "set", f"rw{name}", "netns", host.name)
            host.run("ip", "address", "add", f"10.7.0.{number + 1}/24", "dev", f"rw{name}")
            host.run("ip", "link", "set", f"rw{name}", "up")
        place.hosts[0].run("ping", "-q", "-c", 1, "10.7.0.2")
        yield place


@contextlib.contextmanager
def sending(place, size, flows=1):
    with Process(sender_argv(size, flows), place.directory, netns=place.hosts[0].name):
        yield


def arrived(place):
    """Frames that host 1's kernel has got, by its own count."""
    text = place.hosts[1].run("ip", "-s", "-j", "link", "show", "dev", "rwb")
    return json.loads(text)[0]["stats64"]["rx"]["packets"]


def in_bucket(place, port, direction, kind):
    return place.daemon.port(port)["limits"][direction][kind]["tokens"]


def packets_a_second(place, port, direction, seconds=3):
    """What came, and what the bucket kept while the sender was away."""
    return measure(lambda: arrived(place) + in_bucket(place, port, direction, "packets"), seconds) / 8


def wait_until_limited(place, port, direction, kind):
    wait_until(lambda: in_bucket(place, port, direction, kind) < 100, 20, "the bucket is empty")


# A bucket of 0.2 s: a sender that shares its CPU with the switch and the rest may be away that long.
def packets(rate, **more):
    return {"packets": {"rate": rate, "burst": max(1, rate // 5)}, **more}


def test_packets_on_the_way_in():
    """The kernel's queue fills, and its sender gets the rate."""
    with two(a={"ingress": packets(3000)}) as place:
        with sending(place, 200):
            wait_until_limited(place, "a", "ingress", "packets")
            assert packets_a_second(place, "a", "ingress") == pytest.approx(3000, rel=0.01)
            port = place.daemon.port("a")
        assert port["last_second"]["ingress"]["throttled"] > 0.5
        assert "rx.limit" not in drops(place.daemon.counters("a"))


def test_one_bucket_for_four_queues():
    with two(a={"ingress": packets(3000)}, queues=4) as place:
        with sending(place, 200, flows=32):
            wait_until_limited(place, "a", "ingress", "packets")
            assert packets_a_second(place, "a", "ingress") == pytest.approx(3000, rel=0.01)
        row = next(row for row in place.daemon.rpc("stats.get")["ports"] if row["name"] == "a")
        assert sum(queue["rx_packets"] > 0 for queue in row["queues"]) > 1


@pytest.mark.parametrize("excess", ["drop", "queue"])
def test_packets_on_the_way_out(excess):
    with two(b={"egress": packets(3000, excess=excess)}) as place:
        with sending(place, 200):
            wait_until_limited(place, "b", "egress", "packets")
            assert packets_a_second(place, "b", "egress") == pytest.approx(3000, rel=0.01)
            last = place.daemon.port("b")["last_second"]["egress"]
        lost = drops(place.daemon.counters("b"))
        if excess == "drop":
            assert set(lost) == {"tx.limit"} and last["dropped"]["limit"] > 0
            row = wait_stable(lambda: place.daemon.counters("b"), 10, "the counters rest")
            # A request for an address may be among them.
            frames = row["tx_dropped"]["limit"]
            assert 200 * (frames - 20) < row["tx_limited_bytes"] <= 200 * frames
        else:
            # Far more comes than goes: what is at the head has waited as long as it may.
            assert set(lost) <= {"tx.queue_full", "tx.queue_timeout"} and last["throttled"] > 0.5


def test_a_queue_loses_nothing():
    """200 datagrams at once, and the time for them to leave: all arrive, none at once."""
    limits = {"egress": {"bandwidth": {"rate": "2Mbit", "burst": "2KiB"}, "excess": "queue",
                         "queue": {"time": 10_000}}}
    with two(b=limits) as place:
        before, begin = arrived(place), time.monotonic()
        place.hosts[0].run(*sender_argv(1042, count=200))
        wait_until(lambda: place.daemon.counters("b")["tx_queued"] == 0 and arrived(place) - before >= 200,
                   20, "all have arrived")
        # 208,400 bytes at 250 a millisecond, the burst and a frame apart.
        assert time.monotonic() - begin > (200 * 1042 - 2048 - 1042) / 250e3
        row = place.daemon.counters("b")
        assert row["tx_delayed"] > 190 and drops(row) == {}


def test_who_goes_away_gets_nothing():
    """What waits for a port that is switched off is dropped as that, at once."""
    limits = {"egress": {"bandwidth": {"rate": "64kbit", "burst": 1}, "excess": "queue",
                         "queue": {"time": 10_000}}}
    with two(b=limits) as place:
        place.hosts[0].run(*sender_argv(1042, count=50))
        wait_until(lambda: place.daemon.counters("b")["tx_queued"] > 20, 5, "frames wait")
        place.daemon.rpc("port.set", name="b", enabled=False)
        wait_until(lambda: place.daemon.counters("b")["tx_queued"] == 0, 5, "none waits any more")
        assert drops(place.daemon.counters("b"))["tx.disabled"] > 20
        place.daemon.rpc("port.set", name="b", enabled=True)
        place.hosts[0].run(*sender_argv(1042, count=50))
        wait_until(lambda: place.daemon.counters("b")["tx_queued"] > 20, 5, "frames wait")
        # Without the limit all leave, and whoever is removed takes them along.
        place.daemon.rpc("port.set", name="b", limits=None)
        wait_until(lambda: place.daemon.counters("b")["tx_queued"] == 0, 5, "none waits any more")
        place.daemon.rpc("port.set", name="b", limits=limits)
        place.hosts[0].run(*sender_argv(1042, count=50))
        wait_until(lambda: place.daemon.counters("b")["tx_queued"] > 20, 5, "frames wait")
        assert_ledgers(place.daemon)
        place.daemon.rpc("port.remove", name="b")
        assert place.daemon.rpc("system.info")


def test_changes_under_traffic():
    """Both directions of one port and another's way out, a thousand changes of rates, forms and
    excess; then what was set last holds."""
    def limits(n):
        excess = "queue" if n % 3 else "drop"
        forms = {"rate": 2000 + n, "burst": 600}, {"size": 600, "refill_time": 200}
        # A patch: what is not said again stays.
        bucket = {key: None for form in forms for key in form} | forms[n % 2]
        return {"egress": {"packets": bucket if n % 7 else None, "excess": excess,
                           "queue": {"bytes": 65536 << n % 3}}}

    with two(a={"ingress": packets(50_000)}, b=limits(1)) as place:
        with sending(place, 200):
            wait_until_limited(place, "b", "egress", "packets")
            requests = [("port.set", {"name": "b", "limits": limits(n)}) for n in range(1000)]
            with Pipeline(place.daemon.socket) as line:
                answers = line.run(requests)
            assert [answer for answer in answers if "error" in answer] == []
            place.daemon.rpc("port.set", name="b", limits=None)
            place.daemon.rpc("port.set", name="b", limits={"egress": packets(3000)})
            wait_until_limited(place, "b", "egress", "packets")
            assert packets_a_second(place, "b", "egress") == pytest.approx(3000, rel=0.01)
        assert_ledgers(place.daemon)


class Changes:
    """Has a function change a port a thousand times a second, in a thread of its own; no answer may be an
    error. At the end comes one more change."""

    def __init__(self, path, change, last):
        self.line = Pipeline(path)
        self.change, self.last = change, last
        self.answers = []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
        with self.line:
            self.set({"limits": None}, self.last)
        assert [answer for answer in self.answers if "error" in answer] == []

    def run(self):
        begin = time.monotonic()
        while not self.over.wait(0.001):
            # As many as are due: a machine that others use is late at times.
            first, due = len(self.answers), int(1000 * (time.monotonic() - begin))
            self.set(*map(self.change, range(first, min(due, first + 200))))
        self.rate = len(self.answers) / (time.monotonic() - begin)

    def set(self, *changes):
        answers = self.line.run([("port.set", {"name": "b", **change}) for change in changes])
        assert [answer["id"] for answer in answers] == list(range(len(changes)))
        self.answers += answers


def test_a_thousand_changes_a_second(tmp_path):
    """For some seconds, each on disk before its answer. What a change lost or gave would be there a
    thousand times a second; and a daemon that is killed behind the last answer comes back with it."""
    def limits(n):
        forms = {"rate": 997 + n % 7, "burst": 500 - n % 5}, {"size": 500, "refill_time": 500}
        bucket = {key: None for form in forms for key in form} | forms[n % 2]
        return {"limits": {"egress": {"packets": bucket}}}

    arguments = ["--state", str(tmp_path / "state.json")]
    last = {"limits": {"egress": packets(1234)}, "labels": {"last": "this"}}
    with two(b=limits(0)["limits"], arguments=arguments) as place:
        with sending(place, 200):
            wait_until_limited(place, "b", "egress", "packets")
            with Changes(place.daemon.socket, limits, last) as changes:
                rate = packets_a_second(place, "b", "egress", seconds=4)
            place.daemon.kill()
        assert changes.rate > 800 and rate == pytest.approx(1000, rel=0.01)
        config = json.loads((place.directory / "ringway.json").read_text())
        with Daemon(place.directory, config=config, netns=place.home.name, arguments=arguments) as again:
            port = again.rpc("port.get", name="b")
            assert port["limits"]["egress"]["packets"]["rate"] == 1234
            assert port["labels"] == {"last": "this"}


def tcp(place, seconds=4):
    """Bits per second of a loss-based TCP, whatever the system's own is."""
    return place.iperf(0, 1, "-C", "cubic", seconds=seconds)


# The rate that the machine has for TCP when others use it, too.
RATE = 200e6


@pytest.mark.parametrize("a, b, share", [
    ({"ingress": {"bandwidth": {"rate": RATE}}}, None, 0.93),
    (None, {"egress": {"bandwidth": {"rate": RATE}, "excess": "queue"}}, 0.93),
    (None, {"egress": {"bandwidth": {"rate": RATE}}}, 0.85),
], ids=["pause", "queue", "drop"])
def test_tcp(a, b, share):
    """1,448 of 1,514 bytes are TCP's payload, which is 95.6%; and a bucket that was full is more."""
    for limits in (a or b).values():
        limits["bandwidth"] = {key: int(value) for key, value in limits["bandwidth"].items()}
    with two(a=a, b=b) as place:
        rates = []
        while not rates or (max(rates) < share * RATE and len(rates) < 5):
            rates.append(tcp(place))
        assert share * RATE < max(rates) < 1.05 * RATE


def test_tcp_passes_a_bucket_that_holds_no_frame():
    limits = {"egress": {"bandwidth": {"rate": 100_000_000, "burst": 1000}, "excess": "queue"}}
    with two(b=limits) as place:
        assert 10e6 < tcp(place, 3) < 96e6


def test_what_is_given_is_kept():
    """config.get has the form that was given, port.get what it comes to."""
    given = {"egress": {"bandwidth": {"size": "125KB".replace("KB", "k"), "refill_time": 1}}}
    with two(b=given) as place:
        config = place.daemon.rpc("config.get")["configuration"]
        assert next(port for port in config["ports"] if port["name"] == "b")["limits"] == given
        egress = place.daemon.port("b")["limits"]["egress"]
        assert (egress["bandwidth"]["rate"], egress["bandwidth"]["burst"]) == (1_000_000_000, 125_000)
        assert egress["packets"] is None and egress["excess"] == "drop"
        assert egress["queue"] == {"bytes": MIB, "time": 50}
        assert place.daemon.port("a")["last_second"] is None
