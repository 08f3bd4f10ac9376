# SPDX-License-Identifier: BSD-3-Clause
"""Guards against forged addresses: frames of scapy's making from a scripted guest, a TAP and an
interface of the host, of which each must pass or be dropped as `guard`; and Linux guests that try
what tenants try."""
import contextlib
import re

import pytest
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.dhcp6 import DHCP6_Advertise, DHCP6_Solicit
from scapy.layers.inet import IP, TCP, UDP, IPOption_RR
from scapy.layers.inet6 import (ICMPv6EchoRequest, ICMPv6MLReport2, ICMPv6ND_NA, ICMPv6ND_NS,
                                ICMPv6ND_RA, ICMPv6ND_Redirect, ICMPv6ND_RS, ICMPv6NDOptDstLLAddr,
                                ICMPv6NDOptPrefixInfo, ICMPv6NDOptSrcLLAddr, IPv6,
                                IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, PadN,
                                RouterAlert)
from scapy.layers.ipsec import AH
from scapy.layers.l2 import ARP, LLC, SNAP, Dot1AD, Dot1Q, Dot3, Ether
from scapy.packet import Raw

from frontend import NEEDS_CSUM, PLAIN, F, Guest, Msg, Vnet
from harness import (SWITCH_CPU, Daemon, RpcError, Workdir, assert_ledgers, drops, qemu_guests,
                     vhost_port, wait_until)
from test_af_packet import HOSTS, Wire, packet_port, veths
from test_tap import site, tap_port

OWN, PEER = (host.hex(":") for host in HOSTS)
SECOND, OTHER = "02:00:00:00:07:22", "02:00:00:00:09:01"
IP4, NET4, OTHER4 = "10.7.0.1", "10.7.9.20", "10.7.0.9"
IP6, NET6, OTHER6 = "fd07::1", "fd09::abc", "fd07::9"
LOCAL6, LOCAL6_OTHER = "fe80::ff:fe00:700", "fe80::ff:fe00:901"  # as their MAC addresses have it
ALLOWED = [SECOND, IP4, "10.7.9.0/24", IP6, "fd09::/64"]
LEVELS = ["off", "mac", "arp", "ip"]
PASSES = None

WIRE = b"\xee" * 20


def ether(source=OWN, to=PEER):
    return Ether(src=source, dst=to)


def arp(**fields):
    usual = {"op": 1, "hwsrc": OWN, "psrc": IP4, "hwdst": "00:00:00:00:00:00", "pdst": OTHER4}
    return ARP(**{**usual, **fields})


def na(target=IP6, mac=OWN, source=IP6):
    return IPv6(src=source, dst="ff02::1", hlim=255) / ICMPv6ND_NA(tgt=target, R=0, S=0, O=1) / \
        ICMPv6NDOptDstLLAddr(lladdr=mac)


def ns(source=IP6, target=OTHER6, mac=OWN):
    packet = IPv6(src=source, dst="ff02::1:ff00:9", hlim=255) / ICMPv6ND_NS(tgt=target)
    return packet / ICMPv6NDOptSrcLLAddr(lladdr=mac) if mac else packet


def ra(mac=OWN, source=LOCAL6):
    return IPv6(src=source, dst="ff02::1", hlim=255) / ICMPv6ND_RA() / \
        ICMPv6NDOptSrcLLAddr(lladdr=mac)


def prefixes(count):
    """So many options of 32 bytes, for a router advertisement."""
    option = ICMPv6NDOptPrefixInfo(prefix="2001:db8::")
    return option / prefixes(count - 1) if count > 1 else option


def dhcp(kind, **ip):
    client = kind in ("discover", "request")
    ports = {"sport": 68, "dport": 67} if client else {"sport": 67, "dport": 68}
    return IP(**ip) / UDP(**ports) / BOOTP(op=1 if client else 2) / \
        DHCP(options=[("message-type", kind), "end"])


