/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The layouts of a ring as the model reads them: model_split.c (virtio 1.2, 2.7) and model_packed.c
 * (2.8). For model.c alone.
 */
#pragma once

#include "model.h"

enum next {
	NEXT_NONE,
	NEXT_CHAIN,
	NEXT_STOPS,  /* one that stops the ring */
	NEXT_JUMPED, /* so many that it cannot be true */
};

struct step {
	uint64_t address;
	uint32_t length;
	uint32_t next; /* the index of the next one, if there is more */
	bool more, write, indirect;
};

struct model_ring {
	/* The chain that was made available at a position. */
	enum next (*next)(const struct guest *guest, uint16_t position, struct chain *chain);

	/* The descriptor `at` of a table of `size`, which is the ring's own or an indirect one. */
	struct step (*step)(const uint8_t *table, uint32_t at, uint32_t size, bool indirect);

	/*
	 * Looks at the place where chain k, at `position`, is returned. Returns how many chains
	 * from it on are returned there and puts what the last one's length is said to be into
	 * *length. Such an entry becomes part of the shadow.
	 */
	uint32_t (*returned)(struct model *model, uint32_t k, uint16_t position, uint32_t *length);

	/* Takes into the shadow what the device may have written where no driver looks. */
	void (*forgive)(struct model *model);

	bool (*wants_interrupt)(const struct guest *guest, uint16_t first, uint16_t last);
};

extern const struct model_ring model_split, model_packed;

/* Takes what stands in memory into the shadow. */
void model_accept(struct model *model, const void *at, uint32_t length);

/* The log may show this, if it shows more than it must. */
void model_allow(struct model *model, const void *at, uint32_t length);

/* Where the shadow of something is. */
uint8_t *model_shadow(const struct guest *guest, const void *at);

/* The one of the chains from k on that has an id; k itself if nothing else was negotiated. */
uint32_t model_find(const struct model *model, uint32_t k, uint32_t id);
