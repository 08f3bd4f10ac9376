/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Frames from the guest: what lies in chains that were found becomes the frames of a burst. The
 * same for both layouts of a ring.
 */
#pragma once

#include "virtqueue/ring.h"

/* A chain that the driver made available. */
struct arrival {
	const uint8_t *address; /* of a chain that is one readable piece, else NULL */
	uint32_t length;        /* bytes, its offload header included */
	uint16_t at;            /* index of its head */
	uint16_t slots;         /* descriptors of the ring that it has at most */
};

/* Can this be one piece with a frame of possible length? Then it is looked up. */
static inline const uint8_t *find_piece(const struct virtqueue *vq, uint64_t address,
					uint32_t length)
{
	const uint32_t header = vq->header_length;

	if (unlikely(length - header > FRAME_LENGTH_MAX)) /* or shorter than that */
		return NULL;
	return guest_memory_whole(vq->memory, address, length);
}

/*
 * Into the second level cache: the first has places for few lines on their way, and a burst's would
 * fill them all and hold up everything else.
 */
static inline void prefetch_payload(const uint8_t *at)
{
	__builtin_prefetch(at, 0, 2);
	__builtin_prefetch(at + CACHE_LINE, 0, 2);
}

/*
 * Takes frames into the burst, as many as have room and are within its budget. Sets and returns
 * burst->count.
 */
uint16_t take_frames(struct virtqueue *vq, struct burst *burst, const struct arrival *arrivals,
		     uint16_t count);
