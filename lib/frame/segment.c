/* SPDX-License-Identifier: BSD-3-Clause */
/* Cutting of TSO frames; frame/segment.h is the contract. Works with parse.c and checksum.c. */
#include "frame/segment.h"

#include <arpa/inet.h>
#include <stddef.h>

#include "frame/checksum.h"
#include "frame/parse.h"

#define IPV6_HEADER 40

/* Flags of the TCP header's byte 13. */
#define TCP_FLAGS 13
#define TCP_FIN 0x01
#define TCP_PSH 0x08
#define TCP_CWR 0x80

static uint16_t load16(const uint8_t *at)
{
	uint16_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static void store16(uint8_t *at, uint16_t value)
{
	memcpy(at, &value, sizeof(value));
}

void segment_begin(struct segmenter *segmenter, const struct frame *frame)
{
	struct transport found = { 0 };

	/* It cannot fail: vnet_check has asked the same of the same head. */
	parse_transport(frame, &found);
	*segmenter = (struct segmenter){ .frame = frame,
					 .network = found.network,
					 .is_ipv4 = found.ethertype == ETHERTYPE_IPV4,
					 .next = frame->vnet.hdr_len };
}

static void write_ip(const struct segmenter *segmenter, struct frame *out)
{
	uint8_t *ip = out->head + segmenter->network;
	uint32_t length = out->length - segmenter->network;
	uint16_t id;

	if (!segmenter->is_ipv4) {
		store16(ip + 4, htons((uint16_t)(length - IPV6_HEADER)));
		return;
	}
	id = (uint16_t)(ntohs(load16(ip + 4)) + segmenter->index);
	store16(ip + 2, htons((uint16_t)length));
	store16(ip + 4, htons(id));
	store16(ip + 10, 0);
	store16(ip + 10, (uint16_t)~checksum_fold(checksum_add(0, ip, (ip[0] & 0x0fu) * 4)));
}

static void write_tcp(const struct segmenter *segmenter, struct frame *out, bool last)
{
	const struct frame *frame = segmenter->frame;
	uint16_t start = frame->vnet.csum_start;
	uint8_t *tcp = out->head + start;
	uint8_t *field = tcp + frame->vnet.csum_offset;
	uint16_t old_length = htons((uint16_t)(frame->length - start));
	uint16_t new_length = htons((uint16_t)(out->length - start));
	uint32_t sequence;

	memcpy(&sequence, tcp + 4, sizeof(sequence));
	sequence = htonl(ntohl(sequence) + segmenter->next - frame->vnet.hdr_len);
	memcpy(tcp + 4, &sequence, sizeof(sequence));
	if (!last)
		tcp[TCP_FLAGS] &= (uint8_t)~(TCP_FIN | TCP_PSH);
	if (segmenter->index > 0)
		tcp[TCP_FLAGS] &= (uint8_t)~TCP_CWR;
	/* RFC 1624: addresses are left alone, as a routing header may stand for the true one. */
	store16(field, checksum_fold((uint64_t)load16(field) + (uint16_t)~old_length + new_length));
}

/* Views of the frame's next `length` bytes behind its head. Returns how many. */
static uint16_t take_views(struct segmenter *segmenter, struct view *views, uint32_t length)
{
	uint16_t count = 0;

	while (length > 0) {
		const struct view *from = &segmenter->frame->views[segmenter->view];
		uint32_t part = from->length - segmenter->view_offset;

		if (part > length)
			part = length;
		views[count++] = (struct view){ from->address + segmenter->view_offset, part };
		length -= part;
		segmenter->view_offset += part;
		if (segmenter->view_offset == from->length) {
			segmenter->view++;
			segmenter->view_offset = 0;
		}
	}
	return count;
}

bool segment_next(struct segmenter *segmenter, struct frame *out, struct view *views)
{
	const struct frame *frame = segmenter->frame;
	const struct virtio_net_hdr *vnet = &frame->vnet;
	uint32_t next = segmenter->next;
	uint32_t payload = frame->length - next;
	uint32_t in_head = next < frame->head_length ? frame->head_length - next : 0;

	if (payload == 0)
		return false;
	if (payload > vnet->gso_size)
		payload = vnet->gso_size;
	if (in_head > payload)
		in_head = payload;

	memcpy(out, frame, offsetof(struct frame, head));
	out->vnet = (struct virtio_net_hdr){ .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
					     .csum_start = vnet->csum_start,
					     .csum_offset = vnet->csum_offset };
	out->needs = NEEDS_CHECKSUM;
	out->segments = 1;
	out->length = vnet->hdr_len + payload;
	out->head_length = (uint16_t)(vnet->hdr_len + in_head);
	memcpy(out->head, frame->head, vnet->hdr_len);
	/* Payload that lies in the frame's head fits into that of the segment. */
	if (in_head > 0)
		memcpy(out->head + vnet->hdr_len, frame->head + next, in_head);
	out->views = views;
	out->view_count = take_views(segmenter, views, payload - in_head);
	write_ip(segmenter, out);
	write_tcp(segmenter, out, next + payload == frame->length);

	segmenter->index++;
	segmenter->next = next + payload;
	return true;
}
