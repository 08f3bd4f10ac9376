# SPDX-License-Identifier: BSD-3-Clause
"""The front-end's own rings (frontend.py) against simple devices, which were written from the virtio
specification alone: no switch takes part. What the other tests say of the switch rests on this. And the
table of the ring matrix."""
import itertools
import random

import pytest

from frontend import (AVAILABLE, EVENTS_AT, EVENTS_OFF, EVENTS_ON, INDIRECT, LINUX, NEXT, PAGE, USED, WRITE,
                      DirtyLog, F, Memory, PackedRing, Region, SplitRing)
from matrix import CHOICES, LINUX_RINGS, every_row, pairwise_rows, rows


class SplitDevice:
    """Virtio 1.2, 2.7: takes chains by the available ring, returns them by the used ring."""

    def __init__(self, ring):
        self.ring, self.load = ring, ring.memory.load
        self.taken = self.used = 0

    def take(self):
        """The next available chain as (id, its buffers, its descriptors in the ring), or None."""
        ring = self.ring
        if self.taken == self.load("H", ring.avail + 2):
            return None
        head = self.load("H", ring.avail + 4 + 2 * (self.taken % ring.size))
        self.taken = (self.taken + 1) % 65536
        buffers, at, table, in_ring = [], head, ring.desc, 0
        while True:
            in_ring += table == ring.desc
            gpa, size, flags, following = self.load_descriptor(table + 16 * at)
            if flags & INDIRECT:
                table, at = gpa, 0
                continue
            buffers.append((gpa, size, flags & WRITE))
            if not flags & NEXT:
                return head, buffers, in_ring
            at = following

    def load_descriptor(self, place):
        return [self.load(form, place + at) for form, at in (("Q", 0), ("I", 8), ("H", 12), ("H", 14))]

    def use(self, chains, length):
        """Returns chains, each with that many bytes written."""
        for head, _, _ in chains:
            place = self.ring.used + 4 + 8 * (self.used % self.ring.size)
            self.ring.memory.store("II", place, head, length)
            self.used = (self.used + 1) % 65536
            self.ring.memory.store16(self.ring.used + 2, self.used)

    def interrupts(self, before, after):
        """Does the driver want one for the used elements from one index to the other?"""
        if self.ring.event_idx:
            event = self.load("H", self.ring.avail + 4 + 2 * self.ring.size)
            return (after - event - 1) % 65536 < (after - before) % 65536
        return not self.load("H", self.ring.avail) & 1

    def ask_kick(self, on):
        if self.ring.event_idx:
            event = (self.taken - (not on)) % 65536
            self.ring.memory.store16(self.ring.used + 4 + 8 * self.ring.size, event)
        else:
            self.ring.memory.store16(self.ring.used, not on)


class PackedDevice:
    """Virtio 1.2, 2.8: places and wrap counters, as a device would keep them. `batch`: returns all
    chains of one use() by the last one's id."""

    def __init__(self, ring, batch=False):
        self.ring, self.load, self.batch = ring, ring.memory.load, batch
        self.at, self.wrap = 0, 1  # to take next
        self.used_at, self.used_wrap = 0, 1

    def step(self, at, wrap, count):
        return (at + count) % self.ring.size, wrap ^ (at + count >= self.ring.size)

    def read(self, place):
        return [self.load(form, place + at) for form, at in (("Q", 0), ("I", 8), ("H", 12), ("H", 14))]

    def take(self):
        buffers, in_ring = [], 0
        while True:
            gpa, size, ident, flags = self.read(self.ring.desc + 16 * self.at)
            if (bool(flags & AVAILABLE), bool(flags & USED)) != (self.wrap == 1, self.wrap == 0):
                assert in_ring == 0, "a chain that is published in part"
                return None
            in_ring += 1
            self.at, self.wrap = self.step(self.at, self.wrap, 1)
            if flags & INDIRECT:
                for place in range(gpa, gpa + size, 16):
                    gpa, part, _, flags = self.read(place)
                    assert not flags & ~WRITE, "no other flag is valid in a table"
                    buffers.append((gpa, part, flags))
                return ident, buffers, in_ring
            buffers.append((gpa, size, flags & WRITE))
            if not flags & NEXT:
                return ident, buffers, in_ring

    def use(self, chains, length):
        skip = 0
        for n, (ident, _, in_ring) in enumerate(chains):
            skip += in_ring
            if self.batch and n + 1 < len(chains):
                continue
            place = self.ring.desc + 16 * self.used_at
            self.ring.memory.store("IH", place + 8, length, ident)
            self.ring.memory.store16(place + 14, (AVAILABLE | USED) * self.used_wrap)
            self.used_at, self.used_wrap = self.step(self.used_at, self.used_wrap, skip)
            skip = 0

    def interrupts(self, before, after):
        """The same as of a split ring; before and after are (place, wrap counter)."""
        word, flags = self.load("H", self.ring.avail), self.load("H", self.ring.avail + 2)
        if flags != EVENTS_AT:
            return flags == EVENTS_ON
        while before != after:
            if word == before[0] | before[1] << 15:
                return True
            before = self.step(*before, 1)
        return False

    def ask_kick(self, on):
        if not on or not self.ring.event_idx:
            self.ring.set_event(self.ring.used, 0, EVENTS_ON if on else EVENTS_OFF)
        else:
            self.ring.set_event(self.ring.used, self.at | self.wrap << 15, EVENTS_AT)

    @property
    def used(self):
        return self.used_at, self.used_wrap


