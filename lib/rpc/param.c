/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Parameter tables.
 *
 * Parsing goes through the table first, so that every row of the struct holds its default, and then
 * through what was given. So a failure in the middle leaves a struct that param_release can free.
 */
#include "rpc/param.h"

#include "base/units.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define PATH_SIZE 96 /* as error.field; longer paths are cut there anyway */

/* Where a value stands, for messages. */
struct place {
	const char *object;
	char field[PATH_SIZE];
};

static const char *const type_names[] = {
	[JSON_OBJECT] = "an object", [JSON_ARRAY] = "an array",	 [JSON_STRING] = "a string",
	[JSON_INTEGER] = "a number", [JSON_REAL] = "a number",	 [JSON_TRUE] = "true or false",
	[JSON_FALSE] = "true or false", [JSON_NULL] = "null",
};

static int set_defaults(const struct param *table, void *out, struct error *err);
static int set_given(const struct param *table, const json_t *object, void *out,
		     const char *object_name, const char *prefix, struct error *err);

/* A writer for json_dump_callback which stops when its buffer is full. */
struct writer {
	char *text;
	size_t size;
	size_t used;
};

static int write_some(const char *data, size_t size, void *context)
{
	struct writer *writer = context;
	size_t room = writer->size - writer->used;
	size_t length = size < room ? size : room;

	memcpy(writer->text + writer->used, data, length);
	writer->used += length;
	return length == size ? 0 : -1;
}

void param_describe(const json_t *value, char *text, size_t size)
{
	struct writer writer = { .text = text, .size = size };

	if (json_dump_callback(value, write_some, &writer, JSON_ENCODE_ANY) == 0 &&
	    writer.used < size)
		text[writer.used] = '\0';
	else
		text_cut(text, size);
}

static struct place place_of(const char *object_name, const char *prefix, const char *name)
{
	struct place place = { .object = object_name };
	char path[2 * PATH_SIZE];

	snprintf(path, sizeof(path), "%s%s", prefix, name);
	text_copy(place.field, sizeof(place.field), path);
	return place;
}

/* Always -EINVAL. `what` goes on after the key: `port vm1: "queues" is out of range`. */
static int refuse(const struct place *place, const json_t *value, const char *what,
		  const char *accepted, struct error *err)
{
	bool named = place->object != NULL && place->object[0] != '\0';
	char text[sizeof(err->value)];

	error_set(err, ERROR_INVALID, EINVAL, "%s%s\"%s\" %s", named ? place->object : "",
		  named ? ": " : "", place->field, what);
	if (value != NULL)
		param_describe(value, text, sizeof(text));
	error_detail(err, place->object, place->field, value != NULL ? text : NULL, accepted);
	return -EINVAL;
}

/* Appends to a list as "a, b, c"; a full buffer ends in an ellipsis. */
static void append(char *list, size_t size, const char *item)
{
	char longer[512];

	snprintf(longer, sizeof(longer), "%s%s%s", list, list[0] == '\0' ? "" : ", ", item);
	text_copy(list, size, longer);
}

static int refuse_unknown(const struct param *table, const struct place *place, const json_t *value,
			  struct error *err)
{
	char known[sizeof(err->accepted)] = "";

	for (const struct param *row = table; row != NULL && row->name != NULL; row++)
		if (row->type != PARAM_LATER)
			append(known, sizeof(known), row->name);
	return refuse(place, value, "is not known", known[0] == '\0' ? "no keys" : known, err);
}

uint64_t param_max(const struct param *row)
{
	bool narrow = row->type == PARAM_UINT && row->size == sizeof(uint32_t);
	uint64_t width = narrow ? UINT32_MAX : INT64_MAX;

	return row->max == 0 || row->max > width ? width : row->max;
}

