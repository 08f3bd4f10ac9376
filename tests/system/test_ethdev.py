# SPDX-License-Identifier: BSD-3-Clause
"""DPDK's devices behind the switch. Two switches are joined by them: one has a vhost-user port, the other
the driver's side of it; or both have an end of a memif, or AF_XDP sockets on the ends of a veth pair.
Frames are sent by test programs, the kernels of namespaces, and QEMU guests."""
import contextlib
import json
import os
import socket
import struct
import time

import pytest

from frontend import NEEDS_CSUM, NO_OFFLOAD, Vnet, ethernet, until
from harness import (CPUS, Daemon, Namespace, Process, RpcError, Workdir, assert_ledgers, drops, qemu_guest,
                     vhost_port, wait_stable, wait_until)
from test_guests import stream
from test_protocol import PARTIAL, Drops, carry, frame_of, payload, plugged, transport, tso

OFF = {"checksum": False, "tso": False, "ufo": False, "ecn": False}
ENDS = pytest.mark.parametrize("a, b", [({}, {}), (OFF, {}), ({}, OFF), (OFF, OFF)],
                               ids=["on-on", "off-on", "on-off", "off-off"])
JOINTS = pytest.mark.parametrize("joint", ["virtio_user", "memif", "af_xdp"])


SEGMENT = 1400  # fits into 1500 with the headers of either IP


def ethdev(name, device, **more):
    return {"name": name, "type": "ethdev", "device": device, **more}


def tap(name, **more):
    return {"name": name, "type": "tap", "interface": f"rw{name}", **more}


class Pair:
    """Two switches, each in a namespace, and what joins their ports `link`."""

    def __init__(self, stack, joint, ports, links=({}, {})):
        """ports: called with a directory and the number of a switch, gives the other ports of it; links:
        more of the settings of either end."""
        self.stack = stack
        self.directories = [stack.enter_context(Workdir()) for _ in range(2)]
        self.homes = [stack.enter_context(Namespace()) for _ in range(2)]
        ends = getattr(self, joint)()
        self.ports = [[{**end, **more}, *ports(directory, number)]
                      for number, (end, more, directory)
                      in enumerate(zip(ends, links, self.directories))]
        self.daemons = [self.start(number) for number in range(2)]
        for daemon in self.daemons:
            daemon.wait_port("link", "up")

    def start(self, number):
        daemon = Daemon(self.directories[number], self.ports[number], netns=self.homes[number].name,
                        cpu=CPUS[-1 - number % len(CPUS)], idle="adaptive")
        daemon.directory = self.directories[number]
        return self.stack.enter_context(daemon)

    def virtio_user(self):
        path = self.directories[0] / "link.sock"
        return vhost_port(self.directories[0], "link"), ethdev(
            "link", f"net_virtio_user0,path={path},queue_size=1024")

    def memif(self):
        words = f"socket={self.directories[0] / 'memif.sock'},socket-abstract=no,bsize=10240"
        return [ethdev("link", f"net_memif0,role={role},{words}") for role in ("server", "client")]

    def af_xdp(self):
        self.homes[0].run("ip", "link", "add", "end0", "type", "veth", "peer", "name", "end1", "netns",
                          self.homes[1].name)
        for number, home in enumerate(self.homes):
            # The kernel has nothing to say there.
            home.run("sysctl", "-qw", f"net.ipv6.conf.end{number}.disable_ipv6=1")
            home.run("ip", "link", "set", f"end{number}", "up")
        return [ethdev("link", f"net_af_xdp0,iface=end{number}") for number in range(2)]

    def address(self):
        """The TAP interfaces rwhost of both get addresses."""
        for number, home in enumerate(self.homes, 1):
            home.run("ip", "address", "add", f"10.7.0.{number}/24", "dev", "rwhost")
            home.run("ip", "address", "add", f"fd07::{number}/64", "dev", "rwhost", "nodad")

    def iperf(self, source, target, *options, seconds=1):
        """Bits per second that arrived at the kernel behind switch `target`."""
        log = self.directories[0] / "iperf.log"
        with open(log, "w") as out:
            with Process(["iperf3", "-s", "-1", "--forceflush"], self.directories[0],
                         netns=self.homes[target].name, stdout=out, stderr=out):
                wait_until(lambda: "listening" in log.read_text(), 5, "iperf3 listens")
                output = self.homes[source].run("iperf3", "-c", f"10.7.0.{target + 1}", "-t", seconds, "-J",
                                                *options)
                result = json.loads(output[output.index("{"):])  # behind a warning or two
        return result["end"]["sum_received"]["bits_per_second"]


