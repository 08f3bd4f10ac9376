/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Frames to the guest, over a packed ring. Receive buffers are looked at ahead of their use, so
 * that their descriptors and first lines are here when a frame comes: those that take one slot
 * each, up to the first that takes more.
 */
#include "virtqueue/frame_out.h"
#include "virtqueue/packed.h"

#include <errno.h>

/* Chains that together hold one frame, and how they will be returned. */
struct found {
	struct room room;
	struct virtqueue_position end;
	uint16_t count;
	struct virtqueue_return returns[PACKED_RETURNS_MAX];
};

static void find_reset(const struct virtqueue *vq, struct found *found)
{
	room_reset(&found->room);
	found->end = vq->next;
	found->count = 0;
}

/* Returns chains, which lie in a row from vq->next on and end at `end`. */
static void give_back(struct virtqueue *vq, const struct virtqueue_return *returns, uint16_t count,
		      struct virtqueue_position end)
{
	vq->next = end;
	packed_return(vq, returns, count);
}

/* A bad chain goes back empty, and with it those before it, for chains are completed in order. */
static void give_back_empty(struct virtqueue *vq, struct found *found)
{
	for (uint16_t i = 0; i < found->count; i++) {
		struct virtqueue_return *item = &found->returns[i];

		item->word &= ~((uint64_t)VRING_DESC_F_WRITE << 48 | UINT32_MAX);
	}
	give_back(vq, found->returns, found->count, found->end);
	count_malformed(vq);
	find_reset(vq, found);
}

/*
 * Finds chains for `wanted` bytes from vq->next on. Returns 1, 0 if the waiting chains do not
 * suffice, or -EMSGSIZE if no waiting will help.
 */
static int find_room(struct virtqueue *vq, struct found *found, uint32_t wanted)
{
	uint32_t slots_found = 0;

	find_reset(vq, found);
	while (vq->walked < VIRTQUEUE_WALK_MAX && slots_found < vq->size) {
		const struct virtqueue_position at = found->end;
		const uint64_t word = packed_read(vq, at.slot);
		uint64_t last;
		uint16_t slots;
		int bytes;

		if (!is_available(word, at.wrap))
			break;
		slots = packed_measure(vq, at, &last);
		/* More than the ring has: it goes on into the chains that were found. */
		if (slots == 0 || slots > vq->size - slots_found)
			return 0;
		bytes = room_add(vq, &found->room, at.slot, slots, wanted);
		found->returns[found->count++] =
			make_return(packed_word(vq, at.slot),
				    state_used(at.wrap) |
					    (bytes > 0 ? written_length((uint32_t)bytes) : 0),
				    last);
		found->end = packed_after(vq, at, slots);
		if (bytes < 0) {
			give_back_empty(vq, found);
			slots_found = 0;
			continue;
		}
		slots_found += slots;
		found->room.chains++;
		if (found->room.bytes == wanted)
			return 1;
		/* These chains stay: a smaller frame may fit. */
		if (!vq->mergeable || found->room.count == VIRTQUEUE_PIECES_MAX)
			return -EMSGSIZE;
	}
	/* All buffers that the driver can post are here, and together they are too small. */
	return slots_found >= vq->size ? -EMSGSIZE : 0;
}

/* One frame into chains of any shape. Returns as find_room does. */
static int put_frame_slowly(struct virtqueue *vq, const struct frame *frame)
{
	struct found found;
	int result = find_room(vq, &found, vq->header_length + frame->length);

	/* What was known of the next buffers begins elsewhere now, or is of no use. */
	vq->buffers_end = vq->next_buffer;
	if (result <= 0)
		return result;
	room_fill(vq, &found.room, frame);
	give_back(vq, found.returns, found.count, found.end);
	return 1;
}

/* ---- looking ahead ---- */

static inline uint16_t known_buffers(const struct virtqueue *vq)
{
	return (uint16_t)(vq->buffers_end - vq->next_buffer);
}

/* Reads the next descriptors, as far as there are, until `count` buffers are known. */
static inline void look_ahead(struct virtqueue *vq, uint16_t count)
{
	struct virtqueue_position at = packed_after(vq, vq->next, known_buffers(vq));
	uint16_t position = vq->buffers_end;
	uint16_t end = (uint16_t)(vq->next_buffer + (count < vq->size ? count : vq->size));
	uint64_t available = state_available(at.wrap);
	const uint64_t next = (uint64_t)VRING_DESC_F_NEXT << 48;
	uint16_t chains = 0;

	if (known_buffers(vq) >= count)
		return;
	for (; position != end; position++) {
		const uint64_t word = packed_read(vq, at.slot);

		if ((word & (PACKED_STATE | next)) != available) {
			chains = (word & PACKED_STATE) == available;
			break;
		}
		know_buffer(vq, position, packed_address(vq, at.slot), (uint32_t)word,
			    word_flags(word), (uint16_t)(word >> 32));
		if (++at.slot == vq->size) {
			at.slot = 0;
			available ^= PACKED_STATE;
		}
	}
	vq->buffers_end = position;
	note_waiting(vq, (uint16_t)(known_buffers(vq) + chains));
}

