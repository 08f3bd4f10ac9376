# SPDX-License-Identifier: BSD-3-Clause
"""`ringwayctl top` on a terminal of tmux, whose screen is read, and `ringwayctl watch`: against what the
daemon says itself, under traffic, with keys, other sizes, signals, and a daemon that goes away."""
import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import threading
import time

import pytest

from frontend import Guest, ethernet
from harness import RINGWAYCTL, Daemon, Process, TestpmdGuest, Workdir, vhost_port, wait_until

DONE, REFUSED, USAGE, NO_DAEMON = range(4)
HEADING = re.compile(r"^port +rx pps +rx bit/s +tx pps +tx bit/s held drops/s  reason")
KEYS = "q quit  sort: p packets"
ROW = re.compile(r"^(\S+) +(up|down)((?: +[0-9.]+[kMGT]?){4}) +(\d+)% +([0-9.]+[kMGT]?)(?:  (.*))?$")
POWERS = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


def number(text):
    return float(text.rstrip("kMGT")) * POWERS[text.lstrip("0123456789.")]


class Row:
    def __init__(self, match):
        self.name, self.state = match[1], match[2]
        self.rx_packets, self.rx_bits, self.tx_packets, self.tx_bits = map(number, match[3].split())
        self.held, self.drops, self.reason = int(match[4]) / 100, number(match[5]), match[6] or ""


def rows(lines):
    return [Row(match) for match in map(ROW.match, lines) if match]


class Screen(Process):
    """A terminal with a shell in it."""

    def __init__(self, directory, columns=80, lines=24, **environment):
        self.path = pathlib.Path(directory) / "tmux.sock"
        kept = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "TMUX")}
        self.environment = {**kept, "LC_ALL": "C.UTF-8", **environment}
        super().__init__(["env", "-i", *(f"{key}={value}" for key, value in self.environment.items()),
                          f"RUNTIME_DIRECTORY={directory}", "tmux", "-D", "-f", "/dev/null", "-S", self.path],
                         directory, stdin=subprocess.DEVNULL)
        try:
            wait_until(lambda: self.begin(columns, lines), 10, "tmux is there")
            self.wait_line("shell>")
        except BaseException:
            self.stop()
            raise

    def begin(self, columns, lines):
        try:
            self.tmux("new-session", "-d", "-x", columns, "-y", lines,
                      "env PS1='shell> ' bash --norc --noprofile")
        except subprocess.CalledProcessError:
            return False
        return True

    def stop(self, timeout=10):
        """The shell has ended, too."""
        shell = self.shell() if self.running() else None
        super().stop(timeout)
        wait_until(lambda: not (shell and os.path.exists(f"/proc/{shell}")), 5, "the shell has ended")

    def tmux(self, *words):
        # Without a server of its own: one that nobody stops.
        return subprocess.run(["tmux", "-N", "-S", self.path, *map(str, words)], stdout=subprocess.PIPE,
                              check=True, text=True, timeout=10).stdout

    def type(self, *keys):
        self.tmux("send-keys", *keys)

    def run(self, *words):
        self.type("-l", " ".join(map(str, words)))
        self.type("Enter")

    def lines(self, *options):
        return self.tmux("capture-pane", "-p", *options).split("\n")

    def fact(self, name):
        return self.tmux("display-message", "-p", f"#{{{name}}}").strip()

    def wait_line(self, text, timeout=10):
        wait_until(lambda: any(text in line for line in self.lines()), timeout, f"the screen shows {text!r}")

    def settings(self, name):
        """What stty says of the terminal."""
        self.run(f"stty -a > {self.directory}/{name}; echo sa''id {name}")
        self.wait_line(f"said {name}")
        return (self.directory / name).read_text()

    def shell(self):
        return self.fact("pane_pid")

    def child(self):
        """The process that the shell has started."""
        shell = self.shell()
        children = pathlib.Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
        return int(children[0]) if children else None