@contextlib.contextmanager
def joined(joint, ports, links=({}, {})):
    with contextlib.ExitStack() as stack:
        pair = Pair(stack, joint, ports, links)
        yield pair
        for daemon in pair.daemons:
            assert_ledgers(daemon)


@contextlib.contextmanager
def plugged_pair(joint, links=({}, {}), **options):
    """A pair, and a test program's guest at each switch."""
    with joined(joint, lambda directory, n: [vhost_port(directory, f"vm{n + 1}")], links) as pair:
        with plugged(pair.daemons[0], 1, **options) as one, plugged(pair.daemons[1], 2, **options) as two:
            for source, to in (one, two), (two, one):
                carry(source, to)
            yield pair, one, two


@contextlib.contextmanager
def switch(*ports, **options):
    """One switch in a namespace, which has a veth pair end0 and end1 and a guest's port vm1."""
    with Workdir() as directory, Namespace() as home:
        home.run("ip", "link", "add", "end0", "type", "veth", "peer", "name", "end1")
        for end in "end0", "end1":
            home.run("ip", "link", "set", end, "up")
        with Daemon(directory, [vhost_port(directory, "vm1"), *ports], netns=home.name, idle="adaptive",
                    **options) as daemon:
            daemon.directory, daemon.home = directory, home
            yield daemon
            assert_ledgers(daemon)


def tagged(frame, tags):
    return frame[:12] + struct.pack("!HH", 0x8100, 5) * tags + frame[12:]


# Frames, byte by byte

@JOINTS
def test_all_sizes(joint):
    with plugged_pair(joint) as (pair, one, two):
        for source, to in (one, two), (two, one):
            for size in 60, 61, 127, 128, 129, 256, 590, 1513, 1514:
                assert carry(source, to, frame_of(size, source, to)).vnet == NO_OFFLOAD
            # The kernel's interface has room for one tag, the others for two.
            longest = 1514 if joint != "af_xdp" else 1510
            for tags in 1, 2, 3:
                carry(source, to, tagged(frame_of(longest - 4 * max(tags - 2, 0), source, to), tags))
        # An MTU of 1500 is what the device has, if nothing else is said.
        watch = Drops(pair.daemons[1], type("link", (), {"name": "link"}))
        two.send(frame_of(1515, two, one))
        carry(two, one)
        assert watch.since() == {"tx.mtu": 1}


@pytest.mark.parametrize("joint", ["virtio_user", "memif"])
def test_jumbo_frames(joint):
    """In several buffers on virtio-user, in one of memif's."""
    with plugged_pair(joint, ({"mtu": 9000}, {"mtu": 9000})) as (pair, one, two):
        assert pair.daemons[1].port("link")["mtu"] == 9000
        for source, to in (one, two), (two, one):
            for size in 1515, 2048, 2049, 4096, 9013, 9014:
                carry(source, to, frame_of(size, source, to))
            carry(source, to, tagged(frame_of(9014, source, to), 2))
            for n in range(300):
                carry(source, to, frame_of(9014, source, to, n))


@JOINTS
def test_short_frames(joint):
    """Whatever a guest sends arrives; what goes to a device is padded to the least of a wire."""
    with plugged_pair(joint) as (pair, one, two):
        for source, to in (one, two), (two, one):
            # The first switch has no device but a vhost-user port at this joint.
            padded = joint != "virtio_user" or source is two
            for size in range(14, 61):
                frame = frame_of(size, source, to)
                carry(source, to, frame, expect=frame.ljust(60, b"\0") if padded else frame)


@ENDS
@JOINTS
def test_offloads(joint, a, b):
    """Partial checksums and large segments, both ways: whole where both ends take them, complete and cut
    where not."""
    ends = {"offloads": a}, {"offloads": b}
    whole = joint == "virtio_user" and not a and not b
    data = payload(60000)
    with plugged_pair(joint, ends) as (pair, one, two):
        for source, to in (one, two), (two, one):
            for version in 4, 6:
                frame = transport(to, source, data, version)
                source.send(frame, vnet=tso(version, SEGMENT))
                if whole:
                    got = to.receive()
                    assert (got.data, got.vnet) == (frame, tso(version, SEGMENT))
                else:
                    assert stream(to, len(data), version) == data
                for protocol, at in (6, 16), (17, 6):
                    for tags in 0, 1, 2:
                        start = (34 if version == 4 else 54) + 4 * tags
                        partial = Vnet(NEEDS_CSUM, 0, 0, 0, start, at)
                        words = dict(version=version, protocol=protocol)
                        sent = tagged(transport(to, source, data[:1000], **words), tags)
                        complete = tagged(transport(to, source, data[:1000], complete=True, **words), tags)
                        source.send(sent, vnet=partial)
                        got = to.receive()
                        if whole and tags < 2:
                            assert (got.data, got.vnet) == (sent, partial)
                        elif not whole or got.data != sent:
                            # The driver looks behind one tag; else it completes the checksum itself.
                            assert (got.data, got.vnet) == (complete, NO_OFFLOAD)
        for number, name in enumerate(("vm1", "vm2")):
            assert drops(pair.daemons[number].counters(name)).keys() <= {"tx.not_connected"}


