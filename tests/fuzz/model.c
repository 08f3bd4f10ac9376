/* SPDX-License-Identifier: BSD-3-Clause */
/* The second opinion on rings; model.h is the contract. */
#include "model_ring.h"

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <string.h>

#include "frame/vnet.h"

/* A burst's frames in chains of so many pieces, or a chain of descriptors that cross regions. */
#define SPANS_MAX (BURST_MAX * VIRTQUEUE_PIECES_MAX + FRAME_LENGTH_MAX)

enum walk { WALK_END, WALK_ENOUGH, WALK_BAD, WALK_LONG };

/* Of the model that foretold last; those of received frames are of no use afterwards. */
static struct span spans[SPANS_MAX];
static uint8_t expected_bytes[FRAME_LENGTH_MAX + 12];

static const struct model_ring *ring_of(const struct guest *guest)
{
	return guest->packed ? &model_packed : &model_split;
}

struct model *model_new(struct guest *guest)
{
	struct model *model = calloc(1, sizeof(*model));

	CHECK(model != NULL);
	model->guest = guest;
	model->chains = calloc(guest->size, sizeof(model->chains[0]));
	model->must = calloc(1, guest->log.size + 1);
	model->may = calloc(1, guest->log.size + 1);
	CHECK(model->chains != NULL && model->must != NULL && model->may != NULL);
	for (uint32_t i = 0; i < guest->part_count; i++) {
		model->copy[i] = malloc(guest->parts[i].size);
		CHECK(model->copy[i] != NULL);
	}
	return model;
}

void model_free(struct model *model)
{
	for (uint32_t i = 0; i < PART_COUNT; i++)
		free(model->copy[i]);
	free(model->chains);
	free(model->must);
	free(model->may);
	free(model);
}

/* ---- memory and the dirty log ---- */

uint8_t *model_shadow(const struct guest *guest, const void *at)
{
	const uint8_t *byte = at;

	for (uint32_t i = 0; i < guest->part_count; i++) {
		const struct guest_region *part = &guest->parts[i];

		if (byte >= part->host && byte < part->host + part->size)
			return guest->shadow[i] + (byte - part->host);
	}
	CHECK(false);
}

static void note_pages(const struct model *model, uint8_t *log, const void *at, uint32_t length)
{
	uint64_t address = guest_address(model->guest, at);
	uint64_t page = address / DIRTY_PAGE;
	uint64_t count = length > 0 ? (address % DIRTY_PAGE + length - 1) / DIRTY_PAGE + 1 : 0;

	for (; count > 0 && page / 8 < model->guest->log.size; count--, page++)
		log[page / 8] |= (uint8_t)(1u << page % 8);
}

void model_accept(struct model *model, const void *at, uint32_t length)
{
	memcpy(model_shadow(model->guest, at), at, length);
	note_pages(model, model->must, at, length);
	note_pages(model, model->may, at, length);
}

void model_allow(struct model *model, const void *at, uint32_t length)
{
	note_pages(model, model->may, at, length);
}

/* The shadow is what memory should be in the end. */
static void check_memory(const struct model *model)
{
	const struct guest *guest = model->guest;

	for (uint32_t i = 0; i < guest->part_count; i++)
		CHECK(memcmp(guest->shadow[i], guest->parts[i].host, guest->parts[i].size) == 0);
	for (uint64_t i = 0; i < guest->log.size && !model->copied; i++) {
		CHECK((model->must[i] & ~guest->log.base[i]) == 0);
		CHECK((guest->log.base[i] & ~model->may[i]) == 0);
	}
}

void model_copy(struct model *model)
{
	const struct guest *guest = model->guest;

	for (uint32_t i = 0; i < guest->part_count; i++)
		memcpy(model->copy[i], guest->parts[i].host, guest->parts[i].size);
	if (guest->log.base != NULL)
		memset(guest->log.base, 0, guest->log.size);
	model->copied = true;
}

void model_check_copy(struct model *model)
{
	const struct guest *guest = model->guest;

	for (uint32_t i = 0; model->copied && i < guest->part_count; i++) {
		const struct guest_region *part = &guest->parts[i];

		for (uint64_t at = 0; at < part->size; at++) {
			uint64_t page = (part->guest + at) / DIRTY_PAGE;

			if (part->host[at] != model->copy[i][at] && page / 8 < guest->log.size)
				CHECK(guest->log.base[page / 8] >> page % 8 & 1);
		}
	}
	model->copied = false;
}

