/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtqueue/packed_rx.c: frames from the guest, in chains of every shape, good and bad.
 */
#include "virtqueue/virtqueue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "packed_driver.h"

/* The chain at hand is malformed, comes back empty, and the ring goes on. */
static void expect_malformed(struct driver *driver, uint16_t id)
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
	driver_expect(driver, id, 0);
	driver_expect_all(driver);
}

/* A frame of the pattern comes, alone, and its chain goes back. */
static void take_one(struct driver *driver, uint16_t id, uint32_t length)
{
	assert_int_equal(driver_take(driver), 1);
	expect_frame(&driver->burst->frames[0], length);
	driver_expect_none(driver);
	virtqueue_rx_release(&driver->vq);
	driver_expect(driver, id, 0);
	driver_expect_all(driver);
}

/* The header has 12 bytes whatever else was negotiated. */
static void header_lengths(void **state)
{
	static const uint64_t features[] = { 0, MERGEABLE, VERSION_1, MERGEABLE | VERSION_1 };

	(void)state;
	for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++) {
		struct driver *driver = driver_new(8, features[i], WRAP);

		assert_int_equal(driver->vq.header_length, 12);
		driver_write_frame(driver, LOW, 60);
		driver_put(driver, 0, LOW, 72, 0);
		take_one(driver, 0, 60);
		driver_free(driver);
	}
}

/* Over the ring's end, with ids in no order. */
static void plain(void **state)
{
	struct driver *driver = driver_new(8, VERSION_1, WRAP | 6);
	const struct frame *frames = driver->burst->frames;

	(void)state;
	driver_write_frame(driver, LOW, 1514);
	assert_int_equal(driver_take(driver), 0);
	driver_put(driver, 3, LOW, 12 + 60, 0);
	driver_put(driver, 65535, LOW, 12 + 1514, 0);
	driver_put(driver, 0, LOW, 12 + FRAME_HEAD_PLAIN, 0);
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
	driver_expect(driver, 65535, 0);
	driver_expect(driver, 0, 0);
	driver_expect_all(driver);
	assert_int_equal(driver_take(driver), 0);
	driver_expect_none(driver);
	driver_free(driver);
}

/* More of a frame with an offload header is copied aside, as its headers reach further. */
static void offload_header(void **state)
{
	struct driver *driver = driver_new(8, VERSION_1, WRAP);
	struct virtio_net_hdr vnet = { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 34,
				       .csum_offset = 16, .gso_size = 1448,
				       .gso_type = VIRTIO_NET_HDR_GSO_TCPV4, .hdr_len = 66 };

	(void)state;
	driver_write_frame(driver, LOW, 4000);
	memcpy(driver_at(driver, LOW), &vnet, sizeof(vnet));
	driver_put(driver, 0, LOW, 12 + 4000, 0);
	driver_put(driver, 1, LOW, 12 + 1000, NEXT);
	driver_put(driver, 1, LOW + 1012, 3000, 0);
	assert_int_equal(driver_take(driver), 2);
	for (int i = 0; i < 2; i++) {
		expect_frame(&driver->burst->frames[i], 4000);
		assert_int_equal(driver->burst->frames[i].head_length, FRAME_HEAD_MAX);
		assert_memory_equal(&driver->burst->frames[i].vnet, &vnet, sizeof(vnet));
	}
	driver_free(driver);
}

/*
 * A frame of 12 + 300 bytes, cut in two or three at every place, header included. Rings of five
 * slots, so that chains begin and end everywhere in them, and around their end.
 */
static void chained(void **state)
{
	struct driver *driver = driver_new(5, VERSION_1, 3);

	(void)state;
	driver_write_frame(driver, LOW, 300);
	for (uint32_t cut = 1; cut < 312; cut++) {
		uint32_t second = 1 + cut * 3 % (312 - cut);
		uint16_t id = (uint16_t)(cut * 211);

		driver_put(driver, id, LOW, cut, NEXT);
		driver_put(driver, id, LOW + cut, 312 - cut, 0);
		take_one(driver, id, 300);
		if (cut + second >= 312)
			continue;
		driver_put(driver, id, LOW, cut, NEXT);
		driver_put(driver, id, LOW + cut, second, NEXT);
		driver_put(driver, id, LOW + cut + second, 312 - cut - second, 0);
		take_one(driver, id, 300);
	}
	driver_free(driver);
}