def inner(to, source, data):
    """A guest's own tunnel: a TCP packet in a UDP one without checksum; its own checksum is partial."""
    packet = transport(to, source, data)[14:]
    udp = struct.pack("!HHHH", 7000, 7001, 8 + len(packet), 0) + packet
    ip = transport(to, source, bytes(len(udp) - 8), protocol=17)[14:34]
    return ethernet(to.mac, source.mac, ip + udp, 0x800), Vnet(NEEDS_CSUM, 0, 0, 0, 14 + 28 + 20, 16)


def test_a_checksum_that_dpdk_has_no_words_for():
    """It is completed: wherever its field is, in whatever buffer."""
    with plugged_pair("virtio_user", ({"mtu": 9000}, {"mtu": 9000})) as (pair, one, two):
        for length in 100, 1000, 5000:
            data = payload(length)
            frame, vnet = inner(one, two, data)
            two.send(frame, vnet=vnet)
            got = one.receive()
            assert got.vnet == NO_OFFLOAD
            assert got.data == frame[:42] + transport(one, two, data, complete=True)[14:]
        for at in 2040, 2047, 2048, 3000:
            # Nothing that anybody knows; the field may lie across two buffers.
            frame = ethernet(one.mac, two.mac, bytes(4000))
            two.send(frame, vnet=Vnet(NEEDS_CSUM, 0, 0, 0, at, 0))
            assert one.receive().data == frame[:at] + b"\xff\xff" + frame[at + 2:]


# Kernels as users

@pytest.mark.parametrize("joint, a, b", [
    ("virtio_user", {}, {}), ("virtio_user", OFF, {}), ("virtio_user", {}, OFF), ("virtio_user", OFF, OFF),
    ("memif", {}, {}), ("af_xdp", {}, {}), ("af_xdp", OFF, OFF),
], ids=lambda value: value if isinstance(value, str) else "off" if value else "on")
def test_two_hosts(joint, a, b):
    """Pings of all sizes, fragments of UDP, TCP both ways."""
    with joined(joint, lambda directory, n: [tap("host")], ({"offloads": a}, {"offloads": b})) as pair:
        pair.address()
        first, second = pair.homes
        for size in 0, 56, 1472, 4000, 30000:
            first.run("ping", "-q", "-c", 3, "-i", 0.01, "-W", 2, "-s", size, "10.7.0.2")
            second.run("ping", "-6", "-q", "-c", 3, "-i", 0.01, "-W", 2, "-s", size, "fd07::1")
        for source, target in (0, 1), (1, 0):
            assert pair.iperf(source, target) > 20e6
            assert pair.iperf(source, target, "-u", "-b", "10M", "-l", 8000) > 9e6
        large = [row["rx_segments"] > 2 * row["rx_packets"]
                 for row in (daemon.counters("link") for daemon in pair.daemons)]
        whole = joint == "virtio_user" and not a and not b
        assert large == [whole, whole]
        for daemon in pair.daemons:
            row = daemon.counters("link")
            assert drops(row).keys() <= {"tx.ring_full", "tx.not_connected", "rx.no_destination"}, row


def test_two_hosts_with_jumbo_frames():
    links = {"mtu": 9000}, {"mtu": 9000}
    with joined("virtio_user", lambda directory, n: [tap("host", mtu=9000)], links) as pair:
        pair.address()
        for source, target in (0, 1), (1, 0):
            pair.homes[source].run("ping", "-q", "-c", 3, "-i", 0.1, "-M", "do", "-s", 8972,
                                   f"10.7.0.{target + 1}")
            assert pair.iperf(source, target) > 20e6


