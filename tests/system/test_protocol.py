# SPDX-License-Identifier: BSD-3-Clause
"""Frames through the switch: what scripted guests send is what scripted guests receive, byte for byte,
in every shape that the virtio specification allows, and nothing that a guest cannot understand."""
import collections
import contextlib
import itertools
import os
import random
import struct
import time

import pytest

from frontend import (BROADCAST, DATA_VALID, F, GSO_ECN, GSO_TCPV4, GSO_TCPV6, GSO_UDP, GUEST_OFFLOADS,
                      HOST_OFFLOADS, LINUX, NEEDS_CSUM, NO_OFFLOAD, PAGE, PLAIN, DirtyLog, Guest, Memory, Msg,
                      Region, Vnet, ethernet, until)
from harness import Daemon, Workdir, assert_ledgers, drops, vhost_port, wait_until

NAMES = ["vm1", "vm2", "vm3"]
SIZES = [*range(14, 20), 42, 59, 60, 64, *range(126, 131), *range(254, 259), 1500, 1514, 1518, 2034,
         2035, 2036, 2037, 2048, 4000, 4096, 8999, 9000]

# What a guest may negotiate, with receive buffers to match, and its header's size in a split ring.
GUESTS = {
    "linux": (LINUX, (2048,), 12),
    "flags": (LINUX & ~F.EVENT_IDX, (2048,), 12),
    "unmergeable": (LINUX & ~F.MRG_RXBUF, (12, 9100), 12),
    "plain": (PLAIN, (9100,), 12),
    "legacy": (LINUX & ~F.VERSION_1 & ~F.MRG_RXBUF, (10, 9100), 10),
    "legacy-mergeable": (LINUX & ~F.VERSION_1, (2048,), 12),
    "nothing": (F(0), (9100,), 10),
}


@pytest.fixture(scope="module")
def switch():
    with Workdir() as directory:
        ports = [vhost_port(directory, name, queues=2) for name in NAMES]
        with Daemon(directory, ports, idle="adaptive") as daemon:
            yield daemon
            assert daemon.stop() == 0


@pytest.fixture
def plug(switch, rings):
    """A function that connects a guest to port vmN, with rings as the matrix says; afterwards the
    books must balance."""
    guests = []

    def connect(number, features=LINUX, **options):
        guests.append(plugged(switch, number, features=rings.features(features), **options))
        assert guests[-1].features == guests[-1].wanted, "the switch does not offer all of it"
        return guests[-1]

    yield connect
    for guest in guests:
        guest.close()
    for guest in guests:
        switch.wait_port(guest.name, "down")
    assert_ledgers(switch)


@pytest.fixture
def pair(plug):
    return plug(1), plug(2)


def plugged(switch, number, **options):
    guest = Guest(str(switch.directory / f"vm{number}.sock"), number, **options)
    guest.name = f"vm{number}"
    try:
        guest.up()
        switch.wait_port(guest.name, "up")
    except BaseException:
        guest.close()
        raise
    return guest


class Drops:
    """What a port has dropped since this was made: {"rx.reason": n}."""

    def __init__(self, switch, guest):
        self.now = lambda: collections.Counter(drops(switch.counters(guest.name)))
        self.before = self.now()

    def since(self):
        return dict(self.now() - self.before)


def payload(size, seed=0):
    return random.Random(size * 1000 + seed).randbytes(size)


def frame_of(size, source, to, seed=0):
    return ethernet(to.mac, source.mac, payload(size - 14, seed))


def carry(source, to, frame=None, expect=None, **how):
    """Send one frame, a default one without `frame`, and return how it arrived: as it is, or as `expect`."""
    frame = frame or frame_of(100, source, to)
    source.send(frame, **how)
    got = to.receive()
    assert got.data == (expect or frame)
    return got


def refuse(switch, source, to, reason, frame, **how):
    """Send one frame that the switch must drop for the reason, and see that the next one passes."""
    watch = Drops(switch, source)
    source.send(frame, **how)
    source.flush()
    carry(source, to)
    assert watch.since() == {f"rx.{reason}": 1}


def teach(switch, *guests):
    """Let the switch learn where the guests are, so that nothing is flooded afterwards."""
    for guest in guests:
        guest.send(ethernet(BROADCAST, guest.mac, bytes(46)))
    wait_until(lambda: {g.mac.hex(":") for g in guests} <= table(switch).keys(), 5, "addresses learned")
    for guest in guests:
        guest.flush()  # each returned buffer's frame has been delivered
    for guest in guests:
        guest.drain()


def table(switch):
    return {row["mac"]: row["port"] for row in switch.rpc("fdb.list")}


