/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * control/model.c: what a configuration means, its defaults, and that each mistake in it is refused
 * with the place, the value and what would have been accepted.
 */
#include "control/model.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define DEFAULT_CPU 3

static void replace(char *text, char from, char to)
{
	while ((text = strchr(text, from)) != NULL)
		*text = to;
}

/* JSON with ' for ", which C text would have to escape. */
static json_t *json_of(const char *text)
{
	char *quoted = strdup(text);
	json_t *root;

	assert_non_null(quoted);
	replace(quoted, '\'', '"');
	root = json_loads(quoted, 0, NULL);
	free(quoted);
	return root;
}

static struct model *parse(const char *text)
{
	json_t *root = json_of(text);
	struct model *model = NULL;
	struct error err;

	assert_non_null(root);
	if (model_parse(root, DEFAULT_CPU, &model, &err) != 0)
		fail_msg("%s was refused: %s", text, err.message);
	json_decref(root);
	assert_non_null(model);
	return model;
}

static void defaults(void **state)
{
	struct model *model;
	struct error err;

	(void)state;
	assert_int_equal(model_load(NULL, DEFAULT_CPU, &model, &err), 0);
	assert_int_equal(model->worker_count, 1);
	assert_int_equal(model->workers[0].cpu, DEFAULT_CPU);
	assert_int_equal(model->workers[0].idle, IDLE_ADAPTIVE);
	assert_int_equal(model->bridge.ageing, 300);
	assert_int_equal(model->bridge.capacity, 65536);
	assert_int_equal(model->port_count, 0);
	model_free(model);
	/* Empty lists and null are the same. */
	model = parse("{'workers': [], 'bridge': null, 'ports': null, 'metrics': null}");
	assert_int_equal(model->worker_count, 1);
	assert_int_equal(model->workers[0].cpu, DEFAULT_CPU);
	assert_int_equal(model->bridge.capacity, 65536);
	model_free(model);
	model = parse("{'workers': [{'cpu': 0}], 'bridge': {'ageing': 0}}");
	assert_int_equal(model->workers[0].cpu, 0);
	assert_int_equal(model->workers[0].idle, IDLE_ADAPTIVE);
	assert_int_equal(model->bridge.ageing, 0);
	assert_int_equal(model->bridge.capacity, 65536);
	model_free(model);
	model_free(NULL);
}

static void values(void **state)
{
	struct model *model = parse(
		"{'workers': [{'cpu': 1023, 'idle': 'busy'}],"
		" 'bridge': {'ageing': 65000, 'capacity': 1048576},"
		" 'ports': ["
		"  {'name': 'vm1', 'type': 'vhost-user', 'socket': '/run/a', 'queues': 128,"
		"   'labels': {'vm': '6f1c'}},"
		"  {'name': 'A-z_0.9:x', 'type': 'vhost-user', 'socket': '/run/b'}]}");
	const struct model_port *port = &model->ports[0];

	(void)state;
	assert_int_equal(model->workers[0].cpu, 1023);
	assert_int_equal(model->workers[0].idle, IDLE_BUSY);
	assert_int_equal(model->bridge.ageing, 65000);
	assert_int_equal(model->bridge.capacity, 1048576);
	assert_int_equal(model->port_count, 2);
	assert_string_equal(port->name, "vm1");
	assert_ptr_equal(port->ops, port_find_type("vhost-user"));
	assert_int_equal(port->queues, 128);
	assert_string_equal(json_string_value(json_object_get(port->labels, "vm")), "6f1c");
	assert_string_equal(json_string_value(json_object_get(port->source, "socket")), "/run/a");
	assert_non_null(port->config);
	assert_int_equal(model->ports[1].queues, 1);
	assert_null(model->ports[1].labels);
	assert_string_equal(model->ports[1].name, "A-z_0.9:x");
	model_free(model);
}

/* Tests use the memory port, operators cannot. */
static void the_memory_port_is_no_type(void **state)
{
	(void)state;
	assert_null(port_find_type("memory"));
	assert_null(port_find_type(""));
	assert_non_null(strstr(port_types, "vhost-user"));
}

struct refusal {
	const char *text;
	const char *says;     /* part of the message */
	const char *object;
	const char *field;
	const char *value;    /* part of it; NULL: none */
	const char *accepted; /* part of it; NULL: nothing to say */
};

