/* SPDX-License-Identifier: BSD-3-Clause */
/* The limits of a port in the model; control/model_limits.h is the contract. */
#include "control/model_limits.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/units.h"

#define MS_PER_S 1000

/* ---- the two forms ---- */

static bool is_by_size(const struct bucket_given *given)
{
	return given->size != 0 || given->refill_time != 0;
}

/* What the bucket comes to, if check_bucket accepts it; without a burst the limiter has its own. */
static void convert(const struct bucket_given *given, enum limit_unit unit,
		    struct limit_settings *settings)
{
	const uint64_t factor = unit == LIMIT_BITS ? 8 * MS_PER_S : MS_PER_S;

	settings->rate = given->rate;
	settings->burst = given->burst;
	settings->one_time_burst = given->one_time_burst;
	if (!is_by_size(given))
		return;
	/* No overflow: 8,000 times 2^32 at most. */
	settings->rate = (given->size * factor + given->refill_time / 2) / given->refill_time;
	settings->burst = given->size;
}

/* Always -EINVAL. The error comes with the bucket as its field; `key` is one of its keys. */
static int refuse(struct error *err, const char *key, const char *value, const char *what,
		  const char *accepted)
{
	char object[sizeof(err->object)], field[sizeof(err->field)];

	text_copy(object, sizeof(object), err->object);
	snprintf(field, sizeof(field), "%.60s.%s", err->field, key);
	error_set(err, ERROR_INVALID, EINVAL, "%s%s\"%s\" %s", object,
		  object[0] != '\0' ? ": " : "", field, what);
	error_detail(err, object, field, value, accepted);
	return -EINVAL;
}

static int check_bucket(const struct bucket_given *given, enum limit_unit unit, struct error *err)
{
	const bool bits = unit == LIMIT_BITS;
	const uint64_t min = bits ? LIMIT_BANDWIDTH_MIN : LIMIT_PACKETS_MIN;
	const uint64_t max = bits ? LIMIT_BANDWIDTH_MAX : LIMIT_PACKETS_MAX;
	static const char forms[] = "rate and burst, or size and refill_time";
	struct limit_settings settings;
	char value[64], accepted[120];

	if (is_by_size(given) && (given->rate != 0 || given->burst != 0))
		return refuse(err, given->size != 0 ? "size" : "refill_time", NULL,
			      "does not go with rate or burst", forms);
	if (!is_by_size(given))
		return given->rate != 0 ? 0 : refuse(err, "rate", NULL, "is missing", forms);
	if (given->size == 0)
		return refuse(err, "size", NULL, "is missing", "what is filled in refill_time");
	if (given->refill_time == 0)
		return refuse(err, "refill_time", NULL, "is missing",
			      "milliseconds in which size is filled again");
	convert(given, unit, &settings);
	if (settings.rate >= min && settings.rate <= max)
		return 0;
	snprintf(value, sizeof(value), "%" PRIu64, given->refill_time);
	snprintf(accepted, sizeof(accepted),
		 "what comes, with size, to %" PRIu64 " to %" PRIu64 " %s a second", min, max,
		 bits ? "bits" : "packets");
	return refuse(err, "refill_time", value, "comes, with size, to a rate that is out of range",
		      accepted);
}

static int check_bandwidth(const void *value, struct error *err)
{
	return check_bucket(value, LIMIT_BITS, err);
}

static int check_packets(const void *value, struct error *err)
{
	return check_bucket(value, LIMIT_PACKETS, err);
}

/* The same of a bucket whose excess may be dropped. */
static void convert_for(const struct bucket_given *given, enum limit_unit unit, uint32_t excess,
			struct limit_settings *settings)
{
	convert(given, unit, settings);
	if (excess == EXCESS_DROP && settings->rate != 0 && settings->burst == 0)
		settings->burst =
			limiter_default_burst(settings->rate, unit, LIMIT_BURST_DROP_MS);
}

static void convert_direction(const struct bucket_given *bandwidth,
			      const struct bucket_given *packets, uint32_t excess,
			      struct port_limits *limits)
{
	convert_for(bandwidth, LIMIT_BITS, excess, &limits->bandwidth);
	convert_for(packets, LIMIT_PACKETS, excess, &limits->packets);
	limits->excess = excess;
}

void model_limits_convert(const struct limits_given *given, struct port_settings *settings)
{
	convert_direction(&given->ingress.bandwidth, &given->ingress.packets,
			  given->ingress.excess, &settings->ingress);
	convert_direction(&given->egress.bandwidth, &given->egress.packets, given->egress.excess,
			  &settings->egress);
	settings->queue.bytes = (uint32_t)given->egress.queue.bytes;
	settings->queue.time = given->egress.queue.time;
}

/* ---- the tables ---- */

#define BUCKET(key) PARAM_AT(struct bucket_given, key)