@pytest.fixture
def memory():
    memory = Memory(Region(0x10_0000, 8 << 20))
    yield memory
    memory.close()


@pytest.fixture(params=[1, 2, 5, 7, 64, 100, 256], ids=str)
def packed(memory, request):
    ring = PackedRing(memory, request.param)
    yield ring
    ring.close()


def buffers_of(dice, most, memory):
    start = memory.regions[0].gpa
    return [(start + dice.randrange(1 << 20), dice.randrange(1, 5000), WRITE * dice.randrange(2))
            for _ in range(dice.randrange(1, most + 1))]


def pair(memory, layout, size, in_order=False, batch=False):
    ring = {"split": SplitRing, "packed": PackedRing}[layout](memory, size)
    ring.in_order = in_order
    return ring, SplitDevice(ring) if layout == "split" else PackedDevice(ring, batch)


SHAPES = [("split", 64), ("split", 1), *(("packed", size) for size in (1, 2, 5, 7, 64, 100))]


@pytest.mark.parametrize("in_order, batch", [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("layout, size", SHAPES)
def test_chains_go_round(memory, layout, size, in_order, batch):
    """What a driver puts is what the device takes, and what that returns the driver gets back, for
    some laps, with chains of all shapes, published and returned by ones and by many."""
    dice = random.Random(size)
    ring, device = pair(memory, layout, size, in_order, batch)
    waiting, seen, sent, got = [], 0, 0, []
    while seen < 12 * size + 100:
        if dice.random() < 0.6:
            for _ in range(dice.randrange(1, 4)):
                indirect = dice.random() < 0.3
                buffers = buffers_of(dice, min(4, size), memory)
                if len(ring.free) >= (1 if indirect else len(buffers)):
                    waiting.append((ring.put(buffers, indirect), buffers))
                    sent += 1
            assert device.take() is None, "visible before publish()"
            ring.publish()
            got += iter(device.take, None)
            assert [(ident, buffers) for ident, buffers, _ in got] == waiting
        count = dice.randrange(len(got) + 1)
        if not in_order:
            dice.shuffle(got)
            by_id = dict(waiting)
            waiting = [(ident, by_id[ident]) for ident, _, _ in got]
        device.use(got[:count], 12)
        for n, (ident, buffers) in enumerate(waiting[:count]):
            assert ring.used_waiting() == count - n
            chain, length = ring.take()
            assert (chain.ids[0], chain.buffers) == (ident, buffers)
            whole = sum(size for _, size, flags in buffers if flags & WRITE)
            assert length == (whole if layout == "packed" and batch and n + 1 < count else 12)
        assert ring.take() is None
        del got[:count], waiting[:count]
        seen += count
        assert len(ring.free) == size - sum(in_ring for _, _, in_ring in got)
    assert sent >= seen
    ring.close()


@pytest.mark.parametrize("layout, size", SHAPES)
def test_a_used_chain_is_asserted_to_be_in_flight(memory, layout, size):
    ring, device = pair(memory, layout, size)
    ring.put([(memory.regions[0].gpa, 1, 0)])
    ring.publish()
    _, buffers, in_ring = device.take()
    device.use([(size + 3, buffers, in_ring)], 0)
    with pytest.raises(AssertionError, match="not in flight"):
        ring.take()
    ring.close()


def test_what_is_out_of_order_is_noticed(memory):
    """Only of a split ring: an id of a packed one stands for all chains before it."""
    ring, device = pair(memory, "split", 8)
    for in_order in False, True:
        for _ in range(2):
            ring.put([(memory.regions[0].gpa, 1, 0)])
        ring.publish()
        first, second = device.take(), device.take()
        ring.in_order = in_order
        device.use([second, first], 0)
        if in_order:
            with pytest.raises(AssertionError, match="out of order"):
                ring.take()
        else:
            assert [ring.take()[0].ids[0] for _ in range(2)] == [second[0], first[0]]
    ring.close()


@pytest.mark.parametrize("event_idx", [True, False])
@pytest.mark.parametrize("layout, size", SHAPES)
def test_kicks_and_interrupts(memory, layout, size, event_idx):
    """Each side notifies the other when it was asked to and only then, in every lap."""
    ring, device = pair(memory, layout, size)
    ring.event_idx = event_idx
    dice = random.Random(1)
    for _ in range(5 * size + 20):
        kick, interrupt = dice.random() < 0.5, dice.random() < 0.5
        device.ask_kick(kick)
        kicks, before = ring.kicks, device.used
        count = dice.randrange(1, min(size, 4) + 1)
        for _ in range(count):
            ring.put([(memory.regions[0].gpa, 1, 0)])
        ring.publish()
        ring.ask_interrupt(interrupt)
        assert ring.kicks - kicks == kick
        device.use([device.take() for _ in range(count)], 0)
        assert device.interrupts(before, device.used) == interrupt
        for _ in range(count):
            ring.take()
    ring.close()


def test_a_kick_for_what_lies_behind_the_event(packed):
    """No kick while the event's position has not been published, nor once it has passed."""
    packed.event_idx = True
    for ahead in range(packed.size):
        packed.reset()
        packed.set_event(packed.used, packed.word(ahead), EVENTS_AT)
        for n in range(packed.size):
            packed.put([(packed.memory.regions[0].gpa, 1, 0)])
            packed.publish()
            assert packed.kicks == (n >= ahead)


def test_bases_of_packed_rings(packed):
    """Places count up to the ring's size; the wrap counter is 1 in every other lap."""
    device = PackedDevice(packed)
    for n in range(5 * packed.size):
        assert packed.base() == packed.base_after(n) == device.used_at | device.used_wrap << 15
        packed.put([(packed.memory.regions[0].gpa, 1, 0)])
        packed.publish()
        assert packed.ahead() == packed.base_after(n + 1)
        assert packed.base() == packed.base_after(n)
        device.use([device.take()], 0)
        assert packed.used_waiting() == 1
        packed.take()


def test_a_log_tells_its_pages(memory):
    log = DirtyLog(memory)
    end = (memory.regions[0].gpa + memory.regions[0].size) // PAGE
    assert log.take() == set() and 8 * log.region.size >= end
    for page in 0, 7, 8, end - 1:
        log.region.map[page // 8] |= 1 << page % 8
    assert log.take() == {0, 7, 8, end - 1}
    assert log.take() == set()
    log.close()


def pairs(row):
    return set(itertools.combinations(row._asdict().items(), 2))


def test_each_pair_of_choices_occurs():
    possible = set().union(*map(pairs, every_row()))
    assert set().union(*map(pairs, pairwise_rows())) == possible
    assert len(possible) == 60 - 2, "but for packed or mergeable with the short header"
    assert set(pairwise_rows()) <= set(every_row())


def test_narrowed_rows():
    assert rows() == [LINUX_RINGS]
    assert [str(row) for row in rows("layout", order="in_order")] == ["in_order", "packed+in_order"]
    assert {row.layout for row in rows(*CHOICES, layout="packed")} == {"packed"}
    assert all(row.possible() for row in rows(*CHOICES, layout="packed"))


def test_features_of_rows():
    assert LINUX_RINGS.features(LINUX) == LINUX
    for row in every_row():
        features = row.features(LINUX)
        for choice, flag in (("merge", F.MRG_RXBUF), ("tables", F.INDIRECT_DESC), ("events", F.EVENT_IDX),
                             ("header", F.VERSION_1)):
            assert bool(features & flag) == (getattr(row, choice) == CHOICES[choice][0])
        assert bool(features & F.RING_PACKED) == (row.layout == "packed")
        assert bool(features & F.IN_ORDER) == (row.order == "in_order")
