/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What both layouts of a ring share, for the files of lib/virtqueue alone: reading what the guest
 * may change meanwhile, prefetching, faults, and marking what was written.
 */
#pragma once

#include "virtqueue/virtqueue.h"

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define CACHE_LINE 64
#define DESCRIPTORS_A_LINE (CACHE_LINE / sizeof(struct vring_desc))

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

_Static_assert(sizeof(struct vring_desc) == 16 && sizeof(struct vring_packed_desc) == 16,
	       "a descriptor is read as two 64-bit words");

/*
 * A word of guest memory wherever it lies: nothing aligns an indirect table (virtio 1.2, 2.7.5.3),
 * and the guest writes it as it likes.
 */
typedef uint64_t guest_word __attribute__((aligned(1), may_alias));

/* A descriptor of either layout (virtio 1.2, 2.7.5 and 2.8.13). */
union descriptor {
	uint64_t words[2];
	struct vring_desc split;
	struct vring_packed_desc packed;
};

/* One read of a descriptor, whatever the guest does to it meanwhile. */
static inline union descriptor read_descriptor(const void *at)
{
	const volatile guest_word *words = at;
	union descriptor copy;

	copy.words[0] = words[0];
	copy.words[1] = words[1];
	return copy;
}

static inline void stop_ring(struct virtqueue *vq, enum virtqueue_fault fault)
{
	__atomic_store_n(&vq->fault, (uint8_t)fault, __ATOMIC_RELAXED);
}

static inline void count_malformed(struct virtqueue *vq)
{
	__atomic_store_n(&vq->malformed, vq->malformed + 1, __ATOMIC_RELAXED);
}

/* How many chains were found to wait. */
static inline void note_waiting(struct virtqueue *vq, uint16_t count)
{
	__atomic_store_n(&vq->waiting, count, __ATOMIC_RELAXED);
	if (count != 0)
		__atomic_store_n(&vq->spoken, true, __ATOMIC_RELAXED);
}

/* Marks guest memory that was written, given by where it is mapped. */
static inline void mark_written(const struct virtqueue *vq, const void *host, uint64_t length)
{
	if (unlikely(vq->log != NULL))
		dirty_log_mark(vq->log, guest_memory_address(vq->memory, host), length);
}

static inline bool has_feature(uint64_t features, unsigned int bit)
{
	return features >> bit & 1;
}
