/* SPDX-License-Identifier: BSD-3-Clause */
/* Names and meanings of virtio feature bits; port/features.h is the contract. */
#include "port/features.h"

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <stddef.h>
#include <stdio.h>

#include "frame/frame.h"

#define ROW(name) [name] = #name

/* USO (virtio 1.3, 5.1.3): younger than some systems' headers. */
#define GUEST_USO4 54
#define GUEST_USO6 55
#define HOST_USO 56

static const char *const names[64] = {
	ROW(VIRTIO_NET_F_CSUM),
	ROW(VIRTIO_NET_F_GUEST_CSUM),
	ROW(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS),
	ROW(VIRTIO_NET_F_MTU),
	ROW(VIRTIO_NET_F_MAC),
	[6] = "VIRTIO_NET_F_GSO",
	ROW(VIRTIO_NET_F_GUEST_TSO4),
	ROW(VIRTIO_NET_F_GUEST_TSO6),
	ROW(VIRTIO_NET_F_GUEST_ECN),
	ROW(VIRTIO_NET_F_GUEST_UFO),
	ROW(VIRTIO_NET_F_HOST_TSO4),
	ROW(VIRTIO_NET_F_HOST_TSO6),
	ROW(VIRTIO_NET_F_HOST_ECN),
	ROW(VIRTIO_NET_F_HOST_UFO),
	ROW(VIRTIO_NET_F_MRG_RXBUF),
	ROW(VIRTIO_NET_F_STATUS),
	ROW(VIRTIO_NET_F_CTRL_VQ),
	ROW(VIRTIO_NET_F_CTRL_RX),
	ROW(VIRTIO_NET_F_CTRL_VLAN),
	ROW(VIRTIO_NET_F_GUEST_ANNOUNCE),
	ROW(VIRTIO_NET_F_MQ),
	ROW(VIRTIO_NET_F_CTRL_MAC_ADDR),
	[26] = "VHOST_F_LOG_ALL",
	[27] = "VIRTIO_F_ANY_LAYOUT",
	[28] = "VIRTIO_RING_F_INDIRECT_DESC",
	[29] = "VIRTIO_RING_F_EVENT_IDX",
	[30] = "VHOST_USER_F_PROTOCOL_FEATURES",
	[32] = "VIRTIO_F_VERSION_1",
	[33] = "VIRTIO_F_ACCESS_PLATFORM",
	ROW(VIRTIO_F_RING_PACKED),
	ROW(VIRTIO_F_IN_ORDER),
	[36] = "VIRTIO_F_ORDER_PLATFORM",
	[GUEST_USO4] = "VIRTIO_NET_F_GUEST_USO4",
	[GUEST_USO6] = "VIRTIO_NET_F_GUEST_USO6",
	[HOST_USO] = "VIRTIO_NET_F_HOST_USO",
};

static bool has(uint64_t features, unsigned int bit)
{
	return features >> bit & 1;
}

uint8_t features_sends(uint64_t features)
{
	unsigned int needs = 0;

	if (!has(features, VIRTIO_NET_F_CSUM))
		return 0;
	needs = NEEDS_CHECKSUM;
	/* The old F_GSO stands for all of TSO (virtio 1.2, 5.1.3.2, legacy). */
	if (has(features, 6))
		needs |= NEEDS_TSO4 | NEEDS_TSO6 | NEEDS_ECN;
	if (has(features, VIRTIO_NET_F_HOST_TSO4))
		needs |= NEEDS_TSO4;
	if (has(features, VIRTIO_NET_F_HOST_TSO6))
		needs |= NEEDS_TSO6;
	if (has(features, VIRTIO_NET_F_HOST_ECN))
		needs |= NEEDS_ECN;
	if (has(features, VIRTIO_NET_F_HOST_UFO))
		needs |= NEEDS_UFO;
	if (has(features, HOST_USO))
		needs |= NEEDS_USO;
	return (uint8_t)needs;
}

uint8_t features_accepts(uint64_t features)
{
	unsigned int needs = 0;

	/* Segmentation means partial checksums: without GUEST_CSUM none of it counts. */
	if (!has(features, VIRTIO_NET_F_GUEST_CSUM))
		return 0;
	needs = NEEDS_CHECKSUM | NEEDS_VALID;
	if (has(features, VIRTIO_NET_F_GUEST_TSO4))
		needs |= NEEDS_TSO4;
	if (has(features, VIRTIO_NET_F_GUEST_TSO6))
		needs |= NEEDS_TSO6;
	if (has(features, VIRTIO_NET_F_GUEST_ECN))
		needs |= NEEDS_ECN;
	if (has(features, VIRTIO_NET_F_GUEST_UFO))
		needs |= NEEDS_UFO;
	if (has(features, GUEST_USO4) && has(features, GUEST_USO6))
		needs |= NEEDS_USO;
	return (uint8_t)needs;
}

uint64_t features_switched_off(const struct feature_switches *switches)
{
	const uint64_t checksum = 1ull << VIRTIO_NET_F_CSUM | 1ull << VIRTIO_NET_F_GUEST_CSUM;
	const uint64_t tso = 1ull << VIRTIO_NET_F_GUEST_TSO4 | 1ull << VIRTIO_NET_F_GUEST_TSO6 |
			     1ull << VIRTIO_NET_F_HOST_TSO4 | 1ull << VIRTIO_NET_F_HOST_TSO6 |
			     1ull << 6; /* the old F_GSO */
	const uint64_t ufo = 1ull << VIRTIO_NET_F_GUEST_UFO | 1ull << VIRTIO_NET_F_HOST_UFO |
			     1ull << GUEST_USO4 | 1ull << GUEST_USO6 | 1ull << HOST_USO;
	const uint64_t ecn = 1ull << VIRTIO_NET_F_GUEST_ECN | 1ull << VIRTIO_NET_F_HOST_ECN;
	uint64_t off = 0;

	if (!switches->offloads.checksum)
		off |= checksum | tso | ufo | ecn;
	if (!switches->offloads.tso)
		off |= tso | ecn;
	if (!switches->offloads.ufo)
		off |= ufo;
	if (!switches->offloads.ecn)
		off |= ecn;
	if (!switches->mergeable)
		off |= 1ull << VIRTIO_NET_F_MRG_RXBUF;
	if (!switches->event_index)
		off |= 1ull << VIRTIO_RING_F_EVENT_IDX;
	if (!switches->indirect)
		off |= 1ull << VIRTIO_RING_F_INDIRECT_DESC;
	if (!switches->packed)
		off |= 1ull << VIRTIO_F_RING_PACKED;
	if (!switches->in_order)
		off |= 1ull << VIRTIO_F_IN_ORDER;
	return off;
}

json_t *features_to_json(uint64_t features)
{
	json_t *list = json_array();

	for (unsigned int bit = 0; bit < 64 && list != NULL; bit++) {
		char unknown[16];

		if (!has(features, bit))
			continue;
		snprintf(unknown, sizeof(unknown), "bit %u", bit);
		json_array_append_new(list, json_string(names[bit] != NULL ? names[bit] : unknown));
	}
	return list;
}
