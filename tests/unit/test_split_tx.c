/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtqueue/split.c: frames to the guest, in receive buffers of every shape, good and bad, alone
 * and together with others.
 */
#include "virtqueue/virtqueue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "split_driver.h"

static void plain(void **state)
{
	static const uint64_t features[] = { 0, VERSION_1, MERGEABLE };

	(void)state;
	for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++) {
		struct driver *driver = driver_new(8, features[i], 65534);
		uint32_t header = driver->vq.header_length;
		static const uint32_t lengths[] = { 14, 60, 127, 128, 129, 1514 };

		for (uint16_t j = 0; j < 6; j++) {
			const uint8_t *at = driver_at(driver, LOW + 4096u * j);
			uint32_t length = lengths[j];

			driver_offer_one(driver, j, LOW + 4096u * j, 2048, WRITE);
			send_well(driver, length);
			driver_expect(driver, j, header + length);
			expect_header(at, header, 1);
			assert_memory_equal(at + header, pattern, length);
			for (uint32_t k = header + length; k < 4096; k++)
				assert_int_equal(at[k], UNTOUCHED);
		}
		driver_expect_none(driver);
		assert_true(virtqueue_wants_interrupt(&driver->vq));
		driver_free(driver);
	}
}

/* The offload header goes out as it is. */
static void offload_header(void **state)
{
	struct driver *driver = driver_new(8, MERGEABLE, 0);
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
	driver_offer_one(driver, 0, LOW, 8192, WRITE);
	driver_offer_one(driver, 1, LOW + 8192, 3000, WRITE);
	driver_offer_one(driver, 2, LOW + 12000, 3000, WRITE);
	virtqueue_tx_burst(&driver->vq, frames, 2, &outcome);
	assert_int_equal(outcome.packets, 2);
	assert_int_equal(outcome.segments, 8);
	assert_int_equal(outcome.bytes, 10000);
	assert_memory_equal(driver_at(driver, LOW), &vnet, sizeof(vnet));
	assert_memory_equal(driver_at(driver, LOW + 8192), &vnet, sizeof(vnet));
	driver_expect(driver, 0, 5012);
	driver_expect(driver, 1, 3000);
	driver_expect(driver, 2, 2012);
	driver_free(driver);
}

/*
 * A chain of two or three descriptors, cut at every place; only what is needed of the last is used.
 */
static void chained(void **state)
{
	static const uint64_t features[] = { 0, VERSION_1, MERGEABLE };

	(void)state;
	for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++) {
		struct driver *driver = driver_new(8, features[i], 0);
		uint32_t header = driver->vq.header_length;
		uint32_t total = header + 200;
		uint8_t got[256];

		for (uint32_t cut = 1; cut < total; cut++) {
			memset(driver_at(driver, LOW), UNTOUCHED, 600);
			driver_desc(driver, 1, LOW, cut, WRITE | NEXT, 6);
			driver_desc(driver, 6, HIGH + 50, 2000, WRITE | NEXT, 3);
			driver_desc(driver, 3, LOW + 300, 100, WRITE, 0);
			driver_offer(driver, 1);
			send_well(driver, 200);
			driver_expect(driver, 1, total);
			memcpy(got, driver_at(driver, LOW), cut);
			memcpy(got + cut, driver_at(driver, HIGH + 50), total - cut);
			expect_header(got, header, 1);
			assert_memory_equal(got + header, pattern, 200);
			for (uint32_t k = cut; k < 600; k++)
				assert_int_equal(driver_at(driver, LOW)[k], UNTOUCHED);
			assert_int_equal(driver_at(driver, HIGH + 50)[total - cut], UNTOUCHED);
			memset(driver_at(driver, HIGH), UNTOUCHED, 2048);
		}
		driver_free(driver);
	}
}

