/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Results and errors for people; print.h is the contract. A table is a grid of cells that are text
 * already, so that widths can be counted before the first line is printed.
 */
#include "print.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "text.h"

#define GAP 2          /* blanks between columns */
#define CUT_MIN 10     /* no column is cut to less */
#define WIDTH_ELSE 80  /* of a terminal that does not say */
#define GROUPED_MIN 100000

struct table {
	size_t columns, rows; /* the headings are row 0 */
	const char **keys;
	char **cells;
	size_t *widths;
	bool *numbers;   /* the column holds nothing else */
};

int style_choose(struct style *style, const char *when)
{
	const char *no_color = getenv("NO_COLOR");
	const char *kind = getenv("TERM");
	struct winsize size = { 0 };

	style->terminal = isatty(STDOUT_FILENO) == 1;
	style->dumb = kind == NULL || strcmp(kind, "dumb") == 0;
	style->width = WIDTH_ELSE;
	if (style->terminal && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
		style->width = size.ws_col;
	if (strcmp(when, "always") == 0)
		style->color = true;
	else if (strcmp(when, "never") == 0)
		style->color = false;
	else if (strcmp(when, "auto") == 0)
		style->color = style->terminal && !style->dumb &&
			       (no_color == NULL || no_color[0] == '\0');
	else
		return -EINVAL;
	return 0;
}

static bool is_scalar(const json_t *value)
{
	return !json_is_object(value) && !json_is_array(value);
}

/* A list of objects, which makes a table. */
static bool is_table(const json_t *value)
{
	json_t *item;
	size_t i;

	json_array_foreach(value, i, item)
		if (!json_is_object(item))
			return false;
	return json_array_size(value) > 0;
}

/* 1,234,567 on a terminal. A process is called by its number as it is. */
static void write_integer(FILE *out, const char *key, json_int_t number, const struct style *style)
{
	char digits[32];
	size_t length;

	length = (size_t)snprintf(digits, sizeof(digits), "%" JSON_INTEGER_FORMAT, number);
	if (!style->terminal || number < GROUPED_MIN || strcmp(key, "pid") == 0) {
		fputs(digits, out);
		return;
	}
	for (size_t i = 0; i < length; i++) {
		if (i > 0 && (length - i) % 3 == 0)
			fputc(',', out);
		fputc(digits[i], out);
	}
}

static void write_scalar(FILE *out, const char *key, const json_t *value, const struct style *style)
{
	switch (json_typeof(value)) {
	case JSON_STRING:
		text_write(out, json_string_length(value) > 0 ? json_string_value(value) : "\"\"");
		break;
	case JSON_INTEGER:
		write_integer(out, key, json_integer_value(value), style);
		break;
	case JSON_REAL:
		fprintf(out, "%g", json_real_value(value));
		break;
	case JSON_TRUE:
		fputs("yes", out);
		break;
	case JSON_FALSE:
		fputs("no", out);
		break;
	default:
		fputc('-', out);
		break;
	}
}

/* On one line: scalars, `a, b`, `key=value, ...`, and what is nested deeper as JSON. */
static void write_inline(FILE *out, const char *key, json_t *value, const struct style *style)
{
	const char *between = "";
	const char *name;
	json_t *item;
	char *text;
	size_t i;

	if (value == NULL || (!is_scalar(value) && json_array_size(value) == 0 &&
			      json_object_size(value) == 0)) {
		fputc('-', out);
		return;
	}
	if (is_scalar(value)) {
		write_scalar(out, key, value, style);
		return;
	}
	json_array_foreach(value, i, item) {
		if (!is_scalar(item))
			goto deep;
	}
	json_object_foreach(value, name, item) {
		if (!is_scalar(item))
			goto deep;
	}
	json_array_foreach(value, i, item) {
		fputs(between, out);
		write_scalar(out, key, item, style);
		between = ", ";
	}
	json_object_foreach(value, name, item) {
		fputs(between, out);
		text_write(out, name);
		fputc('=', out);
		write_scalar(out, name, item, style);
		between = ", ";
	}
	return;

deep:
	text = json_dumps(value, JSON_COMPACT);
	if (text != NULL)
		text_write(out, text);
	free(text);
}

/* NULL without memory. */
static char *cell_text(const char *key, json_t *value, const struct style *style)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (out == NULL)
		return NULL;
	write_inline(out, key, value, style);
	if (fclose(out) == 0)
		return text;
	free(text);
	return NULL;
}

static void table_free(struct table *table)
{
	for (size_t i = 0; table->cells != NULL && i < table->rows * table->columns; i++)
		free(table->cells[i]);
	free(table->keys);
	free(table->cells);
	free(table->widths);
	free(table->numbers);
}

