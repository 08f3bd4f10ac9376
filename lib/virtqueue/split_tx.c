/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Frames to the guest, into its receive ring: the one copy. Receive buffers are looked at ahead of
 * their use, so that their descriptors and first lines are here when a frame comes.
 */
#include "virtqueue/chain.h"

#include <stddef.h>

/*
 * Writes the offload header at the start of a buffer (virtio 1.2, 5.1.6.4.1). In registers: a
 * struct that is put together in memory and read back in other sizes waits for all stores before
 * it, and those are on their way to another core.
 */
static inline void write_header(uint8_t *to, const struct frame *frame, uint32_t header)
{
	const uint32_t one_buffer = 1u << 16;
	uint32_t high = frame->vnet.csum_offset;
	uint64_t low;

	_Static_assert(offsetof(struct virtio_net_hdr, csum_offset) == sizeof(low) &&
			       sizeof(struct virtio_net_hdr_mrg_rxbuf) ==
				       sizeof(low) + sizeof(high),
		       "the header is written as two words");
	memcpy(&low, &frame->vnet, sizeof(low));
	memcpy(to, &low, sizeof(low));
	high |= one_buffer;
	if (likely(header == sizeof(struct virtio_net_hdr_mrg_rxbuf)))
		memcpy(to + sizeof(low), &high, sizeof(high));
	else
		memcpy(to + sizeof(low), &high, sizeof(uint16_t));
}

static inline void copy_frame(uint8_t *to, const struct frame *frame)
{
	copy_short(to, frame->head, frame->head_length);
	to += frame->head_length;
	for (uint16_t i = 0; i < frame->view_count; i++) {
		memcpy(to, frame->views[i].address, frame->views[i].length);
		to += frame->views[i].length;
	}
}

/* Where the next byte goes: pieces of one or more chains. */
struct writer {
	struct view *piece;
	uint32_t offset;
};

static void write_pieces(struct writer *writer, const uint8_t *from, uint32_t length)
{
	while (length > 0) {
		uint32_t room = writer->piece->length - writer->offset;
		uint32_t part = room < length ? room : length;

		memcpy((uint8_t *)(uintptr_t)writer->piece->address + writer->offset, from, part);
		writer->offset += part;
		from += part;
		length -= part;
		if (writer->offset == writer->piece->length) {
			writer->piece++;
			writer->offset = 0;
		}
	}
}

/* Receive chains that together hold one frame. */
struct room {
	uint32_t bytes;
	uint16_t chains;
	uint16_t count; /* pieces */
	struct view pieces[VIRTQUEUE_PIECES_MAX];
};

static void room_reset(struct room *room)
{
	room->bytes = 0;
	room->chains = 0;
	room->count = 0;
}

/*
 * Adds the writable chain at `head` to the room, as far as `wanted` bytes need it. Returns its
 * bytes that were added, or -EINVAL for a bad chain, of which nothing was added.
 */
static int add_chain(struct virtqueue *vq, struct room *room, uint16_t head, uint32_t wanted)
{
	uint16_t count = room->count;
	uint32_t bytes = 0;
	struct chain chain;
	int more = 1;

	chain_start(vq, &chain, head, VRING_DESC_F_WRITE);
	while (count < VIRTQUEUE_PIECES_MAX && room->bytes + bytes < wanted) {
		struct view *piece = &room->pieces[count];

		more = chain_piece(vq, &chain, piece);
		if (more <= 0)
			break;
		/* Beyond the frame's end nothing is written, so a longer piece is cut there. */
		if (piece->length > wanted - room->bytes - bytes)
			piece->length = wanted - room->bytes - bytes;
		bytes += piece->length;
		count++;
	}
	if (more < 0)
		return -EINVAL;
	room->count = count;
	room->bytes += bytes;
	return (int)bytes;
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
		bytes = add_chain(vq, room, head, wanted);
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
			vq->next_used = first_used;
			return -EMSGSIZE;
		}
	}
	vq->next_used = first_used;
	/* All buffers that the driver can post are here, and together they are too small. */
	return room->chains == vq->size ? -EMSGSIZE : 0;
}

