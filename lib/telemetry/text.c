/* SPDX-License-Identifier: BSD-3-Clause */
/* Metrics as text; telemetry/text.h is the contract. */
#include "telemetry/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "frame/drop.h"
#include "sync/counter.h"
#include "worker/worker.h"

#define FIRST_CAPACITY 65536

void text_begin(struct text *text, bool openmetrics)
{
	*text = (struct text){ .openmetrics = openmetrics };
}

/* Room for `size` more bytes. Returns where they go, or NULL. */
static char *reserve(struct text *text, size_t size)
{
	size_t capacity = text->capacity > 0 ? text->capacity : FIRST_CAPACITY;
	char *bytes;

	if (text->failed)
		return NULL;
	while (capacity - text->length < size)
		capacity *= 2;
	if (capacity > text->capacity) {
		bytes = realloc(text->bytes, capacity);
		if (bytes == NULL) {
			text->failed = true;
			return NULL;
		}
		text->bytes = bytes;
		text->capacity = capacity;
	}
	return text->bytes + text->length;
}

static void add_bytes(struct text *text, const char *bytes, size_t length)
{
	char *to = reserve(text, length);

	if (to == NULL)
		return;
	memcpy(to, bytes, length);
	text->length += length;
}

static void add(struct text *text, const char *string)
{
	add_bytes(text, string, strlen(string));
}

void text_end(struct text *text)
{
	if (text->openmetrics)
		add(text, "# EOF\n");
}

/* ---- numbers: there are tens of thousands of them ---- */

#define NUMBER_SIZE 32

/* Writes digits, at least so many, that end before `end`. Returns where they begin. */
static char *digits_before(char *end, uint64_t value, unsigned int digits)
{
	for (; value > 0 || digits > 0; value /= 10, digits -= digits > 0)
		*--end = (char)('0' + value % 10);
	return end;
}

static unsigned int digits_of(uint32_t parts)
{
	unsigned int digits = 0;

	for (; parts > 1; parts /= 10)
		digits++;
	return digits;
}

static void add_value(struct text *text, uint64_t value, uint32_t parts, bool is_signed)
{
	char number[NUMBER_SIZE], *end = number + sizeof(number), *begin = end;
	bool negative = is_signed && (int64_t)value < 0;

	if (negative)
		value = -value;
	*--begin = '\n';
	if (parts > 1) {
		begin = digits_before(begin, value % parts, digits_of(parts));
		*--begin = '.';
		value /= parts;
	}
	begin = digits_before(begin, value, 1);
	if (negative)
		*--begin = '-';
	*--begin = ' ';
	add_bytes(text, begin, (size_t)(end - begin));
}

/* ---- samples ---- */

/* What all samples of a row have in common. */
struct sample {
	char name[112];
	size_t name_length;
	char direction[20]; /* `direction="rx"` or "" */
	uint32_t parts;
};

/* The name and the labels: those of the source, the direction, and one more. */
static void add_labels(struct text *text, const struct sample *sample, const char *labels,
		       const char *key, const char *value)
{
	const char *comma = "";

	add_bytes(text, sample->name, sample->name_length);
	if (labels[0] == '\0' && sample->direction[0] == '\0' && key == NULL)
		return;
	add_bytes(text, "{", 1);
	if (labels[0] != '\0') {
		add(text, labels);
		comma = ",";
	}
	if (sample->direction[0] != '\0') {
		add(text, comma);
		add(text, sample->direction);
		comma = ",";
	}
	if (key != NULL) {
		add(text, comma);
		add(text, key);
		add_bytes(text, "=\"", 2);
		add(text, value);
		add_bytes(text, "\"", 1);
	}
	add_bytes(text, "}", 1);
}

static void add_drops(struct text *text, const struct sample *sample, const char *labels,
		      const uint64_t *drops)
{
	/* Those that are 0, too: a series that begins with its first drop would hide it. */
	for (int reason = 0; reason < DROP_COUNT; reason++) {
		add_labels(text, sample, labels, "reason", drop_name((enum drop)reason));
		add_value(text, counter_read(&drops[reason]), 1, false);
	}
}

static void add_suffixed(struct text *text, struct sample *sample, const char *suffix,
			 const char *labels, const char *key, const char *value)
{
	size_t length = sample->name_length;

	sample->name_length += (size_t)snprintf(sample->name + length,
						sizeof(sample->name) - length, "%s", suffix);
	add_labels(text, sample, labels, key, value);
	sample->name_length = length;
}

