/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A virtqueue: the device side of one ring over a guest memory map (virtio 1.2, 2.7 "split").
 *
 * The guest owns the ring and its memory and may change both while we look. So each index and each
 * descriptor is read once into a local; indices are masked or checked; chains are bounded by the
 * ring's size; addresses go through the map. A bad chain is returned empty and counted; a ring
 * whose indices cannot be true is stopped (`fault`) until it is attached anew.
 *
 * While attached a virtqueue belongs to one worker. Before virtqueue_init and after detaching it
 * belongs to the thread that attaches and detaches. Chains are completed in the order in which they
 * were made available, so the ring's own used index is all there is to know when a switch starts
 * again.
 *
 *     n = virtqueue_rx_burst(vq, burst, BURST_MAX);    frames that the guest sends
 *     ... look at burst->frames, copy their payload out ...
 *     virtqueue_rx_release(vq);                        hand the buffers back
 *     if (virtqueue_wants_interrupt(vq)) ...
 */
#pragma once

#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stdint.h>

#include "frame/frame.h"
#include "virtqueue/guest_memory.h"

#define VIRTQUEUE_SIZE_MAX 32768 /* virtio 1.2, 2.7 */

/* Most pieces that one receive buffer chain is used in; what lies behind them stays unused. */
#define VIRTQUEUE_PIECES_MAX 1024

/*
 * Descriptors that one burst may walk in chains of more than one, before it ends early: 64 frames
 * of 64 KiB in buffers of 1,526 bytes are 2,800. A guest with long rings of worthless chains delays
 * the others by no more than this and one chain.
 */
#define VIRTQUEUE_WALK_MAX 16384

/* Why a ring was stopped. */
enum virtqueue_fault {
	VIRTQUEUE_OK,
	VIRTQUEUE_BAD_AVAIL, /* the available index moved further than the ring is long */
	VIRTQUEUE_BAD_HEAD,  /* an available entry names a descriptor that does not exist */
};

/* What virtqueue_init is told. Pointers are host addresses as the vhost library translated them. */
struct virtqueue_setup {
	void *desc, *avail, *used;
	uint32_t size;      /* entries */
	uint64_t features;  /* negotiated virtio features */
	const struct guest_memory *memory; /* must live as long as the ring is attached */
};

/*
 * Receive buffers that a driver has made available are looked at this many ahead of their use, so
 * that descriptors and buffers have travelled from the guest's core before they are needed. Powers
 * of two.
 */
#define VIRTQUEUE_HEADS_AHEAD 64
#define VIRTQUEUE_BUFFERS_AHEAD 32

/* A receive buffer that is one piece; the address is NULL where its chain has another shape. */
struct virtqueue_buffer {
	uint8_t *address;
	uint32_t length;
	uint16_t head;
};

struct virtqueue {
	/* Set by virtqueue_init, read by the worker. */
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	const struct guest_memory *memory;
	uint16_t size;
	uint16_t mask;
	uint8_t header_length; /* 10 or 12 (virtio 1.2, 5.1.6.1) */
	bool mergeable;
	bool event_index;
	bool indirect;
	uint8_t sends;         /* enum frame_needs that the driver may send; set by the owner */

	/* w: the worker while attached, else whoever detached it. */
	uint16_t next_avail; /* the next entry of the available ring to take */
	uint16_t next_used;  /* the next entry of the used ring to fill; used->idx once published */
	uint16_t signalled;  /* used index at the last look at the guest's wish for an interrupt */
	bool published;      /* used entries were published since then */
	uint32_t walked;     /* descriptors of long chains in this burst */

	uint16_t last_head;  /* rx: of the last chain taken */

	/* tx: positions of the available ring that were seen, [next_avail, end); same owner */
	uint16_t avail_seen;  /* the available index as last read */
	uint16_t heads_end;   /* heads are known, their descriptors asked for */
	uint16_t buffers_end; /* descriptors are read, their buffers asked for */

	/* w: worker, r: control. */
	uint8_t fault;       /* enum virtqueue_fault */
	uint64_t malformed;  /* chains returned empty */

	uint16_t heads[VIRTQUEUE_HEADS_AHEAD];                    /* by position */
	struct virtqueue_buffer buffers[VIRTQUEUE_BUFFERS_AHEAD]; /* by position */
};

/*
 * Checks the geometry and takes the ring over where it stands: its used index is the truth.
 * Returns 0, or -EINVAL with *reason pointing at a constant sentence.
 */
int virtqueue_init(struct virtqueue *vq, const struct virtqueue_setup *setup, const char **reason);

/*
 * Takes up to `max` (1 to BURST_MAX) frames that the driver made available; fills burst->frames
 * with their headers as the driver wrote them (unchecked), heads and views. A bad chain or a frame
 * of impossible length becomes a frame that is already a drop. Returns burst->count.
 */
uint16_t virtqueue_rx_burst(struct virtqueue *vq, struct burst *burst, uint16_t max);

/*
 * Asks for the lines that the next virtqueue_rx_burst will read first, without waiting for them:
 * step 0 for the available index; step 1, some time later, for the entries and descriptors that it
 * announces.
 */
void virtqueue_rx_expect(struct virtqueue *vq, unsigned int step);

/* Gives the chains of the last virtqueue_rx_burst back to the driver. Their views end here. */
void virtqueue_rx_release(struct virtqueue *vq);

/*
 * Copies frames into the driver's receive buffers and publishes them, as many as find room, in
 * order. The frames' headers go out as they are: the caller has checked that the driver negotiated
 * what they need. What found no room is the difference between count and the outcome's sums.
 */
void virtqueue_tx_burst(struct virtqueue *vq, struct frame *const *frames, uint16_t count,
			struct tx_outcome *outcome);

/*
 * The same for virtqueue_tx_burst: step 0 asks for the available index and entries, step 1 for the
 * descriptors, step 2 for the buffers.
 */
void virtqueue_tx_expect(struct virtqueue *vq, unsigned int step);

/*
 * Must the driver be interrupted for what was published since the last call? The caller has issued
 * a full fence after publishing; one serves several rings.
 */
bool virtqueue_wants_interrupt(struct virtqueue *vq);

/* A constant sentence for enum virtqueue_fault. */
const char *virtqueue_fault_text(uint8_t fault);