static void indirect(void **state)
{
	struct driver *driver = driver_new(4, VERSION_1 | INDIRECT, 0);

	(void)state;
	for (uint64_t table = HIGH; table < HIGH + 16; table += 5) {
		memset(driver_at(driver, LOW), UNTOUCHED, 2048);
		driver_entry(driver, table, 0, LOW, 12, WRITE | NEXT, 1);
		driver_entry(driver, table, 1, LOW + 12, 1000, WRITE | NEXT, 2);
		driver_entry(driver, table, 2, LOW + 1012, 600, WRITE, 0);
		driver_offer_one(driver, 3, table, 48, VRING_DESC_F_INDIRECT);
		send_well(driver, 1514);
		driver_expect(driver, 3, 1526);
		assert_memory_equal(driver_at(driver, LOW) + 12, pattern, 1514);
		assert_int_equal(driver_at(driver, LOW)[1526], UNTOUCHED);
	}
	driver_free(driver);
}

static void region_crossing(void **state)
{
	struct driver *driver = driver_new(8, VERSION_1, 0);
	uint8_t got[312];

	(void)state;
	for (uint32_t before = 1; before < 312; before++) {
		driver_offer_one(driver, 0, HIGH - before, 2000, WRITE);
		send_well(driver, 300);
		driver_expect(driver, 0, 312);
		memcpy(got, driver_at(driver, HIGH - before), before);
		memcpy(got + before, driver_at(driver, HIGH), 312 - before);
		expect_header(got, 12, 1);
		assert_memory_equal(got + 12, pattern, 300);
	}
	driver_free(driver);
}

/* A frame over several receive chains, whose count the header tells. */
static void mergeable(void **state)
{
	struct driver *driver = driver_new(8, MERGEABLE, 65534);
	uint8_t got[3000];

	(void)state;
	driver_offer_one(driver, 0, LOW, 1000, WRITE);
	driver_desc(driver, 1, LOW + 2000, 300, WRITE | NEXT, 2);
	driver_desc(driver, 2, LOW + 3000, 500, WRITE, 0);
	driver_offer(driver, 1);
	driver_offer_one(driver, 3, LOW + 4000, 1500, WRITE);
	driver_offer_one(driver, 4, LOW + 6000, 1500, WRITE);
	send_well(driver, 2500);
	driver_expect(driver, 0, 1000);
	driver_expect(driver, 1, 800);
	driver_expect(driver, 3, 712);
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
	driver_expect(driver, 4, 72);
	driver_free(driver);
}

/* Even the header may be spread over chains. */
static void tiny_buffers(void **state)
{
	struct driver *driver = driver_new(256, MERGEABLE, 65500);
	uint8_t got[200];

	(void)state;
	for (uint16_t i = 0; i < 200; i++)
		driver_offer_one(driver, i, LOW + 16u * i, 1, WRITE);
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
	struct driver *driver = driver_new(128, MERGEABLE, 65500);

	(void)state;
	driver_offer_one(driver, 0, HIGH, 12 + FRAME_LENGTH_MAX, WRITE);
	send_well(driver, FRAME_LENGTH_MAX);
	driver_expect(driver, 0, 12 + FRAME_LENGTH_MAX);
	assert_memory_equal(driver_at(driver, HIGH) + 12, pattern, FRAME_LENGTH_MAX);
	memset(driver_at(driver, HIGH), UNTOUCHED, 70000);
	for (uint16_t i = 0; i < 43; i++)
		driver_offer_one(driver, i, HIGH + 1526u * i, 1526, WRITE);
	send_well(driver, FRAME_LENGTH_MAX);
	expect_header(driver_at(driver, HIGH), 12, 43);
	assert_memory_equal(driver_at(driver, HIGH) + 12, pattern, FRAME_LENGTH_MAX);
	assert_int_equal(driver_at(driver, HIGH)[12 + FRAME_LENGTH_MAX], UNTOUCHED);
	driver_free(driver);
}

/* Without mergeable buffers a chain that is too short stays for a smaller frame. */
static void not_mergeable_too_long(void **state)
{
	struct driver *driver = driver_new(8, VERSION_1, 0);

	(void)state;
	driver_offer_one(driver, 0, LOW, 12 + 100, WRITE);
	driver_desc(driver, 1, LOW + 200, 50, WRITE | NEXT, 2);
	driver_desc(driver, 2, LOW + 300, 50, WRITE, 0);
	driver_offer(driver, 1);
	send_in_vain(driver, 101, 1);
	driver_expect_none(driver);
	assert_false(virtqueue_wants_interrupt(&driver->vq));
	send_well(driver, 100);
	driver_expect(driver, 0, 112);
	send_in_vain(driver, 89, 1);
	send_well(driver, 88);
	driver_expect(driver, 1, 100);
	for (uint32_t i = 112; i < 400; i++)
		if (i < 200 || (i >= 250 && i < 300) || i >= 350)
			assert_int_equal(driver_at(driver, LOW)[i], UNTOUCHED);
	driver_free(driver);
}