static void begin(struct model *model)
{
	struct guest *guest = model->guest;

	model->position = virtqueue_base(&guest->vq);
	model->unsure = false;
	model->stops = guest->vq.fault != VIRTQUEUE_OK; /* long since */
	model->count = 0;
	model->span_count = 0;
	model->copied = false;
	memset(&model->outcome, 0, sizeof(model->outcome));
	memset(model->must, 0, guest->log.size);
	memset(model->may, 0, guest->log.size);
	if (guest->log.base != NULL)
		memset(guest->log.base, 0, guest->log.size);
	for (uint32_t i = 0; i < guest->part_count; i++)
		memcpy(guest->shadow[i], guest->parts[i].host, guest->parts[i].size);
}

/* ---- chains ---- */

static struct span span_at(const struct guest *guest, uint64_t address, uint32_t length)
{
	struct span span = { 0 };
	uint64_t part;

	span.at = guest_find(guest, address, &part);
	if (span.at == NULL)
		return span;
	span.length = part < length ? (uint32_t)part : length;
	span.shadow = model_shadow(guest, span.at);
	return span;
}

/*
 * Is this an indirect table that the rules allow? Then *table is where it is: for a receiving guest
 * in the shadow, as the frames before may have been written over it.
 */
static bool table_is_good(const struct guest *guest, const struct step *step,
			  const uint8_t **table)
{
	struct span span = span_at(guest, step->address, step->length);

	*table = guest->write ? span.shadow : span.at;
	return guest_has(guest, VIRTIO_RING_F_INDIRECT_DESC) && !step->more && step->length > 0 &&
	       step->length % 16 == 0 && step->length / 16 <= guest->size && *table != NULL &&
	       span.length == step->length;
}

/*
 * Follows a chain until it ends, is found to be wrong, has given `enough` bytes or `most` spans, or
 * (if that is an error) holds more than `limit`. The spans are added to the model's.
 */
static enum walk walk_chain(struct model *model, struct chain *chain, uint32_t enough,
			    uint32_t limit, uint32_t most)
{
	const struct guest *guest = model->guest;
	const uint8_t *table = guest->desc;
	uint32_t table_size = guest->size, steps = 0, next = chain->head;
	uint64_t total = 0;
	bool indirect = false;
	struct step step;

	chain->first_span = model->span_count;
	chain->span_count = 0;
	for (;;) {
		if (next >= table_size || steps == table_size)
			return WALK_BAD;
		step = ring_of(guest)->step(table, next, table_size, indirect);
		if (step.indirect) {
			if (indirect || !table_is_good(guest, &step, &table))
				return WALK_BAD;
			indirect = true;
			table_size = step.length / 16;
			steps = 0;
			next = 0;
			continue;
		}
		steps++;
		if (step.write != (guest->write != 0) || step.length == 0)
			return WALK_BAD;
		while (step.length > 0) {
			struct span span = span_at(guest, step.address, step.length);

			if (span.at == NULL)
				return WALK_BAD;
			if (total + span.length > limit)
				return WALK_LONG;
			step.address += span.length;
			step.length -= span.length;
			if (span.length > enough - total)
				span.length = (uint32_t)(enough - total);
			total += span.length;
			CHECK(model->span_count < SPANS_MAX);
			spans[model->span_count++] = span;
			chain->span_count++;
			if (total == enough || chain->span_count == most)
				return WALK_ENOUGH;
		}
		if (!step.more)
			return WALK_END;
		next = step.next;
	}
}

uint32_t model_find(const struct model *model, uint32_t k, uint32_t id)
{
	CHECK(k < model->count);
	if (guest_has(model->guest, VIRTIO_F_IN_ORDER) && model->guest->write == 0)
		while (k < model->count && model->chains[k].id != id)
			k++;
	CHECK(k < model->count && model->chains[k].id == id);
	return k;
}

/* Adds the chain behind those that there are. */
static enum next add_chain(struct model *model)
{
	const struct guest *guest = model->guest;
	struct chain *chain = &model->chains[model->count];
	uint32_t slots = 0;
	enum next next;

