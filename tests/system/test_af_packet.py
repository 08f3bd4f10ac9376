# SPDX-License-Identifier: BSD-3-Clause
"""AF_PACKET ports: interfaces that stay the kernel's, in network namespaces of the test's own. The
switch lives in one, with an end of each veth pair; the other ends are in namespaces for hosts."""
import contextlib
import fcntl
import json
import os
import re
import select
import socket
import statistics
import struct
import time

import pytest

from harness import (Daemon, Namespace, Process, RpcError, Workdir, assert_ledgers, drops, qemu_guest,
                     vhost_port, wait_until)
from test_tap import OFF, Site, only, site, tap_port

# linux/if_packet.h
SOL_PACKET, PACKET_AUXDATA, PACKET_VNET_HDR = 263, 8, 15
SO_RCVBUFFORCE, UDP_SEGMENT = 33, 103
VLAN_VALID = 1 << 4
ETH_P_ALL = 3
# linux/if_tun.h
TUNSETIFF, TUNSETOFFLOAD, TUNSETVNETHDRSZ = 0x400454ca, 0x400454d0, 0x400454d8
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x2, 0x1000, 0x4000
TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6 = 1, 2, 4

PLAIN = bytes(10)  # an offload header that asks for nothing
BROADCAST = b"\xff" * 6
HOSTS = [b"\x02\x00\x00\x00\x07" + bytes([n]) for n in range(2)]  # of the hosts' ends
STRANGER = b"\x02\x00\x00\x00\x09\x01"


def packet_port(name, interface=None, **more):
    return {"name": name, "type": "af_packet", "interface": interface or f"p{name}", **more}


class Veths(Site):
    """For each of the names a and b a veth pair: the switch's end is p + name, the host's h + name."""

    def __init__(self, stack, ports, names="ab", **options):
        def make(directory):
            for number, name in enumerate(names):
                self.make_pair(name, number)
            return ports(directory) if callable(ports) else ports
        super().__init__(stack, make, **options)

    def make_pair(self, name, number):
        self.home.run("ip", "link", "add", f"p{name}", "type", "veth", "peer", "name", f"h{name}",
                      "address", HOSTS[number].hex(":"))
        # The host's own kernel says nothing on its end.
        self.home.run("sysctl", "-qw", f"net.ipv6.conf.p{name}.disable_ipv6=1")
        self.home.run("ip", "link", "set", f"p{name}", "up")
        self.move(f"h{name}", number)

    def sockets(self):
        """Of the switch: bytes of frames that wait in each."""
        rows = self.home.run("cat", "/proc/net/packet").splitlines()[1:]
        return [int(row.split()[6]) for row in rows]

    def mute(self):
        """From now on only what the test sends is on the wires."""
        for number, name in enumerate("ab"):
            self.hosts[number].run("sysctl", "-qw", f"net.ipv6.conf.h{name}.disable_ipv6=1")
            self.hosts[number].run("ip", "address", "flush", "dev", f"h{name}")
        time.sleep(0.1)


@contextlib.contextmanager
def veths(ports, **options):
    with contextlib.ExitStack() as stack:
        place = Veths(stack, ports, **options)
        yield place
        assert_ledgers(place.daemon)


class Wire:
    """An interface of a host, for frames of the test's own making, with offload headers."""

    def __init__(self, host, interface):
        with host.entered():
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.socket.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        self.socket.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 4 << 20)
        self.socket.bind((interface, ETH_P_ALL))
        self.socket.settimeout(5)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.socket.close()

    def send(self, frame, vnet=PLAIN):
        assert self.socket.send(vnet + frame) == len(vnet) + len(frame)

    def receive(self):
        """The next frame that came in: (offload header, frame without the tag that the kernel takes
        out, that tag or None)."""
        while True:
            data, auxiliary, _, address = self.socket.recvmsg(70000, 64)
            if address[2] != socket.PACKET_OUTGOING:
                break
        tag = None
        for level, kind, value in auxiliary:
            if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
                status, _, _, _, _, tci, tpid = struct.unpack("=IIIHHHH", value)
                if status & VLAN_VALID:
                    tag = struct.pack("!HH", tpid, tci)
        return struct.unpack("=BBHHHH", data[:10]), data[10:], tag

    def is_silent(self, seconds=0.3):
        return not select.select([self.socket], [], [], seconds)[0]


