/* SPDX-License-Identifier: BSD-3-Clause */
/* Frames staged for a rig's ports by hand, and what became of them. Include after rig.h. */
#pragma once

/* A frame in the worker's burst, as forwarding leaves it. */
static inline struct frame *add(struct rig *rig, const uint8_t *bytes, uint32_t length)
{
	struct burst *burst = rig->worker->burst;
	struct frame *frame = &burst->frames[burst->count++];

	memset(frame, 0, sizeof(*frame));
	frame->segments = 1;
	frame->length = length;
	frame->head_length = (uint16_t)(length < FRAME_HEAD_PLAIN ? length : FRAME_HEAD_PLAIN);
	memcpy(frame->head, bytes, frame->head_length);
	if (length > frame->head_length) {
		struct view *view = &burst->views[burst->view_count++];

		*view = (struct view){ bytes + frame->head_length, length - frame->head_length };
		frame->views = view;
		frame->view_count = 1;
	}
	return frame;
}

static inline void stage(struct rig *rig, struct frame *frame, uint16_t port)
{
	struct forward *forward = &rig->worker->forward;

	if (forward->stages[port].count == 0)
		forward->staged[forward->staged_count++] = port;
	forward->stages[port].frames[forward->stages[port].count++] = frame;
}

/* A frame whose first payload byte is a mark, staged for a port. */
static inline struct frame *send_marked(struct rig *rig, uint16_t port, uint8_t mark,
					uint32_t length)
{
	struct frame *frame;

	packet_ethernet(rig->bytes, rig_mac(port), rig_mac(99), length);
	rig->bytes[14] = mark;
	frame = add(rig, rig->bytes, length);
	stage(rig, frame, port);
	return frame;
}

static inline void send_burst(struct rig *rig)
{
	egress_burst(rig->worker, rig->snapshot);
	assert_int_equal(rig->worker->forward.staged_count, 0);
	for (uint16_t i = 0; i < rig->port_count; i++)
		assert_int_equal(rig->worker->forward.stages[i].count, 0);
	burst_reset(rig->worker->burst);
}

static inline struct tx_counters counters_of(struct rig *rig, uint16_t port)
{
	struct port_counters sum;

	port_sum_counters(rig->ports[port], &sum);
	assert_int_equal(sum.tx.offered + sum.tx.cut,
			 sum.tx.packets + sum.tx.queued + rig_dropped(sum.tx.dropped));
	return sum.tx;
}

/* What queue 0 of the port has kept is frames with these marks, in this order. */
static inline void check_marks(struct rig *rig, uint16_t port, const char *marks)
{
	assert_int_equal(memory_counts(rig->ports[port], 0).kept, strlen(marks));
	for (uint32_t i = 0; marks[i] != '\0'; i++)
		assert_int_equal(memory_sent(rig->ports[port], 0, i)->bytes[14], marks[i]);
}
