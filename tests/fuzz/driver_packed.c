/* SPDX-License-Identifier: BSD-3-Clause */
/* The driver's side of a packed ring (virtio 1.2, 2.8); driver.h is the contract. */
#include "driver.h"

#include <linux/virtio_config.h>
#include <string.h>

#define AVAIL (1u << VRING_PACKED_DESC_F_AVAIL)
#define USED (1u << VRING_PACKED_DESC_F_USED)

static struct vring_packed_desc *ring_of(const struct guest *guest)
{
	return guest->desc;
}

static void measure(const struct guest *guest, uint64_t sizes[3])
{
	sizes[PART_DESC] = 16ull * guest->size;
	sizes[PART_AVAIL] = sizeof(struct vring_packed_desc_event);
	sizes[PART_USED] = sizeof(struct vring_packed_desc_event);
}

/* Flags of a descriptor that the driver makes available in this lap (2.8.1). */
static uint16_t available_at(uint16_t position)
{
	return position >> 15 ? AVAIL : USED;
}

/* All slots look as if they had been used the last time round. */
static uint16_t reset(struct guest *guest)
{
	uint16_t index = (uint16_t)entropy_below(guest->entropy, guest->size);
	uint16_t wrap = (uint16_t)entropy_below(guest->entropy, 2);

	if (entropy_chance(guest->entropy, 4)) {
		index = 0;
		wrap = 1;
	}
	for (uint32_t i = 0; i < guest->size; i++) {
		bool lap = i < index ? wrap : !wrap;

		ring_of(guest)[i].flags &= (uint16_t)~(AVAIL | USED | VRING_DESC_F_NEXT);
		ring_of(guest)[i].flags |= lap ? AVAIL | USED : 0;
	}
	memset(guest->avail, 0, sizeof(struct vring_packed_desc_event));
	memset(guest->used, 0, sizeof(struct vring_packed_desc_event));
	guest->salt = (uint16_t)entropy_below(guest->entropy, 65536);
	return (uint16_t)(index | wrap << 15);
}

static uint32_t room(const struct guest *guest)
{
	uint32_t taken = guest_distance(guest, virtqueue_base(&guest->vq), guest->posted);

	return taken < guest->size ? guest->size - taken : 0;
}

static struct vring_desc *desc_at(struct guest *guest, uint32_t n)
{
	return (struct vring_desc *)guest->desc +
	       (guest_forward(guest, guest->posted, n) & 0x7fff);
}

/*
 * In the ring the chain's descriptors follow each other, and the last one has the buffer id
 * (2.8.6). In a table nothing but WRITE means anything (2.8.8), whatever stands there.
 */
static void link_desc(struct guest *guest, struct vring_desc *desc, uint32_t n, bool table,
		      bool last)
{
	uint16_t position = guest_forward(guest, guest->posted, n);
	struct vring_packed_desc packed = { .addr = desc->addr, .len = desc->len,
					    .flags = desc->flags };

	packed.id = (uint16_t)entropy_below(guest->entropy, 65536);
	if (table) {
		if (entropy_chance(guest->entropy, 4))
			packed.flags ^= (uint16_t)entropy_below(guest->entropy, 65536) &
					(uint16_t)~VRING_DESC_F_WRITE;
	} else {
		packed.flags |= available_at(position);
		if (last)
			packed.id = (position & 0x7fff) ^ guest->salt;
		else
			packed.flags |= VRING_DESC_F_NEXT;
	}
	memcpy(desc, &packed, sizeof(packed));
}

/* The chain goes on into whatever lies behind it. */
static void spoil(struct guest *guest, const struct placing *placing)
{
	struct vring_packed_desc *last = (void *)desc_at(guest, placing->slots - 1);

	last->flags |= VRING_DESC_F_NEXT;
}

static void announce(struct guest *guest, const struct placing *placing)
{
	guest->posted = guest_forward(guest, guest->posted, placing->slots);
}

/* When the driver wants to be interrupted (2.8.10); a few slots around where the ring stands. */
static void publish(struct guest *guest)
{
	struct vring_packed_desc_event *event = guest->avail;
	uint32_t near = 8 * guest->size - 4 + entropy_below(guest->entropy, 16);

	event->off_wrap = guest_forward(guest, virtqueue_base(&guest->vq), near);
	event->flags = (uint16_t)entropy_below(guest->entropy, 3);
	if (event->flags == VRING_PACKED_EVENT_FLAG_DESC &&
	    !guest_has(guest, VIRTIO_RING_F_EVENT_IDX))
		event->flags = VRING_PACKED_EVENT_FLAG_ENABLE;
}

/* A chain without an end; a wild guest also leaves slots out. */
static void jump(struct guest *guest)
{
	if (guest->wild) {
		guest->posted = guest_forward(guest, guest->posted,
					      entropy_below(guest->entropy, 64));
	} else if (room(guest) == guest->size) {
		for (uint32_t i = 0; i < guest->size; i++) {
			uint16_t position = guest_forward(guest, guest->posted, i);

			ring_of(guest)[position & 0x7fff].flags =
				available_at(position) | VRING_DESC_F_NEXT;
		}
		guest->posted = guest_forward(guest, guest->posted, guest->size);
	}
}

static void poke(struct guest *guest, struct entropy *entropy)
{
	volatile struct vring_packed_desc *desc =
		&ring_of(guest)[entropy_below(entropy, guest->size)];

	switch (entropy_below(entropy, 5)) {
	case 0:
		desc->id = (uint16_t)entropy_next(entropy);
		break;
	case 1:
		desc->flags ^= AVAIL;
		break;
	case 2:
		desc->flags ^= USED;
		break;
	case 3:
		desc->flags ^= AVAIL | USED;
		break;
	default:
		desc->flags ^= (uint16_t)(1u << entropy_below(entropy, 16));
	}
}

const struct driver driver_packed = {
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
