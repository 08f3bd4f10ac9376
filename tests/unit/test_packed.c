/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtqueue/packed.c: taking a ring over, from a base or from the journal of a switch that died,
 * and the driver's wish for interrupts. test_packed_rx.c and test_packed_tx.c have the frames from
 * and to the guest.
 */
#include "virtqueue/virtqueue.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "packed_driver.h"

#define DISABLED VRING_PACKED_EVENT_FLAG_DISABLE

static void refuse(const struct virtqueue_setup *setup, const char *part)
{
	struct virtqueue vq = { .size = 77 };
	const char *reason = NULL;

	assert_int_equal(virtqueue_init(&vq, setup, &reason), -EINVAL);
	assert_non_null(strstr(reason, part));
	assert_int_equal(vq.size, 77);
}

static void geometry(void **state)
{
	static const uint32_t sizes[] = { 0, 32769, 65536, 0x80000000u, UINT32_MAX };
	struct driver *driver = driver_new(9, VERSION_1, WRAP);
	const struct virtqueue_setup good = driver_setup(driver, VERSION_1);
	struct virtqueue_setup bad;
	const char *reason;

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		bad = good;
		bad.size = sizes[i];
		refuse(&bad, "size");
	}
	bad = good, bad.desc = NULL;
	refuse(&bad, "not mapped");
	bad = good, bad.avail = NULL;
	refuse(&bad, "not mapped");
	bad = good, bad.used = NULL;
	refuse(&bad, "not mapped");
	bad = good, bad.desc = (uint8_t *)good.desc + 8;
	refuse(&bad, "aligned");
	bad = good, bad.avail = (uint8_t *)good.avail + 2;
	refuse(&bad, "aligned");
	bad = good, bad.used = (uint8_t *)good.used + 2;
	refuse(&bad, "aligned");
	bad = good, bad.desc = (uint8_t *)good.desc + 16;
	refuse(&bad, "descriptor ring");
	bad = good, bad.size = 10;
	refuse(&bad, "descriptor ring");
	bad = good, bad.avail = (uint8_t *)good.avail + 4;
	refuse(&bad, "driver event");
	bad = good, bad.used = (uint8_t *)good.used - 4;
	refuse(&bad, "device event");
	driver->memory.regions[3].size = 3;
	refuse(&good, "driver event");
	driver->memory.regions[3].size = 4;
	driver->memory.regions[4].size = 3;
	refuse(&good, "device event");
	driver->memory.regions[4].size = 4;
	bad = good, bad.base = 9;
	refuse(&bad, "base");
	bad = good, bad.base = WRAP | 9;
	refuse(&bad, "base");
	bad = good, bad.base = UINT16_MAX;
	refuse(&bad, "base");
	bad = good, bad.base = WRAP | 8;
	assert_int_equal(virtqueue_init(&driver->vq, &bad, &reason), 0);
	driver_free(driver);
}

static void kicks_are_suppressed(void **state)
{
	static const uint64_t features[] = { 0, EVENT_INDEX };

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct driver *driver = driver_new(8, features[i], WRAP | 3);

		assert_int_equal(driver->device_event->flags, DISABLED);
		driver_free(driver);
	}
}

/* Has a frame taken and given back, at the driver's place. */
static void serve_one(struct driver *driver)
{
	driver_put(driver, 1, LOW, 72, 0);
	assert_int_equal(driver_take(driver), 1);
	assert_int_equal(driver->burst->frames[0].length, 60);
	virtqueue_rx_release(&driver->vq);
	driver_expect(driver, 1, 0);
	driver_expect_all(driver);
}

static int attach(struct driver *driver, const struct virtqueue_setup *setup)
{
	const char *reason;

	return virtqueue_init(&driver->vq, setup, &reason);
}

/* A ring that is detached and attached with what it then says goes on there, at every place. */
static void base_round_trip(void **state)
{
	static const uint32_t sizes[] = { 1, 3, 256 };

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct driver *driver = driver_new(sizes[i], VERSION_1, WRAP);
		struct virtqueue_setup setup = driver_setup(driver, VERSION_1);

		assert_true(driver->vq.fresh);
		driver_write_frame(driver, LOW, 60);
		for (uint32_t j = 0; j < 3 * sizes[i]; j++) {
			serve_one(driver);
			setup.base = virtqueue_base(&driver->vq);
			assert_int_equal(setup.base, place_base(driver->post));
			assert_int_equal(attach(driver, &setup), 0);
			assert_int_equal(virtqueue_base(&driver->vq), setup.base);
			assert_int_equal(driver->vq.fresh, setup.base == VIRTQUEUE_BASE_FRESH);
		}
		driver_free(driver);
	}
}

