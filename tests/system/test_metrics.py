# SPDX-License-Identifier: BSD-3-Clause
"""Metrics in all outputs: the text that Prometheus scrapes over HTTP, DPDK's telemetry and stats.get
say the same, to the last frame; whoever asks in a bad way, or never reads, gets nowhere."""
import contextlib
import json
import os
import pathlib
import re
import select
import socket
import subprocess
import time
import urllib.parse
import urllib.request

import pytest
from prometheus_client.openmetrics import parser

import harness
from harness import (RINGWAYD, SWITCH_CPU, Daemon, Process, RpcError, TestpmdGuest, Workdir,
                     assert_ledgers, drops_everywhere, free_port, vhost_port, wait_stable, wait_until)

CONFIG = pathlib.Path(__file__).resolve().parents[2] / "config"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
LABELS = {"vm": 'a "quoted" \\ one', "a-b": "1", "a.b": "2", "\u00e4": "\u00f6\n"}


def config_of(directory, listen, **more):
    return {"workers": [{"cpu": SWITCH_CPU, "idle": "adaptive"}], "metrics": {"listen": listen},
            "ports": [vhost_port(directory, "a", labels=LABELS, limits={"ingress": {"bandwidth": {
                          "rate": "2Gbit"}}}),
                      vhost_port(directory, "b", mtu=1000, queues=2)], **more}


@pytest.fixture(scope="module")
def daemon(workdir):
    with Daemon(workdir, config=config_of(workdir, f"127.0.0.1:{free_port()}")) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def traffic(daemon):
    """A guest whose frames have come and gone: what it counted itself."""
    sockets = [daemon.directory / f"{name}.sock" for name in "ab"]
    with TestpmdGuest(daemon.directory, sockets) as guest:
        for name in "ab":
            daemon.wait_port(name, "up")
        guest.start_loop(900)
        wait_until(lambda: daemon.counters("a")["rx_packets"] > 100_000, 30, "traffic")
        guest.stop_loop()
        # Those to port b, whose MTU is smaller, are lost: each of them is counted.
        guest.start_loop(1400)
        wait_until(lambda: daemon.counters("b")["tx_dropped"].get("mtu", 0) > 0, 10, "drops")
        guest.stop_loop()
        wait_stable(lambda: [daemon.counters(name) for name in "ab"], 10, "counters rest")
        yield guest


def families_of(daemon):
    return json.loads(subprocess.run([RINGWAYD, "--metrics"], stdout=subprocess.PIPE, check=True).stdout)


# ---- what the text is ----


def test_openmetrics_as_its_own_parser_reads_it(daemon, traffic):
    """Names, types, units, the order of labels' samples and the end mark, by the reference's parser."""
    status, headers, text = daemon.get("/metrics")
    assert status == 200 and headers["Content-Type"] == OPENMETRICS
    assert text.endswith("# EOF\n")
    families = {family.name: family for family in parser.text_string_to_metric_families(text)}
    for row in families_of(daemon):
        family = families[row["family"]]
        assert (family.type, family.unit) == (row["type"], row["unit"] or ""), row
        wanted = set(row["labels"].split()) - {"label_*"}
        for sample in family.samples:
            assert set(sample.labels) - {"le"} >= wanted, sample
    info = {sample.labels["port"]: sample.labels for sample in families["ringway_port"].samples}
    # Of labels whose names become the same the first stands.
    assert info["a"] == {"port": "a", "type": "vhost-user", "label_vm": LABELS["vm"], "label_a_b": "1",
                         "label___": "\u00f6\n"}
    assert info["b"] == {"port": "b", "type": "vhost-user"}


def test_promtool_likes_it(daemon, traffic):
    """The older text, and the files in config/."""
    status, headers, text = daemon.get("/metrics", headers={"Accept": "text/plain"})
    assert status == 200 and headers["Content-Type"] == PROMETHEUS
    for command, given in ((["metrics"], text), (["config", CONFIG / "prometheus.yml"], ""),
                           (["rules", CONFIG / "ringway.rules.yml"], "")):
        done = subprocess.run(["promtool", "check", *map(str, command)], input=given, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30)
        assert done.returncode == 0, f"{command}: {done.stdout}"


