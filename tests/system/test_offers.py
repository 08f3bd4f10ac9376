# SPDX-License-Identifier: BSD-3-Clause
"""What a vhost-user port offers to whom, what it refuses, and what the operator sees of it: features
and configuration, other VMMs at its socket, memory that cannot be used, sockets that are taken away."""
import calendar
import contextlib
import fcntl
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

import pytest

from frontend import (BROADCAST, GSO_TCPV4, NEEDS_CSUM, PAGE, PROTOCOL_CONFIG, F, Guest, Memory, Msg, Region,
                      Vhost, Vnet, ethernet, until)
from harness import BUILD, Daemon, RpcError, Workdir, drops, qemu_guest, vhost_port, wait_until
from test_protocol import payload, segments, transport

HERE = pathlib.Path(__file__).resolve().parent
CHECKSUM = F.CSUM | F.GUEST_CSUM
TSO = F.GUEST_TSO4 | F.GUEST_TSO6 | F.HOST_TSO4 | F.HOST_TSO6 | F(1 << 6)
ECN = F.GUEST_ECN | F.HOST_ECN
UFO = F.GUEST_UFO | F.HOST_UFO


@pytest.fixture(scope="module")
def switch():
    with Workdir() as directory, Daemon(directory, [], idle="busy") as daemon:
        yield daemon


@pytest.fixture
def port(switch):
    """A function that adds port vmN, which is removed afterwards."""
    names = []

    def add(number, **more):
        name = f"vm{number}"
        switch.rpc("port.add", **vhost_port(switch.directory, name, **more))
        names.append(name)
        # On a busy host the worker may be in the middle of a round that does not know the port.
        begun = switch.rpc("worker.list")[0]["iterations"]
        wait_until(lambda: switch.rpc("worker.list")[0]["iterations"] > begun, 5, "a new round")
        return name

    yield add
    for name in names:
        switch.rpc("port.remove", name=name)


@pytest.fixture
def plug(switch):
    guests = []

    def connect(number, up=True, **options):
        guest = Guest(str(switch.directory / f"vm{number}.sock"), number, **options)
        guest.name = f"vm{number}"
        guests.append(guest)
        if up:
            guest.up()
            switch.wait_port(guest.name, "up")
        return guest

    yield connect
    for guest in guests:
        guest.close()


def carry(source, to, size=100):
    frame = ethernet(to.mac, source.mac, os.urandom(size - 14))
    source.send(frame)
    while to.receive().data != frame:
        pass


OTHER = """
import os, sys
from frontend import Guest
with Guest(sys.argv[1], 9) as guest:
    try:
        guest.up()
        if sys.argv[2] == "heir" and os.fork() == 0:
            sys.stdin.read()
            os._exit(0)
        print(int(guest.offered), flush=True)
        print(guest.link.closed(60), flush=True)
    except ConnectionError:
        print("refused", flush=True)
    sys.stdin.read()
"""


class OtherVmm:
    """A VMM in a process of its own: connects, tells what it was offered, and stays. With an heir its
    connection outlives it."""

    def __init__(self, path, heir=False):
        self.process = subprocess.Popen(
            [sys.executable, "-c", OTHER, path, "heir" if heir else ""],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(HERE), "PYTHONDONTWRITEBYTECODE": "1"})
        self.pid = self.process.pid

    def read(self):
        return self.process.stdout.readline().strip()

    def offered(self):
        return int(self.read())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


# Switches

SWITCHES = {
    "checksum": ({"offloads": {"checksum": False}}, CHECKSUM | TSO | ECN | UFO),
    "tso": ({"offloads": {"tso": False}}, TSO | ECN),
    "ufo": ({"offloads": {"ufo": False}}, UFO),
    "ecn": ({"offloads": {"ecn": False}}, ECN),
    "all but checksum": ({"offloads": {"tso": False, "ufo": False, "ecn": False}}, TSO | ECN | UFO),
    "mergeable": ({"rings": {"mergeable": False}}, F.MRG_RXBUF),
    "event index": ({"rings": {"event_index": False}}, F.EVENT_IDX),
    "indirect": ({"rings": {"indirect": False}}, F.INDIRECT_DESC),
    "packed": ({"rings": {"packed": False}}, F.RING_PACKED),
    "in order": ({"rings": {"in_order": False}}, F.IN_ORDER),
    "nothing": ({"offloads": {"tso": True}, "rings": {"packed": True, "in_order": True}}, F(0)),
}


