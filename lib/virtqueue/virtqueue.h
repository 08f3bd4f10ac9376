/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A virtqueue: the device side of one ring over a guest memory map (virtio 1.2, 2.7 "split", 2.8
 * "packed").
 *
 * The guest owns the ring and its memory and may change both while we look. So each index and each
 * descriptor is read once into a local; indices are masked or checked; chains are bounded by the
 * ring's size; addresses go through the map. A bad chain is returned empty and counted; a ring
 * whose indices cannot be true is stopped (`fault`) until it is attached anew.
 *
 * While attached a virtqueue belongs to one worker at a time: the one that polls it, or the one
 * that has the lock of the queue's tx side. Before virtqueue_init and after detaching it
 * belongs to the thread that attaches and detaches. Chains are completed in the order in which they
 * were made available (VIRTIO_F_IN_ORDER, negotiated or not), so one position is all there is to
 * know of a ring. A split ring holds it itself: its used index. A packed one does not, so its
 * position is kept in a journal word too, where it outlives the switch.
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
#include "virtqueue/dirty_log.h"
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
	VIRTQUEUE_BAD_CHAIN, /* packed: a chain goes on beyond the ring's size */
};

/*
 * What virtqueue_init is told. Pointers are host addresses as the vhost library translated them;
 * what they point at must live as long as the ring is attached.
 */
struct virtqueue_setup {
	void *desc;
	void *avail;        /* packed: the driver event suppression structure */
	void *used;         /* packed: the device event suppression structure */
	uint32_t size;      /* entries */
	uint64_t features;  /* negotiated virtio features */
	const struct guest_memory *memory;
	const struct dirty_log *log; /* NULL: nobody wants to know what is written */

	/* Of packed rings alone. */
	uint16_t base;      /* where to go on: an index, and the wrap counter in bit 15 */
	uint64_t *journal;  /* in memory that outlives the switch; NULL: it is not kept */
	bool recover;       /* the journal may hold the position that an earlier switch left */
};

/* A journal word that holds no position. */
#define VIRTQUEUE_JOURNAL_NONE 0

/* The base of a packed ring that nothing was ever used of. */
#define VIRTQUEUE_BASE_FRESH (1u << 15)

/*
 * Receive buffers that a driver has made available are looked at this many ahead of their use, so
 * that descriptors and buffers have travelled from the guest's core before they are needed. Of
 * buffers, more may be known: a frame of 64 KiB takes 33 of 2 KiB. Powers of two.
 */
#define VIRTQUEUE_HEADS_AHEAD 64
#define VIRTQUEUE_BUFFERS_AHEAD 32
#define VIRTQUEUE_BUFFERS_MAX 64

/* A receive buffer that is one piece; its length is 0 where its chain has another shape. */
struct virtqueue_buffer {
	uint8_t *address;
	uint32_t length;
	uint16_t head; /* packed: the buffer id */
};

/* A place in a packed ring, and the driver's ring wrap counter there (virtio 1.2, 2.8.1). */
struct virtqueue_position {
	uint16_t slot;
	bool wrap;
};

/*
 * A chain of a packed ring that is to be returned: where its first descriptor lies and what is to
 * be written there (virtio 1.2, 2.8.6): length, buffer id and flags in one word.
 */
struct virtqueue_return {
	uint64_t word;
	uint64_t *at;
};

struct virtqueue {
	/* Set by virtqueue_init, read by the worker. */
	union {
		struct vring_desc *desc;
		struct vring_packed_desc *ring; /* packed */
	};
	union {
		struct vring_avail *avail;
		struct vring_packed_desc_event *driver_event; /* packed */
	};
	union {
		struct vring_used *used;
		struct vring_packed_desc_event *device_event; /* packed */
	};
	const struct guest_memory *memory;
	const struct dirty_log *log; /* NULL: writes are not marked */
	uint16_t size;
	uint16_t mask;         /* split */
	uint8_t header_length; /* 10 or 12 (virtio 1.2, 5.1.6.1) */
	bool packed;
	bool mergeable;
	bool event_index;
	bool indirect;
	bool in_order;
	bool armed;            /* rx: the driver was asked to kick; w: the worker */
	bool fresh;            /* nothing had ever been used of it when it was attached */
	uint8_t sends;         /* enum frame_needs that the driver may send; set by the owner */

