# SPDX-License-Identifier: BSD-3-Clause
"""Linux guests under QEMU and a switch that come, reboot, die and return, with the port's state
watched throughout, and traffic that must flow again without help from inside the guests. A switch
that is killed is in test_survival.py."""
import contextlib

import pytest

from harness import (LAYOUTS, Daemon, assert_ledgers, drops, qemu_guest, qemu_guests, vhost_port,
                     wait_until)

NAMES = ("a", "b", "c")


def start_daemon(directory):
    return Daemon(directory, [vhost_port(directory, name) for name in NAMES])


@pytest.fixture(scope="module", params=LAYOUTS, ids="packed:{}".format)
def network(workdir, request):
    """The switch and three guests; tests put a successor in the place of what they kill."""
    with contextlib.ExitStack() as stack:
        daemon = stack.enter_context(start_daemon(workdir))
        for port in daemon.rpc("port.list"):
            assert port["state"] == "down" and port["reason"]
        guests = stack.enter_context(qemu_guests(workdir, *NAMES, packed=request.param))
        for name in NAMES:
            daemon.wait_port(name, "up")
        yield {"daemon": daemon, "stack": stack, "packed": request.param,
               **{guest.name: guest for guest in guests}}


def replace(network):
    """Another QEMU in the place of the guest b that was killed."""
    network["b"] = network["stack"].enter_context(
        qemu_guest(network["daemon"].directory, "b", 2, packed="b" in network["packed"]))
    return network["b"]


def states(daemon):
    return {port["name"]: port["state"] for port in daemon.rpc("port.list")}


def test_guest_reboots(network):
    daemon, a, b = network["daemon"], network["a"], network["b"]
    assert a.ping(b.address) == 10
    before = daemon.port("b")["connection"]
    boot = b.boot_id()
    b.send("reboot -f")
    # The driver resets the device, or its successor does: either way the rings go.
    daemon.wait_port("b", "down")
    b.wait_boot()
    assert b.boot_id() != boot
    port = daemon.wait_port("b", "up")
    # The same VMM process on the same connection: a reboot is no reconnection.
    assert port["connection"]["pid"] == before["pid"]
    assert port["connection"]["connects"] == before["connects"]
    assert a.ping(b.address, count=50) == 50
    wanted = b.make_file("data", 10)
    assert a.fetch_sum(b.address, "data") == wanted


def test_guest_reboots_under_traffic(network):
    """The rings are taken away while frames for them arrive, several times."""
    daemon, a, b, c = (network[name] for name in ("daemon", "a", "b", "c"))
    for _ in range(2):
        a.start(f"ping -q -c 300 -i 0.01 {b.address} >/dev/null & "
                f"iperf3 -c {c.address} -t 4 >/dev/null")
        b.reboot()
        daemon.wait_port("b", "up")
        assert a.finish(60)[0] == 0, "TCP between the others broke"
    assert a.ping(b.address) == 10
    assert states(daemon) == {name: "up" for name in NAMES}
    assert_ledgers(daemon)


def test_guest_is_killed_and_replaced(network):
    daemon, a, b, c = (network[name] for name in ("daemon", "a", "b", "c"))
    assert a.ping(b.address) == 10 and a.ping(c.address) == 10
    for name in ("a", "c"):
        assert drops(daemon.counters(name)).get("tx.not_connected", 0) == 0
    before = daemon.port("b")["connection"]
    connects = {name: daemon.port(name)["connection"]["connects"] for name in ("a", "c")}

    # a and c talk all the while, and lose nothing.
    a.start(f"ping -q -W 2 -c 400 -i 0.005 {c.address}")
    b.kill()
    daemon.wait_port("b", "down")
    # The device stops first, then the connection ends.
    wait_until(lambda: daemon.port("b")["connection"]["state"] == "disconnected", 5, "disconnected")
    port = daemon.port("b")
    assert port["reason"]
    assert port["connection"]["disconnects"] == before["disconnects"] + 1
    assert port["connection"]["last_disconnect"]
    assert not port["memory"]["valid"]
    assert states(daemon) == {"a": "up", "b": "down", "c": "up"}

    b = replace(network)
    b.wait_boot()
    port = daemon.wait_port("b", "up")
    assert port["reason"] is None
    assert port["connection"]["pid"] == b.pid
    assert port["connection"]["connects"] == before["connects"] + 1
    assert "400 packets received" in a.finish(60)[1]
    assert a.ping(b.address) == 10 and c.ping(b.address) == 10
    for name, count in connects.items():
        assert daemon.port(name)["connection"]["connects"] == count, f"{name} was disturbed"


def test_frames_for_a_port_that_is_down_are_accounted_for(network):
    daemon, a, b = network["daemon"], network["a"], network["b"]
    assert a.ping(b.address) == 10  # a knows b's address, and so does the switch
    b.kill()
    daemon.wait_port("b", "down")
    before = {name: daemon.counters(name) for name in ("a", "b")}
    assert a.ping(b.address, count=20) == 0
    assert_ledgers(daemon)
    assert daemon.counters("a")["rx_packets"] >= before["a"]["rx_packets"] + 20
    assert daemon.counters("b")["tx_packets"] == before["b"]["tx_packets"]
    b = replace(network)
    b.wait_boot()
    daemon.wait_port("b", "up")
    assert a.ping(b.address) == 10


def test_switch_stops_cleanly_under_traffic(network):
    daemon, a, b = network["daemon"], network["a"], network["b"]
    a.start(f"ping -q -c 300 -i 0.01 {b.address}")
    before = daemon.counters("b")["tx_packets"]
    wait_until(lambda: daemon.counters("b")["tx_packets"] > before + 10, 20, "pings are flowing")
    assert daemon.stop() == 0
    assert not daemon.socket.exists()
    assert not (daemon.directory / "a.sock").exists()
    daemon = network["daemon"] = network["stack"].enter_context(start_daemon(daemon.directory))
    for name in NAMES:
        daemon.wait_port(name, "up", 15)
    a.finish(60)
    assert a.ping(b.address) == 10
