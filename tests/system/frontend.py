# SPDX-License-Identifier: BSD-3-Clause
"""
A scripted vhost-user front-end: the VMM and the guest driver of one virtio-net device.

Real guests never send half a message, lie about their memory or corrupt their own rings, so the
switch's answers to that are tested with this module. It has these layers, each usable alone:

  Memory     guest memory: memfd regions, addressed by guest physical address (gpa) for buffers and
             by front-end virtual address (uva) for rings, as in the protocol; the two differ always
  Vhost      one connection: any message, well-formed or not, with any descriptors
  SplitRing, PackedRing   the driver side of one virtqueue, with raw access for corruption; both have
             the methods of Ring, so that a guest works over either
  DirtyLog   the log of written pages that a migrating VMM shares with the back-end
  Guest      a whole device on top: handshake, send frames, receive frames

    with Guest("/run/vm1.sock").up() as a, Guest("/run/vm2.sock").up() as b:
        a.send(ethernet(b.mac, a.mac, b"hello"))
        assert b.receive().data.endswith(b"hello")

It follows the vhost-user protocol document and the virtio 1.2 specification, sections 2.7, 2.8 and 5.1.
"""
import collections
import enum
import mmap
import os
import select
import socket
import struct
import time

PAGE = 4096
POISON = b"\xA5"
UVA = 0x7F00_0000_0000  # what the front-end adds to a gpa to make its own virtual address


class Msg(enum.IntEnum):
    """Requests of the front-end."""
    GET_FEATURES = 1
    SET_FEATURES = 2
    SET_OWNER = 3
    RESET_OWNER = 4
    SET_MEM_TABLE = 5
    SET_LOG_BASE = 6
    SET_LOG_FD = 7
    SET_VRING_NUM = 8
    SET_VRING_ADDR = 9
    SET_VRING_BASE = 10
    GET_VRING_BASE = 11
    SET_VRING_KICK = 12
    SET_VRING_CALL = 13
    SET_VRING_ERR = 14
    GET_PROTOCOL_FEATURES = 15
    SET_PROTOCOL_FEATURES = 16
    GET_QUEUE_NUM = 17
    SET_VRING_ENABLE = 18
    SEND_RARP = 19
    NET_SET_MTU = 20
    GET_CONFIG = 24
    POSTCOPY_ADVISE = 28
    POSTCOPY_LISTEN = 29
    POSTCOPY_END = 30
    GET_INFLIGHT_FD = 31
    SET_STATUS = 39
    GET_STATUS = 40


class F(enum.IntFlag):
    """Device features: those of the network device, of the ring and of the transport."""
    CSUM = 1 << 0
    GUEST_CSUM = 1 << 1
    MTU = 1 << 3
    GUEST_TSO4 = 1 << 7
    GUEST_TSO6 = 1 << 8
    GUEST_ECN = 1 << 9
    GUEST_UFO = 1 << 10
    HOST_TSO4 = 1 << 11
    HOST_TSO6 = 1 << 12
    HOST_ECN = 1 << 13
    HOST_UFO = 1 << 14
    MRG_RXBUF = 1 << 15
    MQ = 1 << 22
    LOG_ALL = 1 << 26
    INDIRECT_DESC = 1 << 28
    EVENT_IDX = 1 << 29
    PROTOCOL_FEATURES = 1 << 30
    VERSION_1 = 1 << 32
    RING_PACKED = 1 << 34
    IN_ORDER = 1 << 35


HOST_OFFLOADS = F.CSUM | F.HOST_TSO4 | F.HOST_TSO6 | F.HOST_ECN
GUEST_OFFLOADS = F.GUEST_CSUM | F.GUEST_TSO4 | F.GUEST_TSO6 | F.GUEST_ECN
PLAIN = F.VERSION_1 | F.PROTOCOL_FEATURES
LINUX = (PLAIN | F.MRG_RXBUF | F.INDIRECT_DESC | F.EVENT_IDX | HOST_OFFLOADS | GUEST_OFFLOADS)

# Protocol features: MQ, LOG_SHMFD, RARP, REPLY_ACK, NET_MTU.
PROTOCOL = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4
PROTOCOL_CONFIG = 1 << 9

