/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Frames to the guest, over a split ring. Receive buffers are looked at ahead of their use, so that
 * their descriptors and first lines are here when a frame comes.
 */
#include "virtqueue/frame_out.h"
#include "virtqueue/split.h"

#include <errno.h>

/* Takes back entries of the used ring that were noted and not published. */
static void forget_used(struct virtqueue *vq, uint16_t first)
{
	mark_used(vq, first, (uint16_t)(vq->next_used - first));
	vq->next_used = first;
}

/*
 * Finds chains for `wanted` bytes from next_avail on and notes them in the used ring, without
 * publishing. A bad chain goes back empty, and with it those before it, for chains are completed in
 * order. Returns 1, 0 if the waiting chains do not suffice, or -EMSGSIZE if no waiting will help.
 */
static int find_room(struct virtqueue *vq, struct room *room, uint32_t wanted)
{
	uint16_t first_used = vq->next_used;
	uint16_t waiting = available(vq);

	room_reset(room);
	while (waiting-- > 0 && vq->walked < VIRTQUEUE_WALK_MAX) {
		uint16_t head = avail_entry(vq, (uint16_t)(vq->next_avail + room->chains));
		int bytes;

		if (head >= vq->size) {
			stop_ring(vq, VIRTQUEUE_BAD_HEAD);
			break;
		}
		bytes = room_add(vq, room, head, vq->size, wanted);
		if (bytes < 0) {
			/* Their heads are in the used ring already; they are not read again. */
			for (uint16_t i = 0; i < room->chains; i++)
				vq->used->ring[(first_used + i) & vq->mask].len = 0;
			put_used(vq, head, 0);
			count_malformed(vq);
			vq->next_avail = (uint16_t)(vq->next_avail + room->chains + 1);
			first_used = vq->next_used;
			room_reset(room);
			continue;
		}
		put_used(vq, head, (uint32_t)bytes);
		room->chains++;
		if (room->bytes == wanted)
			return 1;
		if (!vq->mergeable || room->count == VIRTQUEUE_PIECES_MAX) {
			/* These chains stay: a smaller frame may fit. */
			forget_used(vq, first_used);
			return -EMSGSIZE;
		}
	}
	forget_used(vq, first_used);
	/* All buffers that the driver can post are here, and together they are too small. */
	return room->chains == vq->size ? -EMSGSIZE : 0;
}

/* One frame into chains of any shape. Returns as find_room does. */
static int put_frame_slowly(struct virtqueue *vq, const struct frame *frame)
{
	struct room room;
	int found = find_room(vq, &room, vq->header_length + frame->length);

	if (found <= 0)
		return found;
	vq->next_avail = (uint16_t)(vq->next_avail + room.chains);
	room_fill(vq, &room, frame);
	return 1;
}

static inline bool is_before(uint16_t position, uint16_t end)
{
	return (int16_t)(end - position) > 0;
}

/*
 * Reads the heads of the next `count` positions, as far as there are, and asks for their
 * descriptors.
 */
static inline void look_at_heads(struct virtqueue *vq, uint16_t count)
{
	uint16_t end = (uint16_t)(vq->next_avail + count);
	uint16_t position;

	if (is_before(vq->avail_seen, end))
		end = vq->avail_seen;
	if (is_before(vq->heads_end, vq->next_avail))
		vq->heads_end = vq->next_avail;
	for (position = vq->heads_end; is_before(position, end); position++) {
		uint16_t head = avail_entry(vq, position);

		if (unlikely(head >= vq->size)) {
			stop_ring(vq, VIRTQUEUE_BAD_HEAD);
			break;
		}
		__builtin_prefetch(&vq->desc[head]);
		vq->heads[position & (VIRTQUEUE_HEADS_AHEAD - 1)] = head;
	}
	vq->heads_end = position;
}

/* Reads the descriptors of known heads and asks for the buffers of those that are one piece. */
static inline void look_at_buffers(struct virtqueue *vq, uint16_t count)
{
	uint16_t end = (uint16_t)(vq->next_avail + count);
	uint16_t position;

	if (is_before(vq->heads_end, end))
		end = vq->heads_end;
	if (is_before(vq->buffers_end, vq->next_avail))
		vq->buffers_end = vq->next_avail;
	for (position = vq->buffers_end; is_before(position, end); position++) {
		uint16_t head = vq->heads[position & (VIRTQUEUE_HEADS_AHEAD - 1)];
		struct vring_desc desc = read_descriptor(&vq->desc[head]).split;

		know_buffer(vq, position, desc.addr, desc.len, desc.flags, head);
	}
	vq->buffers_end = position;
}

/* Were the next `count` positions seen to be available? What was seen may lie behind next_avail. */
static inline bool is_seen(const struct virtqueue *vq, uint16_t count)
{
	return !is_before(vq->avail_seen, (uint16_t)(vq->next_avail + count));
}

/*
 * The available index is a line that travels: it is read only when what was seen does not suffice.
 */
static inline void see_available(struct virtqueue *vq, uint16_t count)
{
	if (!is_seen(vq, count))
		vq->avail_seen = (uint16_t)(vq->next_avail + available(vq));
}

