/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Frames from the guest, over a split ring. In short passes over a burst, so that the cache lines
 * that travel between the guest's core and ours are asked for early and together: first the
 * available entries, then the descriptors, then the payload.
 */
#include "virtqueue/frame_in.h"
#include "virtqueue/split.h"

/*
 * Asks for the next available entries and, as most drivers use their descriptors in a row, for the
 * descriptors that they will name.
 */
static inline void prefetch_announced(const struct virtqueue *vq, uint16_t count)
{
	__builtin_prefetch(&vq->avail->ring[vq->next_avail & vq->mask]);
	__builtin_prefetch(&vq->avail->ring[(vq->next_avail + count - 1) & vq->mask]);
	for (uint16_t i = 0; i < count; i = (uint16_t)(i + DESCRIPTORS_A_LINE))
		__builtin_prefetch(&vq->desc[(vq->last_head + 1 + i) & vq->mask]);
}

void split_rx_expect(struct virtqueue *vq, unsigned int step)
{
	uint16_t count;

	if (step == 0) {
		__builtin_prefetch(&vq->avail->idx);
		return;
	}
	count = available(vq);
	if (count > 0)
		prefetch_announced(vq, count < BURST_MAX ? count : BURST_MAX);
}

/* Reads the heads of the next `count` positions and asks for their descriptors. */
static uint16_t read_heads(struct virtqueue *vq, struct arrival *arrivals, uint16_t count)
{
	for (uint16_t i = 0; i < count; i++) {
		uint16_t head = avail_entry(vq, (uint16_t)(vq->next_avail + i));

		if (unlikely(head >= vq->size)) {
			stop_ring(vq, VIRTQUEUE_BAD_HEAD);
			return i;
		}
		__builtin_prefetch(&vq->desc[head]);
		arrivals[i].at = head;
		vq->last_head = head;
	}
	return count;
}

/* Reads the descriptors of the heads and asks for the frames of those that are one piece. */
static inline void read_descriptors(const struct virtqueue *vq, struct arrival *arrivals,
				    uint16_t count)
{
	for (uint16_t i = 0; i < count; i++) {
		struct arrival *arrival = &arrivals[i];
		struct vring_desc desc = read_descriptor(&vq->desc[arrival->at]).split;

		arrival->address = NULL;
		arrival->length = desc.len;
		arrival->slots = vq->size;
		if (likely(!(desc.flags & (VRING_DESC_F_NEXT | VRING_DESC_F_INDIRECT |
					   VRING_DESC_F_WRITE))))
			arrival->address = find_piece(vq, desc.addr, desc.len);
		if (likely(arrival->address != NULL))
			prefetch_payload(arrival->address);
	}
}

uint16_t split_rx_burst(struct virtqueue *vq, struct burst *burst, uint16_t max)
{
	struct arrival arrivals[BURST_MAX];
	uint16_t count, taken;

	count = available(vq);
	if (count == 0)
		return 0;
	if (unlikely(burst->budget.bytes == 0)) {
		burst->held = true;
		return 0;
	}
	if (count > max)
		count = max;

	prefetch_announced(vq, count);
	prefetch_used(vq, count);
	count = read_heads(vq, arrivals, count);
	read_descriptors(vq, arrivals, count);
	taken = take_frames(vq, burst, arrivals, count);
	for (uint16_t i = 0; i < taken; i++)
		put_used(vq, arrivals[i].at, 0);
	mark_used(vq, vq->next_avail, taken);
	vq->next_avail = (uint16_t)(vq->next_avail + taken);
	return taken;
}

void split_rx_release(struct virtqueue *vq)
{
	publish_used(vq);
}
