/* SPDX-License-Identifier: BSD-3-Clause */
/* The status page, as the build made it of status.html (embed_page.py). */
#pragma once

#include <stddef.h>

extern const char page_text[];
extern const size_t page_length;

/* Its Content-Security-Policy: its own script and style, by their hashes, and nothing else. */
extern const char page_policy[];