	/* w: the worker while attached, else whoever detached it. */
	bool published;      /* entries were returned since the last look at the driver's wish */
	uint32_t walked;     /* descriptors of long chains in this burst */

	/* Split: positions, which count on modulo 65,536. */
	uint16_t next_avail; /* the next entry of the available ring to take */
	uint16_t next_used;  /* the next entry of the used ring to fill; used->idx once published */
	uint16_t signalled;  /* used index at the last look at the guest's wish for an interrupt */
	uint16_t last_head;  /* rx: of the last chain taken */

	/* Split, tx: positions that were seen, [next_avail, end). */
	uint16_t avail_seen;  /* the available index as last read */
	uint16_t heads_end;   /* heads are known, their descriptors asked for */

	/* Packed. */
	struct virtqueue_position next; /* the next descriptor to take */
	uint16_t next_buffer;  /* tx: counts buffers as they are taken, modulo 65,536 */
	uint16_t return_count; /* of returns */
	uint32_t unsignalled;  /* descriptors returned since the last look at the driver's wish */
	uint64_t *journal;     /* &no_journal where none is kept */
	uint64_t no_journal;

	/* tx: buffers are known, their first lines asked for; split: position, packed: count */
	uint16_t buffers_end;

	/* w: worker, r: control. */
	/* chains that were available when the worker last looked; packed: up to a burst of them */
	uint16_t waiting;
	bool spoken;         /* the driver has made any available since the ring was attached */
	uint8_t fault;       /* enum virtqueue_fault */
	uint64_t malformed;  /* chains returned empty */

	uint16_t heads[VIRTQUEUE_HEADS_AHEAD];                    /* split, by position */
	struct virtqueue_buffer buffers[VIRTQUEUE_BUFFERS_MAX];   /* by position or count */
	struct virtqueue_return returns[BURST_MAX];               /* packed */
};

/*
 * Checks the geometry and takes the ring over where it stands. Of a split ring its used index is
 * the truth. Of a packed one it is the journal, if it may be, holds a position, and the driver has
 * not reset the ring since (what we wrote into the device event suppression structure is still
 * there); a burst that was being returned when the switch died is returned now, as if its frames
 * were lost. Otherwise it is the base.
 * Returns 0, or -EINVAL with *reason pointing at a constant sentence.
 */
int virtqueue_init(struct virtqueue *vq, const struct virtqueue_setup *setup, const char **reason);

/*
 * Where a detached ring stands, for whoever goes on: of a split ring the used index, of a packed
 * one as setup->base.
 */
uint16_t virtqueue_base(const struct virtqueue *vq);

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

/*
 * Asks the driver to kick for the next chain that it makes available, until virtqueue_rx_burst has
 * taken some. It may have done so without having read that: after a full fence the caller looks
 * once more (virtqueue_is_waiting), before it relies on being told.
 */
void virtqueue_arm(struct virtqueue *vq);

/* Would virtqueue_rx_burst find anything? */
bool virtqueue_is_waiting(struct virtqueue *vq);

/* Gives the chains of the last virtqueue_rx_burst back to the driver. Their views end here. */
void virtqueue_rx_release(struct virtqueue *vq);

/*
 * Copies up to BURST_MAX frames into the driver's receive buffers and publishes them, as many as
 * find room, in order. The frames' headers go out as they are: the caller has checked that the
 * driver negotiated what they need. What found no room is the difference between count and the
 * outcome's sums.
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
