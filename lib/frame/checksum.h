/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Internet checksums in software (RFC 1071), for receivers that did not negotiate partial ones.
 *
 * Sums are kept in memory order: the bytes of a 16-bit word are never swapped, since a ones'
 * complement sum comes out right either way (RFC 1071, 2.B).
 *
 * Payload is copied out of the sender's memory once and summed in the copy: what is sent is what
 * was summed, whatever a guest does to its memory meanwhile. Worker.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "frame/frame.h"

/*
 * Adds bytes (less than 16 GiB) to a sum, which starts at 0. All but the last piece of what is
 * summed have an even length.
 */
uint64_t checksum_add(uint64_t sum, const void *bytes, size_t length);

/*
 * Folds a sum to 16 bits in memory order. Its complement is the checksum of what was summed; the
 * sum itself is what a partial checksum's field holds of the pseudo-header.
 */
uint16_t checksum_fold(uint64_t sum);

/*
 * Writes the frame's bytes to `buffer` (frame->length bytes) with its partial checksum filled, that
 * of everything behind csum_start. The header passed vnet_check.
 */
void checksum_copy(const struct frame *frame, uint8_t *buffer);

/*
 * Fills the partial checksum of `frame`, whose header passed vnet_check and asks for no
 * segmentation. *out becomes a plain frame that needs nothing; its bytes behind the head lie in
 * `buffer` (frame->length bytes), to which *view points. The field may lie anywhere in the frame.
 * A checksum of 0 is written as 0xffff: the two are the same number, and in UDP 0 means that there
 * is none (RFC 768).
 *
 * `out` may be `frame`, and `view` its first view.
 */
void checksum_fill(const struct frame *frame, struct frame *out, struct view *view,
		   uint8_t *buffer);
