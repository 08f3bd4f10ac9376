# SPDX-License-Identifier: BSD-3-Clause
"""ringwayctl and what it is made of: exit statuses, tables, types, files, help and completion, on pipes
and terminals; requests as bytes; and the documents that the daemon gives of itself, against it."""
import contextlib
import copy
import fcntl
import importlib.util
import json
import os
import pathlib
import pty
import re
import select
import socket
import struct
import subprocess
import termios
import threading
import time

import jsonschema
import pytest

from frontend import Guest
from harness import RINGWAYCTL, RINGWAYD, Daemon, RpcError, Workdir, vhost_port, wait_until

ROOT = pathlib.Path(__file__).resolve().parents[2]
DONE, REFUSED, USAGE, NO_DAEMON = range(4)

# ESC, a C1 control, DEL, a change of direction, a bell, a new line and a tab.
NASTY = "a\x1b[31mb\x9bc\x7fd\u202ee\x07f\ng\th"
NASTY_SHOWN = r"a\x1b[31mb\x9bc\x7fd\u202ee\x07f\ng\th"
GREEN, RED, BOLD, PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[1m", "\x1b[0m"


@pytest.fixture(scope="module")
def switch():
    with Workdir() as directory:
        ports = [vhost_port(directory, "vm1", labels={"vm": "6f1c"}), vhost_port(directory, "vm2"),
                 {"name": "lost", "type": "vhost-user", "socket": f"{directory}/no/such/lost.sock"}]
        with Daemon(directory, ports, idle="adaptive") as daemon:
            yield daemon
            assert daemon.stop() == 0


@pytest.fixture
def empty():
    """A switch of its own, without ports, for tests that change it."""
    with Workdir() as directory:
        with Daemon(directory, idle="adaptive") as daemon:
            yield daemon


def environment(**more):
    kept = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS")}
    return {**kept, "TERM": "xterm", **more}


def run(daemon, *words, stdin=subprocess.DEVNULL, **more):
    path = daemon if isinstance(daemon, (str, pathlib.Path)) else daemon.socket
    return subprocess.run([RINGWAYCTL, "--socket", str(path), *map(str, words)], env=environment(**more),
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=30, text=True,
                          **({"input": stdin} if isinstance(stdin, str) else {"stdin": stdin}))


def good(daemon, *words, **more):
    done = run(daemon, *words, **more)
    assert (done.returncode, done.stderr) == (DONE, ""), done
    return done.stdout


def answer(daemon, *words, **more):
    return json.loads(good(daemon, *words, "--json", **more))


def on_terminal(daemon, *words, columns=200, **more):
    """What the client writes to a terminal of that width."""
    terminal, other = pty.openpty()
    try:
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        client = subprocess.Popen([RINGWAYCTL, "--socket", str(daemon.socket), *words],
                                  env=environment(**more), stdin=other, stdout=other, stderr=other)
    finally:
        os.close(other)
    text = b""
    with contextlib.suppress(OSError):  # the other side is closed
        while len(text) < 1 << 20 and select.select([terminal], [], [], 10)[0]:
            text += os.read(terminal, 65536)
    os.close(terminal)
    try:
        assert client.wait(10) == DONE, text[:10000]
    finally:
        client.kill()
        client.wait()
    return text.decode().replace("\r\n", "\n")


class Impostor:
    """A daemon that answers each request with the same members beside jsonrpc and id, or never."""

    def __init__(self, directory, members=None):
        self.path = pathlib.Path(directory) / "impostor.sock"
        self.path.unlink(missing_ok=True)
        self.members = members
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.listener.listen()
        self.requests = []
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                with connection:
                    request = b""
                    while not request.endswith(b"}") and (data := connection.recv(65536)):
                        request += data
                    if not request:
                        continue
                    self.requests.append(json.loads(request))
                    if self.members is None:
                        connection.recv(1)  # until the client gives up
                        continue
                    reply = {"jsonrpc": "2.0", "id": self.requests[-1]["id"], **self.members}
                    connection.sendall(json.dumps(reply).encode())

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(10)
        assert not self.thread.is_alive()


def sent(directory, *words, **more):
    """The parameters that the client makes of these words."""
    with Impostor(directory, {"result": True}) as impostor:
        good(impostor.path, *words, **more)
    assert len(impostor.requests) == 1
    return impostor.requests[0].get("params")


# ---- exit statuses and errors


def test_done(switch):
    assert answer(switch, "system", "info")["pid"] == switch.pid
    assert answer(switch, "system.info")["pid"] == switch.pid
    assert good(switch, "log", "set", "info") == "done\n"


def test_refusals_say_what_and_why(switch):
    done = run(switch, "port", "get", "nope")
    assert (done.returncode, done.stdout) == (REFUSED, "")
    assert done.stderr == ("ringwayctl: there is no port nope\n"
                           "  object    port\n"
                           "  field     name\n"
                           "  value     nope\n"
                           "  accepted  a name that port.list shows\n")
    done = run(switch, "port", "set", "vm1", "mtu=67")
    assert done.returncode == REFUSED
    assert re.search(r"^  field     mtu\n  value     67\n  accepted  68 to 65535$", done.stderr, re.M)
    # What the client does not know may be known to a newer daemon: that is asked.
    done = run(switch, "port", "frobnicate")
    assert done.returncode == REFUSED and 'no method "port.frobnicate"' in done.stderr


@pytest.mark.parametrize("words", [
    [], ["name=vm1"], ["port", "get", "vm1", "vm2"], ["port", "list", "vm1"], ["port", "get", "=vm1"],
    ["port", "get", "name=a", "name=b"], ["port", "get", "name=a", "name.b=c"],
    ["port", "get", "name..b=c"], ["port", "get", "vm1", "name=vm1"], ["--color", "blue", "port", "list"],
    ["--timeout", "0", "port", "list"], ["--timeout", "1x", "port", "list"], ["--bogus"],
    ["port", "add", "@/nonexistent"], ["config", "apply", "configuration=@/nonexistent"],
    ["help", "nothing"], ["help", "port", "nothing"], ["port", "get", b"name=\xff"],
    ["--socket", "x" * 108, "port", "list"],
])
def test_wrong_usage(words):
    words = [RINGWAYCTL, "--socket", "/nonexistent", *words]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=10)
    assert (done.returncode, done.stdout) == (USAGE, b""), done
    assert done.stderr


def test_no_daemon(switch):
    done = run("/nonexistent/s", "port", "list")
    assert (done.returncode, done.stdout) == (NO_DAEMON, "")
    assert done.stderr.startswith("ringwayctl: no daemon answers at /nonexistent/s: No such file")
    with Impostor(switch.directory) as impostor:
        done = run(impostor.path, "--timeout", "1", "port", "list")
    assert done.returncode == NO_DAEMON and "no answer came" in done.stderr


def test_a_full_disk_is_no_success(switch):
    with open("/dev/full", "w", encoding="ascii") as full:
        done = subprocess.run([RINGWAYCTL, "-s", str(switch.socket), "port", "list"], stdout=full,
                              stderr=subprocess.PIPE, timeout=10, text=True)
    assert done.returncode == REFUSED and "cannot print" in done.stderr


# ---- results for people


def test_a_table_in_a_pipe(switch):
    lines = good(switch, "port", "list").splitlines()
    ports = answer(switch, "port", "list")
    assert lines[0].split() == ["name", "type", "state", "reason", "labels"]
    assert len(lines) == 1 + len(ports) == 4
    for line, port in zip(lines[1:], ports):
        cells = [line[slice(*part)].strip() for part in columns(lines[0])]
        labels = ", ".join(f"{key}={value}" for key, value in port["labels"].items()) or "-"
        assert cells == [port["name"], port["type"], port["state"], port["reason"] or "-", labels]
    assert not any(line.endswith(" ") for line in lines)
    # Nothing is cut, however long it is.
    assert "No such file or directory" in lines[3] and len(lines[3]) > 80


def columns(heading):
    starts = [match.start() for match in re.finditer(r"\S+", heading)] + [None]
    return list(zip(starts, starts[1:]))


def test_an_object_in_a_pipe(switch):
    text = good(switch, "port", "get", "vm1")
    assert re.search(r"^name +vm1$", text, re.M)
    assert re.search(r"^labels\n  vm +6f1c$", text, re.M)
    # A list of objects within is a table with headings.
    assert re.search(r"^rings\n  index +queue +direction", text, re.M)
    assert "\x1b" not in text


def test_colours(switch):
    with contextlib.closing(Guest(f"{switch.directory}/vm2.sock", 2)) as guest:
        guest.up()
        switch.wait_port("vm2", "up")
        shown = on_terminal(switch, "port", "list")
        plain = good(switch, "port", "list")
        assert f"{RED}down{PLAIN}" in shown and f"{GREEN}up{PLAIN}" in shown
        assert f"{BOLD}name{PLAIN}" in shown
        assert f"state{PLAIN}" not in plain and "\x1b" not in plain
        # Colours apart, a wide terminal shows the same.
        assert re.sub(r"\x1b\[\d*m", "", shown) == plain
        assert good(switch, "port", "list", "--color=always") == shown
        assert f"{GREEN}up{PLAIN}" in on_terminal(switch, "port", "get", "vm2")
        for words, more in (([], {"NO_COLOR": "1"}), (["--color=never"], {})):
            assert "\x1b" not in on_terminal(switch, "port", "list", *words, **more)
        # An empty NO_COLOR is none, and a wish is stronger than it.
        assert GREEN in on_terminal(switch, "port", "list", NO_COLOR="")
        assert GREEN in on_terminal(switch, "port", "list", "--color=always", NO_COLOR="1")
    switch.wait_port("vm2", "down")


@pytest.mark.parametrize("width", [60, 70, 100])
def test_a_table_is_cut_to_the_terminal(switch, width):
    text = on_terminal(switch, "--color=never", "port", "list", columns=width)
    lines = text.splitlines()
    assert len(lines) == 4 and max(map(len, lines)) <= width
    assert "..." in lines[3]


def test_a_table_that_cannot_be_cut_is_printed_row_by_row(switch):
    text = on_terminal(switch, "--color=never", "port", "list", columns=30)
    assert len(re.findall(r"^name +(vm1|vm2|lost)$", text, re.M)) == 3
    assert "No such file or directory" in text


def test_large_numbers(switch):
    with Impostor(switch.directory, {"result": {"bytes": 1234567, "mtu": 65535, "pid": 4194304,
                                                "list": [{"n": 100000, "x": -5}]}}) as impostor:
        impostor.socket = impostor.path
        shown = on_terminal(impostor, "stats", "get")
        assert re.search(r"^bytes +1,234,567$", shown, re.M)
        assert re.search(r"^mtu +65535$", shown, re.M) and re.search(r"^pid +4194304$", shown, re.M)
        assert "  100,000  -5" in shown
        # A program that reads a pipe wants digits.
        assert re.search(r"^bytes +1234567$", good(impostor.path, "stats", "get"), re.M)


@pytest.mark.parametrize("result, text", [
    (True, "done\n"), (False, "no\n"), (None, "-\n"), (5, "5\n"), ("x", "x\n"), ("", '""\n'), ([], ""),
    ({}, ""), ([1, "b", None], "1\nb\n-\n"), ([{}], ""), ([{"a": 1}, {"b": [1, 2]}], "a  b\n1  -\n-  1, 2\n"),
    ([{"a": {"b": {"c": 1}}}], 'a\n{"b":{"c":1}}\n'), ({"a": {"b": []}, "cc": 0.5}, "a\n  b  -\ncc  0.5\n"),
    ([{"n": 5, "s": "é"}, {"n": 10, "s": "abc"}], " n  s\n 5  é\n10  abc\n"),
    ([{"a": 1}, 2], '{"a":1}\n2\n'.replace('{"a":1}', "a=1")),
])
def test_results_of_all_kinds(switch, result, text):
    with Impostor(switch.directory, {"result": result}) as impostor:
        assert good(impostor.path, "rpc.any") == text
        assert json.loads(good(impostor.path, "rpc.any", "--json")) == result


# ---- nothing but text reaches a terminal


def harmless(text):
    """No control character but the colours that the client may use, and ends of lines."""
    text = re.sub(r"\x1b\[(?:0|1|31|32)m", "", text)
    return all(char == "\n" or (ord(char) >= 0x20 and not 0x7f <= ord(char) < 0xa0 and
                                not 0x202a <= ord(char) <= 0x202e) for char in text)


def test_escape_sequences_from_the_daemon(empty):
    empty.rpc("port.add", **vhost_port(empty.directory, "vm1", labels={"x": NASTY, NASTY: "y"}))
    for words in (["port", "list"], ["port", "get", "vm1"], ["config", "get"]):
        shown = on_terminal(empty, *words, columns=1000)
        assert harmless(shown) and NASTY_SHOWN in shown
        piped = good(empty, *words)
        assert harmless(piped) and NASTY_SHOWN in piped and "\x1b" not in piped
    text = good(empty, "port", "get", "vm1", "--json")
    assert harmless(text) and text.isascii()
    assert json.loads(text)["labels"] == {"x": NASTY, NASTY: "y"}


def test_escape_sequences_in_errors(switch):
    error = {"code": -32004, "message": NASTY,
             "data": dict.fromkeys(("object", "field", "value", "accepted"), NASTY)}
    with Impostor(switch.directory, {"error": error}) as impostor:
        done = run(impostor.path, "port", "list")
    assert done.returncode == REFUSED
    assert harmless(done.stderr) and done.stderr.count(NASTY_SHOWN) == 5
    # Nor is what was typed or pasted given back raw.
    done = run(switch, "port", "get", "x\x1b[2J")
    assert harmless(done.stderr) and r"x\x1b[2J" in done.stderr
    done = run(switch, "\x1b[2J=1")
    assert done.returncode == USAGE and harmless(done.stderr)


# ---- words to parameters


@pytest.mark.parametrize("words, params", [
    ("port list", None),
    ("port get vm1", {"name": "vm1"}),
    ("port.get vm1", {"name": "vm1"}),
    ("port get 123", {"name": "123"}),
    ("port get name=true", {"name": "true"}),
    ('port get name="quoted"', {"name": "quoted"}),
    ("port get name=", {"name": ""}),
    ("port get name=a=b", {"name": "a=b"}),
    ("port get name=[1]", {"name": "[1]"}),
    ("port set vm1 permissions.mode=660 mtu=1500 enabled=false",
     {"name": "vm1", "permissions": {"mode": "660"}, "mtu": 1500, "enabled": False}),
    ("port set vm1 limits.ingress.bandwidth.rate=1Gbit limits.ingress.bandwidth.burst=65536",
     {"name": "vm1", "limits": {"ingress": {"bandwidth": {"rate": "1Gbit", "burst": 65536}}}}),
    ("port set vm1 limits.ingress.bandwidth.rate=1.5",
     {"name": "vm1", "limits": {"ingress": {"bandwidth": {"rate": "1.5"}}}}),
    ("port set vm1 limits=null labels.vm=12", {"name": "vm1", "limits": None, "labels": {"vm": "12"}}),
    ("port set vm1 labels.vm=null", {"name": "vm1", "labels": {"vm": None}}),
    ('port set vm1 labels={"a.b":"c"}', {"name": "vm1", "labels": {"a.b": "c"}}),
    # What is wrong goes to the daemon as it is, whose words are better.
    ("port set vm1 mtu=big", {"name": "vm1", "mtu": "big"}),
    ("port set vm1 enabled=1", {"name": "vm1", "enabled": 1}),
    ("fdb add 52:54:00:00:00:01 blackhole=true", {"mac": "52:54:00:00:00:01", "blackhole": True}),
    # Without a schema, what can be JSON is.
    ("rpc.any a=1 b=x c=true d=null e=[1] f.g=2 h=-1.5",
     {"a": 1, "b": "x", "c": True, "d": None, "e": [1], "f": {"g": 2}, "h": -1.5}),
    ("port get -- -x", {"name": "-x"}),
    ("port get vm1 --json", {"name": "vm1"}),
])
def test_words_become_parameters(switch, words, params):
    assert sent(switch.directory, *words.split(" ")) == params


def test_parameters_in_files(switch):
    directory = pathlib.Path(switch.directory)
    whole = directory / "port.json"
    whole.write_text('{"name": "vm7", "type": "vhost-user", "limits": {"ingress": {"excess": "drop"}}}')
    part = directory / "part.json"
    part.write_text('{"ports": []}\n')
    base = json.loads(whole.read_text())
    assert sent(directory, "port", "add", f"@{whole}") == base
    # Other words go over it, also into what is nested.
    changed = sent(directory, "port", "add", f"@{whole}", "name=vm8",
                   "limits.ingress.bandwidth.rate=1G")
    assert changed == {**base, "name": "vm8",
                       "limits": {"ingress": {"excess": "drop", "bandwidth": {"rate": "1G"}}}}
    assert sent(directory, "config", "apply", f"configuration=@{part}", "dry_run=true") == {
        "configuration": {"ports": []}, "dry_run": True}
    assert sent(directory, "config", "apply", "configuration=@-", stdin='{"ports": []}') == {
        "configuration": {"ports": []}}
    part.write_text('{"ports":\n [}\n')
    done = run(switch, "config", "apply", f"configuration=@{part}")
    assert done.returncode == USAGE and f"{part}:2:" in done.stderr
    whole.write_text("[1]")
    assert run(switch, "port", "add", f"@{whole}").returncode == USAGE


def test_a_port_by_the_command_line(empty):
    """From nothing to a port and back, each step as an operator types it."""
    path = f"{empty.directory}/123.sock"
    good(empty, "port", "add", "123", "type=vhost-user", f"socket={path}", "permissions.mode=600",
         "limits.ingress.bandwidth.rate=1Gbit", "labels.vm=7")
    assert os.stat(path).st_mode & 0o777 == 0o600
    port = answer(empty, "config", "get")["configuration"]["ports"][0]
    assert port["name"] == "123" and port["permissions"] == {"mode": "600"}
    assert port["labels"] == {"vm": "7"}
    good(empty, "port", "set", "123", "limits=null")
    assert "limits" not in answer(empty, "config", "get")["configuration"]["ports"][0]
    file = pathlib.Path(empty.directory) / "wanted.json"
    wanted = answer(empty, "config", "get")["configuration"]
    wanted["bridge"]["ageing"] = 77
    file.write_text(json.dumps(wanted))
    good(empty, "config", "apply", f"configuration=@{file}")
    assert answer(empty, "config", "get")["configuration"]["bridge"]["ageing"] == 77
    good(empty, "port", "remove", "123")
    assert answer(empty, "port", "list") == []


# ---- help and completion


def methods_of(daemon):
    return {method["name"]: method for method in daemon.rpc("rpc.discover")["methods"]}


def test_help_knows_all_that_the_daemon_knows(switch):
    general = good("/nonexistent", "help")
    assert good("/nonexistent", "--help") == general
    for name, method in methods_of(switch).items():
        words = name.split(".")
        assert " ".join(words) in general
        text = good("/nonexistent", "help", *words)
        assert text == good("/nonexistent", "help", name) == good("/nonexistent", *words, "--help")
        assert method["summary"] in text
        for param in method["params"]:
            assert re.search(rf"^  {param['name']}\b", text, re.M), (name, param)
    text = good("/nonexistent", "help", "port", "add")
    flat = " ".join(text.split())
    assert "queue pairs; 1 to 128; default 1" in flat
    assert "pause|drop; default pause" in flat and "limits.ingress.bandwidth.rate" in flat
    assert text.index("Required:") < text.index("  type ") < text.index("Optional:") < text.index("  mtu ")
    # The words on a parameter, not those on the component that it refers to.
    assert "configuration the whole wanted configuration" in " ".join(
        good("/nonexistent", "config", "apply", "--help").split())
    text = good("/nonexistent", "port", "help")
    assert text == good("/nonexistent", "help", "port")
    assert "port get" in text and "fdb" not in text
    assert max(map(len, text.splitlines())) <= 80


def completed(*words):
    done = subprocess.run([RINGWAYCTL, "--complete", *map(str, words)], env=environment(),
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=10, text=True)
    assert (done.returncode, done.stderr) == (DONE, "")
    return done.stdout.splitlines()


def test_completion(switch):
    at = ["--socket", switch.socket]
    assert {"port", "fdb", "config", "help"} <= set(completed(""))
    assert completed("po") == ["port"]
    assert {"port", "fdb"} <= set(completed("help", "")) and "help" not in completed("help", "")
    names = [name.removeprefix("port.") for name in methods_of(switch) if name.startswith("port.")]
    assert completed("port", "") == completed("help", "port", "") == names
    assert completed("port", "g") == ["get"]
    assert completed("port", "add", "ty") == ["type="]
    assert "type=vhost-user" in completed("port", "add", "type=")
    assert completed("port.add", "limits.ingress.ex") == ["limits.ingress.excess="]
    assert completed("port", "add", "limits.ingress.excess=d") == ["limits.ingress.excess=drop"]
    assert completed("port", "add", "enabled=") == ["enabled=true", "enabled=false"]
    assert completed("port", "add", "label") == ["labels."]
    assert completed("config", "apply", "configuration") [0] == "configuration="
    assert completed("--js") == completed("port", "list", "--js") == ["--json"]
    assert completed("no", "such", "") == completed("port", "nothing", "x") == []
    # Names of ports come from the daemon, where one that is there is wanted.
    assert completed(*at, "port", "get", "vm") == ["vm1", "vm2"]
    assert completed(*at, "port", "get", "name=") == ["name=vm1", "name=vm2", "name=lost"]
    assert completed(*at, "fdb", "flush", "port=l") == ["port=lost"]
    assert "vm1" not in completed(*at, "port", "add", "vm")
    assert "vm1" not in completed(*at, "port", "get", "vm1", "vm")
    assert "name=" in completed("--socket", "/nonexistent", "port", "get", "")


def test_completion_in_bash(switch, tmp_path):
    (tmp_path / "some.json").write_text("{}")
    script = f"""
        PATH={pathlib.Path(RINGWAYCTL).parent}:$PATH
        source {ROOT}/app/ringwayctl/ringwayctl.bash
        complete -p ringwayctl
        cd {tmp_path}
        while IFS= read -r COMP_LINE; do
            COMP_POINT=${{#COMP_LINE}}
            _ringwayctl
            echo "${{COMPREPLY[*]}}"
        done"""
    lines = ["ringwayctl port g", f"ringwayctl -s {switch.socket} port get vm", "ringwayctl port add type=v",
             "ringwayctl port add limits.ingress.excess=p", "ringwayctl config apply configuration=@so",
             f"ringwayctl -s {switch.socket} port remove name=", "ringwayctl port get zzz"]
    done = subprocess.run(["bash", "-c", script], input="\n".join(lines) + "\n", text=True, timeout=30,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment())
    # Bash has split the word at "=" and "@", and replaces what is behind that.
    assert done.stdout.splitlines() == ["complete -F _ringwayctl ringwayctl", "get", "vm1 vm2",
                                        "vhost-user", "pause", "some.json", "vm1 vm2 lost", ""]


# ---- requests as bytes


def exchange(daemon, data, pieces=1):
    """Sends bytes, says that no more come, and returns all answers."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(daemon.socket))
        step = max(1, len(data) // pieces)
        for start in range(0, len(data), step):
            connection.sendall(data[start:start + step])
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while more := connection.recv(65536):
            received += more
    return [json.loads(line) for line in received.splitlines()]


def request(number, method="system.info", **params):
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


@pytest.mark.parametrize("between", ["", "\n", " \r\n\t"])
@pytest.mark.parametrize("pieces", [1, 1000])
def test_pipelined_requests(switch, between, pieces):
    data = between.join(json.dumps(request(i)) for i in range(200)).encode()
    answers = exchange(switch, data, pieces)
    assert [answered["id"] for answered in answers] == list(range(200))
    assert all(answered["result"]["pid"] == switch.pid for answered in answers)


@pytest.mark.parametrize("blanks", [60_000, 300_000])
def test_white_space_before_a_request(switch, blanks):
    """It is no part of the request, however much it is, and however it comes."""
    long = json.dumps(request(1, "port.list", x="y" * 230_000)).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(switch.socket))
        connection.sendall(b" " * blanks + long[:3000])
        time.sleep(0.2)
        connection.sendall(long[3000:] + json.dumps(request(2)).encode())
        data = b""
        while data.count(b"\n") < 2:
            data += connection.recv(65536)
    answers = [json.loads(line) for line in data.splitlines()]
    assert answers[0]["error"]["data"]["field"] == "x" and answers[1]["result"]["pid"] == switch.pid


def test_a_request_of_the_utmost_length(switch):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(switch.socket))
        connection.sendall(b'"' + b"x" * ((256 << 10) - 1))
        time.sleep(0.2)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(b"x" * 10)
        assert "too long" in json.loads(connection.recv(65536))["error"]["message"]


def test_batches(switch):
    batch = [request(1), request(2, "port.get", name="nope"), {**request(0), "id": None},
             {key: value for key, value in request(3).items() if key != "id"}, 7,
             request("x", "port.get", name="vm1")]
    answers, = exchange(switch, json.dumps(batch).encode())
    assert [answered["id"] for answered in answers] == [1, 2, None, None, "x"]
    assert [answered.get("error", {}).get("code") for answered in answers] == [None, -32001, None, -32600,
                                                                              None]
    # All notifications: nothing comes back. By position: the order of the document.
    note = {"jsonrpc": "2.0", "method": "system.info"}
    assert exchange(switch, json.dumps([note, note]).encode()) == []
    first, = exchange(switch, json.dumps({**request(1, "port.get"), "params": ["vm1"]}).encode())
    assert first["result"]["name"] == "vm1"
    error, = exchange(switch, json.dumps({**request(1, "port.set"), "params": ["vm1"]}).encode())
    assert error["error"]["code"] == -32602 and "by name" in error["error"]["message"]


def test_changes_are_logged(empty):
    before = len(empty.log())
    client = subprocess.Popen([RINGWAYCTL, "-s", empty.socket, "port", "add", "vm1", "type=vhost-user",
                               f"socket={empty.directory}/vm1.sock"], stdout=subprocess.DEVNULL)
    assert client.wait(10) == DONE
    run(empty, "port", "list")
    with pytest.raises(RpcError):
        empty.rpc("port.remove", name="vm\x1b9")
    wait_until(lambda: "vm?9" in empty.log(), 5, "the refusal is logged")
    lines = [line for line in empty.log()[before:].splitlines() if " by pid " in line]
    assert lines[0].endswith(f"rpc: port.add vm1 by pid {client.pid}, uid {os.getuid()}")
    assert f"rpc: port.remove vm?9 by pid {os.getpid()}, uid {os.getuid()}: refused: " in lines[1]
    assert len(lines) == 2


# ---- the documents


def references(value):
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_the_openrpc_document(switch):
    """The rules of the OpenRPC 1.3 specification and of its meta schema for what we use of it."""
    document = switch.rpc("rpc.discover")
    printed = subprocess.run([RINGWAYD, "--schema"], stdout=subprocess.PIPE, timeout=30, check=True)
    assert json.loads(printed.stdout) == document
    assert set(document) <= {"openrpc", "info", "methods", "components", "servers", "externalDocs"}
    assert re.fullmatch(r"1\.3\.\d+", document["openrpc"])
    assert document["info"]["title"] and document["info"]["version"]
    names = [method["name"] for method in document["methods"]]
    assert len(names) == len(set(names)) and {"port.add", "rpc.discover"} <= set(names)
    for method in document["methods"]:
        known = {"name", "summary", "description", "params", "result", "errors", "paramStructure", "tags"}
        assert {key for key in method if not key.startswith("x-")} <= known
        assert method["paramStructure"] in ("by-name", "by-position", "either")
        params = [param["name"] for param in method["params"]]
        assert len(params) == len(set(params))
        required = [param["required"] for param in method["params"]]
        assert required == sorted(required, reverse=True), f"{method['name']}: required ones come first"
        for descriptor in [*method["params"], method["result"]]:
            assert set(descriptor) <= {"name", "summary", "description", "required", "schema", "deprecated"}
            jsonschema.Draft202012Validator.check_schema(descriptor["schema"])
        assert method["summary"]
    for error in document["components"]["errors"].values():
        assert isinstance(error["code"], int) and error["message"]
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for reference in references(document):
        target = document
        for key in reference.removeprefix("#/").split("/"):
            target = target[key]
    changing = {method["name"] for method in document["methods"] if method.get("x-changes")}
    assert {"port.add", "port.remove", "config.apply", "system.shutdown"} <= changing
    assert not changing & {"port.list", "config.get", "stats.get", "rpc.discover"}


@pytest.fixture(scope="module")
def validator():
    schema = json.loads((ROOT / "config/ringway.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_examples_are_valid(validator):
    files = [ROOT / "config/default.json", *sorted((ROOT / "config/examples").glob("*.json"))]
    for file in files:
        validator.validate(json.loads(file.read_text()))


def refused_by_daemon(daemon, configuration):
    try:
        daemon.rpc("config.apply", configuration=configuration, dry_run=True)
    except RpcError as error:
        assert error.code == -32602
        return True
    return False


PORT = {"name": "vm1", "type": "vhost-user", "socket": "/run/x.sock"}


@pytest.mark.parametrize("change, valid", [
    ({}, True), ({"bridge": {"ageing": 5}}, True), ({"bridge": None}, True), ({"brigde": {}}, False),
    ({"bridge": {"ageing": -1}}, False), ({"bridge": {"capacity": "many"}}, False), ({"ports": {}}, False),
    *(({"ports": [{**PORT, **port}]}, valid) for port, valid in [
        ({"queues": 128}, True), ({"queues": 129}, False), ({"queues": 1.5}, False), ({"queues": None}, True),
        ({"mtu": 68}, True), ({"mtu": 67}, False), ({"name": None}, False), ({"type": "vhost"}, False),
        ({"mac": "52:54:00:00:00:01"}, True), ({"mac": "52-54-00-00-00-01"}, False), ({"mac": 5}, False),
        ({"permissions": {"mode": "0660"}}, True), ({"permissions": {"mode": "660"}}, True),
        ({"permissions": {"mode": "1660"}}, False), ({"permissions": {"mode": 660}}, False),
        ({"permissions": {"mode": "00660"}}, False), ({"labels": {"a": "b"}}, True),
        ({"labels": {"a": 1}}, False), ({"labels": []}, False), ({"enabled": 1}, False),
        ({"socket": None}, False), ({"socket": "/" + "x" * 107}, False), ({"more": 1}, False),
        *(({"limits": {"ingress": {"bandwidth": {"rate": rate}}}}, valid) for rate, valid in [
            ("1Gbit", True), ("1.5G", True), ("64kbit/s", True), (64000, True), ("64000", True),
            ("64K", False), (63999, False), (0, False), (1.5, False),
            ("1GB", False), ("1 G", False), ("1e9", False),
            ("-1k", False), ("", False), ([], False)]),
        *(({"limits": {"ingress": {"bandwidth": {"rate": "1G", "burst": burst}}}}, valid)
          for burst, valid in [("64KiB", True), ("1.5Mi", True), (65536, True), ("1Gbit", False),
                               ("1KB", False), (None, True), (0, False)]),
        ({"limits": {"ingress": {"excess": "pause"}}}, True),
        ({"limits": {"ingress": {"excess": "x"}}}, False),
    ]),
])
def test_schema_and_daemon_agree(switch, validator, change, valid):
    configuration = {"ports": [PORT], **copy.deepcopy(change)}
    assert validator.is_valid(configuration) == valid
    assert refused_by_daemon(switch, configuration) != valid


def manual_script():
    specification = importlib.util.spec_from_file_location("manual", ROOT / "docs/rpc.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def same_shape(example, real):
    """Keys and types are those of the example; where it has a list, its first element stands for all."""
    if isinstance(example, dict):
        return isinstance(real, dict) and set(example) == set(real) and all(
            same_shape(value, real[key]) for key, value in example.items())
    if isinstance(example, list):
        return isinstance(real, list) and len(real) > 0 if example else real == []
    return type(example) is type(real)


def test_the_manuals_examples_are_true(empty):
    for method, params, result in manual_script().EXAMPLES:
        params = json.loads(json.dumps(params or {}).replace("/run/ringway", str(empty.directory)))
        try:
            real = empty.rpc(method, **params)
        except RpcError as error:
            real = {"code": error.code, "message": str(error), "data": error.data}
        assert same_shape(result, real), (method, real)
        if isinstance(result, dict) and "code" in result:
            assert result["code"] == real["code"]
