/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtqueue/split.c: frames from the guest, in chains of every shape, good and bad.
 */
#include "virtqueue/virtqueue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "split_driver.h"

/* The chain at hand is malformed, comes back empty, and the ring goes on. */
static void expect_malformed(struct driver *driver, uint16_t head)
{
	const struct frame *frame = &driver->burst->frames[0];
	uint64_t before = driver->vq.malformed;

	assert_int_equal(driver_take(driver), 1);
	assert_int_equal(frame->verdict, VERDICT_DROP);
	assert_int_equal(frame->drop, DROP_MALFORMED);
	assert_int_equal(frame->length, 0);
	assert_int_equal(frame->head_length, 0);
	assert_int_equal(frame->view_count, 0);
	assert_int_equal(driver->vq.malformed, before + 1);
	assert_int_equal(driver->vq.fault, VIRTQUEUE_OK);
	virtqueue_rx_release(&driver->vq);
	driver_expect(driver, head, 0);
}

static void header_lengths(void **state)
{
	static const struct {
		uint64_t features;
		uint8_t length;
	} cases[] = {
		{ 0, 10 }, { MERGEABLE, 12 }, { VERSION_1, 12 }, { MERGEABLE | VERSION_1, 12 }
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct driver *driver = driver_new(8, cases[i].features, 0);
		uint32_t header = cases[i].length;

		assert_int_equal(driver->vq.header_length, header);
		driver_write_frame(driver, LOW, 60);
		driver_offer_one(driver, 0, LOW, header + 60, 0);
		assert_int_equal(driver_take(driver), 1);
		expect_frame(&driver->burst->frames[0], 60);
		driver_free(driver);
	}
}

static void plain(void **state)
{
	struct driver *driver = driver_new(8, VERSION_1, 65535);
	const struct frame *frames = driver->burst->frames;

	(void)state;
	driver_write_frame(driver, LOW, 1514);
	driver_offer_one(driver, 3, LOW, 12 + 60, 0);
	driver_offer_one(driver, 1, LOW, 12 + 1514, 0);
	driver_offer_one(driver, 2, LOW, 12 + FRAME_HEAD_PLAIN, 0);
	assert_int_equal(driver_take(driver), 3);
	expect_frame(&frames[0], 60);
	assert_int_equal(frames[0].view_count, 0);
	assert_int_equal(frames[0].segments, 1);
	expect_frame(&frames[1], 1514);
	assert_int_equal(frames[1].head_length, FRAME_HEAD_PLAIN);
	assert_int_equal(frames[1].view_count, 1);
	/* One copy: the payload is still where the guest has it. */
	assert_ptr_equal(frames[1].views[0].address,
			 driver_at(driver, LOW) + 12 + FRAME_HEAD_PLAIN);
	expect_frame(&frames[2], FRAME_HEAD_PLAIN);
	assert_int_equal(frames[2].view_count, 0);
	driver_expect_none(driver);
	virtqueue_rx_release(&driver->vq);
	driver_expect(driver, 3, 0);
	driver_expect(driver, 1, 0);
	driver_expect(driver, 2, 0);
	driver_expect_none(driver);
	assert_int_equal(driver_take(driver), 0);
	driver_free(driver);
}

/* More of a frame with an offload header is copied aside, as its headers reach further. */
static void offload_header(void **state)
{
	struct driver *driver = driver_new(8, VERSION_1, 0);
	struct virtio_net_hdr vnet = { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 34,
				       .csum_offset = 16, .gso_size = 1448,
				       .gso_type = VIRTIO_NET_HDR_GSO_TCPV4, .hdr_len = 66 };

	(void)state;
	driver_write_frame(driver, LOW, 4000);
	memcpy(driver_at(driver, LOW), &vnet, sizeof(vnet));
	driver_offer_one(driver, 0, LOW, 12 + 4000, 0);
	driver_desc(driver, 1, LOW, 12 + 1000, NEXT, 2);
	driver_desc(driver, 2, LOW + 1012, 3000, 0, 0);
	driver_offer(driver, 1);
	assert_int_equal(driver_take(driver), 2);
	for (int i = 0; i < 2; i++) {
		expect_frame(&driver->burst->frames[i], 4000);
		assert_int_equal(driver->burst->frames[i].head_length, FRAME_HEAD_MAX);
		assert_memory_equal(&driver->burst->frames[i].vnet, &vnet, sizeof(vnet));
	}
	driver_free(driver);
}

