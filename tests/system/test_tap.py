# SPDX-License-Identifier: BSD-3-Clause
"""TAP ports: the host's kernel behind the switch, in network namespaces of the test's own. The switch
lives in one; interfaces are moved from there to where their users are."""
import contextlib
import json
import time

import pytest

from harness import (Daemon, Namespace, Process, RpcError, Workdir, assert_ledgers, drops, qemu_guest,
                     vhost_port, wait_until)

OFF = {"checksum": False, "tso": False, "ufo": False, "ecn": False}


def tap_port(name, interface=None, **more):
    return {"name": name, "type": "tap", "interface": interface or f"rw{name}", **more}


class Site:
    """A switch in a namespace, and two more namespaces for hosts."""

    def __init__(self, stack, ports, **options):
        self.directory = stack.enter_context(Workdir())
        self.home = stack.enter_context(Namespace())
        self.hosts = [stack.enter_context(Namespace()) for _ in range(2)]
        if callable(ports):
            ports = ports(self.directory)
        self.daemon = stack.enter_context(Daemon(self.directory, ports, netns=self.home.name,
                                                 **options))

    def move(self, interface, number, mtu=None):
        """Gives the interface to host 0 or 1, with the addresses .1 or .2 of one network."""
        host = self.hosts[number]
        self.home.run("ip", "link", "set", interface, "netns", host.name)
        if mtu:
            host.run("ip", "link", "set", interface, "mtu", mtu)
        host.run("ip", "address", "add", f"10.7.0.{number + 1}/24", "dev", interface)
        host.run("ip", "address", "add", f"fd07::{number + 1}/64", "dev", interface, "nodad")
        host.run("ip", "link", "set", interface, "up")

    def iperf(self, source, target, *options, seconds=2):
        """Bits per second that arrived at host `target`."""
        server = ["iperf3", "-s", "-1", "--forceflush"]
        with open(self.directory / "iperf.log", "w") as log:
            with Process(server, self.directory, netns=self.hosts[target].name, stdout=log,
                         stderr=log):
                wait_until(lambda: "listening" in (self.directory / "iperf.log").read_text(), 5,
                           "iperf3 listens")
                result = json.loads(self.hosts[source].run(
                    "iperf3", "-c", f"10.7.0.{target + 1}", "-t", seconds, "-J", *options))
        return result["end"]["sum_received"]["bits_per_second"]


@contextlib.contextmanager
def site(ports, **options):
    with contextlib.ExitStack() as stack:
        place = Site(stack, ports, **options)
        yield place
        assert_ledgers(place.daemon)


def only(reasons, counters):
    """Has nothing been dropped but for these reasons?"""
    return set(drops(counters)) <= set(reasons)


@pytest.mark.parametrize("a, b", [({}, {}), (OFF, {}), ({}, OFF), (OFF, OFF)],
                         ids=["on-on", "off-on", "on-off", "off-off"])
def test_two_hosts(a, b):
    """Ping with all sizes, TCP and UDP both ways, with the offloads of either side on and off."""
    with site([tap_port("a", offloads=a), tap_port("b", offloads=b)]) as place:
        for number, name in enumerate("ab"):
            place.move(f"rw{name}", number)
        first, second = place.hosts
        for size in 0, 56, 1472, 4000, 30000:
            first.run("ping", "-q", "-c", 3, "-i", 0.01, "-W", 2, "-s", size, "10.7.0.2")
            second.run("ping", "-6", "-q", "-c", 3, "-i", 0.01, "-W", 2, "-s", size, "fd07::1")
        for source, target in (0, 1), (1, 0):
            assert place.iperf(source, target) > 100e6
            assert place.iperf(source, target, "-u", "-b", "50M", "-l", 1400) > 45e6
        rows = {name: place.daemon.counters(name) for name in "ab"}
        large = {name: rows[name]["rx_segments"] > 2 * rows[name]["rx_packets"] for name in "ab"}
        # Only who has the offload hands over segments larger than packets.
        assert large == {"a": a is not OFF, "b": b is not OFF}
        for row in rows.values():
            assert only({"rx.no_destination", "tx.ring_full", "tx.device"}, row), drops(row)


