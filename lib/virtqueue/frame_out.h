/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Frames to the guest: the one copy, into receive buffers that were found. The same for both
 * layouts of a ring.
 */
#pragma once

#include <stddef.h>

#include "virtqueue/ring.h"

/* ---- a buffer of one piece, which is nearly every buffer ---- */

/*
 * Writes the offload header at the start of a buffer (virtio 1.2, 5.1.6.4.1). In registers: a
 * struct that is put together in memory and read back in other sizes waits for all stores before
 * it, and those are on their way to another core.
 */
static inline void write_header(uint8_t *to, const struct frame *frame, uint32_t header)
{
	const uint32_t one_buffer = 1u << 16;
	uint32_t high = frame->vnet.csum_offset;
	uint64_t low;

	_Static_assert(offsetof(struct virtio_net_hdr, csum_offset) == sizeof(low) &&
			       sizeof(struct virtio_net_hdr_mrg_rxbuf) ==
				       sizeof(low) + sizeof(high),
		       "the header is written as two words");
	memcpy(&low, &frame->vnet, sizeof(low));
	memcpy(to, &low, sizeof(low));
	high |= one_buffer;
	if (likely(header == sizeof(struct virtio_net_hdr_mrg_rxbuf)))
		memcpy(to + sizeof(low), &high, sizeof(high));
	else
		memcpy(to + sizeof(low), &high, sizeof(uint16_t));
}

static inline void copy_frame(uint8_t *to, const struct frame *frame)
{
	const uint32_t head = frame->head_length;
	const uint16_t views = frame->view_count;

	copy_short(to, frame->head, head);
	to += head;
	for (uint16_t i = 0; i < views; i++) {
		memcpy(to, frame->views[i].address, frame->views[i].length);
		to += frame->views[i].length;
	}
}

static inline struct virtqueue_buffer *known_buffer(struct virtqueue *vq, uint16_t position)
{
	return &vq->buffers[position & (VIRTQUEUE_BUFFERS_MAX - 1)];
}

/*
 * Notes the receive buffer that a descriptor describes as the one at `position` of those that are
 * known, and asks for its first lines. One that is not a single piece has no length.
 */
static inline void know_buffer(struct virtqueue *vq, uint16_t position, uint64_t address,
			       uint32_t length, uint16_t flags, uint16_t head)
{
	struct virtqueue_buffer *buffer = known_buffer(vq, position);
	uint8_t *host = NULL;

	if (likely((flags & (VRING_DESC_F_NEXT | VRING_DESC_F_INDIRECT | VRING_DESC_F_WRITE)) ==
		   VRING_DESC_F_WRITE))
		host = guest_memory_whole(vq->memory, address, length);
	buffer->address = host;
	buffer->length = host != NULL ? length : 0;
	buffer->head = head;
	if (likely(host != NULL)) {
		prefetch_for_write(host);
		prefetch_for_write(host + CACHE_LINE);
	}
}

/* ---- chains of any shape ---- */

/* Receive chains that together hold one frame. */
struct room {
	uint32_t bytes;
	uint16_t chains;
	uint16_t count; /* pieces */
	struct view pieces[VIRTQUEUE_PIECES_MAX];
};

static inline void room_reset(struct room *room)
{
	room->bytes = 0;
	room->chains = 0;
	room->count = 0;
}

/*
 * Adds the writable chain at `at`, of up to `left` descriptors of the ring, to the room, as far as
 * `wanted` bytes need it. Returns its bytes that were added, or -EINVAL for a bad chain, of which
 * nothing was added.
 */
int room_add(struct virtqueue *vq, struct room *room, uint16_t at, uint32_t left,
	     uint32_t wanted);

/*
 * Makes a room of just `wanted` bytes of the `known` buffers from `position` on: a piece and a
 * chain for each. False: they do not suffice, or one of them is not a single piece.
 */
bool room_known(struct virtqueue *vq, struct room *room, uint16_t position, uint16_t known,
		uint32_t wanted);

/* Notes what became of a frame that found room (1) or will never find any (-EMSGSIZE). */
static inline void count_outcome(struct tx_outcome *outcome, struct frame *const *frames,
				 uint16_t index, int done)
{
	if (done < 0) {
		outcome->too_long++;
		outcome->lost |= UINT64_C(1) << index;
		return;
	}
	outcome->packets++;
	outcome->segments += frames[index]->segments;
	outcome->bytes += frames[index]->length;
}

/* Copies a frame into a room of just its size, offload header first. */
void room_fill(const struct virtqueue *vq, struct room *room, const struct frame *frame);
