/* SPDX-License-Identifier: BSD-3-Clause */
/* The second opinion on split rings; model.h is the contract. */
#include "model.h"

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <string.h>

#define SPANS_MAX 70000

/* Contiguous bytes of a guest's buffer, and where the shadow of them is. */
struct span {
	uint8_t *at;
	uint8_t *shadow;
	uint32_t length;
};

enum walk { WALK_END, WALK_ENOUGH, WALK_BAD, WALK_LONG };

static struct span spans[SPANS_MAX];
static uint8_t expected_bytes[FRAME_LENGTH_MAX + 12];
static vring_used_elem_t expected_used[65536];

static struct span span_at(const struct guest *guest, uint64_t address, uint32_t length)
{
	struct span span = { 0 };
	uint64_t part;

	span.at = guest_find(guest, address, &part);
	if (span.at == NULL)
		return span;
	span.length = part < length ? (uint32_t)part : length;
	for (uint32_t i = 0; i < guest->part_count; i++) {
		uint64_t offset = (uint64_t)(span.at - guest->parts[i].host);

		if (span.at >= guest->parts[i].host && offset < guest->parts[i].size)
			span.shadow = guest->shadow[i] + offset;
	}
	return span;
}

/*
 * Is this an indirect table that the rules allow? Then *table is where it is: for a receiving guest
 * in the shadow, as the frames before may have been written over it.
 */
static bool table_is_good(const struct guest *guest, const struct vring_desc *desc,
			  const uint8_t **table)
{
	struct span span = span_at(guest, desc->addr, desc->len);

	*table = guest->write ? span.shadow : span.at;
	return guest->features >> VIRTIO_RING_F_INDIRECT_DESC & 1 &&
	       !(desc->flags & VRING_DESC_F_NEXT) && desc->len > 0 && desc->len % 16 == 0 &&
	       desc->len / 16 <= guest->size && *table != NULL && span.length == desc->len;
}

/*
 * Follows a chain until it ends, is found to be wrong, has given `enough` bytes or `most` spans, or
 * (if that is an error) holds more than `limit`.
 */
static enum walk walk_chain(const struct guest *guest, uint16_t head, uint32_t enough,
			    uint32_t limit, uint32_t most, uint32_t *count)
{
	const uint8_t *table = (const uint8_t *)guest->desc;
	uint32_t table_size = guest->size, steps = 0, next = head;
	uint64_t total = 0;
	bool indirect = false;
	struct vring_desc desc;

	*count = 0;
	for (;;) {
		if (next >= table_size || steps == table_size)
			return WALK_BAD;
		memcpy(&desc, table + next * 16, 16);
		if (desc.flags & VRING_DESC_F_INDIRECT) {
			if (indirect || !table_is_good(guest, &desc, &table))
				return WALK_BAD;
			indirect = true;
			table_size = desc.len / 16;
			steps = 0;
			next = 0;
			continue;
		}
		steps++;
		if ((desc.flags & VRING_DESC_F_WRITE) != guest->write || desc.len == 0)
			return WALK_BAD;
		while (desc.len > 0) {
			struct span span = span_at(guest, desc.addr, desc.len);

			if (span.at == NULL)
				return WALK_BAD;
			if (total + span.length > limit)
				return WALK_LONG;
			desc.addr += span.length;
			desc.len -= span.length;
			if (span.length > enough - total)
				span.length = (uint32_t)(enough - total);
			total += span.length;
			spans[(*count)++] = span;
			if (total == enough || *count == most)
				return WALK_ENOUGH;
		}
		if (!(desc.flags & VRING_DESC_F_NEXT))
			return WALK_END;
		next = desc.next;
	}
}

static uint16_t waiting(const struct guest *guest, uint16_t next_avail)
{
	return (uint16_t)(guest->avail->idx - next_avail);
}

/* ---- rx ---- */