/* A ring is seen to be in use when buffers wait at its start. */
static void spoken(void **state)
{
	struct driver *driver = driver_new(4, VERSION_1, WRAP | 3);
	struct virtqueue_setup setup = driver_setup(driver, VERSION_1);

	(void)state;
	setup.base = WRAP | 3;
	assert_false(driver->vq.spoken);
	driver_put(driver, 0, LOW, 100, WRITE);
	assert_int_equal(attach(driver, &setup), 0);
	assert_true(driver->vq.spoken);
	driver_free(driver);
}

/* The largest ring, full, over its end. */
static void largest_ring(void **state)
{
	struct driver *driver = driver_new(VIRTQUEUE_SIZE_MAX, VERSION_1, 32767);

	(void)state;
	driver_write_frame(driver, LOW, 60);
	for (uint32_t i = 0; i < VIRTQUEUE_SIZE_MAX; i++)
		driver_put(driver, (uint16_t)i, LOW, 72, 0);
	for (uint32_t i = 0; i < VIRTQUEUE_SIZE_MAX; i += 64) {
		assert_int_equal(driver_take(driver), 64);
		virtqueue_rx_release(&driver->vq);
	}
	assert_int_equal(driver_take(driver), 0);
	for (uint32_t i = 0; i < VIRTQUEUE_SIZE_MAX; i++)
		driver_expect(driver, (uint16_t)i, 0);
	driver_expect_all(driver);
	driver_free(driver);
}

/* ---- the driver's wish for interrupts ---- */

/* Publishes `count` used descriptors and asks whether the driver wants to know. */
static bool publish(struct driver *driver, uint16_t count)
{
	for (uint16_t i = 0; i < count; i++)
		driver_put(driver, i, LOW, 72, 0);
	assert_int_equal(driver_take(driver), count);
	virtqueue_rx_release(&driver->vq);
	for (uint16_t i = 0; i < count; i++)
		driver_expect(driver, i, 0);
	return virtqueue_wants_interrupt(&driver->vq);
}

static void event_flags(void **state)
{
	(void)state;
	for (int indexed = 0; indexed < 2; indexed++) {
		struct driver *driver = driver_new(5, indexed ? EVENT_INDEX : 0, WRAP | 3);

		driver_write_frame(driver, LOW, 60);
		assert_false(virtqueue_wants_interrupt(&driver->vq));
		driver->driver_event->flags = VRING_PACKED_EVENT_FLAG_ENABLE;
		assert_true(publish(driver, 1));
		assert_false(virtqueue_wants_interrupt(&driver->vq));
		driver->driver_event->flags = DISABLED;
		assert_false(publish(driver, 3));
		/* Not to be used without event index, nor is 3 ever: then one too many. */
		driver->driver_event->flags = VRING_PACKED_EVENT_FLAG_DESC;
		driver->driver_event->off_wrap = place_base(place_after(driver, driver->post, 3));
		assert_int_equal(publish(driver, 1), !indexed);
		driver->driver_event->flags = 3;
		assert_true(publish(driver, 1));
		driver_free(driver);
	}
}

/*
 * virtio 1.2, 2.8.14: when the descriptor that the driver named has been used, at any place of the
 * ring, in this round, the last, or the next.
 */
