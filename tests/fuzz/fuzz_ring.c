/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The ring fuzzer: one guest sends, another receives, each over a ring of either layout; both lie,
 * and the switch's own code stands between them. Now and then the switch dies at some instruction
 * and another one takes the rings over.
 */
#include <linux/virtio_net.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frame/parse.h"
#include "frame/vnet.h"
#include "model.h"
#include "step.h"
#include "target.h"

/* Bursts that are made of a seed, and of an input. */
#define SEED_BURSTS 64
#define INPUT_BURSTS 8

/* Rounds without progress after which a guest sets its ring up anew. */
#define STUCK_MAX 4

/* One scenario in so many has a thread that changes memory meanwhile. */
#define POKES_EVERY 8

/* And in one of so many others the switch is interrupted, in one burst of so many. */
#define INTERRUPTED_EVERY 32
#define INTERRUPTED_BURSTS 4
#define STEPS_MAX 16384

/* Bytes of a ring, and of a log, whose changes are good moments for that. */
#define WATCHED_MAX 1024

const char target_name[] = "ring";
const char target_unit[] = "bursts";

static bool may_be_split = true, may_be_packed = true;

struct side {
	struct guest *guest;
	struct model *model;
	uint16_t first; /* the position when the burst began */
};

struct scenario {
	struct entropy *entropy;
	struct side sender, receiver;
	struct burst *burst;
	uint32_t stuck;
	bool foretold;    /* both guests are tame, and no thread disturbs them */
	bool interrupted; /* the switch is, now and then */
	bool stop;        /* w: the scenario, r: its poking thread */

	/* The burst that is under way. */
	uint32_t call;    /* which of its calls is interrupted; 0: none */
	bool dies;        /* when it is interrupted; else the VMM takes a look */
	uint32_t steps;   /* instructions until then */
	uint32_t changes; /* or changes of what is watched, if that is not 0 and comes first */
	uint8_t watched[2][2][WATCHED_MAX];
	uint16_t max;
	struct frame *frames[BURST_MAX];
	uint16_t count;
	struct tx_outcome outcome;
};

static bool is_inside(const struct scenario *scenario, const struct view *view)
{
	const struct guest *guest = scenario->sender.guest;
	const struct burst *burst = scenario->burst;

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
		CHECK(is_inside(scenario, &frame->views[i]));
		total += frame->views[i].length;
	}
	CHECK(total == frame->length);
}