@pytest.mark.parametrize("case", SWITCHES)
def test_what_is_switched_off_is_not_offered(switch, port, plug, case):
    settings, missing = SWITCHES[case]
    port(1, **settings)
    port(2)
    a, b = plug(1), plug(2)
    assert b.offered & ~a.offered == missing and not a.offered & ~b.offered
    features = switch.port("vm1")["features"]
    assert features["requested"] == features["offered"] and features["pending"] == []
    assert len(features["offered"]) == bin(a.offered).count("1")
    assert len(features["negotiated"]) == bin(a.features).count("1")
    carry(a, b, 1000)
    carry(b, a, 1000)


CONTRADICTIONS = [
    ({"checksum": False, "tso": True}, "offloads.tso", "checksum"),
    ({"ufo": True, "checksum": False}, "offloads.ufo", "checksum"),
    ({"checksum": False, "ecn": True}, "offloads.ecn", "checksum"),
    ({"tso": False, "ecn": True}, "offloads.ecn", "tso"),
    ({"tso": "yes"}, "offloads.tso", "true or false"),
    ({"lro": True}, "offloads.lro", "not known"),
]


@pytest.mark.parametrize("offloads, field, said", CONTRADICTIONS)
def test_contradictions_are_refused(switch, offloads, field, said):
    with pytest.raises(RpcError) as refused:
        switch.rpc("port.add", **vhost_port(switch.directory, "vm1", offloads=offloads))
    assert refused.value.data["field"] == field and refused.value.data["accepted"]
    assert "port vm1" in str(refused.value) and said in str(refused.value)


# Offers over time

def names(feature_set):
    return {row["change"]: row["features"] for row in feature_set["pending"]}


def test_an_offer_shrinks_for_another_process_only(switch, port, plug):
    """The VMM that was offered more finds it again; what the operator does not want is not used."""
    port(1)
    port(2)
    a, b = plug(1), plug(2)
    before = a.offered
    assert before & TSO == TSO
    switch.rpc("port.set", name="vm1", offloads={"tso": False})
    features = switch.port("vm1")["features"]
    assert "VIRTIO_NET_F_GUEST_TSO4" not in features["requested"]
    for kind in "offered", "negotiated":
        assert "VIRTIO_NET_F_GUEST_TSO4" in features[kind]
    assert "VIRTIO_NET_F_GUEST_TSO4" in names(features)["withdrawn"]
    assert "another" in features["pending"][0]["reason"]
    for _ in range(2):
        a.disconnect()
        a.up()
        assert a.offered == before
    a.disconnect()
    with OtherVmm(a.path) as other:
        assert other.offered() == before & ~(TSO | ECN)
        assert switch.port("vm1")["features"]["pending"] == []
    switch.wait_port("vm1", "down")
    a.up()  # now this process is the other one
    assert a.offered == before & ~(TSO | ECN)


def test_an_offer_grows_at_any_connect(switch, port, plug):
    port(1, offloads={"tso": False})
    a = plug(1)
    before = a.offered
    switch.rpc("port.set", name="vm1", offloads=None)
    assert a.link.get(Msg.GET_FEATURES) == before, "an offer does not change within a connection"
    features = switch.port("vm1")["features"]
    assert "VIRTIO_NET_F_GUEST_TSO4" in names(features)["offered"]
    a.disconnect()
    a.up()
    assert a.offered == before | TSO | ECN


def test_an_offer_is_renegotiated(switch, port, plug):
    port(1)
    a = plug(1)
    before = a.offered
    switch.rpc("port.set", name="vm1", offloads={"ufo": False}, renegotiate=True)
    assert switch.port("vm1")["state"] == "up"
    pending = switch.port("vm1")["features"]["pending"]
    assert [row["change"] for row in pending] == ["withdrawn"] and "another" not in pending[0]["reason"]
    a.disconnect()
    a.up()
    assert a.offered == before & ~UFO