NEXT, WRITE, INDIRECT = 1, 2, 4  # descriptor flags
AVAILABLE, USED = 1 << 7, 1 << 15  # flags of a descriptor in a packed ring
NO_INTERRUPT = NO_NOTIFY = 1  # flags of the avail and of the used ring
EVENTS_ON, EVENTS_OFF, EVENTS_AT = 0, 1, 2  # flags of an event suppression structure
NEEDS_CSUM, DATA_VALID = 1, 2  # flags of the network header
GSO_NONE, GSO_TCPV4, GSO_UDP, GSO_TCPV6, GSO_ECN = 0, 1, 3, 4, 0x80

VERSION, REPLY, NEED_REPLY = 1, 1 << 2, 1 << 3  # flags of a message
NO_FD = 1 << 8


class Timeout(AssertionError):
    """Something that the back-end owes did not come."""


def until(predicate, timeout, what):
    """Poll until predicate() is true and return its value; for conditions in shared memory."""
    deadline = time.monotonic() + timeout
    while not (value := predicate()):
        if time.monotonic() > deadline:
            raise Timeout(f"not within {timeout} s: {what}")
        time.sleep(0.0002)
    return value


def pages(gpa, size):
    """The numbers of the pages on which this lies."""
    return range(gpa // PAGE, (gpa + size - 1) // PAGE + 1 if size else gpa // PAGE)


class Region:
    """One memory region; `claim` is the size told to the back-end when it shall be a lie. What the
    guest writes to a `private` one stays with it."""

    def __init__(self, gpa, size, uva=None, fd=None, offset=0, claim=None, private=False):
        self.gpa, self.size, self.offset, self.claim = gpa, size, offset, claim or size
        self.uva = gpa + UVA if uva is None else uva
        if fd is None:
            fd = os.memfd_create("guest", os.MFD_CLOEXEC)
            os.ftruncate(fd, offset + size)
        else:
            fd = os.dup(fd)
        self.fd = fd
        flags = mmap.MAP_PRIVATE if private else mmap.MAP_SHARED
        self.map = mmap.mmap(fd, size, flags, offset=offset)

    def close(self):
        self.map.close()
        os.close(self.fd)


class Memory:
    """Guest memory. Everything is placed by alloc() from the last region unless a test says where."""

    def __init__(self, *regions):
        self.regions = list(regions) or [Region(0x10_0000, 32 << 20)]
        self.written = set()  # pages that the device wrote to, as drivers found when they took chains
        self.cursor = self.regions[-1].gpa
        self.limit = self.cursor + self.regions[-1].size

    def alloc(self, size, align=16):
        gpa = -(-self.cursor // align) * align
        self.cursor = gpa + size
        assert self.cursor <= self.limit, "the test's guest memory is too small"
        return gpa

    def find(self, gpa):
        for region in self.regions:
            if region.gpa <= gpa < region.gpa + region.size:
                return region, gpa - region.gpa
        raise IndexError(f"gpa {gpa:#x} is outside guest memory")

    def uva(self, gpa):
        region, offset = self.find(gpa)
        return region.uva + offset

    def write(self, gpa, data):
        while data:
            region, offset = self.find(gpa)
            part = data[:region.size - offset]
            region.map[offset:offset + len(part)] = part
            gpa, data = gpa + len(part), data[len(part):]

    def read(self, gpa, size):
        data = b""
        while len(data) < size:
            region, offset = self.find(gpa + len(data))
            data += region.map[offset:min(region.size, offset + size - len(data))]
        return data

    def store16(self, gpa, value):
        """One store of 16 bits, for what the device reads at any time: struct would clear the bytes
        first, and an index that is 0 for a moment is a ring that cannot be trusted."""
        region, offset = self.find(gpa)
        with memoryview(region.map)[offset:offset + 2].cast("H") as field:
            field[0] = value

    def store(self, form, gpa, *values):
        region, offset = self.find(gpa)
        struct.pack_into("=" + form, region.map, offset, *values)

    def load(self, form, gpa):
        region, offset = self.find(gpa)
        return struct.unpack_from("=" + form, region.map, offset)[0]

    def close(self):
        for region in self.regions:
            region.close()


class Vhost:
    """One connection of a front-end. Its methods send; those named get_ also await the answer."""

    def __init__(self, path=None, timeout=5.0, sock=None):
        if sock is None:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.settimeout(timeout)
            sock.connect(path)
        sock.settimeout(timeout)
        self.sock = sock

    @classmethod
    def accept(cls, listener, timeout=5.0):
        """For a back-end in client mode: the front-end owns the listening socket."""
        listener.settimeout(timeout)
        return cls(sock=listener.accept()[0])

    def send(self, request, payload=b"", fds=(), need_reply=False, flags=VERSION, size=None):
        """Any message; `size` overrides the length in its header. With need_reply: the answer."""
        flags |= NEED_REPLY if need_reply else 0
        head = struct.pack("=III", request, flags, len(payload) if size is None else size)
        self.raw(head + payload, fds)
        return self.ack(request) if need_reply else None

    def raw(self, data, fds=()):
        sent = socket.send_fds(self.sock, [data], list(fds)) if fds else self.sock.send(data)
        assert sent == len(data)

    def receive(self):
        head = self.exactly(12)
        request, flags, size = struct.unpack("=III", head)
        assert flags & REPLY, f"not a reply: {request} {flags:#x}"
        return request, self.exactly(size)

    def exactly(self, size):
        data = b""
        while len(data) < size:
            part = self.sock.recv(size - len(data))
            if not part:
                raise ConnectionResetError("the back-end closed the connection")
            data += part
        return data

    def ack(self, request):
        """0 when the back-end took the message, another number when it refused it."""
        got, payload = self.receive()
        assert got == request, f"answer to {got} instead of {request}"
        return struct.unpack("=Q", payload)[0]

    def get(self, request, payload=b""):
        self.send(request, payload)
        return self.ack(request)

    def vring(self, request, index, number, **how):
        return self.send(request, struct.pack("=II", index, number), **how)

    def get_vring_base(self, index):
        self.vring(Msg.GET_VRING_BASE, index, 0)
        got, payload = self.receive()
        assert (got, struct.unpack("=II", payload)[0]) == (Msg.GET_VRING_BASE, index)
        return struct.unpack("=II", payload)[1]

    def eventfd(self, request, index, fd, **how):
        """SET_VRING_KICK, _CALL and _ERR; fd None says that there is none."""
        word = struct.pack("=Q", index | (NO_FD if fd is None else 0))
        return self.send(request, word, fds=[] if fd is None else [fd], **how)

    def mem_table(self, regions, fds=None, **how):
        table = struct.pack("=II", len(regions), 0)
        for r in regions:
            table += struct.pack("=QQQQ", r.gpa, r.claim, r.uva, r.offset)
        fds = [r.fd for r in regions] if fds is None else fds
        return self.send(Msg.SET_MEM_TABLE, table, fds=fds, **how)

    def vring_addr(self, index, desc, used, avail, log=0, flags=0, **how):
        payload = struct.pack("=IIQQQQ", index, flags, desc, used, avail, log)
        return self.send(Msg.SET_VRING_ADDR, payload, **how)

    def sync(self):
        """All messages sent so far have been handled when this returns."""
        return self.get(Msg.GET_FEATURES)

    def closed(self, timeout=5.0):
        """Whether the back-end hangs up within the time; what it still had to say is dropped."""
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self.sock], [], [], left)[0]:
                try:
                    if not self.sock.recv(4096):
                        return True
                except ConnectionResetError:
                    return True
        return False

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