/* A frame of 12 + 300 bytes, cut in two or three at every place. */
static void chained(void **state)
{
	struct driver *driver = driver_new(8, VERSION_1, 0);

	(void)state;
	driver_write_frame(driver, LOW, 300);
	for (uint32_t cut = 1; cut < 312; cut++) {
		uint32_t second = 1 + cut * 3 % (312 - cut);

		driver_desc(driver, 5, LOW, cut, NEXT, 2);
		driver_desc(driver, 2, LOW + cut, 312 - cut, 0, 0);
		driver_offer(driver, 5);
		assert_int_equal(driver_take(driver), 1);
		expect_frame(&driver->burst->frames[0], 300);
		virtqueue_rx_release(&driver->vq);
		driver_expect(driver, 5, 0);
		if (cut + second >= 312)
			continue;
		driver_desc(driver, 2, LOW + cut, second, NEXT, 7);
		driver_desc(driver, 7, LOW + cut + second, 312 - cut - second, 0, 0);
		driver_offer(driver, 5);
		assert_int_equal(driver_take(driver), 1);
		expect_frame(&driver->burst->frames[0], 300);
		virtqueue_rx_release(&driver->vq);
		driver_expect(driver, 5, 0);
	}
	driver_free(driver);
}

/* Drivers without ANY_LAYOUT put the header into a descriptor of its own, in any memory. */
static void header_alone(void **state)
{
	struct driver *driver = driver_new(8, 0, 0);

	(void)state;
	memset(driver_at(driver, HIGH + 100), 0, 10);
	memcpy(driver_at(driver, LOW), pattern, 1514);
	driver_desc(driver, 0, HIGH + 100, 10, NEXT, 1);
	driver_desc(driver, 1, LOW, 1514, 0, 0);
	driver_offer(driver, 0);
	assert_int_equal(driver_take(driver), 1);
	expect_frame(&driver->burst->frames[0], 1514);
	assert_int_equal(driver->burst->frames[0].view_count, 1);
	assert_ptr_equal(driver->burst->frames[0].views[0].address,
			 driver_at(driver, LOW) + FRAME_HEAD_PLAIN);
	driver_free(driver);
}

/* A table may lie anywhere, and may follow descriptors of the ring (virtio 1.2, 2.7.5.3.2). */
static void indirect(void **state)
{
	struct driver *driver = driver_new(4, VERSION_1 | INDIRECT, 0);

	(void)state;
	driver_write_frame(driver, LOW, 1000);
	for (uint64_t table = HIGH; table < HIGH + 16; table += 3) {
		driver_entry(driver, table, 0, LOW, 12, NEXT, 2);
		driver_entry(driver, table, 2, LOW + 12, 500, NEXT, 1);
		driver_entry(driver, table, 1, LOW + 512, 500, 0, 0);
		driver_offer_one(driver, 2, table, 48, VRING_DESC_F_INDIRECT);
		assert_int_equal(driver_take(driver), 1);
		expect_frame(&driver->burst->frames[0], 1000);
		virtqueue_rx_release(&driver->vq);
		driver_expect(driver, 2, 0);
	}
	driver_entry(driver, HIGH, 0, LOW + 500, 512, 0, 0);
	driver_desc(driver, 0, LOW, 500, NEXT, 3);
	/* Its own direction says nothing (virtio 1.2, 2.7.5.3.2). */
	driver_desc(driver, 3, HIGH, 16, VRING_DESC_F_INDIRECT | WRITE, 0);
	driver_offer(driver, 0);
	assert_int_equal(driver_take(driver), 1);
	expect_frame(&driver->burst->frames[0], 1000);
	driver_free(driver);
}

