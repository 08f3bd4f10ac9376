/* SPDX-License-Identifier: BSD-3-Clause */
/* One scenario of the ring fuzzer; split.h is the contract. */
#include "split.h"

#include <linux/virtio_net.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "frame/parse.h"
#include "frame/vnet.h"
#include "guest.h"
#include "model.h"

/* Rounds without progress after which a guest sets its ring up anew. */
#define STUCK_MAX 4

struct scenario {
	struct entropy *entropy;
	struct guest *sender;
	struct guest *receiver;
	struct burst *burst;
	uint32_t stuck;
	bool foretold; /* both guests are tame, and no thread disturbs them */
	bool stop;     /* w: the scenario, r: its poking thread */
};

static bool is_inside(const struct guest *guest, const struct burst *burst, const struct view *view)
{
	for (uint32_t i = 0; i < guest->part_count; i++) {
		const struct guest_region *part = &guest->parts[i];

		if (view->address >= part->host && view->address < part->host + part->size)
			return view->length <= (size_t)(part->host + part->size - view->address);
	}
	return view->address >= burst->scratch &&
	       view->address + view->length <= burst->scratch + burst->scratch_used;
}

/* What holds for every frame, whatever the guest did. */
static void check_shape(const struct scenario *scenario, const struct frame *frame)
{
	uint32_t total = frame->head_length;

	CHECK(frame->verdict == VERDICT_DROP);
	CHECK(frame->head_length <= FRAME_HEAD_MAX);
	CHECK(frame->length <= FRAME_LENGTH_MAX);
	CHECK(frame->view_count == 0 || frame->head_length >= FRAME_HEAD_PLAIN);
	for (uint16_t i = 0; i < frame->view_count; i++) {
		CHECK(frame->views[i].length > 0);
		CHECK(is_inside(scenario->sender, scenario->burst, &frame->views[i]));
		total += frame->views[i].length;
	}
	CHECK(total == frame->length);
}

/* What later stages rely on once vnet_check has let a frame pass. */
static void check_vnet(const struct frame *frame, uint8_t allowed)
{
	const struct virtio_net_hdr *vnet = &frame->vnet;

	CHECK((vnet->flags & ~VIRTIO_NET_HDR_F_NEEDS_CSUM) == 0);
	CHECK((frame->needs & ~allowed) == 0);
	CHECK(!!(frame->needs & NEEDS_CHECKSUM) == (vnet->flags != 0));
	if (vnet->flags != 0) {
		CHECK(vnet->csum_start >= ETHERNET_HEADER);
		CHECK((uint32_t)vnet->csum_start + vnet->csum_offset + 2 <= frame->length);
	}
	if (vnet->gso_type == VIRTIO_NET_HDR_GSO_NONE) {
		CHECK(vnet->gso_size == 0 && vnet->hdr_len == 0 && frame->segments == 1);
		CHECK((frame->needs & ~NEEDS_CHECKSUM) == 0);
		return;
	}
	CHECK(vnet->flags != 0 && vnet->gso_size >= VNET_GSO_SIZE_MIN);
	CHECK(vnet->hdr_len > vnet->csum_start && vnet->hdr_len <= frame->head_length);
	CHECK(frame->segments >= 2 && frame->segments <= VNET_SEGMENTS_MAX);
	CHECK((uint32_t)frame->segments * vnet->gso_size >= frame->length - vnet->hdr_len);
	CHECK((frame->segments - 1u) * vnet->gso_size < frame->length - vnet->hdr_len);
}

/* As the worker does it. Returns whether the frame may be sent on. */
static bool accept_frame(struct frame *frame, uint8_t allowed)
{
	struct transport transport;

	if (frame->drop != DROP_NO_DESTINATION)
		return false;
	if (vnet_is_plain(&frame->vnet))
		memset(&frame->vnet, 0, sizeof(frame->vnet));
	else if (vnet_check(frame, allowed) != 0)
		return false;
	check_vnet(frame, allowed);
	if (parse_transport(frame, &transport) == 0)
		CHECK(transport.network + 20 <= frame->head_length);
	return frame->length >= ETHERNET_HEADER;
}

static void receive(struct scenario *scenario, uint16_t max)
{
	struct guest *guest = scenario->sender;
	struct burst *burst = scenario->burst;
	uint16_t avail = guest->vq.next_avail, used = guest->vq.next_used;
	uint64_t malformed = guest->vq.malformed;
	uint16_t bad = 0;

	if (entropy_chance(scenario->entropy, 4))
		virtqueue_rx_expect(&guest->vq, entropy_chance(scenario->entropy, 2));
	CHECK(virtqueue_rx_burst(&guest->vq, burst, max) == burst->count);
	CHECK(burst->count <= max && burst->count <= guest->size);
	CHECK((uint16_t)(guest->vq.next_avail - avail) == burst->count);
	CHECK((uint16_t)(guest->vq.next_used - used) == burst->count);
	CHECK(burst->view_count <= BURST_VIEWS + BURST_MAX);
	CHECK(burst->scratch_used <= BURST_SCRATCH);
	for (uint16_t i = 0; i < burst->count; i++) {
		check_shape(scenario, &burst->frames[i]);
		bad = (uint16_t)(bad + (burst->frames[i].drop != DROP_NO_DESTINATION));
	}
	CHECK(guest->vq.malformed - malformed == bad);
	if (scenario->foretold) {
		CHECK(guest->used->idx == used);
		model_check_rx(guest, burst, max);
	}
}

