/* SPDX-License-Identifier: BSD-3-Clause */
/* The steps of a walk that leave the descriptor at hand; virtqueue/chain.h is the contract. */
#include "virtqueue/chain.h"

/* What a walk must know of a descriptor of either layout. */
struct step {
	uint64_t address;
	uint32_t length;
	uint16_t flags;
	uint16_t next;
};

static struct step read_step(const struct virtqueue *vq, const struct chain *chain)
{
	const union descriptor desc =
		read_descriptor(chain->table + (size_t)chain->next * sizeof(desc));
	struct step step = { desc.split.addr, desc.split.len, desc.split.flags, desc.split.next };

	if (!vq->packed)
		return step;
	step.flags = desc.packed.flags;
	step.next = (uint16_t)(chain->next + 1);
	if (chain->indirect) {
		/* The whole table is the chain, and no flag says so (virtio 1.2, 2.8.7). */
		step.flags = (uint16_t)((step.flags & VRING_DESC_F_WRITE) |
					(step.next < chain->table_size ? VRING_DESC_F_NEXT : 0));
	} else if (step.next == vq->size) {
		step.next = 0;
	}
	return step;
}

/* Enters the indirect table that a descriptor describes (virtio 1.2, 2.7.5.3). */
static int enter_table(const struct virtqueue *vq, struct chain *chain, const struct step *step)
{
	const uint8_t *table;

	if (!vq->indirect || chain->indirect || step->flags & VRING_DESC_F_NEXT ||
	    step->length == 0 || step->length % sizeof(union descriptor) != 0 ||
	    step->length / sizeof(union descriptor) > vq->size)
		return -EINVAL;
	table = guest_memory_whole(vq->memory, step->address, step->length);
	if (table == NULL)
		return -EINVAL;
	chain->table = table;
	chain->table_size = step->length / (uint32_t)sizeof(union descriptor);
	chain->left = chain->table_size;
	chain->next = 0;
	chain->indirect = true;
	return 0;
}

int chain_advance(struct virtqueue *vq, struct chain *chain)
{
	struct step step;

	for (;;) {
		vq->walked++;
		if (chain->next >= chain->table_size || chain->left == 0)
			return -EINVAL;
		step = read_step(vq, chain);
		if (!(step.flags & VRING_DESC_F_INDIRECT))
			break;
		if (enter_table(vq, chain, &step) != 0)
			return -EINVAL;
	}
	chain->left--;
	if ((step.flags & VRING_DESC_F_WRITE) != chain->wanted || step.length == 0)
		return -EINVAL;
	chain->address = step.address;
	chain->length = step.length;
	chain->more = step.flags & VRING_DESC_F_NEXT;
	chain->next = step.next;
	return 0;
}
