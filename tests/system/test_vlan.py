# SPDX-License-Identifier: BSD-3-Clause
"""VLANs and the other rules of who gets what: frames of the test's own making over TAP and AF_PACKET
ports, and guests with VLAN interfaces. Each exchange compares all that came out at all ports, and all
that was dropped, with what must have."""
import contextlib
import threading
import time

import pytest

from harness import (Daemon, Namespace, RpcError, Workdir, assert_ledgers, drops, ledger_faults,
                     qemu_guests, vhost_port, wait_stable, wait_until)
from test_af_packet import BROADCAST, Wire, packet_port, test_frame
from test_tap import OFF, tap_port

TAPS, PACKETS = "abcde", "fg"
PORTS = TAPS + PACKETS
KEYS = ("vlan", "isolated", "learning", "flood", "storm", "max_addresses", "link_local", "mac")
GROUP = b"\x01\x00\x5e\x00\x00\x01"
PROBE = b"\x02\x00\x00\x00\x0b\x00"
LLDP, PAUSE = (b"\x01\x80\xc2\x00\x00" + bytes([n]) for n in (0x0e, 0x01))


def station(number):
    return b"\x02\x00\x00\x00\x0a" + bytes([number])


def tags(*words):
    """Tags of VLANs, or of whole words: tags(10, 0xa000), and "88a8:20" for one of that type."""
    text = b""
    for word in words:
        kind, value = word.split(":") if isinstance(word, str) else ("8100", word)
        text += bytes.fromhex(kind) + int(value).to_bytes(2, "big")
    return text


def access(vlan):
    return {"vlan": {"access": vlan}}


def trunk(*vlans, **more):
    return {"vlan": {"trunk": "all" if vlans == ("all",) else list(vlans), **more}}