/* A burst of chains of one to five descriptors, from each place of the ring, many rounds long. */
static void many_rounds(void **state)
{
	(void)state;
	for (uint16_t base = 0; base < 16; base++) {
		struct driver *driver = driver_new(16, VERSION_1, base);

		driver_write_frame(driver, LOW, 300);
		for (uint16_t round = 0; round < 50; round++) {
			uint16_t count = (uint16_t)(1 + round % 5);

			for (uint16_t i = 0; i < count; i++) {
				uint32_t pieces = 1 + (round + i) % 3u;

				for (uint32_t j = 0; j < pieces; j++)
					driver_put(driver, i, LOW + 50 * j,
						   j + 1 < pieces ? 50 : 112 + i,
						   j + 1 < pieces ? NEXT : 0);
			}
			assert_int_equal(driver_take(driver), count);
			driver_expect_none(driver);
			virtqueue_rx_release(&driver->vq);
			for (uint16_t i = 0; i < count; i++) {
				expect_frame(&driver->burst->frames[i],
					     (round + i) % 3u * 50 + 100 + i);
				driver_expect(driver, i, 0);
			}
			driver_expect_all(driver);
		}
		driver_free(driver);
	}
}

/* A table may lie anywhere, and takes one slot. */
static void indirect(void **state)
{
	struct driver *driver = driver_new(4, VERSION_1 | INDIRECT, WRAP);

	(void)state;
	driver_write_frame(driver, LOW, 1000);
	for (uint64_t table = HIGH; table < HIGH + 16; table += 3) {
		/* Nothing but WRITE means anything in it. */
		driver_entry(driver, table, 0, LOW, 12, TABLE);
		driver_entry(driver, table, 1, LOW + 12, 500, 0);
		driver_entry(driver, table, 2, LOW + 512, 400, NEXT);
		driver_entry(driver, table, 3, LOW + 912, 100, NEXT | TABLE);
		/* Nor does its own direction (virtio 1.2, 2.8.7). */
		driver_put(driver, 9, table, 64, TABLE | (table % 2 ? WRITE : 0));
		take_one(driver, 9, 1000);
	}
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
	struct driver *driver = driver_new(4, VERSION_1 | INDIRECT, 3);

	(void)state;
	driver_write_frame(driver, LOW, 60);
	for (uint32_t i = 0; i < 5; i++)
		driver_entry(driver, HIGH, i, LOW, 72, 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		driver_put(driver, 1, cases[i].table, cases[i].length, TABLE | cases[i].flags);
		if (cases[i].flags & NEXT)
			driver_put(driver, 1, LOW, 72, 0);
		expect_malformed(driver, 1);
	}
	/* An entry to be written. */
	driver_entry(driver, HIGH, 0, LOW, 72, WRITE);
	driver_put(driver, 1, HIGH, 16, TABLE);
	expect_malformed(driver, 1);
	/* The second entry of two is empty. */
	driver_entry(driver, HIGH, 0, LOW, 72, 0);
	driver_entry(driver, HIGH, 1, LOW, 0, 0);
	driver_put(driver, 1, HIGH, 32, TABLE);
	expect_malformed(driver, 1);
	driver_free(driver);

	/* Not negotiated. */
	driver = driver_new(4, VERSION_1, WRAP);
	driver_write_frame(driver, LOW, 60);
	driver_entry(driver, HIGH, 0, LOW, 72, 0);
	driver_put(driver, 1, HIGH, 16, TABLE);
	expect_malformed(driver, 1);
	driver_free(driver);
}

static void malformed(void **state)
{
	static const struct {
		uint64_t address;
		uint32_t length;
		uint16_t flags;
	} bad[] = {
		{ LOW, 60, WRITE },           /* to be written */
		{ LOW, 0, 0 },                /* empty */
		{ LOW - 1, 60, 0 },           /* not mapped */
		{ END, 60, 0 },
		{ END - 59, 60, 0 },          /* leaves the memory at its end */
		{ UINT64_MAX - 20, 60, 0 },   /* wraps */
	};
	struct driver *driver = driver_new(7, VERSION_1, 1);

	(void)state;
	driver_write_frame(driver, LOW, 60);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		driver_put(driver, 1, LOW, 30, NEXT);
		driver_put(driver, 1, bad[i].address, bad[i].length, bad[i].flags);
		expect_malformed(driver, 1);
		driver_put(driver, 2, bad[i].address, bad[i].length, bad[i].flags | NEXT);
		driver_put(driver, 2, LOW, 30, 0);
		expect_malformed(driver, 2);
		driver_put(driver, 3, bad[i].address, bad[i].length, bad[i].flags);
		expect_malformed(driver, 3);
	}
	/* Less than an offload header. */
	driver_put(driver, 3, LOW, 11, 0);
	expect_malformed(driver, 3);
	driver_put(driver, 3, LOW, 5, NEXT);
	driver_put(driver, 3, LOW, 6, 0);
	expect_malformed(driver, 3);
	/* Just the header is a frame of no bytes, which is for others to drop. */
	driver_put(driver, 3, LOW, 12, 0);
	take_one(driver, 3, 0);
	driver_free(driver);
}

