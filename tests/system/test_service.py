# SPDX-License-Identifier: BSD-3-Clause
"""The service manager is told when the switch is ready, and not before; the unit file is good."""
import os
import pathlib
import shutil
import socket
import subprocess

import pytest

import harness
from harness import Daemon, vhost_port

UNIT = pathlib.Path(__file__).resolve().parents[2] / "config/ringway.service"


@pytest.fixture
def manager():
    """Listens as systemd does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.settimeout(10)
        yield listener


# systemd in a container of its own listens at an abstract name.
@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_ready(workdir, manager, monkeypatch, kind):
    name = f"{workdir}/notify"
    manager.bind("\0" + name if kind == "abstract" else name)
    monkeypatch.setenv("NOTIFY_SOCKET", "@" + name if kind == "abstract" else name)
    with Daemon(workdir, [vhost_port(workdir, "a")], ready=False) as daemon:
        message, _ = manager.recvfrom(4096)
        assert message == b"READY=1"
        # At this moment, without another try.
        assert [port["name"] for port in daemon.rpc("port.list")] == ["a"]
        assert (workdir / "a.sock").exists()
    assert daemon.process.returncode == 0


@pytest.mark.parametrize("name", ["/nobody/is/here", "relative", "", "/" + 107 * "x"])
def test_nobody_listens(workdir, monkeypatch, name):
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    with Daemon(workdir) as daemon:
        assert "did not hear" in daemon.log()


def test_not_ready(workdir, manager, monkeypatch):
    """A configuration that is refused."""
    manager.bind(f"{workdir}/silence")
    manager.settimeout(0)
    monkeypatch.setenv("NOTIFY_SOCKET", f"{workdir}/silence")
    daemon = Daemon(workdir, config={"ports": 1}, ready=False)
    assert daemon.wait(10) == 1
    with pytest.raises(BlockingIOError):
        manager.recvfrom(4096)


def test_without_standard_descriptors(workdir):
    """The log does not go into what is opened in the place of standard error, which DPDK reads."""
    closing = ("sh", "-c", 'exec "$0" "$@" <&- >&- 2>&-')
    with Daemon(workdir, [vhost_port(workdir, "a")], through=closing) as daemon:
        assert [os.readlink(f"/proc/{daemon.pid}/fd/{number}") for number in range(3)] == ["/dev/null"] * 3
        daemon.rpc("port.remove", name="a")
        assert daemon.stop() == 0


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze")
def test_unit_file(workdir):
    text = UNIT.read_text()
    # A copy with a program that is there: it need not be installed here.
    copy = workdir / UNIT.name
    assert "ExecStart=ringwayd " in text
    copy.write_text(text.replace("ExecStart=ringwayd ", f"ExecStart={harness.RINGWAYD} "))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", copy], text=True, timeout=30,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    assert (done.returncode, done.stdout) == (0, "")