/* Takes the text over. */
static int set_cell(struct table *table, size_t row, size_t column, char *text)
{
	size_t width;

	if (text == NULL)
		return -ENOMEM;
	table->cells[row * table->columns + column] = text;
	width = text_width(text);
	if (width > table->widths[column])
		table->widths[column] = width;
	return 0;
}

static int fill_row(struct table *table, size_t row, json_t *object, const struct style *style)
{
	for (size_t column = 0; column < table->columns; column++) {
		const char *key = table->keys[column];
		json_t *value = json_object_get(object, key);

		if (set_cell(table, row, column, cell_text(key, value, style)) != 0)
			return -ENOMEM;
		if (value != NULL && !json_is_number(value) && !json_is_null(value))
			table->numbers[column] = false;
	}
	return 0;
}

/* All keys of the rows, each at the place where it is met first. A new reference. */
static json_t *all_keys(const json_t *list)
{
	json_t *keys = json_object();
	const char *key;
	json_t *value;
	json_t *row;
	size_t i;

	json_array_foreach(list, i, row)
		json_object_foreach(row, key, value)
			json_object_set_new(keys, key, json_null());
	return keys;
}

/* The keys stay those of `keys`. */
static int table_fill(struct table *table, const json_t *list, json_t *keys,
		      const struct style *style)
{
	const char *key;
	json_t *unused;
	json_t *row;
	size_t i = 0;

	table->rows = json_array_size(list) + 1;
	table->columns = json_object_size(keys);
	table->keys = calloc(table->columns, sizeof(*table->keys));
	table->cells = calloc(table->rows * table->columns, sizeof(*table->cells));
	table->widths = calloc(table->columns, sizeof(*table->widths));
	table->numbers = calloc(table->columns, sizeof(*table->numbers));
	if (table->keys == NULL || table->cells == NULL || table->widths == NULL ||
	    table->numbers == NULL)
		return -ENOMEM;
	json_object_foreach(keys, key, unused) {
		table->keys[i] = key;
		table->numbers[i] = true;
		if (set_cell(table, 0, i++, text_safe(key)) != 0)
			return -ENOMEM;
	}
	json_array_foreach(list, i, row)
		if (fill_row(table, i + 1, row, style) != 0)
			return -ENOMEM;
	return 0;
}

static size_t table_width(const struct table *table)
{
	size_t width = (table->columns - 1) * GAP;

	for (size_t column = 0; column < table->columns; column++)
		width += table->widths[column];
	return width;
}

/* Takes from the widest columns of text until the table fits. Returns false if it cannot. */
static bool table_cut(struct table *table, size_t width)
{
	while (table_width(table) > width) {
		size_t *widest = NULL;

		for (size_t column = 0; column < table->columns; column++) {
			size_t least = text_width(table->cells[column]);

			if (least < CUT_MIN)
				least = CUT_MIN;
			if (!table->numbers[column] && table->widths[column] > least &&
			    (widest == NULL || table->widths[column] > *widest))
				widest = &table->widths[column];
		}
		if (widest == NULL)
			return false;
		--*widest;
	}
	return true;
}

static void write_blanks(size_t count)
{
	while (count-- > 0)
		putchar(' ');
}

/* Green is what works, red what does not. */
static const char *color_of(const char *key, const char *text, const struct style *style)
{
	if (!style->color || strcmp(key, "state") != 0)
		return NULL;
	return strcmp(text, "up") == 0 ? PRINT_GREEN : strcmp(text, "down") == 0 ? PRINT_RED : NULL;
}

static void print_colored(const char *text, const char *color)
{
	if (color != NULL)
		fputs(color, stdout);
	fputs(text, stdout);
	if (color != NULL)
		fputs(PRINT_PLAIN, stdout);
}

static void print_row(const struct table *table, size_t row, const struct style *style)
{
	for (size_t column = 0; column < table->columns; column++) {
		char *text = table->cells[row * table->columns + column];
		const char *color = color_of(table->keys[column], text, style);
		size_t blanks;

		if (row == 0)
			color = style->color ? PRINT_BOLD : NULL;
		text_fit(text, table->widths[column]);
		blanks = table->widths[column] - text_width(text);
		if (table->numbers[column])
			write_blanks(blanks);
		print_colored(text, color);
		/* No blanks at the end of a line. */
		if (column + 1 < table->columns)
			write_blanks(GAP + (table->numbers[column] ? 0 : blanks));
	}
	putchar('\n');
}

static void print_object(json_t *object, size_t indent, const struct style *style);

static void print_rows_apart(const json_t *list, size_t indent, const struct style *style)
{
	json_t *row;
	size_t i;

	json_array_foreach(list, i, row) {
		if (i > 0)
			putchar('\n');
		print_object(row, indent, style);
	}
}