static void event_index(void **state)
{
	(void)state;
	for (uint16_t base = 0; base < 32; base++) {
		for (uint16_t event = 0; event < 10; event++) {
			uint16_t start = (uint16_t)(base % 16 | (base < 16 ? 0 : WRAP));
			struct driver *driver = driver_new(16, EVENT_INDEX, start);

			driver_write_frame(driver, LOW, 60);
			driver->driver_event->off_wrap =
				place_base(place_after(driver, place(start), event));
			driver->driver_event->flags = VRING_PACKED_EVENT_FLAG_DESC;
			assert_false(virtqueue_wants_interrupt(&driver->vq));
			assert_int_equal(publish(driver, 5), event < 5);
			assert_false(virtqueue_wants_interrupt(&driver->vq));
			assert_int_equal(publish(driver, 1), event == 5);
			assert_int_equal(publish(driver, 2), event == 6 || event == 7);
			/* Two publications before the driver's wish is looked at. */
			driver->driver_event->flags = DISABLED;
			publish(driver, 1);
			driver->driver_event->off_wrap = place_base(driver->post);
			driver->driver_event->flags = VRING_PACKED_EVENT_FLAG_DESC;
			driver_put(driver, 1, LOW, 72, 0);
			assert_int_equal(driver_take(driver), 1);
			virtqueue_rx_release(&driver->vq);
			driver_expect(driver, 1, 0);
			assert_true(publish(driver, 2));
			driver_free(driver);
		}
	}
}

/* The descriptor may lie inside of a chain, or of a batch that one used descriptor stands for. */
static void event_inside(void **state)
{
	(void)state;
	for (int batch = 0; batch < 2; batch++) {
		for (uint16_t event = 0; event < 6; event++) {
			struct driver *driver =
				driver_new(8, EVENT_INDEX | (batch ? IN_ORDER : 0), WRAP | 5);

			driver->driver_event->off_wrap =
				place_base(place_after(driver, driver->post, event));
			driver->driver_event->flags = VRING_PACKED_EVENT_FLAG_DESC;
			driver_write_frame(driver, LOW, 60);
			for (int i = 0; i < 4; i++)
				driver_put(driver, 1, LOW + 18u * (batch ? 0u : (unsigned int)i),
					   batch ? 72 : 18, i < 3 && !batch ? NEXT : 0);
			assert_int_equal(driver_take(driver), batch ? 4 : 1);
			virtqueue_rx_release(&driver->vq);
			assert_int_equal(virtqueue_wants_interrupt(&driver->vq), event < 4);
			driver_free(driver);
		}
	}
}

/* ---- the journal of a switch that died ---- */

/* What outlives a switch: the ring and the journal. */
struct image {
	struct vring_packed_desc ring[16];
	uint64_t journal;
};

static void save(const struct driver *driver, struct image *image)
{
	memcpy(image->ring, driver->ring, sizeof(*driver->ring) * driver->size);
	image->journal = driver->journal;
}

static void restore(struct driver *driver, const struct image *image)
{
	memcpy(driver->ring, image->ring, sizeof(*driver->ring) * driver->size);
	driver->journal = image->journal;
}

/* Another switch takes the ring over; what the VMM says of its base is wrong. */
static void revive(struct driver *driver, uint64_t features)
{
	struct virtqueue_setup setup = driver_setup(driver, features);

	setup.base = VIRTQUEUE_BASE_FRESH;
	setup.recover = true;
	assert_int_equal(attach(driver, &setup), 0);
}

/* Goes on where the last switch was, and the ring is not fresh. */
static void recovered_at_rest(void **state)
{
	static const uint32_t sizes[] = { 1, 3, 16 };

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct driver *driver = driver_new(sizes[i], VERSION_1, WRAP);

		driver_write_frame(driver, LOW, 60);
		assert_int_not_equal(driver->journal, VIRTQUEUE_JOURNAL_NONE);
		for (uint32_t j = 0; j < 3 * sizes[i]; j++) {
			serve_one(driver);
			revive(driver, VERSION_1);
			assert_int_equal(virtqueue_base(&driver->vq), place_base(driver->post));
			assert_false(driver->vq.fresh);
			driver_expect_none(driver);
			assert_int_equal(driver->device_event->flags, DISABLED);
		}
		driver_free(driver);
	}
}

/* The same if the switch died asleep. */
static void recovered_while_armed(void **state)
{
	static const uint64_t features[] = { VERSION_1, VERSION_1 | EVENT_INDEX };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct driver *driver = driver_new(3, features[i], WRAP);

		driver_write_frame(driver, LOW, 60);
		for (uint32_t j = 0; j < 12; j++) {
			serve_one(driver);
			virtqueue_arm(&driver->vq);
			revive(driver, features[i]);
			assert_int_equal(virtqueue_base(&driver->vq), place_base(driver->post));
			assert_int_equal(driver->device_event->flags, DISABLED);
		}
		driver_free(driver);
	}
}