/* Asks for the descriptors behind those that are known. */
static inline void ask_for_descriptors(const struct virtqueue *vq, uint32_t count)
{
	uint32_t slot = (uint32_t)vq->next.slot + known_buffers(vq);

	if (count > vq->size)
		return;
	for (uint32_t i = 0; i < count; i += DESCRIPTORS_A_LINE) {
		if (slot >= vq->size)
			slot -= vq->size;
		prefetch_for_write(&vq->ring[slot]);
		slot += DESCRIPTORS_A_LINE;
	}
}

void packed_tx_expect(struct virtqueue *vq, unsigned int step)
{
	if (step == 0)
		ask_for_descriptors(vq, VIRTQUEUE_BUFFERS_AHEAD - known_buffers(vq));
	else if (step == 2)
		look_ahead(vq, VIRTQUEUE_BUFFERS_AHEAD);
}

/* Returns the buffers of the frames that were put so far. */
static inline void flush_returns(struct virtqueue *vq)
{
	if (vq->return_count > 0)
		packed_return(vq, vq->returns, vq->return_count);
	vq->return_count = 0;
}

/*
 * Puts frames into buffers that are known, up to the first frame that needs another one and to the
 * ring's end. Returns how many it put. Out of the way of what is rare, so that the loop has the
 * registers.
 */
static __attribute__((noinline)) uint16_t
put_frames(struct virtqueue *vq, struct frame *const *frames, uint16_t count,
	   struct tx_outcome *outcome)
{
	/* With packed rings there is no other one (virtio 1.2, 5.1.6.1). */
	const uint32_t header = sizeof(struct virtio_net_hdr_mrg_rxbuf);
	const bool logged = vq->log != NULL;
	const uint64_t used = state_used(vq->next.wrap);
	struct virtqueue_return *item = &vq->returns[vq->return_count];
	uint64_t *at = packed_word(vq, vq->next.slot);
	uint16_t position = vq->next_buffer;
	uint32_t segments = 0, bytes = 0;
	uint16_t i;

	if (count > known_buffers(vq))
		count = known_buffers(vq);
	if (count > vq->size - vq->next.slot)
		count = (uint16_t)(vq->size - vq->next.slot);
	for (i = 0; i < count; i++, position++, item++, at += 2) {
		const struct virtqueue_buffer *buffer = known_buffer(vq, position);
		const struct frame *frame = frames[i];
		const uint32_t length = frame->length;

		if (unlikely(buffer->length < header + length))
			break;
		write_header(buffer->address, frame, header);
		copy_frame(buffer->address + header, frame);
		if (unlikely(logged))
			mark_written(vq, buffer->address, header + length);
		*item = make_return(at, used | written_length(header + length),
				    (uint64_t)buffer->head << 32);
		segments += frame->segments;
		bytes += length;
	}
	vq->next = packed_after(vq, vq->next, i);
	vq->next_buffer = position;
	vq->return_count = (uint16_t)(vq->return_count + i);
	outcome->packets = (uint16_t)(outcome->packets + i);
	outcome->segments += segments;
	outcome->bytes += bytes;
	return i;
}

/* Puts a frame into several buffers that are known. False: it needs others. */
static bool put_merged(struct virtqueue *vq, const struct frame *frame)
{
	struct virtqueue_return returns[VIRTQUEUE_BUFFERS_MAX];
	struct virtqueue_position at = vq->next;
	struct room room;

	look_ahead(vq, VIRTQUEUE_BUFFERS_MAX);
	if (!room_known(vq, &room, vq->next_buffer, known_buffers(vq),
			vq->header_length + frame->length))
		return false;
	room_fill(vq, &room, frame);
	for (uint16_t i = 0; i < room.count; i++) {
		const uint64_t id = known_buffer(vq, vq->next_buffer++)->head;
		const uint64_t written = written_length(room.pieces[i].length);

		returns[i] = make_return(packed_word(vq, at.slot), state_used(at.wrap) | written,
					 id << 32);
		at = packed_after(vq, at, 1);
	}
	give_back(vq, returns, room.count, at);
	return true;
}

void packed_tx_burst(struct virtqueue *vq, struct frame *const *frames, uint16_t count,
		     struct tx_outcome *outcome)
{
	uint16_t i = 0;

	look_ahead(vq, count < VIRTQUEUE_BUFFERS_AHEAD ? count : VIRTQUEUE_BUFFERS_AHEAD);
	while (i < count) {
		const uint16_t put = put_frames(vq, frames + i, count - i, outcome);
		int done;

		i = (uint16_t)(i + put);
		if (put > 0)
			continue;
		if (known_buffers(vq) == 0) {
			look_ahead(vq, VIRTQUEUE_BUFFERS_AHEAD);
			if (known_buffers(vq) > 0)
				continue;
		}
		flush_returns(vq);
		done = vq->mergeable && put_merged(vq, frames[i])
			       ? 1
			       : put_frame_slowly(vq, frames[i]);
		if (done == 0)
			break;
		count_outcome(outcome, frames, i++, done);
	}
	flush_returns(vq);
	look_ahead(vq, VIRTQUEUE_BUFFERS_AHEAD);
	ask_for_descriptors(vq, VIRTQUEUE_BUFFERS_AHEAD);
}