static void send(struct scenario *scenario, struct frame *const *frames, uint16_t count)
{
	struct guest *guest = scenario->receiver;
	struct tx_outcome outcome = { 0 };
	uint16_t first = guest->vq.next_used;
	struct model_tx expected;

	for (unsigned int step = 0; step < 3; step++)
		if (entropy_chance(scenario->entropy, 2))
			virtqueue_tx_expect(&guest->vq, step);
	if (scenario->foretold)
		model_foretell_tx(guest, frames, count, &expected);
	virtqueue_tx_burst(&guest->vq, frames, count, &outcome);
	CHECK(outcome.packets + outcome.too_long <= count);
	CHECK((uint16_t)(guest->vq.next_used - first) >= outcome.packets);
	CHECK(guest->vq.next_used == guest->vq.next_avail);
	if (scenario->foretold)
		model_check_tx(guest, &expected, &outcome, first);
}

static void interrupt(const struct scenario *scenario, struct guest *guest, uint16_t first)
{
	uint16_t last = guest->vq.next_used;
	bool wants = virtqueue_wants_interrupt(&guest->vq);

	if (scenario->foretold) {
		CHECK(guest->used->idx == last);
		CHECK(wants == model_wants_interrupt(guest, first, last));
	}
	CHECK(!virtqueue_wants_interrupt(&guest->vq));
}

/* A ring that was stopped is set up anew, and so is one that its guest itself keeps from moving. */
static void recover(struct scenario *scenario, bool moved)
{
	scenario->stuck = moved ? 0 : scenario->stuck + 1;
	if (scenario->sender->vq.fault != VIRTQUEUE_OK || scenario->stuck > STUCK_MAX)
		guest_attach(scenario->sender);
	if (scenario->receiver->vq.fault != VIRTQUEUE_OK || scenario->stuck > STUCK_MAX) {
		guest_attach(scenario->receiver);
		scenario->stuck = 0;
	}
}

static void run_burst(struct scenario *scenario)
{
	struct entropy *entropy = scenario->entropy;
	struct guest *sender = scenario->sender, *receiver = scenario->receiver;
	uint16_t most = entropy_chance(entropy, 4) ? BURST_MAX : 8;
	uint16_t max = (uint16_t)(1 + entropy_below(entropy, most));
	uint8_t allowed = (uint8_t)(entropy_chance(entropy, 4) ? entropy_below(entropy, NEEDS_ALL)
							       : NEEDS_ALL);
	uint16_t sender_first = sender->vq.next_used, receiver_first = receiver->vq.next_used;
	struct frame *frames[BURST_MAX];
	uint16_t count = 0;

	guest_post(sender, entropy_below(entropy, most + 1u));
	guest_post(receiver, entropy_below(entropy, most + 1u));
	receive(scenario, max);
	for (uint16_t i = 0; i < scenario->burst->count; i++) {
		struct frame *frame = &scenario->burst->frames[i];

		(void)parse_flow_hash(frame);
		if (accept_frame(frame, allowed))
			frames[count++] = frame;
	}
	send(scenario, frames, count);
	if (scenario->burst->count > 0)
		virtqueue_rx_release(&sender->vq);
	interrupt(scenario, sender, sender_first);
	interrupt(scenario, receiver, receiver_first);
	recover(scenario, receiver->vq.next_used != receiver_first);
}

static void *poke(void *argument)
{
	struct scenario *scenario = argument;
	struct entropy entropy;

	entropy_init(&entropy, (uint64_t)(uintptr_t)scenario, NULL, 0);
	while (!__atomic_load_n(&scenario->stop, __ATOMIC_RELAXED)) {
		guest_poke(scenario->sender, &entropy);
		guest_poke(scenario->receiver, &entropy);
	}
	return NULL;
}

uint64_t split_run(struct entropy *entropy, uint32_t bursts, bool pokes)
{
	bool wild = pokes || entropy_chance(entropy, 4);
	struct scenario scenario = { .entropy = entropy, .foretold = !wild };
	pthread_t thread;

	scenario.sender = guest_new(entropy, wild, 0);
	scenario.receiver = guest_new(entropy, wild, VRING_DESC_F_WRITE);
	scenario.burst = burst_new();
	CHECK(scenario.burst != NULL);
	if (pokes)
		CHECK(pthread_create(&thread, NULL, poke, &scenario) == 0);
	for (uint32_t i = 0; i < bursts; i++)
		run_burst(&scenario);
	__atomic_store_n(&scenario.stop, true, __ATOMIC_RELAXED);
	if (pokes)
		pthread_join(thread, NULL);
	burst_free(scenario.burst);
	guest_free(scenario.receiver);
	guest_free(scenario.sender);
	return bursts;
}
