# SPDX-License-Identifier: BSD-3-Clause
"""What real drivers and VMMs do with their rings: the shapes of many operating systems' drivers, any
set of features, one driver after another, VMMs that pause and resume, masked interrupts, silence."""
import collections
import contextlib
import os
import pathlib
import pwd
import random
import select
import struct
import subprocess
import sys
import threading

import pytest

from frontend import (F, GSO_TCPV4, GUEST_OFFLOADS, HOST_OFFLOADS, LINUX, NEEDS_CSUM, NO_OFFLOAD, PLAIN,
                      Guest, Msg, Vhost, ethernet, until)
from harness import Daemon, RpcError, Workdir, assert_ledgers, vhost_port, wait_stable
from test_protocol import (PARTIAL, Drops, carry, checksum, frame_of, payload, plug, plugged, switch, teach,
                           transport, tso)

assert plug and switch  # fixtures
pytestmark = pytest.mark.over()  # each driver says itself what it asks for

ANY_LAYOUT = F(1 << 27)
LEGACY = F.PROTOCOL_FEATURES
OFFLOADS = HOST_OFFLOADS | GUEST_OFFLOADS

# A driver: its features, the lengths of a receive chain, how many of them it posts, the lengths of the
# first pieces of what it transmits (without ANY_LAYOUT or VERSION_1 its header must be one) and of all
# that follow, whether it uses indirect tables, and whether it ever asks for an interrupt.
Driver = collections.namedtuple("Driver", "features shape posted cuts piece indirect interrupts")


def driver(features, shape, posted=64, cuts=(), piece=4096, indirect=False, interrupts=True):
    return Driver(features, shape, posted, cuts, piece, indirect, interrupts)


DRIVERS = {
    "Linux": driver(LINUX | ANY_LAYOUT, (1536,), 256, (), indirect=True),
    "Linux, legacy": driver(LINUX & ~F.VERSION_1, (4096,), 256, (12,), indirect=True),
    "Linux, legacy, not mergeable": driver(LEGACY | OFFLOADS, (10, 4080, *(4096,) * 16), 14, (10,)),
    "iPXE": driver(PLAIN, (12, 1530), 8, (12,), interrupts=False),
    "iPXE, legacy": driver(LEGACY, (10, 1530), 8, (10,), interrupts=False),
    "UEFI": driver(PLAIN, (12, 1514), 64, (12,), interrupts=False),
    "UEFI, legacy": driver(LEGACY, (10, 1514), 64, (10,), interrupts=False),
    "U-Boot": driver(PLAIN, (1526,), 32, (), interrupts=False),
    "NetBSD": driver(LEGACY | F.EVENT_IDX, (10, 2048), 64, (10, 60), 2048),
    "OpenBSD": driver(PLAIN | F.MRG_RXBUF | F.CSUM, (2048,), 64, (12,), 2048),
    "FreeBSD": driver(LINUX, (2048,), 128, (12, 66), 2048, indirect=True),
    "FreeBSD, not mergeable": driver(LINUX & ~F.MRG_RXBUF, (12, *(2048,) * 33), 7, (12, 66), 2048),
    "Windows": driver(LINUX, (12, 4084), 64, (12, 54), 4096, indirect=True),
    "DPDK": driver(PLAIN | F.MRG_RXBUF | HOST_OFFLOADS, (2176,), 256, (), 2176),
    "a header in pieces": driver(PLAIN | HOST_OFFLOADS, (5, 4, 3, 9, 9000), 16, (1, 2, 9, 7)),
}


