/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The packed ring itself: taking it over, returning chains, and its notifications. Frames go
 * through packed_rx.c and packed_tx.c.
 */
#include "virtqueue/packed.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "descriptors are little-endian words");

/* ---- positions and the journal ---- */

/*
 * A journal word: where the burst that is being returned begins and ends. Both are the same, and
 * the burst is returned, until the next one begins.
 */
#define JOURNAL_VALID (1ull << 63)

static uint16_t to_base(struct virtqueue_position at)
{
	return (uint16_t)(at.slot | (at.wrap ? VIRTQUEUE_BASE_FRESH : 0));
}

static struct virtqueue_position from_base(uint16_t base)
{
	return (struct virtqueue_position){ (uint16_t)(base & ~VIRTQUEUE_BASE_FRESH),
					    (base & VIRTQUEUE_BASE_FRESH) != 0 };
}

static void keep_journal(struct virtqueue *vq, struct virtqueue_position first)
{
	const uint64_t word = JOURNAL_VALID | (uint64_t)to_base(vq->next) << 16 | to_base(first);

	__atomic_store_n(vq->journal, word, __ATOMIC_RELEASE);
}

uint16_t packed_base(const struct virtqueue *vq)
{
	return to_base(vq->next);
}

/* Slots from one position to another that comes after it, within one round; else more than size. */
static uint32_t distance(const struct virtqueue *vq, struct virtqueue_position from,
			 struct virtqueue_position to)
{
	return (uint32_t)(to.slot - from.slot + (from.wrap != to.wrap ? vq->size : 0));
}

/* ---- returning ---- */

/* Last one first. */
static void write_returns(const struct virtqueue *vq, const struct virtqueue_return *returns,
			  uint16_t count)
{
	for (uint16_t i = count; i-- > 0;)
		__atomic_store_n(returns[i].at, returns[i].word, __ATOMIC_RELEASE);
	if (unlikely(vq->log != NULL))
		for (uint16_t i = 0; i < count; i++)
			mark_written(vq, returns[i].at, sizeof(uint64_t));
}

void packed_return(struct virtqueue *vq, const struct virtqueue_return *returns, uint16_t count)
{
	const struct virtqueue_position first = return_position(vq, &returns[0]);

	keep_journal(vq, first);
	write_returns(vq, returns, count);
	vq->unsignalled += distance(vq, first, vq->next);
	vq->published = true;
}

uint16_t packed_measure(struct virtqueue *vq, struct virtqueue_position at, uint64_t *last)
{
	uint16_t slots = 1;
	uint64_t word = packed_read(vq, at.slot);

	while (word_flags(word) & VRING_DESC_F_NEXT) {
		if (slots == vq->size) {
			stop_ring(vq, VIRTQUEUE_BAD_CHAIN);
			return 0;
		}
		at = packed_after(vq, at, 1);
		word = packed_read(vq, at.slot);
		slots++;
		vq->walked++;
	}
	*last = word;
	return slots;
}

/* ---- notifications ---- */

/* A driver's or a device's wish, read and written at once (virtio 1.2, 2.8.14). */
union event {
	uint32_t word;
	struct {
		uint16_t off_wrap; /* a slot, and the wrap counter in bit 15 */
		uint16_t flags;
	};
};

static union event read_event(const struct vring_packed_desc_event *event)
{
	return (union event){ .word = __atomic_load_n((const uint32_t *)(const void *)event,
						      __ATOMIC_RELAXED) };
}

/*
 * Our wish is never all zero, as it is in a ring that the driver has reset: so one that goes on is
 * told from it.
 */
static void set_kicks(struct virtqueue *vq, uint16_t off_wrap, uint16_t flags)
{
	const union event event = { .off_wrap = off_wrap, .flags = flags };

	__atomic_store_n((uint32_t *)(void *)vq->device_event, event.word, __ATOMIC_RELAXED);
	mark_written(vq, vq->device_event, sizeof(event));
}

/* While we poll the driver need not kick. */
void packed_suppress_kicks(struct virtqueue *vq)
{
	set_kicks(vq, 0, VRING_PACKED_EVENT_FLAG_DISABLE);
}

void packed_ask_for_kick(struct virtqueue *vq)
{
	if (vq->event_index)
		set_kicks(vq, to_base(vq->next), VRING_PACKED_EVENT_FLAG_DESC);
	else
		/* The position means nothing then (virtio 1.2, 2.8.10), but is not zero. */
		set_kicks(vq, VIRTQUEUE_BASE_FRESH, VRING_PACKED_EVENT_FLAG_ENABLE);
}

