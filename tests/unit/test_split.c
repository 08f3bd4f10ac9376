/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtqueue/split.c: taking a ring over, its sizes and indices, the guest's wish for interrupts,
 * and what of a ring the dirty log sees. test_split_rx.c and test_split_tx.c have the frames from
 * and to the guest.
 */
#include "virtqueue/virtqueue.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "split_driver.h"

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
	static const uint32_t sizes[] = { 0, 3, 255, 257, 65536, 0x80000000u, UINT32_MAX };
	struct driver *driver = driver_new(8, VERSION_1, 0);
	const struct virtqueue_setup good = driver_setup(driver, VERSION_1 | EVENT_INDEX);
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
	bad = good, bad.avail = (uint8_t *)good.avail + 1;
	refuse(&bad, "aligned");
	bad = good, bad.used = (uint8_t *)good.used + 2;
	refuse(&bad, "aligned");
	bad = good, bad.desc = (uint8_t *)good.desc + 16;
	refuse(&bad, "descriptor table");
	bad = good, bad.avail = (uint8_t *)good.avail + 2;
	refuse(&bad, "available ring");
	bad = good, bad.used = (uint8_t *)good.used + 4;
	refuse(&bad, "used ring");
	bad = good, bad.size = 16;
	refuse(&bad, "descriptor table");

	/* The last two bytes of each ring are needed with event index only. */
	driver->memory.regions[3].size -= 2;
	refuse(&good, "available ring");
	driver->memory.regions[3].size += 2;
	driver->memory.regions[4].size -= 2;
	refuse(&good, "used ring");
	driver->memory.regions[3].size -= 2;
	bad = good, bad.features = VERSION_1;
	assert_int_equal(virtqueue_init(&driver->vq, &bad, &reason), 0);
	driver_free(driver);
}

/* A switch that starts again goes on where the used index says, whatever the available index is. */
static void takeover(void **state)
{
	struct driver *driver = driver_new(8, VERSION_1, 0);
	struct virtqueue_setup setup = driver_setup(driver, VERSION_1);
	const char *reason;

	(void)state;
	driver_write_frame(driver, LOW, 60);
	for (uint16_t i = 0; i < 3; i++)
		driver_offer_one(driver, i, LOW, 72, 0);
	driver->used->idx = 2;
	assert_int_equal(virtqueue_init(&driver->vq, &setup, &reason), 0);
	assert_int_equal(driver_take(driver), 1);
	virtqueue_rx_release(&driver->vq);
	driver->seen = 2;
	driver_expect(driver, 2, 0);
	driver_expect_none(driver);
	driver_free(driver);
}

static void kicks_are_suppressed(void **state)
{
	struct driver *driver = driver_new(8, VERSION_1, 100);
	uint16_t avail_event;

	(void)state;
	assert_int_equal(driver->used->flags, VRING_USED_F_NO_NOTIFY);
	driver_free(driver);

	driver = driver_new(8, VERSION_1 | EVENT_INDEX, 100);
	assert_int_equal(driver->used->flags, 0);
	/* The driver kicks when its index passes this one: in 65,536 entries. */
	memcpy(&avail_event, &driver->used->ring[8], sizeof(avail_event));
	assert_int_equal(avail_event, 99);
	driver_free(driver);
}

static uint16_t avail_event_of(const struct driver *driver)
{
	uint16_t event;

	memcpy(&event, &driver->used->ring[driver->size], sizeof(event));
	return event;
}