/* One frame into chains of any shape. Returns as find_room does. */
static int put_frame_slowly(struct virtqueue *vq, const struct frame *frame)
{
	const uint32_t header = vq->header_length;
	struct virtio_net_hdr_mrg_rxbuf vnet = { .hdr = frame->vnet };
	struct room room;
	struct writer writer = { .piece = room.pieces };
	int found = find_room(vq, &room, header + frame->length);

	if (found <= 0)
		return found;
	vq->next_avail = (uint16_t)(vq->next_avail + room.chains);
	vnet.num_buffers = room.chains;
	write_pieces(&writer, (const uint8_t *)&vnet, header);
	write_pieces(&writer, frame->head, frame->head_length);
	for (uint16_t i = 0; i < frame->view_count; i++)
		write_pieces(&writer, frame->views[i].address, frame->views[i].length);
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

	if (is_before(vq->avail_seen, end))
		end = vq->avail_seen;
	if (is_before(vq->heads_end, vq->next_avail))
		vq->heads_end = vq->next_avail;
	while (is_before(vq->heads_end, end)) {
		uint16_t head = avail_entry(vq, vq->heads_end);

		if (unlikely(head >= vq->size)) {
			stop_ring(vq, VIRTQUEUE_BAD_HEAD);
			return;
		}
		__builtin_prefetch(&vq->desc[head]);
		vq->heads[vq->heads_end++ & (VIRTQUEUE_HEADS_AHEAD - 1)] = head;
	}
}

/* Reads the descriptors of known heads and asks for the buffers of those that are one piece. */
static inline void look_at_buffers(struct virtqueue *vq, uint16_t count)
{
	uint16_t end = (uint16_t)(vq->next_avail + count);

	if (is_before(vq->heads_end, end))
		end = vq->heads_end;
	if (is_before(vq->buffers_end, vq->next_avail))
		vq->buffers_end = vq->next_avail;
	while (is_before(vq->buffers_end, end)) {
		uint16_t position = vq->buffers_end++;
		struct virtqueue_buffer *buffer =
			&vq->buffers[position & (VIRTQUEUE_BUFFERS_AHEAD - 1)];
		uint16_t head = vq->heads[position & (VIRTQUEUE_HEADS_AHEAD - 1)];
		struct vring_desc desc = read_descriptor(&vq->desc[head]);

		buffer->head = head;
		buffer->length = desc.len;
		buffer->address = NULL;
		if (likely((desc.flags & (VRING_DESC_F_NEXT | VRING_DESC_F_INDIRECT |
					  VRING_DESC_F_WRITE)) == VRING_DESC_F_WRITE))
			buffer->address = guest_memory_whole(vq->memory, desc.addr, desc.len);
		if (likely(buffer->address != NULL)) {
			prefetch_for_write(buffer->address);
			prefetch_for_write(buffer->address + CACHE_LINE);
		}
	}
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

void virtqueue_tx_expect(struct virtqueue *vq, unsigned int step)
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

/* The next buffer, if it is known and one piece of at least `wanted` bytes. */
static inline struct virtqueue_buffer *next_buffer(struct virtqueue *vq, uint32_t wanted)
{
	struct virtqueue_buffer *buffer =
		&vq->buffers[vq->next_avail & (VIRTQUEUE_BUFFERS_AHEAD - 1)];

	if (unlikely(!is_before(vq->next_avail, vq->buffers_end)))
		look_ahead(vq, VIRTQUEUE_BUFFERS_AHEAD);
	if (unlikely(!is_before(vq->next_avail, vq->buffers_end)) || buffer->address == NULL ||
	    buffer->length < wanted)
		return NULL;
	return buffer;
}

void virtqueue_tx_burst(struct virtqueue *vq, struct frame *const *frames, uint16_t count,
			struct tx_outcome *outcome)
{
	const uint32_t header = vq->header_length;
	uint16_t first_used = vq->next_used;

	if (unlikely(vq->fault != VIRTQUEUE_OK))
		return;
	vq->walked = 0;
	look_ahead(vq, count < VIRTQUEUE_BUFFERS_AHEAD ? count : VIRTQUEUE_BUFFERS_AHEAD);
	for (uint16_t i = 0; i < count; i++) {
		const struct frame *frame = frames[i];
		uint32_t wanted = header + frame->length;
		struct virtqueue_buffer *buffer = next_buffer(vq, wanted);
		int done = 1;

		if (likely(buffer != NULL)) {
			write_header(buffer->address, frame, header);
			copy_frame(buffer->address + header, frame);
			put_used(vq, buffer->head, wanted);
			vq->next_avail++;
		} else {
			done = put_frame_slowly(vq, frame);
		}
		if (unlikely(done == 0))
			break;
		if (unlikely(done < 0)) {
			outcome->too_long++;
			continue;
		}
		outcome->packets++;
		outcome->segments += frame->segments;
		outcome->bytes += frame->length;
	}
	if (vq->next_used != first_used)
		publish_used(vq);
	prepare_next(vq);
}
