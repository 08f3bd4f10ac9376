# SPDX-License-Identifier: BSD-3-Clause
"""Ingress limits under guests that send more than they may: the rate is met, nothing is lost where
the excess waits, all is counted where it is dropped, and limits change under traffic."""
import contextlib
import time

import pytest

from harness import (Daemon, Pipeline, TestpmdGuest, Workdir, assert_ledgers, assert_nothing_lost_but,
                     drops_of, qemu_guests, vhost_port, wait_stable, wait_until)

PORTS = ("a", "b")
SIZE = 1500  # bytes of a frame, without FCS, as limits count them
GBIT = 1e9
MIB = 1 << 20

# Half a second of a gigabit: a bucket that does not overflow while the guest, which shares its CPU
# with others, is not there to send.
BURST = 64 * MIB


def limit(rate, burst=BURST, **more):
    return {"ingress": {"bandwidth": {"rate": rate, "burst": burst}, **more}}


@pytest.fixture(scope="module")
def daemon(workdir):
    """What comes from port b is limited by the configuration file. It is what the tests look at; what
    comes from port a is there to be seen untouched by that."""
    ports = [vhost_port(workdir, "a", limits=limit("50Mbit")),
             vhost_port(workdir, "b", limits=limit("1Gbit"))]
    with Daemon(workdir, ports) as daemon:
        yield daemon


# But for what a pause leaves in a ring, limits have nothing to do with rings.
pytestmark = pytest.mark.over()


@pytest.fixture
def guest(daemon, rings):
    sockets = [daemon.directory / f"{name}.sock" for name in PORTS]
    with TestpmdGuest(daemon.directory, sockets, features=rings.virtio_user()) as guest:
        for name in PORTS:
            daemon.wait_port(name, "up")
        yield guest


def sampled(sample):
    """sample(), when it was true, and by how much that may be wrong: the best of several tries."""
    best = None
    for _ in range(20):
        before = time.monotonic()
        count = sample()
        after = time.monotonic()
        if best is None or after - before < 2 * best[2]:
            best = count, (before + after) / 2, (after - before) / 2
        if best[2] < 0.005:
            break
    return best


def measure(passed, seconds):
    """Bits per second by a count of bytes that passed, over so long, or over as much longer as the
    clock needs to be right to 0.4%: a machine that is busy answers late."""
    first, begin, early = sampled(passed)
    deadline = time.monotonic() + 12 * seconds
    while True:
        time.sleep(seconds)
        last, end, late = sampled(passed)
        if early + late < 0.004 * (end - begin):
            return 8 * (last - first) / (end - begin)
        assert time.monotonic() < deadline, f"{early:.3f} and {late:.3f} s to read a counter"


def rate_of(daemon, passed, seconds=5):
    """measure(); what was earned meanwhile and is in the bucket still has its time, too. A bucket that
    a guest who was away just empties, at many times the rate, is no moment to count."""
    def earned():
        for _ in range(50):
            before = bucket(daemon)["tokens"]
            count = passed()
            after = bucket(daemon)["tokens"]
            if abs(after - before) < MIB:
                return count + (before + after) / 2
        pytest.fail("the bucket finds no rest")

    return measure(earned, seconds)


def received(daemon, guest):
    """Bytes that the guest has received on its port 0, which is all that came from port b of the
    switch, with those that found no room as the guest was late to fetch the others."""
    late = daemon.counters("a")["tx_dropped"].get("ring_full", 0)
    return SIZE * (guest.port_stats()[0]["rx"] + late)


def bucket(daemon):
    return daemon.port("b")["limits"]["ingress"]["bandwidth"]


def wait_until_drained(daemon):
    wait_until(lambda: bucket(daemon)["tokens"] < BURST / 4, 10, "the bucket is not full any more")


def saturate(daemon, guest):
    """Has the guest send all it can from both ports, to an address that nobody has; returns when
    little is left in the bucket, which was full."""
    guest.command("set fwd flowgen")
    guest.command(f"set txpkts {SIZE + 4}")  # counts the FCS in
    guest.command("start")
    wait_until_drained(daemon)


@pytest.mark.over("layout", "order")
def test_pause_loses_nothing(daemon, guest):
    """In a closed loop no ring can overflow: whoever drops a frame then, it is the limit."""
    drops_before = drops_of(daemon, *PORTS)
    before, seen_before = daemon.counters("b"), guest.port_stats()
    guest.start_loop(SIZE)
    wait_until(lambda: daemon.counters("b")["rx_packets"] - before["rx_packets"] > 200_000, 30, "frames")
    guest.stop_loop()
    after = wait_stable(lambda: daemon.counters("b"), 10, "the counters rest after the guest's stop")
    seen = guest.port_stats()
    assert after["rx_throttled"] > before["rx_throttled"]
    assert after["rx_packets"] - before["rx_packets"] == seen[1]["tx"] - seen_before[1]["tx"]
    assert_ledgers(daemon)
    assert drops_of(daemon, *PORTS) == drops_before


def test_pause_meets_the_rate(daemon, guest):
    drops_before = drops_of(daemon, *PORTS)
    saturate(daemon, guest)
    before = daemon.counters("b")
    begin = time.monotonic()
    assert rate_of(daemon, lambda: received(daemon, guest)) == pytest.approx(GBIT, rel=0.01)
    taken = time.monotonic() - begin
    after = daemon.counters("b")
    guest.command("stop")
    # Unless others take its CPU, the guest always has more than it may send.
    assert after["rx_throttled"] > before["rx_throttled"]
    assert 0.2 < (after["rx_throttled_ns"] - before["rx_throttled_ns"]) / (1e9 * taken) < 1.01
    assert after["rx_limited_bytes"] == 0
    assert_ledgers(daemon)
    assert_nothing_lost_but({"tx.ring_full"}, drops_before, drops_of(daemon, *PORTS))


