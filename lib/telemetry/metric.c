/* SPDX-License-Identifier: BSD-3-Clause */
/* The rows, and their JSON form; telemetry/metric.h is the contract. */
#include "telemetry/metric.h"

#include "bridge/fdb.h"
#include "bridge/forward.h"
#include "port/port.h"
#include "sync/counter.h"
#include "worker/worker.h"

#define COUNTER(name, type, field, unit, help)                                                     \
	{ name, METRIC_COUNTER, offsetof(type, field), unit, help }

#define GAUGE(name, type, field, unit, help)                                                       \
	{ name, METRIC_GAUGE, offsetof(type, field), unit, help }

const struct metric metric_rx[] = {
	COUNTER("rx_packets", struct rx_counters, packets, "frames", "taken from the port"),
	COUNTER("rx_bytes", struct rx_counters, bytes, "bytes", "of these frames, without FCS"),
	COUNTER("rx_segments", struct rx_counters, segments, "packets",
		"that these frames stand for"),
	COUNTER("rx_forwarded", struct rx_counters, forwarded, "frames", "sent to one port"),
	COUNTER("rx_flooded", struct rx_counters, flooded, "frames", "sent to all other ports"),
	COUNTER("rx_copies", struct rx_counters, copies, "frames", "made of flooded frames"),
	COUNTER("rx_suppressed", struct rx_counters, suppressed, "frames",
		"forwarded, that were requests for a neighbour's address and not flooded"),
	COUNTER("rx_notifications", struct rx_counters, notifications, "interrupts",
		"that told the port its buffers are free again"),
	COUNTER("rx_throttled", struct rx_counters, throttled, "times",
		"that the port's limit began to hold frames back"),
	COUNTER("rx_throttled_ns", struct rx_counters, throttled_ns, "ns",
		"that the port's limit held frames back"),
	COUNTER("rx_limited_bytes", struct rx_counters, limited_bytes, "bytes",
		"of frames that the port's limit dropped"),
	{ "rx_dropped", METRIC_DROPS, offsetof(struct rx_counters, dropped), "frames",
	  "taken from the port and dropped, by reason" },
	{ NULL }
};

const struct metric metric_tx[] = {
	COUNTER("tx_offered", struct tx_counters, offered, "frames", "meant for the port"),
	COUNTER("tx_cut", struct tx_counters, cut, "frames",
		"made by segmentation, beyond those that were cut"),
	COUNTER("tx_packets", struct tx_counters, packets, "frames", "delivered to the port"),
	COUNTER("tx_bytes", struct tx_counters, bytes, "bytes", "of these frames, without FCS"),
	COUNTER("tx_segments", struct tx_counters, segments, "packets",
		"that these frames stand for"),
	COUNTER("tx_notifications", struct tx_counters, notifications, "interrupts",
		"that told the port of frames"),
	COUNTER("tx_retries", struct tx_counters, retries, "times",
		"that frames were tried again which had found no room"),
	GAUGE("tx_queued", struct tx_counters, queued, "frames",
	      "that wait for the port's limit"),
	GAUGE("tx_queued_bytes", struct tx_counters, queued_bytes, "bytes",
	      "of memory that these frames take"),
	COUNTER("tx_delayed", struct tx_counters, delayed, "frames",
		"that waited for the port's limit and went on"),
	COUNTER("tx_throttled", struct tx_counters, throttled, "times",
		"that the port's limit began to hold frames back"),
	COUNTER("tx_throttled_ns", struct tx_counters, throttled_ns, "ns",
		"that the port's limit held frames back"),
	COUNTER("tx_limited_bytes", struct tx_counters, limited_bytes, "bytes",
		"of frames that the port's limit dropped"),
	{ "tx_dropped", METRIC_DROPS, offsetof(struct tx_counters, dropped), "frames",
	  "meant for the port and dropped, by reason" },
	{ NULL }
};

const struct metric metric_worker[] = {
	COUNTER("iterations", struct worker_counters, iterations, "rounds", "of the polling loop"),
	COUNTER("packets", struct worker_counters, packets, "frames", "received"),
	COUNTER("busy_cycles", struct worker_counters, busy_cycles, "TSC cycles",
		"of visits that returned a frame"),
	COUNTER("idle_cycles", struct worker_counters, idle_cycles, "TSC cycles",
		"neither busy nor asleep"),
	COUNTER("sleep_ns", struct worker_counters, sleep_ns, "ns", "asleep"),
	{ NULL }
};

const struct metric metric_fdb[] = {
	COUNTER("learned", struct fdb_counters, learned, "addresses", "learned"),
	COUNTER("moved", struct fdb_counters, moved, "addresses", "seen at another port"),
	COUNTER("aged", struct fdb_counters, aged, "addresses", "forgotten after their time"),
	COUNTER("evicted", struct fdb_counters, evicted, "addresses", "that gave way to new ones"),
	COUNTER("refused", struct fdb_counters, refused, "addresses",
		"not learned for want of room"),
	{ NULL }
};

static json_t *drops_to_json(const uint64_t *drops)
{
	json_t *object = json_object();

	for (int reason = 0; reason < DROP_COUNT; reason++) {
		uint64_t count = counter_read(&drops[reason]);

		if (count > 0)
			json_object_set_new(object, drop_name((enum drop)reason),
					    json_integer((json_int_t)count));
	}
	return object;
}

void metric_add_json(const struct metric *rows, const void *from, json_t *object)
{
	for (const struct metric *row = rows; row->name != NULL; row++) {
		const uint64_t *value =
			(const uint64_t *)(const void *)((const char *)from + row->offset);

		if (row->kind == METRIC_DROPS)
			json_object_set_new(object, row->name, drops_to_json(value));
		else
			json_object_set_new(object, row->name,
					    json_integer((json_int_t)counter_read(value)));
	}
}