def test_a_new_port_promises_nothing(switch, port, plug):
    port(1)
    before = plug(1).offered
    switch.rpc("port.remove", name="vm1")
    switch.rpc("port.add", **vhost_port(switch.directory, "vm1", offloads={"tso": False}))
    assert plug(1).offered == before & ~(TSO | ECN)


def test_offers_outlive_the_switch():
    """Killed and started with another configuration, it still offers what the VMM's guest may use."""
    with Workdir() as directory:
        state = ["--state", directory / "state.json"]
        with Guest(str(directory / "vm1.sock"), 1) as a:
            with Daemon(directory, [vhost_port(directory, "vm1")], arguments=state) as daemon:
                a.up()
                before = a.offered
                wait_until(lambda: "offer" in (directory / "state.json").read_text(), 5, "the offer is saved")
                daemon.kill()
            a.disconnect()
            ports = [vhost_port(directory, "vm1", offloads={"tso": False})]
            with Daemon(directory, ports, arguments=state) as daemon:
                a.up()
                assert a.offered == before
                features = daemon.wait_port("vm1", "up")["features"]
                assert "VIRTIO_NET_F_GUEST_TSO4" in names(features)["withdrawn"]
                assert daemon.port("vm1")["connection"]["reconnects"] == 1
                a.disconnect()
                with OtherVmm(a.path) as other:
                    assert other.offered() == before & ~(TSO | ECN)
                    assert daemon.port("vm1")["connection"]["reconnects"] == 1


def test_the_wish_is_enforced_meanwhile(switch, port, plug):
    """A guest that negotiated TSO gets segments once the operator wants none, from the next burst on;
    what it sends may still be large."""
    port(1)
    port(2)
    a, b = plug(1), plug(2)
    vnet = Vnet(NEEDS_CSUM, GSO_TCPV4, 54, 1448, 34, 16)
    data = payload(5000)

    def send(source, to):
        source.send(transport(to, source, data), vnet=vnet)

    send(a, b)
    assert b.receive().vnet == vnet
    switch.rpc("port.set", name="vm2", offloads={"checksum": False})
    until(lambda: switch.port("vm2")["features"]["pending"], 2, "set")
    before = drops(switch.counters("vm2"))
    send(a, b)
    if drops(switch.counters("vm2")) == before:
        assert segments(b, 5000) == data
    send(b, a)
    assert a.receive().vnet == vnet
    switch.rpc("port.set", name="vm2", offloads=None)
    b.drain()
    send(a, b)
    assert b.receive().vnet == vnet


def test_only_what_this_connection_was_offered(switch, port, plug):
    """The library would take what another connection was offered, or could be."""
    port(1, offloads={"tso": False}, rings={"indirect": False})
    a = plug(1, up=False)
    for more in F.HOST_TSO4, F.INDIRECT_DESC, F.GUEST_ECN:
        with Vhost(a.path) as link:
            offered = link.get(Msg.GET_FEATURES)
            assert not offered & more
            assert link.send(Msg.SET_FEATURES, struct.pack("=Q", offered | more), need_reply=True) != 0
            assert link.send(Msg.SET_FEATURES, struct.pack("=Q", offered), need_reply=True) == 0
        with Vhost(a.path) as link:
            link.send(Msg.SET_FEATURES, struct.pack("=Q", a.wanted | more))
            assert link.closed()
            wait_until(lambda: "not offered" in switch.port("vm1")["connection"]["last_disconnect"]["reason"],
                       2, "the reason is told")
    a.up()
    word = struct.pack("=Q", a.features | F.HOST_TSO4)
    assert a.link.send(Msg.SET_FEATURES, word, need_reply=True) != 0
    assert switch.port("vm1")["state"] == "up", "a refused message changes nothing"


@pytest.mark.parametrize("message", [Msg.POSTCOPY_ADVISE, Msg.POSTCOPY_LISTEN, Msg.POSTCOPY_END,
                                     Msg.GET_INFLIGHT_FD])
def test_parts_of_the_protocol_that_are_not_offered(switch, port, plug, message):
    port(1)
    a = plug(1)
    huge = struct.pack("=QQHH", 0, 0, 65535, 32768).ljust(24, b"\0")
    assert a.link.send(message, huge, need_reply=True) != 0
    assert switch.port("vm1")["state"] == "up"


# Descriptors

