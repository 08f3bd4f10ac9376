/* SPDX-License-Identifier: BSD-3-Clause */
/* What is the same for both layouts of a ring; the rest goes to split.c and packed.c. */
#include <errno.h>

#include "virtqueue/packed.h"
#include "virtqueue/split.h"

int virtqueue_init(struct virtqueue *vq, const struct virtqueue_setup *setup, const char **reason)
{
	const uint64_t features = setup->features;
	const bool packed = has_feature(features, VIRTIO_F_RING_PACKED);

	*reason = packed ? packed_check(setup) : split_check(setup);
	if (*reason != NULL)
		return -EINVAL;
	memset(vq, 0, sizeof(*vq));
	vq->memory = setup->memory;
	vq->log = setup->log;
	vq->size = (uint16_t)setup->size;
	vq->packed = packed;
	vq->mergeable = has_feature(features, VIRTIO_NET_F_MRG_RXBUF);
	vq->header_length =
		vq->mergeable || packed || has_feature(features, VIRTIO_F_VERSION_1)
			? sizeof(struct virtio_net_hdr_mrg_rxbuf)
			: sizeof(struct virtio_net_hdr);
	vq->event_index = has_feature(features, VIRTIO_RING_F_EVENT_IDX);
	vq->indirect = has_feature(features, VIRTIO_RING_F_INDIRECT_DESC);
	vq->in_order = has_feature(features, VIRTIO_F_IN_ORDER);
	if (packed)
		packed_init(vq, setup);
	else
		split_init(vq, setup);
	return 0;
}

uint16_t virtqueue_base(const struct virtqueue *vq)
{
	return vq->packed ? packed_base(vq) : vq->next_used;
}

uint16_t virtqueue_rx_burst(struct virtqueue *vq, struct burst *burst, uint16_t max)
{
	burst_reset(burst);
	vq->walked = 0;
	if (vq->packed)
		packed_rx_burst(vq, burst, max);
	else
		split_rx_burst(vq, burst, max);
	if (unlikely(vq->armed) && burst->count > 0) {
		vq->armed = false;
		if (vq->packed)
			packed_suppress_kicks(vq);
		else
			split_suppress_kicks(vq);
	}
	return burst->count;
}

void virtqueue_arm(struct virtqueue *vq)
{
	if (vq->armed || vq->fault != VIRTQUEUE_OK)
		return;
	vq->armed = true;
	if (vq->packed)
		packed_ask_for_kick(vq);
	else
		split_ask_for_kick(vq);
}

bool virtqueue_is_waiting(struct virtqueue *vq)
{
	if (vq->fault != VIRTQUEUE_OK)
		return false;
	return vq->packed ? packed_is_waiting(vq) : available(vq) > 0;
}

void virtqueue_rx_expect(struct virtqueue *vq, unsigned int step)
{
	if (vq->packed)
		packed_rx_expect(vq, step);
	else
		split_rx_expect(vq, step);
}

void virtqueue_rx_release(struct virtqueue *vq)
{
	if (vq->packed)
		packed_rx_release(vq);
	else
		split_rx_release(vq);
}

void virtqueue_tx_burst(struct virtqueue *vq, struct frame *const *frames, uint16_t count,
			struct tx_outcome *outcome)
{
	if (unlikely(vq->fault != VIRTQUEUE_OK))
		return;
	vq->walked = 0;
	if (vq->packed)
		packed_tx_burst(vq, frames, count, outcome);
	else
		split_tx_burst(vq, frames, count, outcome);
}

void virtqueue_tx_expect(struct virtqueue *vq, unsigned int step)
{
	if (vq->packed)
		packed_tx_expect(vq, step);
	else
		split_tx_expect(vq, step);
}

bool virtqueue_wants_interrupt(struct virtqueue *vq)
{
	if (!vq->published)
		return false;
	vq->published = false;
	return vq->packed ? packed_wants_interrupt(vq) : split_wants_interrupt(vq);
}

const char *virtqueue_fault_text(uint8_t fault)
{
	switch (fault) {
	case VIRTQUEUE_OK:
		return "none";
	case VIRTQUEUE_BAD_AVAIL:
		return "the available index moved further than the ring is long";
	case VIRTQUEUE_BAD_HEAD:
		return "an available entry names a descriptor that does not exist";
	case VIRTQUEUE_BAD_CHAIN:
		return "a chain goes on beyond the ring's size";
	default:
		return "unknown";
	}
}
