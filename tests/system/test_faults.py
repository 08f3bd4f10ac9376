# SPDX-License-Identifier: BSD-3-Clause
"""Front-ends and guests that stop half-way, change their minds, lie or attack: each costs its own port
at most. Every test runs beside two bystanders whose traffic must flow afterwards, and ends with
balanced books, a living worker and a daemon that was never restarted behind the test's back."""
import collections
import contextlib
import os
import random
import select
import struct
import threading
import time

import pytest

from frontend import (AVAILABLE, BROADCAST, EVENTS_AT, INDIRECT, LINUX, NEXT, PAGE, USED, WRITE, F, Guest,
                      Memory, Msg, Region, Timeout, Vhost, ethernet, pages, until)
from harness import FULL, Daemon, Workdir, assert_ledgers, drops, vhost_port, wait_until
from matrix import LINUX_RINGS

HALF_HEADER = struct.pack("=I", Msg.SET_FEATURES)
HEADER = struct.pack("=III", Msg.SET_FEATURES, 1, 8)


class Place:
    """A directory with a configuration, and the daemon that runs there now. Guests of ports that are
    plugged there have rings as the matrix says (matrix.py), unless they are told otherwise."""

    def __init__(self, directory):
        self.directory = directory
        self.daemon = None
        self.rings = LINUX_RINGS

    def start(self):
        ports = [vhost_port(self.directory, "vm1", queues=2), vhost_port(self.directory, "vm2"),
                 vhost_port(self.directory, "vm3")]
        self.daemon = Daemon(self.directory, ports, idle="busy")
        return self.daemon

    def socket(self, number):
        return str(self.directory / f"vm{number}.sock")

    def guest(self, number, features=LINUX, rings=None, **options):
        features = (rings or self.rings).features(features)
        guest = Guest(self.socket(number), number, features=features, **options)
        guest.name = f"vm{number}"
        return guest


@pytest.fixture(scope="module")
def place():
    with Workdir() as directory:
        place = Place(directory)
        yield place
        if place.daemon and place.daemon.running():
            assert place.daemon.stop() == 0


@pytest.fixture
def switch(place, rings):
    place.rings = rings
    if place.daemon is None or not place.daemon.running():
        place.start()
    yield place.daemon
    assert place.daemon.running(), "the switch died: " + place.daemon.log()[-300:]


@pytest.fixture
def plug(place, switch):
    """A function that makes a guest for port vmN and, unless told otherwise, brings it up."""
    guests = []

    def connect(number, up=True, **options):
        guests.append(place.guest(number, **options))
        if up:
            guests[-1].up()
            assert guests[-1].features == guests[-1].wanted, "the switch does not offer all of it"
            place.daemon.wait_port(guests[-1].name, "up")
        return guests[-1]

    yield connect
    for guest in guests:
        guest.close()
    if place.daemon.running():
        for guest in guests:
            place.daemon.wait_port(guest.name, "down")
        assert_ledgers(place.daemon)


@pytest.fixture
def bystanders(place, switch, plug):
    """Guests on vm2 and vm3, which has rings as Linux has them; after the test frames must pass
    between them, and the worker work."""
    pair = plug(2), plug(3, rings=LINUX_RINGS)
    yield pair
    if place.daemon.running():
        alive(place.daemon, pair)


def alive(switch, pair):
    teach(switch, *pair)
    for source, to in pair, pair[::-1]:
        until(lambda: reaches(source, to), 5, f"frames for {to.name} find it again")
    before = iterations(switch)
    for source, to in pair, pair[::-1]:
        for _ in range(10):
            carry(source, to)
    wait_until(lambda: all(now > then for now, then in zip(iterations(switch), before)), 2,
               "the workers go on")


def iterations(switch):
    return [worker["iterations"] for worker in switch.rpc("worker.list")]


def reaches(source, to):
    frame = ethernet(to.mac, source.mac, random.randbytes(46))
    source.send(frame)
    with contextlib.suppress(Timeout):
        while to.receive(0.2).data != frame:
            pass
        return True
    return False


def carry(source, to, size=60, **how):
    frame = ethernet(to.mac, source.mac, random.randbytes(size - 14))
    source.send(frame, **how)
    while (got := to.receive()).data != frame:
        assert got.data[6:12] != source.mac, "a frame that was not sent like this"


def exchange(a, b, count=10):
    for _ in range(count):
        carry(a, b)
        carry(b, a)


def poke(b, evil, *sizes):
    """Frames for an attacker, which may send them back as its own: so they come from an address that
    nobody has, for his word would be believed."""
    for size in sizes:
        b.send(ethernet(evil.mac, bytes.fromhex("525400ffffff"), bytes(size - 14)))
    b.flush()


def teach(switch, *guests):
    def learned():
        return {(r["mac"], r["port"]) for r in switch.rpc("fdb.list")} >= {
            (g.mac.hex(":"), g.name) for g in guests}

    def spoken():
        for guest in guests:
            guest.send(ethernet(BROADCAST, guest.mac, bytes(46)))
        with contextlib.suppress(AssertionError):
            wait_until(learned, 0.5, "addresses learned")
        return learned()
    # Once more where an attacker's word with the same address was on its way to the table: a frame
    # says nothing new as long as the table is right.
    wait_until(spoken, 5, "addresses learned")
    for guest in guests:
        guest.flush()  # each returned buffer's frame has been delivered
    for guest in guests:
        guest.drain()


def ring_state(switch, name, index):
    return next((r for r in switch.port(name)["rings"] if r["index"] == index),
                {"state": "detached", "reason": None})


def attached(switch, guest, *indices):
    wait_until(lambda: all(ring_state(switch, guest.name, index)["state"] == "attached"
                           for index in indices), 3, f"rings {indices} of {guest.name} attached")


def reason_of(switch, name):
    """Why a port is down, which an operator must be able to read."""
    port = switch.wait_port(name, "down", 3)
    reasons = [port["reason"]] + [ring["reason"] for ring in port["rings"]]
    return " ".join(filter(None, reasons))


def dropped(switch, name):
    return collections.Counter(drops(switch.counters(name)))


class Pump(threading.Thread):
    """Numbered frames from one guest to another until stop(), 16 in flight, while a test uses the
    connections of both. Only this thread touches their rings meanwhile."""

    def __init__(self, switch, source, to, pair=0):
        super().__init__()
        self.switch, self.source, self.to, self.pair = switch, source, to, pair
        self.sent, self.got, self.ended, self.error = 0, [], threading.Event(), None
        self.names = source.name, to.name
        self.before = [dropped(switch, name) for name in self.names]
        self.start()

    def run(self):
        try:
            while not self.ended.is_set():
                self.source.reap()
                for _ in range(16 - len(self.source.rings[2 * self.pair + 1].chains)):
                    data = struct.pack("!Q", self.sent).ljust(200, b"\x5A")
                    self.source.send(ethernet(self.to.mac, self.source.mac, data), queue=self.pair)
                    self.sent += 1
                self.collect()
                time.sleep(0.0001)
            self.source.flush(5)
            self.collect()
        except BaseException as error:
            self.error = error

    def collect(self):
        for got in self.to.drain():
            if got.data[6:12] == self.source.mac:
                assert got.data[22:] == b"\x5A" * 192
                self.got.append(struct.unpack_from("!Q", got.data, 14)[0])

    def flows(self, count=50):
        """Wait until that many more frames have arrived."""
        goal = len(self.got) + count
        until(lambda: self.error or len(self.got) >= goal, 5, "traffic flows")
        self.raise_error()

    def raise_error(self):
        if self.error:
            raise self.error

    def stop(self):
        """Returns how many frames were lost. Each must have been counted as dropped; none may come
        twice or out of order."""
        self.ended.set()
        self.join(20)
        self.raise_error()
        assert self.got == sorted(set(self.got)), "frames doubled or out of order"
        lost = self.sent - len(self.got)
        counted = sum(sum((dropped(self.switch, name) - before).values())
                      for name, before in zip(self.names, self.before))
        assert lost == counted, f"{lost} frames lost, {counted} counted"
        return lost


@pytest.fixture
def pump(switch):
    pumps = []

    def start(*how, **options):
        pumps.append(Pump(switch, *how, **options))
        return pumps[-1]

    yield start
    for pump in pumps:
        pump.ended.set()
        pump.join(20)


# Rings that stop and start

@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_every_stopped_ring_tells_its_index(plug, bystanders, order):
    """Stopping the first ring takes the device down, yet the second must be told rightly, too."""
    a, b = plug(1), bystanders[0]
    for n in range(37):
        carry(a, b)
        if n % 3 == 0:
            carry(b, a)
    a.flush()
    for index in order:
        ring = a.rings[index]
        used = {0: 13 * len(a.shape) if ring.layout == "packed" else 13, 1: 37}[index]
        assert a.stop_ring(index) == ring.base() == ring.base_after(used)
    assert a.rings[0].ahead() != a.rings[0].base(), "receive buffers were waiting"


