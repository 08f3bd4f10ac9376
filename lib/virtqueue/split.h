/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The split ring (virtio 1.2, 2.7), for split.c, split_rx.c and split_tx.c alone: what
 * virtqueue.h promises, and what both directions share.
 */
#pragma once

#include "virtqueue/ring.h"

#define USED_A_LINE (CACHE_LINE / sizeof(vring_used_elem_t))

/* Alignment and extent of the three parts, each inside one region: NULL, or what is wrong. */
const char *split_check(const struct virtqueue_setup *setup);
void split_init(struct virtqueue *vq, const struct virtqueue_setup *setup);
uint16_t split_rx_burst(struct virtqueue *vq, struct burst *burst, uint16_t max);
void split_rx_expect(struct virtqueue *vq, unsigned int step);
void split_rx_release(struct virtqueue *vq);
void split_tx_burst(struct virtqueue *vq, struct frame *const *frames, uint16_t count,
		    struct tx_outcome *outcome);
void split_tx_expect(struct virtqueue *vq, unsigned int step);
bool split_wants_interrupt(struct virtqueue *vq);
void split_suppress_kicks(struct virtqueue *vq);
void split_ask_for_kick(struct virtqueue *vq);

static inline uint16_t avail_entry(const struct virtqueue *vq, uint16_t position)
{
	return __atomic_load_n(&vq->avail->ring[position & vq->mask], __ATOMIC_RELAXED);
}

static inline void put_used(struct virtqueue *vq, uint16_t head, uint32_t length)
{
	vring_used_elem_t *element = &vq->used->ring[vq->next_used++ & vq->mask];

	element->id = head;
	element->len = length;
}

/* Asks for the next entries of the used ring, which the driver read last. */
static inline void prefetch_used(const struct virtqueue *vq, uint16_t count)
{
	for (uint16_t i = 0; i < count; i = (uint16_t)(i + USED_A_LINE))
		prefetch_for_write(&vq->used->ring[(vq->next_used + i) & vq->mask]);
	prefetch_for_write(&vq->used->ring[(vq->next_used + count - 1) & vq->mask]);
}

static inline void publish_used(struct virtqueue *vq)
{
	__atomic_store_n(&vq->used->idx, vq->next_used, __ATOMIC_RELEASE);
	mark_written(vq, &vq->used->idx, sizeof(vq->used->idx));
	vq->published = true;
}

/* Marks `count` entries of the used ring from position `first` on. */
static inline void mark_used(const struct virtqueue *vq, uint16_t first, uint16_t count)
{
	if (likely(vq->log == NULL))
		return;
	for (uint16_t i = 0; i < count; i++)
		mark_written(vq, &vq->used->ring[(first + i) & vq->mask],
			     sizeof(vring_used_elem_t));
}

/* How many chains wait, or 0 and a fault if the index cannot be true. */
static inline uint16_t available(struct virtqueue *vq)
{
	uint16_t count;

	if (unlikely(vq->fault != VIRTQUEUE_OK))
		return 0;
	count = (uint16_t)(__atomic_load_n(&vq->avail->idx, __ATOMIC_ACQUIRE) - vq->next_avail);
	if (unlikely(count > vq->size)) {
		stop_ring(vq, VIRTQUEUE_BAD_AVAIL);
		return 0;
	}
	note_waiting(vq, count);
	return count;
}