bool packed_wants_interrupt(struct virtqueue *vq)
{
	const union event event = read_event(vq->driver_event);
	const struct virtqueue_position wish = from_base(event.off_wrap);
	const int32_t after = vq->next.slot, before = after - (int32_t)vq->unsignalled;
	int32_t at = wish.slot;

	vq->unsignalled = 0;
	if (event.flags != VRING_PACKED_EVENT_FLAG_DESC || !vq->event_index)
		return event.flags != VRING_PACKED_EVENT_FLAG_DISABLE;
	/* The wish is of this round or of the one before. */
	if (wish.wrap != vq->next.wrap)
		at -= vq->size;
	return before <= at && at < after;
}

/* ---- taking over ---- */

const char *packed_check(const struct virtqueue_setup *setup)
{
	uint64_t size = setup->size;

	if (size == 0 || size > VIRTQUEUE_SIZE_MAX)
		return "the ring's size is not from 1 to 32768";
	if (setup->desc == NULL || setup->avail == NULL || setup->used == NULL)
		return "the ring's addresses are not mapped";
	if ((uintptr_t)setup->desc % 16 != 0 || (uintptr_t)setup->avail % 4 != 0 ||
	    (uintptr_t)setup->used % 4 != 0)
		return "the ring's addresses are not aligned";
	if (!guest_memory_holds(setup->memory, setup->desc,
				size * sizeof(struct vring_packed_desc)))
		return "the descriptor ring is not inside one memory region";
	if (!guest_memory_holds(setup->memory, setup->avail,
				sizeof(struct vring_packed_desc_event)))
		return "the driver event structure is not inside one memory region";
	if (!guest_memory_holds(setup->memory, setup->used, sizeof(struct vring_packed_desc_event)))
		return "the device event structure is not inside one memory region";
	if (from_base(setup->base).slot >= size)
		return "the ring's base lies beyond its size";
	return NULL;
}

bool packed_is_waiting(const struct virtqueue *vq)
{
	return is_available(packed_read(vq, vq->next.slot), vq->next.wrap);
}

/*
 * Completes a burst that was being returned: if its first chain is still available, the driver has
 * seen none of them yet, and all go back empty. Those at the burst's end were returned already, but
 * may be the end of a frame whose beginning is lost. Last one first, as ever, so that a second
 * death in between changes nothing.
 */
static void complete_return(struct virtqueue *vq, struct virtqueue_position at)
{
	struct virtqueue_return returns[PACKED_RETURNS_MAX];
	uint32_t left = distance(vq, at, vq->next);
	uint16_t count = 0, slots;
	uint64_t last;

	for (; left > 0 && count < PACKED_RETURNS_MAX; left -= slots) {
		if (!is_available(packed_read(vq, at.slot), at.wrap))
			break;
		slots = packed_measure(vq, at, &last);
		if (slots == 0 || slots > left)
			break;
		returns[count++] =
			make_return(packed_word(vq, at.slot), state_used(at.wrap), last);
		at = packed_after(vq, at, slots);
	}
	if (count == 0)
		return;
	/* Of a returned chain only the first slot was written: how long it was is not known. */
	for (; left > 0 && count < PACKED_RETURNS_MAX; left--, at = packed_after(vq, at, 1)) {
		const uint64_t word = packed_read(vq, at.slot);

		if ((word & PACKED_STATE) == state_used(at.wrap))
			returns[count++] = make_return(packed_word(vq, at.slot),
						       state_used(at.wrap), word);
	}
	write_returns(vq, returns, count);
}

/*
 * Takes the position over that an earlier switch left. False if there is none for a ring of this
 * size, or if the driver has reset the ring since: then the device event structure is empty.
 */
static bool recover(struct virtqueue *vq)
{
	const uint64_t word = __atomic_load_n(vq->journal, __ATOMIC_ACQUIRE);
	const struct virtqueue_position first = from_base((uint16_t)word);
	const struct virtqueue_position next = from_base((uint16_t)(word >> 16));

	if (!(word & JOURNAL_VALID) || first.slot >= vq->size || next.slot >= vq->size ||
	    distance(vq, first, next) > vq->size ||
	    read_event(vq->device_event).word == 0)
		return false;
	vq->next = next;
	complete_return(vq, first);
	return true;
}

void packed_init(struct virtqueue *vq, const struct virtqueue_setup *setup)
{
	vq->ring = setup->desc;
	vq->driver_event = setup->avail;
	vq->device_event = setup->used;
	vq->journal = setup->journal != NULL ? setup->journal : &vq->no_journal;
	vq->next = from_base(setup->base);
	if (!setup->recover || !recover(vq))
		vq->fresh = setup->base == VIRTQUEUE_BASE_FRESH;
	keep_journal(vq, vq->next);
	note_waiting(vq, packed_is_waiting(vq));
	packed_suppress_kicks(vq);
}
