/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * worker/worker.c: a visit from end to end over memory ports, and the loop in a thread of its own
 * while snapshots change under it.
 */
#include "worker/worker.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <rte_cycles.h>

#include "rig.h"

#define PATIENCE_S 20

static uint16_t visit(struct rig *rig, uint16_t port)
{
	uint16_t count = worker_visit(rig->worker, rig->snapshot, &rig->ports[port]->queues[0],
				      NULL);

	worker_notify(rig->worker);
	rig_check_ledgers(rig);
	assert_int_equal(memory_counts(rig->ports[port], 0).unreleased, 0);
	return count;
}

static struct port_counters counters_of(struct rig *rig, uint16_t port)
{
	struct port_counters sum;

	port_sum_counters(rig->ports[port], &sum);
	return sum;
}

static void learns_from_traffic(void **state)
{
	struct rig *rig = rig_new(4, 1);

	(void)state;
	assert_int_equal(visit(rig, 0), 0);
	rig_inject(rig, 0, rig_mac(2), 60);
	assert_int_equal(visit(rig, 0), 1);
	for (uint16_t port = 1; port < 4; port++)
		assert_int_equal(memory_counts(rig->ports[port], 0).sent, 1);
	assert_int_equal(memory_counts(rig->ports[0], 0).sent, 0);
	assert_int_equal(memory_sent(rig->ports[3], 0, 0)->from, 0);
	assert_int_equal(learner_drain(&rig->worker->learner, rig->fdb, 0), 1);
	/* The answer goes to its host alone, and then so does the next frame. */
	rig_inject(rig, 2, rig_mac(0), 60);
	assert_int_equal(visit(rig, 2), 1);
	assert_int_equal(learner_drain(&rig->worker->learner, rig->fdb, 0), 1);
	assert_int_equal(memory_counts(rig->ports[0], 0).sent, 1);
	assert_int_equal(memory_counts(rig->ports[1], 0).sent, 1);
	rig_inject(rig, 0, rig_mac(2), 60);
	assert_int_equal(visit(rig, 0), 1);
	assert_int_equal(memory_counts(rig->ports[2], 0).sent, 2);
	assert_int_equal(memory_counts(rig->ports[1], 0).sent, 1);
	assert_int_equal(learner_drain(&rig->worker->learner, rig->fdb, 0), 0);
	rig_free(rig);
}

static void bytes_arrive_unchanged(void **state)
{
	static const uint32_t lengths[] = { 14, 60, 127, 128, 129, 1514, 9000,
					    ETHERNET_HEADER + PORT_MTU_MAX };
	static const uint16_t pieces[] = { 0, 1, 2, 18, 33 };
	struct rig *rig = rig_new(2, 1);

	(void)state;
	rig_learn_hosts(rig);
	for (unsigned int l = 0; l < sizeof(lengths) / sizeof(lengths[0]); l++) {
		for (unsigned int p = 0; p < sizeof(pieces) / sizeof(pieces[0]); p++) {
			const struct memory_frame frame = { .bytes = rig->bytes,
							    .length = lengths[l],
							    .pieces = pieces[p] };
			const struct memory_frame *sent;

			packet_ethernet(rig->bytes, rig_mac(1), rig_mac(0), lengths[l]);
			if (memory_inject(rig->ports[0], 0, &frame) != 0) {
				/* More pieces than there are bytes behind the head. */
				assert_true(lengths[l] < (uint32_t)FRAME_HEAD_PLAIN + pieces[p]);
				continue;
			}
			assert_int_equal(visit(rig, 0), 1);
			sent = memory_sent(rig->ports[1], 0, 0);
			assert_non_null(sent);
			assert_int_equal(sent->length, lengths[l]);
			assert_memory_equal(sent->bytes, rig->bytes, lengths[l]);
			memory_forget(rig->ports[1], 0);
		}
	}
	rig_free(rig);
}

static void bursts_are_bounded(void **state)
{
	struct rig *rig = rig_new(2, 1);

	(void)state;
	rig_learn_hosts(rig);
	for (uint32_t i = 0; i < BURST_MAX + 6; i++)
		rig_inject(rig, 0, rig_mac(1), 60 + i);
	assert_int_equal(visit(rig, 0), BURST_MAX);
	assert_int_equal(visit(rig, 0), 6);
	assert_int_equal(visit(rig, 0), 0);
	for (uint32_t i = 0; i < BURST_MAX + 6; i++)
		assert_int_equal(memory_sent(rig->ports[1], 0, i)->length, 60 + i);
	rig_free(rig);
}

