# SPDX-License-Identifier: BSD-3-Clause
"""Pairs of Linux guests under QEMU that differ from the usual: several queues, no offloads, memory that
is added while they run."""
import contextlib
import re
import struct

import pytest

from frontend import Guest, ethernet
from harness import (FULL, LAYOUTS, Daemon, Frames, Workdir, assert_ledgers, assert_nothing_lost_but,
                     drops_of, qemu_guests, vhost_port, wait_stable, wait_until)

NAMES = ("a", "b")


@contextlib.contextmanager
def network(port=None, a=None, b=None, packed=""):
    """A switch and two guests: more keys for both ports, more options for each guest, and which of them
    have packed rings. Yields them and the drops so far: what the first guest said before the second
    was there."""
    with Workdir() as directory:
        ports = [vhost_port(directory, name, **(port or {})) for name in NAMES]
        with Daemon(directory, ports) as daemon, \
                qemu_guests(directory, "a", packed=packed, **(a or {})) as (guest_a,), \
                qemu_guests(directory, "b", first=2, packed=packed, **(b or {})) as (guest_b,):
            for name in NAMES:
                daemon.wait_port(name, "up")
            yield daemon, guest_a, guest_b, drops_of(daemon, *NAMES)


@pytest.mark.parametrize("packed", LAYOUTS)
def test_guest_without_offloads(packed):
    """One that sends as it likes but takes nothing: what others send it is made fit for it."""
    plain = {"features": "guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off"}
    with network(b=plain, packed=packed) as (daemon, a, b, before):
        assert "VIRTIO_NET_F_GUEST_CSUM" not in daemon.port("b")["features"]["negotiated"]
        assert "VIRTIO_NET_F_GUEST_CSUM" in daemon.port("a")["features"]["negotiated"]
        assert a.ping(b.address, count=50) == 50
        for sender, receiver in ((a, b), (b, a)):
            wanted = sender.make_file("data", 10)
            assert receiver.fetch_sum(sender.address, "data") == wanted
        assert a.iperf(b.address, 2) > 5e6
        assert_nothing_lost_but({"tx.ring_full"}, before, drops_of(daemon, *NAMES))
        assert daemon.counters("b")["tx_cut"] > 1000
        assert daemon.counters("a")["tx_cut"] == 0
        assert_ledgers(daemon)


def assert_all_arrived(daemon, *guests):
    """What the switch put into a guest's rings is what its driver received, and what that sent is what
    the switch took; so whatever is missing elsewhere is among the switch's drops."""
    def books():
        rows = {guest.name: daemon.counters(guest.name) for guest in guests}
        return [(guest.counted(), Frames(rows[guest.name]["tx_packets"], rows[guest.name]["rx_packets"]))
                for guest in guests]
    for driver, switch in wait_stable(books, 10, "the counters rest"):
        assert driver == switch


FLOWS = 64


def queue_counts(guest, direction):
    """Packets of each of the guest's queues: "rx" or "tx"."""
    text = guest.check("ethtool -S eth0")
    return [int(count) for count in re.findall(rf"{direction}_queue_\d+_packets: (\d+)", text)]


def growth(guest, direction, before):
    return [now - old for now, old in zip(queue_counts(guest, direction), before)]


def udp(source, to, flow):
    """A datagram to a port where nobody listens, from another port for each flow."""
    ports = struct.pack("!HHHH", 20000 + flow, 9, 8 + 18, 0)
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + 8 + 18, 0, 0, 64, 17, 0,
                     bytes((10, 9, 0, 9)), bytes((10, 9, 0, 2)))
    total = sum(struct.unpack("!10H", ip))
    total = (total & 0xFFFF) + (total >> 16)
    ip = ip[:10] + struct.pack("!H", ~total & 0xFFFF) + ip[12:]
    return ethernet(to, source, ip + ports + bytes(18), 0x0800)


def set_queues(guest, count):
    guest.run(f"ethtool -L eth0 combined {count}")  # refuses what is set already
    channels = guest.check("ethtool -l eth0 | grep Combined | tail -1")
    assert channels.split() == ["Combined:", str(count)]


