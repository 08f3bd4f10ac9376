/* SPDX-License-Identifier: BSD-3-Clause */
/* A running switch for tests of control; control_fixture.h is the contract. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "keys.h"
#include "port/memory.h"

#include "control_fixture.h"

#define PUTS_MAX 8

struct fixture fixture;

static pthread_t worker_threads[WORKERS_MAX];

/* ---- the world ---- */

struct probe_config {
	struct memory_config memory;
	char place[PLACE_SIZE];
};

/* Who has a place, by the port's number, and who wants to know when it is open and free again. */
static struct holder {
	char place[PLACE_SIZE];
	char name[PORT_NAME_SIZE];
	port_opened opened;
	void (*closed)(void *argument);
	void *argument;
} holders[CONTROL_PORTS_MAX];
static struct holder *waiting; /* is open, and does not say so yet */

#define POLLED_QUEUES 4

/* By the port's number. w: workers */
static uint16_t pollers[CONTROL_PORTS_MAX][POLLED_QUEUES];
static const struct port_queue *stalled; /* w: main, r: workers */
static bool stands;                      /* somebody does because of that; w: a worker */
static __thread uint16_t this_worker;

static void note(const char *what, const char *name)
{
	size_t used = strlen(fixture.events);

	snprintf(fixture.events + used, sizeof(fixture.events) - used, "%s %s, ", what, name);
}

void assert_events(const char *expected)
{
	assert_string_equal(fixture.events, expected);
	fixture.events[0] = '\0';
}

static uint16_t probe_rx_burst(struct port_queue *queue, struct burst *burst, uint16_t max)
{
	while (__atomic_load_n(&stalled, __ATOMIC_RELAXED) == queue) {
		__atomic_store_n(&stands, true, __ATOMIC_RELAXED);
		usleep(100);
	}
	if (queue->index < POLLED_QUEUES)
		__atomic_store_n(&pollers[queue->port->number][queue->index], this_worker,
				 __ATOMIC_RELAXED);
	return memory_ops.rx_burst(queue, burst, max);
}

void fixture_stall(const char *name, uint16_t queue)
{
	__atomic_store_n(&stands, false, __ATOMIC_RELAXED);
	__atomic_store_n(&stalled, &port_named(name)->port->queues[queue], __ATOMIC_RELAXED);
	while (!__atomic_load_n(&stands, __ATOMIC_RELAXED))
		usleep(100);
}

void fixture_stall_ends(void)
{
	__atomic_store_n(&stalled, NULL, __ATOMIC_RELAXED);
}

uint16_t fixture_poller(const char *name, uint16_t queue)
{
	return __atomic_load_n(&pollers[port_named(name)->port->number][queue], __ATOMIC_RELAXED);
}

static void probe_opened(void *argument, const struct error *fault)
{
	struct holder *holder = argument;

	if (strcmp(fixture.held, holder->name) == 0)
		waiting = holder;
	else
		holder->opened(holder->argument, fault);
}

static bool one_waits(void)
{
	return waiting != NULL;
}

void fixture_release(void)
{
	struct holder *holder;

	fixture_wait(one_waits);
	holder = waiting;
	waiting = NULL;
	fixture.held[0] = '\0';
	holder->opened(holder->argument, NULL);
}

static int probe_open(struct port *port, const void *argument, const json_t *remembered,
		      port_opened done, void *context, struct error *err)
{
	const struct probe_config *config = argument;
	struct holder *holder = &holders[port->number];
	char *text = json_dumps(remembered, JSON_ENCODE_ANY);
	int result;

	snprintf(fixture.remembered, sizeof(fixture.remembered), "%s", text != NULL ? text : "");
	free(text);
	note("open", port->name);
	for (unsigned int i = 0; i < POLLED_QUEUES; i++)
		__atomic_store_n(&pollers[port->number][i], PORT_NO_WORKER, __ATOMIC_RELAXED);
	if (strcmp(fixture.denied, port->name) == 0)
		return error_set(err, ERROR_SYSTEM, EACCES, "port %s: %s is not allowed",
				 port->name, config->place);
	for (unsigned int i = 0; i < CONTROL_PORTS_MAX; i++)
		if (strcmp(holders[i].place, config->place) == 0)
			return error_set(err, ERROR_SYSTEM, EADDRINUSE, "port %s: %s is taken",
					 port->name, config->place);
	snprintf(holder->name, sizeof(holder->name), "%s", port->name);
	holder->opened = done;
	holder->argument = context;
	result = memory_ops.open(port, &config->memory, NULL, probe_opened, holder, err);
	if (result == 0)
		snprintf(holder->place, sizeof(holder->place), "%s", config->place);
	return result;
}

