/* SPDX-License-Identifier: BSD-3-Clause */
/* Transmission of what forwarding staged; worker/egress.h is the contract. */
#include "worker/egress.h"

#include <errno.h>
#include <stdlib.h>

#include <rte_branch_prediction.h>
#include <rte_cycles.h>
#include <rte_pause.h>
#include <rte_random.h>

#include "frame/checksum.h"
#include "frame/parse.h"
#include "frame/segment.h"
#include "frame/tag.h"
#include "frame/vnet.h"
#include "port/tx_lock.h"
#include "worker/egress_queue.h"
#include "worker/watch.h"

static void count_drops(struct tx_counters *counters, enum drop reason, uint64_t frames)
{
	if (frames > 0)
		counter_add(&counters->dropped[reason], frames);
}

/*
 * Frames on their way to one queue, some of them made here in place of what the receiver cannot
 * take. Small enough to stay in the caches while it is filled and emptied in turn.
 */
#define OUTGOING_VIEWS (BURST_MAX + FRAME_VIEWS_MAX)
#define OUTGOING_BYTES FRAME_LENGTH_MAX

#define NEEDS_CUT (NEEDS_TSO4 | NEEDS_TSO6 | NEEDS_UFO | NEEDS_USO)

/*
 * Segments that are cut of one burst's frames for all their receivers: 64 frames of 64 KiB are
 * 7,800 at the MSS of 536 that is TCP's smallest default (RFC 9293, 3.7.1). A guest that asks for
 * tiny ones, or floods, delays the others by no more than about half a millisecond.
 */
#define SEGMENTS_MAX 8192

struct outgoing {
	struct worker *worker;
	const struct snapshot_port *to;
	struct port_queue *queue;
	struct tx_counters *counters;
	uint32_t accepts; /* enum frame_needs of the receiver */
	uint32_t segments; /* cut of this burst's frames, for all queues */
	uint64_t full_since; /* when one of them first found no room, TSC; 0: it has not happened */
	bool reached;     /* there was a receiver */
	bool full;        /* and the last batch did not find room */
	struct charge *delivered; /* is added to, where a limit asks; or NULL */
	uint16_t count;
	uint16_t view_count;
	uint32_t byte_count;
	struct frame *frames[BURST_MAX];
	struct frame made[BURST_MAX]; /* by index of the frame that points here */
	struct frame retagged; /* one that is not yet what the receiver takes */
	struct view views[OUTGOING_VIEWS];
	uint8_t bytes[OUTGOING_BYTES];
};

struct outgoing *outgoing_new(struct worker *worker)
{
	struct outgoing *outgoing = aligned_alloc(64, (sizeof(*outgoing) + 63) / 64 * 64);

	if (outgoing == NULL)
		return NULL;
	memset(outgoing, 0, sizeof(*outgoing));
	outgoing->worker = worker;
	return outgoing;
}

/*
 * What was delivered, as limits count it. A port does not say which frames it refused: the headers
 * that their segments would have had are charged with those of the others.
 */
static __rte_noinline void add_delivered(struct charge *delivered, struct frame *const *frames,
					 const struct tx_outcome *outcome)
{
	const unsigned int ended = outcome->packets + outcome->too_long + outcome->refused +
				   outcome->no_buffer;

	delivered->packets += outcome->segments;
	delivered->bytes += outcome->bytes;
	if (outcome->segments == outcome->packets)
		return;
	for (unsigned int i = 0; i < ended; i++)
		delivered->bytes += vnet_charge(frames[i]).bytes - frames[i]->length;
}

/* Drops copies that were meant for a queue. */
static inline void drop_frames(struct worker *worker, const struct snapshot_port *to,
			       struct port_queue *queue, struct frame *const *frames,
			       uint16_t count, enum drop reason)
{
	count_drops(&queue->counters[worker->index].tx, reason, count);
	if (unlikely(watch_is_on(worker, to)))
		watch_dropped(worker, to, queue, frames, count, reason);
}

/* Counts all but those that found no room. Returns how many these are, or -ENOTCONN. */
static inline int try_frames(struct worker *worker, const struct snapshot_port *to,
			     struct port_queue *queue, struct frame *const *frames, uint16_t count)
{
	struct tx_counters *counters = &queue->counters[worker->index].tx;
	struct charge *delivered = worker->outgoing->delivered;
	struct tx_outcome outcome = { 0 };
	int result, left;