def checksum(data):
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def transport(to, source, data, version=4, protocol=6, complete=False, port=1000):
    """A TCP or UDP frame; without `complete` its checksum field holds the pseudo header's sum only."""
    header = {6: struct.pack("!HHIIBBHHH", port, 2000, 1, 1, 0x50, 0x10, 512, 0, 0),
              17: struct.pack("!HHHH", port, 2000, 8 + len(data) & 0xFFFF, 0)}[protocol]
    length = len(header) + len(data)
    if version == 4:
        addresses = bytes([192, 0, 2, source.mac[5], 192, 0, 2, to.mac[5]])
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 1, 0x4000, 64, protocol, 0) + addresses
        ip = ip[:10] + struct.pack("!H", checksum(ip) ^ 0xFFFF) + ip[12:]
    else:
        addresses = b"".join(bytes([0x20, 1, 13, 184]) + bytes(11) + g.mac[5:] for g in (source, to))
        ip = struct.pack("!IHBB", 0x60000000, length, protocol, 64) + addresses
    total = checksum(addresses + struct.pack("!II", length, protocol))
    at = {6: 16, 17: 6}[protocol]
    if complete:
        total = checksum(struct.pack("!H", total) + header + data) ^ 0xFFFF
    header = header[:at] + struct.pack("!H", total) + header[at + 2:]
    return ethernet(to.mac, source.mac, ip + header + data, 0x800 if version == 4 else 0x86DD)


def tso(version=4, size=1448, ecn=0, **fields):
    start = 34 if version == 4 else 54
    vnet = Vnet(NEEDS_CSUM, {4: GSO_TCPV4, 6: GSO_TCPV6}[version] | ecn, start + 20, size, start, 16)
    return vnet._replace(**fields)


PARTIAL = Vnet(NEEDS_CSUM, 0, 0, 0, 34, 16)


# Ordinary traffic