def test_rings_stop_and_restart(switch, plug, bystanders):
    a, b = plug(1), bystanders[0]
    for _ in range(5):
        exchange(a, b, 20)
        bases = [a.stop_ring(index) for index in (0, 1)]
        assert reason_of(switch, a.name)
        a.send(ethernet(b.mac, a.mac, b"written while the ring stood still".ljust(46)))
        for index in (0, 1):
            a.restart_ring(index, base=lambda _, i=index: bases[i])
        attached(switch, a, 0, 1)
        assert b.receive().data[14:21] == b"written"
    exchange(a, b, 300)


@pytest.mark.parametrize("disable", [True, False])
@pytest.mark.parametrize("index", [0, 1, 2, 3])
def test_one_ring_of_four_stops(switch, plug, bystanders, pump, index, disable):
    """Its neighbours go on without any further message about them. Only without the first pair the
    library takes the whole device for stopped; then they go on when it is back."""
    a, b = plug(1, features=LINUX | F.MQ, queues=2), bystanders[0]
    teach(switch, a, b)
    attached(switch, a, 0, 1, 2, 3)
    for _ in range(3):
        out = pump(a, b, 1 if index < 2 else 0)
        out.flows()
        if disable:
            a.link.vring(Msg.SET_VRING_ENABLE, index, 0)
        base = a.stop_ring(index)
        assert base == a.rings[index].base()
        a.link.sync()
        assert ring_state(switch, a.name, index)["state"] != "attached"
        if index >= 2:
            attached(switch, a, *(n for n in range(4) if n != index))
            out.flows()
            assert out.stop() == 0
            for _ in range(20 if disable or index == 3 else 0):
                carry(b, a)
        a.restart_ring(index)
        if disable:
            a.link.vring(Msg.SET_VRING_ENABLE, index, 1)
        attached(switch, a, 0, 1, 2, 3)
        if index < 2:
            out.flows()
            assert out.stop() == 0
        for queue in 0, 1:
            for _ in range(20):
                carry(a, b, queue=queue)
        for _ in range(20):
            carry(b, a)


@pytest.mark.parametrize("base", ["used", "avail", "zero"])
def test_reconnecting_loses_no_buffers(switch, plug, bystanders, base):
    """Some front-ends say where the driver is, others nothing; the ring itself knows better."""
    a, b = plug(1, posted=100), bystanders[0]
    exchange(a, b, 30)
    teach(switch, a, b)
    a.refill = False
    for _ in range(3):
        a.disconnect()
        switch.wait_port(a.name, "down")
        a.up({"used": None, "avail": lambda ring: ring.ahead(), "zero": lambda ring: 0}[base])
        switch.wait_port(a.name, "up")
        waiting = len(a.rings[0].chains)
        assert waiting == 100
        for _ in range(waiting):
            carry(b, a)
        for _ in range(5):
            carry(a, b)


@pytest.mark.parametrize("base", ["used", "avail", "zero"])
def test_the_switch_is_killed_and_comes_back(place, switch, plug, base):
    """Each frame that a guest wrote arrives exactly once, before or after, as the indices say."""
    a, b = plug(1), plug(2)
    exchange(a, b, 30)
    offered = a.offered, b.offered
    place.daemon.kill()
    for n in range(20):
        a.send(ethernet(b.mac, a.mac, struct.pack("!I", n).ljust(46)), kick=False)
    place.start()
    for guest in b, a:
        guest.disconnect()
        guest.up({"used": None, "avail": lambda r: r.ahead(), "zero": lambda r: 0}[base]
                 if guest is b else None)
        place.daemon.wait_port(guest.name, "up")
    assert (a.offered, b.offered) == offered
    for n in range(20):
        assert struct.unpack_from("!I", b.receive().data, 14)[0] == n
    exchange(a, b, 200)


# Messages to rings that run

def grow_memory(guest):
    """Another region comes or goes, as when memory is plugged."""
    if len(guest.memory.regions) == 1:
        guest.memory.regions.append(Region(0x8000_0000, 1 << 20))
        guest.link.mem_table(guest.memory.regions)
    else:
        guest.link.mem_table(guest.memory.regions[:1])
        guest.link.sync()
        guest.memory.regions.pop().close()


def new_eventfd(guest, request, name):
    for ring_index, ring in enumerate(guest.rings):
        old = getattr(ring, name)
        fd = os.eventfd(0, os.EFD_NONBLOCK)
        setattr(ring, name, fd)
        guest.link.eventfd(request, ring_index, fd)
        guest.link.sync()
        os.close(old)


def toggle_log(guest):
    guest.start_log()
    guest.link.sync()
    guest.stop_log()


def each_ring(action):
    def act(guest):
        for index, ring in enumerate(guest.rings):
            action(guest, index, ring)
    return act


def twice_enabled(guest, index, _):
    for on in 0, 1:
        guest.link.vring(Msg.SET_VRING_ENABLE, index, on)
        guest.link.sync()


LIVE = {
    "the same memory": lambda g: g.link.mem_table(g.memory.regions),
    "other memory": grow_memory,
    "addresses": each_ring(lambda g, i, r: g.link.vring_addr(i, *g.addresses(i))),
    "call": lambda g: new_eventfd(g, Msg.SET_VRING_CALL, "call"),
    "kick": lambda g: new_eventfd(g, Msg.SET_VRING_KICK, "kick"),
    "no call": each_ring(lambda g, i, r: g.link.eventfd(Msg.SET_VRING_CALL, i, None)),
    "error": each_ring(lambda g, i, r: g.link.eventfd(Msg.SET_VRING_ERR, i, r.call)),
    "size": each_ring(lambda g, i, r: g.link.vring(Msg.SET_VRING_NUM, i, r.size)),
    "features": lambda g: g.link.send(Msg.SET_FEATURES, struct.pack("=Q", g.features)),
    "log": toggle_log,
    "mtu": lambda g: g.link.send(Msg.NET_SET_MTU, struct.pack("=Q", 9000)),
    "enable": each_ring(twice_enabled),
}


@pytest.mark.parametrize("sender", [True, False], ids=["sender", "receiver"])
@pytest.mark.parametrize("message", LIVE)
def test_messages_under_traffic(switch, plug, bystanders, pump, message, sender):
    """To the sender's rings: they pause, nothing is lost. To the receiver's: what comes meanwhile is
    dropped and counted; for another call descriptor they do not pause. Nothing comes twice."""
    a, b = plug(1), bystanders[0]
    teach(switch, a, b)
    source, to = (a, b) if sender else (b, a)
    traffic = pump(source, to)
    for _ in range(20):
        traffic.flows(20)
        LIVE[message](a)
        a.link.sync()
    attached(switch, a, 0, 1)
    traffic.flows()
    lost = traffic.stop()
    # A disabled ring is emptied into a counter.
    if sender and message != "enable" or message in ("call", "no call"):
        assert lost == 0
    for index in (0, 1):
        assert a.stop_ring(index) == a.rings[index].base()


@pytest.mark.over("layout")
def test_a_storm_of_call_descriptors(switch, plug, bystanders, pump):
    """A guest that masks and unmasks its interrupts. The last descriptor works, old ones are left."""
    a, b = plug(1, features=LINUX & ~F.EVENT_IDX), bystanders[0]
    teach(switch, a, b)
    traffic = pump(b, a)
    traffic.flows()
    old = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(200)]
    for fd in old:
        a.link.eventfd(Msg.SET_VRING_CALL, 0, fd)
    a.link.eventfd(Msg.SET_VRING_CALL, 0, a.rings[0].call)
    a.link.sync()
    attached(switch, a, 0, 1)
    for fd in old:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(fd)
    a.rings[0].interrupts()
    traffic.flows(100)
    until(a.rings[0].interrupts, 2, "interrupts on the new descriptor")
    for fd in old:
        with pytest.raises(BlockingIOError):
            os.eventfd_read(fd)
        os.close(fd)
    assert traffic.stop() == 0


@pytest.mark.over("layout")
def test_call_descriptors_come_and_go(switch, plug, bystanders, pump):
    """A guest that polls for a while wants no interrupts. It gets one when it wants them again."""
    a, b = plug(1, features=LINUX & ~F.EVENT_IDX), bystanders[0]
    teach(switch, a, b)
    ring, before = a.rings[0], open_files(switch.pid)
    traffic = pump(b, a)
    for _ in range(20):
        a.link.eventfd(Msg.SET_VRING_CALL, 0, None)
        a.link.sync()
        ring.interrupts()
        traffic.flows(20)
        assert not ring.interrupts()
        a.link.eventfd(Msg.SET_VRING_CALL, 0, ring.call)
        a.link.sync()
        until(ring.interrupts, 2, "an interrupt on the new descriptor")
    assert traffic.stop() == 0
    wait_until(lambda: open_files(switch.pid) <= before, 2, "no descriptor is left behind")


@pytest.mark.over("layout")
def test_a_call_descriptor_that_is_refused(switch, plug, bystanders):
    """It changes nothing, neither now nor for what comes next."""
    a = plug(1)
    word = struct.pack("=Q", 0)  # says that there is a descriptor, and has none
    assert a.link.send(Msg.SET_VRING_CALL, word, need_reply=True) != 0
    exchange(a, bystanders[0])
    a.link.vring(Msg.SET_VRING_ENABLE, 0, 0)
    a.link.sync()
    assert ring_state(switch, a.name, 0)["state"] == "detached"