	if (model->count > 0)
		slots = chain[-1].before + chain[-1].slots;
	/* If they fill the ring, then what stands behind them are they themselves. */
	if (slots == guest->size || guest->vq.fault != VIRTQUEUE_OK)
		return NEXT_NONE;
	next = ring_of(guest)->next(guest, guest_forward(guest, model->position, slots), chain);
	if (next == NEXT_STOPS || next == NEXT_JUMPED)
		model->stops = true;
	if (next != NEXT_CHAIN)
		return next;
	/* A chain that runs into those before it is read while these are being returned. */
	if (slots + chain->slots > guest->size) {
		model->unsure = true;
		return NEXT_NONE;
	}
	chain->before = slots;
	chain->length = 0;
	chain->span_count = 0;
	chain->frame = UINT16_MAX;
	model->count++;
	return next;
}

/*
 * Reads what was returned, as a driver does. Returns how many of the chains were; they must be all
 * up to where the switch says that it stands.
 */
static uint32_t collect(struct model *model, bool died)
{
	const struct guest *guest = model->guest;
	uint16_t position = model->position;
	uint32_t k = 0, count, length = 0;

	while ((count = ring_of(guest)->returned(model, k, position, &length)) > 0) {
		/* 2.7.9 and 2.8.9: of a batch nobody learns how much was written. */
		CHECK(guest->write == 0 || count == 1);
		CHECK(length == model->chains[k].length || (died && length == 0));
		model->chains[k].length = length;
		for (uint32_t end = k + count; k < end; k++)
			position = guest_forward(guest, position, model->chains[k].slots);
	}
	CHECK(position == virtqueue_base(&guest->vq));
	ring_of(guest)->forgive(model);
	return k;
}

/* ---- rx ---- */

/* What becomes of a chain: its bytes are in expected_bytes. Returns the reason to drop it. */
static enum drop make_frame(struct model *model, struct chain *chain, uint32_t *total)
{
	const uint32_t header = model->guest->header;
	enum walk walk;

	model->span_count = 0;
	walk = walk_chain(model, chain, UINT32_MAX, header + FRAME_LENGTH_MAX, UINT32_MAX);
	*total = 0;
	for (uint32_t i = 0; walk == WALK_END && i < model->span_count; i++) {
		memcpy(expected_bytes + *total, spans[i].at, spans[i].length);
		*total += spans[i].length;
	}
	if (walk == WALK_LONG)
		return DROP_TOO_LONG;
	return walk == WALK_END && *total >= header ? DROP_NO_DESTINATION : DROP_MALFORMED;
}

/* What a limit charges before the header is checked: each segment may bring 256 bytes again. */
static struct charge charge_of(const struct guest *guest, enum drop drop, uint32_t total)
{
	struct virtio_net_hdr vnet;
	struct charge charge = { total - guest->header, 1 };

	if (drop != DROP_NO_DESTINATION)
		return (struct charge){ 0, 0 };
	memcpy(&vnet, expected_bytes, sizeof(vnet));
	if (vnet.gso_type != VIRTIO_NET_HDR_GSO_NONE && vnet.gso_size >= VNET_GSO_SIZE_MIN) {
		charge.packets += charge.bytes / (vnet.gso_size / 8u * 8u);
		charge.bytes += (charge.packets - 1) * FRAME_HEAD_MAX;
	}
	return charge;
}

/* Is there enough left for the next frame? The first one may exceed it. */
static bool admits(struct model *model, struct charge charge)
{
	struct charge *budget = &model->budget;

	if (budget->bytes == BURST_UNLIMITED)
		return true;
	model->held = model->count > 1 &&
		      (charge.bytes > budget->bytes || charge.packets > budget->packets);
	if (model->held)
		return false;
	budget->bytes -= charge.bytes < budget->bytes ? charge.bytes : budget->bytes;
	budget->packets -= charge.packets < budget->packets ? charge.packets : budget->packets;
	return true;
}