@pytest.mark.parametrize("joint", ["virtio_user", "memif"])
def test_two_guests(joint):
    """QEMU guests at two switches."""
    with joined(joint, lambda directory, n: [vhost_port(directory, f"vm{n + 1}")]) as pair:
        with qemu_guest(pair.directories[0], "vm1", 1) as one, \
                qemu_guest(pair.directories[1], "vm2", 2) as two:
            for guest in one, two:
                guest.wait_boot(120)
            assert one.ping(two.address) == 10 and two.ping(one.address) == 10
            one.check(f"ping -c 3 -s 20000 {two.address}")
            for offloads in {}, OFF:
                # On the running switch: the device goes and comes back under the guests' traffic.
                if offloads:
                    answer = pair.daemons[1].rpc("port.set", name="link", offloads=OFF)
                    assert answer["reopened"] is True
                for daemon in pair.daemons:
                    daemon.wait_port("link", "up", 15)
                for source, target in (one, two), (two, one):
                    target.check("iperf3 -s -1 -D")
                    assert source.iperf(target.address, 2) > 5e6


def test_several_queues():
    """Both of a device's queues carry frames, flow by flow, each way."""
    links = {"queues": 2}, {"queues": 2}
    with contextlib.ExitStack() as stack:
        Two = type("Two", (Pair,), {"virtio_user": lambda self: (
            vhost_port(self.directories[0], "link"),
            ethdev("link", f"net_virtio_user0,path={self.directories[0] / 'link.sock'},queues=2"))})
        pair = Two(stack, "virtio_user", lambda directory, n: [tap("host")], links)
        pair.address()
        for source, target in (0, 1), (1, 0):
            assert pair.iperf(source, target, "-P", 8) > 10e6
        more = pair.daemons[1].port("link")["ethdev"]["counters"]["more"]
        for queue in 0, 1:
            for way in "rx", "tx":
                assert more[f"{way}_q{queue}_good_packets"] > 0
        for daemon in pair.daemons:
            assert_ledgers(daemon)


# The life of a device

def test_the_back_end_goes_and_comes_back():
    with plugged_pair("virtio_user") as (pair, one, two):
        pair.daemons[0].kill()
        pair.daemons[1].wait_port("link", "down")
        pair.daemons[0] = pair.start(0)
        pair.daemons[1].wait_port("link", "up", 15)
        with plugged(pair.daemons[0], 1) as again:
            for source, to in (again, two), (two, again):
                carry(source, to)


def test_the_other_end_of_a_memif_comes_late():
    with plugged_pair("memif") as (pair, one, two):
        pair.daemons[1].rpc("port.remove", name="link")
        assert pair.daemons[0].wait_port("link", "down")["reason"] == "no link"
        pair.daemons[1].rpc("port.add", **pair.ports[1][0])
        for daemon in pair.daemons:
            daemon.wait_port("link", "up")
        carry(one, two)
        carry(two, one)


def test_a_memif_that_is_gone_is_gone():
    """Nobody can connect to it any more, and the interrupt thread lives on with what it watched."""
    name = b"\0ringway-test"
    with switch() as daemon:
        for _ in range(5):
            daemon.rpc("port.add", **ethdev("nic0", "net_memif0,role=server,socket=ringway-test"))
            daemon.rpc("port.remove", name="nic0")
            probe = ["python3", "-c", f"import socket; socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)"
                     f".connect({name!r})"]
            with pytest.raises(AssertionError, match="ConnectionRefusedError"):
                daemon.home.run(*probe)
            daemon.rpc("port.add", **ethdev("nic0", "net_memif1,role=server,socket=other"))
            daemon.rpc("port.remove", name="nic0")


def test_made_and_removed():
    """Whatever of a device is left, fifty of them show it. Of a memif that is a descriptor of nothing."""
    def files():
        names = [os.readlink(entry.path) for entry in os.scandir(f"/proc/{daemon.pid}/fd")]
        return sorted(name for name in names if "[eventfd]" not in name)

    with switch() as daemon:
        devices = ["net_null0,no-rx=1", "net_ring0", "net_af_xdp0,iface=end0",
                   f"net_memif0,role=server,socket={daemon.directory / 'm.sock'},socket-abstract=no",
                   f"net_virtio_user0,path={daemon.directory / 'vm1.sock'}"]
        for round in range(10):
            for device in devices:
                daemon.rpc("port.add", **ethdev("nic0", device))
                daemon.rpc("port.remove", name="nic0")
            if round == 2:
                before = wait_stable(files, 10, "the number of open files")
                resident = daemon.rss()
        wait_until(lambda: len(files()) <= len(before), 10, "all files are closed")
        assert daemon.rss() < resident + (4 << 20)
        assert "nic0" not in {port["name"] for port in daemon.rpc("port.list")}