class Board:
    """A switch whose ports a to g each have a wire; their rules are set anew by each test."""

    def __init__(self, stack):
        directory = stack.enter_context(Workdir())
        self.home, self.host = (stack.enter_context(Namespace()) for _ in range(2))
        for place in self.home, self.host:
            for which in "all", "default":
                place.run("sysctl", "-qw", f"net.ipv6.conf.{which}.disable_ipv6=1")
        for name in PACKETS:
            self.home.run("ip", "link", "add", f"p{name}", "mtu", 1600, "type", "veth", "peer", "name",
                          f"rw{name}", "mtu", 1600)
            self.home.run("ip", "link", "set", f"p{name}", "up")
        ports = [tap_port(name, mtu=1600) for name in TAPS] + [packet_port(name) for name in PACKETS]
        ports.append(tap_port("probe", **access(3999)))
        self.daemon = stack.enter_context(Daemon(directory, ports, netns=self.home.name))
        self.wires = {}
        for name in (*PORTS, "probe"):
            self.home.run("ip", "link", "set", f"rw{name}", "netns", self.host.name)
            self.host.run("ip", "link", "set", f"rw{name}", "up", "mtu", 1600)
            self.wires[name] = stack.enter_context(Wire(self.host, f"rw{name}"))
        for name in PORTS:
            self.daemon.wait_port(name, "up")
        self.daemon.rpc("fdb.add", mac=PROBE.hex(":"), port="probe")
        self.probes = 0

    def set(self, **rules):
        """These rules and no others; ports without any are each alone in a VLAN. Nothing is known any
        more."""
        for entry in self.daemon.rpc("fdb.list"):
            if entry["static"] and entry["port"] != "probe":
                with contextlib.suppress(RpcError):  # a port's own
                    self.daemon.rpc("fdb.remove", mac=entry["mac"], vlan=entry["vlan"])
        for name in PORTS:
            self.daemon.rpc("port.set", name=name, **dict.fromkeys(KEYS))
        for number, name in enumerate(PORTS):
            self.daemon.rpc("port.set", name=name, **rules.get(name, access(4000 + number)))
        self.wait_seen()
        self.daemon.rpc("fdb.flush")

    def change(self, name, **rules):
        """Sets these rules of one port besides those that it has; a worker goes by them."""
        answer = self.daemon.rpc("port.set", name=name, **rules)
        self.wait_seen()
        return answer

    def wait_seen(self):
        """A worker may be in a round that began before the last change. It takes at most one of two frames
        that come one behind the other in that round. What it learned is in the table behind that."""
        for _ in range(2):
            self.probes += 1
            source = b"\x02\x00\x00\x0b" + self.probes.to_bytes(2, "big")
            before = self.daemon.counters("probe")["rx_packets"]
            self.wires["probe"].send(test_frame(source, PROBE))  # does not leave its port
            wait_until(lambda: self.daemon.counters("probe")["rx_packets"] > before, 5, "it is taken")
        wait_until(lambda: source.hex(":") in [entry["mac"] for entry in self.daemon.rpc("fdb.list")], 5,
                   "it is learned")

    def rows(self):
        return {port["name"]: port for port in self.daemon.rpc("stats.get")["ports"]}

    def exchange(self, *frames):
        """Sends (port, frame) one after the other. Returns the frames that came out, by port, and how many
        were dropped, by port and reason; ports with nothing to say are left out."""
        before = self.rows()
        for name, frame in frames:
            self.wires[name].send(frame)
        return self.collect(before, len(frames))

    def collect(self, before, count):
        """What came of so many frames that were sent since those rows."""
        def grown(name, key, rows):
            return rows[name][key] - before[name][key]

        def settled():
            rows = self.rows()
            staged = sum(grown(n, key, rows) for n in PORTS for key in ("rx_forwarded", "rx_copies"))
            if sum(grown(n, "rx_packets", rows) for n in PORTS) == count and \
                    sum(grown(n, "tx_offered", rows) for n in PORTS) == staged and \
                    not list(ledger_faults(rows.values())):
                return rows
            return None
        after = wait_until(settled, 10, "all frames are through")
        received = {n: [self.receive(n) for _ in range(grown(n, "tx_packets", after))] for n in PORTS}
        lost = {}
        for name in PORTS:
            old = drops(before[name])
            for reason, count in drops(after[name]).items():
                if count > old.get(reason, 0):
                    lost[f"{name}.{reason}"] = count - old.get(reason, 0)
        return {name: got for name, got in received.items() if got}, lost

    def receive(self, name):
        """The next frame on that wire, as it was before the kernel took its tag out."""
        _, frame, tag = self.wires[name].receive()
        return frame[:12] + (tag or b"") + frame[12:]

    def check(self, source, frame, wanted, lost=None):
        """One frame: who must get which, and where it must be dropped."""
        got, drops_now = self.exchange((source, frame))
        assert got == {name: [one] for name, one in wanted.items()}
        assert drops_now == (lost or {})

    def learn(self, name, number, vlan=0, tag=b""):
        """The station is heard behind the port, again and again, as one that was forgotten just now is not
        learned at once."""
        def heard():
            self.exchange((name, test_frame(station(number), BROADCAST, tags=tag)))
            return self.known(number, vlan) == name
        wait_until(heard, 5, "the address is learned")

    def known(self, number, vlan=0):
        """The port where the table says that it is."""
        for entry in self.daemon.rpc("fdb.list"):
            if (entry["mac"], entry["vlan"]) == (station(number).hex(":"), vlan):
                return entry["port"]
        return None


@pytest.fixture(scope="module")
def shared():
    with contextlib.ExitStack() as stack:
        yield Board(stack)


@pytest.fixture
def board(shared):
    yield shared
    assert_ledgers(shared.daemon)


# ---- tags ----

# a and b are in VLAN 10, c is in 20; d is a trunk of 10 and 20 with 20 as its native one; e of all,
# with none; f of 10, which is tagged all the same; g has no VLANs, like its neighbour of the last test.
MODES = {"a": access(10), "b": access(10), "c": access(20), "d": trunk(10, native=20), "e": trunk("all"),
         "f": trunk("10", native=10, native_tagged=True), "g": {}}
NONE, T10, T20 = b"", tags(10), tags(20)
PRIORITY = 0xa000

