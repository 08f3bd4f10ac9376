/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The split ring itself: taking it over, its notifications and its faults. Frames go through
 * split_rx.c and split_tx.c.
 */
#include "virtqueue/split.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>

bool virtqueue_wants_interrupt(struct virtqueue *vq)
{
	uint16_t before = vq->signalled;

	if (!vq->published)
		return false;
	vq->published = false;
	vq->signalled = vq->next_used;
	if (vq->event_index) {
		uint16_t event = __atomic_load_n((uint16_t *)&vq->avail->ring[vq->size],
						 __ATOMIC_RELAXED);

		return vring_need_event(event, vq->next_used, before);
	}
	return !(__atomic_load_n(&vq->avail->flags, __ATOMIC_RELAXED) & VRING_AVAIL_F_NO_INTERRUPT);
}

/*
 * We poll, so the driver need not kick. Without event index a flag says so; with it the flag must
 * stay 0 (virtio 1.2, 2.7.10.1) and an event index left behind means one stray kick in 65,536
 * entries.
 */
static void suppress_kicks(struct virtqueue *vq)
{
	if (vq->event_index) {
		uint16_t *avail_event = (uint16_t *)&vq->used->ring[vq->size];

		__atomic_store_n(&vq->used->flags, 0, __ATOMIC_RELAXED);
		__atomic_store_n(avail_event, (uint16_t)(vq->next_avail - 1), __ATOMIC_RELAXED);
	} else {
		__atomic_store_n(&vq->used->flags, VRING_USED_F_NO_NOTIFY, __ATOMIC_RELAXED);
	}
}

static bool has_feature(uint64_t features, unsigned int bit)
{
	return features >> bit & 1;
}

/* Alignment and extent of the three parts (virtio 1.2, 2.7), each inside one region. */
static const char *check_geometry(const struct virtqueue_setup *setup)
{
	uint64_t event = has_feature(setup->features, VIRTIO_RING_F_EVENT_IDX) ? 2 : 0;
	uint64_t size = setup->size;

	if (size == 0 || size > VIRTQUEUE_SIZE_MAX || (size & (size - 1)) != 0)
		return "the ring's size is not a power of two from 1 to 32768";
	if (setup->desc == NULL || setup->avail == NULL || setup->used == NULL)
		return "the ring's addresses are not mapped";
	if ((uintptr_t)setup->desc % 16 != 0 || (uintptr_t)setup->avail % 2 != 0 ||
	    (uintptr_t)setup->used % 4 != 0)
		return "the ring's addresses are not aligned";
	if (!guest_memory_holds(setup->memory, setup->desc, size * sizeof(struct vring_desc)))
		return "the descriptor table is not inside one memory region";
	if (!guest_memory_holds(setup->memory, setup->avail, 4 + 2 * size + event))
		return "the available ring is not inside one memory region";
	if (!guest_memory_holds(setup->memory, setup->used, 4 + 8 * size + event))
		return "the used ring is not inside one memory region";
	return NULL;
}

int virtqueue_init(struct virtqueue *vq, const struct virtqueue_setup *setup, const char **reason)
{
	bool long_header = has_feature(setup->features, VIRTIO_NET_F_MRG_RXBUF) ||
			   has_feature(setup->features, VIRTIO_F_VERSION_1);

	*reason = check_geometry(setup);
	if (*reason != NULL)
		return -EINVAL;
	memset(vq, 0, sizeof(*vq));
	vq->desc = setup->desc;
	vq->avail = setup->avail;
	vq->used = setup->used;
	vq->memory = setup->memory;
	vq->size = (uint16_t)setup->size;
	vq->mask = (uint16_t)(setup->size - 1);
	vq->header_length = long_header ? sizeof(struct virtio_net_hdr_mrg_rxbuf)
					: sizeof(struct virtio_net_hdr);
	vq->mergeable = has_feature(setup->features, VIRTIO_NET_F_MRG_RXBUF);
	vq->event_index = has_feature(setup->features, VIRTIO_RING_F_EVENT_IDX);
	vq->indirect = has_feature(setup->features, VIRTIO_RING_F_INDIRECT_DESC);
	vq->next_used = __atomic_load_n(&vq->used->idx, __ATOMIC_ACQUIRE);
	vq->next_avail = vq->next_used;
	vq->signalled = vq->next_used;
	vq->avail_seen = vq->next_used;
	vq->heads_end = vq->next_used;
	vq->buffers_end = vq->next_used;
	suppress_kicks(vq);
	return 0;
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
	default:
		return "unknown";
	}
}
