# SPDX-License-Identifier: BSD-3-Clause
"""Captures, traces and mirrors: what they say of real traffic between interfaces of the kernel, read by
tcpdump and tshark; and that whoever reads them slowly, or not at all, costs nobody else anything."""
import array
import contextlib
import json
import os
import pathlib
import pty
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

import pytest

from harness import CPUS, RINGWAYCTL, Daemon, RpcError, Workdir, wait_stable, wait_until
from test_tap import OFF, site, tap_port

# An Ethernet type for experiments (IEEE 802): no kernel answers it.
TYPE = 0x88b5


@contextlib.contextmanager
def hosts(*more, a=None, b=None, **options):
    """Two hosts behind TAP ports, each knowing the other."""
    ports = [tap_port("a", **(a or {})), tap_port("b", **(b or {})), *more]
    with site(ports, **options) as place:
        for number, name in enumerate("ab"):
            place.move(f"rw{name}", number)
        place.hosts[0].run("ping", "-c", "1", "-W", "5", "10.7.0.2")
        # What the kernels say of themselves when an interface comes up is said by then.
        wait_stable(lambda: place.daemon.counters("a")["rx_packets"], 10, "quiet interfaces")
        yield place


def call_with(daemon, descriptor, method, **params):
    """Calls a method with a descriptor beside the request."""
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(daemon.socket))
        rights = array.array("i", [descriptor])
        connection.sendmsg([json.dumps(request).encode()],
                           [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        reply = json.loads(connection.recv(65536))
    if "error" in reply:
        raise RpcError(reply["error"])
    return reply["result"]


def start(place, name, port="a", **params):
    """Begins a capture into a file; returns its number and the path."""
    path = place.directory / f"{name}.pcapng"
    return place.daemon.rpc("capture.start", port=port, file=str(path), **params)["capture"], path


def stop(place, capture):
    done = place.daemon.rpc("capture.stop", capture=capture)
    assert done["state"] == "ended" and done["matched"] == done["written"] + done["missed"]
    return done


def tool(*command):
    """Its output; it must have nothing to complain about."""
    done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)
    complaints = [line for line in done.stderr.splitlines()
                  if not line.startswith(("Running as user", "reading from file"))]
    assert done.returncode == 0 and complaints == [], (command, done.stderr)
    return done.stdout


def frames(path, *fields, show=""):
    """The fields of each frame, as tshark reads them; tcpdump must like the file as well."""
    tool("tcpdump", "-nr", path)
    lines = tool("tshark", "-n", "-r", path, "-Y", show, "-T", "fields", "-E", "occurrence=f",
                 *(word for field in fields for word in ("-e", field))).splitlines()
    return [line.split("\t") for line in lines]


def blocks(path):
    """The types of a file's blocks, each of which must be whole."""
    data, types = pathlib.Path(path).read_bytes(), []
    while data:
        kind, length = struct.unpack("=II", data[:8])
        assert length % 4 == 0 and struct.unpack("=I", data[length - 4:length]) == (length,)
        types.append(kind)
        data = data[length:]
    return types


def last_words(path):
    """The comment of the last block, which sums up: why the capture has ended."""
    data, at = pathlib.Path(path).read_bytes(), 0
    assert blocks(path)[-1] == 5
    for _ in blocks(path)[:-1]:
        at += struct.unpack("=I", data[at + 4:at + 8])[0]
    code, length = struct.unpack("=HH", data[at + 20:at + 24])
    assert code == 1
    return data[at + 24:at + 24 + length].decode()


@contextlib.contextmanager
def link(place, host, interface):
    """A packet socket on an interface."""
    namespace = place.home if host is None else place.hosts[host]
    with namespace.entered():
        packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        packets.bind((interface, 0))
    with packets:
        packets.settimeout(2)
        yield packets


def mac(place, host, interface):
    return bytes.fromhex(place.hosts[host].links()[interface]["address"].replace(":", ""))


def numbered(destination, source, number, length=60):
    return (destination + source + struct.pack("!HI", TYPE, number)).ljust(length, b"\xaa")


def test_filter():
    """Exactly the frames that the filter says, each once, in the direction that is asked for."""
    with hosts() as place:
        capture, path = start(place, "in", filter=f"ether proto {TYPE} and ether[17] & 1 = 0",
                              direction="in")
        out, out_path = start(place, "out", port="b", direction="out",
                              filter=f"ether proto {TYPE}", snap=18)
        to, source = mac(place, 1, "rwb"), mac(place, 0, "rwa")
        with link(place, 0, "rwa") as sender:
            for number in range(200):
                sender.send(numbered(to, source, number))
        wait_until(lambda: place.daemon.rpc("capture.list")[1]["written"] == 200, 10, "all")
        done = stop(place, capture)
        assert done["written"] == 100 and done["missed"] == 0 and done["seen"] >= 200
        assert stop(place, out)["written"] == 200
        seen = frames(path, "data.data", "frame.packet_flags_direction", "frame.interface_name")
        assert [int(data[:8], 16) for data, *_ in seen] == list(range(0, 200, 2))
        assert {tuple(rest) for _, *rest in seen} == {("0x00000001", "a")}
        seen = frames(out_path, "frame.cap_len", "frame.len", "data.data",
                      "frame.packet_flags_direction")
        assert [tuple(row[:2]) for row in seen] == [("18", "60")] * 200
        assert [int(row[2], 16) for row in seen] == list(range(200))
        assert {row[3] for row in seen} == {"0x00000002"}
        assert last_words(path) == "stopped"
        assert os.stat(path).st_mode & 0o7777 == 0o600


@pytest.mark.parametrize("workers", [1, 2])
def test_under_load(workers):
    """While TCP runs as fast as it can: nothing to complain about, TSO frames whole and told of."""
    if workers > len(CPUS):
        pytest.skip("this machine has one CPU")
    config = {"workers": [{"cpu": cpu, "idle": "adaptive"} for cpu in CPUS[-workers:]],
              "ports": [tap_port("a"), tap_port("b")]}
    with hosts(config=config) as place:
        begun = [start(place, name, port=name, bytes="6MiB", buffer="64MiB") for name in "ab"]
        place.iperf(0, 1)
        place.iperf(1, 0, seconds=1)
        for capture, path in begun:
            stop(place, capture)
            done = next(row for row in place.daemon.rpc("capture.list")
                        if row["capture"] == capture)
            assert os.stat(path).st_size == done["bytes"] <= (6 << 20) + 512
            types = blocks(path)
            assert types.count(6) == done["written"] > 100
            rows = frames(path, "frame.len", "frame.cap_len", "frame.comment")
            assert len(rows) == done["written"]
            assert all(length == kept for length, kept, _ in rows)
            large = [row for row in rows if int(row[0]) > 1514]
            assert large and all(row[2].startswith("TSO4, ") for row in large)
            assert max(int(row[0]) for row in large) > 20000


def test_limits():
    """Packets, bytes and seconds each end a capture, and the file is as large as was said."""
    with hosts() as place:
        daemon = place.daemon
        begun = {"packets": start(place, "packets", packets=7),
                 "bytes": start(place, "bytes", bytes=65536),
                 "seconds": start(place, "seconds", seconds=1, filter="port 1")}
        to, source = mac(place, 1, "rwb"), mac(place, 0, "rwa")
        with link(place, 0, "rwa") as sender:
            for number in range(200):
                sender.send(numbered(to, source, number, 1000))
        ends = {key: daemon.rpc("capture.wait", capture=number) for key, (number, _) in begun.items()}
        assert ends["packets"]["written"] == 7 and ends["packets"]["reason"] == "all frames have come"
        assert 60 <= ends["bytes"]["written"] <= 65536 // 1000
        assert ends["bytes"]["reason"] == "the file has its size"
        assert os.stat(begun["bytes"][1]).st_size <= 65536 + 512
        assert ends["seconds"]["reason"] == "the time is over" and ends["seconds"]["written"] == 0
        for key, (_, path) in begun.items():
            assert ends[key]["matched"] == ends[key]["written"] and ends[key]["missed"] == 0
            assert last_words(path) == ends[key]["reason"]
            assert len(frames(path, "frame.len")) == ends[key]["written"]


def busy(place):
    """TCP runs, and the daemon answers at once, whatever else there is."""
    slowest = []

    def ask():
        while not ended.is_set():
            begun = time.monotonic()
            place.daemon.rpc("capture.list")
            slowest.append(time.monotonic() - begun)
            time.sleep(0.01)

    ended = threading.Event()
    thread = threading.Thread(target=ask)
    thread.start()
    try:
        rate = place.iperf(0, 1, seconds=1)
    finally:
        ended.set()
        thread.join()
    # A daemon that waited for the reader would not answer at all.
    assert max(slowest) < 1
    return rate


def test_pipe_that_nobody_reads():
    """Frames are missed and counted, traffic and control go on, and the end does not wait for ever."""
    with hosts() as place:
        alone = busy(place)
        reader, writer = os.pipe()
        capture = call_with(place.daemon, writer, "capture.start", port="a", fd=True)["capture"]
        os.close(writer)
        assert busy(place) > alone / 4
        begun = time.monotonic()
        done = stop(place, capture)
        assert time.monotonic() - begun < 5
        assert done["missed"] > 0 and done["reason"] == "the reader did not take the end"
        os.close(reader)


def test_slow_reader_gets_whole_blocks():
    """Who reads late reads less, but what is read makes sense and says how much is missing."""
    with hosts() as place:
        reader, writer = os.pipe()
        capture = call_with(place.daemon, writer, "capture.start", port="a", fd=True,
                            buffer="256KiB")["capture"]
        assert os.get_blocking(writer)  # what others have open, too, is left as it is
        os.close(writer)
        place.iperf(0, 1, seconds=1)
        path = place.directory / "late.pcapng"
        with open(reader, "rb") as source, open(path, "wb") as target:
            ended = threading.Thread(target=lambda: target.write(source.read()))
            ended.start()
            done = stop(place, capture)
            ended.join(10)
        assert done["missed"] > 0 and done["written"] == blocks(path).count(6)
        assert len(frames(path, "frame.len")) == done["written"] > 0


def test_full_disk():
    """The file ends with the last frame that found room, and can be read."""
    with hosts() as place:
        small = place.directory / "small"
        small.mkdir()
        # Seen by the daemon, whose mounts are the test's own.
        pid = place.daemon.pid
        subprocess.run(["nsenter", "-t", str(pid), "-m", "mount", "-t", "tmpfs", "-o", "size=256k",
                        "none", small], check=True)
        try:
            capture, _ = start(place, "small/full")
            busy(place)
            done = place.daemon.rpc("capture.wait", capture=capture)
            assert "No space left" in done["reason"]
            copy = place.directory / "copy.pcapng"
            data = subprocess.run(["nsenter", "-t", str(pid), "-m", "cat", small / "full.pcapng"],
                                  check=True, stdout=subprocess.PIPE).stdout
            copy.write_bytes(data)
            assert len(data) == done["bytes"]
            assert blocks(copy).count(6) == len(frames(copy, "frame.len")) == done["written"] > 0
            assert done["matched"] == done["written"] + done["missed"]
        finally:
            subprocess.run(["nsenter", "-t", str(pid), "-m", "umount", small], check=True)


def test_drop_reasons():
    """Frames that were dropped are there, with the reason, on the side on which they were."""
    with hosts() as place:
        daemon = place.daemon
        daemon.rpc("port.set", name="b", mtu=1000)
        a, a_path = start(place, "a", filter=f"ether proto {TYPE}")
        b, b_path = start(place, "b", port="b", filter=f"ether proto {TYPE}")
        to, source = mac(place, 1, "rwb"), mac(place, 0, "rwa")
        with link(place, 0, "rwa") as sender:
            sender.send(numbered(to, source, 0))
            sender.send(numbered(to, source, 1, 1200))
            sender.send(numbered(source, source, 2))
            sender.send(numbered(to, b"\x01" + source[1:], 3))
            wait_until(lambda: daemon.counters("a")["rx_dropped"].get("bad_source"), 5, "a drop")
            daemon.rpc("port.set", name="b", enabled=False)

            def dropped():
                # A burst that is under way when the port is switched off still goes there.
                sender.send(numbered(to, source, 4))
                return daemon.counters("b")["tx_dropped"].get("disabled", 0) > 3

            wait_until(dropped, 5, "drops")
        stop(place, a)
        stop(place, b)
        rows = [(int(data[:8], 16), comment) for data, comment in
                frames(a_path, "data.data", "frame.comment")]
        assert rows[:4] == [(0, ""), (1, ""), (2, "dropped: hairpin"), (3, "dropped: bad_source")]
        assert set(rows[4:]) == {(4, "")}
        # What is dropped is known before what is sent in the same burst.
        rows = sorted((int(data[:8], 16), comment) for data, comment in
                      frames(b_path, "data.data", "frame.comment"))
        assert rows[:2] == [(0, ""), (1, "dropped: mtu")] and rows[-1] == (4, "dropped: disabled")


def test_checksums_are_told_of():
    """A partial checksum looks wrong in a capture: the remark says that it is not."""
    with hosts() as place:
        capture, path = start(place, "sum", filter="udp port 9", direction="in")
        with place.hosts[0].entered():
            sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sender:
            sender.sendto(b"x" * 100, ("10.7.0.2", 9))
        wait_until(lambda: place.daemon.rpc("capture.list")[0]["written"] == 1, 5, "the frame")
        stop(place, capture)
        assert frames(path, "frame.comment") == [["partial checksum at 34+6"]]


def test_many_at_once():
    """Sixteen captures of one port see the same; one more is refused; each ends by itself."""
    with hosts() as place:
        begun = [start(place, f"n{i}", filter=f"ether proto {TYPE}", direction="in")
                 for i in range(16)]
        with pytest.raises(RpcError, match="there are 16 captures already"):
            start(place, "more")
        to, source = mac(place, 1, "rwb"), mac(place, 0, "rwa")
        with link(place, 0, "rwa") as sender:
            for number in range(16):
                sender.send(numbered(to, source, number))
                wait_until(lambda: all(row["written"] == number + 1 for row in
                                       place.daemon.rpc("capture.list")[number:16]), 5, "a frame")
                stop(place, begun[number][0])
        for number, (_, path) in enumerate(begun):
            assert len(frames(path, "frame.len")) == number + 1
        start(place, "again")


READER = """
import os, sys
os.write(1, b"x")
while os.read(0, 65536):
    pass
"""


def test_readers_that_go():
    """Killed readers, and killed owners, end their captures; those of others go on."""
    with hosts() as place:
        daemon = place.daemon
        other, other_path = start(place, "other")
        reader, writer = os.pipe()
        capture = call_with(daemon, writer, "capture.start", port="a", fd=True)["capture"]
        os.close(writer)
        process = subprocess.Popen([sys.executable, "-c", READER], stdin=reader,
                                   stdout=subprocess.PIPE)
        os.close(reader)
        assert process.stdout.read(1) == b"x"
        process.kill()
        process.wait()
        process.stdout.close()
        assert daemon.rpc("capture.wait", capture=capture)["reason"] == "the reader is gone"

        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            call_with(daemon, writer, "capture.start", port="b", fd=True)
            signal.pause()
        os.close(writer)
        wait_until(lambda: len(daemon.rpc("capture.list")) == 3, 10, "the child's capture")
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        done = daemon.rpc("capture.wait", capture=capture + 1)
        assert done["reason"] == "the process that asked for it has ended"
        with open(reader, "rb") as source:
            (place.directory / "child.pcapng").write_bytes(source.read())
        assert last_words(place.directory / "child.pcapng") == done["reason"]
        place.hosts[0].run("ping", "-c", "1", "10.7.0.2")
        assert stop(place, other)["written"] > 0
        assert frames(other_path, "frame.len")


def test_ports_and_daemons_that_go():
    """A port that is opened anew keeps its captures, one that is removed ends them; so does the end of
    the daemon. The files are whole."""
    with hosts(tap_port("c")) as place:
        daemon = place.daemon
        kept, kept_path = start(place, "kept", port="a")
        _, lost_path = start(place, "lost", port="c")
        daemon.rpc("port.remove", name="c")
        wait_until(lambda: daemon.rpc("capture.list")[1]["state"] == "ended", 5, "the end")
        assert daemon.rpc("capture.list")[1]["reason"] == "the port was removed"
        assert last_words(lost_path) == "the port was removed"
        before = daemon.rpc("capture.list")[0]["seen"]
        assert daemon.rpc("port.set", name="a", queues=2)["reopened"]
        place.move("rwa", 0)
        place.hosts[0].run("ping", "-c", "2", "-i", "0.2", "10.7.0.2")
        assert daemon.rpc("capture.list")[0]["seen"] > before
        assert daemon.stop() == 0
        assert last_words(kept_path) == "the daemon stops"
        assert frames(kept_path, "frame.len", show="icmp")


def test_refusals():
    """Each says what is wrong, and leaves nothing behind."""
    with hosts() as place:
        daemon = place.daemon
        there = place.directory / "there"
        there.write_text("mine")
        cases = [({"port": "no"}, "there is no port no"),
                 ({}, "there must be one output"),
                 ({"file": str(there), "fd": True}, "there must be one output"),
                 ({"file": "relative"}, '"file" is not accepted'),
                 ({"file": str(there)}, "File exists"),
                 ({"file": "/no/such/place"}, "No such file"),
                 ({"fd": True}, "no descriptor came"),
                 ({"filter": "tcp and and", "file": f"{there}2"}, "syntax error"),
                 ({"filter": "ip6 protochain 6", "file": f"{there}2"}, "may loop for ever"),
                 ({"filter": "arp or inbound", "file": f"{there}2"}, "a direction of their own"),
                 ({"filter": "ifindex 3 and tcp", "file": f"{there}2"}, "a direction of their own"),
                 ({"snap": 0, "file": f"{there}2"}, "snap"),
                 ({"direction": "up", "file": f"{there}2"}, "direction"),
                 ({"buffer": 1, "file": f"{there}2"}, "buffer")]
        for params, words in cases:
            with pytest.raises(RpcError, match=words):
                daemon.rpc("capture.start", **{"port": "a", **params})
        with open(os.devnull) as nothing, pytest.raises(RpcError, match="cannot be written"):
            call_with(daemon, nothing.fileno(), "capture.start", port="a", fd=True)
        screen, terminal = pty.openpty()
        with pytest.raises(RpcError, match="the descriptor is a terminal"):
            call_with(daemon, terminal, "capture.start", port="a", fd=True)
        os.close(screen)
        os.close(terminal)
        for method in "capture.stop", "capture.wait":
            with pytest.raises(RpcError, match="there is no capture 99"):
                daemon.rpc(method, capture=99)
        assert daemon.rpc("capture.list") == [] and there.read_text() == "mine"
        assert not pathlib.Path(f"{there}2").exists()


# ---- traces ----

def steps(frame):
    return [(step["step"], step.get("port"), step["result"]) for step in frame["steps"]]


def trace_while(place, act, **params):
    result = []
    thread = threading.Thread(target=lambda: result.append(
        place.daemon.rpc("trace.start", timeout=30, **params)))
    thread.start()
    try:
        wait_until(lambda: any(row.get("trace") and row["state"] == "running"
                               for row in place.daemon.rpc("capture.list")), 5, "the trace")
        act()
    finally:
        thread.join(30)
    return result[0]


def test_trace():
    """Flooded, known, looping and refused frames, and those that must be cut for their receiver."""
    with hosts(tap_port("c"), b={"offloads": OFF}) as place:
        to, source = mac(place, 1, "rwb"), mac(place, 0, "rwa")

        def send():
            place.daemon.rpc("port.set", name="c", enabled=False)
            with link(place, 0, "rwa") as sender:
                sender.send(numbered(b"\xff" * 6, source, 0))
                sender.send(numbered(to, source, 1))
                sender.send(numbered(source, source, 2))

        result = trace_while(place, send, port="a", count=3, direction="in",
                             filter=f"ether proto {TYPE}")
        assert result["reason"] == "all frames have come"
        flooded, known, looping = result["frames"]
        taken = ("take", None, "queue 0, by worker 0")
        assert steps(flooded)[:2] == [taken, ("lookup", None, "flooded: broadcast")]
        assert sorted(steps(flooded)[2:]) == [
            ("send", "b", "sent on queue 0"),
            ("send", "c", "dropped: disabled, the port is switched off")]
        assert steps(known) == [taken, ("lookup", None, "known: to port b"),
                                ("send", "b", "sent on queue 0")]
        assert steps(looping) == [taken, ("lookup", None, "dropped: hairpin, its destination is "
                                          "behind the port it came from")]
        assert known["source"] == ":".join(f"{byte:02x}" for byte in source)
        assert known["length"] == 60 and known["type"] == hex(TYPE) and known["direction"] == "in"

        result = trace_while(place, lambda: place.iperf(0, 1, seconds=1), port="a", count=3,
                             direction="in", filter="greater 5000")
        for frame in result["frames"]:
            assert frame["offloads"].startswith("TSO4, ")
            (step, port, text), = steps(frame)[2:]
            assert (step, port) == ("send", "b")
            assert text.startswith("cut into segments; checksum filled; ")
            assert "frames sent on queue 0" in text or "dropped: " in text

        result = trace_while(place, send, port="b", count=1000, seconds=1, direction="out",
                             filter=f"ether proto {TYPE}")
        assert result["reason"] == "the time is over" and len(result["frames"]) == 2
        assert steps(result["frames"][1]) == [("lookup", None, "from port a, known"),
                                              ("send", "b", "sent on queue 0")]


def test_one_trace_at_a_time():
    with hosts() as place:
        def refuse():
            with pytest.raises(RpcError, match="port a is being traced"):
                place.daemon.rpc("trace.start", port="b")

        result = trace_while(place, refuse, port="a", seconds=1, filter="port 1")
        assert result == {"reason": "the time is over", "frames": []}
        with pytest.raises(RpcError, match="syntax error"):
            place.daemon.rpc("trace.start", port="a", filter="((")
        with pytest.raises(RpcError, match="there is no port x"):
            place.daemon.rpc("trace.start", port="x")


# ---- mirrors ----

def received(packets, count):
    """The next frames of the test's own type."""
    found = []
    while len(found) < count:
        frame = packets.recv(2048)
        if struct.unpack("!H", frame[12:14])[0] == TYPE:
            found.append(frame)
    return found


def third_ledger(daemon):
    """What was sent on, flooded and mirrored was offered."""
    ports = daemon.rpc("stats.get")["ports"]
    return sum(port["rx_forwarded"] + port["rx_copies"] + port["tx_mirrored"] for port in ports) == \
        sum(port["tx_offered"] for port in ports)


def test_mirror():
    """The same frames, both ways, also those that were dropped; live; and nothing without a target."""
    with hosts(tap_port("c"), a={"mirror": {"to": "c"}}) as place:
        daemon = place.daemon
        place.home.run("ip", "link", "set", "rwc", "up")
        b, a = mac(place, 1, "rwb"), mac(place, 0, "rwa")
        sent = [numbered(b, a, 1), numbered(a, a, 2), numbered(b, a, 3, 1400)]
        back = [numbered(a, b, 4), numbered(a, b, 5, 900)]
        with link(place, None, "rwc") as watcher, link(place, 0, "rwa") as left, \
                link(place, 1, "rwb") as right:
            for frame in sent:
                left.send(frame)
            assert received(watcher, 3) == sent
            for frame in back:
                right.send(frame)
            assert received(watcher, 2) == back
            assert daemon.counters("c")["tx_mirrored"] >= 5
            daemon.rpc("port.set", name="a", mirror={"direction": "out"})
            left.send(sent[0])
            right.send(back[0])
            assert received(watcher, 1) == back[:1]
            daemon.rpc("port.set", name="a", mirror=None)
            right.send(back[0])
            daemon.rpc("port.set", name="a", mirror={"to": "c", "direction": "in"})
            left.send(sent[2])
            assert received(watcher, 1) == sent[2:]
        wait_until(lambda: third_ledger(daemon), 5, "the ledgers balance")
        assert daemon.port("a")["mirror"] == {"to": "c", "direction": "in", "reason": None}
        daemon.rpc("port.remove", name="c")
        assert daemon.port("a")["mirror"]["reason"] == "there is no such port"
        place.hosts[0].run("ping", "-c", "1", "10.7.0.2")


def test_mirror_under_load():
    """A mirror of TCP with all its offloads to a port that takes none of them."""
    with hosts(tap_port("c", offloads=OFF), a={"mirror": {"to": "c"}}) as place:
        place.home.run("ip", "link", "set", "rwc", "up")
        assert place.iperf(0, 1) > 10e6
        counters = place.daemon.counters("c")
        assert counters["tx_cut"] > 0 and counters["tx_mirrored"] > 100
        wait_until(lambda: third_ledger(place.daemon), 5, "the ledgers balance")


def test_mirror_refusals():
    """No port is its own mirror's target, nor one end of a chain; in files neither."""
    with Workdir() as directory, Daemon(directory, idle="adaptive") as daemon:
        def add(name, to=None):
            daemon.rpc("port.add", name=name, type="vhost-user", socket=f"{directory}/{name}.sock",
                       **({"mirror": {"to": to}} if to else {}))

        with pytest.raises(RpcError, match="port a cannot be mirrored to itself"):
            add("a", "a")
        add("a", "b")
        add("c", "b")
        with pytest.raises(RpcError, match="copies of copies"):
            add("b", "d")
        add("b")
        with pytest.raises(RpcError, match="copies of copies"):
            add("d", "a")
        with pytest.raises(RpcError, match="copies of copies"):
            daemon.rpc("port.set", name="b", mirror={"to": "d"})
        with pytest.raises(RpcError, match="mirror.to"):
            daemon.rpc("port.set", name="b", mirror={"direction": "in"})
        assert "mirror" not in daemon.port("b")


# ---- ringwayctl ----

def client(place, *words, **options):
    return subprocess.Popen([RINGWAYCTL, "--socket", str(place.daemon.socket), *words],
                            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, **options)


def ended(process, *statuses):
    """Its last words, once it has ended with one of these statuses."""
    said = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(10) in statuses, said
    return said


def test_client_pipes():
    """`ringwayctl capture | tcpdump -r -` shows frames as they come, and ^C ends both in order."""
    with hosts() as place:
        reader = subprocess.Popen(["tcpdump", "-n", "-l", "-r", "-"], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        writer = client(place, "capture", "a", "icmp", "and", "icmp[0] = 8", "direction=in",
                        stdout=reader.stdin)
        reader.stdin.close()
        wait_until(lambda: place.daemon.rpc("capture.list"), 5, "the capture")
        place.hosts[0].run("ping", "-c", "3", "-i", "0.2", "10.7.0.2")
        lines = [reader.stdout.readline().decode() for _ in range(3)]
        assert all("ICMP echo request" in line for line in lines)
        writer.send_signal(signal.SIGINT)
        assert ", 3 matched, 3 written, 0 missed: stopped" in ended(writer, 0)
        assert reader.stdout.read() == b"" and reader.wait(10) == 0
        complaints = reader.stderr.read().decode().splitlines()
        assert complaints == ["reading from file -, link-type EN10MB (Ethernet), snapshot length "
                              "262144"]
        reader.stdout.close()
        reader.stderr.close()


def test_client_ends():
    """With a limit, with its reader, with the daemon, and killed; files are whole."""
    with hosts() as place:
        path = place.directory / "limit.pcapng"
        with open(path, "wb") as output:
            writer = client(place, "capture", "a", "packets=2", stdout=output)
            wait_until(lambda: place.daemon.rpc("capture.list"), 5, "the capture")
            place.hosts[0].run("ping", "-c", "2", "-i", "0.2", "10.7.0.2")
            assert "2 written, 0 missed: all frames have come" in ended(writer, 0)
        assert len(frames(path, "frame.len")) == 2

        reader, output = os.pipe()
        writer = client(place, "capture", "a", stdout=output)
        os.close(output)
        assert os.read(reader, 4)
        os.close(reader)
        assert "the reader is gone" in ended(writer, 0)

        with open(path, "wb") as output:
            writer = client(place, "capture", "a", stdout=output)
            wait_until(lambda: len(place.daemon.rpc("capture.list")) == 3, 5, "the capture")
            writer.kill()
            ended(writer, -signal.SIGKILL)
            wait_until(lambda: place.daemon.rpc("capture.list")[2]["state"] == "ended", 5, "its end")
        assert last_words(path) == "the process that asked for it has ended"

        with open("/dev/full", "wb") as output:
            writer = client(place, "capture", "a", stdout=output)
            assert "cannot be written: No space left on device" in ended(writer, 1)

        with open(path, "wb") as output:
            writer = client(place, "capture", "a", stdout=output)
            wait_until(lambda: len(place.daemon.rpc("capture.list")) == 5, 5, "the capture")
            assert place.daemon.stop() == 0
            assert ended(writer, 0, 3)  # told, or cut off while it waited
        assert last_words(path) in ("the daemon stops", "the process that asked for it has ended")


def test_client_refusals():
    with hosts() as place:
        terminal, other = pty.openpty()
        said = ended(client(place, "capture", "a", stdout=other), 2)
        assert "is nothing for a terminal" in said
        os.close(terminal)
        os.close(other)
        for words, status, text in [(("capture",), 2, "a port is missing"),
                                    (("capture", "x"), 1, "there is no port x"),
                                    (("capture", "a", "nonsense"), 1, "the filter is refused"),
                                    (("capture", "a", "seconds=0"), 1, "seconds"),
                                    (("trace", "a", "((") , 1, "the filter is refused"),
                                    (("trace", "a", "count=0"), 1, "count")]:
            assert text in ended(client(place, *words, stdout=subprocess.DEVNULL), status), words
        # Without an output no connection to the daemon takes its place.
        said = ended(client(place, "capture", "a", preexec_fn=lambda: os.close(1)), 1)
        assert "the descriptor cannot be written to" in said


def test_client_of_a_daemon_that_stands_still():
    """^C asks it to end the capture, and once more does not wait for it."""
    with hosts() as place:
        daemon = place.daemon
        writer = client(place, "capture", "a", stdout=subprocess.DEVNULL)
        wait_until(lambda: daemon.rpc("capture.list"), 5, "the capture")
        os.kill(daemon.pid, signal.SIGSTOP)
        try:
            writer.send_signal(signal.SIGINT)

            def heard():
                status = pathlib.Path(f"/proc/{writer.pid}/status").read_text()
                return not int(status.split("ShdPnd:")[1].split()[0], 16) >> (signal.SIGINT - 1) & 1

            wait_until(heard, 5, "the first signal is taken")
            with pytest.raises(subprocess.TimeoutExpired):
                writer.wait(0.3)
            writer.send_signal(signal.SIGINT)
            assert writer.wait(5) == -signal.SIGINT
        finally:
            os.kill(daemon.pid, signal.SIGCONT)
            writer.kill()
            ended(writer, -signal.SIGINT, -signal.SIGKILL)
        wait_until(lambda: daemon.rpc("capture.list")[0]["state"] == "ended", 5, "its end")


def test_client_trace():
    """For people, one step a line; as JSON what the daemon said."""
    with hosts() as place:
        for option, check in [((), lambda text: "  lookup  known: to port b\n  send    b: sent on "
                               "queue 0\n" in text and "  type 0x0800  98 bytes\n" in text),
                              (("--json",), lambda text: len(json.loads(text)["frames"]) == 1)]:
            process = client(place, *option, "trace", "a", "icmp", "count=1", "direction=in",
                             stdout=subprocess.PIPE)
            wait_until(lambda: any(row["state"] == "running" for row in
                                   place.daemon.rpc("capture.list")), 5, "the trace")
            place.hosts[0].run("ping", "-c", "1", "10.7.0.2")
            text = process.stdout.read().decode()
            process.stdout.close()
            said = ended(process, 0)
            assert check(text), text
            assert option or "1 frames: all frames have come" in said
