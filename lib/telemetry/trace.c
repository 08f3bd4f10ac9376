/* SPDX-License-Identifier: BSD-3-Clause */
/* From records to steps; telemetry/trace.h is the contract. */
#include "telemetry/trace.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/units.h"
#include "frame/parse.h"
#include "frame/tag.h"
#include "telemetry/record_text.h"

#define TEXT_SIZE 200
#define RECEIVERS_MAX 16 /* of one frame that are told of one by one */

/* The step at which a frame from a port may be dropped, in their order. */
enum stage { STAGE_CHECK, STAGE_LIMIT, STAGE_PORT, STAGE_GUARD, STAGE_VLAN, STAGE_LOOKUP };

static const char *const stage_names[] = { "check", "limit", "port", "guard", "vlan", "lookup" };

static enum stage stage_of(enum drop reason)
{
	switch (reason) {
	case DROP_MALFORMED:
	case DROP_BAD_OFFLOAD:
	case DROP_TOO_SHORT:
	case DROP_TOO_LONG:
	case DROP_NO_BUFFER:
	case DROP_NO_MEMORY:
	case DROP_BAD_SOURCE:
	case DROP_LINK_LOCAL:
		return STAGE_CHECK;
	case DROP_LIMIT:
		return STAGE_LIMIT;
	case DROP_DISABLED:
		return STAGE_PORT;
	case DROP_GUARD:
		return STAGE_GUARD;
	case DROP_VLAN:
		return STAGE_VLAN;
	default:
		return STAGE_LOOKUP;
	}
}

static void add_step(json_t *steps, const char *step, const char *result)
{
	json_array_append_new(steps, json_pack("{s:s, s:s}", "step", step, "result", result));
}

static void say_dropped(enum drop reason, char *text, size_t size)
{
	snprintf(text, size, "dropped: %s, %s", drop_name(reason), drop_text(reason));
}

static bool is_group(const uint8_t *mac)
{
	return mac[0] & 1;
}

