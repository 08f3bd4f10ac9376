/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Rings of both layouts are attached and detached, as port/vhost_rings.c does it, while a worker
 * polls them and their guest goes on: no frame is lost, comes twice or out of order, and nobody
 * touches what was detached. Worth most under a thread sanitizer, which also sees whether what the
 * guest and the switch write is ordered by the ring alone.
 */
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "sync/retire.h"
#include "virtqueue/virtqueue.h"

#define SIZE 64
#define BUFFER 128
#define HEADER 12
#define LENGTH (HEADER + 14 + 8) /* of a frame that holds its number */

#define CYCLES 300
#define FRAMES 20000

/* A ring, the driver's side of it, and its buffers. */
struct ring {
	struct virtqueue *attached; /* w: main, r: worker */
	struct virtqueue vq;
	struct guest_memory *memory;
	uint64_t journal;

	bool packed;
	uint16_t write;
	uint8_t *bytes;             /* of all: descriptors, the other parts, buffers */
	uint32_t posted, reaped;    /* chains; the guest's thread */
};

struct stage {
	struct ring rings[2];       /* the guest's tx and rx ring */
	struct retire *retire;
	bool stop;                  /* w: main, r: the others */
	uint64_t frames;            /* w: guest, r: main */
	bool right;                 /* every frame was the next one; w: guest */
};

static void *desc_of(const struct ring *ring)
{
	return ring->bytes;
}

static void *avail_of(const struct ring *ring)
{
	return ring->bytes + 16 * SIZE;
}

static void *used_of(const struct ring *ring)
{
	return ring->bytes + 24 * SIZE;
}

static uint8_t *buffer_of(const struct ring *ring, uint32_t chain)
{
	return ring->bytes + 64 * SIZE + BUFFER * (chain % SIZE);
}

#define MEMORY_SIZE ((64 + BUFFER) * SIZE)

/* ---- the guest ---- */

static bool lap(uint32_t chain)
{
	return chain / SIZE % 2 == 0;
}

static void post(struct ring *ring, uint32_t length)
{
	uint32_t slot = ring->posted % SIZE;
	uint64_t address = (uint64_t)(buffer_of(ring, slot) - ring->bytes);

	if (ring->packed) {
		const uint64_t state = lap(ring->posted) ? 1 << VRING_PACKED_DESC_F_AVAIL
							 : 1 << VRING_PACKED_DESC_F_USED;
		uint64_t *words = (uint64_t *)desc_of(ring) + 2 * slot;

		__atomic_store_n(&words[0], address, __ATOMIC_RELAXED);
		__atomic_store_n(&words[1],
				 length | (uint64_t)slot << 32 | (state | ring->write) << 48,
				 __ATOMIC_RELEASE);
		ring->posted++;
	} else {
		struct vring_desc *desc = (struct vring_desc *)desc_of(ring) + slot;
		struct vring_avail *avail = avail_of(ring);

		*desc = (struct vring_desc){ address, length, ring->write, 0 };
		avail->ring[slot] = (uint16_t)slot;
		__atomic_store_n(&avail->idx, (uint16_t)++ring->posted, __ATOMIC_RELEASE);
	}
}

/* Is the next chain returned? */
static bool reap(struct ring *ring)
{
	uint32_t slot = ring->reaped % SIZE;

	if (ring->packed) {
		const uint64_t *words = (const uint64_t *)desc_of(ring) + 2 * slot;
		uint64_t flags = __atomic_load_n(&words[1], __ATOMIC_ACQUIRE) >> 48;
		uint64_t wanted = lap(ring->reaped);

		if (ring->reaped == ring->posted ||
		    (flags >> VRING_PACKED_DESC_F_AVAIL & 1) != wanted ||
		    (flags >> VRING_PACKED_DESC_F_USED & 1) != wanted)
			return false;
	} else {
		const struct vring_used *used = used_of(ring);

		if (__atomic_load_n(&used->idx, __ATOMIC_ACQUIRE) == (uint16_t)ring->reaped)
			return false;
	}
	ring->reaped++;
	return true;
}

/* Sends numbered frames, as many as will find room, and looks at what comes. */
static void *run_guest(void *argument)
{
	struct stage *stage = argument;
	struct ring *tx = &stage->rings[0], *rx = &stage->rings[1];
	uint64_t sent = 0, received = 0, number;

	while (rx->posted < SIZE)
		post(rx, BUFFER);
	while (!__atomic_load_n(&stage->stop, __ATOMIC_RELAXED)) {
		while (reap(tx))
			;
		if (tx->posted - tx->reaped < SIZE && sent - received < SIZE) {
			memset(buffer_of(tx, tx->posted), 0, LENGTH);
			memcpy(buffer_of(tx, tx->posted) + LENGTH - 8, &sent, 8);
			sent++;
			post(tx, LENGTH);
		}
		while (reap(rx)) {
			memcpy(&number, buffer_of(rx, rx->reaped - 1) + LENGTH - 8, 8);
			stage->right &= number == received++;
			post(rx, BUFFER);
		}
		__atomic_store_n(&stage->frames, received, __ATOMIC_RELAXED);
	}
	return NULL;
}

/* ---- the switch ---- */