@pytest.mark.parametrize("packed", LAYOUTS)
def test_queues_change_under_traffic(packed):
    """A guest with four queue pairs uses more of them and fewer while TCP flows: each that is on gets
    its share of the flows, and none that is off gets anything."""
    four = {"queues": 4, "smp": 2}
    with network({"queues": 4}, four, four, packed=packed) as (daemon, a, b, before), \
            Guest(str(daemon.directory / "c.sock"), 9) as c:
        daemon.rpc("port.add", **vhost_port(daemon.directory, "c"))
        c.up()
        daemon.wait_port("c", "up")
        to = bytes.fromhex(b.mac.replace(":", ""))
        for count in (4, 2, 1, 3, 4) if FULL else (4, 1, 3):
            # The flows that run when the queues change go on.
            a.start(f"iperf3 -c {b.address} -t 3 -P 4 | grep 'receiver$' | tail -1")
            moved = daemon.counters("b")["tx_packets"]
            wait_until(lambda: daemon.counters("b")["tx_packets"] > moved + 100, 10, "TCP flows")
            set_queues(b, count)
            rings = {ring["index"] // 2 for ring in daemon.port("b")["rings"]
                     if ring["state"] == "attached"}
            assert rings == set(range(4)) or rings == set(range(count)), rings
            received, sent = queue_counts(b, "rx"), queue_counts(b, "tx")
            for flow in range(FLOWS):
                c.send(udp(c.mac, to, flow))
            c.flush()
            status, output = a.finish(60)
            assert status == 0 and float(output.split()[-3]) > 0, output
            b.check(f"iperf3 -c {a.address} -t 1 -P {8 * count} >/dev/null")
            received, sent = growth(b, "rx", received), growth(b, "tx", sent)
            for way in received, sent:
                assert all(n > 0 for n in way[:count]) and not any(way[count:]), (count, received, sent)
        wanted = b.make_file("data", 10)
        assert a.fetch_sum(b.address, "data") == wanted
        assert_all_arrived(daemon, a, b)
        assert_ledgers(daemon)
        # What was queued on a pair that is switched off is discarded (vhost-user, "Ring states").
        assert_nothing_lost_but({"tx.ring_full", "rx.disabled"}, before, drops_of(daemon, *NAMES))


def mebibytes(guest):
    return int(guest.check("grep MemTotal /proc/meminfo").split()[1]) >> 10


@pytest.mark.parametrize("packed", LAYOUTS)
def test_memory_is_added_under_traffic(packed):
    """The VMM sends a table with one region more, for which the rings are taken away for a moment."""
    growing = {"arguments": ["-m", "slots=2,maxmem=2G"], "kernel": "memhp_default_state=online"}
    with network(b=growing, packed=packed) as (daemon, a, b, before):
        memory, first = daemon.port("b")["memory"], mebibytes(b)
        assert first < 200
        a.start(f"ping -q -W 2 -c 1000 -i 0.01 {b.address}")
        for n in range(2):
            b.qmp("object-add", **{"qom-type": "memory-backend-memfd", "id": f"more{n}",
                                   "size": 128 << 20, "share": True})
            b.qmp("device_add", driver="pc-dimm", id=f"dimm{n}", memdev=f"more{n}")
            wait_until(lambda: daemon.port("b")["memory"]["regions"] == memory["regions"] + n + 1, 10,
                       "the region is there")
            daemon.wait_port("b", "up")
            wait_until(lambda: mebibytes(b) > first + 120 * (n + 1), 10, "the guest has it")
        assert daemon.port("b")["memory"]["bytes"] == memory["bytes"] + (256 << 20)
        a.finish(60)
        assert_all_arrived(daemon, a, b)
        assert_nothing_lost_but({"tx.not_connected"}, before, drops_of(daemon, *NAMES))
        # More than the first region holds is sent from there and received there.
        b.check("mount -o remount,size=90% /tmp")
        wanted = b.make_file("data", 200)
        assert a.fetch_sum(b.address, "data", 120) == wanted
        b.check("rm /tmp/data")
        wanted = a.make_file("data", 50)
        assert b.fetch_sum(a.address, "data") == wanted
        assert_all_arrived(daemon, a, b)
        assert_ledgers(daemon)
