# SPDX-License-Identifier: BSD-3-Clause
"""TAP ports: the host's kernel behind the switch, in network namespaces of the test's own. The switch
lives in one; interfaces are moved from there to where their users are."""
import contextlib
import json
import os
import pathlib
import re
import socket
import subprocess
import time
import types

import pytest

from harness import (Daemon, Namespace, Process, RpcError, Workdir, assert_ledgers, drops, qemu_guest,
                     vhost_port, wait_until)

OFF = {"checksum": False, "tso": False, "ufo": False, "ecn": False}


def tap_port(name, interface=None, **more):
    return {"name": name, "type": "tap", "interface": f"rw{name}" if interface is None else interface,
            **more}


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
        if place.daemon.running():
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
               tap_port("b", interface=""), tap_port("c", interface="my%d", queues=2),
               tap_port("d", interface="my%d")]) as place:
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
        assert port["origin"] == "made" and port["interface"] not in ("", "rwb")
        # One name for all queues.
        assert [place.daemon.port(name)["interface"] for name in "cd"] == ["my0", "my1"]
        assert place.home.links()["my0"]["linkinfo"]["info_data"]["numqueues"] == 2
        # And on the live port.
        place.daemon.rpc("port.set", name="a", mtu=1300, mac="02:00:00:00:00:0b")
        link = place.home.links()["rwa"]
        assert (link["mtu"], link["address"]) == (1300, "02:00:00:00:00:0b")
        assert place.daemon.port("a")["mtu"] == 1300
        assert "tx-checksum-ip-generic: on" in place.home.run("ethtool", "-k", "rwa")
        answer = place.daemon.rpc("port.set", name="a", offloads=OFF)
        assert answer["reopened"] is False
        assert "tx-checksum-ip-generic: off" in place.home.run("ethtool", "-k", "rwa")
        # Without a wish of its own the interface has what it had at first.
        place.daemon.rpc("port.set", name="a", mtu=None, mac=None)
        link = place.home.links()["rwa"]
        assert link["mtu"] == 1500 and link["address"] not in ("02:00:00:00:00:0a", "02:00:00:00:00:0b")
        for name in "abcd":
            place.daemon.rpc("port.remove", name=name)
        assert set(place.home.links()) == {"lo"}


def test_the_mtu_is_enforced():
    with site([tap_port("a"), tap_port("b")]) as place:
        place.move("rwa", 0, mtu=9000)
        place.move("rwb", 1)
        place.hosts[0].run("ping", "-q", "-c", 2, "-i", 0.1, "-s", 1472, "10.7.0.2")
        with pytest.raises(AssertionError):
            place.hosts[0].run("ping", "-q", "-c", 1, "-W", 1, "-M", "do", "-s", 1473, "10.7.0.2")
        assert drops(place.daemon.counters("b"))["tx.mtu"] == 1


def test_the_mtu_is_followed():
    with site([tap_port("a"), tap_port("b")]) as place:
        for number, name in enumerate("ab"):
            place.move(f"rw{name}", number, mtu=9000)
        wait_until(lambda: [place.daemon.port(name)["mtu"] for name in "ab"] == [9000, 9000], 12, "followed")

        def passes():
            try:
                return place.hosts[0].run("ping", "-q", "-c", 1, "-W", 1, "-M", "do", "-s", 8972, "10.7.0.2")
            except AssertionError:
                return None
        # The workers are told in the next round of five seconds.
        wait_until(passes, 15, "long frames pass")


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
        # It stays as it is, until somebody says otherwise, also while it runs.
        place.daemon.rpc("port.remove", name="a")
        assert "rwa" in place.home.links()
        place.daemon.rpc("port.add", **tap_port("a", persist=True))
        assert place.daemon.rpc("port.set", name="a", persist=False)["reopened"] is False
        place.daemon.rpc("port.remove", name="a")
        assert "rwa" not in place.home.links()


