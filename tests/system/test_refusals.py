# SPDX-License-Identifier: BSD-3-Clause
"""What bad input gets: the object, the field, the value and what is accepted, and nothing has changed.
All of it from the daemon itself, on its command line, in its configuration and over its socket."""
import contextlib
import json
import os
import resource
import socket
import subprocess

import pytest

from harness import (CPUS, RINGWAYD, SWITCH_CPU, Daemon, RpcError, Workdir, sockets, vhost_port,
                     wait_until)

INVALID, METHOD, REQUEST, PARSE = -32602, -32601, -32600, -32700
NOT_FOUND, EXISTS, BUSY, SYSTEM, CONFLICT, LIMIT = -32001, -32002, -32003, -32004, -32005, -32006

MAC = "52:54:00:00:00:01"  # port vm1's own
STATIC = "52:54:00:00:00:02"  # behind vm2
FREE = "52:54:00:00:00:99"


def files(directory):
    """The files of a directory, by name, and what would show that one was replaced or touched."""
    return {entry.name: (entry.stat().st_ino, entry.stat().st_mode, entry.stat().st_uid)
            for entry in os.scandir(directory) if not entry.name.endswith(".log")}


# ---- refused before it starts ----

class Start:
    """One start of the daemon that must end by itself, with one line on stderr and the status 1."""

    def __init__(self, directory, *arguments, config=None, limits=(), eal=()):
        argv = ["setpriv", "--pdeathsig", "KILL"]
        if limits:
            argv += ["prlimit", *limits]
        argv += [RINGWAYD]
        if config is not None:
            (directory / "refused.json").write_text(config if isinstance(config, str) else json.dumps(config))
            argv += ["--config", str(directory / "refused.json")]
        if "--socket" not in arguments:
            argv += ["--socket", str(directory / "refused.sock")]
        self.run = subprocess.run([*argv, *arguments, *eal], capture_output=True, text=True, timeout=20,
                                  stdin=subprocess.DEVNULL,
                                  env={**os.environ, "RUNTIME_DIRECTORY": str(directory)})

    def refused(self, *parts):
        """Each part is in the one sentence that was said."""
        assert self.run.returncode == 1, self.run
        lines = [line for line in self.run.stderr.splitlines() if line.startswith("ringwayd: ")]
        assert len(lines) == 1, self.run.stderr
        for part in parts:
            assert part in lines[0], f"no {part!r} in {lines[0]!r}"
        assert not lines[0].endswith(".")


@pytest.fixture
def place():
    with Workdir() as directory:
        yield directory
        assert sockets(directory) == []


COMMAND_LINES = {
    "socket mode": (["--socket-mode", "888"], ["--socket-mode 888", "0000 to 0777"]),
    "socket user": (["--socket-user", "nobodyatall"], ["--socket-user nobodyatall", "no such user"]),
    "socket group": (["--socket-group", "nobodyatall"], ["--socket-group nobodyatall", "no such group"]),
    "log level": (["--log-level", "loud"], ["--log-level loud", "error, warning, info or debug"]),
    "a word too many": (["vm1"], ["what is vm1"]),
    "long socket": (["--socket", "/tmp/" + "x" * 103], ["path of the control socket is too long", "107"]),
    "empty socket": (["--socket", ""], ["too short"]),
    "socket nowhere": (["--socket", "/nowhere/at/all.sock"], ["/nowhere/at/all.sock", "No such file"]),
    "no configuration": (["--config", "/nowhere/at.json"], ["/nowhere/at.json", "No such file"]),
    "directory for a configuration": (["--config", "/tmp"], ["/tmp", "Is a directory"]),
    "state nowhere": (["--state", "/nowhere/at.json"], ["/nowhere/at.json", "No such file"]),
    "directory for a state": (["--state", "/tmp"], ["/tmp", "no regular file"]),
}


@pytest.mark.parametrize("case", COMMAND_LINES)
def test_command_lines(place, case):
    arguments, parts = COMMAND_LINES[case]
    Start(place, *arguments).refused(*parts)
    assert sockets(place) == []


def test_an_unknown_option_shows_what_there_is(place):
    run = Start(place, "--sockets", "x").run
    assert run.returncode == 1
    assert "--sockets" in run.stderr and "usage: ringwayd" in run.stderr


