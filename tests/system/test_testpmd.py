# SPDX-License-Identifier: BSD-3-Clause
"""ringwayd under the load of a guest that can saturate it: testpmd with two virtio-user ports in a
closed loop, where every frame is accounted for and none may be lost."""
import itertools
import pathlib

import pytest

from harness import (CPUS, FULL, WORKERS, Daemon, TestpmdGuest, Workdir, assert_ledgers, drops, vhost_port,
                     wait_stable, wait_until)
from matrix import LINUX_RINGS

PORTS = ("a", "b")
SIZES_AND_QUEUES = list(itertools.product((64, 1500), (1, 2)))


@pytest.fixture(scope="module")
def daemon(workdir):
    with Daemon(workdir, [vhost_port(workdir, name, queues=2) for name in PORTS]) as daemon:
        yield daemon


def guest_of(daemon, **options):
    sockets = [daemon.directory / f"{name}.sock" for name in PORTS]
    return TestpmdGuest(daemon.directory, sockets, **options)


def wait_ports(daemon, state):
    return [daemon.wait_port(name, state) for name in PORTS]


def counters(daemon):
    return {name: daemon.counters(name) for name in PORTS}


def run_loop(daemon, guest, size, packets=500_000, frames=TestpmdGuest.FRAMES):
    """Circulates frames until each port has taken `packets`, stops, and checks every account."""
    wait_ports(daemon, "up")
    before, seen_before = counters(daemon), guest.port_stats()
    guest.start_loop(size, frames)
    for name in PORTS:
        enough = before[name]["rx_packets"] + packets
        wait_until(lambda: daemon.counters(name)["rx_packets"] > enough, 30,
                   f"{packets} frames of {size} bytes have come from port {name}")
    guest.stop_loop()
    after = wait_stable(lambda: counters(daemon), 10, "the counters rest after the guest's stop")
    seen = {port: {key: count - seen_before[port][key] for key, count in row.items()}
            for port, row in guest.port_stats().items()}
    assert_ledgers(daemon)

    grown = {name: {key: after[name][key] - before[name][key] for key in after[name]
                    if isinstance(after[name][key], int)} for name in PORTS}
    for name, peer, port in (("a", "b", 0), ("b", "a", 1)):
        mine = grown[name]
        assert drops(after[name]) == drops(before[name]), f"port {name} dropped in a closed loop"
        # All that the guest sent has come in, and has gone out to the only other port.
        assert mine["rx_packets"] == seen[port]["tx"]
        assert mine["rx_bytes"] == size * mine["rx_packets"]
        assert mine["rx_segments"] == mine["rx_packets"]
        assert mine["rx_forwarded"] + mine["rx_flooded"] == mine["rx_packets"]
        assert mine["rx_packets"] == grown[peer]["tx_offered"]
        assert mine["tx_packets"] == mine["tx_offered"]
        assert mine["tx_bytes"] == size * mine["tx_packets"]
        assert mine["rx_flooded"] < packets / 2, "addresses were not learned"
        # What the guest did not take before it stopped lies in its receive rings, then as now.
        assert abs(mine["tx_packets"] - seen[port]["rx"]) <= guest.FRAMES
        assert seen[port]["errors"] == 0 and seen[port]["missed"] == 0
    return grown


def assert_negotiated(port, rings, queues=1):
    """The matrix says what, and all rings of the guest are in use."""
    for feature, wanted in (("VIRTIO_F_RING_PACKED", rings.layout == "packed"),
                            ("VIRTIO_F_IN_ORDER", rings.order == "in_order"),
                            ("VIRTIO_NET_F_MRG_RXBUF", rings.merge == "mergeable")):
        assert (feature in port["features"]["negotiated"]) == wanted, feature
    attached = [ring["index"] for ring in port["rings"] if ring["state"] == "attached"]
    assert attached == list(range(2 * queues))


@pytest.mark.over("layout", "merge", "order")
@pytest.mark.parametrize("size, queues", [(64, 1), (1500, 2)] if not FULL else SIZES_AND_QUEUES)
def test_closed_loop(daemon, rings, size, queues):
    with guest_of(daemon, queues=queues, features=rings.virtio_user()) as guest:
        for port in wait_ports(daemon, "up"):
            assert_negotiated(port, rings, queues)
        run_loop(daemon, guest, size)


@pytest.mark.parametrize("ring, wish, feature", [("packed", "packed_vq=1", "VIRTIO_F_RING_PACKED"),
                                                 ("in_order", "in_order=1", "VIRTIO_F_IN_ORDER")])