def payload(length):
    return bytes(n * 7 % 251 for n in range(length))


def test_frame(source, to, length=60, tags=b"", kind=b"\x88\xb5"):
    return to + source + tags + kind + payload(length - 14)


test_frame.__test__ = False


def internet_checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return total


def large_frame(source, to, tags=b"", length=30000, size=1400):
    """A TCP segment of `length` bytes for the network card to cut, and its offload header."""
    addresses = socket.inet_aton("10.7.0.1") + socket.inet_aton("10.7.0.2")
    ip = bytearray(struct.pack("!BBHHHBBH", 0x45, 0, 40 + length, 1, 0, 64, 6, 0) + addresses)
    ip[10:12] = struct.pack("!H", 0xffff - internet_checksum(bytes(ip)))
    pseudo = internet_checksum(addresses + struct.pack("!HH", 6, 20 + length))
    tcp = struct.pack("!HHIIBBHHH", 1000, 2000, 1, 1, 0x50, 0x10, 1000, pseudo, 0)
    start = 14 + len(tags) + 20
    vnet = struct.pack("=BBHHHH", 1, 1, start + 20, size, start, 16)
    return to + source + tags + b"\x08\x00" + bytes(ip) + tcp + payload(length), vnet


# ---- hosts ----


@pytest.mark.parametrize("a, b", [({}, {}), (OFF, {}), ({}, OFF), (OFF, OFF)],
                         ids=["on-on", "off-on", "on-off", "off-off"])
def test_two_hosts(a, b):
    """Ping with all sizes, TCP and UDP both ways, with the offloads of either port on and off. The
    kernel hands over large segments as it has them; a port without offloads gets them cut."""
    with veths([packet_port("a", offloads=a), packet_port("b", offloads=b)]) as place:
        first, second = place.hosts
        for size in 0, 56, 1472, 8000, 30000:
            first.run("ping", "-q", "-c", 3, "-i", 0.01, "-W", 2, "-s", size, "10.7.0.2")
            second.run("ping", "-6", "-q", "-c", 3, "-i", 0.01, "-W", 2, "-s", size, "fd07::1")
        for source, target in (0, 1), (1, 0):
            assert place.iperf(source, target) > 20e6
            assert place.iperf(source, target, "-u", "-b", "5M", "-l", 1400) > 4e6
        for name, offloads in ("a", a), ("b", b):
            row = place.daemon.counters(name)
            assert row["rx_segments"] > 2 * row["rx_packets"]
            assert (row["tx_cut"] > 0) == (offloads is OFF)
            assert only({"rx.no_destination", "tx.ring_full"}, row), drops(row)


def test_hosts_without_offloads():
    with veths([packet_port("a"), packet_port("b")]) as place:
        for number, name in enumerate("ab"):
            place.hosts[number].run("ethtool", "-K", f"h{name}", "tx", "off", "tso", "off", "gso",
                                    "off")
        place.hosts[0].run("ping", "-q", "-c", 3, "-i", 0.01, "-s", 8000, "10.7.0.2")
        for source, target in (0, 1), (1, 0):
            assert place.iperf(source, target) > 20e6
        for name in "ab":
            row = place.daemon.counters(name)
            assert row["rx_segments"] == row["rx_packets"] and row["tx_cut"] == 0


def test_jumbo_frames():
    with veths([packet_port("a"), packet_port("b")]) as place:
        for number, name in enumerate("ab"):
            place.home.run("ip", "link", "set", f"p{name}", "mtu", 9000)
            place.hosts[number].run("ip", "link", "set", f"h{name}", "mtu", 9000)
            wait_until(lambda: place.daemon.port(name)["mtu"] == 9000, 5, "the MTU was noticed")
        ping = ["ping", "-q", "-c", 1, "-W", 1, "-M", "do", "-s", 8972, "10.7.0.2"]
        wait_until(lambda: answers(place.hosts[0], ping), 12, "jumbo frames pass")
        assert place.iperf(0, 1) > 20e6


def answers(host, ping):
    try:
        host.run(*ping)
    except AssertionError:
        return False
    return True