def test_alerts_fire():
    """Each of the rules, where it should and not where it should not."""
    done = subprocess.run(["promtool", "test", "rules", "alerts.yml"], text=True, timeout=60,
                          cwd=pathlib.Path(__file__).parent, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    rules = re.findall(r"alert: (\w+)", (CONFIG / "ringway.rules.yml").read_text())
    tests = (pathlib.Path(__file__).parent / "alerts.yml").read_text()
    assert [rule for rule in rules if f'alertname="{rule}"' not in tests] == []


def test_the_other_pages(daemon):
    assert daemon.get("/healthz")[::2] == (200, "ok\n")
    assert daemon.get("/readyz")[::2] == (200, "ready\n")
    assert daemon.get("/nothing")[0] == 404
    assert daemon.get("//metrics")[0] == 404
    assert daemon.get("/metrics?x=y#z")[0] == 200
    status, headers, text = daemon.get("/status.json")
    assert status == 200 and headers["Content-Type"] == "application/json"
    assert [port["name"] for port in json.loads(text)["ports"]] == ["a", "b"]
    status, headers, text = daemon.get("/", method="HEAD")
    assert (status, text) == (200, "")
    for path in ("/", "/metrics", "/nothing"):
        headers = daemon.get(path)[1]
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Connection"] == "close"
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
        status, headers, _ = daemon.get("/metrics", method=method)
        assert (status, headers["Allow"]) == (405, "GET, HEAD"), method


def test_not_ready(workdir):
    """A port that cannot be opened: alive, and not ready, with the reason."""
    listen = f"127.0.0.1:{free_port()}"
    with Workdir() as directory:
        config = config_of(directory, listen)
        config["ports"] = [{"name": "lan", "type": "af_packet", "interface": "rwnone0"}]
        with Daemon(directory, config=config) as daemon:
            assert daemon.get("/healthz")[0] == 200
            assert daemon.get("/readyz")[::2] == (503, "port lan: there is no interface rwnone0\n")
            assert daemon.metrics()["ringway_process_ready", ()] == 0
            assert daemon.metrics()["ringway_port_open", (("port", "lan"),)] == 0
            daemon.rpc("port.remove", name="lan")
            assert daemon.get("/readyz")[0] == 200


# ---- three outputs ----


def samples_of(metrics, family, labels):
    """The sum of all samples of a family that have these labels among theirs."""
    return sum(value for (name, own), value in metrics.items()
               if name == family and labels.items() <= dict(own).items())


def test_all_outputs_agree(daemon, traffic):
    """Each row of each port, in stats.get, the text and DPDK's telemetry."""
    assert_ledgers(daemon)
    metrics = daemon.metrics()
    compared = 0
    for name in "ab":
        counters = daemon.counters(name)
        endpoint, = daemon.telemetry(f"/ringway/port,{name}")
        queues, = daemon.telemetry(f"/ringway/queues,{name}")
        for row in families_of(daemon):
            if row["object"] not in ("port", "vhost") or row["row"] not in counters:
                continue
            labels = {"port": name}
            if "direction" in row["labels"].split():
                labels["direction"] = row["row"][:2]
            total = samples_of(metrics, row["family"] + ("_total" if row["type"] == "counter" else ""),
                               labels)
            value = counters[row["row"]]
            if row["row"].endswith("_dropped"):
                assert total == sum(value.values()) == sum(queues[row["row"]]), row
            else:
                scale = 1e9 if row["row"].endswith("_ns") else 1
                assert total * scale == pytest.approx(value, rel=1e-9, abs=1e-3), row
                assert endpoint[row["row"]] == value, row
                if "queue" in row["labels"].split():
                    assert sum(queues[row["row"]]) == value, row
            compared += 1
    assert compared > 2 * 25
    worker = daemon.rpc("worker.list")[0]
    assert samples_of(daemon.metrics(), "ringway_worker_packets_total", {}) == worker["packets"]
    assert worker["packets"] == daemon.telemetry("/ringway/worker,0")[0]["packets"]
    assert sum(worker["bursts"].values()) == samples_of(metrics, "ringway_worker_bursts_count", {})
    fdb = daemon.rpc("stats.get")["fdb"]
    assert fdb == daemon.telemetry("/ringway/fdb")[0]
    assert fdb["learned"] == metrics["ringway_fdb_learned_total", ()] > 0


def test_drops_by_reason(daemon, traffic):
    for name, reason in (("a", None), ("b", "tx.mtu")):
        everywhere = drops_everywhere(daemon, name)
        assert everywhere["stats.get"] == everywhere["metrics"] == everywhere["telemetry"], everywhere
        assert reason is None or everywhere["stats.get"][name][reason] > 0


def test_every_endpoint(daemon, traffic):
    """dpdk-telemetry.py lists and reads each; what is not there is said."""
    listed = [name for name in daemon.telemetry("/")[0] if name.startswith("/ringway/")]
    assert len(listed) == 11
    parameters = {"/ringway/port": ",a", "/ringway/queues": ",b,1", "/ringway/drops": ",a",
                  "/ringway/worker": ",0", "/ringway/ports": ",1"}
    answers = dict(zip(listed, daemon.telemetry(*(name + parameters.get(name, "") for name in listed))))
    for name, answer in answers.items():
        assert "error" not in answer, name
    assert answers["/ringway/ports"] == {"count": 2, "start": 1, "ports": ["b"]}
    assert answers["/ringway/workers"] == [0]
    assert len(answers["/ringway/queues"]["rx_packets"]) == 1
    assert answers["/ringway/port"]["state"] == "up"
    assert answers["/ringway/port"]["rx_bandwidth_rate"] == 2_000_000_000
    assert answers["/ringway/info"]["socket"] == str(daemon.socket)
    wrong = ["/ringway/port,nobody", "/ringway/port", "/ringway/worker,1", "/ringway/worker,x",
             "/ringway/queues,a,-1", "/ringway/drops,", "/ringway/ports,99999"]
    for command, answer in zip(wrong, daemon.telemetry(*wrong)):
        assert set(answer) == {"error"}, command


def test_text_that_dpdk_makes_no_json_of(daemon):
    """Paths and questions may have any letters; what DPDK says of them is JSON all the same."""
    configuration = daemon.rpc("config.get")["configuration"]
    path = '/nonexistent/\u00f6\u20ac"\\\n/c.sock'
    daemon.rpc("config.apply", configuration={**configuration, "ports": [
        *configuration["ports"], {"name": "c", "type": "vhost-user", "socket": path}]})
    port, asked = daemon.telemetry("/ringway/port,c", "/ringway/port,\u00f6")
    daemon.rpc("port.remove", name="c")
    assert '/nonexistent/?????"\\\n/c.sock' in port["reason"]
    assert asked == {"error": "no such port: ??"}


def test_many_ports(workdir):
    """256 ports of two queues: rendered in a moment, and each page of names fits into an answer."""
    with Workdir() as directory:
        listen = f"127.0.0.1:{free_port()}"
        names = [f"{'guest-with-a-name-of-sixty-three-characters-or-nearly-so-':.<59}{n:04}"
                 for n in range(256)]
        config = {"workers": [{"cpu": SWITCH_CPU, "idle": "adaptive"}], "metrics": {"listen": listen},
                  "ports": [{"name": name, "type": "vhost-user", "queues": 2,
                             "socket": f"{directory}/{n}"} for n, name in enumerate(names)]}
        with Daemon(directory, config=config, ready=False) as daemon:
            wait_until(daemon.answers, 30, "256 ports are open")
            first, = daemon.telemetry("/ringway/ports")
            second, = daemon.telemetry(f"/ringway/ports,{first['next']}")
            assert first["ports"] + second["ports"] == names and "next" not in second
            took = []
            for _ in range(5):
                begin = time.monotonic()
                status, _, text = daemon.get("/metrics")
                took.append(time.monotonic() - begin)
            assert status == 200 and text.count("ringway_port_packets_total{") == 2 * 2 * 256
            print(f"{len(text)} bytes in {min(took) * 1e3:.1f} ms")
            # A hundred times what it takes: a list that is gone through anew for each line is found.
            assert min(took) < 1
            begin = time.monotonic()
            json.loads(daemon.get("/status.json")[2])
            assert time.monotonic() - begin < 2


# ---- the real Prometheus ----


class Prometheus(Process):
    """The server, with the configuration of config/ for another address and a shorter interval."""

    def __init__(self, directory, target):
        self.url = f"http://127.0.0.1:{free_port()}"
        self.log_path = pathlib.Path(directory) / "prometheus.log"
        config = (CONFIG / "prometheus.yml").read_text()
        assert "127.0.0.1:9477" in config
        config = (config.replace("127.0.0.1:9477", target).replace("15s", "200ms")
                  .replace("- ringway.rules.yml", f"- {CONFIG}/ringway.rules.yml"))
        file = pathlib.Path(directory) / "prometheus.yml"
        file.write_text(config)
        with open(self.log_path, "wb") as log:
            super().__init__(
                ["prometheus", f"--config.file={file}", f"--storage.tsdb.path={directory}/tsdb",
                 f"--web.listen-address={self.url[7:]}"], directory, cpus=harness.CPUS[:-1] or None,
                stdout=log, stderr=log)

    def ask(self, path, **parameters):
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=10) as answer:
            return json.load(answer)["data"]

    def value(self, query):
        """Of a query with one answer, or None."""
        try:
            result = self.ask("query", query=query)["result"]
        except OSError:
            return None
        assert len(result) <= 1, result
        return float(result[0]["value"][1]) if result else None

    def evidence(self):
        return self.log_path.read_text()[-3000:]


