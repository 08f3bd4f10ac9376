# SPDX-License-Identifier: BSD-3-Clause
"""The status page in a real browser, while traffic runs: it shows what stats.get says, on a wide screen
and on a telephone, and nothing in it runs or loads but its own script."""
import json
import os
import pathlib
import re
import time

import pytest

from browser import Browser
from harness import SWITCH_CPU, Daemon, TestpmdGuest, free_port, vhost_port, wait_stable, wait_until

EVIL = "<img src=x onerror=\"document.title='gone'\"><script>document.title='gone'</script>"


@pytest.fixture(scope="module")
def daemon(workdir):
    config = {"workers": [{"cpu": SWITCH_CPU, "idle": "adaptive"}],
              "metrics": {"listen": f"127.0.0.1:{free_port()}"},
              "ports": [vhost_port(workdir, "a", labels={"vm": EVIL, "tenant": "blue"}, limits={
                            "ingress": {"bandwidth": {"rate": "2Gbit"}}}),
                        vhost_port(workdir, "b", mtu=1000),
                        vhost_port(workdir, "away-" + 50 * "x"),
                        vhost_port(workdir, "off", enabled=False),
                        {"name": "lan0", "type": "af_packet", "interface": "rwnone0"}]}
    with Daemon(workdir, config=config) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def guest(daemon):
    with TestpmdGuest(daemon.directory, [daemon.directory / f"{name}.sock" for name in "ab"]) as guest:
        for name in "ab":
            daemon.wait_port(name, "up")
        yield guest


@pytest.fixture(scope="module")
def browser(daemon, guest):
    listen = daemon.rpc("config.get")["configuration"]["metrics"]["listen"]
    with Browser(daemon.directory) as browser:
        browser.open(f"http://{listen}/")
        wait_until(lambda: browser.evaluate("document.querySelectorAll('#ports article').length") == 5, 30,
                   "the page shows all ports")
        yield browser


def card(browser, name):
    """The words of a port's card, in lines."""
    return browser.evaluate(f"document.querySelector('[data-port=\"{name}\"]').innerText").split("\n")


def number(text):
    return int(text.replace(",", ""))


def frames(browser, name):
    """What the card says of frames: rx and tx."""
    lines = card(browser, name)
    return tuple(number(part) for part in lines[lines.index("frames rx / tx") + 1].split(" / "))


def rate(browser, name, way):
    """Bits a second, as the card says."""
    lines = card(browser, name)
    value, unit = lines[lines.index(way) + 1].split(" ")
    return float(value) * 1000 ** ["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"].index(unit)


def test_numbers_are_those_of_stats_get(daemon, guest, browser):
    guest.start_loop(900)
    wait_until(lambda: rate(browser, "a", "rx") > 1e9, 20, "it shows the rate that a limit lets in")
    before, begin = daemon.counters("a"), time.monotonic()
    time.sleep(2)
    after, end = daemon.counters("a"), time.monotonic()
    shown, real = rate(browser, "a", "rx"), 8 * (after["rx_bytes"] - before["rx_bytes"]) / (end - begin)
    assert 0.7 < shown / real < 1.3, (shown, real)
    lines = card(browser, "a")
    assert "rx held back by its limit" in lines
    assert browser.evaluate("document.querySelector('[data-worker=\"0\"] meter').value") > 0
    guest.stop_loop()
    guest.start_loop(1400)
    wait_until(lambda: daemon.counters("b")["tx_dropped"].get("mtu", 0) > 0, 10, "drops")
    guest.stop_loop()
    last = {name: wait_stable(lambda: daemon.counters(name), 10, "counters rest") for name in "ab"}
    for name, counters in last.items():
        wait_until(lambda: frames(browser, name) == (counters["rx_packets"], counters["tx_packets"]), 5,
                   f"the page shows {counters}")
    lines = card(browser, "b")
    assert number(lines[lines.index("tx dropped: mtu") + 1]) == last["b"]["tx_dropped"]["mtu"]
    wait_until(lambda: rate(browser, "a", "rx") == 0, 5, "the rate is 0 without traffic")


