/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The driver's side of a split ring for tests: descriptors written one by one, and what the device
 * gave back. Include after cmocka.h.
 */
#pragma once

#include "ring_driver.h"

static inline struct virtqueue_setup driver_setup(const struct driver *driver, uint64_t features)
{
	return (struct virtqueue_setup){ .desc = driver->desc, .avail = driver->avail,
					 .used = driver->used, .size = driver->size,
					 .features = features, .memory = &driver->memory };
}

/* Attaches a ring whose indices are at `start`. */
static inline struct driver *driver_new(uint32_t size, uint64_t features, uint16_t start)
{
	struct driver *driver = driver_alloc(size);
	struct virtqueue_setup setup;
	const char *reason;

	driver->desc = (struct vring_desc *)driver_region(driver, DESC, 16ull * size);
	driver->avail = (struct vring_avail *)driver_region(driver, AVAIL, 6 + 2ull * size);
	driver->used = (struct vring_used *)driver_region(driver, USED, 6 + 8ull * size);
	driver->used->idx = start;
	driver->avail->idx = start;
	driver->avail->flags = 0;
	driver->posted = start;
	driver->seen = start;
	setup = driver_setup(driver, features);
	assert_int_equal(virtqueue_init(&driver->vq, &setup, &reason), 0);
	return driver;
}

static inline void driver_desc(struct driver *driver, uint16_t index, uint64_t address,
			       uint32_t length, uint16_t flags, uint16_t next)
{
	driver->desc[index] = (struct vring_desc){ address, length, flags, next };
}

/* An entry of an indirect table at `table`. */
static inline void driver_entry(struct driver *driver, uint64_t table, uint32_t index,
				uint64_t address, uint32_t length, uint16_t flags, uint16_t next)
{
	struct vring_desc desc = { address, length, flags, next };

	memcpy(driver_at(driver, table) + 16 * index, &desc, sizeof(desc));
}

/* Makes a chain available. */
static inline void driver_offer(struct driver *driver, uint16_t head)
{
	driver->avail->ring[driver->posted++ % driver->size] = head;
	driver->avail->idx = driver->posted;
}

/* One descriptor in one go. */
static inline void driver_offer_one(struct driver *driver, uint16_t index, uint64_t address,
				    uint32_t length, uint16_t flags)
{
	driver_desc(driver, index, address, length, flags, 0);
	driver_offer(driver, index);
}

/* The next entry that came back is this one. */
static inline void driver_expect(struct driver *driver, uint16_t head, uint32_t length)
{
	const vring_used_elem_t *used = &driver->used->ring[driver->seen % driver->size];

	assert_int_not_equal(driver->seen, driver->used->idx);
	assert_int_equal(used->id, head);
	assert_int_equal(used->len, length);
	driver->seen++;
}

/* Nothing more came back. */
static inline void driver_expect_none(const struct driver *driver)
{
	assert_int_equal(driver->seen, driver->used->idx);
}
