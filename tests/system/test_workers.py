# SPDX-License-Identifier: BSD-3-Clause
"""Two workers: which queue is whose, queues that move from one to the other under traffic, a VMM that
takes its memory away under both, and what is refused. Scripted front-ends, and testpmd."""
import contextlib
import os
import random
import struct

import pytest

from frontend import LINUX, F, Guest, ethernet, until
from harness import (CPUS, SWITCH_CPU, Daemon, RpcError, TestpmdGuest, Workdir, assert_ledgers, drops,
                     vhost_port, wait_stable, wait_until)

pytestmark = pytest.mark.skipif(len(CPUS) < 2, reason="two workers take two CPUs")
MOVES = 200
QUEUES = 4
TWO = [{"cpu": CPUS[0], "idle": "adaptive"}, {"cpu": SWITCH_CPU, "idle": "adaptive"}]


def start(directory, ports, arguments=(), workers=None):
    config = {"workers": workers or TWO, "ports": ports}
    return Daemon(directory, config=config, arguments=arguments)


def polled_by(daemon, name):
    return daemon.port(name)["polled_by"]


def wait_polled(daemon, name, workers):
    """The queues of the port have these workers, and both methods say so."""
    wait_until(lambda: polled_by(daemon, name) == workers, 5, f"{name} is polled by {workers}")
    mine = {(row["worker"], queue["queue"]) for row in daemon.rpc("worker.list")
            for queue in row["queues"] if queue["port"] == name}
    assert mine == {(worker, queue) for queue, worker in enumerate(workers)}


@contextlib.contextmanager
def connected(daemon, name, number, **options):
    with Guest(str(daemon.directory / f"{name}.sock"), number, **options) as guest:
        guest.up()
        daemon.wait_port(name, "up")
        yield guest


def datagram(source, to, flow, number):
    """A frame of a flow, with its number: IPv4 and UDP, that the switch may tell flows apart."""
    data = struct.pack("!II", flow, number) + bytes(32)
    udp = struct.pack("!HHHH", 1000 + flow, 9, 8 + len(data), 0)
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28 + len(data), 0, 0, 64, 17, 0,
                     bytes([10, 0, 0, source.mac[5]]), bytes([10, 0, 0, to.mac[5]]))
    return ethernet(to.mac, source.mac, ip + udp + data, kind=0x0800)


class Flows:
    """Numbered frames of some flows from one guest to another, each flow from one queue."""

    def __init__(self, source, to, count):
        self.source, self.to = source, to
        self.sent, self.received = [0] * count, [0] * count
        self.queues = set()  # that frames came by

    def send(self, each):
        for _ in range(each):
            for flow, number in enumerate(self.sent):
                self.source.send(datagram(self.source, self.to, flow, number),
                                 queue=flow % self.source.queues)
                self.sent[flow] += 1

    def take(self):
        """Looks at what has come: of each flow the next frame, always."""
        while frame := self.to.poll():
            flow, number = struct.unpack_from("!II", frame.data, 42)
            assert number == self.received[flow], f"flow {flow}: {number} after {self.received[flow] - 1}"
            self.received[flow] += 1
            self.queues.add(frame.queue)
        return self.received == self.sent

    def on_the_way(self):
        return sum(self.sent) - sum(self.received)


def teach(daemon, *guests):
    for guest in guests:
        guest.send(ethernet(b"\xff" * 6, guest.mac, bytes(46)))
    wait_until(lambda: {entry["mac"] for entry in daemon.rpc("fdb.list")} >=
               {guest.mac.hex(":") for guest in guests}, 5, "addresses are learned")
    for guest in guests:
        guest.receive()


def test_placement():
    """By default each port begins with another worker; a port may say which, and keeps what it says."""
    with Workdir() as directory:
        ports = [vhost_port(directory, "a", queues=3), vhost_port(directory, "b"),
                 vhost_port(directory, "c", queues=3, workers=[1, 0])]
        state = ["--state", str(directory / "state.json")]
        with start(directory, ports, state) as daemon:
            assert [row["cpu"] for row in daemon.rpc("worker.list")] == [row["cpu"] for row in TWO]
            wait_polled(daemon, "a", [0, 1, 0])
            wait_polled(daemon, "b", [1])
            wait_polled(daemon, "c", [1, 0, 1])
            # One that comes moves nobody.
            daemon.rpc("port.add", **vhost_port(directory, "d"))
            for name, workers in ("a", [0, 1, 0]), ("b", [1]), ("c", [1, 0, 1]), ("d", [1]):
                wait_polled(daemon, name, workers)
            revision = daemon.rpc("system.info")["revision"]
            assert daemon.rpc("worker.place", port="a", queue=2, worker=1)["revision"] == revision + 1
            wait_polled(daemon, "a", [0, 1, 1])
            # Asking for the same again changes nothing.
            assert daemon.rpc("worker.place", port="a", queue=2, worker=1)["revision"] == revision + 1
            daemon.rpc("worker.place", port="b", worker=0)
            daemon.rpc("port.set", name="c", workers=[0])
            wait_polled(daemon, "c", [0, 0, 0])
            configured = {port["name"]: port.get("workers") for port in
                          daemon.rpc("config.get")["configuration"]["ports"]}
            assert configured == {"a": [0, 1, 1], "b": [0], "c": [0], "d": None}
        with start(directory, ports, state) as daemon:
            wait_polled(daemon, "a", [0, 1, 1])
            wait_polled(daemon, "b", [0])
            wait_polled(daemon, "c", [0, 0, 0])
            daemon.rpc("port.set", name="a", workers=None)
            wait_polled(daemon, "a", [0, 1, 0])