/* A bad chain between good ones costs only itself, and shows nothing of the slot's last frame. */
static void malformed_between(void **state)
{
	struct driver *driver = driver_new(8, VERSION_1, WRAP);
	const struct frame *frames = driver->burst->frames;

	(void)state;
	driver_write_frame(driver, LOW, 1514);
	for (int round = 0; round < 2; round++) {
		driver_at(driver, LOW)[offsetof(struct virtio_net_hdr, gso_type)] =
			round == 0 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_NONE;
		for (uint16_t i = 0; i < 3; i++)
			driver_put(driver, i, LOW, 12 + 1514, i == 1 && round == 1 ? WRITE : 0);
		assert_int_equal(driver_take(driver), 3);
		virtqueue_rx_release(&driver->vq);
		for (uint16_t i = 0; i < 3; i++)
			driver_expect(driver, i, 0);
		driver_expect_all(driver);
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

/* A ring in which every descriptor says that another one follows stops for good. */
static void endless_chain(void **state)
{
	static const uint32_t sizes[] = { 1, 3, 8, VIRTQUEUE_SIZE_MAX };

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct driver *driver = driver_new(sizes[i], VERSION_1, (uint16_t)(sizes[i] - 1));
		uint16_t base;

		driver_write_frame(driver, LOW, 60);
		driver_put(driver, 5, LOW, 72, 0);
		take_one(driver, 5, 60);
		base = place_base(driver->post);
		for (uint32_t j = 0; j < sizes[i]; j++)
			driver_put(driver, 6, LOW, 72, NEXT);
		for (int j = 0; j < 2; j++) {
			assert_int_equal(driver_take(driver), 0);
			assert_int_equal(driver->burst->count, 0);
			virtqueue_rx_release(&driver->vq);
			driver_expect_none(driver);
			assert_int_equal(driver->vq.fault, VIRTQUEUE_BAD_CHAIN);
			assert_int_equal(virtqueue_base(&driver->vq), base);
			/* It ends now, which is too late. */
			driver->ring[place(base).slot].flags &= (uint16_t)~NEXT;
		}
		assert_non_null(strstr(virtqueue_fault_text(driver->vq.fault), "chain"));
		driver_free(driver);
	}
}

/* The longest chain that ends has a descriptor in every slot. */
static void longest_chain(void **state)
{
	struct driver *driver = driver_new(40, VERSION_1, WRAP | 17);

	(void)state;
	driver_write_frame(driver, LOW, 40 * 20);
	for (int round = 0; round < 3; round++) {
		for (uint32_t i = 0; i < 40; i++)
			driver_put(driver, 6, LOW + 20 * i, 20, i < 39 ? NEXT : 0);
		take_one(driver, 6, 40 * 20 - 12);
	}
	driver_free(driver);
}

/* Bytes that follow each other for the guest may be in two regions of ours. */
static void region_crossing(void **state)
{
	struct driver *driver = driver_new(3, VERSION_1, WRAP);

	(void)state;
	for (uint32_t before = 1; before < 312; before++) {
		uint8_t bytes[312] = { 0 };

		memcpy(bytes + 12, pattern, 300);
		memcpy(driver_at(driver, HIGH - before), bytes, before);
		memcpy(driver_at(driver, HIGH), bytes + before, 312 - before);
		driver_put(driver, 0, HIGH - before, 312, 0);
		take_one(driver, 0, 300);
	}
	driver_free(driver);
}

static void largest_frame(void **state)
{
	struct driver *driver = driver_new(8, VERSION_1, WRAP);
	const struct frame *frames = driver->burst->frames;

	(void)state;
	driver_write_frame(driver, HIGH, FRAME_LENGTH_MAX + 1);
	driver_put(driver, 0, HIGH, 12 + FRAME_LENGTH_MAX, 0);
	driver_put(driver, 1, HIGH, 12 + FRAME_LENGTH_MAX + 1, 0);
	driver_put(driver, 2, HIGH, 40000, NEXT);
	driver_put(driver, 2, HIGH + 40000, 12 + FRAME_LENGTH_MAX - 40000, 0);
	driver_put(driver, 3, HIGH, 40000, NEXT);
	driver_put(driver, 3, HIGH + 40000, 12 + FRAME_LENGTH_MAX - 40000 + 1, 0);
	driver_put(driver, 4, LOW, UINT32_MAX, 0);
	assert_int_equal(driver_take(driver), 5);
	expect_frame(&frames[0], FRAME_LENGTH_MAX);
	assert_int_equal(frames[1].drop, DROP_TOO_LONG);
	expect_frame(&frames[2], FRAME_LENGTH_MAX);
	assert_int_equal(frames[3].drop, DROP_TOO_LONG);
	assert_int_equal(frames[4].drop, DROP_TOO_LONG);
	assert_int_equal(frames[4].length, 0);
	assert_int_equal(driver->vq.malformed, 3);
	virtqueue_rx_release(&driver->vq);
	for (uint16_t i = 0; i < 5; i++)
		driver_expect(driver, i, 0);
	driver_expect_all(driver);
	driver_free(driver);
}

/* Puts a frame in `count` equal pieces. */
static void put_pieces(struct driver *driver, uint16_t id, uint16_t count, uint32_t length)
{
	for (uint16_t i = 0; i < count; i++)
		driver_put(driver, id, HIGH + i * length, length, i + 1 < count ? NEXT : 0);
}

/* Long chains are gathered into scratch memory, which lasts until the next burst. */
static void gathered(void **state)
{
	static const uint16_t counts[] = { FRAME_VIEWS_MAX - 1, FRAME_VIEWS_MAX,
					   FRAME_VIEWS_MAX + 1, FRAME_VIEWS_MAX + 2, 300, 1000 };
	struct driver *driver = driver_new(1000, VERSION_1, 900);
	const struct burst *burst = driver->burst;

	(void)state;
	driver_write_frame(driver, HIGH, 65000);
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		put_pieces(driver, 7, counts[i], 64);
		assert_int_equal(driver_take(driver), 1);
		expect_frame(&burst->frames[0], counts[i] * 64u - 12);
		assert_int_equal(burst->scratch_used == 0, counts[i] <= FRAME_VIEWS_MAX);
		if (counts[i] > FRAME_VIEWS_MAX)
			assert_int_equal(burst->frames[0].view_count, 1);
		virtqueue_rx_release(&driver->vq);
		driver_expect(driver, 7, 0);
		driver_expect_all(driver);
	}
	driver_free(driver);
}