def test_prometheus_counts_what_the_guest_counts(daemon, traffic):
    """Scraped while traffic runs; afterwards the increase is the guest's own, to the frame."""
    packets = 'sum(ringway_port_packets_total{{port="{}",direction="{}"}})'
    listen = daemon.rpc("config.get")["configuration"]["metrics"]["listen"]
    with Prometheus(daemon.directory, listen) as prometheus:
        wait_until(lambda: prometheus.value('up{job="ringway"}') == 1, 30, "the first scrape")
        wait_until(lambda: prometheus.value(packets.format("a", "rx")), 10, "values")
        target, = prometheus.ask("targets", state="active")["activeTargets"]
        assert target["health"] == "up" and target["lastError"] == ""
        traffic.drain()
        ways = {(name, way): packets.format(name, way) for name in "ab" for way in ("rx", "tx")}
        before = {way: prometheus.value(query) for way, query in ways.items()}
        guest_before = traffic.port_stats()
        traffic.start_loop(900)
        seen = set()
        wait_until(lambda: seen.add(prometheus.value(ways["a", "rx"])) or len(seen) > 5, 20,
                   "it sees traffic while it runs")
        traffic.stop_loop()
        guest = traffic.port_stats()
        wait_stable(lambda: daemon.counters("a"), 10, "counters rest")
        for number, name in enumerate("ab"):
            sent = guest[number]["tx"] - guest_before[number]["tx"]
            def scraped():
                return prometheus.value(ways[name, "rx"]) - before[name, "rx"]
            wait_until(lambda: scraped() == daemon.counters(name)["rx_packets"] - before[name, "rx"],
                       10, "the last scrape")
            assert scraped() == sent > 0
            wait_until(lambda: prometheus.value(ways[name, "tx"]) == daemon.counters(name)["tx_packets"],
                       10, "the last scrape")
        assert prometheus.ask("rules")["groups"][0]["rules"]
        metadata = prometheus.ask("targets/metadata", metric="ringway_port_bytes")
        assert metadata[0]["type"] == "counter" and metadata[0]["unit"] == "bytes"