def refused(daemon, method, field, value, accepted, **params):
    with pytest.raises(RpcError) as caught:
        daemon.rpc(method, **params)
    data = caught.value.data
    assert (data["field"], data["value"]) == (field, value)
    assert accepted in data["accepted"]
    return caught.value.message


def test_refusals():
    with Workdir() as directory, start(directory, [vhost_port(directory, "a")]) as daemon:
        place = {"method": "worker.place", "port": "a"}
        refused(daemon, field="worker", value="2", accepted="0 to 1", **place, worker=2)
        refused(daemon, field="worker", value="64", accepted="0 to 63", **place, worker=64)
        refused(daemon, field="queue", value="1", accepted="0 to 0", **place, worker=1, queue=1)
        refused(daemon, field="name", value="b", accepted="port.list",
                method="worker.place", port="b", worker=1)
        message = refused(daemon, "port.set", "workers", "2", "0 to 1", name="a", workers=[0, 2])
        assert message == "port a: there is no worker 2"
        refused(daemon, "port.add", "workers", "2", "0 to 1", **vhost_port(directory, "b", workers=[2]))
        # Whoever takes a worker away must not leave a port with it.
        one = {"workers": TWO[:1], "ports": [vhost_port(directory, "a", workers=[1])]}
        refused(daemon, "config.apply", "workers", "1", "0 to 0", configuration=one)
        wait_polled(daemon, "a", [0])
        # But with one fewer after the next start it is polled by those that there are.
        daemon.rpc("worker.place", port="a", worker=1)
        wait_polled(daemon, "a", [1])
        one["ports"] = [vhost_port(directory, "a")]
        assert daemon.rpc("config.apply", configuration=one)["restart_required"] is True
        refused(daemon, field="workers", value="1", accepted="0 to 0", **place, worker=1)
        assert len(daemon.rpc("worker.list")) == 2


@pytest.mark.parametrize("workers, words", [
    (TWO + TWO[:1], ["workers[2]", f"CPU {CPUS[0]}", "workers[0]"]),
    ([{"cpu": cpu} for cpu in range(65)], ["more than 64 workers"]),
    ([TWO[0], {"cpu": 1000}], ["workers[1]", "1000"])])
def test_bad_lists(workers, words):
    with Workdir() as directory:
        daemon = Daemon(directory, config={"workers": workers}, ready=False)
        assert daemon.wait(10) == 1
        for word in words:
            assert word in daemon.log()


@pytest.mark.parametrize("features", [LINUX, LINUX | F.RING_PACKED], ids=["split", "packed"])
def test_moves_keep_order(features):
    """Each flow's frames come all, and in order, while the queues that they come from move."""
    with Workdir() as directory, \
            start(directory, [vhost_port(directory, "a"),
                              vhost_port(directory, "b", queues=QUEUES)]) as daemon, \
            connected(daemon, "a", 1, features=features) as a, \
            connected(daemon, "b", 2, features=features, queues=QUEUES) as b:
        teach(daemon, a, b)
        ways = Flows(a, b, 8), Flows(b, a, QUEUES)
        chance = random.Random(1)
        for turn in range(MOVES):
            for way in ways:
                way.send(4)
            daemon.rpc("worker.place", port="a", worker=turn % 2)
            daemon.rpc("worker.place", port="b", queue=chance.randrange(QUEUES),
                       worker=chance.randrange(2))
            # Never more than the ring of a receiver holds, however late the workers are.
            for way in ways:
                until(lambda way=way: way.take() or way.on_the_way() < 100, 5, "frames")
        for way in ways:
            until(way.take, 5, "all frames")
        assert len(ways[0].queues) > 1, "all flows went to one queue"
        assert drops(daemon.counters("a")) == drops(daemon.counters("b")) == {}
        assert_ledgers(daemon)