def fragment(part, source=IP6, offset=0, more=1, next_header=58):
    return IPv6(src=source, dst="ff02::1", nh=44) / \
        IPv6ExtHdrFragment(nh=next_header, offset=offset, m=more, id=7) / Raw(part)


def long_chain(payload, length):
    """Behind destination options of so many bytes."""
    return IPv6(src=LOCAL6, dst="ff02::1") / IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(length - 4))]) / \
        payload


def last(packet):
    """The upper-layer bytes of an IPv6 packet, its checksum right."""
    return bytes(packet)[40:]


def snap(packet, kind):
    return Dot3(src=OWN, dst=PEER) / LLC(dsap=0xaa, ssap=0xaa, ctrl=3) / SNAP(OUI=0, code=kind) / packet


BROADCAST = "ff:ff:ff:ff:ff:ff"

# What it is: the frame, and the first level that refuses it.
FRAMES = {
    # Ethernet
    "own": (ether() / IP(src=IP4) / UDP(dport=9), PASSES),
    "second": (ether(SECOND) / IP(src=NET4) / UDP(dport=9), PASSES),
    "foreign": (ether(OTHER) / IP(src=IP4) / UDP(dport=9), "mac"),
    "foreign broadcast": (ether(OTHER, BROADCAST) / arp(hwsrc=OTHER), "mac"),
    "one bit off": (ether("02:00:00:00:07:02") / IP(src=IP4), "mac"),
    "unknown type": (Ether(src=OWN, dst=PEER, type=0x88b5) / Raw(WIRE), "ip"),
    "LLC": (Dot3(src=OWN, dst=PEER) / LLC(dsap=0x42, ssap=0x42, ctrl=3) / Raw(WIRE), "ip"),
    "no payload": (Ether(src=OWN, dst=PEER, type=0x0800), "ip"),
    # ARP and RARP
    "ARP request": (ether(to=BROADCAST) / arp(), PASSES),
    "ARP of the second": (ether(SECOND, BROADCAST) / arp(hwsrc=SECOND, psrc=NET4), PASSES),
    "ARP reply": (ether() / arp(op=2, hwdst=PEER), PASSES),
    "ARP probe": (ether(to=BROADCAST) / arp(psrc="0.0.0.0", pdst=IP4), PASSES),
    "ARP reply without an address": (ether() / arp(op=2, psrc="0.0.0.0"), "arp"),
    "gratuitous ARP": (ether(to=BROADCAST) / arp(pdst=IP4), PASSES),
    "forged gratuitous ARP": (ether(to=BROADCAST) / arp(psrc=OTHER4), "arp"),
    "forged gratuitous reply": (ether(to=BROADCAST) / arp(op=2, psrc=OTHER4), "arp"),
    "ARP with another's MAC": (ether(to=BROADCAST) / arp(hwsrc=OTHER), "arp"),
    "ARP with another's IP": (ether() / arp(op=2, psrc=OTHER4), "arp"),
    "short ARP": (Raw(bytes(ether(to=BROADCAST) / arp())[:41]), "arp"),
    "ARP of another kind": (ether(to=BROADCAST) / arp(hwtype=6), "arp"),
    "RARP": (Ether(src=OWN, dst=BROADCAST, type=0x8035) /
             arp(op=3, psrc="0.0.0.0", hwdst=OWN, pdst="0.0.0.0"), PASSES),
    "RARP with another's MAC": (Ether(src=OWN, dst=BROADCAST, type=0x8035) /
                                arp(op=3, hwsrc=OTHER, psrc="0.0.0.0"), "arp"),
    "RARP reply": (Ether(src=OWN, dst=BROADCAST, type=0x8035) / arp(op=4), "arp"),
    # IPv4
    "IP of another": (ether() / IP(src=OTHER4) / TCP(), "ip"),
    "IP of the network's edge": (ether() / IP(src="10.7.10.0") / TCP(), "ip"),
    "IP with options": (ether() / IP(src=IP4, options=[IPOption_RR()]) / TCP(), PASSES),
    "IP with a bad length": (ether() / IP(src=IP4, ihl=4) / TCP(), "ip"),
    "cut IP": (Raw(bytes(ether() / IP(src=IP4))[:33]), "ip"),
    "later fragment": (ether() / IP(src=IP4, frag=1, proto=17) / Raw(WIRE), PASSES),
    "later fragment of another": (ether() / IP(src=OTHER4, frag=1, proto=17) / Raw(WIRE), "ip"),
    "first fragment": (ether() / IP(src=IP4, flags="MF") / UDP() / Raw(WIRE), PASSES),
    "first fragment without ports": (ether() / IP(src=IP4, flags="MF", proto=17) / Raw(b"abc"), "ip"),
    "no address yet": (ether() / IP(src="0.0.0.0") / UDP(sport=68, dport=53), "ip"),
    "DHCP discover": (ether(to=BROADCAST) / dhcp("discover", src="0.0.0.0", dst="255.255.255.255"), PASSES),
    "DHCP renewal": (ether() / dhcp("request", src=IP4), PASSES),
    "DHCP offer": (ether(to=BROADCAST) / dhcp("offer", src=IP4, dst="255.255.255.255"), "ip"),
    "DHCP offer behind options": (ether() / dhcp("offer", src=IP4, options=[IPOption_RR()]), "ip"),
    "DHCP offer from another port": (ether() / IP(src=IP4) / UDP(sport=1067, dport=68), "ip"),
    # IPv6
    "IPv6": (ether() / IPv6(src=IP6) / TCP(), PASSES),
    "IPv6 of the network": (ether() / IPv6(src=NET6) / TCP(), PASSES),
    "IPv6 of its own making": (ether() / IPv6(src=LOCAL6) / ICMPv6EchoRequest(), PASSES),
    "IPv6 of another": (ether() / IPv6(src=OTHER6) / TCP(), "ip"),
    "IPv6 of another's making": (ether() / IPv6(src=LOCAL6_OTHER) / ICMPv6EchoRequest(), "ip"),
    "IPv6 of version 4": (ether() / IPv6(src=IP6, version=4) / TCP(), "arp"),
    "cut IPv6": (Raw(bytes(ether() / IPv6(src=IP6))[:53]), "arp"),
    "MLD report": (ether(to="33:33:00:00:00:16") / IPv6(src="::", dst="ff02::16") /
                   IPv6ExtHdrHopByHop(options=[RouterAlert()]) / ICMPv6MLReport2(), PASSES),
    "IPv6 without an address": (ether() / IPv6(src="::") / TCP(), "ip"),
    "DHCPv6 solicit": (ether() / IPv6(src=LOCAL6, dst="ff02::1:2") / UDP(sport=546, dport=547) /
                       DHCP6_Solicit(), PASSES),
    "DHCPv6 advertise": (ether() / IPv6(src=LOCAL6, dst="ff02::1:2") / UDP(sport=547, dport=546) /
                         DHCP6_Advertise(), "ip"),
    # Neighbour discovery
    "NS": (ether() / ns(), PASSES),
    "NS with another's MAC": (ether() / ns(mac=OTHER), "arp"),
    "NS from another's IP": (ether() / ns(source=OTHER6), "arp"),
    "DAD": (ether() / ns("::", IP6, None), PASSES),
    "DAD of its own making": (ether() / ns("::", LOCAL6, None), PASSES),
    "DAD for another's": (ether() / ns("::", OTHER6, None), "arp"),
    "NA": (ether() / na(), PASSES),
    "NA of the network": (ether(SECOND) / na(NET6, SECOND, NET6), PASSES),
    "NA for another's": (ether() / na(target=OTHER6), "arp"),
    "NA with another's MAC": (ether() / na(mac=OTHER), "arp"),
    "NA from another's IP": (ether() / na(source=OTHER6), "arp"),
    "RS": (ether() / IPv6(src="::", dst="ff02::2", hlim=255) / ICMPv6ND_RS(), PASSES),
    "RA": (ether() / ra(), "ip"),
    "RA with another's MAC": (ether() / ra(OTHER), "arp"),
    "redirect": (ether() / IPv6(src=LOCAL6, dst=OTHER6, hlim=255) /
                 ICMPv6ND_Redirect(tgt=LOCAL6, dst="2001:db8::1"), "ip"),
    "long RA": (ether() / ra() / prefixes(5), "ip"),
    "long RA with another's MAC": (ether() / ra() / prefixes(4) / ICMPv6NDOptSrcLLAddr(lladdr=OTHER), "arp"),
    "longer RA": (ether() / ra() / prefixes(6), "arp"),
    # What hides neighbour discovery
    "RA behind options": (ether() / long_chain(ICMPv6ND_RA(), 8), "ip"),
    "NA behind options": (ether() / long_chain(ICMPv6ND_NA(tgt=OTHER6), 8), "arp"),
    "RA behind AH": (ether() / IPv6(src=LOCAL6, nh=51) / AH(nh=58, icv=bytes(12), payloadlen=4) /
                     Raw(last(ra())), "ip"),
    "RA behind long options": (ether() / long_chain(ICMPv6ND_RA(), 128), "ip"),
    "RA behind longer options": (ether() / long_chain(ICMPv6ND_RA(), 200), "arp"),
    "echo behind long options": (ether() / long_chain(ICMPv6EchoRequest(), 128), PASSES),
    "echo behind longer options": (ether() / long_chain(ICMPv6EchoRequest(), 200), "arp"),
    "RA as the only fragment": (ether() / fragment(last(ra()), more=0), "arp"),
    "RA in a first fragment": (ether() / fragment(last(ra())[:16]), "arp"),
    "first fragment with options alone": (ether() / fragment(b"\x3a" + bytes(7), next_header=60), "arp"),
    "first fragment of an echo": (ether() / fragment(last(IPv6() / ICMPv6EchoRequest())), PASSES),
    "later IPv6 fragment": (ether() / fragment(WIRE, offset=1), PASSES),
    "later IPv6 fragment of another": (ether() / fragment(WIRE, OTHER6, offset=1), "ip"),
    # Tags and SNAP
    "tagged": (ether() / Dot1Q(vlan=10) / IP(src=IP4) / TCP(), PASSES),
    "tagged, of another": (ether() / Dot1Q(vlan=10) / IP(src=OTHER4) / TCP(), "ip"),
    "priority tag": (ether() / Dot1Q(vlan=0, prio=5) / arp(), PASSES),
    "priority tag, of another": (ether() / Dot1Q(vlan=0, prio=5) / arp(psrc=OTHER4), "arp"),
    "two tags": (ether() / Dot1AD(vlan=3) / Dot1Q(vlan=4) / arp(), PASSES),
    "two tags, of another": (ether() / Dot1AD(vlan=3) / Dot1Q(vlan=4) / na(OTHER6), "arp"),
    "two equal tags": (ether() / Dot1Q(vlan=0) / Dot1Q(vlan=0) / ra(), "ip"),
    "three tags": (ether() / Dot1Q() / Dot1Q() / Dot1Q() / arp(), "arp"),
    "cut tag": (Raw(bytes(ether() / Dot1Q(vlan=10) / arp())[:16]), "arp"),
    "SNAP": (snap(arp(), 0x0806), PASSES),
    "SNAP, of another": (snap(arp(psrc=OTHER4), 0x0806), "arp"),
    "SNAP with IP of another": (snap(IP(src=OTHER4) / TCP(), 0x0800), "ip"),
}


