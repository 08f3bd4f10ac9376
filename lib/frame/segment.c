/* SPDX-License-Identifier: BSD-3-Clause */
/* Cutting of large frames; frame/segment.h is the contract. Works with parse.c and checksum.c. */
#include "frame/segment.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>

#include "frame/checksum.h"
#include "frame/parse.h"

#define IPV6_HEADER 40
#define IPV6_NEXT_HEADER 6 /* offset of the field */
#define FRAGMENT_MORE_IPV4 0x2000
#define FRAGMENT_MORE_IPV6 1

/* Flags of the TCP header's byte 13. */
#define TCP_FLAGS 13
#define TCP_FIN 0x01
#define TCP_PSH 0x08
#define TCP_CWR 0x80

#define UDP_LENGTH 4 /* offset of the field */

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

int segment_begin(struct segmenter *segmenter, const struct frame *frame, uint8_t *buffer,
		  uint32_t identification)
{
	const struct virtio_net_hdr *vnet = &frame->vnet;
	struct transport found = { 0 };

	if (parse_transport(frame, &found) != 0)
		return -EINVAL;
	*segmenter = (struct segmenter){ .frame = frame,
					 .kind = found.protocol == IPPROTO_TCP ? SEGMENT_TCP
									       : SEGMENT_UDP,
					 .is_ipv4 = found.ethertype == ETHERTYPE_IPV4,
					 .network = found.network,
					 .headers = vnet->hdr_len,
					 .head_end = frame->head_length,
					 .view = frame->views };
	if (vnet->gso_type == VIRTIO_NET_HDR_GSO_UDP) {
		checksum_copy(frame, buffer);
		segmenter->kind = SEGMENT_FRAGMENT;
		segmenter->headers = vnet->csum_start;
		segmenter->head_end = vnet->csum_start;
		segmenter->identification = identification;
		segmenter->datagram = (struct view){ buffer + vnet->csum_start,
						     frame->length - vnet->csum_start };
		segmenter->view = &segmenter->datagram;
	}
	segmenter->next = segmenter->headers;
	return 0;
}

/* Offset of the field that says what follows the last extension header. */
static uint16_t last_next_header(const struct segmenter *segmenter)
{
	const uint8_t *head = segmenter->frame->head;
	uint32_t field = segmenter->network + IPV6_NEXT_HEADER;
	uint32_t at = segmenter->network + IPV6_HEADER;

	while (at < segmenter->headers) {
		field = at;
		at += 8 + 8u * head[at + 1];
	}
	return (uint16_t)field;
}

/* The fragment header, behind the headers that each fragment has. */
static void write_fragment_header(const struct segmenter *segmenter, struct frame *out, bool last)
{
	uint8_t *header = out->head + segmenter->headers;
	uint8_t *next_header = out->head + last_next_header(segmenter);
	uint32_t offset = segmenter->next - segmenter->headers;

	header[0] = *next_header;
	header[1] = 0;
	store16(header + 2, htons((uint16_t)(offset | (last ? 0 : FRAGMENT_MORE_IPV6))));
	memcpy(header + 4, &segmenter->identification, sizeof(segmenter->identification));
	*next_header = IPPROTO_FRAGMENT;
}

static void write_ip(const struct segmenter *segmenter, struct frame *out, bool last)
{
	uint8_t *ip = out->head + segmenter->network;
	uint32_t length = out->length - segmenter->network;

	if (!segmenter->is_ipv4) {
		store16(ip + 4, htons((uint16_t)(length - IPV6_HEADER)));
		return;
	}
	store16(ip + 2, htons((uint16_t)length));
	if (segmenter->kind == SEGMENT_FRAGMENT) {
		uint32_t units = (segmenter->next - segmenter->headers) / 8;

		store16(ip + 6, htons((uint16_t)(units | (last ? 0 : FRAGMENT_MORE_IPV4))));
	} else {
		store16(ip + 4, htons((uint16_t)(ntohs(load16(ip + 4)) + segmenter->index)));
	}
	store16(ip + 10, 0);
	store16(ip + 10, (uint16_t)~checksum_fold(checksum_add(0, ip, (ip[0] & 0x0fu) * 4)));
}

