/* SPDX-License-Identifier: BSD-3-Clause */
/* telemetry/pcapng.c and record_text.c: the bytes of each block, and the remarks on frames. */
#include "telemetry/pcapng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "telemetry/record_text.h"

static uint32_t at32(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static uint16_t at16(const uint8_t *at)
{
	uint16_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

/* The length stands at both ends, and nothing is left over. */
static void check_block(const uint8_t *block, uint32_t type, size_t length)
{
	assert_int_equal(length % 4, 0);
	assert_int_equal(at32(block), type);
	assert_int_equal(pcapng_block_length(block), length);
	assert_int_equal(at32(block + length - 4), length);
	assert_int_equal(pcapng_is_frame(block), type == 6);
}

/* An option's value among those from `at` on, or NULL; its length in *length. */
static const uint8_t *find_option(const uint8_t *at, uint16_t code, uint16_t *length)
{
	for (; at16(at) != 0; at += 4 + ((at16(at + 2) + 3u) & ~3u)) {
		if (at16(at) != code)
			continue;
		*length = at16(at + 2);
		return at + 4;
	}
	return NULL;
}

static void begins(void **state)
{
	uint8_t file[PCAPNG_BEGIN_MAX];
	size_t length = pcapng_begin(file, "vm1", "arp", 96);
	const uint8_t *interface = file + pcapng_block_length(file), *value;
	uint16_t size;

	(void)state;
	check_block(file, 0x0a0d0d0a, pcapng_block_length(file));
	assert_int_equal(at32(file + 8), 0x1a2b3c4d);
	assert_int_equal(at16(file + 12), 1);
	assert_int_equal(at16(file + 14), 0);
	check_block(interface, 1, length - pcapng_block_length(file));
	assert_int_equal(at16(interface + 8), 1);
	assert_int_equal(at32(interface + 12), 96);
	value = find_option(interface + 16, 2, &size);
	assert_int_equal(size, 3);
	assert_memory_equal(value, "vm1", 3);
	value = find_option(interface + 16, 9, &size);
	assert_int_equal(size, 1);
	assert_int_equal(*value, 9);
	value = find_option(interface + 16, 11, &size);
	assert_int_equal(size, 4);
	assert_memory_equal(value, "\0arp", 4);
	pcapng_begin(file, "vm1", "", 96);
	assert_null(find_option(interface + 16, 11, &size));
}

static void begins_with_the_longest(void **state)
{
	char filter[PCAPNG_FILTER_MAX + 1], name[64];
	uint8_t file[PCAPNG_BEGIN_MAX];
	size_t length;

	(void)state;
	memset(filter, 'x', sizeof(filter) - 1);
	filter[sizeof(filter) - 1] = '\0';
	memset(name, 'y', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	length = pcapng_begin(file, name, filter, 1);
	assert_true(length <= sizeof(file));
	check_block(file + pcapng_block_length(file), 1, length - pcapng_block_length(file));
}

/* A record and `length` bytes. */
struct made {
	struct capture_record record;
	uint8_t bytes[FRAME_LENGTH_MAX];
};
static struct made made;
static uint8_t block[PCAPNG_FRAME_MAX];

static const uint8_t *frame_block(uint32_t captured, uint64_t lost)
{
	made.record.captured = captured;
	for (uint32_t i = 0; i < captured; i++)
		made.bytes[i] = (uint8_t)(i * 3);
	check_block(block, 6, pcapng_frame(block, &made.record, lost));
	return block + 28 + ((captured + 3u) & ~3u);
}

static void frames(void **state)
{
	const uint8_t *options, *value;
	uint16_t size;

	(void)state;
	made.record = (struct capture_record){ .time = 0x123456789abcdef0, .length = 1514,
					       .queue = 7, .direction = RECORD_OUT };
	options = frame_block(61, 0);
	assert_int_equal(at32(block + 12), 0x12345678);
	assert_int_equal(at32(block + 16), 0x9abcdef0);
	assert_int_equal(at32(block + 20), 61);
	assert_int_equal(at32(block + 24), 1514);
	assert_memory_equal(block + 28, made.bytes, 61);
	assert_int_equal(at32(find_option(options, 2, &size)), 2);
	assert_int_equal(at32(find_option(options, 6, &size)), 7);
	assert_null(find_option(options, 4, &size));
	assert_null(find_option(options, 1, &size));

	made.record.direction = RECORD_IN;
	made.record.is_dropped = true;
	made.record.drop = DROP_GUARD;
	options = frame_block(0, 99);
	assert_int_equal(at32(find_option(options, 2, &size)), 1);
	assert_int_equal(at32(find_option(options, 4, &size)), 99);
	assert_int_equal(size, 8);
	value = find_option(options, 1, &size);
	assert_int_equal(size, strlen("dropped: guard"));
	assert_memory_equal(value, "dropped: guard", size);

	made.record.length = FRAME_LENGTH_MAX;
	frame_block(FRAME_LENGTH_MAX, 1);
}

static void ends(void **state)
{
	const struct pcapng_end end = { .began = 1ull << 32 | 2, .ended = 3ull << 32 | 4,
					.seen = 50, .matched = 40, .missed = 10, .written = 30,
					.reason = "stopped" };
	const uint8_t *value;
	uint16_t size;

	(void)state;
	check_block(block, 5, pcapng_end(block, &end));
	assert_int_equal(at32(block + 12), 3);
	assert_int_equal(at32(block + 16), 4);
	value = find_option(block + 20, 2, &size);
	assert_int_equal(at32(value), 1);
	assert_int_equal(at32(value + 4), 2);
	assert_int_equal(at32(find_option(block + 20, 4, &size)), 50);
	assert_int_equal(at32(find_option(block + 20, 5, &size)), 10);
	assert_int_equal(at32(find_option(block + 20, 6, &size)), 40);
	assert_int_equal(at32(find_option(block + 20, 8, &size)), 30);
	assert_memory_equal(find_option(block + 20, 1, &size), "stopped", 7);
}

static void remarks(void **state)
{
	static const struct {
		struct virtio_net_hdr vnet;
		int drop; /* -1: none */
		const char *text;
	} cases[] = {
		{ { 0 }, -1, "" },
		{ { .flags = VIRTIO_NET_HDR_F_DATA_VALID }, -1, "" },
		{ { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 34, .csum_offset = 16 }, -1,
		  "partial checksum at 34+16" },
		{ { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .gso_size = 1448,
		    .gso_type = VIRTIO_NET_HDR_GSO_TCPV4 }, -1, "TSO4, 1448 bytes a segment" },
		{ { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .gso_size = 1440,
		    .gso_type = VIRTIO_NET_HDR_GSO_TCPV6 | VIRTIO_NET_HDR_GSO_ECN }, -1,
		  "TSO6 with ECN, 1440 bytes a segment" },
		{ { .gso_size = 1472, .gso_type = VIRTIO_NET_HDR_GSO_UDP }, DROP_MTU,
		  "dropped: mtu; UFO, 1472 bytes a segment" },
		{ { .gso_type = 77 }, DROP_BAD_OFFLOAD,
		  "dropped: bad_offload; segmentation of unknown kind 77" },
		{ { 0 }, DROP_NO_DESTINATION, "dropped: no_destination" },
	};
	char text[RECORD_TEXT_SIZE];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct capture_record record = { .vnet = cases[i].vnet,
						       .is_dropped = cases[i].drop >= 0,
						       .drop = (uint8_t)cases[i].drop };

		record_comment(&record, text, sizeof(text));
		assert_string_equal(text, cases[i].text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(begins),
		cmocka_unit_test(begins_with_the_longest),
		cmocka_unit_test(frames),
		cmocka_unit_test(ends),
		cmocka_unit_test(remarks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