def test_a_guest_that_wishes_for_more_than_is_offered(daemon, ring, wish, feature):
    for name in PORTS:
        daemon.rpc("port.set", name=name, rings={ring: False})
    with guest_of(daemon, features=f"mrg_rxbuf=1,{wish}") as guest:
        for port in wait_ports(daemon, "up"):
            assert feature not in port["features"]["offered"]
            assert feature not in port["features"]["negotiated"]
            assert {row["layout"] for row in port["rings"] if row["state"] == "attached"} == {"split"}
        run_loop(daemon, guest, 64)
    for name in PORTS:
        daemon.rpc("port.set", name=name, rings=None)


# Where this driver takes vector paths, which read and write several descriptors at once.
VECTORIZED = {"split": "using vectorized Rx path", "packed": "using packed ring vectorized Rx path"}
VECTOR_EAL = ["--force-max-simd-bitwidth=512", "--log-level=pmd.net.virtio.init:info"]


@pytest.mark.parametrize("rings", [
    LINUX_RINGS._replace(merge="unmergeable"),
    LINUX_RINGS._replace(merge="unmergeable", layout="packed", order="in_order")], ids=str)
def test_vectorized_guests(daemon, rings):
    with guest_of(daemon, features=rings.virtio_user() + ",vectorized=1", eal=VECTOR_EAL) as guest:
        if "avx512f" in pathlib.Path("/proc/cpuinfo").read_text() or rings.layout == "split":
            assert VECTORIZED[rings.layout] in guest.text
        for port in wait_ports(daemon, "up"):
            assert_negotiated(port, rings)
        # A few receive buffers are always missing, for they are posted again by 32.
        run_loop(daemon, guest, 64, frames=128)


def test_addresses_are_learned_where_they_live(daemon):
    macs = ["52:54:00:00:02:aa", "52:54:00:00:02:bb"]
    with guest_of(daemon, macs=macs) as guest:
        grown = run_loop(daemon, guest, 64)
        table = {entry["mac"]: entry for entry in daemon.rpc("fdb.list")}
        for mac, name in zip(macs, PORTS):
            assert table[mac]["port"] == name
            assert table[mac]["static"] is False and table[mac]["vlan"] == 0
        # Once learned, nothing is flooded any more.
        again = run_loop(daemon, guest, 64)
        assert [again[name]["rx_flooded"] for name in PORTS] == [0, 0]
        assert [grown[name]["rx_forwarded"] > 0 for name in PORTS] == [True, True]


def test_port_follows_its_guest(daemon):
    for port in wait_ports(daemon, "down"):
        assert port["connection"]["state"] == "disconnected"
        assert port["reason"]
    connects = [daemon.port(name)["connection"]["connects"] for name in PORTS]
    with guest_of(daemon) as guest:
        for port in wait_ports(daemon, "up"):
            assert port["reason"] is None
            assert port["connection"]["state"] == "connected"
            assert port["connection"]["pid"] == guest.pid
            assert port["memory"]["valid"] and port["memory"]["bytes"] >= 256 << 20
        guest.quit()
        for port, before in zip(wait_ports(daemon, "down"), connects):
            assert port["connection"]["connects"] == before + 1
            assert port["connection"]["pid"] is None
            assert port["connection"]["last_disconnect"]
            assert all(ring["state"] == "detached" for ring in port["rings"])
    with guest_of(daemon) as guest:
        run_loop(daemon, guest, 64)
        guest.kill()
        wait_ports(daemon, "down")
    with guest_of(daemon) as guest:
        run_loop(daemon, guest, 64)


def test_worker_counts_its_cycles(daemon):
    with guest_of(daemon) as guest:
        before = daemon.rpc("worker.list")
        grown = run_loop(daemon, guest, 64)
        after = daemon.rpc("worker.list")
    assert len(before) == len(after) == WORKERS
    assert all(row["cpu"] in CPUS for row in after)
    delta = {key: sum(row[key] for row in after) - sum(row[key] for row in before) for key in
             ("busy_cycles", "idle_cycles", "iterations", "packets")}
    assert delta["packets"] == sum(grown[name]["rx_packets"] for name in PORTS)
    assert 10 < delta["busy_cycles"] / delta["packets"] < 100_000
    assert delta["iterations"] > 0 and delta["idle_cycles"] > 0
    bursts = [sum(sum(row["bursts"].values()) for row in rows) for rows in (before, after)]
    assert bursts[1] > bursts[0]


def test_memory_stays_small():
    """64 MB with two ports under traffic, apart from the guests' own memory; no huge pages."""
    with Workdir() as directory, \
            Daemon(directory, [vhost_port(directory, name) for name in PORTS]) as daemon, \
            guest_of(daemon) as guest:
        run_loop(daemon, guest, 1500)
        own = daemon.rss(apart_from=[guest.pid])
        assert own < 64 << 20, f"{own >> 20} MB resident"
        assert own < daemon.rss(), "the guest's memory is mapped, so the whole must be larger"
