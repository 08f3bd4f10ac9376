/* SPDX-License-Identifier: BSD-3-Clause */
/* Transmission of what forwarding staged; worker/egress.h is the contract. */
#include "worker/egress.h"

#include <rte_branch_prediction.h>

#include "frame/parse.h"

static void count_drops(struct tx_counters *counters, enum drop reason, uint64_t frames)
{
	if (frames > 0)
		counter_add(&counters->dropped[reason], frames);
}

/* Takes out the frames that need what the receiver did not negotiate. Returns how many stay. */
static uint16_t keep_acceptable(struct frame **frames, uint16_t count, uint32_t accepts)
{
	uint16_t kept = 0;

	for (uint16_t i = 0; i < count; i++)
		if ((frames[i]->needs & ~accepts) == 0)
			frames[kept++] = frames[i];
	return kept;
}

/* Whatever they need: a port without a receiver has not negotiated anything. */
static void nobody_there(struct worker *worker, struct port_queue *queue, uint16_t count)
{
	struct tx_counters *counters = &queue->counters[worker->index].tx;

	counter_add(&counters->offered, count);
	count_drops(counters, DROP_NOT_CONNECTED, count);
}

/* All frames go to this queue. The array is the caller's to spoil. */
static void transmit(struct worker *worker, struct port_queue *queue, struct frame **frames,
		     uint16_t count)
{
	struct tx_counters *counters = &queue->counters[worker->index].tx;
	struct tx_outcome outcome = { 0 };
	uint32_t accepts = __atomic_load_n(&queue->port->tx_accepts, __ATOMIC_RELAXED);
	uint16_t kept;

	counter_add(&counters->offered, count);
	kept = keep_acceptable(frames, count, accepts);
	count_drops(counters, DROP_BAD_OFFLOAD, (uint64_t)(count - kept));
	if (unlikely(queue->ops->tx_burst(queue, frames, kept, &outcome) != 0)) {
		count_drops(counters, DROP_NOT_CONNECTED, kept);
		return;
	}
	counter_add(&counters->packets, outcome.packets);
	counter_add(&counters->bytes, outcome.bytes);
	counter_add(&counters->segments, outcome.segments);
	count_drops(counters, DROP_TOO_LONG, outcome.too_long);
	count_drops(counters, DROP_RING_FULL,
		    (uint64_t)(kept - outcome.packets - outcome.too_long));
	worker->notices[worker->notice_count++] = (struct notice){ queue, PORT_TX };
}

/*
 * Spreads the frames over the queues that the receiver has enabled, a flow always to the same, so
 * that none stays silent and no flow is reordered.
 */
static void spread(struct worker *worker, struct port *port, uint16_t ready, struct stage *stage)
{
	struct frame *picked[BURST_MAX];
	uint16_t queues[BURST_MAX];
	uint16_t left = stage->count;

	for (uint16_t i = 0; i < left; i++) {
		uint32_t slot = parse_flow_hash(stage->frames[i]) % ready;

		queues[i] = __atomic_load_n(&port->tx_map[slot], __ATOMIC_RELAXED);
	}
	while (left > 0) {
		uint16_t queue = queues[0];
		uint16_t count = 0, kept = 0;

		for (uint16_t i = 0; i < left; i++) {
			if (queues[i] == queue) {
				picked[count++] = stage->frames[i];
			} else {
				stage->frames[kept] = stage->frames[i];
				queues[kept++] = queues[i];
			}
		}
		left = kept;
		transmit(worker, &port->queues[queue], picked, count);
	}
}

/*
 * A burst has at most BURST_MAX frames, but a flooded one has many receivers: the notices are sent
 * before they could overflow.
 */
static void make_room_for_notices(struct worker *worker)
{
	if (worker->notice_count + BURST_MAX > NOTICES_MAX - 1)
		worker_notify(worker);
}

void egress_burst(struct worker *worker, const struct snapshot *snapshot)
{
	struct forward *forward = &worker->forward;

	for (uint16_t i = 0; i < forward->staged_count; i++) {
		struct port *port = snapshot->ports[forward->staged[i]];
		struct stage *stage = &forward->stages[forward->staged[i]];
		uint16_t ready = __atomic_load_n(&port->tx_ready, __ATOMIC_ACQUIRE);
		uint16_t first = __atomic_load_n(&port->tx_map[0], __ATOMIC_RELAXED);

		if (i > 0)
			make_room_for_notices(worker);
		if (unlikely(ready == 0))
			nobody_there(worker, &port->queues[0], stage->count);
		else if (likely(ready == 1))
			transmit(worker, &port->queues[first], stage->frames, stage->count);
		else
			spread(worker, port, ready, stage);
		stage->count = 0;
	}
	forward->staged_count = 0;
}