	port_lock_tx(queue);
	result = queue->ops->tx_burst(queue, frames, count, &outcome);
	port_unlock_tx(queue);
	if (unlikely(result != 0)) {
		drop_frames(worker, to, queue, frames, count, DROP_NOT_CONNECTED);
		return -ENOTCONN;
	}
	counter_add(&counters->packets, outcome.packets);
	counter_add(&counters->bytes, outcome.bytes);
	counter_add(&counters->segments, outcome.segments);
	count_drops(counters, DROP_TOO_LONG, outcome.too_long);
	count_drops(counters, DROP_DEVICE, outcome.refused);
	count_drops(counters, DROP_NO_BUFFER, outcome.no_buffer);
	if (unlikely(delivered != NULL))
		add_delivered(delivered, frames, &outcome);
	left = count - outcome.packets - outcome.too_long - outcome.refused - outcome.no_buffer;
	if (unlikely(watch_is_on(worker, to)))
		watch_sent(worker, to, queue, frames, (uint16_t)(count - left), &outcome);
	return left;
}

/*
 * Tries frames again that found no room, until all have or the time is over. The receiver may be
 * asleep and not know yet of what lies in its ring. Returns as try_frames does.
 */
static __rte_noinline int retry(struct worker *worker, const struct snapshot_port *to,
				struct port_queue *queue, struct frame *const *frames, int left)
{
	struct outgoing *outgoing = worker->outgoing;
	struct tx_counters *counters = &queue->counters[worker->index].tx;
	uint64_t now = rte_get_tsc_cycles(), until;
	bool untold = true;

	if (outgoing->full_since == 0)
		outgoing->full_since = now;
	until = outgoing->full_since + to->retry * worker->cycles_per_us;
	while (left > 0 && now < until) {
		int before = left;

		if (untold) {
			worker->notices[worker->notice_count++] =
				(struct notice){ queue, PORT_TX };
			worker_notify(worker);
		}
		rte_pause();
		counter_add(&counters->retries, 1);
		left = try_frames(worker, to, queue, frames, (uint16_t)left);
		frames += before - left;
		untold = left < before;
		now = rte_get_tsc_cycles();
	}
	return left;
}

/* Returns how many found no room, or -ENOTCONN. */
static inline int send_frames(struct worker *worker, const struct snapshot_port *to,
			      struct port_queue *queue, struct frame *const *frames, uint16_t count)
{
	int left = try_frames(worker, to, queue, frames, count);

	if (unlikely(left > 0)) {
		if (to->retry > 0)
			left = retry(worker, to, queue, frames + count - left, left);
		if (left > 0)
			drop_frames(worker, to, queue, frames + count - left, (uint16_t)left,
				    DROP_RING_FULL);
	}
	return left;
}

/* ---- adaptation ---- */

static void flush(struct outgoing *outgoing)
{
	int left;

	if (outgoing->count == 0)
		return;
	left = send_frames(outgoing->worker, outgoing->to, outgoing->queue, outgoing->frames,
			   outgoing->count);
	outgoing->reached |= left >= 0;
	outgoing->full = left > 0;
	outgoing->count = 0;
	outgoing->view_count = 0;
	outgoing->byte_count = 0;
}

/* The frame, or so many parts of it, will not be sent. */
static void drop_frame(struct outgoing *outgoing, const struct frame *frame, enum drop reason)
{
	struct frame *dropped = (struct frame *)(uintptr_t)frame;

	drop_frames(outgoing->worker, outgoing->to, outgoing->queue, &dropped, 1, reason);
}

static void put(struct outgoing *outgoing, struct frame *frame)
{
	if (outgoing->count == BURST_MAX)
		flush(outgoing);
	outgoing->frames[outgoing->count++] = frame;
}

/* The slot for a frame that is made here, with room for its views and so many bytes. */
static struct frame *next_made(struct outgoing *outgoing, uint32_t bytes)
{
	if (outgoing->count == BURST_MAX ||
	    outgoing->view_count + FRAME_VIEWS_MAX > OUTGOING_VIEWS ||
	    outgoing->byte_count + bytes > OUTGOING_BYTES)
		flush(outgoing);
	return &outgoing->made[outgoing->count];
}

static void fill(struct outgoing *outgoing, const struct frame *frame, struct frame *made)
{
	checksum_fill(frame, made, &outgoing->views[outgoing->view_count++],
		      outgoing->bytes + outgoing->byte_count);
	outgoing->byte_count += frame->length;
	made->mark = frame->mark;
}

static void fill_frame(struct outgoing *outgoing, const struct frame *frame)
{
	struct frame *made = next_made(outgoing, frame->length);

	fill(outgoing, frame, made);
	put(outgoing, made);
}