def port(more):
    return '{"ports": [{"name": "vm1", "type": "vhost-user", "socket": "/tmp/ringway-none.sock"%s}]}' % more


CONFIGURATIONS = {
    "empty": ("", ["refused.json", "line 1"]),
    "comma": ('{\n "bridge": {\n  "ageing": 1,\n }\n}', ["refused.json", "line 4"]),
    "cut": ('{\n "ports": [\n', ["refused.json", "line 3"]),
    "a key twice": ('{\n"bridge": {},\n"bridge": {}}', ["refused.json", "line 3", "bridge"]),
    "a list": ("[]", ["object"]),
    "unknown key": ('{"port": []}', ["port", "workers"]),
    "unknown key of the bridge": ('{"bridge": {"aging": 1}}', ["bridge.aging", "ageing"]),
    "unknown key of a worker": ('{"workers": [{"cpu": 0, "core": 1}]}', ["workers[0]", "core", "cpu"]),
    "unknown key of a port": (port(', "sockets": 1'), ["port vm1", "sockets"]),
    "unknown key of a limit": (port(', "limits": {"ingress": {"bandwidth": {"rat": 1}}}'),
                               ["port vm1", "limits.ingress.bandwidth.rat", "rate, burst"]),
    "unknown key of permissions": (port(', "permissions": {"owner": "x"}'),
                                   ["port vm1", "permissions.owner", "user"]),
    "unknown key of an address": ('{"bridge": {"addresses": [{"mac": "52:54:00:00:00:01", "blackhole": true,'
                                  ' "color": 1}]}}', ["bridge.addresses[0]", "color"]),
    "type": (port(', "queues": "2"'), ["port vm1", "queues", "1 to 128"]),
    "range": (port(', "queues": 129'), ["port vm1", "queues", "1 to 128"]),
    "rate": (port(', "limits": {"ingress": {"bandwidth": {"rate": 0}}}'), ["use null for none"]),
    "no type": (port(', "type": "tun"'), ["type"]),
    "long socket": ('{"ports": [{"name": "vm1", "type": "vhost-user", "socket": "/%s"}]}' % ("x" * 107),
                    ["port vm1", "socket", "at most 107 bytes"]),
    "a name twice": ('{"ports": [{"name": "vm1", "type": "vhost-user", "socket": "/tmp/ringway-none.1"},'
                     ' {"name": "vm1", "type": "vhost-user", "socket": "/tmp/ringway-none.2"}]}',
                     ["ports[1]", "vm1", "taken"]),
    "a socket twice": ('{"ports": [{"name": "vm1", "type": "vhost-user", "socket": "/tmp/ringway-none.1"},'
                       ' {"name": "vm2", "type": "vhost-user", "socket": "/tmp/ringway-none.1"}]}',
                       ["port vm2", "socket /tmp/ringway-none.1", "taken by port vm1"]),
    "a mac twice": ('{"ports": [{"name": "vm1", "type": "vhost-user", "socket": "/tmp/ringway-none.1",'
                    ' "mac": "52:54:00:00:00:01"}, {"name": "vm2", "type": "vhost-user",'
                    ' "socket": "/tmp/ringway-none.2", "mac": "52:54:00:00:00:01"}]}',
                    ["port vm2", "mac 52:54:00:00:00:01", "taken by port vm1"]),
    "a CPU that is not there": ('{"workers": [{"cpu": 1000}]}',
                                ["workers[0]", "1000", ",".join(map(str, CPUS))]),
}


@pytest.mark.parametrize("case", CONFIGURATIONS)
def test_configurations(place, case):
    """Nothing is opened: beside what is wrong stands a port that could be."""
    text, parts = CONFIGURATIONS[case]
    with contextlib.suppress(ValueError):
        config = json.loads(text)
        if isinstance(config, dict) and case != "a key twice":
            config.setdefault("ports", []).insert(0, vhost_port(place, "fine"))
            text = json.dumps(config)
            parts = [part.replace("ports[1]", "ports[2]") for part in parts]
    before = files(place)
    Start(place, config=text).refused(*parts)
    assert sorted(files(place)) in ([*sorted(before), "refused.json"],
                                    [*sorted(before), "refused.json", "refused.sock.lock"])


