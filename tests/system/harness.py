# SPDX-License-Identifier: BSD-3-Clause
"""What the system tests and the benchmark drive: the daemon, QEMU guests and testpmd.

Each class is a context manager that starts one process in a directory given by the caller and ends
it by its pid. Waiting is always for an event (a line, a state, a counter) and always bounded.

    with Workdir() as directory, Daemon(directory, [vhost_port(directory, "a")]) as daemon:
        with qemu_guest(directory, "a", number=1) as guest:
            guest.wait_boot()
            status, output = guest.run("ping -c 3 10.9.0.2")

Environment: RINGWAYD (path of the daemon), RINGWAYCTL (of its client), BUILD (where the guest's
kernel and initramfs are kept between runs), FULL=1 (for tests that have a short and a full form),
WORKERS=N (of a switch for which the test does not say; those beside the first are adaptive).
"""
import collections
import contextlib
import ctypes
import http.client
import json
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import threading
import time
import tty

HERE = pathlib.Path(__file__).resolve().parent
BUILD = pathlib.Path(os.environ.get("BUILD", HERE.parents[1] / "build"))
RINGWAYD = os.environ.get("RINGWAYD", str(BUILD / "app/ringwayd/ringwayd"))
RINGWAYCTL = os.environ.get("RINGWAYCTL", str(BUILD / "app/ringwayctl/ringwayctl"))
FULL = os.environ.get("FULL") == "1"
WORKERS = int(os.environ.get("WORKERS", "1"))

# The switch polls on the last CPU that we may use, guests run on the first; a single one is shared.
CPUS = sorted(os.sched_getaffinity(0))
SWITCH_CPU = CPUS[-1]
GUEST_CPU = CPUS[0]

# Which of the guests a and b have packed rings. The short form has one of each layout, so that both
# talk to the other.
LAYOUTS = ["", "a", "b", "ab"] if FULL else ["b"]

# Everything started or made here, for the evidence of a failed test and for the check at the end
# that nothing was left behind.
processes = []
directories = []
namespaces = []