@pytest.mark.parametrize("more, field, sentence", [
    ({"interface": "lo"}, "interface", "no TAP interface"),
    ({"interface": "x" * 16}, "interface", "15"),
    ({"interface": "a/b"}, "interface", "white space"),
    ({"interface": "a%s"}, "interface", "%"),
    ({"interface": "%d%d"}, "interface", "one"),
    ({"interface": "busy"}, "interface", "another process has it open"),
    ({"addresses": ["10.0.0.1"]}, "addresses", "192.0.2.1/24"),
    ({"addresses": ["10.0.0.1/33"]}, "addresses", "192.0.2.1/24"),
    ({"mtu": 65530}, "mtu", "MTU"),
    ({"offloads": {"checksum": False, "tso": True}}, "offloads.tso", "checksum"),
    ({"netns": "nowhere"}, "netns", "cannot be opened: No such file"),
    ({"netns": "a/b"}, "netns", "ip netns"),
    ({"bridge": "lo"}, "bridge", "it is no bridge"),
    ({"bridge": "nowhere"}, "bridge", "No such device"),
    ({"endian": "big"}, "endian", "this kernel was built without"),
    ({"endian": "little", "vnet_header": "off"}, "endian", "exclude each other"),
    ({"vnet_header": "11"}, "vnet_header", "auto, off, 10, 12"),
    ({"active_queues": 3, "queues": 2}, "active_queues", "1 to 2"),
    ({"steering": "/nowhere"}, "steering", "No such file"),
    ({"up_script": "relative"}, "up_script", "absolute"),
    ({"up_script": "/nowhere"}, "up_script", "cannot be run: No such file"),
    ({"up_script": "/bin/false"}, "up_script", "failed with status 1"),
    ({"helper": "/nowhere", "interface": ""}, "helper", "cannot be run: No such file"),
    ({"helper": "/bin/false", "interface": ""}, "helper", "failed with status 1"),
    ({"helper": "/bin/true", "interface": ""}, "helper", "passed no descriptor"),
    ({"helper": "/bin/true"}, "interface", "exclude each other"),
    ({"helper": "/bin/true", "interface": "", "queues": 2}, "queues", "exclude each other"),
    ({"helper": "/bin/true", "interface": "", "up_script": "/bin/true"}, "up_script", "exclude each other"),
    ({"helper": "/bin/true", "interface": "", "vnet_header": "10"}, "vnet_header", "exclude each other"),
    ({"fds": 1, "interface": ""}, "fds", "0 descriptors came"),
], ids=lambda value: next(iter(value)) if isinstance(value, dict) else None)
def test_refusals(more, field, sentence):
    with site([]) as place:
        descriptors = place.daemon.descriptors()
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
            assert place.daemon.descriptors() == descriptors


def test_its_name_is_free_at_once():
    with site([]) as place:
        for _ in range(20):
            place.daemon.rpc("port.add", **tap_port("a", queues=2))
            place.daemon.rpc("port.remove", name="a")
            assert set(place.home.links()) == {"lo"}


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


FLOOD = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for n in range(int(sys.argv[1])): s.sendto(bytes(1000), ("10.7.0.2", 9))
"""


def unclaimed(host):
    """Datagrams that came to a port where nobody listens."""
    return int(host.run("nstat", "-asz", "UdpNoPorts").splitlines()[-1].split()[1])


def test_a_limit_loses_nothing():
    """The frame that was read before the limit let it in is the next one, each time."""
    limit = {"ingress": {"bandwidth": {"rate": "2Mbit", "burst": "2KiB"}}}
    with site([tap_port("a", limits=limit), tap_port("b")]) as place:
        for number, name in enumerate("ab"):
            place.move(f"rw{name}", number)
        place.hosts[0].run("ping", "-q", "-c", 1, "10.7.0.2")
        place.hosts[0].run("python3", "-c", FLOOD, 200)
        wait_until(lambda: unclaimed(place.hosts[1]) == 200, 10, "200 datagrams have arrived")
        assert place.daemon.counters("a")["rx_throttled"] > 20


def test_descriptors_are_closed_on_exec():
    with site([tap_port("a", queues=2)]) as place:
        directory = pathlib.Path(f"/proc/{place.daemon.pid}")
        taps = [entry.name for entry in (directory / "fd").iterdir() if os.readlink(entry) == "/dev/net/tun"]
        flags = [int(re.search(r"flags:\s+(\d+)", (directory / "fdinfo" / name).read_text())[1], 8)
                 for name in taps]
        assert len(taps) == 2 and all(flag & os.O_CLOEXEC and flag & os.O_NONBLOCK for flag in flags)


# ---- where descriptors come from ----

# Opens TAP queues with the flags of argv[2], and sends them with the request of argv[3] to the socket
# argv[1]; prints the answer. What it leaves open itself is closed when it ends.
PASSER = """
import fcntl, json, os, socket, struct, sys
fds = []
for word in sys.argv[2].split(","):
    name, flags = word.split(":")
    if name == "null":
        fds.append(os.open("/dev/null", os.O_RDWR))
        continue
    fds.append(os.open("/dev/net/tun", os.O_RDWR))
    fcntl.ioctl(fds[-1], 0x400454ca, struct.pack("16sH22x", name.encode(), int(flags, 16)))
    # As another owner may have left it: a longer header (TUNSETVNETHDRSZ), no offloads, waiting reads.
    fcntl.ioctl(fds[-1], 0x400454d8, struct.pack("i", 20))
    fcntl.ioctl(fds[-1], 0x400454d0, 0)
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(sys.argv[1])
    socket.send_fds(connection, [sys.argv[3].encode()], fds)
    print(connection.recv(1 << 16).decode())
