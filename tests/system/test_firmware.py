# SPDX-License-Identifier: BSD-3-Clause
"""Boot firmware as the first driver of a guest's device, and the operating system after it: iPXE of
SeaBIOS, and the drivers of UEFI firmware, boot Linux from a scripted guest's server over the switch."""
import contextlib
import select
import socket
import struct
import time

import pytest

from frontend import F, LINUX, Guest, ethernet
from harness import BUILD, Daemon, Workdir, assert_ledgers, drops, qemu_guest, vhost_port
from test_protocol import checksum

IPV4, ARP, IPV6 = 0x800, 0x806, 0x86DD
UDP, ICMPV6, SOLICITATION = 17, 58, 133
DHCP_SERVER, DHCP_CLIENT, TFTP = 67, 68, 69
DISCOVER, OFFER, REQUEST, ACK = 1, 2, 3, 5
IPXE, NO_PROXY = 175, b"\xb0\1\1"  # an option of iPXE: it need not wait for a second server
READ, DATA, ACKNOWLEDGE, ERROR, OPTIONS = 1, 3, 4, 5, 6


class BootServer:
    """What firmware needs to boot from the network, on a scripted guest, and no more: it answers DHCP
    (RFC 2131) with an address and the name of a file, ARP for its own address, and TFTP read requests
    (RFC 1350, with the options of RFC 2348 and 2349) for its files."""

    def __init__(self, guest, files, address="10.9.0.1", client="10.9.0.100"):
        """files: their contents by name; the first is the one to boot."""
        self.guest, self.files = guest, files
        self.address, self.client = address, client
        self.asked = []  # DHCP messages and names of files, and "arp", in order
        self.read = set()  # names of files that were read to their ends
        self.transfers = {}  # file and block size, by the port that asked for it

    def run(self, until, timeout):
        deadline = time.monotonic() + timeout
        while not until():
            assert time.monotonic() < deadline, f"after {timeout} s was asked for: {self.asked}"
            self.guest.reap()
            if frame := self.guest.poll():
                self.answer(frame.data[6:12], struct.unpack_from("!H", frame.data, 12)[0], frame.data[14:])
            else:
                select.select([self.guest.rings[0].call], [], [], 0.1)
                self.guest.rings[0].interrupts()

    def answer(self, mac, kind, packet):
        own = socket.inet_aton(self.address)
        if kind == ARP and packet[7] == 1 and packet[24:28] == own:
            self.asked.append("arp")
            reply = packet[:7] + b"\2" + self.guest.mac + own + mac + packet[14:18]
            self.guest.send(ethernet(mac, self.guest.mac, reply, ARP))
        elif kind == IPV6 and packet[6] == ICMPV6 and packet[40] == SOLICITATION:
            self.advertise()
        elif kind == IPV4 and packet[9] == UDP:
            datagram = packet[4 * (packet[0] & 15):]
            source, to, size = struct.unpack_from("!HHH", datagram)
            if to == DHCP_SERVER:
                self.answer_dhcp(mac, datagram[8:size])
            elif to == TFTP:
                self.answer_tftp(mac, source, datagram[8:size])

    def send(self, mac, source, to, data, address=None):
        """A UDP datagram without a checksum, which IPv4 allows."""
        header = struct.pack("!BBHHHBBH", 0x45, 0, 28 + len(data), 0, 0, 64, UDP, 0)
        header += socket.inet_aton(self.address) + socket.inet_aton(address or self.client)
        header = header[:10] + struct.pack("!H", checksum(header) ^ 0xFFFF) + header[12:]
        datagram = struct.pack("!HHHH", source, to, 8 + len(data), 0) + data
        self.guest.send(ethernet(mac, self.guest.mac, header + datagram, IPV4))

    def advertise(self):
        """A router that says nothing (RFC 4861, 4.2), for firmware that would wait for one."""
        addresses = b"".join(socket.inet_pton(socket.AF_INET6, name) for name in ("fe80::1", "ff02::1"))
        message = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 0, 0, 0)
        total = checksum(addresses + struct.pack("!II", len(message), ICMPV6) + message) ^ 0xFFFF
        packet = struct.pack("!IHBB", 0x60000000, len(message), ICMPV6, 255) + addresses
        packet += message[:2] + struct.pack("!H", total) + message[4:]
        self.guest.send(ethernet(bytes.fromhex("333300000001"), self.guest.mac, packet, IPV6))

    def answer_dhcp(self, mac, data):
        kind = data[data.index(bytes([53, 1]), 240) + 2]
        answer = {DISCOVER: OFFER, REQUEST: ACK}.get(kind)
        if answer is None:
            return
        self.asked.append({DISCOVER: "discover", REQUEST: "request"}[kind])
        own, client = socket.inet_aton(self.address), socket.inet_aton(self.client)
        file = next(iter(self.files)).encode()
        reply = (b"\2" + data[1:12] + bytes(4) + client + own + bytes(4) + data[28:44] + bytes(64)
                 + file.ljust(128, b"\0") + data[236:240])
        options = {53: bytes([answer]), 54: own, 51: struct.pack("!I", 3600), 1: bytes([255, 255, 255, 0]),
                   66: self.address.encode(), 67: file, IPXE: NO_PROXY}
        for code, value in options.items():
            reply += bytes([code, len(value)]) + value
        self.send(mac, DHCP_SERVER, DHCP_CLIENT, reply + b"\xff", "255.255.255.255")

    def answer_tftp(self, mac, port, data):
        operation, number = struct.unpack_from("!HH", data)
        if operation == READ:
            name, _, *words = data[2:].split(b"\0")
            self.asked.append(name := name.decode().lstrip("/"))
            if name not in self.files:
                self.send(mac, TFTP, port, struct.pack("!HH", ERROR, 1) + b"no such file\0")
                return
            wanted = {word.lower(): value for word, value in zip(words[::2], words[1::2])}
            granted = {b"blksize": min(int(wanted.get(b"blksize", 512)), 1428),
                       b"tsize": len(self.files[name])}
            self.transfers[port] = name, granted[b"blksize"]
            words = [b"%s\0%d\0" % pair for pair in granted.items() if pair[0] in wanted]
            self.send(mac, TFTP, port, struct.pack("!H", OPTIONS) + b"".join(words))
        elif operation == ACKNOWLEDGE and port in self.transfers:
            name, size = self.transfers[port]
            content = self.files[name]
            if number * size <= len(content):
                block = content[number * size:(number + 1) * size]
                self.send(mac, TFTP, port, struct.pack("!HH", DATA, number + 1) + block)
            else:
                self.read.add(name)


