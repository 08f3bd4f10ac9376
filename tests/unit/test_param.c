/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rpc/param.c: every type of row, every kind of refusal with its details, and the life of
 * references.
 */
#include "rpc/param.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct inner {
	char user[8];
	uint32_t mode;
};

struct config {
	char name[16];
	bool enabled;
	uint32_t queues;
	uint32_t any;
	uint32_t kind;
	struct inner permissions;
	json_t *labels;
	json_t *whatever;
	uint64_t wide;
	struct param_mac mac;
	uint64_t rate;
	uint64_t burst;
};

static int check_name(const void *value, struct error *err)
{
	const char *name = value;

	if (strcmp(name, "root") == 0) {
		error_detail(err, NULL, NULL, NULL, "any name but root");
		return -EPERM;
	}
	if (strcmp(name, "taken") == 0) {
		error_set(err, ERROR_EXISTS, EEXIST, "that name is taken");
		return -EEXIST;
	}
	return 0;
}

static const char *const kinds[] = { "vhost-user", "tap", NULL };

static const struct param inner_fields[] = {
	{ "user", PARAM_STRING, PARAM_AT(struct inner, user), .required = true, .help = "a user" },
	{ "mode", PARAM_MODE, PARAM_AT(struct inner, mode), .initial = "\"0660\"" },
	{ NULL }
};

static const struct param fields[] = {
	{ "name", PARAM_STRING, PARAM_AT(struct config, name), .required = true,
	  .check = check_name, .help = "what it is called" },
	{ "enabled", PARAM_BOOL, PARAM_AT(struct config, enabled), .initial = "true" },
	{ "queues", PARAM_UINT, PARAM_AT(struct config, queues), .min = 1, .max = 128,
	  .initial = "2" },
	{ "any", PARAM_UINT, PARAM_AT(struct config, any) },
	{ "kind", PARAM_CHOICE, PARAM_AT(struct config, kind), .choices = kinds,
	  .initial = "\"tap\"" },
	{ "permissions", PARAM_OBJECT, PARAM_AT(struct config, permissions),
	  .fields = inner_fields },
	{ "labels", PARAM_JSON, PARAM_AT(struct config, labels), .json_kind = JSON_OBJECT,
	  .initial = "{}" },
	{ "whatever", PARAM_JSON, PARAM_AT(struct config, whatever), .json_kind = -1 },
	{ "limits", PARAM_LATER },
	{ "wide", PARAM_UINT, PARAM_AT(struct config, wide) },
	{ "mac", PARAM_MAC, PARAM_AT(struct config, mac) },
	{ "rate", PARAM_RATE, PARAM_AT(struct config, rate), .min = 64000,
	  .max = 1000000000000 },
	{ "burst", PARAM_SIZE, PARAM_AT(struct config, burst), .min = 64,
	  .initial = "\"64KiB\"" },
	{ NULL }
};

static struct config config;
static struct error err;

/* Parses text into the config, which is full of rubbish before, as one on a stack would be. */
static int parse(const char *text)
{
	json_t *object = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	int rc;

	assert_non_null(object);
	memset(&config, 0xa5, sizeof(config));
	memset(&err, 0, sizeof(err));
	rc = param_parse(fields, object, &config, "port vm1", "", &err);
	json_decref(object);
	return rc;
}

static void check_refused(const char *text, const char *field, const char *value,
			  const char *accepted)
{
	assert_int_equal(parse(text), -EINVAL);
	assert_int_equal(err.kind, ERROR_INVALID);
	assert_int_equal(err.errnum, EINVAL);
	assert_string_equal(err.object, "port vm1");
	assert_string_equal(err.field, field);
	assert_string_equal(err.value, value);
	assert_string_equal(err.accepted, accepted);
	/* The message alone must be enough to find the place. */
	assert_non_null(strstr(err.message, "port vm1"));
	assert_non_null(strstr(err.message, field));
	/* Nothing is left to be freed. */
	assert_null(config.labels);
	assert_null(config.whatever);
}

static void defaults(void **state)
{
	(void)state;
	assert_int_equal(parse("{\"name\":\"a\"}"), 0);
	assert_string_equal(config.name, "a");
	assert_true(config.enabled);
	assert_int_equal(config.queues, 2);
	assert_int_equal(config.any, 0);
	assert_int_equal(config.kind, 1);
	/* The object is not given, so what it would require is not missing. */
	assert_string_equal(config.permissions.user, "");
	assert_int_equal(config.permissions.mode, 0660);
	assert_int_equal(json_object_size(config.labels), 0);
	assert_true(json_is_object(config.labels));
	assert_null(config.whatever);
	assert_int_equal(config.wide, 0);
	assert_false(config.mac.given);
	assert_int_equal(config.rate, 0);
	assert_int_equal(config.burst, 65536);
	param_release(fields, &config);
	assert_null(config.labels);
}

