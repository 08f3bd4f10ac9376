/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The bare minimum of the one-copy idea: two vhost-user ports on the project's own sessions and
 * ring engine, and one thread that moves each frame from one to the other. No bridge, no checks, no
 * limits, no ledgers: what the switch costs beyond this is the price of being one.
 *
 *     bare EAL-ARGUMENTS -- DIRECTORY
 *
 * The ports' sockets are a.sock and b.sock in the directory. Each line on stdin is answered with
 * the polling thread's busy cycles and frames so far.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_launch.h>
#include <rte_lcore.h>

#include "base/background.h"
#include "base/loop.h"
#include "port/port.h"
#include "sync/counter.h"
#include "sync/retire.h"

static struct port_host host;
static struct port *ports[2];
static struct burst *burst;
static struct frame *frames[BURST_MAX];

/* w: the polling thread, r: main */
static struct {
	uint64_t cycles, frames;
} busy;

static _Noreturn void fail(const char *what)
{
	fprintf(stderr, "bare: %s\n", what);
	exit(1);
}

/* Lines are asked for ahead of need as the switch does (worker/worker.c). */
static void carry_burst(struct port_queue *from, struct port_queue *to)
{
	const struct port_ops *ops = from->ops;
	const uint64_t start = rte_rdtsc();
	struct tx_outcome outcome = { .packets = 0 };
	uint16_t count;

	ops->expect(to, PORT_TX, 0);
	count = ops->rx_burst(from, burst, BURST_MAX);
	if (count == 0)
		return;
	ops->expect(to, PORT_TX, 1);
	ops->expect(to, PORT_RX, 0);
	ops->expect(to, PORT_TX, 2);
	ops->expect(to, PORT_RX, 1);
	ops->tx_burst(to, frames, count, &outcome);
	ops->rx_release(from);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	ops->notify(from, PORT_RX);
	ops->notify(to, PORT_TX);
	counter_add(&busy.frames, count);
	counter_add(&busy.cycles, rte_rdtsc() - start);
}

static int poll_ports(void *unused)
{
	(void)unused;
	retire_online(host.retire, 0);
	for (;;) {
		carry_burst(&ports[0]->queues[0], &ports[1]->queues[0]);
		carry_burst(&ports[1]->queues[0], &ports[0]->queues[0]);
		retire_quiescent(host.retire, 0);
	}
	return 0;
}

static void opened(void *unused, const struct error *fault)
{
	(void)unused;
	if (fault != NULL)
		fail(fault->message);
}

static struct port *open_port(const char *name, uint16_t number)
{
	const struct port_ops *ops = port_find_type("vhost-user");
	struct port *port = port_new(ops, name, number, 1, 1, &host);
	json_t *object = json_pack("{s:s+++}", "socket", host.directory, "/", name, ".sock");
	void *config = calloc(1, ops->config_size);
	struct error err;

	if (port == NULL || object == NULL || config == NULL)
		fail("out of memory");
	if (param_parse(ops->params, object, config, name, "", &err) != 0 ||
	    ops->open(port, config, NULL, opened, NULL, &err) != 0)
		fail(err.message);
	free(config);
	json_decref(object);
	return port;
}

static void *run_loop(void *loop)
{
	loop_run(loop);
	return NULL;
}

int main(int argc, char **argv)
{
	int used = rte_eal_init(argc, argv);
	pthread_t thread;
	char line[16];

	if (used < 0 || argc - used != 2 || rte_lcore_count() != 2)
		fail("usage: bare EAL-ARGUMENTS (of two lcores) -- DIRECTORY");
	setvbuf(stdout, NULL, _IOLBF, 0);
	host.directory = argv[used + 1];
	host.retire = retire_new(1);
	host.loop = loop_new();
	host.background = background_new("background");
	burst = burst_new();
	if (host.retire == NULL || host.loop == NULL || host.background == NULL || burst == NULL)
		fail("out of memory");
	for (uint16_t i = 0; i < BURST_MAX; i++)
		frames[i] = &burst->frames[i];
	ports[0] = open_port("a", 0);
	ports[1] = open_port("b", 1);
	if (pthread_create(&thread, NULL, run_loop, host.loop) != 0)
		fail("no thread for the event loop");
	rte_eal_mp_remote_launch(poll_ports, NULL, SKIP_MAIN);
	while (fgets(line, sizeof(line), stdin) != NULL)
		printf("cycles %lu frames %lu\n", counter_read(&busy.cycles),
		       counter_read(&busy.frames));
	exit(0);
}