/*
 * A burst ends early when a resource of the burst might not suffice, and the next one goes on
 * there. Not a chain is lost or given back twice.
 */
static void burst_ends_early(void **state)
{
	static const struct {
		uint16_t pieces;
		uint32_t length;
	} cases[] = { { 200, 300 }, { 60, 30 }, { FRAME_VIEWS_MAX, 1000 }, { 400, 1 } };

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct driver *driver = driver_new(64 * 400, VERSION_1, WRAP | 25000);
		uint16_t taken = 0, bursts = 0;

		driver_write_frame(driver, HIGH, 66000);
		for (uint16_t j = 0; j < 64; j++)
			put_pieces(driver, j, cases[i].pieces, cases[i].length);
		while (taken < 64) {
			uint16_t count = driver_take(driver);

			assert_in_range(count, 1, 63);
			for (uint16_t j = 0; j < count; j++)
				expect_frame(&driver->burst->frames[j],
					     cases[i].pieces * cases[i].length - 12);
			virtqueue_rx_release(&driver->vq);
			for (uint16_t j = 0; j < count; j++)
				driver_expect(driver, taken++, 0);
			driver_expect_none(driver);
			bursts++;
		}
		assert_in_range(bursts, 2, 32);
		driver_expect_all(driver);
		driver_free(driver);
	}
}

/*
 * Long and worthless chains: no visit walks more than a bounded number of descriptors.
 */
static void worthless_chains(void **state)
{
	struct driver *driver = driver_new(VIRTQUEUE_SIZE_MAX, VERSION_1, WRAP);
	uint16_t taken = 0, visits = 0;

	(void)state;
	for (uint16_t id = 0; id < 32; id++) {
		for (int i = 0; i < 1023; i++)
			driver_put(driver, id, LOW, 1, NEXT);
		driver_put(driver, id, LOW, 1, WRITE);
	}
	while (taken < 32) {
		uint16_t count = driver_take(driver);

		assert_in_range(count, 1, 17);
		assert_in_range(driver->vq.waiting, 1, 17); /* those that were measured */
		assert_true(driver->vq.walked <= VIRTQUEUE_WALK_MAX + 1024);
		virtqueue_rx_release(&driver->vq);
		for (uint16_t i = 0; i < count; i++)
			driver_expect(driver, taken++, 0);
		visits++;
	}
	assert_int_equal(visits, 2);
	driver_expect_all(driver);
	assert_int_equal(driver->vq.malformed, 32);
	driver_free(driver);
}