def test_packet_memory_is_there_for_such_ports_alone():
    with switch() as daemon:
        before = daemon.rss()
        assert before < 64 << 20
        daemon.rpc("port.add", **ethdev("nic0", "net_null0,no-rx=1"))
        assert daemon.rss() > before + (2 << 20)


def test_a_device_for_one_port_alone():
    with switch() as daemon:
        daemon.rpc("port.add", **ethdev("nic0", "net_ring0"))
        for device, sentence in ("net_ring0", "nic0"), ("net_ring0,x=y", "in use"):
            with pytest.raises(RpcError) as refused:
                daemon.rpc("port.add", **ethdev("nic1", device))
            assert refused.value.data["field"] == "device" and sentence in refused.value.message
        assert daemon.port("nic0")["state"] == "up"
        daemon.rpc("port.remove", name="nic0")
        daemon.rpc("port.add", **ethdev("nic1", "net_ring0"))


@pytest.mark.parametrize("more, field, sentence", [
    ({"device": "net_foo0"}, "device", "no driver has devices of that name"),
    ({"device": "crypto_null0"}, "device", "no Ethernet device"),
    ({"device": "net_af_xdp0,iface=nothing"}, "device", "its driver did not take it"),
    ({"device": "net_null0,size=64,nonsense=1"}, "device", "its driver did not take it"),
    ({"device": "net_virtio_user0,path=/nowhere/x.sock"}, "device", "its driver did not take it"),
    ({"device": "ffff:ff:1f.0"}, "device", "no such PCI device"),
    ({"device": "pci:ffff:ff:1f.0"}, "device", "no such PCI device"),
    ({"device": "ff:1f.0"}, "device", "no such PCI device"),
    ({"device": "net_null0 "}, "device", "white space"),
    ({"device": "x" * 256}, "device", "255"),
    ({"device": None}, "device", "missing"),
    ({"device": "net_af_xdp0,iface=end0", "mtu": 9000}, "mtu", "MTU cannot be 9000"),
    ({"device": "net_memif0,role=server", "mtu": 9000}, "mtu", "bsize="),
    ({"device": "net_pcap0,iface=end0", "queues": 2}, "queues", "no more than 1"),
    ({"device": "net_memif0,role=nobody"}, "device", "its driver did not take it"),
    ({"device": "net_null0", "offloads": {"checksum": False, "tso": True}}, "offloads.tso", "checksum"),
    ({"device": "net_null0", "promiscuous": 1}, "promiscuous", "true"),
    ({"device": "net_null0", "socket": "/run/a"}, "socket", "not known"),
], ids=lambda value: str(value.get("device"))[:20] if isinstance(value, dict) else None)
def test_refusals(more, field, sentence):
    """Each is one sentence, leaves nothing, and the next port may have the device."""
    with switch() as daemon:
        links = daemon.home.links().keys()
        for _ in range(2):
            with pytest.raises(RpcError) as refused:
                daemon.rpc("port.add", **ethdev("nic0", **more))
            assert refused.value.data["field"] == field
            assert sentence in f"{refused.value.message} {refused.value.data.get('accepted')}"
        assert daemon.home.links().keys() == links
        assert [port["name"] for port in daemon.rpc("port.list")] == ["vm1"]
        if "net_" in str(more["device"]) and field in ("mtu", "queues"):
            daemon.rpc("port.add", **ethdev("nic0", more["device"]))


@pytest.mark.skipif(os.path.exists("/dev/vhost-net"), reason="this host has /dev/vhost-net")
def test_without_vhost_net():
    with switch() as daemon:
        with pytest.raises(RpcError) as refused:
            daemon.rpc("port.add", **ethdev("nic0", "vhost-net:rwx"))
        assert "cannot open /dev/vhost-net: No such file" in refused.value.message
        assert "rwx" not in daemon.home.links()


def test_a_pci_device_of_the_kernel_stays_with_it():
    """Whichever of this machine's there is; nothing is bound or unbound by asking for it."""
    def binding(address):
        with contextlib.suppress(FileNotFoundError):
            return os.path.basename(os.readlink(f"/sys/bus/pci/devices/{address}/driver"))

    devices = sorted(os.listdir("/sys/bus/pci/devices")) if os.path.exists("/sys/bus/pci/devices") else []
    devices = [one for one in devices if binding(one) not in ("vfio-pci", "igb_uio", "uio_pci_generic",
                                                              "mlx4_core", "mlx5_core", "mana")]
    with switch() as daemon:
        for device in devices:
            before = binding(device)
            with pytest.raises(RpcError) as refused:
                daemon.rpc("port.add", **ethdev("nic0", device))
            sentence = f"kernel's driver {before}" if before else "bound to no driver"
            assert sentence in refused.value.message and binding(device) == before


