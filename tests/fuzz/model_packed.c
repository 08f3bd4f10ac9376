/* SPDX-License-Identifier: BSD-3-Clause */
/* Packed rings as the model reads them (virtio 1.2, 2.8); model_ring.h is the contract. */
#include "model_ring.h"

#include <string.h>

static struct vring_packed_desc *desc_at(const struct guest *guest, uint16_t position)
{
	return (struct vring_packed_desc *)guest->desc + (position & 0x7fff);
}

static bool is_set(uint16_t flags, unsigned int bit)
{
	return flags >> bit & 1;
}

/* 2.8.1: available if the one flag is the lap's wrap counter and the other its inverse. */
static enum next next_chain(const struct guest *guest, uint16_t position, struct chain *chain)
{
	bool wrap = position >> 15;
	uint16_t flags = desc_at(guest, position)->flags;

	if (is_set(flags, VRING_PACKED_DESC_F_AVAIL) != wrap ||
	    is_set(flags, VRING_PACKED_DESC_F_USED) == wrap)
		return NEXT_NONE;
	chain->head = position & 0x7fff;
	chain->slots = 1;
	/* 2.8.6: the chain's descriptors follow each other, and the last one has its id. */
	while (desc_at(guest, position)->flags & VRING_DESC_F_NEXT) {
		if (chain->slots++ == guest->size)
			return NEXT_STOPS;
		position = guest_forward(guest, position, 1);
	}
	chain->id = desc_at(guest, position)->id;
	return NEXT_CHAIN;
}

/* 2.8.8: in an indirect table WRITE is the only flag, and the table is the chain. */
static struct step read_step(const uint8_t *table, uint32_t at, uint32_t size, bool indirect)
{
	struct vring_packed_desc desc;

	memcpy(&desc, table + 16 * at, 16);
	if (indirect)
		return (struct step){ desc.addr, desc.len, at + 1, at + 1 < size,
				      desc.flags & VRING_DESC_F_WRITE, false };
	return (struct step){ desc.addr, desc.len, (at + 1) % size, desc.flags & VRING_DESC_F_NEXT,
			      desc.flags & VRING_DESC_F_WRITE, desc.flags & VRING_DESC_F_INDIRECT };
}

static bool is_used(const struct guest *guest, uint16_t position)
{
	uint16_t flags = desc_at(guest, position)->flags;
	bool wrap = position >> 15;

	return is_set(flags, VRING_PACKED_DESC_F_AVAIL) == wrap &&
	       is_set(flags, VRING_PACKED_DESC_F_USED) == wrap;
}

static uint32_t returned(struct model *model, uint32_t k, uint16_t position, uint32_t *length)
{
	const struct vring_packed_desc *desc = desc_at(model->guest, position);

	if (!is_used(model->guest, position))
		return 0;
	CHECK(k < model->count);
	/* The address means nothing in a used descriptor, and nobody needs to write it (2.8.6). */
	model_accept(model, &desc->len, sizeof(*desc) - sizeof(desc->addr));
	*length = desc->len;
	return model_find(model, k, desc->id) - k + 1;
}

/* Nothing else may be written, but the pages of the chains' slots may be marked. */
static void forgive(struct model *model)
{
	for (uint32_t i = 0; i < model->count; i++)
		for (uint16_t j = 0; j < model->chains[i].slots; j++)
			model_allow(model, desc_at(model->guest,
						   guest_forward(model->guest, model->position,
								 model->chains[i].before + j)),
				    sizeof(struct vring_packed_desc));
}

/* 2.8.10: what the driver says of slots, used ones and those that are skipped. */
static bool wants_interrupt(const struct guest *guest, uint16_t first, uint16_t last)
{
	const struct vring_packed_desc_event *event = guest->avail;

	if (event->flags != VRING_PACKED_EVENT_FLAG_DESC)
		return event->flags == VRING_PACKED_EVENT_FLAG_ENABLE;
	for (; first != last; first = guest_forward(guest, first, 1))
		if (first == event->off_wrap)
			return true;
	return false;
}

const struct model_ring model_packed = {
	.next = next_chain,
	.step = read_step,
	.returned = returned,
	.forgive = forgive,
	.wants_interrupt = wants_interrupt,
};