static void all_given(void **state)
{
	(void)state;
	assert_int_equal(parse("{\"name\":\"fifteen-bytes-x\",\"enabled\":false,\"queues\":128,"
			       "\"any\":4294967295,\"kind\":\"vhost-user\",\"permissions\":"
			       "{\"user\":\"u\",\"mode\":\"0600\"},\"labels\":{\"vm\":\"x\"},"
			       "\"whatever\":[1,{}]}"), 0);
	assert_string_equal(config.name, "fifteen-bytes-x");
	assert_false(config.enabled);
	assert_int_equal(config.queues, 128);
	assert_int_equal(config.any, UINT32_MAX);
	assert_int_equal(config.kind, 0);
	assert_string_equal(config.permissions.user, "u");
	assert_int_equal(config.permissions.mode, 0600);
	assert_string_equal(json_string_value(json_object_get(config.labels, "vm")), "x");
	assert_int_equal(json_array_size(config.whatever), 2);
	param_release(fields, &config);
}

static void null_means_default(void **state)
{
	(void)state;
	assert_int_equal(parse("{\"name\":\"a\",\"queues\":null,\"permissions\":null,"
			       "\"labels\":null,\"limits\":null}"), 0);
	assert_int_equal(config.queues, 2);
	assert_true(json_is_object(config.labels));
	param_release(fields, &config);
	check_refused("{\"name\":null}", "name", "", "what it is called");
}

static void missing(void **state)
{
	(void)state;
	check_refused("{}", "name", "", "what it is called");
	check_refused("{\"name\":\"a\",\"permissions\":{}}", "permissions.user", "", "a user");
}

static void unknown(void **state)
{
	(void)state;
	check_refused("{\"name\":\"a\",\"nmae\":1}", "nmae", "1",
		      "name, enabled, queues, any, kind, permissions, labels, whatever, wide, "
		      "mac, rate, burst");
	check_refused("{\"name\":\"a\",\"permissions\":{\"user\":\"u\",\"grp\":\"g\"}}",
		      "permissions.grp", "\"g\"", "user, mode");
}

static void not_in_this_version(void **state)
{
	(void)state;
	check_refused("{\"name\":\"a\",\"limits\":{}}", "limits", "{}", "");
	assert_non_null(strstr(err.message, "not in this version"));
}

static void wrong_types(void **state)
{
	(void)state;
	check_refused("{\"name\":7}", "name", "7", "a string");
	check_refused("{\"name\":\"a\",\"enabled\":1}", "enabled", "1", "true, false");
	check_refused("{\"name\":\"a\",\"queues\":\"1\"}", "queues", "\"1\"", "1 to 128");
	check_refused("{\"name\":\"a\",\"queues\":1.0}", "queues", "1.0", "1 to 128");
	check_refused("{\"name\":\"a\",\"queues\":true}", "queues", "true", "1 to 128");
	check_refused("{\"name\":\"a\",\"kind\":0}", "kind", "0", "vhost-user, tap");
	check_refused("{\"name\":\"a\",\"permissions\":[]}", "permissions", "[]", "an object");
	check_refused("{\"name\":\"a\",\"labels\":[],\"whatever\":1}", "labels", "[]", "an object");
	check_refused("{\"name\":\"a\",\"permissions\":{\"user\":\"u\",\"mode\":660}}",
		      "permissions.mode", "660", "\"0000\" to \"0777\"");
}

static void wrong_values(void **state)
{
	(void)state;
	check_refused("{\"name\":\"a\",\"queues\":0}", "queues", "0", "1 to 128");
	check_refused("{\"name\":\"a\",\"queues\":129}", "queues", "129", "1 to 128");
	check_refused("{\"name\":\"a\",\"any\":-1}", "any", "-1", "0 to 4294967295");
	check_refused("{\"name\":\"a\",\"any\":4294967296}", "any", "4294967296",
		      "0 to 4294967295");
	check_refused("{\"name\":\"a\",\"kind\":\"ta\"}", "kind", "\"ta\"", "vhost-user, tap");
	check_refused("{\"name\":\"a\",\"kind\":\"tap\\u0000\"}", "kind", "\"tap\\u0000\"",
		      "vhost-user, tap");
	check_refused("{\"name\":\"sixteen-bytes-xx\"}", "name", "\"sixteen-bytes-xx\"",
		      "at most 15 bytes");
	check_refused("{\"name\":\"a\\u0000b\"}", "name", "\"a\\u0000b\"", "text without NUL");
	check_refused("{\"name\":\"a\",\"permissions\":{\"user\":\"u\",\"mode\":\"0888\"}}",
		      "permissions.mode", "\"0888\"", "\"0000\" to \"0777\"");
}