def test_a_state_file_that_is_none_of_ours(place):
    state = place / "state.json"
    for text, parts in ((('{"ringway": 1,\n'), ["line 2"]), ("{}", ["no state file of this version"]),
                        ('{"ringway": 99, "configuration": {}}', ["no state file of this version"]),
                        ('{"ringway": 1, "configuration": {"ports": [{"name": "vm1"}]}}',
                         ["port vm1", "type"])):
        state.write_text(text)
        Start(place, "--state", str(state)).refused("state.json", *parts)
        assert state.read_text() == text


def test_a_second_daemon(place):
    with Daemon(place, [vhost_port(place, "vm1")]) as daemon:
        before = files(place)
        Start(place, "--socket", str(daemon.socket)).refused("another daemon", f"pid {daemon.pid}",
                                                             str(daemon.socket))
        assert files(place) == before
        assert daemon.rpc("system.info")["pid"] == daemon.pid


def test_a_file_in_the_place_of_the_control_socket(place):
    """A file that is no socket may be somebody's work."""
    (place / "refused.sock").write_text("precious")
    Start(place).refused("refused.sock")
    assert (place / "refused.sock").read_text() == "precious"


# ---- refused while it runs ----

@pytest.fixture(scope="module")
def directory():
    with Workdir() as path:
        yield path


@pytest.fixture(scope="module")
def daemon(directory):
    """Two ports, an address behind the second, and things in the way."""
    (directory / "file").write_text("precious")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(directory / "foreign.sock"))
    listener.listen()
    config = {"workers": [{"cpu": SWITCH_CPU, "idle": "adaptive"}],
              "bridge": {"addresses": [{"mac": STATIC, "port": "vm2"}]},
              "ports": [vhost_port(directory, "vm1", mac=MAC), vhost_port(directory, "vm2", queues=2)]}
    with listener, Daemon(directory, config=config) as daemon:
        yield daemon


def picture(daemon, directory):
    """All that a refused request could have changed."""
    fdb = [{**row, "age": 0} for row in daemon.rpc("fdb.list")]
    vm1, vm2 = daemon.port("vm1"), daemon.port("vm2")
    for port in vm1, vm2:
        del port["connection"]["since"], port["connection"]["seconds"]
    return (daemon.rpc("config.get"), daemon.rpc("port.list"), fdb, vm1, vm2,
            files(directory), daemon.rpc("system.info")["revision"])


class Raw(contextlib.AbstractContextManager):
    """A connection for any bytes."""

    def __init__(self, daemon):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(str(daemon.socket))
        self.lines = self.socket.makefile()

    def __exit__(self, *_):
        self.lines.close()
        self.socket.close()

    def call(self, text):
        self.socket.sendall(text.encode() + b"\n")
        return self.answer()

    def answer(self):
        decoder, text = json.JSONDecoder(), ""
        while True:
            text += self.socket.recv(1 << 20).decode()
            with contextlib.suppress(ValueError):
                return decoder.raw_decode(text.strip())[0]


def add(**more):
    def params(d):
        given = {key: value.replace("DIR", str(d)) if isinstance(value, str) else value
                 for key, value in more.items()}
        return {**vhost_port(d, "vm3"), **given}
    return "port.add", params


def limit(value):
    return add(limits={"ingress": {"bandwidth": value}})


def call(method, **params):
    return method, lambda d: params


def apply(configuration, **more):
    def params(d):
        text = json.dumps(configuration).replace("DIR", str(d))
        return {"configuration": json.loads(text), **more}
    return "config.apply", params


def a_port(**more):
    return {"name": "vm3", "type": "vhost-user", "socket": "DIR/vm3.sock", **more}


RATE = "limits.ingress.bandwidth.rate"

