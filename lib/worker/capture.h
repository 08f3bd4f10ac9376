/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A capture: copies of the frames of one port, on their way from the workers to a thread that has
 * time for them.
 *
 * Each worker has a ring of bytes of its own in each capture, so nobody locks: the worker appends
 * records, the reader takes them away. A record is a fixed head and the frame's first bytes, as
 * they were when they were copied; the sender may change them meanwhile, and no decision is taken
 * on them. Where a ring is full the frame is counted as missed, and that is all that a slow reader
 * costs a worker.
 *
 * A capture that traces has more kinds of records: what became of each frame, step by step. They
 * belong to the frame whose `mark` they have, which is unique among those of one worker.
 *
 *     control thread   capture_new, then publishes it in a capture_set (worker/snapshot.h)
 *     workers          capture_put, capture_step: from worker/watch.h
 *     reader           capture_next, capture_done
 *
 * It is freed when no worker can see it any more.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "frame/frame.h"
#include "sync/counter.h"

/* A ring's size in bytes: at least what a frame of any length needs, twice. */
#define CAPTURE_RING_MIN (UINT64_C(256) << 10)
#define CAPTURE_RING_MAX (UINT64_C(256) << 20)
#define CAPTURE_RING_INITIAL (UINT64_C(8) << 20)

/* The most of a frame that may be kept: more than any frame has. */
#define CAPTURE_SNAP_MAX 262144

/* Frames that one trace may ask for. */
#define CAPTURE_TRACE_MAX 1000

/* A program of the Berkeley packet filter; pcap/pcap.h. */
struct bpf_insn;

enum record_kind {
	RECORD_FILLER,  /* nothing: the rest of the ring before it begins anew */
	RECORD_FRAME,
	RECORD_ADAPTED, /* for one receiver; needs: what it could not take */
	RECORD_SENT,
	RECORD_QUEUED,  /* for the receiver's limits; of what becomes of it then nothing is said */
	RECORD_DROPPED, /* on the way to one receiver */
};

enum record_direction { RECORD_IN, RECORD_OUT };

struct capture_record {
	uint32_t size;          /* with what follows: a multiple of 8 */
	uint8_t kind;           /* enum record_kind */
	uint8_t direction;      /* enum record_direction */
	uint8_t verdict;        /* enum verdict */
	uint8_t drop;           /* enum drop; of RECORD_IN and RECORD_OUT where it `is_dropped` */
	uint64_t time;          /* ns since 1970 */
	uint64_t missed;        /* frames that the ring had no room for until now */
	uint32_t length;        /* of the frame */
	uint32_t captured;      /* bytes of it that follow the record */
	uint16_t port;          /* RECORD_FRAME: it came from there; else the receiver */
	uint16_t queue;         /* pair, of the port that is captured, or of the receiver */
	uint16_t destination;   /* with VERDICT_FORWARD */
	uint16_t vlan;
	uint16_t segments;
	uint16_t needs;         /* enum frame_needs */
	uint16_t mark;
	bool is_dropped;
	struct virtio_net_hdr vnet;
};

struct capture_ring {
	/* w: the worker, r: anyone */
	uint64_t head;      /* bytes ever appended */
	uint64_t seen;      /* frames that were looked at */
	uint64_t matched;   /* of these, by the filter */
	uint64_t missed;    /* of these, for want of room */
	/* The worker's own. */
	uint64_t tail_seen; /* what it knows of the reader */
	uint16_t marks;     /* frames that it has begun to trace */
	uint8_t *bytes;
	uint8_t *scratch;   /* FRAME_LENGTH_MAX, to have a filter look at */
	/* w: the reader, r: the worker */
	uint64_t tail __attribute__((aligned(64))); /* bytes ever taken away */
} __attribute__((aligned(64)));

struct capture {
	bool in, out;       /* which directions */
	bool traces;
	uint32_t snap;      /* bytes of each frame that are kept, at most */
	uint32_t most;      /* traces: frames that each worker may take */
	const struct bpf_insn *filter; /* NULL: all frames */
	uint64_t ring_size;
	uint16_t worker_count;
	bool over;          /* no more frames are wanted; w: the reader, r: workers */
	struct capture_ring *rings; /* by worker */
};

/* The captures of one port; immutable, seen by workers through a snapshot. */
struct capture_set {
	uint16_t count;
	struct capture *captures[];
};

/*
 * A capture with empty rings of ring_size bytes (CAPTURE_RING_MIN to MAX, a multiple of 8), whose
 * memory is taken up as it is used. NULL without memory. Control thread.
 */
struct capture *capture_new(uint16_t workers, uint64_t ring_size);
void capture_free(struct capture *capture);

/* ---- a worker ---- */

/*
 * Offers a frame: it is counted, and if the filter takes it, appended behind *record, of which the
 * caller has filled what the frame does not say. Returns whether the filter took it.
 */
bool capture_put(struct capture *capture, uint16_t worker, const struct frame *frame,
		 struct capture_record *record);

/* Appends a record without a frame. */
void capture_step(struct capture *capture, uint16_t worker, struct capture_record *record);

/* ---- the reader: one thread at a time ---- */

/*
 * The oldest record of a worker's ring, or NULL; the frame's bytes follow it. Valid until
 * capture_done, which takes it away.
 */
const struct capture_record *capture_next(struct capture *capture, uint16_t worker);
void capture_done(struct capture *capture, uint16_t worker, const struct capture_record *record);

/* Sums of all workers. Any thread. */
struct capture_counts {
	uint64_t seen, matched, missed;
};
struct capture_counts capture_count(const struct capture *capture);
