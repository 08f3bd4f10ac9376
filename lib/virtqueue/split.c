/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The split ring (virtio 1.2, 2.7). Both directions work in short passes over a burst, so that the
 * cache lines that travel between the guest's core and ours are asked for early and together: first
 * the available entries, then the descriptors, then the payload.
 */
#include "virtqueue/virtqueue.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <stddef.h>

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* Cache lines of a receive buffer that are asked for before the copy reaches them. */
#define CACHE_LINE 64
#define DESCRIPTORS_A_LINE (CACHE_LINE / sizeof(struct vring_desc))
#define USED_A_LINE (CACHE_LINE / sizeof(vring_used_elem_t))

/*
 * Asks for a line that will be written. The compiler's own hint for that fetches it for reading
 * where it builds for any x86-64, and then every line would travel twice.
 */
static inline void prefetch_for_write(const void *at)
{
#if defined(__x86_64__)
	__asm__ volatile("prefetchw %0" : : "m"(*(const char *)at));
#else
	__builtin_prefetch(at, 1);
#endif
}

_Static_assert(sizeof(struct vring_desc) == 16, "a descriptor is read as two 64-bit words");

/*
 * A word of guest memory wherever it lies: nothing aligns an indirect table (virtio 1.2, 2.7.5.3),
 * and the guest writes it as it likes.
 */
typedef uint64_t guest_word __attribute__((aligned(1), may_alias));

/* A walk along one chain: the table it is in, the next descriptor, and what is left of this one. */
struct chain {
	const uint8_t *table;
	uint32_t table_size;
	uint32_t left;    /* descriptors that the chain may still have */
	uint64_t address; /* the rest of the descriptor at hand */
	uint32_t length;
	uint16_t next;
	uint16_t wanted;  /* VRING_DESC_F_WRITE or 0: the direction of all its descriptors */
	bool indirect;
	bool more;
};

/* One read of a descriptor, whatever the guest does to it meanwhile. */
static inline struct vring_desc read_descriptor(const void *at)
{
	const volatile guest_word *words = at;
	union {
		uint64_t words[2];
		struct vring_desc desc;
	} copy;

	copy.words[0] = words[0];
	copy.words[1] = words[1];
	return copy.desc;
}

static inline uint16_t avail_entry(const struct virtqueue *vq, uint16_t position)
{
	return __atomic_load_n(&vq->avail->ring[position & vq->mask], __ATOMIC_RELAXED);
}

static inline void put_used(struct virtqueue *vq, uint16_t head, uint32_t length)
{
	vring_used_elem_t *element = &vq->used->ring[vq->next_used++ & vq->mask];

	element->id = head;
	element->len = length;
}

/* Asks for the next entries of the used ring, which the driver read last. */
static inline void prefetch_used(const struct virtqueue *vq, uint16_t count)
{
	for (uint16_t i = 0; i < count; i = (uint16_t)(i + USED_A_LINE))
		prefetch_for_write(&vq->used->ring[(vq->next_used + i) & vq->mask]);
	prefetch_for_write(&vq->used->ring[(vq->next_used + count - 1) & vq->mask]);
}

static inline void publish_used(struct virtqueue *vq)
{
	__atomic_store_n(&vq->used->idx, vq->next_used, __ATOMIC_RELEASE);
	vq->published = true;
}

static void stop_ring(struct virtqueue *vq, enum virtqueue_fault fault)
{
	__atomic_store_n(&vq->fault, (uint8_t)fault, __ATOMIC_RELAXED);
}

static void count_malformed(struct virtqueue *vq)
{
	__atomic_store_n(&vq->malformed, vq->malformed + 1, __ATOMIC_RELAXED);
}