# ---- where it is served ----


def apply(daemon, listen, **more):
    configuration = daemon.rpc("config.get")["configuration"]
    configuration["metrics"] = {"listen": listen}
    return daemon.rpc("config.apply", configuration=configuration, **more)


def is_served(listen):
    try:
        with socket.create_connection(listen.rsplit(":", 1), timeout=5):
            return True
    except ConnectionRefusedError:
        return False


def test_it_moves_while_the_switch_runs(daemon):
    old = daemon.rpc("config.get")["configuration"]["metrics"]["listen"]
    new = f"127.0.0.1:{free_port()}"
    plan = apply(daemon, new, dry_run=True)
    assert {"object": "metrics", "action": "set"} in plan["changes"] and is_served(old)
    answer = apply(daemon, new)
    assert answer["changes"] == [{"object": "metrics", "action": "set"}] and answer["faults"] == []
    assert daemon.get("/healthz")[0] == 200 and not is_served(old)
    # The same port in other words, which the old listener must not be in the way of.
    wide = new.replace("127.0.0.1", "0.0.0.0")
    assert apply(daemon, wide)["faults"] == []
    assert daemon.get("/healthz")[0] == 200
    path = str(daemon.directory / "metrics.sock")
    apply(daemon, path)
    assert daemon.get("/readyz")[0] == 200 and not is_served(new)
    assert daemon.metrics()["ringway_process_ready", ()] == 1
    apply(daemon, None)
    assert "metrics" not in daemon.rpc("config.get")["configuration"]
    assert not os.path.exists(path) and not is_served(old)
    if socket.has_ipv6:
        with contextlib.suppress(RpcError):  # where the host has no ::1
            apply(daemon, f"[::1]:{free_port()}", strict=True)
            address = daemon.rpc("config.get")["configuration"]["metrics"]["listen"]
            assert is_served(f"::1:{address.rsplit(':', 1)[1]}")
    apply(daemon, old)
    assert daemon.get("/healthz")[0] == 200


