/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * telemetry/text.c: families, samples and labels as OpenMetrics 1.0 and the format before it have
 * them, and which of the two a client gets. tests/system/test_metrics.py has Prometheus read it.
 */
#include "telemetry/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "frame/drop.h"
#include "port/port.h"
#include "worker/worker.h"

struct values {
	uint64_t in, out, ns, ppm;
	int64_t gauge;
};

static const struct metric rows_in[] = {
	{ "rx_packets", METRIC_COUNTER, offsetof(struct values, in), "frames", "taken" },
	{ "rx_wait_ns", METRIC_COUNTER, offsetof(struct values, ns), "ns", "held" },
	{ NULL }
};
static const struct metric rows_out[] = {
	{ "tx_only", METRIC_COUNTER, offsetof(struct values, in), "times", "seen" },
	{ "tx_packets", METRIC_COUNTER, offsetof(struct values, out), "frames", "given" },
	{ NULL }
};
static const struct metric rows_gauge[] = {
	{ "tokens", METRIC_GAUGE, offsetof(struct values, gauge), "bytes", "left" },
	{ "load_ppm", METRIC_GAUGE, offsetof(struct values, ppm), "part", "busy" },
	{ NULL }
};

static void check_text(struct text *text, const char *wanted)
{
	text_end(text);
	assert_false(text->failed);
	text->bytes = realloc(text->bytes, text->length + 1);
	text->bytes[text->length] = '\0';
	assert_string_equal(text->bytes, wanted);
	free(text->bytes);
}

static void write_directions(struct text *text)
{
	static const struct values one = { 1, UINT64_MAX, 1500000000, 0, 0 };
	static const struct values two = { 3, 4, 7, 0, 0 };
	const struct text_part parts[] = { { rows_in, 0 }, { rows_out, 0 } };
	const struct text_source sources[] = { { "port=\"a\"", &one }, { "port=\"b\"", &two } };

	text_rows(text, "port", parts, 2, sources, 2);
}

static void both_directions_are_one_family(void **state)
{
	struct text text;

	(void)state;
	text_begin(&text, true);
	write_directions(&text);
	check_text(&text,
		   "# TYPE ringway_port_packets counter\n"
		   "# UNIT ringway_port_packets packets\n"
		   "# HELP ringway_port_packets rx: frames taken; tx: frames given\n"
		   "ringway_port_packets_total{port=\"a\",direction=\"rx\"} 1\n"
		   "ringway_port_packets_total{port=\"b\",direction=\"rx\"} 3\n"
		   "ringway_port_packets_total{port=\"a\",direction=\"tx\"} 18446744073709551615\n"
		   "ringway_port_packets_total{port=\"b\",direction=\"tx\"} 4\n"
		   "# TYPE ringway_port_wait_seconds counter\n"
		   "# UNIT ringway_port_wait_seconds seconds\n"
		   "# HELP ringway_port_wait_seconds rx: seconds held\n"
		   "ringway_port_wait_seconds_total{port=\"a\",direction=\"rx\"} 1.500000000\n"
		   "ringway_port_wait_seconds_total{port=\"b\",direction=\"rx\"} 0.000000007\n"
		   "# TYPE ringway_port_only counter\n"
		   "# HELP ringway_port_only tx: times seen\n"
		   "ringway_port_only_total{port=\"a\",direction=\"tx\"} 1\n"
		   "ringway_port_only_total{port=\"b\",direction=\"tx\"} 3\n"
		   "# EOF\n");
}