def test_states_and_reasons(daemon, browser):
    states = {port["name"]: port for port in daemon.rpc("port.list")}
    for name, port in states.items():
        lines = card(browser, name)
        assert lines[0] == name and lines[1].endswith(port["state"]), lines
        assert port["reason"] is None or port["reason"] in lines
    assert "not ready: port lan0: there is no interface rwnone0" in browser.evaluate(
        "document.querySelector('header').innerText")
    assert browser.evaluate("document.querySelector('#ports-count').innerText") == "2 of 5 up"
    daemon.rpc("port.add", name="lan0", type="vhost-user", socket=str(daemon.directory / "lan0.sock"),
               replace=True)
    wait_until(lambda: "vhost-user" in card(browser, "lan0"), 5, "a port that was replaced by another type")
    assert browser.evaluate("document.querySelector('#ready').innerText") == "ready"
    daemon.rpc("port.remove", name="lan0")
    wait_until(lambda: browser.evaluate("document.querySelectorAll('#ports article').length") == 4, 5,
               "a port that is gone loses its card")


def test_what_comes_from_outside_is_text(browser):
    assert f"vm={EVIL}" in card(browser, "a")
    assert browser.evaluate("document.title") == "ringway"
    assert browser.evaluate("document.querySelectorAll('img').length") == 0


def test_nothing_else_runs_or_loads(daemon, browser):
    """The policy stops what an attacker might smuggle in; the page itself has asked for two things."""
    listen = daemon.rpc("config.get")["configuration"]["metrics"]["listen"]
    assert browser.complaints() == []
    wanted = {f"http://{listen}/", f"http://{listen}/status.json", f"http://{listen}/favicon.ico"}
    assert set(browser.requested()) <= wanted
    browser.evaluate("""(() => { const script = document.createElement('script');
        script.textContent = 'document.title = "gone"'; document.body.append(script); })()""")
    assert browser.evaluate("document.title") == "ringway"
    assert any("Content Security Policy" in str(said) for said in browser.complaints())


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width, height", [(1280, 900), (390, 844)], ids=["wide", "telephone"])
def test_it_fits(browser, width, height, dark):
    """Nothing is cut off or must be scrolled sideways, and all text stands out from what is behind it.
    SCREENSHOTS names a directory for pictures."""
    picture = browser.look(width, height, dark)
    if "SCREENSHOTS" in os.environ:
        name = f"{width}-{'dark' if dark else 'light'}.png"
        pathlib.Path(os.environ["SCREENSHOTS"], name).write_bytes(picture)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    colours = json.loads(browser.evaluate("""JSON.stringify(
        [...document.querySelectorAll('main *, header *')]
        .filter((e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) &&
                       e.getClientRects().length)
        .map((e) => [e.textContent, getComputedStyle(e).color,
                     getComputedStyle(e.closest('.card') || document.body).backgroundColor]))"""))
    assert len(colours) > 50
    for text, *pair in colours:
        assert contrast(*pair) >= 4.5, (text, pair)


def luminance(colour):
    """WCAG 2.1, "relative luminance"."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_a_switch_that_goes_away(browser, daemon):
    """It says so, and shows the next one without being loaded anew."""
    configuration = daemon.rpc("config.get")["configuration"]
    without = {**configuration, "metrics": None}
    daemon.rpc("config.apply", configuration=without)
    wait_until(lambda: not browser.evaluate("document.getElementById('alert').hidden"), 10, "it is said")
    assert "No news" in browser.evaluate("document.getElementById('alert').innerText")
    daemon.rpc("config.apply", configuration=configuration)
    wait_until(lambda: browser.evaluate("document.getElementById('alert').hidden"), 10, "it is back")