def test_an_address_that_is_taken(daemon):
    """It is said and tried again; whoever insists keeps what was."""
    old = daemon.rpc("config.get")["configuration"]["metrics"]["listen"]
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = "127.0.0.1:%d" % other.getsockname()[1]
        with pytest.raises(RpcError) as refusal:
            apply(daemon, taken, strict=True)
        assert refusal.value.code == -32004
        assert refusal.value.data["object"] == "metrics" and refusal.value.data["field"] == "listen"
        assert taken in refusal.value.message and "in use" in refusal.value.message
        assert daemon.get("/healthz")[0] == 200
        assert daemon.rpc("config.get")["configuration"]["metrics"]["listen"] == old
        fault, = apply(daemon, taken)["faults"]
        assert fault["object"] == "metrics" and "in use" in fault["reason"]
        assert not is_served(old)
    wait_until(lambda: is_served(taken), 10, "it is tried again")
    assert daemon.get("/healthz")[0] == 200
    apply(daemon, old)


def test_it_outlives_the_switch():
    """What was applied is in the state file, and is served again after a restart."""
    with Workdir() as directory:
        arguments = ["--state", directory / "state.json"]
        listen = f"127.0.0.1:{free_port()}"
        with Daemon(directory, arguments=arguments) as daemon:
            apply(daemon, listen)
            assert is_served(listen)
        assert not is_served(listen)
        with Daemon(directory, arguments=arguments) as daemon:
            assert daemon.get("/readyz")[0] == 200


def test_what_is_no_address(daemon):
    for listen in ("localhost:9477", "127.0.0.1", ":9477", "127.0.0.1:0", "relative.sock", "/" + 107 * "x"):
        with pytest.raises(RpcError) as refusal:
            apply(daemon, listen)
        assert refusal.value.code == -32602 and refusal.value.data["field"] == "metrics.listen"
        assert "absolute path" in refusal.value.data["accepted"]
    assert daemon.get("/healthz")[0] == 200


