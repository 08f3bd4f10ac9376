# SPDX-License-Identifier: BSD-3-Clause
"""Ports in client mode: the VMM owns the socket, the switch connects and goes on trying."""
import contextlib
import os
import pathlib
import select
import shutil
import socket
import struct
import time

import pytest

from frontend import BROADCAST, ListeningGuest, Msg, ethernet
from harness import (CPUS, Daemon, RpcError, TestpmdGuest, Workdir, assert_ledgers, qemu_guest, vhost_port,
                     wait_until)

NAMES = ("vm1", "vm2")
RETRY = 1.0  # s between two tries of the library


def start(directory, **more):
    ports = [vhost_port(directory, name, mode="client", **more) for name in NAMES]
    return Daemon(directory, ports, idle="busy")


@pytest.fixture
def directory():
    with Workdir() as path:
        yield path


@pytest.fixture
def guests(directory):
    """A function that makes the guest of port vmN, which listens, and waits for the switch."""
    with contextlib.ExitStack() as stack:
        def make(number, up=True, **options):
            path = str(directory / f"vm{number}.sock")
            guest = stack.enter_context(ListeningGuest(path, number, **options))
            guest.name = f"vm{number}"
            return guest.up() if up else guest
        yield make


def carry(source, to, size=100):
    frame = ethernet(to.mac, source.mac, os.urandom(size - 14))
    source.send(frame)
    while to.receive().data != frame:
        pass


def exchange(a, b, count=10):
    for _ in range(count):
        carry(a, b)
        carry(b, a)


def test_the_vmm_listens_first(directory, guests):
    a, b = guests(1, up=False), guests(2, up=False)
    with start(directory) as daemon:
        for guest in a, b:
            guest.up()
            port = daemon.wait_port(guest.name, "up")
            assert port["mode"] == "client" and port["socket"] == guest.path
            assert port["connection"]["pid"] == os.getpid()
            assert port["connection"]["uid"] == os.getuid()
        exchange(a, b)
        assert_ledgers(daemon)
        assert daemon.stop() == 0
        assert pathlib.Path(a.path).exists(), "the socket is the VMM's to remove"
        # Beside these there are journals of packed rings.
        assert sorted(path.name for path in directory.glob("*vm*")
                      if path.suffix != ".rings") == ["vm1.sock", "vm2.sock"]


def test_the_vmm_listens_later(directory, guests):
    with start(directory) as daemon:
        for name in NAMES:
            port = daemon.port(name)
            assert port["state"] == "down" and "not listen" in port["reason"]
        # Both listen before either is tried: one round of the library's serves both.
        a, b = guests(1, up=False), guests(2, up=False)
        begin = time.monotonic()
        for guest in a, b:
            guest.up()
            daemon.wait_port(guest.name, "up")
        assert time.monotonic() - begin < 2 * RETRY
        exchange(a, b)


def test_the_directory_comes_later_and_goes(directory, guests):
    """No fault: the library tries again whatever is missing."""
    place = directory / "vmm"
    ports = [vhost_port(place, "vm1", mode="client"), vhost_port(directory, "vm2", mode="client")]
    with Daemon(directory, ports, idle="busy") as daemon:
        assert "not listen" in daemon.port("vm1")["reason"]
        b = guests(2)
        for _ in range(2):
            place.mkdir()
            with ListeningGuest(str(place / "vm1.sock"), 1) as a:
                a.up()
                daemon.wait_port("vm1", "up", 3)
                exchange(a, b)
            shutil.rmtree(place)
            daemon.wait_port("vm1", "down")


def test_the_vmm_goes_and_comes(directory, guests):
    a, b = guests(1, up=False), guests(2, up=False)
    with start(directory) as daemon:
        a.up(), b.up()
        for turn in range(3):
            exchange(a, b)
            a.disconnect()
            a.up()  # the library tries at once, and again after a second
            connection = daemon.wait_port("vm1", "up", 3)["connection"]
            assert connection["connects"] == turn + 2 and connection["reconnects"] == turn + 1
            assert connection["last_disconnect"]["reason"]
        exchange(a, b)
        a.close()
        wait_until(lambda: "gone" in (daemon.port("vm1")["reason"] or ""), 3, "its end is noticed")
        with ListeningGuest(a.path, 1) as successor:
            successor.up()
            daemon.wait_port("vm1", "up", 3)
            exchange(successor, b)


def test_the_switch_is_killed(directory, guests):
    """Each frame arrives exactly once, and the first one soon: nothing waits for a timer."""
    a, b = guests(1, up=False), guests(2, up=False)
    daemon = start(directory)
    try:
        a.up(), b.up()
        exchange(a, b)
        for _ in range(5):
            daemon.kill()
            begin = time.monotonic()
            for n in range(10):
                a.send(ethernet(b.mac, a.mac, struct.pack("!I", n).ljust(46)), kick=False)
            for guest in a, b:
                guest.disconnect()
            daemon = start(directory)
            for guest in b, a:
                guest.up()
            for n in range(10):
                assert struct.unpack_from("!I", b.receive().data, 14)[0] == n
            for name in NAMES:
                assert daemon.wait_port(name, "up")["connection"]["connects"] == 1
            assert time.monotonic() - begin < RETRY
            exchange(a, b)
    finally:
        daemon.stop()