CROSSINGS = [
    # without a tag
    ("a", NONE, {"b": NONE, "d": T10, "e": T10, "f": T10}),
    ("c", NONE, {"d": NONE, "e": T20}),
    ("d", NONE, {"c": NONE, "e": T20}),
    ("e", NONE, "vlan"),
    ("f", NONE, {"a": NONE, "b": NONE, "d": T10, "e": T10}),
    # with one
    ("a", T10, "vlan"),
    ("a", T20, "vlan"),
    ("d", T10, {"a": NONE, "b": NONE, "e": T10, "f": T10}),
    ("d", T20, {"c": NONE, "e": T20}),
    ("d", tags(30), "vlan"),
    ("e", T10, {"a": NONE, "b": NONE, "d": T10, "f": T10}),
    ("e", T20, {"c": NONE, "d": NONE}),
    ("e", tags(30), "no_destination"),
    ("e", tags(4095), "vlan"),
    ("f", T10, {"a": NONE, "b": NONE, "d": T10, "e": T10}),
    ("f", T20, "vlan"),
    # priorities stay where a tag does
    ("e", tags(PRIORITY | 10), {"a": NONE, "b": NONE, "d": tags(PRIORITY | 10), "f": tags(PRIORITY | 10)}),
    ("a", tags(PRIORITY), {"b": NONE, "d": tags(PRIORITY | 10), "e": tags(PRIORITY | 10),
                           "f": tags(PRIORITY | 10)}),
    ("d", tags(PRIORITY), {"c": NONE, "e": tags(PRIORITY | 20)}),
    ("e", tags(PRIORITY), "vlan"),
    ("a", tags(0), {"b": NONE, "d": T10, "e": T10, "f": T10}),
    # two of them: the second is payload, and never counts
    ("e", tags(20, 10), {"c": T10, "d": tags(20, 10)}),
    ("d", tags(20, 10), {"c": T10, "e": tags(20, 10)}),
    ("f", tags(10, 20), {"a": T20, "b": T20, "d": tags(10, 20), "e": tags(10, 20)}),
    ("a", tags(10, 20), "vlan"),
    ("a", tags(0, 20), "vlan"),
    ("a", tags(PRIORITY, 10), "vlan"),
    ("d", tags(0, 10), "vlan"),
    # other types are payload
    ("a", tags("88a8:20"), {"b": tags("88a8:20"), "d": tags(10, "88a8:20"), "e": tags(10, "88a8:20"),
                            "f": tags(10, "88a8:20")}),
    ("d", tags("88a8:10"), {"c": tags("88a8:10"), "e": tags(20, "88a8:10")}),
    ("e", tags(10, "88a8:20"), {"a": tags("88a8:20"), "b": tags("88a8:20"), "d": tags(10, "88a8:20"),
                                "f": tags(10, "88a8:20")}),
    # without VLANs there is nobody to meet
    ("g", NONE, "no_destination"),
    ("g", T10, "no_destination"),
]


def test_modes(board):
    board.set(**MODES)
    for source, tag, outcome in CROSSINGS:
        for to in BROADCAST, station(99):
            for length in 60, 300, 1514:
                wanted, lost = outcome, {}
                if isinstance(outcome, str):
                    wanted, lost = {}, {f"{source}.rx.{outcome}": 1}
                board.check(source, test_frame(station(1), to, length, tag),
                            {name: test_frame(station(1), to, length, after)
                             for name, after in wanted.items()}, lost)


def test_short_frames(board):
    """Half a tag is none. (What is shorter than the last ones here the receiver's kernel would not take.)"""
    board.set(**MODES)
    whole = test_frame(station(1), BROADCAST, 16, T10)
    for length in 14, 16, 17:
        for name in "ae":
            board.check(name, whole[:length], {}, {f"{name}.rx.too_short": 1})
    bare = test_frame(station(1), BROADCAST, 16)
    board.check("e", whole, {"a": bare, "b": bare, "d": whole, "f": whole})
    board.check("a", bare, {"b": bare, "d": whole, "e": whole, "f": whole})


def test_without_vlans_tags_are_payload(board):
    board.set(a={}, g={}, b=access(10), e=trunk("all"))
    for tag in NONE, T10, tags(0), tags(4095), tags(10, 20), tags("88a8:10"):
        frame = test_frame(station(1), BROADCAST, 100, tag)
        board.check("a", frame, {"g": frame})
        board.check("g", frame, {"a": frame})


