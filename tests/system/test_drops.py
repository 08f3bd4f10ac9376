# SPDX-License-Identifier: BSD-3-Clause
"""Each reason for which a frame is dropped: it is made to happen a known number of times, and all
outputs count exactly that and nothing else. Every test has ports of its own, whose counters begin at
zero, in one switch."""
import collections
import contextlib
import pathlib
import re
import resource

import pytest

from frontend import BROADCAST, GUEST_OFFLOADS, LINUX, F, Guest, ethernet
from harness import (SWITCH_CPU, Daemon, Namespace, RpcError, Workdir, assert_ledgers, drops,
                     drops_everywhere, vhost_port, wait_stable, wait_until)
from test_ethdev import ethdev
from test_protocol import PARTIAL, payload, transport, tso
from test_tap import tap_port
from test_vlan import LLDP, access, tags

ROOT = pathlib.Path(__file__).resolve().parents[2]
GROUP = b"\x01\x00\x5e\x00\x00\x01"
STATION, STRANGER = (b"\x02\x00\x00\x00\x0c" + bytes([n]) for n in (1, 2))

Cause = collections.namedtuple("Cause", "port reason count make")
CAUSES = []


def cause(where, count):
    """For functions that have `count` frames dropped: `where` is PORT.DIRECTION.REASON."""
    port, reason = where.split(".", 1)
    return lambda make: CAUSES.append(Cause(port, reason, count, make)) or make


class Place:
    """Ports for one test, which are gone at its end."""

    def __init__(self, daemon, stack):
        self.daemon, self.stack = daemon, stack
        self.names = []

    def port(self, **settings):
        """A port, which is open; one for a guest is up when that has connected."""
        self.daemon.rpc("port.add", **settings)
        self.names.append(settings["name"])
        self.stack.callback(self.daemon.rpc, "port.remove", name=settings["name"])
        if settings["type"] != "vhost-user":
            self.daemon.wait_port(settings["name"], "up")

    def guest(self, name, number, rules=None, **options):
        """A guest on a port of its own, with those settings of the port; the table knows its address."""
        port = vhost_port(self.daemon.directory, name, **(rules or {}))
        self.port(**port)
        guest = self.stack.enter_context(Guest(port["socket"], number, **options))
        guest.up()
        self.daemon.wait_port(name, "up")
        self.known(guest.mac, port=name)
        return guest

    def pair(self, a=None, b=None, **options):
        """Two guests; the options are those of the second."""
        return self.guest("a", 1, a), self.guest("b", 2, b, **options)

    def known(self, mac, **entry):
        self.daemon.rpc("fdb.add", mac=mac.hex(":"), **entry)

    def set(self, name, **rules):
        self.daemon.rpc("port.set", name=name, **rules)

    @contextlib.contextmanager
    def no_more_memory(self):
        """The daemon gets no more addresses than for small things."""
        before = resource.prlimit(self.daemon.pid, resource.RLIMIT_AS)
        pages = int(pathlib.Path(f"/proc/{self.daemon.pid}/statm").read_text().split()[0])
        size = pages * resource.getpagesize() + (4 << 20)
        resource.prlimit(self.daemon.pid, resource.RLIMIT_AS, (size, before[1]))
        try:
            yield
        finally:
            resource.prlimit(self.daemon.pid, resource.RLIMIT_AS, before)

    def send(self, guest, *frames, **how):
        """All at once, in one burst. The worker goes by all that was set before: the round in which that
        happened is over."""
        before = self.rounds()
        wait_until(lambda: self.rounds() > before + 1, 5, "the worker goes on")
        for frame in frames:
            guest.send(frame, publish=False, **how)
        guest.rings[1].publish()
        guest.flush()

    def rounds(self):
        return self.daemon.rpc("worker.list")[0]["iterations"]

    def dropped(self):
        return {port["name"]: drops(port) for port in self.daemon.rpc("stats.get")["ports"]}


@pytest.fixture(scope="module")
def daemon():
    with Workdir() as directory, Namespace() as home:
        # The kernel behind a TAP has nothing to say.
        home.run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
        config = {"workers": [{"cpu": SWITCH_CPU, "idle": "busy"}],
                  "metrics": {"listen": str(directory / "metrics.sock")}}
        with Daemon(directory, config=config, netns=home.name) as daemon:
            daemon.directory, daemon.home = directory, home
            yield daemon


@pytest.fixture
def place(daemon):
    with contextlib.ExitStack() as stack:
        yield Place(daemon, stack)
        assert_ledgers(daemon)


# ---- what cannot be delivered ----


def frames(to, source, count, size=60):
    return [ethernet(to, source, payload(size - 14, n)) for n in range(count)]


