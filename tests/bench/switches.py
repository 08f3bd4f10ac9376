# SPDX-License-Identifier: BSD-3-Clause
"""The switches that bench.py compares, each with two vhost-user ports and one forwarding thread on
one CPU. Each is a context manager; `sockets` are for the guest, and cycles() tells the forwarding
thread's busy cycles and frames since it started."""
import contextlib
import pathlib
import re
import subprocess
import tempfile

from harness import (BUILD, SWITCH_CPU, GUEST_CPU, Console, Daemon, Process, Testpmd, vhost_port,
                     wait_until)

NAMES = ("a", "b")


class Ringway(Daemon):
    """The daemon under test."""

    name = "ringway"
    guest_is_server = False

    def __init__(self, directory):
        self.sockets = [directory / f"{name}.sock" for name in NAMES]
        super().__init__(directory, [vhost_port(directory, name, **self.keys(number))
                                     for number, name in enumerate(NAMES)])

    def keys(self, _number):
        return {}

    def cycles(self):
        worker = self.rpc("worker.list")[0]
        return worker["busy_cycles"], worker["packets"]


class Policed(Ringway):
    """The same with all that a port may be held to, none of which this traffic exceeds."""

    name = "policed"

    def keys(self, number):
        limit = {"bandwidth": {"rate": "1Tbit"}, "packets": {"rate": 1000000000}}
        return {"mac": f"52:54:00:00:01:0{number}", "guard": "ip", "allowed": ["10.0.0.1"],
                "vlan": {"access": 10}, "max_addresses": 8,
                "storm": {"unknown": 1000000, "broadcast": 1000, "multicast": 1000},
                "limits": {"ingress": limit, "egress": {**limit, "excess": "queue"}}}


class DpdkProgram(Console):
    """A program of this folder, on EAL with two threads: its main one, and one that polls on `cpu`.
    Answers each line with numbers."""

    TTY = False

    def __init__(self, program, directory, cpu, memory, arguments, vdevs=(), more=()):
        devices = [word for vdev in vdevs for word in ("--vdev", vdev)]
        super().__init__(
            [BUILD / "tests/bench" / program, "--no-huge", "-m", memory, "--no-pci",
             "--file-prefix", program, "--lcores", f"0@{GUEST_CPU},1@{cpu}", *devices,
             *more, "--", *arguments], directory)

    def ask(self, line, pattern, timeout=10):
        self.send(line)
        return tuple(map(int, self.expect(pattern, timeout).groups()))


class Bare(DpdkProgram):
    """The ring engine with nothing around it (bare.c): how far the switch could get."""

    name = "bare"
    guest_is_server = False

    def __init__(self, directory):
        self.sockets = [directory / f"{name}.sock" for name in NAMES]
        super().__init__("bare", directory, SWITCH_CPU, 256, [directory])
        for socket in self.sockets:
            wait_until(socket.exists, 10, f"{socket} is there")

    def cycles(self):
        return self.ask("", r"cycles (\d+) frames (\d+)")


class TestpmdIo(Testpmd):
    """What librte_vhost gives with no switching at all: frames leave on the other port. Without
    the legacy flags this forwarding mode would lose the offload headers."""

    name = "io"
    guest_is_server = False

    def __init__(self, directory):
        self.sockets = [directory / f"{name}.sock" for name in NAMES]
        vdevs = [f"net_vhost{n},iface={socket},tso=1,legacy-ol-flags=1"
                 for n, socket in enumerate(self.sockets)]
        super().__init__(directory, "switch", vdevs, SWITCH_CPU, ["--forward-mode=io"], memory=128)
        self.command("set record-core-cycles on")
        self.command("start")

    def cycles(self):
        text = self.command("show fwd stats all")
        total = re.search(r"total cycles=(\d+) / total io packets=(\d+)", text)
        return (int(total[1]), int(total[2])) if total else (0, 0)


