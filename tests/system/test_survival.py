# SPDX-License-Identifier: BSD-3-Clause
"""What guests notice when the switch is killed and started again, and what the others notice when a
VMM or a guest comes and goes: as little as can be, a thousand times over.

The short form takes about a minute and a half. FULL=1 repeats all as often as it needs to be shown.
RINGWAYD may name a daemon that was built with sanitizers: it must not leak either."""
import contextlib
import os
import pathlib
import random
import re
import signal
import socket
import statistics
import struct
import threading
import time

import pytest

from frontend import BROADCAST, Guest, Vhost, ethernet, until
from harness import (FULL, GUEST_CPU, LAYOUTS, SWITCH_CPU, Daemon, Testpmd, TestpmdGuest, Workdir,
                     assert_ledgers, drops, qemu_guest, vhost_port, wait_stable, wait_until)
from relay import Relay

BUDGET_MS = 300  # from the start of the daemon to the first frame, and without traffic at a restart
MODES = ("server", "client")


def report(title, values, unit="ms"):
    """Prints a distribution; shown with -s, and with a failure."""
    values = sorted(values)
    print(f"{title}: median {statistics.median(values):.1f} {unit}, least {values[0]:.1f}, "
          f"most {values[-1]:.1f}, {len(values)} times")


def waited_ms(daemon):
    """How long the start of the daemon had to wait for a CPU on which others ran. (The main thread;
    proc(5), schedstat.)"""
    return int(pathlib.Path(f"/proc/{daemon.pid}/schedstat").read_text().split()[1]) / 1e6


class Place:
    """A directory with a configuration, and the daemon that runs there now."""

    def __init__(self, directory, ports):
        self.directory, self.ports, self.daemon = directory, ports, None

    def start(self, ready=True):
        self.daemon = Daemon(self.directory, self.ports, ready=ready)
        return self.daemon

    def restart(self):
        """kill -9, and a new daemon at once; returns the time at which it was started."""
        self.daemon.kill()
        begin = time.monotonic()
        self.start(ready=False)
        return begin

    def wait_up(self, *names):
        self.daemon.wait_ready()
        for name in names:
            self.daemon.wait_port(name, "up", 15)


@contextlib.contextmanager
def place_of(ports):
    """`ports`: names, or a function of the directory that returns configurations."""
    with Workdir() as directory:
        place = Place(directory, ports(directory))
        try:
            yield place
        finally:
            if place.daemon:
                place.daemon.stop()


# ---- what a restart takes: scripted front-ends, which take no time themselves ----

class Listening(Guest):
    """A front-end whose VMM owns the socket; the switch connects."""

    def __init__(self, path, number):
        super().__init__(path, number)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(4)

    def connect(self):
        self.link = Vhost.accept(self.listener, self.timeout)
        return self

    def close(self):
        self.listener.close()
        super().close()


class Connecting(Guest):
    """A front-end that tries until the switch is there."""

    def connect(self):
        def connected():
            with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                return super(Connecting, self).connect()
        return until(connected, 5, "the switch takes connections")


def handshake_times(guest, times):
    guest.connect()
    times.setdefault("connected", time.monotonic())
    for step in guest.steps():
        if step == "GET_FEATURES":
            times.setdefault("features answered", time.monotonic())
    guest.link.sync()
    times["rings set up"] = time.monotonic()


def restart_times(place, a, b):
    """Times in ms since the start of the daemon's process of what follows a kill."""
    place.daemon.kill()
    for guest in (a, b):
        guest.disconnect()
    begin = time.monotonic()
    daemon, times = place.start(ready=False), {}

    def answers():
        until(daemon.answers, 5, "the control socket answers")
        times["control socket answers"] = time.monotonic()
    asking = threading.Thread(target=answers)
    asking.start()
    for guest in (b, a):
        handshake_times(guest, times)
    def arrived():
        # Again and again: what comes before the switch has opened both ports is dropped.
        if len(a.rings[1].free) > 100:
            a.send(ethernet(b.mac, a.mac, bytes(100)))
        return b.poll()
    assert until(arrived, 5, "a frame").data[6:12] == a.mac
    times["first frame"] = time.monotonic()
    b.drain()
    asking.join()
    result = {name: 1e3 * (at - begin) for name, at in times.items()}
    return {**result, "first frame, less what others had of the CPU":
            result["first frame"] - waited_ms(daemon)}