static const struct param bandwidth_params[] = {
	{ "rate", PARAM_RATE, BUCKET(rate), .min = LIMIT_BANDWIDTH_MIN, .max = LIMIT_BANDWIDTH_MAX,
	  .help = "bits a second, of Ethernet header and payload" },
	{ "burst", PARAM_SIZE, BUCKET(burst), .min = LIMIT_BURST_MIN, .max = LIMIT_BURST_MAX,
	  .help = "bytes that may pass at once; by default 10 ms of the rate, or 250 ms where "
		  "the excess is dropped, but at least 64 KiB; a longer frame passes once "
		  "anything is in the bucket, and those behind it wait until it is paid" },
	{ "one_time_burst", PARAM_SIZE, BUCKET(one_time_burst), .min = LIMIT_BURST_MIN,
	  .max = LIMIT_BURST_MAX, .help = "bytes that may pass once, before the burst is touched" },
	{ "size", PARAM_SIZE, BUCKET(size), .min = LIMIT_BURST_MIN, .max = LIMIT_BURST_MAX,
	  .help = "with refill_time in place of rate and burst: bytes that the bucket holds" },
	{ "refill_time", PARAM_UINT, BUCKET(refill_time), .min = 1, .max = UINT32_MAX,
	  .help = "milliseconds in which size is filled again" },
	{ NULL }
};

static const struct param packets_params[] = {
	{ "rate", PARAM_RATE, BUCKET(rate), .min = LIMIT_PACKETS_MIN, .max = LIMIT_PACKETS_MAX,
	  .help = "packets a second; a frame with segmentation offload is all its segments" },
	{ "burst", PARAM_SIZE, BUCKET(burst), .min = LIMIT_BURST_MIN, .max = LIMIT_BURST_MAX,
	  .help = "packets that may pass at once; by default 10 ms of the rate, or 250 ms "
		  "where the excess is dropped, but at least 64; a frame of more segments passes "
		  "once anything is in the bucket, and those behind it wait until it is paid" },
	{ "one_time_burst", PARAM_SIZE, BUCKET(one_time_burst), .min = LIMIT_BURST_MIN,
	  .max = LIMIT_BURST_MAX,
	  .help = "packets that may pass once, before the burst is touched" },
	{ "size", PARAM_SIZE, BUCKET(size), .min = LIMIT_BURST_MIN, .max = LIMIT_BURST_MAX,
	  .help = "with refill_time in place of rate and burst: packets that the bucket holds" },
	{ "refill_time", PARAM_UINT, BUCKET(refill_time), .min = 1, .max = UINT32_MAX,
	  .help = "milliseconds in which size is filled again" },
	{ NULL }
};

/* In the order of enum limit_excess. */
static const char *const ingress_excess[] = { "pause", "drop", NULL };
static const char *const egress_excess[] = { "queue", "drop", NULL };

static const struct param ingress_params[] = {
	{ "bandwidth", PARAM_OBJECT, .offset = offsetof(struct limits_given, ingress.bandwidth),
	  .fields = bandwidth_params, .check = check_bandwidth,
	  .help = "a token bucket for bits a second" },
	{ "packets", PARAM_OBJECT, .offset = offsetof(struct limits_given, ingress.packets),
	  .fields = packets_params, .check = check_packets,
	  .help = "a token bucket for packets a second" },
	{ "excess", PARAM_CHOICE, PARAM_AT(struct limits_given, ingress.excess),
	  .choices = ingress_excess, .initial = "\"pause\"",
	  .help = "what is over the limit: pause leaves it with the sender, drop drops it" },
	{ NULL }
};

static const struct param queue_params[] = {
	{ "bytes", PARAM_SIZE, PARAM_AT(struct limits_given, egress.queue.bytes),
	  .min = EGRESS_QUEUE_MIN, .max = EGRESS_QUEUE_MAX, .initial = "1048576",
	  .help = "memory for the frames that wait, of each worker; more is dropped" },
	{ "time", PARAM_UINT, PARAM_AT(struct limits_given, egress.queue.time), .min = 1,
	  .max = EGRESS_QUEUE_TIME_MAX, .initial = "50",
	  .help = "milliseconds that a frame may wait; then it is dropped" },
	{ NULL }
};

static const struct param egress_params[] = {
	{ "bandwidth", PARAM_OBJECT, .offset = offsetof(struct limits_given, egress.bandwidth),
	  .fields = bandwidth_params, .check = check_bandwidth,
	  .help = "a token bucket for bits a second" },
	{ "packets", PARAM_OBJECT, .offset = offsetof(struct limits_given, egress.packets),
	  .fields = packets_params, .check = check_packets,
	  .help = "a token bucket for packets a second" },
	{ "excess", PARAM_CHOICE, PARAM_AT(struct limits_given, egress.excess),
	  .choices = egress_excess, .initial = "\"drop\"",
	  .help = "what is over the limit: queue keeps copies until their time, drop drops it" },
	{ "queue", PARAM_OBJECT, .fields = queue_params,
	  .help = "how much may wait, and how long, where the excess queues" },
	{ NULL }
};

const struct param model_limits_params[] = {
	{ "ingress", PARAM_OBJECT, .fields = ingress_params, .help = "from the port" },
	{ "egress", PARAM_OBJECT, .fields = egress_params, .help = "to the port" },
	{ NULL }
};