def whole(frame, tag):
    """With the tag that the kernel took out."""
    return frame if tag is None else frame[:12] + tag + frame[12:]


class Ends:
    """Where frames go in, by port a, and come out, by port b."""

    def __init__(self, daemon, send, receive, is_silent, frames=None):
        self.daemon, self.send, self.receive, self.is_silent = daemon, send, receive, is_silent
        self.frames = frames or FRAMES

    def iterations(self):
        return self.daemon.rpc("worker.list")[0]["iterations"]

    def change(self, **keys):
        """Of port a; returns once the worker, which may have been kept from its CPU, has gone on."""
        self.daemon.rpc("port.set", name="a", **keys)
        before = self.iterations()
        wait_until(lambda: self.iterations() >= before + 2, 5, "the worker has seen the change")


@contextlib.contextmanager
def wires(place, first, second):
    with Wire(place.hosts[0], first) as wire, Wire(place.hosts[1], second) as other:
        # The kernel itself lets no frame pass that ends within its tag.
        frames = {name: frame for name, frame in FRAMES.items() if name != "cut tag"}
        yield Ends(place.daemon, wire.send, lambda: whole(*other.receive()[1:]), other.is_silent, frames)


@contextlib.contextmanager
def over_af_packet():
    with veths([packet_port("a", mac=OWN), packet_port("b")]) as place:
        for interface, where in ("pa", place.home), ("pb", place.home), ("ha", place.hosts[0]), \
                ("hb", place.hosts[1]):
            where.run("ip", "link", "set", interface, "mtu", 1600)
        place.mute()
        with wires(place, "ha", "hb") as ends:
            yield ends


