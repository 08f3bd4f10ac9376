/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtqueue/packed_tx.c: frames to the guest, in receive buffers of every shape, good and bad,
 * alone and together with others.
 */
#include "virtqueue/virtqueue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "packed_driver.h"

/* Over the ring's end, with ids in no order. */
static void plain(void **state)
{
	static const uint64_t features[] = { 0, VERSION_1, MERGEABLE };
	static const uint32_t lengths[] = { 14, 60, 127, 128, 129, 1514 };

	(void)state;
	for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++) {
		struct driver *driver = driver_new(8, features[i], WRAP | 5);

		for (uint16_t j = 0; j < 6; j++) {
			const uint8_t *at = driver_at(driver, LOW + 4096u * j);
			uint32_t length = lengths[j];

			driver_put(driver, (uint16_t)(j * 13107), LOW + 4096u * j, 2048, WRITE);
			send_well(driver, length);
			driver_expect(driver, (uint16_t)(j * 13107), 12 + length);
			expect_header(at, 12, 1);
			assert_memory_equal(at + 12, pattern, length);
			for (uint32_t k = 12 + length; k < 4096; k++)
				assert_int_equal(at[k], UNTOUCHED);
		}
		driver_expect_all(driver);
		assert_true(virtqueue_wants_interrupt(&driver->vq));
		driver_free(driver);
	}
}

/* The offload header goes out as it is. */
static void offload_header(void **state)
{
	struct driver *driver = driver_new(3, MERGEABLE, 2);
	struct virtio_net_hdr vnet = { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 34,
				       .csum_offset = 16, .gso_size = 1448,
				       .gso_type = VIRTIO_NET_HDR_GSO_TCPV4, .hdr_len = 66 };
	struct tx_outcome outcome = { 0 };
	struct frame *frames[2];
	struct sample samples[2];

	(void)state;
	for (int i = 0; i < 2; i++) {
		frames[i] = make_frame(&samples[i], pattern, 5000, 3);
		frames[i]->vnet = vnet;
		frames[i]->segments = 4;
	}
	driver_put(driver, 0, LOW, 8192, WRITE);
	driver_put(driver, 1, LOW + 8192, 3000, WRITE);
	driver_put(driver, 2, LOW + 12000, 3000, WRITE);
	virtqueue_tx_burst(&driver->vq, frames, 2, &outcome);
	assert_int_equal(outcome.packets, 2);
	assert_int_equal(outcome.segments, 8);
	assert_int_equal(outcome.bytes, 10000);
	assert_memory_equal(driver_at(driver, LOW), &vnet, sizeof(vnet));
	assert_memory_equal(driver_at(driver, LOW + 8192), &vnet, sizeof(vnet));
	driver_expect(driver, 0, 5012);
	driver_expect(driver, 1, 3000);
	driver_expect(driver, 2, 2012);
	driver_expect_all(driver);
	driver_free(driver);
}

/*
 * Chains of three descriptors, cut at every place, in a ring of seven slots, so that they lie
 * everywhere and around the ring's end; only what is needed of the last is used.
 */
static void chained(void **state)
{
	struct driver *driver = driver_new(7, VERSION_1, WRAP);
	uint8_t got[256];

	(void)state;
	for (uint32_t cut = 1; cut < 212; cut++) {
		memset(driver_at(driver, LOW), UNTOUCHED, 600);
		driver_put(driver, 1, LOW, cut, WRITE | NEXT);
		driver_put(driver, 1, HIGH + 50, 2000, WRITE | NEXT);
		driver_put(driver, 1, LOW + 300, 100, WRITE);
		send_well(driver, 200);
		driver_expect(driver, 1, 212);
		driver_expect_all(driver);
		memcpy(got, driver_at(driver, LOW), cut);
		memcpy(got + cut, driver_at(driver, HIGH + 50), 212 - cut);
		expect_header(got, 12, 1);
		assert_memory_equal(got + 12, pattern, 200);
		for (uint32_t k = cut; k < 600; k++)
			assert_int_equal(driver_at(driver, LOW)[k], UNTOUCHED);
		assert_int_equal(driver_at(driver, HIGH + 50)[212 - cut], UNTOUCHED);
		memset(driver_at(driver, HIGH), UNTOUCHED, 2048);
	}
	driver_free(driver);
}