static void kicks_are_asked_for(void **state)
{
	struct driver *driver = driver_new(3, VERSION_1 | EVENT_INDEX, WRAP);
	struct virtqueue_setup setup;

	(void)state;
	driver_write_frame(driver, LOW, 60);
	serve_one(driver);
	serve_one(driver);
	virtqueue_arm(&driver->vq);
	assert_int_equal(driver->device_event->flags, VRING_PACKED_EVENT_FLAG_DESC);
	assert_int_equal(driver->device_event->off_wrap, WRAP | 2);
	assert_false(virtqueue_is_waiting(&driver->vq));
	assert_int_equal(driver_take(driver), 0);
	assert_int_equal(driver->device_event->flags, VRING_PACKED_EVENT_FLAG_DESC);
	driver_put(driver, 0, LOW, 72, 0);
	assert_true(virtqueue_is_waiting(&driver->vq));
	assert_int_equal(driver_take(driver), 1);
	assert_int_equal(driver->device_event->flags, DISABLED);
	assert_false(virtqueue_is_waiting(&driver->vq));
	virtqueue_rx_release(&driver->vq);
	virtqueue_arm(&driver->vq);
	assert_int_equal(driver->device_event->off_wrap, 0);
	/* Without event index, and marked as written. */
	setup = driver_setup(driver, VERSION_1);
	setup.base = place_base(driver->post);
	setup.log = driver_log(driver);
	assert_int_equal(attach(driver, &setup), 0);
	assert_true(driver_dirty(driver, USED));
	assert_false(driver_dirty(driver, USED));
	virtqueue_arm(&driver->vq);
	assert_int_equal(driver->device_event->flags, VRING_PACKED_EVENT_FLAG_ENABLE);
	assert_true(driver_dirty(driver, USED));
	/* Once is enough. */
	virtqueue_arm(&driver->vq);
	assert_false(driver_dirty(driver, USED));
	driver_free(driver);
}

/* Frames that were taken and not given back when the switch died come again. */
static void recovered_before_release(void **state)
{
	struct driver *driver = driver_new(5, VERSION_1, WRAP | 3);

	(void)state;
	driver_write_frame(driver, LOW, 60);
	serve_one(driver);
	for (uint16_t i = 0; i < 3; i++)
		driver_put(driver, i, LOW, 72, 0);
	assert_int_equal(driver_take(driver), 3);
	revive(driver, VERSION_1);
	driver_expect_none(driver);
	assert_int_equal(driver_take(driver), 3);
	virtqueue_rx_release(&driver->vq);
	for (uint16_t i = 0; i < 3; i++)
		driver_expect(driver, i, 0);
	driver_expect_all(driver);
	driver_free(driver);
}

/* When the base is to be used after all. */
static void not_recovered(void **state)
{
	struct driver *driver = driver_new(5, VERSION_1, WRAP | 3);
	struct virtqueue_setup setup = driver_setup(driver, VERSION_1);
	uint64_t journal;

	(void)state;
	driver_write_frame(driver, LOW, 60);
	serve_one(driver);
	journal = driver->journal;
	setup.base = 2;

	/* It was not asked for: then the journal is begun anew, and keeps what it says. */
	assert_int_equal(attach(driver, &setup), 0);
	assert_int_equal(virtqueue_base(&driver->vq), 2);
	assert_int_not_equal(driver->journal, journal);
	revive(driver, VERSION_1);
	assert_int_equal(virtqueue_base(&driver->vq), 2);

	/* No journal, an empty one, one of a longer ring. */
	setup.recover = true;
	setup.journal = NULL;
	assert_int_equal(attach(driver, &setup), 0);
	assert_int_equal(virtqueue_base(&driver->vq), 2);
	setup.journal = &driver->journal;
	driver->journal = VIRTQUEUE_JOURNAL_NONE;
	assert_int_equal(attach(driver, &setup), 0);
	assert_int_equal(virtqueue_base(&driver->vq), 2);
	driver->journal = journal;
	setup.size = 4;
	assert_int_equal(attach(driver, &setup), 0);
	assert_int_equal(virtqueue_base(&driver->vq), 2);
	setup.size = 5;

	/* The driver has reset the ring: our sign in it is gone. */
	driver->journal = journal;
	assert_int_equal(attach(driver, &setup), 0);
	assert_int_equal(virtqueue_base(&driver->vq), WRAP | 4);
	memset(driver->device_event, 0, 4);
	setup.base = VIRTQUEUE_BASE_FRESH;
	assert_int_equal(attach(driver, &setup), 0);
	assert_int_equal(virtqueue_base(&driver->vq), VIRTQUEUE_BASE_FRESH);
	assert_true(driver->vq.fresh);
	driver_free(driver);
}

