/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * port/tx_lock.h: two workers transmit to one ring of a guest, of either layout, each frames of its
 * own: every frame comes whole and once, each worker's in order, whatever is looked at ahead of
 * need meanwhile. Worth most under a thread sanitizer.
 */
#include "port/tx_lock.h"

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "keys.h"
#include "port/memory.h"
#include "virtqueue/virtqueue.h"
#include "worker/worker.h"

#define WORKERS 2
#define SIZE 64
#define BUFFER 256
#define HEADER sizeof(struct virtio_net_hdr_mrg_rxbuf)
#define LENGTH 200
#define FRAMES 20000u /* of each worker */
#define BATCH 16
#define GUEST 0x525400000001

#define MEMORY_SIZE (64 * SIZE + BUFFER * SIZE)

/* The guest's receive ring, and the driver's side of it. */
static struct ring {
	struct virtqueue vq;
	struct guest_memory memory;
	bool packed;
	uint8_t *bytes; /* of all: descriptors, the other parts, buffers */
	uint32_t posted, reaped;
} ring;

static struct scene {
	struct port *ports[1 + WORKERS]; /* the guest's, and each worker's own */
	struct fdb *fdb;
	struct retire *retire;
	struct snapshot *snapshot;
	struct worker *workers[WORKERS];
	unsigned int running;  /* workers that are not done */
	uint32_t next[WORKERS]; /* by worker: the frame that may come next, or one behind it */
	uint64_t received;
	bool right;
} scene;

/* ---- the guest's port ---- */

static int ring_tx_burst(struct port_queue *queue, struct frame *const *frames, uint16_t count,
			 struct tx_outcome *outcome)
{
	virtqueue_tx_burst(queue->driver, frames, count, outcome);
	return 0;
}

static void ring_expect(struct port_queue *queue, enum port_direction direction, unsigned int step)
{
	if (direction == PORT_TX)
		virtqueue_tx_expect(queue->driver, step);
}

static const struct port_ops ring_ops = {
	.type = "ring",
	.expect = ring_expect,
	.tx_burst = ring_tx_burst,
};

/* ---- the guest ---- */

static bool lap(uint32_t chain)
{
	return chain / SIZE % 2 == 0;
}

static uint8_t *buffer_of(uint32_t chain)
{
	return ring.bytes + 64 * SIZE + BUFFER * (chain % SIZE);
}

static void post(void)
{
	const uint32_t slot = ring.posted % SIZE;
	const uint64_t address = (uint64_t)(buffer_of(slot) - ring.bytes);

	memset(buffer_of(slot), 0, BUFFER);
	if (ring.packed) {
		const uint64_t state = lap(ring.posted) ? 1 << VRING_PACKED_DESC_F_AVAIL
							: 1 << VRING_PACKED_DESC_F_USED;
		uint64_t *words = (uint64_t *)(void *)ring.bytes + 2 * slot;

		__atomic_store_n(&words[0], address, __ATOMIC_RELAXED);
		__atomic_store_n(&words[1],
				 BUFFER | (uint64_t)slot << 32 |
					 (state | VRING_DESC_F_WRITE) << 48,
				 __ATOMIC_RELEASE);
		ring.posted++;
	} else {
		struct vring_desc *desc = (struct vring_desc *)(void *)ring.bytes + slot;
		struct vring_avail *avail = (void *)(ring.bytes + 16 * SIZE);

		*desc = (struct vring_desc){ address, BUFFER, VRING_DESC_F_WRITE, 0 };
		avail->ring[slot] = (uint16_t)slot;
		__atomic_store_n(&avail->idx, (uint16_t)++ring.posted, __ATOMIC_RELEASE);
	}
}