def test_each_vlan_has_addresses_of_its_own(board):
    board.set(a=access(10), b=access(10), c=access(20), d=access(20), e=trunk("all"))
    rpc = board.daemon.rpc
    board.learn("a", 1, 10)
    board.learn("c", 1, 20)
    for vlan, name, source in (10, "a", "b"), (20, "c", "d"):
        board.check(source, test_frame(station(2), station(1)), {name: test_frame(station(2), station(1))})
        board.check("e", test_frame(station(3), station(1), tags=tags(vlan)),
                    {name: test_frame(station(3), station(1))})
    wait_until(lambda: [board.known(3, vlan) for vlan in (10, 20)] == ["e", "e"], 5, "learned")
    listed = rpc("fdb.list", vlan=10)
    assert {(entry["mac"], entry["port"]) for entry in listed} == \
        {(station(n).hex(":"), name) for n, name in ((1, "a"), (2, "b"), (3, "e"))}
    # A page at a time.
    page = rpc("fdb.list", after=station(1).hex(":"), after_vlan=10, limit=2)
    assert [(entry["mac"], entry["vlan"]) for entry in page] == \
        [(station(1).hex(":"), 20), (station(2).hex(":"), 10)]
    # Static ones, and what goes.
    rpc("fdb.add", mac=station(4).hex(":"), port="b")
    rpc("fdb.add", mac=station(4).hex(":"), port="e", vlan=20)
    rpc("fdb.add", mac=station(4).hex(":"), blackhole=True, vlan=30)
    assert [board.known(4, vlan) for vlan in (10, 20, 30)] == ["b", "e", None]
    board.check("d", test_frame(station(2), station(4)), {"e": test_frame(station(2), station(4), tags=T20)})
    board.check("e", test_frame(station(3), station(4), tags=tags(30)), {}, {"e.rx.blackhole": 1})
    board.check("a", test_frame(station(1), station(4)), {"b": test_frame(station(1), station(4))})
    with pytest.raises(RpcError, match="not in VLAN 20"):
        rpc("fdb.add", mac=station(5).hex(":"), port="a", vlan=20)
    with pytest.raises(RpcError, match="port e is not in VLAN 20"):
        rpc("port.set", name="e", vlan={"trunk": [10]})
    rpc("fdb.remove", mac=station(4).hex(":"), vlan=20)
    assert rpc("fdb.flush", vlan=20)["removed"] > 0
    assert board.known(1, 20) is None and board.known(1, 10) == "a"
    rpc("fdb.remove", mac=station(1).hex(":"))
    assert board.known(1, 10) is None
    rpc("fdb.remove", mac=station(4).hex(":"))
    assert station(4).hex(":") not in [entry["mac"] for entry in rpc("fdb.list")]


def test_own_address_of_a_trunk(board):
    """It is the trunk's in all its VLANs: nobody else is believed, also who was there before."""
    board.set(a=access(10), b=access(10), e=trunk("all"))
    board.learn("a", 7, 10)
    board.change("e", mac=station(7).hex(":"))
    assert board.known(7, 10) is None
    frame = test_frame(station(7), BROADCAST)
    board.exchange(*[("a", frame)] * 3)
    wait_until(lambda: board.daemon.port("a")["addresses"]["learned"] == 0, 1, "nothing is learned")
    time.sleep(0.1)
    assert board.known(7, 10) is None
    board.learn("e", 7, 10, T10)
    board.check("b", test_frame(station(2), station(7)), {"e": test_frame(station(2), station(7), tags=T10)})


# ---- changes while it runs ----


def test_no_frame_leaks_after_a_change(board):
    """b leaves VLAN 10 under traffic, is known there, and comes back. Once the worker goes by that nothing
    reaches it."""
    board.set(a=access(10), b=access(10), c=access(10), d=access(20))
    for to in BROADCAST, station(2):
        board.learn("b", 2, 10)
        stop, sent, before = threading.Event(), [0], board.rows()

        def send():
            while not stop.is_set():
                mark = sent[0].to_bytes(4, "big")
                board.wires["a"].send(to + station(1) + b"\x88\xb5" + mark + bytes(42))
                sent[0] += 1
                time.sleep(0.0002)
        sender = threading.Thread(target=send)
        sender.start()
        try:
            wait_until(lambda: board.rows()["b"]["tx_packets"] > before["b"]["tx_packets"] + 50, 5,
                       "they come")
            board.change("b", vlan={"access": 20})
            last = sent[0]
            wait_until(lambda: sent[0] > last + 100, 5, "frames are sent")
        finally:
            stop.set()
            sender.join()
        got, _ = board.collect(before, sent[0])
        marks = [int.from_bytes(frame[14:18], "big") for frame in got["b"]]
        assert len(marks) > 40 and marks == sorted(marks)
        assert max(marks) < last
        # It is not known there any more, and hears its new VLAN.
        assert board.known(2, 10) is None
        board.check("d", test_frame(station(4), BROADCAST), {"b": test_frame(station(4), BROADCAST)})
        board.check("b", test_frame(station(2), BROADCAST), {"d": test_frame(station(2), BROADCAST)})
        board.change("b", vlan={"access": 10})