/* How many chains wait, or 0 and a fault if the index cannot be true. */
static inline uint16_t available(struct virtqueue *vq)
{
	uint16_t count;

	if (unlikely(vq->fault != VIRTQUEUE_OK))
		return 0;
	count = (uint16_t)(__atomic_load_n(&vq->avail->idx, __ATOMIC_ACQUIRE) - vq->next_avail);
	if (unlikely(count > vq->size)) {
		stop_ring(vq, VIRTQUEUE_BAD_AVAIL);
		return 0;
	}
	return count;
}

static inline void chain_start(const struct virtqueue *vq, struct chain *chain, uint16_t head,
			       uint16_t wanted)
{
	chain->table = (const uint8_t *)vq->desc;
	chain->table_size = vq->size;
	chain->left = vq->size;
	chain->length = 0;
	chain->next = head;
	chain->wanted = wanted;
	chain->indirect = false;
	chain->more = true;
}

/* Enters the indirect table that `desc` describes (virtio 1.2, 2.7.5.3). */
static int chain_enter_table(const struct virtqueue *vq, struct chain *chain,
			     const struct vring_desc *desc)
{
	const uint8_t *table;

	if (!vq->indirect || chain->indirect || desc->flags & VRING_DESC_F_NEXT || desc->len == 0 ||
	    desc->len % sizeof(*desc) != 0 || desc->len / sizeof(*desc) > vq->size)
		return -EINVAL;
	table = guest_memory_whole(vq->memory, desc->addr, desc->len);
	if (table == NULL)
		return -EINVAL;
	chain->table = table;
	chain->table_size = desc->len / (uint32_t)sizeof(*desc);
	chain->left = chain->table_size;
	chain->next = 0;
	chain->indirect = true;
	return 0;
}

/* Takes the next descriptor of the chain. */
static int chain_advance(struct virtqueue *vq, struct chain *chain)
{
	struct vring_desc desc;

	for (;;) {
		vq->walked++;
		if (chain->next >= chain->table_size || chain->left == 0)
			return -EINVAL;
		desc = read_descriptor(chain->table + chain->next * sizeof(desc));
		if (!(desc.flags & VRING_DESC_F_INDIRECT))
			break;
		if (chain_enter_table(vq, chain, &desc) != 0)
			return -EINVAL;
	}
	chain->left--;
	if ((desc.flags & VRING_DESC_F_WRITE) != chain->wanted || desc.len == 0)
		return -EINVAL;
	chain->address = desc.addr;
	chain->length = desc.len;
	chain->more = desc.flags & VRING_DESC_F_NEXT;
	chain->next = desc.next;
	return 0;
}

/*
 * The next piece of the chain that is contiguous in our memory: a descriptor, or its part in one
 * region. Returns 1, 0 at the chain's end, or -EINVAL.
 */
static inline int chain_piece(struct virtqueue *vq, struct chain *chain, struct view *piece)
{
	if (chain->length == 0) {
		if (!chain->more)
			return 0;
		if (chain_advance(vq, chain) != 0)
			return -EINVAL;
	}
	piece->length = chain->length;
	piece->address = guest_memory_part(vq->memory, chain->address, &piece->length);
	if (piece->address == NULL)
		return -EINVAL;
	chain->address += piece->length;
	chain->length -= piece->length;
	return 1;
}

/* ---- from the guest ---- */

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
			__builtin_prefetch(pieces[i].address);
			__builtin_prefetch(pieces[i].address + CACHE_LINE);
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

/* ---- to the guest ---- */

/*
 * Writes the offload header at the start of a buffer (virtio 1.2, 5.1.6.4.1). In registers: a
 * struct that is put together in memory and read back in other sizes waits for all stores before
 * it, and those are on their way to another core.
 */
static inline void write_header(uint8_t *to, const struct frame *frame, uint32_t header)
{
	const uint32_t one_buffer = 1u << 16;
	uint32_t high = frame->vnet.csum_offset;
	uint64_t low;

	_Static_assert(offsetof(struct virtio_net_hdr, csum_offset) == sizeof(low) &&
			       sizeof(struct virtio_net_hdr_mrg_rxbuf) ==
				       sizeof(low) + sizeof(high),
		       "the header is written as two words");
	memcpy(&low, &frame->vnet, sizeof(low));
	memcpy(to, &low, sizeof(low));
	high |= one_buffer;
	if (likely(header == sizeof(struct virtio_net_hdr_mrg_rxbuf)))
		memcpy(to + sizeof(low), &high, sizeof(high));
	else
		memcpy(to + sizeof(low), &high, sizeof(uint16_t));
}