static void indirect(void **state)
{
	struct driver *driver = driver_new(4, VERSION_1 | INDIRECT, 1);

	(void)state;
	for (uint64_t table = HIGH; table < HIGH + 16; table += 5) {
		memset(driver_at(driver, LOW), UNTOUCHED, 2048);
		driver_entry(driver, table, 0, LOW, 12, WRITE);
		driver_entry(driver, table, 1, LOW + 12, 1000, WRITE | NEXT);
		driver_entry(driver, table, 2, LOW + 1012, 600, WRITE | TABLE);
		driver_put(driver, 3, table, 48, TABLE);
		send_well(driver, 1514);
		driver_expect(driver, 3, 1526);
		driver_expect_all(driver);
		assert_memory_equal(driver_at(driver, LOW) + 12, pattern, 1514);
		assert_int_equal(driver_at(driver, LOW)[1526], UNTOUCHED);
	}
	driver_free(driver);
}

static void region_crossing(void **state)
{
	struct driver *driver = driver_new(1, VERSION_1, WRAP);
	uint8_t got[312];

	(void)state;
	for (uint32_t before = 1; before < 312; before++) {
		driver_put(driver, 0, HIGH - before, 2000, WRITE);
		send_well(driver, 300);
		driver_expect(driver, 0, 312);
		memcpy(got, driver_at(driver, HIGH - before), before);
		memcpy(got + before, driver_at(driver, HIGH), 312 - before);
		expect_header(got, 12, 1);
		assert_memory_equal(got + 12, pattern, 300);
	}
	driver_expect_all(driver);
	driver_free(driver);
}

/* A frame over several receive chains, whose count the header tells, from each place of a ring. */
static void mergeable(void **state)
{
	uint8_t got[3000];

	(void)state;
	for (uint16_t base = 0; base < 6; base++) {
		struct driver *driver = driver_new(6, MERGEABLE, base);

		driver_put(driver, 40, LOW, 1000, WRITE);
		driver_put(driver, 10, LOW + 2000, 300, WRITE | NEXT);
		driver_put(driver, 10, LOW + 3000, 500, WRITE);
		driver_put(driver, 30, LOW + 4000, 1500, WRITE);
		driver_put(driver, 20, LOW + 6000, 1500, WRITE);
		send_well(driver, 2500);
		driver_expect(driver, 40, 1000);
		driver_expect(driver, 10, 800);
		driver_expect(driver, 30, 712);
		driver_expect_none(driver);
		memcpy(got, driver_at(driver, LOW), 1000);
		memcpy(got + 1000, driver_at(driver, LOW + 2000), 300);
		memcpy(got + 1300, driver_at(driver, LOW + 3000), 500);
		memcpy(got + 1800, driver_at(driver, LOW + 4000), 712);
		expect_header(got, 12, 3);
		assert_memory_equal(got + 12, pattern, 2500);
		assert_int_equal(driver_at(driver, LOW + 4000)[712], UNTOUCHED);
		assert_int_equal(driver_at(driver, LOW + 6000)[0], UNTOUCHED);
		/* The next frame goes into the chain behind them. */
		send_well(driver, 60);
		driver_expect(driver, 20, 72);
		driver_expect_all(driver);
		driver_free(driver);
	}
}

/* Even the header may be spread over chains. */
static void tiny_buffers(void **state)
{
	struct driver *driver = driver_new(250, MERGEABLE, WRAP | 200);
	uint8_t got[200];

	(void)state;
	for (uint16_t i = 0; i < 200; i++)
		driver_put(driver, i, LOW + 16u * i, 1, WRITE);
	send_well(driver, 100);
	for (uint16_t i = 0; i < 112; i++) {
		driver_expect(driver, i, 1);
		got[i] = *driver_at(driver, LOW + 16u * i);
		assert_int_equal(driver_at(driver, LOW + 16u * i)[1], UNTOUCHED);
	}
	driver_expect_none(driver);
	expect_header(got, 12, 112);
	assert_memory_equal(got + 12, pattern, 100);
	driver_free(driver);
}

