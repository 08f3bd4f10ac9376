/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A trace as JSON: what became of each frame, step by step, from the records that workers made.
 *
 *     [{"time": "2026-01-31T12:00:00.123456789Z", "direction": "in", "length": 42,
 *       "source": "52:54:00:00:00:01", "destination": "ff:ff:ff:ff:ff:ff", "type": "0x0806",
 *       "steps": [{"step": "take", "result": "queue 0, by worker 0"},
 *                 {"step": "lookup", "result": "flooded: broadcast"},
 *                 {"step": "send", "port": "vm2", "result": "sent on queue 0"},
 *                 {"step": "send", "port": "vm3", "result": "dropped: ring_full, ..."}]}]
 *
 * Any thread.
 */
#pragma once

#include <jansson.h>

#include "telemetry/recorder.h"

/* What the records do not say. */
struct trace_facts {
	/* A port's name, valid until the next call. */
	const char *(*name)(void *argument, uint16_t port);
	void *argument;
	const char *port; /* that was traced */
	bool limited;     /* it has limits on the way in */
	bool guarded;     /* it has a guard */
	unsigned int most; /* frames */
};

/* A new reference; NULL without memory. */
json_t *trace_to_json(struct recorder_trace trace, const struct trace_facts *facts);