"""
TAP, TUN, NO_PI, VNET, MULTI = 0x0002, 0x0001, 0x1000, 0x4000, 0x0100
PLAIN = TAP | NO_PI
FULL = PLAIN | VNET


def pass_descriptors(place, taps, method="port.add", **params):
    """Calls a method with descriptors: (name, flags) each. Returns the answer."""
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    words = ",".join(f"{name}:{flags:x}" for name, flags in taps)
    return json.loads(place.home.run("python3", "-c", PASSER, place.daemon.socket, words,
                                     json.dumps(request)))


@pytest.mark.parametrize("flags, header", [(FULL, 10), (PLAIN, 0)], ids=["vnet", "plain"])
def test_adopted_descriptors(flags, header):
    """With and without an offload header; what was passed outlives its passer, and an opening anew."""
    with site([tap_port("b")]) as place:
        descriptors = place.daemon.descriptors()
        port = {"name": "a", "type": "tap", "fds": 2, "mtu": 1400}
        # One too many came: it is closed.
        answer = pass_descriptors(place, [("rwa", flags | MULTI)] * 3, **port)
        assert answer["result"]["reopened"] is False
        shown = place.daemon.port("a")
        assert (shown["origin"], shown["interface"], shown["queues"]) == ("descriptors", "rwa", 2)
        assert (shown["vnet_header"], shown["mtu"]) == (header, 1400)
        info = place.home.links()["rwa"]
        assert (info["linkinfo"]["info_data"]["numqueues"], info["mtu"]) == (2, 1400)
        for number, name in enumerate("ab"):
            place.move(f"rw{name}", number)
        for source, target in (0, 1), (1, 0):
            assert place.iperf(source, target, "-P", 2) > 30e6
        row = place.daemon.counters("a")
        assert (row["rx_segments"] > 2 * row["rx_packets"]) == (header > 0)
        # Opened anew of the same descriptors, and the configuration applied that holds already.
        assert place.daemon.rpc("port.set", name="a", endian="little")["reopened"] is True
        place.daemon.rpc("config.apply", configuration=place.daemon.rpc("config.get")["configuration"])
        place.hosts[0].run("ping", "-q", "-c", 2, "-i", 0.1, "10.7.0.2")
        # Of fewer, one that stays open would take frames that nobody reads.
        configuration = place.daemon.rpc("config.get")["configuration"]
        configuration["ports"] = [{**port, "fds": 1} if port["name"] == "a" else port
                                  for port in configuration["ports"]]
        place.daemon.rpc("config.apply", configuration=configuration)
        assert "nobody has passed" in place.daemon.wait_port("a", "down")["reason"]
        place.daemon.rpc("port.remove", name="a")
        assert place.daemon.descriptors() == descriptors


@pytest.mark.parametrize("queues, more, sentence", [
    ([("null", 0)], {}, "descriptor 1 cannot be adopted: it is no TAP device"),
    ([("rwa", TUN | NO_PI)], {}, "TUN device"),
    ([("rwa", TAP | VNET)], {}, "packet information"),
    ([("rwa", FULL | MULTI), ("rwx", FULL | MULTI)], {}, "descriptor 2 cannot be adopted: it belongs to"),
    ([("rwa", FULL)], {"fds": 2}, "1 descriptors came"),
    ([("rwa", FULL)], {"interface": "rwa"}, '"fds" and "interface" exclude each other'),
    ([("rwa", FULL)], {"queues": 3}, '"fds" and "queues" exclude each other'),
    ([("rwa", FULL)], {"helper": "/bin/true"}, '"helper" and "fds" exclude each other'),
    ([("rwa", FULL)], {"up_script": "/bin/true"}, '"fds" and "up_script" exclude each other'),
    ([("rwa", FULL)], {"vnet_header": "12"}, '"fds" and "vnet_header" exclude each other'),
], ids=lambda value: value.replace('"', "")[:40] if isinstance(value, str) else "")
def test_refused_descriptors(queues, more, sentence):
    with site([]) as place:
        descriptors = place.daemon.descriptors()
        port = {"name": "a", "type": "tap", "fds": len(queues), **more}
        assert sentence in pass_descriptors(place, queues, **port)["error"]["message"]
        assert place.daemon.descriptors() == descriptors
        assert set(place.home.links()) == {"lo"}


def test_descriptors_of_no_request():
    """Whoever did not ask for what he sends leaves nothing behind, and gets his answer."""
    with site([]) as place:
        descriptors = place.daemon.descriptors()
        answer = pass_descriptors(place, [("rwa", FULL)] * 1 + [("null", 0)] * 200, "port.list")
        assert answer["result"] == []
        assert place.daemon.descriptors() == descriptors
        assert set(place.home.links()) == {"lo"}


def test_descriptors_and_a_restart():
    """What was passed is gone with the process: the port says so until it gets others."""
    with Workdir() as directory, Namespace() as home:
        place = types.SimpleNamespace(home=home)
        state = ["--state", directory / "state.json"]
        with Daemon(directory, netns=home.name, arguments=state) as place.daemon:
            pass_descriptors(place, [("rwa", FULL)], name="a", type="tap", fds=1)
        with Daemon(directory, netns=home.name, arguments=state) as place.daemon:
            assert "nobody has passed" in place.daemon.wait_port("a", "down")["reason"]
            answer = pass_descriptors(place, [("rwa", FULL)], name="a", type="tap", fds=1, replace=True)
            assert "result" in answer
            place.daemon.wait_port("a", "up")


HELPER = """#!/usr/bin/env python3
import array, fcntl, os, socket, struct, sys
open("{directory}/called", "a").write(" ".join(sys.argv[1:]) + "\\n")
option = dict(word.lstrip("-").partition("=")[::2] for word in sys.argv[1:])
tun = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tun, 0x400454ca, struct.pack("16sH22x", b"rwh", 0x5002))
connection = socket.socket(fileno=int(option["fd"]))
connection.sendmsg([b"\\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [tun]))])
{end}
"""


def write_program(path, text):
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def helper_of(place, end=""):
    text = HELPER.format(directory=place.directory, end=end).replace("\\\\", "\\")
    return write_program(place.directory / "helper", text)


def test_helper():
    with site([tap_port("b")]) as place:
        helper = helper_of(place)
        place.daemon.rpc("port.add", name="a", type="tap", helper=helper)
        assert (place.directory / "called").read_text() == "--use-vnet --fd=3 --br=br0\n"
        shown = place.daemon.port("a")
        assert (shown["origin"], shown["interface"]) == ("helper", "rwh")
        for number, interface in enumerate(("rwh", "rwb")):
            place.move(interface, number)
        place.hosts[0].run("ping", "-q", "-c", 2, "-i", 0.1, "10.7.0.2")
        # Another bridge; and a command line, for a shell.
        place.daemon.rpc("port.set", name="a", bridge="br7")
        place.daemon.rpc("port.set", name="a", helper=f"{helper} --br=br9 --more")
        assert (place.directory / "called").read_text().splitlines()[1:] == [
            "--use-vnet --fd=3 --br=br7", "--br=br9 --more --use-vnet --fd=3"]


def test_the_helper_of_qemu():
    """The real one, which reads whom to allow from a file below /etc."""
    with site([tap_port("b")]) as place:
        place.home.run("ip", "link", "add", "br7", "type", "bridge")
        place.home.run("ip", "link", "set", "br7", "up")
        place.home.run("ip", "address", "add", "10.7.0.1/24", "dev", "br7")
        place.move("rwb", 1)
        helper = ("/usr/bin/unshare -m /bin/sh -c 'mount -t tmpfs none /etc && mkdir /etc/qemu && "
                  "echo allow br7 > /etc/qemu/bridge.conf && exec /usr/lib/qemu/qemu-bridge-helper \"$@\"' x")
        with pytest.raises(RpcError) as refused:
            place.daemon.rpc("port.add", name="a", type="tap", helper=helper, bridge="br8")
        assert "failed with status 1" in refused.value.message
        place.daemon.rpc("port.add", name="a", type="tap", helper=helper, bridge="br7")
        shown = place.daemon.port("a")
        assert (shown["origin"], shown["vnet_header"]) == ("helper", 10)
        assert place.home.links()[shown["interface"]]["master"] == "br7"
        place.home.run("ping", "-q", "-c", 2, "-i", 0.1, "10.7.0.2")


@pytest.mark.parametrize("end, sentence", [("sys.exit(3)", "failed with status 3"),
                                           ("import time; time.sleep(60)", "not done after 10 s"),
                                           ("os.kill(os.getpid(), 11)", "ended by signal 11")],
                         ids=["status", "slow", "signal"])
def test_a_helper_that_fails(end, sentence):
    """Its end counts, even though it has passed a descriptor."""
    with site([]) as place:
        descriptors = place.daemon.descriptors()
        with pytest.raises(RpcError) as refused:
            place.daemon.rpc("port.add", timeout=20, name="a", type="tap", helper=helper_of(place, end))
        assert sentence in refused.value.message and refused.value.data["field"] == "helper"
        assert place.daemon.descriptors() == descriptors
        assert set(place.home.links()) == {"lo"}
        assert place.daemon.children() == []


# ---- options ----

def test_vnet_headers():
    """10 and 12 bytes; without a header there are no offloads, and all the same all gets through."""
    with site([tap_port("a", vnet_header="12", endian="little"), tap_port("b", vnet_header="off")]) as place:
        assert [place.daemon.port(name)["vnet_header"] for name in "ab"] == [12, 0]
        assert "tx-checksum-ip-generic: off" in place.home.run("ethtool", "-k", "rwb")
        for number, name in enumerate("ab"):
            place.move(f"rw{name}", number)
        for source, target in (0, 1), (1, 0):
            assert place.iperf(source, target) > 100e6
        for row in map(place.daemon.counters, "ab"):
            assert only({"rx.no_destination", "tx.ring_full", "tx.device"}, row), drops(row)
        assert place.daemon.counters("a")["rx_segments"] > 2 * place.daemon.counters("a")["rx_packets"]


UDP_SEGMENT = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(17, 103, 1000)
for n in range(20): s.sendto(bytes(30000), ("10.7.0.2", 9))
"""


@pytest.mark.parametrize("a, b", [({}, {}), ({}, OFF), (OFF, {})], ids=["on-on", "on-off", "off-on"])
def test_datagrams_in_bulk(a, b):
    """USO: many datagrams in one frame, whole where both sides take it, cut where one does not."""
    with site([tap_port("a", offloads=a), tap_port("b", offloads=b)]) as place:
        for number, name in enumerate("ab"):
            place.move(f"rw{name}", number)
        place.hosts[0].run("ping", "-q", "-c", 1, "10.7.0.2")
        before = place.daemon.counters("a"), place.daemon.counters("b")
        place.hosts[0].run("python3", "-c", UDP_SEGMENT)

        def grown(key, side):
            return place.daemon.counters("ab"[side])[key] - before[side][key]

        wait_until(lambda: grown("tx_segments", 1) >= 600, 5, "30 datagrams of each of 20 frames")
        assert (grown("rx_packets", 0) < 100) == (a is not OFF)
        assert (grown("tx_packets", 1) < 100) == (a is not OFF and b is not OFF)
        snmp = place.hosts[1].run("nstat", "-az", "UdpNoPorts", "UdpInCsumErrors")
        values = {line.split()[0]: int(line.split()[1]) for line in snmp.splitlines() if line[0] != "#"}
        # Nobody listens: the kernel counts what it was given, whole or cut.
        whole = a is not OFF and b is not OFF
        assert values == {"UdpNoPorts": 20 if whole else 600, "UdpInCsumErrors": 0}


def test_another_namespace_and_a_bridge():
    """Made where it belongs, a member of the bridge there; changed there as well."""
    with site([]) as place:
        host = place.hosts[0]
        host.run("ip", "link", "add", "br7", "type", "bridge")
        host.run("ip", "link", "set", "br7", "up")
        host.run("ip", "address", "add", "10.7.0.1/24", "dev", "br7")
        # One of the same name at home, which must not be touched.
        place.home.run("ip", "link", "add", "rwa", "type", "veth", "peer", "rwz")
        place.daemon.rpc("port.add", **tap_port("a", netns=host.name, bridge="br7", mtu=1400))
        place.daemon.rpc("port.add", **tap_port("b", netns=f"/run/netns/{place.hosts[1].name}",
                                                addresses=["10.7.0.2/24"]))
        assert host.links()["rwa"]["master"] == "br7"
        host.run("ping", "-q", "-c", 2, "-i", 0.1, "10.7.0.2")
        place.daemon.rpc("port.set", name="a", mtu=1300)
        assert (host.links()["rwa"]["mtu"], place.home.links()["rwa"]["mtu"]) == (1300, 1500)
        # Renamed, it goes on working and is found.
        host.run("ip", "link", "set", "rwa", "down")
        host.run("ip", "link", "set", "rwa", "name", "rwnew")
        host.run("ip", "link", "set", "rwnew", "up")
        assert place.daemon.port("a")["interface"] == "rwnew"
        host.run("ping", "-q", "-c", 2, "-i", 0.1, "10.7.0.2")
        place.daemon.rpc("port.set", name="a", mtu=1350)
        assert host.links()["rwnew"]["mtu"] == 1350


# Prints the send buffer of each TAP queue of process argv[1] (pidfd_getfd(2), TUNGETSNDBUF).
SNDBUFS = """
import ctypes, fcntl, os, struct, sys
pid = int(sys.argv[1])
of = os.pidfd_open(pid)
for name in os.listdir(f"/proc/{pid}/fd"):
    if os.readlink(f"/proc/{pid}/fd/{name}") == "/dev/net/tun":
        fd = ctypes.CDLL(None).syscall(438, of, int(name), 0)
        print(struct.unpack("i", fcntl.ioctl(fd, 0x800454d3, bytes(4)))[0])
"""


def test_a_namespace_that_cannot_be_entered():
    """Another interface of the same name, in the switch's own namespace, is not touched."""
    with Workdir() as directory, Namespace() as home, Namespace() as other:
        home.run("ip", "link", "add", "rwa", "type", "veth", "peer", "rwz")
        argv = ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"]
        place = types.SimpleNamespace(home=other)
        with Daemon(directory, [tap_port("b")], netns=home.name, through=argv) as place.daemon:
            before = home.links()["rwa"]
            answer = pass_descriptors(place, [("rwa", FULL)], name="a", type="tap", fds=1, mtu=1400,
                                      mac="02:00:00:00:00:0a", addresses=["10.99.0.1/24"])
            assert "cannot be entered" in answer["error"]["message"]
            # One that is moved later.
            home.run("ip", "link", "set", "rwb", "netns", other.name)
            home.run("ip", "link", "add", "rwb", "type", "veth", "peer", "rwy")
            place.daemon.rpc("port.set", name="b", mtu=1300)
            assert "cannot be entered" in place.daemon.log()
            assert home.links()["rwa"] == before
            assert home.links()["rwb"]["mtu"] == other.links()["rwb"]["mtu"] == 1500


def test_a_namespace_without_a_way_back():
    """Of another user namespace: who may enter, but not come back, stays, and later ports are made here."""
    with Workdir() as directory, Namespace() as home:
        code = f"unshare -n sleep 60 & echo $! > {directory}/child; sleep 0.5; exec \"$@\""
        with Daemon(directory, netns=home.name, through=["unshare", "-Ur", "sh", "-c", code, "x"]) as daemon:
            child = (directory / "child").read_text().strip()
            try:
                with pytest.raises(RpcError) as refused:
                    daemon.rpc("port.add", **tap_port("a", netns=f"/proc/{child}/ns/net"))
                assert "cannot be entered" in refused.value.message
                with pytest.raises(RpcError):  # it may not make one here, nor has it made one there
                    daemon.rpc("port.add", **tap_port("b"))
                shown = subprocess.run(["nsenter", "-n", "-t", child, "ip", "-br", "link"], check=True,
                                       capture_output=True, text=True).stdout
                assert "rwb" not in shown
            finally:
                subprocess.run(["kill", child], check=False)


def test_no_namespace():
    with site([]) as place:
        os.mkfifo(place.directory / "fifo")
        for name in "fifo", ".":
            with pytest.raises(RpcError) as refused:
                place.daemon.rpc("port.add", **tap_port("a", netns=str(place.directory / name)))
            assert refused.value.data["field"] == "netns"


def test_one_name_in_two_namespaces():
    with site([]) as place:
        for number, host in enumerate(place.hosts):
            place.daemon.rpc("port.add", **tap_port(f"a{number}", "tap0", netns=host.name,
                                                    addresses=[f"10.7.0.{number + 1}/24"]))
        place.hosts[0].run("ping", "-q", "-c", 2, "-i", 0.1, "10.7.0.2")
        # But one interface is one port's, whatever its type.
        place.daemon.rpc("port.add", **tap_port("b", "tap0"))
        for name, kind in ("c", "tap"), ("d", "af_packet"):
            with pytest.raises(RpcError) as refused:
                place.daemon.rpc("port.add", name=name, type=kind, interface="tap0")
            assert "the interface tap0 is taken by port b" in refused.value.message


def test_an_interface_of_this_user():
    """Without the right to make or change any: one that the operator has made, and brought up."""
    with Workdir() as directory, Namespace() as home:
        home.run("ip", "tuntap", "add", "rwa", "mode", "tap", "vnet_hdr", "user", "root")
        home.run("ip", "link", "set", "rwa", "up")
        argv = ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]
        with Daemon(directory, [tap_port("a")], netns=home.name, through=argv) as daemon:
            assert daemon.wait_port("a", "up")["origin"] == "taken over"


def test_sndbuf():
    with site([tap_port("a", sndbuf="64KiB", queues=2)]) as place:
        def sndbufs():
            return place.home.run("python3", "-c", SNDBUFS, place.daemon.pid).split()
        assert sndbufs() == ["65536", "65536"]
        place.daemon.rpc("port.set", name="a", sndbuf=None)
        assert sndbufs() == ["2147483647", "2147483647"]
        place.daemon.rpc("port.set", name="a", sndbuf=100_000)
        assert sndbufs() == ["100000", "100000"]


def test_scripts():
    """The up script runs when the interface is up, the down script before it goes, at exit as well."""
    with site([]) as place:
        log = place.directory / "log"
        script = write_program(place.directory / "script", f"""#!/bin/sh
{{ echo "$0 $#:$1" $(ls /proc/self/fd | wc -w); ip -br link show "$1" | cut -c 1-25; }} >> {log}
""")
        words = {"up_script": script, "down_script": script}
        place.daemon.rpc("port.add", **tap_port("a", **words))
        lines = log.read_text().splitlines()
        # 0 to 3, and the one of ls itself.
        assert lines[0] == f"{script} 1:rwa 5" and lines[1].startswith("rwa")
        place.daemon.rpc("port.remove", name="a")
        assert log.read_text().splitlines() == 2 * lines
        place.daemon.rpc("port.add", **tap_port("a", **words))
        place.daemon.stop()
        assert log.read_text().splitlines() == 4 * lines


@pytest.mark.parametrize("count", [10, 63, 70])
def test_notifications_behind_a_slow_request(count):
    """However many wait: the connection goes on when they are done, and is closed when its client goes."""
    with site([]) as place:
        descriptors = place.daemon.descriptors()
        script = write_program(place.directory / "script", "#!/bin/sh\nsleep 1\n")
        notes = [{"method": "port.add", "params": tap_port("slow", up_script=script)}]
        notes += [{"method": "port.set", "params": {"name": "slow", "labels": {"n": str(n)}}}
                  for n in range(count)]
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(place.daemon.socket))
            connection.sendall("".join(json.dumps({"jsonrpc": "2.0", **note}) for note in notes).encode())
            place.daemon.wait_port("slow", "up")
            connection.sendall(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "system.info"}).encode())
            assert json.loads(connection.recv(65536))["id"] == 1
        assert place.daemon.port("slow")["labels"] == {"n": str(count - 1)}
        place.daemon.rpc("port.remove", name="slow")
        assert place.daemon.descriptors() == descriptors


