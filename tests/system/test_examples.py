# SPDX-License-Identifier: BSD-3-Clause
"""What an operator copies works: the configurations in config/ and config/examples/, and the commands
of ringwayctl that the README files show."""
import json
import pathlib
import re
import shlex
import struct
import subprocess

import pytest

import harness
from harness import CPUS, Console, Daemon, Namespace, vhost_port

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILES = [ROOT / "config/default.json", *sorted((ROOT / "config/examples").glob("*.json"))]
READMES = [ROOT / "README.md", ROOT / "config/examples/README.md", ROOT / "docs/operations.md"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_configuration(workdir, file):
    """As it is, but for the folder of the sockets and the CPUs, which may not be there."""
    config = json.loads(file.read_text())
    for port in config["ports"]:
        assert port["socket"].startswith("/run/ringway/")
        port["socket"] = str(workdir / pathlib.Path(port["socket"]).name)
    # Each has a CPU of its own.
    del config.get("workers", [])[len(CPUS):]
    for worker, cpu in zip(config.get("workers", []), reversed(CPUS)):
        worker["cpu"] = cpu
    with Daemon(workdir, config=config) as daemon:
        assert daemon.rpc("config.get")["configuration"]["ports"] == config["ports"]
        listed = daemon.rpc("port.list")
        assert [port["name"] for port in listed] == [port["name"] for port in config["ports"]]
        for port, wanted in zip(listed, config["ports"]):
            # A user may be unknown here, and what a client's VMM makes is not there.
            if wanted.get("mode") == "client" or "user" in wanted.get("permissions", {}):
                continue
            off = not wanted.get("enabled", True)
            assert port["reason"] == ("switched off" if off else "waiting for the VMM to connect")


# What is not in every machine: commands with such words are refused, with this sentence.
ABSENT = {"device=0000:": "there is no such PCI device", "device=vhost-net:": "/dev/vhost-net"}


def run_client(words, workdir):
    """As typed; `watch`, which has no end of its own, with ^C behind it."""
    endless = ["timeout", "--signal=INT", "--preserve-status", "1"] if words[0] == "watch" else []
    return subprocess.run([*endless, harness.RINGWAYCTL, "--socket", workdir / "ringway.sock", *words],
                          cwd=ROOT, capture_output=True, text=True, timeout=20, check=False)


@pytest.mark.parametrize("readme", READMES, ids=lambda file: str(file.relative_to(ROOT)))
def test_commands(workdir, readme):
    """In their order, on a switch that has the ports of the examples."""
    text = readme.read_text().replace("=/tmp/", f"={workdir}/").replace("/run/ringway/", f"{workdir}/")
    # Those of two switches are test_ethdev.py's.
    commands = re.findall(r"^    (ringwayctl (?!--socket [AB] ).*)$", text, re.MULTILINE)
    assert commands
    (workdir / "in.pcap").write_bytes(struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1))
    ports = [vhost_port(workdir, name) for name in ("vm1", "acme-1")]
    with Namespace() as home, Daemon(workdir, ports, netns=home.name):
        home.run("ip", "link", "add", "eth1", "type", "veth", "peer", "name", "wire")
        home.run("ip", "tuntap", "add", "fc0", "mode", "tap")
        for command in commands:
            words = shlex.split(command, comments=True)[1:]
            done = run_client(words, workdir)
            absent = [sentence for word, sentence in ABSENT.items() if word in command]
            if done.returncode == 1 and absent:
                assert absent[0] in done.stderr
                continue
            assert done.returncode == 0, f"{command}: {done.stderr}"


@pytest.mark.parametrize("readme", READMES, ids=lambda file: str(file.relative_to(ROOT)))
def test_files_are_there(readme):
    for name in re.findall(r"`([\w./-]+)`|(?:sh|@)\s*((?:app|tests|config)/[\w./-]+)",
                           readme.read_text()):
        name = name[0] or name[1]
        if re.match(r"(app|tests|config|docs)/", name):
            assert (ROOT / name).exists(), name
        elif re.search(r"\.(json|xml)$", name):
            assert (readme.parent / name).exists() or (ROOT / name).exists(), name


def test_first_guest(workdir):
    """The command line of the README, twice, as typed at two terminals."""
    text = READMES[0].read_text()
    command = re.search(r"^    sudo (qemu-system-x86_64 (?:.*\\\n)+.*)$", text, re.MULTILINE)[1]
    command = command.replace("\\\n", "").replace("/run/ringway", str(workdir))
    command = command.replace("build/", f"{harness.BUILD}/")
    second = command
    for word, other in (("vm1", "vm2"), ("00:01", "00:02"), ("10.9.0.1", "10.9.0.2")):
        assert word in command and other in text
        second = second.replace(word, other)
    subprocess.run(["sh", ROOT / "tests/system/guest/build.sh", harness.BUILD / "guest"], check=True,
                   timeout=120)
    with (Daemon(workdir, [vhost_port(workdir, name) for name in ("vm1", "vm2")]),
          Console(shlex.split(command), workdir) as vm1,
          Console(shlex.split(second), workdir) as vm2):
        for guest in (vm1, vm2):
            guest.expect("# ", 60)
        vm1.send("ping -c 3 10.9.0.2")
        vm1.expect("3 packets received", 30)
        vm1.send("exit")
        assert vm1.wait(20) == 0
