/* SPDX-License-Identifier: BSD-3-Clause */
/* Values after a schema; grammar.h is the contract. */
#include "grammar.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

#define COUNT(array) ((uint32_t)(sizeof(array) / sizeof((array)[0])))

static const char *const texts[] = {
	"vm1", "vm2", "a", "A-z_0.9:x", "/run/a.sock", "vhost-user", "tap", "", " ", "a/b", ".",
	"relative.sock", "a\nb", "\xc3\xa4", "\x7f", "%s%n", "0", "null", "\xf0\x9f\x98\x80",
	"\xef\xbf\xbf",
};

static const char *const macs[] = {
	"52:54:00:00:00:01", "52:54:00:00:00:02", "52:54:00:00:00:0a", "52:54:00:00:00:0A",
	"02:00:00:00:00:03", "06:00:00:00:00:04", "0a:00:00:00:00:05", "0e:00:00:00:00:06",
	"00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "52-54-00-00-00-01",
	"52:54:00:00:00", "52:54:00:00:00:01:02", "5:54:00:00:00:01", "52:54:00:00:00:0g", "",
};

static const char *const quantities[] = {
	"1Gbit", "1.5M", "64k", "64KiB", "1MiB", "100Mbit", "10Mbit/s", "1000", "1T", "0", "0.5k",
	"1.0000000001G", "-1", "+1", "1e9", "", "k", "1 k", "9223372036854775807",
	"9223372036854775808", "99999999999999999999999999", "1.", ".5", "1Ki", "1.5Ki", "9999999T",
	"0.3",
};

static const char *const modes[] = {
	"0660", "600", "0777", "0000", "7", "", "888", "01777", "0x1ff", "-1", "00660",
};

static json_t *text_of_length(size_t length)
{
	char text[512];

	CHECK(length <= sizeof(text));
	memset(text, 'n', length);
	return json_stringn(text, length);
}

/* The first half of a list more often. */
static json_t *pick(struct entropy *entropy, const char *const *list, uint32_t count)
{
	if (!entropy_chance(entropy, 4))
		count /= 2;
	return json_string(list[entropy_below(entropy, count)]);
}

/* Numbered, few enough that the same one comes twice or refers to another. */
static json_t *make_name(struct entropy *entropy, const char *pattern)
{
	char name[32];

	snprintf(name, sizeof(name), pattern, entropy_below(entropy, 8));
	return json_string(name);
}

static json_t *make_string(struct entropy *entropy, const char *key, const json_t *schema)
{
	const char *format = json_string_value(json_object_get(schema, "format"));
	json_int_t longest = json_integer_value(json_object_get(schema, "maxLength"));

	if (format != NULL && strcmp(format, "mac") == 0)
		return pick(entropy, macs, COUNT(macs));
	if (format != NULL && strcmp(format, "mode") == 0)
		return pick(entropy, modes, COUNT(modes));
	if (format != NULL)
		return pick(entropy, quantities, COUNT(quantities));
	/* As long as it may be, or one byte more. */
	if (longest > 0 && longest < 500 && entropy_chance(entropy, 16))
		return text_of_length((size_t)longest + entropy_below(entropy, 2));
	if (entropy_chance(entropy, 32))
		return json_stringn("vm1\0x", 5);
	if (entropy_chance(entropy, 16))
		return pick(entropy, texts, COUNT(texts));
	return make_name(entropy, strcmp(key, "socket") == 0 ? "/run/%u.sock" : "vm%u");
}

static json_t *make_integer(struct entropy *entropy, const json_t *schema)
{
	json_int_t least = json_integer_value(json_object_get(schema, "minimum"));
	json_int_t most = json_integer_value(json_object_get(schema, "maximum"));
	uint64_t range = (uint64_t)most - (uint64_t)least;

	switch (entropy_below(entropy, 32)) {
	case 0:
	case 5:
		return json_integer(least);
	case 1:
	case 6:
		return json_integer(most);
	case 2:
		return json_integer((json_int_t)((uint64_t)least - 1));
	case 3:
		return json_integer((json_int_t)((uint64_t)most + 1));
	case 4:
		return json_integer((json_int_t)entropy_next(entropy));
	default:
		/* Small ones more often, whatever the range. */
		range >>= entropy_below(entropy, 64);
		return json_integer(least + (json_int_t)(range > 0 ? entropy_next(entropy) % range
								  : 0));
	}
}

static json_t *make(struct entropy *entropy, const char *key, const json_t *schema,
		    const json_t *document, unsigned int depth);

/* By the schema itself, or by one that holds under a condition. */
static bool is_required(const json_t *schema, const char *name)
{
	json_t *item;
	size_t i;

	json_array_foreach(json_object_get(schema, "required"), i, item)
		if (strcmp(json_string_value(item), name) == 0)
			return true;
	json_array_foreach(json_object_get(schema, "allOf"), i, item)
		if (is_required(json_object_get(item, "then"), name))
			return true;
	return false;
}