/*
 * A chain that goes on into the slots of one that is not returned yet: a burst goes round the ring
 * no more than once.
 */
static void more_than_the_ring(void **state)
{
	struct driver *driver = driver_new(3, VERSION_1, WRAP);

	(void)state;
	driver_write_frame(driver, LOW, 60);
	driver_put(driver, 0, LOW, 72, 0);
	driver_put(driver, 1, LOW, 72, NEXT);
	driver_put(driver, 1, LOW, 72, NEXT);
	assert_int_equal(driver_take(driver), 1);
	virtqueue_rx_release(&driver->vq);
	driver_expect(driver, 0, 0);
	assert_int_equal(virtqueue_base(&driver->vq), WRAP | 1);
	assert_int_equal(driver->vq.fault, VIRTQUEUE_OK);
	driver_free(driver);
}

/*
 * The slots behind a chain's first one keep their flags when it is returned. They are not taken for
 * available a round later, when the driver has not got there yet.
 */
static void stale_slots(void **state)
{
	struct driver *driver = driver_new(4, VERSION_1, WRAP | 3);

	(void)state;
	driver_write_frame(driver, LOW, 60);
	driver_put(driver, 9, LOW, 12, NEXT);
	driver_put(driver, 9, LOW + 12, 60, 0);
	take_one(driver, 9, 60);
	for (uint16_t i = 0; i < 3; i++)
		driver_put(driver, i, LOW, 72, 0);
	assert_int_equal(driver_take(driver), 3);
	virtqueue_rx_release(&driver->vq);
	for (uint16_t i = 0; i < 3; i++)
		driver_expect(driver, i, 0);
	driver_expect_all(driver);
	driver_free(driver);
}

/* What was given back is the driver's: nothing is written there again. */
static void released_once(void **state)
{
	struct driver *driver = driver_new(1, VERSION_1, WRAP);

	(void)state;
	driver_write_frame(driver, LOW, 60);
	for (int i = 0; i < 3; i++) {
		driver_put(driver, 0, LOW, 72, 0);
		virtqueue_rx_release(&driver->vq);
		take_one(driver, 0, 60);
	}
	/* Made available again while the burst is still under way. */
	driver_put(driver, 0, LOW, 72, 0);
	assert_int_equal(driver_take(driver), 1);
	driver_put(driver, 1, LOW, 72, 0);
	virtqueue_rx_release(&driver->vq);
	assert_int_equal(virtqueue_base(&driver->vq), WRAP);
	driver_free(driver);
}

/* ---- in order ---- */

/*
 * One used descriptor stands for a batch: it lies where the batch begins and names its last buffer
 * (virtio 1.2, 2.8.9). The driver goes on behind that.
 */
static void in_order(void **state)
{
	struct driver *driver = driver_new(8, VERSION_1 | IN_ORDER, WRAP);

	(void)state;
	driver_write_frame(driver, LOW, 100);
	for (int round = 0; round < 20; round++) {
		struct virtqueue_position from = driver->post;
		uint16_t count = (uint16_t)(1 + round % 4);

		for (uint16_t i = 0; i < count; i++) {
			uint16_t id = driver->post.slot;

			if (i % 2 == 1)
				driver_put(driver, id, LOW, 12, NEXT);
			driver_put(driver, id, LOW + (i % 2 == 1 ? 12 : 0),
				   i % 2 == 1 ? 100 : 112, 0);
			if (i + 1 == count)
				driver->slots[id] = (uint16_t)((driver->post.slot + 8 - from.slot) %
								8);
		}
		assert_int_equal(driver_take(driver), count);
		virtqueue_rx_release(&driver->vq);
		for (uint16_t i = 0; i < count; i++)
			expect_frame(&driver->burst->frames[i], 100);
		driver_expect(driver, (uint16_t)((driver->post.slot + 8 - (count % 2 ? 1 : 2)) % 8),
			      0);
		driver_expect_all(driver);
	}
	driver_free(driver);
}

