/* SPDX-License-Identifier: BSD-3-Clause */
/* Limits on the way in; worker/ingress.h is the contract. */
#include "worker/ingress.h"

#include "frame/vnet.h"

static struct charge charge_all(const struct burst *burst, uint16_t count)
{
	struct charge sum = { 0 };

	for (uint16_t i = 0; i < count; i++)
		charge_add(&sum, vnet_charge(&burst->frames[i]));
	return sum;
}

/* Drops what the budget does not admit. Returns what the others are charged. */
static struct charge drop_excess(struct burst *burst, uint16_t count, struct charge budget,
				 struct rx_counters *counters)
{
	struct charge used = { 0 };
	uint64_t dropped = 0;

	for (uint16_t i = 0; i < count; i++) {
		struct frame *frame = &burst->frames[i];
		const struct charge charge = vnet_charge(frame);

		if (budget_admits(&budget, charge, used.packets == 0)) {
			charge_add(&used, charge);
		} else if (frame->drop == DROP_NO_DESTINATION) {
			frame_drop(frame, DROP_LIMIT);
			dropped += frame->length;
		}
	}
	counter_add(&counters->limited_bytes, dropped);
	return used;
}

/*
 * Enough for a full burst of frames like the last ones, but not all that there is: others may poll
 * another queue of the port, or look at the bucket.
 */
static struct charge tokens_wanted(const struct charge *typical)
{
	return (struct charge){
		(uint64_t)BURST_MAX * (typical->bytes > 0 ? typical->bytes : FRAME_LENGTH_MAX),
		(uint64_t)BURST_MAX * (typical->packets > 0 ? typical->packets : 1),
	};
}

/*
 * Frames that the budget has room for if they are like those of the last burst, the one that passes
 * on the rest of it, and one to see that others wait.
 */
static uint16_t frames_within(const struct charge *typical, struct charge budget)
{
	const uint64_t by_bytes = budget.bytes / (typical->bytes > 0 ? typical->bytes : 1);
	const uint64_t by_packets = budget.packets / (typical->packets > 0 ? typical->packets : 1);
	const uint64_t frames = by_bytes < by_packets ? by_bytes : by_packets;

	return frames + 2 < BURST_MAX ? (uint16_t)(frames + 2) : BURST_MAX;
}

/* Keeps account of frames that wait for the limits, and notes when they may go on. */
static void account_held(struct worker *worker, struct port_queue *queue, bool held, bool begins,
			 uint64_t now)
{
	struct rx_counters *counters = &queue->counters[worker->index].rx;
	uint64_t wait;

	if (queue->held_since != 0)
		counter_add(&counters->throttled_ns, now - queue->held_since);
	queue->held_since = held ? now : 0;
	if (!held)
		return;
	if (begins)
		counter_add(&counters->throttled, 1);
	wait = limits_wait(&queue->port->ingress, now);
	if (wait < worker->wait)
		worker->wait = wait;
}

uint16_t ingress_begin(struct worker *worker, struct port_queue *queue, bool pauses,
		       struct ingress_visit *visit)
{
	struct burst *burst = worker->burst;

	struct charge wanted;

	visit->pauses = pauses;
	visit->begins = queue->held_since == 0;
	if (!pauses)
		return BURST_MAX;
	wanted = tokens_wanted(&queue->typical);
	visit->grant = limits_take(&queue->port->ingress, worker_now(worker), wanted);
	burst->held = false;
	burst->budget = limits_granted(&visit->grant);
	visit->ample =
		burst->budget.bytes >= wanted.bytes && burst->budget.packets >= wanted.packets;
	/* A budget is nothing at all where it is nothing of one of them. */
	return visit->ample ? BURST_MAX : frames_within(&queue->typical, burst->budget);
}

/*
 * What a burst that had a budget is charged: where nothing asks for segmentation, and the port has
 * dropped none itself, just what it took off the budget.
 */
static struct charge charge_taken(const struct burst *burst, uint16_t count, struct charge granted)
{
	const struct charge *left = &burst->budget;

	if (burst->offloads || granted.packets - left->packets != count || left->bytes == 0)
		return charge_all(burst, count);
	return (struct charge){ granted.bytes - left->bytes, count };
}

/* Takes no more than the limits granted. */
static void end_paused(struct worker *worker, struct port_queue *queue,
		       const struct ingress_visit *visit, uint16_t count)
{
	struct burst *burst = worker->burst;
	const struct charge used = charge_taken(burst, count, limits_granted(&visit->grant));

	burst->budget = (struct charge){ BURST_UNLIMITED, BURST_UNLIMITED };
	limits_settle(&queue->port->ingress, &visit->grant, used);
	if (count > 0)
		queue->typical = (struct charge){ (uint32_t)used.bytes / count,
						  (uint32_t)used.packets / count };
	/* Frames that are longer than was expected wait for the next visit, not for the limits. */
	account_held(worker, queue, burst->held && !visit->ample, visit->begins || count > 0,
		     worker_now(worker));
}

/* Takes all frames, and drops those that the limits do not grant. */
static void end_dropping(struct worker *worker, struct port_queue *queue, uint16_t count)
{
	struct limits *limits = &queue->port->ingress;
	struct limits_grant grant;
	struct charge used;

	account_held(worker, queue, false, false, worker_now(worker));
	if (count == 0)
		return;
	grant = limits_take(limits, worker_now(worker), charge_all(worker->burst, count));
	used = drop_excess(worker->burst, count, limits_granted(&grant),
			   &queue->counters[worker->index].rx);
	limits_settle(limits, &grant, used);
}

void ingress_end(struct worker *worker, struct port_queue *queue,
		 const struct ingress_visit *visit, uint16_t count)
{
	if (visit->pauses)
		end_paused(worker, queue, visit, count);
	else
		end_dropping(worker, queue, count);
}