class Top(Screen):
    def __init__(self, daemon, columns=80, lines=24, prefix="", **environment):
        super().__init__(daemon.directory, columns, lines, **environment)
        self.command = f"{prefix}{RINGWAYCTL} -s {daemon.socket} top"
        self.before = self.settings("before")
        self.start()

    def start(self):
        self.run(self.command)
        self.wait_line("drops/s")

    def rows(self):
        return rows(self.lines())

    def next(self):
        """The rows once the screen has changed."""
        last = self.lines()
        wait_until(lambda: self.lines() != last, 5, "another screen")
        return self.rows()

    def assert_restored(self, name):
        wait_until(lambda: self.fact("alternate_on") == "0", 5, "the first screen is back")
        assert self.settings(name) == self.before
        assert self.fact("cursor_flag") == "1"


def ctl(daemon, *words, timeout=30):
    return subprocess.run([RINGWAYCTL, "-s", daemon.socket, *map(str, words)], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, timeout=timeout)


@pytest.fixture(scope="module")
def daemon(workdir):
    limit = {"ingress": {"bandwidth": {"rate": "80Mbit", "burst": "64KiB"}}}
    # What port c sends is not to go round in testpmd's loop.
    closed = {"flood": {"broadcast": False}}
    ports = [vhost_port(workdir, "a", limits=limit, **closed), vhost_port(workdir, "b", **closed),
             vhost_port(workdir, "c"), vhost_port(workdir, "vm10"), vhost_port(workdir, "vm9")]
    with Daemon(workdir, ports) as daemon:
        yield daemon


@contextlib.contextmanager
def sending(daemon):
    """Some hundred broadcasts a second from port c; those to nobody are drops at vm9 and vm10."""
    ended = threading.Event()

    def run():
        with Guest(str(daemon.directory / "c.sock"), number=3).up() as guest:
            while not ended.wait(0.05):
                for _ in range(20):
                    guest.send(ethernet(b"\xff" * 6, guest.mac))
    thread = threading.Thread(target=run)
    thread.start()
    daemon.wait_port("c", "up")
    try:
        yield
    finally:
        ended.set()
        thread.join(10)


def rates(before, after, seconds):
    """What stats.get says, as a row of the screen."""
    old = {port["name"]: port for port in before["ports"]}
    found = {}
    for port in after["ports"]:
        last = old[port["name"]]
        found[port["name"]] = {
            "rx_packets": (port["rx_packets"] - last["rx_packets"]) / seconds,
            "rx_bits": 8 * (port["rx_bytes"] - last["rx_bytes"]) / seconds,
            "tx_packets": (port["tx_packets"] - last["tx_packets"]) / seconds,
            "tx_bits": 8 * (port["tx_bytes"] - last["tx_bytes"]) / seconds,
            "drops": sum(sum(port[way].values()) - sum(last[way].values())
                         for way in ("rx_dropped", "tx_dropped")) / seconds}
    return found


def test_numbers_under_traffic(daemon):
    sockets = [daemon.directory / f"{name}.sock" for name in ("a", "b")]
    with TestpmdGuest(daemon.directory, sockets) as guest, sending(daemon), Top(daemon) as top:
        for name in ("a", "b"):
            daemon.wait_port(name, "up")
        guest.start_loop(1000, 128)
        time.sleep(2)
        shown, said, before, begun = [], [], daemon.rpc("stats.get"), time.monotonic()
        for _ in range(6):
            shown.append({row.name: row for row in top.next()})
            after, ended = daemon.rpc("stats.get"), time.monotonic()
            said.append(rates(before, after, ended - begun))
            before, begun = after, ended
        guest.stop_loop()
        worker = next(line for line in top.lines() if line.startswith("worker 0 "))
    assert {row.state for row in shown[-1].values() if row.name in "abc"} == {"up"}
    # The first screen is of a second that began before the first reading.
    for name, facts in said[0].items():
        for key in facts:
            mean = sum(getattr(screen[name], key) for screen in shown[1:]) / (len(shown) - 1)
            values = [row[name][key] for row in said]
            assert 0.85 * min(values) - 1 <= mean <= 1.15 * max(values) + 1, (name, key, values, mean)
    # It is not nothing that agrees.
    assert 1e6 < said[-1]["a"]["rx_bits"] < 1.1 * 80e6
    assert shown[-1]["a"].held > 0.2 and shown[-1]["b"].held == 0
    assert said[-1]["vm9"]["drops"] > 50 and shown[-1]["vm9"].reason == "not_connected"
    assert re.match(r"worker 0  cpu \d+  load +[1-9]\d?%  [0-9.]+[kM]? packets/s", worker), worker