@cause("a.rx.no_destination", 3)
def nobody_else(place):
    a = place.guest("a", 1)
    place.send(a, *frames(BROADCAST, a.mac, 3))


@cause("b.tx.ring_full", 2)
def three_buffers(place):
    a, b = place.pair(posted=3)
    place.send(a, *frames(b.mac, a.mac, 5))


@cause("b.tx.ring_full", 7)
def three_buffers_for_segments(place):
    a, b = place.pair(posted=3, features=LINUX & ~GUEST_OFFLOADS)
    place.send(a, transport(b, a, payload(10_000)), vnet=tso(size=1000))


@cause("b.tx.not_connected", 2)
def nothing_connected(place):
    a = place.guest("a", 1)
    place.port(**vhost_port(place.daemon.directory, "b"))
    place.known(STATION, port="b")
    place.send(a, *frames(STATION, a.mac, 2))


@cause("a.rx.disabled", 2)
def a_disabled_sender(place):
    a, b = place.pair()
    place.set("a", enabled=False)
    place.send(a, *frames(b.mac, a.mac, 2))


@cause("b.tx.disabled", 3)
def a_disabled_receiver(place):
    a, b = place.pair()
    place.set("b", enabled=False)
    place.send(a, *frames(b.mac, a.mac, 3))


@cause("b.tx.mtu", 2)
def over_the_mtu(place):
    a, b = place.pair(b={"mtu": 1000})
    place.send(a, *frames(b.mac, a.mac, 1, 1014), *frames(b.mac, a.mac, 2, 1015))


@cause("a.rx.too_long", 1)
def longer_than_any(place):
    a, b = place.pair()
    place.send(a, ethernet(b.mac, a.mac, bytes(70_000)), cuts=(12, 40_000))


@cause("b.tx.too_long", 2)
def longer_than_a_buffer(place):
    a, b = place.pair(features=LINUX & ~F.MRG_RXBUF, buffers=(1600,))
    place.send(a, *frames(b.mac, a.mac, 1, 1588), *frames(b.mac, a.mac, 2, 1589))


@cause("a.rx.too_short", 2)
def no_ethernet_header(place):
    a, b = place.pair()
    frame = ethernet(b.mac, a.mac)
    place.send(a, frame, frame[:13], frame[:1])


@cause("b.tx.device", 2)
def an_interface_that_is_down(place):
    a = place.guest("a", 1)
    place.port(**tap_port("b"))
    place.known(STATION, port="b")
    place.send(a, *frames(STATION, a.mac, 1))
    place.daemon.home.run("ip", "link", "set", "rwb", "down")
    place.send(a, *frames(STATION, a.mac, 2))


@cause("b.tx.no_buffer", 4)
def more_segments_than_a_burst_may_have(place):
    """Each frame is 1,354 of 48 bytes, six are 8,124 of 8,192."""
    a = place.guest("a", 1)
    place.port(**ethdev("b", "net_null0,no-rx=1"))
    place.known(STATION, port="b")
    frame = transport(type("station", (), {"mac": STATION}), a, payload(65_000 - 54))
    place.send(a, *[frame] * 10, vnet=tso(size=48))


# ---- limits ----


def limits(way, excess, **more):
    """One packet at once, and one a second."""
    return {"limits": {way: {"packets": {"rate": 1, "burst": 1}, "excess": excess, **more}}}


@cause("a.rx.limit", 3)
def over_the_limit_on_the_way_in(place):
    a, b = place.pair(a=limits("ingress", "drop"))
    place.send(a, *frames(b.mac, a.mac, 4))


@cause("b.tx.limit", 2)
def over_the_limit_on_the_way_out(place):
    a, b = place.pair(b=limits("egress", "drop"))
    place.send(a, *frames(b.mac, a.mac, 3))


@cause("b.tx.no_memory", 2)
def no_memory_for_a_queue(place):
    """Who insists on it is refused; who does not has what is over the limit dropped."""
    a, b = place.pair()
    wish = limits("egress", "queue")
    config = place.daemon.rpc("config.get")["configuration"]
    for port in config["ports"]:
        if port["name"] == "b":
            port.update(wish)
    with place.no_more_memory():
        with pytest.raises(RpcError, match="no memory for a queue") as refused:
            place.set("b", **wish)
        assert refused.value.data["object"] == "port b"
        assert place.daemon.port("b")["limits"]["egress"]["packets"] is None
        place.daemon.rpc("config.apply", configuration=config)
    place.send(a, *frames(b.mac, a.mac, 3))


