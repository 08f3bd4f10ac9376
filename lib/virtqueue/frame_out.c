/* SPDX-License-Identifier: BSD-3-Clause */
/* Frames into chains of any shape; virtqueue/frame_out.h is the contract. */
#include "virtqueue/frame_out.h"

#include "virtqueue/chain.h"

bool room_known(struct virtqueue *vq, struct room *room, uint16_t position, uint16_t known,
		uint32_t wanted)
{
	room_reset(room);
	while (known-- > 0 && room->bytes < wanted) {
		const struct virtqueue_buffer *buffer = known_buffer(vq, position++);
		struct view *piece = &room->pieces[room->count];

		if (buffer->length == 0)
			return false;
		piece->address = buffer->address;
		piece->length = buffer->length;
		if (piece->length > wanted - room->bytes)
			piece->length = wanted - room->bytes;
		room->bytes += piece->length;
		room->count++;
	}
	room->chains = room->count;
	return room->bytes == wanted;
}

int room_add(struct virtqueue *vq, struct room *room, uint16_t at, uint32_t left,
	     uint32_t wanted)
{
	uint16_t count = room->count;
	uint32_t bytes = 0;
	struct chain chain;
	int more = 1;

	chain_start(vq, &chain, at, left, VRING_DESC_F_WRITE);
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

/* Where the next byte goes: pieces of one or more chains. */
struct writer {
	struct view *piece;
	uint32_t offset;
};

static void write_pieces(const struct virtqueue *vq, struct writer *writer, const uint8_t *from,
			 uint32_t length)
{
	while (length > 0) {
		uint32_t room = writer->piece->length - writer->offset;
		uint32_t part = room < length ? room : length;
		uint8_t *to = (uint8_t *)(uintptr_t)writer->piece->address + writer->offset;

		memcpy(to, from, part);
		mark_written(vq, to, part);
		writer->offset += part;
		from += part;
		length -= part;
		if (writer->offset == writer->piece->length) {
			writer->piece++;
			writer->offset = 0;
		}
	}
}

void room_fill(const struct virtqueue *vq, struct room *room, const struct frame *frame)
{
	struct virtio_net_hdr_mrg_rxbuf vnet = { .hdr = frame->vnet, .num_buffers = room->chains };
	struct writer writer = { .piece = room->pieces };

	write_pieces(vq, &writer, (const uint8_t *)&vnet, vq->header_length);
	write_pieces(vq, &writer, frame->head, frame->head_length);
	for (uint16_t i = 0; i < frame->view_count; i++)
		write_pieces(vq, &writer, frame->views[i].address, frame->views[i].length);
}
