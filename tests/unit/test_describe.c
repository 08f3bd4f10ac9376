/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rpc/describe.c: each type of row as JSON Schema, and method tables as an OpenRPC document.
 */
#include "rpc/describe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct inner {
	uint32_t mode;
	uint64_t revision;
};

struct config {
	char name[16];
	bool enabled;
	uint32_t queues;
	uint32_t kind;
	struct inner permissions;
	struct param_mac mac;
	uint64_t rate;
	uint64_t burst;
	json_t *labels;
	json_t *whatever;
	json_t *one;
};

static const char *const kinds[] = { "vhost-user", "tap", NULL };

static json_t *labels_schema(void)
{
	return json_pack("{s:s, s:{s:s}}", "type", "object", "additionalProperties", "type",
			 "string");
}

static json_t *one_schema(void)
{
	return json_pack("{s:[{s:s}, {s:s}]}", "oneOf", "type", "string", "type", "integer");
}

static const struct param inner_fields[] = {
	{ "mode", PARAM_MODE, PARAM_AT(struct inner, mode), .required = true },
	{ "revision", PARAM_UINT, PARAM_AT(struct inner, revision) },
	{ NULL }
};

static const struct param fields[] = {
	{ "name", PARAM_STRING, PARAM_AT(struct config, name), .required = true,
	  .help = "what it is called" },
	{ "enabled", PARAM_BOOL, PARAM_AT(struct config, enabled), .initial = "true" },
	{ "queues", PARAM_UINT, PARAM_AT(struct config, queues), .min = 1, .max = 128 },
	{ "kind", PARAM_CHOICE, PARAM_AT(struct config, kind), .choices = kinds,
	  .initial = "\"tap\"", .help = "a kind" },
	{ "permissions", PARAM_OBJECT, PARAM_AT(struct config, permissions),
	  .fields = inner_fields },
	{ "limits", PARAM_LATER },
	{ "mac", PARAM_MAC, PARAM_AT(struct config, mac) },
	{ "rate", PARAM_RATE, PARAM_AT(struct config, rate), .required = true, .min = 64000,
	  .max = 1000000000000 },
	{ "burst", PARAM_SIZE, PARAM_AT(struct config, burst), .min = 64 },
	{ "labels", PARAM_JSON, PARAM_AT(struct config, labels), .json_kind = JSON_OBJECT,
	  .schema = labels_schema },
	{ "whatever", PARAM_JSON, PARAM_AT(struct config, whatever), .json_kind = -1 },
	{ "one", PARAM_JSON, PARAM_AT(struct config, one), .json_kind = -1,
	  .schema = one_schema },
	{ NULL }
};

static int unused(struct call *call, const void *params, json_t **result, struct error *err)
{
	(void)call;
	(void)params;
	(void)result;
	(void)err;
	return 0;
}

/* A port of one of two types, with what all types have beside them. */
static json_t *whole_schema(void)
{
	return json_loads("{\"type\":\"object\","
			  "\"properties\":{\"replace\":{\"type\":\"boolean\"}},"
			  "\"oneOf\":["
			  "{\"properties\":{\"type\":{\"const\":\"a\"},\"mtu\":{\"minimum\":1},"
			  "\"name\":{\"type\":\"string\"},\"socket\":{\"type\":\"string\"}},"
			  "\"required\":[\"type\",\"name\",\"socket\"]},"
			  "{\"properties\":{\"type\":{\"const\":\"b\"},\"mtu\":{\"minimum\":1},"
			  "\"name\":{\"type\":\"string\"}},\"required\":[\"type\",\"name\"]},"
			  "{\"properties\":{\"type\":{\"const\":\"c\",\"description\":\"d\"},"
			  "\"name\":{\"type\":\"string\"}},\"required\":[\"type\",\"name\"]}]}",
			  0, NULL);
}

static json_t *string_schema(void)
{
	return json_pack("{s:s}", "type", "string");
}

static const struct method first_table[] = {
	{ "thing.get", "One thing", inner_fields, sizeof(struct inner), unused },
	{ NULL }
};

