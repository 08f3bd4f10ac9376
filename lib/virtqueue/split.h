/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What both directions of the split ring share (virtio 1.2, 2.7), for split.c, split_rx.c,
 * split_tx.c and chain.c alone: reading available entries and descriptors, filling the used ring,
 * prefetching.
 */
#pragma once

#include "virtqueue/virtqueue.h"

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* Cache lines of a receive buffer that are asked for before the copy reaches them. */
#define CACHE_LINE 64
#define DESCRIPTORS_A_LINE (CACHE_LINE / sizeof(struct vring_desc))
#define USED_A_LINE (CACHE_LINE / sizeof(vring_used_elem_t))

/*
 * Asks for a line that will be written. The compiler's own hint for that fetches it for reading
 * where it builds for any x86-64, and then every line would travel twice.
 */
static inline void prefetch_for_write(const void *at)
{
#if defined(__x86_64__)
	__asm__ volatile("prefetchw %0" : : "m"(*(const char *)at));
#else
	__builtin_prefetch(at, 1);
#endif
}

_Static_assert(sizeof(struct vring_desc) == 16, "a descriptor is read as two 64-bit words");

/*
 * A word of guest memory wherever it lies: nothing aligns an indirect table (virtio 1.2, 2.7.5.3),
 * and the guest writes it as it likes.
 */
typedef uint64_t guest_word __attribute__((aligned(1), may_alias));

/* One read of a descriptor, whatever the guest does to it meanwhile. */
static inline struct vring_desc read_descriptor(const void *at)
{
	const volatile guest_word *words = at;
	union {
		uint64_t words[2];
		struct vring_desc desc;
	} copy;

	copy.words[0] = words[0];
	copy.words[1] = words[1];
	return copy.desc;
}

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
	vq->published = true;
}

static inline void stop_ring(struct virtqueue *vq, enum virtqueue_fault fault)
{
	__atomic_store_n(&vq->fault, (uint8_t)fault, __ATOMIC_RELAXED);
}

static inline void count_malformed(struct virtqueue *vq)
{
	__atomic_store_n(&vq->malformed, vq->malformed + 1, __ATOMIC_RELAXED);
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
	return count;
}
