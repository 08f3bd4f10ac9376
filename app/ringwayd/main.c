/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ringwayd: start-up and teardown, in order. The configuration is read before anything is opened;
 * the control socket appears last, so that whoever finds it answering finds all ports served.
 */
#include "methods.h"
#include "options.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <rte_eal.h>
#include <rte_launch.h>

#include "base/log.h"
#include "port/memory_fault.h"
#include "rpc/server.h"
#include "rpc/socket.h"

#define SOCKET_MODE 0660
#define DRAIN_MS 200

static struct daemon daemon_state;
static struct rpc_server *server;
static bool stopping, failed;

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

static void shutdown_soon(struct daemon *daemon)
{
	/* Not at once: the answer to the request goes out first. */
	loop_post(daemon->loop, begin_shutdown, daemon);
}

static void ports_are_open(void *argument)
{
	struct daemon *daemon = argument;
	struct error err;

	if (rpc_server_new(&server, daemon->loop, daemon->socket, SOCKET_MODE, methods, daemon,
			   &err) != 0) {
		fprintf(stderr, "ringwayd: %s\n", err.message);
		failed = true;
		shutdown_soon(daemon);
		return;
	}
	log_info("ringwayd", "ready: ringwayctl --socket %s", daemon->socket);
}

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

static void start_workers(struct control *control)
{
	for (uint16_t i = 0; i < control->worker_count; i++)
		rte_eal_remote_launch(worker_run, control->workers[i], i + 1u);
}

static void stop_workers(struct control *control)
{
	for (uint16_t i = 0; i < control->worker_count; i++)
		__atomic_store_n(&control->workers[i]->stop, true, __ATOMIC_RELAXED);
	rte_eal_mp_wait_lcore();
}

int main(int argc, char **argv)
{
	struct daemon *daemon = &daemon_state;
	struct loop_timer interrupt, terminate;
	struct options options;
	struct model *model = NULL;
	unsigned int last_cpu;
	struct timespec now;
	cpu_set_t allowed;
	struct error err;

	options_parse(&options, argc, argv);
	options_allowed_cpus(&allowed, &last_cpu);
	if (model_load(options.config, last_cpu, &model, &err) != 0)
		return complain(&err);
	if (rpc_socket_probe(options.socket, &err) != 0)
		return complain(&err);
	if (options_start_eal(&options, model, &err) != 0)
		return complain(&err);
	if (memory_fault_init() != 0)
		log_warning("ringwayd", "no protection from VMMs that truncate their memory");

	clock_gettime(CLOCK_MONOTONIC, &now);
	daemon->started = now.tv_sec;
	daemon->socket = options.socket;
	daemon->shutdown = shutdown_soon;
	daemon->loop = loop_new();
	signal(SIGPIPE, SIG_IGN);
	if (daemon->loop == NULL ||
	    loop_signal_start(&interrupt, daemon->loop, SIGINT, begin_shutdown, daemon) != 0 ||
	    loop_signal_start(&terminate, daemon->loop, SIGTERM, begin_shutdown, daemon) != 0) {
		error_set(&err, ERROR_SYSTEM, 0, "no event loop");
		return complain(&err);
	}
	if (control_new(&daemon->control, daemon->loop, model, &err) != 0)
		return complain(&err);
	start_workers(daemon->control);
	control_start(daemon->control, ports_are_open, daemon);
	loop_run(daemon->loop);

	if (server != NULL)
		rpc_server_drain(server, DRAIN_MS);
	rpc_server_free(server);
	stop_workers(daemon->control);
	control_free(daemon->control);
	loop_timer_stop(&interrupt);
	loop_timer_stop(&terminate);
	loop_free(daemon->loop);
	model_free(model);
	rte_eal_cleanup();
	return failed ? 1 : 0;
}