@contextlib.contextmanager
def over_tap():
    with site([tap_port("a", mac=OWN), tap_port("b", mac=PEER)]) as place:
        for number, name in enumerate("ab"):
            host = place.hosts[number]
            place.home.run("ip", "link", "set", f"rw{name}", "netns", host.name)
            host.run("sysctl", "-qw", f"net.ipv6.conf.rw{name}.disable_ipv6=1")
            host.run("ip", "link", "set", f"rw{name}", "mtu", 1600, "up")
        with wires(place, "rwa", "rwb") as ends:
            yield ends


@contextlib.contextmanager
def over_vhost_user():
    with Workdir() as directory:
        ports = [vhost_port(directory, "a", mac=OWN), vhost_port(directory, "b")]
        with Daemon(directory, ports) as daemon, \
                Guest(str(directory / "a.sock"), 1).up() as a, \
                Guest(str(directory / "b.sock"), 2).up() as b:
            for name in "ab":
                daemon.wait_port(name, "up")
            yield Ends(daemon, a.send, lambda: b.receive().data, lambda: b.drain() == [])
            assert_ledgers(daemon)


CARRIERS = {"af_packet": over_af_packet, "tap": over_tap, "vhost_user": over_vhost_user}


@pytest.fixture(scope="module", params=CARRIERS)
def ends(request):
    with CARRIERS[request.param]() as ends:
        yield ends