/* The frames of all bursts are the worker's packets. */
static void add_bursts(struct text *text, struct sample *sample, const char *labels,
		       const uint64_t *bursts)
{
	const struct worker_counters *counters =
		(const void *)((const char *)bursts - offsetof(struct worker_counters, bursts));
	uint64_t count = 0;

	for (unsigned int class = 0; class < WORKER_BURSTS; class++) {
		char bound[16];

		/* No burst is longer than the last class. */
		snprintf(bound, sizeof(bound), "%u.0", 1u << class);
		count += counter_read(&bursts[class]);
		add_suffixed(text, sample, "_bucket", labels, "le",
			     class + 1 < WORKER_BURSTS ? bound : "+Inf");
		add_value(text, count, 1, false);
	}
	add_suffixed(text, sample, "_count", labels, NULL, NULL);
	add_value(text, count, 1, false);
	add_suffixed(text, sample, "_sum", labels, NULL, NULL);
	add_value(text, counter_read(&counters->packets), 1, false);
}

static void add_row(struct text *text, const struct metric *row, struct sample *sample,
		    const struct text_source *source, size_t offset)
{
	const uint64_t *value =
		(const void *)((const char *)source->from + offset + row->offset);

	switch (row->kind) {
	case METRIC_DROPS:
		add_drops(text, sample, source->labels, value);
		break;
	case METRIC_BURSTS:
		add_bursts(text, sample, source->labels, value);
		break;
	default:
		add_labels(text, sample, source->labels, NULL, NULL);
		add_value(text, counter_read(value), sample->parts, row->kind == METRIC_GAUGE);
		break;
	}
}

/* ---- families ---- */

static bool is_counter(const struct metric *row)
{
	return row->kind == METRIC_COUNTER || row->kind == METRIC_DROPS;
}

/* A line about a family: `# WORD NAME REST`. */
static void add_comment(struct text *text, const char *word, const char *family, const char *rest)
{
	add(text, "# ");
	add(text, word);
	add(text, " ");
	add(text, family);
	add(text, " ");
	add(text, rest);
	add(text, "\n");
}

static void add_head(struct text *text, const struct metric *row,
		     const struct metric_family *family, const char *help)
{
	static const char *const types[] = { "counter", "gauge", "counter", "histogram" };
	char name[sizeof(family->name) + 8];

	snprintf(name, sizeof(name), "%s%s", family->name,
		 is_counter(row) && !text->openmetrics ? "_total" : "");
	add_comment(text, "TYPE", name, types[row->kind]);
	if (text->openmetrics && family->unit != NULL)
		add_comment(text, "UNIT", name, family->unit);
	add_comment(text, "HELP", name, help);
}

static void make_sample(const struct metric *row, const struct metric_family *family,
			struct sample *sample)
{
	sample->name_length = (size_t)snprintf(sample->name, sizeof(sample->name), "%s%s",
					       family->name, is_counter(row) ? "_total" : "");
	sample->direction[0] = '\0';
	if (family->direction != NULL)
		snprintf(sample->direction, sizeof(sample->direction), "direction=\"%s\"",
			 family->direction);
	sample->parts = family->parts;
}

/* The row of these that belongs to the family of this name, or NULL. */
static const struct metric *find_row(const struct metric *rows, const char *object,
				     const char *name)
{
	struct metric_family family;

	for (const struct metric *row = rows; row->name != NULL; row++) {
		metric_name_family(object, row, &family);
		if (strcmp(family.name, name) == 0)
			return row;
	}
	return NULL;
}

/* What all rows of a family have to say. */
static void explain_family(const char *object, const struct text_part *parts, unsigned int count,
			   const char *name, char *help, size_t size)
{
	size_t used = 0;

	for (unsigned int i = 0; i < count; i++) {
		const struct metric *row = find_row(parts[i].rows, object, name);

		if (row == NULL || used + 4 >= size)
			continue;
		if (used > 0)
			used += (size_t)snprintf(help + used, size - used, "; ");
		metric_explain(row, help + used, size - used);
		used += strlen(help + used);
	}
}