def open_files(daemon):
    return len(os.listdir(f"/proc/{daemon.pid}/fd"))


@pytest.mark.parametrize("message", [
    (Msg.GET_FEATURES, b""), (Msg.GET_PROTOCOL_FEATURES, b""), (Msg.GET_QUEUE_NUM, b""),
    (Msg.GET_CONFIG, struct.pack("=III", 0, 12, 0) + bytes(12)),
    (Msg.SET_FEATURES, struct.pack("=Q", 1 << 63)), (Msg.SET_VRING_NUM, struct.pack("=II", 1, 0)),
    (Msg.SET_VRING_ENABLE, struct.pack("=II", 99, 1)), (Msg.POSTCOPY_ADVISE, b""),
    (Msg.GET_INFLIGHT_FD, bytes(24))])
def test_descriptors_are_not_kept(switch, port, plug, message):
    """Those that come along with a message that takes none."""
    port(1)
    a = plug(1)
    before = open_files(switch)
    for _ in range(20):
        a.link.send(*message, fds=[a.memory.regions[0].fd] * 8, need_reply=True)
    assert open_files(switch) <= before + 2
    a.disconnect()
    wait_until(lambda: open_files(switch) < before, 2, "the connection's own descriptors are closed")


def inheritable(daemon):
    """The descriptors that a child of the daemon would have."""
    found = set()
    for entry in pathlib.Path(f"/proc/{daemon.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            info = pathlib.Path(f"/proc/{daemon.pid}/fdinfo/{entry.name}").read_text()
            if not int(re.search(r"flags:\s+([0-7]+)", info)[1], 8) & os.O_CLOEXEC:
                found.add((entry.name, os.readlink(entry)))
    return found


def test_children_would_inherit_nothing(switch, port, plug):
    """Neither guest memory nor a connection that would then outlive the switch."""
    port(1)
    before = inheritable(switch)
    port(2)
    plug(2)
    assert inheritable(switch) == before


# Other VMMs

def test_another_vmm_is_refused(switch, port, plug):
    port(1)
    port(2)
    a, b = plug(1), plug(2)
    carry(a, b)
    begin = time.monotonic()
    with OtherVmm(a.path) as other:
        assert other.offered() == a.offered
        assert other.read() == "True", "its connection was closed"
        assert 0.9 < time.monotonic() - begin < 3
        wait_until(lambda: not switch.port("vm1")["connection"]["waiting"], 2, "it is gone")
        connection = switch.port("vm1")["connection"]
        assert connection["refused"] == 1 and connection["pid"] == os.getpid()
        assert connection["last_refusal"]["pid"] == other.pid
        assert str(os.getpid()) in connection["last_refusal"]["reason"]
        assert re.search(rf"vm1: process {other.pid} was refused: process {os.getpid()} ", switch.log())
        carry(a, b)
        carry(b, a)
    assert switch.port("vm1")["connection"]["disconnects"] == 1


def test_another_vmm_gets_the_place_of_one_that_dies(switch, port, plug):
    """It came before the end of the first was seen, as a VMM that is started again does."""
    port(1)
    path = str(switch.directory / "vm1.sock")
    with OtherVmm(path) as first:
        first.offered()
        switch.wait_port("vm1", "up")
        with OtherVmm(path) as second:
            second.offered()
            assert switch.port("vm1")["connection"]["waiting"]
            first.process.kill()
            first.process.wait()
            wait_until(lambda: switch.port("vm1")["connection"]["pid"] == second.pid, 2, "it has the place")
            time.sleep(1.5)
            connection = switch.wait_port("vm1", "up")["connection"]
            assert connection["pid"] == second.pid and connection["refused"] == 0


def test_a_vmm_that_has_died_does_not_stand_in_the_way(switch, port):
    """Its connection has not ended yet; who comes next waits as long as that takes."""
    port(1)
    path = str(switch.directory / "vm1.sock")
    with OtherVmm(path, heir=True) as first:
        first.offered()
        first.process.kill()
        first.process.wait()
        with OtherVmm(path) as second:
            second.offered()
            time.sleep(2)
            connection = switch.port("vm1")["connection"]
            assert connection["pid"] == first.pid and connection["waiting"]
            assert connection["refused"] == 0
            first.process.stdin.close()  # the heir goes
            wait_until(lambda: switch.port("vm1")["connection"]["pid"] == second.pid, 2, "its turn has come")


def test_the_same_vmm_may_wait(switch, port, plug):
    port(1)
    a = plug(1)
    with Guest(a.path, 1) as second:
        second.up()
        time.sleep(2)
        connection = switch.port("vm1")["connection"]
        assert connection["waiting"] and connection["refused"] == 0
        a.disconnect()
        wait_until(lambda: not switch.port("vm1")["connection"]["waiting"], 2, "its turn has come")
        switch.wait_port("vm1", "up")


def test_a_stopped_vmm_keeps_its_place(switch, port):
    """It lives, though it does not move."""
    port(1)
    path = str(switch.directory / "vm1.sock")
    with OtherVmm(path) as first:
        first.offered()
        switch.wait_port("vm1", "up")
        os.kill(first.pid, signal.SIGSTOP)
        with OtherVmm(path) as second:
            second.offered()
            assert second.read() == "True"
        assert switch.port("vm1")["connection"]["pid"] == first.pid


def test_a_slow_vmm_delays_the_others_little(switch, port, plug):
    """The library reads all connections in one thread and waits for the rest of each message."""
    port(1)
    port(2)
    with Vhost(str(switch.directory / "vm1.sock")) as slow:
        waiting = struct.pack("=III", Msg.SET_FEATURES, 1, 8)
        slow.raw(waiting)
        begin = time.monotonic()
        assert slow.closed(2) and time.monotonic() - begin < 0.4, "half a message is soon too late"
    with Vhost(str(switch.directory / "vm1.sock")) as slow:
        ended = []

        def drip():
            with contextlib.suppress(OSError):
                while not ended:
                    slow.raw(struct.pack("=III", Msg.SET_OWNER, 1, 4))
                    time.sleep(0.05)
                    slow.raw(bytes(4))

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            begin = time.monotonic()
            plug(2)
            taken = time.monotonic() - begin
        finally:
            ended.append(True)
            thread.join()
    assert taken < 4, f"{taken:.1f} s for a handshake"


# MTU and configuration

def config(link, offset, size, room=None):
    link.send(Msg.GET_CONFIG, struct.pack("=III", offset, size, 0) + bytes(size if room is None else room))
    return link.receive()[1]


def test_the_configuration_that_a_front_end_asks_for(switch, port, plug):
    port(1, mtu=1400, mac="52:54:00:00:00:77", queues=3)
    a = plug(1, up=False)
    a.connect().handshake()
    assert a.link.get(Msg.GET_PROTOCOL_FEATURES) & PROTOCOL_CONFIG
    whole = config(a.link, 0, 24)
    assert whole[:12] == struct.pack("=III", 0, 24, 0)
    assert whole[12:] == bytes.fromhex("525400000077") + struct.pack("=HHH", 1, 3, 1400) + bytes(12)
    assert config(a.link, 10, 2)[12:] == struct.pack("=H", 1400)
    assert config(a.link, 0, 256)[12:] == whole[12:].ljust(256, b"\0")
    switch.rpc("port.set", name="vm1", mtu=1300)
    assert config(a.link, 10, 2)[12:] == struct.pack("=H", 1300)
    for offset, size in (256, 1), (1, 256), (0, 257), (1 << 31, 1), (0, (1 << 32) - 1), ((1 << 32) - 1, 2):
        assert config(a.link, offset, size, 4) == b"", "an empty answer says that there is none"
    a.link.send(Msg.GET_CONFIG, b"")
    assert a.link.receive() == (Msg.GET_CONFIG, b"")
    switch.rpc("port.set", name="vm1", mtu=None)
    a.disconnect()
    a.connect()
    assert not a.link.get(Msg.GET_PROTOCOL_FEATURES) & PROTOCOL_CONFIG, "nothing to tell"


def test_the_vmms_mtu_is_compared(switch, port, plug):
    port(1, mtu=1400)
    a = plug(1)
    assert switch.port("vm1")["vmm_mtu"] is None
    for mtu in 9000, 1400, 1300:
        a.link.send(Msg.NET_SET_MTU, struct.pack("=Q", mtu), need_reply=True)
        shown = switch.port("vm1")
        assert shown["vmm_mtu"] == mtu
        if mtu == 1400:
            assert "vmm_mtu_note" not in shown
        else:
            assert str(mtu) in shown["vmm_mtu_note"] and "1400" in shown["vmm_mtu_note"]
    for mtu in 0, 67, 65536, 1 << 40:
        assert a.link.send(Msg.NET_SET_MTU, struct.pack("=Q", mtu), need_reply=True) != 0
    assert switch.port("vm1")["vmm_mtu"] == 1300
    switch.rpc("port.set", name="vm1", mtu=1300)
    assert "vmm_mtu_note" not in switch.port("vm1")


# Memory

@pytest.mark.parametrize("kind", ["memfd", "tmpfs"])
def test_memory_in_ram(switch, port, plug, kind):
    port(1)
    memory = Memory()
    if kind == "tmpfs":
        with memory_file("/dev/shm", 32 << 20) as fd:
            memory = Memory(Region(0x10_0000, 32 << 20, fd=fd))
    plug(1, memory=memory)
    shown = switch.port("vm1")["memory"]
    assert shown["valid"] and shown["regions"] == 1 and shown["bytes"] == 32 << 20
    assert shown["page_size"] == PAGE and not shown["sealed"]


@pytest.mark.parametrize("seals", [(0, fcntl.F_SEAL_SHRINK), (fcntl.F_SEAL_GROW, fcntl.F_SEAL_SHRINK),
                                   (fcntl.F_SEAL_SHRINK, 0), (fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW,) * 2])
def test_memory_that_is_sealed(switch, port, plug, seals):
    """Whether the VMM could truncate any of it."""
    port(1)
    regions = []
    for number, seal in enumerate(seals):
        fd = os.memfd_create("sealed", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, 32 << 20)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seal)
        regions.append(Region(0x10_0000 + (number << 30), 32 << 20, fd=fd))
        os.close(fd)
    assert switch.port("vm1")["memory"]["sealed"] is None
    plug(1, memory=Memory(*regions))
    assert switch.port("vm1")["memory"]["sealed"] is all(seal & fcntl.F_SEAL_SHRINK for seal in seals)


