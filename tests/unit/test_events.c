/* SPDX-License-Identifier: BSD-3-Clause */
/* The history of events and its readers: order, filters, who comes back, who is too slow. */
#include "control/events.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sync/counter.h"

static struct events *events;
static unsigned int calls;

static int setup(void **state)
{
	(void)state;
	events = events_new();
	calls = 0;
	return events == NULL ? -1 : 0;
}

static int teardown(void **state)
{
	(void)state;
	events_free(events);
	return 0;
}

static void ready(struct event_reader *reader)
{
	(void)reader;
	calls++;
}

static void tell_many(unsigned int count, enum event_kind kind, const char *port)
{
	while (count-- > 0)
		events_tell(events, kind, port, json_pack("{s:s}", "reason", "so \"it\" is\n"));
}

/* The parameters of the next notification; NULL: there is none. */
static json_t *next(struct event_reader *reader)
{
	size_t size;
	const char *text = event_reader_next(reader, &size);
	json_t *whole, *params;

	if (text == NULL)
		return NULL;
	assert_int_equal(text[size - 1], '\n');
	whole = json_loadb(text, size, 0, NULL);
	assert_non_null(whole);
	assert_string_equal(json_string_value(json_object_get(whole, "jsonrpc")), "2.0");
	assert_string_equal(json_string_value(json_object_get(whole, "method")), "event");
	assert_null(json_object_get(whole, "id"));
	params = json_incref(json_object_get(whole, "params"));
	json_decref(whole);
	return params;
}

static void expect(struct event_reader *reader, json_int_t sequence, const char *kind)
{
	json_t *params = next(reader);

	assert_non_null(params);
	assert_int_equal(json_integer_value(json_object_get(params, "sequence")), sequence);
	assert_string_equal(json_string_value(json_object_get(params, "kind")), kind);
	json_decref(params);
}

static void expect_missed(struct event_reader *reader, json_int_t sequence, json_int_t missed)
{
	json_t *params = next(reader);

	assert_non_null(params);
	assert_string_equal(json_string_value(json_object_get(params, "kind")), "event.missed");
	assert_int_equal(json_integer_value(json_object_get(params, "sequence")), sequence);
	assert_int_equal(json_integer_value(json_object_get(params, "missed")), missed);
	json_decref(params);
}

static void what_an_event_says(void **state)
{
	struct event_reader reader = { .ready = ready };
	json_t *params;
	int year, month, day, hour, minute, second, ms;

	(void)state;
	assert_int_equal(event_reader_begin(&reader, events, 0), 0);
	tell_many(1, EVENT_PORT_DOWN, "vm1");
	assert_int_equal(calls, 1);
	params = next(&reader);
	assert_int_equal(json_integer_value(json_object_get(params, "sequence")), 1);
	assert_string_equal(json_string_value(json_object_get(params, "kind")), "port.down");
	assert_string_equal(json_string_value(json_object_get(params, "port")), "vm1");
	assert_string_equal(json_string_value(json_object_get(params, "reason")), "so \"it\" is\n");
	assert_true(json_integer_value(json_object_get(params, "monotonic_ms")) > 0);
	assert_int_equal(sscanf(json_string_value(json_object_get(params, "time")),
				"%4d-%2d-%2dT%2d:%2d:%2d.%3dZ", &year, &month, &day, &hour,
				&minute, &second, &ms), 7);
	json_decref(params);
	events_tell(events, EVENT_WORKER_STALLED, NULL, NULL);
	params = next(&reader);
	assert_null(json_object_get(params, "port"));
	json_decref(params);
	assert_null(next(&reader));
	event_reader_end(&reader);
	assert_null(next(&reader));
	events_tell(events, EVENT_PORT_UP, "vm1", NULL);
	assert_int_equal(calls, 2);
}

static void since(void **state)
{
	struct event_reader reader = { .ready = ready };

	(void)state;
	tell_many(5, EVENT_PORT_UP, "a");
	assert_int_equal(events_sequence(events), 5);
	assert_int_equal(event_reader_begin(&reader, events, 3), 0);
	expect(&reader, 4, "port.up");
	expect(&reader, 5, "port.up");
	assert_null(next(&reader));
	tell_many(1, EVENT_PORT_DOWN, "a");
	expect(&reader, 6, "port.down");
	/* Once more, from now on; and from a future that does not come. */
	assert_int_equal(event_reader_begin(&reader, events, 6), 0);
	assert_null(next(&reader));
	assert_int_equal(event_reader_begin(&reader, events, 99), 0);
	tell_many(1, EVENT_PORT_UP, "a");
	expect(&reader, 7, "port.up");
	event_reader_end(&reader);
}

static void older_than_the_history(void **state)
{
	struct event_reader reader = { .ready = ready };

	(void)state;
	tell_many(EVENTS_MAX + 10, EVENT_PORT_UP, "a");
	assert_int_equal(events_oldest(events), 11);
	assert_int_equal(event_reader_begin(&reader, events, 10), 0);
	assert_int_equal(event_reader_begin(&reader, events, 9), 1);
	assert_int_equal(event_reader_begin(&reader, events, 0), 10);
	/* Its owner was told; it is not told again. */
	expect(&reader, 11, "port.up");
	event_reader_end(&reader);
}