def test_what_is_set():
    with site([tap_port("a", mac="02:00:00:00:00:0a", mtu=1400,
                        addresses=["10.7.1.1/24", "10.7.2.1/28", "fd07:1::1/64"]),
               tap_port("b", interface="")]) as place:
        link = place.home.links()["rwa"]
        assert (link["mtu"], link["address"]) == (1400, "02:00:00:00:00:0a")
        assert "UP" in link["flags"]
        shown = place.home.run("ip", "address", "show", "dev", "rwa")
        for address in "10.7.1.1/24", "10.7.2.1/28", "fd07:1::1/64":
            assert address in shown
        port = place.daemon.port("a")
        assert (port["interface"], port["mtu"], port["mac"]) == ("rwa", 1400, "02:00:00:00:00:0a")
        # The kernel chose a name, an address and an MTU.
        port = place.daemon.port("b")
        link = place.home.links()[port["interface"]]
        assert (port["mtu"], port["mac"]) == (1500, link["address"])
        assert port["origin"] == "made"
        # And on the live port.
        place.daemon.rpc("port.set", name="a", mtu=1300, mac="02:00:00:00:00:0b")
        link = place.home.links()["rwa"]
        assert (link["mtu"], link["address"]) == (1300, "02:00:00:00:00:0b")
        assert place.daemon.port("a")["mtu"] == 1300
        assert "tx-checksum-ip-generic: on" in place.home.run("ethtool", "-k", "rwa")
        answer = place.daemon.rpc("port.set", name="a", offloads=OFF)
        assert answer["reopened"] is False
        assert "tx-checksum-ip-generic: off" in place.home.run("ethtool", "-k", "rwa")
        place.daemon.rpc("port.remove", name="a")
        place.daemon.rpc("port.remove", name="b")
        assert set(place.home.links()) == {"lo"}


def test_the_mtu_is_enforced():
    with site([tap_port("a"), tap_port("b")]) as place:
        place.move("rwa", 0, mtu=9000)
        place.move("rwb", 1)
        place.hosts[0].run("ping", "-q", "-c", 2, "-i", 0.1, "-s", 1472, "10.7.0.2")
        with pytest.raises(AssertionError):
            place.hosts[0].run("ping", "-q", "-c", 1, "-W", 1, "-M", "do", "-s", 1473, "10.7.0.2")
        assert drops(place.daemon.counters("b"))["tx.mtu"] == 1


def test_jumbo_frames():
    with site([tap_port("a", mtu=9000), tap_port("b", mtu=9000)]) as place:
        for number, name in enumerate("ab"):
            place.move(f"rw{name}", number)
        place.hosts[0].run("ping", "-q", "-c", 3, "-i", 0.1, "-M", "do", "-s", 8972, "10.7.0.2")
        assert place.iperf(0, 1) > 100e6


def test_several_queues():
    """The kernel spreads its flows over the queues, and so does the switch."""
    with site([tap_port("a", queues=4), tap_port("b", queues=4)]) as place:
        assert place.home.links()["rwa"]["linkinfo"]["info_data"]["numqueues"] == 4
        for number, name in enumerate("ab"):
            place.move(f"rw{name}", number)
        assert place.iperf(0, 1, "-P", 8) > 100e6


def test_persistent_and_taken_over():
    with site([]) as place:
        add = {key: value for key, value in tap_port("a", persist=True).items()}
        place.daemon.rpc("port.add", **add)
        assert place.daemon.port("a")["origin"] == "made"
        place.daemon.rpc("port.remove", name="a")
        assert "rwa" in place.home.links()
        place.daemon.rpc("port.add", **tap_port("a"))
        assert place.daemon.port("a")["origin"] == "taken over"
        place.daemon.rpc("port.remove", name="a")
        place.home.run("ip", "link", "delete", "rwa")