static void largest_frame(void **state)
{
	struct driver *driver = driver_new(128, MERGEABLE, 127);

	(void)state;
	driver_put(driver, 0, HIGH, 12 + FRAME_LENGTH_MAX, WRITE);
	send_well(driver, FRAME_LENGTH_MAX);
	driver_expect(driver, 0, 12 + FRAME_LENGTH_MAX);
	assert_memory_equal(driver_at(driver, HIGH) + 12, pattern, FRAME_LENGTH_MAX);
	memset(driver_at(driver, HIGH), UNTOUCHED, 70000);
	for (uint16_t i = 0; i < 43; i++)
		driver_put(driver, i, HIGH + 1526u * i, 1526, WRITE);
	send_well(driver, FRAME_LENGTH_MAX);
	expect_header(driver_at(driver, HIGH), 12, 43);
	assert_memory_equal(driver_at(driver, HIGH) + 12, pattern, FRAME_LENGTH_MAX);
	assert_int_equal(driver_at(driver, HIGH)[12 + FRAME_LENGTH_MAX], UNTOUCHED);
	driver_free(driver);
}

/* Without mergeable buffers a chain that is too short stays for a smaller frame. */
static void not_mergeable_too_long(void **state)
{
	struct driver *driver = driver_new(3, VERSION_1, WRAP | 1);

	(void)state;
	driver_put(driver, 0, LOW, 12 + 100, WRITE);
	driver_put(driver, 1, LOW + 200, 50, WRITE | NEXT);
	driver_put(driver, 1, LOW + 300, 50, WRITE);
	send_in_vain(driver, 101, 1);
	driver_expect_none(driver);
	assert_false(virtqueue_wants_interrupt(&driver->vq));
	send_well(driver, 100);
	driver_expect(driver, 0, 112);
	send_in_vain(driver, 89, 1);
	driver_expect_none(driver);
	send_well(driver, 88);
	driver_expect(driver, 1, 100);
	driver_expect_all(driver);
	for (uint32_t i = 112; i < 400; i++)
		if (i < 200 || (i >= 250 && i < 300) || i >= 350)
			assert_int_equal(driver_at(driver, LOW)[i], UNTOUCHED);
	driver_free(driver);
}

static void no_room(void **state)
{
	struct driver *driver = driver_new(8, MERGEABLE, 7);
	struct tx_outcome outcome = { 0 };
	struct sample samples[4];
	struct frame *frames[4];

	(void)state;
	send_in_vain(driver, 60, 0);
	/* Too few for a long frame: they are kept until there are more. */
	driver_put(driver, 0, LOW, 1000, WRITE);
	driver_put(driver, 1, LOW + 1000, 1000, WRITE);
	send_in_vain(driver, 2500, 0);
	driver_expect_none(driver);
	assert_false(virtqueue_wants_interrupt(&driver->vq));
	driver_put(driver, 2, LOW + 2000, 1000, WRITE);
	send_well(driver, 2500);
	driver_expect(driver, 0, 1000);
	driver_expect(driver, 1, 1000);
	driver_expect(driver, 2, 512);
	/* Room for two of four. */
	for (int i = 0; i < 4; i++)
		frames[i] = make_frame(&samples[i], pattern, 60, 0);
	driver_put(driver, 0, LOW, 1000, WRITE);
	driver_put(driver, 1, LOW + 1000, 1000, WRITE);
	virtqueue_tx_burst(&driver->vq, frames, 4, &outcome);
	assert_int_equal(outcome.packets, 2);
	assert_int_equal(outcome.too_long, 0);
	driver_expect(driver, 0, 72);
	driver_expect(driver, 1, 72);
	driver_expect_all(driver);
	driver_free(driver);
}

/* All that a small ring can hold is not enough: that frame is lost, those behind it are not. */
static void ring_too_small(void **state)
{
	struct driver *driver = driver_new(5, MERGEABLE, WRAP | 4);
	struct tx_outcome outcome = { 0 };
	struct sample samples[2];
	struct frame *frames[2];

	(void)state;
	for (uint16_t i = 0; i < 5; i++)
		driver_put(driver, i, LOW + 1000u * i, i < 2 ? 500 : 1000,
			   WRITE | (i == 0 ? NEXT : 0));
	frames[0] = make_frame(&samples[0], pattern, 3989, 1);
	frames[1] = make_frame(&samples[1], pattern, 60, 0);
	virtqueue_tx_burst(&driver->vq, frames, 2, &outcome);
	assert_int_equal(outcome.packets, 1);
	assert_int_equal(outcome.too_long, 1);
	driver_expect(driver, 1, 72);
	driver_expect_none(driver);
	driver_put(driver, 9, LOW, 1000, WRITE);
	/* One slot is free: there may be more to come. */
	send_in_vain(driver, 3989, 0);
	driver_expect_none(driver);
	send_well(driver, 3988);
	for (uint16_t i = 2; i < 5; i++)
		driver_expect(driver, i, 1000);
	driver_expect(driver, 9, 1000);
	driver_expect_all(driver);
	driver_free(driver);
}