/* ---- offload headers ---- */

/* Sends one TCP frame with this header from port 0 and returns what port 1 got of it, or NULL. */
static const struct memory_frame *send_with_header(struct rig *rig,
						   const struct virtio_net_hdr *vnet,
						   uint32_t length)
{
	const struct packet_flow flow = { rig_mac(1), rig_mac(0), 0x0a000001, 0x0a000002, 40000,
					  80 };
	const struct memory_frame frame = { .vnet = *vnet, .bytes = rig->bytes, .length = length,
					    .pieces = 2 };

	packet_tcp(rig->bytes, &flow, length);
	memory_forget(rig->ports[1], 0);
	assert_int_equal(memory_inject(rig->ports[0], 0, &frame), 0);
	assert_int_equal(visit(rig, 0), 1);
	return memory_sent(rig->ports[1], 0, 0);
}

static const struct virtio_net_hdr tso = {
	.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 34, .csum_offset = 16,
	.gso_type = VIRTIO_NET_HDR_GSO_TCPV4, .gso_size = 1448, .hdr_len = 9999,
};

static void offloads_cross_whole(void **state)
{
	struct rig *rig = rig_new(2, 1);
	const struct memory_frame *sent;

	(void)state;
	rig_learn_hosts(rig);
	sent = send_with_header(rig, &tso, 54 + 10 * 1448 + 1);
	assert_non_null(sent);
	assert_int_equal(sent->segments, 11);
	assert_int_equal(sent->needs, NEEDS_CHECKSUM | NEEDS_TSO4);
	assert_int_equal(sent->vnet.gso_type, VIRTIO_NET_HDR_GSO_TCPV4);
	assert_int_equal(sent->vnet.gso_size, 1448);
	assert_int_equal(sent->vnet.csum_start, 34);
	assert_int_equal(sent->vnet.csum_offset, 16);
	/* A length that the switch works out itself. */
	assert_int_equal(sent->vnet.hdr_len, 54);
	assert_int_equal(counters_of(rig, 0).rx.segments, 11);
	assert_int_equal(counters_of(rig, 1).tx.segments, 11);
	assert_memory_equal(sent->bytes, rig->bytes, sent->length);
	rig_free(rig);
}

static void a_guest_cannot_vouch_for_its_data(void **state)
{
	static const struct memory_config guest = { NEEDS_ALL & ~NEEDS_VALID, NEEDS_ALL,
						    MEMORY_KEPT, false };
	const struct virtio_net_hdr valid = { .flags = VIRTIO_NET_HDR_F_DATA_VALID,
					      .csum_start = 7 };
	const struct virtio_net_hdr noise = { .hdr_len = 1, .gso_size = 2, .csum_start = 3,
					      .csum_offset = 4 };
	const struct virtio_net_hdr none = { .flags = 0 };
	struct rig *rig = rig_new(2, 1);

	(void)state;
	rig_learn_hosts(rig);
	memory_port_free(rig->ports[0]);
	rig->ports[0] = memory_port_new("p0", 0, 1, 1, &guest);
	assert_non_null(rig->ports[0]);
	rig->snapshot->ports[0].port = rig->ports[0];
	assert_memory_equal(&send_with_header(rig, &valid, 1000)->vnet, &none, sizeof(none));
	/* And what means nothing in a plain header is not passed on either. */
	assert_memory_equal(&send_with_header(rig, &noise, 1000)->vnet, &none, sizeof(none));
	rig_free(rig);
}

/* The host's kernel and devices may; who did not ask for the mark does not get it. */
static void others_can_vouch(void **state)
{
	static const struct virtio_net_hdr valid = { .flags = VIRTIO_NET_HDR_F_DATA_VALID,
						     .csum_start = 7, .hdr_len = 1 };
	const struct virtio_net_hdr marked = { .flags = VIRTIO_NET_HDR_F_DATA_VALID };
	struct rig *rig = rig_new(2, 1);
	const struct memory_frame *sent;

	(void)state;
	rig_learn_hosts(rig);
	sent = send_with_header(rig, &valid, 1000);
	assert_memory_equal(&sent->vnet, &marked, sizeof(marked));
	assert_int_equal(sent->needs, NEEDS_VALID);
	memory_forget(rig->ports[1], 0);
	memory_connect(rig->ports[1], (const uint16_t[]){ 0 }, 1, NEEDS_ALL & ~NEEDS_VALID);
	sent = send_with_header(rig, &valid, 1000);
	assert_true(vnet_is_plain(&sent->vnet));
	assert_int_equal(sent->needs, 0);
	assert_int_equal(sent->length, 1000);
	assert_memory_equal(sent->bytes, rig->bytes, 1000);
	rig_check_ledgers(rig);
	rig_free(rig);
}

