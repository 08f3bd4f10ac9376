/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A frame: one packet in flight, and a burst: what a worker takes from a queue in one go.
 *
 * A frame never outlives its burst. It is a slot of an array that belongs to the worker and is used
 * again for the next burst; nothing is allocated or freed per packet. Whoever must keep a frame
 * longer copies it.
 *
 * The payload stays where the sender put it. Only the first bytes are copied aside, into `head`, so
 * that every decision is taken on bytes that a guest can no longer change. `views` point at the
 * rest, in the sender's memory: they are read once, while copying out, and never for a decision.
 *
 * Lengths are bytes of Ethernet without FCS. rx is into the switch from a port, tx out of it to a
 * port. A burst and its frames are touched by one worker only.
 */
#pragma once

#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "frame/drop.h"

/* Frames of one burst. */
#define BURST_MAX 64

#ifndef VIRTIO_NET_HDR_GSO_UDP_L4
#define VIRTIO_NET_HDR_GSO_UDP_L4 5 /* USO (virtio 1.3, 5.1.6), unknown to older systems */
#endif

/*
 * Copied aside of a plain frame, and of one with an offload header, whose parsing reaches further.
 * A copy of the head with a VLAN tag more has room, too.
 */
#define FRAME_HEAD_PLAIN 128
#define FRAME_HEAD_MAX 252
#define FRAME_HEAD_ROOM 256

/* An Ethernet header, two VLAN tags and the largest IP packet (RFC 791: 65,535 bytes). */
#define ETHERNET_HEADER 14
#define FRAME_LENGTH_MAX (ETHERNET_HEADER + 8 + 65535)

/*
 * Pieces of one frame behind its head. A Linux guest's 64 KiB frame has about 18, a DPDK guest's
 * 33. A frame in more pieces is gathered into the burst's scratch memory, which costs a second
 * copy.
 */
#define FRAME_VIEWS_MAX 64
#define BURST_VIEWS (BURST_MAX * 20)
#define BURST_SCRATCH (4 * (FRAME_LENGTH_MAX + 64))

/*
 * What a receiver must have negotiated to get this frame as it is (virtio 1.2, 5.1.3). For another
 * one egress fills the checksum, cuts the frame, takes the mark away or changes the tag.
 */
enum frame_needs {
	NEEDS_CHECKSUM = 1 << 0, /* a partial checksum: GUEST_CSUM */
	NEEDS_TSO4 = 1 << 1,
	NEEDS_TSO6 = 1 << 2,
	NEEDS_ECN = 1 << 3,
	NEEDS_UFO = 1 << 4,
	NEEDS_USO = 1 << 5, /* over IPv4 and IPv6 */
	/* Its checksum was found good by a sender that may say so: GUEST_CSUM takes the mark. */
	NEEDS_VALID = 1 << 6,
	NEEDS_ALL = (1 << 7) - 1,
	NEEDS_FILL = 1 << 7, /* its checksum to be filled: no receiver takes it as it is */
	/*
	 * In its VLAN it has a tag, or it has none; with both set a tag of priority alone, which
	 * nobody takes (bridge/vlan.h).
	 */
	NEEDS_TAGGED = 1 << 8,
	NEEDS_UNTAGGED = 1 << 9,
	NEEDS_TAGS = NEEDS_TAGGED | NEEDS_UNTAGGED,
};

/* What the bridge decided. An unset verdict is a drop. */
enum verdict {
	VERDICT_DROP, /* `drop` says why */
	VERDICT_FORWARD,
	VERDICT_FLOOD,
};

struct view {
	const uint8_t *address;
	uint32_t length;
};

struct frame {
	struct virtio_net_hdr vnet; /* set by frame_set_vnet; trusted after vnet_check */
	uint16_t needs;             /* enum frame_needs, set by vnet_check and vlan_enter */
	uint8_t verdict;            /* enum verdict */
	uint8_t drop;               /* enum drop, where the verdict is a drop */
	uint16_t head_length;
	uint16_t view_count;
	uint16_t segments;          /* packets that it stands for: 1, or more where it can be cut */
	uint32_t length;            /* head and views */
	uint16_t port;              /* it came from there */
	uint16_t destination;       /* with VERDICT_FORWARD */
	uint16_t vlan;              /* set by vlan_enter, where its port is in VLANs */
	uint16_t mark;              /* of a trace, in bursts that are traced: worker/capture.h */
	const struct view *views;
	uint8_t head[FRAME_HEAD_ROOM] __attribute__((aligned(64)));
};

/* What limits count. */
struct charge {
	uint64_t bytes;
	uint64_t packets;
};

/* A burst's budget where there is no limit: both. */
#define BURST_UNLIMITED UINT64_MAX