def test_a_new_call_descriptor_gets_an_interrupt(plug, bystanders):
    """What was signalled on the old one may have been lost."""
    a = plug(1)
    for index, ring in enumerate(a.rings):
        ring.interrupts()
        a.link.eventfd(Msg.SET_VRING_CALL, index, ring.call)
        a.link.sync()
        until(ring.interrupts, 2, f"an interrupt for ring {index}")


def spread_out(ring):
    """Puts each area on pages of its own, and goes on at one that is not its first, so that a page tells
    what was written."""
    for name, (size, _) in ring.areas().items():
        setattr(ring, name, ring.memory.alloc(size, PAGE))
    ring.memory.alloc(0, PAGE)
    ring.reset()
    ring.move_to(700)


def wishes(ring):
    """Where the device says whether it wants to be kicked: (gpa, length)."""
    if ring.layout == "packed":
        return [(ring.used, 4)]
    return [(ring.used, 2), (ring.used + 4 + 8 * ring.size, 2)]


def test_migration_marks_what_was_written(switch, plug, bystanders):
    """All of it and nothing else: what the guest received, where its chains were returned, and the
    flags that the device changed. When a stopped ring is answered for, nothing is missing."""
    a, b = plug(1, up=False, size=1024, posted=500), bystanders[0]
    for ring in a.rings:
        spread_out(ring)
    a.refill = False
    a.up()
    switch.wait_port(a.name, "up")
    teach(switch, a, *bystanders)
    a.flush()
    areas = [area for ring in a.rings for area in wishes(ring)]
    may = set().union(*(pages(*area) for area in areas))

    def assert_logged(before):
        changed = [area for area in areas if a.memory.read(*area) != before[area]]
        must = a.memory.written.union(*(pages(*area) for area in changed))
        logged = a.log.take()
        assert must and not must - logged, "written, but not logged"
        assert not logged - must - may, "logged, but not written"

    for area in areas:  # it says so again when the log begins
        a.memory.write(area[0], bytes(area[1]))
    a.memory.written.clear()
    a.start_log()
    a.link.sync()
    attached(switch, a, 0, 1)
    assert_logged({area: bytes(area[1]) for area in areas})
    for last in False, True:
        before = {area: a.memory.read(*area) for area in areas}
        a.memory.written.clear()
        for size in 60, 1500, 60, 5000, 60:
            carry(b, a, size)
            carry(a, b, size)
        if last:
            for index in 0, 1:
                assert a.stop_ring(index) == a.rings[index].base()
        else:
            a.flush()
            carry(b, bystanders[1])  # the worker is done with what came before
        a.reap()
        assert_logged(before)


def test_migration_that_failed_logs_no_more(switch, plug, bystanders):
    a, b = plug(1), bystanders[0]
    teach(switch, a, b)
    a.start_log()
    a.link.sync()
    attached(switch, a, 0, 1)
    exchange(a, b)
    assert a.log.take()
    a.stop_log()
    a.link.sync()
    attached(switch, a, 0, 1)
    a.log.take()
    exchange(a, b)
    assert a.log.take() == set()


@pytest.mark.over("layout")
@pytest.mark.parametrize("kind", ["full", "pipe"])
def test_a_call_descriptor_that_blocks(switch, plug, bystanders, kind):
    """The worker writes interrupts itself, and must not be held by the front-end."""
    a, b = plug(1, features=LINUX & ~F.EVENT_IDX), bystanders[0]
    teach(switch, a, b)
    if kind == "full":
        fds = [os.eventfd(0)]
        os.eventfd_write(fds[0], (1 << 64) - 2)
    else:
        fds = list(os.pipe())[::-1]
        os.set_blocking(fds[0], False)
        try:
            while True:
                os.write(fds[0], bytes(PAGE))
        except BlockingIOError:
            os.set_blocking(fds[0], True)
    for index in 0, 1:
        a.link.eventfd(Msg.SET_VRING_CALL, index, fds[0])
    a.link.sync()
    if kind == "pipe":
        state = ring_state(switch, a.name, 0)
        assert state["state"] != "attached" and state["reason"]
    for _ in range(20):
        b.send(ethernet(a.mac, b.mac, bytes(46)))
    b.flush()
    alive(switch, bystanders)
    for fd in fds:
        os.close(fd)
    for index in 0, 1:
        a.link.eventfd(Msg.SET_VRING_CALL, index, a.rings[index].call)
    a.link.sync()
    attached(switch, a, 0, 1)
    a.drain()
    exchange(a, b)


@pytest.mark.over("layout")
def test_a_call_descriptor_that_blocks_later(switch, plug, bystanders):
    """Whether writes wait is a flag that the front-end shares, and takes away under the worker."""
    a, b = plug(1, features=LINUX & ~F.EVENT_IDX), bystanders[0]
    teach(switch, a, b)
    call = a.rings[0].call
    os.set_blocking(call, False)
    with contextlib.suppress(BlockingIOError):
        os.eventfd_read(call)
    os.eventfd_write(call, (1 << 64) - 2)
    os.set_blocking(call, True)
    for _ in range(20):
        b.send(ethernet(a.mac, b.mac, bytes(46)))
    b.flush()
    alive(switch, bystanders)
    assert "was interrupted" in switch.log()
    # Whoever was held once is not held again.
    begin = time.monotonic()
    for _ in range(20):
        b.send(ethernet(a.mac, b.mac, bytes(46)))
        b.flush()
    alive(switch, bystanders)
    assert time.monotonic() - begin < 1
    os.set_blocking(call, False)
    os.eventfd_read(call)
    for index in 0, 1:
        a.link.eventfd(Msg.SET_VRING_CALL, index, a.rings[index].call)
    a.link.sync()
    a.drain()
    exchange(a, b)


@pytest.mark.over()
def test_an_inflight_region_that_is_too_small(switch, plug, bystanders):
    """Not offered; the library would write beyond it all the same. The descriptor is closed."""
    a = plug(1)
    before = len(os.listdir(f"/proc/{switch.pid}/fd"))
    file = os.memfd_create("inflight")
    os.ftruncate(file, PAGE)
    for _ in range(8):
        claim = struct.pack("=QQHH4x", PAGE, 0, 256, 0xffff)
        assert a.link.send(32, claim, fds=[file], need_reply=True) != 0
    os.close(file)
    assert len(os.listdir(f"/proc/{switch.pid}/fd")) == before
    alive(switch, bystanders)
    a.drain()
    exchange(a, bystanders[0])


# Memory that cannot be had

def no_file(_):
    return os.eventfd(0)


def read_only(region):
    return os.open(f"/proc/self/fd/{region.fd}", os.O_RDONLY)


@pytest.mark.over("layout")
@pytest.mark.parametrize("make", [no_file, read_only])
@pytest.mark.parametrize("first", [True, False])
def test_a_failed_memory_table(switch, plug, bystanders, pump, make, first):
    """The library has unmapped the old memory then, and the connection goes on."""
    a, b = plug(1), bystanders[0]
    teach(switch, a, b)
    exchange(a, b)
    extra = Region(0x8000_0000, 1 << 20)
    bad = make(extra)
    good = a.memory.regions
    for _ in range(3):
        traffic = pump(b, a)
        traffic.flows()
        order = [extra, *good] if first else [*good, extra]
        fds = [bad if region is extra else region.fd for region in order]
        assert a.link.mem_table(order, fds=fds, need_reply=True) != 0
        assert reason_of(switch, a.name)
        assert switch.port(a.name)["memory"]["valid"] is False
        traffic.stop()
        a.send(ethernet(b.mac, a.mac, b"later".ljust(46)))
        alive(switch, bystanders)
        assert a.link.mem_table(good, need_reply=True) == 0
        switch.wait_port(a.name, "up", 3)
        assert b.receive().data[14:19] == b"later"
        exchange(a, b, 300)
    os.close(bad)
    extra.close()


@pytest.mark.over("layout")
def test_a_failed_memory_table_without_reply(switch, plug, bystanders):
    a = plug(1)
    bad = os.eventfd(0)
    a.link.mem_table(a.memory.regions + a.memory.regions, fds=[a.memory.regions[0].fd, bad])
    os.close(bad)
    assert a.link.closed()
    switch.wait_port(a.name, "down")
    a.disconnect()
    a.up()
    switch.wait_port(a.name, "up")
    exchange(a, bystanders[0])


@pytest.mark.over("layout")
@pytest.mark.parametrize("fds", [0, 2, 8])
def test_memory_with_a_wrong_number_of_files(switch, plug, bystanders, fds):
    a, b = plug(1), bystanders[0]
    table = a.memory.regions
    assert a.link.mem_table(table, fds=[table[0].fd] * fds, need_reply=True) != 0
    alive(switch, bystanders)
    assert a.link.mem_table(table, need_reply=True) == 0
    switch.wait_port(a.name, "up", 3)
    exchange(a, b)