/* A port that is right but for what is added. */
#define PORT(more) "{'ports': [{'name': 'vm1', 'type': 'vhost-user', 'socket': '/run/a'" more "}]}"
#define LATER(key) { PORT(", '" key "': 1"), "not in this version", "port vm1", key, "1", NULL }
#define NAMED(name) "{'ports': [{'name': " name ", 'type': 'vhost-user', 'socket': '/run/a'}]}"
#define LONG_63 "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"

static const struct refusal refusals[] = {
	/* the whole */
	{ "[]", "object", "configuration", "", NULL, "an object" },
	{ "{'worker': []}", "not known", "configuration", "worker", "[]", "workers" },
	{ "{'metrics': {}}", "not in this version", "configuration", "metrics", "{}", NULL },
	/* workers */
	{ "{'workers': {}}", "array", "configuration", "workers", "{}", NULL },
	{ "{'workers': [1]}", "object", "workers[0]", "", "1", "an object" },
	{ "{'workers': [{}]}", "cpu", "workers[0]", "cpu", NULL, NULL },
	{ "{'workers': [{'cpu': -1}]}", "range", "workers[0]", "cpu", "-1", "0 to 1023" },
	{ "{'workers': [{'cpu': 1024}]}", "range", "workers[0]", "cpu", "1024", "0 to 1023" },
	{ "{'workers': [{'cpu': '1'}]}", "number", "workers[0]", "cpu", "'1'", "0 to 1023" },
	{ "{'workers': [{'cpu': 1.5}]}", "number", "workers[0]", "cpu", "1.5", "0 to 1023" },
	{ "{'workers': [{'cpu': 1, 'idle': 'lazy'}]}", "idle", "workers[0]", "idle", "'lazy'",
	  "adaptive, busy" },
	{ "{'workers': [{'cpu': 1, 'core': 1}]}", "not known", "workers[0]", "core", "1", "cpu" },
	{ "{'workers': [{'cpu': 1}, {'cpu': 2}]}", "not in this version", "workers", "", NULL,
	  "one worker" },
	/* bridge */
	{ "{'bridge': 1}", "object", "configuration", "bridge", "1", "object" },
	{ "{'bridge': {'ageing': 65001}}", "range", "configuration", "bridge.ageing", "65001",
	  "0 to 65000" },
	{ "{'bridge': {'capacity': 63}}", "range", "configuration", "bridge.capacity", "63",
	  "64 to 1048576" },
	{ "{'bridge': {'capacity': 1048577}}", "range", "configuration", "bridge.capacity",
	  "1048577", "64 to 1048576" },
	{ "{'bridge': {'capacity': true}}", "number", "configuration", "bridge.capacity", "true",
	  "64 to 1048576" },
	{ "{'bridge': {'aging': 1}}", "not known", "configuration", "bridge.aging", "1", "ageing" },
	/* ports: the common keys */
	{ "{'ports': {}}", "array", "configuration", "ports", "{}", NULL },
	{ "{'ports': [7]}", "ports[0] is not an object", "ports[0]", "", NULL, "an object" },
	{ "{'ports': [{'type': 'vhost-user'}]}", "name", "ports[0]", "name", NULL, NULL },
	{ NAMED("7"), "string", "ports[0]", "name", "7", NULL },
	{ NAMED("''"), "name", "ports[0]", "name", "''", "1 to 63 of" },
	{ NAMED("'a b'"), "name", "ports[0]", "name", "'a b'", "1 to 63 of" },
	{ NAMED("'a/b'"), "name", "ports[0]", "name", "'a/b'", "1 to 63 of" },
	{ NAMED("'a\\nb'"), "name", "ports[0]", "name", "a\\nb", "1 to 63 of" },
	{ NAMED("'" LONG_63 "n'"), "name", "ports[0]", "name", "nnn", NULL },
	{ "{'ports': [{'name': 'vm1', 'socket': '/run/a'}]}", "type", "port vm1", "type",
	  NULL, NULL },
	{ "{'ports': [{'name': 'vm1', 'type': 'tun'}]}", "there is no port type tun",
	  "port vm1", "type", "tun", "vhost-user" },
	{ "{'ports': [{'name': 'vm1', 'type': 'memory'}]}", "there is no port type memory",
	  "port vm1", "type", "memory", "vhost-user" },
	{ "{'ports': [{'name': 'vm1', 'type': 'tap'}]}", "tap is not in this version",
	  "port vm1", "type", "tap", "vhost-user" },
	{ "{'ports': [{'name': 'vm1', 'type': 'af_packet'}]}", "not in this version",
	  "port vm1", "type", "af_packet", "vhost-user" },
	{ "{'ports': [{'name': 'vm1', 'type': 'ethdev'}]}", "not in this version", "port vm1",
	  "type", "ethdev", "vhost-user" },
	{ PORT(", 'queues': 0"), "range", "port vm1", "queues", "0", "1 to 128" },
	{ PORT(", 'queues': 129"), "range", "port vm1", "queues", "129", "1 to 128" },
	{ PORT(", 'labels': []"), "object", "port vm1", "labels", "[]", "object" },
	{ PORT(", 'labels': {'vm': 1}"), "labels", "port vm1", "labels", "{'vm': 1}", "strings" },
	LATER("enabled"), LATER("mtu"), LATER("mac"), LATER("guard"), LATER("allowed"),
	LATER("vlan"), LATER("isolated"), LATER("learning"), LATER("flood"), LATER("storm"),
	LATER("max_addresses"), LATER("link_local"), LATER("retry"), LATER("limits"),
	/* ports: those of the type */
	{ "{'ports': [{'name': 'vm1', 'type': 'vhost-user'}]}", "socket", "port vm1", "socket",
	  NULL, NULL },
	{ PORT(", 'sockets': 1"), "not known", "port vm1", "sockets", "1", "socket" },
	{ PORT(", 'mode': 'both'"), "mode", "port vm1", "mode", "'both'", "server" },
	/* between ports */
	{ "{'ports': [{'name': 'a', 'type': 'vhost-user', 'socket': '/run/a'},"
	  " {'name': 'a', 'type': 'vhost-user', 'socket': '/run/b'}]}",
	  "ports[1]: the name a is taken by ports[0]", "ports", "name", "a", "no other port" },
	{ "{'ports': [{'name': 'a', 'type': 'vhost-user', 'socket': '/run/a'},"
	  " {'name': 'b', 'type': 'vhost-user', 'socket': '/run/b'},"
	  " {'name': 'a', 'type': 'vhost-user', 'socket': '/run/c'}]}",
	  "ports[2]: the name a is taken by ports[0]", "ports", "name", "a", "no other port" },
	{ "{'ports': [{'name': 'a', 'type': 'vhost-user', 'socket': '/run/a'},"
	  " {'name': 'b', 'type': 'vhost-user', 'socket': '/run/a'}]}",
	  "ports[1]: the socket /run/a is taken by ports[0]", "ports", "socket", "/run/a",
	  "no other port" },
};