def test_the_mtu_is_followed():
    """The interface's own holds, also when it changes, and a smaller one of the port."""
    with veths([packet_port("a"), packet_port("b")]) as place:
        host, daemon = place.hosts[0], place.daemon
        # The host's interface would tell the sender; its kernel has to believe in more.
        host.run("ip", "link", "set", "ha", "mtu", 9000)
        place.home.run("ip", "link", "set", "pa", "mtu", 9000)

        def ping(size):
            return ["ping", "-q", "-c", 1, "-W", 1, "-M", "do", "-s", size, "10.7.0.2"]
        assert answers(host, ping(1472))
        assert not answers(host, ping(1473))
        assert drops(daemon.counters("b"))["tx.mtu"] == 1
        place.home.run("ip", "link", "set", "pb", "mtu", 1200)
        # Until the port has looked it is the kernel that refuses them.
        wait_until(lambda: not answers(host, ping(1300)) and
                   drops(daemon.counters("b"))["tx.mtu"] > 1, 20, "the smaller MTU holds")
        assert daemon.port("b")["mtu"] == 1200
        place.home.run("ip", "link", "set", "pb", "mtu", 1500)
        wait_until(lambda: answers(host, ping(1472)), 20, "the larger MTU holds")
        daemon.rpc("port.set", name="b", mtu=1000)
        assert not answers(host, ping(1100))
        assert place.home.links()["pb"]["mtu"] == 1500


def test_several_queues():
    """The kernel spreads its flows over the queues, and so does the switch."""
    limit = {"ingress": {"bandwidth": {"rate": "64kbit", "burst": "64KiB"}}}
    with veths([packet_port("a", queues=2, limits=limit), packet_port("b", queues=2)]) as place:
        place.mute()
        daemon = place.daemon
        assert daemon.port("a")["fanout"] != daemon.port("b")["fanout"]
        before = daemon.counters("a")["rx_packets"]
        with Wire(place.hosts[0], "ha") as wire, Wire(place.hosts[1], "hb") as other:
            for n in range(250):
                source = b"\x02\x00\x00\x00\x08" + bytes([n])
                addresses = struct.pack("!II", 0x0a070001, 0x0a070002)
                ip = struct.pack("!BBHHHBBH", 0x45, 0, 1028, 0, 0, 64, 17, 0) + addresses
                udp = struct.pack("!HHHH", 1000 + n, 53, 1008, 0)
                wire.send(STRANGER + source + b"\x08\x00" + ip + udp + bytes(1000))
            time.sleep(0.2)
            # What the limit does not let in waits in both.
            assert len([waiting for waiting in place.sockets() if waiting > 0]) == 2
            daemon.rpc("port.set", name="a", limits=None)
            sources = {other.receive()[1][6:12] for n in range(250)}
            assert len(sources) == 250 and other.is_silent()
        assert daemon.counters("a")["rx_packets"] - before == 250


@pytest.mark.parametrize("queues", [1, 2])
def test_nothing_is_seen_twice(queues):
    """What goes out of an interface does not come in there, whoever sent it: the switch or another
    program."""
    with veths([packet_port("a", queues=queues), packet_port("b", queues=queues)]) as place:
        place.mute()
        before = [place.daemon.counters(name)["rx_packets"] for name in "ab"]
        with Wire(place.hosts[0], "ha") as wire, Wire(place.hosts[1], "hb") as other:
            for _ in range(100):
                wire.send(test_frame(HOSTS[0], BROADCAST))
            for _ in range(100):
                assert other.receive()[1] == test_frame(HOSTS[0], BROADCAST)
            assert other.is_silent()
            with Wire(place.home, "pb") as program:
                program.send(test_frame(STRANGER, BROADCAST))
                assert other.receive()[1] == test_frame(STRANGER, BROADCAST)
        time.sleep(0.1)
        after = [place.daemon.counters(name)["rx_packets"] for name in "ab"]
        assert after == [before[0] + 100, before[1]]