static int store_uint(const struct param *row, const json_t *value, void *at,
		      const struct place *place, struct error *err)
{
	uint64_t max = param_max(row);
	char accepted[64];
	json_int_t number;

	assert(row->size == sizeof(uint32_t) || row->size == sizeof(uint64_t));
	snprintf(accepted, sizeof(accepted), "%" PRIu64 " to %" PRIu64, row->min, max);
	if (!json_is_integer(value))
		return refuse(place, value, "must be a whole number", accepted, err);
	number = json_integer_value(value);
	if (number < 0 || (uint64_t)number < row->min || (uint64_t)number > max)
		return refuse(place, value, "is out of range", accepted, err);
	if (row->size == sizeof(uint32_t))
		memcpy(at, &(uint32_t){ (uint32_t)number }, sizeof(uint32_t));
	else
		memcpy(at, &(uint64_t){ (uint64_t)number }, sizeof(uint64_t));
	return 0;
}

static int store_string(const struct param *row, const json_t *value, void *at,
			const struct place *place, struct error *err)
{
	char accepted[64];
	size_t length;

	assert(row->size > 0);
	if (!json_is_string(value))
		return refuse(place, value, "must be a string", "a string", err);
	length = json_string_length(value);
	snprintf(accepted, sizeof(accepted), "at most %zu bytes", row->size - 1);
	if (length > row->size - 1)
		return refuse(place, value, "is too long", accepted, err);
	if (strlen(json_string_value(value)) != length)
		return refuse(place, value, "has a NUL character in it", "text without NUL", err);
	memcpy(at, json_string_value(value), length + 1);
	return 0;
}

static int store_choice(const struct param *row, const json_t *value, void *at,
			const struct place *place, struct error *err)
{
	char accepted[sizeof(err->accepted)] = "";

	assert(row->size == sizeof(uint32_t));
	for (uint32_t i = 0; row->choices[i] != NULL; i++) {
		/* A string with a NUL inside is longer than the choice that it begins with. */
		if (json_is_string(value) &&
		    json_string_length(value) == strlen(row->choices[i]) &&
		    strcmp(json_string_value(value), row->choices[i]) == 0) {
			memcpy(at, &i, sizeof(i));
			return 0;
		}
		append(accepted, sizeof(accepted), row->choices[i]);
	}
	return refuse(place, value, "is none of the choices", accepted, err);
}

static int store_mode(const struct param *row, const json_t *value, void *at,
		      const struct place *place, struct error *err)
{
	uint32_t mode;

	assert(row->size == sizeof(uint32_t));
	(void)row;
	if (!json_is_string(value) ||
	    strlen(json_string_value(value)) != json_string_length(value) ||
	    mode_parse(json_string_value(value), &mode) != 0)
		return refuse(place, value, "must be a file mode in octal, in quotes",
			      "\"0000\" to \"0777\"", err);
	memcpy(at, &mode, sizeof(mode));
	return 0;
}

static int store_mac(const struct param *row, const json_t *value, void *at,
		     const struct place *place, struct error *err)
{
	struct param_mac mac = { .given = true };

	assert(row->size == sizeof(mac));
	(void)row;
	if (!json_is_string(value) ||
	    strlen(json_string_value(value)) != json_string_length(value) ||
	    mac_parse(json_string_value(value), mac.mac) != 0)
		return refuse(place, value, "must be a MAC address",
			      "six pairs of hexadecimal digits, \"52:54:00:00:00:01\"", err);
	memcpy(at, &mac, sizeof(mac));
	return 0;
}