static void kicks_are_asked_for(void **state)
{
	struct driver *driver = driver_new(8, VERSION_1, 100);

	(void)state;
	driver_write_frame(driver, LOW, 60);
	virtqueue_arm(&driver->vq);
	assert_int_equal(driver->used->flags, 0);
	assert_false(virtqueue_is_waiting(&driver->vq));
	assert_int_equal(driver_take(driver), 0);
	assert_int_equal(driver->used->flags, 0);
	driver_offer_one(driver, 0, LOW, 72, 0);
	assert_true(virtqueue_is_waiting(&driver->vq));
	assert_int_equal(driver_take(driver), 1);
	assert_int_equal(driver->used->flags, VRING_USED_F_NO_NOTIFY);
	assert_false(virtqueue_is_waiting(&driver->vq));
	driver_free(driver);

	driver = driver_new(8, VERSION_1 | EVENT_INDEX, 100);
	driver->vq.log = driver_log(driver);
	driver_write_frame(driver, LOW, 60);
	virtqueue_arm(&driver->vq);
	assert_int_equal(driver->used->flags, 0);
	assert_int_equal(avail_event_of(driver), 100);
	assert_true(driver_dirty(driver, USED));
	driver_offer_one(driver, 0, LOW, 72, 0);
	assert_int_equal(driver_take(driver), 1);
	assert_int_equal(avail_event_of(driver), 100);
	virtqueue_rx_release(&driver->vq);
	virtqueue_arm(&driver->vq);
	assert_int_equal(avail_event_of(driver), 101);
	/* A ring that cannot be trusted has nothing that anybody could wait for. */
	driver->avail->idx = 1000;
	assert_false(virtqueue_is_waiting(&driver->vq));
	assert_int_equal(driver->vq.fault, VIRTQUEUE_BAD_AVAIL);
	assert_false(virtqueue_is_waiting(&driver->vq));
	driver_free(driver);
}

static void limits_of_a_burst(void **state)
{
	struct driver *driver = driver_new(128, VERSION_1, 65500);

	(void)state;
	driver_write_frame(driver, LOW, 60);
	for (uint16_t i = 0; i < 128; i++)
		driver_offer_one(driver, i, LOW, 72, 0);
	assert_int_equal(virtqueue_rx_burst(&driver->vq, driver->burst, 1), 1);
	virtqueue_rx_release(&driver->vq);
	assert_int_equal(driver_take(driver), 64);
	virtqueue_rx_release(&driver->vq);
	assert_int_equal(driver_take(driver), 63);
	virtqueue_rx_release(&driver->vq);
	for (uint16_t i = 0; i < 128; i++)
		driver_expect(driver, i, 0);
	driver_expect_none(driver);
	driver_free(driver);
}

/* The smallest and the largest ring, full. */
static void extreme_sizes(void **state)
{
	struct driver *driver = driver_new(1, VERSION_1, 65535);

	(void)state;
	driver_write_frame(driver, LOW, 60);
	for (int i = 0; i < 3; i++) {
		driver_offer_one(driver, 0, LOW, 72, 0);
		assert_int_equal(driver_take(driver), 1);
		assert_int_equal(driver->burst->frames[0].length, 60);
		virtqueue_rx_release(&driver->vq);
		driver_expect(driver, 0, 0);
	}
	driver_free(driver);

	driver = driver_new(VIRTQUEUE_SIZE_MAX, VERSION_1, 40000);
	driver_write_frame(driver, LOW, 60);
	for (uint32_t i = 0; i < VIRTQUEUE_SIZE_MAX; i++)
		driver_offer_one(driver, (uint16_t)i, LOW, 72, 0);
	for (uint32_t i = 0; i < VIRTQUEUE_SIZE_MAX; i += 64) {
		assert_int_equal(driver_take(driver), 64);
		virtqueue_rx_release(&driver->vq);
	}
	assert_int_equal(driver_take(driver), 0);
	assert_int_equal(driver->vq.fault, VIRTQUEUE_OK);
	driver_free(driver);
}

/* A ring that cannot be trusted stops, after the frames before the fault. */
static void faults(void **state)
{
	struct driver *driver = driver_new(8, VERSION_1, 65535);

	(void)state;
	driver_write_frame(driver, LOW, 60);
	driver_offer_one(driver, 0, LOW, 72, 0);
	driver_offer(driver, 8);
	driver_offer(driver, 0);
	assert_int_equal(driver_take(driver), 1);
	assert_int_equal(driver->burst->frames[0].length, 60);
	virtqueue_rx_release(&driver->vq);
	driver_expect(driver, 0, 0);
	driver_expect_none(driver);
	assert_int_equal(driver->vq.fault, VIRTQUEUE_BAD_HEAD);
	assert_non_null(strstr(virtqueue_fault_text(driver->vq.fault), "descriptor"));
	driver->avail->ring[0] = 0;
	assert_int_equal(driver_take(driver), 0);
	assert_int_equal(driver->burst->count, 0);
	driver_free(driver);

	driver = driver_new(8, VERSION_1, 65535);
	driver_write_frame(driver, LOW, 60);
	driver_offer_one(driver, 0, LOW, 72, 0);
	driver->avail->idx = (uint16_t)(65535 + 9);
	assert_int_equal(driver_take(driver), 0);
	assert_int_equal(driver->vq.fault, VIRTQUEUE_BAD_AVAIL);
	driver->avail->idx = driver->posted;
	assert_int_equal(driver_take(driver), 0);
	driver_expect_none(driver);
	driver_free(driver);
}