static const struct method second_table[] = {
	{ "thing.add", "Adds a thing", NULL, 0, unused, .changes = true, .whole = true,
	  .describe = whole_schema, .describe_result = string_schema },
	{ "thing.list", "All things", NULL, 0, unused },
	{ NULL }
};

static const struct method *const tables[] = { first_table, second_table, NULL };

static void check(const json_t *value, const char *expected)
{
	json_t *wanted = json_loads(expected, JSON_DECODE_ANY, NULL);
	char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);

	assert_non_null(wanted);
	if (!json_equal((json_t *)(uintptr_t)value, wanted))
		fail_msg("got %s, wanted %s", text, expected);
	json_decref(wanted);
	free(text);
}

static void check_property(const char *name, const char *expected)
{
	json_t *schema = describe_table(fields);

	check(json_object_get(json_object_get(schema, "properties"), name), expected);
	json_decref(schema);
}

static void each_type(void **state)
{
	(void)state;
	check_property("name", "{\"type\":\"string\",\"maxLength\":15,"
			       "\"description\":\"what it is called\"}");
	check_property("enabled", "{\"type\":[\"boolean\",\"null\"],\"default\":true}");
	check_property("queues", "{\"type\":[\"integer\",\"null\"],\"minimum\":1,\"maximum\":128}");
	check_property("kind", "{\"type\":[\"string\",\"null\"],"
			       "\"enum\":[\"vhost-user\",\"tap\",null],\"default\":\"tap\","
			       "\"description\":\"a kind\"}");
	check_property("mac", "{\"type\":[\"string\",\"null\"],\"format\":\"mac\","
			      "\"pattern\":\"^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}$\"}");
	check_property("rate", "{\"type\":[\"integer\",\"string\"],\"format\":\"rate\","
			       "\"minimum\":64000,"
			       "\"maximum\":1000000000000,\"pattern\":"
			       "\"^[0-9]{1,18}(\\\\.[0-9]{1,9})?[kMGT]?(bit|bit/s|bps|/s)?$\"}");
	check_property("burst", "{\"type\":[\"integer\",\"string\",\"null\"],\"format\":\"size\","
				"\"minimum\":64,"
				"\"maximum\":9223372036854775807,\"pattern\":"
				"\"^[0-9]{1,18}(\\\\.[0-9]{1,9})?(Ki|Mi|Gi|k|M|G)?B?$\"}");
	check_property("permissions",
		       "{\"type\":[\"object\",\"null\"],\"required\":[\"mode\"],"
		       "\"additionalProperties\":false,\"properties\":{"
		       "\"mode\":{\"type\":\"string\",\"format\":\"mode\","
		       "\"pattern\":\"^0?[0-7]{1,3}$\"},"
		       "\"revision\":{\"type\":[\"integer\",\"null\"],\"minimum\":0,"
		       "\"maximum\":9223372036854775807}}}");
	check_property("labels", "{\"type\":[\"object\",\"null\"],"
				 "\"additionalProperties\":{\"type\":\"string\"}}");
	check_property("whatever", "{}");
	check_property("one", "{\"anyOf\":[{\"oneOf\":[{\"type\":\"string\"},"
			      "{\"type\":\"integer\"}]},{\"type\":\"null\"}]}");
}

static void tables_as_objects(void **state)
{
	json_t *schema = describe_table(fields);

	(void)state;
	check(json_object_get(schema, "type"), "\"object\"");
	check(json_object_get(schema, "required"), "[\"name\",\"rate\"]");
	check(json_object_get(schema, "additionalProperties"), "false");
	/* What is not in this version is not described. */
	assert_int_equal(json_object_size(json_object_get(schema, "properties")), 11);
	assert_null(json_object_get(json_object_get(schema, "properties"), "limits"));
	json_decref(schema);
	schema = describe_table(NULL);
	check(schema, "{\"type\":\"object\",\"properties\":{},\"additionalProperties\":false}");
	json_decref(schema);
}

