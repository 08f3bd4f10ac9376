/* SPDX-License-Identifier: BSD-3-Clause */
/* Header parsing within the head of a frame; frame/parse.h is the contract. */
#include "frame/parse.h"

#include <errno.h>
#include <netinet/in.h>

static uint32_t read32(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

/* Skips IPv6 extension headers (RFC 8200, 4.1) up to the transport header. */
static int skip_extensions(const struct frame *frame, struct transport *found)
{
	while (found->protocol == IPPROTO_HOPOPTS || found->protocol == IPPROTO_ROUTING ||
	       found->protocol == IPPROTO_DSTOPTS) {
		const uint8_t *header;

		if (found->offset + 8 > frame->head_length)
			return -EINVAL;
		header = frame->head + found->offset;
		found->protocol = header[0];
		found->offset = (uint16_t)(found->offset + 8 + 8 * header[1]);
	}
	found->fragment = found->protocol == IPPROTO_FRAGMENT;
	return 0;
}

static int parse_ipv4(const struct frame *frame, struct transport *found)
{
	const uint8_t *ip = frame->head + found->network;
	uint16_t length;

	if (found->network + 20 > frame->head_length || ip[0] >> 4 != 4)
		return -EINVAL;
	length = (uint16_t)((ip[0] & 0x0f) * 4);
	if (length < 20)
		return -EINVAL;
	found->protocol = ip[9];
	found->offset = (uint16_t)(found->network + length);
	found->fragment = (read16(ip + 6) & 0x3fff) != 0; /* more fragments, or an offset */
	return 0;
}

int parse_transport(const struct frame *frame, struct transport *found)
{
	const uint8_t *head = frame->head;
	uint16_t offset = ETHERNET_HEADER;

	if (frame->head_length < ETHERNET_HEADER)
		return -EINVAL;
	found->ethertype = read16(head + 12);
	for (int tags = 0; tags < 2 && (found->ethertype == ETHERTYPE_VLAN ||
					found->ethertype == ETHERTYPE_QINQ); tags++) {
		if (offset + 4 > frame->head_length)
			return -EINVAL;
		found->ethertype = read16(head + offset + 2);
		offset += 4;
	}
	found->network = offset;
	if (found->ethertype == ETHERTYPE_IPV4)
		return parse_ipv4(frame, found);
	if (found->ethertype != ETHERTYPE_IPV6 || offset + 40 > frame->head_length ||
	    head[offset] >> 4 != 6)
		return -EINVAL;
	found->protocol = head[offset + 6];
	found->offset = (uint16_t)(offset + 40);
	return skip_extensions(frame, found);
}

static uint32_t mix(uint32_t value)
{
	value ^= value >> 16;
	value *= 0x85ebca6bu;
	value ^= value >> 13;
	value *= 0xc2b2ae35u;
	return value ^ value >> 16;
}

uint32_t parse_flow_hash(const struct frame *frame)
{
	const uint8_t *head = frame->head;
	struct transport found;
	uint32_t sum;

	if (frame->head_length < ETHERNET_HEADER)
		return 0;
	/* Sums and exclusive ors of both ends do not know which is the source. */
	if (parse_transport(frame, &found) != 0)
		return mix(read32(head) ^ read32(head + 6) ^
			   (uint32_t)(read16(head + 4) ^ read16(head + 10)));
	if (found.ethertype == ETHERTYPE_IPV4) {
		sum = read32(head + found.network + 12) ^ read32(head + found.network + 16);
	} else {
		sum = 0;
		for (uint16_t i = 8; i < 40; i += 4)
			sum ^= read32(head + found.network + i);
	}
	sum = mix(sum + found.protocol);
	if ((found.protocol == IPPROTO_TCP || found.protocol == IPPROTO_UDP) && !found.fragment &&
	    found.offset + 4 <= frame->head_length)
		sum ^= mix((uint32_t)read16(head + found.offset) + read16(head + found.offset + 2));
	return mix(sum);
}
