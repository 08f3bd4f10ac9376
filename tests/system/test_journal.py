# SPDX-License-Identifier: BSD-3-Clause
"""The positions of packed rings outlive the switch, in files beside its control socket; and what is so
when they cannot be kept."""
import fcntl
import struct

import pytest

from frontend import F, Guest
from harness import Daemon, Workdir, qemu_guests, vhost_port, wait_until

PACKED = "VIRTIO_F_RING_PACKED"


@pytest.fixture
def place():
    with Workdir() as directory:
        yield directory


def test_a_file_for_each_port(place):
    with Daemon(place, [vhost_port(place, "vm1"), vhost_port(place, "vm2")]) as daemon:
        for name in "vm1", "vm2":
            path = place / f"{name}.rings"
            assert path.stat().st_mode & 0o777 == 0o600 and path.stat().st_size < 8192
            features = daemon.port(name)["features"]
            assert PACKED in features["requested"] and features["pending"] == []
        daemon.rpc("port.remove", name="vm1")
        assert not (place / "vm1.rings").exists()
        assert daemon.stop() == 0
    assert (place / "vm2.rings").exists()


def test_ports_without_a_journal(place):
    """The port works, without packed rings, and says why; so does one whose file is somebody else's."""
    (place / "vm1.rings").mkdir()
    (place / "vm2.rings").write_text("a file that somebody needs")
    names = ["vm1", "vm2", "vm3"]
    with Daemon(place, [vhost_port(place, name) for name in names]) as daemon:
        guests = [Guest(str(place / f"{name}.sock"), number) for number, name in enumerate(names)]
        for name, guest in zip(names, guests):
            guest.up()
            daemon.wait_port(name, "up")
            features = daemon.port(name)["features"]
            held = [row for row in features["pending"] if row["change"] == "withheld"]
            assert bool(guest.offered & F.RING_PACKED) == (name == "vm3") == (not held)
            assert (PACKED in features["requested"]) == (name == "vm3")
            if held:
                assert held[0]["features"] == [PACKED] and "its file" in held[0]["reason"]
                assert daemon.log().count(f"{name}: packed rings are not offered") == 1
            guest.close()
        # Who does not want them is not told.
        daemon.rpc("port.set", name="vm1", rings={"packed": False})
        assert daemon.port("vm1")["features"]["pending"] == []
    assert (place / "vm2.rings").read_text() == "a file that somebody needs"


def test_another_switch_in_the_same_directory(place):
    with open(place / "vm1.rings", "wb") as others:
        fcntl.flock(others, fcntl.LOCK_EX)
        with Daemon(place, [vhost_port(place, "vm1")]) as daemon:
            assert "another switch" in daemon.port("vm1")["features"]["pending"][0]["reason"]


def rings(daemon, name):
    return [(ring["layout"], ring["state"]) for ring in daemon.port(name)["rings"]]


def words(place, name):
    """What the file says of the first two rings; 0: nothing."""
    data = (place / f"{name}.rings").read_bytes()
    return [struct.unpack_from("=QQQ", data, 24 + 24 * ring)[2] for ring in range(2)]


@pytest.mark.parametrize("server", [True, False], ids=["client", "server"])
def test_qemu_with_packed_rings_survives_a_kill(place, server):
    """QEMU restores no position of a packed ring when its back-end comes back, whichever way it went."""
    names = ("vm1", "vm2")
    ports = [vhost_port(place, name, mode="client" if server else "server") for name in names]
    daemon = Daemon(place, ports)
    try:
        with qemu_guests(place, *names, server=server, features="packed=on") as (a, b):
            a.check("ping -c 3 10.9.0.2")
            for kill in True, False, True:
                a.ping(b.address, 40 + 100 * kill)  # so that the rings stand anywhere
                daemon.kill() if kill else daemon.stop()
                daemon = Daemon(place, ports)
                for name in names:
                    shown = daemon.wait_port(name, "up")["rings"]
                    assert [(ring["layout"], ring["state"]) for ring in shown] == [
                        ("packed", "attached")] * 2
                for guest, peer in (a, b), (b, a):
                    wait_until(lambda: guest.ping(peer.address, 5, 0.1) == 5, 20, "frames flow both ways")
            assert all(words(place, "vm1")) and all(words(place, "vm2"))
            # A VMM that is told the position knows better from then on.
            a.qmp("stop")
            wait_until(lambda: words(place, "vm1") == [0, 0], 5, "its positions are forgotten")
            assert all(words(place, "vm2"))
            daemon.kill()
            daemon = Daemon(place, ports)
            a.qmp("cont")
            wait_until(lambda: a.ping(b.address, 5, 0.1) == 5, 20, "frames flow again")
    finally:
        daemon.stop()
