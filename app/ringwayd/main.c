/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ringwayd: start-up and teardown, in order. The configuration is read before anything is opened;
 * the control socket appears last, so that whoever finds it answering finds all ports served.
 */
#include "methods.h"
#include "options.h"
#include "ready.h"
#include "stats.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_launch.h>

#include "base/descriptors.h"
#include "base/log.h"
#include "control/saving.h"
#include "port/memory_fault.h"
#include "rpc/server.h"
#include "rpc/socket.h"
#include "telemetry/endpoints.h"
#include "worker/watchdog.h"

#define DRAIN_MS 200

static struct daemon daemon_state;
static struct worker_load loads[WORKERS_MAX];
static struct options options;
static struct loop_timer patience;
static bool stopping, failed;

/* Ports that take longer to be opened than that do not keep the control socket waiting. */
#define PATIENCE_MS 10000

static int complain(const struct error *err)
{
	fprintf(stderr, "ringwayd: %s", err->message);
	if (err->field[0] != '\0')
		fprintf(stderr, " (%s)", err->field);
	if (err->accepted[0] != '\0')
		fprintf(stderr, "; accepted: %s", err->accepted);
	fputc('\n', stderr);
	return 1;
}

static void all_closed(void *argument)
{
	loop_stop(argument);
}

static void begin_shutdown(void *argument)
{
	struct daemon *daemon = argument;

	if (stopping)
		return;
	stopping = true;
	log_info("ringwayd", "closing the ports");
	control_stop(daemon->control, all_closed, daemon->loop);
}

/* Ctrl-C and a parent that passes it on are one wish told twice. */
#define SAME_WISH_MS 3000

static void signalled(void *argument)
{
	static uint64_t first_ms;
	struct timespec now;
	uint64_t now_ms;

	clock_gettime(CLOCK_MONOTONIC, &now);
	now_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
	if (first_ms == 0)
		first_ms = now_ms;
	if (stopping && now_ms - first_ms >= SAME_WISH_MS) {
		/* A driver may never come back; what was asked for is on the disk already. */
		log_warning("ringwayd", "stopped by a second signal, without closing the ports");
		_exit(1);
	}
	begin_shutdown(argument);
}

static void shutdown_soon(struct daemon *daemon)
{
	/* Not at once: the answer to the request goes out first. */
	loop_post(daemon->loop, begin_shutdown, daemon);
}

static int set_owner(struct error *err)
{
	if (chown(options.socket, options.socket_user, options.socket_group) == 0)
		return 0;
	return error_set(err, ERROR_SYSTEM, errno, "%s: its owner cannot be set: %s",
			 options.socket, strerror(errno));
}

static void serve(struct daemon *daemon)
{
	struct error err;

	loop_timer_stop(&patience);
	if (daemon->server != NULL)
		return;
	if (rpc_server_new(&daemon->server, daemon->loop, daemon->socket, options.socket_mode,
			   methods, daemon, &err) != 0 ||
	    set_owner(&err) != 0) {
		complain(&err);
		failed = true;
		shutdown_soon(daemon);
		return;
	}
	log_info("ringwayd", "ready: ringwayctl --socket %s", daemon->socket);
	if (ready_tell() != 0)
		log_warning("ringwayd", "the service manager did not hear that we are ready");
}

static void ports_are_open(void *argument)
{
	struct daemon *daemon = argument;

	daemon->opened = true;
	serve(daemon);
	/* What the file said, or what was saved in another way, is safe from now on. */
	if (daemon->server != NULL)
		saving_write(daemon->control, NULL, NULL);
}

/* Whatever a port waits for, the operator can ask which one it is. */
static void ports_are_late(void *argument)
{
	log_warning("ringwayd", "a port takes long to be opened: changes wait for it");
	serve(argument);
}

/* ---- SIGHUP: the configuration file, if it has changed since it was last applied ---- */

struct reload {
	struct change change;
	struct model *model;
	json_t *identity;
};

static int make_reloaded(struct change *change, const struct model *now, struct model **wanted,
			 struct error *err)
{
	struct reload *reload = (struct reload *)change;

	(void)now;
	(void)err;
	*wanted = reload->model;
	reload->model = NULL;
	return 0;
}

static void reloaded(struct change *change, const struct error *fault)
{
	struct reload *reload = (struct reload *)change;

	if (fault != NULL) {
		log_error("ringwayd", "%s is not applied: %s", options.config, fault->message);
		json_decref(reload->identity);
	} else {
		log_info("ringwayd", "%s is applied: revision %llu", options.config,
			 (unsigned long long)change->revision);
		saving_configured(daemon_state.control, reload->identity);
		if (change->changed)
			observer_changed(daemon_state.control, "SIGHUP", NULL, 0, 0);
	}
	model_free(reload->model);
	free(reload);
}