# What is set

def test_promiscuous_and_mtu():
    """As the kernel's interface below shows, at first and on the live port."""
    def flags():
        return daemon.home.links()["end0"]

    port = ethdev("nic0", "net_af_xdp0,iface=end0", promiscuous=False, mtu=1400)
    with switch(port) as daemon:
        daemon.wait_port("nic0", "up")
        assert "PROMISC" not in flags()["flags"] and flags()["mtu"] == 1400
        assert daemon.port("nic0")["ethdev"]["promiscuous"] is False
        answer = daemon.rpc("port.set", name="nic0", promiscuous=True, mtu=1300)
        assert answer["reopened"] is False
        assert "PROMISC" in flags()["flags"] and flags()["mtu"] == 1300
        assert daemon.port("nic0")["mtu"] == 1300
        daemon.rpc("port.set", name="nic0", promiscuous=False)
        assert "PROMISC" not in flags()["flags"]
        daemon.rpc("port.remove", name="nic0")
        daemon.rpc("port.add", **ethdev("nic0", "net_af_xdp0,iface=end0"))
        assert "PROMISC" in flags()["flags"] and daemon.port("nic0")["mtu"] == 1300


def test_allmulticast_and_mac():
    def link():
        return daemon.home.links()["rwnic"]

    port = ethdev("nic0", "net_tap0,iface=rwnic", allmulticast=False, mac="02:00:00:00:00:0a")
    with switch(port) as daemon:
        daemon.wait_port("nic0", "up")
        assert "ALLMULTI" not in link()["flags"] and link()["address"] == "02:00:00:00:00:0a"
        answer = daemon.rpc("port.set", name="nic0", allmulticast=True, mac="02:00:00:00:00:0b")
        assert answer["reopened"] is False
        assert "ALLMULTI" in link()["flags"] and link()["address"] == "02:00:00:00:00:0b"
        shown = daemon.port("nic0")["ethdev"]
        assert (shown["mac"], shown["allmulticast"]) == ("02:00:00:00:00:0b", True)


def test_an_mtu_that_a_running_device_cannot_have():
    with switch(ethdev("nic0", "net_memif0,role=server,bsize=10240")) as daemon:
        daemon.rpc("port.set", name="nic0", mtu=2000)
        assert daemon.port("nic0")["mtu"] == 2000
        for mtu, sentence in (9000, "takes larger packet buffers"), (20000, "MTU"):
            with pytest.raises(RpcError) as refused:
                daemon.rpc("port.set", name="nic0", mtu=mtu, promiscuous=False)
            assert sentence in refused.value.message and refused.value.data["field"] == "mtu"
        assert daemon.port("nic0")["mtu"] == 2000 and daemon.port("nic0").get("promiscuous", True)


def test_what_is_not_given_any_more():
    """The device gets the MTU and the address that it came with."""
    with switch(ethdev("nic0", "net_af_xdp0,iface=end0")) as daemon:
        def link():
            found = daemon.home.links()["end0"]
            return found["mtu"], found["address"]
        first = link()
        daemon.rpc("port.set", name="nic0", mtu=1400)
        assert link()[0] == daemon.port("nic0")["mtu"] == 1400
        daemon.rpc("port.set", name="nic0", mtu=None)
        assert link() == first and daemon.port("nic0")["mtu"] == first[0]
    with switch(ethdev("nic0", "net_tap0,iface=rwnic")) as daemon:
        first = daemon.port("nic0")["ethdev"]
        daemon.rpc("port.set", name="nic0", mac="02:00:00:00:00:0a")
        assert daemon.port("nic0")["ethdev"]["mac"] == "02:00:00:00:00:0a"
        daemon.rpc("port.set", name="nic0", mac=None)
        assert daemon.port("nic0")["ethdev"]["mac"] == first["mac"]


def test_one_listener_a_path():
    with switch(ethdev("nic0", "net_memif0,role=server,id=0,socket-abstract=no,socket=/tmp/x")) as daemon:
        path = daemon.directory / "memif.sock"
        words = f"role=server,socket-abstract=no,socket={path}"
        daemon.rpc("port.remove", name="nic0")
        daemon.rpc("port.add", **ethdev("nic0", f"net_memif0,id=0,{words}"))
        with pytest.raises(RpcError) as refused:
            daemon.rpc("port.add", **ethdev("nic1", f"net_memif1,id=1,{words}"))
        assert "another port listens" in refused.value.message
        daemon.rpc("port.remove", name="nic0")
        daemon.rpc("port.add", **ethdev("nic1", f"net_memif1,id=1,{words}"))