static void check_frame(const struct guest *guest, const struct frame *frame, uint16_t head)
{
	uint32_t limit = guest->header + FRAME_LENGTH_MAX, count, total = 0, at;
	enum walk walk = walk_chain(guest, head, UINT32_MAX, limit, SPANS_MAX, &count);

	for (uint32_t i = 0; walk == WALK_END && i < count; i++) {
		memcpy(expected_bytes + total, spans[i].at, spans[i].length);
		total += spans[i].length;
	}
	CHECK(frame->verdict == VERDICT_DROP);
	if (walk != WALK_END || total < guest->header) {
		CHECK(frame->drop == (walk == WALK_LONG ? DROP_TOO_LONG : DROP_MALFORMED));
		CHECK(frame->length == 0 && frame->head_length == 0 && frame->view_count == 0);
		return;
	}
	CHECK(frame->drop == DROP_NO_DESTINATION);
	CHECK(frame->length == total - guest->header);
	CHECK(memcmp(&frame->vnet, expected_bytes, sizeof(frame->vnet)) == 0);
	CHECK(memcmp(frame->head, expected_bytes + guest->header, frame->head_length) == 0);
	at = guest->header + frame->head_length;
	for (uint16_t i = 0; i < frame->view_count; i++) {
		CHECK(memcmp(frame->views[i].address, expected_bytes + at,
			     frame->views[i].length) == 0);
		at += frame->views[i].length;
	}
	CHECK(at == total);
}

void model_check_rx(const struct guest *guest, const struct burst *burst, uint16_t max)
{
	uint16_t first = (uint16_t)(guest->vq.next_avail - burst->count);
	uint16_t count = waiting(guest, first);
	uint16_t mask = (uint16_t)(guest->size - 1);

	if (count > guest->size) {
		CHECK(burst->count == 0 && guest->vq.fault == VIRTQUEUE_BAD_AVAIL);
		return;
	}
	for (uint16_t i = 0; i < count && i < max; i++)
		if (guest->avail->ring[(first + i) & mask] >= guest->size) {
			CHECK(guest->vq.fault == VIRTQUEUE_BAD_HEAD);
			count = i;
		}
	if (count > max)
		count = max;
	/* A burst ends early only where the views, the scratch memory or the time run out. */
	CHECK(burst->count == count ||
	      (burst->count > 0 && burst->count < count &&
	       (burst->view_count + FRAME_VIEWS_MAX > BURST_VIEWS ||
		burst->scratch_used + FRAME_LENGTH_MAX + 64 > BURST_SCRATCH ||
		guest->vq.walked >= VIRTQUEUE_WALK_MAX)));
	for (uint16_t i = 0; i < burst->count; i++) {
		uint16_t head = guest->avail->ring[(first + i) & mask];

		check_frame(guest, &burst->frames[i], head);
		CHECK(guest->used->ring[(first + i) & mask].id == head);
		CHECK(guest->used->ring[(first + i) & mask].len == 0);
	}
}

/* ---- tx ---- */

/* The bytes that a frame should become, with its offload header. */
static uint32_t frame_bytes(const struct guest *guest, const struct frame *frame)
{
	uint32_t at = guest->header;

	memcpy(expected_bytes, &frame->vnet, sizeof(frame->vnet));
	memcpy(expected_bytes + at, frame->head, frame->head_length);
	at += frame->head_length;
	for (uint16_t i = 0; i < frame->view_count; i++) {
		memcpy(expected_bytes + at, frame->views[i].address, frame->views[i].length);
		at += frame->views[i].length;
	}
	return at;
}

static void use(struct model_tx *expected, uint16_t head, uint32_t length)
{
	expected_used[expected->used_count].id = head;
	expected_used[expected->used_count++].len = length;
}

/* Finds the chains for one frame. Returns how many, 0 for none yet, or -1 if it is too long. */
static int find_chains(struct guest *guest, struct model_tx *expected, uint32_t wanted,
		       struct span *found, uint32_t *found_count)
{
	uint16_t mask = (uint16_t)(guest->size - 1);
	uint32_t start = expected->used_count, bytes = 0, chains = 0;