static inline void copy_frame(uint8_t *to, const struct frame *frame)
{
	copy_short(to, frame->head, frame->head_length);
	to += frame->head_length;
	for (uint16_t i = 0; i < frame->view_count; i++) {
		memcpy(to, frame->views[i].address, frame->views[i].length);
		to += frame->views[i].length;
	}
}

/* Where the next byte goes: pieces of one or more chains. */
struct writer {
	struct view *piece;
	uint32_t offset;
};

static void write_pieces(struct writer *writer, const uint8_t *from, uint32_t length)
{
	while (length > 0) {
		uint32_t room = writer->piece->length - writer->offset;
		uint32_t part = room < length ? room : length;

		memcpy((uint8_t *)(uintptr_t)writer->piece->address + writer->offset, from, part);
		writer->offset += part;
		from += part;
		length -= part;
		if (writer->offset == writer->piece->length) {
			writer->piece++;
			writer->offset = 0;
		}
	}
}

/* Receive chains that together hold one frame. */
struct room {
	uint32_t bytes;
	uint16_t chains;
	uint16_t count; /* pieces */
	struct view pieces[VIRTQUEUE_PIECES_MAX];
};

static void room_reset(struct room *room)
{
	room->bytes = 0;
	room->chains = 0;
	room->count = 0;
}

/*
 * Adds the writable chain at `head` to the room, as far as `wanted` bytes need it. Returns its
 * bytes that were added, or -EINVAL for a bad chain, of which nothing was added.
 */
static int add_chain(struct virtqueue *vq, struct room *room, uint16_t head, uint32_t wanted)
{
	uint16_t count = room->count;
	uint32_t bytes = 0;
	struct chain chain;
	int more = 1;

	chain_start(vq, &chain, head, VRING_DESC_F_WRITE);
	while (count < VIRTQUEUE_PIECES_MAX && room->bytes + bytes < wanted) {
		struct view *piece = &room->pieces[count];

		more = chain_piece(vq, &chain, piece);
		if (more <= 0)
			break;
		/* Beyond the frame's end nothing is written, so a longer piece is cut there. */
		if (piece->length > wanted - room->bytes - bytes)
			piece->length = wanted - room->bytes - bytes;
		bytes += piece->length;
		count++;
	}
	if (more < 0)
		return -EINVAL;
	room->count = count;
	room->bytes += bytes;
	return (int)bytes;
}

/*
 * Finds chains for `wanted` bytes from next_avail on and notes them in the used ring, without
 * publishing. A bad chain goes back empty, and with it those before it, for chains are completed in
 * order. Returns 1, 0 if the waiting chains do not suffice, or -EMSGSIZE if no waiting will help.
 */
static int find_room(struct virtqueue *vq, struct room *room, uint32_t wanted)
{
	uint16_t first_used = vq->next_used;
	uint16_t waiting = available(vq);

	room_reset(room);
	while (waiting-- > 0 && vq->walked < VIRTQUEUE_WALK_MAX) {
		uint16_t head = avail_entry(vq, (uint16_t)(vq->next_avail + room->chains));
		int bytes;

		if (head >= vq->size) {
			stop_ring(vq, VIRTQUEUE_BAD_HEAD);
			break;
		}
		bytes = add_chain(vq, room, head, wanted);
		if (bytes < 0) {
			/* Their heads are in the used ring already; they are not read again. */
			for (uint16_t i = 0; i < room->chains; i++)
				vq->used->ring[(first_used + i) & vq->mask].len = 0;
			put_used(vq, head, 0);
			count_malformed(vq);
			vq->next_avail = (uint16_t)(vq->next_avail + room->chains + 1);
			first_used = vq->next_used;
			room_reset(room);
			continue;
		}
		put_used(vq, head, (uint32_t)bytes);
		room->chains++;
		if (room->bytes == wanted)
			return 1;
		if (!vq->mergeable || room->count == VIRTQUEUE_PIECES_MAX) {
			/* These chains stay: a smaller frame may fit. */
			vq->next_used = first_used;
			return -EMSGSIZE;
		}
	}
	vq->next_used = first_used;
	/* All buffers that the driver can post are here, and together they are too small. */
	return room->chains == vq->size ? -EMSGSIZE : 0;
}