static void probe_closed(void *argument)
{
	struct holder *holder = argument;

	note("closed", holder->name);
	holder->place[0] = '\0';
	holder->closed(holder->argument);
}

static void probe_close(struct port *port, void (*done)(void *argument), void *argument)
{
	struct holder *holder = &holders[port->number];

	note("close", port->name);
	if (fixture.on_close != NULL)
		fixture.on_close(port);
	holder->closed = done;
	holder->argument = argument;
	memory_ops.close(port, probe_closed, holder);
}

static bool probe_can_set(const void *from, const void *to)
{
	const struct probe_config *old = from, *new = to;

	return old->memory.kept == new->memory.kept && strcmp(old->place, new->place) == 0;
}

static void probe_set(struct port *port, const void *argument, bool renegotiate)
{
	const struct probe_config *config = argument;
	const uint16_t queues[] = { 0 };

	note("set", port->name);
	fixture.renegotiate = renegotiate;
	memory_connect(port, queues, 1, config->memory.accepts);
}

static bool probe_is_lost(struct port *port, const char **reason)
{
	*reason = "taken away by the test";
	return strcmp(fixture.lost, port->name) == 0;
}

static json_t *probe_remember(struct port *port)
{
	(void)port;
	return fixture.memory[0] != '\0' ? json_string(fixture.memory) : NULL;
}

static struct port_ops probe_ops;

/* ---- ports ---- */

struct model_port *probe_port(const char *name, const char *place)
{
	struct model_port *port = calloc(1, sizeof(*port));
	struct probe_config *config = calloc(1, sizeof(*config));

	assert_non_null(port);
	assert_non_null(config);
	config->memory = (struct memory_config){ .sends = NEEDS_ALL, .accepts = NEEDS_ALL,
						 .kept = 16 };
	snprintf(config->place, sizeof(config->place), "%s", place);
	port->references = 1;
	snprintf(port->name, sizeof(port->name), "%s", name);
	port->ops = &probe_ops;
	port->queues = 1;
	port->settings = port_default_settings;
	port->source = json_pack("{s:s, s:s, s:s}", "name", name, "type", "probe", "place", place);
	port->config = config;
	return port;
}

static struct model_port *with_key(struct model_port *port, const char *key, int64_t value)
{
	json_object_set_new(port->source, key, json_integer((json_int_t)value));
	return port;
}

struct model_port *with_mtu(struct model_port *port, uint32_t mtu)
{
	port->settings.mtu = mtu;
	return with_key(port, "mtu", mtu);
}

struct model_port *with_mac(struct model_port *port, uint64_t mac)
{
	port->settings.mac.given = true;
	packet_mac(port->settings.mac.mac, mac);
	return with_key(port, "mac", (int64_t)mac);
}

struct model_port *switched_off(struct model_port *port)
{
	port->settings.enabled = false;
	return with_key(port, "enabled", 0);
}

struct model_port *with_queues(struct model_port *port, uint16_t queues)
{
	port->queues = queues;
	return with_key(port, "queues", queues);
}

struct model_port *with_worker(struct model_port *port, uint16_t queue, uint16_t worker)
{
	if (port->workers == NULL)
		port->workers = json_array();
	while (json_array_size(port->workers) <= queue)
		json_array_append_new(port->workers, json_integer(0));
	json_array_set_new(port->workers, queue, json_integer(worker));
	json_object_set_new(port->source, "workers", json_deep_copy(port->workers));
	return port;
}

struct model_port *with_accepts(struct model_port *port, uint8_t accepts)
{
	((struct probe_config *)port->config)->memory.accepts = accepts;
	return with_key(port, "accepts", accepts);
}

struct model_port *with_kept(struct model_port *port, uint32_t kept)
{
	((struct probe_config *)port->config)->memory.kept = kept;
	return with_key(port, "kept", kept);
}