/* What makes a receive buffer malformed. */
static const struct {
	uint64_t address;
	uint32_t length;
	uint16_t flags;
} bad_buffers[] = {
	{ LOW, 2000, 0 },                   /* to be read */
	{ LOW, 0, WRITE },                  /* empty */
	{ LOW - 1, 2000, WRITE },           /* not mapped */
	{ END - 20, 2000, WRITE },          /* leaves the memory */
	{ END, 2000, WRITE },
	{ UINT64_MAX - 20, 2000, WRITE },   /* wraps */
	{ LOW, 16, TABLE },                 /* not negotiated */
};

#define BAD_BUFFERS (sizeof(bad_buffers) / sizeof(bad_buffers[0]))

/* Puts a bad buffer, alone or as a part of a chain. */
static void put_bad(struct driver *driver, uint16_t id, size_t kind, bool chained)
{
	if (chained)
		driver_put(driver, id, HIGH, 20, WRITE | NEXT);
	driver_put(driver, id, bad_buffers[kind].address, bad_buffers[kind].length,
		   (uint16_t)(bad_buffers[kind].flags | (chained ? NEXT : 0)));
	if (chained)
		driver_put(driver, id, HIGH, 2000, WRITE);
}

static void malformed(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2 * BAD_BUFFERS; i++) {
		struct driver *driver = driver_new(8, VERSION_1, WRAP | 7);

		put_bad(driver, 11, i / 2, i % 2);
		driver_put(driver, 2, HIGH, 2000, WRITE);
		send_well(driver, 1514);
		driver_expect(driver, 11, 0);
		driver_expect(driver, 2, 1526);
		assert_int_equal(driver->vq.malformed, 1);
		assert_int_equal(driver->vq.fault, VIRTQUEUE_OK);
		driver_expect_all(driver);
		/* Alone: it comes back, the frame finds no room. */
		put_bad(driver, 12, i / 2, i % 2);
		send_in_vain(driver, 1514, 0);
		driver_expect(driver, 12, 0);
		driver_expect_all(driver);
		assert_true(virtqueue_wants_interrupt(&driver->vq));
		driver_free(driver);
	}
}

/* In the middle of a mergeable set: the chains before it go back empty too, in order. */
static void malformed_in_set(void **state)
{
	(void)state;
	for (size_t i = 0; i < 2 * BAD_BUFFERS; i++) {
		struct driver *driver = driver_new(8, MERGEABLE, 5);

		driver_put(driver, 4, LOW + 5000, 100, WRITE);
		driver_put(driver, 0, LOW + 5100, 100, WRITE);
		put_bad(driver, 11, i / 2, i % 2);
		driver_put(driver, 2, HIGH, 1000, WRITE);
		driver_put(driver, 3, HIGH + 1000, 1000, WRITE);
		send_well(driver, 1514);
		driver_expect(driver, 4, 0);
		driver_expect(driver, 0, 0);
		driver_expect(driver, 11, 0);
		driver_expect(driver, 2, 1000);
		driver_expect(driver, 3, 526);
		driver_expect_all(driver);
		expect_header(driver_at(driver, HIGH), 12, 2);
		assert_memory_equal(driver_at(driver, HIGH) + 12, pattern, 1514);
		assert_int_equal(driver_at(driver, LOW + 5000)[0], UNTOUCHED);
		assert_int_equal(driver->vq.malformed, 1);
		driver_free(driver);
	}
}

/* Frames that went out before a bad chain in the same burst are not touched by it. */
static void malformed_behind_good(void **state)
{
	struct driver *driver = driver_new(8, MERGEABLE, WRAP | 6);
	struct tx_outcome outcome = { 0 };
	struct sample samples[3];
	struct frame *frames[3];

	(void)state;
	for (uint16_t i = 0; i < 3; i++)
		frames[i] = make_frame(&samples[i], pattern, 100, 0);
	driver_put(driver, 7, LOW, 200, WRITE);
	driver_put(driver, 6, LOW + 200, 200, WRITE);
	driver_put(driver, 5, LOW, 100, 0);
	driver_put(driver, 4, LOW + 400, 200, WRITE);
	virtqueue_tx_burst(&driver->vq, frames, 3, &outcome);
	assert_int_equal(outcome.packets, 3);
	driver_expect(driver, 7, 112);
	driver_expect(driver, 6, 112);
	driver_expect(driver, 5, 0);
	driver_expect(driver, 4, 112);
	driver_expect_all(driver);
	driver_free(driver);
}