static void indirect_malformed(void **state)
{
	static const struct {
		uint64_t table;
		uint32_t length;
		uint16_t flags;
	} cases[] = {
		{ HIGH, 0, 0 },                /* empty */
		{ HIGH, 15, 0 },               /* less than an entry */
		{ HIGH, 17, 0 },               /* not whole entries */
		{ HIGH, 16 * 5, 0 },           /* longer than the ring */
		{ HIGH, UINT32_MAX & ~15u, 0 },
		{ HIGH, 16, NEXT },            /* goes on behind the table */
		{ END - 8, 16, 0 },            /* leaves the memory */
		{ HIGH - 8, 16, 0 },           /* in two regions */
		{ END, 16, 0 },                /* not mapped */
		{ UINT64_MAX - 7, 16, 0 },     /* wraps */
	};
	struct driver *driver = driver_new(4, VERSION_1 | INDIRECT, 0);

	(void)state;
	driver_write_frame(driver, LOW, 60);
	driver_entry(driver, HIGH, 0, LOW, 72, 0, 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		driver_desc(driver, 1, cases[i].table, cases[i].length,
			    VRING_DESC_F_INDIRECT | cases[i].flags, 0);
		driver_offer(driver, 1);
		expect_malformed(driver, 1);
	}
	/* A chain that is longer than the ring, and good but for that. */
	for (uint16_t i = 0; i < 5; i++)
		driver_entry(driver, HIGH, i, LOW, 72, i < 4 ? NEXT : 0, (uint16_t)(i + 1));
	driver_offer_one(driver, 1, HIGH, 16 * 5, VRING_DESC_F_INDIRECT);
	expect_malformed(driver, 1);
	/* A table in a table. */
	driver_entry(driver, HIGH, 0, HIGH + 16, 16, VRING_DESC_F_INDIRECT, 0);
	driver_entry(driver, HIGH, 1, LOW, 72, 0, 0);
	driver_offer_one(driver, 1, HIGH, 16, VRING_DESC_F_INDIRECT);
	expect_malformed(driver, 1);
	/* An entry that leads out of the table, though not out of memory. */
	driver_entry(driver, HIGH, 0, LOW, 36, NEXT, 1);
	driver_offer(driver, 1);
	expect_malformed(driver, 1);
	/* A loop in the table. */
	driver_entry(driver, HIGH, 0, LOW, 36, NEXT, 0);
	driver_offer(driver, 1);
	expect_malformed(driver, 1);
	driver_free(driver);

	/* Not negotiated. */
	driver = driver_new(4, VERSION_1, 0);
	driver_write_frame(driver, LOW, 60);
	driver_entry(driver, HIGH, 0, LOW, 72, 0, 0);
	driver_offer_one(driver, 1, HIGH, 16, VRING_DESC_F_INDIRECT);
	expect_malformed(driver, 1);
	driver_free(driver);
}

static void malformed(void **state)
{
	struct driver *driver = driver_new(4, VERSION_1, 65530);

	(void)state;
	/* Each in a chain behind a good descriptor, and then alone. */
	static const struct vring_desc bad[] = {
		{ LOW, 60, WRITE, 0 },               /* to be written */
		{ LOW, 0, 0, 0 },                    /* empty */
		{ LOW - 1, 60, 0, 0 },               /* not mapped */
		{ END, 60, 0, 0 },
		{ END - 59, 60, 0, 0 },              /* leaves the memory at its end */
		{ UINT64_MAX - 20, 60, 0, 0 },       /* wraps */
		{ LOW, 60, NEXT, 4 },                /* goes on outside of the table */
		{ LOW, 60, NEXT, 65535 },
		{ LOW, 60, NEXT, 2 },                /* goes on for ever */
	};

	driver_write_frame(driver, LOW, 60);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		driver_desc(driver, 1, LOW, 30, NEXT, 2);
		driver->desc[2] = bad[i];
		driver_offer(driver, 1);
		expect_malformed(driver, 1);
		driver_offer(driver, 2);
		expect_malformed(driver, 2);
	}
	/* Less than an offload header. */
	driver_offer_one(driver, 3, LOW, 11, 0);
	expect_malformed(driver, 3);
	driver_desc(driver, 0, LOW, 5, NEXT, 3);
	driver_desc(driver, 3, LOW, 6, 0, 0);
	driver_offer(driver, 0);
	expect_malformed(driver, 0);
	/* Just the header is a frame of no bytes, which is for others to drop. */
	driver_offer_one(driver, 3, LOW, 12, 0);
	assert_int_equal(driver_take(driver), 1);
	expect_frame(&driver->burst->frames[0], 0);
	driver_free(driver);
}