def test_keys(daemon):
    with sending(daemon), Top(daemon) as top:
        def order(key):
            top.type(key)
            top.next()
            return [row.name for row in top.rows()]
        # vm9 and vm10 get and drop what c sends, as a and b do.
        assert order("n") == ["a", "b", "c", "vm9", "vm10"]
        assert order("p")[0] == order("b")[0] == "c"
        assert order("d")[-1] == "c"
        top.type("Space")
        top.wait_line("[paused]")
        still = top.lines()
        time.sleep(1.5)
        assert top.lines() == still
        top.type("n")
        wait_until(lambda: [row.name for row in top.rows()][0] == "a", 5, "sorted while it stands still")
        top.type("Space")
        wait_until(lambda: not any("[paused]" in line for line in top.lines()), 5, "it goes on")
        assert top.next()
        top.type("Escape", "x", "Up")  # nothing to them
        top.type("q")
        top.assert_restored("after-q")


def test_sizes(daemon):
    with Top(daemon, 80, 24) as top:
        def look(columns, lines):
            top.tmux("resize-window", "-x", columns, "-y", lines)
            def drawn():
                text = top.lines()[:lines]
                return text[-1].startswith(KEYS[:columns]) and text[2].startswith("port ") and text
            text = wait_until(drawn, 5, "all is drawn")
            assert max(map(len, text)) <= columns
            return text
        text = look(80, 24)
        assert text[0].startswith("ringway ") and HEADING.match(text[2]) and len(rows(text)) == 5
        assert all(row.reason.endswith("...") for row in rows(text))
        wide = look(140, 30)
        assert {row.reason for row in rows(wide)} <= {"the VMM is gone; waiting for it to connect again",
                                                      "waiting for the VMM to connect"}
        assert len(rows(look(80, 6))) == 2
        assert len(look(40, 24)) == 24
        assert look(20, 4)
        assert len(rows(look(80, 24))) == 5


def test_scrolling(workdir):
    with Workdir() as directory:
        ports = [vhost_port(directory, f"vm{number}") for number in range(1, 41)]
        with Daemon(directory, ports, idle="adaptive") as daemon, Top(daemon) as top:
            def first():
                return [row.name for row in top.rows()][0]
            shown = 24 - 4
            for key, name in (("n", "vm1"), ("Down", "vm2"), ("Down", "vm3"), ("Up", "vm2"),
                              ("NPage", "vm21"), ("End", "vm21"), ("PPage", "vm1"), ("Up", "vm1"),
                              ("NPage", "vm21"), ("Home", "vm1")):
                top.type(key)
                wait_until(lambda: first() == name, 5, f"{name} is first behind {key}")
                assert len(top.rows()) == shown
            top.tmux("resize-window", "-x", 80, "-y", 60)
            wait_until(lambda: len(top.rows()) == 40, 5, "all are shown")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT,
                                    signal.SIGABRT])
def test_signals(daemon, number):
    with Top(daemon) as top:
        os.kill(top.child(), number)
        wait_until(lambda: top.child() is None, 5, "it has ended")
        top.run("echo status $?")
        status = 0 if number == signal.SIGINT else 128 + number
        top.wait_line(f"status {status}")
        top.assert_restored(f"after-{number.name}")


def test_stopped_and_continued(daemon):
    with Top(daemon) as top:
        top.type("C-z")
        top.assert_restored("stopped")
        top.run("fg")
        top.wait_line("drops/s")
        assert top.fact("alternate_on") == "1" and top.fact("cursor_flag") == "0"
        assert top.next()
        top.type("C-c")
        top.assert_restored("after-stop")