/* Publishes `count` used entries and asks whether the driver wants to know. */
static bool publish(struct driver *driver, uint16_t count)
{
	for (uint16_t i = 0; i < count; i++)
		driver_offer_one(driver, i, LOW, 72, 0);
	assert_int_equal(driver_take(driver), count);
	virtqueue_rx_release(&driver->vq);
	return virtqueue_wants_interrupt(&driver->vq);
}

/*
 * virtio 1.2, 2.7.7.2: when the entry that the driver named has been used, at any point of the
 * wrap.
 */
static void event_index(void **state)
{
	static const uint16_t starts[] = { 0,     1,     100,   32766, 32767,
					   32768, 65530, 65533, 65534, 65535 };

	(void)state;
	for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
		for (int event = -3; event < 8; event++) {
			uint16_t start = starts[i];
			struct driver *driver = driver_new(16, VERSION_1 | EVENT_INDEX, start);

			driver_write_frame(driver, LOW, 60);
			driver->avail->ring[16] = (uint16_t)(start + event);
			/* The flag means nothing with event index. */
			driver->avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
			assert_false(virtqueue_wants_interrupt(&driver->vq));
			assert_int_equal(publish(driver, 5), event >= 0 && event < 5);
			assert_false(virtqueue_wants_interrupt(&driver->vq));
			assert_int_equal(publish(driver, 1), event == 5);
			assert_int_equal(publish(driver, 2), event == 6 || event == 7);
			driver_free(driver);
		}
	}
}

static void no_interrupt_flag(void **state)
{
	struct driver *driver = driver_new(16, VERSION_1, 65534);

	(void)state;
	driver_write_frame(driver, LOW, 60);
	assert_false(virtqueue_wants_interrupt(&driver->vq));
	assert_true(publish(driver, 1));
	assert_false(virtqueue_wants_interrupt(&driver->vq));
	driver->avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	assert_false(publish(driver, 3));
	driver->avail->flags = 0;
	assert_true(publish(driver, 1));
	driver_free(driver);
}

/* ---- the dirty log ---- */

/* A driver of a large ring, whose parts take several pages, with a log. */
static struct driver *logged_driver(uint64_t features, uint16_t start)
{
	struct driver *driver = driver_new(1024, features, start);
	struct virtqueue_setup setup = driver_setup(driver, features);
	const char *reason;

	setup.log = driver_log(driver);
	assert_int_equal(virtqueue_init(&driver->vq, &setup, &reason), 0);
	return driver;
}

/* What suppresses kicks: the used ring's flags, or the word behind its last entry. */
static void dirty_init(void **state)
{
	struct driver *driver = logged_driver(VERSION_1, 0);

	(void)state;
	assert_true(driver_dirty(driver, USED));
	driver_expect_clean(driver);
	driver_free(driver);

	driver = logged_driver(VERSION_1 | EVENT_INDEX, 0);
	assert_true(driver_dirty(driver, USED));
	assert_true(driver_dirty(driver, USED + 4 + 8 * 1024));
	driver_expect_clean(driver);
	driver_free(driver);
}

