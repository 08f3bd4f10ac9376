# SPDX-License-Identifier: BSD-3-Clause
"""Pairs of Linux guests under QEMU that differ from the usual: several queues, and no offloads."""
import contextlib
import signal

from harness import (Daemon, Workdir, assert_ledgers, assert_nothing_lost_but, drops, drops_of,
                     qemu_guests, vhost_port, wait_stable)

NAMES = ("a", "b")


@contextlib.contextmanager
def network(port=None, a=None, b=None):
    """A switch and two guests: more keys for both ports, more options for each guest. Yields them
    and the drops so far: what the first guest said before the second was there."""
    with Workdir() as directory:
        ports = [vhost_port(directory, name, **(port or {})) for name in NAMES]
        with Daemon(directory, ports) as daemon, \
                qemu_guests(directory, "a", **(a or {})) as (guest_a,), \
                qemu_guests(directory, "b", first=2, **(b or {})) as (guest_b,):
            for name in NAMES:
                daemon.wait_port(name, "up")
            yield daemon, guest_a, guest_b, drops_of(daemon, *NAMES)


def test_two_queue_pairs():
    two = {"queues": 2, "smp": 2}
    with network({"queues": 2}, two, two) as (daemon, a, b, before):
        for pairs in (2, 1, 2):
            for guest in (a, b):
                guest.run(f"ethtool -L eth0 combined {pairs}")  # refuses what is set already
                channels = guest.check("ethtool -l eth0 | grep Combined | tail -1")
                assert channels.split() == ["Combined:", str(pairs)]
            assert a.ping(b.address, count=50) == 50
            assert a.iperf(b.address, 1, "-P 4") > 50e6
        attached = [ring for ring in daemon.port("a")["rings"] if ring["state"] == "attached"]
        assert len(attached) == 4
        wanted = b.make_file("data", 20)
        assert a.fetch_sum(b.address, "data") == wanted
        assert_ledgers(daemon.rpc("stats.get"))
        assert_nothing_lost_but({"tx.ring_full"}, before, drops_of(daemon, *NAMES))


def test_guest_without_offloads():
    """A frame that the receiver cannot take as it is goes nowhere, is counted, and hurts nobody."""
    plain = {"features": "guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off"}
    with network(b=plain) as (daemon, a, b, before):
        assert "VIRTIO_NET_F_GUEST_CSUM" not in daemon.port("b")["features"]["negotiated"]
        assert "VIRTIO_NET_F_GUEST_CSUM" in daemon.port("a")["features"]["negotiated"]

        # Pings carry whole checksums and pass. TCP from a carries partial ones.
        assert a.ping(b.address, count=50) == 50
        assert drops_of(daemon, *NAMES) == before
        wanted = b.make_file("data", 10)
        status, _ = a.run(f"timeout 3 wget -q -O /dev/null http://{b.address}/data")
        assert status == 128 + signal.SIGTERM, "TCP got through, or was not simply silent"
        assert drops(daemon.counters("b"))["tx.bad_offload"] > 0
        assert a.ping(b.address, count=50) == 50
        assert_nothing_lost_but({"tx.bad_offload"}, before, drops_of(daemon, *NAMES))
        assert_ledgers(daemon.rpc("stats.get"))

        # With whole checksums from a everything passes, b's own offloads included.
        a.check("ethtool -K eth0 tso off gso off tx off")
        before = wait_stable(lambda: drops_of(daemon, *NAMES), 10, "no more frames are refused")
        assert a.fetch_sum(b.address, "data") == wanted
        wanted = a.make_file("data", 10)
        assert b.fetch_sum(a.address, "data") == wanted
        assert_nothing_lost_but({"tx.ring_full"}, before, drops_of(daemon, *NAMES))
        assert_ledgers(daemon.rpc("stats.get"))