@pytest.mark.parametrize("mode", MODES)
def test_what_a_restart_takes(mode):
    kind = {"server": Connecting, "client": Listening}[mode]
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(place_of(lambda directory: [
            vhost_port(directory, name, mode=mode) for name in ("a", "b")]))
        a, b = (stack.enter_context(kind(str(place.directory / f"{name}.sock"), number))
                for number, name in enumerate(("a", "b"), 1))
        place.start(ready=False)
        a.up(), b.up()
        runs = [restart_times(place, a, b) for _ in range(50 if FULL else 10)]
        for name in runs[0]:
            report(f"{mode}: start to {name}", [times[name] for times in runs])
        assert statistics.median([*times.values()][-1] for times in runs) < BUDGET_MS
        assert_ledgers(place.daemon)


# ---- what guests notice when the switch is killed ----

class Vms:
    """Two Linux guests, a and b, on a switch that gets killed; a relay watches each connection."""

    def __init__(self, mode, place, guests, relays):
        self.mode, self.place, self.relays = mode, place, relays
        self.a, self.b = guests
        # How long QEMU may sleep before it tries to connect: `reconnect` counts whole seconds.
        self.vmm_delay_ms = 1000 if mode == "server" else 0

    def wait_up(self):
        self.place.wait_up("a", "b")

    def evidence(self):
        """What the switch and the guests think of their link, for the report of a failure."""
        seen = [self.place.daemon.rpc("stats.get"), *map(self.place.daemon.port, "ab")]
        for guest in (self.a, self.b):
            seen.append(guest.run("ifconfig eth0; grep virtio /proc/interrupts")[1])
        return "\n".join(map(str, seen))


# Each mode with a guest of each layout; or with all there are.
VMS = [(mode, packed) for mode in MODES for packed in LAYOUTS] if FULL else \
    [("server", "b"), ("client", "a")]


@pytest.fixture(scope="module", params=VMS, ids="{0[0]}-packed:{0[1]}".format)
def vms(request):
    mode, packed = request.param
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(place_of(lambda directory: [
            vhost_port(directory, name, mode=mode) for name in ("a", "b")]))
        relays, guests = [], []
        for number, name in enumerate(("a", "b"), 1):
            # Between a.vmm, which is QEMU's end, and a.sock, which is the switch's.
            ends = place.directory / f"{name}.vmm", place.directory / f"{name}.sock"
            path, to = ends if mode == "server" else ends[::-1]
            relays.append(stack.enter_context(Relay(path, to)))
        place.start()
        for number, name in enumerate(("a", "b"), 1):
            guests.append(stack.enter_context(qemu_guest(
                place.directory, name, number, server=mode == "client", packed=name in packed,
                socket=place.directory / f"{name}.vmm")))
        for guest in guests:
            guest.wait_boot()
        vms = Vms(mode, place, guests, relays)
        vms.wait_up()
        # QEMU takes the link down while the switch is away, whereupon Linux forgets its neighbours, and
        # asks again each second if the first answer is lost: not what is to be measured here.
        for guest, other in ((vms.a, vms.b), (vms.b, vms.a)):
            guest.check(f"arp -i eth0 -s {other.address} {other.mac}")
        vms.b.check("blackout echo >/dev/null 2>&1 &")
        assert vms.a.ping(vms.b.address) == 10
        yield vms


def blackout(vms, seconds, kill=True):
    """Returns for how many ms no answer came to guest a while the switch was killed and started, and
    when it was started."""
    def traffic_begins():
        before = vms.place.daemon.counters("a")["rx_packets"]
        start = time.monotonic()
        vms.a.start(f"blackout {vms.b.address} {seconds}")
        wait_until(lambda: vms.place.daemon.counters("a")["rx_packets"] > before + 200, 10, "traffic")
        return time.monotonic() - start

    # On a busy machine a guest may be so late that there is no time left to see traffic come back.
    while traffic_begins() > seconds - 2:
        vms.a.finish(seconds + 20)
    begin = vms.place.restart() if kill else None
    status, output = vms.a.finish(seconds + 20)
    assert status == 0, f"{output}{vms.evidence()}"
    found = re.search(r"sent (\d+) answered (\d+) longest ([0-9.]+) at ([0-9.]+)", output)
    longest, at = float(found[3]), float(found[4])
    assert at + longest < 1e3 * seconds - 200, f"traffic did not come back: {output}{vms.evidence()}"
    vms.wait_up()
    return longest, begin