def test_a_down_script_that_fails():
    with site([tap_port("a", down_script="/bin/false")]) as place:
        place.daemon.rpc("port.remove", name="a")
        assert set(place.home.links()) == {"lo"}
        assert "/bin/false failed with status 1" in place.daemon.log()


def test_a_slow_script():
    with site([]) as place:
        script = write_program(place.directory / "script", "#!/bin/sh\nsleep 60 & sleep 60\n")
        with pytest.raises(RpcError) as refused:
            place.daemon.rpc("port.add", timeout=20, **tap_port("a", up_script=script))
        assert "not done after 10 s" in refused.value.message
        assert place.daemon.children() == [] and set(place.home.links()) == {"lo"}


def queue_counts(place, name, key="rx_packets"):
    return [queue[key] for queue in place.daemon.counters(name)["queues"]]


def test_queues_come_and_go():
    with site([tap_port("a", queues=4), tap_port("b")]) as place:
        for number, name in enumerate("ab"):
            place.move(f"rw{name}", number)
        data = place.hosts[0].links()["rwa"]["linkinfo"]["info_data"]
        assert (data["numqueues"], data["numdisabled"]) == (4, 0)
        for active in 1, 4, 2:
            place.daemon.rpc("port.set", name="a", active_queues=active)
            data = place.hosts[0].links()["rwa"]["linkinfo"]["info_data"]
            assert (data["numqueues"], data["numdisabled"]) == (active, 4 - active)
            assert place.daemon.port("a")["active_queues"] == active
            before = queue_counts(place, "a", "rx_packets"), queue_counts(place, "a", "tx_packets")
            assert place.iperf(0, 1, "-P", 8) > 50e6
            assert place.iperf(1, 0, "-P", 16) > 50e6
            for key, old in zip(("rx_packets", "tx_packets"), before):
                used = [new > was for new, was in zip(queue_counts(place, "a", key), old)]
                assert used == [number < active for number in range(4)], key


