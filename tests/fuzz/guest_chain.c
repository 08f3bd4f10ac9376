/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The chains that the hostile guest makes available: mostly plausible, now and then with one thing
 * wrong in them. What is wrong need not be known here; model.h finds out for itself.
 */
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <string.h>

#include "driver.h"
#include "packet.h"

/* Bytes that follow each other from this address on, across regions. */
static uint64_t contiguous_from(const struct guest *guest, uint64_t address, uint64_t enough)
{
	uint64_t total = 0, part;

	while (total < enough && guest_find(guest, address + total, &part) != NULL)
		total += part;
	return total;
}

/* Finds a place for up to `wanted` bytes. Returns how many there are. */
static uint32_t pick_range(struct guest *guest, uint32_t wanted, uint64_t *address)
{
	struct entropy *entropy = guest->entropy;
	uint32_t first = guest->wild && entropy_chance(entropy, 8) ? 0 : PART_DATA;
	const struct guest_region *part =
		&guest->parts[first + entropy_below(entropy, guest->part_count - first)];
	uint32_t size = (uint32_t)part->size;
	uint32_t offset = 0;
	uint64_t found;

	if (wanted < size)
		offset = entropy_chance(entropy, 3) ? size - wanted
						    : entropy_below(entropy, size - wanted + 1);
	/* Where the next region is adjacent, this crosses into it. */
	if (entropy_chance(entropy, 8))
		offset = size - 1 - entropy_below(entropy, size < wanted ? size : wanted);
	*address = part->guest + offset;
	found = contiguous_from(guest, *address, wanted);
	return found < wanted ? (uint32_t)found : wanted;
}

static uint32_t pick_total(const struct guest *guest)
{
	struct entropy *entropy = guest->entropy;

	switch (entropy_below(entropy, 32)) {
	case 0:
		return 1 + entropy_below(entropy, 32);
	case 1:
		return guest->header + FRAME_LENGTH_MAX - 8 + entropy_below(entropy, 16);
	case 2:
		return guest->header + 2000 + entropy_below(entropy, 64000);
	case 3:
	case 4:
	case 5:
	case 6:
		return guest->header + 100 + entropy_below(entropy, 1500);
	default:
		return guest->header + 14 + entropy_below(entropy, 300);
	}
}

static uint32_t pick_count(struct entropy *entropy)
{
	switch (entropy_below(entropy, 32)) {
	case 0:
		return 60 + entropy_below(entropy, 140);
	case 1:
		return 9 + entropy_below(entropy, 60);
	case 2:
	case 3:
	case 4:
	case 5:
		return 3 + entropy_below(entropy, 6);
	case 6:
	case 7:
	case 8:
	case 9:
	case 10:
	case 11:
		return 2;
	default:
		return 1;
	}
}

static void make_list(struct guest *guest, struct list *list)
{
	struct entropy *entropy = guest->entropy;
	uint32_t left = pick_total(guest);
	uint32_t count = guest->habit != 0 ? guest->habit : pick_count(entropy);
	bool header_alone = count > 1 && entropy_chance(entropy, 3);

	if (count > guest->size)
		count = guest->size;
	list->count = 0;
	while (left > 0 && list->count < count) {
		struct vring_desc *desc = &list->descs[list->count++];
		uint32_t pieces = count - list->count + 1;
		uint32_t wanted = left;
		uint64_t address;

		if (pieces > 1)
			wanted = 1 + entropy_below(entropy, 1 + 2 * left / pieces);
		if (list->count == 1 && header_alone)
			wanted = guest->header;
		if (wanted > left)
			wanted = left;
		desc->len = pick_range(guest, wanted, &address);
		desc->addr = address;
		desc->flags = guest->write;
		desc->next = 0;
		left -= wanted;
	}
}

/* Writes a frame's first bytes to where the chain's buffers are. */
static void write_packet(const struct guest *guest, const struct list *list)
{
	uint8_t bytes[PACKET_MAX];
	uint32_t total = 0, length, done = 0;

	for (uint32_t i = 0; i < list->count; i++)
		total += list->descs[i].len;
	length = packet_make(guest->entropy, bytes, guest->header, total);
	for (uint32_t i = 0; i < list->count && done < length; i++) {
		for (uint32_t at = 0; at < list->descs[i].len && done < length;) {
			uint64_t part;
			uint8_t *to = guest_find(guest, list->descs[i].addr + at, &part);

			if (part > list->descs[i].len - at)
				part = list->descs[i].len - at;
			if (part > length - done)
				part = length - done;
			memcpy(to, bytes + done, part);
			at += (uint32_t)part;
			done += (uint32_t)part;
		}
	}
}

/* An address that is in no region, or in none for long. */
static uint64_t pick_bad_address(struct guest *guest)
{
	struct entropy *entropy = guest->entropy;
	const struct guest_region *part =
		&guest->parts[PART_DATA + entropy_below(entropy, guest->part_count - PART_DATA)];

	switch (entropy_below(entropy, 4)) {
	case 0:
		return part->guest + part->size;
	case 1:
		return part->guest - 1;
	case 2:
		return -(uint64_t)(1 + entropy_below(entropy, 64));
	default:
		return (uint64_t)entropy_below(entropy, UINT32_MAX) << entropy_below(entropy, 33);
	}
}

/* In a tame guest no buffer may come to lie over a ring, whatever else is wrong with it. */
static bool is_beside_rings(const struct guest *guest, uint64_t address)
{
	uint64_t part;
	const uint8_t *host = guest_find(guest, address, &part);

	for (uint32_t i = 0; host != NULL && i < PART_DATA; i++) {
		const struct guest_region *ring = &guest->parts[i];

		if (host >= ring->host && host < ring->host + ring->size)
			return false;
	}
	return true;
}