static void bad_offloads_are_dropped(void **state)
{
	const struct virtio_net_hdr outside = { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
						.csum_start = 990, .csum_offset = 9 };
	struct rig *rig = rig_new(2, 1);

	(void)state;
	rig_learn_hosts(rig);
	assert_null(send_with_header(rig, &outside, 1000));
	assert_int_equal(counters_of(rig, 0).rx.dropped[DROP_BAD_OFFLOAD], 1);
	assert_non_null(send_with_header(rig, &outside, 1001));
	rig_free(rig);
}

static void unnegotiated_offloads(void **state)
{
	static const struct memory_config checksums = { NEEDS_CHECKSUM, NEEDS_ALL, MEMORY_KEPT,
							false };
	const struct virtio_net_hdr partial = { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
						.csum_start = 34, .csum_offset = 16 };
	struct rig *rig = rig_new(2, 1);
	const struct memory_frame *sent;

	(void)state;
	rig_learn_hosts(rig);
	/* What this sender has not negotiated. */
	memory_port_free(rig->ports[0]);
	rig->ports[0] = memory_port_new("p0", 0, 1, 1, &checksums);
	assert_non_null(rig->ports[0]);
	rig->snapshot->ports[0].port = rig->ports[0];
	assert_null(send_with_header(rig, &tso, 9000));
	assert_int_equal(counters_of(rig, 0).rx.dropped[DROP_BAD_OFFLOAD], 1);
	assert_non_null(send_with_header(rig, &partial, 9000));
	/* What this receiver has not is done in software. */
	memory_connect(rig->ports[1], (const uint16_t[]){ 0 }, 1, 0);
	sent = send_with_header(rig, &partial, 9000);
	assert_non_null(sent);
	assert_int_equal(sent->needs, 0);
	assert_true(vnet_is_plain(&sent->vnet));
	rig_free(rig);
}

static void drops_of_the_port_keep_their_reason(void **state)
{
	struct rig *rig = rig_new(2, 1);
	struct memory_frame frame = { .bytes = rig->bytes, .length = 60, .drop = DROP_MALFORMED };

	(void)state;
	rig_learn_hosts(rig);
	packet_ethernet(rig->bytes, rig_mac(1), rig_mac(0), 60);
	assert_int_equal(memory_inject(rig->ports[0], 0, &frame), 0);
	/* Also where the offload header is wrong as well. */
	frame.drop = DROP_TOO_LONG;
	frame.vnet.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	assert_int_equal(memory_inject(rig->ports[0], 0, &frame), 0);
	rig_inject(rig, 0, rig_mac(1), 60);
	assert_int_equal(visit(rig, 0), 3);
	assert_int_equal(counters_of(rig, 0).rx.dropped[DROP_MALFORMED], 1);
	assert_int_equal(counters_of(rig, 0).rx.dropped[DROP_TOO_LONG], 1);
	assert_int_equal(memory_counts(rig->ports[1], 0).sent, 1);
	rig_free(rig);
}

/* The next queue hears of it while there is work to do in the meantime, and only then. */
static void the_next_queue_is_expected(void **state)
{
	struct rig *rig = rig_new(2, 1);
	struct port_queue *next = &rig->ports[1]->queues[0];

	(void)state;
	worker_visit(rig->worker, rig->snapshot, &rig->ports[0]->queues[0], next);
	assert_int_equal(memory_counts(rig->ports[1], 0).expected[PORT_RX][0], 0);
	rig_inject(rig, 0, rig_mac(1), 60);
	worker_visit(rig->worker, rig->snapshot, &rig->ports[0]->queues[0], next);
	assert_int_equal(memory_counts(rig->ports[1], 0).expected[PORT_RX][0], 1);
	assert_int_equal(memory_counts(rig->ports[1], 0).expected[PORT_RX][1], 1);
	assert_int_equal(memory_counts(rig->ports[0], 0).expected[PORT_RX][0], 0);
	rig_free(rig);
}

