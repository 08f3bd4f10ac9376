# SPDX-License-Identifier: BSD-3-Clause
"""The demonstration: two real guests on a switch, step by step. Run it with `app/run.sh demo`.

Every step says what it does, shows it, and checks what it claims; the first claim that does not hold
is the end. Exit status: 0 if all held, 1 if one did not, 128 and its number after a signal. Nothing
is left behind in any case.
Environment: as for harness.py; NO_COLOR.
"""
import contextlib
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import harness
from harness import Daemon, Workdir, qemu_guest, wait_until

GUESTS = ("vm1", "vm2")
LIMIT = 200  # Mbit/s, or a quarter of what this machine can do: it may be busy with other things
# A limit counts Ethernet frames and iperf3 what they carry: 1448 of 1514 bytes, so 95.6%.
LIMIT_LOW, LIMIT_HIGH = 0.85, 1.03
COUNTERS = ("rx_packets", "rx_bytes", "rx_segments", "rx_forwarded", "rx_flooded", "rx_throttled",
            "tx_offered", "tx_packets", "tx_bytes")
PINGS, PING_INTERVAL = 80, 0.1
# QEMU looks for a switch that has gone once a second, and guests take their time to see the link.
BLACKOUT_MAX = 5.0

COLORS = {"bold": "1", "green": "32", "red": "31", "dim": "2"}


class Broken(Exception):
    """A claim that does not hold."""


def paint(color, text):
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return f"\033[{COLORS[color]}m{text}\033[0m"


def say(text=""):
    print(text, flush=True)


def heading(text):
    say("\n" + paint("bold", text))


def show(text):
    """Somebody else's output."""
    for line in text.rstrip().splitlines():
        say("    " + line.rstrip())


def command(prompt, line):
    say(paint("dim", f"  {prompt} ") + line)


def claim(holds, text):
    if not holds:
        raise Broken(text)
    say("  " + paint("green", "ok") + f": {text}")


def measure(what, reached, times=3):
    """Returns the first of what() that is `reached`, or the last: a machine that is busy with other
    things may keep guests from what the switch would let them have."""
    for last in range(1, times + 1):
        value = what()
        if reached(value) or last == times:
            return value
        say("  once more, for this machine may be busy with other things")


def lines_with(text, *patterns):
    return "\n".join(line for line in text.splitlines()
                     if any(re.search(pattern, line) for pattern in patterns))


class Network:
    """The switch and its guests, and how each of them is asked to do something in sight."""

    def __init__(self, directory, stack):
        self.directory, self.stack = directory, stack
        self.daemon = None
        self.guests = []

    def start_switch(self):
        arguments = ["--state", self.directory / "state.json"]
        command("$", "ringwayd --config ringway.json --socket ringway.sock --state state.json")
        self.daemon = self.stack.enter_context(Daemon(self.directory, arguments=arguments))

    def ctl(self, words, *patterns):
        """Runs ringwayctl and shows its output: all of it, or the lines with these patterns."""
        command("$", f"ringwayctl {words}")
        done = subprocess.run([harness.RINGWAYCTL, "--socket", self.daemon.socket, *words.split()],
                              capture_output=True, text=True, timeout=20, check=False)
        output = done.stdout
        show((lines_with(output, *patterns) if patterns else output) + done.stderr)
        if done.returncode != 0:
            raise AssertionError(f"ringwayctl {words}: exit status {done.returncode}")

    def iperf(self):
        """TCP from the first guest to the second, without its first second, in which it feels for
        the rate; returns and shows Mbit/s."""
        sender, receiver = self.guests
        command("vm1#", f"iperf3 -c {receiver.address} -t 3 -O 1")
        rate = sender.iperf(receiver.address, 3, "-O 1") / 1e6
        show(f"{rate:.0f} Mbit/s arrived at vm2")
        return rate


def step_switch(net):
    heading("1. A switch, empty at first, and two ports")
    net.start_switch()
    for name in GUESTS:
        net.ctl(f"port add {name} type=vhost-user socket={net.directory / name}.sock", "^$")
    net.ctl("port list")
    states = [port["state"] for port in net.daemon.rpc("port.list")]
    claim(states == ["down", "down"], "both ports wait for their virtual machines")


def step_guests(net):
    heading("2. Two Linux guests under QEMU, plugged in")
    start = time.monotonic()
    net.guests = [net.stack.enter_context(qemu_guest(net.directory, name, number))
                  for number, name in enumerate(GUESTS, 1)]
    words = [str(word) for word in net.guests[0].process.args]
    pairs = [f"{flag} {value}" for flag, value in zip(words, words[1:])
             if flag in ("-object", "-chardev", "-netdev", "-device") and "console" not in value]
    command("$", "qemu-system-x86_64 ... " + " \\\n      ".join(pairs))
    for guest in net.guests:
        guest.wait_boot()
    for name in GUESTS:
        net.daemon.wait_port(name, "up")
    say(f"    ... and vm2 in the same way; booted after {time.monotonic() - start:.1f} s")
    net.ctl("port list")
    claim(True, "the guests have taken their ports")


def step_ping(net):
    heading("3. They reach each other")
    sender, receiver = net.guests

    def ping():
        line = f"ping -q -c 20 -i 0.05 {receiver.address}"
        command("vm1#", line)
        output = sender.run(line)[1]
        show(lines_with(output, "packets", "round-trip"))
        return " 0% packet loss" in output

    claim(measure(ping, bool), "20 pings, none lost")
    net.ctl("fdb list")


def step_tcp(net):
    heading("4. TCP, as fast as these emulated guests can")
    rate = net.iperf()
    claim(rate > 20, "data flows")
    return rate