@cause("b.tx.queue_full", 3)
def no_room_in_the_queue(place):
    """One passes and the queue takes seven: with 128 bytes more each, rounded up, they are 63,168."""
    a, b = place.pair(b=limits("egress", "queue", queue={"bytes": 65536, "time": 10_000}))
    place.send(a, *frames(b.mac, a.mac, 11, 8890))


@cause("b.tx.queue_timeout", 2)
def too_long_in_the_queue(place):
    a, b = place.pair(b=limits("egress", "queue", queue={"time": 20}))
    place.send(a, *frames(b.mac, a.mac, 3))


@cause("b.tx.disabled", 2)
def in_the_queue_of_a_disabled_port(place):
    a, b = place.pair(b=limits("egress", "queue", queue={"time": 10_000}))
    place.send(a, *frames(b.mac, a.mac, 3))
    place.set("b", enabled=False)


@cause("b.tx.not_connected", 2)
def in_the_queue_of_one_who_goes(place):
    a, b = place.pair(b=limits("egress", "queue", queue={"time": 10_000}))
    place.send(a, *frames(b.mac, a.mac, 3))
    b.disconnect()


@cause("a.rx.storm", 3)
def a_storm(place):
    a, _ = place.pair(a={"storm": {"broadcast": 1}})
    place.send(a, *frames(BROADCAST, a.mac, 64 + 3))


# ---- rules ----


@cause("a.rx.vlan", 2)
def another_vlan(place):
    a = place.guest("a", 1, access(10))
    place.send(a, *[BROADCAST + a.mac + tags(20) + bytes(60)] * 2)


@cause("a.rx.guard", 2)
def anothers_address(place):
    a, b = place.pair(a={"guard": "mac", "mac": STATION.hex(":")})
    place.send(a, *frames(b.mac, STRANGER, 2), *frames(b.mac, STATION, 1))


@cause("a.rx.bad_source", 2)
def no_source(place):
    a, b = place.pair()
    place.send(a, *frames(b.mac, GROUP, 1), *frames(b.mac, bytes(6), 1))


@cause("a.rx.isolated", 2)
def both_isolated(place):
    a, b = place.pair(a={"isolated": True}, b={"isolated": True})
    place.send(a, *frames(b.mac, a.mac, 1), *frames(BROADCAST, a.mac, 1))


@cause("a.rx.flood_off", 2)
def not_flooded(place):
    a, _ = place.pair(b={"flood": {"unknown": False}})
    place.send(a, *frames(STRANGER, a.mac, 2))


@cause("a.rx.blackhole", 2)
def a_blackhole(place):
    a, _ = place.pair()
    place.known(STRANGER, blackhole=True)
    place.stack.callback(place.daemon.rpc, "fdb.remove", mac=STRANGER.hex(":"))
    place.send(a, *frames(STRANGER, a.mac, 2))


@cause("a.rx.link_local", 3)
def to_a_port_that_wants_none(place):
    a, _ = place.pair(a={"link_local": True})
    place.send(a, *frames(LLDP, a.mac, 3))


@cause("a.rx.link_local", 2)
def to_the_next_bridge(place):
    a, _ = place.pair()
    place.send(a, *frames(LLDP, a.mac, 2))


@cause("a.rx.hairpin", 2)
def behind_the_same_port(place):
    a, _ = place.pair()
    place.known(STATION, port="a")
    place.send(a, *frames(STATION, a.mac, 2))


# ---- what no driver would do ----


@cause("a.rx.malformed", 2)
def less_than_an_offload_header(place):
    a, b = place.pair()
    at = a.memory.alloc(64)
    for length in 1, a.header_size - 1:
        a.rings[1].put([(at, length, 0)])
    place.send(a, *frames(b.mac, a.mac, 1))


@cause("a.rx.bad_offload", 2)
def a_checksum_nowhere(place):
    a, b = place.pair()
    place.send(a, *[transport(b, a, payload(100))] * 2, vnet=PARTIAL._replace(csum_start=9999))


# ---- the tests ----


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: f"{cause.reason}-{cause.make.__name__}")
def test_counted(place, cause):
    cause.make(place)
    wait_until(lambda: place.dropped()[cause.port].get(cause.reason, 0) >= cause.count, 5, "it is counted")
    wait_stable(place.dropped, 5, "the counters rest")
    wanted = {name: {} for name in place.names} | {cause.port: {cause.reason: cause.count}}
    for output, counted in drops_everywhere(place.daemon, *place.names).items():
        assert counted == wanted, output


def reasons():
    """What the switch has names for."""
    return re.findall(r'ROW\([A-Z_]+, "([a-z_]+)"', (ROOT / "lib/frame/drop.h").read_text())


def test_none_is_missing():
    assert {cause.reason.split(".")[1] for cause in CAUSES} == set(reasons())