Chain = collections.namedtuple("Chain", "ids buffers")


class Ring:
    """The driver side of a virtqueue of either layout, in three areas: `desc`, `avail`, which only the
    driver writes, and `used`, which only the device writes. A buffer is (gpa, length, flags: 0 or
    WRITE). Both layouts take as many of `free` for a chain as it has descriptors in the ring."""

    def __init__(self, memory, size=256, desc=None, avail=None, used=None):
        self.memory, self.size, self.event_idx, self.in_order = memory, size, False, False
        places = {"desc": desc, "avail": avail, "used": used}
        for name, (length, align) in self.areas().items():
            place = places[name]
            setattr(self, name, memory.alloc(length, align) if place is None else place)
        self.kick = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.call = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.tables = {}
        self.reset()

    def reset(self):
        """As a driver that starts the device anew."""
        for name, (length, _) in self.areas().items():
            self.memory.write(getattr(self, name), bytes(length))
        self.free = collections.deque(range(self.size))
        self.chains = {}  # in flight, by buffer id, in the order in which they were made available
        self.published = self.kicks = 0

    def put(self, buffers, indirect=False):
        """Write one chain and return its id; publish() makes it visible."""
        if not indirect:
            return self.add([(gpa, size, flags | NEXT) for gpa, size, flags in buffers[:-1]] + buffers[-1:],
                            buffers)
        key = (self.free[0], len(buffers))
        table = self.tables.get(key) or self.memory.alloc(16 * len(buffers))
        self.tables[key] = table
        self.fill_table(table, buffers)
        return self.add([(table, 16 * len(buffers), INDIRECT)], buffers)

    def kick_device(self):
        self.kicks += 1
        os.eventfd_write(self.kick, 1)

    def complete(self, ident):
        """The chain of a buffer id that the device has used; its descriptors are free again."""
        assert ident in self.chains, f"buffer id {ident} was used, which is not in flight"
        if self.in_order:
            assert ident == next(iter(self.chains)), f"buffer id {ident} was used out of order"
        chain = self.chains.pop(ident)
        self.free.extend(chain.ids)
        return chain

    def interrupts(self):
        """How many interrupts came since the last call."""
        try:
            return os.eventfd_read(self.call)
        except BlockingIOError:
            return 0

    def close(self):
        os.close(self.kick)
        os.close(self.call)