/* A buffer in more pieces than the switch follows takes small frames only. */
static void many_pieces(void **state)
{
	struct driver *driver = driver_new(4096, MERGEABLE, WRAP | 4000);

	(void)state;
	for (uint16_t i = 0; i < 2000; i++)
		driver_put(driver, 9, LOW + i, 1, WRITE | (i < 1999 ? NEXT : 0));
	send_in_vain(driver, VIRTQUEUE_PIECES_MAX - 12 + 1, 1);
	driver_expect_none(driver);
	send_well(driver, VIRTQUEUE_PIECES_MAX - 12);
	driver_expect(driver, 9, VIRTQUEUE_PIECES_MAX);
	driver_expect_all(driver);
	assert_memory_equal(driver_at(driver, LOW) + 12, pattern, VIRTQUEUE_PIECES_MAX - 12);
	/* As many chains of one piece: the most that are returned at once. */
	for (uint16_t i = 0; i < VIRTQUEUE_PIECES_MAX + 1; i++)
		driver_put(driver, i, LOW + i, 1, WRITE);
	send_in_vain(driver, VIRTQUEUE_PIECES_MAX - 12 + 1, 1);
	send_well(driver, VIRTQUEUE_PIECES_MAX - 12);
	for (uint16_t i = 0; i < VIRTQUEUE_PIECES_MAX; i++)
		driver_expect(driver, i, 1);
	driver_expect_none(driver);
	driver_free(driver);
}

/* The last chain that could be used is the bad one. */
static void many_and_bad(void **state)
{
	struct driver *driver = driver_new(4096, MERGEABLE, WRAP | 4000);

	(void)state;
	for (uint16_t i = 0; i < VIRTQUEUE_PIECES_MAX - 1; i++)
		driver_put(driver, i, LOW + i, 1, WRITE);
	driver_put(driver, 5000, LOW, 1, 0);
	send_in_vain(driver, 60000, 0);
	for (uint16_t i = 0; i < VIRTQUEUE_PIECES_MAX - 1; i++)
		driver_expect(driver, i, 0);
	driver_expect(driver, 5000, 0);
	driver_expect_all(driver);
	assert_int_equal(driver->vq.malformed, 1);
	driver_free(driver);
}

/* A ring full of worthless chains is worked off a bounded number of descriptors at a time. */
static void worthless_chains(void **state)
{
	struct driver *driver = driver_new(VIRTQUEUE_SIZE_MAX, MERGEABLE, WRAP);
	uint32_t calls = 0;

	(void)state;
	/* Each is good for a while, and bad behind that. */
	for (uint16_t id = 0; id < 33; id++) {
		for (int i = 0; i < 960; i++)
			driver_put(driver, id, LOW, 1, WRITE | NEXT);
		driver_put(driver, id, LOW, 1, 0);
	}
	while (place_base(driver->post) != virtqueue_base(&driver->vq)) {
		send_in_vain(driver, 60000, 0);
		assert_true(driver->vq.walked <= VIRTQUEUE_WALK_MAX + 2 * 961);
		assert_in_range(++calls, 1, 10);
	}
	assert_int_equal(calls, 4);
	assert_int_equal(driver->vq.malformed, 33);
	for (uint16_t id = 0; id < 33; id++)
		driver_expect(driver, id, 0);
	driver_expect_all(driver);
	driver_free(driver);
}