/* What later stages rely on once vnet_check has let a frame pass. */
static void check_vnet(const struct frame *frame, uint8_t allowed)
{
	const struct virtio_net_hdr *vnet = &frame->vnet;
	uint32_t cut;

	CHECK(vnet->flags == (frame->needs & NEEDS_CHECKSUM ? VIRTIO_NET_HDR_F_NEEDS_CSUM :
			      frame->needs & NEEDS_VALID ? VIRTIO_NET_HDR_F_DATA_VALID : 0));
	CHECK((frame->needs & ~allowed & ~NEEDS_FILL) == 0);
	if (frame->needs & NEEDS_CHECKSUM) {
		CHECK(vnet->csum_start >= ETHERNET_HEADER);
		CHECK((uint32_t)vnet->csum_start + vnet->csum_offset + 2 <= frame->length);
	}
	if (vnet->gso_type == VIRTIO_NET_HDR_GSO_NONE) {
		CHECK(vnet->gso_size == 0 && vnet->hdr_len == 0 && frame->segments == 1);
		CHECK((frame->needs & ~(NEEDS_CHECKSUM | NEEDS_FILL | NEEDS_VALID)) == 0);
		return;
	}
	CHECK(frame->needs & NEEDS_CHECKSUM && vnet->gso_size >= VNET_GSO_SIZE_MIN);
	CHECK(vnet->hdr_len > vnet->csum_start && vnet->hdr_len <= frame->head_length);
	CHECK(frame->segments >= 2 && frame->segments <= VNET_SEGMENTS_MAX);
	cut = frame->length - (frame->needs & NEEDS_UFO ? vnet->csum_start : vnet->hdr_len);
	CHECK((uint32_t)frame->segments * vnet->gso_size >= cut);
	CHECK((frame->segments - 1u) * vnet->gso_size < cut);
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

/* ---- the switch's calls, which may end in the middle ---- */

static void call_rx(void *argument)
{
	struct scenario *scenario = argument;
	struct virtqueue *vq = &scenario->sender.guest->vq;

	CHECK(virtqueue_rx_burst(vq, scenario->burst, scenario->max) == scenario->burst->count);
}

static void call_release(void *argument)
{
	virtqueue_rx_release(&((struct scenario *)argument)->sender.guest->vq);
}

static void call_tx(void *argument)
{
	struct scenario *scenario = argument;

	virtqueue_tx_burst(&scenario->receiver.guest->vq, scenario->frames, scenario->count,
			   &scenario->outcome);
}

static void call_take_over(void *argument)
{
	struct scenario *scenario = argument;

	guest_take_over(scenario->sender.guest);
	guest_take_over(scenario->receiver.guest);
}

/* Has the ring or the log changed since the last look? */
static bool has_changed(const struct guest *guest, uint8_t watched[2][WATCHED_MAX])
{
	const struct guest_region *ring = &guest->parts[guest->packed ? PART_DESC : PART_USED];
	const size_t sizes[2] = { ring->size < WATCHED_MAX ? ring->size : WATCHED_MAX,
				  guest->log.size < WATCHED_MAX ? guest->log.size : WATCHED_MAX };
	const uint8_t *parts[2] = { ring->host, guest->log.base };
	bool changed = false;

	for (int i = 0; i < 2; i++) {
		if (sizes[i] == 0 || memcmp(watched[i], parts[i], sizes[i]) == 0)
			continue;
		memcpy(watched[i], parts[i], sizes[i]);
		changed = true;
	}
	return changed;
}

/* At the moment that was chosen the switch dies, or the VMM copies memory and clears the log. */
static enum step_next reached(void *argument)
{
	struct scenario *scenario = argument;
	bool sender = has_changed(scenario->sender.guest, scenario->watched[0]);
	bool receiver = has_changed(scenario->receiver.guest, scenario->watched[1]);

	if (scenario->changes > 0 && (sender || receiver) && --scenario->changes == 0)
		scenario->steps = 0;
	if (scenario->steps-- > 0)
		return STEP_ON;
	if (scenario->dies)
		return STEP_DIE;
	model_copy(scenario->sender.model);
	model_copy(scenario->receiver.model);
	return STEP_FREE;
}

/* Runs a call of the switch. False: it died in it. */
static bool survives(struct scenario *scenario, void (*call)(void *argument))
{
	if (scenario->call == 0 || --scenario->call > 0) {
		call(scenario);
		return true;
	}
	scenario->steps = STEPS_MAX;
	scenario->changes = 0;
	if (entropy_chance(scenario->entropy, 4))
		scenario->steps = entropy_below(scenario->entropy,
						64u << entropy_below(scenario->entropy, 7));
	else
		do {
			scenario->changes++;
		} while (entropy_chance(scenario->entropy, 2));
	(void)has_changed(scenario->sender.guest, scenario->watched[0]);
	(void)has_changed(scenario->receiver.guest, scenario->watched[1]);
	return step_run(call, reached, scenario);
}

/* Another switch takes the rings over, unless it dies as well. */
static void take_over(struct scenario *scenario)
{
	do {
		scenario->call = entropy_chance(scenario->entropy, 2);
	} while (!survives(scenario, call_take_over));
	if (scenario->foretold) {
		model_check_death(scenario->sender.model);
		model_check_death(scenario->receiver.model);
	}
}

/* ---- a burst ---- */

static bool receive(struct scenario *scenario)
{
	struct guest *guest = scenario->sender.guest;
	struct burst *burst = scenario->burst;
	uint64_t malformed = guest->vq.malformed;
	uint16_t bad = 0;

	if (entropy_chance(scenario->entropy, 4))
		virtqueue_rx_expect(&guest->vq, entropy_chance(scenario->entropy, 2));
	burst->held = false;
	burst->budget = (struct charge){ BURST_UNLIMITED, BURST_UNLIMITED };
	if (entropy_chance(scenario->entropy, 4)) {
		burst->budget.bytes = entropy_below(scenario->entropy, 4096) *
				      entropy_below(scenario->entropy, 32);
		/* None of one is none of the other. */
		burst->budget.packets = burst->budget.bytes % 64;
		if (burst->budget.packets == 0)
			burst->budget.bytes = 0;
	}
	if (scenario->foretold) {
		model_foretell_rx(scenario->sender.model, scenario->max, burst->budget);
		/* So far nothing is to come here. */
		model_foretell_tx(scenario->receiver.model, NULL, 0);
	}
	if (!survives(scenario, call_rx))
		return false;
	CHECK(burst->count <= scenario->max && burst->count <= guest->size);
	CHECK(burst->view_count <= BURST_VIEWS + BURST_MAX);
	CHECK(burst->scratch_used <= BURST_SCRATCH);
	for (uint16_t i = 0; i < burst->count; i++) {
		check_shape(scenario, &burst->frames[i]);
		bad = (uint16_t)(bad + (burst->frames[i].drop != DROP_NO_DESTINATION));
	}
	/* Each once, whatever the budget. */
	CHECK(guest->vq.malformed - malformed == bad);
	if (scenario->foretold)
		model_check_rx(scenario->sender.model, burst);
	return true;
}

static bool send(struct scenario *scenario)
{
	struct guest *guest = scenario->receiver.guest;

	for (unsigned int step = 0; step < 3; step++)
		if (entropy_chance(scenario->entropy, 2))
			virtqueue_tx_expect(&guest->vq, step);
	memset(&scenario->outcome, 0, sizeof(scenario->outcome));
	if (scenario->foretold)
		model_foretell_tx(scenario->receiver.model, scenario->frames, scenario->count);
	if (!survives(scenario, call_tx))
		return false;
	CHECK(scenario->outcome.packets + scenario->outcome.too_long <= scenario->count);
	if (scenario->foretold)
		model_check_tx(scenario->receiver.model, &scenario->outcome);
	return true;
}

static bool release(struct scenario *scenario)
{
	if (scenario->burst->count > 0 && !survives(scenario, call_release))
		return false;
	if (scenario->foretold)
		model_check_release(scenario->sender.model);
	return true;
}

static void interrupt(const struct scenario *scenario, const struct side *side)
{
	struct guest *guest = side->guest;
	bool wants = virtqueue_wants_interrupt(&guest->vq);

	if (scenario->foretold && !side->model->unsure)
		CHECK(wants == model_wants_interrupt(guest, side->first,
						     virtqueue_base(&guest->vq)));
	CHECK(!virtqueue_wants_interrupt(&guest->vq));
}

/*
 * A ring that was stopped is set up anew, and so is one that its guest itself keeps from moving or
 * has put into a state that no position describes.
 */
static void set_up_again(struct scenario *scenario)
{
	struct side *sides[2] = { &scenario->sender, &scenario->receiver };
	bool moved = virtqueue_base(&sides[1]->guest->vq) != sides[1]->first;

	scenario->stuck = moved ? 0 : scenario->stuck + 1;
	for (int i = 0; i < 2; i++) {
		struct guest *guest = sides[i]->guest;

		CHECK(virtqueue_fault_text(guest->vq.fault)[0] != '\0');
		if ((guest->vq.fault != VIRTQUEUE_OK && entropy_chance(scenario->entropy, 2)) ||
		    scenario->stuck > STUCK_MAX || (guest->packed && sides[i]->model->unsure))
			guest_attach(guest);
		else if (guest->vq.fault == VIRTQUEUE_OK && entropy_chance(scenario->entropy, 32))
			guest_move(guest);
	}
	if (scenario->stuck > STUCK_MAX)
		scenario->stuck = 0;
}

static void post(struct side *side, uint32_t count)
{
	guest_post(side->guest, count);
	side->first = virtqueue_base(&side->guest->vq);
}

static void run_burst(struct scenario *scenario)
{
	struct entropy *entropy = scenario->entropy;
	uint16_t most = entropy_chance(entropy, 4) ? BURST_MAX : 8;
	uint8_t allowed = (uint8_t)(entropy_chance(entropy, 4) ? entropy_below(entropy, NEEDS_ALL)
							       : NEEDS_ALL);

	scenario->max = (uint16_t)(1 + entropy_below(entropy, most));
	scenario->count = 0;
	scenario->call = 0;
	if (scenario->interrupted && entropy_chance(entropy, INTERRUPTED_BURSTS)) {
		scenario->call = 1 + entropy_below(entropy, 3);
		scenario->dies = entropy_chance(entropy, 2);
		/* Single steps are slow, and what is between two frames is seen with two. */
		scenario->max = (uint16_t)(1 + entropy_below(entropy, 3));
	}
	post(&scenario->sender, entropy_below(entropy, most + 1u));
	post(&scenario->receiver, entropy_below(entropy, most + 1u));
	if (!receive(scenario)) {
		take_over(scenario);
		return;
	}
	for (uint16_t i = 0; i < scenario->burst->count; i++) {
		struct frame *frame = &scenario->burst->frames[i];

		(void)parse_flow_hash(frame);
		if (accept_frame(frame, allowed))
			scenario->frames[scenario->count++] = frame;
	}
	if (!send(scenario) || !release(scenario)) {
		take_over(scenario);
		return;
	}
	model_check_copy(scenario->sender.model);
	model_check_copy(scenario->receiver.model);
	interrupt(scenario, &scenario->sender);
	interrupt(scenario, &scenario->receiver);
	set_up_again(scenario);
}

/* ---- scenarios ---- */

static void *poke(void *argument)
{
	struct scenario *scenario = argument;
	struct entropy entropy;

	entropy_init(&entropy, (uint64_t)(uintptr_t)scenario, NULL, 0);
	while (!__atomic_load_n(&scenario->stop, __ATOMIC_RELAXED)) {
		guest_poke(scenario->sender.guest, &entropy);
		guest_poke(scenario->receiver.guest, &entropy);
	}
	return NULL;
}

static void side_init(struct scenario *scenario, struct side *side, bool wild, uint16_t write)
{
	bool packed = may_be_packed;

	if (may_be_packed && may_be_split)
		packed = entropy_chance(scenario->entropy, 2);
	side->guest = guest_new(scenario->entropy, packed, wild, write);
	side->model = model_new(side->guest);
}

static void side_fini(struct side *side)
{
	model_free(side->model);
	guest_free(side->guest);
}

/*
 * Runs bursts between two new guests; with `pokes` a thread changes their memory meanwhile, with
 * `interrupted` the switch is interrupted now and then.
 */
static void run_scenario(struct entropy *entropy, uint32_t bursts, bool pokes, bool interrupted)
{
	bool wild = pokes || entropy_chance(entropy, 4);
	struct scenario scenario = { .entropy = entropy, .foretold = !wild,
				     .interrupted = interrupted };
	pthread_t thread;

	side_init(&scenario, &scenario.sender, wild, 0);
	side_init(&scenario, &scenario.receiver, wild, VRING_DESC_F_WRITE);
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
	side_fini(&scenario.receiver);
	side_fini(&scenario.sender);
}

void target_init(void)
{
}

bool target_choose(const char *what)
{
	bool both = strcmp(what, "both") == 0;

	may_be_split = both || strcmp(what, "split") == 0;
	may_be_packed = both || strcmp(what, "packed") == 0;
	return may_be_split || may_be_packed;
}

void target_input(const uint8_t *bytes, size_t count)
{
	struct entropy entropy;

	entropy_init(&entropy, 0, bytes, count);
	/* Single steps would take nearly all of an engine's time. */
	run_scenario(&entropy, INPUT_BURSTS, false, false);
}

uint64_t target_make(uint64_t seed, const struct target_file *files, uint32_t file_count,
		     bool show)
{
	struct entropy entropy;

	(void)files;
	(void)file_count;
	(void)show;
	entropy_init(&entropy, seed, NULL, 0);
	run_scenario(&entropy, SEED_BURSTS, seed % POKES_EVERY == 0,
		     seed % INTERRUPTED_EVERY == 1);
	return SEED_BURSTS;
}
