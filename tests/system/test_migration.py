# SPDX-License-Identifier: BSD-3-Clause
"""A Linux guest that migrates from one port of the switch to another and back, from QEMU to QEMU, while
a peer talks to it: the guest goes on as if nothing had been, its memory arrives as it was, and each
frame that did not arrive was counted.

Accounting: what the switch put into the guest's rings is what the guest's driver counts as received,
before, while and after it moved, and the other way round. Nothing is in flight when it is compared:
the traffic has been stopped and the counters have come to rest. Both sides know each other's address
beforehand, so that the only frames for everybody are announcements."""
import collections
import contextlib
import mmap
import pathlib
import re
import struct

import pytest

from frontend import BROADCAST, Guest
from harness import (FULL, Daemon, Frames, Workdir, assert_ledgers, qemu_guest, vhost_port, wait_stable,
                     wait_until)

PORTS = ("left", "right", "peer", "witness")
RARP, ARP = 0x8035, 0x0806

# Who makes the guest's move known, by the options of its device; and the layout of its rings.
ANNOUNCERS = {"guest": "", "switch": "guest_announce=off"}
CASES = [(form, who) for form in ("split", "packed") for who in ANNOUNCERS]
if not FULL:
    CASES = [("split", "switch"), ("packed", "guest")]

def memory_of(guest):
    """The file behind the guest's memory, mapped."""
    for entry in pathlib.Path(f"/proc/{guest.pid}/fd").iterdir():
        if str(entry.readlink()).startswith("/memfd:memory-backend-memfd"):
            with open(entry, "rb") as file:
                return mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    raise AssertionError(f"guest {guest.name} has no memory file")


def pages_that_differ(one, other):
    with memory_of(one) as here, memory_of(other) as there:
        assert len(here) == len(there)
        size = mmap.PAGESIZE
        return [place // size for place in range(0, len(here), size)
                if here[place:place + size] != there[place:place + size]]


