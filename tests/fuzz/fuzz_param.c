/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Parameters: any JSON against a table that has every type of row. What is accepted is what was
 * given, or the default, and within its bounds; a refusal says where, what and what else would do;
 * and nothing is left to be freed.
 */
#include <errno.h>
#include <string.h>

#include "base/units.h"
#include "rpc/describe.h"
#include "rpc/param.h"
#include "grammar.h"
#include "text.h"

const char target_name[] = "param";
const bool text_takes_many = false;

#define LIMITS_MIN 64000

struct inner {
	uint32_t number;
	json_t *object;
	char name[8];
};

struct outer {
	struct inner inner;
	struct param_mac mac;
};

struct all {
	bool boolean, yes;
	uint32_t number, bounded, choice, mode;
	uint64_t wide, rate, size, free_rate;
	char name[64], text[4];
	struct param_mac mac;
	struct outer outer;
	json_t *any, *object, *list, *real, *truth, *checked, *defaulted;
};

/* Refuses with an error of its own for some, and adds details for others. */
static int check_text(const void *value, struct error *err)
{
	const char *text = value;

	if (text[0] == 'v')
		return error_set(err, ERROR_CONFLICT, EBUSY, "%s is taken", text);
	if (name_check(text) == 0)
		return 0;
	error_detail(err, NULL, NULL, NULL, "a name");
	return -EINVAL;
}

static int check_json(const void *value, struct error *err)
{
	json_t *const *object = value;

	if (json_object_size(*object) < 3)
		return 0;
	error_detail(err, NULL, NULL, NULL, "at most two keys");
	return -EINVAL;
}

static const char *const choices[] = { "one", "two", "vm1", NULL };

static const struct param inner_rows[] = {
	{ "number", PARAM_UINT, PARAM_AT(struct inner, number), .min = 1, .max = 3, .initial = "2",
	  .required = true, .help = "one to three" },
	{ "object", PARAM_JSON, PARAM_AT(struct inner, object), .json_kind = JSON_OBJECT,
	  .initial = "{\"default\": 1}" },
	{ "name", PARAM_STRING, PARAM_AT(struct inner, name), .check = check_text },
	{ "later", PARAM_LATER },
	{ NULL }
};

static const struct param outer_rows[] = {
	{ "inner", PARAM_OBJECT, PARAM_AT(struct outer, inner), .fields = inner_rows },
	{ "mac", PARAM_MAC, PARAM_AT(struct outer, mac) },
	{ NULL }
};

static const struct param rows[] = {
	{ "name", PARAM_STRING, PARAM_AT(struct all, name), .required = true, .help = "a name" },
	{ "boolean", PARAM_BOOL, PARAM_AT(struct all, boolean) },
	{ "yes", PARAM_BOOL, PARAM_AT(struct all, yes), .initial = "true" },
	{ "number", PARAM_UINT, PARAM_AT(struct all, number) },
	{ "bounded", PARAM_UINT, PARAM_AT(struct all, bounded), .min = 68, .max = 65535,
	  .initial = "1500" },
	{ "wide", PARAM_UINT, PARAM_AT(struct all, wide), .min = 1 },
	{ "choice", PARAM_CHOICE, PARAM_AT(struct all, choice), .choices = choices,
	  .initial = "\"two\"" },
	{ "mode", PARAM_MODE, PARAM_AT(struct all, mode), .initial = "\"0660\"" },
	{ "rate", PARAM_RATE, PARAM_AT(struct all, rate), .min = LIMITS_MIN, .max = 1000000000000 },
	{ "free_rate", PARAM_RATE, PARAM_AT(struct all, free_rate) },
	{ "size", PARAM_SIZE, PARAM_AT(struct all, size), .min = 1, .initial = "\"64KiB\"" },
	{ "text", PARAM_STRING, PARAM_AT(struct all, text), .initial = "\"abc\"",
	  .check = check_text },
	{ "mac", PARAM_MAC, PARAM_AT(struct all, mac) },
	{ "outer", PARAM_OBJECT, PARAM_AT(struct all, outer), .fields = outer_rows },
	{ "any", PARAM_JSON, PARAM_AT(struct all, any), .json_kind = -1 },
	{ "object", PARAM_JSON, PARAM_AT(struct all, object), .json_kind = JSON_OBJECT },
	{ "list", PARAM_JSON, PARAM_AT(struct all, list), .json_kind = JSON_ARRAY },
	{ "real", PARAM_JSON, PARAM_AT(struct all, real), .json_kind = JSON_REAL },
	{ "truth", PARAM_JSON, PARAM_AT(struct all, truth), .json_kind = JSON_TRUE },
	{ "checked", PARAM_JSON, PARAM_AT(struct all, checked), .json_kind = JSON_OBJECT,
	  .check = check_json },
	{ "defaulted", PARAM_JSON, PARAM_AT(struct all, defaulted), .json_kind = -1,
	  .initial = "[1, 2]" },
	{ "later", PARAM_LATER, .help = "some day" },
	{ NULL }
};

static json_t *schema;

void target_init(void)
{
	schema = describe_table(rows);
	CHECK(schema != NULL);
	/* Keys that are refused however they are given. */
	json_object_set_new(json_object_get(schema, "properties"), "later", json_object());
}

json_t *text_value(struct entropy *entropy)
{
	return grammar_make(entropy, schema, NULL);
}

static bool is_json(const struct param *row)
{
	return row->type == PARAM_JSON;
}