# A sample of a metric as text, and one of its labels.
SAMPLE = re.compile(r"^([a-z_0-9]+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def free_port():
    """A TCP port of 127.0.0.1 that nobody has just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def sockets(directory):
    """The names of the sockets in a directory."""
    names = []
    for entry in os.scandir(directory):
        # A draft of the state file may be gone meanwhile.
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISSOCK(entry.stat().st_mode):
                names.append(entry.name)
    return sorted(names)


def wait_until(predicate, timeout, what):
    """Returns the first true value of predicate(); fails, naming `what`, after `timeout` s."""
    deadline = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"after {timeout} s still not: {what} (last: {value!r})")
        time.sleep(0.02)


def wait_stable(sample, timeout, what):
    """Returns sample() once it gave the same twice, 200 ms apart."""
    last = [sample()]

    def same():
        time.sleep(0.2)
        now = sample()
        unchanged, last[0] = now == last[0], now
        return unchanged

    wait_until(same, timeout, what)
    return last[0]


def leftovers():
    """What outlived its owner: running processes, theirs included, and directories. Good is []."""
    marks = [f"RUNTIME_DIRECTORY={directory}".encode() for directory in directories]
    found = [f"directory {directory}" for directory in directories if directory.exists()]
    found += [f"namespace {name}" for name in namespaces
              if pathlib.Path("/run/netns", name).exists()]
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if any(mark in (process / "environ").read_bytes().split(b"\0") for mark in marks):
                found.append(f"process {process.name}: {(process / 'cmdline').read_bytes()}")
        except OSError:  # ended meanwhile, or not ours
            pass
    return found


class Workdir:
    """A temporary directory with a short name (socket paths are limited to 107 bytes)."""

    def __enter__(self):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="ringway-"))
        directories.append(self.path)
        return self.path

    def __exit__(self, *unused):
        shutil.rmtree(self.path)


class Process:
    """A child in `directory`, always waited for. DPDK's run-time files go to `directory`, too."""

    def __init__(self, argv, directory, cpus=None, netns=None, **popen):
        # With a sanitizer undefined behaviour ends the process, as wrong accesses do anyway.
        environment = {"UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1", **os.environ,
                       "RUNTIME_DIRECTORY": str(directory)}
        if cpus is not None:
            argv = ["taskset", "-c", ",".join(map(str, cpus)), *argv]
        if netns is not None:
            argv = ["ip", "netns", "exec", netns, *argv]
        # Nothing outlives even a test that is killed.
        argv = ["setpriv", "--pdeathsig", "KILL", *argv]
        self.directory = pathlib.Path(directory)
        self.process = subprocess.Popen([str(word) for word in argv], env=environment, **popen)
        self.pid = self.process.pid
        self.killed = False  # by us, with a signal that no process can answer
        processes.append(self)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.stop()

    def running(self):
        return self.process.poll() is None

    def step_back(self):
        """Takes from now on about a tenth of its CPU where others want it, even where the kernel shares
        CPUs out among sessions rather than threads."""
        for thread in os.listdir(f"/proc/{self.pid}/task"):
            os.setpriority(os.PRIO_PROCESS, int(thread), 10)
        with contextlib.suppress(FileNotFoundError):
            pathlib.Path(f"/proc/{self.pid}/autogroup").write_text("10")

    def kill(self, number=signal.SIGKILL):
        """Sends a signal and waits for the end; returns the exit status as Popen gives it."""
        if self.running():
            self.killed = number == signal.SIGKILL
            self.process.send_signal(number)
        return self.wait(10)

    def stop(self, timeout=10):
        """Ends the process as an operator would, the hard way where that does not help."""
        if self.running():
            self.process.terminate()
        return self.wait(timeout)

    def wait(self, timeout):
        try:
            status = self.wait_end(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"{self.process.args} (pid {self.pid}) had to be killed: it did "
                                 f"not end within {timeout} s") from None
        finally:
            self.closed()
        return status

    def wait_end(self, timeout):
        """As Popen.wait(), which looks only every 50 ms: restart times are measured here."""
        if self.running():
            end = os.pidfd_open(self.pid)
            try:
                select.select([end], [], [], timeout)
            finally:
                os.close(end)
        return self.process.wait(0)

    def closed(self):
        """Called when the process has ended; may be called more than once."""

    def evidence(self):
        """What the process said last, for the report of a failed test."""
        return ""


class Namespace:
    """A network namespace of the test's own, with its loopback interface up."""

    made = 0

    def __enter__(self):
        Namespace.made += 1
        self.name = f"ringway-{os.getpid()}-{Namespace.made}"
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        namespaces.append(self.name)
        self.run("ip", "link", "set", "lo", "up")
        return self

    def __exit__(self, *unused):
        subprocess.run(["ip", "netns", "delete", self.name], check=True)

    def run(self, *command, timeout=30):
        """Runs a command there to its end; returns its output."""
        done = subprocess.run(["ip", "netns", "exec", self.name, *map(str, command)],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=timeout)
        assert done.returncode == 0, f"{command}: {done.stdout}"
        return done.stdout

    def look_away(self):
        """Bridges there pass frames on unseen, where the kernel has packet filters for them."""
        if pathlib.Path("/proc/sys/net/bridge").exists():
            self.run("sysctl", "-w", *(f"net.bridge.bridge-nf-call-{table}=0"
                                       for table in ("iptables", "ip6tables", "arptables")))

    @contextlib.contextmanager
    def entered(self):
        """What this thread opens or starts meanwhile belongs to the namespace."""
        libc = ctypes.CDLL(None, use_errno=True)
        with open("/proc/thread-self/ns/net") as own, open(f"/run/netns/{self.name}") as other:
            assert libc.setns(other.fileno(), 0) == 0
            try:
                yield
            finally:
                assert libc.setns(own.fileno(), 0) == 0

    def links(self):
        """The interfaces there, as `ip -d -j link` shows them, by name."""
        return {link["ifname"]: link for link in json.loads(self.run("ip", "-d", "-j", "link"))}


class Console(Process):
    """A process that is driven by lines, over a terminal or, with TTY false, over a socket, which
    holds more than a terminal does before the writer must wait."""

    TTY = True

    def __init__(self, argv, directory, **options):
        if self.TTY:
            self.terminal, other = pty.openpty()
            tty.setraw(other)
        else:
            self.terminal, other = (end.detach() for end in socket.socketpair())
        self.text = ""  # everything seen so far
        self.seen = 0  # how much of it expect() has passed
        try:
            super().__init__(argv, directory, stdin=other, stdout=other, stderr=other,
                             start_new_session=True, **options)
        finally:
            os.close(other)

    def send(self, line):
        os.write(self.terminal, line.encode() + b"\n")

    def expect(self, pattern, timeout):
        """Waits for the regular expression behind the last match of the output; returns it."""
        deadline = time.monotonic() + timeout
        while True:
            match = re.compile(pattern, re.DOTALL).search(self.text, self.seen)
            if match:
                self.seen = match.end()
                return match
            if not self.read(deadline - time.monotonic()):
                late = time.monotonic() >= deadline
                why = f"after {timeout} s" if late else "and the output has ended"
                raise AssertionError(f"pid {self.pid}: no {pattern!r} {why}; the end of its "
                                     f"output:\n{self.text[-2000:]}")

    def read(self, timeout):
        """Adds what comes within `timeout` to the text; false at the end of time or output."""
        if self.terminal < 0 or not select.select([self.terminal], [], [], max(timeout, 0))[0]:
            return False
        try:
            data = os.read(self.terminal, 65536)
        except OSError:  # the other side is closed
            data = b""
        self.text += data.decode(errors="replace")
        return bool(data)

    def closed(self):
        if self.terminal >= 0:
            while self.read(0):
                pass
            os.close(self.terminal)
            self.terminal = -1

    def evidence(self):
        while self.read(0):
            pass
        return self.text[-3000:]


class RpcError(Exception):
    """The daemon's refusal: code, message and data of the JSON-RPC error object."""

    def __init__(self, error):
        super().__init__(f"{error['code']}: {error['message']} {error.get('data', '')}")
        self.code, self.message, self.data = error["code"], error["message"], error.get("data")


class Pipeline:
    """A connection to a daemon's socket on which requests go out without waiting for answers."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def run(self, requests, timeout=30):
        """All answers, in the order in which they came."""
        deadline = time.monotonic() + timeout
        self.socket.settimeout(timeout)
        text = "".join(json.dumps({"jsonrpc": "2.0", "id": n, "method": method, "params": params})
                       for n, (method, params) in enumerate(requests))
        writer = threading.Thread(target=self.socket.sendall, args=[text.encode()])
        writer.start()
        decoder, received, answers = json.JSONDecoder(), "", []
        while len(answers) < len(requests):
            left = deadline - time.monotonic()
            assert left > 0, f"{len(answers)} answers in {timeout} s"
            self.socket.settimeout(left)
            data = self.socket.recv(1 << 20)
            assert data, f"closed after {len(answers)} answers"
            received += data.decode()
            with contextlib.suppress(ValueError):
                while received := received.lstrip():
                    answer, end = decoder.raw_decode(received)
                    answers.append(answer)
                    received = received[end:]
        writer.join()
        return answers


def vhost_port(directory, name, **more):
    """The configuration of a vhost-user port whose socket is directory/NAME.sock."""
    return {"name": name, "type": "vhost-user",
            "socket": str(pathlib.Path(directory) / f"{name}.sock"), **more}


class Daemon(Process):
    """ringwayd with one worker, its configuration and its socket in `directory`. With `ready` false
    it is not waited for; wait_ready() does. `through`: a command that starts it."""

    def __init__(self, directory, ports=(), cpu=SWITCH_CPU, idle="busy", config=None, arguments=(),
                 ready=True, netns=None, through=()):
        directory = pathlib.Path(directory)
        self.socket = directory / "ringway.sock"
        self.log_path = directory / "ringwayd.log"
        file = directory / "ringway.json"
        if config is None:
            others = [other for other in CPUS if other != cpu][:WORKERS - 1]
            config = {"workers": [{"cpu": cpu, "idle": idle},
                                  *({"cpu": other, "idle": "adaptive"} for other in others)],
                      "ports": list(ports)}
        file.write_text(json.dumps(config, indent=1))
        argv = [*through, RINGWAYD, "--config", file, "--socket", self.socket, *arguments]
        with open(self.log_path, "ab") as log:
            super().__init__(argv, directory, netns=netns, stdin=subprocess.DEVNULL,
                             stdout=log, stderr=log)
        if ready:
            self.wait_ready()

    def wait_ready(self):
        try:
            wait_until(self.answers, 10, "the daemon answers on its socket")
        except BaseException:
            self.kill()
            raise

    def answers(self):
        if not self.running():
            raise AssertionError(f"ringwayd ended with {self.process.returncode}:\n{self.log()}")
        try:
            return self.rpc("system.info")["pid"] == self.pid
        except OSError:
            return False

    def rpc(self, method, *, timeout=10, **params):
        """Calls one method on a connection of its own and returns the result; raises RpcError."""
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout)
            connection.connect(str(self.socket))
            connection.sendall(json.dumps(request).encode() + b"\n")
            received = b""
            while True:
                data = connection.recv(65536)
                if not data:
                    raise ConnectionError(f"{method}: connection closed after {received!r}")
                received += data
                try:
                    reply = json.loads(received)
                    break
                except ValueError:  # not complete yet
                    pass
        if "error" in reply:
            raise RpcError(reply["error"])
        return reply["result"]

    def port(self, name):
        return self.rpc("port.get", name=name)

    def wait_port(self, name, state, timeout=10):
        """Waits until port.list shows the port in that state; returns its port.get."""
        def reached():
            return any(p["name"] == name and p["state"] == state for p in self.rpc("port.list"))
        wait_until(reached, timeout, f"port {name} is {state}")
        return self.port(name)

    def counters(self, name):
        """The row of stats.get for one port."""
        return next(p for p in self.rpc("stats.get")["ports"] if p["name"] == name)

    def get(self, path, method="GET", headers=(), timeout=10):
        """Asks the HTTP server of the configuration that runs; returns status, headers and body."""
        listen = self.rpc("config.get")["configuration"]["metrics"]["listen"]
        connection = http.client.HTTPConnection(*listen.rsplit(":", 1), timeout=timeout)
        if listen.startswith("/"):
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(timeout)
            connection.sock.connect(listen)
        with contextlib.closing(connection):
            connection.request(method, path, headers=dict(headers))
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read().decode()

    def metrics(self):
        """All samples at /metrics: {(name, labels): value}, with labels as sorted pairs."""
        status, _, text = self.get("/metrics", headers={"Accept": "application/openmetrics-text"})
        assert status == 200, text
        return {(name, tuple(sorted(LABEL.findall(labels)))): float(value)
                for name, labels, value in SAMPLE.findall(text)}

    def telemetry(self, *commands):
        """What dpdk-telemetry.py prints for each of these commands, as a list."""
        directory = pathlib.Path(self.rpc("system.info")["runtime_directory"])
        assert directory.parts[:-2] == self.directory.parts, directory
        done = subprocess.run(
            ["dpdk-telemetry.py", "-f", directory.name], input="\n".join(commands), text=True,
            stdout=subprocess.PIPE, timeout=30, check=True,
            env={**os.environ, "RUNTIME_DIRECTORY": str(self.directory)})
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(answers) == len(commands), done.stdout
        return [answer[command.split(",")[0]] for command, answer in zip(commands, answers)]

    def stop(self, timeout=10):
        """Its end, before which its ledgers must balance."""
        try:
            if self.running():
                self.check_ledgers()
        finally:
            status = super().stop(timeout)
        assert status == 0 or self.killed, f"ringwayd ended with {status}:\n{self.log()[-3000:]}"
        return status

    def check_ledgers(self):
        """They tell nothing of a daemon that does not answer, nor while its counters change."""
        def rows():
            return self.rpc("stats.get", timeout=2)["ports"]

        with contextlib.suppress(OSError, RpcError):
            last, since = rows(), time.monotonic()
            deadline = since + 3
            while list(ledger_faults(last)) and time.monotonic() < deadline:
                time.sleep(0.1)
                before, last = last, rows()
                if before != last:
                    since = time.monotonic()
                # A worker may have lost its CPU in the middle of a burst.
                assert time.monotonic() - since < 1.5, list(ledger_faults(last))

    def evidence(self):
        return self.log()[-6000:]

    def log(self):
        return self.log_path.read_text(errors="replace")

    def descriptors(self):
        """What it has open; a connection that is being closed has its time."""
        return wait_stable(lambda: sorted(self.open_files()), 5, "descriptors rest")

    def open_files(self):
        for name in os.listdir(f"/proc/{self.pid}/fd"):
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                yield os.readlink(f"/proc/{self.pid}/fd/{name}").split(":")[0]

    def children(self):
        """Processes that one of its threads has started and that are still there."""
        return [child for children in pathlib.Path(f"/proc/{self.pid}/task").glob("*/children")
                for child in children.read_text().split()]

    def rss(self, apart_from=()):
        """Resident bytes, without the guest memory that the processes `apart_from` map as well."""
        shared = {file for pid in apart_from for file, _ in mappings(pid) if file[1]}
        return sum(size for file, size in mappings(self.pid)
                   if file not in shared or not file[2].startswith("/memfd:"))


def mappings(pid):
    """Yields ((device, inode, path), resident bytes) for each mapping of a process."""
    file = None
    for line in pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines():
        words = line.split(None, 5)
        if re.match(r"[0-9a-f]+-[0-9a-f]+$", words[0]):
            file = (words[3], int(words[4]), words[5] if len(words) > 5 else "")
        elif words[0] == "Rss:":
            yield file, int(words[1]) * 1024


def ledger_faults(ports):
    """What is wrong in rows of stats.get: every frame has one verdict, every copy one end."""
    for port in ports:
        received = port["rx_forwarded"] + port["rx_flooded"] + sum(port["rx_dropped"].values())
        if port["rx_packets"] != received:
            yield f"receive ledger of {port['name']}: {port}"
        sent = port["tx_packets"] + port["tx_queued"] + sum(port["tx_dropped"].values())
        if port["tx_offered"] + port["tx_cut"] != sent:
            yield f"transmit ledger of {port['name']}: {port}"


def assert_ledgers(daemon):
    """A burst that is under way while the counters are read is in some of them and not yet in
    others: only what is still so a moment later, or has become more, was really lost."""
    deadline = time.monotonic() + 2
    while faults := list(ledger_faults(daemon.rpc("stats.get")["ports"])):
        assert time.monotonic() < deadline, faults
        time.sleep(0.05)


def drops(counters):
    """All drops of one port's counters that are not zero: {"rx.reason": n, "tx.reason": n}."""
    return {f"{way}.{reason}": count for way in ("rx", "tx")
            for reason, count in counters[f"{way}_dropped"].items() if count}


def drops_everywhere(daemon, *names):
    """These ports' drops as each output has them, as drops_of() says them: stats.get, the text at
    /metrics, and DPDK's telemetry. They agree once there is no traffic."""
    text = {name: {} for name in names}
    for (family, labels), count in daemon.metrics().items():
        labels = dict(labels)
        if family == "ringway_port_dropped_total" and labels["port"] in names and count:
            text[labels["port"]][f"{labels['direction']}.{labels['reason']}"] = int(count)
    endpoints = zip(names, daemon.telemetry(*(f"/ringway/drops,{name}" for name in names)))
    return {"stats.get": drops_of(daemon, *names), "metrics": text,
            "telemetry": {name: {key.replace("_", ".", 1): count for key, count in endpoint.items()
                                 if key != "name" and count}
                          for name, endpoint in endpoints}}


def drops_of(daemon, *names):
    """drops() of several ports, by name."""
    return {name: drops(daemon.counters(name)) for name in names}


def assert_nothing_lost_but(allowed, before, after):
    """Compares two drops_of(). A guest's receive ring that overflows while TCP probes for bandwidth
    ("tx.ring_full") is TCP's own business; what else was dropped is ours."""
    for name in after:
        for reason, count in after[name].items():
            grown = count - before[name].get(reason, 0)
            assert reason in allowed or grown == 0, f"port {name} dropped {grown} as {reason}"


Frames = collections.namedtuple("Frames", "received sent")


class QemuGuest(Console):
    """A Linux guest under QEMU (no hardware virtualization needed), driven through its console."""

    TTY = False
    READY = "ringway-guest-ready"

    def __init__(self, directory, name, socket, address, mac, queues=1, server=False, features="",
                 mtu=None, memory=256, smp=1, cpus=None, kernel="",
                 backend="memory-backend-memfd,share=on", boot=(),
                 arguments=(), tap=None, netns=None):
        """`server`: the socket is QEMU's and the switch connects; `features`: properties of the
        virtio-net device, such as "guest_csum=off"; `cpus`: where its threads may run, by default
        not on the switch's; `kernel`: more words for the guest's kernel, such as
        "ipv6.disable=1"; `backend`: of its memory; `boot`: QEMU's own arguments for a guest that boots
        by itself, from the network, and then gives its kernel the `words`; `arguments`: more of
        QEMU's; `tap`: an interface that QEMU serves itself, in place of a socket."""
        images = BUILD / "guest"
        subprocess.run([HERE / "guest/build.sh", images], check=True, timeout=120,
                       stdout=subprocess.DEVNULL)
        self.name, self.mac, self.address = name, mac, address.split("/")[0]
        self.commands = 0
        # With MSI-X this QEMU crashes under TCG when a vhost-user device is used: vectors=0.
        device = f"virtio-net-pci,netdev=net,mac={mac},vectors=0"
        if not boot:
            device += ",romfile="
        if queues > 1:
            device += ",mq=on"
        if features:
            device += f",{features}"
        role = "server=on,wait=off" if server else "reconnect=1"
        self.monitor = pathlib.Path(directory) / f"{name}.qmp"
        parameters = [f"ringway.name={name}", f"ringway.address={address}"]
        if mtu:
            parameters.append(f"ringway.mtu={mtu}")
        self.words = " ".join(["console=ttyS0 quiet no_timer_check", *parameters, kernel])
        netdev = ["-chardev", f"socket,id=vhost,path={socket}," + role,
                  "-netdev", f"vhost-user,id=net,chardev=vhost,queues={queues}"]
        if tap:
            netdev = ["-netdev", f"tap,id=net,ifname={tap},script=no,downscript=no"]
        boot = boot or ["-kernel", images / "vmlinuz", "-initrd", images / "initramfs.gz",
                        "-append", self.words]
        super().__init__([
            "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none",
            "-nic", "none", "-machine", "q35,memory-backend=memory",
            "-qmp", f"unix:{self.monitor},server=on,wait=off",
            "-accel", "tcg", "-cpu", "max", "-smp", smp,
            "-m", memory, "-object", f"{backend},id=memory,size={memory}M",
            "-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
            *boot, *netdev, "-device", device, *arguments], directory,
            cpus=cpus or CPUS[:-1] or CPUS, netns=netns)

    def wait_boot(self, timeout=60):
        """Waits until the guest reads commands, after the start or a reboot."""
        self.expect(self.READY + "\n", timeout)
        self.commands = 0

    def run(self, command, timeout=30):
        """Runs a line of shell in the guest; returns its exit status and output."""
        self.start(command)
        return self.finish(timeout)

    def start(self, command):
        """Begins a line of shell whose status and output finish() returns."""
        self.commands += 1
        self.send(command)

    def finish(self, timeout=30):
        self.expect(f"<begin {self.commands}>\n", timeout)
        begin = self.seen
        match = self.expect(rf"<end {self.commands} (\d+)>\n", timeout)
        return int(match[1]), self.text[begin:match.start()]

    def check(self, command, timeout=30):
        """run(), which must succeed; returns the output."""
        status, output = self.run(command, timeout)
        assert status == 0, f"guest {self.name}: {command}: exit status {status}\n{output}"
        return output

    def ping(self, address, count=10, interval=0.01, timeout=30):
        """Returns how many of `count` pings were answered. In a guest that hardly gets the CPU, ping ends
        before it has read all answers; its kernel has counted them."""
        before = self.echo_replies()
        _, output = self.run(f"ping -q -W 2 -c {count} -i {interval} {address}", timeout)
        read = int(re.search(r"(\d+) packets received", output)[1])
        return read if read == count else max(read, min(count, self.echo_replies() - before))

    def echo_replies(self):
        """Those that the guest's kernel has got, over IPv4."""
        names, values = (line.split() for line in self.check("grep ^Icmp: /proc/net/snmp").splitlines()
                         if line.startswith("Icmp:"))
        return int(values[names.index("InEchoReps")])

    def iperf(self, address, seconds=3, arguments=""):
        """TCP to the iperf3 server at `address`; returns the bits per second that arrived there."""
        # The last line of either kind is about all streams together.
        output = self.check(f"iperf3 -c {address} -t {seconds} -f k {arguments} | grep 'receiver$'",
                            seconds + 30)
        return 1e3 * float(output.splitlines()[-1].split()[-3])

    def fetch_sum(self, address, name, timeout=60):
        """MD5 of /tmp/NAME of the guest at `address`, fetched from there over TCP."""
        return self.check(f"wget -q -O - http://{address}/{name} | md5sum", timeout).split()[0]

    def make_file(self, name, mebibytes):
        """Fills /tmp/NAME with random bytes and returns their MD5."""
        make = f"dd if=/dev/urandom of=/tmp/{name} bs=1M count={mebibytes} 2>/dev/null"
        return self.check(f"{make} && md5sum </tmp/{name}", 60).split()[0]

    def counted(self):
        """What the guest's driver received and sent, in frames. Other than answers that its ping counts,
        of which a busy guest loses some (the program's buffer holds nine), none is missing here."""
        row = self.check("grep eth0: /proc/net/dev").split(":")[1].split()
        return Frames(int(row[1]), int(row[9]))

    def boot_id(self):
        """Changes with each boot, and only then."""
        return self.check("cat /proc/sys/kernel/random/boot_id").strip()

    def qmp(self, command, **arguments):
        """Has QEMU execute a command of its monitor protocol; returns the answer."""
        commands = [{"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}]
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(self.monitor))
            lines = connection.makefile("rw")
            lines.readline()  # the greeting
            for words in commands:
                lines.write(json.dumps(words) + "\n")
                lines.flush()
                while "event" in (answer := json.loads(lines.readline())):
                    pass
        assert "return" in answer, f"{command}: {answer}"
        return answer["return"]

    def reset(self):
        """As the reset button: the guest has no time to stop its device."""
        self.qmp("system_reset")

    def reboot(self, timeout=60):
        """Reboots from inside; the machine and its vhost-user connection stay."""
        self.send("reboot -f")
        self.wait_boot(timeout)


@contextlib.contextmanager
def qemu_guests(directory, *names, first=1, packed=(), **options):
    """Guests on directory/NAME.sock, booted side by side, with the numbers `first` and up; those named
    in `packed` have packed rings."""
    with contextlib.ExitStack() as stack:
        guests = [stack.enter_context(qemu_guest(directory, name, n, packed=name in packed, **options))
                  for n, name in enumerate(names, first)]
        for guest in guests:
            guest.wait_boot()
        yield guests


def qemu_guest(directory, name, number, packed=False, **options):
    """The guest on directory/NAME.sock, unless another `socket` is given: 10.9.0.NUMBER,
    52:54:00:00:00:NUMBER (in hexadecimal)."""
    options.setdefault("socket", pathlib.Path(directory) / f"{name}.sock")
    if packed:
        options["features"] = f"packed=on,{options.get('features', '')}".rstrip(",")
    return QemuGuest(directory, name, address=f"10.9.0.{number}/24",
                     mac=f"52:54:00:00:00:{number:02x}", **options)


class Testpmd(Console):
    """dpdk-testpmd at its prompt, without huge pages and PCI; all its threads share one CPU."""

    __test__ = False  # despite its name no test class
    PROMPT = "testpmd> "

    def __init__(self, directory, name, vdevs, cpu, arguments=(), memory=300, eal=()):
        devices = [word for vdev in vdevs for word in ("--vdev", vdev)]
        super().__init__(
            ["dpdk-testpmd", "--no-huge", "-m", memory, "--no-pci", "--file-prefix", name,
             "--lcores", f"0@{cpu},1@{cpu}", "--log-level", "lib.vhost*:error", *devices,
             *eal, "--", "-i", "--nb-cores=1", "--total-num-mbufs=16384", *arguments], directory)
        try:
            self.expect(self.PROMPT, 30)
        except BaseException:
            self.kill()
            raise

    def command(self, line, timeout=10):
        """Types a command and returns what it printed."""
        self.send(line)
        # The terminal shows the line as it is typed; the answer is between it and the next prompt.
        self.expect(re.escape(line) + r"\r?\n", timeout)
        return self.expect("(.*?)" + self.PROMPT, timeout)[1]

    def port_stats(self):
        """{port: {"rx": packets, "missed": n, "tx": packets, "errors": n}} as testpmd counts."""
        rows = re.findall(r"NIC statistics for port (\d+).*?RX-packets: (\d+)\s+RX-missed: (\d+).*?"
                          r"TX-packets: (\d+)\s+TX-errors: (\d+)",
                          self.command("show port stats all"), re.DOTALL)
        return {int(port): dict(zip(("rx", "missed", "tx", "errors"), map(int, counts)))
                for port, *counts in rows}

    def quit(self, timeout=15):
        """Stops forwarding, closes the ports and ends; returns the exit status."""
        self.send("quit")
        self.expect("Bye...", timeout)
        return self.wait(timeout)

    def stop(self, timeout=15):
        return self.quit(timeout) if self.running() else self.wait(timeout)


class TestpmdGuest(Testpmd):
    """A guest that saturates a switch: two virtio-user ports, each the other's peer.

    In the closed loop a port gets its own frames back through the switch: received on port 0, sent
    on port 1 to the MAC of port 0. So 256 frames for each port circulate, no ring can overflow, and
    the rate is that of the slower of guest and switch."""

    FRAMES = 256  # that circulate for each port

    def __init__(self, directory, sockets, name="guest", cpu=GUEST_CPU, queues=1, server=False,
                 macs=("52:54:00:00:01:00", "52:54:00:00:01:01"), features="mrg_rxbuf=1",
                 memory=300, eal=(), arguments=()):
        self.macs = macs
        self.queues = queues
        vdevs = [f"net_virtio_user{n},path={path},mac={mac},queues={queues},queue_size=256"
                 + (",server=1" if server else "") + (f",{features}" if features else "")
                 for n, (path, mac) in enumerate(zip(sockets, self.macs))]
        super().__init__(directory, name, vdevs, cpu,
                         ["--forward-mode=mac", f"--rxq={queues}", f"--txq={queues}",
                          f"--eth-peer=0,{macs[1]}", f"--eth-peer=1,{macs[0]}", *arguments],
                         memory, eal)

    def start_loop(self, size, frames=FRAMES):
        """Sends the first frames, of `size` bytes, `frames` from each port, which circulate until
        stop_loop(). What waits in the receive rings since an earlier loop is thrown away by testpmd.
        All 256 fill a ring: then testpmd itself drops a burst now and then, when it comes round before
        the switch has returned its old descriptors."""
        self.command(f"set txpkts {size}")
        self.command(f"start tx_first {frames // 32 // self.queues}")

    def stop_loop(self):
        """Returns what testpmd says of the loop."""
        return self.command("stop")

    def drain(self):
        """How many frames waited in the receive rings; they are thrown away."""
        before = self.port_stats()
        self.command("set fwd rxonly")
        self.command("start")  # empties the rings first
        self.command("stop")
        self.command("set fwd mac")
        return sum(row["rx"] - before[port]["rx"] for port, row in self.port_stats().items())

