/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the switch must make of a tame guest's ring, worked out a second time: slowly, one chain
 * after the other, with none of the passes, short cuts and limits of lib/virtqueue.
 */
#pragma once

#include "frame/frame.h"
#include "guest.h"

/* Checks what virtqueue_rx_burst took: every frame, byte by byte. Before the release. */
void model_check_rx(const struct guest *guest, const struct burst *burst, uint16_t max);

/* What virtqueue_tx_burst must do. */
struct model_tx {
	uint16_t packets;
	uint16_t too_long;
	uint32_t segments;
	uint64_t bytes;
	uint32_t used_count;
	bool unsure; /* the available index is wrong, which the switch may not have seen yet */
	bool stops;  /* at a head that does not exist */
};

/* Foretells a transmit burst: the guest's shadow becomes what its memory should be afterwards. */
void model_foretell_tx(struct guest *guest, struct frame *const *frames, uint16_t count,
		       struct model_tx *expected);

/* Compares with what came of it. `first` is the used index before. */
void model_check_tx(const struct guest *guest, const struct model_tx *expected,
		    const struct tx_outcome *outcome, uint16_t first);

/* Whether the driver wants an interrupt after the used index has moved from `first` to `last`. */
bool model_wants_interrupt(const struct guest *guest, uint16_t first, uint16_t last);
