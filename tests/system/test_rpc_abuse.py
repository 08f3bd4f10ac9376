# SPDX-License-Identifier: BSD-3-Clause
"""Clients that mean no good, or know no better, at the control socket of the daemon; meanwhile
another client measures that its own requests are answered in time."""
import fcntl
import json
import os
import random
import select
import socket
import struct
import termios
import threading
import time

import pytest

from harness import SWITCH_CPU, Daemon, RpcError, vhost_port, wait_until

# An answer that takes longer is none for an operator. What it takes alone is far below 1 ms.
BOUND = 1.0

REQUEST_MAX = 256 << 10
CLIENTS_MAX = 256
LIMIT, PARSE, REQUEST = -32006, -32700, -32600


def request(method, number=1, **params):
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode()


class Client:
    """A plain socket: sends any bytes, and reads answers line by line."""

    def __init__(self, daemon):
        self.socket = socket.socket(socket.AF_UNIX)
        # Without a time limit: one would make it fail at once where others stand in line.
        self.socket.connect(str(daemon.socket))
        self.socket.settimeout(10)
        self.received = b""

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.socket.close()

    def send(self, data):
        """Says whether all of it went; not to one who has closed."""
        try:
            self.socket.sendall(data)
            return True
        except (BrokenPipeError, ConnectionResetError):
            return False

    def wait_read(self):
        """Until the daemon has taken everything that was sent."""
        def unread():
            return struct.unpack("i", fcntl.ioctl(self.socket, termios.TIOCOUTQ, bytes(4)))[0]
        while unread():
            time.sleep(0)

    def answer(self):
        """The next answer; None at the end of the stream."""
        while b"\n" not in self.received:
            try:
                data = self.socket.recv(1 << 20)
            except ConnectionResetError:
                data = b""
            if not data:
                last, self.received = self.received, b""
                return json.loads(last) if last else None
            self.received += data
        line, self.received = self.received.split(b"\n", 1)
        return json.loads(line)

    def finish(self):
        """Sends no more; returns the answers that still come."""
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:  # the daemon was faster
            pass
        return list(iter(self.answer, None))

    def expect_refusal(self, code):
        """An error for no request in particular, and the end."""
        answer = self.answer()
        assert (answer["error"]["code"], answer["id"]) == (code, None)
        assert self.answer() is None


class Witness(threading.Thread):
    """Asks for something small, again and again, on one connection."""

    def __init__(self, daemon):
        super().__init__()
        self.daemon_under_test = daemon
        self.ended = threading.Event()
        self.times = []
        self.fault = None
        self.start()

    def run(self):
        try:
            with Client(self.daemon_under_test) as client:
                while not self.ended.wait(0.002):
                    begin = time.monotonic()
                    client.send(request("port.get", 7, name="vm1"))
                    answer = client.answer()
                    self.times.append(time.monotonic() - begin)
                    assert (answer["id"], answer["result"]["name"]) == (7, "vm1")
        except BaseException as fault:  # told by the one who waits for us
            self.fault = fault

    def stop(self):
        self.ended.set()
        self.join(15)
        assert not self.is_alive()


@pytest.fixture(scope="module")
def switch(workdir):
    ports = [vhost_port(workdir, "vm1"), vhost_port(workdir, "vm2")]
    with Daemon(workdir, ports) as daemon:
        yield daemon


def open_files(daemon):
    return len(os.listdir(f"/proc/{daemon.pid}/fd"))


@pytest.fixture(autouse=True)
def witness(switch):
    """All the while somebody else is served, and in the end nothing is left over."""
    files = open_files(switch)
    witness = Witness(switch)
    wait_until(lambda: witness.times or witness.fault, 5, "the witness is served")
    yield witness
    witness.stop()
    assert witness.fault is None
    assert max(witness.times) < BOUND, sorted(witness.times)[-5:]
    wait_until(lambda: open_files(switch) <= files, 5, "all connections are closed")


