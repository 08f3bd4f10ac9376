#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Compares ringwayd with what one would take instead, in turns (A B A B ...) with the same guest.

The guest is one program (guest.c) with two virtio-user ports on one CPU, the switch runs on another
one. With --qemu: TCP between two Linux guests. Prints tables; judges nothing.
docs/performance.md says what is measured and why so; run.sh beside this file builds what is needed."""
import argparse
import collections
import contextlib
import functools
import itertools
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "system"))

from harness import (BUILD, CPUS, GUEST_CPU, SWITCH_CPU, Workdir, leftovers,  # noqa: E402
                     qemu_guests)
from switches import (Bare, DpdkProgram, HugePages, Ovs, Policed, Ringway, TestpmdIo,  # noqa: E402
                      unpack_ovs)

SWITCHES = ("ringway", "policed", "io", "bare", "ovs")
# Feature bits: VIRTIO_F_RING_PACKED and VIRTIO_F_IN_ORDER.
PACKED, IN_ORDER = 1 << 34, 1 << 35
LAYOUTS = {"split": 0, "packed": PACKED, "split-in-order": IN_ORDER,
           "packed-in-order": PACKED | IN_ORDER}
TRAFFIC = ("closed", "open")
SIZE_MIN, PLAIN_MAX, SIZE_MAX = 64, 1514, 65226

# One thing to measure with each switch.
Case = collections.namedtuple("Case", "layout traffic size")

# What one turn gave; cycles are the forwarding thread's, for one frame that arrived.
Result = collections.namedtuple("Result", "rate cycles lost")


def words(known):
    """A type for argparse: a list of known words."""
    def parse(text):
        chosen = text.split(",")
        if not set(chosen) <= set(known):
            raise argparse.ArgumentTypeError(f"of {','.join(known)}")
        return chosen
    return parse


def sizes(text):
    chosen = [int(size) for size in text.split(",")]
    if not all(SIZE_MIN <= size <= SIZE_MAX for size in chosen):
        raise argparse.ArgumentTypeError(f"{SIZE_MIN} to {SIZE_MAX} bytes")
    return chosen


def arguments():
    parser = argparse.ArgumentParser(prog="run.sh", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--switches", type=words(SWITCHES), default=["ringway", "io"], metavar="S,...",
                        help="of ringway, policed (the same with guard, VLAN and limits), io (testpmd), "
                        "bare (ringway's rings without a switch), ovs (OVS-DPDK; needs 1 GiB of huge "
                        "pages) (ringway,io)")
    parser.add_argument("--layout", type=words(LAYOUTS), default=["split"], metavar="L,...",
                        help="of the guest's rings: split, packed, split-in-order, packed-in-order "
                        "(split)")
    parser.add_argument("--traffic", type=words(TRAFFIC), default=["closed"], metavar="T,...",
                        help="closed: the same frames circulate; open: one way, as fast as it goes, "
                        "every payload written anew (closed)")
    parser.add_argument("--sizes", type=sizes, default=[64, 1500], metavar="BYTES,...",
                        help=f"of the frames; beyond {PLAIN_MAX}, up to {SIZE_MAX}, they are TSO "
                        "frames (64,1500)")
    parser.add_argument("--turns", type=int, default=5, metavar="N",
                        help="of each switch in each case (5)")
    parser.add_argument("--seconds", type=float, default=2, metavar="S",
                        help="measured in each turn (2)")
    parser.add_argument("--qemu", action="store_true", help="TCP between Linux guests instead")
    options = parser.parse_args()
    if options.turns < 1 or options.seconds <= 0:
        parser.error("at least one turn, and more than no time")
    if len(CPUS) < 2:
        parser.error("two CPUs are needed, one for the switch and one for the guest")
    return options


def round_trip():
    """Nanoseconds for one atomic to the other CPU and back."""
    argv = [BUILD / "tests/bench/roundtrip", str(GUEST_CPU), str(SWITCH_CPU)]
    result = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60)
    return float(result.stdout)


def mood_of(before, after):
    if max(before, after) < 100:
        return "near"
    # No two CPUs are more than 1,000 ns apart: there somebody else was running on one of them.
    return "far" if 200 < min(before, after) and max(before, after) < 1000 else "other"


def with_mood(measure):
    """Runs measure() between two round trips; returns its result, the mood and a text of both."""
    before = round_trip()
    result = measure()
    after = round_trip()
    return result, mood_of(before, after), f"{before:4.0f} -> {after:4.0f} ns"


class Guest(DpdkProgram):
    """guest.c, on the switch's two sockets."""

    # In a closed loop, for each port: all that a ring holds, so that none can overflow.
    FRAMES, TSO_FRAMES = 256, 8

    def __init__(self, directory, switch, case):
        self.layout = LAYOUTS[case.layout]
        more = (f"queue_size=256,mrg_rxbuf=1,packed_vq={self.layout & PACKED != 0:d},"
                f"in_order={self.layout & IN_ORDER != 0:d}" + ",server=1" * switch.guest_is_server)
        vdevs = [f"net_virtio_user{n},path={path},mac=52:54:00:00:01:0{n},{more}"
                 for n, path in enumerate(switch.sockets)]
        frames = self.FRAMES if case.size <= PLAIN_MAX else self.TSO_FRAMES
        traffic = ["--fresh"] if case.traffic == "open" else ["--frames", frames]
        super().__init__("guest", directory, GUEST_CPU, 128, ["--size", case.size, *traffic], vdevs,
                         ["--log-level", "pmd.net.virtio.init:debug"])

    def wait_ready(self):
        """Waits until frames go both ways; fails where the rings have another layout than wanted."""
        self.expect("ready\n", 20)
        features = re.findall("features after negotiate = ([0-9a-f]+)", self.text)
        if not features or any(int(mask, 16) & (PACKED | IN_ORDER) != self.layout
                               for mask in features):
            raise RuntimeError(f"this layout of rings was not negotiated; features: {features}")

    def counters(self, line=""):
        """Frames so far: sent, received whole, received cut or changed."""
        return self.ask(line, r"sent (\d+) received (\d+) wrong (\d+)")