def test_two_daemons():
    """On one host: neither is in the other's way, and DPDK's script tells them apart."""
    with Workdir() as one, Workdir() as other:
        shared = ("env", f"RUNTIME_DIRECTORY={one}")
        listen = f"127.0.0.1:{free_port()}"
        with Daemon(one, config=config_of(one, listen)) as first, \
                Daemon(other, config=config_of(other, listen), through=shared) as second:
            assert first.rpc("config.apply", dry_run=True,
                             configuration=config_of(one, listen))["faults"] == []
            fault, = second.rpc("config.apply", configuration=config_of(other, listen))["faults"]
            assert "in use" in fault["reason"]
            prefixes = {pathlib.Path(daemon.rpc("system.info")["runtime_directory"]).name: daemon
                        for daemon in (first, second)}
            assert len(prefixes) == 2
            for prefix, daemon in prefixes.items():
                done = subprocess.run(["dpdk-telemetry.py", "-f", prefix], input="/ringway/info",
                                      text=True, stdout=subprocess.PIPE, check=True, timeout=30,
                                      env={**os.environ, "RUNTIME_DIRECTORY": str(one)})
                assert json.loads(done.stdout)["/ringway/info"]["socket"] == str(daemon.socket)


# ---- bad clients ----


def connect(daemon, size=None):
    host, port = daemon.rpc("config.get")["configuration"]["metrics"]["listen"].split(":")
    client = socket.socket()
    if size:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
    client.settimeout(30)
    client.connect((host, int(port)))
    return client


def read_all(client):
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while data := client.recv(65536):
            received += data
    return received


def test_bad_requests(daemon):
    """Each is answered or closed, and the next one is served."""
    bad = [b"\r\n\r\n", b"GET\r\n\r\n", b"\0\1\2\3\r\n\r\n", b"GET /metrics HTTP/9.9\r\n\r\n",
           b"BREW /metrics HTTP/1.1\r\n\r\n", b"GET http://\0/ HTTP/1.1\r\n\r\n",
           b"GET %zz HTTP/1.1\r\n\r\n", b"GET " + 9000 * b"x" + b" HTTP/1.1\r\n\r\n",
           b"GET / HTTP/1.1\r\nX: " + 9000 * b"x" + b"\r\n\r\n",
           b"GET / HTTP/1.1\r\n" + 3000 * b"a: b\r\n" + b"\r\n",
           b"POST /metrics HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
           b"POST /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n",
           b"GET /metrics HTTP/1.1\r\nContent-Length: -1\r\n\r\n"]
    for request in bad:
        with connect(daemon) as client:
            with contextlib.suppress(OSError):  # it may have heard enough before all is sent
                client.sendall(request)
                client.shutdown(socket.SHUT_WR)
            answer = read_all(client)
            assert not answer.startswith(b"HTTP/1.1 200"), (request[:60], answer[:100])
        assert daemon.get("/healthz")[0] == 200
    with connect(daemon) as client:
        # One request a connection: no more than one answer to many.
        client.sendall(100 * b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n")
        assert read_all(client).count(b"HTTP/1.1 200") == 1


def test_head_has_no_body(daemon):
    """As GET says it, but for the body."""
    for path in ("/healthz", "/", "/nothing"):
        with connect(daemon) as client:
            client.sendall(f"HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            head, body = read_all(client).split(b"\r\n\r\n", 1)
        assert body == b""
        length = int(re.search(rb"\r\nContent-Length: (\d+)", head)[1])
        assert length == len(daemon.get(path)[2].encode()), path


def test_slow_and_silent_clients(daemon):
    """As many as may be connected say nothing, or a byte now and then: they are gone after their time,
    one more waits until then, and the control thread never noticed."""
    begin = time.monotonic()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(daemon)) for _ in range(64)]
        slow, silent = clients[0], clients[1:]
        slow.sendall(b"GET /metrics HTTP/1.1\r\n")
        wait_until(lambda: daemon.rpc("stats.get")["http"]["clients"] == 64, 10, "they are connected")
        asked = time.monotonic()
        daemon.rpc("stats.get")
        assert time.monotonic() - asked < 1
        late = stack.enter_context(connect(daemon))
        late.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        late_after, slow_after = None, None
        while slow_after is None:
            passed = time.monotonic() - begin
            assert passed < 30, "a client that sends a byte now and then is still there"
            with contextlib.suppress(ConnectionError):
                slow.sendall(b"X")
            ready, _, _ = select.select([slow] + [late] * (late_after is None), [], [], 0.5)
            if late in ready:
                assert read_all(late).startswith(b"HTTP/1.1 200")
                late_after = passed
            if slow in ready:
                slow_after = passed
        assert 3 < late_after < 10 < slow_after, (late_after, slow_after)
        for client in silent:
            assert read_all(client) == b""
    wait_until(lambda: daemon.rpc("stats.get")["http"]["clients"] == 0, 5, "all are gone")
    assert daemon.rpc("stats.get")["http"]["late"] >= 1