/* Without the mark that its checksum is good. */
static void unmark_frame(struct outgoing *outgoing, const struct frame *frame)
{
	struct frame *made = next_made(outgoing, 0);

	memcpy(made, frame, offsetof(struct frame, head) + frame->head_length);
	memset(&made->vnet, 0, sizeof(made->vnet));
	made->needs = 0;
	put(outgoing, made);
}

/* *bytes: what each segment of the frame needs of its own. Returns 0 or -EINVAL. */
static int begin_cut(struct outgoing *outgoing, const struct frame *frame,
		     struct segmenter *segmenter, uint32_t *bytes)
{
	if (!(frame->needs & NEEDS_UFO)) {
		*bytes = (uint32_t)frame->vnet.hdr_len + frame->vnet.gso_size;
		return segment_begin(segmenter, frame, NULL, 0);
	}
	*bytes = 0;
	next_made(outgoing, frame->length);
	return segment_begin(segmenter, frame, outgoing->bytes + outgoing->byte_count,
			     (uint32_t)rte_rand());
}

/*
 * Gives a frame the tag that it has on the receiver's side. Returns one that may need more, or NULL
 * where all is done.
 */
static const struct frame *retag_frame(struct outgoing *outgoing, const struct frame *frame)
{
	const enum tag_change change = vlan_leave(&outgoing->to->vlan, frame);
	const bool is_all = (frame->needs & ~outgoing->accepts & ~NEEDS_TAGS) == 0;
	struct frame *made;

	if (change == TAG_INSERT && frame->length + TAG_LENGTH > FRAME_LENGTH_MAX) {
		drop_frame(outgoing, frame, DROP_TOO_LONG);
		return NULL;
	}
	made = is_all ? next_made(outgoing, 0) : &outgoing->retagged;
	tag_change(frame, change, made);
	if (!is_all)
		return made;
	put(outgoing, made);
	return NULL;
}

static void cut_frame(struct outgoing *outgoing, const struct frame *frame)
{
	struct segmenter segmenter;
	uint32_t bytes;

	if (outgoing->segments + frame->segments > SEGMENTS_MAX) {
		drop_frame(outgoing, frame, DROP_NO_BUFFER);
		return;
	}
	if (begin_cut(outgoing, frame, &segmenter, &bytes) != 0) {
		drop_frame(outgoing, frame, DROP_BAD_OFFLOAD);
		return;
	}
	outgoing->segments += frame->segments;
	counter_add(&outgoing->counters->cut, frame->segments - 1u);
	outgoing->full = false;
	for (uint16_t left = frame->segments; left > 0; left--) {
		struct frame *made = next_made(outgoing, bytes);

		if (outgoing->full) {
			/* No work for segments that have no place to go. */
			count_drops(outgoing->counters, DROP_RING_FULL, left - 1u);
			drop_frame(outgoing, frame, DROP_RING_FULL);
			return;
		}
		segment_next(&segmenter, made, &outgoing->views[outgoing->view_count]);
		made->mark = frame->mark;
		if ((made->needs & ~outgoing->accepts) == 0)
			outgoing->view_count += made->view_count;
		else
			fill(outgoing, made, made);
		put(outgoing, made);
	}
	/* Fragments are views of bytes that the next frame may overwrite. */
	if (bytes == 0)
		flush(outgoing);
}

/* The longest packet that the frame stands for, without its VLAN tags (up to two). */
static uint32_t longest_packet(const struct frame *frame)
{
	const struct virtio_net_hdr *vnet = &frame->vnet;
	const uint8_t *type = frame->head + ETHERNET_HEADER - 2;
	uint32_t length = frame->length;
	uint16_t ethertype = (uint16_t)(type[0] << 8 | type[1]);

	if (vnet->gso_type == VIRTIO_NET_HDR_GSO_UDP)
		length = (uint32_t)vnet->csum_start + vnet->gso_size;
	else if (vnet->gso_type != VIRTIO_NET_HDR_GSO_NONE)
		length = (uint32_t)vnet->hdr_len + vnet->gso_size;
	for (int tags = 0; tags < 2; tags++) {
		if (ethertype != ETHERTYPE_VLAN && ethertype != ETHERTYPE_QINQ)
			break;
		length -= 4;
		type += 4;
		ethertype = (uint16_t)(type[0] << 8 | type[1]);
	}
	if (vnet->gso_type == VIRTIO_NET_HDR_GSO_UDP && ethertype == ETHERTYPE_IPV6)
		length += FRAGMENT_HEADER;
	return length;
}