/* Visits may leave their notices to the end of the round, but not more than there is room for. */
static void a_round_of_visits_tells_everybody(void **state)
{
	struct rig *rig = rig_new(150, 1);

	(void)state;
	rig_learn_hosts(rig);
	for (uint16_t port = 0; port < 150; port++) {
		rig_inject(rig, port, rig_mac((uint16_t)((port + 1) % 150)), 60);
		worker_visit(rig->worker, rig->snapshot, &rig->ports[port]->queues[0], NULL);
		assert_true(rig->worker->notice_count < NOTICES_MAX);
	}
	worker_notify(rig->worker);
	for (uint16_t port = 0; port < 150; port++) {
		assert_int_equal(memory_counts(rig->ports[port], 0).notified[PORT_RX], 1);
		assert_int_equal(memory_counts(rig->ports[port], 0).notified[PORT_TX], 1);
	}
	rig_free(rig);
}

static void both_sides_are_told_once_a_burst(void **state)
{
	struct rig *rig = rig_new(3, 1);

	(void)state;
	rig_learn_hosts(rig);
	memory_set_wants(rig->ports[0], PORT_RX, true);
	memory_set_wants(rig->ports[1], PORT_TX, true);
	for (int i = 0; i < 5; i++)
		rig_inject(rig, 0, rig_mac(1), 60);
	visit(rig, 0);
	visit(rig, 0);
	assert_int_equal(memory_counts(rig->ports[0], 0).notified[PORT_RX], 1);
	assert_int_equal(memory_counts(rig->ports[0], 0).notified[PORT_TX], 0);
	assert_int_equal(memory_counts(rig->ports[1], 0).notified[PORT_RX], 0);
	assert_int_equal(memory_counts(rig->ports[1], 0).notified[PORT_TX], 1);
	assert_int_equal(memory_counts(rig->ports[2], 0).notified[PORT_TX], 0);
	assert_int_equal(counters_of(rig, 0).rx.notifications, 1);
	assert_int_equal(counters_of(rig, 0).tx.notifications, 0);
	assert_int_equal(counters_of(rig, 1).tx.notifications, 1);
	rig_free(rig);
}

static void a_full_burst_floods_many_ports(void **state)
{
	struct rig *rig = rig_new(RIG_PORTS_MAX, 1);

	(void)state;
	for (int i = 0; i < BURST_MAX; i++)
		rig_inject(rig, 0, 0xffffffffffff, 60);
	assert_int_equal(visit(rig, 0), BURST_MAX);
	for (uint16_t port = 1; port < RIG_PORTS_MAX; port++) {
		assert_int_equal(memory_counts(rig->ports[port], 0).sent, BURST_MAX);
		assert_int_equal(memory_counts(rig->ports[port], 0).notified[PORT_TX], 1);
	}
	assert_int_equal(counters_of(rig, 0).rx.copies, BURST_MAX * (RIG_PORTS_MAX - 1));
	rig_free(rig);
}

/* ---- idle queues ---- */

#define IDLE_PORTS 32

/* One port with a frame in each round, and IDLE_PORTS without. Time passes not at all. */
static struct rig *idle_rig(void)
{
	struct rig *rig = rig_new(1 + IDLE_PORTS, 1);

	rig_learn_hosts(rig);
	rig->worker->cycles_per_us = UINT64_C(1) << 40;
	rig->worker->round_start = rte_rdtsc();
	return rig;
}

static void iterate(struct rig *rig, unsigned int rounds, bool busy)
{
	for (unsigned int i = 0; i < rounds; i++) {
		if (busy)
			rig_inject(rig, 0, rig_mac(1), 60);
		worker_iterate(rig->worker);
	}
}

static uint32_t polled(struct rig *rig, uint16_t port)
{
	return memory_counts(rig->ports[port], 0).polled;
}