def test_split_at_every_byte(switch):
    whole = request("port.get", 3, name="vm2")
    with Client(switch) as client:
        client.send(whole)
        expected = client.answer()
        assert expected["result"]["name"] == "vm2"
        for cut in range(1, len(whole)):
            client.send(whole[:cut])
            client.wait_read()
            client.send(whole[cut:])
            assert client.answer() == expected
        for byte in whole + whole:
            client.send(bytes([byte]))
            client.wait_read()
        assert client.answer() == expected == client.answer()


def test_large_requests(switch):
    small = request("system.info")
    with Client(switch) as client:
        client.send(small[:-1].ljust(REQUEST_MAX - 1) + b"}")
        assert client.answer()["result"]["pid"] == switch.pid
        client.send(request("log.set", level="x" * (REQUEST_MAX - 200)))
        assert client.answer()["error"]["code"] == -32602
        client.send(small[:-1].ljust(REQUEST_MAX) + b"}")
        client.expect_refusal(LIMIT)
    before = switch.rss()
    for filling in b"x", b"\\\"", b" ", b"[],", b"1":
        with Client(switch) as client:
            opening = {b"x": b'"', b"\\\"": b'"', b"[],": b"["}.get(filling, b"")
            if client.send(opening + filling * ((16 << 20) // len(filling))):
                # White space is no request, and may go on for ever.
                assert filling == b" "
                client.send(small)
                assert client.answer()["result"]["pid"] == switch.pid
            else:
                client.expect_refusal(LIMIT)
    assert switch.rss() < before + (16 << 20)


@pytest.mark.parametrize("bomb", [b"[" * 100000, b'{"a":' * 20000, b'[{"a":' * 20000,
                                  b'{"jsonrpc":"2.0","id":1,"method":"port.add","params":' +
                                  b'{"labels":' * 20000],
                         ids=["arrays", "objects", "both", "in a request"])
def test_nesting(switch, bomb):
    with Client(switch) as client:
        client.send(bomb)
        client.expect_refusal(LIMIT)
    with Client(switch) as client:
        client.send(b"[" * 32 + b"]" * 32)
        assert client.answer()[0]["error"]["code"] == REQUEST


def test_too_many_clients(switch):
    clients, served, refused = [], 0, 0
    try:
        for _ in range(300):
            clients.append(Client(switch))
        for number, client in enumerate(clients):
            client.send(request("system.info", number))
        for number, client in enumerate(clients):
            answer = client.answer()
            if "result" in answer:
                assert answer["id"] == number
                served += 1
            else:
                assert answer["error"]["code"] == LIMIT
                assert client.answer() is None
                refused += 1
    finally:
        for client in clients:
            client.socket.close()
    # The witness is one of them.
    assert (served, refused) == (CLIENTS_MAX - 1, 300 - (CLIENTS_MAX - 1))

    def served_again():
        with Client(switch) as client:
            client.send(request("system.info"))
            return "result" in client.answer()
    wait_until(served_again, 5, "there is room again")


def test_who_sends_slowly(switch):
    """Two hundred clients, each in the middle of a request for ever."""
    whole = request("port.list")
    clients = [Client(switch) for _ in range(200)]
    try:
        for place in range(len(whole)):
            for client in clients:
                client.send(whole[place:place + 1])
        for client in clients:
            assert len(client.answer()["result"]) == 2
            client.send(whole[:-1])
    finally:
        for client in clients:
            client.socket.close()


def test_who_never_reads(switch):
    """It is dropped, and costs no more than what may wait for it."""
    before = switch.rss()
    with Client(switch) as client:
        ask = request("rpc.discover") * 16
        deadline = time.monotonic() + 10
        client.socket.setblocking(False)
        dropped = False
        while not dropped and time.monotonic() < deadline:
            select.select([], [client.socket], [], 0.1)
            try:
                client.socket.send(ask)
            except BlockingIOError:
                pass
            except (BrokenPipeError, ConnectionResetError):
                dropped = True
        assert dropped
    assert switch.rss() < before + (32 << 20)


def test_who_reads_as_fast_as_it_can(switch):
    """However much there is to read: long answers to short requests are no reason to drop it."""
    count = 1000
    with Client(switch) as client:
        sender = threading.Thread(target=client.send, args=(request("rpc.discover") * count,))
        sender.start()
        for _ in range(count):
            assert "result" in client.answer()
        sender.join(10)


def test_half_closed(switch):
    """All that was asked for is answered to one who will ask no more."""
    with Client(switch) as client:
        for number in range(500):
            client.send(request("port.list", number))
        assert sorted(answer["id"] for answer in client.finish()) == list(range(500))
    with Client(switch) as client:
        client.send(request("port.list", 1)[:-1])
        assert [answer["error"]["code"] for answer in client.finish()] == [PARSE]
    with Client(switch) as client:
        assert client.finish() == []


def test_clients_that_leave(switch):
    """At any point of a request, and with answers on their way."""
    whole = request("port.list")
    for place in range(len(whole) + 1):
        with Client(switch) as client:
            client.send(whole * (place % 7) + whole[:place])


def test_garbage(switch):
    choose = random.Random(3)
    pieces = [b"{", b"}", b"[", b"]", b'"', b"\\", b"\0", b"\xff", b"null", b"1e999", b"\n", b",", b":",
              b'"id"', request("port.list"), b"\\ud800", b'"jsonrpc":"2.0"', b"-", b"'", b"//"]
    for _ in range(300):
        with Client(switch) as client:
            data = b"".join(choose.choice(pieces) if choose.random() < 0.7
                            else choose.randbytes(choose.randrange(9))
                            for _ in range(choose.randrange(60)))
            client.send(data)
            for answer in client.finish():
                for one in answer if isinstance(answer, list) else [answer]:
                    assert one["jsonrpc"] == "2.0" and ("result" in one) != ("error" in one), data


# ---- requests that are in order, in no order ----


class Asker:
    """Makes requests of all methods after their description, some of them wrong."""

    # Ends the daemon; writes where it is told.
    LEFT_OUT = ("system.shutdown", "config.save")
    # Keys of ports that would make interfaces on the host.
    OTHERS_KEYS = ("interface", "persist", "addresses")

    def __init__(self, description, directory, seed):
        self.choose = random.Random(seed)
        self.methods = [method for method in description["methods"]
                        if method["name"] not in self.LEFT_OUT]
        self.schemas = description["components"]["schemas"]
        self.directory = directory

    def value(self, schema, key=""):
        choose = self.choose
        if "$ref" in schema:
            return self.value(self.schemas[schema["$ref"].split("/")[-1]], key)
        if choose.random() < 0.02:
            return choose.choice([None, -1, "", [], {}, 1 << 40, True, 1.5, "x" * 70])
        for word in "anyOf", "oneOf":
            if word in schema:
                return self.value(choose.choice(schema[word]), key)
        if "enum" in schema:
            return "vhost-user" if key == "type" else choose.choice(schema["enum"])
        kinds = schema.get("type", "string")
        kind = choose.choice(kinds) if isinstance(kinds, list) else kinds
        return getattr(self, kind)(schema, key)

    def object(self, schema, _):
        required = set(schema.get("required", []))
        for condition in schema.get("allOf", []):
            required.update(condition.get("then", {}).get("required", []))
        return {key: self.value(property, key)
                for key, property in schema.get("properties", {}).items()
                if key not in self.OTHERS_KEYS and
                self.choose.random() < (0.98 if key in required else 0.3)}

    def array(self, schema, key):
        items = schema.get("items", {})
        if key == "workers" and items.get("type") == "integer":
            return [0]  # a port's: the switch has this one
        most = 1 if key == "workers" else 4
        return [self.value(items) for _ in range(self.choose.randint(0, most))]

    def string(self, schema, key):
        form = schema.get("format")
        if form == "mac":
            return f"02:00:00:00:00:{self.choose.randrange(12):02x}"
        if form:
            return self.choose.choice(["64k", "1Mbit", "64KiB", "1GiB", "0660", "0600", "5"])
        if key == "socket":
            return f"{self.directory}/{self.choose.randrange(6)}.sock"
        if key in ("user", "group"):
            return "root"
        return f"p{self.choose.randrange(6)}"

    def integer(self, schema, key):
        if key == "cpu":
            return SWITCH_CPU
        least, most = schema.get("minimum", 0), schema.get("maximum", 1 << 31)
        return self.choose.choice([least, most, self.choose.randint(least, most), least + 1, 2])

    def boolean(self, *_unused):
        return self.choose.random() < 0.5

    def null(self, *_unused):
        return None

    def request(self, number):
        method = self.choose.choice(self.methods)
        # It mostly takes away what the others have made.
        if method["name"] == "config.apply" and self.choose.random() < 0.7:
            method = self.choose.choice(self.methods)
        params = {}
        for param in method["params"]:
            # One type of port needs it, so it is not required of all.
            required = param["required"] or param["name"] == "socket"
            if param["name"] not in self.OTHERS_KEYS and \
                    self.choose.random() < (0.98 if required else 0.3):
                params[param["name"]] = self.value(param["schema"], param["name"])
        if params.get("port") and method["name"] == "fdb.add":
            params.pop("blackhole", None)
        # Logging everything is slow, and nothing to be found out here.
        if method["name"] == "log.set":
            params["level"] = "error"
        return request(method["name"], number, **params)


def ask(daemon, asker, seconds, faults):
    """Keeps some requests under way; each has its answer."""
    try:
        with Client(daemon) as client:
            under_way, number = set(), 0
            end = time.monotonic() + seconds
            while time.monotonic() < end or under_way:
                while len(under_way) < 4 and time.monotonic() < end:
                    number += 1
                    under_way.add(number)
                    client.send(asker.request(number))
                answer = client.answer()
                if answer.get("method") == "event":  # it has asked for them
                    continue
                under_way.remove(answer["id"])
                assert ("result" in answer) != ("error" in answer)
                if "error" in answer:
                    assert answer["error"]["code"] not in (-32603, PARSE, REQUEST), answer
                    assert answer["error"]["message"]
            assert number > 20
    except BaseException as fault:  # told by the one who waits for us
        faults.append(fault)


def test_requests_in_no_order(workdir):
    """Three clients change everything at once. In the end what is said to be there is there, the
    whole of it is a configuration that changes nothing, and a restart brings it back."""
    directory = workdir / "random"
    directory.mkdir()
    state = ["--state", directory / "state.json"]
    config = {"workers": [{"cpu": SWITCH_CPU}]}
    with Daemon(directory, config=config, arguments=state) as daemon:
        description = daemon.rpc("rpc.discover")
        faults = []
        askers = [threading.Thread(target=ask, args=(
            daemon, Asker(description, directory, seed), 5, faults)) for seed in range(3)]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join(30)
            assert not asker.is_alive()
        assert faults == []
        found = daemon.rpc("config.get")
        ports = found["configuration"]["ports"]
        assert sorted(port["name"] for port in daemon.rpc("port.list")) == \
            sorted(port["name"] for port in ports)
        for port in ports:
            shown = daemon.port(port["name"])
            # Down for want of a guest, of a VMM that listens, or of a path: not stuck half way.
            assert shown["state"] == "down" and shown["reason"]
            assert port.get("mode") == "client" or os.path.exists(port["socket"]) or \
                "cannot" in shown["reason"], shown
        again = daemon.rpc("config.apply", configuration=found["configuration"],
                           revision=found["revision"])
        assert again["changes"] == [] and again["revision"] == found["revision"]
        with pytest.raises(RpcError) as refused:
            daemon.rpc("config.apply", configuration={}, revision=found["revision"] + 1)
        assert refused.value.code == -32005
    with Daemon(directory, config=config, arguments=state) as daemon:
        assert daemon.rpc("config.get")["configuration"] == found["configuration"]
