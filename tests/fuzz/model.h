/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the switch must make of a tame guest's ring, worked out a second time from the
 * specification: slowly, one chain after the other, with none of the passes, short cuts and limits
 * of lib/virtqueue. What was returned is read as a driver reads it.
 *
 *     model_foretell_tx(model, frames, count);
 *     virtqueue_tx_burst(&guest->vq, frames, count, &outcome);
 *     model_check_tx(model, &outcome);
 */
#pragma once

#include "frame/frame.h"
#include "guest.h"

/* Contiguous bytes of a guest's buffer, and where the shadow of them is. */
struct span {
	uint8_t *at;
	uint8_t *shadow;
	uint32_t length;
};

/* A chain that the device takes and returns. */
struct chain {
	uint16_t head;     /* its first descriptor */
	uint16_t slots;    /* of the ring */
	uint32_t before;   /* slots of the chains before it */
	uint16_t id;       /* what the used ring calls it */
	uint32_t length;   /* bytes that are written to it */
	uint32_t first_span, span_count; /* tx: these bytes */
	uint16_t frame;    /* tx: to which of the burst they belong */
};

struct model {
	struct guest *guest;
	uint16_t position; /* of the first of the chains */
	bool unsure;       /* what the guest did leaves open what comes next */
	bool stops;        /* behind the last of the chains is one that stops the ring */
	uint32_t count;
	struct chain *chains;
	uint32_t span_count;

	/* rx */
	uint16_t max;
	struct charge budget; /* what is left of it */
	bool held;

	struct tx_outcome outcome; /* tx */

	uint8_t *must, *may; /* pages that the log shows in the end; as long as the log */
	uint8_t *copy[PART_COUNT]; /* memory at some moment, when the log was cleared */
	bool copied;
};

struct model *model_new(struct guest *guest);
void model_free(struct model *model);

/* Foretells a burst. The guest's shadow becomes what its memory should be afterwards. */
void model_foretell_rx(struct model *model, uint16_t max, struct charge budget);
void model_foretell_tx(struct model *model, struct frame *const *frames, uint16_t count);

/* Checks what virtqueue_rx_burst took: every frame, byte by byte. Before the release. */
void model_check_rx(struct model *model, const struct burst *burst);

/* Checks what was returned, and that nothing else was written. */
void model_check_release(struct model *model);
void model_check_tx(struct model *model, const struct tx_outcome *outcome);

/* The same after the switch has died in the burst, and another one has taken the ring over. */
void model_check_death(struct model *model);

/* Keeps all of the memory and clears the log: what is written from now on must be in it. */
void model_copy(struct model *model);
void model_check_copy(struct model *model);

/* Whether the driver wants an interrupt after the ring has moved from `first` to `last`. */
bool model_wants_interrupt(const struct guest *guest, uint16_t first, uint16_t last);
