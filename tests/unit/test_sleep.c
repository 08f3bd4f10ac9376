/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * worker/sleep.c: no wake-up is lost, neither between a guest and a worker that arms its ring
 * (virtqueue_arm), nor between whoever else has something for a worker and its sleep; and it does
 * sleep.
 */
#include "worker/sleep.h"

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "rig.h"
#include "virtqueue/virtqueue.h"

#define PATIENCE_S 20
#define MS 1000000u
#define FEW 50 /* rounds in 300 ms; a worker that naps makes thousands */

/* ---- a guest and a ring ---- */

#define RING 4
#define ROUNDS 100000
#define HEADER sizeof(struct virtio_net_hdr_mrg_rxbuf)

/*
 * A guest that sends one frame, waits until it is taken, sends the next a random moment later, and
 * kicks only if asked to.
 */
struct guest {
	_Alignas(64) uint8_t desc[16 * RING];
	_Alignas(64) uint8_t avail[64];
	_Alignas(64) uint8_t used[64 + 8 * RING];
	uint8_t frame[HEADER + 60];
	struct guest_memory memory;
	bool packed, event_index;
	int kick;
	uint64_t kicks;
	uint32_t random;
};

static bool guest_is_asked(const struct guest *guest, uint16_t old)
{
	if (guest->packed) {
		const struct vring_packed_desc_event *event = (const void *)guest->used;
		const uint32_t word = __atomic_load_n((const uint32_t *)(const void *)event,
						      __ATOMIC_RELAXED);
		const uint16_t place = (uint16_t)(old % RING | (old / RING % 2 == 0) << 15);

		if (word >> 16 == VRING_PACKED_EVENT_FLAG_DESC)
			return (uint16_t)word == place;
		return word >> 16 == VRING_PACKED_EVENT_FLAG_ENABLE;
	}
	if (guest->event_index)
		return __atomic_load_n((const uint16_t *)(const void *)
				       &((const struct vring_used *)(const void *)guest->used)
				       ->ring[RING], __ATOMIC_RELAXED) == old;
	return !(__atomic_load_n(&((struct vring_used *)(void *)guest->used)->flags,
				 __ATOMIC_RELAXED) & VRING_USED_F_NO_NOTIFY);
}

static void guest_publish(struct guest *guest, uint16_t position)
{
	if (guest->packed) {
		struct vring_packed_desc *desc = (void *)guest->desc;
		const bool wrap = position / RING % 2 == 0;

		desc[position % RING].len = sizeof(guest->frame);
		__atomic_store_n(&desc[position % RING].flags,
				 (uint16_t)(wrap << VRING_PACKED_DESC_F_AVAIL |
					    !wrap << VRING_PACKED_DESC_F_USED), __ATOMIC_RELEASE);
	} else {
		__atomic_store_n(&((struct vring_avail *)(void *)guest->avail)->idx,
				 (uint16_t)(position + 1), __ATOMIC_RELEASE);
	}
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (guest_is_asked(guest, position)) {
		guest->kicks++;
		eventfd_write(guest->kick, 1);
	}
}

static uint64_t taken; /* frames, by the device */

static void *run_guest(void *argument)
{
	struct guest *guest = argument;

	for (uint32_t i = 0; i < ROUNDS; i++) {
		guest_publish(guest, (uint16_t)i);
		while (__atomic_load_n(&taken, __ATOMIC_ACQUIRE) == i)
			__builtin_ia32_pause();
		guest->random = guest->random * 1103515245 + 12345;
		for (uint32_t j = guest->random >> 16 & 0x1ff; j > 0; j--)
			__asm__ volatile("");
	}
	return NULL;
}

static void guest_init(struct guest *guest, uint64_t features, struct virtqueue *vq)
{
	struct virtqueue_setup setup = { .desc = guest->desc, .avail = guest->avail,
					 .used = guest->used, .size = RING, .features = features,
					 .memory = &guest->memory, .base = VIRTQUEUE_BASE_FRESH };
	const char *reason;

	memset(guest, 0, sizeof(*guest));
	guest->memory.count = 1;
	guest->memory.regions[0] = (struct guest_region){ 0x10000, sizeof(*guest),
							  (uint8_t *)guest };
	guest->packed = features >> VIRTIO_F_RING_PACKED & 1;
	guest->event_index = features >> VIRTIO_RING_F_EVENT_IDX & 1;
	guest->random = 1;
	guest->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	for (uint16_t i = 0; i < RING; i++) {
		struct vring_desc *desc = (struct vring_desc *)(void *)guest->desc + i;

		desc->addr = 0x10000 + offsetof(struct guest, frame);
		desc->len = guest->packed ? 0 : sizeof(guest->frame);
		((struct vring_avail *)(void *)guest->avail)->ring[i] = i;
	}
	assert_int_equal(virtqueue_init(vq, &setup, &reason), 0);
}