static void the_document(void **state)
{
	json_t *components = json_pack("{s:{s:{}}}", "schemas", "port");
	json_t *document = describe_methods(tables, "1.2.3", components);
	const json_t *list = json_object_get(document, "methods");
	const json_t *failures;

	(void)state;
	check(json_object_get(document, "openrpc"), "\"1.3.2\"");
	check(json_object_get(document, "info"), "{\"title\":\"ringway\",\"version\":\"1.2.3\","
						 "\"license\":{\"name\":\"BSD-3-Clause\"}}");
	assert_int_equal(json_array_size(list), 3);
	components = json_object_get(document, "components");
	check(json_object_get(components, "schemas"), "{\"port\":{}}");
	failures = json_object_get(components, "errors");
	check(json_object_get(json_object_get(failures, "not_found"), "code"), "-32001");
	check(json_object_get(json_object_get(failures, "limit"), "code"), "-32006");
	check(json_object_get(json_object_get(failures, "parse"), "code"), "-32700");
	assert_int_equal(json_object_size(failures), 11);
	for (size_t i = 0; i < 3; i++) {
		const json_t *method = json_array_get(list, i);
		const json_t *references = json_object_get(method, "errors");

		assert_int_equal(json_array_size(references), 11);
		check(json_array_get(references, 5),
		      "{\"$ref\":\"#/components/errors/not_found\"}");
	}
	json_decref(document);
	document = describe_methods(tables, "1", NULL);
	assert_null(json_object_get(json_object_get(document, "components"), "schemas"));
	json_decref(document);
}

static void methods_of_tables(void **state)
{
	json_t *document = describe_methods(tables, "1", NULL);
	json_t *method = json_array_get(json_object_get(document, "methods"), 0);

	(void)state;
	json_object_del(method, "errors");
	check(method, "{\"name\":\"thing.get\",\"summary\":\"One thing\","
		      "\"paramStructure\":\"either\",\"params\":["
		      "{\"name\":\"mode\",\"required\":true,\"schema\":{\"type\":\"string\","
		      "\"format\":\"mode\","
		      "\"pattern\":\"^0?[0-7]{1,3}$\"}},"
		      "{\"name\":\"revision\",\"required\":false,\"schema\":{\"type\":"
		      "[\"integer\",\"null\"],\"minimum\":0,\"maximum\":9223372036854775807}}],"
		      "\"result\":{\"name\":\"result\",\"schema\":{}}}");
	check(json_object_get(json_array_get(json_object_get(document, "methods"), 2), "params"),
	      "[]");
	json_decref(document);
}

static void whole_methods(void **state)
{
	json_t *document = describe_methods(tables, "1", NULL);
	json_t *method = json_array_get(json_object_get(document, "methods"), 1);

	(void)state;
	json_object_del(method, "errors");
	/* Required is what each alternative requires, and it comes first. */
	check(method, "{\"name\":\"thing.add\",\"summary\":\"Adds a thing\","
		      "\"paramStructure\":\"by-name\",\"x-changes\":true,\"params\":["
		      "{\"name\":\"type\",\"required\":true,\"schema\":{\"anyOf\":["
		      "{\"const\":\"a\"},{\"const\":\"b\"},{\"const\":\"c\","
		      "\"description\":\"d\"}]}},"
		      "{\"name\":\"name\",\"required\":true,\"schema\":{\"type\":\"string\"}},"
		      "{\"name\":\"replace\",\"required\":false,"
		      "\"schema\":{\"type\":\"boolean\"}},"
		      "{\"name\":\"mtu\",\"required\":false,\"schema\":{\"minimum\":1}},"
		      "{\"name\":\"socket\",\"required\":false,\"schema\":{\"type\":\"string\"}}],"
		      "\"result\":{\"name\":\"result\",\"schema\":{\"type\":\"string\"}}}");
	json_decref(document);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_type),
		cmocka_unit_test(tables_as_objects),
		cmocka_unit_test(the_document),
		cmocka_unit_test(methods_of_tables),
		cmocka_unit_test(whole_methods),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
