/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * worker/watch.c: what captures and traces see of frames on their way, with the ends that these
 * find, and what mirrors send.
 */
#include "worker/watch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "rig.h"
#include "worker/capture.h"

#define BROADCAST 0xffffffffffff

/* Takes over what was changed of the ports. */
static void republish(struct rig *rig)
{
	snapshot_free(rig->snapshot);
	rig->snapshot = snapshot_new(rig->ports, rig->port_count, 1, rig->fdb);
	assert_non_null(rig->snapshot);
}

static struct {
	uint16_t count;
	struct capture *captures[1];
} set;

static struct capture *watch(struct rig *rig, uint16_t port, bool in, bool out, bool traces)
{
	struct capture *capture = capture_new(1, CAPTURE_RING_MIN);

	assert_non_null(capture);
	capture->in = in;
	capture->out = out;
	capture->traces = traces;
	capture->snap = 64;
	capture->most = 3;
	set.count = 1;
	set.captures[0] = capture;
	rig->ports[port]->captures = (const struct capture_set *)&set;
	republish(rig);
	return capture;
}

static struct capture_record next(struct capture *capture)
{
	const struct capture_record *record = capture_next(capture, 0);
	struct capture_record copy;

	assert_non_null(record);
	copy = *record;
	capture_done(capture, 0, record);
	return copy;
}

static void visit(struct rig *rig, uint16_t port)
{
	worker_visit(rig->worker, rig->snapshot, &rig->ports[port]->queues[0], NULL);
	assert_null(rig->worker->traced);
}

static struct rig *begin(void)
{
	struct rig *rig = rig_new(4, 1);

	rig_learn_hosts(rig);
	return rig;
}

static void finish(struct rig *rig, struct capture *capture)
{
	if (capture != NULL)
		assert_null(capture_next(capture, 0));
	rig_check_ledgers(rig);
	rig_free(rig);
	capture_free(capture);
}

/* Frames from the port, with their verdicts, and none of others. */
static void captures_in(void **state)
{
	struct rig *rig = begin();
	struct capture *capture = watch(rig, 1, true, false, false);
	struct capture_record record;

	(void)state;
	rig_inject(rig, 1, rig_mac(2), 60);
	rig_inject(rig, 1, rig_mac(1), 61);
	rig_inject(rig, 1, BROADCAST, 62);
	rig_inject(rig, 2, rig_mac(1), 63);
	visit(rig, 1);
	visit(rig, 2);
	record = next(capture);
	assert_int_equal(record.length, 60);
	assert_int_equal(record.direction, RECORD_IN);
	assert_false(record.is_dropped);
	assert_int_equal(record.verdict, VERDICT_FORWARD);
	assert_int_equal(record.destination, 2);
	record = next(capture);
	assert_int_equal(record.length, 61);
	assert_true(record.is_dropped);
	assert_int_equal(record.drop, DROP_HAIRPIN);
	assert_int_equal(next(capture).verdict, VERDICT_FLOOD);
	finish(rig, capture);
}

/* Frames to the port: sent, and dropped for whatever reason. */
static void captures_out(void **state)
{
	static const uint16_t queue = 0;
	struct rig *rig = begin();
	struct capture *capture;
	struct capture_record record;

	(void)state;
	rig->ports[1]->settings.mtu = 1000;
	memory_set_longest(rig->ports[1], 500);
	memory_set_room(rig->ports[1], 0, 2);
	capture = watch(rig, 1, false, true, false);
	rig_inject(rig, 2, rig_mac(1), 1100);
	rig_inject(rig, 2, rig_mac(1), 60);
	rig_inject(rig, 2, rig_mac(1), 600);
	rig_inject(rig, 2, rig_mac(1), 61);
	rig_inject(rig, 2, rig_mac(1), 62);
	rig_inject(rig, 1, rig_mac(2), 63);
	visit(rig, 2);
	visit(rig, 1);
	record = next(capture);
	assert_int_equal(record.length, 1100);
	assert_int_equal(record.direction, RECORD_OUT);
	assert_true(record.is_dropped);
	assert_int_equal(record.drop, DROP_MTU);
	record = next(capture);
	assert_int_equal(record.length, 60);
	assert_int_equal(record.port, 2);
	assert_false(record.is_dropped);
	record = next(capture);
	assert_int_equal(record.length, 600);
	assert_true(record.is_dropped);
	assert_int_equal(record.drop, DROP_TOO_LONG);
	assert_false(next(capture).is_dropped);
	record = next(capture);
	assert_int_equal(record.length, 62);
	assert_true(record.is_dropped);
	assert_int_equal(record.drop, DROP_RING_FULL);
	memory_connect(rig->ports[1], NULL, 0, 0);
	rig_inject(rig, 2, rig_mac(1), 60);
	visit(rig, 2);
	assert_int_equal(next(capture).drop, DROP_NOT_CONNECTED);
	memory_connect(rig->ports[1], &queue, 1, NEEDS_ALL);
	rig->ports[1]->settings.enabled = false;
	republish(rig);
	rig_inject(rig, 2, rig_mac(1), 60);
	visit(rig, 2);
	assert_int_equal(next(capture).drop, DROP_DISABLED);
	finish(rig, capture);
}

