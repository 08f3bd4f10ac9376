/* SPDX-License-Identifier: BSD-3-Clause */
/* Captures, traces and mirrors from a worker's side; worker/watch.h is the contract. */
#include "worker/watch.h"

#include <time.h>

#include "worker/capture.h"
#include "worker/egress.h"

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static bool is_wanted(const struct capture *capture, enum record_direction direction)
{
	return (direction == RECORD_IN ? capture->in : capture->out) &&
	       !__atomic_load_n(&capture->over, __ATOMIC_RELAXED);
}

/* What a record says of all frames of one queue's burst. */
static struct capture_record begin_record(const struct port_queue *queue,
					  enum record_direction direction, uint64_t time)
{
	return (struct capture_record){ .time = time,
					.direction = (uint8_t)direction,
					.queue = queue->index };
}

/* Appends the frame. On a port without VLANs that which it is in means nothing. */
static bool put_frame(struct capture *capture, uint16_t worker, const struct snapshot_port *port,
		      const struct frame *frame, struct capture_record *record)
{
	record->vlan = port->vlan.mode == VLAN_TRANSPARENT ? 0 : frame->vlan;
	return capture_put(capture, worker, frame, record);
}

/* ---- frames from the port ---- */

/* Notes a frame that is to be followed, as long as there is a number for it. */
static void trace_frame(struct worker *worker, struct capture *capture,
			const struct snapshot_port *from, struct frame *frame,
			struct capture_record *record)
{
	struct capture_ring *ring = &capture->rings[worker->index];

	if (ring->marks >= capture->most)
		return;
	record->mark = (uint16_t)(ring->marks + 1);
	if (!put_frame(capture, worker->index, from, frame, record))
		return;
	ring->marks++;
	frame->mark = record->mark;
	worker->traced = capture;
}

static void capture_burst(struct worker *worker, struct capture *capture,
			  const struct snapshot_port *from, const struct port_queue *queue,
			  uint64_t time)
{
	struct burst *burst = worker->burst;

	for (uint16_t i = 0; i < burst->count; i++) {
		struct capture_record record = begin_record(queue, RECORD_IN, time);
		struct frame *frame = &burst->frames[i];

		record.is_dropped = frame->verdict == VERDICT_DROP;
		record.drop = frame->drop;
		if (capture->traces)
			trace_frame(worker, capture, from, frame, &record);
		else
			put_frame(capture, worker->index, from, frame, &record);
	}
}

void watch_received(struct worker *worker, const struct snapshot_port *from,
		    const struct port_queue *queue)
{
	const struct capture_set *set = from->taps->captures;
	const uint64_t time = set != NULL ? now_ns() : 0;

	for (uint16_t i = 0; set != NULL && i < set->count; i++) {
		struct capture *capture = set->captures[i];

		if (!is_wanted(capture, RECORD_IN))
			continue;
		if (capture->traces)
			for (uint16_t f = 0; f < worker->burst->count; f++)
				worker->burst->frames[f].mark = 0;
		capture_burst(worker, capture, from, queue, time);
	}
}

/* ---- mirrors ---- */

/* A frame that is one: its parts are all there, and its offload header was checked. */
static bool is_whole(const struct frame *frame)
{
	if (frame->verdict != VERDICT_DROP)
		return true;
	switch (frame->drop) {
	case DROP_MALFORMED:
	case DROP_BAD_OFFLOAD:
	case DROP_TOO_SHORT:
	case DROP_TOO_LONG:
	case DROP_NO_BUFFER:
	case DROP_NO_MEMORY:
	case DROP_DEVICE:
		return false;
	default:
		return true;
	}
}

void watch_forwarded(struct worker *worker, const struct snapshot_port *from)
{
	const struct snapshot_port *to = from->taps->mirror_in;
	struct burst *burst = worker->burst;
	struct stage stage = { .count = 0 };

	worker->traced = NULL;
	if (to == NULL)
		return;
	for (uint16_t i = 0; i < burst->count; i++)
		if (is_whole(&burst->frames[i]))
			stage.frames[stage.count++] = &burst->frames[i];
	egress_mirror(worker, to, &stage);
}

