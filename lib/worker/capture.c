/* SPDX-License-Identifier: BSD-3-Clause */
/* The rings of captures; worker/capture.h is the contract. */
#include "worker/capture.h"

#include <pcap/pcap.h>
#include <stdlib.h>
#include <sys/mman.h>

#define ALIGNED(bytes) (((bytes) + 7u) & ~7u)

static uint8_t *reserve_memory(uint64_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

struct capture *capture_new(uint16_t workers, uint64_t ring_size)
{
	struct capture *capture = calloc(1, sizeof(*capture));
	size_t size = workers * sizeof(*capture->rings);

	if (capture == NULL)
		return NULL;
	capture->worker_count = workers;
	capture->ring_size = ring_size;
	capture->rings = aligned_alloc(64, size);
	if (capture->rings == NULL) {
		free(capture);
		return NULL;
	}
	memset(capture->rings, 0, size);
	for (uint16_t i = 0; i < workers; i++) {
		struct capture_ring *ring = &capture->rings[i];

		ring->bytes = reserve_memory(ring_size);
		ring->scratch = reserve_memory(FRAME_LENGTH_MAX);
		if (ring->bytes == NULL || ring->scratch == NULL) {
			capture_free(capture);
			return NULL;
		}
	}
	return capture;
}

void capture_free(struct capture *capture)
{
	if (capture == NULL)
		return;
	for (uint16_t i = 0; i < capture->worker_count; i++) {
		if (capture->rings[i].bytes != NULL)
			munmap(capture->rings[i].bytes, capture->ring_size);
		if (capture->rings[i].scratch != NULL)
			munmap(capture->rings[i].scratch, FRAME_LENGTH_MAX);
	}
	free(capture->rings);
	free(capture);
}

/* ---- a worker ---- */

/* Copies the first bytes of a frame, at most `most`. Returns how many there were. */
static uint32_t copy_bytes(const struct frame *frame, uint8_t *to, uint32_t most)
{
	uint32_t done = frame->head_length < most ? frame->head_length : most;

	if (frame->length < most)
		most = frame->length;
	if (done > most)
		done = most;
	memcpy(to, frame->head, done);
	for (uint16_t i = 0; i < frame->view_count && done < most; i++) {
		uint32_t part = frame->views[i].length;

		if (part > most - done)
			part = most - done;
		memcpy(to + done, frame->views[i].address, part);
		done += part;
	}
	return done;
}

static bool matches(const struct capture *capture, const struct capture_ring *ring,
		    const struct frame *frame)
{
	const uint8_t *bytes = frame->head;
	uint32_t length = frame->length;

	if (capture->filter == NULL)
		return true;
	if (frame->view_count > 0) {
		length = copy_bytes(frame, ring->scratch, FRAME_LENGTH_MAX);
		bytes = ring->scratch;
	} else if (length > frame->head_length) {
		length = frame->head_length;
	}
	return bpf_filter(capture->filter, bytes, frame->length, length) != 0;
}

/* Room for so many bytes in one piece, or NULL. */
static struct capture_record *reserve(const struct capture *capture, struct capture_ring *ring,
				      uint32_t size)
{
	const uint64_t offset = ring->head % capture->ring_size;
	const uint64_t before_end = capture->ring_size - offset;
	const uint64_t needed = size <= before_end ? size : before_end + size;

	if (ring->head + needed - ring->tail_seen > capture->ring_size) {
		ring->tail_seen = __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE);
		if (ring->head + needed - ring->tail_seen > capture->ring_size)
			return NULL;
	}
	if (size > before_end) {
		struct capture_record *filler = (void *)(ring->bytes + offset);

		filler->size = (uint32_t)before_end;
		filler->kind = RECORD_FILLER;
		__atomic_store_n(&ring->head, ring->head + before_end, __ATOMIC_RELEASE);
		return (void *)ring->bytes;
	}
	return (void *)(ring->bytes + offset);
}

bool capture_put(struct capture *capture, uint16_t worker, const struct frame *frame,
		 struct capture_record *record)
{
	struct capture_ring *ring = &capture->rings[worker];
	const uint32_t most = frame->length < capture->snap ? frame->length : capture->snap;
	struct capture_record *to;

	counter_add(&ring->seen, 1);
	if (!matches(capture, ring, frame))
		return false;
	counter_add(&ring->matched, 1);
	to = reserve(capture, ring, (uint32_t)ALIGNED(sizeof(*record) + most));
	if (to == NULL) {
		counter_add(&ring->missed, 1);
		return true;
	}
	record->size = (uint32_t)ALIGNED(sizeof(*record) + most);
	record->kind = RECORD_FRAME;
	record->missed = ring->missed;
	record->length = frame->length;
	record->port = frame->port;
	record->verdict = frame->verdict;
	record->destination = frame->destination;
	record->segments = frame->segments;
	record->needs = frame->needs;
	record->vnet = frame->vnet;
	record->captured = copy_bytes(frame, (uint8_t *)(to + 1), most);
	*to = *record;
	__atomic_store_n(&ring->head, ring->head + record->size, __ATOMIC_RELEASE);
	return true;
}

void capture_step(struct capture *capture, uint16_t worker, struct capture_record *record)
{
	struct capture_ring *ring = &capture->rings[worker];
	struct capture_record *to = reserve(capture, ring, (uint32_t)ALIGNED(sizeof(*record)));

	if (to == NULL) {
		counter_add(&ring->missed, 1);
		return;
	}
	record->size = (uint32_t)ALIGNED(sizeof(*record));
	record->captured = 0;
	*to = *record;
	__atomic_store_n(&ring->head, ring->head + record->size, __ATOMIC_RELEASE);
}

/* ---- the reader ---- */

const struct capture_record *capture_next(struct capture *capture, uint16_t worker)
{
	struct capture_ring *ring = &capture->rings[worker];
	const uint64_t head = __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE);

	while (ring->tail != head) {
		const struct capture_record *record =
			(void *)(ring->bytes + ring->tail % capture->ring_size);

		if (record->kind != RECORD_FILLER)
			return record;
		capture_done(capture, worker, record);
	}
	return NULL;
}

void capture_done(struct capture *capture, uint16_t worker, const struct capture_record *record)
{
	struct capture_ring *ring = &capture->rings[worker];

	__atomic_store_n(&ring->tail, ring->tail + record->size, __ATOMIC_RELEASE);
}

struct capture_counts capture_count(const struct capture *capture)
{
	struct capture_counts sum = { 0 };

	for (uint16_t i = 0; i < capture->worker_count; i++) {
		sum.seen += counter_read(&capture->rings[i].seen);
		sum.matched += counter_read(&capture->rings[i].matched);
		sum.missed += counter_read(&capture->rings[i].missed);
	}
	return sum;
}