/* A bad chain between good ones costs only itself, and shows nothing of the slot's last frame. */
static void malformed_between(void **state)
{
	struct driver *driver = driver_new(8, VERSION_1, 0);
	const struct frame *frames = driver->burst->frames;

	(void)state;
	driver_write_frame(driver, LOW, 1514);
	for (int round = 0; round < 2; round++) {
		driver_at(driver, LOW)[offsetof(struct virtio_net_hdr, gso_type)] =
			round == 0 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_NONE;
		for (uint16_t i = 0; i < 3; i++)
			driver_offer_one(driver, i, LOW, 12 + 1514,
					 i == 1 && round == 1 ? WRITE : 0);
		assert_int_equal(driver_take(driver), 3);
		virtqueue_rx_release(&driver->vq);
		for (uint16_t i = 0; i < 3; i++)
			driver_expect(driver, i, 0);
	}
	expect_frame(&frames[0], 1514);
	assert_int_equal(frames[1].drop, DROP_MALFORMED);
	assert_int_equal(frames[1].head_length, 0);
	assert_int_equal(frames[1].view_count, 0);
	assert_int_equal(frames[1].vnet.gso_type, VIRTIO_NET_HDR_GSO_NONE);
	expect_frame(&frames[2], 1514);
	assert_int_equal(driver->vq.malformed, 1);
	driver_free(driver);
}

/* Bytes that follow each other for the guest may be in two regions of ours. */
static void region_crossing(void **state)
{
	struct driver *driver = driver_new(8, VERSION_1, 0);

	(void)state;
	for (uint32_t before = 1; before < 312; before++) {
		uint8_t bytes[312] = { 0 };

		memcpy(bytes + 12, pattern, 300);
		memcpy(driver_at(driver, HIGH - before), bytes, before);
		memcpy(driver_at(driver, HIGH), bytes + before, 312 - before);
		driver_offer_one(driver, 0, HIGH - before, 312, 0);
		assert_int_equal(driver_take(driver), 1);
		expect_frame(&driver->burst->frames[0], 300);
		virtqueue_rx_release(&driver->vq);
		driver_expect(driver, 0, 0);
	}
	driver_free(driver);
}

static void largest_frame(void **state)
{
	struct driver *driver = driver_new(8, VERSION_1, 0);
	const struct frame *frames = driver->burst->frames;

	(void)state;
	driver_write_frame(driver, HIGH, FRAME_LENGTH_MAX + 1);
	driver_offer_one(driver, 0, HIGH, 12 + FRAME_LENGTH_MAX, 0);
	driver_offer_one(driver, 1, HIGH, 12 + FRAME_LENGTH_MAX + 1, 0);
	driver_desc(driver, 2, HIGH, 40000, NEXT, 3);
	driver_desc(driver, 3, HIGH + 40000, 12 + FRAME_LENGTH_MAX - 40000, 0, 0);
	driver_offer(driver, 2);
	driver_desc(driver, 4, HIGH, 40000, NEXT, 5);
	driver_desc(driver, 5, HIGH + 40000, 12 + FRAME_LENGTH_MAX - 40000 + 1, 0, 0);
	driver_offer(driver, 4);
	driver_offer_one(driver, 6, LOW, UINT32_MAX, 0);
	assert_int_equal(driver_take(driver), 5);
	expect_frame(&frames[0], FRAME_LENGTH_MAX);
	assert_int_equal(frames[1].drop, DROP_TOO_LONG);
	expect_frame(&frames[2], FRAME_LENGTH_MAX);
	assert_int_equal(frames[3].drop, DROP_TOO_LONG);
	assert_int_equal(frames[4].drop, DROP_TOO_LONG);
	assert_int_equal(frames[4].length, 0);
	assert_int_equal(driver->vq.malformed, 3);
	driver_free(driver);
}

/* Offers a frame in `count` equal pieces, in descriptors from 0 on. */
static void offer_pieces(struct driver *driver, uint16_t count, uint32_t length)
{
	driver_write_frame(driver, HIGH, count * length - 12);
	for (uint16_t i = 0; i < count; i++)
		driver_desc(driver, i, HIGH + i * length, length, i + 1 < count ? NEXT : 0,
			    (uint16_t)(i + 1));
	driver_offer(driver, 0);
}

/* Long chains are gathered into scratch memory, which lasts until the next burst. */
static void gathered(void **state)
{
	static const uint16_t counts[] = { FRAME_VIEWS_MAX - 1, FRAME_VIEWS_MAX,
					   FRAME_VIEWS_MAX + 1, FRAME_VIEWS_MAX + 2, 300, 1024 };
	struct driver *driver = driver_new(1024, VERSION_1, 0);
	const struct burst *burst = driver->burst;

	(void)state;
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		offer_pieces(driver, counts[i], 64);
		assert_int_equal(driver_take(driver), 1);
		expect_frame(&burst->frames[0], counts[i] * 64u - 12);
		assert_int_equal(burst->scratch_used == 0, counts[i] <= FRAME_VIEWS_MAX);
		if (counts[i] > FRAME_VIEWS_MAX)
			assert_int_equal(burst->frames[0].view_count, 1);
		virtqueue_rx_release(&driver->vq);
	}
	/* A long chain that turns out to be bad leaves no trace. */
	offer_pieces(driver, 300, 64);
	driver->desc[299].flags = WRITE;
	driver->seen = driver->used->idx;
	expect_malformed(driver, 0);
	assert_int_equal(burst->scratch_used, 0);
	driver_free(driver);
}