/* Rates and sizes: a number, or text with a unit. */
static int store_quantity(const struct param *row, const json_t *value, void *at,
			  const struct place *place, struct error *err)
{
	uint64_t max = param_max(row);
	const char *text = json_string_value(value);
	bool is_rate = row->type == PARAM_RATE;
	char accepted[120];
	uint64_t number = 0;
	int result = -EINVAL;

	assert(row->size == sizeof(number));
	snprintf(accepted, sizeof(accepted), "%" PRIu64 " to %" PRIu64 ", or text as %s", row->min,
		 max, is_rate ? "\"64k\", \"1.5Gbit\"" : "\"64KiB\", \"1MiB\"");
	if (json_is_integer(value) && json_integer_value(value) >= 0) {
		number = (uint64_t)json_integer_value(value);
		result = 0;
	} else if (text != NULL && strlen(text) == json_string_length(value)) {
		result = is_rate ? rate_parse(text, &number) : size_parse(text, &number);
	}
	if (result != 0)
		return refuse(place, value, is_rate ? "is no rate" : "is no size", accepted, err);
	if (number < row->min || number > max)
		return refuse(place, value,
			      number == 0 ? "is zero: use null for none" : "is out of range",
			      accepted, err);
	memcpy(at, &number, sizeof(number));
	return 0;
}

static int store_object(const struct param *row, const json_t *value, void *at,
			const struct place *place, struct error *err)
{
	char prefix[PATH_SIZE + 2];

	if (!json_is_object(value))
		return refuse(place, value, "must be an object", "an object", err);
	snprintf(prefix, sizeof(prefix), "%s.", place->field);
	return set_given(row->fields, value, at, place->object, prefix, err);
}

/* A JSON type as operators see it: true and false are one, and so are the two sorts of numbers. */
static bool same_kind(const json_t *value, int kind)
{
	if (kind == JSON_TRUE || kind == JSON_FALSE)
		return json_is_boolean(value);
	if (kind == JSON_REAL)
		return json_is_number(value);
	return (int)json_typeof(value) == kind;
}

static int store_json(const struct param *row, const json_t *value, void *at,
		      const struct place *place, struct error *err)
{
	json_t *before;
	json_t *reference;
	char what[64];

	assert(row->size == sizeof(json_t *));
	if (row->json_kind >= 0 && !same_kind(value, row->json_kind)) {
		snprintf(what, sizeof(what), "must be %s", type_names[row->json_kind]);
		return refuse(place, value, what, type_names[row->json_kind], err);
	}
	reference = json_incref((json_t *)(uintptr_t)value);
	memcpy(&before, at, sizeof(before));
	json_decref(before);
	memcpy(at, &reference, sizeof(reference));
	return 0;
}

static int store(const struct param *row, const json_t *value, void *at, const struct place *place,
		 struct error *err)
{
	switch (row->type) {
	case PARAM_BOOL:
		assert(row->size == sizeof(bool));
		if (!json_is_boolean(value))
			return refuse(place, value, "must be true or false", "true, false", err);
		memcpy(at, &(bool){ json_is_true(value) }, sizeof(bool));
		return 0;
	case PARAM_UINT:
		return store_uint(row, value, at, place, err);
	case PARAM_STRING:
		return store_string(row, value, at, place, err);
	case PARAM_CHOICE:
		return store_choice(row, value, at, place, err);
	case PARAM_MODE:
		return store_mode(row, value, at, place, err);
	case PARAM_MAC:
		return store_mac(row, value, at, place, err);
	case PARAM_RATE:
	case PARAM_SIZE:
		return store_quantity(row, value, at, place, err);
	case PARAM_OBJECT:
		return store_object(row, value, at, place, err);
	case PARAM_JSON:
		return store_json(row, value, at, place, err);
	case PARAM_LATER:
		return refuse(place, value, "is not in this version", NULL, err);
	}
	return refuse(place, value, "has a type that the table does not know", NULL, err);
}

/* The row's own check, with the details added that it cannot know. */
static int run_check(const struct param *row, const json_t *value, const void *at,
		     const struct place *place, struct error *err)
{
	char text[sizeof(err->value)];
	int rc;

	if (row->check == NULL)
		return 0;
	refuse(place, value, "is not accepted", NULL, err);
	rc = row->check(at, err);
	if (rc == 0) {
		memset(err, 0, sizeof(*err));
		return 0;
	}
	param_describe(value, text, sizeof(text));
	error_detail(err, err->object[0] == '\0' ? place->object : NULL,
		     err->field[0] == '\0' ? place->field : NULL,
		     err->value[0] == '\0' ? text : NULL, NULL);
	return rc < 0 ? rc : -EINVAL;
}

