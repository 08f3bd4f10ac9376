/* SPDX-License-Identifier: BSD-3-Clause */
/* The built-in description of the methods; schema.h is the contract. */
#include "schema.h"

#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/units.h"

#define PATH_SIZE 256
#define REFERENCE "#/components/schemas/"

static json_t *document;

int schema_open(void)
{
	document = json_loads(schema_text, 0, NULL);
	return document == NULL ? -ENOMEM : 0;
}

void schema_close(void)
{
	json_decref(document);
	document = NULL;
}

json_t *schema_methods(void)
{
	return json_object_get(document, "methods");
}

json_t *schema_method(const char *name)
{
	json_t *method;
	size_t i;

	json_array_foreach(schema_methods(), i, method)
		if (strcmp(json_string_value(json_object_get(method, "name")), name) == 0)
			return method;
	return NULL;
}

/* Adds a schema, or where it only points to others, those. */
static void add_ways(json_t *ways, json_t *schema)
{
	static const char *const alternatives[] = { "oneOf", "anyOf", "allOf" };
	const char *reference = json_string_value(json_object_get(schema, "$ref"));
	bool points = false;

	if (reference != NULL && strncmp(reference, REFERENCE, strlen(REFERENCE)) == 0) {
		json_t *schemas = json_object_get(json_object_get(document, "components"),
						  "schemas");
		json_t *copy = json_copy(json_object_get(schemas,
							 reference + strlen(REFERENCE)));

		/* What stands beside the reference says more: a description. */
		json_object_update(copy, schema);
		json_object_del(copy, "$ref");
		add_ways(ways, copy);
		json_decref(copy);
		return;
	}
	for (size_t i = 0; i < sizeof(alternatives) / sizeof(alternatives[0]); i++) {
		json_t *alternative;
		size_t j;

		json_array_foreach(json_object_get(schema, alternatives[i]), j, alternative) {
			add_ways(ways, alternative);
			points = true;
		}
	}
	/* A condition is no way to give anything. */
	if (schema != NULL && json_object_get(schema, "if") == NULL &&
	    (!points || json_object_get(schema, "properties") != NULL))
		json_array_append(ways, schema);
}

/* The ways of one key of an object that itself may be given in several ways. */
static json_t *ways_of_key(const json_t *ways, const char *key)
{
	json_t *found = json_array();
	json_t *way;
	size_t i;

	json_array_foreach(ways, i, way) {
		json_t *property = json_object_get(json_object_get(way, "properties"), key);

		if (property == NULL)
			property = json_object_get(way, "additionalProperties");
		if (json_is_object(property))
			add_ways(found, property);
	}
	return found;
}

static json_t *ways_of_param(const json_t *param)
{
	json_t *ways = json_array();

	add_ways(ways, json_object_get(param, "schema"));
	return ways;
}

json_t *schema_ways(json_t *method, const char *path)
{
	size_t length = strcspn(path, ".");
	json_t *ways = json_array();
	char key[PATH_SIZE];
	json_t *param;
	size_t i;

	json_array_foreach(json_object_get(method, "params"), i, param) {
		const char *name = json_string_value(json_object_get(param, "name"));

		if (strlen(name) == length && memcmp(name, path, length) == 0)
			add_ways(ways, json_object_get(param, "schema"));
	}
	while (path[length] == '.') {
		json_t *inner;

		path += length + 1;
		length = strcspn(path, ".");
		snprintf(key, sizeof(key), "%.*s", (int)length, path);
		inner = ways_of_key(ways, key);
		json_decref(ways);
		ways = inner;
	}
	return ways;
}

const char *schema_type_of(const json_t *value)
{
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		return "object";
	case JSON_ARRAY:
		return "array";
	case JSON_STRING:
		return "string";
	case JSON_INTEGER:
		return "integer";
	case JSON_REAL:
		return "number";
	case JSON_TRUE:
	case JSON_FALSE:
		return "boolean";
	case JSON_NULL:
		break;
	}
	return "null";
}

static bool is_type(const char *named, const char *type)
{
	return named != NULL && (strcmp(named, type) == 0 ||
				 (strcmp(named, "number") == 0 && strcmp(type, "integer") == 0));
}

/* Where no type is said, the values are: "enum", "const". */
static bool way_takes(const json_t *way, const char *type)
{
	const json_t *named = json_object_get(way, "type");
	const json_t *values = json_object_get(way, "enum");
	const json_t *constant = json_object_get(way, "const");
	json_t *item;
	size_t i;

	if (named != NULL && is_type(json_string_value(named), type))
		return true;
	json_array_foreach(named, i, item)
		if (is_type(json_string_value(item), type))
			return true;
	if (named != NULL)
		return false;
	json_array_foreach(values, i, item)
		if (is_type(schema_type_of(item), type))
			return true;
	if (constant != NULL)
		return is_type(schema_type_of(constant), type);
	return values == NULL;
}

