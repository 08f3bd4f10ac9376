/* SPDX-License-Identifier: BSD-3-Clause */
/* The driver's side of a split ring (virtio 1.2, 2.7); driver.h is the contract. */
#include "driver.h"

#include <linux/virtio_config.h>

static struct vring_avail *avail_of(const struct guest *guest)
{
	return guest->avail;
}

static struct vring_used *used_of(const struct guest *guest)
{
	return guest->used;
}

static void measure(const struct guest *guest, uint64_t sizes[3])
{
	uint64_t event = guest_has(guest, VIRTIO_RING_F_EVENT_IDX) ? 2 : 0;

	sizes[PART_DESC] = 16ull * guest->size;
	sizes[PART_AVAIL] = 4 + 2ull * guest->size + event;
	sizes[PART_USED] = 4 + 8ull * guest->size + event;
}

static uint16_t reset(struct guest *guest)
{
	uint16_t start = (uint16_t)entropy_below(guest->entropy, 65536);

	if (entropy_chance(guest->entropy, 2))
		start = (uint16_t)(65530 + start % 12);
	used_of(guest)->idx = start;
	avail_of(guest)->idx = start;
	avail_of(guest)->flags = (uint16_t)entropy_below(guest->entropy, 2);
	return start;
}

static uint32_t room(const struct guest *guest)
{
	if (guest_distance(guest, virtqueue_base(&guest->vq), guest->posted) >= guest->size)
		return 0;
	return guest->size - guest->desc_taken;
}

static uint16_t index_of(const struct guest *guest, uint32_t n)
{
	n += guest->desc_taken;
	return (uint16_t)((guest->desc_base + n * guest->desc_stride) & (guest->size - 1));
}

static struct vring_desc *desc_at(struct guest *guest, uint32_t n)
{
	return (struct vring_desc *)guest->desc + index_of(guest, n);
}

static void link_desc(struct guest *guest, struct vring_desc *desc, uint32_t n, bool table,
		      bool last)
{
	if (last)
		return;
	desc->flags |= VRING_DESC_F_NEXT;
	desc->next = table ? (uint16_t)(n + 1) : index_of(guest, n + 1);
}

static void spoil(struct guest *guest, const struct placing *placing)
{
	struct vring_desc *last = desc_at(guest, placing->slots - 1);

	last->flags |= VRING_DESC_F_NEXT;
	switch (entropy_below(guest->entropy, 3)) {
	case 0:
		last->next = index_of(guest, 0);
		break;
	case 1:
		last->next = (uint16_t)(guest->size + entropy_below(guest->entropy, 4096));
		break;
	default:
		last->next = (uint16_t)entropy_below(guest->entropy, guest->size);
	}
}

static void announce(struct guest *guest, const struct placing *placing)
{
	uint16_t head = index_of(guest, 0);

	if (entropy_chance(guest->entropy, 1024))
		head = (uint16_t)(guest->size + entropy_below(guest->entropy, 16));
	avail_of(guest)->ring[guest->posted++ & (guest->size - 1)] = head;
	guest->desc_taken += placing->slots;
}

static void publish(struct guest *guest)
{
	avail_of(guest)->flags = (uint16_t)entropy_below(guest->entropy, 2);
	if (guest_has(guest, VIRTIO_RING_F_EVENT_IDX))
		avail_of(guest)->ring[guest->size] = (uint16_t)(virtqueue_base(&guest->vq) - 4 +
								entropy_below(guest->entropy, 16));
	__atomic_store_n(&avail_of(guest)->idx, guest->posted, __ATOMIC_RELEASE);
}

/* An available index that cannot be true; a wild guest also tells of chains that it never made. */
static void jump(struct guest *guest)
{
	if (guest->wild)
		guest->posted = (uint16_t)(guest->posted + entropy_below(guest->entropy, 64));
	else if (guest->size <= 4096)
		guest->posted = (uint16_t)(guest->posted + guest->size + 1 +
					   entropy_below(guest->entropy, 16384));
}

static void poke(struct guest *guest, struct entropy *entropy)
{
	uint32_t i = entropy_below(entropy, guest->size);
	uint16_t j = (uint16_t)entropy_below(entropy, guest->size);
	struct vring_avail *avail = guest->avail;
	struct vring_used *used = guest->used;

	switch (entropy_below(entropy, 5)) {
	case 0:
		((volatile struct vring_desc *)guest->desc)[i].next = j;
		break;
	case 1:
		__atomic_store_n(&avail->ring[i], j, __ATOMIC_RELAXED);
		break;
	case 2:
		if (entropy_chance(entropy, 64))
			__atomic_store_n(&avail->ring[i], (uint16_t)entropy_next(entropy),
					 __ATOMIC_RELAXED);
		break;
	case 3:
		if (entropy_chance(entropy, 16))
			__atomic_store_n(&avail->idx,
					 (uint16_t)(avail->idx + entropy_below(entropy, 4)),
					 __ATOMIC_RELEASE);
		break;
	default:
		__atomic_store_n(&used->idx, (uint16_t)entropy_next(entropy), __ATOMIC_RELAXED);
	}
}

const struct driver driver_split = {
	.measure = measure,
	.reset = reset,
	.room = room,
	.desc_at = desc_at,
	.link = link_desc,
	.spoil = spoil,
	.announce = announce,
	.publish = publish,
	.jump = jump,
	.poke = poke,
};
