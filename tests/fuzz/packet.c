/* SPDX-License-Identifier: BSD-3-Clause */
/* Protocol headers for the ring fuzzer; packet.h is the contract. */
#include "packet.h"

#include <linux/virtio_net.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>

static void put16(uint8_t *at, uint32_t value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

/* Up to three VLAN tags: the parser knows two. Returns the length of all Ethernet headers. */
static uint32_t put_ethernet(struct entropy *entropy, uint8_t *at, uint32_t type)
{
	uint32_t tags = entropy_chance(entropy, 8) ? 1 + entropy_below(entropy, 3) : 0;

	memset(at, 0x02, 12);
	at[5] = (uint8_t)entropy_below(entropy, 4);
	at[11] = (uint8_t)entropy_below(entropy, 4);
	for (uint32_t i = 0; i < tags; i++) {
		put16(at + 12 + 4 * i, i == 0 ? 0x88a8 : 0x8100);
		put16(at + 14 + 4 * i, 1 + i);
	}
	put16(at + 12 + 4 * tags, type);
	return 14 + 4 * tags;
}

/* Returns the length of the IP headers. */
static uint32_t put_ip(struct entropy *entropy, uint8_t *at, bool six, uint8_t protocol)
{
	uint32_t options = entropy_chance(entropy, 8) ? entropy_below(entropy, 11) : 0;
	uint32_t length = 40;
	uint8_t *next = at + 6;

	if (!six) {
		memset(at, 0, 20 + 4 * options);
		at[0] = (uint8_t)(0x45 + options);
		at[9] = protocol;
		memset(at + 12, 10, 8);
		return 20 + 4 * options;
	}
	memset(at, 0xfe, 40);
	at[0] = 0x60;
	for (uint32_t i = 0; i < options / 3; i++) {
		*next = i == 0 ? IPPROTO_HOPOPTS : IPPROTO_DSTOPTS;
		next = at + length;
		at[length + 1] = (uint8_t)entropy_below(entropy, 4);
		length += 8 + 8u * at[length + 1];
	}
	*next = protocol;
	return length;
}

static void put_offload(struct entropy *entropy, struct virtio_net_hdr *vnet, uint32_t transport,
			bool six, bool tcp)
{
	vnet->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	vnet->csum_start = (uint16_t)transport;
	vnet->csum_offset = tcp ? 16 : 6;
	if (entropy_chance(entropy, 3))
		return;
	vnet->gso_type = !tcp ? VIRTIO_NET_HDR_GSO_UDP
			 : six ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4;
	if (tcp && entropy_chance(entropy, 4))
		vnet->gso_type |= VIRTIO_NET_HDR_GSO_ECN;
	vnet->gso_size = (uint16_t)entropy_below(entropy, 1500);
	vnet->hdr_len = (uint16_t)entropy_below(entropy, 65536);
}

uint32_t packet_make(struct entropy *entropy, uint8_t bytes[PACKET_MAX], uint32_t header,
		     uint32_t total)
{
	uint32_t kind = entropy_below(entropy, 8);
	struct virtio_net_hdr vnet = { 0 };
	uint8_t *frame = bytes + header;
	bool six = kind & 1, tcp = kind & 2;
	uint32_t at;

	memset(bytes, 0, PACKET_MAX);
	at = put_ethernet(entropy, frame, six ? 0x86dd : 0x0800);
	at += put_ip(entropy, frame + at, six, tcp ? IPPROTO_TCP : IPPROTO_UDP);
	frame[at + 12] = 0x50;
	/* DHCP, whose checksums are filled. */
	if (!tcp && entropy_chance(entropy, 8))
		put16(frame + at + 2 * entropy_below(entropy, 2), 67 + entropy_below(entropy, 2));
	if (kind >= 5)
		put_offload(entropy, &vnet, at, six, tcp);
	memcpy(bytes, &vnet, sizeof(vnet));
	at += header + 20;
	if (entropy_chance(entropy, 6))
		bytes[entropy_below(entropy, at)] ^= (uint8_t)(1 + entropy_below(entropy, 255));
	return at < total ? at : total;
}