def test_answers_that_nobody_reads(workdir):
    """They are bounded in memory: beyond that a client is told to come later."""
    with Workdir() as directory:
        listen = f"127.0.0.1:{free_port()}"
        config = {"workers": [{"cpu": SWITCH_CPU, "idle": "adaptive"}], "metrics": {"listen": listen},
                  "ports": [vhost_port(directory, f"p{n}", queues=16) for n in range(16)]}
        with Daemon(directory, config=config) as daemon, contextlib.ExitStack() as stack:
            size = len(daemon.get("/metrics")[2])
            assert size > 1 << 20
            before = daemon.rss()
            clients = [stack.enter_context(connect(daemon, size=4096)) for _ in range(60)]
            for client in clients:
                client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            wait_until(lambda: daemon.rpc("stats.get")["http"]["requests"] >= 61, 20, "all are asked for")
            assert daemon.rpc("stats.get")["http"]["refusals"] > 0
            assert read_all(clients[-1]).startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
            # Sixteen MiB, and what the allocator rounds up to.
            assert daemon.rss() - before < 60 << 20
            for client in clients:
                client.close()
            wait_until(lambda: daemon.get("/metrics")[0] == 200, 20, "it is served again")


def test_a_switch_with_more_metrics_than_may_wait(workdir):
    """4,096 queue pairs are more than 16 MiB; they are served all the same, if not to all at once."""
    with Workdir() as directory:
        config = {"workers": [{"cpu": SWITCH_CPU, "idle": "adaptive"}],
                  "metrics": {"listen": f"127.0.0.1:{free_port()}"},
                  "ports": [vhost_port(directory, f"p{n}", queues=64) for n in range(64)]}
        with Daemon(directory, config=config, ready=False) as daemon:
            wait_until(daemon.answers, 30, "64 ports are open")
            for _ in range(3):
                status, _, text = daemon.get("/metrics", timeout=30)
                assert status == 200 and len(text) > 16 << 20 and text.endswith("# EOF\n")
            with connect(daemon, size=4096) as slow:
                slow.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
                wait_until(lambda: daemon.get("/status.json")[0] == 503, 10, "an answer waits")
                assert daemon.get("/healthz")[0] == 200
            wait_until(lambda: daemon.get("/status.json")[0] == 200, 10, "it is gone")


def test_the_end_with_clients(workdir):
    """The switch ends at once, whoever is connected."""
    with Workdir() as directory, contextlib.ExitStack() as stack:
        with Daemon(directory, config=config_of(directory, f"127.0.0.1:{free_port()}")) as daemon:
            for request in (b"", b"GET / HTT", b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"):
                client = stack.enter_context(connect(daemon, size=4096))
                client.sendall(request)
            begin = time.monotonic()
        assert time.monotonic() - begin < 5
