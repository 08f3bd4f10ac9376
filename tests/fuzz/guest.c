/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory and ring of the hostile guest; guest.h is the contract, guest_chain.c makes the chains. */
#include "guest.h"

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <string.h>

static uint32_t pick_ring_size(struct entropy *entropy)
{
	if (entropy_chance(entropy, 64))
		return 1u << entropy_below(entropy, 16);
	return 1u << entropy_below(entropy, entropy_chance(entropy, 8) ? 11 : 9);
}

static uint32_t pick_data_size(struct entropy *entropy)
{
	switch (entropy_below(entropy, 16)) {
	case 0:
		return 1 + entropy_below(entropy, 64);
	case 1:
		return 65536 + entropy_below(entropy, 80000);
	case 2:
	case 3:
		return 4096 + entropy_below(entropy, 16384);
	default:
		return 64 + entropy_below(entropy, 4096);
	}
}

static void part_new(struct guest *guest, uint64_t size)
{
	struct guest_region *part = &guest->parts[guest->part_count];
	struct entropy noise;

	part->size = size;
	part->host = malloc(size);
	guest->shadow[guest->part_count] = malloc(size);
	CHECK(part->host != NULL && guest->shadow[guest->part_count] != NULL);
	entropy_init(&noise, entropy_below(guest->entropy, 256), NULL, 0);
	for (uint64_t at = 0; at < size; at += sizeof(uint64_t)) {
		uint64_t word = entropy_next(&noise);

		memcpy(part->host + at, &word, size - at < sizeof(word) ? size - at : sizeof(word));
	}
	guest->part_count++;
}

/*
 * Gives the parts their guest-physical addresses: buffers next to each other or with holes; the
 * rings apart, if the guest is tame. Sometimes all of it lies at the very end of the address space.
 */
static void lay_out(struct guest *guest)
{
	struct entropy *entropy = guest->entropy;
	uint64_t at = 0, base;
	uint32_t turn = entropy_below(entropy, guest->part_count);

	for (uint32_t i = 0; i < guest->part_count; i++) {
		struct guest_region *part = &guest->parts[(i + PART_DATA) % guest->part_count];
		bool data = i + PART_DATA < guest->part_count;

		part->guest = at;
		at += part->size;
		if (!(guest->wild || (data && i + PART_DATA + 1 < guest->part_count)) ||
		    entropy_chance(entropy, 2))
			at += 1 + entropy_below(entropy, 4096);
	}
	switch (entropy_below(entropy, 4)) {
	case 0:
		base = 0;
		break;
	case 1:
		base = -at;
		break;
	case 2:
		base = (1ull << 32) - at / 2;
		break;
	default:
		base = (uint64_t)entropy_below(entropy, 1u << 20) << 12;
	}
	for (uint32_t i = 0; i < guest->part_count; i++) {
		guest->parts[i].guest += base;
		guest->memory.regions[(i + turn) % guest->part_count] = guest->parts[i];
	}
	guest->memory.count = guest->part_count;
}

/* A part of the ring has a region of its own; a wild guest may have it among the buffers. */
static void *place_ring(struct guest *guest, enum part part, uint64_t size)
{
	const struct guest_region *data = &guest->parts[PART_DATA];

	if (guest->wild && data->size >= size + 16 && entropy_chance(guest->entropy, 2))
		return data->host +
		       entropy_below(guest->entropy, (uint32_t)(data->size - size) / 16) * 16;
	return guest->parts[part].host;
}

static void pick_features(struct guest *guest)
{
	static const unsigned int bits[] = { VIRTIO_NET_F_MRG_RXBUF, VIRTIO_F_VERSION_1,
					     VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC };
	uint32_t chosen = entropy_below(guest->entropy, 16);

	for (unsigned int i = 0; i < 4; i++)
		if (chosen >> i & 1)
			guest->features |= 1ull << bits[i];
	guest->header = chosen & 3 ? 12 : 10;
}

struct guest *guest_new(struct entropy *entropy, bool wild, uint16_t write)
{
	struct guest *guest = calloc(1, sizeof(*guest));
	uint32_t event, data;