static void write_tcp(const struct segmenter *segmenter, uint8_t *tcp, bool last)
{
	uint32_t sequence;

	memcpy(&sequence, tcp + 4, sizeof(sequence));
	sequence = htonl(ntohl(sequence) + segmenter->next - segmenter->headers);
	memcpy(tcp + 4, &sequence, sizeof(sequence));
	if (!last)
		tcp[TCP_FLAGS] &= (uint8_t)~(TCP_FIN | TCP_PSH);
	if (segmenter->index > 0)
		tcp[TCP_FLAGS] &= (uint8_t)~TCP_CWR;
}

static void write_transport(const struct segmenter *segmenter, struct frame *out, bool last)
{
	const struct frame *frame = segmenter->frame;
	uint16_t start = frame->vnet.csum_start;
	uint8_t *header = out->head + start;
	uint8_t *field = header + frame->vnet.csum_offset;
	uint16_t old_length = htons((uint16_t)(frame->length - start));
	uint16_t new_length = htons((uint16_t)(out->length - start));

	if (segmenter->kind == SEGMENT_TCP)
		write_tcp(segmenter, header, last);
	else
		store16(header + UDP_LENGTH, new_length);
	/* RFC 1624: addresses are left alone, as a routing header may stand for the true one. */
	store16(field, checksum_fold((uint64_t)load16(field) + (uint16_t)~old_length + new_length));
}

/* Views of the frame's next `length` bytes behind its head. Returns how many. */
static uint16_t take_views(struct segmenter *segmenter, struct view *views, uint32_t length)
{
	uint16_t count = 0;

	while (length > 0) {
		const struct view *from = segmenter->view;
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

/* What every segment has of the frame. Returns the length of its headers. */
static uint32_t copy_headers(const struct segmenter *segmenter, struct frame *out)
{
	const struct frame *frame = segmenter->frame;

	memcpy(out, frame, offsetof(struct frame, head));
	memcpy(out->head, frame->head, segmenter->headers);
	out->segments = 1;
	if (segmenter->kind == SEGMENT_FRAGMENT) {
		memset(&out->vnet, 0, sizeof(out->vnet));
		out->needs = 0;
		return segmenter->headers + (segmenter->is_ipv4 ? 0 : FRAGMENT_HEADER);
	}
	out->vnet = (struct virtio_net_hdr){ .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
					     .csum_start = frame->vnet.csum_start,
					     .csum_offset = frame->vnet.csum_offset };
	out->needs = NEEDS_CHECKSUM;
	return segmenter->headers;
}

bool segment_next(struct segmenter *segmenter, struct frame *out, struct view *views)
{
	const struct frame *frame = segmenter->frame;
	uint32_t next = segmenter->next;
	uint32_t payload = frame->length - next, headers;
	uint32_t in_head = next < segmenter->head_end ? segmenter->head_end - next : 0;
	bool last = payload <= frame->vnet.gso_size;

	if (payload == 0)
		return false;
	if (!last)
		payload = frame->vnet.gso_size;
	if (in_head > payload)
		in_head = payload;

	headers = copy_headers(segmenter, out);
	out->length = headers + payload;
	out->head_length = (uint16_t)(headers + in_head);
	/* Payload that lies in the frame's head fits into that of the segment. */
	if (in_head > 0)
		memcpy(out->head + headers, frame->head + next, in_head);
	out->views = views;
	out->view_count = take_views(segmenter, views, payload - in_head);
	write_ip(segmenter, out, last);
	if (segmenter->kind != SEGMENT_FRAGMENT)
		write_transport(segmenter, out, last);
	else if (!segmenter->is_ipv4)
		write_fragment_header(segmenter, out, last);

	segmenter->index++;
	segmenter->next = next + payload;
	return true;
}
