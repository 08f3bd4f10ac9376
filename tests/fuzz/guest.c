/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory and ring of the hostile guest; guest.h is the contract, guest_chain.c makes the chains. */
#include "driver.h"

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <string.h>

static uint32_t pick_ring_size(struct entropy *entropy, bool packed)
{
	uint32_t size = 1u << entropy_below(entropy, entropy_chance(entropy, 8) ? 11 : 9);

	if (entropy_chance(entropy, 64))
		size = 1u << entropy_below(entropy, 16);
	/* A packed ring need not be a power of two (2.8.10.1). */
	if (packed && size > 2 && entropy_chance(entropy, 2))
		size -= entropy_below(entropy, size / 2);
	return size;
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
	uint64_t at = 0, end = 0, base;
	uint32_t turn = entropy_below(entropy, guest->part_count);

	for (uint32_t i = 0; i < guest->part_count; i++) {
		struct guest_region *part = &guest->parts[(i + PART_DATA) % guest->part_count];
		bool data = i + PART_DATA < guest->part_count;

		part->guest = at;
		at += part->size;
		end = at;
		if (!(guest->wild || (data && i + PART_DATA + 1 < guest->part_count)) ||
		    entropy_chance(entropy, 2))
			at += 1 + entropy_below(entropy, 4096);
	}
	switch (entropy_below(entropy, 8)) {
	case 0:
		base = -end;
		break;
	case 1:
		base = (1ull << 32) - at / 2;
		break;
	case 2:
		base = (uint64_t)entropy_below(entropy, 1u << 20) << 12;
		break;
	default:
		base = (uint64_t)entropy_below(entropy, 256) << entropy_below(entropy, 13);
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
					     VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC,
					     VIRTIO_F_IN_ORDER };
	uint32_t chosen = entropy_below(guest->entropy, 32);

	for (unsigned int i = 0; i < 5; i++)
		if (chosen >> i & 1)
			guest->features |= 1ull << bits[i];
	if (guest->packed)
		guest->features |= 1ull << VIRTIO_F_RING_PACKED | 1ull << VIRTIO_F_VERSION_1;
	guest->header = guest->packed || chosen & 3 ? 12 : 10;
}

/* A log for all pages, or for some of them, or none. */
static void log_new(struct guest *guest)
{
	uint64_t end = 0;

	if (entropy_chance(guest->entropy, 2))
		return;
	for (uint32_t i = 0; i < guest->part_count; i++)
		if (guest->parts[i].guest + guest->parts[i].size > end)
			end = guest->parts[i].guest + guest->parts[i].size;
	guest->log.size = end / DIRTY_PAGE / 8 + 1;
	if (guest->log.size > 1 << 14 || entropy_chance(guest->entropy, 8))
		guest->log.size = 1 + entropy_below(guest->entropy, 64);
	guest->log.base = calloc(1, guest->log.size);
	CHECK(guest->log.base != NULL);
}

struct guest *guest_new(struct entropy *entropy, bool packed, bool wild, uint16_t write)
{
	struct guest *guest = calloc(1, sizeof(*guest));
	uint64_t sizes[3];
	uint32_t data;

	CHECK(guest != NULL);
	guest->entropy = entropy;
	guest->driver = packed ? &driver_packed : &driver_split;
	guest->packed = packed;
	guest->wild = wild;
	guest->write = write;
	guest->size = pick_ring_size(entropy, packed);
	pick_features(guest);
	guest->driver->measure(guest, sizes);
	for (int i = 0; i < 3; i++)
		part_new(guest, sizes[i]);
	if (entropy_chance(entropy, 8))
		guest->habit = 1 + entropy_below(entropy, 80);
	part_new(guest, 64 + entropy_below(entropy, guest->habit > 16 ? 100000 : 8192));
	data = 1 + entropy_below(entropy, PART_COUNT - PART_DATA);
	for (uint32_t i = 0; i < data; i++)
		part_new(guest, pick_data_size(entropy));
	lay_out(guest);
	log_new(guest);
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
	free(guest->log.base);
	free(guest);
}

static struct virtqueue_setup setup_of(struct guest *guest)
{
	struct virtqueue_setup setup = { .desc = guest->desc, .avail = guest->avail,
					 .used = guest->used, .size = guest->size,
					 .features = guest->features, .memory = &guest->memory,
					 .journal = &guest->journal };