/* A journal that no switch wrote leads to no walk beyond the ring, and to no position in it. */
static void worthless_journal(void **state)
{
	struct driver *driver = driver_new(5, VERSION_1, WRAP | 3);
	struct virtqueue_setup setup = driver_setup(driver, VERSION_1);

	(void)state;
	setup.base = 2;
	setup.recover = true;
	for (uint32_t bases = 0; bases < 4 * 64; bases++) {
		uint16_t first = (uint16_t)(bases % 8 | (bases & 64 ? WRAP : 0));
		uint16_t next = (uint16_t)(bases / 8 % 8 | (bases & 128 ? WRAP : 0));
		bool same = (first & WRAP) == (next & WRAP);
		bool good = bases % 8 < 5 && bases / 8 % 8 < 5 &&
			    (same ? bases % 8 <= bases / 8 % 8 : bases % 8 >= bases / 8 % 8);

		for (int i = 0; i < 5; i++)
			driver->ring[i].flags = i % 2 ? AVAIL_FLAG : USED_FLAG;
		driver->journal = 1ull << 63 | (uint64_t)next << 16 | first;
		assert_int_equal(attach(driver, &setup), 0);
		assert_int_equal(virtqueue_base(&driver->vq), good ? next : 2);
	}
	driver_free(driver);
}

#define CHAINS 4

/* Four chains of 1, 3, 1 and 2 slots, whose ids are 10 to 13. */
static void put_burst(struct driver *driver, uint16_t flags)
{
	static const uint16_t slots[CHAINS] = { 1, 3, 1, 2 };

	for (uint16_t i = 0; i < CHAINS; i++)
		for (uint16_t j = 0; j < slots[i]; j++)
			driver_put(driver, (uint16_t)(10 + i), LOW + 24 * j, j == 0 ? 24 : 60,
				   (uint16_t)(flags | (j + 1 < slots[i] ? NEXT : 0)));
}

/*
 * The switch died when it had written the last `written` of its returns, which are those where
 * `before` and `after` differ. It writes the last one first.
 */
static void tear(struct driver *driver, const struct image *before, const struct image *after,
		 struct virtqueue_position from, unsigned int written)
{
	struct virtqueue_position at = from;
	struct vring_packed_desc *heads[16];
	unsigned int count = 0;

	restore(driver, after);
	for (uint32_t i = 0; i < driver->size; i++) {
		if (memcmp(&before->ring[at.slot], &after->ring[at.slot], 16) != 0)
			heads[count++] = &driver->ring[at.slot];
		at = place_after(driver, at, 1);
	}
	assert_true(count >= written);
	for (unsigned int i = 0; i < count - written; i++)
		*heads[i] = before->ring[heads[i] - driver->ring];
}

/* All chains of the burst are back, once, and the ring goes on behind them. */
static void expect_burst(struct driver *driver, const uint32_t *lengths)
{
	for (uint16_t i = 0; i < CHAINS; i++)
		driver_expect(driver, (uint16_t)(10 + i), lengths[i]);
	driver_expect_all(driver);
}

static const uint32_t empty[CHAINS];

/*
 * Death before, between and after the words of a return, once and twice, at each place of the ring:
 * every chain comes back exactly once. What the guest sent is lost or was forwarded.
 */
