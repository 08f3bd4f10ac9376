# SPDX-License-Identifier: BSD-3-Clause
"""Writes the status page as C data: embed_page.py PAGE.html OUTPUT.c

Its one script and one style are allowed by their hashes (Content Security Policy Level 3), so nothing
that finds its way into the page can run.
"""

import base64
import hashlib
import re
import sys

PER_LINE = 20


def source_hash(page, tag):
    content, = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def main():
    source, output = sys.argv[1:]
    with open(source, encoding="utf-8") as file:
        page = file.read()
    policy = "; ".join([
        "default-src 'none'", f"script-src {source_hash(page, 'script')}",
        f"style-src {source_hash(page, 'style')}", "connect-src 'self'", "base-uri 'none'",
        "form-action 'none'", "frame-ancestors 'none'"])
    data = page.encode()
    with open(output, "w", encoding="ascii") as file:
        file.write("/* Generated from status.html. */\n"
                   f'#include "page.h"\n\nconst char page_policy[] = "{policy}";\n'
                   f"const size_t page_length = {len(data)};\n\nconst char page_text[] = {{\n")
        for start in range(0, len(data), PER_LINE):
            file.write("\t" + ",".join(f"(char){byte}" if byte > 127 else str(byte)
                                       for byte in data[start:start + PER_LINE]) + ",\n")
        file.write("};\n")


main()