def test_colours(daemon):
    with Top(daemon) as top:
        assert any("\x1b[31mdown" in line for line in top.lines("-e"))
    with Top(daemon, prefix="NO_COLOR=1 ") as top:
        assert not any("\x1b" in line for line in top.lines("-e"))


def test_once(daemon):
    with sending(daemon):
        begun = time.monotonic()
        done = ctl(daemon, "top")
    assert (done.returncode, done.stderr) == (DONE, "")
    assert 1 <= time.monotonic() - begun < 5
    assert "\x1b" not in done.stdout
    found = {row.name: row for row in rows(done.stdout.split("\n"))}
    assert set(found) == {"a", "b", "c", "vm9", "vm10"}
    assert found["c"].rx_packets > 50 and found["vm9"].drops > 50
    with Screen(daemon.directory) as screen:
        screen.run(RINGWAYCTL, "-s", daemon.socket, "top --once")
        screen.wait_line("vm10")
        screen.wait_line("shell>")
        assert screen.fact("alternate_on") == "0"


def test_a_terminal_that_knows_nothing(daemon):
    """One table, and no sequences in it."""
    with Screen(daemon.directory, 140) as screen:
        screen.run(f"TERM=dumb script -qc '{RINGWAYCTL} -s {daemon.socket} top' {daemon.directory}/said")
        screen.wait_line("vm10")
        wait_until(lambda: screen.child() is None, 10, "it has ended")
    said = (daemon.directory / "said").read_text()
    assert "vm10" in said and "\x1b" not in said


def test_wrong_use(daemon):
    for words in (["top", "x"], ["top", "--json"], ["port", "list", "--once"], ["top", "--since", "1"],
                  ["watch", "--since", "x"], ["watch", "a/b"], ["watch", "--once"]):
        done = ctl(daemon, *words)
        assert done.returncode == USAGE and done.stderr.startswith("ringwayctl: "), words
    for words in (["top"], ["watch"]):
        done = subprocess.run([RINGWAYCTL, "-s", "/nowhere/ringway.sock", *words], stdin=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, text=True, timeout=10)
        assert done.returncode == NO_DAEMON and "no daemon answers" in done.stderr


def test_help_and_completion(daemon):
    for name in ("top", "watch"):
        assert ctl(daemon, "help", name).stdout == ctl(daemon, name, "help").stdout == \
            ctl(daemon, name, "--help").stdout
        assert ctl(daemon, "help", name).stdout.startswith(f"Usage: ringwayctl {name} ")
        assert f"\n  {name} " in ctl(daemon, "help").stdout
    complete = ["--complete", "--socket", daemon.socket]

    def completed(*words):
        return subprocess.run([RINGWAYCTL, *complete, *words], stdout=subprocess.PIPE, text=True,
                              timeout=10).stdout.split()
    assert completed("to") == ["top"] and completed("wa") == ["watch"]
    assert completed("watch", "guest.") == ["guest.connected", "guest.gone", "guest.refused",
                                            "guest.features"]
    assert completed("watch", "vm") == ["vm10", "vm9"]
    assert completed("watch", "port=vm1") == ["port=vm10"]
    assert completed("top", "") == []
    assert completed("watch", "--si") == ["--since"]


def test_the_daemon_goes_away():
    with Workdir() as directory:
        with Daemon(directory, [vhost_port(directory, "a")], idle="adaptive") as daemon:
            top = Top(daemon)
        with top:
            top.wait_line("trying again")
            assert [row.name for row in top.rows()] == ["a"]
            with Daemon(directory, [vhost_port(directory, "b")], idle="adaptive"):
                wait_until(lambda: [row.name for row in top.rows()] == ["b"], 10, "the new one is shown")
                top.type("q")
                top.assert_restored("after-all")


