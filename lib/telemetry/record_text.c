/* SPDX-License-Identifier: BSD-3-Clause */
/* Words for records; telemetry/record_text.h is the contract. */
#include "telemetry/record_text.h"

#include <stdio.h>

void record_offloads(const struct virtio_net_hdr *vnet, char *text, size_t size)
{
	static const char *const names[] = {
		[VIRTIO_NET_HDR_GSO_TCPV4] = "TSO4",
		[VIRTIO_NET_HDR_GSO_UDP] = "UFO",
		[VIRTIO_NET_HDR_GSO_TCPV6] = "TSO6",
		[VIRTIO_NET_HDR_GSO_UDP_L4] = "USO",
	};
	const unsigned int type = vnet->gso_type & ~(unsigned int)VIRTIO_NET_HDR_GSO_ECN;

	text[0] = '\0';
	if (type == VIRTIO_NET_HDR_GSO_NONE) {
		if (vnet->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
			snprintf(text, size, "partial checksum at %u+%u", vnet->csum_start,
				 vnet->csum_offset);
		return;
	}
	if (type < sizeof(names) / sizeof(names[0]) && names[type] != NULL)
		snprintf(text, size, "%s%s, %u bytes a segment", names[type],
			 vnet->gso_type & VIRTIO_NET_HDR_GSO_ECN ? " with ECN" : "",
			 vnet->gso_size);
	else
		snprintf(text, size, "segmentation of unknown kind %u", type);
}

void record_comment(const struct capture_record *record, char *text, size_t size)
{
	char offloads[RECORD_TEXT_SIZE];

	record_offloads(&record->vnet, offloads, sizeof(offloads));
	if (record->is_dropped)
		snprintf(text, size, "dropped: %s%s%s", drop_name((enum drop)record->drop),
			 offloads[0] != '\0' ? "; " : "", offloads);
	else
		snprintf(text, size, "%s", offloads);
}
