/* SPDX-License-Identifier: BSD-3-Clause */
/* Two limiters as one; policy/limits.h is the contract. */
#include "policy/limits.h"

void limits_set(struct limits *limits, const struct limit_settings *bandwidth,
		const struct limit_settings *packets, uint64_t now)
{
	limiter_set(&limits->bandwidth, bandwidth, LIMIT_BITS, now);
	limiter_set(&limits->packets, packets, LIMIT_PACKETS, now);
	__atomic_store_n(&limits->on, limits_are_set(bandwidth, packets), __ATOMIC_RELEASE);
}

struct limits_grant limits_take(struct limits *limits, uint64_t now, struct charge wanted)
{
	struct limits_grant grant = { .bandwidth = { .tokens = 0 } };

	grant.bandwidth = limiter_take(&limits->bandwidth, now, wanted.bytes);
	if (grant.bandwidth.tokens == 0 && wanted.bytes > 0)
		return grant;
	grant.packets = limiter_take(&limits->packets, now, wanted.packets);
	if (grant.packets.tokens == 0 && wanted.packets > 0) {
		limiter_settle(&limits->bandwidth, grant.bandwidth, 0);
		grant.bandwidth = (struct limit_grant){ .tokens = 0 };
	}
	return grant;
}

/* One that is off has nothing to keep account of, and begins anew when it is on again. */
static void settle(struct limiter *limiter, struct limit_grant grant, uint64_t used)
{
	if (limiter_is_on(limiter))
		limiter_settle(limiter, grant, used);
}

void limits_settle(struct limits *limits, const struct limits_grant *grant, struct charge used)
{
	/* Just what was granted, as mostly on the way out. */
	if (used.bytes == grant->bandwidth.tokens && used.packets == grant->packets.tokens)
		return;
	settle(&limits->bandwidth, grant->bandwidth, used.bytes);
	settle(&limits->packets, grant->packets, used.packets);
}

uint64_t limits_wait(const struct limits *limits, uint64_t now)
{
	const uint64_t bandwidth = limiter_wait(&limits->bandwidth, now);
	const uint64_t packets = limiter_wait(&limits->packets, now);

	return bandwidth > packets ? bandwidth : packets;
}