/*
 * A burst ends early when a resource of the burst might not suffice, and the next one goes on
 * there.
 */
static void burst_ends_early(void **state)
{
	static const struct {
		uint16_t pieces;
		uint32_t length;
	} cases[] = { { 200, 300 }, { 60, 30 }, { FRAME_VIEWS_MAX, 1024 }, { 1024, 1 } };

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct driver *driver = driver_new(1024, VERSION_1, 65500);
		uint32_t taken = 0, bursts = 0;

		offer_pieces(driver, cases[i].pieces, cases[i].length);
		for (int j = 1; j < 64; j++)
			driver_offer(driver, 0);
		while (taken < 64) {
			uint16_t count = driver_take(driver);

			assert_in_range(count, 1, 63);
			for (uint16_t j = 0; j < count; j++)
				expect_frame(&driver->burst->frames[j],
					     cases[i].pieces * cases[i].length - 12);
			virtqueue_rx_release(&driver->vq);
			taken += count;
			bursts++;
		}
		assert_int_equal(taken, 64);
		assert_in_range(bursts, 2, 32);
		assert_int_equal(driver_take(driver), 0);
		driver_free(driver);
	}
}

/*
 * Endless chains of the longest ring: a burst walks no more than a bounded number of descriptors.
 */
static void worthless_chains(void **state)
{
	struct driver *driver = driver_new(VIRTQUEUE_SIZE_MAX, VERSION_1, 0);
	uint32_t taken = 0;

	(void)state;
	for (uint32_t i = 0; i < VIRTQUEUE_SIZE_MAX; i++)
		driver_desc(driver, (uint16_t)i, LOW, 1, NEXT,
			    (uint16_t)((i + 1) % VIRTQUEUE_SIZE_MAX));
	for (int i = 0; i < 10; i++)
		driver_offer(driver, 0);
	while (taken < 10) {
		uint16_t count = driver_take(driver);

		assert_in_range(count, 1, 10);
		assert_true(driver->vq.walked <= VIRTQUEUE_WALK_MAX + VIRTQUEUE_SIZE_MAX + 1);
		virtqueue_rx_release(&driver->vq);
		taken += count;
	}
	assert_int_equal(driver->vq.malformed, 10);
	driver_free(driver);
}

/* ---- budgets ---- */

static uint16_t take_within(struct driver *driver, uint64_t budget)
{
	uint16_t count;

	driver->burst->held = false;
	driver->burst->budget = (struct charge){ budget, BURST_UNLIMITED };
	count = driver_take(driver);
	driver->burst->budget.bytes = BURST_UNLIMITED;
	if (count > 0)
		virtqueue_rx_release(&driver->vq);
	return count;
}

/* Frames of 100 to 107 bytes, each in a chain of one descriptor or of two. */
static void offer_eight(struct driver *driver, bool chained)
{
	driver_write_frame(driver, LOW, 200);
	for (uint16_t i = 0; i < 8; i++) {
		uint32_t length = 12 + 100u + i;

		if (chained)
			length -= 50;
		driver_desc(driver, i, LOW, length, chained ? NEXT : 0, (uint16_t)(8 + i));
		driver_desc(driver, (uint16_t)(8 + i), LOW + length, 50, 0, 0);
		driver_offer(driver, i);
	}
}