def shares(relay, begin):
    """What of a handshake after `begin` was the switch's and what the VMM's, in ms: to the connection,
    answers of the switch, everything else up to the last message."""
    events = [event for event in relay.events if event.time > begin]
    first = next(n for n, event in enumerate(events) if event.name == "connect")
    connect, events = events[first], events[first + 1:]
    answers = others = 0
    last = connect.time
    for event in events:
        if event.reply:
            answers += event.time - last
        else:
            others += event.time - last
        last = event.time
    return {"start to connection": 1e3 * (connect.time - begin), "answers": 1e3 * answers,
            "VMM": 1e3 * others, "start to last message": 1e3 * (last - begin)}


def test_time_without_traffic(vms):
    seconds = 3 if vms.mode == "client" else 4
    quiet = blackout(vms, seconds, kill=False)[0]
    print(f"{vms.mode}: longest gap without a kill {quiet:.1f} ms")
    gaps, waits, parts = [], [], []
    for _ in range(20 if FULL else 3 if vms.mode == "client" else 2):
        gap, begin = blackout(vms, seconds)
        gaps.append(gap)
        waits.append(waited_ms(vms.place.daemon))
        parts += [shares(relay, begin) for relay in vms.relays]
    report(f"{vms.mode}: without traffic", gaps)
    report(f"{vms.mode}:   CPU taken by others", waits)
    for name in parts[0]:
        report(f"{vms.mode}:   {name}", [part[name] for part in parts])
    vmm = vms.vmm_delay_ms + statistics.median(part["VMM"] for part in parts)
    assert statistics.median(gaps) < BUDGET_MS + vmm + statistics.median(waits)
    assert vms.a.ping(vms.b.address, count=50) == 50


def test_a_transfer_survives(vms):
    """The switch is killed in the middle of a TCP connection, whose bytes all arrive, and pings are
    answered again; nobody rebooted."""
    a, b = vms.a, vms.b
    boots = [guest.boot_id() for guest in (a, b)]
    a.make_file("part", 4)
    a.check("for i in 1 2 3 4 5 6 7 8; do cat /tmp/part; done >/tmp/whole")
    wanted = a.check("md5sum </tmp/whole").split()[0]
    # This nc ends when its input does, so that must last.
    b.check("sleep 1000 | nc -l -p 5001 | md5sum >/tmp/sum &")
    # A pause after each part makes the transfer last.
    a.start("(ping -q -i 0.01 -c 600 -W 1 %s >/tmp/ping; true) & "
            "for i in 1 2 3 4 5 6 7 8; do cat /tmp/part; sleep 0.4; done | nc %s 5001; "
            "status=$?; wait; cat /tmp/ping; test $status = 0" % (b.address, b.address))
    for _ in range(2):
        daemon = vms.place.daemon
        wait_until(lambda: daemon.counters("a")["rx_bytes"] > 5 << 20, 20, "TCP is flowing")
        vms.place.restart()
        vms.wait_up()
    status, output = a.finish(60)
    assert status == 0, f"the TCP connection did not survive: {output}"
    assert vms.place.daemon.counters("a")["rx_bytes"] > 5 << 20, "no traffic after the restart"
    b.check("while ! test -s /tmp/sum; do sleep 0.1; done")
    assert b.check("cat /tmp/sum").split()[0] == wanted
    assert int(re.search(r"(\d+) packets received", output)[1]) > 100
    assert a.ping(b.address, count=50) == 50, drops(vms.place.daemon.counters("b"))
    assert [guest.boot_id() for guest in (a, b)] == boots
    assert_ledgers(vms.place.daemon)