/* A ring in which every descriptor says that another one follows: it stops for good. */
static void endless_chain(void **state)
{
	static const uint32_t sizes[] = { 1, 3, VIRTQUEUE_SIZE_MAX };

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct driver *driver = driver_new(sizes[i], MERGEABLE, (uint16_t)(sizes[i] - 1));
		uint16_t base;

		driver_put(driver, 5, LOW, 200, WRITE);
		send_well(driver, 60);
		driver_expect(driver, 5, 72);
		base = place_base(driver->post);
		for (uint32_t j = 0; j < sizes[i]; j++)
			driver_put(driver, 6, LOW, 200, WRITE | NEXT);
		for (int j = 0; j < 2; j++) {
			send_in_vain(driver, 60, 0);
			driver_expect_none(driver);
			assert_int_equal(driver->vq.fault, VIRTQUEUE_BAD_CHAIN);
			assert_int_equal(virtqueue_base(&driver->vq), base);
			/* It ends now, which is too late. */
			driver->ring[place(base).slot].flags &= (uint16_t)~NEXT;
		}
		driver_free(driver);
	}
}

/* A chain that goes on into the slots of another one of the same frame: it is not used. */
static void more_than_the_ring(void **state)
{
	struct driver *driver = driver_new(3, MERGEABLE, WRAP);

	(void)state;
	driver_put(driver, 0, LOW, 100, WRITE);
	driver_put(driver, 1, LOW + 100, 100, WRITE | NEXT);
	driver_put(driver, 1, LOW + 200, 100, WRITE | NEXT);
	send_in_vain(driver, 150, 0);
	driver_expect_none(driver);
	assert_int_equal(virtqueue_base(&driver->vq), WRAP);
	assert_int_equal(driver_at(driver, LOW)[0], UNTOUCHED);
	send_well(driver, 60);
	driver_expect(driver, 0, 72);
	assert_int_equal(virtqueue_base(&driver->vq), WRAP | 1);
	assert_int_equal(driver->vq.fault, VIRTQUEUE_OK);
	driver_free(driver);
}

/* Far more buffers than a burst needs, in rings of many sizes: used in order, each once. */
static void long_queue(void **state)
{
	static const uint32_t sizes[] = { 1, 2, 3, 31, 32, 33, 64, 256 };
	struct sample samples[BURST_MAX];
	struct frame *frames[BURST_MAX];

	(void)state;
	for (uint16_t i = 0; i < BURST_MAX; i++)
		frames[i] = make_frame(&samples[i], pattern, 60u + i, 0);
	for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
		uint32_t size = sizes[s];
		struct driver *driver = driver_new(size, VERSION_1, (uint16_t)(WRAP | (size / 2)));
		uint16_t put = 0, next = 0;

		for (int round = 0; round < 60; round++) {
			struct tx_outcome outcome = { 0 };
			uint16_t count = (uint16_t)(1 + round * 13 % BURST_MAX);
			uint16_t room;

			for (; (uint16_t)(put - next) < size; put++)
				driver_put(driver, (uint16_t)(put * 5), LOW + 256u * (put % 256),
					   256, WRITE);
			for (unsigned int step = 0; step < 3 && round % 2 == 0; step++)
				virtqueue_tx_expect(&driver->vq, step);
			virtqueue_tx_burst(&driver->vq, frames, count, &outcome);
			room = count < size ? count : (uint16_t)size;
			assert_int_equal(outcome.packets, room);
			for (uint16_t i = 0; i < room; i++, next++) {
				driver_expect(driver, (uint16_t)(next * 5), 72u + i);
				assert_memory_equal(
					driver_at(driver, LOW + 256u * (next % 256)) + 12, pattern,
					60u + i);
			}
			driver_expect_none(driver);
		}
		driver_free(driver);
	}
}

/*
 * The slots behind a chain's first one keep their flags when it is returned. They are not taken for
 * available a round later, when the driver has not got there yet.
 */
static void stale_slots(void **state)
{
	struct driver *driver = driver_new(4, VERSION_1, WRAP | 3);
	struct tx_outcome outcome = { 0 };
	struct sample samples[4];
	struct frame *frames[4];

	(void)state;
	for (uint16_t i = 0; i < 4; i++)
		frames[i] = make_frame(&samples[i], pattern, 60, 0);
	driver_put(driver, 9, LOW, 10, WRITE | NEXT);
	driver_put(driver, 9, LOW + 100, 100, WRITE);
	send_well(driver, 60);
	driver_expect(driver, 9, 72);
	for (uint16_t i = 0; i < 3; i++)
		driver_put(driver, i, LOW + 100u * i, 100, WRITE);
	virtqueue_tx_burst(&driver->vq, frames, 4, &outcome);
	assert_int_equal(outcome.packets, 3);
	for (uint16_t i = 0; i < 3; i++)
		driver_expect(driver, i, 72);
	driver_expect_all(driver);
	driver_free(driver);
}