void model_foretell_rx(struct model *model, uint16_t max, struct charge budget)
{
	begin(model);
	model->max = max;
	model->budget = budget;
	model->held = false;
	if (budget.bytes == 0) {
		/* Something that stops the ring may be seen, or only that there is something. */
		model->held = add_chain(model) == NEXT_CHAIN;
		model->unsure = model->stops;
		model->count = 0;
		return;
	}
	while (model->count < max && add_chain(model) == NEXT_CHAIN) {
		struct chain *chain = &model->chains[model->count - 1];
		uint32_t total;
		enum drop drop = make_frame(model, chain, &total);

		if (!admits(model, charge_of(model->guest, drop, total))) {
			model->count--;
			break;
		}
	}
}

static void check_frame(struct model *model, struct chain *chain, const struct burst *burst,
			const struct frame *frame)
{
	const uint32_t header = model->guest->header;
	uint32_t total, at;
	enum drop drop = make_frame(model, chain, &total);

	CHECK(frame->verdict == VERDICT_DROP);
	CHECK(frame->drop == drop);
	if (drop != DROP_NO_DESTINATION) {
		CHECK(frame->length == 0 && frame->head_length == 0 && frame->view_count == 0);
		return;
	}
	CHECK(frame->length == total - header);
	CHECK(burst->offloads || vnet_is_plain(&frame->vnet));
	/* A header that asks for nothing says nothing. */
	if (expected_bytes[0] == 0 && expected_bytes[1] == VIRTIO_NET_HDR_GSO_NONE)
		memset(expected_bytes, 0, sizeof(frame->vnet));
	CHECK(memcmp(&frame->vnet, expected_bytes, sizeof(frame->vnet)) == 0);
	CHECK(memcmp(frame->head, expected_bytes + header, frame->head_length) == 0);
	at = header + frame->head_length;
	for (uint16_t i = 0; i < frame->view_count; i++) {
		CHECK(memcmp(frame->views[i].address, expected_bytes + at,
			     frame->views[i].length) == 0);
		at += frame->views[i].length;
	}
	CHECK(at == total);
}

/* A burst ends early only where the views, scratch memory or time run out. */
static bool is_full(const struct model *model, const struct burst *burst)
{
	const struct chain *last = &model->chains[burst->count - 1];

	return burst->view_count + FRAME_VIEWS_MAX > BURST_VIEWS ||
	       burst->scratch_used + FRAME_LENGTH_MAX + 64 > BURST_SCRATCH ||
	       model->guest->vq.walked >= VIRTQUEUE_WALK_MAX ||
	       last->before + last->slots >= VIRTQUEUE_WALK_MAX;
}

void model_check_rx(struct model *model, const struct burst *burst)
{
	const struct guest *guest = model->guest;
	const bool full = burst->count > 0 && is_full(model, burst);
	uint32_t length;

	if (model->unsure)
		return;
	CHECK(burst->count == model->count || (full && burst->count < model->count));
	/* Of two reasons to end either may be seen first. */
	CHECK(burst->held == model->held || (full && !burst->held));
	if (burst->count == model->count) {
		CHECK(model->budget.bytes == burst->budget.bytes &&
		      model->budget.packets == burst->budget.packets);
		/* Whether it is seen already is open, where the limit lets nobody look on. */
		if (!model->held)
			CHECK((guest->vq.fault != VIRTQUEUE_OK) ==
			      (model->stops && model->count < model->max));
	}
	model->count = burst->count;
	for (uint16_t i = 0; i < burst->count; i++)
		check_frame(model, &model->chains[i], burst, &burst->frames[i]);
	/* Nothing is returned yet. */
	if (burst->count > 0)
		CHECK(ring_of(guest)->returned(model, 0, model->position, &length) == 0);
}