static int set_default(const struct param *row, void *at, struct error *err)
{
	struct place place = place_of("the default", "", row->name);
	json_t *value;
	int rc;

	if (row->type == PARAM_OBJECT)
		return set_defaults(row->fields, at, err);
	if (row->type == PARAM_LATER)
		return 0;
	memset(at, 0, row->size);
	if (row->initial == NULL)
		return 0;
	value = json_loads(row->initial, JSON_DECODE_ANY, NULL);
	if (value == NULL)
		return error_set(err, ERROR_INTERNAL, EINVAL, "the default of \"%s\" is no JSON",
				 row->name);
	rc = store(row, value, at, &place, err);
	json_decref(value);
	return rc;
}

/* Goes on after a failure, so that the whole struct is safe to release. */
static int set_defaults(const struct param *table, void *out, struct error *err)
{
	int rc = 0;

	for (const struct param *row = table; row != NULL && row->name != NULL; row++) {
		struct error own;
		int row_rc = set_default(row, (char *)out + row->offset, &own);

		if (row_rc != 0 && rc == 0) {
			*err = own;
			rc = row_rc;
		}
	}
	return rc;
}

static const struct param *find_row(const struct param *table, const char *name)
{
	for (const struct param *row = table; row != NULL && row->name != NULL; row++)
		if (strcmp(row->name, name) == 0)
			return row;
	return NULL;
}

static int set_given(const struct param *table, const json_t *object, void *out,
		     const char *object_name, const char *prefix, struct error *err)
{
	const char *name;
	json_t *value;

	/* Iterating does not change the object; jansson has no const way to do it. */
	json_object_foreach((json_t *)(uintptr_t)object, name, value) {
		if (find_row(table, name) == NULL) {
			struct place place = place_of(object_name, prefix, name);

			return refuse_unknown(table, &place, value, err);
		}
	}
	for (const struct param *row = table; row != NULL && row->name != NULL; row++) {
		struct place place = place_of(object_name, prefix, row->name);
		void *at = (char *)out + row->offset;
		int rc;

		value = json_object_get(object, row->name);
		if (value == NULL || json_is_null(value)) {
			if (row->required)
				return refuse(&place, NULL, "is missing", row->help, err);
			continue;
		}
		rc = store(row, value, at, &place, err);
		if (rc == 0)
			rc = run_check(row, value, at, &place, err);
		if (rc != 0)
			return rc;
	}
	return 0;
}

int param_parse(const struct param *table, const json_t *object, void *out, const char *object_name,
		const char *prefix, struct error *err)
{
	int rc = set_defaults(table, out, err);

	if (rc != 0)
		goto release;
	if (!json_is_object(object)) {
		bool named = object_name != NULL && object_name[0] != '\0';
		char text[sizeof(err->value)];

		rc = error_set(err, ERROR_INVALID, EINVAL, "%s must be an object",
			       named ? object_name : "the value");
		if (object != NULL)
			param_describe(object, text, sizeof(text));
		error_detail(err, object_name, NULL, object != NULL ? text : NULL, "an object");
		goto release;
	}
	rc = set_given(table, object, out, object_name, prefix, err);
	if (rc == 0)
		return 0;

release:
	param_release(table, out);
	return rc;
}

void param_release(const struct param *table, void *out)
{
	for (const struct param *row = table; row != NULL && row->name != NULL; row++) {
		void *at = (char *)out + row->offset;
		json_t *value;

		if (row->type == PARAM_OBJECT) {
			param_release(row->fields, at);
		} else if (row->type == PARAM_JSON) {
			memcpy(&value, at, sizeof(value));
			json_decref(value);
			memset(at, 0, sizeof(value));
		}
	}
}