/* Is the next chain returned? */
static bool reap(void)
{
	const uint32_t slot = ring.reaped % SIZE;

	if (ring.packed) {
		const uint64_t *words = (const uint64_t *)(void *)ring.bytes + 2 * slot;
		uint64_t flags = __atomic_load_n(&words[1], __ATOMIC_ACQUIRE) >> 48;
		uint64_t wanted = lap(ring.reaped);

		if (ring.reaped == ring.posted ||
		    (flags >> VRING_PACKED_DESC_F_AVAIL & 1) != wanted ||
		    (flags >> VRING_PACKED_DESC_F_USED & 1) != wanted)
			return false;
	} else {
		const struct vring_used *used = (void *)(ring.bytes + 24 * SIZE);

		if (__atomic_load_n(&used->idx, __ATOMIC_ACQUIRE) == (uint16_t)ring.reaped)
			return false;
	}
	ring.reaped++;
	return true;
}

/* The frame says whose it is and its number, over and over. */
static void fill(uint8_t *bytes, uint32_t worker, uint32_t number)
{
	packet_ethernet(bytes, GUEST, 0x525400000100 + worker, LENGTH);
	for (uint32_t at = 16; at + 8 <= LENGTH; at += 8) {
		packet_put32(bytes + at, worker);
		packet_put32(bytes + at + 4, number);
	}
}

/* Frames may have found no room, so that numbers are missing; never do they come again. */
static void look_at(const uint8_t *bytes)
{
	uint8_t expected[LENGTH];
	const uint32_t worker = bytes[19], number = (uint32_t)bytes[20] << 24 |
				(uint32_t)bytes[21] << 16 | (uint32_t)bytes[22] << 8 | bytes[23];

	if (worker >= WORKERS || number < scene.next[worker]) {
		scene.right = false;
		return;
	}
	fill(expected, worker, number);
	scene.right &= memcmp(bytes, expected, LENGTH) == 0;
	scene.next[worker] = number + 1;
	scene.received++;
}

static void *run_guest(void *argument)
{
	bool last = false;

	(void)argument;
	while (ring.posted < SIZE)
		post();
	/* Once more when all are done. */
	while (!last) {
		last = __atomic_load_n(&scene.running, __ATOMIC_ACQUIRE) == 0;
		while (reap()) {
			look_at(buffer_of(ring.reaped - 1) + HEADER);
			post();
		}
		sched_yield();
	}
	return NULL;
}

/* ---- the switch ---- */

static void *run_worker(void *argument)
{
	struct worker *worker = argument;
	struct port *port = scene.ports[1 + worker->index];
	uint8_t bytes[LENGTH];
	const struct memory_frame frame = { .bytes = bytes, .length = LENGTH };

	retire_online(scene.retire, worker->index);
	for (uint32_t number = 0; number < FRAMES; number++) {
		fill(bytes, worker->index, number);
		if (memory_inject(port, 0, &frame) != 0)
			abort();
		if (number % BATCH == BATCH - 1)
			worker_iterate(worker);
		retire_quiescent(scene.retire, worker->index);
	}
	retire_offline(scene.retire, worker->index);
	__atomic_fetch_sub(&scene.running, 1, __ATOMIC_RELEASE);
	return NULL;
}

static void set_up_ring(bool packed)
{
	struct virtqueue_setup setup = { .size = SIZE, .base = VIRTQUEUE_BASE_FRESH };
	const char *reason;

	memset(&ring, 0, sizeof(ring));
	ring.packed = packed;
	ring.bytes = aligned_alloc(4096, (MEMORY_SIZE + 4095) & ~4095u);
	assert_non_null(ring.bytes);
	memset(ring.bytes, 0, MEMORY_SIZE);
	ring.memory.count = 1;
	ring.memory.regions[0] = (struct guest_region){ 0, MEMORY_SIZE, ring.bytes };
	setup.desc = ring.bytes;
	setup.avail = ring.bytes + 16 * SIZE;
	setup.used = ring.bytes + 24 * SIZE;
	setup.memory = &ring.memory;
	setup.features = 1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_NET_F_MRG_RXBUF |
			 (packed ? 1ull << VIRTIO_F_RING_PACKED : 0);
	assert_int_equal(virtqueue_init(&ring.vq, &setup, &reason), 0);
}