/* Entries 511 and 1023 lie in two pages each; the index is in the first one. */
static void dirty_receive(void **state)
{
	struct driver *driver = logged_driver(VERSION_1, 510);

	(void)state;
	driver_write_frame(driver, LOW, 60);
	assert_true(driver_dirty(driver, USED));
	/* Nothing there, nothing written. */
	assert_int_equal(driver_take(driver), 0);
	driver_expect_clean(driver);
	publish(driver, 1);
	assert_true(driver_dirty(driver, USED));
	driver_expect_clean(driver);
	publish(driver, 1);
	assert_true(driver_dirty(driver, USED));
	assert_true(driver_dirty(driver, USED + DIRTY_PAGE));
	driver_expect_clean(driver);
	/* Entries are written before they are published. */
	driver_offer_one(driver, 0, LOW, 72, 0);
	assert_int_equal(driver_take(driver), 1);
	assert_true(driver_dirty(driver, USED + DIRTY_PAGE));
	driver_expect_clean(driver);
	virtqueue_rx_release(&driver->vq);
	assert_true(driver_dirty(driver, USED));
	driver_expect_clean(driver);
	driver_free(driver);

	/* Around the ring's end, and the indices' end. */
	driver = logged_driver(VERSION_1, 65535);
	driver_write_frame(driver, LOW, 60);
	assert_true(driver_dirty(driver, USED));
	publish(driver, 2);
	assert_true(driver_dirty(driver, USED));
	assert_true(driver_dirty(driver, USED + DIRTY_PAGE));
	assert_true(driver_dirty(driver, USED + 2 * DIRTY_PAGE));
	driver_expect_clean(driver);
	driver_free(driver);
}

/* Pages of buffers, as far as they were written, and of the used ring. */
static void dirty_transmit(void **state)
{
	struct driver *driver = logged_driver(MERGEABLE, 600);

	(void)state;
	assert_true(driver_dirty(driver, USED));
	/* The short way: the frame's last byte is in the second page, the buffer goes on. */
	driver_offer_one(driver, 0, LOW + DIRTY_PAGE - 1011, 3 * DIRTY_PAGE, WRITE);
	send_well(driver, 1000);
	assert_true(driver_dirty(driver, LOW));
	assert_true(driver_dirty(driver, LOW + DIRTY_PAGE));
	assert_true(driver_dirty(driver, USED));
	assert_true(driver_dirty(driver, USED + DIRTY_PAGE));
	driver_expect_clean(driver);
	/* The long way, over chains and regions. */
	driver_desc(driver, 1, LOW + 2 * DIRTY_PAGE, 100, WRITE | NEXT, 2);
	driver_desc(driver, 2, LOW + 6 * DIRTY_PAGE, 100, WRITE, 0);
	driver_offer(driver, 1);
	driver_offer_one(driver, 3, HIGH - 10, 2000, WRITE);
	send_well(driver, 1000);
	assert_true(driver_dirty(driver, LOW + 2 * DIRTY_PAGE));
	assert_true(driver_dirty(driver, LOW + 6 * DIRTY_PAGE));
	assert_true(driver_dirty(driver, HIGH - 1));
	assert_true(driver_dirty(driver, HIGH));
	assert_true(driver_dirty(driver, USED));
	assert_true(driver_dirty(driver, USED + DIRTY_PAGE));
	driver_expect_clean(driver);
	/* Too few: an entry was written that is not published. */
	driver_offer_one(driver, 0, LOW, 100, WRITE);
	send_in_vain(driver, 1000, 0);
	assert_true(driver_dirty(driver, USED + DIRTY_PAGE));
	driver_expect_clean(driver);
	/* A bad one behind it: both entries, and the index. */
	driver_offer_one(driver, 1, LOW, 100, 0);
	send_in_vain(driver, 1000, 0);
	assert_true(driver_dirty(driver, USED));
	assert_true(driver_dirty(driver, USED + DIRTY_PAGE));
	driver_expect_clean(driver);
	send_in_vain(driver, 1000, 0);
	driver_expect_clean(driver);
	driver_free(driver);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(geometry),
		cmocka_unit_test(takeover),
		cmocka_unit_test(kicks_are_suppressed),
		cmocka_unit_test(kicks_are_asked_for),
		cmocka_unit_test(limits_of_a_burst),
		cmocka_unit_test(extreme_sizes),
		cmocka_unit_test(faults),
		cmocka_unit_test(event_index),
		cmocka_unit_test(no_interrupt_flag),
		cmocka_unit_test(dirty_init),
		cmocka_unit_test(dirty_receive),
		cmocka_unit_test(dirty_transmit),
	};

	fill_pattern(pattern, sizeof(pattern));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