	CHECK(guest != NULL);
	guest->entropy = entropy;
	guest->wild = wild;
	guest->write = write;
	guest->size = pick_ring_size(entropy);
	pick_features(guest);
	event = guest->features >> VIRTIO_RING_F_EVENT_IDX & 1 ? 2 : 0;
	part_new(guest, 16ull * guest->size);
	part_new(guest, 4 + 2ull * guest->size + event);
	part_new(guest, 4 + 8ull * guest->size + event);
	if (entropy_chance(entropy, 8))
		guest->habit = 1 + entropy_below(entropy, 80);
	part_new(guest, 64 + entropy_below(entropy, guest->habit > 16 ? 100000 : 8192));
	data = 1 + entropy_below(entropy, PART_COUNT - PART_DATA);
	for (uint32_t i = 0; i < data; i++)
		part_new(guest, pick_data_size(entropy));
	lay_out(guest);
	guest->desc = place_ring(guest, PART_DESC, guest->parts[PART_DESC].size);
	guest->avail = place_ring(guest, PART_AVAIL, guest->parts[PART_AVAIL].size);
	guest->used = place_ring(guest, PART_USED, guest->parts[PART_USED].size);
	guest_attach(guest);
	return guest;
}

void guest_free(struct guest *guest)
{
	for (uint32_t i = 0; i < guest->part_count; i++) {
		free(guest->parts[i].host);
		free(guest->shadow[i]);
	}
	free(guest);
}

void guest_attach(struct guest *guest)
{
	struct virtqueue_setup setup = { .desc = guest->desc, .avail = guest->avail,
					 .used = guest->used, .size = guest->size,
					 .features = guest->features, .memory = &guest->memory };
	uint16_t start = (uint16_t)entropy_below(guest->entropy, 65536);
	const char *reason;

	if (entropy_chance(guest->entropy, 2))
		start = (uint16_t)(65530 + start % 12);
	guest->used->idx = start;
	guest->avail->idx = start;
	guest->avail->flags = (uint16_t)entropy_below(guest->entropy, 2);
	CHECK(virtqueue_init(&guest->vq, &setup, &reason) == 0);
	guest->posted = guest->vq.next_used;
	guest->desc_taken = 0;
	guest->table_taken = 0;
	CHECK(guest->vq.header_length == guest->header);
}

uint8_t *guest_find(const struct guest *guest, uint64_t address, uint64_t *contiguous)
{
	for (uint32_t i = 0; i < guest->part_count; i++) {
		const struct guest_region *part = &guest->parts[i];
		/* Inclusive, as the last region may end where addresses do. */
		uint64_t last = part->guest + (part->size - 1);

		if (address < part->guest || address > last)
			continue;
		*contiguous = last - address + 1;
		return part->host + (address - part->guest);
	}
	return NULL;
}

void guest_poke(struct guest *guest, struct entropy *entropy)
{
	uint32_t i = entropy_below(entropy, guest->size);
	uint32_t j = entropy_below(entropy, guest->size);
	volatile struct vring_desc *desc = &guest->desc[i];
	const struct guest_region *part = &guest->parts[entropy_below(entropy, guest->part_count)];

	switch (entropy_below(entropy, 12)) {
	case 0:
		desc->addr = part->guest + entropy_below(entropy, (uint32_t)part->size);
		break;
	case 1:
		desc->len = entropy_below(entropy, 3000);
		break;
	case 2:
		desc->len = (uint32_t)entropy_next(entropy);
		break;
	case 3:
		desc->flags ^= (uint16_t)(1u << entropy_below(entropy, 3));
		break;
	case 4:
		desc->next = (uint16_t)j;
		break;
	case 5:
		*desc = guest->desc[j];
		break;
	case 6:
		__atomic_store_n(&guest->avail->ring[i], (uint16_t)j, __ATOMIC_RELAXED);
		break;
	case 7:
		if (entropy_chance(entropy, 64))
			__atomic_store_n(&guest->avail->ring[i], (uint16_t)entropy_next(entropy),
					 __ATOMIC_RELAXED);
		break;
	case 8:
		if (entropy_chance(entropy, 16))
			__atomic_store_n(&guest->avail->idx,
					 (uint16_t)(guest->avail->idx + entropy_below(entropy, 4)),
					 __ATOMIC_RELEASE);
		break;
	case 9:
		__atomic_store_n(&guest->used->idx, (uint16_t)entropy_next(entropy),
				 __ATOMIC_RELAXED);
		break;
	default:
		((volatile uint8_t *)part->host)[entropy_below(entropy, (uint32_t)part->size)] =
			(uint8_t)entropy_next(entropy);
	}
}