/* Buffers of all shapes in turns: what was looked at ahead must not be used out of turn. */
static void mixed_shapes(void **state)
{
	struct driver *driver = driver_new(13, MERGEABLE, WRAP | 5);
	struct sample samples[8];
	struct frame *frames[8];

	(void)state;
	for (uint16_t i = 0; i < 8; i++)
		frames[i] = make_frame(&samples[i], pattern, i % 2 == 0 ? 60 : 300, i % 2);
	for (int round = 0; round < 30; round++) {
		struct tx_outcome outcome = { 0 };

		for (uint16_t i = 0; i < 4; i++) {
			driver_put(driver, (uint16_t)(8 * i), LOW + 1000u * i, 100, WRITE);
			driver_put(driver, (uint16_t)(8 * i + 1), LOW + 1000u * i + 100, 200,
				   WRITE | NEXT);
			driver_put(driver, (uint16_t)(8 * i + 1), LOW + 1000u * i + 500, 200,
				   WRITE);
		}
		virtqueue_tx_burst(&driver->vq, frames, 8, &outcome);
		assert_int_equal(outcome.packets, 8);
		/* 60 into 100; 300 into the chain behind; and so on. */
		for (uint16_t i = 0; i < 4; i++) {
			driver_expect(driver, (uint16_t)(8 * i), 72);
			driver_expect(driver, (uint16_t)(8 * i + 1), 312);
		}
		driver_expect_all(driver);
	}
	driver_free(driver);
}

/* Each descriptor counts once for the driver's event, whichever way its frame took. */
static void event_of_a_burst(void **state)
{
	struct driver *driver = driver_new(16, MERGEABLE | EVENT_INDEX, WRAP);
	struct tx_outcome outcome = { 0 };
	struct sample samples[3];
	struct frame *frames[3];

	(void)state;
	driver->driver_event->flags = VRING_PACKED_EVENT_FLAG_DESC;
	driver->driver_event->off_wrap = WRAP | 1;
	for (uint16_t i = 0; i < 3; i++) {
		frames[i] = make_frame(&samples[i], pattern, i == 1 ? 150 : 60, i == 1);
		driver_put(driver, i, LOW, 100, WRITE);
	}
	send_well(driver, 60);
	assert_false(virtqueue_wants_interrupt(&driver->vq));
	send_well(driver, 60);
	assert_true(virtqueue_wants_interrupt(&driver->vq));
	/* It was used, and the driver does not ask for more. */
	for (uint16_t i = 3; i < 6; i++)
		driver_put(driver, i, LOW, 100, WRITE);
	virtqueue_tx_burst(&driver->vq, frames, 3, &outcome);
	assert_int_equal(outcome.packets, 3);
	assert_false(virtqueue_wants_interrupt(&driver->vq));
	driver_free(driver);
}

/* A frame that takes more chains than were seen ahead does not end the looking ahead. */
static void beyond_what_was_seen(void **state)
{
	struct driver *driver = driver_new(64, MERGEABLE, WRAP | 60);

	(void)state;
	driver_put(driver, 0, LOW, 100, WRITE);
	send_in_vain(driver, 250, 0);
	driver_put(driver, 1, LOW, 100, WRITE);
	driver_put(driver, 2, LOW, 100, WRITE);
	send_well(driver, 250);
	for (uint16_t i = 0; i < 20; i++)
		driver_put(driver, i, LOW, 2000, WRITE);
	for (int i = 0; i < 20; i++) {
		send_well(driver, 60);
		assert_int_equal(driver->vq.walked, 0); /* the short way */
	}
	driver_free(driver);
}

/* The driver has made something available, whatever its shape. */
static void spoken(void **state)
{
	struct driver *driver = driver_new(8, MERGEABLE, WRAP);

	(void)state;
	send_in_vain(driver, 60, 0);
	assert_false(driver->vq.spoken);
	driver_put(driver, 0, LOW, 100, WRITE | NEXT);
	driver_put(driver, 0, LOW + 100, 100, WRITE);
	virtqueue_tx_expect(&driver->vq, 2);
	assert_int_equal(driver->vq.waiting, 1);
	assert_true(driver->vq.spoken);
	driver_free(driver);
}

/* ---- the dirty log ---- */