static void no_room(void **state)
{
	struct driver *driver = driver_new(8, MERGEABLE, 65535);
	struct tx_outcome outcome = { 0 };
	struct sample samples[4];
	struct frame *frames[4];

	(void)state;
	send_in_vain(driver, 60, 0);
	/* Too few for a long frame: they are kept until there are more. */
	driver_offer_one(driver, 0, LOW, 1000, WRITE);
	driver_offer_one(driver, 1, LOW + 1000, 1000, WRITE);
	send_in_vain(driver, 2500, 0);
	driver_expect_none(driver);
	assert_false(virtqueue_wants_interrupt(&driver->vq));
	driver_offer_one(driver, 2, LOW + 2000, 1000, WRITE);
	send_well(driver, 2500);
	driver_expect(driver, 0, 1000);
	driver_expect(driver, 1, 1000);
	driver_expect(driver, 2, 512);
	/* Room for two of four. */
	for (int i = 0; i < 4; i++)
		frames[i] = make_frame(&samples[i], pattern, 60, 0);
	driver_offer_one(driver, 0, LOW, 1000, WRITE);
	driver_offer_one(driver, 1, LOW + 1000, 1000, WRITE);
	virtqueue_tx_burst(&driver->vq, frames, 4, &outcome);
	assert_int_equal(outcome.packets, 2);
	assert_int_equal(outcome.too_long, 0);
	driver_expect(driver, 0, 72);
	driver_expect(driver, 1, 72);
	driver_expect_none(driver);
	driver_free(driver);
}

/* All that a small ring can hold is not enough: that frame is lost, those behind it are not. */
static void ring_too_small(void **state)
{
	struct driver *driver = driver_new(4, MERGEABLE, 65533);
	struct tx_outcome outcome = { 0 };
	struct sample samples[3];
	struct frame *frames[3];

	(void)state;
	for (uint16_t i = 0; i < 4; i++)
		driver_offer_one(driver, i, LOW + 1000u * i, 1000, WRITE);
	frames[0] = make_frame(&samples[0], pattern, 60, 0);
	frames[1] = make_frame(&samples[1], pattern, 3989, 1);
	frames[2] = make_frame(&samples[2], pattern, 60, 0);
	virtqueue_tx_burst(&driver->vq, frames + 1, 2, &outcome);
	assert_int_equal(outcome.packets, 1);
	assert_int_equal(outcome.too_long, 1);
	driver_expect(driver, 0, 72);
	driver_expect_none(driver);
	driver_offer_one(driver, 0, LOW, 1000, WRITE);
	send_well(driver, 3988);
	for (uint16_t i = 1; i < 4; i++)
		driver_expect(driver, i, 1000);
	driver_expect(driver, 0, 1000);
	driver_free(driver);
}

/* What makes a receive chain malformed; driver->desc[1] is spoilt, or what it leads to. */
static const struct vring_desc bad_buffers[] = {
	{ LOW, 2000, 0, 0 },                       /* to be read */
	{ LOW, 0, WRITE, 0 },                      /* empty */
	{ LOW - 1, 2000, WRITE, 0 },               /* not mapped */
	{ END - 20, 2000, WRITE, 0 },              /* leaves the memory */
	{ END, 2000, WRITE, 0 },
	{ UINT64_MAX - 20, 2000, WRITE, 0 },       /* wraps */
	{ LOW, 20, WRITE | NEXT, 8 },              /* goes on outside of the table */
	{ LOW, 20, WRITE | NEXT, 1 },              /* goes on for ever */
	{ LOW, 16, VRING_DESC_F_INDIRECT, 0 },     /* not negotiated */
};

