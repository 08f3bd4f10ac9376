/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Walking a descriptor chain of any shape in either layout, indirect tables included (virtio 1.2,
 * 2.7.5 and 2.8.5 to 2.8.8). A walk ends whatever the guest wrote: it takes no more descriptors
 * than the ring has.
 *
 *     chain_start(vq, &chain, at, left, VRING_DESC_F_WRITE);
 *     while ((more = chain_piece(vq, &chain, &piece)) > 0) ...
 */
#pragma once

#include <errno.h>

#include "virtqueue/ring.h"

/* A walk along one chain: the table it is in, the next descriptor, and what is left of this one. */
struct chain {
	const uint8_t *table;
	uint32_t table_size;
	uint32_t left;    /* descriptors that the chain may still have */
	uint64_t address; /* the rest of the descriptor at hand */
	uint32_t length;
	uint16_t next;
	uint16_t wanted;  /* VRING_DESC_F_WRITE or 0: the direction of all its descriptors */
	bool indirect;
	bool more;
};

/*
 * at: the head's index in the descriptor table or ring; left: how many descriptors of the ring the
 * chain may take at most.
 */
static inline void chain_start(const struct virtqueue *vq, struct chain *chain, uint16_t at,
			       uint32_t left, uint16_t wanted)
{
	chain->table = (const uint8_t *)vq->desc;
	chain->table_size = vq->size;
	chain->left = left;
	chain->length = 0;
	chain->next = at;
	chain->wanted = wanted;
	chain->indirect = false;
	chain->more = true;
}

/* Takes the next descriptor of the chain. Returns 0 or -EINVAL. */
int chain_advance(struct virtqueue *vq, struct chain *chain);

/*
 * The next piece of the chain that is contiguous in our memory: a descriptor, or its part in one
 * region. Returns 1, 0 at the chain's end, or -EINVAL.
 */
static inline int chain_piece(struct virtqueue *vq, struct chain *chain, struct view *piece)
{
	if (chain->length == 0) {
		if (!chain->more)
			return 0;
		if (chain_advance(vq, chain) != 0)
			return -EINVAL;
	}
	piece->length = chain->length;
	piece->address = guest_memory_part(vq->memory, chain->address, &piece->length);
	if (piece->address == NULL)
		return -EINVAL;
	chain->address += piece->length;
	chain->length -= piece->length;
	return 1;
}
