#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Compares ways between two hosts' kernels, in turns (A B A B ...): two network namespaces, and
between them what --kinds names. Prints a table; judges nothing.

The hosts' programs run on one CPU, a switch that polls on another one; the kernel's bridge, which
runs wherever its callers do, has both. docs/performance.md has figures. After a build:

    sudo tests/bench/host.py [--kinds net_tap,bridge,tap,af_packet] [--turns N] [--seconds S]"""
import argparse
import contextlib
import json
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "system"))

from harness import (BUILD, CPUS, GUEST_CPU, SWITCH_CPU, Daemon, Namespace, Process,  # noqa: E402
                     Testpmd, Workdir, leftovers, wait_until)

FRAME = 60  # 64 bytes on a wire, with FCS


class Place:
    """The switch's namespace, two hosts', and a directory."""

    def __init__(self, stack):
        self.stack = stack
        self.directory = stack.enter_context(Workdir())
        self.home = stack.enter_context(Namespace())
        self.hosts = [stack.enter_context(Namespace()) for _ in range(2)]
        self.cpus = [GUEST_CPU]  # of the hosts' programs

    def give(self, interfaces):
        """Each host gets one of the two interfaces."""
        for number, (interface, host) in enumerate(zip(interfaces, self.hosts)):
            self.home.run("ip", "link", "set", interface, "netns", host.name)
            # Nothing but what is measured is on the way.
            host.run("sysctl", "-qw", f"net.ipv6.conf.{interface}.disable_ipv6=1")
            host.run("ip", "link", "set", interface, "name", "eth0")
            host.run("ip", "address", "add", f"10.8.0.{number + 1}/24", "dev", "eth0")
            host.run("ip", "link", "set", "eth0", "up")

    def make_veths(self):
        """A pair for each host; returns the ends that stay."""
        for name in "ab":
            self.home.run("ip", "link", "add", f"p{name}", "type", "veth", "peer", "name", f"h{name}")
            self.home.run("sysctl", "-qw", f"net.ipv6.conf.p{name}.disable_ipv6=1")
            self.home.run("ip", "link", "set", f"p{name}", "up")
        self.give(["ha", "hb"])
        return ["pa", "pb"]

    def host_argv(self, number, *command):
        return ["ip", "netns", "exec", self.hosts[number].name, "taskset", "-c",
                ",".join(map(str, self.cpus)), *map(str, command)]

    def run(self, number, *command, timeout=60):
        done = subprocess.run(self.host_argv(number, *command), stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=timeout)
        if done.returncode != 0:
            raise RuntimeError(f"{command}: {done.stdout}")
        return done.stdout

    def bits(self, seconds):
        """Bits a second of a TCP connection."""
        log = self.directory / "iperf.log"
        with open(log, "w") as output:
            with Process(self.host_argv(1, "iperf3", "-s", "-1", "--forceflush"), self.directory,
                         stdout=output, stderr=output):
                wait_until(lambda: "listening" in log.read_text(), 5, "iperf3 listens")
                result = json.loads(self.run(0, "iperf3", "-c", "10.8.0.2", "-t", seconds, "-J"))
        return result["end"]["sum_received"]["bits_per_second"]

    def frames(self, seconds):
        """Small frames a second that arrive, while as many are sent as can be."""
        def arrived():
            link = json.loads(self.hosts[1].run("ip", "-s", "-j", "link", "show", "eth0"))[0]
            return link["stats64"]["rx"]["packets"], link["address"]
        before, mac = arrived()
        self.run(0, BUILD / "tests/bench/flood", "eth0", mac, FRAME, seconds)
        return (arrived()[0] - before) / seconds


def net_tap(place):
    """testpmd with two net_tap ports; it forwards what comes from one to the other, unseen."""
    with place.home.entered():
        pmd = place.stack.enter_context(Testpmd(
            place.directory, "host", [f"net_tap{n},iface=rw{n}" for n in range(2)], SWITCH_CPU,
            ["--forward-mode=io"]))
    place.give(["rw0", "rw1"])
    pmd.command("start")


def bridge(place):
    """The kernel's bridge between two veth pairs."""
    place.cpus = CPUS
    place.home.look_away()
    place.home.run("ip", "link", "add", "bridge", "type", "bridge")
    for interface in place.make_veths():
        place.home.run("ip", "link", "set", interface, "master", "bridge")
    place.home.run("ip", "link", "set", "bridge", "up")


def ringway(place, kind, interfaces):
    ports = [{"name": name, "type": kind, "interface": interface}
             for name, interface in zip("ab", interfaces)]
    place.stack.enter_context(Daemon(place.directory, ports, netns=place.home.name))


def tap(place):
    """ringway with two TAP ports."""
    ringway(place, "tap", ["rw0", "rw1"])
    place.give(["rw0", "rw1"])


def af_packet(place):
    """ringway with two AF_PACKET ports, each on one end of a veth pair."""
    ringway(place, "af_packet", place.make_veths())


KINDS = {make.__name__: make for make in (net_tap, bridge, tap, af_packet)}


def measure(kind, seconds):
    """Returns (bits a second, small frames a second) of one turn."""
    with contextlib.ExitStack() as stack:
        place = Place(stack)
        KINDS[kind](place)
        place.run(0, "ping", "-q", "-c", 1, "-w", 10, "10.8.0.2")
        return place.bits(seconds), place.frames(seconds)


def arguments():
    def kinds(text):
        if not set(text.split(",")) <= set(KINDS):
            raise argparse.ArgumentTypeError(f"of {','.join(KINDS)}")
        return text.split(",")
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", type=kinds, default=list(KINDS),
                        help="what is compared; ratios are to the first")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3, help="of each measurement")
    return parser.parse_args()


def main():
    wish = arguments()
    results = {kind: [] for kind in wish.kinds}
    for turn in range(wish.turns):
        for kind in wish.kinds:
            results[kind].append(measure(kind, wish.seconds))
            bits, frames = results[kind][-1]
            print(f"turn {turn + 1} {kind}: {bits / 1e9:.2f} Gbit/s, {frames / 1e6:.3f} Mpps",
                  file=sys.stderr)
    medians = {kind: [statistics.median(column) for column in zip(*rows)]
               for kind, rows in results.items()}
    base = medians[wish.kinds[0]]
    print(f"| between | TCP, Gbit/s | to {wish.kinds[0]} | 64 B, Mpps | to {wish.kinds[0]} |")
    print("| --- | --- | --- | --- | --- |")
    for kind, (bits, frames) in medians.items():
        print(f"| {kind} | {bits / 1e9:.2f} | {bits / base[0]:.1f} | {frames / 1e6:.3f} | "
              f"{frames / base[1]:.1f} |")
    for what in leftovers():
        print(f"left behind: {what}", file=sys.stderr)


if __name__ == "__main__":
    main()
