/* SPDX-License-Identifier: BSD-3-Clause */
/* Frames from chains of the guest; virtqueue/frame_in.h is the contract. */
#include "virtqueue/frame_in.h"

#include "frame/vnet.h"
#include "virtqueue/chain.h"

/* Puts the pieces of a frame into scratch memory, as one piece with room behind it for the rest. */
static void gather(struct burst *burst, struct view *views, uint32_t count)
{
	uint8_t *to = burst->scratch + burst->scratch_used;
	uint32_t length = 0;

	for (uint32_t i = 0; i < count; i++) {
		memcpy(to + length, views[i].address, views[i].length);
		length += views[i].length;
	}
	views[0].address = to;
	views[0].length = length;
}

/*
 * Walks a chain of readable descriptors into views. Returns how many there are, -EINVAL for a bad
 * chain, or -EMSGSIZE if it holds more than `limit` bytes.
 */
static int collect_chain(struct virtqueue *vq, struct burst *burst,
			 const struct arrival *arrival, struct view *views, uint32_t limit)
{
	struct chain chain;
	struct view piece;
	uint32_t count = 0;
	uint32_t total = 0;
	bool gathered = false;
	int more;

	chain_start(vq, &chain, arrival->at, arrival->slots, 0);
	while ((more = chain_piece(vq, &chain, &piece)) > 0) {
		if (piece.length > limit - total)
			return -EMSGSIZE;
		if (count == FRAME_VIEWS_MAX) {
			gather(burst, views, count);
			gathered = true;
			count = 1;
		}
		if (gathered) {
			memcpy(burst->scratch + burst->scratch_used + total, piece.address,
			       piece.length);
			views[0].length += piece.length;
		} else {
			views[count++] = piece;
		}
		total += piece.length;
	}
	if (gathered && more == 0)
		burst->scratch_used += (total + 63) & ~63u;
	return more < 0 ? more : (int)count;
}

/* Fills a frame from a chain of any shape. */
static void fill_frame_slowly(struct virtqueue *vq, struct burst *burst, struct frame *frame,
			      const struct arrival *arrival)
{
	const uint32_t header = vq->header_length;
	struct view *views = &burst->views[burst->view_count];
	struct virtio_net_hdr_mrg_rxbuf vnet = { .num_buffers = 0 };
	uint32_t total = 0, used;
	int count;

	/* A dropped frame shows nothing of the one that had this slot before. */
	memset(&frame->vnet, 0, sizeof(frame->vnet));
	frame->length = 0;
	frame->head_length = 0;
	frame->view_count = 0;
	count = collect_chain(vq, burst, arrival, views, header + FRAME_LENGTH_MAX);
	if (count < 0) {
		frame_drop(frame, count == -EMSGSIZE ? DROP_TOO_LONG : DROP_MALFORMED);
		count_malformed(vq);
		return;
	}
	for (int i = 0; i < count; i++)
		total += views[i].length;
	if (total < header) {
		frame_drop(frame, DROP_MALFORMED);
		count_malformed(vq);
		return;
	}
	used = view_take_front(views, (uint32_t)count, (uint8_t *)&vnet, header);
	frame->length = total - header;
	frame->head_length =
		frame_set_vnet(burst, frame, &vnet.hdr) ? FRAME_HEAD_PLAIN : FRAME_HEAD_MAX;
	if (frame->head_length > frame->length)
		frame->head_length = (uint16_t)frame->length;
	used += view_take_front(views + used, (uint32_t)count - used, frame->head,
				frame->head_length);
	frame->views = views + used;
	frame->view_count = (uint16_t)((uint32_t)count - used);
	burst->view_count = (uint16_t)(burst->view_count + count);
}

/* Takes the first bytes of a frame aside and leaves the others where they are. */
static inline __attribute__((always_inline)) void
fill_bytes(struct burst *burst, struct frame *frame, const uint8_t *bytes, uint32_t length,
	   const uint32_t head)
{
	struct view *view;

	frame->length = length;
	if (length <= head) {
		copy_short(frame->head, bytes, length);
		frame->head_length = (uint16_t)length;
		frame->view_count = 0;
		return;
	}
	copy_short(frame->head, bytes, head);
	frame->head_length = (uint16_t)head;
	view = &burst->views[burst->view_count++];
	view->address = bytes + head;
	view->length = length - head;
	frame->views = view;
	frame->view_count = 1;
}