# Loads a socket filter that returns argv[1], and pins it at argv[2] (bpf(2)).
PINNER = """
import ctypes, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
code = struct.pack("<BBhi", 0xb7, 0, 0, int(sys.argv[1])) + struct.pack("<BBhi", 0x95, 0, 0, 0)
text, licence = ctypes.create_string_buffer(code), ctypes.create_string_buffer(b"BSD")
load = struct.pack("<IIQQIIQ", 1, 2, ctypes.addressof(text), ctypes.addressof(licence), 0, 0, 0)
program = libc.syscall(321, 5, ctypes.create_string_buffer(load.ljust(128, b"\\0")), 128)
assert program >= 0, ctypes.get_errno()
path = ctypes.create_string_buffer(sys.argv[2].encode())
pin = struct.pack("<QI", ctypes.addressof(path), program)
assert libc.syscall(321, 6, ctypes.create_string_buffer(pin.ljust(128, b"\\0")), 128) == 0, ctypes.get_errno()
"""


@contextlib.contextmanager
def pinned():
    """Programs that return 0 to 3, pinned in a file system of their own."""
    with Workdir() as directory:
        subprocess.run(["mount", "-t", "bpf", "bpf", directory], check=True)
        try:
            for number in range(4):
                subprocess.run(["python3", "-c", PINNER, str(number), directory / str(number)], check=True)
            yield directory
        finally:
            subprocess.run(["umount", directory], check=True)


