/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Frames from the guest, over its transmit ring. In short passes over a burst, so that the cache
 * lines that travel between the guest's core and ours are asked for early and together: first the
 * available entries, then the descriptors, then the payload.
 */
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
static int collect_chain(struct virtqueue *vq, struct burst *burst, uint16_t head,
			 struct view *views, uint32_t limit)
{
	struct chain chain;
	struct view piece;
	uint32_t count = 0;
	uint32_t total = 0;
	bool gathered = false;
	int more;

	chain_start(vq, &chain, head, 0);
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

/* Takes `length` bytes off the front of the views. Returns how many views are used up by that. */
static uint32_t take_front(struct view *views, uint32_t count, uint8_t *to, uint32_t length)
{
	uint32_t used = 0;

	while (length > 0 && used < count) {
		uint32_t part = views[used].length < length ? views[used].length : length;

		memcpy(to, views[used].address, part);
		views[used].address += part;
		views[used].length -= part;
		to += part;
		length -= part;
		if (views[used].length == 0)
			used++;
	}
	return used;
}

/* Fills a frame from a chain of any shape. */
static void fill_frame_slowly(struct virtqueue *vq, struct burst *burst, struct frame *frame,
			      uint16_t head)
{
	const uint32_t header = vq->header_length;
	struct view *views = &burst->views[burst->view_count];
	struct virtio_net_hdr_mrg_rxbuf vnet;
	uint32_t total = 0, used;
	int count;

	/* A dropped frame shows nothing of the one that had this slot before. */
	frame->length = 0;
	frame->head_length = 0;
	frame->view_count = 0;
	count = collect_chain(vq, burst, head, views, header + FRAME_LENGTH_MAX);
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
	used = take_front(views, (uint32_t)count, (uint8_t *)&vnet, header);
	frame->vnet = vnet.hdr;
	frame->length = total - header;
	frame->head_length = vnet_is_plain(&frame->vnet) ? FRAME_HEAD_PLAIN : FRAME_HEAD_MAX;
	if (frame->head_length > frame->length)
		frame->head_length = (uint16_t)frame->length;
	used += take_front(views + used, (uint32_t)count - used, frame->head, frame->head_length);
	frame->views = views + used;
	frame->view_count = (uint16_t)((uint32_t)count - used);
	burst->view_count = (uint16_t)(burst->view_count + count);
}

/* Fills a frame whose header and bytes lie in one piece, which is nearly every frame. */
static inline void fill_frame(struct burst *burst, struct frame *frame, const struct view *piece,
			      uint32_t header)
{
	uint32_t length = piece->length - header;
	uint32_t head = FRAME_HEAD_PLAIN;

	memcpy(&frame->vnet, piece->address, sizeof(frame->vnet));
	if (unlikely(!vnet_is_plain(&frame->vnet)))
		head = FRAME_HEAD_MAX;
	frame->length = length;
	if (length <= head) {
		copy_short(frame->head, piece->address + header, length);
		frame->head_length = (uint16_t)length;
		frame->view_count = 0;
	} else {
		struct view *view = &burst->views[burst->view_count++];

		copy_short(frame->head, piece->address + header, head);
		frame->head_length = (uint16_t)head;
		view->address = piece->address + header + head;
		view->length = length - head;
		frame->views = view;
		frame->view_count = 1;
	}
}

/*
 * Into the second level cache: the first has places for few lines on their way, and a burst's would
 * fill them all and hold up everything else.
 */
static inline void prefetch_payload(const uint8_t *at)
{
	__builtin_prefetch(at, 0, 2);
}

/* Is there room left in the burst for the largest frame, and time for the longest chain? */
static inline bool burst_has_room(const struct virtqueue *vq, const struct burst *burst)
{
	return vq->walked < VIRTQUEUE_WALK_MAX &&
	       burst->view_count + FRAME_VIEWS_MAX <= BURST_VIEWS &&
	       burst->scratch_used + FRAME_LENGTH_MAX + 64 <= BURST_SCRATCH;
}

/*
 * Asks for the next available entries and, as most drivers use their descriptors in a row, for the
 * descriptors that they will name.
 */
static inline void prefetch_announced(const struct virtqueue *vq, uint16_t count)
{
	__builtin_prefetch(&vq->avail->ring[vq->next_avail & vq->mask]);
	__builtin_prefetch(&vq->avail->ring[(vq->next_avail + count - 1) & vq->mask]);
	for (uint16_t i = 0; i < count; i = (uint16_t)(i + DESCRIPTORS_A_LINE))
		__builtin_prefetch(&vq->desc[(vq->last_head + 1 + i) & vq->mask]);
}

void virtqueue_rx_expect(struct virtqueue *vq, unsigned int step)
{
	uint16_t count;

	if (step == 0) {
		__builtin_prefetch(&vq->avail->idx);
		return;
	}
	count = available(vq);
	if (count > 0)
		prefetch_announced(vq, count < BURST_MAX ? count : BURST_MAX);
}

uint16_t virtqueue_rx_burst(struct virtqueue *vq, struct burst *burst, uint16_t max)
{
	const uint32_t header = vq->header_length;
	struct view pieces[BURST_MAX];
	uint16_t heads[BURST_MAX];
	uint16_t count, taken;

	burst_reset(burst);
	vq->walked = 0;
	count = available(vq);
	if (count == 0)
		return 0;
	if (count > max)
		count = max;

	prefetch_announced(vq, count);
	prefetch_used(vq, count);
	for (uint16_t i = 0; i < count; i++) {
		heads[i] = avail_entry(vq, (uint16_t)(vq->next_avail + i));
		if (unlikely(heads[i] >= vq->size)) {
			stop_ring(vq, VIRTQUEUE_BAD_HEAD);
			count = i;
			break;
		}
		__builtin_prefetch(&vq->desc[heads[i]]);
		vq->last_head = heads[i];
	}
	for (uint16_t i = 0; i < count; i++) {
		struct vring_desc desc = read_descriptor(&vq->desc[heads[i]]);

		pieces[i].address = NULL;
		pieces[i].length = desc.len;
		if (likely(!(desc.flags & (VRING_DESC_F_NEXT | VRING_DESC_F_INDIRECT |
					   VRING_DESC_F_WRITE)) &&
			   desc.len >= header && desc.len <= header + FRAME_LENGTH_MAX))
			pieces[i].address = guest_memory_whole(vq->memory, desc.addr, desc.len);
		if (likely(pieces[i].address != NULL)) {
			prefetch_payload(pieces[i].address);
			prefetch_payload(pieces[i].address + CACHE_LINE);
		}
	}
	for (taken = 0; taken < count; taken++) {
		struct frame *frame = &burst->frames[taken];

		frame->verdict = VERDICT_DROP;
		frame->drop = DROP_NO_DESTINATION;
		frame->needs = 0;
		frame->segments = 1;
		if (likely(pieces[taken].address != NULL)) {
			fill_frame(burst, frame, &pieces[taken], header);
		} else {
			if (!burst_has_room(vq, burst))
				break;
			fill_frame_slowly(vq, burst, frame, heads[taken]);
		}
		put_used(vq, heads[taken], 0);
	}
	vq->next_avail = (uint16_t)(vq->next_avail + taken);
	burst->count = taken;
	return taken;
}

void virtqueue_rx_release(struct virtqueue *vq)
{
	publish_used(vq);
}