def step_limit(net, free):
    limit = min(LIMIT, int(free / 4))
    heading(f"5. A limit of {limit} Mbit/s for what vm1 sends, set while it runs")
    bandwidth = "limits.ingress.bandwidth"
    # The burst is what a worker may catch up on that shares its core with others.
    net.ctl(f"port set vm1 {bandwidth}.rate={limit}Mbit {bandwidth}.burst=1MiB", "^$")
    share = measure(lambda: net.iperf() / limit, lambda share: share >= LIMIT_LOW)
    net.ctl("port get vm1", "^ *limits", "ingress", "bandwidth", " rate ", "burst ", "excess")
    claim(LIMIT_LOW <= share <= LIMIT_HIGH,
          f"{100 * share:.0f}% of the limit, which counts headers as well")
    counters = net.daemon.counters("vm1")
    claim(counters["rx_throttled"] > 0 and counters["rx_limited_bytes"] == 0,
          f"vm1 had to wait {counters['rx_throttled']} times, and nothing was dropped")
    return limit


def step_crash(net, limit):
    heading("6. The switch is killed under traffic, and started again with --state")
    sender, receiver = net.guests
    before = net.daemon.counters("vm1")["rx_bytes"]
    line = f"iperf3 -c {receiver.address} -t {PINGS * PING_INTERVAL:.0f} -i 1"
    ping = f"ping -q -c {PINGS} -i {PING_INTERVAL} -W 2 {receiver.address}"
    command("vm1#", f"{line} & {ping}")
    sender.start(f"{line} >/tmp/iperf 2>&1 & {ping}; wait $!; echo iperf3 ended with $?; "
                 "cat /tmp/iperf")
    # A second's worth.
    wanted = before + limit * 1e6 / 8
    wait_until(lambda: net.daemon.counters("vm1")["rx_bytes"] > wanted, 30, "TCP flows")
    command("$", f"kill -9 {net.daemon.pid}")
    killed = time.monotonic()
    net.daemon.kill()
    net.start_switch()
    for name in GUESTS:
        net.daemon.wait_port(name, "up", 15)
    show(f"both ports are up again after {time.monotonic() - killed:.1f} s")
    output = sender.finish(60)[1]
    show(lines_with(output, "packets transmitted", r"\d-.*its/sec"))

    sent, received = map(int, re.search(r"(\d+) packets trans\D*(\d+) packets", output).groups())
    lost = sent - received
    claim(lost * PING_INTERVAL <= BLACKOUT_MAX,
          f"{lost} of {sent} pings lost: about {lost * PING_INTERVAL:.1f} s of silence")
    claim("iperf3 ended with 0" in output and net.daemon.counters("vm1")["rx_bytes"] > 1e6,
          "the TCP connection has lived through it")
    net.ctl("port get vm1", "limits", "ingress", "bandwidth", " rate ")
    rate = net.daemon.port("vm1")["limits"]["ingress"]["bandwidth"]["rate"]
    claim(rate == limit * 1e6, "ports and limit are back, from the state file")


def step_free(net, limit):
    heading("7. The limit is taken away again")
    net.ctl("port set vm1 limits=null", "^$")
    rate = measure(net.iperf, lambda rate: rate > limit * 1.1)
    claim(rate > limit * 1.1, "free again")


def step_stats(net):
    heading("8. What was counted since the restart, each lost frame with its reason")
    command("$", "ringwayctl stats get")
    ports = [net.daemon.counters(name) for name in GUESTS]
    show(f"{'':14}" + "".join(f"{name:>14}" for name in GUESTS))
    for key in COUNTERS:
        show(f"{key:14}" + "".join(f"{port[key]:>14,}" for port in ports))
    for key, direction in (("rx_dropped", "from"), ("tx_dropped", "towards")):
        for port in ports:
            for reason, count in port[key].items():
                if count:
                    show(f"dropped {direction} {port['name']}: {count} {reason}")
    claim(not list(harness.ledger_faults(ports)),
          "each frame was forwarded, flooded or dropped for a reason: the books balance")


def step_end(net):
    heading("9. The end")
    for guest in net.guests:
        guest.stop()
    net.ctl("system shutdown")
    claim(net.daemon.wait(10) == 0, "the switch has ended in good order")


def demonstrate():
    with Workdir() as directory, contextlib.ExitStack() as stack:
        say(f"Everything runs in {directory}, with the sockets there.")
        net = Network(directory, stack)
        try:
            step_switch(net)
            step_guests(net)
            step_ping(net)
            limit = step_limit(net, step_tcp(net))
            step_crash(net, limit)
            step_free(net, limit)
            step_stats(net)
            step_end(net)
        except Exception:
            for process in harness.processes:
                say(f"  What {getattr(process, 'name', 'the switch')} (pid {process.pid}) said last:")
                show(process.evidence())
            raise


def interrupt(number, unused):
    """Unwinds, so that all is cleaned up; a second signal does not disturb that."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(128 + number)


def main():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    start = time.monotonic()
    try:
        demonstrate()
        claim(harness.leftovers() == [], "no process and no file is left behind")
    except SystemExit:
        say("\ninterrupted; all is ended and removed")
        raise
    except Exception as fault:
        what = "this does not hold" if isinstance(fault, Broken) else type(fault).__name__
        say("\n" + paint("red", "FAILED") + f": {what}: {fault}")
        return 1
    say("\n" + paint("bold", f"All of it holds; {time.monotonic() - start:.0f} s."))
    return 0


if __name__ == "__main__":
    sys.exit(main())
