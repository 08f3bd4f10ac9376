# SPDX-License-Identifier: BSD-3-Clause
"""Two Linux guests under QEMU of which one offers its device more than the other's can take: what is
missing is done in software on the way, and shows in none of the guests."""
import contextlib
import re

import pytest

from harness import (Daemon, Workdir, assert_ledgers, assert_nothing_lost_but, drops_of, qemu_guests,
                     vhost_port)

NAMES = ("a", "b")
MTU = 1500

NO_TSO = "guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off"
NOTHING = (f"csum=off,guest_csum=off,gso=off,{NO_TSO},"
           "host_tso4=off,host_tso6=off,host_ecn=off,host_ufo=off")

# What the second guest's device lacks, and whether its frames then have whole checksums.
LACKS = {"everything": (NOTHING, True), "mergeable buffers too": (NOTHING + ",mrg_rxbuf=off", True),
         "segmentation": (NO_TSO, False)}


@contextlib.contextmanager
def network(features):
    """A switch, a guest with all offloads, and one with those properties; both with IPv6."""
    with Workdir() as directory:
        with Daemon(directory, [vhost_port(directory, name) for name in NAMES]) as daemon, \
                qemu_guests(directory, "a") as (a,), \
                qemu_guests(directory, "b", first=2, features=features) as (b,):
            for number, guest in enumerate((a, b), 1):
                daemon.wait_port(guest.name, "up")
                guest.six = f"fd00::{number}"
                guest.check("echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad")
                guest.check(f"ip -6 address add {guest.six}/64 dev eth0")
            yield daemon, a, b


@contextlib.contextmanager
def capture(guest):
    """What arrives at the guest, written by its tcpdump to /tmp/in.pcap."""
    guest.check("ethtool -K eth0 gro off")  # which would merge what came before it is captured
    # It prints this line once it listens.
    guest.check("tcpdump -Z root -n -i eth0 -Q in -B 32768 -w /tmp/in.pcap 2>/tmp/tcpdump & "
                "until grep -q listening /tmp/tcpdump; do sleep 0.1; done")
    yield
    # Its buffer is handed over once a second.
    guest.check("sleep 1.5; killall -INT tcpdump; while killall -0 tcpdump 2>/dev/null; do "
                "sleep 0.1; done; grep '^0 packets dropped by kernel' /tmp/tcpdump")


def captured(guest, words):
    """How many lines of tcpdump's story of the capture match the extended regular expression."""
    line = f"tcpdump -Z root -n -vv -r /tmp/in.pcap 2>/dev/null | grep -cE '{words}'"
    return int(guest.run(line, 120)[1])


def checksum_errors(guest):
    """Packets that the guest itself found to be damaged, by counter."""
    text = guest.check("cat /proc/net/snmp6; cat /proc/net/snmp")
    found = {name: int(value) for name, value in re.findall(r"(\w+InCsumErrors)\s+(\d+)", text)}
    for head, values in re.findall(r"^(\w+: [^\n]*InCsumErrors[^\n]*)\n(\w+: [^\n]*)", text, re.M):
        found[head.split()[0]] = int(values.split()[head.split().index("InCsumErrors")])
    return found


def exchange(a, b):
    """TCP and UDP over both versions of IP, in both directions; everything arrives as it was."""
    for sender, receiver in ((a, b), (b, a)):
        wanted = sender.make_file("data", 3)
        assert receiver.fetch_sum(sender.address, "data") == wanted
        assert receiver.fetch_sum(f"[{sender.six}]", "data") == wanted
        receiver.check("udpecho 7777 >/dev/null 2>&1 &")
        for address in (receiver.address, receiver.six):
            assert sender.check(f"sleep 0.2; udpecho 7777 {address} 300 1400") == "300 datagrams\n"


@pytest.mark.parametrize("lacks", LACKS)
def test_guest_that_lacks(lacks):
    features, whole = LACKS[lacks]
    with network(features) as (daemon, a, b):
        negotiated = daemon.port("b")["features"]["negotiated"]
        assert ("VIRTIO_NET_F_GUEST_CSUM" in negotiated) == (not whole)
        assert "VIRTIO_NET_F_GUEST_TSO4" not in negotiated
        assert "VIRTIO_NET_F_GUEST_TSO4" in daemon.port("a")["features"]["negotiated"]
        assert ("VIRTIO_NET_F_MRG_RXBUF" in negotiated) == ("mrg_rxbuf=off" not in features)
        before = drops_of(daemon, *NAMES)

        with capture(b):
            exchange(a, b)
        assert_nothing_lost_but({"tx.ring_full"}, before, drops_of(daemon, *NAMES))
        assert_ledgers(daemon)
        # a has sent large frames, and they were cut for b; nothing had to be cut for a.
        assert daemon.counters("b")["tx_cut"] > 1000
        assert daemon.counters("a")["tx_cut"] == 0
        for guest in (a, b):
            errors = checksum_errors(guest)
            assert len(errors) >= 4 and not any(errors.values()), errors

        large = f"tcpdump -Z root -n -r /tmp/in.pcap greater {MTU + 14 + 1} 2>/dev/null | wc -l"
        assert int(b.check(large, 60)) == 0
        good, bad = r"\(correct\)|udp sum ok", r"incorrect|bad udp cksum|bad cksum"
        if whole:
            assert captured(b, bad) == 0
            assert captured(b, good) > 4000
        else:
            # Partial as they should be: b asked for no more than that.
            assert captured(b, bad) > 1000
