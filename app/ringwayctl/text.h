/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Text for terminals. What comes from the daemon (labels, reasons, what a VMM or guest said) may
 * hold anything; what could steer a terminal is written so that it can be seen: `\x1b`, `\u202e`.
 */
#pragma once

#include <stdio.h>

/*
 * Writes text without control characters: C0, DEL, C1, those that turn the direction of writing or
 * begin a line, and bytes that are no UTF-8.
 */
void text_write(FILE *out, const char *text);

/* The same as a new string; NULL without memory. */
char *text_safe(const char *text);

/* Characters, which are columns for what is not East Asian. */
size_t text_width(const char *text);

/* Shortens to `width` characters, at least 4, by an ellipsis of three dots. */
void text_fit(char *text, size_t width);
