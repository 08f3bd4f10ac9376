/* SPDX-License-Identifier: BSD-3-Clause */
/* Limits and queues on the way out; worker/egress_queue.h is the contract. */
#include "worker/egress_queue.h"

#include <rte_cycles.h>

#include "frame/vnet.h"
#include "worker/egress.h"
#include "worker/watch.h"

/* Counters of what never comes to a queue of the port: those of its first one. */
static struct tx_counters *counters_of(const struct worker *worker, const struct snapshot_port *to)
{
	return &to->port->queues[0].counters[worker->index].tx;
}

static struct port_waiting *waiting_of(const struct worker *worker, const struct snapshot_port *to)
{
	return to->waiting != NULL ? &to->waiting[worker->index] : NULL;
}

static void show_queue(struct tx_counters *counters, const struct frame_ring *ring)
{
	__atomic_store_n(&counters->queued, ring->count, __ATOMIC_RELAXED);
	__atomic_store_n(&counters->queued_bytes, ring->used, __ATOMIC_RELAXED);
}

/* ---- putting aside ---- */

static void watch_drops(struct worker *worker, const struct snapshot_port *to,
			struct frame *const *frames, uint16_t count, enum drop reason)
{
	if (unlikely(watch_is_on(worker, to)))
		watch_dropped(worker, to, &to->port->queues[0], frames, count, reason);
}

static void drop_over(struct worker *worker, const struct snapshot_port *to,
		      struct frame *const *frames, uint16_t count)
{
	struct tx_counters *counters = counters_of(worker, to);
	uint64_t bytes = 0;

	for (uint16_t i = 0; i < count; i++)
		bytes += frames[i]->length;
	counter_add(&counters->dropped[to->excess], count);
	counter_add(&counters->limited_bytes, bytes);
	watch_drops(worker, to, frames, count, to->excess);
}

/* Has worker->waiting know of a queue that is not empty any more. */
static void begin_waiting(struct worker *worker, const struct port *port,
			  struct port_waiting *waiting, uint64_t now)
{
	waiting->held_since = now;
	counter_add(&port->queues[0].counters[worker->index].tx.throttled, 1);
	if (waiting->listed)
		return;
	waiting->listed = true;
	worker->waiting[worker->waiting_count++] =
		(struct worker_waiting){ port->serial, port->number };
}

static void put_in_queue(struct worker *worker, const struct snapshot_port *to,
			 struct port_waiting *waiting, struct frame *const *frames, uint16_t count,
			 uint64_t now)
{
	struct tx_counters *counters = counters_of(worker, to);
	struct frame_ring *ring = &waiting->ring;
	const bool was_empty = ring->count == 0;
	uint16_t put = 0;

	for (uint16_t i = 0; i < count; i++) {
		if (!frame_ring_put(ring, frames[i], to->queue_bytes, now)) {
			watch_drops(worker, to, &frames[i], 1, DROP_QUEUE_FULL);
			continue;
		}
		put++;
		if (unlikely(worker->traced != NULL))
			watch_queued(worker, to, frames[i]);
	}
	if (was_empty && put > 0) {
		waiting->vlans_set = to->vlans_set;
		begin_waiting(worker, to->port, waiting, now);
	}
	counter_add(&counters->dropped[DROP_QUEUE_FULL], count - put);
	show_queue(counters, ring);
}

/* ---- admission ---- */

/* A frame that will be dropped as it is longer than the port's MTU needs no tokens. */
static struct charge charge_of(const struct snapshot_port *to, const struct frame *frame)
{
	return egress_is_too_long(frame, to->max_length) ? (struct charge){ 0 }
							 : vnet_charge(frame);
}

static struct charge charge_all(const struct snapshot_port *to, struct frame *const *frames,
				uint16_t count)
{
	struct charge sum = { 0 };

	for (uint16_t i = 0; i < count; i++)
		charge_add(&sum, charge_of(to, frames[i]));
	return sum;
}