@pytest.mark.parametrize("length", [60, 200, 255, 256, 257, 1514])
@pytest.mark.parametrize("tags", ["", "81002064", "88a83001", "88a8000181000002"])
def test_vlan_tags(length, tags):
    """Tags cross whole, whatever the kernel makes of them: priority, kind, and a second one."""
    tags = bytes.fromhex(tags)
    with veths([packet_port("a"), packet_port("b")]) as place:
        place.mute()
        if tags[:2] == b"\x88\xa8":  # the kernel has room for a tag beyond the MTU, of 802.1Q only
            for name, host in zip("ab", place.hosts):
                place.home.run("ip", "link", "set", f"p{name}", "mtu", 1508)
                host.run("ip", "link", "set", f"h{name}", "mtu", 1508)
        with Wire(place.hosts[0], "ha") as wire, Wire(place.hosts[1], "hb") as other:
            wire.send(test_frame(HOSTS[0], STRANGER, length, tags))
            _, frame, taken = other.receive()
            assert taken == (tags[:4] or None)
            assert frame == test_frame(HOSTS[0], STRANGER, length, tags[4:])


def carry_large(place, source, target, tags, offloads):
    """A TSO frame from an interface of host 0 to one of host 1."""
    with Wire(place.hosts[0], source) as wire, Wire(place.hosts[1], target) as other:
        frame, vnet = large_frame(HOSTS[0], STRANGER, tags)
        wire.send(frame, vnet)
        received = b""
        while len(received) < 30000:
            (flags, kind, _, size, start, offset), frame, taken = other.receive()
            assert taken == (tags or None)
            ip, tcp = frame[14:34], frame[34:54]
            if offloads is OFF:
                assert (flags & 1, kind) == (0, 0)
                assert len(frame) <= 54 + 1400
                pseudo = ip[12:20] + struct.pack("!HH", 6, len(frame) - 34)
                assert internet_checksum(pseudo + frame[34:]) == 0xffff
            else:
                assert (flags & 1, kind, size, start, offset) == (1, 1, 1400, 34, 16)
            assert int.from_bytes(tcp[4:8], "big") == 1 + len(received)
            received += frame[54:]
        assert received == payload(30000)


@pytest.mark.parametrize("tags", ["", "81002064"])
@pytest.mark.parametrize("offloads", [{}, OFF], ids=["on", "off"])
def test_large_segments(tags, offloads):
    """They cross whole, or are cut with their checksums filled; behind a tag, too."""
    tags = bytes.fromhex(tags)
    with veths([packet_port("a"), packet_port("b", offloads=offloads)]) as place:
        place.mute()
        carry_large(place, "ha", "hb", tags, offloads)


@pytest.mark.parametrize("tags", ["", "81002064", "88a83001", "88a8000181000002"])
@pytest.mark.parametrize("offloads", [{}, OFF], ids=["on", "off"])
def test_tags_over_tap(tags, offloads):
    """The same with TAP ports, where the kernel puts the tag back by itself."""
    tags = bytes.fromhex(tags)
    with site([tap_port("a", mtu=1508), tap_port("b", mtu=1508, offloads=offloads)]) as place:
        for number, name in enumerate("ab"):
            place.hosts[number].run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
            place.home.run("ip", "link", "set", f"rw{name}", "netns", place.hosts[number].name)
            place.hosts[number].run("ip", "link", "set", f"rw{name}", "up")
        for length in 60, 200, 256, 257, 1514:
            with Wire(place.hosts[0], "rwa") as wire, Wire(place.hosts[1], "rwb") as other:
                wire.send(test_frame(HOSTS[0], STRANGER, length, tags))
                _, frame, taken = other.receive()
                assert taken == (tags[:4] or None)
                assert frame == test_frame(HOSTS[0], STRANGER, length, tags[4:])
        if len(tags) < 8:
            carry_large(place, "rwa", "rwb", tags, offloads)


def test_large_datagrams():
    """What a program lets its kernel cut (UDP_SEGMENT) comes in whole, and is cut for the other port."""
    with veths([packet_port("a"), packet_port("b")]) as place:
        place.hosts[0].run("ping", "-q", "-c", 1, "10.7.0.2")
        with place.hosts[0].entered():
            source = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with place.hosts[1].entered():
            target = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with source, target:
            target.bind(("10.7.0.2", 5000))
            target.settimeout(5)
            source.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1000)
            source.sendto(payload(10000), ("10.7.0.2", 5000))
            received = [target.recv(2000) for _ in range(10)]
            assert [len(part) for part in received] == [1000] * 10
            assert b"".join(received) == payload(10000)
        assert place.daemon.counters("b")["tx_cut"] > 0