def one_turn(make_switch, case, seconds):
    with Workdir() as directory, make_switch(directory) as switch, \
            Guest(directory, switch, case) as guest:
        guest.wait_ready()
        time.sleep(0.3)  # caches are warm, flows are set up
        start, frames, cycles = sample(guest, switch)
        time.sleep(seconds)
        end, frames_then, cycles_then = sample(guest, switch)
        sent, received, wrong = guest.counters("stop")
        what = f"{switch.name}, {case.layout}, {case.traffic}, {case.size} bytes"
        if wrong > 0:
            raise RuntimeError(f"{what}: {wrong} of {sent} frames arrived cut or changed")
        if received < sent and case.traffic == "closed":
            raise RuntimeError(f"{what}: {sent - received} frames were lost")
        if frames_then == frames or cycles_then[1] == cycles[1]:
            raise RuntimeError(f"{what}: no traffic")
    arrived = received / sent
    return Result((frames_then - frames) / (end - start),
                  (cycles_then[0] - cycles[0]) / (cycles_then[1] - cycles[1]) / arrived, 1 - arrived)


def sample(guest, switch):
    return time.monotonic(), guest.counters()[1], switch.cycles()


HEAD = f"{'layout':<15} {'loop':<6} {'bytes':>5}"
FIGURES = f"{'Mpps':>7} {'cycles':>7} {'B/cycle':>7} {'lost':>6}"


def case_text(case):
    return f"{case.layout:<15} {case.traffic:<6} {case.size:>5}"


def figures(case, result):
    return (f"{result.rate / 1e6:>7.3f} {result.cycles:>7.0f} {case.size / result.cycles:>7.2f} "
            f"{result.lost:>6.2%}")


