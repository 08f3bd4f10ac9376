# SPDX-License-Identifier: BSD-3-Clause
"""A headless Chromium that is driven over its pipe, by the DevTools protocol.

    with Browser(directory) as browser:
        browser.open("http://127.0.0.1:9477/")
        browser.evaluate("document.title")
        assert browser.complaints() == []
"""
import base64
import fcntl
import json
import os
import pathlib
import select
import subprocess
import time

from harness import CPUS, Process

# Everything that an ordinary profile would do of its own accord, and what needs a kernel's help.
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--disable-extensions", "--disable-background-networking", "--disable-sync",
             "--disable-component-update", "--no-default-browser-check", "--mute-audio",
             "--hide-scrollbars", "--remote-debugging-pipe"]


def pipe():
    """Both ends of a pipe, with numbers that are in nobody's way."""
    ends = os.pipe()
    moved = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends]
    for end in ends:
        os.close(end)
    return moved


class Browser(Process):
    def __init__(self, directory, width=1280, height=900):
        directory = pathlib.Path(directory)
        to_read, self.to = pipe()
        self.answers, from_write = pipe()
        self.log = directory / "chromium.log"
        self.received = b""
        self.calls = 0
        self.events = []
        try:
            with open(self.log, "wb") as log:
                # It wants the descriptors 3 and 4; a plain sh knows only those below 10.
                super().__init__(
                    ["bash", "-c", f'exec "$@" 3<&{to_read} 4>&{from_write}', "bash", "chromium", *ARGUMENTS,
                     f"--user-data-dir={directory / 'chromium'}", f"--window-size={width},{height}"],
                    directory, cpus=CPUS[:-1] or CPUS, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    pass_fds=(to_read, from_write))
        finally:
            os.close(to_read)
            os.close(from_write)
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.page(f"{domain}.enable")

    def read(self, deadline):
        """The next message."""
        while b"\0" not in self.received:
            left = max(0, deadline - time.monotonic())
            assert select.select([self.answers], [], [], left)[0], "the browser does not answer"
            data = os.read(self.answers, 1 << 20)
            assert data, f"the browser has ended: {self.evidence()}"
            self.received += data
        message, self.received = self.received.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, session=None, **parameters):
        self.calls += 1
        request = {"id": self.calls, "method": method, "params": parameters}
        if session:
            request["sessionId"] = session
        os.write(self.to, json.dumps(request).encode() + b"\0")
        deadline = time.monotonic() + 60
        while (message := self.read(deadline)).get("id") != self.calls:
            self.events.append(message)
        assert "error" not in message, f"{method}: {message['error']}"
        return message["result"]

    def page(self, method, **parameters):
        return self.call(method, self.session, **parameters)

    def open(self, url):
        self.page("Page.navigate", url=url)

    def evaluate(self, expression):
        result = self.page("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def look(self, width, height, dark=False):
        """The page as on a screen of this size, in light or dark; returns a PNG."""
        self.page("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                  mobile=width < 600)
        self.page("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        return base64.b64decode(self.page("Page.captureScreenshot", format="png")["data"])

    def complaints(self):
        """What the browser's console has of errors and warnings, and which other hosts were asked."""
        self.evaluate("1")  # what comes before its answer is in the events
        said = []
        for event in self.events:
            parameters = event.get("params", {})
            if event.get("method") == "Runtime.exceptionThrown":
                said.append(parameters["exceptionDetails"])
            elif event.get("method") == "Log.entryAdded" and parameters["entry"]["level"] in (
                    "error", "warning"):
                said.append(parameters["entry"])
            elif event.get("method") == "Runtime.consoleAPICalled" and parameters["type"] in (
                    "error", "warning", "assert"):
                said.append(parameters["args"])
        return said

    def requested(self):
        """The addresses of all that was asked for."""
        return [event["params"]["request"]["url"] for event in self.events
                if event.get("method") == "Network.requestWillBeSent"]

    def stop(self, timeout=10):
        if self.running() and self.to >= 0:
            self.call("Browser.close")
        return self.wait(timeout)

    def closed(self):
        for fd in (self.to, self.answers):
            if fd >= 0:
                os.close(fd)
        self.to = self.answers = -1

    def evidence(self):
        return self.log.read_text(errors="replace")[-2000:]