static void set_up(bool packed)
{
	memset(&scene, 0, sizeof(scene));
	scene.right = true;
	scene.running = WORKERS;
	set_up_ring(packed);
	scene.ports[0] = port_new(&ring_ops, "guest", 0, 1, WORKERS, NULL);
	assert_non_null(scene.ports[0]);
	assert_true(scene.ports[0]->queues[0].locks);
	/* It has nothing to receive. */
	scene.ports[0]->queues[0].worker = PORT_NO_WORKER;
	scene.ports[0]->queues[0].driver = &ring.vq;
	scene.ports[0]->settings.retry = PORT_RETRY_MAX;
	port_set_tx(scene.ports[0], NULL, 1, NEEDS_ALL);
	for (uint16_t i = 0; i < WORKERS; i++) {
		struct port *port = memory_port_new("own", 1 + i, 1, WORKERS, NULL);

		assert_non_null(port);
		port->queues[0].worker = i;
		scene.ports[1 + i] = port;
	}
	scene.fdb = fdb_new(64, 300);
	scene.retire = retire_new(WORKERS);
	assert_non_null(scene.fdb);
	assert_non_null(scene.retire);
	assert_int_equal(fdb_fix(scene.fdb, key_of(GUEST, 0), 0, 0), 0);
	scene.snapshot = snapshot_new(scene.ports, 1 + WORKERS, WORKERS, scene.fdb);
	assert_non_null(scene.snapshot);
	for (uint16_t i = 0; i < WORKERS; i++) {
		scene.workers[i] = worker_new(i, i, IDLE_ADAPTIVE, 1 + WORKERS, scene.retire,
					      &scene.snapshot);
		assert_non_null(scene.workers[i]);
		/* Nobody has measured it without EAL. */
		scene.workers[i]->cycles_per_us = 1000;
	}
}

static void tear_down(void)
{
	for (unsigned int i = 0; i < WORKERS; i++) {
		worker_free(scene.workers[i]);
		memory_port_free(scene.ports[1 + i]);
	}
	snapshot_free(scene.snapshot);
	retire_free(scene.retire);
	fdb_free(scene.fdb);
	port_free(scene.ports[0]);
	free(ring.bytes);
}

static void transmit_together(bool packed)
{
	pthread_t guest, threads[WORKERS];
	struct port_counters sum;

	set_up(packed);
	assert_int_equal(pthread_create(&guest, NULL, run_guest, NULL), 0);
	for (unsigned int i = 0; i < WORKERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, run_worker, scene.workers[i]),
				 0);
	for (unsigned int i = 0; i < WORKERS; i++)
		pthread_join(threads[i], NULL);
	pthread_join(guest, NULL);
	port_sum_counters(scene.ports[0], &sum);
	assert_true(scene.right);
	assert_int_equal(ring.vq.fault, VIRTQUEUE_OK);
	assert_int_equal(sum.tx.offered, WORKERS * FRAMES);
	assert_int_equal(sum.tx.offered, sum.tx.packets + sum.tx.dropped[DROP_RING_FULL]);
	assert_int_equal(sum.tx.packets, scene.received);
	assert_true(scene.received > FRAMES / 10);
	tear_down();
}

static void split_ring(void **state)
{
	(void)state;
	transmit_together(false);
}

static void packed_ring(void **state)
{
	(void)state;
	transmit_together(true);
}

/* One at a time; and who cannot have it at once need not wait. */
static void the_lock(void **state)
{
	struct port *shared = port_new(&memory_ops, "p", 0, 1, 2, NULL);
	struct port *alone = port_new(&memory_ops, "p", 0, 1, 1, NULL);

	(void)state;
	assert_non_null(shared);
	assert_non_null(alone);
	port_lock_tx(&shared->queues[0]);
	assert_false(port_try_lock_tx(&shared->queues[0]));
	port_unlock_tx(&shared->queues[0]);
	assert_true(port_try_lock_tx(&shared->queues[0]));
	port_unlock_tx(&shared->queues[0]);
	/* One worker finds no lock to take. */
	port_lock_tx(&alone->queues[0]);
	assert_false(alone->queues[0].tx_locked);
	assert_true(port_try_lock_tx(&alone->queues[0]));
	port_unlock_tx(&alone->queues[0]);
	port_free(shared);
	port_free(alone);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_lock),
		cmocka_unit_test(split_ring),
		cmocka_unit_test(packed_ring),
	};

	alarm(60);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
