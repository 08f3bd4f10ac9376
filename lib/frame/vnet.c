/* SPDX-License-Identifier: BSD-3-Clause */
/* Checks the virtio-net header of a frame that has one; frame/vnet.h is the contract. */
#include "frame/vnet.h"

#include "frame/parse.h"

#include <errno.h>
#include <netinet/in.h>

#define UDP_HEADER 8
#define UDP_CHECKSUM 6 /* offset of the field */
#define TCP_HEADER_MIN 20
#define TCP_CHECKSUM 16
#define DHCP_SERVER 67
#define DHCP_CLIENT 68

/* The type's own protocol and the feature that it stands for. */
static int gso_kind(uint8_t type, const struct transport *found, uint16_t *needs)
{
	switch (type) {
	case VIRTIO_NET_HDR_GSO_TCPV4:
		*needs |= NEEDS_TSO4;
		return found->ethertype == ETHERTYPE_IPV4 && found->protocol == IPPROTO_TCP
			       ? 0
			       : -EINVAL;
	case VIRTIO_NET_HDR_GSO_TCPV6:
		*needs |= NEEDS_TSO6;
		return found->ethertype == ETHERTYPE_IPV6 && found->protocol == IPPROTO_TCP
			       ? 0
			       : -EINVAL;
	case VIRTIO_NET_HDR_GSO_UDP:
		*needs |= NEEDS_UFO;
		return found->protocol == IPPROTO_UDP ? 0 : -EINVAL;
	case VIRTIO_NET_HDR_GSO_UDP_L4:
		*needs |= NEEDS_USO;
		return found->protocol == IPPROTO_UDP ? 0 : -EINVAL;
	default:
		return -EINVAL;
	}
}

/* Length of all headers up to the payload that is cut, or -EINVAL. */
static int headers_length(const struct frame *frame, const struct transport *found)
{
	uint16_t length = UDP_HEADER;

	if (found->protocol == IPPROTO_TCP) {
		if (found->offset + TCP_HEADER_MIN > frame->head_length)
			return -EINVAL;
		length = (uint16_t)((frame->head[found->offset + 12] >> 4) * 4);
		if (length < TCP_HEADER_MIN)
			return -EINVAL;
	}
	if (found->offset + length > frame->head_length)
		return -EINVAL;
	return found->offset + length;
}

static int check_gso(struct frame *frame)
{
	struct virtio_net_hdr *vnet = &frame->vnet;
	uint8_t type = vnet->gso_type & (uint8_t)~VIRTIO_NET_HDR_GSO_ECN;
	struct transport found = { 0 };
	uint32_t payload, segments;
	int headers;

	if (!(frame->needs & NEEDS_CHECKSUM) || vnet->gso_size == 0)
		return -EINVAL;
	if (parse_transport(frame, &found) != 0 || found.fragment ||
	    gso_kind(type, &found, &frame->needs) != 0)
		return -EINVAL;
	headers = headers_length(frame, &found);
	if (headers < 0 || vnet->csum_start != found.offset ||
	    vnet->csum_offset != (found.protocol == IPPROTO_TCP ? TCP_CHECKSUM : UDP_CHECKSUM))
		return -EINVAL;
	if (vnet->gso_type & VIRTIO_NET_HDR_GSO_ECN) {
		if (found.protocol != IPPROTO_TCP)
			return -EINVAL;
		frame->needs |= NEEDS_ECN;
	}

	/* UFO has the UDP header as part of what is cut, and cuts at multiples of 8 bytes. */
	payload = frame->length - (uint32_t)headers;
	if (type == VIRTIO_NET_HDR_GSO_UDP) {
		payload += UDP_HEADER;
		if (payload > vnet->gso_size)
			vnet->gso_size &= 0xfff8;
	}
	if (payload <= vnet->gso_size) {
		frame->needs = NEEDS_CHECKSUM;
		vnet->gso_type = VIRTIO_NET_HDR_GSO_NONE;
		vnet->gso_size = 0;
		vnet->hdr_len = 0;
		return 0;
	}
	if (vnet->gso_size < VNET_GSO_SIZE_MIN)
		return -EINVAL;
	segments = (payload + vnet->gso_size - 1) / vnet->gso_size;
	if (segments > VNET_SEGMENTS_MAX)
		return -EINVAL;
	frame->segments = (uint16_t)segments;
	vnet->hdr_len = (uint16_t)headers;
	return 0;
}

/*
 * Is the partial checksum that of a DHCP packet? By its offset a UDP header starts at csum_start;
 * who means something else by that gets a filled checksum, which harms nobody.
 */
static bool is_dhcp(const struct frame *frame)
{
	const uint8_t *udp;

	if (frame->vnet.csum_offset != UDP_CHECKSUM ||
	    frame->vnet.csum_start + 4u > frame->head_length)
		return false;
	udp = frame->head + frame->vnet.csum_start;
	return (udp[0] == 0 && (udp[1] == DHCP_SERVER || udp[1] == DHCP_CLIENT)) ||
	       (udp[2] == 0 && (udp[3] == DHCP_SERVER || udp[3] == DHCP_CLIENT));
}

bool burst_charge(struct burst *burst, const struct frame *frame, bool first)
{
	if (budget_admits(&burst->budget, vnet_charge_bound(frame), first))
		return true;
	burst->held = true;
	return false;
}

int vnet_check(struct frame *frame, uint8_t allowed)
{
	struct virtio_net_hdr *vnet = &frame->vnet;

	frame->segments = 1;

	/*
	 * A partial checksum says nothing of the data, and RSC_INFO is of no use to anybody here.
	 */
	if (vnet->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
		vnet->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
		frame->needs = NEEDS_CHECKSUM;
		if (vnet->csum_start < ETHERNET_HEADER ||
		    (uint32_t)vnet->csum_start + vnet->csum_offset + 2 > frame->length)
			return -EINVAL;
	} else {
		vnet->flags &= allowed & NEEDS_VALID ? VIRTIO_NET_HDR_F_DATA_VALID : 0;
		frame->needs = vnet->flags ? NEEDS_VALID : 0;
		vnet->csum_start = 0;
		vnet->csum_offset = 0;
	}
	if (vnet->gso_type != VIRTIO_NET_HDR_GSO_NONE) {
		if (check_gso(frame) != 0)
			return -EINVAL;
	} else {
		vnet->gso_size = 0;
		vnet->hdr_len = 0;
	}
	if (frame->needs & ~allowed)
		return -EINVAL;
	if (frame->needs == NEEDS_CHECKSUM && is_dhcp(frame))
		frame->needs |= NEEDS_FILL;
	return 0;
}