static void print_table(const json_t *list, size_t indent, const struct style *style)
{
	size_t width = style->width > indent ? style->width - indent : 0;
	json_t *keys = all_keys(list);
	struct table table = { 0 };

	if (json_object_size(keys) == 0 || table_fill(&table, list, keys, style) != 0 ||
	    (style->terminal && !table_cut(&table, width))) {
		print_rows_apart(list, indent, style);
		goto out;
	}
	for (size_t row = 0; row < table.rows; row++) {
		write_blanks(indent);
		print_row(&table, row, style);
	}
out:
	table_free(&table);
	json_decref(keys);
}

/* Does the value of a key need lines of its own? */
static bool is_nested(const json_t *value)
{
	return json_object_size(value) > 0 || is_table(value);
}

static void print_member(const char *key, json_t *value, size_t indent, size_t width,
			 const struct style *style)
{
	char *name = text_safe(key);
	char *text;

	if (name == NULL)
		return;
	write_blanks(indent);
	print_colored(name, style->color && is_nested(value) ? PRINT_BOLD : NULL);
	if (is_nested(value)) {
		putchar('\n');
		if (json_is_object(value))
			print_object(value, indent + GAP, style);
		else
			print_table(value, indent + GAP, style);
		free(name);
		return;
	}
	write_blanks(width - text_width(name) + GAP);
	text = cell_text(key, value, style);
	if (text != NULL)
		print_colored(text, color_of(key, text, style));
	putchar('\n');
	free(text);
	free(name);
}

static void print_object(json_t *object, size_t indent, const struct style *style)
{
	size_t width = 0;
	const char *key;
	json_t *value;

	json_object_foreach(object, key, value) {
		char *name = text_safe(key);

		if (name != NULL && !is_nested(value) && text_width(name) > width)
			width = text_width(name);
		free(name);
	}
	json_object_foreach(object, key, value)
		print_member(key, value, indent, width, style);
}

void print_result(json_t *result, const struct style *style)
{
	json_t *item;
	size_t i;

	if (json_is_true(result)) {
		puts("done");
	} else if (json_is_object(result)) {
		print_object(result, 0, style);
	} else if (is_table(result)) {
		print_table(result, 0, style);
	} else if (json_is_array(result)) {
		json_array_foreach(result, i, item) {
			write_inline(stdout, "", item, style);
			putchar('\n');
		}
	} else {
		write_inline(stdout, "", result, style);
		putchar('\n');
	}
}

static void write_json(const json_t *value, size_t flags)
{
	char *text = json_dumps(value, flags | JSON_ENCODE_ANY | JSON_ENSURE_ASCII);

	for (const char *c = text; c != NULL && *c != '\0'; c++) {
		/* ASCII as well, and not escaped by jansson. */
		if (*c == 0x7f)
			fputs("\\u007f", stdout);
		else
			putchar(*c);
	}
	putchar('\n');
	free(text);
}

void print_json(const json_t *result)
{
	write_json(result, JSON_INDENT(2));
}

void print_json_line(const json_t *value)
{
	write_json(value, JSON_COMPACT);
}

void print_value(const char *key, json_t *value, const struct style *style)
{
	write_inline(stdout, key, value, style);
}

void print_error(const struct error *err)
{
	const char *const details[][2] = {
		{ "object", err->object },
		{ "field", err->field },
		{ "value", err->value },
		{ "accepted", err->accepted },
	};

	fputs("ringwayctl: ", stderr);
	text_write(stderr, err->message);
	fputc('\n', stderr);
	for (size_t i = 0; i < sizeof(details) / sizeof(details[0]); i++) {
		if (details[i][1][0] == '\0')
			continue;
		fprintf(stderr, "  %-8s  ", details[i][0]);
		text_write(stderr, details[i][1]);
		fputc('\n', stderr);
	}
}

void print_pair(const char *first, size_t first_width, const char *second, size_t width)
{
	size_t at = first_width + 2 * GAP;

	printf("  %-*s", (int)first_width, first);
	if (text_width(first) > first_width) {
		putchar('\n');
		write_blanks(at - GAP);
	}
	write_blanks(GAP);
	while (*second != '\0') {
		size_t length = strcspn(second, " ");

		if (at > first_width + 2 * GAP && at + 1 + length > width) {
			putchar('\n');
			at = first_width + 2 * GAP;
			write_blanks(at);
		} else if (at > first_width + 2 * GAP) {
			putchar(' ');
			at++;
		}
		printf("%.*s", (int)length, second);
		at += length;
		second += length + strspn(second + length, " ");
	}
	putchar('\n');
}