def test_from_one_kind_to_another(board):
    board.set(a=access(10), b=access(10))
    frame, tagged = (test_frame(station(1), BROADCAST, tags=tag) for tag in (NONE, T10))
    board.check("a", frame, {"b": frame})
    with pytest.raises(RpcError, match="contradicts"):
        board.change("b", vlan={"trunk": "all"})
    assert board.change("b", vlan={"access": None, "trunk": "all"})["reopened"] is False
    board.check("a", frame, {"b": tagged})
    board.change("b", vlan={"native": 10})
    board.check("a", frame, {"b": frame})
    board.change("b", vlan={"native_tagged": True})
    board.check("a", frame, {"b": tagged})
    board.change("b", vlan={"trunk": ["9", "11-4094"], "native": 9})
    board.check("a", frame, {}, {"a.rx.no_destination": 1})
    board.change("b", vlan=None)
    board.check("a", frame, {}, {"a.rx.no_destination": 1})
    board.change("a", vlan=None)
    board.check("a", tagged, {"b": tagged})


# ---- who gets what ----


def test_isolated(board):
    board.set(a={"isolated": True}, b={"isolated": True}, c={}, f={"isolated": True})
    for name, number in ("a", 1), ("b", 2), ("c", 3):
        board.learn(name, number)
    flooded = test_frame(station(1), BROADCAST)
    board.check("a", flooded, {"c": flooded})
    board.check("a", test_frame(station(1), station(2)), {}, {"a.rx.isolated": 1})
    board.check("a", test_frame(station(1), station(3)), {"c": test_frame(station(1), station(3))})
    board.check("c", test_frame(station(3), station(2)), {"b": test_frame(station(3), station(2))})
    flooded = test_frame(station(3), BROADCAST)
    board.check("c", flooded, {"a": flooded, "b": flooded, "f": flooded})
    board.change("c", isolated=True)
    board.check("a", test_frame(station(1), BROADCAST), {}, {"a.rx.isolated": 1})
    board.change("b", isolated=None)
    board.check("a", test_frame(station(1), station(2)), {"b": test_frame(station(1), station(2))})


def test_flood_switches(board):
    board.set(a={}, b={"flood": {"unknown": False}}, c={"flood": {"broadcast": False}},
              f={"flood": {"multicast": False}})
    for to, names in (station(99), "cf"), (BROADCAST, "bf"), (GROUP, "bc"):
        frame = test_frame(station(1), to)
        board.check("a", frame, dict.fromkeys(names, frame))
    # What it is known for comes in any case.
    board.learn("b", 2)
    board.check("a", test_frame(station(1), station(2)), {"b": test_frame(station(1), station(2))})
    # With nobody left the reason says why.
    board.set(a={}, b={"flood": {"unknown": False, "broadcast": False, "multicast": False}})
    for to in station(99), BROADCAST, GROUP:
        board.check("a", test_frame(station(1), to), {}, {"a.rx.flood_off": 1})


@pytest.mark.parametrize("kind, to", [("broadcast", BROADCAST), ("multicast", GROUP),
                                      ("unknown", station(99))], ids=lambda value: str(value)[:9])
def test_storm(board, kind, to):
    """The receiver gets a burst and then the rate; the rest is counted to the frame."""
    board.set(a={"storm": {kind: 500}}, b={})
    frame = test_frame(station(1), to)
    begun = time.monotonic()
    got, lost = board.exchange(*[("a", frame)] * 400)
    seconds = time.monotonic() - begun
    passed = len(got["b"])
    assert 64 <= passed <= 64 + 500 * seconds + 1
    assert lost == {"a.rx.storm": 400 - passed}
    # Other classes, and what has its destination, go on; and so it does without the limit.
    board.learn("b", 2)
    other = test_frame(station(1), GROUP if to == BROADCAST else BROADCAST)
    for free in other, test_frame(station(1), station(2)):
        got, lost = board.exchange(*[("a", free)] * 200)
        assert got == {"b": [free] * 200} and not lost
    board.change("a", storm=None)
    got, lost = board.exchange(*[("a", frame)] * 200)
    assert got == {"b": [frame] * 200} and not lost


def test_link_local(board):
    board.set(a={"link_local": True}, b={"link_local": True}, c={}, f={"link_local": True})
    for last in range(16):
        frame = test_frame(station(1), LLDP[:5] + bytes([last]))
        passes = last != PAUSE[5]
        board.check("a", frame, dict.fromkeys("bf", frame) if passes else {},
                    {} if passes else {"a.rx.link_local": 1})
    board.check("c", test_frame(station(3), LLDP), {}, {"c.rx.link_local": 1})
    for name in "bf":
        board.change(name, link_local=False)
    board.check("a", test_frame(station(1), LLDP), {}, {"a.rx.link_local": 1})
    # In VLANs only to those of the same one.
    board.set(a={"link_local": True, **access(10)}, b={"link_local": True, **access(20)},
              e={"link_local": True, **trunk("all", native=10)})
    board.check("a", test_frame(station(1), LLDP), {"e": test_frame(station(1), LLDP)})


