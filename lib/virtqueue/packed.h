/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The packed ring (virtio 1.2, 2.8), for packed.c, packed_rx.c and packed_tx.c alone: what
 * virtqueue.h promises, and what both directions share.
 *
 * There is one ring of descriptors, which both sides write. A chain lies in consecutive slots, and
 * its head says whether it is available. It is returned by one word into its head's slot; the slots
 * behind that stay as they are. All chains of a burst are returned last one first: then the driver
 * sees none of them before the burst is complete, and a switch that dies in between leaves chains
 * at the burst's end returned and those at its beginning as they were, which packed_init completes.
 */
#pragma once

#include <stddef.h>

#include "virtqueue/ring.h"

/* Flags of a descriptor. */
#define PACKED_AVAIL (1u << VRING_PACKED_DESC_F_AVAIL)
#define PACKED_USED (1u << VRING_PACKED_DESC_F_USED)

/* Most chains that are returned at once: those of one frame, and one that is bad. */
#define PACKED_RETURNS_MAX (VIRTQUEUE_PIECES_MAX + 1)

/* Alignment and extent of the three parts, each inside one region: NULL, or what is wrong. */
const char *packed_check(const struct virtqueue_setup *setup);
void packed_init(struct virtqueue *vq, const struct virtqueue_setup *setup);
uint16_t packed_base(const struct virtqueue *vq);
uint16_t packed_rx_burst(struct virtqueue *vq, struct burst *burst, uint16_t max);
void packed_rx_expect(struct virtqueue *vq, unsigned int step);
void packed_rx_release(struct virtqueue *vq);
void packed_tx_burst(struct virtqueue *vq, struct frame *const *frames, uint16_t count,
		     struct tx_outcome *outcome);
void packed_tx_expect(struct virtqueue *vq, unsigned int step);
bool packed_wants_interrupt(struct virtqueue *vq);
void packed_suppress_kicks(struct virtqueue *vq);
void packed_ask_for_kick(struct virtqueue *vq);
bool packed_is_waiting(const struct virtqueue *vq);

/*
 * Returns chains that lie in a row and end before vq->next: the first one's slot is where the last
 * return ended. Notes that in the journal first.
 */
void packed_return(struct virtqueue *vq, const struct virtqueue_return *returns, uint16_t count);

/*
 * How many slots the chain at `at` takes, and the second word of its last descriptor, which says
 * the buffer id. 0 and a fault where it does not end.
 */
uint16_t packed_measure(struct virtqueue *vq, struct virtqueue_position at, uint64_t *last);

static inline struct virtqueue_position packed_after(const struct virtqueue *vq,
						     struct virtqueue_position at, uint32_t slots)
{
	const uint32_t slot = at.slot + slots;

	if (slot < vq->size)
		return (struct virtqueue_position){ (uint16_t)slot, at.wrap };
	return (struct virtqueue_position){ (uint16_t)(slot - vq->size), !at.wrap };
}

/* The second word of a descriptor: length, buffer id and flags, read and written at once. */
static inline uint64_t *packed_word(const struct virtqueue *vq, uint16_t slot)
{
	return (uint64_t *)(void *)&vq->ring[slot].len;
}

static inline uint64_t packed_read(const struct virtqueue *vq, uint16_t slot)
{
	return __atomic_load_n(packed_word(vq, slot), __ATOMIC_ACQUIRE);
}

static inline uint64_t packed_address(const struct virtqueue *vq, uint16_t slot)
{
	return __atomic_load_n((const uint64_t *)&vq->ring[slot].addr, __ATOMIC_RELAXED);
}

static inline uint16_t word_flags(uint64_t word)
{
	return (uint16_t)(word >> 48);
}

#define PACKED_ID (0xffffull << 32)

/* The flags of a second word that say whether a descriptor is available (2.8.1). */
#define PACKED_STATE ((uint64_t)(PACKED_AVAIL | PACKED_USED) << 48)

/* Those flags of an available descriptor, and of a used one, where the wrap counter is this. */
static inline uint64_t state_available(bool wrap)
{
	return (uint64_t)(wrap ? PACKED_AVAIL : PACKED_USED) << 48;
}

static inline uint64_t state_used(bool wrap)
{
	return wrap ? PACKED_STATE : 0;
}

static inline bool is_available(uint64_t word, bool wrap)
{
	return (word & PACKED_STATE) == state_available(wrap);
}

/*
 * What is written where a chain begins, to return it: `used` is state_used there, `id` any word
 * that names the buffer. Without a length nothing was written into the chain.
 */
static inline struct virtqueue_return make_return(uint64_t *at, uint64_t used, uint64_t id)
{
	return (struct virtqueue_return){ .word = used | (id & PACKED_ID), .at = at };
}

static inline uint64_t written_length(uint32_t length)
{
	return (uint64_t)VRING_DESC_F_WRITE << 48 | length;
}

/* Where a returned chain lies. */
static inline struct virtqueue_position return_position(const struct virtqueue *vq,
							const struct virtqueue_return *item)
{
	const ptrdiff_t words = item->at - packed_word(vq, 0);

	return (struct virtqueue_position){ (uint16_t)(words / 2),
					    (item->word & PACKED_STATE) != 0 };
}
