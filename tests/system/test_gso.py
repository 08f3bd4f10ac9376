# SPDX-License-Identifier: BSD-3-Clause
"""Segmentation and checksums against the kernel's own: the same random frames are cut and filled by both,
and what comes out is equal byte for byte (gso_compare.c says how, and what counts as equal)."""
import os
import pathlib
import platform
import time

import pytest

from harness import FULL, Namespace

COMPARE = pathlib.Path(os.environ["BUILD"]) / "tests/system/gso_compare"
COUNT = 1_000_000 if FULL else 20_000
TIMEOUT = 3000 if FULL else 300
LONGEST = 65521  # the largest MTU of a TAP
QUEUE = 4096     # packets: more than a frame becomes


@pytest.fixture
def kernel():
    """Two TAPs with a bridge between them that looks at nothing."""
    with Namespace() as place:
        place.run("sysctl", "-w", "net.ipv6.conf.default.disable_ipv6=1")
        place.look_away()
        place.run("ip", "link", "add", "name", "joined", "type", "bridge", "mcast_snooping", 0,
                  "stp_state", 0, "forward_delay", 0)
        place.run("ip", "link", "set", "dev", "joined", "mtu", LONGEST, "up")
        for name in "from", "to":
            place.run("ip", "tuntap", "add", "dev", f"gso-{name}", "mode", "tap", "vnet_hdr")
            place.run("ip", "link", "set", "dev", f"gso-{name}", "master", "joined", "mtu", LONGEST,
                      "txqueuelen", QUEUE, "up")
        yield place


def test_as_the_kernel_does(kernel):
    started = time.monotonic()
    output = kernel.run(COMPARE, "gso-from", "gso-to", COUNT, 1, timeout=TIMEOUT)
    result = {name: int(value) for name, value in map(str.split, output.splitlines())}
    print(f"{COUNT} frames in {time.monotonic() - started:.1f} s: {result}")
    kinds = ["partial", "tso", "ufo", "uso"]
    if [int(part) for part in platform.release().split(".")[:2]] < [6, 2]:  # knows no USO
        kinds.remove("uso")
    else:
        assert result["refused"] == 0
    for kind in kinds:
        for version in 4, 6:
            assert result[f"{kind}{version}"] > COUNT / 16, result
    assert result["tagged"] > COUNT / 5 and result["packets"] > 10 * COUNT
