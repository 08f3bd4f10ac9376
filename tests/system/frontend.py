# SPDX-License-Identifier: BSD-3-Clause
"""
A scripted vhost-user front-end: the VMM and the guest driver of one virtio-net device.

Real guests never send half a message, lie about their memory or corrupt their own rings, so the
switch's answers to that are tested with this module. It has four layers, each usable alone:

  Memory     guest memory: memfd regions, addressed by guest physical address (gpa) for buffers and
             by front-end virtual address (uva) for rings, as in the protocol; the two differ always
  Vhost      one connection: any message, well-formed or not, with any descriptors
  SplitRing  the driver side of one split virtqueue, with raw access for corruption
  Guest      a whole device on top: handshake, send frames, receive frames

    with Guest("/run/vm1.sock").up() as a, Guest("/run/vm2.sock").up() as b:
        a.send(ethernet(b.mac, a.mac, b"hello"))
        assert b.receive().data.endswith(b"hello")

It follows the vhost-user protocol document and the virtio 1.2 specification, sections 2.7 and 5.1.
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

NEXT, WRITE, INDIRECT = 1, 2, 4  # descriptor flags
NO_INTERRUPT = NO_NOTIFY = 1  # flags of the avail and of the used ring
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


class Region:
    """One memory region; `claim` is the size told to the back-end when it shall be a lie."""

    def __init__(self, gpa, size, uva=None, fd=None, offset=0, claim=None):
        self.gpa, self.size, self.offset, self.claim = gpa, size, offset, claim or size
        self.uva = gpa + UVA if uva is None else uva
        if fd is None:
            fd = os.memfd_create("guest", os.MFD_CLOEXEC)
            os.ftruncate(fd, offset + size)
        else:
            fd = os.dup(fd)
        self.fd = fd
        self.map = mmap.mmap(fd, size, offset=offset)

    def close(self):
        self.map.close()
        os.close(self.fd)


class Memory:
    """Guest memory. Everything is placed by alloc() from the last region unless a test says where."""

    def __init__(self, *regions):
        self.regions = list(regions) or [Region(0x10_0000, 32 << 20)]
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


class SplitRing:
    """The driver side of a split virtqueue. A buffer is (gpa, length, flags: 0 or WRITE)."""

    def __init__(self, memory, size=256, desc=None, avail=None, used=None):
        self.memory, self.size, self.event_idx = memory, size, False
        self.desc = memory.alloc(16 * size, 16) if desc is None else desc
        self.avail = memory.alloc(6 + 2 * size, 2) if avail is None else avail
        self.used = memory.alloc(6 + 8 * size, 4) if used is None else used
        self.kick = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.call = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.tables = {}
        self.reset()

    def reset(self):
        """As a driver that starts the device anew."""
        for area, size in (self.desc, 16 * self.size), (self.avail, 6 + 2 * self.size), (
                self.used, 6 + 8 * self.size):
            self.memory.write(area, bytes(size))
        self.free = collections.deque(range(self.size))
        self.chains = {}
        self.avail_idx = self.published = self.seen = self.kicks = 0

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

    # The driver proper.
    def put(self, buffers, indirect=False):
        """Write one chain and return its head; publish() makes it visible."""
        ids = [self.free.popleft() for _ in (buffers[:1] if indirect else buffers)]
        places, table = ids, self.desc
        if indirect:
            places = range(len(buffers))
            key = (ids[0], len(buffers))
            table = self.tables.get(key) or self.memory.alloc(16 * len(buffers))
            self.tables[key] = table
            self.set_desc(ids[0], table, 16 * len(buffers), INDIRECT)
        for n, (gpa, size, flags) in enumerate(buffers):
            last = n + 1 == len(buffers)
            self.set_desc(places[n], gpa, size, flags | (0 if last else NEXT),
                          0 if last else places[n + 1], table)
        self.chains[ids[0]] = Chain(ids, buffers)
        self.set_avail(ids[0])
        return ids[0]

    def publish(self, kick=None):
        """Store the index; kick when the device wants it, or as the argument says."""
        old, self.published = self.published, self.avail_idx
        self.memory.store16(self.avail + 2, self.published)
        if kick or kick is None and self.wants_kick(old, self.published):
            self.kicks += 1
            os.eventfd_write(self.kick, 1)

    def wants_kick(self, old, new):
        if self.event_idx:
            event = self.memory.load("H", self.used + 4 + 8 * self.size)
            return (new - event - 1) & 0xFFFF < (new - old) & 0xFFFF
        return not self.memory.load("H", self.used) & NO_NOTIFY

    def take(self):
        """The next used element as (chain, length), or None; its descriptors are free again."""
        if self.seen == self.used_idx():
            return None
        place = self.used + 4 + 8 * (self.seen % self.size)
        head, length = self.memory.load("I", place), self.memory.load("I", place + 4)
        self.seen = (self.seen + 1) & 0xFFFF
        assert head in self.chains, f"used element names {head}, which is not in flight"
        chain = self.chains.pop(head)
        self.free.extend(chain.ids)
        return chain, length

    def ask_interrupt(self, on):
        """An interrupt for the next used element, or none."""
        if self.event_idx:
            event = self.used_idx() if on else (self.used_idx() - 1) & 0xFFFF
            self.memory.store16(self.avail + 4 + 2 * self.size, event)
        else:
            self.memory.store16(self.avail, 0 if on else NO_INTERRUPT)

    def interrupts(self):
        """How many interrupts came since the last call."""
        try:
            return os.eventfd_read(self.call)
        except BlockingIOError:
            return 0

    def close(self):
        os.close(self.kick)
        os.close(self.call)


Vnet = collections.namedtuple("Vnet", "flags gso_type hdr_len gso_size csum_start csum_offset")
NO_OFFLOAD = Vnet(0, 0, 0, 0, 0, 0)
Frame = collections.namedtuple("Frame", "data vnet buffers lengths queue")


class Guest:
    """A device with its driver. Queue pair q is rings 2q (receive) and 2q + 1 (transmit)."""

    def __init__(self, path, number=1, features=LINUX, queues=1, size=256, memory=None,
                 buffers=(2048,), posted=None, timeout=5.0):
        self.path, self.wanted, self.queues, self.timeout = path, features, queues, timeout
        self.mac = bytes([0x52, 0x54, 0, 0, 0, number])
        self.memory = memory or Memory()
        self.rings = [SplitRing(self.memory, size) for _ in range(2 * queues)]
        self.shape = buffers  # the lengths of one receive chain
        self.posted = size // len(buffers) // 2 if posted is None else posted
        self.arena = self.memory.alloc(8 << 20, PAGE)
        self.arena_used = 0
        self.refill = True  # post the buffers of a received frame again
        self.link = None

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
        link.send(Msg.SET_FEATURES, struct.pack("=Q", self.features))
        yield "SET_FEATURES"
        link.mem_table(self.memory.regions)
        yield "SET_MEM_TABLE"
        modern = self.features & (F.VERSION_1 | F.MRG_RXBUF | F.RING_PACKED)
        self.header_size = 12 if modern else 10
        for index in range(len(self.rings)):
            yield from self.start_ring(index, base)
        if self.features & F.PROTOCOL_FEATURES:
            for index in range(len(self.rings)):
                link.vring(Msg.SET_VRING_ENABLE, index, 1)
                yield f"SET_VRING_ENABLE {index}"

    def start_ring(self, index, base=None):
        link, ring = self.link, self.rings[index]
        ring.event_idx = bool(self.features & F.EVENT_IDX)
        link.vring(Msg.SET_VRING_NUM, index, ring.size)
        yield f"SET_VRING_NUM {index}"
        number = ring.used_idx() if base is None else base(ring)
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
        """One frame. cuts: lengths of the first buffers, the header's bytes included; the rest is
        in the last. Between two buffers lies a gap, so that nobody can take them for one."""
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


def ethernet(to, source, payload=b"", kind=0x88B5):
    return to + source + struct.pack("!H", kind) + payload


BROADCAST = b"\xff" * 6