/* One lie about one buffer. */
static void spoil_buffer(struct guest *guest, struct vring_desc *desc)
{
	uint64_t address = pick_bad_address(guest);

	switch (entropy_below(guest->entropy, 6)) {
	case 0:
		desc->flags ^= VRING_DESC_F_WRITE;
		break;
	case 1:
		desc->len = 0;
		break;
	case 2:
		desc->len = UINT32_MAX - entropy_below(guest->entropy, 16);
		break;
	case 3:
		desc->flags |= VRING_DESC_F_INDIRECT;
		break;
	default:
		if (guest->wild || is_beside_rings(guest, address))
			desc->addr = address;
	}
}

/* One lie about the indirect table, in the descriptor that leads to it. */
static void spoil_table(struct guest *guest, struct vring_desc *desc)
{
	uint64_t address = pick_bad_address(guest);

	switch (entropy_below(guest->entropy, 6)) {
	case 0:
		desc->len = 0;
		break;
	case 1:
		desc->len += 1 + entropy_below(guest->entropy, 15);
		break;
	case 2:
		desc->len = (guest->size + 1 + entropy_below(guest->entropy, 4)) * DESC_SIZE;
		break;
	case 3:
		desc->flags |= VRING_DESC_F_NEXT;
		break;
	case 4:
		if (guest->wild || is_beside_rings(guest, address))
			desc->addr = address;
		break;
	default: /* random bytes as descriptors, perhaps beyond the region */
		if (guest->wild)
			desc->addr += entropy_below(guest->entropy, 512);
		desc->len = DESC_SIZE * (1 + entropy_below(guest->entropy, 64));
	}
}

static struct vring_desc table_desc(const struct placing *placing)
{
	return (struct vring_desc){ .addr = placing->table, .len = placing->table_bytes,
				    .flags = VRING_DESC_F_INDIRECT };
}

/* Writes the descriptors of the list that are not in the ring into a table that nothing aligns. */
static void fill_table(struct guest *guest, const struct list *list, const struct placing *placing)
{
	uint64_t part;
	uint8_t *to = guest_find(guest, placing->table, &part);

	for (uint32_t i = placing->direct; i < list->count; i++) {
		struct vring_desc desc = list->descs[i];

		/* A table inside the table, and a good one but for that: itself. */
		if (entropy_chance(guest->entropy, 64))
			desc = table_desc(placing);
		guest->driver->link(guest, &desc, i - placing->direct, true, i + 1 == list->count);
		memcpy(to + (i - placing->direct) * DESC_SIZE, &desc, DESC_SIZE);
	}
	guest->table_taken = (uint32_t)(placing->table - guest->parts[PART_TABLES].guest);
	guest->table_taken += placing->table_bytes;
}

/* Finds room for the chain, without overwriting what a tame guest has made available. */
static bool plan_placing(struct guest *guest, const struct list *list, struct placing *placing)
{
	const struct guest_region *tables = &guest->parts[PART_TABLES];
	uint32_t offset = guest->table_taken + entropy_below(guest->entropy, 3);

	/* Now and then without having negotiated it, and nearly always where chains are long. */
	if (guest_has(guest, VIRTIO_RING_F_INDIRECT_DESC))
		placing->indirect = entropy_chance(guest->entropy, 4) != (guest->habit > 16);
	else
		placing->indirect = entropy_chance(guest->entropy, 64);
	placing->direct = list->count;
	if (placing->indirect) {
		placing->direct = 0;
		/* In a packed ring no driver may do that (2.8.19), but who knows. */
		if (entropy_chance(guest->entropy, 4))
			placing->direct = entropy_below(guest->entropy, list->count);
		placing->table_bytes = (list->count - placing->direct) * DESC_SIZE;
		placing->table = tables->guest + offset;
		if (offset + placing->table_bytes > tables->size)
			return false;
	}
	placing->slots = placing->direct + placing->indirect;
	return placing->slots <= guest->driver->room(guest);
}

static void place_list(struct guest *guest, const struct list *list, const struct placing *placing)
{
	if (placing->indirect)
		fill_table(guest, list, placing);
	for (uint32_t i = 0; i < placing->slots; i++) {
		struct vring_desc *desc = guest->driver->desc_at(guest, i);

		*desc = i < placing->direct ? list->descs[i] : table_desc(placing);
		if (i == placing->direct && entropy_chance(guest->entropy, 8))
			spoil_table(guest, desc);
		guest->driver->link(guest, desc, i, false, i + 1 == placing->slots);
	}
}

/* Makes one chain available. False if there is no room for it. */
static bool make_chain(struct guest *guest)
{
	struct entropy *entropy = guest->entropy;
	struct placing placing;
	struct list list;

	make_list(guest, &list);
	if (!plan_placing(guest, &list, &placing))
		return false;
	if (guest->write == 0)
		write_packet(guest, &list);
	if (entropy_chance(entropy, 24))
		spoil_buffer(guest, &list.descs[entropy_below(entropy, list.count)]);
	place_list(guest, &list, &placing);
	if (entropy_chance(entropy, 48))
		guest->driver->spoil(guest, &placing);
	guest->driver->announce(guest, &placing);
	return true;
}

void guest_post(struct guest *guest, uint32_t count)
{
	struct entropy *entropy = guest->entropy;

	if (guest->posted == virtqueue_base(&guest->vq) || guest->wild) {
		guest->desc_taken = 0;
		guest->table_taken = 0;
		guest->desc_base = (uint16_t)entropy_below(entropy, guest->size);
		guest->desc_stride = (uint16_t)(2 * entropy_below(entropy, 8) + 1);
	}
	while (count > 0 && make_chain(guest))
		count--;
	if (entropy_chance(entropy, 512))
		guest->driver->jump(guest);
	guest->driver->publish(guest);
}