def refused(ends):
    return ends.daemon.counters("a")["rx_dropped"].get("guard", 0)


def known(ends):
    return {entry["mac"]: entry["port"] for entry in ends.daemon.rpc("fdb.list")}


@pytest.mark.parametrize("level", LEVELS)
def test_each_frame(ends, level):
    """What passes arrives as it was sent, and in order; what does not is counted, each once; from the
    change on, which is made on the running port."""
    # What the level off has taught.
    ends.daemon.rpc("fdb.flush")
    ends.change(guard=level, allowed=ALLOWED)
    assert ends.daemon.port("a")["guard"] == level
    before, faults, count = refused(ends), [], 0
    for name, (packet, refused_by) in ends.frames.items():
        frame = bytes(packet)
        passes = refused_by is PASSES or LEVELS.index(level) < LEVELS.index(refused_by)
        ends.send(frame)
        if passes:
            received = ends.receive()
            if received[:len(frame)] != frame or received[len(frame):].strip(b"\0"):
                faults.append(f"{name}: {received.hex()} for {frame.hex()}")
        else:
            count += 1
            wait_until(lambda: refused(ends) >= before + count, 5, f"{name} is refused")
    assert faults == []
    assert ends.is_silent()
    assert refused(ends) == before + count
    if level != "off":
        assert OTHER not in known(ends)
        assert known(ends)[OWN] == "a"
    assert set(drops(ends.daemon.counters("a"))) <= {"rx.guard", "tx.device"}