class SplitRing(Ring):
    """A split virtqueue (2.7). The switch fills in every used element, in order or not."""

    layout = "split"

    def areas(self):
        """(bytes, alignment) of each area."""
        return {"desc": (16 * self.size, 16), "avail": (6 + 2 * self.size, 2),
                "used": (6 + 8 * self.size, 4)}

    def reset(self):
        super().reset()
        self.avail_idx = self.seen = 0

    def move_to(self, count):
        """As a driver that has used that many chains already; before the device is started."""
        self.avail_idx = self.seen = self.published = count & 0xFFFF
        self.memory.store16(self.avail + 2, self.seen)
        self.memory.store16(self.used + 2, self.seen)

    # Raw access, for tests that corrupt.
    def set_desc(self, i, gpa, size, flags=0, following=0, table=None):
        table = self.desc if table is None else table
        self.memory.store("QIHH", table + 16 * i, gpa & (1 << 64) - 1, size, flags, following)

    def set_avail(self, head):
        """Put a head into the next slot of the avail ring, whatever it is."""
        self.memory.store("H", self.avail + 4 + 2 * (self.avail_idx % self.size), head)
        self.avail_idx = (self.avail_idx + 1) & 0xFFFF

    def used_idx(self):
        return self.memory.load("H", self.used + 2)

    # Where the device stands, as SET_VRING_BASE and GET_VRING_BASE say it.
    def base(self):
        return self.used_idx()

    def base_after(self, count):
        """What base() is when that many descriptors, each a chain, have been used since the reset."""
        return count & 0xFFFF

    def ahead(self):
        """What some front-ends say instead: where the driver stands."""
        return self.avail_idx

    def used_waiting(self):
        """How many chains the device has used that take() has not returned yet."""
        return (self.used_idx() - self.seen) & 0xFFFF

    # The driver proper.
    def fill_table(self, table, buffers):
        for n, (gpa, size, flags) in enumerate(buffers):
            last = n + 1 == len(buffers)
            self.set_desc(n, gpa, size, flags if last else flags | NEXT, 0 if last else n + 1, table)

    def add(self, descriptors, buffers=()):
        """Write descriptors, whatever their flags are, each but the last followed by the next."""
        ids = [self.free.popleft() for _ in descriptors]
        for own, following, (gpa, size, flags) in zip(ids, [*ids[1:], 0], descriptors):
            self.set_desc(own, gpa, size, flags, following)
        self.chains[ids[0]] = Chain(ids, buffers)
        self.set_avail(ids[0])
        return ids[0]

    def publish(self, kick=None):
        """Store the index; kick when the device wants it, or as the argument says."""
        old, self.published = self.published, self.avail_idx
        self.memory.store16(self.avail + 2, self.published)
        if kick or kick is None and self.wants_kick(old, self.published):
            self.kick_device()

    def wants_kick(self, old, new):
        if self.event_idx:
            event = self.memory.load("H", self.used + 4 + 8 * self.size)
            return (new - event - 1) & 0xFFFF < (new - old) & 0xFFFF
        return not self.memory.load("H", self.used) & NO_NOTIFY

    def take(self):
        """The next used element as (chain, length), or None."""
        if not self.used_waiting():
            return None
        place = self.used + 4 + 8 * (self.seen % self.size)
        self.memory.written.update(pages(place, 8), pages(self.used + 2, 2))
        head, length = self.memory.load("I", place), self.memory.load("I", place + 4)
        self.seen = (self.seen + 1) & 0xFFFF
        return self.complete(head), length

    def ask_interrupt(self, on):
        """An interrupt for the next used element, or none."""
        if self.event_idx:
            event = self.used_idx() if on else (self.used_idx() - 1) & 0xFFFF
            self.memory.store16(self.avail + 4 + 2 * self.size, event)
        else:
            self.memory.store16(self.avail, 0 if on else NO_INTERRUPT)