@pytest.mark.parametrize("more, field, sentence", [
    ({"interface": "lo"}, "interface", "no TAP interface"),
    ({"interface": "x" * 16}, "interface", "15"),
    ({"interface": "a/b"}, "interface", "white space"),
    ({"interface": "busy"}, "interface", "another process has it open"),
    ({"addresses": ["10.0.0.1"]}, "addresses", "192.0.2.1/24"),
    ({"addresses": ["10.0.0.1/33"]}, "addresses", "192.0.2.1/24"),
    ({"mtu": 65530}, "mtu", "MTU"),
    ({"offloads": {"checksum": False, "tso": True}}, "offloads.tso", "checksum"),
    ({"fds": 1}, "fds", "not in this version"),
], ids=lambda value: next(iter(value)) if isinstance(value, dict) else None)
def test_refusals(more, field, sentence):
    with site([]) as place:
        owner = ["python3", "-c", "import fcntl, struct, time\n"
                 "tun = open('/dev/net/tun', 'r+b', buffering=0)\n"
                 "fcntl.ioctl(tun, 0x400454ca, struct.pack('16sH22x', b'busy', 0x5002))\n"
                 "time.sleep(30)"]
        with Process(owner, place.directory, netns=place.home.name):
            wait_until(lambda: "busy" in place.home.links(), 5, "the other owner has it")
            before = place.home.links().keys()
            with pytest.raises(RpcError) as refused:
                place.daemon.rpc("port.add", **{**tap_port("a"), **more})
            assert refused.value.data["field"] == field
            assert sentence in f"{refused.value.message} {refused.value.data.get('accepted')}"
            assert place.home.links().keys() == before
            assert place.daemon.rpc("port.list") == []


def test_without_permission():
    """The daemon may not make interfaces: that port is down and says why, the others run."""
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(Workdir())
        home = stack.enter_context(Namespace())
        argv = ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]
        ports = [tap_port("a"), vhost_port(directory, "b")]
        daemon = stack.enter_context(Daemon(directory, ports, netns=home.name, through=argv))
        assert "CAP_NET_ADMIN" in daemon.wait_port("a", "down")["reason"]
        assert "waiting for the VMM" in daemon.port("b")["reason"]


def test_deleted_and_back():
    with site([tap_port("a"), tap_port("b")]) as place:
        place.home.run("ip", "link", "delete", "rwa")
        assert "deleted" in place.daemon.wait_port("a", "down")["reason"]
        place.daemon.wait_port("a", "up", 12)
        for number, name in enumerate("ab"):
            place.move(f"rw{name}", number)
        place.hosts[0].run("ping", "-q", "-c", 2, "-i", 0.1, "10.7.0.2")


def test_asleep():
    """An adaptive worker sleeps, and the kernel's frames wake it."""
    with site([tap_port("a"), tap_port("b")], idle="adaptive") as place:
        for number, name in enumerate("ab"):
            place.move(f"rw{name}", number)
        place.hosts[0].run("ping", "-q", "-c", 1, "10.7.0.2")
        time.sleep(0.5)
        before = place.daemon.rpc("worker.list")[0]
        output = place.hosts[0].run("ping", "-q", "-c", 20, "-i", 0.1, "10.7.0.2")
        after = place.daemon.rpc("worker.list")[0]
        assert " 0% packet loss" in output
        assert after["sleep_ns"] - before["sleep_ns"] > 1e9
        assert float(output.rsplit("=", 1)[1].split("/")[1]) < 20


def test_a_limit_holds_back():
    """What is over the limit waits in the kernel, the one frame that was read too early included."""
    limit = {"ingress": {"bandwidth": {"rate": "100Mbit", "burst": "256KiB"}}}
    with site([tap_port("a", limits=limit), tap_port("b")]) as place:
        for number, name in enumerate("ab"):
            place.move(f"rw{name}", number)
        assert 85e6 < place.iperf(0, 1, seconds=4) < 100e6
        row = place.daemon.counters("a")
        assert row["rx_throttled"] > 0 and "rx.limit" not in drops(row)


def test_guest_to_host():
    """A QEMU guest and the kernel, with TSO both ways."""
    with site(lambda directory: [tap_port("host", addresses=["10.9.0.200/24"]),
                                 vhost_port(directory, "vm1")]) as place:
        with qemu_guest(place.directory, "vm1", 1) as guest:
            place.daemon.wait_port("vm1", "up")
            guest.wait_boot()
            guest.check("ping -c 3 10.9.0.200", 10)
            place.home.run("ping", "-q", "-c", 3, "-i", 0.1, guest.address)
            with open(place.directory / "iperf.log", "w") as log:
                with Process(["iperf3", "-s", "-1", "--forceflush"], place.directory,
                             netns=place.home.name, stdout=log, stderr=log):
                    assert guest.iperf("10.9.0.200", 3) > 50e6
            row = place.daemon.counters("vm1")
            assert row["rx_segments"] > 2 * row["rx_packets"]