@contextlib.contextmanager
def memory_file(directory, size):
    path = pathlib.Path(directory) / f"ringway-test-{os.getpid()}"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC)
    try:
        os.ftruncate(fd, size)
        yield fd
    finally:
        os.close(fd)
        path.unlink()


def on_disk(path):
    kind = subprocess.run(["stat", "-f", "-c", "%T", path], capture_output=True, text=True, check=True)
    return kind.stdout.strip() not in ("tmpfs", "ramfs")


@pytest.mark.skipif(not on_disk(BUILD), reason="the build directory lies in RAM")
def test_memory_on_a_disk(switch, port, plug):
    """A worker must not wait for a page."""
    port(1)
    port(2, memory="any")
    with memory_file(BUILD, 32 << 20) as fd:
        for number in 1, 2:
            guest = plug(number, up=False, memory=Memory(Region(0x10_0000, 32 << 20, fd=fd)))
            guest.up()
            if number == 2:
                switch.wait_port("vm2", "up")
                continue
            shown = switch.wait_port("vm1", "down")
            assert "on disk" in shown["reason"] and "any" in shown["reason"]
            assert not shown["memory"]["valid"]


def test_memory_that_is_not_shared(switch, port, plug):
    """The guest fills its rings and kicks, and none of it arrives."""
    port(1)
    port(2)
    guest = plug(1, up=False, memory=Memory(Region(0x10_0000, 32 << 20, private=True)))
    guest.up()
    other = plug(2)
    # One kick says nothing: QEMU begins with one.
    os.eventfd_write(guest.rings[1].kick, 1)
    time.sleep(2.2)
    assert switch.port("vm1")["state"] == "up"
    guest.send(ethernet(BROADCAST, guest.mac, bytes(46)), kick=True)

    def noticed():
        shown = switch.port("vm1")
        return shown["state"] == "down" and shown
    shown = wait_until(noticed, 12, "the port is called down")
    assert "not shared" in shown["reason"] and "share=on" in shown["reason"]
    assert shown["memory"]["shared"] is False
    assert next(p for p in switch.rpc("port.list") if p["name"] == "vm1")["reason"] == shown["reason"]
    assert switch.port("vm2")["memory"]["shared"] in (None, True)
    assert other.drain() == []