# What is asked for: code, object, field, value, a part of what is accepted, a part of the message; None:
# there is nothing of that to say.
REQUESTS = {
    # port.add
    "name in use": (add(name="vm1"), EXISTS, "port", "name", "vm1", "replace", "port vm1 already"),
    "name": (add(name="vm 3"), INVALID, "the port", "name", '"vm 3"', "1 to 63 of", "name"),
    "no name": (add(name=None), INVALID, "the port", "name", None, "1 to 63 of", "missing"),
    "name of no text": (add(name=3), INVALID, "the port", "name", "3", "a string", "string"),
    "long name": (add(name="x" * 64), INVALID, "the port", "name", '"xxx', "at most 63 bytes", "too long"),
    "type": (add(type="tun"), INVALID, "port vm3", "type", "tun", "vhost-user", "no port type tun"),
    "another type's key": (add(type="af_packet", interface="eth1"), INVALID, "port vm3", "socket", '"/',
                           "interface", "not known"),
    "no type": (add(type=None), INVALID, "port vm3", "type", None, "", "missing"),
    "unknown key": (add(color="red"), INVALID, "port vm3", "color", '"red"', "socket", "not known"),
    "unknown key inside": (add(permissions={"owner": "x"}), INVALID, "port vm3", "permissions.owner", '"x"',
                           "mode, user, group", "not known"),
    "two kinds of VLAN": (add(vlan={"access": 1, "trunk": "all"}), INVALID, "port vm3", "vlan.trunk", None,
                          "one of access and trunk", "contradicts"),
    "replace": (add(replace=1), INVALID, "port.add", "replace", "1", "true, false", "replace"),
    "no socket": (add(socket=None), INVALID, "port vm3", "socket", None, "", "missing"),
    "long socket": (add(socket="/" + "x" * 107), INVALID, "port vm3", "socket", '"/xxx',
                    "at most 107 bytes", "too long"),
    "relative socket": (add(socket="vm3.sock"), INVALID, "port vm3", "socket", '"vm3.sock', "absolute path",
                        "port vm3"),
    "relative directory": (add(socket="here/vm3.sock"), INVALID, "port vm3", "socket", '"here/vm3.sock',
                           "absolute path", "port vm3"),
    "socket of a port": (add(socket="DIR/vm1.sock"), EXISTS, "port vm3", "socket", "DIR/vm1.sock",
                         "no other port", "taken by port vm1"),
    "socket of another process": (add(socket="DIR/foreign.sock"), SYSTEM, "port vm3", "socket",
                                  "DIR/foreign.sock", None, "somebody else serves"),
    "the control socket": (add(socket="DIR/ringway.sock"), SYSTEM, "port vm3", "socket", "DIR/ringway.sock",
                           None, "somebody else serves"),
    "no directory": (add(socket="DIR/none/vm3.sock"), SYSTEM, "port vm3", "socket", "DIR/none/vm3.sock", None,
                     "No such file or directory"),
    "file for a directory": (add(socket="DIR/file/vm3.sock"), SYSTEM, "port vm3", "socket",
                             "DIR/file/vm3.sock", None, "Not a directory"),
    "file in the place": (add(socket="DIR/file"), SYSTEM, "port vm3", "socket", "DIR/file", None,
                          "no socket"),
    "mode": (add(mode="both"), INVALID, "port vm3", "mode", '"both"', "server", "choices"),
    "file mode": (add(permissions={"mode": "0888"}), INVALID, "port vm3", "permissions.mode", '"0888"',
                  '"0000" to "0777"', "octal"),
    "file mode as a number": (add(permissions={"mode": 660}), INVALID, "port vm3", "permissions.mode", "660",
                              '"0000" to "0777"', "octal"),
    "user": (add(permissions={"user": "nobodyatall"}), SYSTEM, "port vm3", "permissions.user", "nobodyatall",
             None, "nobodyatall"),
    "group": (add(permissions={"group": "nobodyatall"}), SYSTEM, "port vm3", "permissions.group",
              "nobodyatall", None, "nobodyatall"),
    "queues": (add(queues=0), INVALID, "port vm3", "queues", "0", "1 to 128", "range"),
    "queues as text": (add(queues="2"), INVALID, "port vm3", "queues", '"2"', "1 to 128", "whole number"),
    "half a queue": (add(queues=1.5), INVALID, "port vm3", "queues", "1.5", "1 to 128", "whole number"),
    "enabled": (add(enabled="yes"), INVALID, "port vm3", "enabled", '"yes"', "true", "true or false"),
    "mtu": (add(mtu=67), INVALID, "port vm3", "mtu", "67", "68 to 65535", "range"),
    "labels": (add(labels={"a": 1}), INVALID, "port vm3", "labels", '{"a": 1}', "strings", "labels"),
    "mac": (add(mac="52:54"), INVALID, "port vm3", "mac", '"52:54"', "six pairs", "MAC"),
    "mac of a group": (add(mac="01:00:5e:00:00:01"), INVALID, "port vm3", "mac", '"01:00:5e:00:00:01"',
                       "one station", "mac"),
    "mac of a port": (add(mac=MAC), EXISTS, "port vm3", "mac", MAC, "no other port", "taken by port vm1"),
    "mac of a static address": (add(mac=STATIC), EXISTS, "port vm3", "mac", STATIC, "fdb.list",
                                "static address"),
    "guard without an address": (add(guard="mac"), INVALID, "port vm3", "guard", "mac", "allowed",
                                 "needs a MAC address"),
    "guard without IP addresses": (add(guard="ip", mac=FREE), INVALID, "port vm3", "guard", "ip",
                                   "0.0.0.0/0", "needs an IP address"),
    "guard of no level": (add(guard="on"), INVALID, "port vm3", "guard", '"on"', "off, mac, arp, ip",
                          "choices"),
    "allowed text": (add(allowed=["10.0.0.0/33"]), INVALID, "port vm3", "allowed", "10.0.0.0/33",
                     "prefixes", "no address"),
    "allowed host of a network": (add(allowed=["10.0.0.5/24"]), INVALID, "port vm3", "allowed",
                                  "10.0.0.5/24", '"10.0.0.0/24"', "bits set"),
    "too much allowed": (add(allowed=[f"10.0.0.{n}" for n in range(1, 255)] + ["10.1.0.1"] * 3), INVALID,
                         "port vm3", "allowed", "10.1.0.1", "at most 256", "one too many"),
    "rate of zero": (limit({"rate": 0}), INVALID, "port vm3", RATE, "0", "64000 to", "use null for none"),
    "low rate": (limit({"rate": "63k"}), INVALID, "port vm3", RATE, '"63k"', "64000 to", "range"),
    "rate without sense": (limit({"rate": "fast"}), INVALID, "port vm3", RATE, '"fast"', "Gbit", "no rate"),
    "burst without a rate": (limit({"burst": 1}), INVALID, "port vm3", RATE, '{"burst": 1}', "rate and burst",
                             "missing"),
    "excess": (add(limits={"ingress": {"excess": "queue"}}), INVALID, "port vm3", "limits.ingress.excess",
               '"queue"', "pause, drop", "choices"),
    # port.set, port.remove, port.get
    "set of nothing": (call("port.set", name="vm9", mtu=1500), NOT_FOUND, "port", "name", "vm9", "port.list",
                       "no port vm9"),
    "set without a name": (call("port.set", mtu=1500), INVALID, "port.set", "name", None, "port.list",
                           "name"),
    "set with a number": (call("port.set", name=7), INVALID, "port.set", "name", "7", "port.list", "name"),
    "set mtu": (call("port.set", name="vm1", mtu=1), INVALID, "port vm1", "mtu", "1", "68 to 65535", "range"),
    "set beside what is right": (call("port.set", name="vm1", mtu=1500, queues=0), INVALID, "port vm1",
                                 "queues", "0", "1 to 128", "range"),
    "set without a socket": (call("port.set", name="vm1", socket=None), INVALID, "port vm1", "socket", None,
                             "", "missing"),
    "set another's mac": (call("port.set", name="vm2", mac=MAC), EXISTS, "port vm2", "mac", MAC,
                          "no other port", "taken by port vm1"),
    "renegotiate": (call("port.set", name="vm1", renegotiate="now"), INVALID, "port.set", "renegotiate",
                    '"now"', "true, false", "renegotiate"),
    "remove of nothing": (call("port.remove", name="vm9"), NOT_FOUND, "port", "name", "vm9", "port.list",
                          "no port vm9"),
    "remove of what": (call("port.remove"), INVALID, "port.remove", "name", None, "name", "missing"),
    "remove with more": (call("port.remove", name="vm1", force=True), INVALID, "port.remove", "force", "true",
                         "name", "not known"),
    "get of nothing": (call("port.get", name="vm9"), NOT_FOUND, "port", "name", "vm9", "port.list",
                       "no port vm9"),
    # fdb
    "address of no port": (call("fdb.add", mac=FREE, port="vm9"), NOT_FOUND, "bridge", "port", "vm9",
                           "port.list", "no port vm9"),
    "address of a group": (call("fdb.add", mac="01:00:5e:00:00:01", port="vm2"), INVALID, "fdb.add", "mac",
                           "01:00:5e:00:00:01", "one station", "no station's"),
    "address of a port": (call("fdb.add", mac=MAC, port="vm2"), EXISTS, "bridge", "mac", MAC, "no port's",
                          "port vm1's own"),
    "address to nowhere": (call("fdb.add", mac=FREE), INVALID, "fdb.add", "port", None, "blackhole", "port"),
    "address to both": (call("fdb.add", mac=FREE, port="vm1", blackhole=True), INVALID, "fdb.add", "port",
                        None, "either", "port"),
    "no address": (call("fdb.add", port="vm1"), INVALID, "fdb.add", "mac", None, "", "missing"),
    "removed address": (call("fdb.remove", mac=FREE), NOT_FOUND, "fdb.remove", "mac", FREE, "fdb.list",
                        f"has no {FREE}"),
    "removed address of a port": (call("fdb.remove", mac=MAC), BUSY, "fdb.remove", "mac", MAC, "port.set",
                                  "port vm1's own"),
    "list of no port": (call("fdb.list", port="vm9"), NOT_FOUND, "port", "name", "vm9", "port.list",
                        "no port vm9"),
    "list of none": (call("fdb.list", limit=0), INVALID, "fdb.list", "limit", "0", "1 to 20000", "range"),
    "flush of no port": (call("fdb.flush", port="vm9"), NOT_FOUND, "port", "name", "vm9", "port.list",
                         "no port vm9"),
    # the rest
    "worker": (call("worker.place", port="vm1", worker=1), NOT_FOUND, "worker.place", "worker", "1", "0 to 0",
               "no worker 1"),
    "worker beyond all": (call("worker.place", port="vm1", worker=64), INVALID, "worker.place", "worker",
                          "64", "0 to 63", "range"),
    "queue": (call("worker.place", port="vm2", queue=2, worker=0), NOT_FOUND, "worker.place", "queue", "2",
              "0 to 1", "no queue 2"),
    "place of no port": (call("worker.place", port="vm9", worker=0), NOT_FOUND, "port", "name", "vm9",
                         "port.list", "no port vm9"),
    "level": (call("log.set", level="loud"), INVALID, "log.set", "level", '"loud"',
              "error, warning, info, debug", "choices"),
    "file without a root": (call("config.save", file="x.json"), INVALID, "config.save", "file", '"x.json"',
                            "an absolute path", "file"),
    "file nowhere": (call("config.save", file="/nowhere/x.json"), SYSTEM, "config.save", "file",
                     "/nowhere/x.json", "directory", "No such file"),
    "directory for a file": (call("config.save", file="/tmp"), SYSTEM, "config.save", "file", "/tmp",
                             "a file", "Is a directory"),
    "long file": (call("config.save", file="/" + "x" * 4095), INVALID, "config.save", "file", '"/xxx',
                  "at most 4095 bytes", "too long"),
    # config.apply
    "no configuration": (call("config.apply"), INVALID, "config.apply", "configuration", None, "", "missing"),
    "old revision": (apply({}, revision=999), CONFLICT, "config.apply", "revision", "999", "config.get",
                     "has changed since"),
    "applied type": (apply([]), INVALID, "config.apply", "configuration", "[]", "an object", "object"),
    "applied key": (apply({"colors": 1}), INVALID, "configuration", "colors", "1", "workers", "not known"),
    "applied bridge": (apply({"bridge": {"ageing": -1}}), INVALID, "configuration", "bridge.ageing", "-1",
                       "0 to 65000", "range"),
    "applied port": (apply({"ports": [a_port(), a_port(queues=0)]}), INVALID, "port vm3", "queues", "0",
                     "1 to 128", "range"),
    "applied twice": (apply({"ports": [a_port(), a_port()]}), INVALID, "ports", "name", "vm3",
                      "no other port", "ports[1]"),
    "applied address": (apply({"bridge": {"addresses": [{"mac": FREE, "port": "vm9"}]}}), INVALID,
                        "bridge.addresses[0]", "port", "vm9", "port.list", "no port vm9"),
    "applied strictly": (apply({"ports": [a_port(), a_port(name="vm4", socket="DIR/none/vm4.sock")]},
                               strict=True), SYSTEM, "port vm4", "socket", "DIR/none/vm4.sock", None,
                         "No such file"),
    "strict": (apply({}, strict="yes"), INVALID, "config.apply", "strict", '"yes"', "true", "true or false"),
}