/* Like a worker that naps never: asks, looks once more, waits. */
static void sleep_between_frames(uint64_t features)
{
	static struct guest guest;
	static struct virtqueue vq;
	struct burst *burst = burst_new();
	uint64_t sleeps = 0, count;
	pthread_t thread;

	assert_non_null(burst);
	guest_init(&guest, features | 1ull << VIRTIO_F_VERSION_1, &vq);
	taken = 0;
	assert_int_equal(pthread_create(&thread, NULL, run_guest, &guest), 0);
	while (taken < ROUNDS) {
		struct pollfd wait = { .fd = guest.kick, .events = POLLIN };

		if (virtqueue_rx_burst(&vq, burst, BURST_MAX) > 0) {
			virtqueue_rx_release(&vq);
			__atomic_store_n(&taken, taken + burst->count, __ATOMIC_RELEASE);
			continue;
		}
		virtqueue_arm(&vq);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (virtqueue_is_waiting(&vq))
			continue;
		sleeps++;
		if (poll(&wait, 1, PATIENCE_S * 1000) != 1)
			fail_msg("a wake-up was lost in round %lu", (unsigned long)taken);
		eventfd_read(guest.kick, &count);
	}
	pthread_join(thread, NULL);
	print_message("%lu sleeps, %lu kicks\n", (unsigned long)sleeps, (unsigned long)guest.kicks);
	assert_true(sleeps > 100);
	close(guest.kick);
	burst_free(burst);
}

static void split_rings_wake(void **state)
{
	(void)state;
	sleep_between_frames(0);
}

static void split_rings_wake_by_event_index(void **state)
{
	(void)state;
	sleep_between_frames(1ull << VIRTIO_RING_F_EVENT_IDX);
}

static void packed_rings_wake(void **state)
{
	(void)state;
	sleep_between_frames(1ull << VIRTIO_F_RING_PACKED);
}

static void packed_rings_wake_by_event_index(void **state)
{
	(void)state;
	sleep_between_frames(1ull << VIRTIO_F_RING_PACKED | 1ull << VIRTIO_RING_F_EVENT_IDX);
}

/* ---- a worker ---- */

static const struct memory_config telling = { NEEDS_ALL, NEEDS_ALL, MEMORY_KEPT, false, true };
static pthread_t thread;

static void *run(void *argument)
{
	return worker_run(argument) == 0 ? NULL : argument;
}

static void republish(struct rig *rig)
{
	snapshot_free(rig->snapshot);
	rig->snapshot = snapshot_new(rig->ports, rig->port_count, 1, rig->fdb);
	assert_non_null(rig->snapshot);
}

/* A switch of ports that can tell, all but the one named. Its worker is asleep soon. */
static struct rig *sleeping_rig(uint16_t ports, int silent)
{
	struct rig *rig = rig_new(ports, 1);

	for (uint16_t i = 0; i < ports; i++) {
		if (i == silent)
			continue;
		memory_port_free(rig->ports[i]);
		rig->ports[i] = memory_port_new("p", i, 1, 1, &telling);
		assert_non_null(rig->ports[i]);
	}
	republish(rig);
	rig_learn_hosts(rig);
	rig->worker->cycles_per_us = 1000;
	return rig;
}

static void start(struct rig *rig)
{
	assert_int_equal(pthread_create(&thread, NULL, run, rig->worker), 0);
}

static void stop(struct rig *rig)
{
	worker_stop(rig->worker);
	pthread_join(thread, NULL);
	rig_check_ledgers(rig);
	rig_free(rig);
}

static void wait_ms(unsigned int ms)
{
	const struct timespec pause = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * MS };

	nanosleep(&pause, NULL);
}

