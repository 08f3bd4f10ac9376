/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What drivers of both layouts of a ring share in tests: memory in regions, frames of a known
 * pattern, and a dirty log. For split_driver.h and packed_driver.h, which fill the rest of struct
 * driver. Include after cmocka.h.
 *
 * Every region is an allocation of its exact size. LOW and HIGH are adjacent for the guest and
 * apart in our memory; nothing is mapped behind HIGH. The ring's three parts have a region each.
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

/* Where the ring's parts are. */
#define DESC 0x1000ull
#define AVAIL 0x10000000ull
#define USED 0x20000000ull
#define LOG_BYTES (0x30000000ull / DIRTY_PAGE / 8)

#define VERSION_1 (1ull << VIRTIO_F_VERSION_1)
#define MERGEABLE (1ull << VIRTIO_NET_F_MRG_RXBUF)
#define EVENT_INDEX (1ull << VIRTIO_RING_F_EVENT_IDX)
#define INDIRECT (1ull << VIRTIO_RING_F_INDIRECT_DESC)
#define IN_ORDER (1ull << VIRTIO_F_IN_ORDER)

#define NEXT VRING_DESC_F_NEXT
#define WRITE VRING_DESC_F_WRITE

#define UNTOUCHED 0xee /* what memory holds before anybody writes it */

struct driver {
	struct guest_memory memory;
	uint32_t size;
	struct burst *burst;
	struct dirty_log log;
	struct virtqueue vq;

	/* split_driver.h */
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t posted; /* the available index */
	uint16_t seen;   /* used entries that the test has looked at */

	/* packed_driver.h */
	struct vring_packed_desc *ring;
	struct vring_packed_desc_event *driver_event;
	struct vring_packed_desc_event *device_event;
	uint64_t journal;
	struct virtqueue_position post; /* where the next descriptor is put */
	struct virtqueue_position look; /* where the next chain comes back */
	uint16_t open;                  /* descriptors of the chain that is being put */
	uint16_t slots[65536];          /* of the chain with this buffer id */
};

static inline uint8_t *driver_region(struct driver *driver, uint64_t guest, uint64_t size)
{
	struct guest_region *region = &driver->memory.regions[driver->memory.count++];

	region->guest = guest;
	region->size = size;
	region->host = malloc(size);
	assert_non_null(region->host);
	memset(region->host, UNTOUCHED, size);
	return region->host;
}

/* A driver with its memory, and no ring. */
static inline struct driver *driver_alloc(uint32_t size)
{
	struct driver *driver = calloc(1, sizeof(*driver));

	assert_non_null(driver);
	driver->size = size;
	driver_region(driver, HIGH, HIGH_SIZE);
	driver_region(driver, LOW, LOW_SIZE);
	driver->burst = burst_new();
	assert_non_null(driver->burst);
	return driver;
}

static inline void driver_free(struct driver *driver)
{
	for (uint32_t i = 0; i < driver->memory.count; i++)
		free(driver->memory.regions[i].host);
	burst_free(driver->burst);
	free(driver->log.base);
	free(driver);
}

/* Where an address of LOW or HIGH is. */
static inline uint8_t *driver_at(const struct driver *driver, uint64_t guest)
{
	if (guest >= HIGH)
		return driver->memory.regions[0].host + (guest - HIGH);
	return driver->memory.regions[1].host + (guest - LOW);
}

/* Has the switch take what is there. */
static inline uint16_t driver_take(struct driver *driver)
{
	return virtqueue_rx_burst(&driver->vq, driver->burst, BURST_MAX);
}

/* ---- frames ---- */

static uint8_t pattern[FRAME_LENGTH_MAX + 64] __attribute__((unused));

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

/* A frame from the guest holds the first `length` bytes of the pattern. */
static inline void expect_frame(const struct frame *frame, uint32_t length)
{
	uint32_t at = frame->head_length;

	assert_int_equal(frame->drop, DROP_NO_DESTINATION);
	assert_int_equal(frame->length, length);
	assert_memory_equal(frame->head, pattern, frame->head_length);
	for (uint16_t i = 0; i < frame->view_count; i++) {
		assert_memory_equal(frame->views[i].address, pattern + at, frame->views[i].length);
		at += frame->views[i].length;
	}
	assert_int_equal(at, length);
}

/* The header as the guest reads it: plain, with this many buffers. */
static inline void expect_header(const uint8_t *at, uint32_t header, uint16_t buffers)
{
	static const uint8_t zero[10];

	assert_memory_equal(at, zero, 10);
	if (header == 12)
		assert_memory_equal(at + 10, &buffers, 2);
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

/* Sends one frame of this length to the guest. Returns what became of it. */
static inline struct tx_outcome send(struct driver *driver, uint32_t length)
{
	struct tx_outcome outcome = { 0 };
	struct sample sample;
	uint16_t views = length > FRAME_HEAD_PLAIN ? 2 : 0;
	struct frame *frame = make_frame(&sample, pattern, length, views);

	virtqueue_tx_burst(&driver->vq, &frame, 1, &outcome);
	return outcome;
}

static inline void send_well(struct driver *driver, uint32_t length)
{
	struct tx_outcome outcome = send(driver, length);

	assert_int_equal(outcome.packets, 1);
	assert_int_equal(outcome.too_long, 0);
	assert_int_equal(outcome.segments, 1);
	assert_int_equal(outcome.bytes, length);
}

static inline void send_in_vain(struct driver *driver, uint32_t length, uint16_t too_long)
{
	struct tx_outcome outcome = send(driver, length);

	assert_int_equal(outcome.packets, 0);
	assert_int_equal(outcome.too_long, too_long);
	assert_int_equal(outcome.segments, 0);
	assert_int_equal(outcome.bytes, 0);
}

/* ---- the dirty log ---- */

/* Gives the ring a log, for the next virtqueue_init. */
static inline const struct dirty_log *driver_log(struct driver *driver)
{
	driver->log.base = calloc(1, LOG_BYTES);
	driver->log.size = LOG_BYTES;
	assert_non_null(driver->log.base);
	return &driver->log;
}

/* Was the page with this address written since the last look at it? */
static inline bool driver_dirty(struct driver *driver, uint64_t guest)
{
	uint64_t page = guest / DIRTY_PAGE;
	uint8_t bit = (uint8_t)(1u << page % 8);
	bool dirty = driver->log.base[page / 8] & bit;

	driver->log.base[page / 8] &= (uint8_t)~bit;
	return dirty;
}

/* No other page was written. */
static inline void driver_expect_clean(const struct driver *driver)
{
	for (uint64_t i = 0; i < driver->log.size; i++)
		assert_int_equal(driver->log.base[i], 0);
}
