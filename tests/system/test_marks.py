# SPDX-License-Identifier: BSD-3-Clause
"""The mark that a checksum was found good (DATA_VALID): the host's kernel may give it, guests may not, and
only a guest that negotiated checksums gets it (virtio 1.2, 5.1.6.4.1)."""
import contextlib
import struct
import subprocess
import sys
import types

import pytest

from frontend import (BROADCAST, DATA_VALID, GSO_UDP, GUEST_OFFLOADS, LINUX, NEEDS_CSUM, NO_OFFLOAD, Guest,
                      Vnet, ethernet, until)
from harness import Daemon, Namespace, Workdir, assert_ledgers, vhost_port, wait_until
from test_protocol import transport

HOST = types.SimpleNamespace(mac=bytes.fromhex("020000000063"))
PROBE = bytes.fromhex("020000000064")
VALID = NO_OFFLOAD._replace(flags=DATA_VALID)

# Opens a TAP by its name, says so, and writes one frame in hexadecimal for each line of its input.
WRITER = """
import fcntl, os, struct, sys
tap = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tap, 0x400454CA, struct.pack("16sH22x", sys.argv[1].encode(), 0x5002))  # TUNSETIFF
for line in sys.stdin:
    os.write(tap, bytes.fromhex(line))
    print("written", flush=True)
"""


@pytest.fixture(scope="module")
def place():
    """A switch with two guests' ports and a TAP, which a bridge of the kernel joins with one of ours."""
    with contextlib.ExitStack() as stack:
        home = stack.enter_context(Namespace())
        home.look_away()
        directory = stack.enter_context(Workdir())
        ports = [vhost_port(directory, "vm1"), vhost_port(directory, "vm2"),
                 {"name": "host", "type": "tap", "interface": "rwhost"}]
        daemon = stack.enter_context(Daemon(directory, ports, netns=home.name))
        home.run("ip", "link", "add", "name", "joined", "type", "bridge", "mcast_snooping", 0, "stp_state", 0,
                 "forward_delay", 0)
        home.run("ip", "tuntap", "add", "dev", "outside", "mode", "tap", "vnet_hdr")
        for name in "rwhost", "outside":
            home.run("ip", "link", "set", "dev", name, "master", "joined")
        for name in "outside", "joined":
            home.run("ip", "link", "set", "dev", name, "up")
        writer = stack.enter_context(subprocess.Popen(
            ["ip", "netns", "exec", home.name, sys.executable, "-c", WRITER, "outside"], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        stack.callback(writer.stdin.close)
        yield daemon, directory, writer
        assert_ledgers(daemon)


@contextlib.contextmanager
def guest_at(place, name, features):
    daemon, directory, _ = place
    guest = Guest(str(directory / f"{name}.sock"), int(name[-1]), features=features)
    try:
        guest.up()
        daemon.wait_port(name, "up")
        yield guest
    finally:
        guest.close()
        daemon.wait_port(name, "down")


def write(place, vnet, frame):
    """One frame with this header into the kernel's side of the bridge."""
    writer = place[2]
    print(struct.pack("=BBHHHH", *vnet).hex() + frame.hex(), file=writer.stdin, flush=True)
    assert writer.stdout.readline() == "written\n"


def from_host(guest, source=HOST.mac):
    """The frames of this source that have reached a guest; the kernel sends some of its own."""
    return [got for got in guest.drain() if got.data[6:12] == source]


def some(guest, count):
    """So many of HOST's frames as they reach a guest."""
    frames = []
    wait_until(lambda: frames.extend(from_host(guest)) or len(frames) >= count, 5, "frames")
    return frames


def test_who_gets_the_mark(place):
    """The kernel marks the fragments of a datagram, as it has filled the checksum itself."""
    plain = ethernet(BROADCAST, HOST.mac, bytes(100))
    with guest_at(place, "vm1", LINUX) as a, guest_at(place, "vm2", LINUX & ~GUEST_OFFLOADS) as b:
        def reached():
            write(place, NO_OFFLOAD, ethernet(BROADCAST, PROBE, bytes(100)))
            return from_host(a, PROBE) and from_host(b, PROBE)

        wait_until(reached, 10, "the bridge forwards")
        write(place, NO_OFFLOAD, plain)
        for guest in a, b:
            assert [one.vnet for one in some(guest, 1)] == [NO_OFFLOAD]
        datagram = BROADCAST + transport(a, HOST, bytes(2000), protocol=17)[6:]
        write(place, Vnet(NEEDS_CSUM, GSO_UDP, 42, 1480, 34, 6), datagram)
        for guest, header in (a, VALID), (b, NO_OFFLOAD):
            assert [(len(one.data), one.vnet) for one in some(guest, 2)] == [(1514, header), (562, header)]


def test_a_guest_cannot_give_it(place):
    with guest_at(place, "vm1", LINUX) as a, guest_at(place, "vm2", LINUX) as b:
        frame = ethernet(BROADCAST, a.mac, bytes(100))
        a.send(frame, vnet=VALID)
        got = until(lambda: [one for one in b.drain() if one.data == frame], 5, "the frame")
        assert got[0].vnet == NO_OFFLOAD