@pytest.mark.parametrize("how", ["relative", "renamed directory"])
def test_the_vmm_knows_its_socket_by_another_name(directory, guests, monkeypatch, how):
    """Who it is can be found out all the same."""
    if how == "relative":
        monkeypatch.chdir(directory)
        name = "vm1.sock"
    else:
        os.symlink(directory, directory / "link")
        name = str(directory / "link" / "vm1.sock")
    a, b = guests(1, up=False, name=name), guests(2, up=False)
    with start(directory) as daemon:
        a.up(), b.up()
        assert daemon.wait_port("vm1", "up")["connection"]["pid"] == os.getpid()
        exchange(a, b)


def test_a_vmm_that_stays_unknown_is_served(directory, guests):
    """A socket that was renamed after it was bound: nobody can tell whose a connection is."""
    b = guests(2, up=False)
    a = guests(1, up=False, name=str(directory / "first"))
    os.rename(directory / "first", a.path)
    with start(directory) as daemon:
        a.up(), b.up()
        assert daemon.wait_port("vm1", "up")["connection"]["pid"] == 0
        exchange(a, b)


def test_a_silent_vmm_holds_nobody(directory, guests):
    a, b = guests(1, up=False), guests(2, up=False)
    with start(directory) as daemon:
        a.connect()
        a.link.raw(struct.pack("=III", Msg.SET_FEATURES, 1, 8))
        begin = time.monotonic()
        b.up()
        daemon.wait_port("vm2", "up")
        assert time.monotonic() - begin < 1
        assert a.link.closed(), "half a message may be waited for, but not for ever"
        a.up()
        exchange(a, b)


def test_the_backlog_is_full(directory, guests):
    """A VMM that does not accept: the library must not block."""
    path = str(directory / "vm1.sock")
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as stack:
        listener.bind(path)
        listener.listen(0)
        full = False
        while not full:
            extra = stack.enter_context(socket.socket(socket.AF_UNIX))
            extra.setblocking(False)
            full = extra.connect_ex(path) != 0
        with start(directory) as daemon:
            assert daemon.port("vm1")["state"] == "down"
            guests(2)
            wait_until(lambda: daemon.port("vm2")["connection"]["state"] == "connected", 3, "vm2 is served")
            stack.close()
            while select.select([listener], [], [], 0)[0]:
                listener.accept()[0].close()


def test_permissions_are_the_vmms(directory):
    with Daemon(directory, []) as daemon:
        with pytest.raises(RpcError) as refused:
            daemon.rpc("port.add", **vhost_port(directory, "vm1", mode="client",
                                                permissions={"mode": "0600"}))
        assert refused.value.data["field"] == "permissions"
        assert "server" in refused.value.data["accepted"] and "client" in str(refused.value)
        daemon.rpc("port.add", **vhost_port(directory, "vm1", permissions={"mode": "0600"}))


def test_ports_come_and_go(directory, guests):
    """Closing while connected, while connecting, and at once."""
    a = guests(1, up=False)
    with Daemon(directory, [], idle="busy") as daemon:
        files = len(os.listdir(f"/proc/{daemon.pid}/fd"))
        for turn in range(20):
            daemon.rpc("port.add", **vhost_port(directory, "vm1", mode="client"))
            daemon.rpc("port.add", **vhost_port(directory, "vm2", mode="client"))
            if turn % 2:
                a.up()
                a.send(ethernet(BROADCAST, a.mac, bytes(46)))
                daemon.wait_port("vm1", "up")
            daemon.rpc("port.remove", name="vm1")
            daemon.rpc("port.remove", name="vm2")
            a.disconnect()
            while select.select([a.listener], [], [], 0)[0]:
                a.listener.accept()[0].close()
        wait_until(lambda: len(os.listdir(f"/proc/{daemon.pid}/fd")) <= files + 4, 5,
                   "descriptors of closed ports are gone")
        assert daemon.rpc("port.list") == []


# Real VMMs

def test_testpmd_owns_the_sockets(directory):
    sockets = [directory / f"{name}.sock" for name in NAMES]
    with start(directory) as daemon, TestpmdGuest(directory, sockets, server=True) as guest:
        for name in NAMES:
            assert daemon.wait_port(name, "up", 5)["connection"]["pid"] == guest.pid
        guest.start_loop(64)
        before = daemon.counters("vm1")["rx_packets"]
        wait_until(lambda: daemon.counters("vm1")["rx_packets"] > before + 200_000, 20, "frames circulate")
        guest.stop_loop()
        assert_ledgers(daemon)


def test_qemu_owns_the_sockets(directory):
    """And the switch is killed under it: the guests go on, QEMU has no part in finding it again."""
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: daemon.stop())
        daemon = start(directory)
        a, b = (stack.enter_context(qemu_guest(directory, name, n, server=True, cpus=CPUS[:1]))
                for n, name in enumerate(NAMES, 1))
        for guest in a, b:
            guest.wait_boot()
            port = daemon.wait_port(guest.name, "up", 10)
            assert port["connection"]["pid"] == guest.pid and port["memory"]["shared"] is not False
        assert a.ping(b.address) == 10
        boots = [guest.boot_id() for guest in (a, b)]
        a.start(f"ping -q -c 300 -i 0.01 {b.address}")
        before = daemon.counters("vm1")["rx_packets"]
        wait_until(lambda: daemon.counters("vm1")["rx_packets"] > before + 20, 10, "pings are flowing")
        daemon.kill()
        daemon = start(directory)
        for name in NAMES:
            daemon.wait_port(name, "up", 5)
        a.finish(30)
        assert a.ping(b.address, count=50) == 50
        assert [guest.boot_id() for guest in (a, b)] == boots