class HugePages:
    """At least 1 GiB of huge pages and a mount of them, for as long as it is entered."""

    COUNT = pathlib.Path("/proc/sys/vm/nr_hugepages")
    WANTED = 512  # of 2 MiB

    def __enter__(self):
        self.before = int(self.COUNT.read_text())
        self.stack = contextlib.ExitStack()
        with self.stack:
            meminfo = pathlib.Path("/proc/meminfo").read_text()
            free = int(re.search(r"HugePages_Free:\s+(\d+)", meminfo)[1])
            if free < self.WANTED:
                self.stack.callback(self.COUNT.write_text, str(self.before))
                self.COUNT.write_text(str(self.before + self.WANTED - free))
                got = int(self.COUNT.read_text())
                if got < self.before + self.WANTED - free:
                    raise RuntimeError(f"only {got} huge pages could be had for OVS")
            mount = tempfile.mkdtemp(prefix="ringway-huge-")
            self.stack.callback(pathlib.Path(mount).rmdir)
            subprocess.run(["mount", "-t", "hugetlbfs", "-o", "pagesize=2M", "none", mount],
                           check=True)
            self.stack.callback(subprocess.run, ["umount", mount], check=True)
            self.stack = self.stack.pop_all()
        return mount

    def __exit__(self, *unused):
        self.stack.close()


class Ovs:
    """Open vSwitch with DPDK 22.11 as Debian has it, unpacked into `root` and not installed: a
    learning bridge with two vhost-user client ports. It alone needs huge pages (`huge`, a mounted
    hugetlbfs)."""

    name = "ovs"
    guest_is_server = True

    def __init__(self, directory, root, huge):
        self.directory, self.root = directory, root
        self.sockets = [directory / f"{name}.sock" for name in NAMES]
        self.database = f"unix:{directory}/db.sock"
        self.control = directory / "vswitchd.ctl"
        self.stack = contextlib.ExitStack()
        with self.stack:
            self.start(huge)
            self.stack = self.stack.pop_all()

    def start(self, huge):
        schema = self.root / "usr/share/openvswitch/vswitch.ovsschema"
        self.tool("usr/bin/ovsdb-tool", "create", self.directory / "conf.db", schema)
        self.run("usr/sbin/ovsdb-server", self.directory / "conf.db",
                 f"--remote=p{self.database}", f"--unixctl={self.directory}/ovsdb.ctl")
        wait_until((self.directory / "db.sock").exists, 10, "ovsdb-server answers")
        self.vsctl("--no-wait", "init")
        self.vsctl("--no-wait", "set", "Open_vSwitch", ".", "other_config:dpdk-init=true",
                   "other_config:dpdk-socket-mem=1024",
                   f"other_config:dpdk-lcore-mask={1 << GUEST_CPU:#x}",
                   f"other_config:pmd-cpu-mask={1 << SWITCH_CPU:#x}",
                   f"other_config:dpdk-extra=--no-pci --file-prefix ovs --huge-dir {huge}")
        self.run("usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk", self.database,
                 f"--unixctl={self.control}")
        wait_until(self.control.exists, 30, "ovs-vswitchd answers")
        self.vsctl("add-br", "ringway-bench", "--", "set", "bridge", "ringway-bench",
                   "datapath_type=netdev")
        for socket in self.sockets:
            self.vsctl("add-port", "ringway-bench", socket.stem,
                       "--", "set", "Interface", socket.stem, "type=dpdkvhostuserclient",
                       f"options:vhost-server-path={socket}")

    def run(self, program, *arguments):
        with open(self.directory / "ovs.log", "ab") as log:
            # A network namespace of its own: in ours the bridge's interfaces would outlive it.
            self.stack.enter_context(Process(
                ["unshare", "--net", self.root / program, *arguments, "--no-chdir"], self.directory,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log))

    def tool(self, program, *arguments):
        return subprocess.run([self.root / program, *arguments], check=True, capture_output=True,
                              text=True, timeout=60).stdout

    def vsctl(self, *arguments):
        self.tool("usr/bin/ovs-vsctl", f"--db={self.database}", "--timeout=30", *arguments)

    def cycles(self):
        text = self.tool("usr/bin/ovs-appctl", "-t", self.control, "dpif-netdev/pmd-stats-show")
        total = re.search(r"avg processing cycles per packet: [\d.]+ \((\d+)/(\d+)\)", text)
        return (int(total[1]), int(total[2])) if total else (0, 0)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.stack.close()


def unpack_ovs(directory):
    """Unpacks OVS-DPDK below `directory` unless it is there; returns where its files are."""
    root = directory / "ovs"
    if not root.exists():
        with tempfile.TemporaryDirectory(dir=directory) as work:
            subprocess.run(["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root",
                            "openvswitch-common", "openvswitch-switch", "openvswitch-switch-dpdk"],
                           cwd=work, check=True, stdout=subprocess.DEVNULL)
            for package in pathlib.Path(work).glob("*.deb"):
                subprocess.run(["dpkg-deb", "-x", package, f"{work}/root"], check=True)
            pathlib.Path(work, "root").rename(root)
    return root