static const char *flood_reason(const uint8_t *destination)
{
	static const uint8_t broadcast[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

	if (memcmp(destination, broadcast, sizeof(broadcast)) == 0)
		return "broadcast";
	return is_group(destination) ? "multicast" : "its port is not known";
}

/* ---- the receivers of a frame ---- */

static void say_adapted(uint16_t needs, char *text, size_t size)
{
	snprintf(text, size, "%s%s%s",
		 needs & NEEDS_TAGS ? "VLAN tag changed; " : "",
		 needs & (NEEDS_TSO4 | NEEDS_TSO6 | NEEDS_UFO | NEEDS_USO) ? "cut into segments; "
									   : "",
		 needs & (NEEDS_CHECKSUM | NEEDS_FILL) ? "checksum filled; " : "");
}

static const struct trace_record *next_of(struct recorder_trace trace, size_t *at)
{
	const struct trace_record *record = (const void *)(trace.bytes + *at);

	if (*at >= trace.length)
		return NULL;
	*at += sizeof(*record) + ((record->record.captured + 7u) & ~7u);
	return record;
}

/* What became of a frame, or of the segments that it was cut into, at one port. */
struct receiver {
	uint16_t port, queue, needs;
	enum drop reason;
	unsigned int sent, dropped, queued;
};

/* Of a flooded frame there may be many: those behind the first ones are counted only. */
struct receivers {
	unsigned int count, more;
	struct receiver list[RECEIVERS_MAX];
};

static void note_step(struct receivers *receivers, const struct capture_record *step)
{
	struct receiver *receiver = receivers->list;

	while (receiver < receivers->list + receivers->count && receiver->port != step->port)
		receiver++;
	if (receiver == receivers->list + RECEIVERS_MAX) {
		receivers->more += step->kind != RECORD_ADAPTED;
		return;
	}
	if (receiver == receivers->list + receivers->count) {
		receivers->count++;
		*receiver = (struct receiver){ .port = step->port };
	}
	switch (step->kind) {
	case RECORD_ADAPTED:
		receiver->needs |= step->needs;
		break;
	case RECORD_SENT:
		receiver->sent++;
		receiver->queue = step->queue;
		break;
	case RECORD_QUEUED:
		receiver->queued++;
		break;
	default:
		receiver->dropped++;
		receiver->reason = (enum drop)step->drop;
	}
}

static void add_receiver(json_t *steps, const struct receiver *receiver,
			 const struct trace_facts *facts)
{
	char adapted[TEXT_SIZE], sent[TEXT_SIZE] = "", dropped[TEXT_SIZE] = "";

	say_adapted(receiver->needs, adapted, sizeof(adapted));
	if (receiver->sent == 1)
		snprintf(sent, sizeof(sent), "sent on queue %u", receiver->queue);
	else if (receiver->sent > 1)
		snprintf(sent, sizeof(sent), "%u frames sent on queue %u", receiver->sent,
			 receiver->queue);
	if (receiver->queued > 0)
		snprintf(sent, sizeof(sent), "waits for the port's limit");
	if (receiver->dropped > 0)
		say_dropped(receiver->reason, dropped, sizeof(dropped));
	json_array_append_new(steps, json_pack("{s:s, s:s, s:s+++}", "step", "send", "port",
					       facts->name(facts->argument, receiver->port),
					       "result", adapted, sent,
					       receiver->sent > 0 && receiver->dropped > 0
						       ? "; the rest " : "", dropped));
}

/* The steps of a burst stand behind the records of all its frames, and before the next burst's. */
static void add_receivers(json_t *steps, struct recorder_trace trace, size_t at,
			  const struct trace_record *frame, const struct trace_facts *facts)
{
	struct receivers receivers = { .count = 0 };
	const struct trace_record *step;
	bool behind_frames = false;
	char text[TEXT_SIZE];

	while ((step = next_of(trace, &at)) != NULL) {
		if (step->worker != frame->worker)
			continue;
		if (behind_frames && step->record.kind == RECORD_FRAME)
			break;
		behind_frames |= step->record.kind != RECORD_FRAME;
		if (step->record.kind != RECORD_FRAME && step->record.mark == frame->record.mark)
			note_step(&receivers, &step->record);
	}
	for (unsigned int i = 0; i < receivers.count; i++)
		add_receiver(steps, &receivers.list[i], facts);
	if (receivers.more > 0) {
		snprintf(text, sizeof(text), "and %u copies more", receivers.more);
		add_step(steps, "send", text);
	}
}

/* ---- one frame ---- */

static void add_lookup(json_t *steps, const struct capture_record *record,
		       const uint8_t *bytes, const struct trace_facts *facts)
{
	const char *name;
	char text[TEXT_SIZE];

	if (record->verdict == VERDICT_FLOOD) {
		snprintf(text, sizeof(text), "flooded: %s", flood_reason(bytes));
	} else {
		name = facts->name(facts->argument, record->destination);
		if (is_group(bytes))
			snprintf(text, sizeof(text), "asks for a known neighbour: to port %s",
				 name);
		else
			snprintf(text, sizeof(text), "known: to port %s", name);
	}
	add_step(steps, "lookup", text);
}

static void add_steps_in(json_t *steps, const struct trace_record *frame,
			 const struct trace_facts *facts)
{
	const struct capture_record *record = &frame->record;
	const enum drop reason = (enum drop)record->drop;
	const enum stage end = stage_of(reason);
	char text[TEXT_SIZE];

	snprintf(text, sizeof(text), "queue %u, by worker %u", record->queue,
		 (unsigned int)frame->worker);
	add_step(steps, "take", text);
	if (facts->limited && (!record->is_dropped || end > STAGE_LIMIT))
		add_step(steps, "limit", "passed");
	if (facts->guarded && (!record->is_dropped || end > STAGE_GUARD))
		add_step(steps, "guard", "passed");
	if (record->vlan != 0 && (!record->is_dropped || end > STAGE_VLAN)) {
		snprintf(text, sizeof(text), "%u", record->vlan);
		add_step(steps, "vlan", text);
	}
	if (!record->is_dropped) {
		add_lookup(steps, record, (const uint8_t *)(frame + 1), facts);
		return;
	}
	say_dropped(reason, text, sizeof(text));
	add_step(steps, stage_names[end], text);
}

static void add_steps_out(json_t *steps, const struct trace_record *frame,
			  const struct trace_facts *facts)
{
	const struct capture_record *record = &frame->record;
	char text[TEXT_SIZE];

	snprintf(text, sizeof(text), "from port %s, %s",
		 facts->name(facts->argument, record->port),
		 record->verdict == VERDICT_FLOOD     ? "flooded"
		 : record->verdict == VERDICT_FORWARD ? "known"
						      : "mirrored");
	add_step(steps, "lookup", text);
	if (record->is_dropped)
		say_dropped((enum drop)record->drop, text, sizeof(text));
	else
		snprintf(text, sizeof(text), "sent on queue %u", record->queue);
	json_array_append_new(steps, json_pack("{s:s, s:s, s:s}", "step", "send", "port",
					       facts->port, "result", text));
}

static void add_time(json_t *object, uint64_t time)
{
	const time_t seconds = (time_t)(time / 1000000000u);
	struct tm parts;
	char text[64];
	size_t used;

	gmtime_r(&seconds, &parts);
	used = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &parts);
	snprintf(text + used, sizeof(text) - used, ".%09uZ", (unsigned int)(time % 1000000000u));
	json_object_set_new(object, "time", json_string(text));
}

