# SPDX-License-Identifier: BSD-3-Clause
"""
The ring matrix: what a guest may choose of its rings, and over which combinations the tests run.

A test with the fixture `rings` (many have it by way of `plug`) runs once for each row of the matrix,
and asks for its guests what the row says: rings.features(LINUX) for a scripted guest,
rings.virtio_user() for testpmd. The mark `over` narrows that:

    @pytest.mark.over("layout", "order")     only these choices; the others are as LINUX has them
    @pytest.mark.over("order", layout="packed")     and this one is always packed
    @pytest.mark.over()     one run

Every pair of values occurs in some row of ROWS, which test_frontend.py checks; a fault that only
shows with three choices together is left to FULL=1, which runs all combinations.
"""
import collections
import itertools

from frontend import F
from harness import FULL

# The first value of each is what LINUX asks for.
CHOICES = {
    "layout": ("split", "packed"),
    "merge": ("mergeable", "unmergeable"),
    "order": ("any_order", "in_order"),
    "tables": ("indirect", "direct"),
    "events": ("event_index", "event_flags"),
    "header": ("12", "10"),
}
ROWS = """
    split   mergeable    any_order  indirect  event_index  12
    packed  unmergeable  in_order   direct    event_flags  12
    split   unmergeable  in_order   indirect  event_flags  10
    split   unmergeable  any_order  direct    event_index  10
    packed  mergeable    in_order   indirect  event_index  12
    packed  mergeable    any_order  direct    event_flags  12
"""


class Rings(collections.namedtuple("Rings", CHOICES)):
    """One row."""

    def __str__(self):
        """What is not as LINUX has it."""
        return "+".join(value for value, linux in zip(self, LINUX_RINGS) if value != linux) or "linux"

    def possible(self):
        """The short header is that of a guest without VERSION_1 and mergeable buffers (5.1.6.1)."""
        return self.header == "12" or (self.layout, self.merge) == ("split", "unmergeable")

    def features(self, wanted):
        """What a guest asks for instead: what the row has not is left out; the layout, which also
        asks for VERSION_1, and the order are added."""
        if self.layout == "packed":
            wanted |= F.RING_PACKED | F.VERSION_1
        if self.order == "in_order":
            wanted |= F.IN_ORDER
        for value, without in ((self.merge == "unmergeable", F.MRG_RXBUF),
                               (self.tables == "direct", F.INDIRECT_DESC),
                               (self.events == "event_flags", F.EVENT_IDX),
                               (self.header == "10", F.VERSION_1 | F.MRG_RXBUF)):
            wanted &= ~without if value else ~F(0)
        return wanted

    def virtio_user(self):
        """Options of DPDK's virtio-user driver, which knows the first three choices."""
        return (f"packed_vq={self.layout == 'packed':d},mrg_rxbuf={self.merge == 'mergeable':d},"
                f"in_order={self.order == 'in_order':d}")


LINUX_RINGS = Rings(*(values[0] for values in CHOICES.values()))


def every_row():
    return [row for row in itertools.starmap(Rings, itertools.product(*CHOICES.values())) if row.possible()]


def pairwise_rows():
    return [Rings(*line.split()) for line in ROWS.strip().splitlines()]


def rows(*choices, **pins):
    """The rows for a test that runs over these choices, with those pinned."""
    fixed = {name: value for name, value in LINUX_RINGS._asdict().items() if name not in choices} | pins
    narrowed = (row._replace(**fixed) for row in (every_row() if FULL else pairwise_rows()))
    return list(dict.fromkeys(row if row.possible() else row._replace(header="12") for row in narrowed))