class Site:
    """The switch, the guest that moves, its peer, and a witness that hears what everybody hears."""

    def __init__(self, directory, stack, form, who):
        self.options = {"features": ANNOUNCERS[who], "kernel": "ipv6.disable=1",
                        "packed": form == "packed"}
        self.directory, self.stack, self.moves = directory, stack, 0
        self.daemon = stack.enter_context(Daemon(
            directory, [vhost_port(directory, name) for name in PORTS]))
        self.place, self.free = "left", "right"
        self.guest = stack.enter_context(self.machine())
        self.peer = stack.enter_context(qemu_guest(directory, "peer", 2, kernel="ipv6.disable=1"))
        for guest in (self.guest, self.peer):
            guest.wait_boot()
        for name in ("left", "peer"):
            self.daemon.wait_port(name, "up")
        self.witness = stack.enter_context(Guest(str(directory / "witness.sock"), 9)).up()
        for one, other in ((self.guest, self.peer), (self.peer, self.guest)):
            one.check(f"arp -i eth0 -s {other.address} {other.mac}")
        negotiated = self.daemon.port("left")["features"]["negotiated"]
        assert ("VIRTIO_F_RING_PACKED" in negotiated) == (form == "packed")
        assert ("VIRTIO_NET_F_GUEST_ANNOUNCE" in negotiated) == (who == "guest")
        assert self.guest.ping(self.peer.address) == 10 == self.peer.ping(self.guest.address)
        self.witness.drain()  # what was flooded before the switch knew both
        self.boot = self.guest.boot_id()
        self.guest.make_file("data", 20)

    def machine(self, arguments=()):
        """A QEMU at the place of the guest, or at the free one, where it waits for the guest to come.
        The names differ, for so do the files; their length must not, as they are part of the state."""
        where = self.free if arguments else self.place
        return qemu_guest(self.directory, f"m{self.moves:02}", 1, arguments=arguments,
                          socket=self.directory / f"{where}.sock", **self.options)

    # ---- traffic ----

    def start_traffic(self):
        """Pings; a file that the peer fetches again and again; and one that it sends in parts."""
        peer, address = self.peer, self.guest.address
        self.wanted = self.guest.check("md5sum </tmp/data").split()[0]
        # This nc ends when its input does, so that must last.
        self.guest.check("rm -f /tmp/sum; sleep 1000 | nc -l -p 5001 | md5sum >/tmp/sum & "
                         "until netstat -tln | grep -q :5001; do sleep 0.1; done")
        peer.check("rm -f /tmp/stop /tmp/sums; dd if=/dev/urandom of=/tmp/part bs=64k count=1 2>/dev/null")
        peer.check(f"ping -q -W 1 -i 0.01 {address} >/dev/null & ping=$!")
        peer.check("while ! test -e /tmp/stop; do "
                   f"wget -q -O - http://{address}/data | md5sum >>/tmp/sums; done & fetch=$!")
        peer.check("(n=0; while ! test -e /tmp/stop; do cat /tmp/part; n=$((n + 1)); sleep 0.02; done; "
                   f"echo $n >/tmp/parts) | nc {address} 5001 & part=$!")
        self.flows(4 << 20)

    def flows(self, size):
        def counts():
            return [self.daemon.counters("peer")[f"{way}_bytes"] for way in ("rx", "tx")]
        before = counts()
        wait_until(lambda: all(now > old + size // n for now, old, n in zip(counts(), before, (8, 1))),
                   60, "traffic flows both ways")

    def stop_traffic(self):
        """Everything arrived as it was sent."""
        peer = self.peer
        peer.check("touch /tmp/stop; kill -INT $ping; wait $ping $fetch $part; true", 60)
        sums = peer.check("cat /tmp/sums").split()[::2]
        assert sums and set(sums) == {self.wanted}, sums
        wanted = peer.check("i=0; while test $i -lt $(cat /tmp/parts); do cat /tmp/part; i=$((i + 1)); "
                            "done | md5sum").split()[0]
        self.guest.check("while ! test -s /tmp/sum; do sleep 0.1; done")
        assert self.guest.check("cat /tmp/sum").split()[0] == wanted

    # ---- moving ----

    def move(self, compare):
        """Migrates the guest to the free port; returns what QEMU says of it."""
        source, self.moves = self.guest, self.moves + 1
        path = self.directory / f"m{self.moves:02}.migrate"
        arguments = ["-incoming", f"unix:{path}", *(["-S"] if compare else [])]
        target = self.stack.enter_context(self.machine(arguments))
        wait_until(path.exists, 20, "the target is there")
        assert target.qmp("query-status")["status"] == "inmigrate"  # and listens
        source.qmp("migrate-set-parameters", **{"max-bandwidth": 1 << 30, "downtime-limit": 500})
        source.qmp("migrate", uri=f"unix:{path}")

        def ended():
            status = source.qmp("query-migrate")
            assert status["status"] != "failed", status
            return status["status"] == "completed" and status
        status = wait_until(ended, 120, "the migration is done")
        if compare:
            wait_until(lambda: target.qmp("query-status")["status"] == "paused", 20, "all has arrived")
            differ = pages_that_differ(source, target)
            assert not differ, f"{len(differ)} pages differ: {differ[:20]}"
            target.qmp("cont")
        wait_until(lambda: target.qmp("query-status")["running"], 20, "the guest runs again")
        source.qmp("quit")
        assert source.wait(10) == 0
        self.place, self.free = self.free, self.place
        target.commands, self.guest = source.commands, target
        self.daemon.wait_port(self.place, "up")
        for machine in (source, target):
            assert "qemu-system" not in machine.text, machine.text
        return status

    def whereabouts(self):
        return {entry["mac"]: entry["port"] for entry in self.daemon.rpc("fdb.list")}[self.guest.mac]

    # ---- accounting ----

    def books(self):
        """The counters of the ports, summed up for both places of the guest, and those of the guests."""
        rows = {name: self.daemon.counters(name) for name in PORTS}
        guest = Frames(*(sum(rows[name][f"{way}_packets"] for name in ("left", "right"))
                         for way in ("tx", "rx")))
        return {"guest": guest, "peer": Frames(rows["peer"]["tx_packets"], rows["peer"]["rx_packets"]),
                "flooded": sum(rows[name]["rx_flooded"] for name in PORTS),
                "drops": {f"{name} {way} {reason}": count for name in PORTS for way in ("tx", "rx")
                          for reason, count in rows[name][f"{way}_dropped"].items()},
                "in guests": {"guest": self.guest.counted(), "peer": self.peer.counted()}}

    def announcements(self):
        """The frames for everybody that the witness got: {ethernet type: how many}."""
        found = collections.Counter()
        mac = bytes.fromhex(self.guest.mac.replace(":", ""))
        for frame in self.witness.drain():
            assert frame.data[:12] == BROADCAST + mac, frame.data
            found[struct.unpack_from("!H", frame.data, 12)[0]] += 1
        return found


def growth(now, before):
    return Frames(*(a - b for a, b in zip(now, before)))


@pytest.fixture(params=CASES, ids="-".join)
def case(request):
    return request.param


def test_a_guest_moves(case):
    form, who = case
    with Workdir() as directory, contextlib.ExitStack() as stack:
        site = Site(directory, stack, form, who)
        for turn in range(50 if FULL else 3):
            before = wait_stable(site.books, 20, "the counters rest")
            # A guest announces itself for a second or so: what is left of the last time is counted.
            site.witness.drain()
            site.start_traffic()
            status = site.move(compare=turn % 2 == 0)
            site.flows(1 << 20)
            site.stop_traffic()
            assert site.guest.boot_id() == site.boot
            assert site.whereabouts() == site.place
            now = wait_stable(site.books, 20, "the counters rest")
            heard = site.announcements()
            print(f"{form}, announced by the {who}: downtime {status['downtime']} ms, in all "
                  f"{status['total-time']} ms, heard {dict(heard)}, "
                  f"drops {now['drops']}")
            assert set(heard) == ({ARP} if who == "guest" else {RARP})
            assert now["flooded"] - before["flooded"] == heard.total()
            check(now, before, heard[RARP])
        assert_ledgers(site.daemon)


def check(now, before, injected):
    """What a driver received is what its port delivered; what it sent is what came in there, and the
    announcements that the switch made itself."""
    for name in ("guest", "peer"):
        switch = growth(now[name], before[name])
        driver = growth(now["in guests"][name], before["in guests"][name])
        assert switch.received == driver.received, name
        assert switch.sent == driver.sent + (injected if name == "guest" else 0), name