static struct model *model_of_list(struct model_port *port, va_list more)
{
	struct model *model = model_copy_without_ports(fixture.control->model);
	struct error err;

	assert_non_null(model);
	for (; port != NULL; port = va_arg(more, struct model_port *))
		assert_int_equal(model_put_port(model, port, &err), 0);
	return model;
}

struct model *model_of(struct model_port *port, ...)
{
	struct model *model;
	va_list more;

	va_start(more, port);
	model = model_of_list(port, more);
	va_end(more);
	return model;
}

struct control_port *port_named(const char *name)
{
	struct control_port *port = control_find_port(fixture.control, name);

	if (port == NULL)
		fail_msg("there is no port %s", name);
	return port;
}

void inject(const char *name, uint64_t mac)
{
	uint8_t bytes[60];
	const struct memory_frame frame = { .bytes = bytes, .length = sizeof(bytes) };

	packet_ethernet(bytes, BROADCAST, mac, sizeof(bytes));
	assert_int_equal(memory_inject(port_named(name)->port, 0, &frame), 0);
}

/* ---- changes ---- */

struct order {
	struct change change;
	struct model *model;                /* the whole, or NULL */
	struct model_port *puts[PUTS_MAX];
	char removed[PORT_NAME_SIZE];
	bool has_address;
	struct model_address address;
};

static int make_order(struct change *change, const struct model *now, struct model **wanted,
		      struct error *err)
{
	struct order *order = (struct order *)change;
	int result = 0;

	*wanted = order->model != NULL ? order->model : model_copy(now);
	order->model = NULL;
	assert_non_null(*wanted);
	for (unsigned int i = 0; result == 0 && i < PUTS_MAX && order->puts[i] != NULL; i++)
		result = model_put_port(*wanted, model_port_use(order->puts[i]), err);
	if (result == 0 && order->removed[0] != '\0' &&
	    model_remove_port(*wanted, order->removed) != 0)
		result = error_set(err, ERROR_NOT_FOUND, ENOENT, "no port %s", order->removed);
	if (result == 0 && order->has_address)
		result = model_put_address(*wanted, &order->address, err);
	if (result == 0)
		return 0;
	model_free(*wanted);
	*wanted = NULL;
	return result;
}

static void order_done(struct change *change, const struct error *fault)
{
	struct order *order = (struct order *)change;

	fixture.ended++;
	if (fault != NULL) {
		if (fixture.failed++ == 0)
			fixture.fault = *fault;
	} else {
		fixture.reopened = change->reopened;
	}
	if (fixture.on_done != NULL)
		fixture.on_done(change, fault);
	for (unsigned int i = 0; i < PUTS_MAX; i++)
		model_port_release(order->puts[i]);
	model_free(order->model);
	free(order);
	if (fixture.ended == fixture.submitted)
		loop_stop(fixture.loop);
}

static struct order *order_new(void)
{
	struct order *order = calloc(1, sizeof(*order));

	assert_non_null(order);
	order->change.make = make_order;
	order->change.done = order_done;
	order->change.strict = true;
	return order;
}

struct change *order_put(struct model_port *port, ...)
{
	struct order *order = order_new();
	unsigned int count = 0;
	va_list more;

	va_start(more, port);
	for (; port != NULL; port = va_arg(more, struct model_port *)) {
		assert_true(count < PUTS_MAX);
		order->puts[count++] = port;
	}
	va_end(more);
	return &order->change;
}

struct change *order_remove(const char *name)
{
	struct order *order = order_new();

	snprintf(order->removed, sizeof(order->removed), "%s", name);
	return &order->change;
}

struct change *order_model(struct model *model)
{
	struct order *order = order_new();

	order->model = model;
	return &order->change;
}

struct change *order_address(uint64_t mac, const char *port)
{
	struct order *order = order_new();

	order->has_address = true;
	packet_mac(order->address.mac, mac);
	snprintf(order->address.port, sizeof(order->address.port), "%s", port != NULL ? port : "");
	return &order->change;
}

void fixture_submit(struct change *change)
{
	fixture.submitted++;
	control_submit(fixture.control, change);
}