def test_a_thousand_ports():
    with Workdir() as directory:
        ports = [vhost_port(directory, f"port{number}") for number in range(1000)]
        with Daemon(directory, ports, idle="adaptive", ready=False) as daemon:
            wait_until(daemon.answers, 60, "the daemon answers")
            begun = time.monotonic()
            done = ctl(daemon, "top")
            assert time.monotonic() - begun < 10
            assert len(rows(done.stdout.split("\n"))) == 1000
            with Top(daemon) as top:
                assert len(top.rows()) == 20
                top.type("End")
                top.next()
                assert len(top.rows()) == 20


# ---- watch ----

class Watch(Process):
    def __init__(self, daemon, *words):
        self.out = daemon.directory / f"watch-{time.monotonic_ns()}"
        self.err = self.out.with_suffix(".err")
        with open(self.out, "wb") as out, open(self.err, "wb") as err:
            super().__init__([RINGWAYCTL, "-s", daemon.socket, "watch", *words], daemon.directory,
                             stdin=subprocess.DEVNULL, stdout=out, stderr=err)

    def wait_line(self, pattern, timeout=10):
        def found():
            return next((line for line in self.out.read_text().split("\n") if re.search(pattern, line)), None)
        return wait_until(found, timeout, f"{pattern} in {self.out}")

    def interrupt(self):
        self.process.send_signal(signal.SIGINT)
        return self.wait(5)


def test_watch(daemon):
    now = str(daemon.rpc("event.subscribe")["sequence"])
    with Watch(daemon, "--since", "0") as all_of_it, \
            Watch(daemon, "guest", "port=c", "--since", now) as guests:
        all_of_it.wait_line(r"  port\.down        vm9  reason=waiting for the VMM to connect$")
        with Guest(str(daemon.directory / "c.sock"), number=3).up():
            all_of_it.wait_line(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z  port\.up          c$")
        guests.wait_line(r"guest\.connected  c  pid=\d+  uid=\d+  waiting=no$")
        guests.wait_line(r"guest\.features   c  pid=\d+  features=VIRTIO_\w+, ")
        guests.wait_line(r"guest\.gone       c  pid=\d+  reason=the VMM disconnected$")
        daemon.rpc("port.set", name="vm9", labels={"x": str(time.monotonic())})
        all_of_it.wait_line(r"config\.changed   vm9  method=port\.set  revision=\d+  pid=\d+  uid=\d+$")
        assert all_of_it.interrupt() == guests.interrupt() == DONE
        kinds = {line.split()[1] for line in guests.out.read_text().split("\n") if line}
        assert kinds == {"guest.connected", "guest.features", "guest.gone"}
        assert guests.err.read_text() == ""


def test_watch_json(daemon):
    with Watch(daemon, "--json", "--since", "0", "port.down") as watch:
        watch.wait_line("vm9")
        assert watch.interrupt() == DONE
        events = [json.loads(line) for line in watch.out.read_text().splitlines()]
    assert {event["kind"] for event in events} == {"port.down"}
    assert all({"sequence", "time", "monotonic_ms", "port", "reason"} <= set(event) for event in events)


def test_watch_over_a_restart():
    with Workdir() as directory:
        with Daemon(directory, [vhost_port(directory, "a")], idle="adaptive") as daemon:
            watch = Watch(daemon, "--since", "0")
            daemon.rpc("port.set", name="a", mtu=1400)
            watch.wait_line("method=port.set")
        with watch:
            wait_until(lambda: "waiting for it" in watch.err.read_text(), 5, "it says so")
            with Daemon(directory, [vhost_port(directory, "z")], idle="adaptive"):
                watch.wait_line(r"port\.down        z  ")
                assert "the daemon has been started again" in watch.err.read_text()
                assert watch.interrupt() == DONE


def test_watch_in_colours(daemon):
    with Screen(daemon.directory, 200) as screen:
        screen.run(RINGWAYCTL, "-s", daemon.socket, "watch port.down --since 0")
        screen.wait_line("vm9")
        assert any("\x1b[31mport.down" in line for line in screen.lines("-e"))
        screen.type("C-c")
        screen.run("echo status $?")
        screen.wait_line("status 0")