/*
 * Divides frames into those that the budget admits, which stay in front, and those over it. With
 * `in_order`, whatever comes behind one that is over it is, too. Returns how many are admitted.
 */
static uint16_t divide(const struct snapshot_port *to, struct frame **frames, uint16_t count,
		       struct charge budget, bool in_order)
{
	struct frame *over[BURST_MAX];
	uint16_t admitted = 0, refused = 0;
	bool first = true;

	for (uint16_t i = 0; i < count; i++) {
		const struct charge charge = charge_of(to, frames[i]);

		if ((in_order && refused > 0) || !budget_admits(&budget, charge, first)) {
			over[refused++] = frames[i];
			continue;
		}
		first = first && charge.packets == 0;
		frames[admitted++] = frames[i];
	}
	memcpy(&frames[admitted], over, refused * sizeof(over[0]));
	return admitted;
}

/* ---- sending what waits ---- */

static void drop_waiting(struct worker *worker, const struct snapshot_port *to,
			 struct frame_ring *ring, enum drop reason, uint16_t count)
{
	counter_add(&counters_of(worker, to)->dropped[reason], count);
	if (unlikely(to->taps != NULL)) {
		struct frame *frames[BURST_MAX];

		watch_drops(worker, to, frames, frame_ring_peek(ring, frames, count), reason);
	}
	frame_ring_remove(ring, count);
}

/* Those in front that have waited for too long; the others came later. */
static void drop_late(struct worker *worker, const struct snapshot_port *to,
		      struct frame_ring *ring, uint64_t now)
{
	while (ring->count > 0 && now - frame_ring_since(ring) > to->queue_time)
		drop_waiting(worker, to, ring, DROP_QUEUE_TIMEOUT, 1);
}

/* One burst of what the tokens admit; where the queue is to go, all that waits will. */
static void send_waiting(struct worker *worker, const struct snapshot_port *to,
			 struct frame_ring *ring, uint64_t now)
{
	struct limits *limits = &to->port->egress;
	struct tx_counters *counters = counters_of(worker, to);
	struct limits_grant grant = { .bandwidth = { .tokens = 0 } };
	struct charge delivered = { 0 };
	struct frame *frames[BURST_MAX];
	const uint16_t count = frame_ring_peek(ring, frames, BURST_MAX);
	uint16_t admitted = count;

	if (to->queues && limits_are_on(limits)) {
		grant = limits_take(limits, now, charge_all(to, frames, count));
		admitted = divide(to, frames, count, limits_granted(&grant), true);
	}
	if (admitted > 0) {
		egress_deliver(worker, to, frames, admitted, true, &delivered);
		counter_add(&counters->delayed, admitted);
		frame_ring_remove(ring, admitted);
	}
	limits_settle(limits, &grant, delivered);
	/* What can go now may, however late it is. */
	if (admitted < count)
		drop_late(worker, to, ring, now);
}

static void drop_all(struct worker *worker, const struct snapshot_port *to,
		     struct frame_ring *ring, enum drop reason)
{
	while (ring->count > 0)
		drop_waiting(worker, to, ring, reason,
			     ring->count < BURST_MAX ? (uint16_t)ring->count : BURST_MAX);
}

/* Notes when there will be something to do for frames that wait. */
static void note_wait(struct worker *worker, const struct snapshot_port *to,
		      const struct frame_ring *ring, uint64_t now)
{
	const uint64_t until = frame_ring_since(ring) + to->queue_time + 1;
	uint64_t wait = 0;

	if (to->queues)
		wait = limits_wait(&to->port->egress, now);
	if (until < now + wait)
		wait = until > now ? until - now : 0;
	if (wait < worker->wait)
		worker->wait = wait;
}

static void drain_port(struct worker *worker, const struct snapshot_port *to,
		       struct port_waiting *waiting, uint64_t now)
{
	struct tx_counters *counters = counters_of(worker, to);
	struct frame_ring *ring = &waiting->ring;
	struct capture *traced = worker->traced;

