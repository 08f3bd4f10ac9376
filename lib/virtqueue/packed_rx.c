/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Frames from the guest, over a packed ring: first the descriptors of a burst are read and its
 * payload asked for, then the frames are taken.
 */
#include "virtqueue/frame_in.h"
#include "virtqueue/packed.h"

/* Descriptors that are asked for ahead of the one that is read. */
#define AHEAD (4 * DESCRIPTORS_A_LINE)

/*
 * They will be read now and written when the frames have left; in order, only the first of them
 * will.
 */
static inline void ask_for(const struct virtqueue *vq, uint32_t slot)
{
	const void *at = &vq->ring[slot < vq->size ? slot : slot - vq->size];

	if (vq->in_order)
		__builtin_prefetch(at);
	else
		prefetch_for_write(at);
}

void packed_rx_expect(struct virtqueue *vq, unsigned int step)
{
	const uint32_t slot = vq->next.slot;

	if (step == 0)
		ask_for(vq, slot);
	else if (vq->size >= AHEAD &&
		 is_available(packed_read(vq, vq->next.slot), vq->next.wrap))
		for (uint32_t i = 0; i < AHEAD; i += DESCRIPTORS_A_LINE)
			ask_for(vq, slot + i);
}

/*
 * Reads chains that wait and take one slot each, from `at` on, up to `max` and to the ring's end.
 * Returns how many.
 */
static inline uint16_t read_run(struct virtqueue *vq, struct virtqueue_position at,
				struct arrival *arrival, struct virtqueue_return *item,
				uint32_t max)
{
	const uint16_t available = at.wrap ? PACKED_AVAIL : PACKED_USED;
	const uint64_t used = state_used(at.wrap);
	const bool asks = vq->size >= AHEAD;
	uint16_t slot = at.slot;
	const uint16_t end = (uint16_t)(slot + max);
	uint64_t *from = packed_word(vq, slot);

	for (; slot != end; slot++, from += 2, arrival++, item++) {
		const uint64_t word = __atomic_load_n(from, __ATOMIC_ACQUIRE);
		const uint16_t flags = word_flags(word);

		if ((flags & (PACKED_AVAIL | PACKED_USED | VRING_DESC_F_NEXT)) != available)
			break;
		if (slot % DESCRIPTORS_A_LINE == 0 && asks)
			ask_for(vq, slot + AHEAD);
		*item = make_return(from, used, word);
		arrival->address = NULL;
		arrival->length = (uint32_t)word;
		arrival->at = slot;
		arrival->slots = 1;
		if (likely(!(flags & (VRING_DESC_F_INDIRECT | VRING_DESC_F_WRITE))))
			arrival->address =
				find_piece(vq, packed_address(vq, slot), (uint32_t)word);
		if (likely(arrival->address != NULL))
			prefetch_payload(arrival->address);
	}
	return (uint16_t)(slot - at.slot);
}

/* Reads the chains that wait, up to max, and how each will be returned. Returns how many. */
static uint16_t read_chains(struct virtqueue *vq, struct arrival *arrivals, uint16_t max)
{
	struct virtqueue_position at = vq->next;
	uint32_t left = vq->size;
	uint16_t count = 0, slots;
	uint64_t last;

	while (count < max && left > 0 && vq->walked < VIRTQUEUE_WALK_MAX) {
		uint32_t most = max - count;

		if (most > left)
			most = left;
		if (most > (uint32_t)vq->size - at.slot)
			most = (uint32_t)vq->size - at.slot;
		slots = read_run(vq, at, &arrivals[count], &vq->returns[count], most);
		count = (uint16_t)(count + slots);
		left -= slots;
		at = packed_after(vq, at, slots);
		if (slots == most)
			continue;
		if (likely(!is_available(packed_read(vq, at.slot), at.wrap)))
			break;
		slots = packed_measure(vq, at, &last);
		/* More than the ring has: the guest makes available what it has not got back. */
		if (slots == 0 || slots > left)
			break;
		arrivals[count] = (struct arrival){ .at = at.slot, .slots = slots };
		vq->returns[count++] =
			make_return(packed_word(vq, at.slot), state_used(at.wrap), last);
		left -= slots;
		at = packed_after(vq, at, slots);
	}
	return count;
}

uint16_t packed_rx_burst(struct virtqueue *vq, struct burst *burst, uint16_t max)
{
	struct arrival arrivals[BURST_MAX];
	uint16_t count, taken;

	vq->return_count = 0;
	if (unlikely(vq->fault != VIRTQUEUE_OK))
		return 0;
	count = read_chains(vq, arrivals, max);
	note_waiting(vq, count);
	if (count == 0)
		return 0;
	if (unlikely(burst->budget.bytes == 0)) {
		burst->held = true;
		return 0;
	}
	/* Each chain is as long as was just seen, whatever its walk finds now. */
	vq->walked = 0;
	taken = take_frames(vq, burst, arrivals, count);
	if (taken == 0)
		return 0;
	vq->next = packed_after(vq, return_position(vq, &vq->returns[taken - 1]),
				arrivals[taken - 1].slots);
	vq->return_count = taken;
	return taken;
}

void packed_rx_release(struct virtqueue *vq)
{
	const uint16_t count = vq->return_count;

	if (count == 0)
		return;
	vq->return_count = 0;
	if (vq->in_order) {
		/* One stands for all: it names the last buffer (virtio 1.2, 2.8.9). */
		vq->returns[0].word = (vq->returns[0].word & ~PACKED_ID) |
				      (vq->returns[count - 1].word & PACKED_ID);
		packed_return(vq, vq->returns, 1);
	} else {
		packed_return(vq, vq->returns, count);
	}
}