def test_memory_that_is_shared(switch, port, plug):
    """A guest that is silent is not called unshared, though QEMU begins with a kick of its own."""
    port(1)
    port(2)
    quiet, b = plug(1), plug(2)
    os.eventfd_write(quiet.rings[1].kick, 1)
    time.sleep(2.2)
    assert switch.port("vm1")["state"] == "up"
    carry(quiet, b)
    for _ in range(3):
        shown = switch.port("vm1")
        assert shown["state"] == "up" and shown["memory"]["shared"] is True
        time.sleep(0.5)


def test_no_memory_at_all(switch, port, plug):
    """What QEMU does where it has nothing to share: the guest's driver starts, and no memory comes."""
    port(1)
    a = plug(1, up=False)
    a.connect()
    for step in a.steps():
        if step == "SET_FEATURES":
            break
    a.link.sync()
    assert "has not started" in switch.port("vm1")["reason"]
    wait_until(lambda: "share=on" in switch.port("vm1")["reason"], 3, "the port says what to do")
    a.link.mem_table([], need_reply=True)
    assert "share=on" in switch.port("vm1")["reason"]


# Sockets that are taken away

def test_a_socket_comes_back_with_its_directory():
    with Workdir() as directory:
        place = directory / "sockets"
        place.mkdir()
        ports = [vhost_port(place, "vm1"), vhost_port(directory, "vm2")]
        with Daemon(directory, ports, idle="busy") as daemon, Guest(str(directory / "vm2.sock"), 2) as b:
            b.up()
            shutil.rmtree(place)
            wait_until(lambda: "vm1.sock" in daemon.port("vm1")["reason"], 10, "the loss is noticed")
            place.mkdir()
            for how in "unlinked", "replaced", "again with its directory":
                wait_until((place / "vm1.sock").exists, 12, f"the socket is back ({how})")
                with Guest(str(place / "vm1.sock"), 1) as a:
                    a.up()
                    daemon.wait_port("vm1", "up")
                    carry(a, b)
                    if how == "again with its directory":
                        shutil.rmtree(place)
                        time.sleep(6)
                        carry(a, b)
                        assert daemon.port("vm1")["connection"]["connects"] == 1, "a connection stays"
                        place.mkdir()
                daemon.wait_port("vm1", "down")
                if how == "unlinked":
                    (place / "vm1.sock").unlink()
                elif how == "replaced":
                    (place / "vm1.sock").unlink()
                    with socket.socket(socket.AF_UNIX) as stale:
                        stale.bind(str(place / "vm1.sock"))
                    inode = (place / "vm1.sock").stat().st_ino
                    wait_until(lambda: (place / "vm1.sock").stat().st_ino != inode, 12, "it is replaced")
            wait_until((place / "vm1.sock").exists, 12, "the socket is back")