static void check_part(const struct refusal *refusal, const char *what, const char *text,
		       const char *part)
{
	if (part == NULL || strstr(text, part) != NULL)
		return;
	fail_msg("%s: \"%s\" as %s has no \"%s\"", refusal->text, text, what, part);
}

static void mistakes_are_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
		const struct refusal *refusal = &refusals[i];
		json_t *root = json_of(refusal->text);
		struct model *model = (struct model *)&refusals;
		struct error err;

		assert_non_null(root);
		memset(&err, 0, sizeof(err));
		if (model_parse(root, DEFAULT_CPU, &model, &err) >= 0)
			fail_msg("%s was taken", refusal->text);
		assert_null(model);
		json_decref(root);
		assert_int_equal(err.kind, ERROR_INVALID);
		check_part(refusal, "message", err.message, refusal->says);
		check_part(refusal, "object", err.object, refusal->object);
		replace(err.value, '"', '\'');
		check_part(refusal, "value", err.value, refusal->value);
		check_part(refusal, "accepted", err.accepted, refusal->accepted);
		if (strcmp(err.field, refusal->field) != 0)
			fail_msg("%s: field \"%s\", not \"%s\"", refusal->text, err.field,
				 refusal->field);
		if (err.message[strlen(err.message) - 1] == '.')
			fail_msg("%s: \"%s\" ends in a full stop", refusal->text, err.message);
	}
}