/* One frame into chains of any shape. Returns as find_room does. */
static int put_frame_slowly(struct virtqueue *vq, const struct frame *frame)
{
	const uint32_t header = vq->header_length;
	struct virtio_net_hdr_mrg_rxbuf vnet = { .hdr = frame->vnet };
	struct room room;
	struct writer writer = { .piece = room.pieces };
	int found = find_room(vq, &room, header + frame->length);

	if (found <= 0)
		return found;
	vq->next_avail = (uint16_t)(vq->next_avail + room.chains);
	vnet.num_buffers = room.chains;
	write_pieces(&writer, (const uint8_t *)&vnet, header);
	write_pieces(&writer, frame->head, frame->head_length);
	for (uint16_t i = 0; i < frame->view_count; i++)
		write_pieces(&writer, frame->views[i].address, frame->views[i].length);
	return 1;
}

static inline bool is_before(uint16_t position, uint16_t end)
{
	return (int16_t)(end - position) > 0;
}

/*
 * Reads the heads of the next `count` positions, as far as there are, and asks for their
 * descriptors.
 */
static inline void look_at_heads(struct virtqueue *vq, uint16_t count)
{
	uint16_t end = (uint16_t)(vq->next_avail + count);

	if (is_before(vq->avail_seen, end))
		end = vq->avail_seen;
	if (is_before(vq->heads_end, vq->next_avail))
		vq->heads_end = vq->next_avail;
	while (is_before(vq->heads_end, end)) {
		uint16_t head = avail_entry(vq, vq->heads_end);

		if (unlikely(head >= vq->size)) {
			stop_ring(vq, VIRTQUEUE_BAD_HEAD);
			return;
		}
		__builtin_prefetch(&vq->desc[head]);
		vq->heads[vq->heads_end++ & (VIRTQUEUE_HEADS_AHEAD - 1)] = head;
	}
}

/* Reads the descriptors of known heads and asks for the buffers of those that are one piece. */
static inline void look_at_buffers(struct virtqueue *vq, uint16_t count)
{
	uint16_t end = (uint16_t)(vq->next_avail + count);

	if (is_before(vq->heads_end, end))
		end = vq->heads_end;
	if (is_before(vq->buffers_end, vq->next_avail))
		vq->buffers_end = vq->next_avail;
	while (is_before(vq->buffers_end, end)) {
		uint16_t position = vq->buffers_end++;
		struct virtqueue_buffer *buffer =
			&vq->buffers[position & (VIRTQUEUE_BUFFERS_AHEAD - 1)];
		uint16_t head = vq->heads[position & (VIRTQUEUE_HEADS_AHEAD - 1)];
		struct vring_desc desc = read_descriptor(&vq->desc[head]);

		buffer->head = head;
		buffer->length = desc.len;
		buffer->address = NULL;
		if (likely((desc.flags & (VRING_DESC_F_NEXT | VRING_DESC_F_INDIRECT |
					  VRING_DESC_F_WRITE)) == VRING_DESC_F_WRITE))
			buffer->address = guest_memory_whole(vq->memory, desc.addr, desc.len);
		if (likely(buffer->address != NULL)) {
			prefetch_for_write(buffer->address);
			prefetch_for_write(buffer->address + CACHE_LINE);
		}
	}
}