/* The dirty log: of each chain the descriptor that was written, when it was. */
static void dirty_pages(void **state)
{
	struct driver *driver = driver_new(512, VERSION_1, 254);
	struct virtqueue_setup setup = driver_setup(driver, VERSION_1);
	const char *reason;

	(void)state;
	setup.base = 254;
	setup.log = driver_log(driver);
	assert_int_equal(virtqueue_init(&driver->vq, &setup, &reason), 0);
	assert_true(driver_dirty(driver, USED));
	driver_write_frame(driver, LOW, 60);
	for (uint16_t i = 0; i < 4; i++)
		driver_put(driver, i, LOW, 72, 0);
	assert_int_equal(driver_take(driver), 4);
	driver_expect_clean(driver);
	virtqueue_rx_release(&driver->vq);
	assert_true(driver_dirty(driver, DESC));
	assert_true(driver_dirty(driver, DESC + DIRTY_PAGE));
	driver_expect_clean(driver);
	driver_put(driver, 0, LOW, 72, 0);
	assert_int_equal(driver_take(driver), 1);
	virtqueue_rx_release(&driver->vq);
	assert_true(driver_dirty(driver, DESC + DIRTY_PAGE));
	driver_expect_clean(driver);
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
static void budget(void **state)
{
	(void)state;
	for (int chained = 0; chained < 2; chained++) {
		struct driver *driver = driver_new(16, VERSION_1, 13);

		driver_write_frame(driver, LOW, 200);
		for (uint16_t i = 0; i < 8; i++) {
			if (chained)
				driver_put(driver, i, LOW, 50, NEXT);
			driver_put(driver, i, LOW + (chained ? 50 : 0),
				   112u + i - (chained ? 50 : 0), 0);
		}
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
		driver_expect_all(driver);
		driver_free(driver);
	}
}

/* What the worker may take at most. */
static void limits_of_a_burst(void **state)
{
	struct driver *driver = driver_new(100, VERSION_1, WRAP | 70);

	(void)state;
	driver_write_frame(driver, LOW, 60);
	for (uint16_t i = 0; i < 100; i++)
		driver_put(driver, i, LOW, 72, 0);
	assert_int_equal(virtqueue_rx_burst(&driver->vq, driver->burst, 1), 1);
	virtqueue_rx_release(&driver->vq);
	assert_int_equal(driver_take(driver), 64);
	virtqueue_rx_release(&driver->vq);
	assert_int_equal(driver_take(driver), 35);
	virtqueue_rx_release(&driver->vq);
	for (uint16_t i = 0; i < 100; i++)
		driver_expect(driver, i, 0);
	driver_expect_all(driver);
	driver_free(driver);
}

/* What the worker asks for ahead of need changes nothing. */
static void expecting(void **state)
{
	static const uint32_t sizes[] = { 1, 2, 15, 16, 17, 64 };

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct driver *driver = driver_new(sizes[i], VERSION_1, (uint16_t)(sizes[i] - 1));

		driver_write_frame(driver, LOW, 60);
		for (int round = 0; round < 70; round++) {
			virtqueue_rx_expect(&driver->vq, 0);
			virtqueue_rx_expect(&driver->vq, 1);
			driver_put(driver, 0, LOW, 72, 0);
			virtqueue_rx_expect(&driver->vq, 0);
			virtqueue_rx_expect(&driver->vq, 1);
			take_one(driver, 0, 60);
		}
		driver_free(driver);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(header_lengths),
		cmocka_unit_test(plain),
		cmocka_unit_test(offload_header),
		cmocka_unit_test(chained),
		cmocka_unit_test(many_rounds),
		cmocka_unit_test(indirect),
		cmocka_unit_test(indirect_malformed),
		cmocka_unit_test(malformed),
		cmocka_unit_test(malformed_between),
		cmocka_unit_test(endless_chain),
		cmocka_unit_test(longest_chain),
		cmocka_unit_test(region_crossing),
		cmocka_unit_test(largest_frame),
		cmocka_unit_test(gathered),
		cmocka_unit_test(burst_ends_early),
		cmocka_unit_test(worthless_chains),
		cmocka_unit_test(more_than_the_ring),
		cmocka_unit_test(stale_slots),
		cmocka_unit_test(released_once),
		cmocka_unit_test(in_order),
		cmocka_unit_test(dirty_pages),
		cmocka_unit_test(budget),
		cmocka_unit_test(limits_of_a_burst),
		cmocka_unit_test(expecting),
	};

	fill_pattern(pattern, sizeof(pattern));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