def test_moves_under_load():
    """A guest that saturates two workers: nothing is lost while each queue moves again and again."""
    with Workdir() as directory:
        ports = [vhost_port(directory, name, queues=QUEUES) for name in "ab"]
        sockets = [directory / f"{name}.sock" for name in "ab"]
        with start(directory, ports) as daemon, \
                TestpmdGuest(directory, sockets, queues=QUEUES,
                             arguments=["--txonly-multi-flow"]) as guest:
            for name in "ab":
                daemon.wait_port(name, "up")
            guest.start_loop(64)
            for turn in range(MOVES):
                worker = turn // (2 * QUEUES) % 2
                daemon.rpc("worker.place", port="ab"[turn % 2], queue=turn // 2 % QUEUES,
                           worker=worker)
                if turn % (2 * QUEUES) == 2 * QUEUES - 1:  # now it has them all
                    before = daemon.rpc("worker.list")[worker]["packets"]
                    wait_until(lambda: daemon.rpc("worker.list")[worker]["packets"] > before, 10,
                               f"worker {worker} goes on with all queues")
            for name in "ab":
                enough = daemon.counters(name)["rx_packets"] + 100_000
                wait_until(lambda: daemon.counters(name)["rx_packets"] > enough, 30, "traffic goes on")
            guest.stop_loop()
            after = wait_stable(lambda: {name: daemon.counters(name) for name in "ab"}, 10,
                                "the counters rest after the guest's stop")
            seen = guest.port_stats()
            assert_ledgers(daemon)
            for name, peer, port in ("a", "b", 0), ("b", "a", 1):
                assert drops(after[name]) == {}
                assert after[name]["rx_packets"] == seen[port]["tx"] == after[peer]["tx_offered"]
                assert after[name]["tx_packets"] == after[name]["tx_offered"]
                assert abs(after[name]["tx_packets"] - seen[port]["rx"]) <= guest.FRAMES
                assert seen[port]["errors"] == 0 and seen[port]["missed"] == 0


@pytest.mark.parametrize("features", [LINUX, LINUX | F.RING_PACKED], ids=["split", "packed"])
def test_memory_that_is_taken_away_under_two_workers(features):
    """The one that polls the guest finds nothing there, and so does the one that sends to it; both go
    on, and all others' frames."""
    ports = {"evil": [0], "b": [1], "c": [0]}
    with Workdir() as directory, contextlib.ExitStack() as stack:
        daemon = stack.enter_context(start(directory, [
            vhost_port(directory, name, workers=workers) for name, workers in ports.items()]))
        evil, b, c = [stack.enter_context(connected(daemon, name, number, features=features))
                      for number, name in enumerate(ports, 1)]
        for guest in evil, b, c:
            guest.send(ethernet(b"\xff" * 6, guest.mac, bytes(46)))
        wait_until(lambda: len(daemon.rpc("fdb.list")) >= 3, 5, "addresses are learned")
        for guest in b, c:
            until(lambda: guest.receive().data[6:12] in (b.mac, c.mac), 5, "the others' frames")
            guest.drain()
        ways = Flows(b, c, 2), Flows(c, b, 2)
        before = daemon.rpc("worker.list")
        for _ in range(20):
            evil.send(ethernet(b.mac, evil.mac, bytes(9000)), publish=False)
        kick = evil.rings[1].kick
        for region in evil.memory.regions:
            os.ftruncate(region.fd, 0)
        for _ in range(20):
            b.send(ethernet(evil.mac, b"\x52\x54\0\0\xff\xff", bytes(1000)))
        os.eventfd_write(kick, 1)
        for way in ways:
            way.send(20)
        port = daemon.wait_port("evil", "down", 5)
        assert "memory" in port["reason"]
        for way in ways:
            until(way.take, 5, "the others' frames")
            way.send(20)
            until(way.take, 5, "the others' frames, after that")
        for now, then in zip(daemon.rpc("worker.list"), before):
            assert now["iterations"] > then["iterations"]
        assert_ledgers(daemon)
        evil.disconnect()
        with connected(daemon, "evil", 1, features=features) as good:
            teach(daemon, good, b)
            c.drain()
            back = Flows(good, b, 1)
            back.send(10)
            until(back.take, 5, "frames of a good guest at the same port")


def test_sleeping_workers_hear_their_queues():
    """Both asleep: a frame wakes the one that polls its queue, also where the queue came to it while it
    slept."""
    with Workdir() as directory, \
            start(directory, [vhost_port(directory, "a"), vhost_port(directory, "b")]) as daemon, \
            connected(daemon, "a", 1) as a, connected(daemon, "b", 2) as b:
        teach(daemon, a, b)

        def asleep():
            wait_stable(lambda: [row["iterations"] for row in daemon.rpc("worker.list")], 10,
                        "both workers sleep")

        ways = Flows(a, b, 1), Flows(b, a, 1)

        def meet():
            for way in ways:
                way.send(1)
                until(way.take, 0.5, "the frame")

        for worker in 1, 0, 1:
            asleep()
            daemon.rpc("worker.place", port="a", worker=worker)
            daemon.rpc("worker.place", port="b", worker=1 - worker)
            meet()
            wait_polled(daemon, "a", [worker])
            wait_polled(daemon, "b", [1 - worker])
            asleep()
            meet()
