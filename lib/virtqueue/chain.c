/* SPDX-License-Identifier: BSD-3-Clause */
/* The steps of a walk that leave the descriptor at hand; virtqueue/chain.h is the contract. */
#include "virtqueue/chain.h"

/* Enters the indirect table that `desc` describes (virtio 1.2, 2.7.5.3). */
static int chain_enter_table(const struct virtqueue *vq, struct chain *chain,
			     const struct vring_desc *desc)
{
	const uint8_t *table;

	if (!vq->indirect || chain->indirect || desc->flags & VRING_DESC_F_NEXT || desc->len == 0 ||
	    desc->len % sizeof(*desc) != 0 || desc->len / sizeof(*desc) > vq->size)
		return -EINVAL;
	table = guest_memory_whole(vq->memory, desc->addr, desc->len);
	if (table == NULL)
		return -EINVAL;
	chain->table = table;
	chain->table_size = desc->len / (uint32_t)sizeof(*desc);
	chain->left = chain->table_size;
	chain->next = 0;
	chain->indirect = true;
	return 0;
}

int chain_advance(struct virtqueue *vq, struct chain *chain)
{
	struct vring_desc desc;

	for (;;) {
		vq->walked++;
		if (chain->next >= chain->table_size || chain->left == 0)
			return -EINVAL;
		desc = read_descriptor(chain->table + chain->next * sizeof(desc));
		if (!(desc.flags & VRING_DESC_F_INDIRECT))
			break;
		if (chain_enter_table(vq, chain, &desc) != 0)
			return -EINVAL;
	}
	chain->left--;
	if ((desc.flags & VRING_DESC_F_WRITE) != chain->wanted || desc.len == 0)
		return -EINVAL;
	chain->address = desc.addr;
	chain->length = desc.len;
	chain->more = desc.flags & VRING_DESC_F_NEXT;
	chain->next = desc.next;
	return 0;
}