static json_t *reference_at(const void *at)
{
	json_t *reference;

	memcpy(&reference, at, sizeof(reference));
	return reference;
}

/* Nothing that would have to be freed. */
static void check_empty(const struct param *table, const char *out)
{
	for (const struct param *row = table; row->name != NULL; row++) {
		if (is_json(row))
			CHECK(reference_at(out + row->offset) == NULL);
		else if (row->type == PARAM_OBJECT)
			check_empty(row->fields, out + row->offset);
	}
}

static uint64_t number_at(const struct param *row, const char *at)
{
	uint32_t narrow;
	uint64_t wide;

	if (row->size == sizeof(wide)) {
		memcpy(&wide, at, sizeof(wide));
		return wide;
	}
	memcpy(&narrow, at, sizeof(narrow));
	return narrow;
}

/* A number that was given as such is what is stored; given as text, it is in bounds as well. */
static void check_number(const struct param *row, const char *at, const json_t *given)
{
	uint64_t number = number_at(row, at);

	if (given == NULL)
		return;
	CHECK(number >= row->min && (row->max == 0 || number <= row->max));
	if (json_is_integer(given))
		CHECK(number == (uint64_t)json_integer_value(given));
	else
		CHECK(row->type != PARAM_UINT && json_is_string(given));
}

static void check_mac(const char *at, const json_t *given)
{
	char text[MAC_TEXT_SIZE];
	struct param_mac mac;

	memcpy(&mac, at, sizeof(mac));
	CHECK(mac.given == (given != NULL));
	if (given == NULL)
		return;
	mac_format(mac.mac, text);
	CHECK(strcasecmp(text, json_string_value(given)) == 0);
}

static void check_stored(const struct param *table, const char *out, const json_t *object);

/* `given` is NULL where the default holds. */
static void check_row(const struct param *row, const char *at, const json_t *given)
{
	switch (row->type) {
	case PARAM_BOOL:
		CHECK(*at == 0 || *at == 1);
		CHECK(*at == (given != NULL ? json_is_true(given) : row->initial != NULL));
		break;
	case PARAM_UINT:
	case PARAM_RATE:
	case PARAM_SIZE:
		check_number(row, at, given);
		break;
	case PARAM_MODE:
		CHECK(number_at(row, at) <= 0777);
		break;
	case PARAM_CHOICE:
		CHECK(number_at(row, at) < 3);
		CHECK(given == NULL ||
		      strcmp(json_string_value(given), choices[number_at(row, at)]) == 0);
		break;
	case PARAM_STRING:
		CHECK(memchr(at, '\0', row->size) != NULL);
		CHECK(given == NULL || (strcmp(at, json_string_value(given)) == 0 &&
					strlen(at) == json_string_length(given)));
		break;
	case PARAM_MAC:
		check_mac(at, given);
		break;
	case PARAM_OBJECT:
		check_stored(row->fields, at, given);
		break;
	case PARAM_JSON:
		CHECK(given == NULL ? (reference_at(at) != NULL) == (row->initial != NULL)
				    : reference_at(at) == given);
		break;
	case PARAM_LATER:
		CHECK(given == NULL);
		break;
	}
}

/* What is stored is what the object says. `object` is NULL where it is not given. */
static void check_stored(const struct param *table, const char *out, const json_t *object)
{
	size_t known = 0;

	for (const struct param *row = table; row->name != NULL; row++) {
		const json_t *given = json_object_get(object, row->name);

		known += given != NULL;
		if (json_is_null(given))
			given = NULL;
		CHECK(given != NULL || object == NULL || !row->required);
		check_row(row, out + row->offset, given);
	}
	CHECK(known == json_object_size(object));
}

static bool is_text(const char *text)
{
	json_t *string = json_string(text);

	json_decref(string);
	return string != NULL && text[0] != '\0';
}

static void check_refusal(int rc, const struct error *err, const json_t *value)
{
	CHECK(rc < 0);
	CHECK(err->kind == ERROR_INVALID || err->kind == ERROR_CONFLICT);
	CHECK(err->errnum == -rc);
	CHECK(is_text(err->message));
	CHECK(strcmp(err->object, "thing") == 0);
	/* The empty string is a key as well. */
	CHECK(is_text(err->field) || json_object_get(value, "") != NULL || !json_is_object(value));
	/* A check that has its own message speaks for itself; what comes later has no values. */
	CHECK(is_text(err->accepted) || err->kind == ERROR_CONFLICT ||
	      strstr(err->message, "is not in this version") != NULL);
	CHECK(is_text(err->value) || strstr(err->message, "is missing") != NULL);
}

void text_run(const char *text, size_t size, struct entropy *entropy)
{
	json_t *value = json_loadb(text, size, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	struct error err, again;
	struct all all;
	int rc;

	(void)entropy;
	if (value == NULL)
		return;
	memset(&all, 0xa5, sizeof(all));
	rc = param_parse(rows, value, &all, "thing", "", &err);
	if (rc == 0) {
		check_stored(rows, (const char *)&all, value);
		param_release(rows, &all);
	} else {
		check_refusal(rc, &err, value);
		check_empty(rows, (const char *)&all);
		/* The same in the same words. */
		CHECK(param_parse(rows, value, &all, "thing", "", &again) == rc);
		CHECK(memcmp(&err, &again, sizeof(err)) == 0);
	}
	check_empty(rows, (const char *)&all);
	json_decref(value);
}
