# SPDX-License-Identifier: BSD-3-Clause
"""Writes what the daemon says of its methods as C data: embed.py RINGWAYD OUTPUT.c

The client thereby knows each method, parameter, type and default without DPDK and without a daemon
that runs; app/ringwayctl/schema.c reads it.
"""

import json
import subprocess
import sys

PER_LINE = 20


def main():
    daemon, output = sys.argv[1:]
    answer = subprocess.run([daemon, "--schema"], stdout=subprocess.PIPE, check=True, timeout=60).stdout
    data = json.dumps(json.loads(answer), separators=(",", ":")).encode("ascii") + b"\0"
    with open(output, "w", encoding="ascii") as file:
        file.write("/* Generated from `ringwayd --schema`. */\n"
                   '#include "schema.h"\n\nconst char schema_text[] = {\n')
        for start in range(0, len(data), PER_LINE):
            file.write("\t" + ",".join(str(byte) for byte in data[start:start + PER_LINE]) + ",\n")
        file.write("};\n")


main()