class PackedRing(Ring):
    """A packed virtqueue (2.8). Positions count descriptors since the reset. What driver and device
    say of a position is its word: the place in the ring, and in bit 15 the wrap counter, which
    changes with each lap and is 1 in the first. Flags are the publication, so each is stored behind
    the rest of its descriptor, by one store, and those of the first descriptor last of all."""

    layout = "packed"

    def areas(self):
        """(bytes, alignment) of each area."""
        return {"desc": (16 * self.size, 16), "avail": (4, 4), "used": (4, 4)}

    def reset(self):
        super().reset()
        self.next = self.back = 0  # the positions to write next, and where the next used one will be
        self.held = 0  # flags of the first descriptor that is not published yet
        self.done = collections.deque()  # (chain, length) that the device has used

    def move_to(self, count):
        """As a driver that has used that many descriptors already; before the device is started."""
        self.next = self.back = self.published = count
        for position in range(count - self.size, count):  # as they were used in the last lap
            wrap = self.word(position) >> 15
            self.memory.store16(self.place(position) + 14, (AVAILABLE | USED) * wrap)

    def word(self, position):
        lap, place = divmod(position, self.size)
        return place | (~lap & 1) << 15

    def place(self, position):
        return self.desc + 16 * (position % self.size)

    # Raw access, for tests that corrupt.
    def set_desc(self, i, gpa, size, flags=0, ident=0, table=None):
        place = (self.desc if table is None else table) + 16 * i
        self.memory.store("QIH", place, gpa & (1 << 64) - 1, size, ident)
        self.memory.store16(place + 14, flags)

    def set_event(self, area, word, flags):
        """Fill in an event suppression structure."""
        self.memory.store16(area, word)
        self.memory.store16(area + 2, flags)

    def flags(self, position):
        return self.memory.load("H", self.place(position) + 14)

    def available(self, position):
        """The flags that make a descriptor available there."""
        return AVAILABLE if self.word(position) >> 15 else USED

    # Where the device stands, as SET_VRING_BASE and GET_VRING_BASE say it.
    def base(self):
        self.look()
        return self.word(self.back)

    def base_after(self, count):
        """What base() is when that many descriptors have been used since the reset."""
        return self.word(count)

    def ahead(self):
        """Where the driver stands."""
        return self.word(self.next)

    def used_waiting(self):
        """How many chains the device has used that take() has not returned yet."""
        self.look()
        return len(self.done)

    # The driver proper.
    def fill_table(self, table, buffers):
        for n, (gpa, size, flags) in enumerate(buffers):
            self.set_desc(n, gpa, size, flags, table=table)

    def add(self, descriptors, buffers=()):
        """Write descriptors as one chain, whatever their flags are, and make all but the first of
        what publish() did not publish yet available."""
        ids = [self.free.popleft() for _ in descriptors]
        for gpa, size, flags in descriptors:
            self.memory.store("QIH", self.place(self.next), gpa & (1 << 64) - 1, size, ids[0])
            flags |= self.available(self.next)
            if self.next == self.published:
                self.held = flags
            else:
                self.memory.store16(self.place(self.next) + 14, flags)
            self.next += 1
        self.chains[ids[0]] = Chain(ids, buffers)
        return ids[0]

    def publish(self, kick=None):
        """Store the first flags; kick when the device wants it, or as the argument says."""
        old, self.published = self.published, self.next
        if old != self.next:
            self.memory.store16(self.place(old) + 14, self.held)
        if kick or kick is None and self.wants_kick(old, self.next):
            self.kick_device()

    def wants_kick(self, old, new):
        event, flags = (self.memory.load("H", self.used + at) for at in (0, 2))
        if self.event_idx and flags == EVENTS_AT:
            return any(self.word(position) == event for position in range(old, new))
        return flags != EVENTS_OFF

    def look(self):
        """Note what the device has used. In order it may return a batch of chains as one, by the id of
        the last; the others count as used completely (2.8, "In-order use of descriptors")."""
        while self.chains:
            wrap = self.word(self.back) >> 15
            flags = self.flags(self.back)
            if flags & (AVAILABLE | USED) != (AVAILABLE | USED) * wrap:
                break
            place = self.place(self.back)
            self.memory.written.update(pages(place + 8, 8))
            ident, length = self.memory.load("H", place + 12), self.memory.load("I", place + 8)
            while self.in_order and ident in self.chains and (first := next(iter(self.chains))) != ident:
                chain = self.complete(first)
                whole = sum(size for _, size, flags in chain.buffers if flags & WRITE)
                self.note(chain, whole)
            self.note(self.complete(ident), length)

    def note(self, chain, length):
        self.back += len(chain.ids)
        self.done.append((chain, length))

    def take(self):
        """The next used chain as (chain, length), or None."""
        self.look()
        return self.done.popleft() if self.done else None

    def ask_interrupt(self, on):
        """An interrupt for the next used descriptor, or none."""
        at = on and self.event_idx
        self.set_event(self.avail, self.base() if at else 0,
                       EVENTS_AT if at else EVENTS_ON if on else EVENTS_OFF)


