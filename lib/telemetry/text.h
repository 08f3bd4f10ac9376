/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Metrics as text: OpenMetrics 1.0 (https://prometheus.io/docs/specs/om/open_metrics_spec/), or the
 * older text format 0.0.4 of Prometheus, which names the families of counters as their samples
 * (`..._total`) and has neither units nor an end mark.
 *
 * A family's samples stand together, so whoever writes gathers all objects of a kind first:
 *
 *     text_begin(&text, true);
 *     text_rows(&text, "port", parts, 2, sources, count);
 *     text_end(&text);
 *
 * The text grows as needed. Without memory it becomes `failed` and ignores what comes. One thread
 * for each text.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "telemetry/metric.h"

#define TEXT_TYPE_OPENMETRICS "application/openmetrics-text; version=1.0.0; charset=utf-8"
#define TEXT_TYPE_PROMETHEUS "text/plain; version=0.0.4; charset=utf-8"

struct text {
	char *bytes; /* the caller's to free */
	size_t length, capacity;
	bool openmetrics, failed;
};

/* An object: its labels (`port="vm1",queue="0"`, "" for none) and the struct with its fields. */
struct text_source {
	const char *labels;
	const void *from;
};

/* Rows of an object, and where in a source's struct theirs begins. */
struct text_part {
	const struct metric *rows;
	size_t offset;
};

void text_begin(struct text *text, bool openmetrics);
void text_end(struct text *text);

/* The families of all parts' rows, of all sources; none where there are no sources. */
void text_rows(struct text *text, const char *object, const struct text_part *parts,
	       unsigned int part_count, const struct text_source *sources,
	       unsigned int source_count);

/* A sample of a family that is all labels; its `first` one has the family's head before it. */
void text_info(struct text *text, const struct metric_info *info, const char *labels, bool first);

/*
 * Adds `,name="value"` (without the comma at the beginning of a buffer) with the value escaped.
 * Returns false, with nothing added, where that does not fit into the buffer's `size` bytes.
 */
bool text_add_label(char *labels, size_t size, const char *name, const char *value);

/*
 * Does a client with this Accept header (RFC 9110, section 12.5.1; NULL: it has none) get
 * OpenMetrics? All do that do not want text/plain, or a browser's text/html, more.
 */
bool text_wants_openmetrics(const char *accept);
