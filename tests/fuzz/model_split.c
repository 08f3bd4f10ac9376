/* SPDX-License-Identifier: BSD-3-Clause */
/* Split rings as the model reads them (virtio 1.2, 2.7); model_ring.h is the contract. */
#include "model_ring.h"

#include <string.h>

static const struct vring_avail *avail_of(const struct guest *guest)
{
	return guest->avail;
}

static const struct vring_used *used_of(const struct guest *guest)
{
	return guest->used;
}

static enum next next_chain(const struct guest *guest, uint16_t position, struct chain *chain)
{
	uint16_t waiting = (uint16_t)(avail_of(guest)->idx - position);

	if (waiting == 0)
		return NEXT_NONE;
	if (waiting > guest->size)
		return NEXT_JUMPED;
	chain->head = avail_of(guest)->ring[position & (guest->size - 1)];
	chain->id = chain->head;
	chain->slots = 1;
	return chain->head < guest->size ? NEXT_CHAIN : NEXT_STOPS;
}

static struct step read_step(const uint8_t *table, uint32_t at, uint32_t size, bool indirect)
{
	struct vring_desc desc;

	(void)size;
	(void)indirect;
	memcpy(&desc, table + 16 * at, 16);
	return (struct step){ desc.addr, desc.len, desc.next, desc.flags & VRING_DESC_F_NEXT,
			      desc.flags & VRING_DESC_F_WRITE, desc.flags & VRING_DESC_F_INDIRECT };
}

static uint32_t returned(struct model *model, uint32_t k, uint16_t position, uint32_t *length)
{
	const struct guest *guest = model->guest;
	const struct vring_used *used = used_of(guest);
	const vring_used_elem_t *entry = &used->ring[position & (guest->size - 1)];
	uint16_t count = (uint16_t)(used->idx - position);
	uint32_t found;

	CHECK(count <= model->count - k);
	if (count == 0)
		return 0;
	model_accept(model, &used->idx, sizeof(used->idx));
	model_accept(model, entry, sizeof(*entry));
	*length = entry->len;
	found = model_find(model, k, entry->id) - k + 1;
	CHECK(found <= count);
	return found;
}

/* Entries that the index does not tell of, or that a batch leaves out: no driver reads them. */
static void forgive(struct model *model)
{
	const struct guest *guest = model->guest;
	uint16_t waiting = (uint16_t)(avail_of(guest)->idx - model->position);

	for (uint32_t i = 0; i < waiting && i < guest->size; i++) {
		uint32_t slot = (model->position + i) & (guest->size - 1);
		const void *entry = &used_of(guest)->ring[slot];

		model_allow(model, entry, sizeof(vring_used_elem_t));
		if (memcmp(entry, model_shadow(guest, entry), sizeof(vring_used_elem_t)) != 0)
			model_accept(model, entry, sizeof(vring_used_elem_t));
	}
}

static bool wants_interrupt(const struct guest *guest, uint16_t first, uint16_t last)
{
	if (!guest_has(guest, VIRTIO_RING_F_EVENT_IDX))
		return !(avail_of(guest)->flags & VRING_AVAIL_F_NO_INTERRUPT);
	/* 2.7.7.2: one of the entries just used is what the driver waits for. */
	for (uint16_t entry = first; entry != last; entry++)
		if (entry == avail_of(guest)->ring[guest->size])
			return true;
	return false;
}

const struct model_ring model_split = {
	.next = next_chain,
	.step = read_step,
	.returned = returned,
	.forgive = forgive,
	.wants_interrupt = wants_interrupt,
};