@pytest.mark.parametrize("case", REQUESTS)
def test_requests(daemon, directory, case):
    (method, params), code, thing, field, value, accepted, message = REQUESTS[case]
    before = picture(daemon, directory)
    given = {key: each for key, each in params(directory).items() if each is not None or method == "port.set"}
    with pytest.raises(RpcError) as refusal:
        daemon.rpc(method, **given)
    error = refusal.value
    assert picture(daemon, directory) == before
    assert error.code == code
    assert message in error.message
    assert error.data.get("object") == thing
    assert error.data.get("field") == field
    if value is None:
        assert "value" not in error.data
    else:
        assert error.data["value"].startswith(value.replace("DIR", str(directory)))
    if accepted is not None:
        assert accepted in error.data["accepted"]
    assert "\n" not in error.message and not error.message.endswith(".")


RAW = {
    "no JSON": ("{", None, None),
    "half a word": ("nul ", PARSE, None),
    "a number": ("7", REQUEST, None),
    "no version": ('{"id": 1, "method": "port.list"}', REQUEST, 1),
    "old version": ('{"jsonrpc": "1.0", "id": 1, "method": "port.list"}', REQUEST, 1),
    "no method": ('{"jsonrpc": "2.0", "id": 1}', REQUEST, 1),
    "method of no text": ('{"jsonrpc": "2.0", "id": 1, "method": 7}', REQUEST, 1),
    "id of no sense": ('{"jsonrpc": "2.0", "id": {}, "method": "port.list"}', REQUEST, None),
    "parameters of no sense": ('{"jsonrpc": "2.0", "id": 1, "method": "port.list", "params": 7}', REQUEST, 1),
    "unknown method": ('{"jsonrpc": "2.0", "id": "x", "method": "port.lists"}', METHOD, "x"),
    "too many parameters": ('{"jsonrpc": "2.0", "id": 1, "method": "port.remove", "params": ["a", "b"]}',
                            INVALID, 1),
    "port by position": ('{"jsonrpc": "2.0", "id": 1, "method": "port.add", "params": ["vm3"]}', INVALID, 1),
    "empty batch": ("[]", REQUEST, None),
    "key twice": ('{"jsonrpc": "2.0", "id": 1, "id": 2, "method": "port.list"}', REQUEST, None),
}