/* Pages of buffers, and of the descriptors that were returned; none else. */
static void dirty_pages(void **state)
{
	struct driver *driver = driver_new(512, MERGEABLE, WRAP | 250);
	struct virtqueue_setup setup = driver_setup(driver, MERGEABLE);
	const char *reason;

	(void)state;
	setup.base = WRAP | 250;
	setup.log = driver_log(driver);
	assert_int_equal(virtqueue_init(&driver->vq, &setup, &reason), 0);
	assert_true(driver_dirty(driver, USED));
	driver_expect_clean(driver);
	/* The short way: the frame's last byte is in the second page, the buffer goes on. */
	driver_put(driver, 0, LOW + DIRTY_PAGE - 1011, 3 * DIRTY_PAGE, WRITE);
	send_well(driver, 1000);
	assert_true(driver_dirty(driver, LOW));
	assert_true(driver_dirty(driver, LOW + DIRTY_PAGE));
	assert_true(driver_dirty(driver, DESC));
	driver_expect_clean(driver);
	driver_expect(driver, 0, 1012);
	/* To the last byte of a page. */
	driver_put(driver, 0, LOW + DIRTY_PAGE - 1012, 2 * DIRTY_PAGE, WRITE);
	send_well(driver, 1000);
	assert_true(driver_dirty(driver, LOW));
	assert_true(driver_dirty(driver, DESC));
	driver_expect_clean(driver);
	driver_expect(driver, 0, 1012);
	/* The long way, over regions; the chains' heads lie in two pages of the ring. */
	for (uint16_t i = 0; i < 4; i++)
		driver_put(driver, i, LOW, 100, WRITE);
	for (uint16_t i = 0; i < 4; i++)
		send_well(driver, 40);
	assert_true(driver_dirty(driver, LOW));
	assert_true(driver_dirty(driver, DESC));
	assert_false(driver_dirty(driver, DESC + DIRTY_PAGE));
	driver_expect_clean(driver);
	for (uint16_t i = 0; i < 4; i++)
		driver_expect(driver, i, 52);
	driver_put(driver, 7, LOW + 2 * DIRTY_PAGE, 100, WRITE | NEXT);
	driver_put(driver, 7, LOW + 6 * DIRTY_PAGE, 100, WRITE);
	driver_put(driver, 8, HIGH - 10, 2000, WRITE);
	send_well(driver, 1000);
	assert_true(driver_dirty(driver, LOW + 2 * DIRTY_PAGE));
	assert_true(driver_dirty(driver, LOW + 6 * DIRTY_PAGE));
	assert_true(driver_dirty(driver, HIGH - 1));
	assert_true(driver_dirty(driver, HIGH));
	assert_true(driver_dirty(driver, DESC + DIRTY_PAGE));
	driver_expect_clean(driver);
	/* A bad chain: only its descriptor. */
	driver_put(driver, 9, LOW, 100, 0);
	send_in_vain(driver, 1000, 0);
	assert_true(driver_dirty(driver, DESC + DIRTY_PAGE));
	driver_expect_clean(driver);
	/* No room: nothing. */
	send_in_vain(driver, 1000, 0);
	driver_expect_clean(driver);
	driver_free(driver);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain),
		cmocka_unit_test(offload_header),
		cmocka_unit_test(chained),
		cmocka_unit_test(indirect),
		cmocka_unit_test(region_crossing),
		cmocka_unit_test(mergeable),
		cmocka_unit_test(tiny_buffers),
		cmocka_unit_test(largest_frame),
		cmocka_unit_test(not_mergeable_too_long),
		cmocka_unit_test(no_room),
		cmocka_unit_test(ring_too_small),
		cmocka_unit_test(malformed),
		cmocka_unit_test(malformed_in_set),
		cmocka_unit_test(malformed_behind_good),
		cmocka_unit_test(many_pieces),
		cmocka_unit_test(many_and_bad),
		cmocka_unit_test(worthless_chains),
		cmocka_unit_test(endless_chain),
		cmocka_unit_test(more_than_the_ring),
		cmocka_unit_test(long_queue),
		cmocka_unit_test(stale_slots),
		cmocka_unit_test(mixed_shapes),
		cmocka_unit_test(beyond_what_was_seen),
		cmocka_unit_test(event_of_a_burst),
		cmocka_unit_test(spoken),
		cmocka_unit_test(dirty_pages),
	};

	fill_pattern(pattern, sizeof(pattern));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