static bool all_ended(void)
{
	return fixture.ended == fixture.submitted;
}

void fixture_await(void)
{
	fixture_wait(all_ended);
}

/* ---- the switch ---- */

static bool (*awaited)(void);

static void look(void *argument)
{
	(void)argument;
	if (awaited())
		loop_stop(fixture.loop);
}

void fixture_wait(bool (*reached)(void))
{
	struct loop_timer timer = { NULL };

	awaited = reached;
	assert_int_equal(loop_timer_start(&timer, fixture.loop, 1, look, NULL), 0);
	while (!reached())
		assert_int_equal(loop_run(fixture.loop), 0);
	loop_timer_stop(&timer);
}

static void *run(void *argument)
{
	this_worker = ((const struct worker *)argument)->index;
	worker_run(argument);
	return NULL;
}

static int set_up(const char *configuration)
{
	json_t *root = json_loads(configuration, 0, NULL);
	struct model *model;
	struct error err;

	memset(&fixture, 0, sizeof(fixture));
	memset(holders, 0, sizeof(holders));
	waiting = NULL;
	probe_ops = memory_ops;
	probe_ops.type = "probe";
	probe_ops.config_size = sizeof(struct probe_config);
	probe_ops.place = offsetof(struct probe_config, place);
	probe_ops.place_key = "place";
	probe_ops.open = probe_open;
	probe_ops.close = probe_close;
	probe_ops.can_set = probe_can_set;
	probe_ops.set = probe_set;
	probe_ops.is_lost = probe_is_lost;
	probe_ops.remember = probe_remember;
	probe_ops.rx_burst = probe_rx_burst;
	log_set_level(LOG_ERROR);
	alarm(60);
	fixture.loop = loop_new();
	if (fixture.loop == NULL || model_parse(root, 0, &model, &err) != 0 ||
	    control_new(&fixture.control, fixture.loop, model, &err) != 0)
		return -1;
	json_decref(root);
	model_free(model);
	for (uint16_t i = 0; i < fixture.control->worker_count; i++) {
		struct worker *worker = fixture.control->workers[i];

		/* Nobody has measured it without EAL. */
		worker->cycles_per_us = 1000;
		if (pthread_create(&worker_threads[i], NULL, run, worker) != 0)
			return -1;
	}
	return 0;
}

int fixture_setup(void **state)
{
	(void)state;
	return set_up("{}");
}

int fixture_setup_three(void **state)
{
	(void)state;
	return set_up("{\"workers\": [{\"cpu\": 0}, {\"cpu\": 1}, {\"cpu\": 2}]}");
}

int fixture_teardown(void **state)
{
	(void)state;
	/* A test that failed may have left it. */
	fixture_stall_ends();
	if (!fixture.stopped)
		fixture_stop();
	for (uint16_t i = 0; i < fixture.control->worker_count; i++)
		worker_stop(fixture.control->workers[i]);
	for (uint16_t i = 0; i < fixture.control->worker_count; i++)
		pthread_join(worker_threads[i], NULL);
	control_free(fixture.control);
	loop_free(fixture.loop);
	alarm(0);
	return 0;
}

static void is_ready(void *argument)
{
	(void)argument;
	assert_false(fixture.ready);
	fixture.ready = true;
	loop_stop(fixture.loop);
}

static bool ready(void)
{
	return fixture.ready;
}

static void has_stopped(void *argument)
{
	(void)argument;
	assert_false(fixture.stopped);
	fixture.stopped = true;
	loop_stop(fixture.loop);
}

static bool stopped(void)
{
	return fixture.stopped;
}

void fixture_begin(struct model *model)
{
	control_start(fixture.control, model, is_ready, NULL);
}

void fixture_ready(void)
{
	fixture_wait(ready);
}

void fixture_start(struct model_port *port, ...)
{
	va_list more;

	va_start(more, port);
	fixture_begin(model_of_list(port, more));
	va_end(more);
	fixture_ready();
	fixture.events[0] = '\0';
}

void fixture_stop_soon(void)
{
	fixture.stopping = true;
	control_stop(fixture.control, has_stopped, NULL);
}

void fixture_stop(void)
{
	if (!fixture.stopping)
		fixture_stop_soon();
	fixture_wait(stopped);
}