@pytest.mark.parametrize("case", RAW)
def test_requests_that_are_none(daemon, directory, case):
    text, code, number = RAW[case]
    before = picture(daemon, directory)
    with Raw(daemon) as raw:
        if code is None:
            raw.socket.sendall(text.encode())  # what never ends is never answered
            raw.socket.shutdown(socket.SHUT_WR)
            wait_until(lambda: not raw.socket.recv(4096), 5, "the connection is closed")
        else:
            answer = raw.call(text)
            assert answer["jsonrpc"] == "2.0" and answer["error"]["code"] == code, answer
            assert answer["id"] == number
            assert answer["error"]["message"]
    assert picture(daemon, directory) == before


def test_a_batch_of_good_and_bad(daemon, directory):
    """Each has its own answer, and the bad ones take nothing from the good."""
    before = picture(daemon, directory)
    with Raw(daemon) as raw:
        answers = raw.call(json.dumps([
            {"jsonrpc": "2.0", "id": 1, "method": "port.get", "params": {"name": "vm1"}},
            {"jsonrpc": "2.0", "id": 2, "method": "port.get", "params": {"name": "vm9"}},
            {"jsonrpc": "2.0", "method": "port.remove", "params": {"name": "vm9"}},
            7, {"jsonrpc": "2.0", "id": 3, "method": "no.such"}]))
    found = {answer["id"]: answer.get("error", {}).get("code") for answer in answers}
    assert found == {1: None, 2: NOT_FOUND, None: REQUEST, 3: METHOD}
    assert picture(daemon, directory) == before