static void malformed(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(bad_buffers) / sizeof(bad_buffers[0]); i++) {
		struct driver *driver = driver_new(8, VERSION_1, 65535);

		driver->desc[1] = bad_buffers[i];
		driver_offer(driver, 1);
		driver_offer_one(driver, 2, HIGH, 2000, WRITE);
		send_well(driver, 1514);
		driver_expect(driver, 1, 0);
		driver_expect(driver, 2, 1526);
		assert_int_equal(driver->vq.malformed, 1);
		assert_int_equal(driver->vq.fault, VIRTQUEUE_OK);
		/* Alone: it comes back, the frame finds no room. */
		driver_offer(driver, 1);
		send_in_vain(driver, 1514, 0);
		driver_expect(driver, 1, 0);
		driver_expect_none(driver);
		assert_true(virtqueue_wants_interrupt(&driver->vq));
		driver_free(driver);
	}
}

/* In the middle of a mergeable set: the chains before it go back empty too, in order. */
static void malformed_in_set(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(bad_buffers) / sizeof(bad_buffers[0]); i++) {
		struct driver *driver = driver_new(8, MERGEABLE, 65535);

		driver_offer_one(driver, 4, LOW + 5000, 100, WRITE);
		driver_offer_one(driver, 0, LOW + 5100, 100, WRITE);
		driver->desc[1] = bad_buffers[i];
		driver_offer(driver, 1);
		driver_offer_one(driver, 2, HIGH, 1000, WRITE);
		driver_offer_one(driver, 3, HIGH + 1000, 1000, WRITE);
		send_well(driver, 1514);
		driver_expect(driver, 4, 0);
		driver_expect(driver, 0, 0);
		driver_expect(driver, 1, 0);
		driver_expect(driver, 2, 1000);
		driver_expect(driver, 3, 526);
		driver_expect_none(driver);
		expect_header(driver_at(driver, HIGH), 12, 2);
		assert_memory_equal(driver_at(driver, HIGH) + 12, pattern, 1514);
		assert_int_equal(driver_at(driver, LOW + 5000)[0], UNTOUCHED);
		assert_int_equal(driver->vq.malformed, 1);
		driver_free(driver);
	}
}

/* A buffer in more pieces than the switch follows takes small frames only. */
static void many_pieces(void **state)
{
	struct driver *driver = driver_new(4096, MERGEABLE, 0);

	(void)state;
	for (uint16_t i = 0; i < 2000; i++)
		driver_desc(driver, i, LOW + i, 1, WRITE | (i < 1999 ? NEXT : 0),
			    (uint16_t)(i + 1));
	driver_offer(driver, 0);
	send_in_vain(driver, VIRTQUEUE_PIECES_MAX - 12 + 1, 1);
	driver_expect_none(driver);
	send_well(driver, VIRTQUEUE_PIECES_MAX - 12);
	driver_expect(driver, 0, VIRTQUEUE_PIECES_MAX);
	assert_memory_equal(driver_at(driver, LOW) + 12, pattern, VIRTQUEUE_PIECES_MAX - 12);
	driver_free(driver);
}

/* A ring full of worthless chains is worked off a bounded number of descriptors at a time. */
static void worthless_chains(void **state)
{
	struct driver *driver = driver_new(1024, MERGEABLE, 65000);
	uint32_t calls = 0;

	(void)state;
	/* Each is good for a while, and bad behind that. */
	for (uint16_t i = 0; i < 1023; i++)
		driver_desc(driver, i, LOW, 1, WRITE | NEXT, (uint16_t)(i + 1));
	driver_desc(driver, 1023, LOW, 1, 0, 0);
	for (uint16_t i = 0; i < 1024; i++)
		driver_offer(driver, (uint16_t)(i % 64));
	while ((uint16_t)(driver->posted - driver->used->idx) > 0) {
		send_in_vain(driver, 60000, 0);
		assert_true(driver->vq.walked <= VIRTQUEUE_WALK_MAX + VIRTQUEUE_PIECES_MAX);
		calls++;
		assert_in_range(calls, 1, 1024);
	}
	assert_true(calls > 1024 * 960 / (VIRTQUEUE_WALK_MAX + VIRTQUEUE_PIECES_MAX));
	assert_int_equal(driver->vq.malformed, 1024);
	for (uint16_t i = 0; i < 1024; i++)
		driver_expect(driver, i % 64, 0);
	driver_free(driver);
}