/* Once it is over, nothing is added. */
static void ends(void **state)
{
	struct rig *rig = begin();
	struct capture *capture = watch(rig, 1, true, true, false);

	(void)state;
	capture->over = true;
	rig_inject(rig, 1, rig_mac(2), 60);
	rig_inject(rig, 2, rig_mac(1), 60);
	visit(rig, 1);
	visit(rig, 2);
	assert_int_equal(capture_count(capture).seen, 0);
	finish(rig, capture);
}

/* Each copy of a frame has its end, in the order of ports; only so many frames are followed. */
static void traces(void **state)
{
	static const uint16_t queue = 0;
	struct rig *rig = begin();
	struct capture *capture = watch(rig, 0, true, false, true);
	struct capture_record record;

	(void)state;
	memory_connect(rig->ports[2], NULL, 0, 0);
	memory_connect(rig->ports[3], &queue, 1, 0);
	rig_inject(rig, 0, BROADCAST, 60);
	rig_inject(rig, 0, rig_mac(0), 60);
	visit(rig, 0);
	record = next(capture);
	assert_int_equal(record.kind, RECORD_FRAME);
	assert_int_equal(record.mark, 1);
	record = next(capture);
	assert_int_equal(record.kind, RECORD_FRAME);
	assert_int_equal(record.mark, 2);
	assert_true(record.is_dropped);
	for (uint16_t port = 1; port < 4; port++) {
		record = next(capture);
		assert_int_equal(record.mark, 1);
		assert_int_equal(record.port, port);
		assert_int_equal(record.kind, port == 2 ? RECORD_DROPPED : RECORD_SENT);
	}
	for (int i = 0; i < 3; i++)
		rig_inject(rig, 0, rig_mac(1), 60);
	visit(rig, 0);
	assert_int_equal(next(capture).mark, 3);
	record = next(capture);
	assert_int_equal(record.kind, RECORD_SENT);
	assert_int_equal(record.mark, 3);
	finish(rig, capture);
}

/* What a receiver does not take is a step of its own, and each segment has an end. */
static void traces_adaptation(void **state)
{
	static const uint16_t queue = 0;
	struct rig *rig = begin();
	struct capture *capture = watch(rig, 0, true, false, true);
	const struct packet_flow flow = { .to = rig_mac(1), .from = rig_mac(0) };
	struct memory_frame frame = { .bytes = rig->bytes, .length = 54 + 2500 };
	struct capture_record record;

	(void)state;
	memory_connect(rig->ports[1], &queue, 1, 0);
	packet_tcp(rig->bytes, &flow, frame.length);
	frame.vnet = (struct virtio_net_hdr){ .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
					      .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
					      .gso_size = 1000, .hdr_len = 54, .csum_start = 34,
					      .csum_offset = 16 };
	assert_int_equal(memory_inject(rig->ports[0], 0, &frame), 0);
	visit(rig, 0);
	assert_int_equal(next(capture).segments, 3);
	record = next(capture);
	assert_int_equal(record.kind, RECORD_ADAPTED);
	assert_int_equal(record.needs, NEEDS_CHECKSUM | NEEDS_TSO4);
	for (int i = 0; i < 3; i++) {
		record = next(capture);
		assert_int_equal(record.kind, RECORD_SENT);
		assert_int_equal(record.mark, 1);
	}
	finish(rig, capture);
}

static uint64_t mirrored(struct rig *rig, uint16_t port)
{
	struct port_counters sum;

	port_sum_counters(rig->ports[port], &sum);
	return sum.tx.mirrored;
}

static void set_mirror(struct rig *rig, uint16_t port, const char *to, uint32_t direction)
{
	snprintf(rig->ports[port]->settings.mirror.to, PORT_NAME_SIZE, "%s", to);
	rig->ports[port]->settings.mirror.direction = direction;
	republish(rig);
}