def test_steering():
    """A program chooses the queue, another one takes its place, and without one the kernel spreads."""
    # The switch sees what was mounted before it was started.
    with pinned() as programs, site([tap_port("a", queues=4), tap_port("b")]) as place:
        for number, name in enumerate("ab"):
            place.move(f"rw{name}", number)

        def used():
            before = queue_counts(place, "a")
            place.iperf(0, 1, "-P", 8, seconds=1)
            return [new - old > 200 for old, new in zip(before, queue_counts(place, "a"))]

        for queue in 2, 1:
            place.daemon.rpc("port.set", name="a", steering=str(programs / str(queue)))
            assert used() == [number == queue for number in range(4)]
        with pytest.raises(RpcError) as refused:
            place.daemon.rpc("port.set", name="a", steering="/nowhere", mtu=1300)
        assert refused.value.data["field"] == "steering"
        assert place.daemon.port("a")["mtu"] == 1500
        place.daemon.rpc("port.set", name="a", steering=None)
        assert sum(used()) > 1


def test_what_waits_goes_with_its_queue():
    """A frame that the limit holds back, of a queue that is switched off, is dropped and counted."""
    limit = {"ingress": {"bandwidth": {"rate": "64kbit", "burst": "2KiB"}}}
    with pinned() as programs, site([tap_port("a", queues=2, limits=limit,
                                              steering=str(programs / "1")), tap_port("b")]) as place:
        for number, name in enumerate("ab"):
            place.move(f"rw{name}", number)
        place.hosts[0].run("ping", "-q", "-c", 1, "10.7.0.2")
        place.hosts[0].run("python3", "-c", FLOOD, 20)
        place.daemon.rpc("port.set", name="a", active_queues=1)
        wait_until(lambda: drops(place.daemon.counters("a")).get("rx.disabled") == 1, 10, "it is dropped")
        # The kernel's own queue was emptied, too.
        assert unclaimed(place.hosts[1]) < 20