/* Makes the buffers of the next `count` positions known. */
static inline void look_ahead(struct virtqueue *vq, uint16_t count)
{
	see_available(vq, count);
	look_at_heads(vq, count);
	look_at_buffers(vq, count);
}

/* Asks for what the next burst will need, of what is known to be there: nothing is waited for. */
static inline void prepare_next(struct virtqueue *vq)
{
	look_at_buffers(vq, VIRTQUEUE_BUFFERS_AHEAD);
	look_at_heads(vq, VIRTQUEUE_HEADS_AHEAD);
	prefetch_used(vq, VIRTQUEUE_BUFFERS_AHEAD);
}

void split_tx_expect(struct virtqueue *vq, unsigned int step)
{
	switch (step) {
	case 0:
		if (is_seen(vq, VIRTQUEUE_HEADS_AHEAD))
			return;
		__builtin_prefetch(&vq->avail->idx);
		__builtin_prefetch(&vq->avail->ring[vq->avail_seen & vq->mask]);
		__builtin_prefetch(&vq->avail->ring[(vq->avail_seen + 31) & vq->mask]);
		return;
	case 1:
		see_available(vq, VIRTQUEUE_HEADS_AHEAD);
		look_at_heads(vq, VIRTQUEUE_HEADS_AHEAD);
		return;
	default:
		look_at_buffers(vq, VIRTQUEUE_BUFFERS_AHEAD);
	}
}

/*
 * Puts frames into buffers that are known, up to the first frame that needs another one. Returns
 * how many it put. Compiled for each length of the header.
 */
static inline __attribute__((always_inline)) uint16_t
put_run(struct virtqueue *vq, struct frame *const *frames, uint16_t count,
	struct tx_outcome *outcome, const uint32_t header)
{
	const bool logged = vq->log != NULL;
	vring_used_elem_t *const used = vq->used->ring;
	uint16_t position = vq->next_avail;
	uint32_t segments = 0, bytes = 0;
	uint16_t i;

	for (i = 0; i < count && is_before(position, vq->buffers_end); i++, position++) {
		const struct virtqueue_buffer *buffer = known_buffer(vq, position);
		const struct frame *frame = frames[i];
		const uint32_t length = frame->length;
		vring_used_elem_t *element = &used[position & vq->mask];

		if (unlikely(buffer->length < header + length))
			break;
		write_header(buffer->address, frame, header);
		copy_frame(buffer->address + header, frame);
		if (unlikely(logged))
			mark_written(vq, buffer->address, header + length);
		element->id = buffer->head;
		element->len = header + length;
		segments += frame->segments;
		bytes += length;
	}
	vq->next_avail = position;
	vq->next_used = position;
	outcome->packets = (uint16_t)(outcome->packets + i);
	outcome->segments += segments;
	outcome->bytes += bytes;
	return i;
}

/* Out of the way of what is rare, so that the loop has the registers. */
static __attribute__((noinline)) uint16_t
put_frames(struct virtqueue *vq, struct frame *const *frames, uint16_t count,
	   struct tx_outcome *outcome)
{
	const uint32_t usual = sizeof(struct virtio_net_hdr_mrg_rxbuf);

	if (likely(vq->header_length == usual))
		return put_run(vq, frames, count, outcome, usual);
	return put_run(vq, frames, count, outcome, sizeof(struct virtio_net_hdr));
}

/* Puts a frame into several buffers that are known. False: it needs others. */
static bool put_merged(struct virtqueue *vq, const struct frame *frame)
{
	const uint16_t position = vq->next_avail;
	struct room room;

	look_ahead(vq, VIRTQUEUE_BUFFERS_MAX);
	if (!is_before(position, vq->buffers_end) ||
	    !room_known(vq, &room, position, (uint16_t)(vq->buffers_end - position),
			vq->header_length + frame->length))
		return false;
	room_fill(vq, &room, frame);
	for (uint16_t i = 0; i < room.count; i++)
		put_used(vq, known_buffer(vq, (uint16_t)(position + i))->head,
			 room.pieces[i].length);
	vq->next_avail = vq->next_used;
	return true;
}

void split_tx_burst(struct virtqueue *vq, struct frame *const *frames, uint16_t count,
		    struct tx_outcome *outcome)
{
	const uint16_t first = vq->next_used;
	uint16_t i = 0;

	look_ahead(vq, count < VIRTQUEUE_BUFFERS_AHEAD ? count : VIRTQUEUE_BUFFERS_AHEAD);
	while ((i = (uint16_t)(i + put_frames(vq, frames + i, count - i, outcome))) < count) {
		int done;

		if (!is_before(vq->next_avail, vq->buffers_end)) {
			look_ahead(vq, VIRTQUEUE_BUFFERS_AHEAD);
			if (is_before(vq->next_avail, vq->buffers_end))
				continue;
		}
		done = vq->mergeable && put_merged(vq, frames[i])
			       ? 1
			       : put_frame_slowly(vq, frames[i]);
		if (done == 0)
			break;
		count_outcome(outcome, frames, i++, done);
	}
	if (vq->next_used != first) {
		mark_used(vq, first, (uint16_t)(vq->next_used - first));
		publish_used(vq);
	}
	prepare_next(vq);
}