static void idle_queues_take_turns(void **state)
{
	struct rig *rig = idle_rig();
	uint32_t before[1 + IDLE_PORTS];

	(void)state;
	iterate(rig, IDLE_VISITS - 1, true);
	for (uint16_t port = 0; port <= IDLE_PORTS; port++)
		assert_int_equal(polled(rig, port), IDLE_VISITS - 1);
	iterate(rig, 1, true);
	for (uint16_t port = 0; port <= IDLE_PORTS; port++)
		before[port] = polled(rig, port);
	iterate(rig, 10 * IDLE_ROUNDS, true);
	assert_int_equal(polled(rig, 0) - before[0], 10 * IDLE_ROUNDS);
	for (uint16_t port = 1; port <= IDLE_PORTS; port++)
		assert_int_equal(polled(rig, port) - before[port], 10);
	rig_free(rig);
}

/* Its place in the circle is taken by nobody, and nobody waits longer for that. */
static void a_frame_ends_idleness(void **state)
{
	struct rig *rig = idle_rig();
	uint32_t before, others[1 + IDLE_PORTS];

	(void)state;
	iterate(rig, 2 * IDLE_VISITS, true);
	rig_inject(rig, 7, rig_mac(0), 60);
	iterate(rig, IDLE_ROUNDS, true);
	assert_int_equal(memory_counts(rig->ports[0], 0).sent, 1);
	for (uint16_t port = 0; port <= IDLE_PORTS; port++)
		others[port] = polled(rig, port);
	before = polled(rig, 7);
	iterate(rig, 20, true);
	assert_int_equal(polled(rig, 7) - before, 20);
	for (uint16_t port = 1; port <= IDLE_PORTS; port++)
		if (port != 7)
			assert_in_range(polled(rig, port) - others[port], 1, 2);
	/* And another time of nothing brings it back. */
	iterate(rig, 2 * IDLE_VISITS, true);
	before = polled(rig, 7);
	iterate(rig, 10 * IDLE_ROUNDS, true);
	assert_int_equal(polled(rig, 7) - before, 10);
	rig_free(rig);
}

/* With nothing else to do, all are visited in each round. */
static void idle_queues_among_themselves(void **state)
{
	struct rig *rig = idle_rig();

	(void)state;
	iterate(rig, 10 * IDLE_VISITS, false);
	for (uint16_t port = 0; port <= IDLE_PORTS; port++)
		assert_in_range(polled(rig, port), 10 * IDLE_VISITS, 10 * IDLE_VISITS + 1);
	rig_free(rig);
}

static void spin(uint64_t cycles)
{
	const uint64_t start = rte_rdtsc();

	while (rte_rdtsc() - start < cycles)
		;
}

/*
 * Where rounds take long, the wait for another one counts, too: here each takes more than half of
 * the longest wait. So none waits for two.
 */
static void idle_queues_never_wait_long(void **state)
{
	const uint64_t longest = 10000000;
	struct rig *rig = idle_rig();
	uint32_t before;

	(void)state;
	iterate(rig, 2 * IDLE_VISITS, true);
	rig->worker->cycles_per_us = longest / IDLE_WAIT_US;
	before = polled(rig, 7);
	for (int i = 0; i < 10; i++) {
		iterate(rig, 1, true);
		spin(longest * 6 / 10);
	}
	assert_in_range(polled(rig, 7) - before, 9, 10);
	rig_free(rig);
}

/* ---- the loop ---- */

static pthread_t thread;

static void *run(void *argument)
{
	return worker_run(argument) == 0 ? NULL : argument;
}

static void start(struct rig *rig, enum worker_idle idle)
{
	rig->worker->idle = idle;
	rig->worker->cycles_per_us = 1000; /* nobody has measured it without EAL */
	assert_int_equal(pthread_create(&thread, NULL, run, rig->worker), 0);
}

static void stop(struct rig *rig)
{
	void *result;

	worker_stop(rig->worker);
	assert_int_equal(pthread_join(thread, &result), 0);
	assert_null(result);
	rig_check_ledgers(rig);
}

static void nap(void)
{
	const struct timespec pause = { .tv_nsec = 200000 };

	nanosleep(&pause, NULL);
}

static void wait_for_count(const uint64_t *counter, uint64_t least)
{
	const time_t end = time(NULL) + PATIENCE_S;

	while (counter_read(counter) < least) {
		assert_true(time(NULL) < end);
		nap();
	}
}

static void wait_for_sent(struct port *port, uint32_t least)
{
	const time_t end = time(NULL) + PATIENCE_S;

	while (memory_counts(port, 0).sent < least) {
		assert_true(time(NULL) < end);
		nap();
	}
}