def test_a_failed_replacement_leaves_the_old_port(daemon, directory):
    before = picture(daemon, directory)
    with pytest.raises(RpcError) as refusal:
        daemon.rpc("port.add", **vhost_port(directory, "vm1", socket=str(directory / "none/vm1.sock")),
                   replace=True)
    assert refusal.value.code == SYSTEM
    after = picture(daemon, directory)
    # The old socket is bound anew, so its inode may be another.
    assert after[:5] == before[:5] and after[6] == before[6]
    assert after[5].keys() == before[5].keys()


# ---- the world runs out ----

def lowest_free(pid):
    """The number that the next file of a process gets."""
    used = set(map(int, os.listdir(f"/proc/{pid}/fd")))
    return next(number for number in range(1 << 20) if number not in used)


def test_too_few_files(place):
    """While it runs: what cannot be opened is refused by its name, and what is there goes on."""
    with Daemon(place, [vhost_port(place, "vm1")], idle="adaptive") as daemon:
        before = (daemon.rpc("config.get"), daemon.rpc("port.list"), sockets(place))
        with Raw(daemon) as raw:
            raw.call('{"jsonrpc": "2.0", "id": 0, "method": "system.info"}')
            resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (lowest_free(daemon.pid), 4096))
            answer = raw.call(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "port.add",
                                          "params": vhost_port(place, "vm2")}))
        error = answer["error"]
        assert error["code"] == SYSTEM
        assert error["data"]["object"] == "port vm2"
        assert "Too many open files" in error["message"]
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (1024, 4096))
        assert (daemon.rpc("config.get"), daemon.rpc("port.list"), sockets(place)) == before
        daemon.rpc("port.add", **vhost_port(place, "vm2"))
        assert daemon.port("vm2")["reason"] != ""


