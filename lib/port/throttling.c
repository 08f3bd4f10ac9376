/* SPDX-License-Identifier: BSD-3-Clause */
/* The last second of a port's limits; port/throttling.h is the contract. */
#include "port/throttling.h"

#include <stdbool.h>
#include <string.h>

#include "port/port.h"
#include "sync/counter.h"

/* What was counted since the last look, as a share of the time since then. */
static double share_of(uint64_t *counted, uint64_t total, uint64_t time)
{
	const uint64_t more = total - *counted;

	*counted = total;
	return more < time ? (double)more / (double)time : 1;
}

static void raise(double *most, double share)
{
	if (share > *most)
		*most = share;
}

static struct throttled difference(const struct throttled *now, const struct throttled *before)
{
	return (struct throttled){ .limit = now->limit - before->limit,
				   .queue_full = now->queue_full - before->queue_full,
				   .queue_timeout = now->queue_timeout - before->queue_timeout };
}

static struct throttled sum_drops(const uint64_t *dropped)
{
	return (struct throttled){ .limit = dropped[DROP_LIMIT],
				   .queue_full = dropped[DROP_QUEUE_FULL],
				   .queue_timeout = dropped[DROP_QUEUE_TIMEOUT] };
}

static void look_at_drops(const struct port *port, struct throttling *throttling)
{
	struct port_counters sum;
	struct throttled in, out;

	port_sum_counters(port, &sum);
	in = sum_drops(sum.rx.dropped);
	out = sum_drops(sum.tx.dropped);
	throttling->in = difference(&in, &throttling->total_in);
	throttling->out = difference(&out, &throttling->total_out);
	throttling->total_in = in;
	throttling->total_out = out;
}

void throttling_look(struct port *port, uint64_t now)
{
	struct throttling *throttling = &port->throttling;
	const bool first = throttling->since == 0;
	const uint64_t time = now - throttling->since;
	uint64_t *held = throttling->held;

	look_at_drops(port, throttling);
	for (uint16_t q = 0; q < port->queue_count; q++) {
		struct port_counters sum = { .rx.packets = 0 };

		port_add_counters(port, q, &sum);
		raise(&throttling->in.share, share_of(held++, sum.rx.throttled_ns, time));
	}
	for (uint16_t w = 0; w < port->worker_count; w++) {
		const struct tx_counters *tx = &port->queues[0].counters[w].tx;

		raise(&throttling->out.share,
		      share_of(held++, counter_read(&tx->throttled_ns), time));
	}
	throttling->since = now;
	if (first) {
		memset(&throttling->in, 0, sizeof(throttling->in));
		memset(&throttling->out, 0, sizeof(throttling->out));
	}
}