void model_check_release(struct model *model)
{
	if (model->unsure)
		return;
	CHECK(collect(model, false) == model->count);
	check_memory(model);
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

/* Finds the chains for one frame. Returns how many, 0 for none yet, or -1 if it is too long. */
static int find_chains(struct model *model, uint32_t wanted, uint16_t frame)
{
	const struct guest *guest = model->guest;
	uint32_t start = model->count, first_span = model->span_count, bytes = 0, slots = 0;

	for (;;) {
		struct chain *chain = &model->chains[model->count];
		uint32_t before = model->span_count;
		enum next next = add_chain(model);

		/* The switch may not have seen the available index yet. */
		model->unsure |= next == NEXT_JUMPED;
		if (next != NEXT_CHAIN) {
			model->count = start;
			model->span_count = first_span;
			/* All that there can be is there, and is not enough. */
			return slots == guest->size && !model->stops ? -1 : 0;
		}
		slots += chain->slots;
		if (walk_chain(model, chain, wanted - bytes, UINT32_MAX,
			       VIRTQUEUE_PIECES_MAX - (before - first_span)) == WALK_BAD) {
			for (uint32_t i = start; i < model->count; i++) {
				model->chains[i].length = 0;
				model->chains[i].span_count = 0;
				model->chains[i].frame = UINT16_MAX;
			}
			start = model->count;
			model->span_count = first_span;
			bytes = slots = 0;
			continue;
		}
		chain->frame = frame;
		for (uint32_t i = before; i < model->span_count; i++)
			chain->length += spans[i].length;
		bytes += chain->length;
		if (bytes == wanted)
			return (int)(model->count - start);
		if (!guest_has(guest, VIRTIO_NET_F_MRG_RXBUF) ||
		    model->span_count - first_span == VIRTQUEUE_PIECES_MAX) {
			model->count = start;
			model->span_count = first_span;
			return -1;
		}
	}
}

void model_foretell_tx(struct model *model, struct frame *const *frames, uint16_t count)
{
	const struct guest *guest = model->guest;

	begin(model);
	for (uint16_t i = 0; i < count; i++) {
		uint32_t wanted = frame_bytes(guest, frames[i]), at = 0;
		uint32_t span = model->span_count;
		int chains = find_chains(model, wanted, i);

		if (chains == 0)
			return;
		if (chains < 0) {
			model->outcome.too_long++;
			continue;
		}
		if (guest->header == 12)
			memcpy(expected_bytes + 10, &(uint16_t){ (uint16_t)chains }, 2);
		for (; span < model->span_count; span++) {
			const struct span *to = &spans[span];

			memcpy(to->shadow, expected_bytes + at, to->length);
			note_pages(model, model->must, to->at, to->length);
			note_pages(model, model->may, to->at, to->length);
			at += to->length;
		}
		CHECK(at == wanted);
		model->outcome.packets++;
		model->outcome.segments += frames[i]->segments;
		model->outcome.bytes += frames[i]->length;
	}
}

void model_check_tx(struct model *model, const struct tx_outcome *outcome)
{
	/* Such a burst ends early, which the model does not. */
	if (model->guest->vq.fault != VIRTQUEUE_OK ||
	    model->guest->vq.walked >= VIRTQUEUE_WALK_MAX || model->unsure)
		return;
	CHECK(!model->stops);
	CHECK(outcome->packets == model->outcome.packets);
	CHECK(outcome->too_long == model->outcome.too_long);
	CHECK(outcome->segments == model->outcome.segments);
	CHECK(outcome->bytes == model->outcome.bytes);
	CHECK(collect(model, false) == model->count);
	check_memory(model);
}

/* ---- the switch dies ---- */

void model_check_death(struct model *model)
{
	const struct guest *guest = model->guest;
	uint32_t returned;

	if (model->unsure || model->stops)
		return;
	returned = collect(model, true);
	for (uint32_t i = 0; i < model->count; i++) {
		struct chain *chain = &model->chains[i];
		bool lost = i >= returned || chain->length == 0;

		/* A frame comes whole or not at all. */
		if (i > 0 && chain->frame != UINT16_MAX && chain->frame == chain[-1].frame)
			CHECK(lost == (i - 1 >= returned || chain[-1].length == 0));
		for (uint32_t j = 0; lost && j < chain->span_count; j++) {
			const struct span *span = &spans[chain->first_span + j];

			memcpy(span->shadow, span->at, span->length);
		}
	}
	for (uint32_t i = 0; i < guest->part_count; i++)
		if (i != PART_USED)
			CHECK(memcmp(guest->shadow[i], guest->parts[i].host,
				     guest->parts[i].size) == 0);
}

bool model_wants_interrupt(const struct guest *guest, uint16_t first, uint16_t last)
{
	return first != last && ring_of(guest)->wants_interrupt(guest, first, last);
}