static void the_older_format(void **state)
{
	static const struct values one = { .gauge = -5, .ppm = 250000 };
	const struct text_part parts[] = { { rows_gauge, 0 } };
	const struct text_source source = { "", &one };
	struct text text;

	(void)state;
	text_begin(&text, false);
	text_rows(&text, "x", parts, 1, &source, 1);
	text_info(&text, &metric_info_build, "version=\"1\"", true);
	check_text(&text, "# TYPE ringway_x_tokens gauge\n"
			  "# HELP ringway_x_tokens bytes left\n"
			  "ringway_x_tokens -5\n"
			  "# TYPE ringway_x_load_ratio gauge\n"
			  "# HELP ringway_x_load_ratio part busy\n"
			  "ringway_x_load_ratio 0.250000\n"
			  "# TYPE ringway_build_info gauge\n"
			  "# HELP ringway_build_info which version runs, on which DPDK\n"
			  "ringway_build_info{version=\"1\"} 1\n");
	text_begin(&text, true);
	text_info(&text, &metric_info_build, "version=\"1\"", true);
	text_info(&text, &metric_info_build, "version=\"2\"", false);
	check_text(&text, "# TYPE ringway_build info\n"
			  "# HELP ringway_build which version runs, on which DPDK\n"
			  "ringway_build_info{version=\"1\"} 1\n"
			  "ringway_build_info{version=\"2\"} 1\n"
			  "# EOF\n");
}

/* A series must be there before its first drop, or that drop is in no increase of it. */
static void each_reason_is_there_from_the_start(void **state)
{
	static const struct metric rows[] = {
		{ "rx_dropped", METRIC_DROPS, 0, "frames", "dropped" }, { NULL }
	};
	uint64_t drops[DROP_COUNT] = { [DROP_MTU] = 9 };
	const struct text_part parts[] = { { rows, 0 } };
	const struct text_source source = { "port=\"a\"", drops };
	struct text text;

	(void)state;
	text_begin(&text, false);
	text_rows(&text, "port", parts, 1, &source, 1);
	text.bytes[text.length] = '\0';
	for (int reason = 0; reason < DROP_COUNT; reason++) {
		char line[128];

		snprintf(line, sizeof(line),
			 "\nringway_port_dropped_total{port=\"a\",direction=\"rx\","
			 "reason=\"%s\"} %d\n",
			 drop_name((enum drop)reason), reason == DROP_MTU ? 9 : 0);
		assert_non_null(strstr(text.bytes, line));
	}
	free(text.bytes);
}

static void bursts_are_a_histogram(void **state)
{
	static struct worker_counters counters = { .packets = 77,
						   .bursts = { 1, 2, 3, 4, 5, 6, 7 } };
	static const struct metric rows[] = {
		{ "bursts", METRIC_BURSTS, offsetof(struct worker_counters, bursts), "visits",
		  "by size" },
		{ NULL }
	};
	const struct text_part parts[] = { { rows, 0 } };
	const struct text_source source = { "worker=\"0\"", &counters };
	struct text text;

	(void)state;
	text_begin(&text, true);
	text_rows(&text, "worker", parts, 1, &source, 1);
	check_text(&text, "# TYPE ringway_worker_bursts histogram\n"
			  "# HELP ringway_worker_bursts visits by size\n"
			  "ringway_worker_bursts_bucket{worker=\"0\",le=\"1.0\"} 1\n"
			  "ringway_worker_bursts_bucket{worker=\"0\",le=\"2.0\"} 3\n"
			  "ringway_worker_bursts_bucket{worker=\"0\",le=\"4.0\"} 6\n"
			  "ringway_worker_bursts_bucket{worker=\"0\",le=\"8.0\"} 10\n"
			  "ringway_worker_bursts_bucket{worker=\"0\",le=\"16.0\"} 15\n"
			  "ringway_worker_bursts_bucket{worker=\"0\",le=\"32.0\"} 21\n"
			  "ringway_worker_bursts_bucket{worker=\"0\",le=\"+Inf\"} 28\n"
			  "ringway_worker_bursts_count{worker=\"0\"} 28\n"
			  "ringway_worker_bursts_sum{worker=\"0\"} 77\n"
			  "# EOF\n");
}

static void without_objects_there_is_no_family(void **state)
{
	const struct text_part parts[] = { { rows_in, 0 } };
	struct text text;

	(void)state;
	text_begin(&text, true);
	text_rows(&text, "port", parts, 1, NULL, 0);
	check_text(&text, "# EOF\n");
}