static json_t *make_object(struct entropy *entropy, const json_t *schema, const json_t *document,
			   unsigned int depth)
{
	const json_t *properties = json_object_get(schema, "properties");
	json_t *object = json_object();
	json_t *property;
	const char *name;

	json_object_foreach((json_t *)(uintptr_t)properties, name, property)
		if (is_required(schema, name) ? !entropy_chance(entropy, 48)
					      : entropy_chance(entropy, depth == 1 ? 2 : 3))
			json_object_set_new(object, name,
					    make(entropy, name, property, document, depth));
	if (properties == NULL || entropy_chance(entropy, 64))
		for (uint32_t i = entropy_below(entropy, 4); i > 0; i--)
			json_object_set_new(object, texts[entropy_below(entropy, COUNT(texts))],
					    entropy_chance(entropy, 16) ? grammar_any(entropy, 2)
									: json_string("label"));
	return object;
}

static json_t *make_array(struct entropy *entropy, const char *key, const json_t *schema,
			  const json_t *document, unsigned int depth)
{
	const json_t *items = json_object_get(schema, "items");
	/* There may be one worker, of the rest there can be many. */
	bool many = strcmp(key, "workers") != 0 || entropy_chance(entropy, 16);
	uint32_t count = entropy_below(entropy, many ? 6 : 2);
	json_t *array = json_array();

	for (uint32_t i = 0; i < count; i++) {
		/* Twice the same, now and then. */
		if (i > 0 && entropy_chance(entropy, 16))
			json_array_append(array, json_array_get(array, i - 1));
		else
			json_array_append_new(array, make(entropy, "", items, document, depth));
	}
	return array;
}

static json_t *make_type(struct entropy *entropy, const char *type, const char *key,
			 const json_t *schema, const json_t *document, unsigned int depth)
{
	if (strcmp(type, "object") == 0)
		return make_object(entropy, schema, document, depth + 1);
	if (strcmp(type, "array") == 0)
		return make_array(entropy, key, schema, document, depth + 1);
	if (strcmp(type, "string") == 0)
		return make_string(entropy, key, schema);
	if (strcmp(type, "integer") == 0)
		return make_integer(entropy, schema);
	if (strcmp(type, "boolean") == 0)
		return json_boolean(entropy_below(entropy, 2));
	if (strcmp(type, "number") == 0)
		return json_real(0.5);
	return json_null();
}

/* One of a list of schemas or types, but null, the last one, seldom. */
static const json_t *one_of(struct entropy *entropy, const json_t *list)
{
	size_t count = json_array_size(list);

	CHECK(count > 0);
	if (count > 1 && !entropy_chance(entropy, 8))
		count--;
	return json_array_get(list, entropy_below(entropy, (uint32_t)count));
}

/* "#/components/schemas/port" */
static const json_t *look_up(const json_t *document, const char *reference)
{
	char key[64];

	CHECK(document != NULL && reference[0] == '#');
	for (reference++; *reference == '/' && document != NULL;) {
		size_t length = strcspn(++reference, "/");

		snprintf(key, sizeof(key), "%.*s", (int)length, reference);
		document = json_object_get(document, key);
		reference += length;
	}
	CHECK(document != NULL);
	return document;
}

/* `key` is what the value is called in its object, or "". */
static json_t *make(struct entropy *entropy, const char *key, const json_t *schema,
		    const json_t *document, unsigned int depth)
{
	const char *reference = json_string_value(json_object_get(schema, "$ref"));
	const json_t *choices = json_object_get(schema, "enum");
	const json_t *ways = json_object_get(schema, "anyOf");
	const json_t *type;

	if (reference != NULL)
		return make(entropy, key, look_up(document, reference), document, depth);
	if (ways == NULL)
		ways = json_object_get(schema, "oneOf");
	if (ways != NULL)
		return make(entropy, key, one_of(entropy, ways), document, depth);
	if (entropy_chance(entropy, 128))
		return grammar_any(entropy, 2);
	if (choices != NULL)
		return json_deep_copy(one_of(entropy, choices));
	type = json_object_get(schema, "type");
	if (json_is_array(type))
		type = one_of(entropy, type);
	if (type == NULL || depth > 16)
		return grammar_any(entropy, 2);
	return make_type(entropy, json_string_value(type), key, schema, document, depth);
}

json_t *grammar_make(struct entropy *entropy, const json_t *schema, const json_t *document)
{
	return make(entropy, "", schema, document, 0);
}

json_t *grammar_any(struct entropy *entropy, unsigned int depth)
{
	static const char *const types[] = { "null", "boolean", "integer", "number", "string",
					     "object", "array" };
	/* Without levels left, nothing that has any. */
	uint32_t type = entropy_below(entropy, depth > 0 ? COUNT(types) : COUNT(types) - 2);
	json_t *value;

	if (type == COUNT(types) - 2) {
		value = json_object();
		for (uint32_t i = entropy_below(entropy, 4); i > 0; i--)
			json_object_set_new(value, texts[entropy_below(entropy, COUNT(texts))],
					    grammar_any(entropy, depth - 1));
	} else if (type == COUNT(types) - 1) {
		value = json_array();
		for (uint32_t i = entropy_below(entropy, 4); i > 0; i--)
			json_array_append_new(value, grammar_any(entropy, depth - 1));
	} else {
		value = make_type(entropy, types[type], "", NULL, NULL, 0);
	}
	return value;
}