def test_without_ip_addresses(ends):
    """arp then is a matter of MAC addresses alone, and ip cannot be had."""
    with pytest.raises(RpcError) as refusal:
        ends.daemon.rpc("port.set", name="a", guard="ip", allowed=[SECOND])
    assert "needs an IP address" in str(refusal.value)
    ends.change(guard="arp", allowed=[SECOND])
    for name in "forged gratuitous ARP", "NA for another's", "NS from another's IP", "NA", "ARP probe":
        ends.send(bytes(FRAMES[name][0]))
        assert ends.receive()[:40] == bytes(FRAMES[name][0])[:40], name
    before = refused(ends)
    for name in "ARP with another's MAC", "NA with another's MAC", "RA as the only fragment", "foreign":
        ends.send(bytes(FRAMES[name][0]))
    wait_until(lambda: refused(ends) == before + 4, 5, "they are refused")
    assert ends.is_silent()


def test_the_addresses_change(ends):
    """`allowed` and `mac` hold from the next burst, too."""
    def sends(source, address, passes):
        frame = bytes(Ether(src=source, dst=PEER) / IP(src=address) / TCP())
        before = refused(ends)
        ends.send(frame)
        if passes:
            assert ends.receive()[:54] == frame
        else:
            wait_until(lambda: refused(ends) == before + 1, 5, "it is refused")

    change = ends.change
    change(guard="ip", allowed=[IP4])
    sends(OWN, IP4, True)
    sends(OWN, OTHER4, False)
    change(allowed=[OTHER4])
    sends(OWN, IP4, False)
    sends(OWN, OTHER4, True)
    sends(SECOND, OTHER4, False)
    change(allowed=["10.7.0.0/16", SECOND])
    sends(SECOND, OTHER4, True)
    change(guard="mac", allowed=None)
    sends(SECOND, OTHER4, False)
    sends(OWN, "192.0.2.1", True)
    change(guard=None)
    sends(SECOND, "192.0.2.1", True)


def test_what_is_wrong_with_anybodys_frames_has_its_own_reason(ends):
    ends.change(guard="ip", allowed=ALLOWED)
    def dropped(reason):
        return ends.daemon.counters("a")["rx_dropped"].get(reason, 0)

    before = dropped("bad_source"), dropped("guard")
    for source in "01:00:5e:00:00:01", BROADCAST, "00:00:00:00:00:00":
        ends.send(bytes(ether(source) / IP(src=IP4) / TCP()))
    wait_until(lambda: dropped("bad_source") == before[0] + 3, 5, "they are dropped")
    assert dropped("guard") == before[1]


# What a checksum would be written over: the frame, where its sum begins and ends up, and the level.
FILLED = {
    "ARP sender": (ether(to=BROADCAST) / arp(op=2), 14, 30, "arp"),
    "type behind a tag": (ether(to=BROADCAST) / Dot1Q(vlan=5, type=0x88b5) / arp(psrc=OTHER4), 14, 16, "arp"),
    "target of NA": (ether() / na(), 54, 76, "arp"),
    "IP source": (ether() / IP(src=IP4) / UDP(dport=9) / Raw(WIRE), 14, 28, "ip"),
    # It looks like that of a DHCP packet, which is filled in for everybody.
    "IP source, as in DHCP": (ether() / IP(src=IP4, ttl=0, proto=67, chksum=0x43) / Raw(WIRE), 22, 28, "ip"),
    "port of UDP": (ether() / IP(src=IP4) / UDP(dport=9) / Raw(WIRE), 34, 36, "ip"),
    "UDP": (ether() / IP(src=IP4) / UDP(dport=9) / Raw(WIRE), 34, 40, PASSES),
    "TCP": (ether() / IPv6(src=IP6) / TCP() / Raw(WIRE), 54, 70, PASSES),
}