static void wide_numbers(void **state)
{
	(void)state;
	assert_int_equal(parse("{\"name\":\"a\",\"wide\":9223372036854775807}"), 0);
	assert_true(config.wide == INT64_MAX);
	param_release(fields, &config);
	check_refused("{\"name\":\"a\",\"wide\":-1}", "wide", "-1", "0 to 9223372036854775807");
	check_refused("{\"name\":\"a\",\"wide\":\"1\"}", "wide", "\"1\"",
		      "0 to 9223372036854775807");
	/* The largest number is that of the row, but never more than fits. */
	assert_true(param_max(&(struct param){ "x", PARAM_UINT, .size = 4 }) == UINT32_MAX);
	assert_true(param_max(&(struct param){ "x", PARAM_UINT, .size = 4, .max = 1ull << 40 }) ==
		    UINT32_MAX);
	assert_true(param_max(&(struct param){ "x", PARAM_UINT, .size = 8, .max = 1ull << 40 }) ==
		    1ull << 40);
	assert_true(param_max(&(struct param){ "x", PARAM_SIZE, .size = 8, .max = UINT64_MAX }) ==
		    INT64_MAX);
}

static void macs(void **state)
{
	static const uint8_t expected[6] = { 0x52, 0x54, 0, 0, 0, 0xab };
	static const char accepted[] = "six pairs of hexadecimal digits, \"52:54:00:00:00:01\"";

	(void)state;
	assert_int_equal(parse("{\"name\":\"a\",\"mac\":\"52:54:00:00:00:Ab\"}"), 0);
	assert_true(config.mac.given);
	assert_memory_equal(config.mac.mac, expected, sizeof(expected));
	param_release(fields, &config);
	assert_int_equal(parse("{\"name\":\"a\",\"mac\":null}"), 0);
	assert_false(config.mac.given);
	param_release(fields, &config);
	check_refused("{\"name\":\"a\",\"mac\":1}", "mac", "1", accepted);
	check_refused("{\"name\":\"a\",\"mac\":\"52:54\"}", "mac", "\"52:54\"", accepted);
	check_refused("{\"name\":\"a\",\"mac\":\"52:54:00:00:00:01\\u0000\"}", "mac",
		      "\"52:54:00:00:00:01\\u0000\"", accepted);
}

static void rates(void **state)
{
	static const char accepted[] =
		"64000 to 1000000000000, or text as \"64k\", \"1.5Gbit\"";

	(void)state;
	assert_int_equal(parse("{\"name\":\"a\",\"rate\":\"1.5Gbit\"}"), 0);
	assert_true(config.rate == 1500000000);
	param_release(fields, &config);
	assert_int_equal(parse("{\"name\":\"a\",\"rate\":64000}"), 0);
	assert_true(config.rate == 64000);
	param_release(fields, &config);
	assert_int_equal(parse("{\"name\":\"a\",\"rate\":\"1T\"}"), 0);
	assert_true(config.rate == 1000000000000);
	param_release(fields, &config);
	check_refused("{\"name\":\"a\",\"rate\":63999}", "rate", "63999", accepted);
	check_refused("{\"name\":\"a\",\"rate\":\"1.001T\"}", "rate", "\"1.001T\"", accepted);
	check_refused("{\"name\":\"a\",\"rate\":-1}", "rate", "-1", accepted);
	check_refused("{\"name\":\"a\",\"rate\":64000.0}", "rate", "64000.0", accepted);
	check_refused("{\"name\":\"a\",\"rate\":\"64Ki\"}", "rate", "\"64Ki\"", accepted);
	check_refused("{\"name\":\"a\",\"rate\":\"64k\\u0000\"}", "rate", "\"64k\\u0000\"",
		      accepted);
	check_refused("{\"name\":\"a\",\"rate\":true}", "rate", "true", accepted);
	assert_string_equal(err.message, "port vm1: \"rate\" is no rate");
	check_refused("{\"name\":\"a\",\"rate\":0}", "rate", "0", accepted);
	assert_string_equal(err.message, "port vm1: \"rate\" is zero: use null for none");
}