/* How often the worker goes round in 300 ms, having had time to fall asleep. */
static uint64_t rounds_while_idle(struct rig *rig)
{
	uint64_t before;

	wait_ms(300);
	before = counter_read(&rig->worker->counters.iterations);
	wait_ms(300);
	return counter_read(&rig->worker->counters.iterations) - before;
}

static void wait_for_sent(struct rig *rig, uint16_t port, uint32_t least)
{
	const time_t end = time(NULL) + PATIENCE_S;

	while (memory_counts(rig->ports[port], 0).sent < least)
		assert_true(time(NULL) < end);
}

/* Whatever came before the worker had asked to be told is found by its last look. */
static void nobody_sleeps_on_frames(void **state)
{
	struct rig *rig = sleeping_rig(3, -1);

	(void)state;
	retire_online(rig->retire, 0);
	for (int i = 0; i < IDLE_VISITS; i++)
		worker_iterate(rig->worker);
	rig_inject(rig, 1, rig_mac(2), 60);
	sleep_until_woken(rig->worker);
	assert_int_equal(memory_counts(rig->ports[1], 0).told, 0);
	assert_int_equal(rig->worker->counters.sleep_ns, 0);
	worker_iterate(rig->worker);
	assert_int_equal(memory_counts(rig->ports[2], 0).sent, 1);
	for (int i = 0; i < IDLE_VISITS; i++)
		worker_iterate(rig->worker);
	packet_ethernet(rig->bytes, rig_mac(1), rig_mac(0), 60);
	assert_int_equal(injector_post(&rig->worker->injector, rig->ports[0], rig->bytes, 60), 0);
	sleep_until_woken(rig->worker);
	assert_int_equal(rig->worker->counters.sleep_ns, 0);
	worker_iterate(rig->worker);
	/* And with nothing there it does sleep, for a second. */
	sleep_until_woken(rig->worker);
	assert_in_range(rig->worker->counters.sleep_ns, 900 * MS, 100000ull * MS);
	rig_free(rig);
}

static void workers_sleep(void **state)
{
	struct rig *rig = sleeping_rig(16, -1);
	uint64_t slept;
	time_t end;

	(void)state;
	start(rig);
	assert_in_range(rounds_while_idle(rig), 0, FEW);
	rig_inject(rig, 3, rig_mac(4), 60);
	wait_for_sent(rig, 4, 1);
	assert_int_equal(memory_counts(rig->ports[3], 0).told, 1);
	/* And sleep again; all of it is accounted for. */
	assert_in_range(rounds_while_idle(rig), 0, FEW);
	slept = counter_read(&rig->worker->counters.sleep_ns);
	worker_wake(rig->worker);
	for (end = time(NULL) + PATIENCE_S;
	     counter_read(&rig->worker->counters.sleep_ns) - slept < 100 * MS; wait_ms(1))
		assert_true(time(NULL) < end);
	assert_in_range(rounds_while_idle(rig), 0, FEW);
	stop(rig);
}

/* One port that cannot tell: all are looked after. */
static void silent_ports_are_polled(void **state)
{
	struct rig *rig = sleeping_rig(4, 2);

	(void)state;
	start(rig);
	assert_true(rounds_while_idle(rig) > FEW);
	rig_inject(rig, 2, rig_mac(1), 60);
	wait_for_sent(rig, 1, 1);
	stop(rig);
}

/* Frames at all moments of falling asleep. Nothing is ever found only because a sleep is over. */
static void frames_wake(void **state)
{
	struct rig *rig = sleeping_rig(4, -1);
	unsigned int late = 0;

	(void)state;
	start(rig);
	srand(1);
	for (uint32_t i = 0; i < 200; i++) {
		struct timespec before, after;

		usleep((useconds_t)(rand() % 16000));
		clock_gettime(CLOCK_MONOTONIC, &before);
		rig_inject(rig, (uint16_t)(i % 3), rig_mac(3), 60);
		wait_for_sent(rig, 3, i + 1);
		clock_gettime(CLOCK_MONOTONIC, &after);
		late += (after.tv_sec - before.tv_sec) * 1000 +
			(after.tv_nsec - before.tv_nsec) / MS > 300;
	}
	assert_in_range(late, 0, 5);
	stop(rig);
}