def test_a_back_end_that_says_nothing():
    """It keeps its own port waiting, and changes; the switch answers, and can be ended."""
    with Workdir() as directory, Namespace() as home, socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(directory / "silent"))
        silent.listen()
        ports = [ethdev("nic0", f"net_virtio_user0,path={directory / 'silent'}"),
                 vhost_port(directory, "vm1")]
        with Daemon(directory, ports, netns=home.name, idle="adaptive", ready=False) as daemon:
            wait_until((directory / "vm1.sock").exists, 10, "the other port is open")
            wait_until(lambda: daemon.socket.exists() and daemon.answers(), 20, "the switch answers")
            reasons = {port["name"]: port["reason"] for port in daemon.rpc("port.list")}
            assert reasons["nic0"] == "being opened" and "waiting for the VMM" in reasons["vm1"]
            daemon.process.terminate()
            wait_until(lambda: "closing the ports" in daemon.log(), 5, "it means to stop")
            daemon.process.terminate()
            time.sleep(3.1)
            assert daemon.running(), "told twice at once: one wish"
            daemon.killed = True  # its status is 1 then
            daemon.process.terminate()
            assert daemon.wait(5) == 1
            assert "second signal" in daemon.log()


def test_a_mac_that_cannot_be_set():
    with switch() as daemon:
        with pytest.raises(RpcError) as refused:
            daemon.rpc("port.add", **ethdev("nic0", "net_pcap0,iface=end0", mac="02:00:00:00:00:0a"))
        assert refused.value.data["field"] == "mac"
        daemon.rpc("port.add", **ethdev("nic0", "net_pcap0,iface=end0"))
        with pytest.raises(RpcError) as refused:
            daemon.rpc("port.set", name="nic0", mac="02:00:00:00:00:0a")
        assert "its address cannot be set" in refused.value.message


def test_what_is_shown():
    with switch(ethdev("nic0", "net_ring0")) as daemon:
        port = daemon.port("nic0")
        assert (port["state"], port["device"]) == ("up", "net_ring0")
        shown = port["ethdev"]
        assert (shown["name"], shown["driver"], shown["mtu"]) == ("net_ring0", "net_ring", 1500)
        assert shown["link"].startswith("up, ") and shown["free_buffers"] > 1000
        assert {"rx_missed", "rx_errors", "rx_no_buffer", "tx_errors", "more"} == shown["counters"].keys()
        assert daemon.counters("nic0")["rx_missed"] == shown["counters"]["rx_missed"]


def test_what_a_device_missed():
    """A limit keeps the switch from taking frames, until the device has no room for more of them."""
    limit = {"ingress": {"bandwidth": {"rate": "64kbit", "burst": "64KiB"}}}
    with switch(ethdev("nic0", "net_pcap0,iface=end0", limits=limit)) as daemon:
        with daemon.home.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
            wire.bind(("end1", 0))
            sent = 0
            while sent < 100000 and daemon.counters("nic0")["rx_missed"] == 0:
                for _ in range(1000):
                    wire.send(ethernet(b"\xff" * 6, b"\x02\0\0\0\0\1", bytes(1400)))
                sent += 1000
        row = daemon.counters("nic0")
        assert 0 < row["rx_missed"] <= sent - row["rx_packets"]
        assert daemon.port("nic0")["ethdev"]["counters"]["rx_missed"] == row["rx_missed"]


# Drivers without a peer

def write_pcap(path, frames):
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for frame in frames:
            file.write(struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame)


def read_pcap(path):
    data, at, frames = path.read_bytes(), 24, []
    while at < len(data):
        length = struct.unpack_from("<I", data, at + 8)[0]
        frames.append(data[at + 16:at + 16 + length])
        at += 16 + length
    return frames


def test_files():
    """A file is read into the switch, and another one written: the same frames in the same order."""
    station = bytes.fromhex("020000000001")
    frames = [ethernet(bytes.fromhex("020000000002"), station, payload(46 + 31 * n % 8940, n))
              for n in range(500)]
    with switch() as daemon:
        write_pcap(daemon.directory / "in.pcap", frames)
        daemon.rpc("port.add", **ethdev("out", f"net_pcap_out,tx_pcap={daemon.directory / 'out.pcap'}",
                                        mtu=9000))
        daemon.rpc("port.add", **ethdev("in", f"net_pcap_in,rx_pcap={daemon.directory / 'in.pcap'}",
                                        mtu=9000))
        wait_until(lambda: daemon.counters("out")["tx_packets"] == 500, 20, "all frames have passed")
        assert daemon.counters("in")["rx_packets"] == 500
        daemon.rpc("port.remove", name="out")
        assert read_pcap(daemon.directory / "out.pcap") == frames


