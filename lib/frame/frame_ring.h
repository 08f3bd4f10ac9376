/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A ring of frames that wait. A frame does not outlive its burst, so each is copied whole, with its
 * offload header and what it needs; what comes out again are frames as any others, whose bytes lie
 * in the ring until they are removed.
 *
 * The memory is reserved for the largest ring, but only touched as far as it is used: an empty ring
 * begins again at its start, and a short one turns round early.
 *
 *     frame_ring_put(ring, frame, 1 << 20, now);
 *     count = frame_ring_peek(ring, frames, BURST_MAX);
 *     ... send them ...
 *     frame_ring_remove(ring, count);
 *
 * Made and freed by the control thread, otherwise one worker's own.
 */
#pragma once

#include "frame/frame.h"

/* What a frame takes beside its bytes, of which it takes multiples of 64. */
#define FRAME_RING_OVERHEAD 128

/* All zero: no memory. */
struct frame_ring {
	uint8_t *bytes;
	size_t mapped;
	uint32_t head, tail; /* offsets of the first frame and behind the last */
	uint32_t wrap;  /* where frames end as the tail has turned round; 0: it has not */
	uint32_t used;  /* bytes that the frames take */
	uint32_t count; /* of frames */
};

/* Reserves memory for up to `most` bytes. Returns 0 or -errno. Control thread. */
int frame_ring_init(struct frame_ring *ring, uint32_t most);

/* Control thread. One without memory is fine. */
void frame_ring_fini(struct frame_ring *ring);

/*
 * Copies a frame to the end, at this time. False, with nothing done, if the ring would then take
 * more than `most` bytes, which is no more than it was made for; an empty ring takes any frame.
 * Right after `most` has grown it may say so a little too early.
 */
bool frame_ring_put(struct frame_ring *ring, const struct frame *frame, uint32_t most,
		    uint64_t now);

/* The first frames, up to max, in order. Returns how many. */
uint16_t frame_ring_peek(const struct frame_ring *ring, struct frame **frames, uint16_t max);

/* Takes the first `count` away. */
void frame_ring_remove(struct frame_ring *ring, uint16_t count);

/* When the first was put there; the ring is not empty. */
uint64_t frame_ring_since(const struct frame_ring *ring);