class DirtyLog:
    """The log of a migration: one bit for each page of guest memory, set by the device."""

    def __init__(self, memory, size=None):
        end = max(region.gpa + region.size for region in memory.regions)
        self.region = Region(0, size or -(-end // (8 * PAGE)))

    def take(self):
        """The numbers of the pages whose bits were set since the last call. Unlike a VMM's, this
        loses what is set meanwhile: only while nothing is under way."""
        data = self.region.map[:]
        self.region.map[:] = bytes(len(data))
        return {8 * at + bit for at, byte in enumerate(data) if byte for bit in range(8) if byte >> bit & 1}

    def close(self):
        self.region.close()


Vnet = collections.namedtuple("Vnet", "flags gso_type hdr_len gso_size csum_start csum_offset")
NO_OFFLOAD = Vnet(0, 0, 0, 0, 0, 0)
Frame = collections.namedtuple("Frame", "data vnet buffers lengths queue")


def header_size(features):
    """Bytes of the network header (5.1.6.1)."""
    return 12 if features & (F.VERSION_1 | F.MRG_RXBUF | F.RING_PACKED) else 10


class Guest:
    """A device with its driver. Queue pair q is rings 2q (receive) and 2q + 1 (transmit)."""

    def __init__(self, path, number=1, features=LINUX, queues=1, size=256, memory=None,
                 buffers=None, posted=None, start=0, timeout=5.0):
        """buffers: the lengths of one receive chain, by default such as fit the features; posted: how
        many chains of them up() posts; start: how many descriptors were used before."""
        self.path, self.wanted, self.queues, self.timeout = path, features, queues, timeout
        self.mac = bytes([0x52, 0x54, 0, 0, 0, number])
        self.memory = memory or Memory()
        layout = PackedRing if features & F.RING_PACKED else SplitRing
        self.rings = [layout(self.memory, size) for _ in range(2 * queues)]
        for index, ring in enumerate(self.rings):
            ring.receives = index % 2 == 0
            ring.move_to(start)
        self.shape = buffers or ((2048,) if features & F.MRG_RXBUF else (header_size(features), 9100))
        self.posted = min(max(size // 2, 1), size // len(self.shape)) if posted is None else posted
        self.arena = self.memory.alloc(8 << 20, PAGE)
        self.arena_used = 0
        self.refill = True  # post the buffers of a received frame again
        self.link = self.log = None

    # Life of the connection.
    def connect(self):
        self.link = Vhost(self.path, self.timeout)
        return self

    def steps(self, base=None):
        """The handshake, one message for each next(); base(ring) overrides SET_VRING_BASE."""
        link = self.link
        self.offered = link.get(Msg.GET_FEATURES)
        yield "GET_FEATURES"
        self.protocol = link.get(Msg.GET_PROTOCOL_FEATURES) & PROTOCOL
        yield "GET_PROTOCOL_FEATURES"
        link.send(Msg.SET_PROTOCOL_FEATURES, struct.pack("=Q", self.protocol))
        yield "SET_PROTOCOL_FEATURES"
        self.max_queues = link.get(Msg.GET_QUEUE_NUM)
        yield "GET_QUEUE_NUM"
        link.send(Msg.SET_OWNER)
        yield "SET_OWNER"
        self.features = F(self.wanted & self.offered)
        assert not (self.wanted ^ self.features) & F.RING_PACKED, "packed rings are not offered"
        link.send(Msg.SET_FEATURES, struct.pack("=Q", self.features))
        yield "SET_FEATURES"
        link.mem_table(self.memory.regions)
        yield "SET_MEM_TABLE"
        self.header_size = header_size(self.features)
        for index in range(len(self.rings)):
            yield from self.start_ring(index, base)
        if self.features & F.PROTOCOL_FEATURES:
            for index in range(len(self.rings)):
                link.vring(Msg.SET_VRING_ENABLE, index, 1)
                yield f"SET_VRING_ENABLE {index}"

    def start_ring(self, index, base=None):
        link, ring = self.link, self.rings[index]
        ring.event_idx = bool(self.features & F.EVENT_IDX)
        ring.in_order = bool(self.features & F.IN_ORDER)
        link.vring(Msg.SET_VRING_NUM, index, ring.size)
        yield f"SET_VRING_NUM {index}"
        number = ring.base() if base is None else base(ring)
        link.vring(Msg.SET_VRING_BASE, index, number)
        yield f"SET_VRING_BASE {index}"
        link.vring_addr(index, *self.addresses(index))
        yield f"SET_VRING_ADDR {index}"
        link.eventfd(Msg.SET_VRING_CALL, index, ring.call)
        yield f"SET_VRING_CALL {index}"
        link.eventfd(Msg.SET_VRING_KICK, index, ring.kick)
        yield f"SET_VRING_KICK {index}"

    def addresses(self, index):
        ring = self.rings[index]
        return [self.memory.uva(area) for area in (ring.desc, ring.used, ring.avail)]

    def handshake(self, base=None):
        for _ in self.steps(base):
            pass
        self.link.sync()
        return self

    def up(self, base=None):
        """Connect, shake hands, post receive buffers."""
        self.connect().handshake(base)
        for queue in range(self.queues):
            self.post(self.posted - len(self.rings[2 * queue].chains), queue=queue)
        return self

    def give_log(self, log, claim=None, offset=0, **how):
        word = struct.pack("=QQ", claim or log.region.size, offset)
        return self.link.send(Msg.SET_LOG_BASE, word, fds=[log.region.fd], **how)

    def start_log(self):
        """What a VMM does when a migration begins: from here on the device notes what it writes."""
        if self.log is None:
            self.log = DirtyLog(self.memory)
        self.give_log(self.log)
        assert self.link.receive() == (Msg.SET_LOG_BASE, b"")
        self.link.send(Msg.SET_FEATURES, struct.pack("=Q", self.features | F.LOG_ALL))
        for index, ring in enumerate(self.rings):
            self.link.vring_addr(index, *self.addresses(index), log=ring.used, flags=1)

    def stop_log(self):
        """What it does when the migration failed."""
        self.link.send(Msg.SET_FEATURES, struct.pack("=Q", self.features))
        for index in range(len(self.rings)):
            self.link.vring_addr(index, *self.addresses(index))

    def stop_ring(self, index):
        return self.link.get_vring_base(index)

    def restart_ring(self, index, base=None):
        for _ in self.start_ring(index, base):
            pass
        self.link.sync()

    def disconnect(self):
        if self.link:
            self.link.close()
        self.link = None

    def close(self):
        self.disconnect()
        for ring in self.rings:
            ring.close()
        self.memory.close()
        if self.log:
            self.log.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # Transmit.
    def place(self, size):
        """Room for transmit data; all of it is free again when nothing is in flight."""
        self.reap()
        if not any(ring.chains for ring in self.rings[1::2]):
            self.arena_used = 0
        assert self.arena_used + size <= 8 << 20, "too much transmit data in flight"
        self.arena_used += size
        return self.arena + self.arena_used - size

    def header(self, vnet, num_buffers=0):
        return struct.pack("=BBHHHHH", *vnet, num_buffers)[:self.header_size]

    def send(self, frame, vnet=NO_OFFLOAD, cuts=(), indirect=False, at=None, queue=0, publish=True,
             kick=None):
        """One frame. indirect: by a table, where that was negotiated. cuts: lengths of the first
        buffers, the header's bytes included; the rest is in the last. Between two buffers lies a
        gap, so that nobody can take them for one."""
        data = self.header(vnet) + frame
        gpa = self.place(len(data) + 64 * (len(cuts) + 1)) if at is None else at
        buffers = []
        for cut in (*cuts, len(data)):
            part, data = data[:cut], data[cut:]
            if part:
                self.memory.write(gpa, part)
                buffers.append((gpa, len(part), 0))
                gpa += len(part) + (0 if at is not None else 64)
        ring = self.rings[2 * queue + 1]
        indirect = indirect and bool(self.features & F.INDIRECT_DESC)
        need = 1 if indirect else len(buffers)
        until(lambda: self.reap() or len(ring.free) >= need, self.timeout, "room to transmit")
        ring.put(buffers, indirect)
        if publish:
            ring.publish(kick)

    def reap(self):
        """Take back what the device has transmitted."""
        for ring in self.rings[1::2]:
            while done := ring.take():
                assert done[1] == 0, f"used length {done[1]} on a transmit ring"

    def flush(self, timeout=5.0):
        """Wait until all that was sent has been taken."""
        def empty():
            self.reap()
            return not any(ring.chains for ring in self.rings[1::2])
        until(empty, timeout, "transmit buffers returned")

    # Receive.
    def post(self, count=1, shape=None, queue=0, at=None, indirect=False, publish=True):
        """Receive buffers; each is poisoned, so that stray writes show."""
        ring = self.rings[2 * queue]
        indirect = indirect and bool(self.features & F.INDIRECT_DESC)
        for _ in range(count):
            buffers = []
            for size in shape or self.shape:
                gpa = self.memory.alloc(size) if at is None else at
                self.memory.write(gpa, POISON * size)
                buffers.append((gpa, size, WRITE))
            ring.put(buffers, indirect)
        if publish:
            ring.publish()

    def fetch(self, queue):
        """The next frame of a receive ring put together, or None. Its buffers are posted again."""
        ring = self.rings[2 * queue]
        first = ring.take()
        if first is None:
            return None
        taken = [first]
        data = self.written(*first)
        vnet = Vnet(*struct.unpack_from("=BBHHHH", data))
        buffers = struct.unpack_from("=H", data, 10)[0] if self.header_size == 12 else 1
        mergeable = self.features & F.MRG_RXBUF
        for _ in range(buffers - 1 if mergeable else 0):
            taken.append(until(ring.take, 1.0, "the other buffers of a frame"))
            data += self.written(*taken[-1])
        if self.refill:
            for chain, _ in taken:
                ring.put(chain.buffers)
            ring.publish()
        return Frame(data[self.header_size:], vnet, buffers, [n for _, n in taken], queue)

    def written(self, chain, length):
        """What the device wrote into a chain; the rest must be as it was posted."""
        data = b"".join(self.memory.read(gpa, size) for gpa, size, _ in chain.buffers)
        assert 0 < length <= len(data), f"used length {length} of {len(data)}"
        assert not data[length:].strip(POISON), "the device wrote beyond the used length"
        left = length
        for gpa, size, _ in chain.buffers:
            self.memory.written.update(pages(gpa, min(size, left)))
            self.memory.write(gpa, POISON * min(size, left))
            left -= min(size, left)
        return data[:length]

    def poll(self):
        for queue in range(self.queues):
            if frame := self.fetch(queue):
                return frame
        return None

    def receive(self, timeout=5.0):
        return until(self.poll, timeout, f"a frame for {self.mac.hex(':')}")

    def drain(self):
        """All frames that are there now."""
        return list(iter(self.poll, None))


class ListeningGuest(Guest):
    """A device whose VMM owns the socket; the switch connects. `name` is what it binds, where that
    is not the path by which the switch knows it."""

    def __init__(self, path, number=1, name=None, **options):
        super().__init__(path, number, **options)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(name or path)
        self.listener.listen(4)

    def connect(self):
        self.link = Vhost.accept(self.listener, self.timeout)
        return self

    def close(self):
        """As a VMM that ends; a second time does nothing."""
        if self.listener.fileno() < 0:
            return
        super().close()
        self.listener.close()
        os.unlink(self.path)


def ethernet(to, source, payload=b"", kind=0x88B5):
    return to + source + struct.pack("!H", kind) + payload


BROADCAST = b"\xff" * 6
