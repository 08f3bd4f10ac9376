/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * control/saving.c, and settle.c, which waits for it: a change has ended when it is on the disk;
 * what cannot be saved is taken back; and what a start finds in which file.
 */
#include "control/saving.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/units.h"

#include "control_fixture.h"

#define HOST 0x525400000001
#define DEFAULT_CPU 3

static char directory[64], state_path[96], config_path[96];

/* ---- files ---- */

static int make_directory(void **state)
{
	(void)state;
	snprintf(directory, sizeof(directory), "/tmp/ringway-test-XXXXXX");
	if (mkdtemp(directory) == NULL)
		return -1;
	snprintf(state_path, sizeof(state_path), "%s/state.json", directory);
	snprintf(config_path, sizeof(config_path), "%s/ringway.json", directory);
	log_set_level(LOG_ERROR);
	/* As state_new does; here it may be the first test that needs it. */
	signal(SIGXFSZ, SIG_IGN);
	return 0;
}

/* Nothing but the two files, if these, may be left. */
static int remove_directory(void **state)
{
	(void)state;
	unlink(state_path);
	unlink(config_path);
	return rmdir(directory);
}

/* A full disk, or not any more. */
static void fill_disk(bool full)
{
	struct rlimit limit;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = full ? 0 : limit.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void write_text(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

/* JSON with ' for ". */
static void write_json(const char *path, const char *text)
{
	char *quoted = strdup(text);

	assert_non_null(quoted);
	for (char *at = quoted; (at = strchr(at, '\'')) != NULL;)
		*at = '"';
	write_text(path, quoted);
	free(quoted);
}

static json_t *saved(void)
{
	json_t *content;
	struct error err;

	if (state_load(state_path, &content, &err) != 0)
		fail_msg("%s", err.message);
	assert_non_null(content);
	return content;
}

static void append_name(char *names, size_t size, const char *name)
{
	size_t used = strlen(names);

	snprintf(names + used, size - used, "%s ", name);
}

/* The names of the ports in the file, in order: "a b ". */
static const char *saved_ports(void)
{
	static char names[1024];
	json_t *content = saved(), *port;
	size_t i;

	names[0] = '\0';
	json_array_foreach(json_object_get(json_object_get(content, "configuration"), "ports"), i,
			   port) {
		append_name(names, sizeof(names),
			    json_string_value(json_object_get(port, "name")));
	}
	json_decref(content);
	return names;
}

static uint64_t saved_revision(void)
{
	json_t *content = saved();
	uint64_t revision = (uint64_t)json_integer_value(json_object_get(content, "revision"));

	json_decref(content);
	return revision;
}

/* What the file holds under "remembered" for a port, a string, or "". */
static const char *saved_memory(const char *name)
{
	static char text[64];
	json_t *content = saved();
	const char *memory = json_string_value(
		json_object_get(json_object_get(content, "remembered"), name));

	snprintf(text, sizeof(text), "%s", memory != NULL ? memory : "");
	json_decref(content);
	return text;
}

static ino_t inode(void)
{
	struct stat status;

	assert_int_equal(stat(state_path, &status), 0);
	return status.st_ino;
}

#define WRITE_MS 50 /* by then what was given to the thread that writes is in the file */

static void stop_loop(void *argument)
{
	loop_stop(argument);
}

/* The file stays what it was. */
static void assert_nothing_is_written(ino_t before)
{
	struct loop_timer timer = { NULL };

	assert_int_equal(loop_timer_start(&timer, fixture.loop, WRITE_MS, stop_loop, fixture.loop),
			 0);
	assert_int_equal(loop_run(fixture.loop), 0);
	loop_timer_stop(&timer);
	assert_int_equal(inode(), before);
}

/* ---- a switch that saves ---- */

static int setup(void **state)
{
	struct saving_start start;
	struct state *file;
	struct error err;

	if (make_directory(state) != 0 || fixture_setup(state) != 0 ||
	    saving_load(state_path, NULL, 0, &start, &err) != 0 ||
	    state_new(&file, fixture.loop, state_path, &err) != 0)
		return -1;
	saving_begin(fixture.control, &start, file);
	saving_start_release(&start);
	return 0;
}

static int teardown(void **state)
{
	fill_disk(false);
	return fixture_teardown(state) != 0 || remove_directory(state) != 0;
}

static bool quiet(void)
{
	const struct control *control = fixture.control;

	return control->current == NULL && STAILQ_EMPTY(&control->waiting) && control->saves == 0;
}

static void apply(struct change *change)
{
	fixture_submit(change);
	fixture_await();
	if (fixture.failed > 0)
		fail_msg("%s", fixture.fault.message);
}

static bool one_has_failed(void)
{
	return fixture.failed > 0;
}

static bool has_port(const char *name)
{
	return control_find_port(fixture.control, name) != NULL;
}

static uint32_t mtu_of(const char *name)
{
	return port_named(name)->model->settings.mtu;
}

/* Everything that runs is what the file says. */
static void assert_runs_what_is_saved(void)
{
	json_t *content = saved(), *running = model_to_json(fixture.control->model);

	if (!json_equal(json_object_get(content, "configuration"), running))
		fail_msg("it runs %s, but %s is saved", json_dumps(running, 0),
			 json_dumps(json_object_get(content, "configuration"), 0));
	assert_int_equal(json_integer_value(json_object_get(content, "revision")),
			 fixture.control->revision);
	json_decref(running);
	json_decref(content);
	for (uint32_t i = 0; i < fixture.control->model->port_count; i++) {
		struct model_port *port = fixture.control->model->ports[i];

		assert_ptr_equal(port_named(port->name)->model, port);
	}
}

static unsigned int seen_on_disk;

/* When a change has ended, its model is in the file, and so is its revision. */
static void look_at_the_disk(struct change *change, const struct error *fault)
{
	(void)change;
	assert_null(fault);
	if (++seen_on_disk == 1)
		assert_string_equal(saved_ports(), "a b ");
	else
		assert_runs_what_is_saved();
}

static void a_change_ends_when_it_is_saved(void **state)
{
	(void)state;
	fixture_start(probe_port("a", "A"), NULL);
	fixture.on_done = look_at_the_disk;
	seen_on_disk = 0;
	apply(order_put(probe_port("b", "B"), NULL));
	/* Not at once: the disk takes its time. */
	fixture_submit(order_put(with_mtu(probe_port("b", "B"), 1500), NULL));
	assert_int_equal(fixture.ended, 1);
	assert_int_equal(mtu_of("b"), 1500);
	fixture_await();
	apply(order_address(HOST, "b"));
	apply(order_remove("b"));
	assert_int_equal(seen_on_disk, 4);
	assert_string_equal(saved_ports(), "a ");
	assert_int_equal(saved_revision(), fixture.control->revision);
	fixture.on_done = NULL;
}

static void many_changes_become_few_writes(void **state)
{
	(void)state;
	fixture_start(probe_port("a", "A"), NULL);
	for (uint32_t i = 0; i < 500; i++)
		fixture_submit(order_put(with_mtu(probe_port("a", "A"), 1500 + i), NULL));
	assert_int_equal(mtu_of("a"), 1999);
	fixture_await();
	assert_int_equal(fixture.failed, 0);
	assert_runs_what_is_saved();
}

static void what_changes_nothing_is_not_written(void **state)
{
	struct change *change;
	ino_t before;

	(void)state;
	fixture_start(probe_port("a", "A"), NULL);
	apply(order_put(with_mtu(probe_port("a", "A"), 1500), NULL));
	before = inode();
	apply(order_put(with_mtu(probe_port("a", "A"), 1500), NULL));
	assert_nothing_is_written(before);
	/* Nor is what nobody asked for. */
	text_copy(fixture.denied, sizeof(fixture.denied), "b");
	change = order_put(probe_port("b", "B"), NULL);
	change->strict = false;
	apply(change);
	assert_string_equal(saved_ports(), "a b ");
	before = inode();
	fixture.denied[0] = '\0';
	fixture.control->retry.run(fixture.control->retry.argument);
	fixture_wait(quiet);
	assert_int_equal(port_named("b")->state, PORT_OPEN);
	assert_nothing_is_written(before);
}

/* It says nothing new, but what it says is not safe before the change that it repeats. */
static void what_is_not_saved_yet_is_not_confirmed(void **state)
{
	uint64_t revision;

	(void)state;
	fixture_start(probe_port("a", "A"), NULL);
	fill_disk(true);
	fixture_submit(order_put(with_mtu(probe_port("a", "A"), 1500), NULL));
	fixture_submit(order_put(with_mtu(probe_port("a", "A"), 1500), NULL));
	revision = fixture.control->revision;
	fixture_await();
	assert_int_equal(fixture.failed, 2);
	/* Whoever has read that revision has read something else than what runs now. */
	fixture_wait(quiet);
	assert_true(fixture.control->revision > revision);
}

/* ---- a disk that is full ---- */

static void what_cannot_be_saved_is_taken_back(void **state)
{
	uint64_t revision;

	(void)state;
	fixture_start(with_mac(probe_port("a", "A"), HOST), NULL);
	apply(order_put(probe_port("b", "B"), NULL));
	apply(order_address(HOST + 1, "b"));
	fill_disk(true);
	fixture_submit(order_put(with_mac(with_mtu(probe_port("a", "A"), 1500), HOST + 2), NULL));
	fixture_submit(order_put(with_kept(probe_port("b", "B"), 3), NULL));
	fixture_submit(order_put(probe_port("c", "C"), NULL));
	fixture_submit(order_remove("a"));
	/* The first has been done, and whoever asks is told of it. */
	assert_int_equal(mtu_of("a"), 1500);
	revision = fixture.control->revision;
	fixture_await();
	assert_int_equal(fixture.failed, 4);
	assert_int_equal(fixture.fault.kind, ERROR_SYSTEM);
	assert_int_equal(fixture.fault.errnum, EFBIG);
	assert_non_null(strstr(fixture.fault.message, state_path));
	fixture_wait(quiet);
	fill_disk(false);
	/* As before, but for the revision: what was read meanwhile holds no more. */
	assert_string_equal(saved_ports(), "a b ");
	assert_int_equal(fixture.control->model->port_count, 2);
	assert_int_equal(mtu_of("a"), PORT_MTU_MAX);
	assert_int_equal(port_named("a")->state, PORT_OPEN);
	assert_int_equal(port_named("b")->state, PORT_OPEN);
	assert_false(has_port("c"));
	assert_int_equal(fixture.control->model->address_count, 1);
	assert_true(fixture.control->revision > revision);
	/* And the next one is saved without them. */
	fixture.failed = 0;
	apply(order_put(probe_port("d", "D"), NULL));
	assert_string_equal(saved_ports(), "a b d ");
	assert_runs_what_is_saved();
}

/*
 * While one change cannot be saved the next is under way, and a third waits: neither may bring back
 * what is taken away, nor be confirmed and be taken away with it.
 */
static void what_comes_while_changes_are_taken_back(void **state)
{
	(void)state;
	fixture_start(probe_port("a", "A"), NULL);
	apply(order_put(probe_port("b", "B"), NULL));
	fill_disk(true);
	fixture_submit(order_put(with_mtu(probe_port("a", "A"), 1500), NULL));
	text_copy(fixture.held, sizeof(fixture.held), "c");
	fixture_submit(order_put(probe_port("c", "C"), NULL));
	fixture_submit(order_put(with_mtu(probe_port("b", "B"), 1280), NULL));
	fixture_submit(order_put(probe_port("d", "D"), NULL));
	fixture_wait(one_has_failed);
	assert_int_equal(fixture.ended, 2);
	fill_disk(false);
	fixture_release();
	fixture_await();
	fixture_wait(quiet);
	assert_int_equal(mtu_of("a"), PORT_MTU_MAX);
	assert_runs_what_is_saved();
	/* Each of the others is there if its caller was told so. */
	assert_int_equal(fixture.ended - fixture.failed,
			 1 + has_port("c") + has_port("d") + (mtu_of("b") == 1280));
	assert_true(has_port("d"));
	assert_int_equal(mtu_of("b"), 1280);
}

static void stops_while_changes_are_taken_back(void **state)
{
	(void)state;
	fixture_start(probe_port("a", "A"), NULL);
	apply(order_put(probe_port("b", "B"), NULL));
	fill_disk(true);
	fixture_submit(order_put(with_mtu(probe_port("a", "A"), 1500), NULL));
	text_copy(fixture.held, sizeof(fixture.held), "c");
	fixture_submit(order_put(probe_port("c", "C"), NULL));
	fixture_stop_soon();
	fixture_wait(one_has_failed);
	fixture_release();
	fixture_stop();
	assert_int_equal(fixture.failed, 2);
	fill_disk(false);
	assert_string_equal(saved_ports(), "a b ");
}

/* Ports go when the switch stops, but not from the file; and what was asked before is in it. */
static void stops_when_all_is_saved(void **state)
{
	(void)state;
	fixture_start(probe_port("a", "A"), NULL);
	fixture_submit(order_put(probe_port("b", "B"), NULL));
	fixture_submit(order_put(probe_port("c", "C"), NULL));
	fixture_stop();
	assert_int_equal(fixture.ended, 2);
	assert_int_equal(fixture.failed, 0);
	assert_int_equal(fixture.control->model->port_count, 0);
	assert_string_equal(saved_ports(), "a b c ");
}

/* Also where there is nothing that takes its time to be closed. */
static void stops_without_ports_when_all_is_saved(void **state)
{
	(void)state;
	fixture_start(NULL, NULL);
	fixture_submit(order_address(HOST, NULL));
	fixture_stop_soon();
	assert_false(fixture.stopped);
	fixture_stop();
	assert_int_equal(fixture.ended, 1);
}

/* ---- what ports say ---- */

static void says(const char *name, const char *memory)
{
	struct port *port = port_named(name)->port;

	text_copy(fixture.memory, sizeof(fixture.memory), memory);
	port->host.remember(port->host.argument, port);
}

static void flush(void)
{
	fixture_wait(quiet);
	/* A write of its own ends behind all others. */
	apply(order_address(HOST + fixture.ended + 100, NULL));
}

static void ports_are_reminded(void **state)
{
	ino_t before;

	(void)state;
	fixture_start(probe_port("a", "A"), probe_port("b", "B"), NULL);
	assert_string_equal(fixture.remembered, "");
	says("a", "one");
	says("b", "two");
	flush();
	assert_string_equal(saved_memory("a"), "one");
	assert_string_equal(saved_memory("b"), "two");
	/* The same once more is no news. */
	before = inode();
	says("b", "two");
	assert_nothing_is_written(before);
	/* Opened anew, it hears what it said. */
	apply(order_put(with_kept(probe_port("a", "A"), 3), NULL));
	assert_string_equal(fixture.remembered, "\"one\"");
	says("b", "");
	flush();
	assert_string_equal(saved_memory("a"), "one");
	assert_string_equal(saved_memory("b"), "");
	/* Removed and added it is another one. */
	apply(order_remove("a"));
	assert_string_equal(saved_memory("a"), "");
	apply(order_put(probe_port("a", "A"), NULL));
	assert_string_equal(fixture.remembered, "");
}

/* The stop closes the ports, but they will come back. */
static void the_stop_forgets_nothing(void **state)
{
	(void)state;
	fixture_start(probe_port("a", "A"), NULL);
	says("a", "one");
	flush();
	fixture_stop();
	assert_string_equal(saved_memory("a"), "one");
}

/* What a port says is written down, but not together with what is being taken back. */
static void what_ports_say_while_changes_are_taken_back(void **state)
{
	ino_t before;

	(void)state;
	fixture_start(probe_port("a", "A"), NULL);
	apply(order_put(probe_port("b", "B"), NULL));
	fill_disk(true);
	fixture_submit(order_put(with_mtu(probe_port("a", "A"), 1500), NULL));
	text_copy(fixture.held, sizeof(fixture.held), "c");
	fixture_submit(order_put(probe_port("c", "C"), NULL));
	fixture_wait(one_has_failed);
	fill_disk(false);
	before = inode();
	says("a", "one");
	assert_nothing_is_written(before);
	fixture_release();
	fixture_await();
	fixture_wait(quiet);
	/* What is written from here on comes later. */
	state_free(fixture.control->state);
	fixture.control->state = NULL;
	assert_string_equal(saved_memory("a"), "one");
	assert_runs_what_is_saved();
}

/* ---- what a start finds ---- */

#define PORT(name) "{'name': '" name "', 'type': 'vhost-user', 'socket': '/run/" name "'}"
#define FILE_OF(ports) "{'ports': [" ports "]}"

static struct saving_start start;

static void load(bool with_state, bool with_config)
{
	struct error err;

	if (saving_load(with_state ? state_path : NULL, with_config ? config_path : NULL,
			DEFAULT_CPU, &start, &err) != 0)
		fail_msg("%s", err.message);
}

static void assert_started(const char *names, uint64_t revision, bool from_state)
{
	char found[256] = "";

	for (uint32_t i = 0; i < start.model->port_count; i++) {
		append_name(found, sizeof(found), start.model->ports[i]->name);
	}
	assert_string_equal(found, names);
	assert_int_equal(start.revision, revision);
	assert_int_equal(start.from_state, from_state);
	assert_true(json_is_object(start.remembered));
	assert_int_equal(start.model->workers[0].cpu, DEFAULT_CPU);
	model_free(start.model);
	start.model = NULL;
	saving_start_release(&start);
}

/* A state file as it is written when `configured` (JSON, or NULL) was applied last. */
static void write_state(const char *ports, const char *configured)
{
	char text[1024];

	snprintf(text, sizeof(text),
		 "{'ringway': 1, 'revision': 17, 'configuration': {'ports': [%s]},"
		 " 'remembered': {'s': 7}%s%s}", ports,
		 configured != NULL ? ", 'configured': " : "",
		 configured != NULL ? configured : "");
	write_json(state_path, text);
}

/* What saving_identify says of the configuration file now. */
static char *identity(void)
{
	struct error err;
	json_t *object = saving_identify(config_path, &err);
	char *text;

	assert_non_null(object);
	text = json_dumps(object, 0);
	json_decref(object);
	return text;
}

static void begins_with_what_there_is(void **state)
{
	(void)state;
	load(false, false);
	assert_started("", 0, false);
	/* The state file need not be there, the configuration must. */
	load(true, false);
	assert_started("", 0, false);
	write_json(config_path, FILE_OF(PORT("c")));
	load(false, true);
	assert_non_null(start.configured);
	assert_started("c ", 0, false);
	load(true, true);
	assert_started("c ", 0, false);
	write_state(PORT("s"), NULL);
	load(true, false);
	assert_null(start.configured);
	assert_int_equal(json_integer_value(json_object_get(start.remembered, "s")), 7);
	assert_started("s ", 17, true);
	load(false, true);
	assert_started("c ", 0, false);
}

static void state_wins_over_a_file_that_was_applied(void **state)
{
	char *applied;

	(void)state;
	write_json(config_path, FILE_OF(PORT("c")));
	applied = identity();
	write_state(PORT("s"), applied);
	load(true, true);
	assert_started("s ", 17, true);
	/* Touched, it is the same file still. */
	write_json(config_path, FILE_OF(PORT("c")));
	load(true, true);
	assert_started("s ", 17, true);
	/* Without --config the state knows of it still. */
	load(true, false);
	assert_non_null(start.configured);
	assert_started("s ", 17, true);
	/* Changed, it counts; revision and memories go on. */
	write_json(config_path, FILE_OF(PORT("d")));
	load(true, true);
	assert_int_equal(json_integer_value(json_object_get(start.remembered, "s")), 7);
	assert_started("d ", 17, false);
	/* A blank more is a change, too. */
	write_json(config_path, FILE_OF(PORT("c")) " ");
	load(true, true);
	assert_started("c ", 17, false);
	/* So is a file that the state never heard of. */
	write_state(PORT("s"), NULL);
	load(true, true);
	assert_started("c ", 17, false);
	free(applied);
}

static void refuse(bool with_state, bool with_config, int errnum, const char *part)
{
	struct error err;
	int result;

	memset(&err, 0, sizeof(err));
	result = saving_load(with_state ? state_path : NULL, with_config ? config_path : NULL,
			     DEFAULT_CPU, &start, &err);
	assert_int_equal(result, -errnum);
	if (strstr(err.message, part) == NULL)
		fail_msg("\"%s\" in \"%s\"", part, err.message);
	if (strstr(err.message, with_state ? state_path : config_path) == NULL)
		fail_msg("no path in \"%s\"", err.message);
}

static void refuses_what_is_wrong(void **state)
{
	struct error err;
	char *applied;

	(void)state;
	refuse(false, true, ENOENT, "No such file");
	write_json(config_path, "{\n'ports': [}");
	refuse(false, true, EINVAL, "line 2");
	write_json(config_path, FILE_OF(PORT("c")));
	write_json(state_path, "{'ringway': 1, ");
	refuse(true, false, EINVAL, "line 1");
	write_json(state_path, "{'ringway': 2, 'revision': 1, 'configuration': {}}");
	refuse(true, false, EINVAL, "no state file of this version");
	write_json(state_path, "{'ports': []}");
	refuse(true, false, EINVAL, "no state file of this version");
	write_json(state_path, "[]");
	refuse(true, false, EINVAL, "no JSON object");
	write_json(state_path, "{'ringway': 1, 'revision': 1}");
	refuse(true, false, EINVAL, "no state file of this version");
	/* A wrong state counts nothing, but the file's path and the place are told. */
	write_state("{'name': 's', 'type': 'vhost-user', 'socket': '/run/s', 'queues': 0}", NULL);
	refuse(true, false, EINVAL, "port s");
	assert_int_equal(saving_load(state_path, NULL, 0, &start, &err), -EINVAL);
	assert_string_equal(err.field, "queues");
	assert_string_equal(err.value, "0");
	assert_string_equal(err.accepted, "1 to 128");
	/* Where the file counts, nobody asks what else the state says. */
	load(true, true);
	assert_started("c ", 17, false);
	applied = identity();
	write_state("7", applied);
	refuse(true, true, EINVAL, "ports[0]");
	free(applied);
}

static void identifies_files(void **state)
{
	struct error err;
	char *first, *second;

	(void)state;
	write_text(config_path, "{}");
	first = identity();
	write_text(config_path, "{ }");
	second = identity();
	assert_string_not_equal(first, second);
	free(second);
	write_text(config_path, "{}");
	second = identity();
	assert_string_equal(first, second);
	free(second);
	free(first);
	assert_null(saving_identify("/nowhere/at/all", &err));
	assert_int_equal(err.errnum, ENOENT);
	assert_non_null(strstr(err.message, "/nowhere/at/all"));
	assert_null(saving_identify(directory, &err));
	assert_int_equal(err.errnum, EISDIR);
}

/* A file that is applied while the switch runs is known at the next start. */
static void an_applied_file_is_remembered(void **state)
{
	struct error err;

	(void)state;
	fixture_start(probe_port("a", "A"), NULL);
	write_json(config_path, FILE_OF(PORT("c")));
	saving_configured(fixture.control, saving_identify(config_path, &err));
	flush();
	/* Probes are nothing that a file can name: only which file counts is looked at. */
	assert_int_equal(saving_load(state_path, config_path, 0, &start, &err), -EINVAL);
	assert_non_null(strstr(err.message, state_path));
	write_json(config_path, FILE_OF(PORT("d")));
	load(true, true);
	assert_started("d ", fixture.control->revision, false);
}

#define RUNNING(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define LOADING(name) cmocka_unit_test_setup_teardown(name, make_directory, remove_directory)

int main(void)
{
	const struct CMUnitTest tests[] = {
		RUNNING(a_change_ends_when_it_is_saved),
		RUNNING(many_changes_become_few_writes),
		RUNNING(what_changes_nothing_is_not_written),
		RUNNING(what_is_not_saved_yet_is_not_confirmed),
		RUNNING(what_cannot_be_saved_is_taken_back),
		RUNNING(what_comes_while_changes_are_taken_back),
		RUNNING(stops_while_changes_are_taken_back),
		RUNNING(stops_when_all_is_saved),
		RUNNING(stops_without_ports_when_all_is_saved),
		RUNNING(ports_are_reminded),
		RUNNING(the_stop_forgets_nothing),
		RUNNING(what_ports_say_while_changes_are_taken_back),
		LOADING(begins_with_what_there_is),
		LOADING(state_wins_over_a_file_that_was_applied),
		LOADING(refuses_what_is_wrong),
		LOADING(identifies_files),
		RUNNING(an_applied_file_is_remembered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
