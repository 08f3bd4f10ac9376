/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A hostile guest with one split ring: its memory, the driver's side of the ring, and the lies.
 *
 * Each memory region is an allocation of its exact size, so that an address sanitizer sees any
 * access beside it. A tame guest keeps rings, indirect tables and buffers apart and leaves alone
 * what it has made available: then model.h can foretell what the switch must do, however broken the
 * chains are. A wild guest puts everything anywhere and changes it at any time.
 */
#pragma once

#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stdint.h>

#include "entropy.h"
#include "virtqueue/virtqueue.h"

/* Stops the run: says what is wrong and how to see it again. */
#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition))                                                                  \
			check_failed(#condition, __FILE__, __LINE__);                              \
	} while (0)

void check_failed(const char *condition, const char *file, int line) __attribute__((noreturn));

/* What the regions are for; the last ones are buffers. */
enum part { PART_DESC, PART_AVAIL, PART_USED, PART_TABLES, PART_DATA, PART_COUNT = 8 };

struct guest {
	struct entropy *entropy;
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

	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t posted;      /* the available index, as the driver counts it */
	uint32_t desc_taken;  /* since the ring was last empty */
	uint32_t table_taken; /* bytes of PART_TABLES since then */
	uint16_t desc_base, desc_stride; /* the order in which descriptors are taken */

	struct virtqueue vq;
};

/* A guest with a random layout and random features, attached. */
struct guest *guest_new(struct entropy *entropy, bool wild, uint16_t write);
void guest_free(struct guest *guest);

/* Sets the ring up anew, at random indices, and attaches it. */
void guest_attach(struct guest *guest);

/* Makes up to `count` more chains available, as far as there is room for them. Returns how many. */
uint32_t guest_post(struct guest *guest, uint32_t count);

/* Changes one thing somewhere in memory, plausible or not. For wild guests; any thread. */
void guest_poke(struct guest *guest, struct entropy *entropy);

/* Where a guest-physical address is and what is contiguous there, or NULL. A second opinion. */
uint8_t *guest_find(const struct guest *guest, uint64_t address, uint64_t *contiguous);