static void add_family(struct text *text, const char *object, const struct text_part *parts,
		       unsigned int part_count, const struct text_source *sources,
		       unsigned int source_count, const char *name)
{
	bool begun = false;
	char help[400];

	explain_family(object, parts, part_count, name, help, sizeof(help));
	for (unsigned int i = 0; i < part_count; i++) {
		const struct metric *row = find_row(parts[i].rows, object, name);
		struct metric_family family;
		struct sample sample;

		if (row == NULL)
			continue;
		metric_name_family(object, row, &family);
		make_sample(row, &family, &sample);
		if (!begun)
			add_head(text, row, &family, help);
		begun = true;
		for (unsigned int s = 0; s < source_count; s++)
			add_row(text, row, &sample, &sources[s], parts[i].offset);
	}
}

void text_rows(struct text *text, const char *object, const struct text_part *parts,
	       unsigned int part_count, const struct text_source *sources,
	       unsigned int source_count)
{
	for (unsigned int i = 0; i < part_count && source_count > 0; i++) {
		for (const struct metric *row = parts[i].rows; row->name != NULL; row++) {
			struct metric_family family;
			bool done = false;

			metric_name_family(object, row, &family);
			for (unsigned int earlier = 0; earlier < i; earlier++)
				done |= find_row(parts[earlier].rows, object, family.name) != NULL;
			if (!done)
				add_family(text, object, parts, part_count, sources, source_count,
					   family.name);
		}
	}
}

static void add_info_head(struct text *text, const struct metric_info *info, const char *family,
			  const char *sample)
{
	const char *name = text->openmetrics ? family : sample;

	add_comment(text, "TYPE", name, text->openmetrics ? "info" : "gauge");
	add_comment(text, "HELP", name, info->help);
}

void text_info(struct text *text, const struct metric_info *info, const char *labels, bool first)
{
	char family[64], sample[72];

	snprintf(family, sizeof(family), "ringway_%s", info->name);
	snprintf(sample, sizeof(sample), "%s_info", family);
	if (first)
		add_info_head(text, info, family, sample);
	add(text, sample);
	add(text, "{");
	add(text, labels);
	add(text, "} 1\n");
}

/* ---- labels ---- */

bool text_add_label(char *labels, size_t size, const char *name, const char *value)
{
	size_t begin = strlen(labels);
	size_t used = begin + (size_t)snprintf(labels + begin, size - begin, "%s%s=\"",
					       begin > 0 ? "," : "", name);

	for (; *value != '\0' && used + 4 < size; value++) {
		if (*value == '\\' || *value == '"' || *value == '\n')
			labels[used++] = '\\';
		labels[used++] = *value == '\n' ? 'n' : *value;
	}
	if (*value != '\0' || used + 2 > size) {
		labels[begin] = '\0';
		return false;
	}
	labels[used++] = '"';
	labels[used] = '\0';
	return true;
}

/* ---- which of the two ---- */

/* How much one entry of an Accept header is wanted, in thousandths: its `q`, or 1000. */
static int weight_of(const char *entry, size_t length)
{
	const char *at = entry;

	while ((at = memchr(at, ';', length - (size_t)(at - entry))) != NULL) {
		char text[8] = "";
		double weight;

		at++;
		while (at < entry + length && *at == ' ')
			at++;
		if (entry + length - at < 3 || (at[0] != 'q' && at[0] != 'Q') || at[1] != '=')
			continue;
		for (size_t i = 0; i + 1 < sizeof(text) && at + 2 + i < entry + length; i++)
			text[i] = at[2 + i];
		weight = strtod(text, NULL);
		return weight > 0 && weight <= 1 ? (int)(weight * 1000) : 0;
	}
	return 1000;
}

static bool begins_with(const char *entry, size_t length, const char *word)
{
	return length >= strlen(word) && strncasecmp(entry, word, strlen(word)) == 0;
}

bool text_wants_openmetrics(const char *accept)
{
	int openmetrics = 0, plain = 0;

	if (accept == NULL)
		return true;
	while (*accept != '\0') {
		size_t length;
		int weight;

		accept += strspn(accept, " \t,");
		length = strcspn(accept, ",");
		weight = weight_of(accept, length);
		if (begins_with(accept, length, "application/openmetrics-text") &&
		    weight > openmetrics)
			openmetrics = weight;
		else if (begins_with(accept, length, "text/") && weight > plain)
			plain = weight;
		accept += length;
	}
	/* Whoever names neither takes anything. */
	return openmetrics >= plain;
}