static void adaptive_workers_nap(void **state)
{
	struct rig *rig = rig_new(2, 1);
	struct worker_counters *counters = &rig->worker->counters;

	(void)state;
	rig_learn_hosts(rig);
	start(rig, IDLE_ADAPTIVE);
	wait_for_count(&counters->sleep_ns, 2000000);
	wait_for_count(&counters->iterations, 11);
	/* A sleeper wakes up by itself. */
	rig_inject(rig, 0, rig_mac(1), 60);
	wait_for_sent(rig->ports[1], 1);
	stop(rig);
	assert_int_equal(counters->packets, 1);
	assert_int_equal(counters->bursts[0], 1);
	assert_true(counters->busy_cycles > 0);
	assert_true(counters->idle_cycles > 0);
	rig_free(rig);
}

static void busy_workers_do_not(void **state)
{
	struct rig *rig = rig_new(2, 1);
	struct worker_counters *counters = &rig->worker->counters;

	(void)state;
	start(rig, IDLE_BUSY);
	wait_for_count(&counters->iterations, 100000);
	stop(rig);
	assert_int_equal(counters->sleep_ns, 0);
	assert_int_equal(counters->busy_cycles, 0);
	assert_true(counters->idle_cycles > 0);
	rig_free(rig);
}

static void bursts_are_counted_by_size(void **state)
{
	static const uint16_t sizes[] = { 1, 2, 3, 4, 5, 8, 9, 16, 17, 32, 33, 64 };
	static const uint64_t expected[WORKER_BURSTS] = { 1, 1, 2, 2, 2, 2, 2 };
	const uint16_t count = sizeof(sizes) / sizeof(sizes[0]);
	struct rig *rig = rig_new(sizeof(sizes) / sizeof(sizes[0]), 1);
	uint64_t packets = 0;

	(void)state;
	rig_learn_hosts(rig);
	for (uint16_t port = 0; port < count; port++) {
		for (uint16_t i = 0; i < sizes[port]; i++)
			rig_inject(rig, port, rig_mac((uint16_t)((port + 1) % count)), 60);
		packets += sizes[port];
	}
	start(rig, IDLE_BUSY);
	wait_for_count(&rig->worker->counters.packets, packets);
	stop(rig);
	assert_int_equal(rig->worker->counters.packets, packets);
	assert_memory_equal(rig->worker->counters.bursts, expected, sizeof(expected));
	rig_free(rig);
}

/* Ten times a second or so the worker reads its clock and forgets what it posted for learning. */
static void time_passes(void **state)
{
	struct rig *rig = rig_new(2, 1);
	const time_t end = time(NULL) + PATIENCE_S;
	unsigned int posts = 0;
	struct timespec now;

	(void)state;
	start(rig, IDLE_ADAPTIVE);
	while (posts < 3) {
		assert_true(time(NULL) < end);
		rig_inject(rig, 0, rig_mac(1), 60);
		posts += learner_drain(&rig->worker->learner, rig->fdb, 0);
		fdb_forget_port(rig->fdb, 0);
		nap();
	}
	stop(rig);
	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	assert_in_range((uint16_t)((uint16_t)now.tv_sec - rig->worker->forward.now), 0, PATIENCE_S);
	rig_free(rig);
}

static void free_snapshot(void *argument)
{
	snapshot_free(argument);
}

static void publish(struct rig *rig, struct port *const *ports)
{
	struct snapshot *old = rig->snapshot;
	struct snapshot *new = snapshot_new(ports, rig->port_count, 1, rig->fdb);

	assert_non_null(new);
	__atomic_store_n(&rig->snapshot, new, __ATOMIC_RELEASE);
	assert_int_equal(retire_later(rig->retire, free_snapshot, old), 0);
}

static void set_flag(void *argument)
{
	*(bool *)argument = true;
}

static void wait_until_retired(struct rig *rig, const bool *flag)
{
	const time_t end = time(NULL) + PATIENCE_S;

	while (!*flag) {
		assert_true(time(NULL) < end);
		retire_poll(rig->retire);
		nap();
	}
}

/* Waits until the port has got a frame of this length. */
static void wait_for_length(struct port *port, uint32_t length)
{
	const time_t end = time(NULL) + PATIENCE_S;
	uint32_t next = 0;

	for (;;) {
		const struct memory_frame *frame = memory_sent(port, 0, next);

		assert_true(time(NULL) < end);
		if (frame == NULL)
			nap();
		else if (frame->length == length)
			return;
		else
			next++;
	}
}