@pytest.mark.over("layout")
def test_memory_without_regions(switch, plug, bystanders):
    a, b = plug(1), bystanders[0]
    a.link.mem_table([], need_reply=True)
    assert reason_of(switch, a.name)
    alive(switch, bystanders)
    assert a.link.mem_table(a.memory.regions, need_reply=True) == 0
    for index in 0, 1:  # the library has forgotten where the rings were
        a.link.vring_addr(index, *a.addresses(index))
    switch.wait_port(a.name, "up", 3)
    exchange(a, b)


@pytest.mark.over("layout")
@pytest.mark.parametrize("more", [PAGE, 1 << 20, 1 << 40])
def test_a_region_larger_than_its_file(place, switch, plug, bystanders, more):
    """Touching its end would be fatal, so its port does not come up and says why."""
    a, b = plug(1, up=False), bystanders[0]
    region = a.memory.regions[0]
    region.claim = region.size + more
    with contextlib.suppress(ConnectionError):  # to hang up is an answer, too
        a.connect().handshake()
    reason = reason_of(switch, a.name)
    assert reason
    ring = a.rings[1]
    ring.add([(region.gpa + region.size, 100, 0)])  # would be read if the ring were served
    ring.publish(kick=True)
    alive(switch, bystanders)
    assert switch.port(a.name)["state"] == "down"
    assert ring.used_waiting() == 0
    a.disconnect()
    region.claim = region.size
    ring.reset()
    a.up()
    switch.wait_port(a.name, "up")
    exchange(a, b)


@pytest.mark.parametrize("what", ["rings", "sent", "received", "idle"])
def test_a_memory_file_that_shrinks(switch, plug, bystanders, what):
    """SIGBUS in the worker; only the port whose memory it is may notice."""
    memory = Memory(Region(0x10_0000, 1 << 20), Region(0x4000_0000, 32 << 20))
    evil, b = plug(1, up=False, memory=memory), bystanders[0]
    for ring, base in zip(evil.rings, (0x10_0000, 0x18_0000)):  # apart from the buffers
        ring.desc, ring.avail, ring.used = base, base + 0x10000, base + 0x20000
        ring.reset()
    evil.up()
    switch.wait_port(evil.name, "up")
    teach(switch, evil, b)
    exchange(evil, b)
    # Nobody here may touch the file's memory after it has shrunk, so everything is prepared before.
    if what == "rings":
        evil.send(ethernet(b.mac, evil.mac, bytes(1000)), publish=False)
        os.ftruncate(memory.regions[0].fd, 0)
        os.eventfd_write(evil.rings[1].kick, 1)
    elif what == "idle":
        os.ftruncate(memory.regions[0].fd, 0)
        os.ftruncate(memory.regions[1].fd, 0)
    elif what == "sent":
        for _ in range(50):
            evil.send(ethernet(b.mac, evil.mac, bytes(9000)), publish=False)
        os.ftruncate(memory.regions[1].fd, 0)
        evil.rings[1].publish(kick=True)
    else:
        os.ftruncate(memory.regions[1].fd, 0)
        for _ in range(50):
            b.send(ethernet(evil.mac, b.mac, bytes(1000)))
        b.flush()
    port = switch.wait_port(evil.name, "down", 5)
    assert "memory" in port["reason"]
    b.drain()
    alive(switch, bystanders)
    evil.disconnect()
    good = plug(1)
    exchange(good, b)


@pytest.mark.over("layout")
@pytest.mark.parametrize("when", ["claimed", "shrunk before the kick", "shrunk before a new table"])
def test_memory_that_the_library_reads_itself(switch, plug, bystanders, when):
    """The library looks at the used ring's index where it translates addresses, on its own thread,
    and at a new table before anybody could check it."""
    a, b = plug(1, up=False), bystanders[0]
    region = a.memory.regions[0]
    a.connect()
    with contextlib.suppress(ConnectionError):
        if when == "claimed":
            region.claim = region.size + (1 << 20)
            for step in a.steps():
                if step.startswith("SET_VRING_ADDR"):
                    desc, _, avail = a.addresses(int(step[-1]))
                    a.link.vring_addr(int(step[-1]), desc, region.uva + region.size + PAGE, avail)
        elif when == "shrunk before the kick":
            for step in a.steps(base=lambda ring: 0):
                if step == "SET_VRING_CALL 0":
                    os.ftruncate(region.fd, 0)
        else:
            a.handshake()
            extra = Region(0x8000_0000, 1 << 20)
            for index in 0, 1:  # so that no worker notices first
                a.link.vring(Msg.SET_VRING_ENABLE, index, 0)
            a.link.sync()
            os.ftruncate(region.fd, 0)
            a.link.mem_table([region, extra])
            extra.close()
        a.link.sync()
    assert reason_of(switch, a.name)
    alive(switch, bystanders)
    a.disconnect()
    exchange(plug(1), b)


def test_a_log_file_that_shrinks(switch, plug, bystanders):
    evil, b = plug(1), bystanders[0]
    teach(switch, evil, b)
    evil.start_log()
    evil.link.sync()
    attached(switch, evil, 0, 1)
    os.ftruncate(evil.log.region.fd, 0)
    for _ in range(20):
        b.send(ethernet(evil.mac, b.mac, bytes(1000)))
    b.flush()
    alive(switch, bystanders)
    evil.disconnect()
    good = plug(1)
    exchange(good, b)


# Rings that do not lie where they should

def expect_refused(switch, guest, index, bystanders):
    """The ring is not served, and whoever asks is told why."""
    guest.link.sync()
    state = wait_until(lambda: (s := ring_state(switch, guest.name, index))["state"] != "attached" and s,
                       3, f"ring {index} not attached")
    assert state["state"] == "malformed", state
    assert state["reason"]
    alive(switch, bystanders)


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("part, by", [("desc", 8), ("desc", 1), ("avail", 1), ("used", 2), ("used", 1)])
def test_rings_out_of_alignment(switch, plug, bystanders, index, part, by):
    a = plug(1, up=False)
    setattr(a.rings[index], part, getattr(a.rings[index], part) + by)
    a.connect().handshake()
    expect_refused(switch, a, index, bystanders)


