# SPDX-License-Identifier: BSD-3-Clause
"""Two Linux guests under QEMU talking through ringwayd: small packets, TCP with segmentation
offload, and data that must arrive intact. Guests with other features are in test_qemu_features.py,
those that come and go in test_qemu_lifecycle.py."""
import pytest

from harness import (LAYOUTS, Daemon, assert_ledgers, assert_nothing_lost_but, drops_of, qemu_guests,
                     vhost_port, wait_stable, wait_until)


@pytest.fixture(scope="module")
def daemon(workdir):
    with Daemon(workdir, [vhost_port(workdir, name) for name in ("a", "b")]) as daemon:
        yield daemon


@pytest.fixture(scope="module", params=LAYOUTS, ids="packed:{}".format)
def guests(daemon, request):
    with qemu_guests(daemon.directory, "a", "b", packed=request.param) as guests:
        for guest in guests:
            ring = daemon.wait_port(guest.name, "up")["rings"][0]
            assert (ring["layout"] == "packed") == (guest.name in request.param)
        yield guests


def test_port_shows_what_linux_negotiated(daemon, guests):
    for guest in guests:
        port = daemon.port(guest.name)
        assert port["connection"]["state"] == "connected"
        assert port["connection"]["pid"] == guest.pid
        assert {"VIRTIO_NET_F_CSUM", "VIRTIO_NET_F_GUEST_CSUM", "VIRTIO_NET_F_HOST_TSO4",
                "VIRTIO_NET_F_GUEST_TSO4", "VIRTIO_NET_F_MRG_RXBUF", "VIRTIO_F_VERSION_1"} \
            <= set(port["features"]["negotiated"]) <= set(port["features"]["offered"])
        assert port["memory"]["valid"] and port["memory"]["bytes"] >= 250 << 20
        assert [(ring["index"], ring["queue"], ring["direction"], ring["state"], ring["size"])
                for ring in port["rings"][:2]] == [(0, 0, "tx", "attached", 256),
                                                   (1, 0, "rx", "attached", 256)]


def test_ping_without_loss(daemon, guests):
    a, b = guests
    before = drops_of(daemon, "a", "b")
    assert a.ping(b.address, count=200, interval=0.005) == 200
    assert b.ping(a.address, count=200, interval=0.005) == 200
    assert drops_of(daemon, "a", "b") == before
    table = {entry["mac"]: entry["port"] for entry in daemon.rpc("fdb.list")}
    assert table[a.mac] == "a" and table[b.mac] == "b"


def test_a_moved_address_is_followed(daemon, guests):
    """The guests swap their addresses, and after that swap them back."""
    a, b = guests
    moved = daemon.rpc("stats.get")["fdb"]["moved"]
    for mac_of_a, mac_of_b in ((b.mac, a.mac), (a.mac, b.mac)):
        for guest, mac in ((a, mac_of_a), (b, mac_of_b)):
            guest.check(f"ip link set eth0 address {mac} && ip neigh flush dev eth0")
        # The first answers go to where the address was; then the switch knows better.
        wait_until(lambda: a.ping(b.address, count=1) and b.ping(a.address, count=1), 20, "answers")
        assert a.ping(b.address, count=50) == 50
        table = {entry["mac"]: entry["port"] for entry in daemon.rpc("fdb.list")}
        assert (table[mac_of_a], table[mac_of_b]) == ("a", "b")
    assert daemon.rpc("stats.get")["fdb"]["moved"] >= moved + 4


def test_full_size_and_odd_size_pings(guests):
    a, b = guests
    for size in (0, 1, 17, 18, 19, 86, 87, 1471, 1472):
        assert "3 packets received" in a.check(f"ping -q -W 2 -c 3 -i 0.01 -s {size} {b.address}")


@pytest.mark.parametrize("source, target, streams", [(0, 1, 1), (1, 0, 1), (0, 1, 4)])
def test_tcp_with_segmentation_offload(daemon, guests, source, target, streams):
    """Long enough for some rounds of the 65,536 positions of a ring: each frame takes up to 43."""
    source, target = guests[source], guests[target]
    for guest in guests:
        assert "tcp-segmentation-offload: on" in guest.check("ethtool -k eth0")
    drops_before = drops_of(daemon, "a", "b")
    before = daemon.counters(source.name)
    assert source.iperf(target.address, 3, f"-P {streams}") > 5e6
    after = wait_stable(lambda: daemon.counters(source.name), 10, "the counters rest")
    packets = after["rx_packets"] - before["rx_packets"]
    segments = after["rx_segments"] - before["rx_segments"]
    # Frames cross the switch whole: on the average one stands for many segments.
    assert segments > 4 * packets, f"{packets} frames for {segments} segments"
    assert_ledgers(daemon)
    assert_nothing_lost_but({"tx.ring_full"}, drops_before, drops_of(daemon, "a", "b"))
    for guest in guests:
        assert [ring["state"] for ring in daemon.port(guest.name)["rings"][:2]] == ["attached"] * 2


def test_data_arrives_intact(daemon, guests):
    a, b = guests
    before = drops_of(daemon, "a", "b")
    for source, target in ((a, b), (b, a)):
        wanted = source.make_file("data", 50)
        assert target.fetch_sum(source.address, "data") == wanted
        source.check("rm /tmp/data")
    # Without any offload in the sender the path of small frames is taken.
    a.check("ethtool -K eth0 tso off gso off tx off")
    wanted = a.make_file("data", 10)
    assert b.fetch_sum(a.address, "data") == wanted
    a.check("rm /tmp/data; ethtool -K eth0 tx on tso on gso on")
    assert_nothing_lost_but({"tx.ring_full"}, before, drops_of(daemon, "a", "b"))