@contextlib.contextmanager
def machine(features, boot=()):
    """A switch, the scripted guest of the server at one port and a booting machine at another."""
    with Workdir() as directory, contextlib.ExitStack() as stack:
        ports = [vhost_port(directory, "vm1"), vhost_port(directory, "vm2")]
        daemon = stack.enter_context(Daemon(directory, ports, idle="adaptive"))
        server = stack.enter_context(Guest(str(directory / "vm2.sock"), 2, features=LINUX & ~F.EVENT_IDX))
        guest = stack.enter_context(qemu_guest(directory, "vm1", 3, boot=["-boot", "n", *boot],
                                               features="bootindex=0," + features))
        yield daemon, guest, server.up()
        assert drops(daemon.counters("vm1")) == drops(daemon.counters("vm2")) == {}
        assert_ledgers(daemon)


# Debian's 1.0.0+git-20190125. It posts 8 receive buffers and never asks for an interrupt.
@pytest.mark.parametrize("version", ["disable-legacy=on", "disable-legacy=off,disable-modern=on"],
                         ids=["modern", "legacy"])
def test_ipxe_boots_linux(version):
    """The firmware's driver, then the kernel's on the same rings, set up anew without a word."""
    with machine(version) as (daemon, guest, server):
        script = f"#!ipxe\nkernel vmlinuz {guest.words} initrd=initramfs.gz\ninitrd initramfs.gz\nboot\n"
        files = {name: (BUILD / "guest" / name).read_bytes() for name in ("vmlinuz", "initramfs.gz")}
        boot = BootServer(server, {"boot.ipxe": script.encode(), **files})
        boot.run(lambda: "boot.ipxe" in boot.asked, 60)
        firmware = daemon.port("vm1")
        assert firmware["rings"][0]["fill"] <= 8
        modern = "VIRTIO_F_VERSION_1" in firmware["features"]["negotiated"]
        assert modern == (version == "disable-legacy=on")
        assert "VIRTIO_NET_F_MRG_RXBUF" not in firmware["features"]["negotiated"]
        boot.run(lambda: boot.read == set(boot.files), 60)
        guest.wait_boot()
        system = daemon.port("vm1")
        assert "VIRTIO_NET_F_MRG_RXBUF" in system["features"]["negotiated"]
        assert system["connection"]["connects"] == 1
        boot.asked.clear()
        guest.start(f"ping -c 1 -W 1 {boot.address}; cat /proc/net/arp")
        boot.run(lambda: "arp" in boot.asked, 10)
        assert server.mac.hex(":") in guest.finish()[1]


@pytest.mark.parametrize("version", ["disable-legacy=on", "disable-legacy=off,disable-modern=on"],
                         ids=["modern", "legacy"])
def test_uefi_reads_from_the_network(version):
    """The virtio drivers of UEFI firmware, one for each version of the specification."""
    with machine("romfile=," + version, ["-bios", "/usr/share/ovmf/OVMF.fd"]) as (_, guest, server):
        boot = BootServer(server, {"image": bytes(300_000)})
        boot.run(lambda: "image" in boot.read, 90)
        guest.expect("NBP file downloaded successfully", 10)
