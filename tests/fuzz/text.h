/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fuzzers of the control plane: a target (target.h) that takes any text, as a file or a client may
 * send it. Such a fuzz_*.c defines what stands first here; text.c makes and damages the texts.
 */
#pragma once

#include <jansson.h>
#include <stddef.h>

#include "target.h"

/*
 * Runs one text. The entropy decides what the text leaves open: how it is cut, who answers when.
 * Stops at a CHECK, and at memory that it keeps.
 */
void text_run(const char *text, size_t size, struct entropy *entropy);

/* A value that the target takes, or nearly. A new reference. */
json_t *text_value(struct entropy *entropy);

/* Is a text one value, or many, back to back? */
extern const bool text_takes_many;

/* ---- text.c ---- */

/* A new text of values, some of it damaged. Returns the bytes in `text`. */
size_t text_make(struct entropy *entropy, char *text, size_t max);

/* Damages a text of `size` bytes here and there; up to `max` fit. Returns its new size. */
size_t text_damage(struct entropy *entropy, char *text, size_t size, size_t max);
