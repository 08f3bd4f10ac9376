/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The output of a capture: a file, a pipe or a socket, written from a buffer of pcapng without
 * waiting for its reader.
 *
 * Whoever uses it appends whole blocks to `bytes`, while there is room, and counts them in `used`:
 *
 *     capture_output_open(&output, "/tmp/vm1.pcapng", err);
 *     output.used += pcapng_frame(output.bytes + output.used, record, lost);
 *     if (capture_output_write(&output) != 0)
 *         lost = capture_output_break(&output);
 *     capture_output_close(&output);
 *
 * One thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct capture_output {
	int fd;          /* -1: none */
	bool is_file;    /* never keeps a writer waiting for a reader */
	bool is_socket;
	bool is_shared;  /* a pipe whose writes would block: it is asked before each */
	bool is_broken;  /* takes nothing more */
	size_t used, sent; /* of `bytes`, which begin and end with whole blocks */
	uint8_t *bytes;
	uint64_t written; /* bytes, all in all; w: the thread, r: anyone */
};

/*
 * Makes the file, unless a descriptor is there already, and finds out how that is to be written.
 * Returns 0 or -errno with err filled; to be closed in any case.
 */
int capture_output_open(struct capture_output *output, const char *file, struct error *err);

/* Twice is fine. */
void capture_output_close(struct capture_output *output);

/* Writes what the output takes now. Returns 0, or -errno where it will take nothing more. */
int capture_output_write(struct capture_output *output);

/*
 * Gives the output up: what was not written whole is taken away again, as far as it allows that.
 * Returns how many frames are lost with it.
 */
size_t capture_output_break(struct capture_output *output);

/* Is there something to be written? */
bool capture_output_is_pending(const struct capture_output *output);

/* Is there room for one more frame, and the end behind it? */
bool capture_output_has_room(const struct capture_output *output);