	if (guest->log.base != NULL)
		setup.log = &guest->log;
	return setup;
}

/* Moves a part of the ring to where it does not lie in its region, or is not aligned. */
static void *misplace(struct guest *guest, void *part, uint64_t size)
{
	const struct guest_region *region =
		&guest->parts[entropy_below(guest->entropy, guest->part_count)];

	switch (entropy_below(guest->entropy, 4)) {
	case 0:
		return NULL;
	case 1:
		return (uint8_t *)part + 1;
	case 2:
		return &guest->entropy;
	default:
		return (void *)(((uintptr_t)region->host + region->size + 16 - size) & ~15ull);
	}
}

/* What a VMM says of a ring may be wrong; then it is refused before anything is touched. */
static void attach_wrongly(struct guest *guest)
{
	struct virtqueue_setup setup = setup_of(guest);
	struct virtqueue vq;
	const char *reason;
	uint64_t sizes[3];

	guest->driver->measure(guest, sizes);
	switch (entropy_below(guest->entropy, 5)) {
	case 0:
		setup.desc = misplace(guest, setup.desc, sizes[PART_DESC]);
		break;
	case 1:
		setup.avail = misplace(guest, setup.avail, sizes[PART_AVAIL]);
		break;
	case 2:
		setup.used = misplace(guest, setup.used, sizes[PART_USED]);
		break;
	case 3:
		setup.base = (uint16_t)guest->size;
		setup.size = guest->packed && guest->size <= 0x7fff ? guest->size : 0;
		break;
	default:
		setup.size = entropy_chance(guest->entropy, 2) ? 32769 : 0;
	}
	CHECK(virtqueue_init(&vq, &setup, &reason) != 0 && *reason != '\0');
}

/* With `recover` the base is not to be believed. */
static void attach(struct guest *guest, uint16_t base, bool recover)
{
	struct virtqueue_setup setup = setup_of(guest);
	const char *reason;

	setup.base = base;
	setup.recover = recover;
	CHECK(virtqueue_init(&guest->vq, &setup, &reason) == 0);
	CHECK(guest->vq.header_length == guest->header);
}

void guest_attach(struct guest *guest)
{
	uint16_t start = guest->driver->reset(guest);

	attach_wrongly(guest);
	/* What the journal says is of the ring that was there before. */
	attach(guest, start, entropy_chance(guest->entropy, 2));
	CHECK(virtqueue_base(&guest->vq) == start || guest->wild);
	guest->posted = virtqueue_base(&guest->vq);
	guest->desc_taken = 0;
	guest->table_taken = 0;
}

/* A base that is not to be believed. */
static uint16_t wrong_base(const struct guest *guest)
{
	return guest_forward(guest, 0, entropy_below(guest->entropy, guest->size));
}

void guest_move(struct guest *guest)
{
	bool recover = entropy_chance(guest->entropy, 2);
	uint16_t base = virtqueue_base(&guest->vq);

	attach(guest, recover || !guest->packed ? wrong_base(guest) : base, recover);
	CHECK(virtqueue_base(&guest->vq) == base || guest->wild);
}

void guest_take_over(struct guest *guest)
{
	attach(guest, wrong_base(guest), true);
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

uint64_t guest_address(const struct guest *guest, const void *at)
{
	const uint8_t *byte = at;

	for (uint32_t i = 0; i < guest->part_count; i++) {
		const struct guest_region *part = &guest->parts[i];

		if (byte >= part->host && byte < part->host + part->size)
			return part->guest + (uint64_t)(byte - part->host);
	}
	CHECK(false);
}

void guest_poke(struct guest *guest, struct entropy *entropy)
{
	uint32_t i = entropy_below(entropy, guest->size);
	uint32_t j = entropy_below(entropy, guest->size);
	struct vring_desc *descs = guest->desc;
	volatile struct vring_desc *desc = &descs[i];
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
		*desc = descs[j];
		break;
	case 5:
	case 6:
	case 7:
	case 8:
	case 9:
		guest->driver->poke(guest, entropy);
		break;
	default:
		((volatile uint8_t *)part->host)[entropy_below(entropy, (uint32_t)part->size)] =
			(uint8_t)entropy_next(entropy);
	}
}
