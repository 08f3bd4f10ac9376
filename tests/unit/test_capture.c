/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * worker/capture.c: rings that wrap, run full and lose nothing else, what a filter sees, and a
 * reader on a thread of its own.
 */
#include "worker/capture.h"

#include <pcap/pcap.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "packets.h"

static uint8_t bytes[PACKET_SIZE_MAX];

/* A frame of one head and views of so many pieces. */
static struct frame *make_frame(struct frame *frame, struct view *views, uint16_t pieces,
				uint32_t length)
{
	uint32_t head = length < FRAME_HEAD_PLAIN ? length : FRAME_HEAD_PLAIN, at = head;

	memset(frame, 0, sizeof(*frame));
	memcpy(frame->head, bytes, head);
	frame->head_length = (uint16_t)head;
	frame->length = length;
	frame->views = views;
	for (uint16_t i = 0; i < pieces && at < length; i++) {
		uint32_t part = i == pieces - 1 ? length - at : (length - head) / pieces;

		views[i] = (struct view){ bytes + at, part };
		at += part;
		frame->view_count++;
	}
	return frame;
}

static struct capture *make_capture(uint32_t snap)
{
	struct capture *capture = capture_new(2, CAPTURE_RING_MIN);

	assert_non_null(capture);
	capture->snap = snap;
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 7 + i / 256);
	return capture;
}

static void put(struct capture *capture, const struct frame *frame)
{
	struct capture_record record = { .time = 5, .queue = 3 };

	capture_put(capture, 1, frame, &record);
}

/* Every length from nothing to the largest, with the first bytes of each kept. */
static void keeps_first_bytes(void **state)
{
	static const uint32_t snaps[] = { 1, 60, 128, 129, 1500, CAPTURE_SNAP_MAX };
	static const uint32_t lengths[] = { 0, 1, 14, 127, 128, 129, 1514, FRAME_LENGTH_MAX };
	struct view views[4];
	struct frame frame;

	(void)state;
	for (size_t s = 0; s < sizeof(snaps) / sizeof(snaps[0]); s++) {
		struct capture *capture = make_capture(snaps[s]);

		for (size_t l = 0; l < sizeof(lengths) / sizeof(lengths[0]); l++) {
			const uint32_t kept = lengths[l] < snaps[s] ? lengths[l] : snaps[s];
			const struct capture_record *record;

			put(capture, make_frame(&frame, views, 3, lengths[l]));
			record = capture_next(capture, 1);
			assert_non_null(record);
			assert_null(capture_next(capture, 0));
			assert_int_equal(record->length, lengths[l]);
			assert_int_equal(record->captured, kept);
			assert_int_equal(record->queue, 3);
			assert_int_equal(record->time, 5);
			assert_memory_equal(record + 1, bytes, kept);
			capture_done(capture, 1, record);
			assert_null(capture_next(capture, 1));
		}
		capture_free(capture);
	}
}

/* Whatever the order of lengths, a full ring costs the frames that it has no room for. */
static void counts_what_it_misses(void **state)
{
	struct capture *capture = make_capture(CAPTURE_SNAP_MAX);
	uint64_t put_in = 0, taken = 0, missed = 0;
	struct view views[4];
	struct frame frame;

	(void)state;
	srand(1);
	for (int round = 0; round < 400; round++) {
		const struct capture_record *record;

		for (int i = rand() % 200; i > 0; i--, put_in++)
			put(capture, make_frame(&frame, views, 2, (uint32_t)(rand() % 9000)));
		for (int i = rand() % 200; i > 0; i--) {
			record = capture_next(capture, 1);
			if (record == NULL)
				break;
			assert_memory_equal(record + 1, bytes, record->captured);
			assert_true(record->missed >= missed);
			missed = record->missed;
			taken++;
			capture_done(capture, 1, record);
		}
	}
	while (capture_next(capture, 1) != NULL) {
		capture_done(capture, 1, capture_next(capture, 1));
		taken++;
	}
	assert_int_equal(capture_count(capture).seen, put_in);
	assert_int_equal(capture_count(capture).matched, put_in);
	assert_int_equal(capture_count(capture).missed + taken, put_in);
	assert_true(taken > 1000 && capture_count(capture).missed > 1000);
	capture_free(capture);
}

/* The filter sees all of a frame, also what lies in views and is not kept. */
static void filters(void **state)
{
	struct capture *capture = make_capture(60);
	pcap_t *pcap = pcap_open_dead(DLT_EN10MB, CAPTURE_SNAP_MAX);
	struct bpf_program program;
	struct view views[4];
	struct frame frame;

	(void)state;
	assert_int_equal(pcap_compile(pcap, &program, "ether[1400] = 0x42 and greater 1500", 1,
				      PCAP_NETMASK_UNKNOWN), 0);
	capture->filter = program.bf_insns;
	bytes[1400] = 0x42;
	put(capture, make_frame(&frame, views, 4, 1514));
	put(capture, make_frame(&frame, views, 4, 1499));
	put(capture, make_frame(&frame, views, 4, 60));
	bytes[1400] = 0x43;
	put(capture, make_frame(&frame, views, 4, 1514));
	assert_int_equal(capture_count(capture).seen, 4);
	assert_int_equal(capture_count(capture).matched, 1);
	assert_int_equal(capture_next(capture, 1)->captured, 60);
	capture_done(capture, 1, capture_next(capture, 1));
	assert_null(capture_next(capture, 1));
	pcap_freecode(&program);
	pcap_close(pcap);
	capture_free(capture);
}

#define SENT 200000

static void *send_all(void *argument)
{
	struct capture *capture = argument;
	struct view views[4];
	struct frame frame;

	for (uint32_t i = 0; i < SENT; i++) {
		make_frame(&frame, views, 1, 60 + i % 1400);
		memcpy(frame.head, &i, sizeof(i));
		put(capture, &frame);
	}
	return NULL;
}

/* In order, whole, and each either read or missed, with the number that the next one tells. */
static void reader_on_a_thread(void **state)
{
	struct capture *capture = make_capture(CAPTURE_SNAP_MAX);
	const struct capture_record *record;
	uint64_t read = 0, missed = 0;
	uint32_t number, next = 0;
	bool ends = false;
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, send_all, capture), 0);
	while (!ends || capture_next(capture, 1) != NULL) {
		ends = capture_count(capture).seen == SENT;
		record = capture_next(capture, 1);
		if (record == NULL)
			continue;
		memcpy(&number, record + 1, sizeof(number));
		assert_int_equal(record->length, 60 + number % 1400);
		assert_memory_equal((const uint8_t *)(record + 1) + 4, bytes + 4,
				    record->captured - 4);
		assert_int_equal(number - next, record->missed - missed);
		missed = record->missed;
		next = number + 1;
		read++;
		capture_done(capture, 1, record);
	}
	pthread_join(thread, NULL);
	assert_int_equal(read + capture_count(capture).missed, SENT);
	capture_free(capture);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keeps_first_bytes),
		cmocka_unit_test(counts_what_it_misses),
		cmocka_unit_test(filters),
		cmocka_unit_test(reader_on_a_thread),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