def test_what_is_yet_to_be_written(workdir):
    """A partial checksum is filled in for who takes none, wherever its sender says. What a guest knows
    of the sum lets it choose what will stand there; so it must be none of what the guard has seen."""
    ports = [vhost_port(workdir, "a", mac=OWN, allowed=ALLOWED), vhost_port(workdir, "b")]
    with Daemon(workdir, ports) as daemon, \
            Guest(str(workdir / "a.sock"), 1).up() as a, \
            Guest(str(workdir / "b.sock"), 2, features=PLAIN | F.MRG_RXBUF).up() as b:
        for name in "ab":
            daemon.wait_port(name, "up")
        ends = Ends(daemon, a.send, lambda: b.receive().data, lambda: b.drain() == [])
        for level in LEVELS:
            ends.change(guard=level)
            for name, (packet, start, field, refused_by) in FILLED.items():
                before = refused(ends)
                a.send(bytes(packet), Vnet(NEEDS_CSUM, 0, 0, 0, start, field - start))
                if refused_by is PASSES or LEVELS.index(level) < LEVELS.index(refused_by):
                    assert ends.receive()[:12] == bytes(packet)[:12], name
                else:
                    wait_until(lambda: refused(ends) == before + 1, 5, f"{name} is refused")
            assert ends.is_silent(), level
        assert_ledgers(daemon)


def test_what_a_vmm_announces(workdir):
    """A VMM speaks for its guest alone."""
    ports = [vhost_port(workdir, "a", mac=OWN, guard="ip", allowed=ALLOWED), vhost_port(workdir, "b")]
    with Daemon(workdir, ports) as daemon, Guest(str(workdir / "a.sock"), 1).up() as a, \
            Guest(str(workdir / "b.sock"), 2).up() as b:
        for name in "ab":
            daemon.wait_port(name, "up")
        for mac in OWN, SECOND, OTHER:
            payload = bytes.fromhex(mac.replace(":", "")).ljust(8, b"\0")
            assert a.link.send(Msg.SEND_RARP, payload, need_reply=True) == 0
        for mac in OWN, SECOND:
            announced = Ether(b.receive().data)
            assert (announced.src, announced.type) == (mac, 0x8035)
        wait_until(lambda: drops(daemon.counters("a")) == {"rx.guard": 1}, 5, "the third is refused")
        assert b.drain() == []
        assert OTHER not in {entry["mac"] for entry in daemon.rpc("fdb.list")}
        assert_ledgers(daemon)


def test_a_guard_survives_a_restart(workdir):
    path = workdir / "state.json"
    config = {"workers": [{"cpu": SWITCH_CPU}]}
    with Daemon(workdir, config=config, arguments=["--state", path]) as daemon:
        daemon.rpc("port.add", **vhost_port(workdir, "a", mac=OWN))
        daemon.rpc("port.set", name="a", guard="ip", allowed=ALLOWED)
    with Daemon(workdir, config=config, arguments=["--state", path]) as daemon:
        port = daemon.port("a")
        assert (port["guard"], port["allowed"]) == ("ip", ALLOWED)
        with Guest(str(workdir / "a.sock"), 1).up() as a:
            daemon.wait_port("a", "up")
            a.send(bytes(ether() / IP(src=OTHER4) / TCP()))
            wait_until(lambda: drops(daemon.counters("a")) == {"rx.guard": 1}, 5, "it is refused")


# ---- Linux guests ----

def guarded(directory, name, number):
    return vhost_port(directory, name, mac=f"52:54:00:00:00:{number:02x}", guard="ip",
                      allowed=[f"10.9.0.{number}"])


