/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A hostile guest with one ring of either layout: its memory, the driver's side of the ring, and
 * the lies.
 *
 * Each memory region is an allocation of its exact size, so that an address sanitizer sees any
 * access beside it. A tame guest keeps rings, indirect tables and buffers apart and leaves alone
 * what it has made available: then model.h can foretell what the switch must do, however broken the
 * chains are. A wild guest puts everything anywhere and changes it at any time.
 *
 * A position in the ring is what virtqueue_base says: of a split ring an index into the available
 * ring; of a packed one a slot, and the wrap counter in bit 15. A chain takes one slot of a split
 * ring, and as many of a packed one as it has descriptors there.
 *
 * guest.c: memory; guest_chain.c: chains; driver.h: what differs between the layouts.
 */
#pragma once

#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stdint.h>

#include "check.h"
#include "entropy.h"
#include "virtqueue/virtqueue.h"

/* What the regions are for; the last ones are buffers. */
enum part { PART_DESC, PART_AVAIL, PART_USED, PART_TABLES, PART_DATA, PART_COUNT = 8 };

struct guest {
	struct entropy *entropy;
	const struct driver *driver;
	bool packed;
	bool wild;
	uint16_t write;  /* VRING_DESC_F_WRITE if the switch is to write the buffers, else 0 */
	uint32_t size;   /* entries of the ring */
	uint64_t features;
	uint32_t habit;  /* pieces of all its chains, or 0 */
	uint32_t header; /* bytes of its offload headers */

	uint32_t part_count;
	struct guest_region parts[PART_COUNT];
	uint8_t *shadow[PART_COUNT]; /* for the model: what the parts should hold */
	struct guest_memory memory;  /* the same regions in another order */
	struct dirty_log log;        /* base NULL: none */

	void *desc, *avail, *used;
	uint16_t posted;      /* the position behind the last chain that was made available */
	uint16_t salt;        /* packed: buffer ids are slots, changed by this */
	uint32_t desc_taken;  /* split: since the ring was last empty */
	uint32_t table_taken; /* bytes of PART_TABLES since then */
	uint16_t desc_base, desc_stride; /* split: the order in which descriptors are taken */

	struct virtqueue vq;
	uint64_t journal;
};

static inline bool guest_has(const struct guest *guest, unsigned int feature)
{
	return guest->features >> feature & 1;
}

/* The position `slots` behind another. */
static inline uint16_t guest_forward(const struct guest *guest, uint16_t position, uint32_t slots)
{
	uint32_t at = (position & 0x7fff) + slots;
	uint32_t laps = position >> 15;

	if (!guest->packed)
		return (uint16_t)(position + slots);
	for (; at >= guest->size; at -= guest->size)
		laps++;
	return (uint16_t)(at | (laps & 1) << 15);
}

/* Slots from one position to another. */
static inline uint32_t guest_distance(const struct guest *guest, uint16_t from, uint16_t to)
{
	uint32_t distance;

	if (!guest->packed)
		return (uint16_t)(to - from);
	distance = 2 * guest->size + (to & 0x7fffu) - (from & 0x7fffu);
	if ((from ^ to) >> 15)
		distance += guest->size;
	return distance % (2 * guest->size);
}

/* A guest with a random layout and random features, attached. */
struct guest *guest_new(struct entropy *entropy, bool packed, bool wild, uint16_t write);
void guest_free(struct guest *guest);

/* Sets the ring up anew, at a random position, and attaches it. */
void guest_attach(struct guest *guest);

/* The ring is detached and attached again, as when memory changes. */
void guest_move(struct guest *guest);

/* What a switch does that finds the ring as one that died has left it. */
void guest_take_over(struct guest *guest);

/* Makes up to `count` more chains available, as far as there is room for them. */
void guest_post(struct guest *guest, uint32_t count);

/* Changes one thing somewhere in memory, plausible or not. For wild guests; any thread. */
void guest_poke(struct guest *guest, struct entropy *entropy);

/* Where a guest-physical address is and what is contiguous there, or NULL. A second opinion. */
uint8_t *guest_find(const struct guest *guest, uint64_t address, uint64_t *contiguous);

/* The guest-physical address of something in a part. */
uint64_t guest_address(const struct guest *guest, const void *at);