def test_promiscuous():
    """Off, only frames for the interface itself and for groups come in. It changes on a live port."""
    with veths([packet_port("a", promiscuous=False), packet_port("b")]) as place:
        place.mute()
        daemon = place.daemon
        own = bytes.fromhex(place.home.links()["pa"]["address"].replace(":", ""))
        with Wire(place.hosts[0], "ha") as wire:
            def arrives(to):
                before = daemon.counters("a")["rx_packets"]
                wire.send(test_frame(HOSTS[0], to))
                wire.send(test_frame(HOSTS[0], BROADCAST))  # behind it, and always
                wait_until(lambda: daemon.counters("a")["rx_packets"] > before, 5, "one came")
                time.sleep(0.1)
                return daemon.counters("a")["rx_packets"] - before == 2

            for setting in False, True, False:
                answer = daemon.rpc("port.set", name="a", promiscuous=setting)
                assert answer["reopened"] is False
                assert daemon.port("a")["promiscuous"] is setting
                assert place.home.links()["pa"]["promiscuity"] == int(setting)
                assert arrives(STRANGER) is setting
                assert arrives(own)
        assert place.home.links()["pb"]["promiscuity"] == 1
        daemon.rpc("port.remove", name="b")
        assert place.home.links()["pb"]["promiscuity"] == 0


def test_offloads_on_a_live_port():
    with veths([packet_port("a"), packet_port("b")]) as place:
        place.mute()
        with Wire(place.hosts[0], "ha") as wire, Wire(place.hosts[1], "hb") as other:
            for offloads, kind in ({}, 1), (OFF, 0):
                answer = place.daemon.rpc("port.set", name="b", offloads=offloads)
                assert answer["reopened"] is False
                wire.send(*large_frame(HOSTS[0], STRANGER, length=2000))
                assert other.receive()[0][1] == kind
                if kind == 0:
                    other.receive()


def test_a_limit_holds_back():
    """What is over the limit waits in the kernel, and in the port what it has taken from there."""
    limit = {"ingress": {"bandwidth": {"rate": "100Mbit", "burst": "256KiB"}}}
    with veths([packet_port("a", limits=limit), packet_port("b")]) as place:
        assert 40e6 < place.iperf(0, 1, seconds=4) < 100e6
        row = place.daemon.counters("a")
        assert row["rx_throttled"] > 0 and "rx.limit" not in drops(row)


def test_kernel_drops():
    """Frames that find no room in the sockets are the kernel's to count, and the port's to show."""
    limit = {"ingress": {"bandwidth": {"rate": "64kbit", "burst": "64KiB"}}}
    with veths([packet_port("a", limits=limit), packet_port("b")]) as place:
        place.mute()
        before = place.daemon.counters("a")["rx_packets"]
        with Wire(place.hosts[0], "ha") as wire:
            frame = test_frame(HOSTS[0], BROADCAST, 1514)
            sent = 0
            while sent < 100000 and place.daemon.port("a")["kernel_drops"] == 0:
                for _ in range(1000):
                    wire.send(frame)
                sent += 1000
        shown = place.daemon.port("a")["kernel_drops"]
        assert 0 < shown < sent
        assert place.daemon.port("a")["kernel_drops"] == shown  # it stays
        assert place.daemon.counters("a")["rx_missed"] == shown
        # What was not lost waits, and comes in when it may.
        place.daemon.rpc("port.set", name="a", limits=None)
        wait_until(lambda: place.daemon.counters("a")["rx_packets"] - before == sent - shown, 10,
                   "all others come in")


