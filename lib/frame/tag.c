/* SPDX-License-Identifier: BSD-3-Clause */
/* Copies of frames with another tag; frame/tag.h is the contract. */
#include "frame/tag.h"

#include <stddef.h>

#include "frame/parse.h"

#define ADDRESSES 12
#define REST_BLOCK 112 /* up to byte 128 of a head whose tag is inserted */

static void write16(uint8_t *at, uint16_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

/* Everything behind the addresses is so many bytes further on. */
static void move_offsets(struct frame *frame, int bytes)
{
	frame->length = (uint32_t)((int)frame->length + bytes);
	frame->head_length = (uint16_t)(frame->head_length + bytes);
	if (frame->vnet.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
		frame->vnet.csum_start = (uint16_t)(frame->vnet.csum_start + bytes);
	if (frame->vnet.gso_type != VIRTIO_NET_HDR_GSO_NONE)
		frame->vnet.hdr_len = (uint16_t)(frame->vnet.hdr_len + bytes);
}

void tag_change(const struct frame *frame, enum tag_change change, struct frame *out)
{
	const uint8_t *from = frame->head + ADDRESSES;
	uint32_t rest = frame->head_length - ADDRESSES;
	uint8_t *to = out->head + ADDRESSES;

	memcpy(out, frame, offsetof(struct frame, head));
	memcpy(out->head, frame->head, ADDRESSES);
	out->needs &= (uint16_t)~NEEDS_TAGS;
	switch (change) {
	case TAG_INSERT:
		write16(to, ETHERTYPE_VLAN);
		write16(to + 2, frame->vlan);
		to += TAG_LENGTH;
		move_offsets(out, TAG_LENGTH);
		break;
	case TAG_REMOVE:
		from += TAG_LENGTH;
		rest -= TAG_LENGTH;
		move_offsets(out, -TAG_LENGTH);
		break;
	default:
		break;
	}
	/* For most heads a fixed length, for which both have the room, beats the exact one. */
	if (rest <= REST_BLOCK)
		memcpy(to, from, REST_BLOCK);
	else
		copy_short(to, from, rest);
	if (change == TAG_REWRITE)
		write16(to + 2, (uint16_t)((to[2] << 8 & ~TAG_VLAN) | frame->vlan));
}