@pytest.mark.over("layout", "order")
@pytest.mark.parametrize("receiver", GUESTS)
@pytest.mark.parametrize("sender", ["linux", "legacy"])
def test_sizes_both_ways(plug, rings, sender, receiver):
    guests = []
    for number, kind in (1, sender), (2, receiver):
        features, buffers, header = GUESTS[kind]
        guests.append(plug(number, features=features, buffers=buffers))
        assert guests[-1].header_size == (header if rings.layout == "split" else 12)
    for size in SIZES:
        for source, to in guests, guests[::-1]:
            got = carry(source, to, frame_of(size, source, to))
            assert got.vnet == NO_OFFLOAD
            assert sum(got.lengths) == size + to.header_size
            if to.features & F.MRG_RXBUF:
                assert got.buffers == len(got.lengths) == -(-(size + 12) // 2048)
                assert all(length == 2048 for length in got.lengths[:-1])
            else:
                assert len(got.lengths) == 1 and got.buffers == 1


def test_many_frames_keep_their_order(pair):
    a, b = pair
    for start in range(0, 5000, 100):
        for number in range(start, start + 100):
            a.send(ethernet(b.mac, a.mac, struct.pack("!I", number) + bytes(42)), publish=False)
        a.rings[1].publish()
        for number in range(start, start + 100):
            assert struct.unpack_from("!I", b.receive().data, 14)[0] == number


SIZES_OF_RINGS = {"split": (1, 2, 4, 16, 1024, 4096, 32768),
                  "packed": (1, 2, 3, 5, 16, 100, 1024, 4097, 32767, 32768)}


def test_ring_sizes(switch, plug, rings):
    """From the smallest to the largest, and over the place where their counters begin again."""
    b = plug(2)
    for size in SIZES_OF_RINGS[rings.layout]:
        frames = min(3 * size, 300)
        start = 65536 - frames // 2
        a = plug(1, size=size, buffers=(2048,), posted=min(max(size // 2, 1), 200), start=start)
        for n in range(frames):
            carry(a, b, frame_of(60 + n % 1000, a, b))
            carry(b, a, frame_of(60 + n % 1000, b, a))
        a.flush()
        for index, ring in enumerate(a.rings):
            assert a.stop_ring(index) == ring.base() == ring.base_after(start + frames)
        a.disconnect()
        switch.wait_port(a.name, "down")


@pytest.mark.over("layout", "order", "tables", "events")
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("size", [3000, 65000, 65495])
def test_large_segments_pass_whole(switch, pair, version, size):
    a, b = pair
    size -= 20 if version == 6 and size == 65495 else 0
    frame = transport(b, a, payload(size), version)
    before = switch.counters("vm1"), switch.counters("vm2")
    got = carry(a, b, frame, vnet=tso(version), cuts=(12, 66) + (4096,) * 15)
    assert got.vnet == tso(version)
    assert got.buffers == len(got.lengths) == -(-(len(frame) + 12) // 2048)
    after = switch.counters("vm1"), switch.counters("vm2")
    for way, old, new in zip(("rx", "tx"), before, after):
        delta = [new[f"{way}_{unit}"] - old[f"{way}_{unit}"] for unit in ("packets", "bytes", "segments")]
        assert delta == [1, len(frame), -(-size // 1448)]


def test_large_segments_into_unmergeable_chains(plug):
    a, b = plug(1), plug(2, features=LINUX & ~F.MRG_RXBUF, buffers=(12, *(4096,) * 17), posted=8)
    for size in 60, 1500, 4096 - 54, 4097 - 54, 20000, 65495:
        frame = transport(b, a, payload(size))
        got = carry(a, b, frame, vnet=tso() if size > 1448 else PARTIAL)
        assert got.buffers == 1 and got.lengths == [b.header_size + len(frame)]


@pytest.mark.over("layout")
@pytest.mark.parametrize("given", [0, 14, 128, 9999])
def test_header_length_is_computed(pair, given):
    a, b = pair
    assert carry(a, b, transport(b, a, payload(5000)), vnet=tso(hdr_len=given)).vnet == tso()


# Shapes of chains

CUTS = {
    "header alone": (12,),
    "header split": (5, 4, 3),
    "header by bytes": (1,) * 12,
    "ethernet header alone": (12, 14),
    "ethernet header split": (12, 5, 9),
    "header with a part": (20,),
    "sixty bytes": (60,) * 30,
}


@pytest.mark.parametrize("indirect", [False, True])
@pytest.mark.parametrize("cuts", CUTS.values(), ids=CUTS.keys())
def test_transmit_chains(pair, cuts, indirect):
    a, b = pair
    for size in 14, 15, 60, 128, 129, 200, 1514, 9000:
        carry(a, b, frame_of(size, a, b), cuts=cuts, indirect=indirect)


@pytest.mark.over()
def test_legacy_header_split(plug):
    a, b = plug(1, features=F.PROTOCOL_FEATURES), plug(2)
    for cuts in (10,), (3, 7), (10, 14), (11,):
        for size in 14, 128, 1514:
            carry(a, b, frame_of(size, a, b), cuts=cuts)


@pytest.mark.parametrize("indirect", [False, True])
@pytest.mark.parametrize("pieces", [65, 100, 200])
def test_long_transmit_chains(pair, pieces, indirect):
    a, b = pair
    for size in 1514, 9000:
        cuts = (12, *(size // pieces,) * (pieces - 1))
        carry(a, b, frame_of(size, a, b), cuts=cuts, indirect=indirect)


@pytest.mark.over("layout", "order", "tables", "events")
@pytest.mark.parametrize("indirect", [False, True])
@pytest.mark.parametrize("shape", [(12, 2000), (5, 7, 800, 1000), (30,) * 70])
def test_receive_chains(plug, shape, indirect):
    a, b = plug(1), plug(2, posted=0)
    b.refill = False
    for size in 14, 60, 1500, 1514, 5000:
        b.post(3 - len(b.rings[0].chains), shape=shape, indirect=indirect)
        carry(a, b, frame_of(size, a, b))


@pytest.mark.over("layout", "order", "tables", "events")
@pytest.mark.parametrize("size", [64, 200, 500])
def test_frames_span_small_receive_buffers(plug, size):
    a, b = plug(1), plug(2, buffers=(size,), posted=200)
    for length in 14, size - 13, size - 12, size - 11, 2 * size - 12, 2 * size - 11, 3000:
        got = carry(a, b, frame_of(length, a, b))
        assert got.buffers == len(got.lengths) == -(-(length + 12) // size)


def adjacent():
    """Two regions without a gap between them for the guest, far apart for everybody else."""
    return Memory(Region(0x10_0000, 1 << 20), Region(0x20_0000, 1 << 20, uva=0x5000_0000_0000),
                  Region(0x4000_0000, 24 << 20))


def test_buffers_cross_adjacent_regions(plug):
    a, b = plug(1, memory=adjacent()), plug(2, memory=adjacent(), posted=0)
    b.refill = False
    for before in 1, 11, 12, 13, 26, 90, 139, 140, 141, 700:
        b.post(at=0x20_0000 - before, shape=(2048,))
        carry(a, b, frame_of(1514, a, b), at=0x20_0000 - before)


def test_any_order_of_descriptors(plug):
    a, b = plug(1), plug(2, posted=0)
    for ring in a.rings[1], b.rings[0]:
        random.Random(1).shuffle(ring.free)
    b.post(40, shape=(12, 1000, 1000))
    for n in range(400):
        carry(a, b, frame_of(60 + n, a, b), cuts=(12, 20), indirect=n % 3 == 0)


# Receivers without room

def test_no_receive_buffers(switch, plug):
    a, b = plug(1), plug(2, posted=0)
    teach(switch, a, b)
    watch = Drops(switch, b)
    for _ in range(5):
        a.send(frame_of(60, a, b))
    a.flush()
    assert watch.since() == {"tx.ring_full": 5}
    b.post(10)
    carry(a, b)


@pytest.mark.over("layout", "order", "tables", "events")
def test_a_frame_that_does_not_fit_takes_no_buffers(switch, plug):
    a, b = plug(1), plug(2, buffers=(200,), posted=2)
    teach(switch, a, b)
    watch = Drops(switch, b)
    a.send(frame_of(1500, a, b))
    a.flush()
    assert watch.since() == {"tx.ring_full": 1}
    assert b.rings[0].used_waiting() == 0
    for size in 60, 188, 300, 388:
        carry(a, b, frame_of(size, a, b))


def test_a_frame_larger_than_an_unmergeable_buffer(switch, plug):
    a, b = plug(1), plug(2, features=PLAIN, buffers=(1600,))
    teach(switch, a, b)
    watch = Drops(switch, b)
    a.send(frame_of(4000, a, b))
    a.flush()
    assert sum(watch.since().values()) == 1
    carry(a, b, frame_of(1588, a, b))


@pytest.mark.parametrize("size", [0, 1, 13])
def test_frames_without_an_ethernet_header(switch, pair, size):
    a, b = pair
    watch = Drops(switch, a)
    a.send(bytes(size))
    a.flush()
    carry(a, b)
    assert watch.since() in ({"rx.too_short": 1}, {"rx.malformed": 1})


# Notifications

def test_attaching_raises_an_interrupt(plug):
    guest = plug(1)
    for ring in guest.rings:
        until(ring.interrupts, 2, "an interrupt for what may have been lost before the attach")


def test_interrupts_when_asked_and_only_then(switch, pair):
    a, b = pair
    for ring, count in (b.rings[0], "tx_notifications"), (a.rings[1], "rx_notifications"):
        name = b.name if ring is b.rings[0] else a.name
        for _ in range(3):
            ring.ask_interrupt(False)
            carry(a, b)
            carry(b, a)  # the worker is done with the frame before
            ring.interrupts()
            before = switch.counters(name)[count]
            ring.ask_interrupt(False)
            for _ in range(20):
                carry(a, b)
            carry(b, a)
            assert ring.interrupts() == 0, "an interrupt that nobody asked for"
            a.reap()
            ring.ask_interrupt(True)
            carry(a, b)
            assert until(ring.interrupts, 2, "the interrupt asked for") == 1
            wait_until(lambda: switch.counters(name)[count] == before + 1, 2, "the interrupt counted")


def test_one_interrupt_for_a_burst(plug):
    features = LINUX & ~F.EVENT_IDX
    a, b = plug(1, features=features), plug(2, features=features)
    carry(a, b)
    carry(b, a)
    b.rings[0].interrupts()
    for _ in range(32):
        a.send(frame_of(60, a, b), publish=False)
    a.rings[1].publish()
    for _ in range(32):
        b.receive()
    carry(b, a)
    assert 1 <= b.rings[0].interrupts() <= 4


@pytest.mark.over("layout", "events")
def test_a_polling_switch_asks_for_no_kicks(rings):
    features = rings.features(LINUX)
    with Workdir() as directory, Daemon(directory, [vhost_port(directory, name) for name in NAMES[:2]],
                                        idle="busy") as daemon:
        with plugged(daemon, 1, features=features) as a, plugged(daemon, 2, features=features) as b:
            carry(a, b)
            carry(b, a)
            before = [ring.kicks for ring in a.rings + b.rings]
            for _ in range(100):
                carry(a, b)
                carry(b, a)
            assert [ring.kicks for ring in a.rings + b.rings] == before


@pytest.mark.over("layout", "events")
def test_an_idle_switch_wakes_up(pair):
    """However it sleeps: a switch that suppresses kicks looks by itself."""
    a, b = pair
    for idle in 0.01, 0.1, 1:
        for source, to in (a, b), (b, a):
            time.sleep(idle)
            start = time.monotonic()
            carry(source, to)
            assert time.monotonic() - start < 0.2


@pytest.mark.over("layout")
def test_no_wake_up_is_lost(plug):
    """Frames at the moments when the worker falls asleep; kicks only when asked for."""
    a, b = plug(1), plug(2, features=LINUX & ~F.EVENT_IDX)
    pause = random.Random(1)
    for _ in range(300):
        for source, to in (a, b), (b, a):
            time.sleep(pause.random() ** 4 * 0.02)
            carry(source, to)


# Offloads: what a guest says is checked, and only what the other negotiated reaches it. Rings have
# little to do with that, and less with bridging.

@pytest.mark.over("layout")
def test_partial_checksum_passes(pair):
    a, b = pair
    assert carry(a, b, transport(b, a, payload(200)), vnet=PARTIAL).vnet[:1] + PARTIAL[4:] == (1, 34, 16)


@pytest.mark.over("layout")
def test_checksum_beyond_the_first_headers_passes(pair):
    """An inner checksum of a guest's own tunnel is as good as an outer one."""
    a, b = pair
    for start in 90, 126, 127, 128, 200, 1400:
        got = carry(a, b, transport(b, a, payload(1400), 4, 17), vnet=PARTIAL._replace(csum_start=start))
        assert (got.vnet.flags, got.vnet.csum_start, got.vnet.csum_offset) == (NEEDS_CSUM, start, 16)


BAD_OFFLOADS = {
    "checksum starts at the end": (1400, 4, 6, PARTIAL._replace(csum_start=1454)),
    "checksum field over the end": (1400, 4, 6, PARTIAL._replace(csum_start=1437)),
    "checksum field far away": (1400, 4, 6, PARTIAL._replace(csum_start=65535, csum_offset=65535)),
    "checksum starts in the ethernet header": (1400, 4, 6, PARTIAL._replace(csum_start=13)),
    "segments of no size": (5000, 4, 6, tso(size=0)),
    "segments of one byte": (60000, 4, 6, tso(size=1)),
    "segments without a checksum": (5000, 4, 6, tso(flags=0)),
    "segments of an unknown type": (5000, 4, 6, tso(gso_type=2)),
    "segments of another unknown type": (5000, 4, 6, tso(gso_type=0x7F)),
    "version 6 segments of version 4": (5000, 4, 6, tso(gso_type=GSO_TCPV6)),
    "version 4 segments of version 6": (5000, 6, 6, tso(6, gso_type=GSO_TCPV4)),
    "tcp segments of udp": (5000, 4, 17, tso()),
    "tcp checksum at another place": (5000, 4, 6, tso(csum_start=30)),
    "tcp checksum at another offset": (5000, 4, 6, tso(csum_offset=6)),
    "udp fragments not negotiated": (5000, 4, 17, tso(gso_type=GSO_UDP, csum_offset=6)),
}


@pytest.mark.over("layout")
@pytest.mark.parametrize("case", BAD_OFFLOADS.values(), ids=BAD_OFFLOADS.keys())
def test_bad_offloads_are_dropped(switch, pair, case):
    a, b = pair
    size, version, protocol, vnet = case
    refuse(switch, a, b, "bad_offload", transport(b, a, payload(size), version, protocol), vnet=vnet)


@pytest.mark.over("layout")
@pytest.mark.parametrize("version", [4, 6])
def test_segments_whose_headers_are_cut_off(switch, pair, version):
    a, b = pair
    frame = transport(b, a, payload(100), version)
    for length in 14, 20, 34, 40, 54, 60:
        if length < (54 if version == 4 else 74):
            refuse(switch, a, b, "bad_offload", frame[:length], vnet=tso(version))


@pytest.mark.over("layout")
@pytest.mark.parametrize("missing, vnet", [(F.HOST_TSO4, tso()), (F.HOST_TSO6, tso(6)),
                                           (F.HOST_ECN, tso(ecn=GSO_ECN)), (HOST_OFFLOADS, tso()),
                                           (HOST_OFFLOADS, PARTIAL)])
def test_offloads_that_were_not_negotiated(switch, plug, missing, vnet):
    a, b = plug(1, features=LINUX & ~missing), plug(2)
    refuse(switch, a, b, "bad_offload", transport(b, a, payload(5000), 4 + 2 * (missing == F.HOST_TSO6)),
           vnet=vnet)


@pytest.mark.over("layout")
def test_a_single_segment_is_a_plain_frame(pair):
    a, b = pair
    got = carry(a, b, transport(b, a, payload(100)), vnet=tso())
    assert got.vnet.flags == NEEDS_CSUM and got.vnet.csum_start == 34


@pytest.mark.over("layout")
def test_guests_cannot_vouch_for_data(pair):
    a, b = pair
    for flags in DATA_VALID, 4, 0xFE:
        assert carry(a, b, transport(b, a, payload(99), complete=True),
                     vnet=NO_OFFLOAD._replace(flags=flags)).vnet == NO_OFFLOAD


def segments(guest, count):
    """`count` bytes of TCP payload as they arrive, each frame checked to be complete."""
    data = b""
    while len(data) < count:
        got = guest.receive()
        assert got.vnet == NO_OFFLOAD
        ip = got.data[14:]
        header = 20 if ip[0] >> 4 == 4 else 40
        pseudo = ip[12:20] if header == 20 else ip[8:40]
        body = ip[header:]
        assert checksum(pseudo + struct.pack("!II", len(body), 6) + body) == 0xFFFF
        data += body[20:]
    return data


RECEIVERS = {
    "no checksum": (LINUX & ~GUEST_OFFLOADS, PARTIAL, 4, 1000),
    "no checksum, segments": (LINUX & ~GUEST_OFFLOADS, tso(), 4, 5000),
    "no checksum, legacy": (F(0), PARTIAL, 4, 1000),
    "no checksum, though segments": (LINUX & ~F.GUEST_CSUM, tso(), 4, 5000),
    "no version 4": (LINUX & ~F.GUEST_TSO4, tso(), 4, 5000),
    "no version 6": (LINUX & ~F.GUEST_TSO6, tso(6), 6, 5000),
    "no ecn": (LINUX & ~F.GUEST_ECN, tso(ecn=GSO_ECN), 4, 5000),
}


@pytest.mark.over("layout")
@pytest.mark.parametrize("case", RECEIVERS.values(), ids=RECEIVERS.keys())
def test_nothing_reaches_a_guest_that_did_not_negotiate_it(switch, plug, case):
    """The frame is completed or cut for it."""
    features, vnet, version, size = case
    a, b = plug(1), plug(2, features=features)
    teach(switch, a, b)
    data = payload(size)
    a.send(transport(b, a, data, version), vnet=vnet)
    if not b.features & F.GUEST_CSUM:
        assert segments(b, size) == data
    else:
        while data:
            got = b.receive()
            assert got.vnet.gso_type == 0
            header = 54 if version == 4 else 74
            assert data.startswith(got.data[header:]) and len(got.data) <= header + 1448
            data = data[len(got.data) - header:]
    carry(a, b)


def reassemble(guest):
    """A datagram's payload from its fragments (RFC 791, 3.2; RFC 8200, 4.5), each of them checked."""
    datagram, more = b"", True
    while more:
        got = guest.receive()
        ip = got.data[14:]
        assert got.vnet == NO_OFFLOAD and len(ip) <= 1500
        if ip[0] >> 4 == 4:
            assert checksum(ip[:20]) == 0xFFFF and struct.unpack_from("!H", ip, 2)[0] == len(ip)
            at = struct.unpack_from("!H", ip, 6)[0]
            offset, more, body, pseudo = (at & 0x1FFF) * 8, at & 0x2000, ip[20:], ip[12:20]
        else:
            assert ip[6] == 44 and ip[40] == 17 and struct.unpack_from("!H", ip, 4)[0] == len(ip) - 40
            at = struct.unpack_from("!H", ip, 42)[0]
            offset, more, body, pseudo = at & ~7, at & 1, ip[48:], ip[8:40]
        assert offset == len(datagram) and (not more or len(body) % 8 == 0)
        datagram += body
    assert checksum(pseudo + struct.pack("!II", len(datagram), 17) + datagram) == 0xFFFF
    return datagram[8:]


@pytest.mark.over("layout")
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("features", [LINUX, LINUX & ~GUEST_OFFLOADS], ids=["checksums", "nothing"])
def test_large_datagrams(switch, plug, features, version):
    """Whole for one who takes them, in fragments for others."""
    ufo = LINUX | F.HOST_UFO | F.GUEST_UFO
    a, b, c = plug(1, features=ufo), plug(2, features=ufo), plug(3, features=features)
    teach(switch, a, b, c)
    start, size = (34, 1480) if version == 4 else (54, 1448)
    vnet = Vnet(NEEDS_CSUM, GSO_UDP, start + 8, size, start, 6)
    for length in size - 7, size, 5000, 60000:
        data = payload(length)
        assert carry(a, b, transport(b, a, data, version, 17), vnet=vnet).vnet == vnet
        a.send(transport(c, a, data, version, 17), vnet=vnet)
        assert reassemble(c) == data


@pytest.mark.over("layout")
def test_flooding_gives_each_guest_what_it_can_take(switch, plug):
    a, b, c = plug(1), plug(2), plug(3, features=LINUX & ~GUEST_OFFLOADS)
    data = payload(5000)
    frame = transport(b, a, data)
    frame = BROADCAST + frame[6:]
    got = carry(a, b, frame, vnet=tso())
    assert got.vnet == tso()
    assert segments(c, 5000) == data


# Bridging

@pytest.mark.over("layout")
def test_broadcast_and_unknown_addresses_are_flooded(switch, plug):
    guests = [plug(n) for n in (1, 2, 3)]
    for number, source in enumerate(guests):
        before = switch.counters(source.name)
        targets = [BROADCAST, bytes.fromhex("01005e000001"), bytes.fromhex("333300000001"),
                   bytes([0x52, 0x54, 0, 1, 0, number])]
        for to in targets:
            frame = ethernet(to, source.mac, payload(60))
            source.send(frame)
            for guest in guests:
                if guest is not source:
                    assert guest.receive().data == frame
        after = switch.counters(source.name)
        assert after["rx_flooded"] - before["rx_flooded"] == len(targets)
        assert all(guest.drain() == [] for guest in guests)


@pytest.mark.over("layout")
def test_known_addresses_are_not_flooded(switch, plug):
    a, b, c = guests = [plug(n) for n in (1, 2, 3)]
    teach(switch, *guests)
    assert [table(switch)[g.mac.hex(":")] for g in guests] == [g.name for g in guests]
    before = switch.counters(a.name)
    for _ in range(10):
        carry(a, b)
    after = switch.counters(a.name)
    assert after["rx_forwarded"] - before["rx_forwarded"] == 10
    assert after["rx_flooded"] == before["rx_flooded"]
    assert c.drain() == []


@pytest.mark.over("layout")
def test_an_address_moves_with_its_guest(switch, plug):
    a, b, c = guests = [plug(n) for n in (1, 2, 3)]
    teach(switch, *guests)
    moved = switch.rpc("stats.get")["fdb"]["moved"]
    c.send(ethernet(BROADCAST, b.mac, bytes(46)))
    wait_until(lambda: table(switch)[b.mac.hex(":")] == c.name, 5, "the address moved")
    assert switch.rpc("stats.get")["fdb"]["moved"] == moved + 1
    for guest in guests:
        guest.drain()
    frame = frame_of(60, a, b)
    a.send(frame)
    assert c.receive().data == frame
    assert b.drain() == []
    teach(switch, b)
    wait_until(lambda: table(switch)[b.mac.hex(":")] == b.name, 5, "the address moved back")


@pytest.mark.over("layout")
def test_frames_that_no_bridge_forwards(switch, plug):
    a, b, c = guests = [plug(n) for n in (1, 2, 3)]
    teach(switch, *guests)
    for reason, frame in (("link_local", ethernet(bytes.fromhex("0180c2000000"), a.mac, bytes(46))),
                          ("link_local", ethernet(bytes.fromhex("0180c200000e"), a.mac, bytes(46))),
                          ("hairpin", ethernet(a.mac, a.mac, bytes(46))),
                          ("bad_source", ethernet(b.mac, BROADCAST, bytes(46))),
                          ("bad_source", ethernet(b.mac, b"\x53" + a.mac[1:], bytes(46))),
                          ("bad_source", ethernet(b.mac, bytes(6), bytes(46)))):
        refuse(switch, a, b, reason, frame)
    assert c.drain() == []


def test_addresses_age():
    with Workdir() as directory:
        config = {"workers": [{"cpu": max(os.sched_getaffinity(0)), "idle": "adaptive"}],
                  "bridge": {"ageing": 1},
                  "ports": [vhost_port(directory, name) for name in NAMES]}
        with Daemon(directory, config=config) as daemon:
            with plugged(daemon, 1) as a, plugged(daemon, 2) as b, plugged(daemon, 3) as c:
                teach(daemon, a, b, c)
                carry(a, b)
                assert c.drain() == []
                wait_until(lambda: b.mac.hex(":") not in table(daemon), 10, "the address aged out")
                carry(a, b)
                c.receive()
                assert daemon.rpc("stats.get")["fdb"]["aged"] >= 1


# Queues

def flows(source, to, count=64):
    for port, queue in zip(range(count), itertools.cycle(range(source.queues))):
        source.send(transport(to, source, payload(100), port=port, complete=True), queue=queue)


def spread(guest, count):
    """The queue on which each flow arrived; a flow must stay on one."""
    queues = collections.defaultdict(set)
    for _ in range(count):
        got = guest.receive()
        queues[struct.unpack_from("!H", got.data, 34)[0]].add(got.queue)
    assert all(len(used) == 1 for used in queues.values())
    return {used.pop() for used in queues.values()}


def test_flows_spread_over_enabled_queues(switch, plug):
    a, b = (plug(n, features=LINUX | F.MQ, queues=2) for n in (1, 2))
    assert a.max_queues == 2
    teach(switch, a, b)
    for on, expected in (1, {0, 1}), (0, {0}), (1, {0, 1}):
        for index in 2, 3:
            b.link.vring(Msg.SET_VRING_ENABLE, index, on)
        b.link.sync()
        wait_until(lambda: all(ring["state"] == "attached" for ring in switch.port(b.name)["rings"]
                               if ring["index"] < 2), 2, "the first pair stays attached")
        for _ in range(3):
            flows(a, b)
            assert spread(b, 64) == expected


@pytest.mark.over("layout")
def test_one_pair_of_a_port_that_has_two(pair):
    a, b = pair
    flows(a, b)
    assert spread(b, 64) == {0}


def enable(guest, on, *rings):
    for index in rings:
        guest.link.vring(Msg.SET_VRING_ENABLE, index, on)
    guest.link.sync()


def shown(switch, guest, index):
    ring = switch.port(guest.name)["rings"][index]
    return ring["enabled"], ring["state"]


@pytest.mark.over("layout")
def test_a_transmit_ring_that_is_switched_off_is_emptied(switch, plug):
    """Its frames would leave minutes later otherwise. Nobody else notices."""
    a, b = plug(1, features=LINUX | F.MQ, queues=2), plug(2)
    teach(switch, a, b)
    assert shown(switch, a, 3) == (True, "attached")
    watch = Drops(switch, a)
    start = time.monotonic()
    enable(a, 0, 2, 3)
    for number in range(10):
        a.send(frame_of(100, a, b, number), queue=1)
    carry(a, b)
    a.flush()
    assert time.monotonic() - start > 0.1
    assert watch.since() == {"rx.disabled": 10}
    assert b.drain() == [] and shown(switch, a, 3) == (False, "attached")
    assert "switched it off" in switch.port(a.name)["rings"][3]["reason"]
    assert shown(switch, a, 2) == (False, "detached") and shown(switch, a, 1) == (True, "attached")
    # It stays so when it is attached anew, and goes on when it is switched on.
    a.link.eventfd(Msg.SET_VRING_CALL, 3, a.rings[3].call)
    a.link.sync()
    a.send(frame_of(100, a, b, 10), queue=1)
    a.flush()
    assert watch.since() == {"rx.disabled": 11}
    enable(a, 1, 2, 3)
    assert shown(switch, a, 3) == (True, "attached")
    carry(a, b, queue=1)
    assert watch.since() == {"rx.disabled": 11}
    flows(b, a)
    assert spread(a, 64) == {0, 1}


@pytest.mark.over("layout")
def test_rings_that_are_switched_off_to_be_stopped_lose_nothing(switch, plug):
    a, b = plug(1, features=LINUX | F.MQ, queues=2), plug(2)
    teach(switch, a, b)
    for _ in range(20):
        watch = Drops(switch, a)
        start = time.monotonic()
        enable(a, 0, 3)
        for number in range(5):
            a.send(frame_of(100, a, b, number), queue=1)
        base = a.stop_ring(3)
        if time.monotonic() - start < 0.1:
            break
        a.restart_ring(3)
        enable(a, 1, 3)
        a.flush()
        b.drain()
    assert time.monotonic() - start < 0.1, "never fast enough"
    assert base == a.rings[3].base() and watch.since() == {}
    # Started again, but still off: it was not on since, and is left alone.
    a.restart_ring(3)
    while time.monotonic() - start < 0.3:
        carry(b, a)
    assert len(a.rings[3].chains) == 5 and watch.since() == {}
    enable(a, 1, 3)
    for number in range(5):
        assert b.receive().data == frame_of(100, a, b, number)


# The dirty log; test_faults.py looks at each page

def log_all(guest):
    guest.link.send(Msg.SET_FEATURES, struct.pack("=Q", guest.features | F.LOG_ALL))
    guest.link.sync()


def test_the_log_is_switched_on_and_off_under_traffic(switch, plug):
    a, b = plug(1), plug(2)
    teach(switch, a, b)
    for _ in range(10):
        for on in True, False:
            for number in range(50):
                a.send(frame_of(500, a, b, number))
            b.start_log() if on else b.stop_log()
            b.link.sync()
            a.flush()
            b.drain()
            until(lambda: shown(switch, b, 0)[1] == shown(switch, b, 1)[1] == "attached", 2, "attached")
            assert switch.port(b.name)["memory"]["dirty_log"] is on
            b.log.take()
            b.memory.written.clear()
            for size in 60, 1500, 8900:
                carry(a, b, frame_of(size, a, b))
                carry(b, a)
            b.flush()
            logged = b.log.take()
            assert len(b.memory.written) > 3
            assert b.memory.written <= logged if on else logged == set()


BAD_LOGS = {
    "offset": (dict(offset=PAGE), "does not begin where its file does"),
    "a long offset": (dict(offset=(1 << 64) - PAGE), "does not begin where its file does"),
    "longer than its file": (dict(claim=PAGE + 1), "larger than its file"),
    "much longer": (dict(claim=1 << 62), "larger than its file"),
}


@pytest.mark.over("layout")
@pytest.mark.parametrize("case", BAD_LOGS)
def test_logs_that_are_refused(switch, plug, case):
    how, said = BAD_LOGS[case]
    a, b = plug(1), plug(2)
    teach(switch, a, b)
    b.start_log()
    with contextlib.closing(DirtyLog(b.memory, PAGE)) as bad:
        assert b.give_log(bad, need_reply=True, **how) != 0
        b.log.take()
        carry(a, b)
        assert b.log.take(), "the old log is used on"
        b.give_log(bad, **how)
    assert b.link.closed()
    switch.wait_port(b.name, "down")
    assert said in switch.port(b.name)["connection"]["last_disconnect"]["reason"]


@pytest.mark.over("layout")
def test_a_log_that_is_wanted_and_not_there(switch, plug):
    a, b = plug(1), plug(2)
    teach(switch, a, b)
    log_all(b)
    assert "given none" in switch.wait_port(b.name, "down")["reason"]
    b.start_log()
    switch.wait_port(b.name, "up")
    carry(a, b)


@pytest.mark.parametrize("rest", [0, PAGE])
def test_a_log_that_is_truncated(switch, plug, rest):
    """It costs its own port. What stands for the guest's pages lies beyond the rest of the file."""
    a, b, c = plug(1), plug(2, memory=Memory(Region(0x4000_0000, 32 << 20))), plug(3)
    teach(switch, a, b, c)
    b.start_log()
    b.link.sync()
    wait_until(lambda: switch.port(b.name)["state"] == "up", 2, "it is up again")
    carry(a, b)
    os.ftruncate(b.log.region.fd, rest)
    a.send(frame_of(100, a, b))
    assert "memory_fault" in switch.wait_port(b.name, "down")["reason"]
    for _ in range(10):
        carry(a, c)
        carry(c, a)
    b.disconnect()
    switch.wait_port(b.name, "down")
    again = plug(2)
    carry(a, again)