def test_no_frame_vanishes():
    """testpmd's frames circulate through a switch that is killed again and again. Each is still there,
    or was dropped and counted: the first port to be back may send to one that is not, yet. A burst
    that the switch had passed on, but not returned to its sender, comes twice. (virtio-user reconnects
    only where it owns the socket.)"""
    frames, burst = 2 * 128, 64
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(place_of(lambda directory: [
            vhost_port(directory, name, mode="client") for name in ("a", "b")]))
        place.start()
        sockets = [place.directory / f"{name}.sock" for name in ("a", "b")]
        guest = stack.enter_context(TestpmdGuest(place.directory, sockets, server=True))
        place.wait_up("a", "b")

        def counters():
            return [place.daemon.counters(name) for name in ("a", "b")]
        away, lost = [], []
        for _ in range(50 if FULL else 3):
            guest.start_loop(64, frames // 2)
            wait_until(lambda: min(row["rx_packets"] for row in counters()) > 20_000, 20, "traffic")
            begin = place.restart()
            place.wait_up("a", "b")
            away.append(1e3 * (time.monotonic() - begin))
            guest.stop_loop()
            dropped = [drops(row) for row in wait_stable(counters, 10, "the counters rest")]
            assert all(set(row) <= {"tx.not_connected"} for row in dropped), dropped
            lost.append(sum(sum(row.values()) for row in dropped))
            assert frames <= guest.drain() + lost[-1] <= frames + burst
        report("testpmd: start to both ports seen up", away)
        report("testpmd: frames that came before their receiver", lost, "of 256")


# ---- what the others notice when VMMs come and go ----

class Site:
    """Two ports, a and b, of a testpmd whose frames circulate, and two, c and d, where front-ends come
    and go. None of them is to make the switch flood: testpmd would send foreign frames on for ever.
    So the addresses of c and d are learned before it starts."""

    NAMES = ("a", "b", "c", "d")
    NUMBERS = {"c": 3, "d": 4}  # the last byte of their addresses
    FRAMES = 128  # that circulate for each port

    def __init__(self, daemon):
        self.daemon, self.directory = daemon, daemon.directory
        for name in self.NUMBERS:
            with self.guest(name) as guest:
                guest.up().send(ethernet(BROADCAST, guest.mac, bytes(46)))
                wait_until(lambda: guest.mac.hex(":") in self.addresses(), 5, "address learned")
        self.flooded = {name: drops(daemon.counters(name)) for name in Site.NAMES}

    def addresses(self):
        return {entry["mac"]: entry["port"] for entry in self.daemon.rpc("fdb.list")}

    def socket(self, name):
        return str(self.directory / f"{name}.sock")

    def guest(self, name, **options):
        return Guest(self.socket(name), self.NUMBERS[name], **options)

    def mac(self, name):
        return f"52:54:00:00:00:{self.NUMBERS[name]:02x}"

    def resources(self):
        """What the daemon holds for VMMs that are there."""
        process = pathlib.Path(f"/proc/{self.daemon.pid}")
        maps = (process / "maps").read_text().splitlines()
        return {"descriptors": len(os.listdir(process / "fd")),
                "guest mappings": sum("/memfd:" in line for line in maps),
                "mappings": len(maps),
                "retired": self.daemon.rpc("system.info").get("retired", 0)}

    def excess(self, before):
        """What it holds beyond `before`. The allocators' own mappings may vary a little."""
        slack = {"mappings": 16}
        return {name: count - before[name] for name, count in self.resources().items()
                if count > before[name] + slack.get(name, 0)}

    @contextlib.contextmanager
    def untouched(self):
        """Frames circulate between a and b all the while, none of them is lost, and in the end the
        switch holds what it held before."""
        for name in self.NUMBERS:
            self.daemon.wait_port(name, "down")
        before = self.resources()
        begin = self.daemon.counters("a")["rx_packets"]

        def moved():
            return self.daemon.counters("a")["rx_packets"] - begin
        self.loop.start_loop(64, self.FRAMES)
        yield
        for name in self.NUMBERS:
            self.daemon.wait_port(name, "down")
        rounds = self.daemon.rpc("worker.list")[0]["iterations"]
        wait_until(lambda: self.daemon.rpc("worker.list")[0]["iterations"] > rounds, 2,
                   "the worker goes on")
        wait_until(lambda: moved() > 20_000, 20, "the bystanders' frames go round")
        self.loop.stop_loop()
        self.account()
        wait_until(lambda: not self.excess(before), 5, f"what was held before: {before}")
        print(f"held: {self.resources()}; {moved()} frames passed port a")

    def account(self):
        """What testpmd sent is what came in is what went out, and all 256 frames are still there."""
        def counters():
            return {name: self.daemon.counters(name) for name in ("a", "b")}
        rows = wait_stable(counters, 10, "the counters rest")
        seen = self.loop.port_stats()
        assert_ledgers(self.daemon)
        for name, peer, port in (("a", "b", 0), ("b", "a", 1)):
            assert drops(rows[name]) == self.flooded[name], f"port {name} dropped"
            assert rows[name]["rx_packets"] == seen[port]["tx"]
            assert rows[name]["rx_packets"] == rows[peer]["tx_packets"]
            assert rows[name]["tx_packets"] - seen[port]["rx"] == self.FRAMES
            assert seen[port]["errors"] == 0 and seen[port]["missed"] == 0


@pytest.fixture(scope="module")
def site():
    with Workdir() as directory, contextlib.ExitStack() as stack:
        daemon = stack.enter_context(Daemon(directory, config={
            "workers": [{"cpu": SWITCH_CPU, "idle": "busy"}], "bridge": {"ageing": 65000},
            "ports": [vhost_port(directory, name) for name in Site.NAMES]}))
        site = Site(daemon)
        site.loop = stack.enter_context(TestpmdGuest(
            directory, [site.socket(name) for name in ("a", "b")], name="loop"))
        site.loop.step_back()  # others boot and shake hands on its CPU
        with site.untouched():
            pass
        yield site
        site.loop.quit()
        assert daemon.stop() == 0


def exchange(a, b):
    """A frame each way."""
    for source, to in ((a, b), (b, a)):
        frame = ethernet(to.mac, source.mac, random.randbytes(100))
        source.send(frame)
        while to.receive().data != frame:  # others may have waited there
            pass


def test_connects_and_disconnects(site):
    count = 10_000 if FULL else 1000
    with site.untouched():
        with site.guest("d").up() as witness, site.guest("c") as guest:
            connects = site.daemon.port("c")["connection"]["connects"]
            for _ in range(count):
                guest.up()
                exchange(guest, witness)
                guest.disconnect()
            site.daemon.wait_port("c", "down")
            assert site.daemon.port("c")["connection"]["connects"] == connects + count


def test_front_ends_die_at_any_message(site):
    """And in the middle of one, and under traffic; the next connection works at once."""
    waits = []
    with site.untouched():
        with site.guest("d").up() as witness:
            random.seed(42)
            for _ in range(1000 if FULL else 100):
                with site.guest("c", posted=64) as guest:
                    guest.connect()
                    die_at_random(guest, witness)
                    begin = time.monotonic()
                with site.guest("c", posted=64) as successor:
                    exchange(successor.up(), witness)
                    waits.append(1e3 * (time.monotonic() - begin))
    report("from a front-end's death to its successor's frames", waits)
    assert max(waits) < 1000


def die_at_random(guest, witness):
    """Performs some of the handshake, or all of it and begins to talk, and hangs up, often with half a
    message behind."""
    steps = guest.steps()
    for _ in range(random.randrange(25)):
        if next(steps, None) is None:
            for source, to in ((guest, witness), (witness, guest)):
                for _ in range(20):
                    source.send(ethernet(to.mac, source.mac, bytes(200)))
            break
    if random.random() < 0.5:
        guest.link.raw(struct.pack("=III", 2, 1, 8)[:random.randrange(1, 12)])
    guest.disconnect()


def kill_at(path, to, message):
    """A relay that kills the VMM before it passes that many messages on."""
    relay = Relay(path, to)

    def each(_):
        if len(relay.events) == message:
            os.kill(relay.peer, signal.SIGKILL)
    relay.each = each
    return relay


def works_at_once(site):
    with site.guest("c") as guest, site.guest("d") as witness:
        begin = time.monotonic()
        guest.up(), witness.up()
        exchange(guest, witness)
        assert time.monotonic() - begin < 1
    for name in ("c", "d"):
        site.daemon.wait_port(name, "down")


def test_testpmd_is_killed_in_the_handshake(site):
    random.seed(42)
    with site.untouched():
        for turn in range(40 if FULL else 4):
            path = site.directory / f"pmd{turn}"
            # Of about 35 messages a third comes before the port starts.
            with kill_at(path, site.socket("c"), random.randrange(1, 30)):
                vdev = f"net_virtio_user0,path={path},mac={site.mac('c')},queue_size=256"
                with pytest.raises(AssertionError, match="the output has ended"):
                    Testpmd(site.directory, "killed", [vdev], GUEST_CPU).stop()
            works_at_once(site)


def test_testpmd_is_killed_under_traffic(site):
    with site.untouched():
        for _ in range(20 if FULL else 2):
            with TestpmdGuest(site.directory, [site.socket(name) for name in ("c", "d")], name="killed",
                              macs=[site.mac(name) for name in ("c", "d")]) as guest:
                guest.start_loop(64)
                enough = site.daemon.counters("c")["rx_packets"] + 10_000
                wait_until(lambda: site.daemon.counters("c")["rx_packets"] > enough, 20, "traffic")
                time.sleep(random.random() / 100)
                guest.kill()
            works_at_once(site)


def echo_reply(request):
    """The answer to a ping: addresses exchanged, another type, and the checksum for it."""
    reply = bytearray(request)
    reply[0:6], reply[6:12] = request[6:12], request[0:6]
    reply[26:30], reply[30:34] = request[30:34], request[26:30]
    reply[34] = 0
    total = struct.unpack_from("!H", request, 36)[0] + 0x0800
    struct.pack_into("!H", reply, 36, (total & 0xFFFF) + (total >> 16))
    return bytes(reply)


def boot(site, stack, path=None):
    """A Linux guest on port c that sends nothing by itself."""
    return stack.enter_context(qemu_guest(site.directory, "c", site.NUMBERS["c"],
                                          socket=path or site.socket("c"), kernel="ipv6.disable=1"))


def ping_witness(guest, witness):
    """The guest's driver works in both directions."""
    address = "10.9.0.4"
    guest.check(f"arp -i eth0 -s {address} {witness.mac.hex(':')}")
    witness.drain()
    guest.start(f"ping -q -c 1 -W 5 {address}")
    witness.send(echo_reply(witness.receive(10).data))
    status, output = guest.finish()
    assert status == 0, output


def test_qemu_is_killed_in_the_handshake(site):
    """Before the guest runs, when its driver starts, and when it works."""
    random.seed(42)
    early, late = (8, 8) if FULL else (2, 1)
    places = [random.randrange(1, 12) for _ in range(early)]
    places += [random.randrange(20, 40) for _ in range(late)]
    with site.untouched():
        for turn, message in enumerate(places):
            path = site.directory / f"qemu{turn}"
            with contextlib.ExitStack() as stack:
                stack.enter_context(kill_at(path, site.socket("c"), message))
                assert boot(site, stack, path).wait_end(60) == -signal.SIGKILL
            works_at_once(site)
        with contextlib.ExitStack() as stack:
            guest = boot(site, stack)
            guest.wait_boot()
            with site.guest("d").up() as witness:
                ping_witness(guest, witness)
                guest.start("ping -q -i 0.001 -c 10000 10.9.0.4")
                witness.receive(10)
                guest.kill()
        works_at_once(site)


def test_guests_reboot(site):
    """By the reset button and from inside, in turns; the connection stays."""
    with site.untouched(), contextlib.ExitStack() as stack:
        witness = stack.enter_context(site.guest("d").up())
        guest = boot(site, stack)
        guest.wait_boot()
        site.daemon.wait_port("c", "up")
        # A guest that has not sent anything yet is up all the same, and stays so.
        silent_until = time.monotonic() + 3
        while time.monotonic() < silent_until:
            port = site.daemon.port("c")
            assert port["state"] == "up", port["reason"]
        connects = site.daemon.port("c")["connection"]["connects"]
        ping_witness(guest, witness)
        for turn in range(100 if FULL else 3):
            if turn % 2 == 0:
                guest.reset()
                guest.wait_boot()
            else:
                guest.reboot()
            site.daemon.wait_port("c", "up")
            ping_witness(guest, witness)
        assert site.daemon.port("c")["connection"]["connects"] == connects


def test_a_second_vmm_at_a_busy_socket(site):
    """However far it comes, the first one notices nothing."""
    with site.untouched():
        first = site.daemon.port("a")["connection"]
        for turn in range(200 if FULL else 20):
            with Guest(site.socket("a"), 99, timeout=1.0) as second:
                with contextlib.suppress(ConnectionError):
                    second.connect()
                    for n, _ in enumerate(second.steps()):
                        if n == 2 * turn:  # gone in the middle of it, later on after it
                            break
                port = site.daemon.port("a")
                assert port["state"] == "up"
                assert port["connection"]["pid"] == first["pid"] == site.loop.pid