def test_status():
    with veths([packet_port("a"), packet_port("b", queues=2)]) as place:
        port = place.daemon.wait_port("a", "up")
        link = place.home.links()["pa"]
        assert port["interface"] == "pa" and port["mtu"] == 1500
        assert port["kernel"] == {"index": link["ifindex"], "up": True, "carrier": True, "mtu": 1500}
        assert port["promiscuous"] is True and port["kernel_drops"] == 0 and port["fanout"] is None
        assert place.daemon.port("b")["fanout"] is not None
        # Its name may change.
        place.home.run("ip", "link", "set", "pa", "down")
        place.home.run("ip", "link", "set", "pa", "name", "other")
        place.home.run("ip", "link", "set", "other", "up")
        assert place.daemon.wait_port("a", "up")["interface"] == "other"
        place.hosts[0].run("ping", "-q", "-c", 2, "-i", 0.1, "10.7.0.2")


# ---- the interface goes and comes ----


@pytest.mark.parametrize("queues", [1, 2])
def test_down_and_up(queues):
    with veths([packet_port("a"), packet_port("b", queues=queues)]) as place:
        place.hosts[0].run("ping", "-q", "-c", 2, "-i", 0.1, "10.7.0.2")
        place.home.run("ip", "link", "set", "pb", "down")
        assert place.daemon.wait_port("b", "down")["reason"] == "the interface is down"
        with Wire(place.hosts[0], "ha") as wire:
            wire.send(test_frame(HOSTS[0], BROADCAST))
        wait_until(lambda: "tx.device" in drops(place.daemon.counters("b")), 5, "it is counted")
        place.home.run("ip", "link", "set", "pb", "up")
        place.daemon.wait_port("b", "up")
        place.hosts[0].run("ping", "-q", "-c", 2, "-i", 0.1, "10.7.0.2")
        place.hosts[1].run("ip", "link", "set", "hb", "down")
        assert "no carrier" in place.daemon.wait_port("b", "down")["reason"]
        place.hosts[1].run("ip", "link", "set", "hb", "up")
        place.daemon.wait_port("b", "up")
        place.hosts[0].run("ping", "-q", "-c", 2, "-i", 0.1, "10.7.0.2")
        assert "opened again" not in place.daemon.log()


def test_opened_while_down():
    with veths([packet_port("a")]) as place:
        place.home.run("ip", "link", "set", "pb", "down")
        place.daemon.rpc("port.add", **packet_port("b"))
        assert place.daemon.port("b")["reason"] == "the interface is down"
        place.home.run("ip", "link", "set", "pb", "up")
        place.daemon.wait_port("b", "up")
        place.hosts[0].run("ping", "-q", "-c", 2, "-i", 0.1, "10.7.0.2")


@pytest.mark.parametrize("queues", [1, 2])
def test_deleted_and_back(queues):
    with veths([packet_port("a", queues=queues), packet_port("b")]) as place:
        place.hosts[0].run("ping", "-q", "-c", 1, "10.7.0.2")
        place.home.run("ip", "link", "delete", "pa")
        port = place.daemon.wait_port("a", "down")
        assert "deleted" in port["reason"] or "no interface" in port["reason"]
        wait_until(lambda: "no interface pa" in place.daemon.port("a")["reason"], 12,
                   "it is looked for")
        place.make_pair("a", 0)
        place.daemon.wait_port("a", "up", 12)
        place.hosts[0].run("ping", "-q", "-c", 2, "-i", 0.1, "10.7.0.2")


def test_another_name_of_an_interface():
    """By it a port would see all frames twice."""
    with veths([packet_port("a"), packet_port("b")]) as place:
        place.home.run("ip", "link", "property", "add", "dev", "pa", "altname", "other")
        with pytest.raises(RpcError) as refused:
            place.daemon.rpc("port.add", **packet_port("c", "other"))
        assert "other is another name of the interface pa" in refused.value.message


def test_not_there_at_the_start():
    """A configuration file names an interface that comes later."""
    with veths([packet_port("a"), packet_port("b")], names="a") as place:
        assert "no interface pb" in place.daemon.wait_port("b", "down")["reason"]
        place.make_pair("b", 1)
        place.daemon.wait_port("b", "up", 12)
        place.hosts[0].run("ping", "-q", "-c", 2, "-i", 0.1, "10.7.0.2")


# ---- refusals ----