static void torn_receive(void **state)
{
	struct image before, after, second;

	(void)state;
	for (uint16_t base = 0; base < 11; base++) {
		for (unsigned int written = 0; written <= CHAINS; written++) {
			for (unsigned int again = written; again <= CHAINS; again++) {
				struct driver *driver = driver_new(11, VERSION_1, base);

				driver_write_frame(driver, LOW, 200);
				put_burst(driver, 0);
				assert_int_equal(driver_take(driver), CHAINS);
				save(driver, &before);
				virtqueue_rx_release(&driver->vq);
				save(driver, &after);
				tear(driver, &before, &after, place(base), written);
				save(driver, &before);
				revive(driver, VERSION_1);
				if (again > written) {
					/* And died again while it completed that. */
					save(driver, &second);
					second.journal = before.journal;
					tear(driver, &before, &second, place(base),
					     again - written);
					revive(driver, VERSION_1);
				}
				expect_burst(driver, empty);
				driver_put(driver, 1, LOW, 72, 0);
				assert_int_equal(driver_take(driver), 1);
				virtqueue_rx_release(&driver->vq);
				driver_expect(driver, 1, 0);
				driver_expect_all(driver);
				driver_free(driver);
			}
		}
	}
}

/* Of a batch in order there is one word: nothing of it was written, or all. */
static void torn_batch(void **state)
{
	struct image before, after;

	(void)state;
	for (unsigned int written = 0; written < 2; written++) {
		struct driver *driver = driver_new(11, VERSION_1 | IN_ORDER, 8);

		driver_write_frame(driver, LOW, 200);
		put_burst(driver, 0);
		assert_int_equal(driver_take(driver), CHAINS);
		save(driver, &before);
		virtqueue_rx_release(&driver->vq);
		save(driver, &after);
		tear(driver, &before, &after, place(8), written);
		revive(driver, VERSION_1 | IN_ORDER);
		if (written == 0) {
			expect_burst(driver, empty);
		} else {
			driver->slots[13] = 7;
			driver_expect(driver, 13, 0);
			driver_expect_all(driver);
		}
		driver_free(driver);
	}
}

/*
 * A frame over four chains to the guest: it gets all of it, or four empty buffers. Never a part,
 * whose first bytes the guest would take for an offload header.
 */
static void torn_mergeable(void **state)
{
	static const uint32_t lengths[CHAINS] = { 24, 144, 24, 20 };
	struct image before, after, second;

	(void)state;
	for (uint16_t base = 0; base < 11; base++) {
		for (unsigned int written = 0; written <= CHAINS; written++) {
			for (unsigned int again = 0; again <= CHAINS; again++) {
				struct driver *driver = driver_new(11, MERGEABLE, base);

				put_burst(driver, WRITE);
				save(driver, &before);
				send_well(driver, 200);
				save(driver, &after);
				tear(driver, &before, &after, place(base), written);
				save(driver, &before);
				revive(driver, MERGEABLE);
				if (written < CHAINS && again < CHAINS) {
					save(driver, &second);
					second.journal = before.journal;
					tear(driver, &before, &second, place(base), again);
					revive(driver, MERGEABLE);
				}
				expect_burst(driver, written == CHAINS ? lengths : empty);
				driver_free(driver);
			}
		}
	}
}

/* ---- dying at a store ---- */

#define PAGE 4096

static sigjmp_buf dead;

static void die(int signal)
{
	(void)signal;
	siglongjmp(dead, 1);
}

/* Runs what writes to the ring, whose first page cannot be written. True if it died there. */
static bool dies(struct driver *driver, void (*run)(struct driver *driver))
{
	const struct sigaction action = { .sa_handler = die };
	struct sigaction before;
	volatile bool died = true;

	assert_int_equal(mprotect(driver->ring, PAGE, PROT_READ), 0);
	sigaction(SIGSEGV, &action, &before);
	if (sigsetjmp(dead, 1) == 0) {
		run(driver);
		died = false;
	}
	sigaction(SIGSEGV, &before, NULL);
	assert_int_equal(mprotect(driver->ring, PAGE, PROT_READ | PROT_WRITE), 0);
	return died;
}

static void run_release(struct driver *driver)
{
	virtqueue_rx_release(&driver->vq);
}

static void run_revive(struct driver *driver)
{
	revive(driver, VERSION_1);
}

/*
 * Chains on both sides of a page's end: those behind it are returned first, whether by the switch
 * or by the one that completes it, and the journal was written before all of them.
 */