# What is shown

def ask_for_entries(link, rings):
    """As many rings of the largest size; how many the back-end gives."""
    return sum(link.vring(Msg.SET_VRING_NUM, index, 32768, need_reply=True) == 0 for index in range(rings))


def test_ring_entries_are_shared_out():
    """The memory for them is that of all ports: a VMM may have two rings of the largest size, or 2,048
    entries for each of its rings, and none can empty it for the others."""
    with Workdir() as directory, contextlib.ExitStack() as links:
        ports = [vhost_port(directory, f"p{n}", queues=3) for n in range(18)]
        ports.append(vhost_port(directory, "wide", queues=32))
        with Daemon(directory, ports) as daemon:
            with Vhost(str(directory / "wide.sock")) as link:
                for index in range(64):
                    assert link.vring(Msg.SET_VRING_NUM, index, 2048, need_reply=True) == 0
                assert link.vring(Msg.SET_VRING_NUM, 5, 4096, need_reply=True) != 0
                assert "than a port may have" in daemon.port("wide")["reason"]
                for index in range(2, 64):  # what is given back may be taken
                    assert link.vring(Msg.SET_VRING_NUM, index, 1, need_reply=True) == 0
                assert ask_for_entries(link, 2) == 2
            daemon.wait_port("wide", "down")
            wait_until(lambda: daemon.port("wide")["connection"]["state"] == "disconnected", 5, "gone")
            # 4 Mi entries are 64 VMMs with all that one can have: up to four wait at a socket.
            given = [ask_for_entries(links.enter_context(Vhost(str(directory / f"p{n}.sock"))), 6)
                     for n in range(16) for _ in range(4)]
            assert given == [2] * 64
            with Vhost(str(directory / "p16.sock")) as link:
                assert ask_for_entries(link, 1) == 0
                assert "left for all ports" in daemon.port("p16")["reason"]
            links.close()
            wait_until(lambda: all(daemon.port(f"p{n}")["connection"]["state"] == "disconnected"
                                   for n in range(16)), 10, "all are gone")
            with Guest(str(directory / "p16.sock"), 1).up() as a, Guest(
                    str(directory / "p17.sock"), 2, size=32768, posted=64).up() as b:
                carry(a, b)
                carry(b, a)


