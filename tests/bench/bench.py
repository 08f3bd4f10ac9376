#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Compares ringwayd with what one would take instead, in turns (A B A B ...) with the same guest.

The guest is one testpmd with two virtio-user ports in a closed loop on one CPU, the switch runs on
another one. With --qemu: TCP between two Linux guests. Prints tables; judges nothing.

The CPUs of a virtual machine may be near each other or far apart, and that changes within seconds.
So a round trip between them is measured before and after each turn, and only turns of one mood are
compared: near (both under 100 ns), far (both from 200 to 1,000 ns), other. run.sh beside this file
builds what is needed."""
import argparse
import contextlib
import functools
import pathlib
import signal
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "system"))

from harness import (BUILD, CPUS, GUEST_CPU, SWITCH_CPU, TestpmdGuest, Workdir,  # noqa: E402
                     leftovers, qemu_guests, wait_until)
from switches import HugePages, Ovs, Ringway, TestpmdIo, unpack_ovs  # noqa: E402


def arguments():
    parser = argparse.ArgumentParser(prog="run.sh", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--turns", type=int, default=5, metavar="N",
                        help="of each switch and size (5)")
    parser.add_argument("--seconds", type=float, default=2, metavar="S",
                        help="measured in each turn (2)")
    parser.add_argument("--sizes", type=lambda text: [int(size) for size in text.split(",")],
                        default=[64, 1500], metavar="BYTES,...", help="of the frames (64,1500)")
    parser.add_argument("--peers", action="store_true",
                        help="OVS-DPDK as well (needs 1 GiB of huge pages)")
    parser.add_argument("--qemu", action="store_true", help="TCP between Linux guests instead")
    options = parser.parse_args()
    sizes_fit = all(60 <= size <= 2000 for size in options.sizes)
    if options.turns < 1 or options.seconds <= 0 or not sizes_fit:
        parser.error("at least one turn, more than no time, and 60 to 2000 bytes")
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


def closed_loop(make_switch, size, seconds):
    """One turn: returns (Mpps, worker cycles a frame)."""
    with Workdir() as directory, contextlib.ExitStack() as stack:
        switch = stack.enter_context(make_switch(directory))
        guest = stack.enter_context(TestpmdGuest(directory, switch.sockets,
                                                 server=switch.guest_is_server))
        if switch.guest_is_server:
            for port in range(2):
                wait_until(lambda: "Link status: up" in guest.command(f"show port info {port}"), 15,
                           f"{switch.name} has connected to port {port} of the guest")
        guest.start_loop(size)
        time.sleep(0.5)  # addresses are learned, flows are set up
        start, frames, cycles = sample(guest, switch)
        time.sleep(seconds)
        end, frames_then, cycles_then = sample(guest, switch)
        guest.stop_loop()
    packets = cycles_then[1] - cycles[1]
    if packets == 0 or frames_then == frames:
        raise RuntimeError(f"no traffic through {switch.name}")
    return (frames_then - frames) / (end - start) / 1e6, (cycles_then[0] - cycles[0]) / packets


def sample(guest, switch):
    frames = sum(port["rx"] for port in guest.port_stats().values())
    return time.monotonic(), frames, switch.cycles()


def bench_loop(options, stack):
    switches = {"ringway": Ringway, "io": TestpmdIo}
    if options.peers:
        root, huge = unpack_ovs(BUILD), stack.enter_context(HugePages())
        switches["ovs"] = functools.partial(Ovs, root=root, huge=huge)
    results = {}  # (size, mood): {switch: [(rate, cycles)]}
    print(f"{'bytes':>5} {'turn':>4} {'switch':<8} {'round trip':<15} {'mood':<6} "
          f"{'Mpps':>7} {'cycles':>7}")
    for size in options.sizes:
        for turn in range(1, options.turns + 1):
            for name, make in switches.items():
                result, mood, trip = with_mood(lambda: closed_loop(make, size, options.seconds))
                results.setdefault((size, mood), {}).setdefault(name, []).append(result)
                print(f"{size:>5} {turn:>4} {name:<8} {trip:<15} {mood:<6} "
                      f"{result[0]:>7.2f} {result[1]:>7.0f}", flush=True)
    print_ratios(results, [name for name in switches if name != "ringway"])


def print_ratios(results, peers):
    """Medians of each mood, and ringway's as ratios to the peers'."""
    print("\nmedians")
    print(f"{'bytes':>5} {'mood':<6} {'switch':<8} {'turns':>5} {'Mpps':>7} {'cycles':>7}   "
          "ringway / this: rate, cycles")
    for (size, mood), turns in sorted(results.items()):
        medians = {name: [statistics.median(column) for column in zip(*rows)]
                   for name, rows in turns.items()}
        for name, (rate, cycles) in medians.items():
            ratios = ""
            if name in peers and "ringway" in medians:
                ratios = f"{medians['ringway'][0] / rate:.2f}, {medians['ringway'][1] / cycles:.2f}"
            print(f"{size:>5} {mood:<6} {name:<8} {len(turns[name]):>5} {rate:>7.2f} {cycles:>7.0f}"
                  f"   {ratios}")


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
                bench_loop(options, stack)
    except KeyboardInterrupt:
        sys.exit("interrupted")
    finally:
        for item in leftovers():
            print(f"left behind: {item}", file=sys.stderr)


if __name__ == "__main__":
    main()