def test_max_addresses(board):
    board.set(a={"max_addresses": 3}, b={})
    for number in 1, 2, 3:
        board.learn("a", number)
    board.exchange(("a", test_frame(station(4), BROADCAST)))
    wait_until(lambda: board.daemon.port("a")["addresses"]["refused"] > 0, 5, "one is refused")
    assert board.daemon.port("a")["addresses"]["learned"] == 3
    assert board.known(4) is None
    # It is flooded, and nothing is lost.
    frame = test_frame(station(9), station(4))
    board.check("b", frame, {"a": frame})
    # One that goes elsewhere makes room.
    board.learn("b", 1)
    board.learn("a", 4)
    board.change("a", max_addresses=None)
    board.learn("a", 5)
    assert board.daemon.port("a")["addresses"]["learned"] == 4


def test_learning_off(board):
    board.set(a={"learning": False}, b={}, c={})
    board.exchange(("a", test_frame(station(1), BROADCAST)), ("b", test_frame(station(2), BROADCAST)))
    wait_until(lambda: board.known(2) == "b", 5, "the other one is learned")
    assert board.known(1) is None
    frame = test_frame(station(2), station(1))
    board.check("b", frame, {"a": frame, "c": frame})
    board.daemon.rpc("fdb.add", mac=station(1).hex(":"), port="a")
    board.check("b", frame, {"a": frame})
    board.daemon.rpc("fdb.remove", mac=station(1).hex(":"))
    board.change("a", learning=True)
    board.learn("a", 1)


# ---- guests ----

SIZES = 0, 56, 1472, 4000, 20000


def add_vlan(guest, vlan, address):
    """A VLAN interface of the guest's kernel, in the place of eth0's own address."""
    guest.check("for module in $(cat /modules/vlan); do insmod /modules/$module.ko; done")
    guest.check("ip address flush dev eth0")
    guest.check(f"ip link add link eth0 name eth0.{vlan} type vlan id {vlan}")
    guest.check(f"ip address add {address} dev eth0.{vlan} && ip link set eth0.{vlan} up")


def test_guests():
    """One behind an access port, one with a VLAN interface behind a trunk, with its offloads and without:
    pings of all sizes and TCP both ways. A third one is in another VLAN and hears nothing of it."""
    with Workdir() as directory:
        ports = [vhost_port(directory, "a", **access(10)), vhost_port(directory, "b", **trunk("10-20")),
                 vhost_port(directory, "c", **access(20))]
        with Daemon(directory, ports) as daemon, \
                qemu_guests(directory, "a", "b", "c", packed=["b"]) as guests:
            first, second, third = guests
            add_vlan(second, 10, "10.9.0.2/24")
            before = wait_stable(lambda: daemon.counters("c")["tx_packets"], 5, "the third one is quiet")
            for offloads in {}, OFF:
                daemon.rpc("port.set", name="b", offloads=offloads)
                if offloads:
                    second.reboot()
                    add_vlan(second, 10, "10.9.0.2/24")
                for size in SIZES:
                    for guest, to in (first, "10.9.0.2"), (second, "10.9.0.1"):
                        guest.check(f"ping -q -c 2 -i 0.01 -W 2 -s {size} {to}")
                cut = daemon.counters("b")["tx_cut"]
                assert first.iperf("10.9.0.2", 1) > 5e6
                assert second.iperf("10.9.0.1", 1) > 5e6
                rows = {name: daemon.counters(name) for name in "ab"}
                assert (rows["b"]["tx_cut"] > cut) == bool(offloads)
                assert rows["a"]["rx_segments"] > rows["a"]["rx_packets"]
                for row in rows.values():
                    assert set(drops(row)) <= {"rx.no_destination", "rx.vlan", "tx.ring_full",
                                               "tx.not_connected"}, drops(row)
            assert third.run("ping -q -c 1 -W 1 10.9.0.1")[0] != 0
            # Its own requests reach the trunk, and nothing else reached it.
            assert daemon.counters("c")["tx_packets"] == before
            assert_ledgers(daemon)
