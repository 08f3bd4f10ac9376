# SPDX-License-Identifier: BSD-3-Clause
"""Includes point downwards only: a layer knows those below it (docs/architecture.md says why)."""

import re

import tree

# From top to bottom. What shares a row knows nothing of its neighbours.
ROWS = [
    ["app"], ["control"], ["telemetry"], ["worker"], ["port"], ["bridge"], ["policy"],
    ["virtqueue"], ["frame"], ["sync", "rpc"], ["base"],
]
HEIGHT = {name: len(ROWS) - number for number, row in enumerate(ROWS) for name in row}

# These run in the client too, which needs no DPDK.
WITHOUT_DPDK = {"rpc", "base"}
CLIENT = "app/ringwayctl/"
CLIENT_USES = {"rpc", "base"}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)


def layer_of(path):
    return path.parts[1] if path.parts[0] == "lib" else path.parts[0]


def check(report, path, line, bracket, name):
    layer = layer_of(path)
    in_client = str(path).startswith(CLIENT)
    if bracket == "<":
        if name.startswith(("rte_", "ethdev")) and (layer in WITHOUT_DPDK or in_client):
            report.add(path, line, f"<{name}>: {layer} does without DPDK")
        return
    if "/" not in name:
        # A file beside this one, as the parts of a program have.
        if layer != "app" or not (tree.ROOT / path.parent / name).is_file():
            report.add(path, line, f'"{name}": say where it is, from lib/ on')
        return
    used = name.split("/")[0]
    if not (tree.ROOT / "lib" / name).is_file():
        report.add(path, line, f'"{name}" is not in lib/')
    elif used not in HEIGHT:
        report.add(path, line, f'"{name}": {used} has no place among the layers')
    elif used != layer and HEIGHT[used] >= HEIGHT[layer]:
        report.add(path, line, f'"{name}": {layer} must not know {used}')
    elif in_client and used not in CLIENT_USES:
        report.add(path, line, f'"{name}": the client uses rpc and base alone')


def main():
    report = tree.Report()
    sources = tree.files(".c", ".h", under="lib") + tree.files(".c", ".h", under="app")
    for path in sources:
        if layer_of(path) not in HEIGHT:
            report.add(path, 1, f"{layer_of(path)} has no place among the layers")
            continue
        source = re.sub(r"/\*.*?\*/", lambda match: "\n" * match.group().count("\n"),
                        tree.text(path), flags=re.DOTALL)
        for match in INCLUDE.finditer(source):
            line = source.count("\n", 0, match.start(1)) + 1
            check(report, path, line, match.group(1), match.group(2))
    report.finish(len(sources))


main()