/* What its first bytes say. */
static void add_headers(json_t *object, const uint8_t *bytes, uint32_t captured)
{
	char mac[MAC_TEXT_SIZE], text[16];
	uint32_t at = 12;
	unsigned int type;

	if (captured < ETHERNET_HEADER)
		return;
	mac_format(bytes + 6, mac);
	json_object_set_new(object, "source", json_string(mac));
	mac_format(bytes, mac);
	json_object_set_new(object, "destination", json_string(mac));
	type = (unsigned int)bytes[at] << 8 | bytes[at + 1];
	if (type == ETHERTYPE_VLAN && captured >= ETHERNET_HEADER + TAG_LENGTH) {
		const unsigned int tag = (unsigned int)bytes[at + 2] << 8 | bytes[at + 3];

		json_object_set_new(object, "tag", json_integer((json_int_t)(tag & TAG_VLAN)));
		at += TAG_LENGTH;
		type = (unsigned int)bytes[at] << 8 | bytes[at + 1];
	}
	snprintf(text, sizeof(text), "0x%04x", type);
	json_object_set_new(object, "type", json_string(text));
}

static json_t *frame_to_json(struct recorder_trace trace, size_t behind,
			     const struct trace_record *frame, const struct trace_facts *facts)
{
	const bool in = frame->record.direction == RECORD_IN;
	json_t *object = json_object(), *steps = json_array();
	char text[RECORD_TEXT_SIZE];

	add_time(object, frame->record.time);
	json_object_set_new(object, "direction", json_string(in ? "in" : "out"));
	json_object_set_new(object, "length", json_integer(frame->record.length));
	add_headers(object, (const uint8_t *)(frame + 1), frame->record.captured);
	record_offloads(&frame->record.vnet, text, sizeof(text));
	if (text[0] != '\0')
		json_object_set_new(object, "offloads", json_string(text));
	if (in) {
		add_steps_in(steps, frame, facts);
		add_receivers(steps, trace, behind, frame, facts);
	} else {
		add_steps_out(steps, frame, facts);
	}
	json_object_set_new(object, "steps", steps);
	return object;
}

json_t *trace_to_json(struct recorder_trace trace, const struct trace_facts *facts)
{
	json_t *list = json_array();
	const struct trace_record *record;
	size_t at = 0;

	while (json_array_size(list) < facts->most && (record = next_of(trace, &at)) != NULL)
		if (record->record.kind == RECORD_FRAME)
			json_array_append_new(list, frame_to_json(trace, at, record, facts));
	return list;
}