/*
 * Fills a frame whose header and bytes lie in one piece, which is nearly every frame. Returns
 * whether its header asks for nothing.
 */
static inline bool fill_frame(struct burst *burst, struct frame *frame,
			      const struct arrival *piece, uint32_t header)
{
	const uint8_t *bytes = piece->address + header;
	const uint32_t length = piece->length - header;
	struct virtio_net_hdr vnet;

	memcpy(&vnet, piece->address, sizeof(vnet));
	if (likely(frame_set_vnet(burst, frame, &vnet))) {
		fill_bytes(burst, frame, bytes, length, FRAME_HEAD_PLAIN);
		return true;
	}
	fill_bytes(burst, frame, bytes, length, FRAME_HEAD_MAX);
	return false;
}

/* Is there room left in the burst for the largest frame, and time for the longest chain? */
static inline bool burst_has_room(const struct virtqueue *vq, const struct burst *burst)
{
	return vq->walked < VIRTQUEUE_WALK_MAX &&
	       burst->view_count + FRAME_VIEWS_MAX <= BURST_VIEWS &&
	       burst->scratch_used + FRAME_LENGTH_MAX + 64 <= BURST_SCRATCH;
}

/* A burst's budget while it is spent: in registers, but for frames that take a closer look. */
struct spending {
	uint64_t bytes, packets; /* left when it was last looked at in the burst */
	uint32_t plain;          /* frames that were taken off since, a packet each */
};

static inline __attribute__((always_inline)) struct spending read_budget(const struct burst *burst)
{
	return (struct spending){ burst->budget.bytes, burst->budget.packets, 0 };
}

static inline __attribute__((always_inline)) void write_budget(struct burst *burst,
							       const struct spending *spending)
{
	burst->budget.bytes = spending->bytes;
	burst->budget.packets = spending->packets - spending->plain;
}

/* As burst_admits. `plain`: the frame's header asks for nothing, and it is no drop. */
static inline __attribute__((always_inline)) bool
admits(struct burst *burst, struct spending *spending, const struct frame *frame, bool plain,
       bool first)
{
	bool admitted;

	if (likely(plain && frame->length <= spending->bytes &&
		   spending->plain < spending->packets)) {
		spending->bytes -= frame->length;
		spending->plain++;
		return true;
	}
	write_budget(burst, spending);
	admitted = burst_charge(burst, frame, first);
	*spending = read_budget(burst);
	return admitted;
}

/* Compiled twice, so that the budget costs a burst that has none not even a branch a frame. */
static inline __attribute__((always_inline)) uint16_t
take_limited(struct virtqueue *vq, struct burst *burst, const struct arrival *arrivals,
	     uint16_t count, const bool limited)
{
	const uint32_t header = vq->header_length;
	struct frame *frame = burst->frames;
	struct spending spending = read_budget(burst);
	uint16_t taken;

	for (taken = 0; taken < count; taken++, frame++) {
		bool plain = false;

		frame->verdict = VERDICT_DROP;
		frame->drop = DROP_NO_DESTINATION;
		frame->needs = 0;
		frame->segments = 1;
		if (likely(arrivals[taken].address != NULL)) {
			plain = fill_frame(burst, frame, &arrivals[taken], header);
		} else {
			if (!burst_has_room(vq, burst))
				break;
			fill_frame_slowly(vq, burst, frame, &arrivals[taken]);
		}
		if (limited && !admits(burst, &spending, frame, plain, taken == 0))
			break;
	}
	if (limited)
		write_budget(burst, &spending);
	return taken;
}

uint16_t take_frames(struct virtqueue *vq, struct burst *burst, const struct arrival *arrivals,
		     uint16_t count)
{
	uint16_t taken;

	if (likely(burst->budget.bytes == BURST_UNLIMITED))
		taken = take_limited(vq, burst, arrivals, count, false);
	else
		taken = take_limited(vq, burst, arrivals, count, true);
	burst->count = taken;
	return taken;
}