def test_a_limit_that_is_removed_is_gone(daemon, guest):
    drops_before = drops_of(daemon, *PORTS)
    saturate(daemon, guest)
    daemon.rpc("port.set", name="b", limits=None)
    assert bucket(daemon) is None
    throttled = daemon.counters("b")["rx_throttled"]
    assert measure(lambda: received(daemon, guest), 2) > 2 * GBIT
    assert daemon.counters("b")["rx_throttled"] == throttled
    # And back again, at another rate, with a burst that may pass once.
    bandwidth = {"rate": "500Mbit", "burst": BURST, "one_time_burst": "20MiB"}
    before = daemon.counters("b")["rx_bytes"]
    daemon.rpc("port.set", name="b", limits={"ingress": {"bandwidth": bandwidth}})
    wait_until(lambda: bucket(daemon)["one_time_tokens"] == 0, 10, "the one-time burst is spent")
    # But for what a worker has just in hand.
    assert daemon.counters("b")["rx_bytes"] - before > 19 * MIB
    wait_until_drained(daemon)
    assert rate_of(daemon, lambda: received(daemon, guest)) == pytest.approx(GBIT / 2, rel=0.01)
    guest.command("stop")
    assert_nothing_lost_but({"tx.ring_full"}, drops_before, drops_of(daemon, *PORTS))
    daemon.rpc("port.set", name="b", limits=limit("1Gbit"))


def test_a_thousand_changes_under_traffic(daemon, guest):
    drops_before = drops_of(daemon, *PORTS)
    saturate(daemon, guest)
    rates = [200_000_000 + 1_500_000 * n for n in range(999)] + [700_000_000]
    requests = [("port.set", {"name": "b", "limits": limit(rate)}) for rate in rates]
    with Pipeline(daemon.socket) as line:
        answers = line.run(requests)
    assert [answer["id"] for answer in answers] == list(range(1000))
    assert [answer for answer in answers if "error" in answer] == []
    assert bucket(daemon)["rate"] == rates[-1]
    wait_until_drained(daemon)
    assert rate_of(daemon, lambda: received(daemon, guest)) == pytest.approx(rates[-1], rel=0.01)
    guest.command("stop")
    assert_ledgers(daemon)
    assert_nothing_lost_but({"tx.ring_full"}, drops_before, drops_of(daemon, *PORTS))
    daemon.rpc("port.set", name="b", limits=limit("1Gbit"))


def test_drop_meets_the_rate_and_counts(daemon, guest):
    daemon.rpc("port.set", name="b", limits=limit("1Gbit", excess="drop"))
    drops_before = drops_of(daemon, *PORTS)
    saturate(daemon, guest)
    wait_until(lambda: daemon.counters("b")["rx_dropped"].get("limit", 0) > 10_000, 10, "drops")

    def passed():
        counters = daemon.counters("b")
        return counters["rx_bytes"] - counters["rx_limited_bytes"]

    assert rate_of(daemon, passed) == pytest.approx(GBIT, rel=0.01)
    guest.command("stop")
    counters = wait_stable(lambda: daemon.counters("b"), 10, "the counters rest")
    assert counters["rx_limited_bytes"] == SIZE * counters["rx_dropped"]["limit"]
    assert_ledgers(daemon)
    assert_nothing_lost_but({"rx.limit", "tx.ring_full"}, drops_before, drops_of(daemon, *PORTS))
    assert "limit" not in daemon.counters("a")["rx_dropped"]
    daemon.rpc("port.set", name="b", limits=limit("1Gbit"))


def test_tcp_reaches_its_limit():
    """Linux guests with segmentation offload: one frame may be larger than what the bucket holds, and
    1,448 of each 1,514 bytes are TCP's payload."""
    names = ("c", "d")
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(Workdir())
        ports = [vhost_port(directory, name) for name in names]
        daemon = stack.enter_context(Daemon(directory, ports, idle="adaptive"))
        guests = stack.enter_context(qemu_guests(directory, *names))
        for guest in guests:
            daemon.wait_port(guest.name, "up")
        source, target = guests
        # Emulated guests are slow, and slower beside what else the machine does.
        rate = int(min(300e6, source.iperf(target.address, 3) / 3))
        daemon.rpc("port.set", name="c", limits=limit(rate, rate // 100, excess="pause"))
        before = drops_of(daemon, *names)
        # Too fast they never are.
        rates = []
        while not rates or (max(rates) < 0.93 * rate and len(rates) < 4):
            rates.append(source.iperf(target.address, 5))
        assert 0.93 * rate < max(rates) < 0.98 * rate
        # Not even one whole segment fits into this bucket, and still all goes its way.
        daemon.rpc("port.set", name="c", limits=limit(rate, 1000))
        assert 0.1 * rate < source.iperf(target.address, 3) < 0.97 * rate
        assert_ledgers(daemon)
        assert_nothing_lost_but({"tx.ring_full"}, before, drops_of(daemon, *names))
        assert daemon.counters("c")["rx_throttled"] > 0