def test_the_state_of_a_connection(switch, port, plug):
    port(1)
    connection = switch.port("vm1")["connection"]
    assert connection["state"] == "disconnected" and connection["pid"] is None and connection["uid"] is None
    assert connection["last_disconnect"] is None and connection["last_refusal"] is None
    begin = time.time()
    a = plug(1)
    time.sleep(1.1)
    connection = switch.port("vm1")["connection"]
    assert connection["state"] == "connected" and connection["uid"] == os.getuid()
    assert connection["seconds"] in (1, 2)
    assert abs(seconds_of(connection["since"]) - begin) < 2
    assert (connection["connects"], connection["reconnects"], connection["disconnects"]) == (1, 0, 0)
    a.disconnect()
    wait_until(lambda: switch.port("vm1")["connection"]["state"] == "disconnected", 5, "it is gone")
    connection = switch.port("vm1")["connection"]
    assert connection["seconds"] == 0 and connection["last_disconnect"]["pid"] == os.getpid()
    assert abs(seconds_of(connection["last_disconnect"]["time"]) - time.time()) < 2
    with OtherVmm(a.path) as other:
        other.offered()
        connection = switch.port("vm1")["connection"]
        assert (connection["connects"], connection["reconnects"]) == (2, 0)
        assert connection["pid"] == other.pid
    switch.wait_port("vm1", "down")


def seconds_of(text):
    return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))


def test_how_full_rings_are(switch, port, plug):
    port(1)
    port(2)
    a, b = plug(1, posted=77), plug(2)
    carry(b, a)
    rings = switch.port("vm1")["rings"]
    assert [(ring["index"], ring["queue"]) for ring in rings] == [(0, 0), (1, 0)]
    assert [ring["direction"] for ring in rings] == ["tx", "rx"]
    assert [ring["size"] for ring in rings] == [256, 256]
    assert rings[0]["fill"] == 77 and rings[1]["fill"] == 0
    a.disconnect()
    wait_until(lambda: all(ring["fill"] == 0 and ring["state"] == "detached"
                           for ring in switch.port("vm1")["rings"]), 2, "nothing is shown of old rings")


# A real VMM

@pytest.mark.parametrize("backend", ["memory-backend-memfd,share=off", "memory-backend-ram"])
def test_qemu_without_shared_memory(switch, port, backend):
    port(1)
    with qemu_guest(switch.directory, "vm1", 1, backend=backend) as guest:
        guest.wait_boot()
        guest.start("ping -c 3 10.9.0.77")
        shown = wait_until(lambda: "share=on" in ((s := switch.port("vm1"))["reason"] or "") and s, 15,
                           "the port says what to do")
        assert shown["state"] == "down" and "not shared" in shown["reason"]


def test_qemu_tells_its_mtu(switch, port):
    """It ignores our configuration, and says so; its guest gets what the VMM says."""
    port(1, mtu=1400)
    with qemu_guest(switch.directory, "vm1", 1, features="host_mtu=1300") as guest:
        guest.wait_boot()
        shown = switch.wait_port("vm1", "up")
        assert shown["vmm_mtu"] == 1300 and "1400" in shown["vmm_mtu_note"]
        assert guest.check("cat /sys/class/net/eth0/mtu").strip() == "1300"
