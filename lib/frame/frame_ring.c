/* SPDX-License-Identifier: BSD-3-Clause */
/* Copies of frames, one behind another; frame/frame_ring.h is the contract. */
#include "frame/frame_ring.h"

#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>

/* A frame in the ring. It is longer than the structure says: the bytes behind the head follow. */
struct record {
	uint64_t since;
	uint32_t size; /* of all of it */
	struct view rest;
	struct frame frame __attribute__((aligned(64)));
};

#define BYTES_AT (offsetof(struct record, frame) + offsetof(struct frame, head))
_Static_assert(BYTES_AT == FRAME_RING_OVERHEAD, "as the header says");

/*
 * Beside `most`: so much is lost where the longest frame does not fit before the end. And whoever
 * looks at a whole head may, even of a short frame that is the last.
 */
#define SLACK ((uint32_t)((BYTES_AT + FRAME_LENGTH_MAX + 63) / 64 * 64))
#define BEHIND FRAME_HEAD_MAX

static inline uint32_t size_of(const struct frame *frame)
{
	return ((uint32_t)BYTES_AT + frame->length + 63) / 64 * 64;
}

static inline struct record *record_at(const struct frame_ring *ring, uint32_t offset)
{
	return (struct record *)(void *)(ring->bytes + offset);
}

int frame_ring_init(struct frame_ring *ring, uint32_t most)
{
	const size_t size = (size_t)most + SLACK + BEHIND;
	void *bytes = mmap(NULL, size, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	memset(ring, 0, sizeof(*ring));
	if (bytes == MAP_FAILED)
		return -errno;
	ring->bytes = bytes;
	ring->mapped = size;
	return 0;
}

void frame_ring_fini(struct frame_ring *ring)
{
	if (ring->bytes != NULL)
		munmap(ring->bytes, ring->mapped);
	memset(ring, 0, sizeof(*ring));
}

/* Finds `size` bytes in one piece. While the ring takes no more than `most` there are such. */
static bool make_room(struct frame_ring *ring, uint32_t size, uint32_t most)
{
	if (ring->count > 0 && ring->used + size > most)
		return false;
	if (ring->wrap != 0)
		return ring->tail + size < ring->head;
	if (ring->tail + size <= most + SLACK)
		return true;
	if (size >= ring->head)
		return false;
	ring->wrap = ring->tail;
	ring->tail = 0;
	return true;
}

static void copy_frame(struct record *record, const struct frame *from)
{
	struct frame *frame = &record->frame;
	uint8_t *to = (uint8_t *)record + BYTES_AT;

	memcpy(frame, from, offsetof(struct frame, head));
	memcpy(to, from->head, from->head_length);
	to += from->head_length;
	record->rest = (struct view){ to, from->length - from->head_length };
	frame->views = &record->rest;
	frame->view_count = record->rest.length > 0 ? 1 : 0;
	for (uint16_t i = 0; i < from->view_count; i++) {
		memcpy(to, from->views[i].address, from->views[i].length);
		to += from->views[i].length;
	}
}

bool frame_ring_put(struct frame_ring *ring, const struct frame *frame, uint32_t most,
		    uint64_t now)
{
	const uint32_t size = size_of(frame);
	struct record *record;

	if (!make_room(ring, size, most))
		return false;
	record = record_at(ring, ring->tail);
	record->since = now;
	record->size = size;
	copy_frame(record, frame);
	ring->tail += size;
	ring->used += size;
	ring->count++;
	return true;
}

/* Where the one behind a frame lies. */
static inline uint32_t next_of(const struct frame_ring *ring, uint32_t at)
{
	const uint32_t next = at + record_at(ring, at)->size;

	return next == ring->wrap ? 0 : next;
}

uint16_t frame_ring_peek(const struct frame_ring *ring, struct frame **frames, uint16_t max)
{
	const uint16_t count = ring->count < max ? (uint16_t)ring->count : max;
	uint32_t at = ring->head;

	for (uint16_t i = 0; i < count; i++) {
		frames[i] = &record_at(ring, at)->frame;
		at = next_of(ring, at);
	}
	return count;
}

void frame_ring_remove(struct frame_ring *ring, uint16_t count)
{
	for (uint16_t i = 0; i < count; i++) {
		const uint32_t next = next_of(ring, ring->head);

		ring->used -= record_at(ring, ring->head)->size;
		ring->count--;
		if (next < ring->head)
			ring->wrap = 0;
		ring->head = next;
	}
	if (ring->count > 0)
		return;
	ring->head = 0;
	ring->tail = 0;
	ring->wrap = 0;
}

uint64_t frame_ring_since(const struct frame_ring *ring)
{
	return record_at(ring, ring->head)->since;
}