/* Far more buffers than a burst needs, over the wrap of the indices: used in order, each once. */
static void long_queue(void **state)
{
	struct driver *driver = driver_new(256, VERSION_1, 65400);
	struct sample samples[BURST_MAX];
	struct frame *frames[BURST_MAX];
	uint16_t next = 0;

	(void)state;
	for (uint16_t i = 0; i < BURST_MAX; i++)
		frames[i] = make_frame(&samples[i], pattern, 60u + i, 0);
	for (int round = 0; round < 40; round++) {
		struct tx_outcome outcome = { 0 };
		uint16_t count = (uint16_t)(1 + round * 13 % BURST_MAX);

		while ((uint16_t)(driver->posted - driver->used->idx) < 256) {
			uint16_t index = (uint16_t)(driver->posted * 5 % 256);

			driver_offer_one(driver, index, LOW + 256u * index, 256, WRITE);
		}
		virtqueue_tx_burst(&driver->vq, frames, count, &outcome);
		assert_int_equal(outcome.packets, count);
		for (uint16_t i = 0; i < count; i++, next++) {
			uint16_t index = (uint16_t)((65400 + next) % 65536 * 5 % 256);

			driver_expect(driver, index, 72u + i);
			assert_memory_equal(driver_at(driver, LOW + 256u * index) + 12, pattern,
					    60u + i);
		}
		driver_expect_none(driver);
	}
	driver_free(driver);
}

/* The largest ring, full all the time: distances of 32,768 positions, and the indices' wrap. */
static void largest_ring(void **state)
{
	struct driver *driver = driver_new(VIRTQUEUE_SIZE_MAX, MERGEABLE, 40000);
	struct sample samples[BURST_MAX];
	struct frame *frames[BURST_MAX];
	struct tx_outcome outcome = { 0 };
	uint32_t sent = 0;

	(void)state;
	/* The last of each burst takes two buffers. */
	for (uint16_t i = 0; i < BURST_MAX; i++)
		frames[i] = make_frame(&samples[i], pattern, i + 1 < BURST_MAX ? 60 : 150,
				       i + 1 < BURST_MAX ? 0 : 1);
	while (sent < 2 * VIRTQUEUE_SIZE_MAX) {
		while ((uint16_t)(driver->posted - driver->used->idx) < VIRTQUEUE_SIZE_MAX)
			driver_offer_one(driver, driver->posted % VIRTQUEUE_SIZE_MAX,
					 LOW + 100u * (driver->posted % 1000), 100, WRITE);
		for (unsigned int step = 0; step < 3; step++)
			virtqueue_tx_expect(&driver->vq, step);
		virtqueue_tx_burst(&driver->vq, frames, BURST_MAX, &outcome);
		sent += BURST_MAX;
		assert_int_equal(outcome.packets, sent % 65536);
		for (uint16_t i = 0; i <= BURST_MAX; i++)
			driver_expect(driver, driver->seen % VIRTQUEUE_SIZE_MAX,
				      i + 1 < BURST_MAX ? 72 : i < BURST_MAX ? 100 : 62);
		driver_expect_none(driver);
	}
	assert_int_equal(driver->vq.fault, VIRTQUEUE_OK);
	driver_free(driver);
}