static void *run_worker(void *argument)
{
	struct stage *stage = argument;
	struct burst *burst = burst_new();
	struct frame *frames[BURST_MAX];
	uint32_t rounds = 0;

	burst->budget = (struct charge){ BURST_UNLIMITED, BURST_UNLIMITED };
	retire_online(stage->retire, 0);
	while (!__atomic_load_n(&stage->stop, __ATOMIC_RELAXED)) {
		struct virtqueue *from = __atomic_load_n(&stage->rings[0].attached,
							 __ATOMIC_ACQUIRE);
		struct virtqueue *to = __atomic_load_n(&stage->rings[1].attached, __ATOMIC_ACQUIRE);
		struct tx_outcome outcome = { 0 };

		if (from != NULL && to != NULL && virtqueue_rx_burst(from, burst, 16) > 0) {
			for (uint16_t i = 0; i < burst->count; i++)
				frames[i] = &burst->frames[i];
			virtqueue_tx_burst(to, frames, burst->count, &outcome);
			virtqueue_rx_release(from);
			(void)virtqueue_wants_interrupt(to);
		}
		retire_quiescent(stage->retire, 0);
		if (++rounds % 1024 == 0) {
			retire_offline(stage->retire, 0);
			retire_online(stage->retire, 0);
		}
	}
	retire_offline(stage->retire, 0);
	burst_free(burst);
	return NULL;
}

/* The map is new each time, as after SET_MEM_TABLE. */
static void attach(struct ring *ring, uint16_t base, bool recover)
{
	struct virtqueue_setup setup = { .desc = desc_of(ring), .avail = avail_of(ring),
					 .used = used_of(ring), .size = SIZE, .base = base,
					 .journal = &ring->journal, .recover = recover };
	const char *reason;

	setup.features = 1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_NET_F_MRG_RXBUF |
			 (ring->packed ? 1ull << VIRTIO_F_RING_PACKED : 0);
	ring->memory = calloc(1, sizeof(*ring->memory));
	assert_non_null(ring->memory);
	ring->memory->count = 1;
	ring->memory->regions[0] = (struct guest_region){ 0, MEMORY_SIZE, ring->bytes };
	setup.memory = ring->memory;
	assert_int_equal(virtqueue_init(&ring->vq, &setup, &reason), 0);
	__atomic_store_n(&ring->attached, &ring->vq, __ATOMIC_RELEASE);
}

/* Detaches one of the rings, or both, and attaches them where they stood. */
static void cycle(struct stage *stage, unsigned int turn)
{
	for (unsigned int i = 0; i < 2; i++)
		if (turn % 3 != i)
			__atomic_store_n(&stage->rings[i].attached, NULL, __ATOMIC_SEQ_CST);
	retire_wait(stage->retire);
	for (unsigned int i = 0; i < 2; i++) {
		struct ring *ring = &stage->rings[i];
		bool recover = turn % 2;
		uint16_t base;

		if (turn % 3 == i)
			continue;
		base = virtqueue_base(&ring->vq);
		assert_int_equal(ring->vq.fault, VIRTQUEUE_OK);
		memset(&ring->vq, 0xee, sizeof(ring->vq));
		free(ring->memory);
		attach(ring, recover ? VIRTQUEUE_BASE_FRESH : base, recover);
	}
}

static void set_up(struct ring *ring, bool packed, uint16_t write)
{
	memset(ring, 0, sizeof(*ring));
	ring->packed = packed;
	ring->write = write;
	ring->bytes = aligned_alloc(4096, (MEMORY_SIZE + 4095) & ~4095u);
	assert_non_null(ring->bytes);
	memset(ring->bytes, 0, MEMORY_SIZE);
	attach(ring, VIRTQUEUE_BASE_FRESH, false);
}

static void run(bool tx_packed, bool rx_packed)
{
	static struct stage stage;
	const struct timespec pause = { .tv_nsec = 200000 };
	pthread_t guest, worker;
	unsigned int turn;

	memset(&stage, 0, sizeof(stage));
	stage.right = true;
	stage.retire = retire_new(1);
	assert_non_null(stage.retire);
	set_up(&stage.rings[0], tx_packed, 0);
	set_up(&stage.rings[1], rx_packed, VRING_DESC_F_WRITE);
	assert_int_equal(pthread_create(&guest, NULL, run_guest, &stage), 0);
	assert_int_equal(pthread_create(&worker, NULL, run_worker, &stage), 0);
	for (turn = 0;
	     turn < CYCLES || __atomic_load_n(&stage.frames, __ATOMIC_RELAXED) < FRAMES; turn++) {
		cycle(&stage, turn);
		nanosleep(&pause, NULL);
	}
	__atomic_store_n(&stage.stop, true, __ATOMIC_RELAXED);
	pthread_join(guest, NULL);
	pthread_join(worker, NULL);
	assert_true(stage.right);
	retire_free(stage.retire);
	for (unsigned int i = 0; i < 2; i++) {
		free(stage.rings[i].memory);
		free(stage.rings[i].bytes);
	}
}

static void split_rings(void **state)
{
	(void)state;
	run(false, false);
}

static void packed_rings(void **state)
{
	(void)state;
	run(true, true);
}

static void one_of_each(void **state)
{
	(void)state;
	run(true, false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(split_rings),
		cmocka_unit_test(packed_rings),
		cmocka_unit_test(one_of_each),
	};

	alarm(60);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
