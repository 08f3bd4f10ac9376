#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Compares ways between a QEMU guest and its host's kernel, in turns (A B A B ...): the switch with a
vhost-user and a TAP port, and QEMU's own TAP device. TCP both ways by iperf3. Prints a table; judges
nothing. QEMU and iperf3 may use all CPUs, the switch polls on the last one and sleeps when idle.

    sudo tests/bench/guest_host.py [--turns N] [--seconds S]          # after a build"""
import argparse
import contextlib
import json
import pathlib
import statistics
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "system"))

from harness import (CPUS, Daemon, Namespace, Process, Workdir, leftovers, qemu_guest,  # noqa: E402
                     vhost_port, wait_until)

HOST = "10.9.0.200"
KINDS = ("ringway", "qemu")


def start(stack, kind, directory, home):
    """A guest and the host's interface, with a way between them."""
    options = {"netns": home.name, "cpus": CPUS}
    if kind == "ringway":
        ports = [vhost_port(directory, "vm1"),
                 {"name": "host", "type": "tap", "interface": "t0", "addresses": [f"{HOST}/24"]}]
        stack.enter_context(Daemon(directory, ports, netns=home.name, idle="adaptive"))
        return stack.enter_context(qemu_guest(directory, "vm1", 1, **options))
    guest = stack.enter_context(qemu_guest(directory, "vm1", 1, tap="t0", **options))
    wait_until(lambda: "t0" in home.links(), 10, "QEMU has made its interface")
    home.run("ip", "address", "add", f"{HOST}/24", "dev", "t0")
    home.run("ip", "link", "set", "t0", "up")
    return guest


def measure(kind, seconds):
    """Bits per second from guest to host, and back."""
    with contextlib.ExitStack() as stack:
        directory, home = stack.enter_context(Workdir()), stack.enter_context(Namespace())
        guest = start(stack, kind, directory, home)
        guest.wait_boot()
        home.run("ping", "-q", "-c", 2, "-i", 0.2, guest.address)
        log = stack.enter_context(open(directory / "iperf.log", "w"))
        stack.enter_context(Process(["iperf3", "-s", "-1", "--forceflush"], directory, netns=home.name,
                                    stdout=log, stderr=log))
        wait_until(lambda: "listening" in (directory / "iperf.log").read_text(), 5, "iperf3 listens")
        to_host = guest.iperf(HOST, seconds)
        guest.check("iperf3 -s -D", 10)
        wait_until(lambda: "5201" in guest.check("netstat -ltn", 10), 10, "iperf3 listens in the guest")
        answer = home.run("iperf3", "-c", guest.address, "-t", seconds, "-J", timeout=seconds + 30)
        return to_host, json.loads(answer)["end"]["sum_received"]["bits_per_second"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    wish = parser.parse_args()
    turns = [[measure(kind, wish.seconds) for kind in KINDS] for _ in range(wish.turns)]
    print("Gbit/s, median of", wish.turns, "turns   ", *(f"{kind:>10}" for kind in KINDS), "     ratio")
    for way, name in enumerate(("guest to host", "host to guest")):
        medians = [statistics.median(turn[kind][way] for turn in turns) / 1e9 for kind in range(2)]
        ratio = statistics.median(turn[0][way] / turn[1][way] for turn in turns)
        print(f"{name:28}", *(f"{value:10.2f}" for value in medians), f"{ratio:10.2f}")
    assert not leftovers(), leftovers()


if __name__ == "__main__":
    main()
