/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * VLAN tags of a frame, changed for one receiver: a frame's head is never changed, as a flooded
 * frame has one head and many receivers, so that a changed one is a copy of the head with the same
 * views. The offsets of its offload header move with the tag.
 *
 * Source: IEEE 802.1Q-2018, 9.5 and 9.6. Worker.
 */
#pragma once

#include <stdint.h>

#include "frame/frame.h"

#define TAG_LENGTH 4
#define TAG_VLAN 0x0fff /* of the 16 bits behind the tag's type; above it stands the priority */

enum tag_change {
	TAG_KEEP,
	TAG_INSERT,  /* with priority 0 */
	TAG_REMOVE,
	TAG_REWRITE, /* the VLAN of the tag that is there; its priority stays */
};

/*
 * Makes *out the frame with its first tag changed to frame->vlan, and without a need for tags. A
 * frame with the tag's length added must not exceed FRAME_LENGTH_MAX; one whose tag is removed or
 * rewritten has one. A partial checksum begins behind the tag, and at 65,531 at most: vlan_enter
 * sees to that.
 */
void tag_change(const struct frame *frame, enum tag_change change, struct frame *out);
