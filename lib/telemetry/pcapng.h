/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcapng: the blocks of a capture file, as bytes. One section with one interface: the port.
 *
 * Source: draft-ietf-opsawg-pcapng, sections 4.1 to 4.6 and 3.5. Times are in nanoseconds
 * (if_tsresol 9); numbers are in the machine's own order, which the section's head tells.
 *
 * The functions write one or more whole blocks and return how many bytes these are, a multiple of
 * 4. No state; any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/capture.h"

/* Room that a call may need. */
#define PCAPNG_BEGIN_MAX 4096
#define PCAPNG_FRAME_MAX (FRAME_LENGTH_MAX + 512)
#define PCAPNG_END_MAX 512

#define PCAPNG_FILTER_MAX 2047 /* characters */

/* The section's head and the interface. filter: "" for none, at most PCAPNG_FILTER_MAX. */
size_t pcapng_begin(uint8_t *to, const char *interface, const char *filter, uint32_t snap);

/* A frame; lost: how many were missed since the one before it. */
size_t pcapng_frame(uint8_t *to, const struct capture_record *record, uint64_t lost);

/* What there is to say at the end: times in ns since 1970. */
struct pcapng_end {
	uint64_t began, ended;
	uint64_t seen, matched, missed, written;
	const char *reason; /* at most 255 bytes are kept */
};
size_t pcapng_end(uint8_t *to, const struct pcapng_end *end);

/* The length of the whole block that begins here. */
uint32_t pcapng_block_length(const uint8_t *block);

/* Is it a frame? */
bool pcapng_is_frame(const uint8_t *block);
