/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The driver's side of a ring, as far as the layouts differ in it: driver_split.c (virtio 1.2, 2.7)
 * and driver_packed.c (2.8). For the hostile guest (guest.h) alone.
 */
#pragma once

#include "guest.h"

#define LIST_MAX 320
#define DESC_SIZE ((uint32_t)sizeof(struct vring_desc))

/* A chain's descriptors in their order, before they are put anywhere; `next` means nothing. */
struct list {
	uint32_t count;
	struct vring_desc descs[LIST_MAX];
};

/* How a chain is put into the ring. */
struct placing {
	bool indirect;
	uint32_t direct;      /* descriptors before the table */
	uint32_t slots;       /* descriptors in the ring */
	uint32_t table_bytes; /* as the descriptor of the table says */
	uint64_t table;       /* guest-physical */
};

struct driver {
	/* Bytes of the ring's three parts. */
	void (*measure)(const struct guest *guest, uint64_t sizes[3]);

	/* Makes the ring empty, at a random position, and returns it. */
	uint16_t (*reset)(struct guest *guest);

	/* How many descriptors of the ring are free, and at least one entry to announce them in. */
	uint32_t (*room)(const struct guest *guest);

	/* The n-th descriptor of the chain that is being made. */
	struct vring_desc *(*desc_at)(struct guest *guest, uint32_t n);

	/*
	 * Gives the descriptors at hand, in the ring or in a table, what the layout says of their
	 * order: `last` is the chain's last one there.
	 */
	void (*link)(struct guest *guest, struct vring_desc *desc, uint32_t n, bool table,
		     bool last);

	/* One lie about where a chain in the ring goes on. */
	void (*spoil)(struct guest *guest, const struct placing *placing);

	/* Makes the chain that is complete now available. */
	void (*announce)(struct guest *guest, const struct placing *placing);

	/* Ends a round of announcements: the index, and the wish for interrupts. */
	void (*publish)(struct guest *guest);

	/* Something that cannot be true of a whole ring. */
	void (*jump)(struct guest *guest);

	/* Changes one thing of the ring. */
	void (*poke)(struct guest *guest, struct entropy *entropy);
};

extern const struct driver driver_split, driver_packed;
