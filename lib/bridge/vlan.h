/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * VLANs: which one a frame is in when it comes from a port, and which tag it has when it leaves.
 * Source: IEEE 802.1Q-2018, 6.9 and 8.8 (C-VLANs, tag type 0x8100).
 *
 *     transparent   tags are payload; such ports meet only each other ("VLAN 0")
 *     access        one VLAN, whose frames have no tag on the port
 *     trunk         a set of VLANs, whose frames have a tag on the port; those of the native one,
 *                   if there is one, only where it is `native_tagged`
 *
 * A tag with the VLAN 0 is a priority tag: the frame is treated as untagged, and keeps its priority
 * where it leaves with a tag. From an access port no other tag is taken, not even that of its own
 * VLAN: behind it could stand a second one, which would count once the first is gone. For the same
 * reason a priority tag with another tag behind it is refused, and a frame that would leave a trunk
 * untagged keeps its tag where its payload begins with another one.
 *
 * Other tag types (0x88a8, 0x9100) are payload everywhere.
 *
 * A membership is immutable, part of a snapshot. Any thread.
 */
#pragma once

#include <endian.h>
#include <stdbool.h>
#include <stdint.h>

#include "frame/frame.h"
#include "frame/parse.h"
#include "frame/tag.h"

/* VLANs that a port may be in: 0 and 4095 are reserved (802.1Q, table 9-2). */
#define VLAN_FIRST 1
#define VLAN_LAST 4094
#define VLAN_COUNT 4095 /* with 0, the one of transparent ports */

enum vlan_mode { VLAN_TRANSPARENT, VLAN_ACCESS, VLAN_TRUNK };

struct vlan_set {
	uint64_t words[64];
};

static inline bool vlan_set_has(const struct vlan_set *set, uint16_t vlan)
{
	return set->words[vlan / 64] >> (vlan % 64) & 1;
}

/* Adds the VLANs from first to last. */
void vlan_set_add(struct vlan_set *set, uint16_t first, uint16_t last);

bool vlan_set_is_empty(const struct vlan_set *set);

/* As the operator asked for it. */
struct vlan_settings {
	uint32_t mode;         /* enum vlan_mode */
	uint16_t native;       /* access: the VLAN; trunk: that of untagged frames, 0: none */
	bool native_tagged;    /* its frames leave with a tag all the same */
	struct vlan_set trunk; /* the VLANs of a trunk, the native one included */
};

/* Do both say the same? */
bool vlan_same(const struct vlan_settings *left, const struct vlan_settings *right);

/* Is the port in this VLAN? 0: is it transparent? */
bool vlan_contains(const struct vlan_settings *settings, uint16_t vlan);

/* Is there a VLAN that both are in? */
bool vlan_meet(const struct vlan_settings *left, const struct vlan_settings *right);

/* The same as workers see it. */
struct vlan_membership {
	uint8_t mode;                 /* enum vlan_mode */
	bool native_tagged;
	uint16_t native;              /* 0: transparent, or a trunk without one */
	const struct vlan_set *trunk; /* NULL unless it is a trunk */
};

static inline bool vlan_is_member(const struct vlan_membership *port, uint16_t vlan)
{
	if (__builtin_expect(port->trunk == NULL, true))
		return port->native == vlan;
	return vlan_set_has(port->trunk, vlan);
}

/*
 * The tags (of enum frame_needs) that frames may have on the port without a closer look: that of a
 * native VLAN's frames depends on the VLAN.
 */
static inline uint16_t vlan_accepts(const struct vlan_membership *port)
{
	if (port->mode == VLAN_TRANSPARENT)
		return NEEDS_TAGS;
	if (port->mode == VLAN_ACCESS)
		return NEEDS_UNTAGGED;
	return port->native == 0 || port->native_tagged ? NEEDS_TAGGED : 0;
}

/*
 * Could the checksum be found again, and nowhere but behind the Ethernet header, whatever becomes
 * of the tag? Otherwise filling it would write addresses, or the tag itself.
 */
static inline bool vlan_has_movable_checksum(const struct frame *frame, uint32_t header)
{
	const struct virtio_net_hdr *vnet = &frame->vnet;

	return !(vnet->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) ||
	       (vnet->csum_start >= header && vnet->csum_start <= UINT16_MAX - TAG_LENGTH);
}

/* vlan_enter of a frame with a tag, or that is to be refused. */
bool vlan_enter_other(const struct vlan_membership *port, struct frame *frame);

/*
 * Sets the VLAN of a frame that came from a port which is not transparent, and its need for a
 * receiver that takes it with the tag that it has. False: it may not come from there, and is a
 * drop.
 */
static inline bool vlan_enter(const struct vlan_membership *port, struct frame *frame)
{
	uint16_t type;

	memcpy(&type, frame->head + ETHERNET_HEADER - 2, sizeof(type));
	if (__builtin_expect(type == htobe16(ETHERTYPE_VLAN) || port->native == 0 ||
			     !vlan_has_movable_checksum(frame, ETHERNET_HEADER), false))
		return vlan_enter_other(port, frame);
	frame->vlan = port->native;
	frame->needs |= NEEDS_UNTAGGED;
	return true;
}

/* What to do about the tag of a frame that leaves by a port, itself a member of its VLAN. */
enum tag_change vlan_leave(const struct vlan_membership *port, const struct frame *frame);
