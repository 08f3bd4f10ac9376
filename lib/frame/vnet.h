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
 * Smallest TCP segment size that is accepted, and most segments of one frame: a guest that asks for
 * 65,000 one-byte segments is refused rather than served.
 */
#define VNET_GSO_SIZE_MIN 48
#define VNET_SEGMENTS_MAX 2048

/*
 * Checks frame->vnet against the frame's own headers (frame->head, frame->length) and against what
 * the sender may use (`allowed`, enum frame_needs). Sets frame->needs and frame->segments, masks
 * the flags to what a guest may say, and computes hdr_len itself.
 *
 * A partial checksum of a plain frame is checked by bounds only, as its field may belong to an
 * inner header; segmentation is checked against the parsed IP and TCP or UDP headers. A frame whose
 * payload is not longer than gso_size becomes a plain one.
 *
 * Returns 0, or -EINVAL where the frame must be dropped as DROP_BAD_OFFLOAD.
 * Any thread; touches nothing but the frame.
 */
int vnet_check(struct frame *frame, uint8_t allowed);