static void filters(void **state)
{
	json_t *ports = json_pack("{s:n}", "b");
	struct event_reader kinds = { .filter.kinds = 1u << EVENT_PORT_DOWN, .ready = ready };
	struct event_reader port = { .filter.ports = ports, .ready = ready };

	(void)state;
	event_reader_begin(&kinds, events, 0);
	event_reader_begin(&port, events, 0);
	tell_many(1, EVENT_PORT_DOWN, "a");
	tell_many(1, EVENT_PORT_UP, "a");
	tell_many(1, EVENT_PORT_UP, "b");
	tell_many(1, EVENT_WORKER_STALLED, NULL);
	assert_int_equal(calls, 2);
	expect(&kinds, 1, "port.down");
	assert_null(next(&kinds));
	expect(&port, 3, "port.up");
	assert_null(next(&port));
	event_reader_end(&kinds);
	event_reader_end(&port);
	json_decref(ports);
}

static void more_of_a_kind(void **state)
{
	struct event_reader reader = { .ready = ready };
	struct event_reader other = { .ready = ready };

	(void)state;
	reader.filter.kinds = event_kinds_named("address");
	other.filter.kinds = event_kinds_named("guest.gone");
	assert_int_equal(reader.filter.kinds, 1u << EVENT_ADDRESS_LEARNED |
						      1u << EVENT_ADDRESS_MOVED |
						      1u << EVENT_ADDRESS_REFUSED);
	assert_int_equal(other.filter.kinds, 1u << EVENT_GUEST_GONE);
	assert_int_equal(event_kinds_named("addres"), 0);
	event_reader_begin(&reader, events, 0);
	event_reader_begin(&other, events, 0);
	events_tell(events, EVENT_LEFT_OUT, "a",
		    json_pack("{s:s, s:i}", "kinds", "address", "count", 3));
	expect(&reader, 1, "event.left_out");
	assert_null(next(&other));
	event_reader_end(&reader);
	event_reader_end(&other);
}

/* One who does not read misses what leaves the history, of what it wants, and is told how much. */
static void too_slow(void **state)
{
	struct event_reader slow = { .ready = ready };
	struct event_reader picky = { .filter.kinds = 1u << EVENT_PORT_DOWN, .ready = ready };
	struct event_reader quick = { .ready = ready };

	(void)state;
	event_reader_begin(&slow, events, 0);
	event_reader_begin(&picky, events, 0);
	event_reader_begin(&quick, events, 0);
	for (unsigned int i = 1; i <= 2 * EVENTS_MAX; i += 2) {
		tell_many(1, EVENT_PORT_DOWN, "a");
		tell_many(1, EVENT_PORT_UP, "a");
		expect(&quick, i, "port.down");
		expect(&quick, i + 1, "port.up");
	}
	expect_missed(&slow, EVENTS_MAX, EVENTS_MAX);
	expect(&slow, EVENTS_MAX + 1, "port.down");
	expect_missed(&picky, EVENTS_MAX, EVENTS_MAX / 2);
	expect(&picky, EVENTS_MAX + 1, "port.down");
	expect(&picky, EVENTS_MAX + 3, "port.down");
	assert_int_equal(counter_read(&events_counters(events)->missed), EVENTS_MAX * 3 / 2);
	assert_int_equal(counter_read(&events_counters(events)->told), 2 * EVENTS_MAX);
	/* What leaves now is the reader's own next event. */
	tell_many(2, EVENT_PORT_UP, "a");
	expect_missed(&slow, EVENTS_MAX + 2, 1);
	expect(&slow, EVENTS_MAX + 3, "port.down");
	event_reader_end(&slow);
	/* Who only comes now was not too slow for what had left before. */
	assert_int_equal(event_reader_begin(&slow, events, 0), EVENTS_MAX + 2);
	assert_int_equal(counter_read(&events_counters(events)->missed), EVENTS_MAX * 3 / 2 + 1);
	event_reader_end(&slow);
	event_reader_end(&picky);
	event_reader_end(&quick);
}

/* Long events leave room for fewer of them. */
static void bounded_in_bytes(void **state)
{
	char *reason = malloc(8001);
	struct event_reader reader = { .ready = ready };
	size_t bytes = 0, size;

	(void)state;
	assert_non_null(reason);
	memset(reason, 'x', 8000);
	reason[8000] = '\0';
	for (unsigned int i = 0; i < 1000; i++)
		events_tell(events, EVENT_PORT_DOWN, "a", json_pack("{s:s}", "reason", reason));
	event_reader_begin(&reader, events, 0);
	while (event_reader_next(&reader, &size) != NULL)
		bytes += size;
	assert_true(bytes <= EVENTS_BYTES_MAX);
	assert_true(bytes > EVENTS_BYTES_MAX - 9000);
	event_reader_end(&reader);
	free(reason);
}

static void no_two_are_the_same(void **state)
{
	struct events *other = events_new();

	(void)state;
	assert_int_equal(strlen(events_history(other)), EVENT_HISTORY_SIZE - 1);
	assert_string_not_equal(events_history(other), events_history(events));
	events_free(other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_an_event_says, setup, teardown),
		cmocka_unit_test_setup_teardown(since, setup, teardown),
		cmocka_unit_test_setup_teardown(older_than_the_history, setup, teardown),
		cmocka_unit_test_setup_teardown(filters, setup, teardown),
		cmocka_unit_test_setup_teardown(more_of_a_kind, setup, teardown),
		cmocka_unit_test_setup_teardown(too_slow, setup, teardown),
		cmocka_unit_test_setup_teardown(bounded_in_bytes, setup, teardown),
		cmocka_unit_test_setup_teardown(no_two_are_the_same, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