	*found_count = 0;
	for (;;) {
		uint16_t position = (uint16_t)(guest->vq.next_avail + expected->used_count);
		uint32_t before = bytes, count;
		uint16_t head;
		enum walk walk;

		if (waiting(guest, position) == 0) {
			expected->used_count = start;
			return chains == guest->size ? -1 : 0;
		}
		head = guest->avail->ring[position & mask];
		if (head >= guest->size) {
			expected->stops = true;
			expected->used_count = start;
			return 0;
		}
		walk = walk_chain(guest, head, wanted - bytes, UINT32_MAX,
				  VIRTQUEUE_PIECES_MAX - *found_count, &count);
		if (walk == WALK_BAD) {
			for (uint32_t i = start; i < expected->used_count; i++)
				expected_used[i].len = 0;
			use(expected, head, 0);
			start = expected->used_count;
			bytes = chains = *found_count = 0;
			continue;
		}
		for (uint32_t i = 0; i < count; i++) {
			bytes += spans[i].length;
			found[(*found_count)++] = spans[i];
		}
		use(expected, head, bytes - before);
		chains++;
		if (bytes == wanted)
			return (int)chains;
		if (!(guest->features >> VIRTIO_NET_F_MRG_RXBUF & 1) ||
		    *found_count == VIRTQUEUE_PIECES_MAX) {
			expected->used_count = start;
			return -1;
		}
	}
}

void model_foretell_tx(struct guest *guest, struct frame *const *frames, uint16_t count,
		       struct model_tx *expected)
{
	static struct span found[VIRTQUEUE_PIECES_MAX];

	memset(expected, 0, sizeof(*expected));
	for (uint32_t i = 0; i < guest->part_count; i++)
		memcpy(guest->shadow[i], guest->parts[i].host, guest->parts[i].size);
	expected->unsure = waiting(guest, guest->vq.next_avail) > guest->size;
	for (uint16_t i = 0; i < count && !expected->unsure; i++) {
		uint32_t wanted = frame_bytes(guest, frames[i]), found_count, at = 0;
		int chains = find_chains(guest, expected, wanted, found, &found_count);

		if (chains == 0)
			return;
		if (chains < 0) {
			expected->too_long++;
			continue;
		}
		if (guest->header == 12)
			memcpy(expected_bytes + 10, &(uint16_t){ (uint16_t)chains }, 2);
		for (uint32_t j = 0; j < found_count; j++) {
			memcpy(found[j].shadow, expected_bytes + at, found[j].length);
			at += found[j].length;
		}
		CHECK(at == wanted);
		expected->packets++;
		expected->segments += frames[i]->segments;
		expected->bytes += frames[i]->length;
	}
}

void model_check_tx(const struct guest *guest, const struct model_tx *expected,
		    const struct tx_outcome *outcome, uint16_t first)
{
	/* Such a burst ends early, which the model does not. */
	if (guest->vq.fault != VIRTQUEUE_OK || guest->vq.walked >= VIRTQUEUE_WALK_MAX)
		return;
	CHECK(!expected->stops);
	if (expected->unsure)
		return;
	CHECK(outcome->packets == expected->packets);
	CHECK(outcome->too_long == expected->too_long);
	CHECK(outcome->segments == expected->segments);
	CHECK(outcome->bytes == expected->bytes);
	CHECK((uint16_t)(guest->used->idx - first) == expected->used_count);
	for (uint32_t i = 0; i < expected->used_count; i++) {
		const vring_used_elem_t *used = &guest->used->ring[(first + i) & (guest->size - 1)];

		CHECK(used->id == expected_used[i].id);
		CHECK(used->len == expected_used[i].len);
	}
	for (uint32_t i = 0; i < guest->part_count; i++)
		if (i != PART_USED)
			CHECK(memcmp(guest->shadow[i], guest->parts[i].host,
				     guest->parts[i].size) == 0);
}

bool model_wants_interrupt(const struct guest *guest, uint16_t first, uint16_t last)
{
	if (first == last)
		return false;
	if (!(guest->features >> VIRTIO_RING_F_EVENT_IDX & 1))
		return !(guest->avail->flags & VRING_AVAIL_F_NO_INTERRUPT);
	/* virtio 1.2, 2.7.7.2: one of the entries just used is what the driver waits for. */
	for (uint16_t entry = first; entry != last; entry++)
		if (entry == guest->avail->ring[guest->size])
			return true;
	return false;
}