static void budget(void **state)
{
	(void)state;
	for (int chained = 0; chained < 2; chained++) {
		struct driver *driver = driver_new(16, VERSION_1, 65530);

		offer_eight(driver, chained);
		/* Nothing at all, but it is known that there is something. */
		assert_int_equal(take_within(driver, 0), 0);
		assert_true(driver->burst->held);
		driver_expect_none(driver);
		/* A first one passes on anything, and alone. */
		assert_int_equal(take_within(driver, 1), 1);
		assert_true(driver->burst->held);
		expect_frame(&driver->burst->frames[0], 100);
		/* As many as fit exactly; one byte less is one frame less. */
		assert_int_equal(take_within(driver, 101 + 102), 2);
		assert_true(driver->burst->held);
		expect_frame(&driver->burst->frames[0], 101);
		expect_frame(&driver->burst->frames[1], 102);
		assert_int_equal(take_within(driver, 103 + 104 + 105 - 1), 2);
		expect_frame(&driver->burst->frames[1], 104);
		for (uint16_t i = 0; i < 5; i++)
			driver_expect(driver, i, 0);
		driver_expect_none(driver);
		/* All there are: nothing is held. */
		assert_int_equal(take_within(driver, 105 + 106 + 107), 3);
		assert_false(driver->burst->held);
		expect_frame(&driver->burst->frames[2], 107);
		for (uint16_t i = 5; i < 8; i++)
			driver_expect(driver, i, 0);
		assert_int_equal(take_within(driver, 0), 0);
		assert_false(driver->burst->held);
		driver_free(driver);
	}
}

/* Segments are in the budget by a bound, which sizes that nobody may use do not change. */
static void budget_of_segments(void **state)
{
	static const struct {
		uint8_t type;
		uint16_t size;
		uint32_t bound;
	} cases[] = {
		{ VIRTIO_NET_HDR_GSO_NONE, 100, 3000 },
		{ VIRTIO_NET_HDR_GSO_TCPV4, 0, 3000 },
		{ VIRTIO_NET_HDR_GSO_TCPV4, 1, 3000 },
		{ VIRTIO_NET_HDR_GSO_TCPV4, 47, 3000 },
		{ VIRTIO_NET_HDR_GSO_TCPV4, 48, 3000 + 62 * FRAME_HEAD_MAX },
		{ VIRTIO_NET_HDR_GSO_TCPV6, 1000, 3000 + 3 * FRAME_HEAD_MAX },
		{ VIRTIO_NET_HDR_GSO_UDP, 65535, 3000 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (unsigned int enough = 0; enough < 2; enough++) {
			struct driver *driver = driver_new(8, VERSION_1, 0);
			struct virtio_net_hdr *vnet;

			driver_write_frame(driver, LOW, 60);
			driver_write_frame(driver, LOW + 4096, 3000);
			vnet = (struct virtio_net_hdr *)driver_at(driver, LOW + 4096);
			vnet->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
			vnet->gso_type = cases[i].type;
			vnet->gso_size = cases[i].size;
			driver_offer_one(driver, 0, LOW, 12 + 60, 0);
			driver_offer_one(driver, 1, LOW + 4096, 12 + 3000, 0);
			assert_int_equal(take_within(driver, 60 + cases[i].bound - 1 + enough),
					 1 + enough);
			assert_int_equal(driver->burst->held, !enough);
			driver_free(driver);
		}
	}
}

/* Chains without a frame are neither charged nor held up, and are counted once. */
static void budget_of_malformed(void **state)
{
	struct driver *driver = driver_new(8, VERSION_1, 0);

	(void)state;
	driver_write_frame(driver, LOW, 100);
	driver_offer_one(driver, 0, LOW, 12 + 100, 0);
	driver_offer_one(driver, 1, LOW, 12, WRITE);
	driver_offer_one(driver, 2, LOW, 12 + 100, 0);
	assert_int_equal(take_within(driver, 100), 2);
	assert_int_equal(driver->burst->frames[1].drop, DROP_MALFORMED);
	assert_true(driver->burst->held);
	assert_int_equal(take_within(driver, 100), 1);
	assert_int_equal(driver->vq.malformed, 1);
	driver_offer_one(driver, 3, LOW, 12, WRITE);
	assert_int_equal(take_within(driver, 0), 0);
	assert_int_equal(driver->vq.malformed, 1);
	driver_free(driver);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(header_lengths),
		cmocka_unit_test(plain),
		cmocka_unit_test(offload_header),
		cmocka_unit_test(chained),
		cmocka_unit_test(header_alone),
		cmocka_unit_test(indirect),
		cmocka_unit_test(indirect_malformed),
		cmocka_unit_test(malformed),
		cmocka_unit_test(malformed_between),
		cmocka_unit_test(region_crossing),
		cmocka_unit_test(largest_frame),
		cmocka_unit_test(gathered),
		cmocka_unit_test(burst_ends_early),
		cmocka_unit_test(worthless_chains),
		cmocka_unit_test(budget),
		cmocka_unit_test(budget_of_segments),
		cmocka_unit_test(budget_of_malformed),
	};

	fill_pattern(pattern, sizeof(pattern));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