def test_one_owner():
    """Of a device with several queues the kernel would give us some beside those of another owner."""
    with site([]) as place:
        owner = ["python3", "-c", "import fcntl, struct, time\n"
                 "tun = open('/dev/net/tun', 'r+b', buffering=0)\n"
                 "fcntl.ioctl(tun, 0x400454ca, struct.pack('16sH22x', b'rwa', 0x5102))\n"
                 "time.sleep(30)"]
        with Process(owner, place.directory, netns=place.home.name):
            wait_until(lambda: "rwa" in place.home.links(), 5, "the other owner has it")
            with pytest.raises(RpcError) as refused:
                place.daemon.rpc("port.add", **tap_port("a", queues=2))
            assert "another process has it open" in refused.value.message
        wait_until(lambda: "rwa" not in place.home.links(), 5, "the other owner is gone")
        place.daemon.rpc("port.add", **tap_port("a", queues=2))


def test_guest_to_host():
    """A QEMU guest and the kernel, with TSO both ways."""
    with site(lambda directory: [tap_port("host", addresses=["10.9.0.200/24"]),
                                 vhost_port(directory, "vm1")]) as place:
        with qemu_guest(place.directory, "vm1", 1) as guest:
            guest.wait_boot()
            place.daemon.wait_port("vm1", "up")
            guest.check("ping -c 3 10.9.0.200", 10)
            place.home.run("ping", "-q", "-c", 3, "-i", 0.1, guest.address)
            with open(place.directory / "iperf.log", "w") as log:
                with Process(["iperf3", "-s", "-1", "--forceflush"], place.directory,
                             netns=place.home.name, stdout=log, stderr=log):
                    assert guest.iperf("10.9.0.200", 3) > 50e6
            row = place.daemon.counters("vm1")
            assert row["rx_segments"] > 2 * row["rx_packets"]