static void note_adapted(const struct outgoing *outgoing, const struct frame *frame)
{
	if (unlikely(outgoing->worker->traced != NULL))
		watch_adapted(outgoing->worker, outgoing->to, frame,
			      (uint16_t)(frame->needs & ~outgoing->accepts));
}

/* A frame that cannot go as it is. */
static void adapt_frame(struct outgoing *outgoing, const struct frame *frame)
{
	note_adapted(outgoing, frame);
	if (frame->needs & ~outgoing->accepts & NEEDS_TAGS) {
		frame = retag_frame(outgoing, frame);
		if (frame == NULL)
			return;
	}
	if (frame->needs & NEEDS_CUT)
		cut_frame(outgoing, frame);
	else if (frame->needs & NEEDS_VALID)
		unmark_frame(outgoing, frame);
	else
		fill_frame(outgoing, frame);
}

bool egress_is_too_long(const struct frame *frame, uint32_t max_length)
{
	return frame->length > max_length && longest_packet(frame) > max_length;
}

/* The frames one by one, as some of them cannot go as they are. Returns whether anybody got any. */
static bool adapt(struct outgoing *outgoing, struct frame *const *frames, uint16_t count,
		  uint32_t max_length)
{
	outgoing->reached = false;
	for (uint16_t i = 0; i < count; i++) {
		struct frame *frame = frames[i];

		if (egress_is_too_long(frame, max_length))
			drop_frame(outgoing, frame, DROP_MTU);
		else if ((frame->needs & ~outgoing->accepts) == 0)
			put(outgoing, frame);
		else
			adapt_frame(outgoing, frame);
	}
	flush(outgoing);
	return outgoing->reached;
}

/* ---- transmission ---- */

/* Whatever the frames need: nobody gets them. */
static void drop_all(struct worker *worker, const struct snapshot_port *to,
		     struct frame *const *frames, uint16_t count, enum drop reason)
{
	struct port_queue *queue = &to->port->queues[0];

	counter_add(&queue->counters[worker->index].tx.offered, count);
	drop_frames(worker, to, queue, frames, count, reason);
}

/*
 * What of enum frame_needs keeps some of the frames from going as they are. All of it where one is
 * longer than the limit: it needs a closer look.
 */
static inline uint32_t lacking(struct frame *const *frames, uint16_t count, uint32_t accepts,
			       uint32_t max_length)
{
	uint32_t needs = 0, longest = 0;

	for (uint16_t i = 0; i < count; i++) {
		needs |= frames[i]->needs;
		if (frames[i]->length > longest)
			longest = frames[i]->length;
	}
	return longest <= max_length ? needs & ~accepts : UINT32_MAX;
}

/* Nothing but the tags of some frames has to be changed. Returns whether anybody got any. */
static bool retag(struct outgoing *outgoing, struct frame *const *frames, uint16_t count)
{
	struct frame *changed[BURST_MAX];
	uint16_t kept = 0;

	for (uint16_t i = 0; i < count; i++) {
		struct frame *frame = frames[i], *made = &outgoing->made[kept];
		enum tag_change change = frame->needs & ~outgoing->accepts
						 ? vlan_leave(&outgoing->to->vlan, frame)
						 : TAG_KEEP;

		if (change == TAG_INSERT && frame->length + TAG_LENGTH > FRAME_LENGTH_MAX) {
			drop_frame(outgoing, frame, DROP_TOO_LONG);
			continue;
		}
		if (change != TAG_KEEP) {
			note_adapted(outgoing, frame);
			tag_change(frame, change, made);
		}
		changed[kept++] = change != TAG_KEEP ? made : frame;
	}
	return kept > 0 && send_frames(outgoing->worker, outgoing->to, outgoing->queue, changed,
				       kept) >= 0;
}

/* All frames go to this queue of the port. `counted`: they are in `offered` already. */
static inline void transmit(struct worker *worker, const struct snapshot_port *to,
			    struct port_queue *queue, struct frame *const *frames, uint16_t count,
			    bool counted)
{
	struct tx_counters *counters = &queue->counters[worker->index].tx;
	uint32_t accepts = __atomic_load_n(&to->port->tx_accepts, __ATOMIC_RELAXED) | to->tags;
	const uint32_t lacks = lacking(frames, count, accepts, to->max_length);
	bool reached;

	if (likely(!counted))
		counter_add(&counters->offered, count);
	if (likely(lacks == 0)) {
		reached = send_frames(worker, to, queue, frames, count) >= 0;
	} else {
		worker->outgoing->to = to;
		worker->outgoing->queue = queue;
		worker->outgoing->counters = counters;
		worker->outgoing->accepts = accepts;
		reached = (lacks & ~(uint32_t)NEEDS_TAGS) == 0
				  ? retag(worker->outgoing, frames, count)
				  : adapt(worker->outgoing, frames, count, to->max_length);
	}
	if (likely(reached))
		worker->notices[worker->notice_count++] = (struct notice){ queue, PORT_TX };
}