def test_null_and_ring():
    """null takes all and gives frames without addresses; a ring gives back what it got."""
    with switch(ethdev("null0", "net_null0,no-rx=1"), ethdev("ring0", "net_ring0", limits={
            "ingress": {"bandwidth": {"rate": "1Mbit", "burst": "64KiB"}}})) as daemon:
        with plugged(daemon, 1) as guest:
            for name in "null0", "ring0":
                daemon.wait_port(name, "up")
            before = daemon.counters("null0")["tx_packets"]
            for n in range(100):
                guest.send(ethernet(bytes.fromhex("020000000002"), guest.mac, payload(86, n)))
            guest.flush()
            wait_until(lambda: daemon.counters("null0")["tx_packets"] >= before + 100, 5, "null took them")
            wait_until(lambda: daemon.counters("ring0")["rx_packets"] >= 100, 5, "the ring gave them back")
        daemon.rpc("port.add", **ethdev("null1", "net_null1"))
        wait_until(lambda: daemon.counters("null1")["rx_packets"] > 1000, 5, "frames of null's")


def test_a_ring_that_is_not_empty():
    """What waits in it goes with the port: the next one finds nothing."""
    ring = ethdev("ring0", "net_ring0", limits={"ingress": {"bandwidth": {"rate": "64k", "burst": "64KiB"}}})
    with switch() as daemon:
        with plugged(daemon, 1) as guest:
            for _ in range(3):
                daemon.rpc("port.add", **ring)
                assert daemon.counters("ring0")["rx_packets"] == 0
                for n in range(300):
                    guest.send(ethernet(bytes.fromhex("020000000002"), guest.mac, payload(1400, n)))
                guest.flush()
                wait_until(lambda: daemon.counters("ring0")["tx_packets"] >= 300, 5, "the ring has them")
                assert daemon.counters("ring0")["rx_packets"] < 300
                daemon.rpc("port.remove", name="ring0")
            daemon.rpc("port.add", **ethdev("ring0", "net_ring0"))
            time.sleep(0.2)
            assert daemon.counters("ring0")["rx_packets"] == 0


def test_a_limit_holds_back():
    """What the limiter does not let in waits with the driver, in order, and nothing is lost."""
    limits = {"ingress": {"bandwidth": {"rate": "20Mbit", "burst": "64KiB"}}}
    with plugged_pair("virtio_user", ({}, {"limits": limits})) as (pair, one, two):
        watch = Drops(pair.daemons[0], type("link", (), {"name": "link"}))
        sent = [frame_of(1514, one, two, n) for n in range(600)]
        for frame in sent:
            one.send(frame)
        got = []
        until(lambda: got.extend(frame.data for frame in two.drain()) or len(got) == len(sent), 30,
              "all frames are there")
        assert got == sent and watch.since() == {}
        row = pair.daemons[1].counters("link")
        assert row["rx_throttled"] > 0 and drops(row).keys() <= {"rx.no_destination", "tx.not_connected"}


def test_a_limit_that_drops():
    limits = {"ingress": {"bandwidth": {"rate": "1Mbit", "burst": "64KiB"}, "excess": "drop"}}
    with plugged_pair("memif", ({}, {"limits": limits})) as (pair, one, two):
        for n in range(300):
            one.send(frame_of(1514, one, two, n))
        one.flush()
        row = wait_stable(lambda: pair.daemons[1].counters("link"), 10, "the counters rest")
        assert drops(row)["rx.limit"] > 100


def test_no_buffers_left():
    """A device that gives nothing back takes all buffers of its port, and that shows as what it is."""
    with switch(ethdev("ring0", "net_ring0", limits={
            "ingress": {"bandwidth": {"rate": "64k", "burst": "64KiB"}}}, mtu=9000)) as daemon:
        with plugged(daemon, 1) as guest:
            daemon.wait_port("ring0", "up")
            for n in range(1500):
                guest.send(ethernet(bytes.fromhex("020000000002"), guest.mac, payload(8900, n)))
                guest.flush()
            row = drops(daemon.counters("ring0"))
            assert row.get("tx.no_buffer", 0) + row.get("tx.ring_full", 0) > 0
            assert row["tx.no_buffer"] > 0
            daemon.rpc("port.set", name="ring0", limits=None)
            wait_until(lambda: daemon.port("ring0")["ethdev"]["free_buffers"] > 1000, 10,
                       "the buffers are back")