static void reload_configuration(void *argument)
{
	struct control *control = daemon_state.control;
	struct reload *reload;
	struct error err;

	(void)argument;
	if (options.config == NULL) {
		log_warning("ringwayd", "SIGHUP: there is no --config to read again");
		return;
	}
	reload = calloc(1, sizeof(*reload));
	if (reload == NULL)
		return;
	reload->identity = saving_identify(options.config, &err);
	if (reload->identity != NULL && json_equal(reload->identity, control->configured)) {
		log_info("ringwayd", "%s has not changed since it was applied", options.config);
		goto leave;
	}
	if (reload->identity == NULL ||
	    model_load(options.config, options.last_cpu, &reload->model, &err) != 0 ||
	    options_check_cpus(&options, reload->model, &err) != 0) {
		log_error("ringwayd", "%s is not applied: %s", options.config, err.message);
		goto leave;
	}
	reload->change.make = make_reloaded;
	reload->change.done = reloaded;
	control_submit(control, &reload->change);
	return;

leave:
	model_free(reload->model);
	json_decref(reload->identity);
	free(reload);
}

static void start_workers(struct control *control)
{
	for (uint16_t i = 0; i < control->worker_count; i++)
		rte_eal_remote_launch(worker_run, control->workers[i], i + 1u);
}

static void stop_workers(struct control *control)
{
	for (uint16_t i = 0; i < control->worker_count; i++)
		worker_stop(control->workers[i]);
	rte_eal_mp_wait_lcore();
}

/* Takes over the description. */
static int print_description(json_t *description)
{
	int result = json_dumpf(description, stdout, JSON_INDENT(2));

	json_decref(description);
	return result == 0 && putchar('\n') != EOF && fflush(stdout) == 0 ? 0 : 1;
}

/* Reads what is to run; nothing is opened yet. */
static int read_configuration(struct saving_start *start, struct error *err)
{
	return saving_load(options.state, options.config, options.last_cpu, start, err);
}

int main(int argc, char **argv)
{
	struct daemon *daemon = &daemon_state;
	struct loop_timer interrupt, terminate, hangup;
	struct saving_start start;
	struct state *state = NULL;
	struct timespec now;
	struct error err;

	if (descriptors_fill_standard() != 0)
		return 1;
	options_parse(&options, argc, argv);
	if (options.schema)
		return print_description(daemon_schema());
	if (options.metrics)
		return print_description(metric_describe());
	if (read_configuration(&start, &err) != 0)
		return complain(&err);
	if (rpc_socket_probe(options.socket, &err) != 0)
		return complain(&err);
	if (options_start_eal(&options, start.model, &err) != 0)
		return complain(&err);
	if (watchdog_init() != 0)
		log_warning("ringwayd", "no watchdog over workers");
	if (memory_fault_init() != 0)
		log_warning("ringwayd", "no protection from VMMs that truncate their memory");

	clock_gettime(CLOCK_MONOTONIC, &now);
	daemon->started = now.tv_sec;
	daemon->started_wall = (uint64_t)time(NULL);
	daemon->loads = loads;
	daemon->socket = options.socket;
	daemon->options = &options;
	daemon->config = options.config;
	daemon->state = options.state;
	daemon->shutdown = shutdown_soon;
	daemon->loop = loop_new();
	signal(SIGPIPE, SIG_IGN);
	if (daemon->loop == NULL ||
	    loop_signal_start(&interrupt, daemon->loop, SIGINT, signalled, daemon) != 0 ||
	    loop_signal_start(&terminate, daemon->loop, SIGTERM, signalled, daemon) != 0 ||
	    loop_signal_start(&hangup, daemon->loop, SIGHUP, reload_configuration, NULL) != 0) {
		error_set(&err, ERROR_SYSTEM, 0, "no event loop");
		return complain(&err);
	}
	if (options.state != NULL &&
	    state_new(&state, daemon->loop, options.state, &err) != 0)
		return complain(&err);
	if (control_new(&daemon->control, daemon->loop, start.model, &err) != 0)
		return complain(&err);
	saving_begin(daemon->control, &start, state);
	daemon->control->directory = options.directory;
	daemon->control->listening.handler = pages_handle;
	daemon->control->listening.argument = daemon;
	start_workers(daemon->control);
	if (stats_watch_load(daemon) != 0 || stats_register_endpoints(daemon) != 0)
		log_warning("ringwayd", "DPDK's telemetry does not know of the switch");
	if (loop_timer_start(&patience, daemon->loop, PATIENCE_MS, ports_are_late, daemon) != 0)
		log_warning("ringwayd", "out of memory for a timer");
	control_start(daemon->control, start.model, ports_are_open, daemon);
	loop_run(daemon->loop);

	endpoints_close();
	if (daemon->server != NULL)
		rpc_server_drain(daemon->server, DRAIN_MS);
	rpc_server_free(daemon->server);
	stop_workers(daemon->control);
	control_free(daemon->control);
	loop_timer_stop(&daemon->load_timer);
	loop_timer_stop(&patience);
	loop_timer_stop(&interrupt);
	loop_timer_stop(&terminate);
	loop_timer_stop(&hangup);
	loop_free(daemon->loop);
	rte_eal_cleanup();
	return failed ? 1 : 0;
}
