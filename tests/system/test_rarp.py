# SPDX-License-Identifier: BSD-3-Clause
"""What a VMM has the switch announce for its guest (SEND_RARP): scripted front-ends. Guests that
migrate are in test_migration.py."""
import struct
import time

import pytest

from frontend import BROADCAST, Guest, Msg, ethernet
from harness import Daemon, Workdir, assert_ledgers, vhost_port, wait_until

NAMES = ["vm1", "vm2", "vm3"]
MOVED = bytes.fromhex("525400aabbcc")


@pytest.fixture(scope="module")
def switch():
    with Workdir() as directory:
        with Daemon(directory, [vhost_port(directory, name) for name in NAMES],
                    idle="adaptive") as daemon:
            yield daemon
            assert_ledgers(daemon)


@pytest.fixture
def guests(switch):
    guests = [Guest(str(switch.directory / f"{name}.sock"), number)
              for number, name in enumerate(NAMES, 1)]
    try:
        for name, guest in zip(NAMES, guests):
            guest.up()
            switch.wait_port(name, "up")
        yield guests
    finally:
        for guest in guests:
            guest.close()
        for name in NAMES:
            switch.wait_port(name, "down")


def announce(guest, mac, **how):
    return guest.link.send(Msg.SEND_RARP, mac.ljust(8, b"\0"), **how)


def rarp(mac):
    head = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 3)
    return ethernet(BROADCAST, mac, head + 2 * (mac + bytes(4)), 0x8035).ljust(60, b"\0")


def place(switch, mac):
    return {entry["mac"]: entry["port"] for entry in switch.rpc("fdb.list")}.get(mac.hex(":"))


def test_all_others_hear_of_it(switch, guests):
    """And the address has moved: what is sent to it arrives at its new port alone."""
    a, b, c = guests
    assert b.protocol & 1 << 2  # VHOST_USER_PROTOCOL_F_RARP
    a.send(ethernet(BROADCAST, MOVED, bytes(46)))
    b.receive(), c.receive()
    wait_until(lambda: place(switch, MOVED) == "vm1", 5, "learned on vm1")
    assert announce(b, MOVED, need_reply=True) == 0
    for guest in (a, c):
        assert guest.receive().data == rarp(MOVED)
    wait_until(lambda: place(switch, MOVED) == "vm2", 1, "moved to vm2")
    frame = ethernet(MOVED, c.mac, bytes(100))
    c.send(frame)
    assert b.receive().data == frame
    assert a.drain() == [] and c.drain() == []
    row = switch.counters("vm2")
    assert row["rx_packets"] == row["rx_flooded"] == 1 and row["rx_copies"] == 2


@pytest.mark.parametrize("payload", [
    bytes(8), BROADCAST + bytes(2), bytes.fromhex("0100000000010000"), MOVED, MOVED + bytes(10)],
    ids=["zero", "broadcast", "group", "short", "long"])
def test_what_is_no_station_is_refused(switch, guests, payload):
    a, b, _ = guests
    before = switch.counters("vm1")["rx_packets"]
    assert b.link.send(Msg.SEND_RARP, payload, need_reply=True) != 0
    assert announce(a, a.mac, need_reply=True) == 0  # a later one, which is all that arrives
    assert b.receive().data == rarp(a.mac)
    assert switch.counters("vm1")["rx_packets"] == before + 1
    b.disconnect()
    switch.wait_port("vm2", "down")
    wait_until(lambda: "not the address of a station" in
               (switch.port("vm2")["connection"]["last_disconnect"] or {"reason": ""})["reason"],
               5, "the reason")


def test_not_without_end(switch, guests):
    """A VMM cannot flood the others by it; a second later it is heard again."""
    a, b, c = guests
    time.sleep(1)
    begin = time.monotonic()
    for _ in range(200):
        announce(b, MOVED)
    b.link.sync()
    seconds = time.monotonic() - begin
    assert announce(a, a.mac, need_reply=True) == 0
    assert 1 <= len(heard(c, a.mac)) <= 16 * (1 + int(seconds))
    time.sleep(1)
    assert announce(b, MOVED, need_reply=True) == 0
    assert announce(a, a.mac, need_reply=True) == 0
    assert heard(c, a.mac) == [rarp(MOVED)]
    assert switch.rpc("worker.list")[0]["inject_refused"] == 0


def heard(guest, mac):
    """What arrives before the announcement of that address."""
    frames = []
    while (frame := guest.receive().data) != rarp(mac):
        frames.append(frame)
    return frames