struct burst {
	/*
	 * What rx_burst may take, as vnet_charge counts; 0, always both: nothing. Set by the caller
	 * where there is a limit, spent by burst_admits, otherwise BURST_UNLIMITED.
	 */
	struct charge budget;
	bool held;           /* set by rx_burst: frames were left behind for want of budget */
	uint16_t count;      /* frames taken */
	uint16_t view_count; /* used of views */
	uint32_t scratch_used;
	/*
	 * enum frame_needs that the sender negotiated; NEEDS_VALID where it is not a guest, which
	 * may not vouch for its own frames.
	 */
	uint8_t allowed;
	bool offloads;       /* a frame has a header that asks for something: vnet_check is due */
	uint8_t *scratch;    /* BURST_SCRATCH bytes */
	struct frame frames[BURST_MAX];
	/* A frame of one piece takes a view unasked; only longer ones are held to BURST_VIEWS. */
	struct view views[BURST_VIEWS + BURST_MAX];
};

/*
 * What became of frames that were handed to a port; whatever is in none of the counts found no
 * room.
 */
struct tx_outcome {
	uint16_t packets;
	uint16_t too_long;
	uint16_t refused;   /* by the device */
	uint16_t no_buffer; /* the switch had none for a copy */
	uint32_t segments;
	uint64_t bytes;
	uint64_t lost; /* which frames are counted, but not in packets: bits by index */
};

/* Returns a burst ready for use, or NULL without memory. */
struct burst *burst_new(void);
void burst_free(struct burst *burst);

/* Forgets the frames of the last burst. */
static inline void burst_reset(struct burst *burst)
{
	burst->count = 0;
	burst->view_count = 0;
	burst->scratch_used = 0;
	burst->offloads = false;
}

static inline void charge_add(struct charge *sum, struct charge charge)
{
	sum->bytes += charge.bytes;
	sum->packets += charge.packets;
}

static inline uint64_t spend(uint64_t budget, uint64_t charge)
{
	return charge < budget ? budget - charge : 0;
}

/*
 * Takes a frame's charge off a budget. False where it exceeds what is left of either: then nothing
 * is taken. For a first frame it is enough that there is anything at all.
 */
static inline bool budget_admits(struct charge *budget, struct charge charge, bool first)
{
	const bool fits = charge.bytes <= budget->bytes && charge.packets <= budget->packets;

	if (!fits && (!first || budget->bytes == 0 || budget->packets == 0))
		return false;
	budget->bytes = spend(budget->bytes, charge.bytes);
	budget->packets = spend(budget->packets, charge.packets);
	return true;
}

/*
 * Copies up to `length` bytes from the front of the views, which end up without them. Returns how
 * many views are used up by that.
 */
uint32_t view_take_front(struct view *views, uint32_t count, uint8_t *to, uint32_t length);

/*
 * Takes more of the payload aside into the head, as much as there is room for. Returns whether
 * there was any. Before anybody else has used the views.
 */
bool frame_extend_head(struct frame *frame);

/* Makes a frame a drop. */
static inline void frame_drop(struct frame *frame, enum drop reason)
{
	frame->verdict = VERDICT_DROP;
	frame->drop = (uint8_t)reason;
}

/* Does the header ask for nothing? Whatever else it says means nothing then. */
static inline bool vnet_is_plain(const struct virtio_net_hdr *vnet)
{
	return vnet->flags == 0 && vnet->gso_type == VIRTIO_NET_HDR_GSO_NONE;
}

/*
 * Takes the header over as the sender wrote it; one that asks for nothing says nothing either.
 * Returns whether it is such a one.
 */
static inline bool frame_set_vnet(struct burst *burst, struct frame *frame,
				  const struct virtio_net_hdr *vnet)
{
	if (__builtin_expect(vnet_is_plain(vnet), true)) {
		memset(&frame->vnet, 0, sizeof(frame->vnet));
		return true;
	}
	frame->vnet = *vnet;
	burst->offloads = true;
	return false;
}

/*
 * Copies up to FRAME_HEAD_MAX bytes. Short copies of changing length are most of the work at small
 * frame sizes; blocks that overlap at the end need no loop over single bytes.
 */
static inline void copy_short(uint8_t *to, const uint8_t *from, uint32_t length)
{
	if (length >= 64) {
		const uint8_t *last = from + length - 64;
		uint8_t *last_to = to + length - 64;

		for (; from < last; from += 64, to += 64)
			memcpy(to, from, 64);
		memcpy(last_to, last, 64);
	} else if (length >= 32) {
		memcpy(to, from, 32);
		memcpy(to + length - 32, from + length - 32, 32);
	} else if (length >= 16) {
		memcpy(to, from, 16);
		memcpy(to + length - 16, from + length - 16, 16);
	} else if (length >= 8) {
		memcpy(to, from, 8);
		memcpy(to + length - 8, from + length - 8, 8);
	} else if (length >= 4) {
		memcpy(to, from, 4);
		memcpy(to + length - 4, from + length - 4, 4);
	} else if (length > 0) {
		to[0] = from[0];
		to[length / 2] = from[length / 2];
		to[length - 1] = from[length - 1];
	}
}