@pytest.mark.parametrize("more, field, sentence", [
    ({"interface": "nowhere"}, "interface", "there is no interface nowhere"),
    ({"interface": "lo"}, "interface", "lo is no Ethernet interface"),
    ({"interface": "x" * 16}, "interface", "15"),
    ({"interface": ""}, "interface", "15"),
    ({"interface": "a/b"}, "interface", "white space"),
    ({"interface": None}, "interface", "interface"),
    ({"interface": "pb"}, "interface", "b"),
    ({"promiscuous": 1}, "promiscuous", "true"),
    ({"offloads": {"checksum": False, "tso": True}}, "offloads.tso", "checksum"),
    ({"persist": True}, "persist", "persist"),
], ids=lambda value: json.dumps(value) if isinstance(value, dict) else "")
def test_refusals(more, field, sentence):
    with veths([packet_port("b")]) as place:
        port = {key: value for key, value in {**packet_port("a"), **more}.items()
                if value is not None}
        with pytest.raises(RpcError) as refused:
            place.daemon.rpc("port.add", **port)
        assert refused.value.data["field"] == field
        assert sentence in f"{refused.value.message} {refused.value.data.get('accepted')}"
        assert [port["name"] for port in place.daemon.rpc("port.list")] == ["b"]
        assert len(place.sockets()) == 1


def test_without_permission():
    """The daemon may not open packet sockets: that port is down and says why, the others run."""
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(Workdir())
        home = stack.enter_context(Namespace())
        home.run("ip", "link", "add", "pa", "type", "veth", "peer", "name", "ha")
        argv = ["setpriv", "--bounding-set", "-net_raw", "--inh-caps", "-net_raw"]
        ports = [packet_port("a"), vhost_port(directory, "b")]
        daemon = stack.enter_context(Daemon(directory, ports, netns=home.name, through=argv))
        assert "CAP_NET_RAW" in daemon.wait_port("a", "down")["reason"]
        assert "waiting for the VMM" in daemon.port("b")["reason"]


def test_the_least_permission():
    """CAP_NET_RAW is enough."""
    argv = ["setpriv", "--bounding-set", "-all,+net_raw", "--inh-caps", "-all"]
    with veths([packet_port("a"), packet_port("b", queues=2)], through=argv) as place:
        for name in "ab":
            place.daemon.wait_port(name, "up")
        place.hosts[0].run("ping", "-q", "-c", 2, "-i", 0.1, "10.7.0.2")


# ---- workers and guests ----


def test_asleep():
    """An adaptive worker sleeps, and the kernel's frames wake it."""
    with veths([packet_port("a"), packet_port("b")], idle="adaptive") as place:
        place.hosts[0].run("ping", "-q", "-c", 1, "10.7.0.2")
        time.sleep(0.5)
        before = place.daemon.rpc("worker.list")[0]
        output = place.hosts[0].run("ping", "-c", 20, "-i", 0.1, "10.7.0.2")
        after = place.daemon.rpc("worker.list")[0]
        assert " 0% packet loss" in output
        assert after["sleep_ns"] - before["sleep_ns"] > 1e9
        times = [float(text) for text in re.findall(r"time=([\d.]+) ms", output)]
        assert len(times) == 20 and statistics.median(times) < 20


def test_guest_to_host():
    """A QEMU guest and a host behind a veth pair, both ways and with jumbo frames."""
    def ports(directory):
        return [packet_port("a"), vhost_port(directory, "vm1")]
    with veths(ports) as place:
        host = place.hosts[0]
        host.run("ip", "address", "add", "10.9.0.200/24", "dev", "ha")
        place.home.run("ip", "link", "set", "pa", "mtu", 9000)
        host.run("ip", "link", "set", "ha", "mtu", 9000)
        with qemu_guest(place.directory, "vm1", 1) as guest:
            guest.wait_boot()
            place.daemon.wait_port("vm1", "up")
            guest.check("ping -c 3 10.9.0.200", 10)
            host.run("ping", "-q", "-c", 3, "-i", 0.1, "-s", 8000, guest.address)
            guest.check("ping -c 3 -s 8000 10.9.0.200", 10)
            for reverse in "", "-R":
                with open(place.directory / "iperf.log", "w") as log:
                    with Process(["iperf3", "-s", "-1", "--forceflush"], place.directory,
                                 netns=host.name, stdout=log, stderr=log):
                        wait_until(lambda: "listening" in
                                   (place.directory / "iperf.log").read_text(), 5, "it listens")
                        assert guest.iperf("10.9.0.200", 3, reverse) > 10e6
            for name in "a", "vm1":
                row = place.daemon.counters(name)
                assert row["rx_segments"] > 2 * row["rx_packets"]