/* Buffers of all shapes in turns: what was looked at ahead must not be used out of turn. */
static void mixed_shapes(void **state)
{
	struct driver *driver = driver_new(64, MERGEABLE, 65530);
	struct sample samples[8];
	struct frame *frames[8];
	struct tx_outcome outcome = { 0 };

	(void)state;
	for (uint16_t i = 0; i < 8; i++)
		frames[i] = make_frame(&samples[i], pattern, i % 2 == 0 ? 60 : 300, i % 2);
	for (uint16_t i = 0; i < 8; i++) {
		driver_offer_one(driver, (uint16_t)(8 * i), LOW + 1000u * i, 100, WRITE);
		driver_desc(driver, (uint16_t)(8 * i + 1), LOW + 1000u * i + 100, 200, WRITE | NEXT,
			    (uint16_t)(8 * i + 2));
		driver_desc(driver, (uint16_t)(8 * i + 2), LOW + 1000u * i + 500, 200, WRITE, 0);
		driver_offer(driver, (uint16_t)(8 * i + 1));
	}
	virtqueue_tx_burst(&driver->vq, frames, 8, &outcome);
	assert_int_equal(outcome.packets, 8);
	/* 60 into 100; 300 into the chain behind; and so on. */
	for (uint16_t i = 0; i < 4; i++) {
		driver_expect(driver, (uint16_t)(8 * i), 72);
		driver_expect(driver, (uint16_t)(8 * i + 1), 312);
	}
	driver_expect_none(driver);
	driver_free(driver);
}

/* A frame that takes more chains than were seen ahead does not end the looking ahead. */
static void beyond_what_was_seen(void **state)
{
	struct driver *driver = driver_new(64, MERGEABLE, 65530);

	(void)state;
	driver_offer_one(driver, 0, LOW, 100, WRITE);
	send_in_vain(driver, 250, 0);
	driver_offer_one(driver, 1, LOW, 100, WRITE);
	driver_offer_one(driver, 2, LOW, 100, WRITE);
	send_well(driver, 250);
	for (uint16_t i = 0; i < 20; i++)
		driver_offer_one(driver, i, LOW, 2000, WRITE);
	for (int i = 0; i < 20; i++) {
		send_well(driver, 60);
		assert_int_equal(driver->vq.walked, 0); /* the short way */
	}
	driver_free(driver);
}

static void faults(void **state)
{
	struct driver *driver = driver_new(8, VERSION_1, 65535);

	(void)state;
	driver_offer_one(driver, 0, LOW, 2000, WRITE);
	driver_offer(driver, 8);
	driver_offer(driver, 0);
	send_well(driver, 60);
	driver_expect(driver, 0, 72);
	send_in_vain(driver, 60, 0);
	driver_expect_none(driver);
	assert_int_equal(driver->vq.fault, VIRTQUEUE_BAD_HEAD);
	driver_free(driver);

	driver = driver_new(8, VERSION_1, 65535);
	driver_offer_one(driver, 0, LOW, 2000, WRITE);
	driver->avail->idx = (uint16_t)(65535 + 9);
	send_in_vain(driver, 60, 0);
	assert_int_equal(driver->vq.fault, VIRTQUEUE_BAD_AVAIL);
	driver->avail->idx = driver->posted;
	send_in_vain(driver, 60, 0);
	driver_expect_none(driver);
	assert_int_equal(driver_at(driver, LOW)[0], UNTOUCHED);
	driver_free(driver);

	/* A head that does not exist, in the middle of a mergeable set. */
	driver = driver_new(8, MERGEABLE, 65535);
	driver_offer_one(driver, 0, LOW, 100, WRITE);
	driver_offer(driver, 65535);
	send_in_vain(driver, 200, 0);
	driver_expect_none(driver);
	assert_int_equal(driver->vq.fault, VIRTQUEUE_BAD_HEAD);
	driver_free(driver);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain),            cmocka_unit_test(offload_header),
		cmocka_unit_test(chained),          cmocka_unit_test(indirect),
		cmocka_unit_test(region_crossing),  cmocka_unit_test(mergeable),
		cmocka_unit_test(tiny_buffers),     cmocka_unit_test(largest_frame),
		cmocka_unit_test(not_mergeable_too_long), cmocka_unit_test(no_room),
		cmocka_unit_test(ring_too_small),   cmocka_unit_test(malformed),
		cmocka_unit_test(malformed_in_set), cmocka_unit_test(many_pieces),
		cmocka_unit_test(worthless_chains), cmocka_unit_test(long_queue),
		cmocka_unit_test(largest_ring),
		cmocka_unit_test(mixed_shapes),     cmocka_unit_test(beyond_what_was_seen),
		cmocka_unit_test(faults),
	};

	fill_pattern(pattern, sizeof(pattern));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
