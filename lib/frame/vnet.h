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
 * What a frame is charged by a limit: the packets that it stands for, and their bytes without FCS.
 * The headers come again in each of them (of UFO's fragments only the first has the UDP header; the
 * fragment headers of IPv6 are not counted). After vnet_check.
 */
static inline struct charge vnet_charge(const struct frame *frame)
{
	const struct virtio_net_hdr *vnet = &frame->vnet;
	const uint32_t headers = vnet->gso_type == VIRTIO_NET_HDR_GSO_UDP ? vnet->csum_start
									  : vnet->hdr_len;

	return (struct charge){ frame->length + (frame->segments - 1ull) * headers,
				frame->segments };
}

/*
 * At least what vnet_charge will say, from a header that is not checked yet: where vnet_check
 * refuses the segmentation, or finds none to do, there are no further segments. Nothing for a frame
 * that the port has dropped and counted already: it must not wait and be counted again.
 */
static inline struct charge vnet_charge_bound(const struct frame *frame)
{
	const struct virtio_net_hdr *vnet = &frame->vnet;
	uint64_t more;

	if (__builtin_expect(frame->drop != DROP_NO_DESTINATION, false))
		return (struct charge){ 0, 0 };
	if (vnet->gso_type == VIRTIO_NET_HDR_GSO_NONE || vnet->gso_size < VNET_GSO_SIZE_MIN)
		return (struct charge){ frame->length, 1 };
	/* Fragments have whole units of 8 bytes. */
	more = frame->length / (vnet->gso_size & ~7u);
	return (struct charge){ frame->length + more * FRAME_HEAD_MAX, 1 + more };
}

/* burst_admits in a burst that has a budget. */
bool burst_charge(struct burst *burst, const struct frame *frame, bool first);

/*
 * For rx_burst: takes the charge of the frame that is to be the next of the burst off its budget,
 * if it has one. False where the frame must wait. A first one never does, if there is any budget.
 */
static inline bool burst_admits(struct burst *burst, const struct frame *frame, bool first)
{
	return burst->budget.bytes == BURST_UNLIMITED || burst_charge(burst, frame, first);
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