class Driven:
    """A guest that does as a driver does."""

    def __init__(self, plug, number, kind):
        self.kind = kind
        self.guest = plug(number, features=kind.features, buffers=kind.shape, posted=kind.posted)
        self.quiet(self.guest.rings)

    def quiet(self, rings):
        for ring in rings:
            until(ring.interrupts, 2, "the interrupt of the attaching")
            ring.ask_interrupt(self.kind.interrupts)

    def send(self, frame, vnet=NO_OFFLOAD):
        left = len(frame) + self.guest.header_size - sum(self.kind.cuts)
        cuts = self.kind.cuts + (self.kind.piece,) * max(0, (left - 1) // self.kind.piece)
        self.guest.send(frame, vnet=vnet, cuts=cuts, indirect=self.kind.indirect)


def understood(guest, got):
    """A frame that a driver got is one that it negotiated to understand."""
    vnet, features = got.vnet, guest.features
    if vnet == NO_OFFLOAD:
        return
    assert features & F.GUEST_CSUM and vnet.flags == NEEDS_CSUM
    if vnet.gso_type:
        assert features & (F.GUEST_TSO4 if vnet.gso_type & 0x7F == GSO_TCPV4 else F.GUEST_TSO6)
        assert features & F.GUEST_ECN or not vnet.gso_type & 0x80


def stream(guest, count, version=4):
    """`count` bytes of TCP payload, in whatever frames they arrive; complete where they must be."""
    header = 54 if version == 4 else 74
    data = b""
    while len(data) < count:
        got = guest.receive()
        understood(guest, got)
        assert sum(got.lengths) == len(got.data) + guest.header_size, "used length"
        assert got.vnet.gso_type or len(got.data) <= header + 1448
        if got.vnet == NO_OFFLOAD:
            ip = got.data[14:]
            pseudo, body = (ip[12:20], ip[20:]) if version == 4 else (ip[8:40], ip[40:])
            assert checksum(pseudo + struct.pack("!II", len(body), 6) + body) == 0xFFFF
        data += got.data[header:]
    return data


# Drivers

@pytest.mark.over("order")
@pytest.mark.parametrize("kind", DRIVERS.values(), ids=DRIVERS.keys())
def test_drivers(switch, plug, kind):
    """Frames of all sizes between a driver and Linux; large ones in the shapes of both."""
    one, linux = Driven(plug, 1, kind), plug(2)
    guest = one.guest
    teach(switch, guest, linux)
    for size in 14, 60, 61, 128, 129, 590, 1513, 1514:
        frame = frame_of(size, guest, linux)
        one.send(frame)
        assert linux.receive().data == frame
        got = carry(linux, guest, frame_of(size, linux, guest))
        assert got.vnet == NO_OFFLOAD and got.buffers == len(got.lengths)
        assert sum(got.lengths) == size + guest.header_size
    data = payload(65000)
    if guest.features & F.HOST_TSO4:
        one.send(transport(linux, guest, data), tso())
        assert stream(linux, len(data)) == data
    room = 65000 if guest.features & F.GUEST_TSO4 else min(1448 * kind.posted, 65000)
    for count in 1000, room:
        linux.send(transport(guest, linux, data[:count]), vnet=tso() if count > 1448 else PARTIAL)
        assert stream(guest, count) == data[:count]
    guest.flush()  # which checks that the used lengths of transmit rings are 0
    if not kind.interrupts:
        assert [ring.interrupts() for ring in guest.rings] == [0, 0]
    elif guest.features & F.EVENT_IDX:
        one.quiet([])


def test_a_guest_without_event_descriptors(plug):
    """Neither kicks nor interrupts, which the protocol allows to a VMM that polls."""
    a, b = plug(1), plug(2)
    for index in range(2):
        a.link.eventfd(Msg.SET_VRING_KICK, index, None)
        a.link.eventfd(Msg.SET_VRING_CALL, index, None)
    a.link.sync()
    for n in range(50):
        carry(a, b, frame_of(60 + n, a, b), kick=False)
        carry(b, a, frame_of(60 + n, b, a))


@pytest.mark.parametrize("mergeable", [True, False])
@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_tiny_rings(switch, plug, size, mergeable):
    """A ring may have one entry, and a driver may fill a part of it."""
    features = PLAIN | (F.MRG_RXBUF if mergeable else F(0))
    b = plug(2)
    for posted in {1, size}:
        a = plug(1, features=features, buffers=(2048,), size=size, posted=posted)
        teach(switch, a, b)
        for n in range(20):
            carry(a, b, frame_of(60 + n, a, b))
            carry(b, a, frame_of(60 + n, b, a))
        watch = Drops(switch, a)
        a.refill = False
        for n in range(posted + 3):
            b.send(frame_of(60, b, a))
        b.flush()
        assert len(a.drain()) == posted and watch.since() == {"tx.ring_full": 3}
        a.disconnect()
        switch.wait_port(a.name, "down")


def test_a_ring_that_is_never_full(switch, plug):
    """One buffer at a time in a large ring, around its end more than once."""
    a, b = plug(1, size=64, posted=1), plug(2)
    teach(switch, a, b)
    for n in range(200):
        carry(b, a, frame_of(60, b, a, n))


# One driver after another

def restart(guest, features, posted, shape):
    """A driver on rings that were stopped: they and the buffers are new ones, the connection stays."""
    for ring in guest.rings:
        ring.reset()
        ring.tables.clear()
    guest.memory.cursor = guest.arena + (8 << 20)  # all that was allocated behind it
    guest.features = F(features)
    guest.shape, guest.posted = shape, posted
    guest.header_size = 12 if guest.features & (F.VERSION_1 | F.MRG_RXBUF) else 10
    guest.link.send(Msg.SET_FEATURES, struct.pack("=Q", guest.features))
    for index in range(len(guest.rings)):
        for _ in guest.start_ring(index):
            pass
    for index in range(len(guest.rings) if guest.features & F.PROTOCOL_FEATURES else 0):
        guest.link.vring(Msg.SET_VRING_ENABLE, index, 1)
    guest.link.sync()
    guest.post(posted)


def exchange(guest, linux):
    """A frame each way, and a large segment each way where there are large segments."""
    carry(guest, linux)
    assert carry(linux, guest).vnet == NO_OFFLOAD
    data = payload(5000)
    for version, feature in (4, F.HOST_TSO4), (6, F.HOST_TSO6):
        if guest.features & F.CSUM and guest.features & feature:
            got = carry(guest, linux, transport(linux, guest, data, version), vnet=tso(version))
            assert got.vnet == tso(version)
        linux.send(transport(guest, linux, data, version), vnet=tso(version))
        assert stream(guest, len(data), version) == data


def test_any_set_of_features(switch, plug):
    """Also sets that no driver should choose, such as segments without checksums. Each gets what it can
    take; what it cannot take is completed or cut for it."""
    guest, linux = plug(1, posted=0), plug(2)
    teach(switch, guest, linux)
    choice = random.Random(1)
    # Without a log nothing is written for one who wants it logged; packed rings are another layout.
    offered = guest.offered & ~F.LOG_ALL & ~F.RING_PACKED
    bits = [F(1 << n) for n in range(64) if offered >> n & 1]
    for _ in range(100):
        features = F(0)
        for bit in choice.sample(bits, choice.randrange(len(bits) + 1)):
            features |= bit
        shape = (2048,) if features & F.MRG_RXBUF else (66000,)
        for index in 0, 1:
            guest.stop_ring(index)
        restart(guest, features, 32, shape)
        exchange(guest, linux)


@pytest.mark.parametrize("stale", [7, 200, 0xFFFF])
def test_an_operating_system_after_firmware(switch, plug, stale):
    """The VMM may tell of a ring before its driver has cleared it: what counts is what is there when the
    ring is used. What the firmware left in it is no work, and the first frame of the system arrives."""
    guest, linux = plug(1, features=PLAIN, buffers=(12, 1530), posted=8), plug(2)
    teach(switch, guest, linux)
    exchange(guest, linux)
    link = guest.link
    for index, ring in enumerate(guest.rings):
        guest.stop_ring(index)
        ring.memory.store16(ring.used + 2, stale)
        ring.memory.store16(ring.avail + 2, stale + 100 & 0xFFFF)
    guest.features, guest.shape = LINUX & guest.offered, (2048,)
    link.send(Msg.SET_FEATURES, struct.pack("=Q", guest.features))
    for index, ring in enumerate(guest.rings):
        link.vring(Msg.SET_VRING_NUM, index, ring.size)
        link.vring(Msg.SET_VRING_BASE, index, 0)
        link.vring_addr(index, *guest.addresses(index))
    link.sync()
    for index, ring in enumerate(guest.rings):
        ring.reset()
        ring.event_idx = True
        link.eventfd(Msg.SET_VRING_CALL, index, ring.call)
        link.eventfd(Msg.SET_VRING_KICK, index, ring.kick)
    link.sync()
    guest.post(64)
    for _ in range(300):
        carry(guest, linux)
        carry(linux, guest)
    assert all(ring["malformed_chains"] == 0 for ring in switch.port(guest.name)["rings"])


@pytest.mark.parametrize("stopped", [4, 2], ids=["all stopped", "two stopped"])
def test_a_driver_of_one_queue_after_one_of_two(switch, plug, stopped):
    """Without MQ the library frees all rings but the first two, inside SET_FEATURES, without a word."""
    two = plug(1, features=LINUX | F.MQ, queues=2)
    linux = plug(2)
    rings = two.rings
    for _ in range(3):
        teach(switch, two, linux)
        for queue in 0, 1:
            carry(two, linux, queue=queue)
        for index in range(stopped):
            two.stop_ring(index)
        two.rings, two.queues = rings[:2], 1
        restart(two, LINUX & two.offered, 32, (2048,))
        states = [ring["state"] for ring in switch.port(two.name)["rings"]]
        assert states == ["attached", "attached", "detached", "detached"][:len(states)]
        for _ in range(20):
            carry(two, linux)
            carry(linux, two)
        for index in 0, 1:
            two.stop_ring(index)
        two.rings, two.queues = rings, 2
        restart(two, (LINUX | F.MQ) & two.offered, 32, (2048,))
        two.post(32, queue=1)


# VMMs

def pause(guest, order):
    """As Cloud Hypervisor does: all rings are disabled, then each is asked where it stands."""
    for index in order:
        guest.link.vring(Msg.SET_VRING_ENABLE, index, 0)
    return {index: guest.stop_ring(index) for index in order}


def resume(guest, bases):
    for index, base in bases.items():
        for _ in guest.start_ring(index, lambda _, base=base: base):
            pass
    for index in bases:
        guest.link.vring(Msg.SET_VRING_ENABLE, index, 1)
    guest.link.sync()


@pytest.mark.parametrize("queues", [1, 2])
def test_a_guest_is_paused_and_resumed(switch, plug, queues):
    """Nothing is lost or comes twice, and what it puts into a stopped ring waits there."""
    guest = plug(1, features=LINUX | (F.MQ if queues == 2 else F(0)), queues=queues)
    linux = plug(2)
    teach(switch, guest, linux)
    rings = range(2 * queues)
    for order in rings, [*rings][::-1]:
        for _ in range(3):
            for n in range(50):
                guest.send(ethernet(linux.mac, guest.mac, struct.pack("!I", n).ljust(46)))
            guest.flush()
            bases = pause(guest, order)
            assert bases == {index: guest.rings[index].used_idx() for index in order}
            guest.send(ethernet(linux.mac, guest.mac, struct.pack("!I", 50).ljust(46)))
            resume(guest, bases)
            got = [struct.unpack_from("!I", linux.receive().data, 14)[0] for _ in range(51)]
            assert got == [*range(51)]
            for queue in range(queues):
                carry(guest, linux, queue=queue)
            carry(linux, guest)


class Masked:
    """Interrupts that the guest masks and unmasks, as MSI-X ones with QEMU: a masked ring's call goes to
    another descriptor, which is looked at when it is unmasked."""

    def __init__(self, guest, index):
        self.guest, self.index = guest, index
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def toggle(self, masked):
        fd = self.fd if masked else self.guest.rings[self.index].call
        self.guest.link.eventfd(Msg.SET_VRING_CALL, self.index, fd)
        if not masked:
            self.guest.link.sync()
            with contextlib.suppress(BlockingIOError):
                os.eventfd_write(self.guest.rings[self.index].call, os.eventfd_read(self.fd))


@pytest.mark.over("layout", "events")
def test_interrupts_are_masked_and_unmasked(switch, plug):
    """A driver that sleeps until it is interrupted misses nothing, nor is anything dropped."""
    guest, linux = plug(1), plug(2)
    teach(switch, guest, linux)
    masked = [Masked(guest, index) for index in (0, 1)]
    ring, got, ended = guest.rings[0], [], threading.Event()
    watch = Drops(switch, guest)

    def sleep_and_take():
        while not ended.is_set():
            ring.ask_interrupt(True)
            if not ring.used_waiting():
                select.select([ring.call], [], [])
            ring.interrupts()
            ring.ask_interrupt(False)
            got.extend(struct.unpack_from("!I", frame.data, 14)[0] for frame in guest.drain())

    driver = threading.Thread(target=sleep_and_take)
    driver.start()
    try:
        sent = 0
        for _ in range(100):
            for n in range(40):
                linux.send(ethernet(guest.mac, linux.mac, struct.pack("!I", sent).ljust(46)))
                sent += 1
                if n % 10 == 9:
                    masked[n // 10 % 2].toggle(n < 20)
            linux.flush()
            until(lambda: len(got) == sent, 3, "the driver was interrupted for all of it")
        assert got == [*range(sent)] and watch.since() == {}
    finally:
        ended.set()
        os.eventfd_write(ring.call, 1)
        driver.join()
        for one in masked:
            os.close(one.fd)


def test_a_vmm_is_silent_at_any_point(switch, plug):
    """Between any two messages of its handshake it says nothing for a while. Others do not notice."""
    a, b = plug(2), plug(3)
    teach(switch, a, b)
    slow = Guest(str(switch.directory / "vm1.sock"), 1, features=LINUX | F.MQ, queues=2)
    slow.name = "vm1"
    with slow.connect():
        for step in slow.steps():
            for _ in range(3):
                carry(a, b)
                carry(b, a)
            if "ENABLE" not in step:
                assert not any(ring["state"] == "attached" for ring in switch.port("vm1")["rings"]), step
        switch.wait_port("vm1", "up")
        slow.post(10)
        carry(slow, a)
    switch.wait_port("vm1", "down")


def test_a_full_ring_is_tried_again(switch, plug):
    """With a retry a receiver with few buffers has time to give new ones; without, it has none."""
    a, b = plug(1), plug(2, posted=4)
    teach(switch, a, b)
    frames = [frame_of(60, a, b, n) for n in range(8)]

    def burst():
        """Eight frames at once. Returns how many of them were dropped, and what was counted."""
        before, watch = switch.counters("vm2"), Drops(switch, b)
        for frame in frames:
            a.send(frame, publish=False)
        a.rings[1].publish()
        for _ in range(4):
            b.receive()
        a.flush()
        dropped = watch.since()
        assert set(dropped) <= {"tx.ring_full"}
        assert len(b.drain()) == 4 - dropped.get("tx.ring_full", 0)
        return dropped, switch.counters("vm2")["tx_retries"] - before["tx_retries"]

    assert burst() == ({"tx.ring_full": 4}, 0)
    assert switch.rpc("port.set", name="vm2", retry=1000)["reopened"] is False
    try:
        assert switch.port("vm2")["retry"] == 1000
        # How fast this guest is depends on the machine: once in a while it is fast enough.
        for _ in range(200):
            dropped, retries = burst()
            assert retries > 0
            if not dropped:
                break
        assert not dropped
    finally:
        switch.rpc("port.set", name="vm2", retry=None)
    assert burst() == ({"tx.ring_full": 4}, 0)
    with pytest.raises(RpcError, match="retry"):
        switch.rpc("port.set", name="vm2", retry=1001)


def test_a_guest_falls_silent(switch, plug):
    """It takes no frames, and none of its transmitted buffers back. Others go on, and so does it."""
    a, b, c = (plug(n) for n in (1, 2, 3))
    teach(switch, a, b, c)
    watch = Drops(switch, c)
    for n in range(c.posted + 50):
        a.send(frame_of(60, a, c, n))
    while len(c.rings[1].free) > 1:
        c.send(frame_of(60, c, a), publish=False, at=c.arena)
    c.rings[1].publish()
    a.flush()
    for n in range(50):
        carry(a, b, frame_of(60, a, b, n))
    assert watch.since() == {"tx.ring_full": 50}
    assert len(c.drain()) == c.posted
    c.flush()
    a.drain()
    for n in range(50):
        carry(c, a, frame_of(60, c, a, n))
        carry(a, c, frame_of(60, a, c, n))


KNOCK = """
import errno, socket, sys
last = None
while last != errno.EACCES:
    with socket.socket(socket.AF_UNIX) as link:
        now = link.connect_ex(sys.argv[1])
    if now != last:
        print(errno.errorcode.get(now, "connected"), flush=True)
    last = now
"""


def test_a_vmm_of_another_user_is_never_turned_away():
    """Some VMMs give up where they may not connect; a socket that is there may be used by its group."""
    with plain_switch() as daemon:
        daemon.directory.chmod(0o711)
        socket = daemon.directory / "vm1.sock"
        nobody = pwd.getpwnam("nobody")
        port = vhost_port(daemon.directory, "vm1", permissions={"mode": "0660", "group": "nogroup"})
        with subprocess.Popen([sys.executable, "-c", KNOCK, socket], stdout=subprocess.PIPE, text=True,
                              user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[]) as vmm:
            try:
                assert vmm.stdout.readline() == "ENOENT\n"
                for _ in range(20):
                    daemon.rpc("port.add", **port)
                    assert vmm.stdout.readline() == "connected\n"
                    daemon.rpc("port.remove", name="vm1")
                    while (said := vmm.stdout.readline()) != "ENOENT\n":
                        assert said in ("ECONNREFUSED\n", "connected\n")
            finally:
                vmm.kill()


# What else a guest may meet

def tagged(frame, tags):
    return frame[:12] + struct.pack("!HH", 0x8100, 5) * tags + frame[12:]


@pytest.mark.parametrize("shape", [(12, 4000), (12, 14, 4000), (30, 20, 4000)])
def test_tags_do_not_count_as_mtu(shape):
    """Two of them, wherever they lie in the buffers; a third one is payload."""
    with plain_switch({"mtu": 1500}, {"mtu": 1500}) as daemon:
        with plugged(daemon, 1) as a, plugged(daemon, 2, features=PLAIN, buffers=shape, posted=32) as b:
            teach(daemon, a, b)
            for tags in range(4):
                longest = 1514 + 4 * min(tags, 2)
                watch = Drops(daemon, b)
                carry(a, b, tagged(frame_of(longest - 4 * tags, a, b), tags))
                a.send(tagged(frame_of(longest - 4 * tags + 1, a, b), tags))
                carry(a, b)
                assert watch.since() == {"tx.mtu": 1}


@pytest.mark.parametrize("version", [4, 6])
def test_a_guest_that_forwards(version):
    """A router or firewall that passes on what it receives, and forgets what the header said. With the
    offloads of its port off, all that reaches it is complete and of ordinary size."""
    with contextlib.ExitStack() as stack:
        daemon = stack.enter_context(plain_switch({}, {"offloads": {"checksum": False, "tso": False,
                                                                    "ufo": False, "ecn": False}}, {}))
        client, router, server = (stack.enter_context(plugged(daemon, n)) for n in (1, 2, 3))
        assert not router.features & OFFLOADS
        teach(daemon, client, router, server)
        data = payload(60000)
        client.send(transport(router, client, data, version), vnet=tso(version))
        for _ in range(-(-len(data) // 1448)):
            got = router.receive()
            router.send(server.mac + router.mac + got.data[12:])
        assert stream(server, len(data), version) == data


@contextlib.contextmanager
def plain_switch(*settings):
    """A switch with ports vm1, vm2 and so on, each with more of its settings."""
    with Workdir() as directory:
        ports = [vhost_port(directory, f"vm{n}", **more) for n, more in enumerate(settings, 1)]
        with Daemon(directory, ports, idle="adaptive") as daemon:
            yield daemon
            assert_ledgers(daemon)


# What docs/virtio.md says

def documented(title, column):
    """{number: what the column says} of the table under the title."""
    text = (pathlib.Path(__file__).resolve().parents[2] / "docs/virtio.md").read_text()
    section = text.split(f"\n## {title}\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.split("\n") if "|" in line]
    at = rows[0].index(column)
    return {int(row[0]): row[at] for row in rows if row[0].isdigit()}


def test_the_offer_is_as_documented():
    with plain_switch({}, {"mtu": 1500}) as daemon:
        for port, mtu in ("vm1", False), ("vm2", True):
            with Vhost(str(daemon.directory / f"{port}.sock")) as link:
                for title, offer in (("Device features", link.get(Msg.GET_FEATURES)),
                                     ("Protocol features", link.get(Msg.GET_PROTOCOL_FEATURES))):
                    rows = documented(title, "offered")
                    assert set(rows.values()) <= {"yes", "no", "with `mtu`"} and len(rows) >= 20
                    wanted = {bit for bit, said in rows.items() if said == "yes" or mtu and said != "no"}
                    assert {bit for bit in range(64) if offer >> bit & 1} == wanted


def test_messages_that_are_not_taken(switch, plug):
    """Each is refused, some by hanging up. The next connection is as good as new."""
    rows = documented("Messages from the VMM", "taken")
    assert [*rows] == [*range(1, 45)] and set(rows.values()) == {"yes", "no"}
    linux = plug(2)
    for number in (number for number, taken in rows.items() if taken == "no"):
        with plugged(switch, 1) as guest:
            try:
                assert guest.link.send(number, bytes(8), need_reply=True) != 0, f"message {number}"
            except ConnectionResetError:
                continue
            carry(guest, linux)
            carry(linux, guest)
        switch.wait_port("vm1", "down")


@pytest.mark.parametrize("message", [Msg.SET_LOG_FD, Msg.SET_VRING_ERR, 21])
def test_descriptors_that_nobody_needs(switch, plug, message):
    """They are taken, and at most the last is kept."""
    def files():
        return len(os.listdir(f"/proc/{switch.pid}/fd"))

    linux = plug(2)
    with plugged(switch, 1) as guest:
        carry(guest, linux)
        before = wait_stable(files, 10, "the number of open files")
        for _ in range(20):
            fd = guest.rings[0].call
            assert guest.link.send(message, struct.pack("=Q", 0), fds=[fd], need_reply=True) == 0
        assert files() <= before + 1
        carry(guest, linux)
    until(lambda: files() < before, 5, "the descriptors of the connection are closed")


def test_the_device_status(switch, plug):
    guest, linux = plug(1), plug(2)
    for status in 1, 3, 11, 15:
        assert guest.link.send(Msg.SET_STATUS, struct.pack("=Q", status), need_reply=True) == 0
        assert guest.link.get(Msg.GET_STATUS) == status
        carry(guest, linux)