void watch_offered(struct worker *worker, const struct snapshot_port *to,
		   struct frame *const *frames, uint16_t count)
{
	const struct snapshot_port *mirror = to->taps->mirror_out;
	struct stage stage = { .count = 0 };

	if (mirror == NULL)
		return;
	for (uint16_t i = 0; i < count; i++)
		if (frames[i]->port != mirror->port->number)
			stage.frames[stage.count++] = frames[i];
	egress_mirror(worker, mirror, &stage);
}

/* ---- frames to the port ---- */

static void capture_sent(struct worker *worker, const struct snapshot_port *to,
			 const struct port_queue *queue, struct frame *const *frames,
			 uint16_t count, uint64_t lost, enum drop reason)
{
	const struct capture_set *set = to->taps != NULL ? to->taps->captures : NULL;
	const uint64_t time = set != NULL ? now_ns() : 0;

	for (uint16_t i = 0; set != NULL && i < set->count; i++) {
		if (!is_wanted(set->captures[i], RECORD_OUT))
			continue;
		for (uint16_t f = 0; f < count; f++) {
			struct capture_record record = begin_record(queue, RECORD_OUT, time);

			record.is_dropped = lost >> f & 1;
			record.drop = (uint8_t)reason;
			put_frame(set->captures[i], worker->index, to, frames[f], &record);
		}
	}
}

static void trace_step(struct worker *worker, enum record_kind kind, const struct frame *frame,
		       uint16_t port, uint16_t queue, uint16_t needs, enum drop reason)
{
	struct capture_record record = { .kind = (uint8_t)kind,
					 .mark = frame->mark,
					 .port = port,
					 .queue = queue,
					 .needs = needs,
					 .drop = (uint8_t)reason };

	if (frame->mark != 0)
		capture_step(worker->traced, worker->index, &record);
}

/* What became of frames: those of the bits of `lost` were dropped. */
static void note_ends(struct worker *worker, const struct snapshot_port *to,
		      const struct port_queue *queue, struct frame *const *frames, uint16_t count,
		      uint64_t lost, enum drop reason)
{
	capture_sent(worker, to, queue, frames, count, lost, reason);
	if (worker->traced == NULL)
		return;
	for (uint16_t i = 0; i < count; i++)
		trace_step(worker, lost >> i & 1 ? RECORD_DROPPED : RECORD_SENT, frames[i],
			   to->port->number, queue->index, 0, reason);
}

void watch_sent(struct worker *worker, const struct snapshot_port *to,
		const struct port_queue *queue, struct frame *const *frames, uint16_t count,
		const struct tx_outcome *outcome)
{
	/* Of two reasons in one burst, which is rarer still, the first stands for both. */
	enum drop reason = outcome->too_long > 0  ? DROP_TOO_LONG
			   : outcome->refused > 0 ? DROP_DEVICE
						  : DROP_NO_BUFFER;

	note_ends(worker, to, queue, frames, count, outcome->lost, reason);
}

void watch_dropped(struct worker *worker, const struct snapshot_port *to,
		   const struct port_queue *queue, struct frame *const *frames, uint16_t count,
		   enum drop reason)
{
	note_ends(worker, to, queue, frames, count, UINT64_MAX, reason);
}

void watch_queued(struct worker *worker, const struct snapshot_port *to, const struct frame *frame)
{
	trace_step(worker, RECORD_QUEUED, frame, to->port->number, 0, 0, DROP_NO_DESTINATION);
}

void watch_adapted(struct worker *worker, const struct snapshot_port *to,
		   const struct frame *frame, uint16_t needs)
{
	if (worker->traced != NULL)
		trace_step(worker, RECORD_ADAPTED, frame, to->port->number, 0, needs,
			   DROP_NO_DESTINATION);
}