/*
 * The available index is a line that travels: it is read only when what was seen does not suffice.
 */
static inline void see_available(struct virtqueue *vq, uint16_t count)
{
	if (is_before(vq->avail_seen, (uint16_t)(vq->next_avail + count)))
		vq->avail_seen = (uint16_t)(vq->next_avail + available(vq));
}

/* Makes the buffers of the next `count` positions known. */
static inline void look_ahead(struct virtqueue *vq, uint16_t count)
{
	see_available(vq, count);
	look_at_heads(vq, count);
	look_at_buffers(vq, count);
}

/* Asks for what the next burst will need, of what is known to be there: nothing is waited for. */
static inline void prepare_next(struct virtqueue *vq)
{
	look_at_buffers(vq, VIRTQUEUE_BUFFERS_AHEAD);
	look_at_heads(vq, VIRTQUEUE_HEADS_AHEAD);
	prefetch_used(vq, VIRTQUEUE_BUFFERS_AHEAD);
}

void virtqueue_tx_expect(struct virtqueue *vq, unsigned int step)
{
	switch (step) {
	case 0:
		if ((uint16_t)(vq->avail_seen - vq->next_avail) >= VIRTQUEUE_HEADS_AHEAD)
			return;
		__builtin_prefetch(&vq->avail->idx);
		__builtin_prefetch(&vq->avail->ring[vq->avail_seen & vq->mask]);
		__builtin_prefetch(&vq->avail->ring[(vq->avail_seen + 31) & vq->mask]);
		return;
	case 1:
		see_available(vq, VIRTQUEUE_HEADS_AHEAD);
		look_at_heads(vq, VIRTQUEUE_HEADS_AHEAD);
		return;
	default:
		look_at_buffers(vq, VIRTQUEUE_BUFFERS_AHEAD);
	}
}

/* The next buffer, if it is known and one piece of at least `wanted` bytes. */
static inline struct virtqueue_buffer *next_buffer(struct virtqueue *vq, uint32_t wanted)
{
	struct virtqueue_buffer *buffer =
		&vq->buffers[vq->next_avail & (VIRTQUEUE_BUFFERS_AHEAD - 1)];

	if (unlikely(!is_before(vq->next_avail, vq->buffers_end)))
		look_ahead(vq, VIRTQUEUE_BUFFERS_AHEAD);
	if (unlikely(!is_before(vq->next_avail, vq->buffers_end)) || buffer->address == NULL ||
	    buffer->length < wanted)
		return NULL;
	return buffer;
}

void virtqueue_tx_burst(struct virtqueue *vq, struct frame *const *frames, uint16_t count,
			struct tx_outcome *outcome)
{
	const uint32_t header = vq->header_length;
	uint16_t first_used = vq->next_used;

	if (unlikely(vq->fault != VIRTQUEUE_OK))
		return;
	vq->walked = 0;
	look_ahead(vq, count < VIRTQUEUE_BUFFERS_AHEAD ? count : VIRTQUEUE_BUFFERS_AHEAD);
	for (uint16_t i = 0; i < count; i++) {
		const struct frame *frame = frames[i];
		uint32_t wanted = header + frame->length;
		struct virtqueue_buffer *buffer = next_buffer(vq, wanted);
		int done = 1;

		if (likely(buffer != NULL)) {
			write_header(buffer->address, frame, header);
			copy_frame(buffer->address + header, frame);
			put_used(vq, buffer->head, wanted);
			vq->next_avail++;
		} else {
			done = put_frame_slowly(vq, frame);
		}
		if (unlikely(done == 0))
			break;
		if (unlikely(done < 0)) {
			outcome->too_long++;
			continue;
		}
		outcome->packets++;
		outcome->segments += frame->segments;
		outcome->bytes += frame->length;
	}
	if (vq->next_used != first_used)
		publish_used(vq);
	prepare_next(vq);
}

/* ---- the ring itself ---- */

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