def test_too_few_files_at_the_start(place):
    """What is needed grows with the ports; a soft limit is the daemon's own to raise."""
    Start(place, limits=["--nofile=12"]).refused("only 12 files", "too few for 0 ports", "320 or more")
    config = {"ports": [vhost_port(place, f"vm{n}") for n in range(10)]}
    Start(place, config=config, limits=["--nofile=429"]).refused("only 429 files", "10 ports", "430 or more")
    with Daemon(place, config["ports"]) as daemon:
        assert resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)[0] == \
            resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def virtual_memory(pid):
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def test_memory_runs_out(place):
    """Requests fail for want of memory, one after another; the switch goes on, and later all is well."""
    with Daemon(place, [vhost_port(place, "vm1")], idle="adaptive") as daemon:
        before = (daemon.rpc("config.get"), daemon.rpc("port.list"), sockets(place))
        size = virtual_memory(daemon.pid)
        refused = 0
        for spare in (0, 1 << 16, 1 << 18, 1 << 20, 1 << 22):
            resource.prlimit(daemon.pid, resource.RLIMIT_AS, (size + spare, resource.RLIM_INFINITY))
            try:
                daemon.rpc("port.add", **vhost_port(place, "vm2", queues=128))
                daemon.rpc("port.remove", name="vm2")
            except RpcError as error:
                refused += 1
                assert "memory" in str(error), error
            except ConnectionError:  # not even the connection had room
                refused += 1
            resource.prlimit(daemon.pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
            assert daemon.rpc("system.info")["pid"] == daemon.pid
            assert daemon.rpc("port.list") == before[1]
            assert sockets(place) == before[2]
            size = max(size, virtual_memory(daemon.pid))
        print("refused", refused)
        assert refused > 0
        daemon.rpc("port.add", **vhost_port(place, "vm2", queues=128))