static void last_one_first(void **state)
{
	struct driver *driver = driver_new(2 * PAGE / 16, VERSION_1, WRAP | (PAGE / 16 - 2));
	struct virtqueue_setup setup = driver_setup(driver, VERSION_1);
	uint8_t *ring = aligned_alloc(PAGE, 2 * PAGE);

	(void)state;
	assert_non_null(ring);
	memcpy(ring, driver->ring, 2 * PAGE);
	free(driver->memory.regions[2].host);
	driver->memory.regions[2].host = ring;
	driver->ring = (struct vring_packed_desc *)ring;
	setup.desc = ring;
	setup.base = WRAP | (PAGE / 16 - 2);
	assert_int_equal(attach(driver, &setup), 0);

	driver_write_frame(driver, LOW, 60);
	for (uint16_t i = 0; i < 4; i++)
		driver_put(driver, i, LOW, 72, 0);
	assert_int_equal(driver_take(driver), 4);
	for (int i = 0; i < 2; i++) {
		assert_true(dies(driver, i == 0 ? run_release : run_revive));
		driver_expect_none(driver);
		assert_int_equal(driver->ring[PAGE / 16].flags, AVAIL_FLAG | USED_FLAG);
		assert_int_equal(driver->ring[PAGE / 16 + 1].flags, AVAIL_FLAG | USED_FLAG);
		assert_int_equal(driver->ring[PAGE / 16 - 1].flags, AVAIL_FLAG);
	}
	revive(driver, VERSION_1);
	for (uint16_t i = 0; i < 4; i++)
		driver_expect(driver, i, 0);
	driver_expect_all(driver);
	driver_free(driver);
}

/* A chain that does not end any more when it is to be completed costs its driver the ring. */
static void torn_and_endless(void **state)
{
	struct driver *driver = driver_new(7, VERSION_1, WRAP | 2);
	struct image before, after;

	(void)state;
	driver_write_frame(driver, LOW, 200);
	put_burst(driver, 0);
	assert_int_equal(driver_take(driver), CHAINS);
	save(driver, &before);
	virtqueue_rx_release(&driver->vq);
	save(driver, &after);
	tear(driver, &before, &after, place(WRAP | 2), 0);
	for (int i = 0; i < 7; i++)
		driver->ring[i].flags |= NEXT;
	revive(driver, VERSION_1);
	assert_int_equal(driver->vq.fault, VIRTQUEUE_BAD_CHAIN);
	assert_int_equal(driver_take(driver), 0);
	driver_expect_none(driver);
	driver_free(driver);
}

/* What is completed is marked, too. */
static void torn_and_logged(void **state)
{
	struct driver *driver = driver_new(11, VERSION_1, WRAP);
	struct virtqueue_setup setup = driver_setup(driver, VERSION_1);
	struct image before, after;

	(void)state;
	driver_write_frame(driver, LOW, 200);
	put_burst(driver, 0);
	assert_int_equal(driver_take(driver), CHAINS);
	save(driver, &before);
	virtqueue_rx_release(&driver->vq);
	save(driver, &after);
	tear(driver, &before, &after, place(WRAP), 1);
	setup.recover = true;
	setup.log = driver_log(driver);
	assert_int_equal(attach(driver, &setup), 0);
	assert_true(driver_dirty(driver, DESC));
	assert_true(driver_dirty(driver, USED));
	driver_expect_clean(driver);
	expect_burst(driver, empty);
	driver_free(driver);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(geometry),
		cmocka_unit_test(kicks_are_suppressed),
		cmocka_unit_test(base_round_trip),
		cmocka_unit_test(spoken),
		cmocka_unit_test(largest_ring),
		cmocka_unit_test(event_flags),
		cmocka_unit_test(event_index),
		cmocka_unit_test(event_inside),
		cmocka_unit_test(recovered_at_rest),
		cmocka_unit_test(recovered_while_armed),
		cmocka_unit_test(kicks_are_asked_for),
		cmocka_unit_test(recovered_before_release),
		cmocka_unit_test(not_recovered),
		cmocka_unit_test(worthless_journal),
		cmocka_unit_test(torn_receive),
		cmocka_unit_test(torn_batch),
		cmocka_unit_test(torn_mergeable),
		cmocka_unit_test(last_one_first),
		cmocka_unit_test(torn_and_endless),
		cmocka_unit_test(torn_and_logged),
	};

	fill_pattern(pattern, sizeof(pattern));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