/* Both ways; what is dropped is there, what is no frame is not, and p3 gets nothing of its own. */
static void mirrors(void **state)
{
	struct rig *rig = begin();
	const struct memory_frame wrong = { .bytes = rig->bytes, .length = 60,
					    .drop = DROP_MALFORMED };

	(void)state;
	set_mirror(rig, 1, "p3", MIRROR_BOTH);
	rig_inject(rig, 1, rig_mac(2), 60);
	rig_inject(rig, 1, rig_mac(1), 61);
	rig_inject(rig, 1, rig_mac(3), 62);
	assert_int_equal(memory_inject(rig->ports[1], 0, &wrong), 0);
	visit(rig, 1);
	assert_int_equal(memory_counts(rig->ports[3], 0).sent, 4);
	assert_int_equal(mirrored(rig, 3), 3);
	assert_int_equal(memory_sent(rig->ports[3], 0, 0)->length, 62);
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(memory_sent(rig->ports[3], 0, i + 1)->length, 60 + i);
	rig_inject(rig, 2, rig_mac(1), 70);
	rig_inject(rig, 3, rig_mac(1), 71);
	visit(rig, 2);
	visit(rig, 3);
	assert_int_equal(memory_counts(rig->ports[1], 0).sent, 2);
	assert_int_equal(memory_counts(rig->ports[3], 0).sent, 5);
	assert_int_equal(memory_sent(rig->ports[3], 0, 4)->length, 70);
	finish(rig, NULL);
}

/* One way each, a receiver that takes nothing, and one that is not there. */
static void mirrors_by_direction(void **state)
{
	struct rig *rig = begin();

	(void)state;
	for (uint32_t direction = MIRROR_IN; direction <= MIRROR_OUT; direction++) {
		set_mirror(rig, 1, "p3", direction);
		memory_forget(rig->ports[3], 0);
		rig_inject(rig, 1, rig_mac(2), 60);
		rig_inject(rig, 2, rig_mac(1), 61);
		visit(rig, 1);
		visit(rig, 2);
		assert_int_equal(memory_counts(rig->ports[3], 0).kept, 1);
		assert_int_equal(memory_sent(rig->ports[3], 0, 0)->length,
				 direction == MIRROR_IN ? 60 : 61);
	}
	memory_connect(rig->ports[3], NULL, 0, 0);
	rig_inject(rig, 2, rig_mac(1), 61);
	visit(rig, 2);
	assert_int_equal(mirrored(rig, 3), 3);
	set_mirror(rig, 1, "gone", MIRROR_BOTH);
	rig_inject(rig, 2, rig_mac(1), 61);
	visit(rig, 2);
	assert_int_equal(mirrored(rig, 3), 3);
	finish(rig, NULL);
}

/* As the frame looks on the port that is mirrored, whatever VLANs the receiver is in. */
static void mirrors_tags(void **state)
{
	struct rig *rig = begin();
	uint64_t tag;

	(void)state;
	rig->ports[1]->settings.vlan = (struct vlan_settings){ .mode = VLAN_TRUNK };
	vlan_set_add(&rig->ports[1]->settings.vlan.trunk, 10, 20);
	rig->ports[2]->settings.vlan = (struct vlan_settings){ .mode = VLAN_ACCESS, .native = 10 };
	rig->ports[3]->settings.vlan = (struct vlan_settings){ .mode = VLAN_ACCESS, .native = 30 };
	set_mirror(rig, 1, "p3", MIRROR_OUT);
	set_mirror(rig, 2, "p3", MIRROR_IN);
	rig_inject(rig, 2, BROADCAST, 60);
	visit(rig, 2);
	assert_int_equal(memory_counts(rig->ports[3], 0).sent, 2);
	assert_int_equal(memory_sent(rig->ports[3], 0, 0)->length, 64);
	memcpy(&tag, memory_sent(rig->ports[3], 0, 0)->bytes + 12, 4);
	assert_int_equal((uint32_t)tag, __builtin_bswap32(0x8100000a));
	assert_int_equal(memory_sent(rig->ports[3], 0, 1)->length, 60);
	finish(rig, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(captures_in),
		cmocka_unit_test(captures_out),
		cmocka_unit_test(ends),
		cmocka_unit_test(traces),
		cmocka_unit_test(traces_adaptation),
		cmocka_unit_test(mirrors),
		cmocka_unit_test(mirrors_by_direction),
		cmocka_unit_test(mirrors_tags),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