bool schema_takes(const json_t *ways, const char *type)
{
	json_t *way;
	size_t i;

	json_array_foreach(ways, i, way)
		if (way_takes(way, type))
			return true;
	return false;
}

json_t *schema_fact(const json_t *ways, const char *key)
{
	json_t *way;
	size_t i;

	json_array_foreach(ways, i, way) {
		json_t *fact = json_object_get(way, key);

		if (fact != NULL)
			return fact;
	}
	return NULL;
}

struct walk {
	void (*visit)(void *argument, const char *path, json_t *ways, bool required);
	void *argument;
};

/* Is the key among those that the object must have? */
static bool is_required(const json_t *way, const char *key)
{
	json_t *item;
	size_t i;

	json_array_foreach(json_object_get(way, "required"), i, item)
		if (strcmp(json_string_value(item), key) == 0)
			return true;
	return false;
}

/* Takes over `ways`. */
static void walk_param(const struct walk *walk, const char *path, json_t *ways, bool required)
{
	json_t *seen = json_object();
	json_t *way;
	size_t i;

	if (schema_fact(ways, "properties") == NULL || (required && strchr(path, '.') == NULL))
		walk->visit(walk->argument, path, ways, required);
	json_array_foreach(ways, i, way) {
		json_t *property;
		const char *key;

		json_object_foreach(json_object_get(way, "properties"), key, property) {
			char inner[PATH_SIZE];

			if (json_object_get(seen, key) != NULL)
				continue;
			json_object_set_new(seen, key, json_true());
			snprintf(inner, sizeof(inner), "%s.%s", path, key);
			walk_param(walk, inner, ways_of_key(ways, key),
				   required && is_required(way, key));
		}
	}
	json_decref(seen);
	json_decref(ways);
}

void schema_walk(json_t *method,
		 void (*visit)(void *argument, const char *path, json_t *ways, bool required),
		 void *argument)
{
	const struct walk walk = { .visit = visit, .argument = argument };
	json_t *param;
	size_t i;

	json_array_foreach(json_object_get(method, "params"), i, param)
		walk_param(&walk, json_string_value(json_object_get(param, "name")),
			   ways_of_param(param), json_is_true(json_object_get(param, "required")));
}

static void append(char *text, size_t size, const char *between, const char *item)
{
	char longer[512];

	snprintf(longer, sizeof(longer), "%s%s%s", text, text[0] == '\0' ? "" : between, item);
	text_copy(text, size, longer);
}

static void summarize_range(const json_t *way, char *text, size_t size)
{
	json_int_t min = json_integer_value(json_object_get(way, "minimum"));
	const json_t *max = json_object_get(way, "maximum");

	if (json_integer_value(max) == INT64_MAX || max == NULL)
		snprintf(text, size, "%" JSON_INTEGER_FORMAT " or more", min);
	else
		snprintf(text, size, "%" JSON_INTEGER_FORMAT " to %" JSON_INTEGER_FORMAT, min,
			 json_integer_value(max));
}

static const char *format_name(const char *format)
{
	static const char *const names[][2] = {
		{ "mac", "MAC address" },
		{ "mode", "file mode in octal" },
		{ "rate", "text as 1.5Gbit" },
		{ "size", "text as 64KiB" },
	};

	for (size_t i = 0; format != NULL && i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(format, names[i][0]) == 0)
			return names[i][1];
	return "text";
}

static void summarize_strings(const json_t *way, char *text, size_t size)
{
	const char *constant = json_string_value(json_object_get(way, "const"));
	const char *format = json_string_value(json_object_get(way, "format"));
	const json_t *choices = json_object_get(way, "enum");
	const json_t *longest = json_object_get(way, "maxLength");
	json_t *choice;
	char one[64];
	size_t i;

	json_array_foreach(choices, i, choice)
		if (json_is_string(choice))
			append(text, size, "|", json_string_value(choice));
	if (choices != NULL)
		return;
	if (constant != NULL) {
		append(text, size, "|", constant);
	} else if (longest == NULL) {
		append(text, size, ", or ", format_name(format));
	} else {
		snprintf(one, sizeof(one), "text, at most %" JSON_INTEGER_FORMAT " bytes",
			 json_integer_value(longest));
		append(text, size, ", or ", one);
	}
}

void schema_summarize(const json_t *ways, char *text, size_t size)
{
	char range[64];
	json_t *way;
	size_t i;

	text[0] = '\0';
	json_array_foreach(ways, i, way) {
		if (json_object_get(way, "type") == NULL && json_object_get(way, "const") == NULL &&
		    json_object_get(way, "enum") == NULL)
			continue;
		if (way_takes(way, "boolean"))
			append(text, size, ", or ", "true|false");
		if (way_takes(way, "integer")) {
			summarize_range(way, range, sizeof(range));
			append(text, size, ", or ", range);
		}
		if (way_takes(way, "string"))
			summarize_strings(way, text, size);
		if (way_takes(way, "array"))
			append(text, size, ", or ", "JSON array");
		if (way_takes(way, "object"))
			append(text, size, ", or ", "JSON object");
	}
}
