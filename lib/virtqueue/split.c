/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The split ring itself: taking it over, and its notifications. Frames go through split_rx.c and
 * split_tx.c.
 */
#include "virtqueue/split.h"

bool split_wants_interrupt(struct virtqueue *vq)
{
	uint16_t before = vq->signalled;

	vq->signalled = vq->next_used;
	if (vq->event_index) {
		uint16_t event = __atomic_load_n((uint16_t *)&vq->avail->ring[vq->size],
						 __ATOMIC_RELAXED);

		return vring_need_event(event, vq->next_used, before);
	}
	return !(__atomic_load_n(&vq->avail->flags, __ATOMIC_RELAXED) & VRING_AVAIL_F_NO_INTERRUPT);
}

/*
 * Without event index a flag says whether the driver should kick. With it the flag must stay 0
 * (virtio 1.2, 2.7.10.1), and an event index left behind means one stray kick in 65,536 entries.
 */
static void set_kicks(struct virtqueue *vq, uint16_t event, uint16_t flags)
{
	if (vq->event_index) {
		uint16_t *avail_event = (uint16_t *)&vq->used->ring[vq->size];

		__atomic_store_n(&vq->used->flags, 0, __ATOMIC_RELAXED);
		__atomic_store_n(avail_event, event, __ATOMIC_RELAXED);
		mark_written(vq, avail_event, sizeof(*avail_event));
	} else {
		__atomic_store_n(&vq->used->flags, flags, __ATOMIC_RELAXED);
	}
	mark_written(vq, &vq->used->flags, sizeof(vq->used->flags));
}

/* While we poll the driver need not kick. */
void split_suppress_kicks(struct virtqueue *vq)
{
	set_kicks(vq, (uint16_t)(vq->next_avail - 1), VRING_USED_F_NO_NOTIFY);
}

void split_ask_for_kick(struct virtqueue *vq)
{
	set_kicks(vq, vq->next_avail, 0);
}

const char *split_check(const struct virtqueue_setup *setup)
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

void split_init(struct virtqueue *vq, const struct virtqueue_setup *setup)
{
	vq->desc = setup->desc;
	vq->avail = setup->avail;
	vq->used = setup->used;
	vq->mask = (uint16_t)(setup->size - 1);
	vq->next_used = __atomic_load_n(&vq->used->idx, __ATOMIC_ACQUIRE);
	vq->next_avail = vq->next_used;
	vq->signalled = vq->next_used;
	vq->avail_seen = vq->next_used;
	vq->heads_end = vq->next_used;
	vq->buffers_end = vq->next_used;
	vq->fresh = vq->next_used == 0;
	/* Receive buffers are made available long before they are looked at for the first time. */
	available(vq);
	split_suppress_kicks(vq);
}