def bench_frames(options, stack):
    make = {"ringway": Ringway, "policed": Policed, "io": TestpmdIo, "bare": Bare}
    if "ovs" in options.switches:
        root, huge = unpack_ovs(BUILD), stack.enter_context(HugePages())
        make["ovs"] = functools.partial(Ovs, root=root, huge=huge)
    results = {}  # (case, mood): {switch: [Result]}
    print(f"{HEAD} {'turn':>4} {'switch':<8} {'round trip':<15} {'mood':<6} {FIGURES}")
    for case in itertools.starmap(Case, itertools.product(options.layout, options.traffic,
                                                          options.sizes)):
        for turn, name in itertools.product(range(1, options.turns + 1), options.switches):
            result, mood, trip = with_mood(lambda: one_turn(make[name], case, options.seconds))
            results.setdefault((case, mood), {}).setdefault(name, []).append(result)
            print(f"{case_text(case)} {turn:>4} {name:<8} {trip:<15} {mood:<6} "
                  f"{figures(case, result)}", flush=True)
    print_medians(results)


def print_medians(results):
    """Medians of each mood, and ringway's as ratios to the others'."""
    print(f"\nmedians\n{HEAD} {'mood':<6} {'switch':<8} {'turns':>5} {FIGURES}   "
          "ringway / this: rate, cycles")
    for (case, mood), turns in results.items():
        medians = {name: Result(*map(statistics.median, zip(*rows))) for name, rows in turns.items()}
        ours = medians.get("ringway")
        for name, this in medians.items():
            ratios = ""
            if ours and name != "ringway":
                ratios = f"   {ours.rate / this.rate:.2f}, {ours.cycles / this.cycles:.2f}"
            print(f"{case_text(case)} {mood:<6} {name:<8} {len(turns[name]):>5} "
                  f"{figures(case, this)}{ratios}")


def guest_to_guest(make_switch, seconds):
    """One turn of TCP between two Linux guests with TSO: returns (Gbit/s, cycles a byte)."""
    seconds = max(1, round(seconds))
    with Workdir() as directory, make_switch(directory) as switch, \
            qemu_guests(directory, "a", "b") as (sender, receiver):
        for guest in (sender, receiver):
            if "tcp-segmentation-offload: on" not in guest.check("ethtool -k eth0"):
                raise RuntimeError(f"guest {guest.name} has no TSO through {switch.name}")
        sender.iperf(receiver.address, 1)
        before = switch.cycles()[0]
        rate = sender.iperf(receiver.address, seconds)
        cycles = switch.cycles()[0] - before
        return rate / 1e9, cycles / (rate / 8 * seconds)


def bench_qemu(options):
    pairs = []
    print(f"{'turn':>4} {'switch':<8} {'round trip':<15} {'mood':<6} {'Gbit/s':>7} "
          f"{'cycles a byte':>13}")
    for turn in range(1, options.turns + 1):
        pair = []
        for make in (Ringway, TestpmdIo):
            result, mood, trip = with_mood(lambda: guest_to_guest(make, options.seconds))
            pair.append(result)
            print(f"{turn:>4} {make.name:<8} {trip:<15} {mood:<6} {result[0]:>7.3f} "
                  f"{result[1]:>13.3f}", flush=True)
        pairs.append(pair)
    rate = statistics.median(ours[0] / theirs[0] for ours, theirs in pairs)
    cycles = statistics.median(ours[1] / theirs[1] for ours, theirs in pairs)
    print(f"\nringway / io, median over {len(pairs)} pairs: rate {rate:.2f}, "
          f"cycles a byte {cycles:.2f}")


def main():
    options = arguments()
    # Unwind: the huge pages go back, and all processes end.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with contextlib.ExitStack() as stack:
            if options.qemu:
                bench_qemu(options)
            else:
                bench_frames(options, stack)
    except KeyboardInterrupt:
        sys.exit("interrupted")
    finally:
        for item in leftovers():
            print(f"left behind: {item}", file=sys.stderr)


if __name__ == "__main__":
    main()
