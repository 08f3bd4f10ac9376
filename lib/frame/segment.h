/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Segmentation in software: a TCP frame with a GSO header is cut into the packets that it stands
 * for (virtio 1.2, 5.1.6.2), over IPv4 and IPv6, behind VLAN tags and IPv6 extension headers.
 *
 * A segment has the frame's headers, made to fit it, and views of its part of the payload where the
 * sender put it: cutting reads no payload. It is an ordinary frame with a partial checksum, which
 * checksum_fill can fill. UDP fragmentation offload is not done here: a receiver without it does
 * not get such a frame.
 *
 *     segment_begin(&segmenter, frame);
 *     while (segment_next(&segmenter, &segment, views))
 *         ... transmit the segment ...
 *
 * Worker.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "frame/frame.h"

struct segmenter {
	const struct frame *frame; /* must not change meanwhile */
	uint16_t network;          /* offset of its IP header */
	bool is_ipv4;
	uint16_t index;            /* of the next segment */
	uint32_t next;             /* offset in the frame of its payload */
	uint16_t view;             /* the view with the first payload that is not in the head */
	uint32_t view_offset;      /* and where in it */
};

/* Begins with a frame that passed vnet_check and needs NEEDS_TSO4 or NEEDS_TSO6. */
void segment_begin(struct segmenter *segmenter, const struct frame *frame);

/*
 * Makes the next segment: *out with up to FRAME_VIEWS_MAX views in `views`. There are
 * frame->segments of them; behind the last it returns false.
 *
 * IPv4: total length, identification (one more each) and header checksum are the segment's own.
 * IPv6: the payload length is. TCP: the sequence number is; FIN and PSH stay on the last segment,
 * CWR on the first (RFC 3168, 6.1.2). The partial checksum is the sender's, corrected by the length
 * in its pseudo-header. All segments together have no more views than the frame has and one each.
 */
bool segment_next(struct segmenter *segmenter, struct frame *out, struct view *views);
