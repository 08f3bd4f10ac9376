#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Are limits met? Sets rates, has a sender send more, and compares with what the receiver counts:
testpmd for plain frames, between two ports of a guest; the receiving kernel for 64 KiB TSO frames,
between two TAP ports; guest.c for rates that these do not reach. Prints a table; a rate that the machine
cannot carry is said to be so.

Each row is the median of several windows. A sender that is away for a moment leaves what it earned in
the bucket, which holds half a second of the rate: that counts as if it had come. A machine that others
use may be away for longer; then only more windows help. After a build:

    sudo [WORKERS=2] tests/bench/rates.py [--windows N] [--seconds S] [--short | --bulk]
        [--queues N ...]"""
import argparse
import contextlib
import json
import pathlib
import statistics
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "system"))

from harness import (Daemon, Process, TestpmdGuest, Workdir, leftovers, vhost_port,  # noqa: E402
                     wait_until)
from bench import PLAIN_MAX, Case, Guest  # noqa: E402
from switches import Ringway  # noqa: E402
from test_limits import measure  # noqa: E402
from test_tap import site, tap_port  # noqa: E402

BANDWIDTHS = [1e6, 1e7, 1e8, 1e9, 1e10, 4e10]
PACKETS = [1e3, 1e5, 5e6]
SIZES = [60, 1500]  # without FCS
BULK_SIZES = [64, 1500, 65226]
PAYLOAD, SEGMENT = 1448, 1514  # of a full TCP segment
HEADERS = 54  # of guest.c's, without options
TOLERANCE = 0.01
FRAMES = 200  # a window has at least so many


def late(bed):
    """Frames that found no room at the receiver."""
    return bed.daemon.counters(bed.receiver)["tx_dropped"].get("ring_full", 0)


class Plain:
    """Frames of one size from port b of the switch to port a, as many as testpmd can send."""

    def __init__(self, stack, size, queues):
        self.name, self.size, self.segments = f"{size} B", size, 1
        directory = stack.enter_context(Workdir())
        ports = [vhost_port(directory, name, queues=queues) for name in "ab"]
        self.daemon = stack.enter_context(Daemon(directory, ports))
        sockets = [directory / f"{name}.sock" for name in "ab"]
        self.guest = stack.enter_context(TestpmdGuest(directory, sockets, queues=queues))
        for name in "ab":
            self.daemon.wait_port(name, "up")
        self.guest.command("set fwd flowgen")
        self.guest.command(f"set txpkts {size + 4}")  # counts the FCS in
        self.guest.command("start")
        self.sender, self.receiver = "b", "a"

    def count(self, charged_first):
        """Packets that were received, and those that were charged before they found no room."""
        return self.guest.port_stats()[0]["rx"] + (late(self) if charged_first else 0)


class Segmented:
    """One TCP connection between two kernels, in 64 KiB frames that stand for 1,514-byte packets."""

    def __init__(self, stack, queues):
        self.name, self.size, self.segments = "64 KiB", SEGMENT, 45
        place = stack.enter_context(site([tap_port("a", queues=queues), tap_port("b")]))
        for number, name in enumerate("ab"):
            place.move(f"rw{name}", number)
        self.host, self.daemon = place.hosts[1], place.daemon
        log = stack.enter_context(open(place.directory / "iperf.log", "w"))
        stack.enter_context(Process(["iperf3", "-s", "--forceflush"], place.directory,
                                    netns=self.host.name, stdout=log, stderr=log))
        wait_until(lambda: "listening" in (place.directory / "iperf.log").read_text(), 5, "iperf3 listens")
        # As many connections as queues, and never an end.
        stack.enter_context(Process(
            ["iperf3", "-c", "10.7.0.2", "-t", "86400", "-C", "cubic", "-P", str(queues)],
            place.directory, netns=place.hosts[0].name, stdout=log, stderr=log))
        self.sender, self.receiver = "a", "b"

    def count(self, charged_first):
        stats = json.loads(self.host.run("ip", "-s", "-j", "link", "show", "dev", "rwb"))[0]["stats64"]["rx"]
        return (stats["bytes"] - 66 * stats["packets"]) / PAYLOAD


class Bulk:
    """Frames of guest.c from port a to port b, for rates that testpmd does not reach."""

    def __init__(self, stack, size):
        self.name, self.segments = f"{size} B", 1
        if size > PLAIN_MAX:
            self.segments = -(-(size - HEADERS) // PAYLOAD)
        self.size = (size + (self.segments - 1) * HEADERS) / self.segments
        directory = stack.enter_context(Workdir())
        self.daemon = stack.enter_context(Ringway(directory))
        self.guest = stack.enter_context(Guest(directory, self.daemon, Case("split", "open", size)))
        self.guest.wait_ready()
        self.sender, self.receiver = "a", "b"

    def count(self, charged_first):
        return self.segments * (self.guest.counters()[1] + (late(self) if charged_first else 0))


def windows(bed, seconds, count, port=None, direction=None, kind=None):
    """Packets a second, each window by a clock that is right to 0.4%."""
    def earned():
        if port is None:
            return bed.count(False)
        left = bed.daemon.port(port)["limits"][direction][kind]["tokens"]
        return bed.count(direction == "ingress") + (left if kind == "packets" else left / bed.size)

    return [measure(earned, seconds) / 8 for _ in range(count)]


def row(bed, kind, direction, excess, rate, unlimited, options):
    packets = rate if kind == "packets" else rate / 8 / bed.size
    seconds = max(options.seconds, FRAMES * bed.segments / packets)
    if unlimited < 1.1 * packets:
        return None, f"the machine carries {unlimited:.3g} packets/s"
    if seconds > 30:
        return None, f"{FRAMES} frames take {seconds:.0f} s"
    per_second = rate if kind == "packets" else rate / 8
    bucket = {"rate": int(rate), "burst": int(min(max(per_second / 2, 1), 1 << 32))}
    port = bed.sender if direction == "ingress" else bed.receiver
    bed.daemon.rpc("port.set", name=port, limits=None)
    bed.daemon.rpc("port.set", name=port, limits={direction: {kind: bucket, "excess": excess}})
    # What the bucket held is gone after a while.
    deadline = time.monotonic() + 20
    while (bed.daemon.port(port)["limits"][direction][kind]["tokens"] > bucket["burst"] / 2
           and time.monotonic() < deadline):
        time.sleep(0.1)
    measured = statistics.median(windows(bed, seconds, options.windows, port, direction, kind))
    bed.daemon.rpc("port.set", name=port, limits=None)
    if measured < (1 - TOLERANCE) * packets:
        # CPUs that were near each other may be far apart now.
        unlimited = windows(bed, 1, 1)[0]
        if unlimited < 1.1 * packets:
            return None, f"the machine carries {unlimited:.3g} packets/s now"
    return measured / packets * rate, ""


def beds(options):
    """Queues, and how to make what is measured; the kinds of limits there, with their rates."""
    kinds = [("bandwidth", [1e7, 1e8, 1e9] if options.short else BANDWIDTHS),
             ("packets", [1e3, 1e5] if options.short else PACKETS)]
    for queues in [] if options.bulk else options.queues:
        for size in SIZES:
            yield queues, lambda stack, size=size, queues=queues: Plain(stack, size, queues), kinds
        yield queues, lambda stack, queues=queues: Segmented(stack, queues), kinds
    kinds = [("bandwidth", BANDWIDTHS[-2:]), ("packets", PACKETS[-1:])]
    for size in [] if options.short else BULK_SIZES:
        yield 1, lambda stack, size=size: Bulk(stack, size), kinds


def table(options):
    """Prints the rows; returns those that miss."""
    missed = []
    print(f"{'frames':8}{'queues':>7}  {'limit':24}{'set':>12}{'measured':>14}{'error':>9}")
    for queues, make, kinds in beds(options):
        with contextlib.ExitStack() as stack:
            bed = make(stack)
            time.sleep(1)
            unlimited = statistics.median(windows(bed, 1, 3))
            for kind, rates in kinds:
                for direction, excess in ("ingress", "pause"), ("egress", "queue"):
                    for rate in rates:
                        got, remark = row(bed, kind, direction, excess, rate, unlimited, options)
                        error = "" if got is None else f"{got / rate - 1:+.2%}"
                        shown = "" if got is None else f"{got:.6g}"
                        if got is not None and abs(got / rate - 1) > TOLERANCE:
                            missed.append((bed.name, queues, kind, direction, rate, got))
                            remark = "missed"
                        print(f"{bed.name:8}{queues:7}  {direction + ' ' + kind:24}{rate:12.6g}"
                              f"{shown:>14}{error:>9}  {remark}", flush=True)
    return missed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--windows", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2, help="of a window, at least")
    parser.add_argument("--short", action="store_true", help="fewer rates")
    parser.add_argument("--queues", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--bulk", action="store_true", help="only what testpmd is too slow for")
    missed = table(parser.parse_args())
    assert leftovers() == []
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