static void sizes(void **state)
{
	static const char accepted[] =
		"64 to 9223372036854775807, or text as \"64KiB\", \"1MiB\"";

	(void)state;
	assert_int_equal(parse("{\"name\":\"a\",\"burst\":\"1MiB\"}"), 0);
	assert_true(config.burst == 1 << 20);
	param_release(fields, &config);
	assert_int_equal(parse("{\"name\":\"a\",\"burst\":1500}"), 0);
	assert_true(config.burst == 1500);
	param_release(fields, &config);
	check_refused("{\"name\":\"a\",\"burst\":63}", "burst", "63", accepted);
	assert_string_equal(err.message, "port vm1: \"burst\" is out of range");
	check_refused("{\"name\":\"a\",\"burst\":\"1Gbit\"}", "burst", "\"1Gbit\"", accepted);
	assert_string_equal(err.message, "port vm1: \"burst\" is no size");
	check_refused("{\"name\":\"a\",\"burst\":\"0Ki\"}", "burst", "\"0Ki\"", accepted);
}

static void own_check(void **state)
{
	(void)state;
	assert_int_equal(parse("{\"name\":\"root\",\"labels\":{\"a\":1}}"), -EPERM);
	assert_int_equal(err.kind, ERROR_INVALID);
	assert_string_equal(err.object, "port vm1");
	assert_string_equal(err.field, "name");
	assert_string_equal(err.value, "\"root\"");
	assert_string_equal(err.accepted, "any name but root");
	assert_string_equal(err.message, "port vm1: \"name\" is not accepted");
	assert_int_equal(parse("{\"name\":\"taken\"}"), -EEXIST);
	assert_int_equal(err.kind, ERROR_EXISTS);
	assert_string_equal(err.message, "that name is taken");
	assert_string_equal(err.object, "port vm1");
	assert_string_equal(err.field, "name");
	assert_string_equal(err.value, "\"taken\"");
}

static void not_an_object(void **state)
{
	(void)state;
	assert_int_equal(parse("[1]"), -EINVAL);
	assert_string_equal(err.message, "port vm1 must be an object");
	assert_string_equal(err.value, "[1]");
	memset(&config, 0xa5, sizeof(config));
	assert_int_equal(param_parse(fields, NULL, &config, "port vm1", "", &err), -EINVAL);
	assert_null(config.labels);
}

static void prefix_begins_the_path(void **state)
{
	json_t *object = json_pack("{s:i}", "user", 1);
	struct inner inner;

	(void)state;
	assert_int_equal(param_parse(inner_fields, object, &inner, "", "ports[3].permissions.",
				     &err), -EINVAL);
	assert_string_equal(err.field, "ports[3].permissions.user");
	assert_string_equal(err.object, "");
	assert_string_equal(err.message, "\"ports[3].permissions.user\" must be a string");
	json_decref(object);
}

static void references_outlive_the_request(void **state)
{
	json_t *object = json_pack("{s:s, s:{s:i}}", "name", "a", "whatever", "k", 5);
	json_t *inner = json_object_get(object, "whatever");

	(void)state;
	assert_int_equal(param_parse(fields, object, &config, "o", "", &err), 0);
	assert_int_equal(inner->refcount, 2);
	json_decref(object);
	assert_int_equal(json_integer_value(json_object_get(config.whatever, "k")), 5);
	param_release(fields, &config);
}

static void describe(void **state)
{
	json_t *string = json_string("0123456789\xe2\x82\xac" "123456789");
	json_t *array = json_pack("[i, [s, n]]", 1, "x");
	char text[16];
	char all[64];

	(void)state;
	param_describe(array, text, sizeof(text));
	assert_string_equal(text, "[1, [\"x\", nu...");
	param_describe(array, all, sizeof(all));
	assert_string_equal(all, "[1, [\"x\", null]]");
	param_describe(string, all, sizeof(all));
	assert_string_equal(all, "\"0123456789\xe2\x82\xac" "123456789\"");
	/* The cut would fall into the euro sign. */
	param_describe(string, text, sizeof(text));
	assert_string_equal(text, "\"0123456789...");
	json_decref(string);
	json_decref(array);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults),
		cmocka_unit_test(all_given),
		cmocka_unit_test(null_means_default),
		cmocka_unit_test(missing),
		cmocka_unit_test(unknown),
		cmocka_unit_test(not_in_this_version),
		cmocka_unit_test(wrong_types),
		cmocka_unit_test(wrong_values),
		cmocka_unit_test(wide_numbers),
		cmocka_unit_test(macs),
		cmocka_unit_test(rates),
		cmocka_unit_test(sizes),
		cmocka_unit_test(own_check),
		cmocka_unit_test(not_an_object),
		cmocka_unit_test(prefix_begins_the_path),
		cmocka_unit_test(references_outlive_the_request),
		cmocka_unit_test(describe),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