static void the_longest_name_is_fine(void **state)
{
	struct model *model = parse(NAMED("'" LONG_63 "'"));

	(void)state;
	assert_string_equal(model->ports[0].name, LONG_63);
	model_free(model);
}

static void too_many_ports(void **state)
{
	json_t *root = json_object(), *list = json_array();
	struct model *model = NULL;
	struct error err;

	(void)state;
	json_object_set_new(root, "ports", list);
	for (int i = 0; i <= 1024; i++) {
		char name[16], socket[16];

		snprintf(name, sizeof(name), "p%d", i);
		snprintf(socket, sizeof(socket), "/run/%d", i);
		json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "name", name, "type",
						      "vhost-user", "socket", socket));
	}
	assert_true(model_parse(root, DEFAULT_CPU, &model, &err) < 0);
	assert_int_equal(err.kind, ERROR_LIMIT);
	assert_non_null(strstr(err.message, "1024"));
	json_array_remove(list, 0);
	assert_int_equal(model_parse(root, DEFAULT_CPU, &model, &err), 0);
	assert_int_equal(model->port_count, 1024);
	model_free(model);
	json_decref(root);
}

/* ---- files ---- */

static char path[] = "/tmp/ringway-test-model-XXXXXX";

static int make_file(void **state)
{
	int fd = mkstemp(path);

	(void)state;
	if (fd < 0)
		return -1;
	close(fd);
	return 0;
}

static int remove_file(void **state)
{
	(void)state;
	return unlink(path);
}

static void write_file(const char *text)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static void a_file_is_read(void **state)
{
	struct model *model;
	struct error err;

	(void)state;
	write_file("{ \"bridge\": { \"ageing\": 17 } }\n");
	assert_int_equal(model_load(path, DEFAULT_CPU, &model, &err), 0);
	assert_int_equal(model->bridge.ageing, 17);
	model_free(model);
}

static void a_bad_file_names_the_line(void **state)
{
	static const struct {
		const char *text, *line;
	} files[] = {
		{ "", "line 1," },
		{ "{\n  \"bridge\": {\n    \"ageing\": 300,\n  }\n}\n", "line 4," },
		{ "{\n  \"bridge\": {},\n  \"bridge\": {}\n}\n", "line 3," },
		{ "{ \"ports\": [] }\nrubbish\n", "line 2," },
		{ "{\n\n\"bridge\": {\"ageing\": 0x10}}", "line 3," },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		struct model *model = NULL;
		struct error err;

		write_file(files[i].text);
		assert_int_equal(model_load(path, DEFAULT_CPU, &model, &err), -EINVAL);
		assert_null(model);
		assert_int_equal(err.kind, ERROR_INVALID);
		assert_non_null(strstr(err.message, path));
		if (strstr(err.message, files[i].line) == NULL)
			fail_msg("\"%s\": no \"%s\" in \"%s\"", files[i].text, files[i].line,
				 err.message);
	}
}

static void a_file_that_cannot_be_read(void **state)
{
	struct model *model = NULL;
	struct error err;

	(void)state;
	assert_int_equal(model_load("/nowhere/at/all.json", DEFAULT_CPU, &model, &err), -ENOENT);
	assert_null(model);
	assert_int_equal(err.kind, ERROR_SYSTEM);
	assert_non_null(strstr(err.message, "/nowhere/at/all.json"));
	assert_non_null(strstr(err.message, "No such file"));
	/* The reason is the world's, not always the same one. */
	assert_int_equal(model_load("/tmp", DEFAULT_CPU, &model, &err), -EISDIR);
	assert_null(model);
	assert_int_equal(err.kind, ERROR_SYSTEM);
	assert_non_null(strstr(err.message, "/tmp"));
	assert_non_null(strstr(err.message, "directory"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults),
		cmocka_unit_test(values),
		cmocka_unit_test(the_memory_port_is_no_type),
		cmocka_unit_test(mistakes_are_refused),
		cmocka_unit_test(the_longest_name_is_fine),
		cmocka_unit_test(too_many_ports),
		cmocka_unit_test(a_file_is_read),
		cmocka_unit_test(a_bad_file_names_the_line),
		cmocka_unit_test(a_file_that_cannot_be_read),
	};

	return cmocka_run_group_tests(tests, make_file, remove_file);
}