/*
 * Spreads the frames over the queues that the receiver has enabled, a flow always to the same, so
 * that none stays silent and no flow is reordered.
 */
static void spread(struct worker *worker, const struct snapshot_port *to, uint16_t ready,
		   struct frame **frames, uint16_t left, bool counted)
{
	struct port *port = to->port;
	struct frame *picked[BURST_MAX];
	uint16_t queues[BURST_MAX];

	for (uint16_t i = 0; i < left; i++) {
		uint32_t slot = parse_flow_hash(frames[i]) % ready;

		queues[i] = __atomic_load_n(&port->tx_map[slot], __ATOMIC_RELAXED);
	}
	while (left > 0) {
		uint16_t queue = queues[0];
		uint16_t count = 0, kept = 0;

		for (uint16_t i = 0; i < left; i++) {
			if (queues[i] == queue) {
				picked[count++] = frames[i];
			} else {
				frames[kept] = frames[i];
				queues[kept++] = queues[i];
			}
		}
		left = kept;
		transmit(worker, to, &port->queues[queue], picked, count, counted);
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

void egress_deliver(struct worker *worker, const struct snapshot_port *to, struct frame **frames,
		    uint16_t count, bool counted, struct charge *delivered)
{
	struct port *port = to->port;
	uint16_t ready = __atomic_load_n(&port->tx_ready, __ATOMIC_ACQUIRE);
	uint16_t first = __atomic_load_n(&port->tx_map[0], __ATOMIC_RELAXED);

	make_room_for_notices(worker);
	worker->outgoing->delivered = delivered;
	if (likely(ready <= 1))
		transmit(worker, to, &port->queues[first], frames, count, counted);
	else
		spread(worker, to, ready, frames, count, counted);
	worker->outgoing->delivered = NULL;
}

void egress_begin(struct worker *worker)
{
	worker->outgoing->segments = 0;
	worker->outgoing->full_since = 0;
}

/* Brings frames to a port, whatever its state. Uses the array up. */
static inline void deliver(struct worker *worker, const struct snapshot_port *to,
			   struct stage *stage)
{
	struct frame **frames = stage->frames;
	const uint16_t count = stage->count;
	struct port *port = to->port;
	uint16_t ready = __atomic_load_n(&port->tx_ready, __ATOMIC_ACQUIRE);
	uint16_t first = __atomic_load_n(&port->tx_map[0], __ATOMIC_RELAXED);

	if (unlikely(!to->enabled)) {
		drop_all(worker, to, frames, count, DROP_DISABLED);
	} else if (unlikely(ready == 0)) {
		drop_all(worker, to, frames, count, DROP_NOT_CONNECTED);
	} else if (unlikely(to->is_limited)) {
		egress_limit(worker, to, stage);
	} else if (likely(ready == 1)) {
		transmit(worker, to, &port->queues[first], frames, count, false);
	} else {
		spread(worker, to, ready, frames, count, false);
	}
}

void egress_mirror(struct worker *worker, const struct snapshot_port *to, struct stage *stage)
{
	if (stage->count == 0)
		return;
	counter_add(&to->port->queues[0].counters[worker->index].tx.mirrored, stage->count);
	make_room_for_notices(worker);
	deliver(worker, to, stage);
	make_room_for_notices(worker);
}

void egress_burst(struct worker *worker, const struct snapshot *snapshot)
{
	struct forward *forward = &worker->forward;

	egress_begin(worker);
	for (uint16_t i = 0; i < forward->staged_count; i++) {
		const struct snapshot_port *to = &snapshot->ports[forward->staged[i]];
		struct stage *stage = &forward->stages[forward->staged[i]];

		if (i > 0)
			make_room_for_notices(worker);
		if (unlikely(to->taps != NULL))
			watch_offered(worker, to, stage->frames, stage->count);
		deliver(worker, to, stage);
		stage->count = 0;
	}
	forward->staged_count = 0;
}
