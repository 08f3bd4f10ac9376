/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The driver's side of a split ring for tests: memory in four regions, descriptors written one by
 * one, and what the device gave back. Include after cmocka.h.
 *
 * Every region is an allocation of its exact size. LOW and HIGH are adjacent for the guest and
 * apart in our memory; nothing is mapped behind HIGH.
 */
#pragma once

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <string.h>

#include "frame/frame.h"
#include "virtqueue/virtqueue.h"

#define LOW 0x100000ull
#define LOW_SIZE 0x20000u
#define HIGH (LOW + LOW_SIZE)
#define HIGH_SIZE 0x100000u
#define END (HIGH + HIGH_SIZE)

#define VERSION_1 (1ull << VIRTIO_F_VERSION_1)
#define MERGEABLE (1ull << VIRTIO_NET_F_MRG_RXBUF)
#define EVENT_INDEX (1ull << VIRTIO_RING_F_EVENT_IDX)
#define INDIRECT (1ull << VIRTIO_RING_F_INDIRECT_DESC)

#define NEXT VRING_DESC_F_NEXT
#define WRITE VRING_DESC_F_WRITE

struct driver {
	struct guest_memory memory;
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint32_t size;
	uint16_t posted; /* the available index */
	uint16_t seen;   /* used entries that the test has looked at */
	struct burst *burst;
	struct virtqueue vq;
};

static inline void driver_region(struct driver *driver, uint64_t guest, uint64_t size)
{
	struct guest_region *region = &driver->memory.regions[driver->memory.count++];

	region->guest = guest;
	region->size = size;
	region->host = malloc(size);
	assert_non_null(region->host);
	memset(region->host, 0xee, size);
}

static inline struct virtqueue_setup driver_setup(const struct driver *driver, uint64_t features)
{
	return (struct virtqueue_setup){ .desc = driver->desc, .avail = driver->avail,
					 .used = driver->used, .size = driver->size,
					 .features = features, .memory = &driver->memory };
}

/* Attaches a ring whose indices are at `start`. */
static inline struct driver *driver_new(uint32_t size, uint64_t features, uint16_t start)
{
	struct driver *driver = calloc(1, sizeof(*driver));
	struct virtqueue_setup setup;
	const char *reason;

	assert_non_null(driver);
	driver->size = size;
	driver_region(driver, HIGH, HIGH_SIZE);
	driver_region(driver, LOW, LOW_SIZE);
	driver_region(driver, 0x1000, 16ull * size);
	driver_region(driver, 0x10000000, 6 + 2ull * size);
	driver_region(driver, 0x20000000, 6 + 8ull * size);
	driver->desc = (struct vring_desc *)driver->memory.regions[2].host;
	driver->avail = (struct vring_avail *)driver->memory.regions[3].host;
	driver->used = (struct vring_used *)driver->memory.regions[4].host;
	driver->used->idx = start;
	driver->avail->idx = start;
	driver->avail->flags = 0;
	driver->posted = start;
	driver->seen = start;
	setup = driver_setup(driver, features);
	assert_int_equal(virtqueue_init(&driver->vq, &setup, &reason), 0);
	driver->burst = burst_new();
	assert_non_null(driver->burst);
	return driver;
}

static inline void driver_free(struct driver *driver)
{
	for (uint32_t i = 0; i < driver->memory.count; i++)
		free(driver->memory.regions[i].host);
	burst_free(driver->burst);
	free(driver);
}

/* Where an address of LOW or HIGH is. */
static inline uint8_t *driver_at(const struct driver *driver, uint64_t guest)
{
	if (guest >= HIGH)
		return driver->memory.regions[0].host + (guest - HIGH);
	return driver->memory.regions[1].host + (guest - LOW);
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

/* Bytes that tell where they are. */
static inline void fill_pattern(uint8_t *at, uint32_t length)
{
	for (uint32_t i = 0; i < length; i++)
		at[i] = (uint8_t)(i * 7 + (i >> 8) * 13 + 1);
}

/* Writes a plain offload header and `length` bytes of the pattern to one place. */
static inline void driver_write_frame(const struct driver *driver, uint64_t at, uint32_t length)
{
	memset(driver_at(driver, at), 0, driver->vq.header_length);
	fill_pattern(driver_at(driver, at) + driver->vq.header_length, length);
}

/* Has the switch take what is there. */
static inline uint16_t driver_take(struct driver *driver)
{
	return virtqueue_rx_burst(&driver->vq, driver->burst, BURST_MAX);
}

/* A frame on its way to the guest, in some views. */
struct sample {
	struct frame frame;
	struct view views[3];
};

static inline struct frame *make_frame(struct sample *sample, const uint8_t *bytes,
				       uint32_t length, uint16_t views)
{
	struct frame *frame = &sample->frame;
	uint32_t at = length < FRAME_HEAD_PLAIN ? length : FRAME_HEAD_PLAIN;
	uint32_t part = views > 0 ? (length - at) / views : 0;

	memset(sample, 0, sizeof(*sample));
	memset(frame->head, 0x99, sizeof(frame->head)); /* of an earlier frame: must not be sent */
	memcpy(frame->head, bytes, at);
	frame->head_length = (uint16_t)at;
	frame->length = length;
	frame->segments = 1;
	frame->view_count = views;
	frame->views = sample->views;
	for (uint16_t i = 0; i < views; i++) {
		sample->views[i].address = bytes + at;
		sample->views[i].length = i + 1 < views ? part : length - at;
		at += sample->views[i].length;
	}
	assert_int_equal(at, length);
	return frame;
}