def place_at_end(guest, index, part, short):
    """Move one part of a ring so that its last `short` bytes are behind the end of guest memory."""
    ring, region = guest.rings[index], guest.memory.regions[-1]
    size = ring.areas()[part][0]
    if ring.layout == "split" and part != "desc":
        size -= 2  # the event index
    setattr(ring, part, region.gpa + region.size - size + min(short, size // 2))


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("part, short", [("desc", 16), ("desc", 4080), ("avail", 2), ("used", 4)])
def test_rings_that_end_outside_their_memory(switch, plug, bystanders, index, part, short):
    a = plug(1, up=False, features=LINUX & ~F.EVENT_IDX)
    place_at_end(a, index, part, short)
    a.connect().handshake()
    assert ring_state(switch, a.name, index)["state"] != "attached" and reason_of(switch, a.name)
    alive(switch, bystanders)


@pytest.mark.parametrize("part", ["desc", "avail", "used"])
def test_rings_across_regions(switch, plug, bystanders, part):
    """Neighbours for the guest, but not in our address space."""
    memory = Memory(Region(0x10_0000, 1 << 20), Region(0x20_0000, 32 << 20))
    a = plug(1, up=False, memory=memory)
    size, align = a.rings[1].areas()[part]
    setattr(a.rings[1], part, 0x20_0000 - min(64, size))
    a.rings[1].reset()
    a.connect().handshake()
    if size == align:  # cannot lie across anything
        attached(switch, a, 0, 1)
        a.post(a.posted)
        exchange(a, bystanders[0])
        return
    assert ring_state(switch, a.name, 1)["state"] != "attached" and reason_of(switch, a.name)
    alive(switch, bystanders)


@pytest.mark.over("order", "merge")
@pytest.mark.parametrize("part", ["avail", "used"])
def test_event_index_added_behind_the_addresses(switch, plug, bystanders, part):
    """The ring fits without its two bytes of event index, and did when it was mapped."""
    a = plug(1, up=False)
    place_at_end(a, 1, part, 0)
    a.connect()
    for step in a.steps():
        if step == "SET_FEATURES":
            word = struct.pack("=Q", a.features & ~F.EVENT_IDX)
            a.link.send(Msg.SET_FEATURES, word)
        if step == "SET_VRING_KICK 1":
            a.link.send(Msg.SET_FEATURES, struct.pack("=Q", a.features))
    expect_refused(switch, a, 1, bystanders)


@pytest.mark.over("layout", "order", "merge")
def test_event_index_that_just_fits(switch, plug, bystanders):
    """The counterpart: the last two bytes of a region are the event index, or the last four an event
    suppression structure."""
    a, b = plug(1, up=False), bystanders[0]
    last = 2 if a.rings[0].layout == "split" else 0
    place_at_end(a, 0, "avail", -last)
    place_at_end(a, 1, "used", -2 * last - PAGE)
    for ring in a.rings:
        ring.reset()
    a.up()
    switch.wait_port(a.name, "up")
    exchange(a, b)


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("size", [32768, 4096, 0, 100, 65536, (1 << 32) - 1])
def test_the_size_of_a_running_ring(switch, plug, bystanders, index, size):
    """The library keeps the addresses, mapped for 256 entries. The front-end is refused, or the ring;
    a later message must not bring it back at the wrong size."""
    a, b = plug(1, up=False), bystanders[0]
    for ring in a.rings:  # at the end of memory, so that a larger ring is outside
        region = a.memory.regions[-1]
        ring.desc = region.gpa + region.size - PAGE * (2 if ring is a.rings[0] else 1)
        ring.reset()
    a.up()
    switch.wait_port(a.name, "up")
    exchange(a, b)
    refused = a.link.vring(Msg.SET_VRING_NUM, index, size, need_reply=True)
    for other in 0, 1:
        a.link.vring(Msg.SET_VRING_ENABLE, other, 1)
    a.link.sync()
    state = ring_state(switch, a.name, index)
    if state["state"] == "attached":
        # A packed ring may be that small. It then wraps where the guest does not expect it.
        assert refused and state["size"] == 256 or a.rings[0].layout == "packed" and state["size"] == size
    else:
        assert state["reason"]
    for _ in range(20):
        b.send(ethernet(a.mac, b.mac, bytes(46)))
    b.flush()
    alive(switch, bystanders)
    a.disconnect()
    b.drain()
    good = plug(1)
    exchange(good, b)


# Conversations that stop

@pytest.mark.over("layout")
@pytest.mark.parametrize("data", [HALF_HEADER, HEADER, HEADER + b"abc", b""],
                         ids=["half a header", "a header", "a part", "nothing"])
def test_a_silent_client_holds_nobody(place, switch, plug, bystanders, data):
    """One thread of the library reads all connections, and waits for the rest of a message."""
    with Vhost(place.socket(1)) as silent:
        if data:
            silent.raw(data)
        reconnect_in_time(switch, bystanders)
        alive(switch, bystanders)
        if data:
            assert silent.closed(), "half a message may be waited for, but not for ever"
    exchange(plug(1), bystanders[0])


def reconnect_in_time(switch, guests):
    for guest in guests:
        guest.disconnect()
        switch.wait_port(guest.name, "down")
        start = time.monotonic()
        guest.up()
        switch.wait_port(guest.name, "up", 2)
        assert time.monotonic() - start < 2


@pytest.mark.over("layout")
def test_a_client_that_does_not_read(place, switch, plug, bystanders):
    """Answers pile up until the library's write would block."""
    question = struct.pack("=III", Msg.GET_FEATURES, 1, 0)
    sent = 0
    with Vhost(place.socket(1)) as deaf:
        try:
            while select.select([], [deaf.sock], [], 0.05)[1]:
                deaf.sock.send(question)
                sent += 1
        except ConnectionError:
            pass
        assert sent > 20
        reconnect_in_time(switch, bystanders)
    exchange(plug(1), bystanders[0])


@pytest.mark.over("layout")
def test_disconnects_at_every_point(switch, plug, bystanders):
    a = plug(1, up=False, features=LINUX | F.MQ, queues=2)
    names = []
    for stop in range(100):
        ended = switch.port(a.name)["connection"]["disconnects"]
        a.connect()
        names = [name for _, name in zip(range(stop), a.steps())]
        a.disconnect()
        wait_until(lambda: switch.port(a.name)["connection"]["disconnects"] > ended, 2, "noticed")
        if len(names) < stop:
            break
    assert len(names) > 25
    a.up()
    switch.wait_port(a.name, "up")
    exchange(a, bystanders[0])


def open_files(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def mappings(pid):
    with open(f"/proc/{pid}/maps", encoding="ascii") as file:
        return sum("memfd:guest" in line for line in file)


@pytest.mark.over("layout")
def test_connections_leave_nothing_behind(place, switch, plug, bystanders):
    a, b = plug(1, up=False), bystanders[0]

    def cycle(n):
        # Where others have not been noticed to be gone yet, a client may be refused.
        with contextlib.suppress(ConnectionError):
            a.connect()
            for _ in zip(range((0, 1, 7, 11, 16, 99)[n % 6]), a.steps()):
                pass
            if n % 4 == 1:
                a.link.sync()
        a.disconnect()

    for n in range(24):
        cycle(n)
    pid = switch.pid

    def settled():
        connection = switch.port(a.name)["connection"]
        return connection["state"] == "disconnected" and mappings(pid) == 2  # the bystanders' memory

    wait_until(settled, 5, "the first connections are gone")
    files, resident = open_files(pid), switch.rss(apart_from=[os.getpid()])
    for n in range(200):
        cycle(n)
    wait_until(settled, 5, "mappings of 200 connections are gone")
    wait_until(lambda: open_files(pid) <= files, 5, "descriptors of 200 connections are gone")
    assert switch.rss(apart_from=[os.getpid()]) < resident + (4 << 20)
    a.up()
    switch.wait_port(a.name, "up")
    exchange(a, b)


@pytest.mark.over("layout")
def test_a_second_client_waits_for_the_first(switch, plug, bystanders):
    first, b = plug(1), bystanders[0]
    teach(switch, first, b)
    second = plug(1, up=False)
    second.up()  # its handshake is answered
    second.send(ethernet(b.mac, second.mac, b"second".ljust(46)))
    exchange(first, b, 50)
    assert b.drain() == [] and second.drain() == []
    assert second.rings[1].used_waiting() == 0
    first.disconnect()
    got = b.receive(5)
    assert got.data[14:20] == b"second"
    switch.wait_port(second.name, "up")
    exchange(second, b, 50)


@pytest.mark.over("layout")
def test_clients_follow_each_other(switch, plug, bystanders):
    """The next connection may come before the end of the last was noticed."""
    b = bystanders[0]
    for _ in range(20):
        a = plug(1, up=False)
        a.up()
        a.send(ethernet(b.mac, a.mac, b"hello".ljust(46)))
        assert b.receive(5).data[14:19] == b"hello"
        a.disconnect()


# Features

@pytest.mark.over("layout")
def test_only_what_is_offered_can_be_taken(switch, plug, bystanders):
    a, b = plug(1), bystanders[0]
    a.disconnect()
    switch.wait_port(a.name, "down")
    refused = [1 << bit for bit in range(64) if not a.offered >> bit & 1]
    for bit in refused:
        with Vhost(a.path) as link:
            word = struct.pack("=Q", a.features | bit)
            assert link.get(Msg.GET_FEATURES) == a.offered
            assert link.send(Msg.SET_FEATURES, word, need_reply=True) != 0, f"{bit:#x} was taken"
    with Vhost(a.path) as link:
        link.send(Msg.SET_FEATURES, struct.pack("=Q", refused[-1]))
        assert link.closed()
    a.up()
    switch.wait_port(a.name, "up")
    exchange(a, b)


@pytest.mark.over("layout")
def test_the_offer_does_not_change(place, switch, plug, bystanders):
    """A front-end refuses a back-end that came back with less."""
    a = plug(1)
    offer = a.offered, a.protocol, a.max_queues
    assert a.max_queues == 2
    for _ in range(5):
        a.disconnect()
        a.up()
        assert (a.offered, a.protocol, a.max_queues) == offer
    place.daemon.stop()
    place.start()
    for guest in bystanders:
        guest.disconnect()
        guest.up()
        place.daemon.wait_port(guest.name, "up")
    a.disconnect()
    a.up()
    assert (a.offered, a.protocol, a.max_queues) == offer


def test_features_change_only_while_nothing_runs(switch, plug, bystanders):
    a, b = plug(1), bystanders[0]
    word = struct.pack("=Q", a.features ^ F.MRG_RXBUF)
    assert a.link.send(Msg.SET_FEATURES, word, need_reply=True) != 0
    a.link.vring(Msg.SET_VRING_ENABLE, 0, 1)
    a.link.sync()
    attached(switch, a, 0, 1)
    exchange(a, b)


# Messages that make no sense

@pytest.mark.over("layout")
def test_unknown_messages(plug, bystanders):
    a, b = plug(1), bystanders[0]
    for number in 0, 23, 36, 41, 99, 1 << 16, (1 << 32) - 1:
        assert a.link.send(number, bytes(8), need_reply=True) != 0
        exchange(a, b, 2)
    a.link.send(99)
    assert a.link.closed()


@pytest.mark.over("layout")
@pytest.mark.parametrize("size", [1 << 12, 1 << 20, (1 << 32) - 1])
def test_messages_of_impossible_length(place, bystanders, size):
    with Vhost(place.socket(1)) as link:
        link.send(Msg.SET_MEM_TABLE, bytes(100), size=size)
        assert link.closed()


@pytest.mark.over("layout")
def test_rings_that_a_port_does_not_have(switch, place, plug, bystanders):
    """The library would make all rings up to the index named."""
    for index in 4, 99, 255, 256, 1 << 31:
        with Vhost(place.socket(1)) as link, contextlib.suppress(ConnectionError):
            assert link.vring(Msg.SET_VRING_NUM, index, 256, need_reply=True) != 0
    for _ in range(3):
        with Vhost(place.socket(1)) as link, contextlib.suppress(ConnectionError):
            for index in range(4, 256, 50):
                link.eventfd(Msg.SET_VRING_CALL, index, None)
                link.vring(Msg.SET_VRING_NUM, index, 32768)
            link.closed(0.5)
    alive(switch, bystanders)
    exchange(plug(1), bystanders[0])


@pytest.mark.over("layout")
def test_messages_without_order(place, switch, plug, bystanders):
    """Any message with any content at any time, with and without a request for an answer."""
    dice = random.Random(7)
    memory = Memory(Region(0x10_0000, 1 << 20))
    numbers = [m for m in Msg if m != Msg.GET_CONFIG] + [0, 23, 50]
    fd = memory.regions[0].fd
    link = None
    for n in range(1500):
        if link is None:
            link = Vhost(place.socket(1), timeout=1)
        request = dice.choice(numbers)
        word = dice.choice([0, 1, 2, 3, 5, 255, 256, 257, LINUX, 1 << 63, dice.getrandbits(64)])
        payload = dice.choice([
            b"", struct.pack("=Q", word), struct.pack("=II", dice.choice([0, 1, 2, 3, 4]),
                                                      dice.choice([0, 1, 64, 256, 32768, 1 << 31])),
            struct.pack("=IIQQQQ", dice.choice([0, 1, 2, 3]), dice.choice([0, 1]),
                        *(0x7F00_0010_0000 + dice.choice([0, 64, 4096, 1 << 20]) for _ in range(4))),
            struct.pack("=IIQQQQ", 1, 0, 0x10_0000, 1 << 20, 0x7F00_0010_0000, 0),
            dice.randbytes(dice.choice([1, 8, 40, 100]))])
        try:
            link.send(request, payload, fds=[fd] * dice.choice([0, 0, 1, 1, 2, 8]),
                      flags=1 | (dice.random() < 0.7) << 3)
            if dice.random() < 0.1:
                link.closed(0.001)
        except OSError:
            link.close()
            link = None
        if n % 100 == 0:
            alive(switch, bystanders)
    if link:
        link.close()
    memory.close()
    switch.wait_port("vm1", "down")
    exchange(plug(1), bystanders[0])


def test_the_owner_resets(switch, plug, bystanders):
    """The device starts anew on the same connection."""
    a, b = plug(1), bystanders[0]
    for _ in range(3):
        exchange(a, b)
        a.link.send(Msg.RESET_OWNER)
        a.link.sync()
        assert reason_of(switch, a.name)
        for ring in a.rings:
            ring.reset()
        a.handshake()
        a.post(a.posted)
        switch.wait_port(a.name, "up", 3)


# Hostile drivers

OUTSIDE = 0x7000_0000


def turned(ring, flags):
    """The cases are written for transmit rings; a receive ring's have the other direction."""
    return flags ^ WRITE if ring.receives and not flags & INDIRECT else flags


def chain(ring, *descriptors):
    """Write descriptors (gpa, length, flags, next) as one chain; `next` counts within them, a list
    of one names any entry. In a packed ring one follows the other, whatever is said here."""
    ident = ring.add([(gpa, size, turned(ring, flags)) for gpa, size, flags, _ in descriptors])
    ids = ring.chains[ident].ids
    for own, (gpa, size, flags, following) in zip(ids, descriptors):
        if ring.layout == "split":
            following = following[0] if isinstance(following, list) else ids[following]
            ring.set_desc(own, gpa, size, turned(ring, flags), following)


def table(ring, at, *descriptors):
    for n, (gpa, size, flags, following) in enumerate(descriptors):
        ring.set_desc(n, gpa, size, turned(ring, flags), following, table=at)


def one(gpa, size, flags=0):
    return lambda ring, at, end: chain(ring, (gpa(at, end), size, flags, 0))


def indirect(size, *descriptors, gpa=lambda at, end: at + 4096, before=(), behind=(), flags=INDIRECT):
    def attack(ring, at, end):
        table(ring, at + 4096, *[(at + g, s, f, n) for g, s, f, n in descriptors])
        around = [[(at, 64, flag, 1) for flag in row] for row in (before, behind)]
        chain(ring, *around[0], (gpa(at, end), size, flags, 0), *around[1])
    return attack


def long_loop(ring, at, end):
    chain(ring, *[(at, 64, NEXT, (n + 1) % 100) for n in range(100)])


def every_descriptor_large(ring, at, end):
    chain(ring, *[(at, 1 << 20, NEXT, n + 1) for n in range(63)], (at, 1 << 20, 0, 0))


def two_tables(ring, at, end):
    table(ring, at + 4096, (at, 64, 0, 0))
    chain(ring, (at + 4096, 16, INDIRECT | NEXT, 1), (at + 4096, 16, INDIRECT, 0))


# Chains that a driver must never build; `at` is good memory, `end` the end of all memory.
BAD_CHAINS = {
    "outside": one(lambda at, end: OUTSIDE, 100),
    "address zero": one(lambda at, end: 0, 100),
    "over the end": one(lambda at, end: end - 50, 100),
    "at the end": one(lambda at, end: end, 100),
    "wraps": one(lambda at, end: (1 << 64) - 50, 100),
    "wraps into memory": one(lambda at, end: (1 << 64) - 100, 0x20_0000),
    "the largest length": one(lambda at, end: at, (1 << 32) - 1),
    "sums of lengths": lambda r, at, end: chain(r, (at, 64, NEXT, 1), (at, (1 << 32) - 60, 0, 0)),
    "sixty-four megabytes": every_descriptor_large,
    "no length": one(lambda at, end: at, 0),
    "part of no length": lambda r, at, end: chain(r, (at, 64, NEXT, 1), (at, 0, 0, 0)),
    "wrong direction": one(lambda at, end: at, 100, WRITE),
    "wrong direction later": lambda r, at, end: chain(r, (at, 5, NEXT, 1), (at, 100, WRITE, 0)),
    "less than a header": one(lambda at, end: at, 5),
    "indirect of no length": indirect(0, (0, 64, 0, 0)),
    "indirect of odd length": indirect(24, (0, 64, 0, 0)),
    "indirect too long": indirect(16 * 257, (0, 64, 0, 0)),
    "indirect far too long": indirect((1 << 32) - 16, (0, 64, 0, 0)),
    "indirect outside": indirect(16, gpa=lambda at, end: OUTSIDE),
    "indirect over the end": indirect(32, gpa=lambda at, end: end - 16),
    "indirect wraps": indirect(32, gpa=lambda at, end: (1 << 64) - 16),
    "indirect of the wrong direction": indirect(32, (0, 64, WRITE, 1), (0, 64, WRITE, 0)),
    "indirect of the wrong direction later": indirect(32, (0, 64, NEXT, 1), (0, 64, WRITE, 0)),
    "indirect of no bytes": indirect(32, (0, 64, NEXT, 1), (0, 0, 0, 0)),
    "indirect to outside": indirect(16, (OUTSIDE, 64, 0, 0)),
}
LONG = "the largest length", "sums of lengths", "sixty-four megabytes"
# Those of split rings: in a packed one no descriptor names the next, and no flag of a table's does.
BAD_SPLIT_CHAINS = {
    "loop of one": lambda r, at, end: chain(r, (at, 64, NEXT, 0)),
    "loop of two": lambda r, at, end: chain(r, (at, 64, NEXT, 1), (at, 64, NEXT, 0)),
    "loop of many": long_loop,
    "next is too large": lambda r, at, end: chain(r, (at, 64, NEXT, [256])),
    "next is far too large": lambda r, at, end: chain(r, (at, 64, NEXT, [65535])),
    "indirect nested": indirect(32, (4096, 32, INDIRECT, 0), (0, 64, 0, 0)),
    "indirect nested later": indirect(32, (0, 64, NEXT, 1), (4096, 32, INDIRECT, 0)),
    "indirect with next": indirect(16, (0, 64, 0, 0), flags=INDIRECT | NEXT),
    "indirect loop": indirect(32, (0, 64, NEXT, 1), (0, 64, NEXT, 0)),
    "indirect next too large": indirect(32, (0, 64, NEXT, 2), (0, 64, 0, 0)),
}
# And of packed rings. A whole ring without an end is a bad ring.
BAD_PACKED_CHAINS = {
    "indirect with next": indirect(16, (0, 64, 0, 0), flags=INDIRECT | NEXT, behind=(0,)),
    "indirect with next, later": indirect(16, (0, 64, 0, 0), flags=INDIRECT | NEXT, before=(NEXT,),
                                          behind=(0,)),
    "two tables": two_tables,
    "all but one of the ring": lambda r, at, end: chain(r, *[(at, 64, NEXT, n + 1) for n in range(253)],
                                                        (OUTSIDE, 64, 0, 0)),
}
for_split = pytest.mark.over("merge", "order", "tables", "events", "header")
for_packed = pytest.mark.over("merge", "order", "tables", "events", layout="packed")


def attack_memory(guest):
    region = guest.memory.regions[-1]
    at = guest.memory.alloc(2 * PAGE, PAGE)
    guest.memory.write(at, bytes(12) + ethernet(BROADCAST, guest.mac, bytes(46)))
    return at, region.gpa + region.size


@pytest.mark.parametrize("case", BAD_CHAINS.values(), ids=BAD_CHAINS)
def test_hostile_transmit_chains(switch, plug, bystanders, case):
    refuse_transmit_chain(switch, plug(1), bystanders[0], case)


@for_split
@pytest.mark.parametrize("case", BAD_SPLIT_CHAINS.values(), ids=BAD_SPLIT_CHAINS)
def test_hostile_split_transmit_chains(switch, plug, bystanders, case):
    refuse_transmit_chain(switch, plug(1), bystanders[0], case)


@for_packed
@pytest.mark.parametrize("case", BAD_PACKED_CHAINS.values(), ids=BAD_PACKED_CHAINS)
def test_hostile_packed_transmit_chains(switch, plug, bystanders, case):
    refuse_transmit_chain(switch, plug(1), bystanders[0], case)


def refuse_transmit_chain(switch, evil, b, case):
    """Returned and counted, nothing of it is sent, and good frames around it pass."""
    teach(switch, evil, b)
    before = dropped(switch, evil.name)
    at, end = attack_memory(evil)
    ring = evil.rings[1]
    for _ in range(3):
        evil.send(ethernet(b.mac, evil.mac, b"before".ljust(46)), publish=False)
        case(ring, at, end)
        ring.publish()
        evil.flush()
        assert b.receive().data[14:20] == b"before"
        carry(evil, b)
    assert b.drain() == []
    counted = dropped(switch, evil.name) - before
    assert counted in ({"rx.malformed": 3}, {"rx.too_long": 3})
    assert "rx.malformed" in counted or case in [BAD_CHAINS[name] for name in LONG]
    attached(switch, evil, 0, 1)


@pytest.mark.over("layout", "order", "merge")
def test_indirect_tables_without_negotiation(switch, plug, bystanders):
    evil, b = plug(1, features=LINUX & ~F.INDIRECT_DESC), bystanders[0]
    before = dropped(switch, evil.name)
    at, _ = attack_memory(evil)
    evil.rings[1].put([(at, 72, 0)], indirect=True)
    evil.rings[1].publish()
    evil.flush()
    carry(evil, b)
    assert dropped(switch, evil.name) - before == {"rx.malformed": 1}


@pytest.mark.parametrize("case", BAD_CHAINS.values(), ids=BAD_CHAINS)
def test_hostile_receive_chains(switch, plug, bystanders, case):
    refuse_receive_chain(switch, plug(1, posted=0), bystanders[0], case)


@for_split
@pytest.mark.parametrize("case", BAD_SPLIT_CHAINS.values(), ids=BAD_SPLIT_CHAINS)
def test_hostile_split_receive_chains(switch, plug, bystanders, case):
    refuse_receive_chain(switch, plug(1, posted=0), bystanders[0], case)


@for_packed
@pytest.mark.parametrize("case", BAD_PACKED_CHAINS.values(), ids=BAD_PACKED_CHAINS)
def test_hostile_packed_receive_chains(switch, plug, bystanders, case):
    refuse_receive_chain(switch, plug(1, posted=0), bystanders[0], case)


def refuse_receive_chain(switch, evil, b, case):
    """The frame goes into the next good buffers or is dropped; the switch writes nowhere else."""
    teach(switch, evil, b)
    at, end = attack_memory(evil)
    evil.memory.write(at, b"\xA5" * PAGE)
    ring = evil.rings[0]
    evil.refill = False
    for _ in range(3):
        case(ring, at, end)
        ring.publish()
        watch = dropped(switch, evil.name)
        for size in 60, 1500, 9000:
            b.send(ethernet(evil.mac, b.mac, bytes(size - 14)))
        b.flush()
        state = ring_state(switch, evil.name, 0)
        assert ring.used_waiting() or state["reason"] or dropped(switch, evil.name) - watch
        evil.disconnect()
        switch.wait_port(evil.name, "down")
        for each in evil.rings:
            each.reset()
        evil.up()
        switch.wait_port(evil.name, "up")
        teach(switch, evil)
    evil.post(5)
    carry(b, evil)


def jump(by):
    def attack(ring):
        ring.avail_idx = (ring.avail_idx + by) & 0xFFFF
        ring.publish(kick=True)
    return attack


def head(number):
    def attack(ring):
        ring.set_avail(number)
        ring.publish(kick=True)
    return attack


def endless(ring):
    """A chain of the whole ring, and all say that another follows."""
    ring.add([(ring.memory.regions[0].gpa, 64, turned(ring, NEXT))] * ring.size)
    ring.publish(kick=True)


BAD_SPLIT_RINGS = {
    "index jumps by one too many": jump(257),
    "index jumps far": jump(40000),
    "index goes back": jump(-1),
    "head is too large": head(256),
    "head is far too large": head(65535),
}


@for_split
@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("case", BAD_SPLIT_RINGS.values(), ids=BAD_SPLIT_RINGS)
def test_split_rings_that_cannot_be_trusted(switch, plug, bystanders, case, index):
    stop_bad_ring(switch, plug(1), bystanders, case, index)


@for_packed
@pytest.mark.parametrize("index", [0, 1])
def test_packed_rings_without_an_end(switch, plug, bystanders, index):
    stop_bad_ring(switch, plug(1), bystanders, endless, index)


def stop_bad_ring(switch, evil, bystanders, case, index):
    """It is stopped, the port says why, and a reset by its guest helps."""
    b = bystanders[0]
    teach(switch, evil, b)
    exchange(evil, b)
    evil.flush()
    ring = evil.rings[index]
    if index == 0:  # no buffers are waiting, so that the index cannot be true in any case
        evil.refill = False
        for _ in range(len(ring.chains)):
            carry(b, evil)
    case(ring)
    watch = dropped(switch, evil.name)
    if index == 0:
        for _ in range(5):
            b.send(ethernet(evil.mac, b.mac, bytes(46)))
        b.flush()
    state = wait_until(lambda: (s := ring_state(switch, evil.name, index))["state"] == "malformed" and s,
                       3, "the ring is called malformed")
    assert state["reason"]
    if index == 0:
        assert sum((dropped(switch, evil.name) - watch).values()) == 5
    alive(switch, bystanders)
    start_anew(switch, evil)
    exchange(evil, b)


def start_anew(switch, guest):
    """As a guest that reboots."""
    for index, ring in enumerate(guest.rings):
        guest.stop_ring(index)
        ring.reset()
    guest.refill = True
    for index in range(len(guest.rings)):
        guest.restart_ring(index)
    guest.post(guest.posted)
    attached(switch, guest, 0, 1)
    guest.drain()


SECONDS = 2 if FULL else 0.3  # of an attack that goes on


@contextlib.contextmanager
def meanwhile(action):
    """Has another thread act again and again, with a number that counts up."""
    stop, errors = threading.Event(), []

    def run():
        try:
            n = 0
            while not stop.is_set():
                action(n)
                n += 1
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert not errors, errors


@for_split
def test_descriptors_that_change_while_they_are_read(switch, plug, bystanders):
    """A driver rewrites a chain that it has published; what is checked must be what is used."""
    evil, b = plug(1), bystanders[0]
    teach(switch, evil, b)
    at, end = attack_memory(evil)
    ring = evil.rings[1]
    forms = [(at, 60, 0, 0), (at, (1 << 32) - 1, 0, 0), (OUTSIDE, 60, 0, 0), (end - 20, 60, 0, 0),
             (at, 60, NEXT, 0), (at, 60, WRITE, 0), (at + 4096, 32, INDIRECT, 0)]
    table(ring, at + 4096, (at, 20, NEXT, 1), (at, 40, 0, 0))

    def change(n):
        ring.set_desc(n % ring.size, *forms[n % len(forms)])

    with meanwhile(change):
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            for number in range(64):
                ring.set_avail(number)
            ring.publish(kick=True)
            until(lambda: ring.used_idx() == ring.published, 2, "chains returned")
            b.drain()
    b.drain()


@for_split
def test_chains_at_random(switch, plug, bystanders):
    """Tables of random descriptors, mostly close to good ones."""
    dice = random.Random(3)
    evil, b = plug(1, size=64), bystanders[0]
    teach(switch, evil, b)
    at, end = attack_memory(evil)
    for index in (1, 0) * 100:
        ring = evil.rings[index]
        way = WRITE if index == 0 else 0
        for number in range(ring.size):
            ring.set_desc(number,
                          dice.choice([at, at, at, end - dice.randrange(64), OUTSIDE, dice.getrandbits(64)]),
                          dice.choice([12, 60, 1000, 2048, 0, 16, 32, dice.getrandbits(32)]),
                          dice.choice([way, way | NEXT, way | NEXT, INDIRECT, dice.getrandbits(3)]),
                          dice.choice([dice.randrange(ring.size), dice.randrange(65536)]))
        for _ in range(16):
            ring.set_avail(dice.randrange(ring.size))
        ring.publish(kick=True)
        if index == 0:
            poke(b, evil, 60, 1500)
            ring.avail_idx = ring.used_idx()  # take back what was not used
            ring.publish()
        else:
            until(lambda: ring.used_idx() == ring.published, 2, "chains returned")
        b.drain()
        assert switch.port(evil.name)["state"] == "up"


# What only the driver of a packed ring can lie about

@for_packed
def test_buffer_ids_of_any_kind(switch, plug, bystanders):
    """They are the driver's own: each comes back as it was."""
    evil, b = plug(1, posted=0), bystanders[0]
    evil.refill = False
    for ring in evil.rings:
        ring.free = collections.deque([256, 40000, 65535, 0, 65534, 257])
    for size in 60, 1000, 60:
        evil.post(2, shape=(1200,))
        carry(evil, b, size)
        carry(b, evil, size)


@for_packed
@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("flags", [0, AVAILABLE | USED, "wrong"])
def test_wrap_counters_that_are_wrong(switch, plug, bystanders, flags, index):
    """Such a descriptor is not available, until its flags are right."""
    evil, b = plug(1), bystanders[0]
    teach(switch, evil, b)
    ring = evil.rings[index]
    if index == 0:
        evil.refill = False
        while ring.chains:
            carry(b, evil)
        evil.post(1, shape=(1200,), publish=False)
    else:
        evil.send(ethernet(b.mac, evil.mac, b"at last".ljust(46)), publish=False)
    right = ring.held
    ring.held = right & ~(AVAILABLE | USED) | (
        ring.available(ring.published) ^ (AVAILABLE | USED) if flags == "wrong" else flags)
    at = ring.place(ring.published) + 14
    ring.publish(kick=True)
    watch = dropped(switch, evil.name)
    if index == 0:
        b.send(ethernet(evil.mac, b.mac, bytes(46)))
        b.flush()
        assert dropped(switch, evil.name) - watch == {"tx.ring_full": 1}
    else:
        alive(switch, bystanders)
    assert ring.memory.load("H", at) == ring.held, "the switch wrote to a descriptor that is not its own"
    ring.memory.store16(at, right)
    if index == 0:
        carry(b, evil)
    else:
        assert b.receive().data[14:21] == b"at last"
    attached(switch, evil, 0, 1)


@for_packed
def test_flags_that_flip(switch, plug, bystanders):
    """Descriptors are published and taken back as fast as a guest can."""
    evil, b = plug(1), bystanders[0]
    teach(switch, evil, b)
    at, _ = attack_memory(evil)
    words = [AVAILABLE, USED, AVAILABLE | USED, 0]

    def flip(n):
        ring = evil.rings[n & 1]
        number = n // 2 % ring.size
        ring.set_desc(number, at, 60, words[n // 7 % 4] | (0, WRITE, NEXT, WRITE | NEXT)[n // 3 % 4], number)

    with meanwhile(flip):
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            poke(b, evil, *[60] * 10)
            b.drain()
    start_anew(switch, evil)
    exchange(evil, b)


@for_packed
def test_packed_descriptors_that_change_while_they_are_read(switch, plug, bystanders):
    """A driver rewrites what it has published; what is checked must be what is used."""
    evil, b = plug(1), bystanders[0]
    teach(switch, evil, b)
    at, end = attack_memory(evil)
    forms = [(at, 60, 0), (at, (1 << 32) - 1, 0), (OUTSIDE, 60, 0), (end - 20, 60, 0), (at, 60, NEXT),
             (at, 60, WRITE), (at + 4096, 32, INDIRECT), (OUTSIDE, 2048, WRITE), (at, 2048, WRITE)]
    table(evil.rings[1], at + 4096, (at, 20, 0, 0), (at, 40, 0, 0))
    wrap = AVAILABLE  # the first lap's; every third descriptor is of the other

    def change(n):
        ring = evil.rings[n & 1]
        gpa, size, flags = forms[n // 2 % len(forms)]
        number = n // 2 % ring.size
        # The flags stay as they are while the rest changes.
        ring.memory.store("QI", ring.desc + 16 * number, gpa, size)
        ring.memory.store16(ring.desc + 16 * number + 14, flags | (wrap if n % 3 else USED))

    with meanwhile(change):
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            poke(b, evil, *[60] * 10)
            b.drain()
    start_anew(switch, evil)
    exchange(evil, b)


@for_packed
@pytest.mark.parametrize("index", [0, 1])
def test_a_chain_that_is_not_finished(switch, plug, bystanders, index):
    """Its last descriptor says that another follows, which is not available. What the switch makes of
    that is the guest's own harm, and no longer than until it starts anew."""
    evil, b = plug(1), bystanders[0]
    teach(switch, evil, b)
    at, _ = attack_memory(evil)
    ring = evil.rings[index]
    for _ in range(3):
        evil.refill = False
        while ring.free and index == 0:
            ring.put([(at, 64, WRITE)])
        ring.publish()
        if index == 0:
            while ring.chains and not ring.used_waiting():
                poke(b, evil, 60)
        with contextlib.suppress(IndexError):
            ring.add([(at, 64, turned(ring, NEXT))] * 3)
        ring.publish(kick=True)
        poke(b, evil, *[60] * 5)
        b.drain()
        alive(switch, bystanders)
        start_anew(switch, evil)
        exchange(evil, b)


@for_packed
@pytest.mark.parametrize("word, flags", [(0x7FFF, EVENTS_AT), (0xFFFF, EVENTS_AT), (256, EVENTS_AT),
                                         (0x8000 | 256, EVENTS_AT), (0, 3), (0xFFFF, 0xFFFF), (0, 0x8000)])
def test_events_that_make_no_sense(switch, plug, bystanders, word, flags):
    """The guest gets interrupts or it gets none, and frames in any case; a wish that makes sense is
    met again."""
    evil, b = plug(1), bystanders[0]
    teach(switch, evil, b)
    for _ in range(3):
        for ring in evil.rings:
            ring.set_event(ring.avail, word, flags)
            ring.set_event(ring.used, word, flags)  # which is not the driver's to write
        exchange(evil, b, 100)
    for ring in evil.rings:
        ring.ask_interrupt(False)
    exchange(evil, b, 2)
    for ring in evil.rings:
        ring.interrupts()
        ring.ask_interrupt(True)
    carry(b, evil)
    carry(evil, b)
    for ring in evil.rings:
        until(ring.interrupts, 2, "the interrupt asked for")


@pytest.mark.over("layout", "order", "merge")
@pytest.mark.parametrize("moved, to", [((1, "used"), (1, "desc")), ((0, "used"), (0, "desc")),
                                       ((1, "avail"), (1, "desc")), ((1, "used"), (1, "avail")),
                                       ((0, "used"), (0, "avail")), ((1, "desc"), (0, "desc")),
                                       ((0, "desc"), (1, "desc")), ((0, "used"), (1, "desc"))])
def test_rings_that_overlap(switch, plug, bystanders, moved, to):
    """What the switch writes to one it reads from another. Only this guest has a use for that."""
    evil, b = plug(1, up=False, size=64), bystanders[0]
    (index, part), (other, target) = moved, to
    original = getattr(evil.rings[index], part)
    setattr(evil.rings[index], part, getattr(evil.rings[other], target))
    evil.connect().handshake()
    at, _ = attack_memory(evil)
    for _ in range(5):
        for ring in evil.rings:
            while ring.free:
                ring.put([(at, 64, turned(ring, 0))])
            ring.publish(kick=True)
        poke(b, evil, *[60] * 70)
        b.drain()
        with contextlib.suppress(AssertionError, KeyError):  # the driver reads what it wrote itself
            for ring in evil.rings:
                while ring.take():
                    pass
    evil.disconnect()
    switch.wait_port(evil.name, "down")
    b.drain()  # what came last, of a worker that is not b's
    setattr(evil.rings[index], part, original)
    for ring in evil.rings:
        ring.reset()
    evil.up()
    switch.wait_port(evil.name, "up")
    exchange(evil, b)


@for_packed
def test_packed_chains_at_random(switch, plug, bystanders):
    """Rings of random descriptors, mostly close to good ones; a ring that is stopped starts anew."""
    dice = random.Random(3)
    evil, b = plug(1, size=60), bystanders[0]
    teach(switch, evil, b)
    at, end = attack_memory(evil)
    stopped = 0
    for turn in range(200):
        for index in 0, 1:
            ring = evil.rings[index]
            way = turned(ring, 0)
            for number in range(ring.size):
                ring.set_desc(
                    number,
                    dice.choice([at, at, at, end - dice.randrange(64), OUTSIDE, dice.getrandbits(64)]),
                    dice.choice([12, 60, 1000, 2048, 0, 16, 32, dice.getrandbits(32)]),
                    dice.choice([way, way | NEXT, INDIRECT, dice.getrandbits(16)])
                    | dice.choice([AVAILABLE, AVAILABLE, USED]), dice.randrange(65536))
        os.eventfd_write(evil.rings[1].kick, 1)
        poke(b, evil, 60, 1500, 9000)
        b.drain()
        states = [ring_state(switch, evil.name, index) for index in (0, 1)]
        assert all(state["state"] == "attached" or state["reason"] for state in states)
        if turn % 10 == 9 or any(state["state"] != "attached" for state in states):
            stopped += any(state["state"] == "malformed" for state in states)
            start_anew(switch, evil)
    exchange(evil, b)
