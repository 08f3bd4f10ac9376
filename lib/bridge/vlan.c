/* SPDX-License-Identifier: BSD-3-Clause */
/* Tags of frames that come and go; bridge/vlan.h is the contract. */
#include "bridge/vlan.h"

#define TYPE_OFFSET (ETHERNET_HEADER - 2)

void vlan_set_add(struct vlan_set *set, uint16_t first, uint16_t last)
{
	for (uint16_t vlan = first; vlan <= last; vlan++)
		set->words[vlan / 64] |= UINT64_C(1) << (vlan % 64);
}

bool vlan_set_is_empty(const struct vlan_set *set)
{
	static const struct vlan_set empty;

	return memcmp(set, &empty, sizeof(empty)) == 0;
}

bool vlan_same(const struct vlan_settings *left, const struct vlan_settings *right)
{
	return left->mode == right->mode && left->native == right->native &&
	       left->native_tagged == right->native_tagged &&
	       memcmp(&left->trunk, &right->trunk, sizeof(left->trunk)) == 0;
}

bool vlan_contains(const struct vlan_settings *settings, uint16_t vlan)
{
	return settings->mode == VLAN_TRUNK ? vlan_set_has(&settings->trunk, vlan)
					    : settings->native == vlan;
}

bool vlan_meet(const struct vlan_settings *left, const struct vlan_settings *right)
{
	if (left->mode != VLAN_TRUNK)
		return vlan_contains(right, left->native);
	if (right->mode != VLAN_TRUNK)
		return vlan_contains(left, right->native);
	for (unsigned int i = 0; i < sizeof(left->trunk.words) / sizeof(left->trunk.words[0]); i++)
		if (left->trunk.words[i] & right->trunk.words[i])
			return true;
	return false;
}

static bool refuse(struct frame *frame, enum drop reason)
{
	frame_drop(frame, reason);
	return false;
}

bool vlan_enter_other(const struct vlan_membership *port, struct frame *frame)
{
	const uint8_t *type = frame->head + TYPE_OFFSET;
	uint16_t vlan;

	if (read16(type) != ETHERTYPE_VLAN)
		return refuse(frame, port->native == 0 ? DROP_VLAN : DROP_BAD_OFFLOAD);
	if (frame->length < ETHERNET_HEADER + TAG_LENGTH)
		return refuse(frame, DROP_TOO_SHORT);
	if (!vlan_has_movable_checksum(frame, ETHERNET_HEADER + TAG_LENGTH))
		return refuse(frame, DROP_BAD_OFFLOAD);
	vlan = read16(type + 2) & TAG_VLAN;
	if (vlan == 0) {
		if (read16(type + TAG_LENGTH) == ETHERTYPE_VLAN || port->native == 0)
			return refuse(frame, DROP_VLAN);
		/* Nobody takes a priority tag as it is: it becomes a VLAN's, or goes. */
		frame->vlan = port->native;
		frame->needs |= NEEDS_TAGS;
		return true;
	}
	if (port->mode == VLAN_ACCESS || !vlan_is_member(port, vlan))
		return refuse(frame, DROP_VLAN);
	frame->vlan = vlan;
	frame->needs |= NEEDS_TAGGED;
	return true;
}

/* Is there a tag at this place of the head? */
static bool is_tag(const struct frame *frame, uint32_t offset)
{
	return offset + 2 <= frame->head_length && read16(frame->head + offset) == ETHERTYPE_VLAN;
}

enum tag_change vlan_leave(const struct vlan_membership *port, const struct frame *frame)
{
	const bool has_tag = frame->needs & NEEDS_TAGGED;
	const bool is_native = port->native == frame->vlan;
	bool wants_tag = port->mode == VLAN_TRUNK && (!is_native || port->native_tagged);

	if (port->mode == VLAN_TRANSPARENT)
		return TAG_KEEP;
	if (port->mode == VLAN_TRUNK && is_tag(frame, TYPE_OFFSET + (has_tag ? TAG_LENGTH : 0)))
		wants_tag = true;
	if (!wants_tag)
		return has_tag ? TAG_REMOVE : TAG_KEEP;
	if (!has_tag)
		return TAG_INSERT;
	return frame->needs & NEEDS_UNTAGGED ? TAG_REWRITE : TAG_KEEP;
}