# ---- a guest's own TAP: Firecracker ----


class Firecracker:
    """The VMM's side of a TAP as Firecracker opens it: a 12-byte offload header, the guest's offloads."""

    HEADER = 12

    def __init__(self, host, interface):
        with host.entered():
            self.fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
            request = struct.pack("16sH22x", interface.encode(), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)
            fcntl.ioctl(self.fd, TUNSETIFF, request)
        fcntl.ioctl(self.fd, TUNSETVNETHDRSZ, struct.pack("i", self.HEADER))
        fcntl.ioctl(self.fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        os.close(self.fd)

    def send(self, frame, vnet=PLAIN):
        data = vnet + b"\0\0" + frame
        assert os.write(self.fd, data) == len(data)

    def receive(self, timeout=5):
        """The next frame for the guest, with its offload header."""
        assert select.select([self.fd], [], [], timeout)[0], "nothing came"
        data = os.read(self.fd, 70000)
        return struct.unpack("=BBHHHH", data[:10]), data[self.HEADER:]


@contextlib.contextmanager
def microvms():
    """Two guests whose TAPs the operator made before, as docs/operations.md says."""
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(Workdir())
        home = stack.enter_context(Namespace())
        names = ["fc0", "fc1"]
        for name in names:
            home.run("ip", "tuntap", "add", name, "mode", "tap")
            home.run("sysctl", "-qw", f"net.ipv6.conf.{name}.disable_ipv6=1")
            home.run("ip", "link", "set", name, "up")
        ports = [packet_port(name, interface=name) for name in names]
        daemon = stack.enter_context(Daemon(directory, ports, netns=home.name))
        assert "no carrier" in daemon.wait_port("fc0", "down")["reason"]
        guests = [stack.enter_context(Firecracker(home, name)) for name in names]
        for name in names:
            daemon.wait_port(name, "up")
        yield daemon, guests
        assert_ledgers(daemon)


def test_firecracker():
    with microvms() as (daemon, (first, second)):
        for length in 60, 300, 1514:
            first.send(test_frame(HOSTS[0], BROADCAST, length))
            assert second.receive()[1] == test_frame(HOSTS[0], BROADCAST, length)
            second.send(test_frame(HOSTS[1], HOSTS[0], length))
            assert first.receive()[1] == test_frame(HOSTS[1], HOSTS[0], length)
        # A large segment goes from guest to guest in one piece, behind a tag, too.
        for tags in b"", bytes.fromhex("81002064"):
            frame, vnet = large_frame(HOSTS[0], HOSTS[1], tags)
            first.send(frame, vnet)
            (flags, kind, _, size, start, offset), received = second.receive()
            assert (flags, kind, size, start, offset) == (1, 1, 1400, 34 + len(tags), 16)
            assert received == frame
        assert only({}, daemon.counters("fc0")) and only({}, daemon.counters("fc1"))


def test_offloads_that_no_header_expresses():
    """A UFO frame written to a TAP is one that packet sockets cannot hand over: it is counted, and what
    comes behind it goes on."""
    with microvms() as (daemon, (first, second)):
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28 + 3000, 0, 0, 64, 17, 0, b"\x0a\0\0\1",
                         b"\x0a\0\0\2")
        datagram = struct.pack("!HHHH", 1000, 2000, 3008, 0) + bytes(3000)
        for _ in range(3):
            first.send(test_frame(HOSTS[0], BROADCAST))
            first.send(BROADCAST + HOSTS[0] + b"\x08\x00" + ip + datagram,
                       struct.pack("=BBHHHH", 1, 3, 42, 1400, 34, 6))
            first.send(test_frame(HOSTS[0], BROADCAST))
        for _ in range(6):
            assert second.receive()[1] == test_frame(HOSTS[0], BROADCAST)
        assert drops(daemon.counters("fc0")) == {"rx.bad_offload": 3}