@pytest.fixture(scope="module")
def guests(workdir):
    ports = [guarded(workdir, "a", 1), guarded(workdir, "b", 2)]
    with Daemon(workdir, ports) as daemon:
        with qemu_guests(workdir, "a", "b", packed="b") as guests:
            yield daemon, *guests
        assert_ledgers(daemon)


def guard_drops(daemon, name="a"):
    return daemon.counters(name)["rx_dropped"].get("guard", 0)


def local(guest):
    """Its link-local address, once it is found to be nobody else's."""
    pattern = r"inet6 (fe80::[0-9a-f:]+)"
    return re.search(pattern, wait_until(
        lambda: "tentative" not in (text := guest.check("ip -6 address show dev eth0"))
        and re.search(pattern, text) and text, 10, "a link-local address"))[1]


def test_guests_notice_nothing(guests):
    """Booting, ARP, neighbour discovery, ping, and TCP in large segments."""
    daemon, a, b = guests
    assert a.ping(b.address, count=20) == 20
    local(a)  # or it could not send yet
    output = a.check(f"ping6 -q -W 2 -c 5 -i 0.05 -I eth0 {local(b)}")
    assert "5 packets received" in output
    for source, target in (a, b), (b, a):
        assert source.iperf(target.address, 2) > 5e6
    row = daemon.counters("a")
    assert row["rx_segments"] > 2 * row["rx_packets"]
    assert guard_drops(daemon, "a") == guard_drops(daemon, "b") == 0


def test_a_guest_takes_anothers_ip_address(guests):
    daemon, a, b = guests
    before = guard_drops(daemon)
    a.check("ip address add 10.9.0.77/24 dev eth0")
    # What it says to all, and to who asks, and what it sends itself.
    a.run("arping -q -U -c 2 -I eth0 10.9.0.77")
    wait_until(lambda: guard_drops(daemon) == before + 2, 5, "both are refused")
    assert b.ping("10.9.0.77", count=1, interval=1) == 0
    _, output = a.run(f"ping -q -W 1 -c 3 -i 0.1 -I 10.9.0.77 {b.address}", 30)
    assert ", 0 packets received" in output
    assert guard_drops(daemon) >= before + 6
    a.check("ip address delete 10.9.0.77/24 dev eth0")
    assert a.ping(b.address, count=5) == 5


def test_a_guest_takes_anothers_mac_address(guests):
    daemon, a, b = guests
    a.check("ip link set eth0 address 52:54:00:00:00:99")
    assert a.ping(b.address, count=1, interval=1) == 0
    assert "52:54:00:00:00:99" not in {entry["mac"] for entry in daemon.rpc("fdb.list")}
    a.check(f"ip link set eth0 address {a.mac} && ip neigh flush dev eth0")
    b.check("ip neigh flush dev eth0")
    wait_until(lambda: a.ping(b.address, count=1), 20, "an answer")


def test_a_guest_plays_dhcp_server(guests):
    """A client's questions pass, its answers do not, unless the server's guard is less strict."""
    daemon, a, b = guests
    lines = ["interface eth0", "start 10.9.0.50", "end 10.9.0.60", "lease_file /tmp/leases",
             "pidfile /tmp/pid"]
    a.check("printf '%s\\n' " + " ".join(f"'{line}'" for line in lines) + " >/tmp/udhcpd.conf; "
            "touch /tmp/leases; udhcpd -a 200 /tmp/udhcpd.conf")  # ms that it looks for others
    ask = "udhcpc -n -q -f -i eth0 -t 5 -T 1 -s /bin/true 2>&1"
    try:
        before = guard_drops(daemon)
        _, output = b.run(ask, 30)
        assert "no lease" in output, output
        assert guard_drops(daemon) > before and guard_drops(daemon, "b") == 0
        daemon.rpc("port.set", name="a", guard="arp")
        status, output = b.run(ask, 30)
        assert status == 0 and "obtained" in output, output
    finally:
        daemon.rpc("port.set", name="a", guard="ip")
        a.run("kill $(cat /tmp/pid)")