static void values_of_labels_are_escaped(void **state)
{
	char labels[64] = "", before[64];

	(void)state;
	assert_true(text_add_label(labels, sizeof(labels), "a", "x\"y\\z\nw"));
	assert_string_equal(labels, "a=\"x\\\"y\\\\z\\nw\"");
	assert_true(text_add_label(labels, sizeof(labels), "b", "\xc3\xa4{}="));
	assert_string_equal(labels, "a=\"x\\\"y\\\\z\\nw\",b=\"\xc3\xa4{}=\"");
	/* Nothing or all of it. */
	memcpy(before, labels, sizeof(before));
	assert_false(text_add_label(labels, sizeof(labels), "c",
				    "0123456789012345678901234567890123456789"));
	assert_string_equal(labels, before);
	for (size_t size = 1; size < 12; size++) {
		char small[16] = "";

		memset(small + 1, 'g', sizeof(small) - 1);
		if (text_add_label(small, size, "n", "\"\""))
			assert_string_equal(small, "n=\"\\\"\\\"\"");
		else
			assert_int_equal(small[0], '\0');
		assert_int_equal(small[size], 'g');
	}
}

static void what_a_client_gets(void **state)
{
	static const struct {
		const char *accept;
		bool openmetrics;
	} cases[] = {
		{ NULL, true },
		{ "", true },
		{ "*/*", true },
		{ "text/plain", false },
		{ "text/plain;version=0.0.4", false },
		{ "TEXT/PLAIN", false },
		{ "application/openmetrics-text", true },
		{ "application/openmetrics-text;version=1.0.0,application/openmetrics-text;"
		  "version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", true },
		{ "text/plain;version=0.0.4;q=1,*/*;q=0.1", false },
		{ "application/openmetrics-text; q=0.2, text/plain; q=0.3", false },
		{ "application/openmetrics-text;q=0,text/plain", false },
		{ "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", false },
		{ "application/openmetrics-text;q=", true },
		{ "text/plain;q=7", true },
		{ ";;;,,;q,=", true },
		{ "text/plain;", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (text_wants_openmetrics(cases[i].accept) != cases[i].openmetrics)
			fail_msg("%s", cases[i].accept);
}

/* 256 ports with 2 queues: a few ms of the control thread. Printed, never judged. */
static void many_ports(void **state)
{
	enum { COUNT = 512 };
	static char labels[COUNT][48];
	static struct text_source sources[COUNT];
	static struct port_counters counters[COUNT];
	const struct text_part parts[] = { { metric_rx, offsetof(struct port_counters, rx) },
					   { metric_tx, offsetof(struct port_counters, tx) } };
	struct timespec begin, end;
	struct text text;

	(void)state;
	for (int i = 0; i < COUNT; i++) {
		snprintf(labels[i], sizeof(labels[i]), "port=\"guest-number-%d\",queue=\"%d\"",
			 i / 2, i % 2);
		counters[i].rx.packets = UINT64_C(123456789012) * (unsigned int)i;
		sources[i] = (struct text_source){ labels[i], &counters[i] };
	}
	clock_gettime(CLOCK_MONOTONIC, &begin);
	text_begin(&text, true);
	text_rows(&text, "port", parts, 2, sources, COUNT);
	clock_gettime(CLOCK_MONOTONIC, &end);
	assert_false(text.failed);
	print_message("%zu bytes in %.1f ms\n", text.length,
		      (double)(end.tv_sec - begin.tv_sec) * 1e3 +
			      (double)(end.tv_nsec - begin.tv_nsec) / 1e6);
	free(text.bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_directions_are_one_family),
		cmocka_unit_test(the_older_format),
		cmocka_unit_test(each_reason_is_there_from_the_start),
		cmocka_unit_test(bursts_are_a_histogram),
		cmocka_unit_test(without_objects_there_is_no_family),
		cmocka_unit_test(values_of_labels_are_escaped),
		cmocka_unit_test(what_a_client_gets),
		cmocka_unit_test(many_ports),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