static void injected_frames_wake(void **state)
{
	struct rig *rig = sleeping_rig(2, -1);

	(void)state;
	start(rig);
	for (uint32_t i = 1; i <= 20; i++) {
		wait_ms(i + 5);
		packet_ethernet(rig->bytes, rig_mac(1), rig_mac(0), 60);
		assert_int_equal(injector_post(&rig->worker->injector, rig->ports[0], rig->bytes,
					       60), 0);
		worker_wake(rig->worker);
		wait_for_sent(rig, 1, i);
	}
	stop(rig);
}

/* A worker that sleeps sees a queue that comes with the next snapshot. */
static void snapshots_wake(void **state)
{
	struct rig *rig = sleeping_rig(2, -1);
	struct snapshot *before, *with = rig->snapshot;
	struct port *none[2] = { NULL, NULL };
	uint64_t begin;

	(void)state;
	before = snapshot_new(none, 2, 1, rig->fdb);
	assert_non_null(before);
	rig->snapshot = before;
	start(rig);
	assert_in_range(rounds_while_idle(rig), 0, FEW);
	rig_inject(rig, 0, rig_mac(1), 60);
	begin = limiter_now();
	__atomic_store_n(&rig->snapshot, with, __ATOMIC_RELEASE);
	worker_wake(rig->worker);
	wait_for_sent(rig, 1, 1);
	print_message("seen after %lu us\n", (unsigned long)((limiter_now() - begin) / 1000));
	stop(rig);
	snapshot_free(before);
}

/* Half a second from frame to frame: neither do they come early, nor does the worker poll. */
static void limiters_wake(void **state)
{
	struct rig *rig = sleeping_rig(2, -1);
	struct port_settings settings = rig->ports[0]->settings;
	uint64_t before, begin;

	(void)state;
	settings.ingress.bandwidth.rate = 16000;
	settings.ingress.bandwidth.burst = 1;
	settings.ingress.excess = EXCESS_WAIT;
	port_set(rig->ports[0], &settings);
	republish(rig);
	for (int i = 0; i < 3; i++)
		rig_inject(rig, 0, rig_mac(1), 1000);
	begin = limiter_now();
	start(rig);
	wait_for_sent(rig, 1, 1);
	wait_ms(100);
	before = counter_read(&rig->worker->counters.iterations);
	wait_ms(300);
	assert_in_range(counter_read(&rig->worker->counters.iterations) - before, 0, FEW);
	wait_for_sent(rig, 1, 3);
	assert_in_range(limiter_now() - begin, 950ull * MS, 10000ull * MS);
	stop(rig);
}

/* The same for frames that wait on their way out. */
static void queues_wake(void **state)
{
	struct rig *rig = sleeping_rig(2, -1);
	struct port_settings settings = rig->ports[1]->settings;
	uint64_t before, begin;

	(void)state;
	settings.egress.bandwidth.rate = 16000;
	settings.egress.bandwidth.burst = 1;
	settings.egress.excess = EXCESS_WAIT;
	settings.queue.bytes = EGRESS_QUEUE_MIN;
	settings.queue.time = EGRESS_QUEUE_TIME_MAX;
	port_set(rig->ports[1], &settings);
	republish(rig);
	for (int i = 0; i < 3; i++)
		rig_inject(rig, 0, rig_mac(1), 1000);
	begin = limiter_now();
	start(rig);
	wait_for_sent(rig, 1, 1);
	wait_ms(100);
	before = counter_read(&rig->worker->counters.iterations);
	wait_ms(300);
	assert_in_range(counter_read(&rig->worker->counters.iterations) - before, 0, FEW);
	wait_for_sent(rig, 1, 3);
	assert_in_range(limiter_now() - begin, 950ull * MS, 10000ull * MS);
	stop(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(split_rings_wake),
		cmocka_unit_test(split_rings_wake_by_event_index),
		cmocka_unit_test(packed_rings_wake),
		cmocka_unit_test(packed_rings_wake_by_event_index),
		cmocka_unit_test(nobody_sleeps_on_frames),
		cmocka_unit_test(workers_sleep),
		cmocka_unit_test(silent_ports_are_polled),
		cmocka_unit_test(frames_wake),
		cmocka_unit_test(injected_frames_wake),
		cmocka_unit_test(snapshots_wake),
		cmocka_unit_test(limiters_wake),
		cmocka_unit_test(queues_wake),
	};

	alarm(120);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
