/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Segmentation in software: a frame with a GSO header is cut into the packets that it stands for
 * (virtio 1.3, 5.1.6.2), over IPv4 and IPv6, behind VLAN tags and IPv6 extension headers.
 *
 * TSO and USO: a segment has the frame's headers, made to fit it, and views of its part of the
 * payload where the sender put it: cutting reads no payload. It is an ordinary frame with a partial
 * checksum, which checksum_fill can fill.
 *
 * UFO: the segments are IP fragments of one UDP datagram, whose checksum stands in the first of
 * them. So the whole datagram is copied and summed before it is cut, and the fragments, which need
 * nothing, are views of that copy.
 *
 *     segment_begin(&segmenter, frame, buffer, identification);
 *     while (segment_next(&segmenter, &segment, views))
 *         ... transmit the segment ...
 *
 * Worker.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "frame/frame.h"

/* Of IPv6: each fragment has it beyond the headers of the frame. */
#define FRAGMENT_HEADER 8

/* What a frame is cut into. */
enum segment_kind { SEGMENT_TCP, SEGMENT_UDP, SEGMENT_FRAGMENT };

struct segmenter {
	const struct frame *frame; /* must not change meanwhile */
	enum segment_kind kind;
	bool is_ipv4;
	uint16_t network;          /* offset of its IP header */
	uint16_t headers;          /* bytes in front of what is cut, which each segment has */
	uint16_t head_end;         /* so far the frame's head is read; behind it the views are */
	uint16_t index;            /* of the next segment */
	uint32_t next;             /* offset in the frame of its payload */
	const struct view *view;   /* with the first payload that is not in the head */
	uint32_t view_offset;      /* and where in it */
	uint32_t identification;   /* of the fragments, IPv6 */
	struct view datagram;      /* what is cut into fragments, in the buffer */
};

/*
 * Begins with a frame that passed vnet_check and has a GSO header. For UFO, `buffer` has room for
 * frame->length bytes and must not change before the last segment is gone; over IPv6 the fragments
 * get the identification, which should not be guessed easily (RFC 7739). Returns 0, or -EINVAL for
 * a frame with more than two VLAN tags, one of which it was given on the way.
 */
int segment_begin(struct segmenter *segmenter, const struct frame *frame, uint8_t *buffer,
		  uint32_t identification);

/*
 * Makes the next segment: *out with up to FRAME_VIEWS_MAX views in `views`. There are
 * frame->segments of them; behind the last it returns false.
 *
 * IPv4: total length, identification (one more each, the same in all fragments) and header checksum
 * are the segment's own. IPv6: the payload length is. TCP: the sequence number is; FIN and PSH stay
 * on the last segment, CWR on the first (RFC 3168, 6.1.2). UDP: the length is. The partial checksum
 * is the sender's, corrected by the length in its pseudo-header. All segments together have no more
 * views than the frame has and one each.
 *
 * Fragments: offset and "more fragments" are in the IPv4 header, whose "don't fragment" goes, or in
 * a fragment header (RFC 8200, 4.5) behind all extension headers, 8 bytes beyond the frame's own.
 */
bool segment_next(struct segmenter *segmenter, struct frame *out, struct view *views);
