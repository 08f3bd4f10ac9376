/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The driver's side of a packed ring for tests (virtio 1.2, 2.8): chains put into it descriptor by
 * descriptor, and what the device gave back. The tests make only so many chains available as the
 * ring has free slots. Include after cmocka.h.
 */
#pragma once

#include "ring_driver.h"

#define PACKED (1ull << VIRTIO_F_RING_PACKED)
#define TABLE VRING_DESC_F_INDIRECT
#define AVAIL_FLAG (1u << VRING_PACKED_DESC_F_AVAIL)
#define USED_FLAG (1u << VRING_PACKED_DESC_F_USED)
#define WRAP (1u << 15) /* of a base and of an event's place */

#define OTHER_ID 0xdead /* of descriptors that are not the last of their chain: it says nothing */

static inline struct virtqueue_setup driver_setup(struct driver *driver, uint64_t features)
{
	return (struct virtqueue_setup){ .desc = driver->ring, .avail = driver->driver_event,
					 .used = driver->device_event, .size = driver->size,
					 .features = features | PACKED, .memory = &driver->memory,
					 .base = VIRTQUEUE_BASE_FRESH,
					 .journal = &driver->journal };
}

static inline struct virtqueue_position place(uint16_t base)
{
	return (struct virtqueue_position){ base & (WRAP - 1), (base & WRAP) != 0 };
}

static inline uint16_t place_base(struct virtqueue_position at)
{
	return (uint16_t)(at.slot | (at.wrap ? WRAP : 0));
}

static inline struct virtqueue_position place_after(const struct driver *driver,
						    struct virtqueue_position at, uint16_t slots)
{
	uint32_t slot = (uint32_t)at.slot + slots;

	if (slot < driver->size)
		return (struct virtqueue_position){ (uint16_t)slot, at.wrap };
	return (struct virtqueue_position){ (uint16_t)(slot - driver->size), !at.wrap };
}

/* Attaches a ring that stands at this base. All before it was used in this round or the last. */
static inline struct driver *driver_new(uint32_t size, uint64_t features, uint16_t base)
{
	struct driver *driver = driver_alloc(size);
	struct virtqueue_setup setup;
	const char *reason;

	driver->ring = (struct vring_packed_desc *)driver_region(driver, DESC, 16ull * size);
	driver->driver_event = (struct vring_packed_desc_event *)driver_region(driver, AVAIL, 4);
	driver->device_event = (struct vring_packed_desc_event *)driver_region(driver, USED, 4);
	memset(driver->driver_event, 0, 4);
	memset(driver->device_event, 0, 4);
	for (uint32_t i = 0; i < size; i++)
		driver->ring[i].flags = base == VIRTQUEUE_BASE_FRESH ||
						(i < place(base).slot) != place(base).wrap
						? 0 : AVAIL_FLAG | USED_FLAG;
	driver->post = place(base);
	driver->look = place(base);
	setup = driver_setup(driver, features);
	setup.base = base;
	assert_int_equal(virtqueue_init(&driver->vq, &setup, &reason), 0);
	return driver;
}

/* Puts the next descriptor. Where flags say NEXT the chain goes on with the next one put. */
static inline void driver_put(struct driver *driver, uint16_t id, uint64_t address,
			      uint32_t length, uint16_t flags)
{
	struct vring_packed_desc *desc = &driver->ring[driver->post.slot];

	desc->addr = address;
	desc->len = length;
	desc->id = flags & NEXT ? OTHER_ID : id;
	desc->flags = (uint16_t)(flags | (driver->post.wrap ? AVAIL_FLAG : USED_FLAG));
	driver->post = place_after(driver, driver->post, 1);
	driver->open++;
	if (flags & NEXT)
		return;
	driver->slots[id] = driver->open;
	driver->open = 0;
}

/* An entry of an indirect table at `table`: of its flags only WRITE says something. */
static inline void driver_entry(struct driver *driver, uint64_t table, uint32_t index,
				uint64_t address, uint32_t length, uint16_t flags)
{
	struct vring_packed_desc desc = { address, length, OTHER_ID, flags };

	memcpy(driver_at(driver, table) + 16 * index, &desc, sizeof(desc));
}

static inline bool driver_returned(const struct driver *driver)
{
	const uint16_t flags = driver->ring[driver->look.slot].flags;

	return !!(flags & AVAIL_FLAG) == driver->look.wrap &&
	       !!(flags & USED_FLAG) == driver->look.wrap;
}

/* The next chain that came back is this one; the slots behind its first are as they were. */
static inline void driver_expect(struct driver *driver, uint16_t id, uint32_t length)
{
	const struct vring_packed_desc *desc = &driver->ring[driver->look.slot];

	assert_true(driver_returned(driver));
	assert_int_equal(desc->id, id);
	assert_int_equal(desc->len, length);
	assert_int_equal(desc->flags & ~(AVAIL_FLAG | USED_FLAG), length > 0 ? WRITE : 0);
	assert_int_not_equal(driver->slots[id], 0);
	for (uint16_t i = 1; i < driver->slots[id]; i++) {
		desc = &driver->ring[place_after(driver, driver->look, i).slot];
		assert_int_not_equal(!!(desc->flags & AVAIL_FLAG), !!(desc->flags & USED_FLAG));
	}
	driver->look = place_after(driver, driver->look, driver->slots[id]);
}

/* Nothing more came back. */
static inline void driver_expect_none(const struct driver *driver)
{
	assert_false(driver_returned(driver));
}

/* All came back: the device stands where the driver does. */
static inline void driver_expect_all(const struct driver *driver)
{
	assert_int_equal(place_base(driver->look), place_base(driver->post));
	assert_int_equal(virtqueue_base(&driver->vq), place_base(driver->post));
}
