/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The virtio-net header as the switch's own offload language: checked once, on entry; later stages
 * trust it.
 *
 * Source: virtio 1.2, 5.1.6.2 (what a driver may write) and 5.1.6.4.1 (what a device may).
 */
#pragma once

#include "frame/frame.h"

/*
 * Smallest segment size that is accepted, and most segments of one frame: a guest that asks for
 * 65,000 one-byte segments is refused rather than served.
 */
#define VNET_GSO_SIZE_MIN 48
#define VNET_SEGMENTS_MAX 2048

/*
 * What a frame is charged by a limit, in bytes without FCS: the headers come again in each segment
 * that it stands for (of UFO's fragments only the first has the UDP header; the fragment headers of
 * IPv6 are not counted). After vnet_check.
 */
static inline uint64_t vnet_charge(const struct frame *frame)
{
	const struct virtio_net_hdr *vnet = &frame->vnet;
	const uint32_t headers = vnet->gso_type == VIRTIO_NET_HDR_GSO_UDP ? vnet->csum_start
									  : vnet->hdr_len;

	return frame->length + (frame->segments - 1ull) * headers;
}

/*
 * At least what vnet_charge will say, from a header that is not checked yet: where vnet_check
 * refuses the segmentation, or finds none to do, there are no further segments.
 */
static inline uint64_t vnet_charge_bound(const struct frame *frame)
{
	const struct virtio_net_hdr *vnet = &frame->vnet;

	if (vnet->gso_type == VIRTIO_NET_HDR_GSO_NONE || vnet->gso_size < VNET_GSO_SIZE_MIN)
		return frame->length;
	return frame->length + (uint64_t)(frame->length / vnet->gso_size) * FRAME_HEAD_MAX;
}

/*
 * Checks frame->vnet against the frame's own headers (frame->head, frame->length) and against what
 * the sender may use (`allowed`, enum frame_needs). Sets frame->needs and frame->segments, masks
 * the flags to what the sender may say, and computes hdr_len itself. A mark of the sender that the
 * checksum is good (DATA_VALID) is kept where `allowed` has NEEDS_VALID and nothing else is asked.
 *
 * A partial checksum of a plain frame is checked by bounds only, as its field may belong to an
 * inner header; segmentation is checked against the parsed IP and TCP or UDP headers. A frame whose
 * payload is not longer than gso_size becomes a plain one. The gso_size of UFO is rounded down to
 * the units of 8 bytes that fragments have. A partial checksum of DHCP (UDP ports 67 and 68) needs
 * to be filled whoever the receiver is: old clients read it from raw sockets, which do not tell
 * them that it is partial.
 *
 * Returns 0, or -EINVAL where the frame must be dropped as DROP_BAD_OFFLOAD.
 * Any thread; touches nothing but the frame.
 */
int vnet_check(struct frame *frame, uint8_t allowed);