	/* What waits is of earlier bursts, whose traces have ended. */
	worker->traced = NULL;
	counter_add(&counters->throttled_ns, now - waiting->held_since);
	waiting->held_since = now;
	if (!to->enabled)
		drop_all(worker, to, ring, DROP_DISABLED);
	else if (__atomic_load_n(&to->port->tx_ready, __ATOMIC_ACQUIRE) == 0)
		drop_all(worker, to, ring, DROP_NOT_CONNECTED);
	else if (waiting->vlans_set != to->vlans_set)
		drop_all(worker, to, ring, DROP_VLAN);
	else
		send_waiting(worker, to, ring, now);
	worker->traced = traced;
	show_queue(counters, ring);
	if (ring->count > 0)
		note_wait(worker, to, ring, now);
}

/* ---- in and out ---- */

void egress_limit(struct worker *worker, const struct snapshot_port *to, struct stage *stage)
{
	struct limits *limits = &to->port->egress;
	struct port_waiting *waiting = waiting_of(worker, to);
	struct charge delivered = { 0 }, wanted = stage->charge, granted;
	const uint64_t now = worker_now(worker);
	struct frame **frames = stage->frames;
	const uint16_t count = stage->count;
	struct limits_grant grant;
	uint16_t admitted = count;

	if (waiting != NULL && waiting->ring.count > 0) {
		counter_add(&counters_of(worker, to)->offered, count);
		put_in_queue(worker, to, waiting, frames, count, now);
		drain_port(worker, to, waiting, now);
		return;
	}
	if (!limits_are_on(limits)) {
		egress_deliver(worker, to, frames, count, false, NULL);
		return;
	}
	if (unlikely(wanted.packets != count))
		wanted = charge_all(to, frames, count);
	grant = limits_take(limits, now, wanted);
	granted = limits_granted(&grant);
	if (granted.bytes < wanted.bytes || granted.packets < wanted.packets)
		admitted = divide(to, frames, count, granted, to->queues);
	if (admitted > 0)
		egress_deliver(worker, to, frames, admitted, false, &delivered);
	limits_settle(limits, &grant, delivered);
	if (admitted == count)
		return;
	counter_add(&counters_of(worker, to)->offered, count - admitted);
	if (to->queues)
		put_in_queue(worker, to, waiting, frames + admitted, count - admitted, now);
	else
		drop_over(worker, to, frames + admitted, count - admitted);
}

/* The port for which frames wait; NULL: it has gone, and its memory with it. */
static const struct snapshot_port *find_port(const struct snapshot *snapshot,
					     const struct worker_waiting *entry)
{
	const struct snapshot_port *to;

	if (entry->port >= snapshot->port_count)
		return NULL;
	to = &snapshot->ports[entry->port];
	return to->port != NULL && to->port->serial == entry->serial ? to : NULL;
}

/* Returns whether frames still wait. */
static bool drain(struct worker *worker, const struct snapshot_port *to, uint64_t now, bool *moved)
{
	struct port_waiting *waiting = waiting_of(worker, to);
	const uint32_t before = waiting->ring.count;

	if (before > 0) {
		egress_begin(worker);
		drain_port(worker, to, waiting, now);
	}
	*moved |= waiting->ring.count != before;
	waiting->listed = waiting->ring.count > 0;
	return waiting->listed;
}

bool egress_drain(struct worker *worker, const struct snapshot *snapshot)
{
	const uint64_t start = rte_rdtsc();
	bool moved = false;
	uint16_t i = 0;
	uint64_t now;

	worker->start = start;
	now = worker_now(worker);
	while (i < worker->waiting_count) {
		const struct snapshot_port *to = find_port(snapshot, &worker->waiting[i]);

		if (to != NULL && drain(worker, to, now, &moved))
			i++;
		else
			worker->waiting[i] = worker->waiting[--worker->waiting_count];
	}
	if (moved)
		counter_add(&worker->counters.busy_cycles, rte_rdtsc() - start);
	return moved;
}