/*
 * A port is taken away, closed once no worker can see it, and comes back as another one with the
 * same number, twenty times, while traffic flows. The sanitizers watch who touches what.
 */
static void come_and_go(enum worker_idle idle)
{
	struct rig *rig = rig_new(3, 1);
	uint64_t packets = 0;

	rig_learn_hosts(rig);
	start(rig, idle);
	for (int round = 0; round < 20; round++) {
		struct port *ports[3] = { rig->ports[0], NULL, rig->ports[2] };
		struct port_counters last;
		bool gone = false;

		for (int i = 0; i < 200; i++)
			rig_inject(rig, 0, rig_mac(1), 60);
		rig_inject(rig, 1, rig_mac(2), 60);
		publish(rig, ports);
		assert_int_equal(retire_later(rig->retire, set_flag, &gone), 0);
		wait_until_retired(rig, &gone);
		port_sum_counters(rig->ports[1], &last);
		assert_int_equal(last.tx.offered + last.tx.cut,
				 last.tx.packets + rig_dropped(last.tx.dropped));
		packets += last.rx.packets;
		memory_port_free(rig->ports[1]);
		/* Without a port behind it the address is unknown. */
		rig_inject(rig, 0, rig_mac(1), 66);
		wait_for_length(rig->ports[2], 66);
		rig->ports[1] = memory_port_new("again", 1, 1, 1, NULL);
		assert_non_null(rig->ports[1]);
		publish(rig, rig->ports);
		rig_inject(rig, 1, rig_mac(2), 77);
		wait_for_length(rig->ports[2], 77);
		rig_inject(rig, 0, rig_mac(1), 88);
		wait_for_length(rig->ports[1], 88);
		memory_forget(rig->ports[2], 0);
	}
	worker_stop(rig->worker);
	pthread_join(thread, NULL);
	for (uint16_t port = 0; port < 3; port++)
		packets += counters_of(rig, port).rx.packets;
	assert_int_equal(rig->worker->counters.packets, packets);
	rig_free(rig);
}

static void ports_come_and_go(void **state)
{
	(void)state;
	come_and_go(IDLE_ADAPTIVE);
}

/* Who never sleeps must say that it has moved on. */
static void ports_come_and_go_under_busy_workers(void **state)
{
	(void)state;
	come_and_go(IDLE_BUSY);
}

/* A worker that has ended holds nothing back. */
static void ends_offline(void **state)
{
	struct rig *rig = rig_new(2, 1);
	bool gone = false;

	(void)state;
	start(rig, IDLE_BUSY);
	wait_for_count(&rig->worker->counters.iterations, 10);
	stop(rig);
	assert_int_equal(retire_later(rig->retire, set_flag, &gone), 0);
	assert_int_equal(retire_poll(rig->retire), 0);
	assert_true(gone);
	rig_free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(learns_from_traffic),
		cmocka_unit_test(bytes_arrive_unchanged),
		cmocka_unit_test(bursts_are_bounded),
		cmocka_unit_test(offloads_cross_whole),
		cmocka_unit_test(a_guest_cannot_vouch_for_its_data),
		cmocka_unit_test(others_can_vouch),
		cmocka_unit_test(bad_offloads_are_dropped),
		cmocka_unit_test(unnegotiated_offloads),
		cmocka_unit_test(drops_of_the_port_keep_their_reason),
		cmocka_unit_test(the_next_queue_is_expected),
		cmocka_unit_test(both_sides_are_told_once_a_burst),
		cmocka_unit_test(a_round_of_visits_tells_everybody),
		cmocka_unit_test(a_full_burst_floods_many_ports),
		cmocka_unit_test(idle_queues_take_turns),
		cmocka_unit_test(a_frame_ends_idleness),
		cmocka_unit_test(idle_queues_among_themselves),
		cmocka_unit_test(idle_queues_never_wait_long),
		cmocka_unit_test(adaptive_workers_nap),
		cmocka_unit_test(busy_workers_do_not),
		cmocka_unit_test(bursts_are_counted_by_size),
		cmocka_unit_test(time_passes),
		cmocka_unit_test(ports_come_and_go),
		cmocka_unit_test(ports_come_and_go_under_busy_workers),
		cmocka_unit_test(ends_offline),
	};

	alarm(120);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
