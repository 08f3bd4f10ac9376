/* SPDX-License-Identifier: BSD-3-Clause */
/* What DPDK's telemetry is told; stats.h and telemetry/endpoints.h say more. */
#include "stats.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <rte_version.h>

#include "telemetry/endpoints.h"

/* So many names of 63 bytes, and so many queues with all their counters, fit into an answer. */
#define PORTS_PAGE 200
#define QUEUES_PAGE 8

static json_t *complain(const char *what, const char *given)
{
	char text[128];

	snprintf(text, sizeof(text), "%s: %.64s", what, given);
	return json_pack("{s:s}", "error", text);
}

/* A number up to `max`, or 0 where the text is empty. Returns false where it is neither. */
static bool parse_number(const char *text, unsigned long max, unsigned long *number)
{
	char *end;

	*number = 0;
	if (text[0] == '\0')
		return true;
	if (text[0] < '0' || text[0] > '9')
		return false;
	errno = 0;
	*number = strtoul(text, &end, 10);
	return *end == '\0' && errno == 0 && *number <= max;
}

static json_t *list_ports(void *argument, const char *parameters)
{
	const struct daemon *daemon = argument;
	const struct control *control = daemon->control;
	json_t *names = json_array(), *answer;
	unsigned long start, count = 0;

	if (!parse_number(parameters, CONTROL_PORTS_MAX, &start)) {
		json_decref(names);
		return complain("no number to begin with", parameters);
	}
	for (uint16_t i = 0; i < control->port_count; i++) {
		if (control->ports[i].model == NULL)
			continue;
		if (count >= start && count < start + PORTS_PAGE)
			json_array_append_new(names, json_string(control->ports[i].model->name));
		count++;
	}
	answer = json_pack("{s:I, s:I}", "count", (json_int_t)count, "start", (json_int_t)start);
	if (start + PORTS_PAGE < count)
		json_object_set_new(answer, "next", json_integer((json_int_t)start + PORTS_PAGE));
	/* DPDK has no empty lists. */
	if (json_array_size(names) > 0)
		json_object_set(answer, "ports", names);
	json_decref(names);
	return answer;
}

static struct control_port *find_port(const struct daemon *daemon, const char *name,
				      json_t **complaint)
{
	struct control_port *port = control_find_port(daemon->control, name);

	if (port == NULL)
		*complaint = complain("no such port", name);
	return port;
}

static json_t *show_port(void *argument, const char *parameters)
{
	json_t *answer = NULL;
	struct control_port *port = find_port(argument, parameters, &answer);
	json_t *limiters, *limiter;
	size_t i;

	if (port == NULL)
		return answer;
	answer = stats_port_summary(port);
	json_object_del(answer, "labels");
	json_object_update_new(answer, stats_port_to_json(port));
	/* Those have endpoints of their own. */
	json_object_del(answer, "queues");
	json_object_del(answer, "rx_dropped");
	json_object_del(answer, "tx_dropped");
	limiters = json_incref(json_object_get(answer, "limiters"));
	json_object_del(answer, "limiters");
	json_array_foreach(limiters, i, limiter) {
		char key[40];

		snprintf(key, sizeof(key), "%s_%s",
			 json_string_value(json_object_get(limiter, "direction")),
			 json_string_value(json_object_get(limiter, "type")));
		json_object_del(limiter, "direction");
		json_object_del(limiter, "type");
		json_object_set(answer, key, limiter);
	}
	json_decref(limiters);
	return answer;
}

static void add_drops(json_t *answer, const char *direction, const uint64_t *dropped)
{
	json_t *object = json_object();

	for (int reason = 0; reason < DROP_COUNT; reason++)
		json_object_set_new(object, drop_name((enum drop)reason),
				    json_integer((json_int_t)dropped[reason]));
	json_object_set_new(answer, direction, object);
}

static json_t *show_drops(void *argument, const char *parameters)
{
	json_t *answer = NULL;
	const struct control_port *port = find_port(argument, parameters, &answer);
	struct port_counters sum = { .rx.packets = 0 };

	if (port == NULL)
		return answer;
	if (port->port != NULL)
		port_sum_counters(port->port, &sum);
	answer = json_pack("{s:s}", "name", port->model->name);
	add_drops(answer, "rx", sum.rx.dropped);
	add_drops(answer, "tx", sum.tx.dropped);
	return answer;
}

static uint64_t sum_drops(const json_t *drops)
{
	uint64_t sum = 0;
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)drops, key, value)
		sum += (uint64_t)json_integer_value(value);
	return sum;
}

/* A list by queue for each counter. */
static void add_columns(json_t *answer, json_t *queue)
{
	const char *key;
	json_t *value;

	json_object_foreach(queue, key, value) {
		json_t *column = json_object_get(answer, key);

		if (column == NULL) {
			column = json_array();
			json_object_set_new(answer, key, column);
		}
		if (json_is_object(value))
			json_array_append_new(column, json_integer((json_int_t)sum_drops(value)));
		else
			json_array_append(column, value);
	}
}

static json_t *show_queues(void *argument, const char *parameters)
{
	const char *comma = strchr(parameters, ',');
	const struct control_port *port;
	unsigned long start, count = 1;
	char name[PORT_NAME_SIZE];
	json_t *answer = NULL;

	snprintf(name, sizeof(name), "%.*s",
		 (int)(comma != NULL ? comma - parameters : (ptrdiff_t)strlen(parameters)),
		 parameters);
	if (!parse_number(comma != NULL ? comma + 1 : "", PORT_QUEUES_MAX, &start))
		return complain("no number to begin with", parameters);
	port = find_port(argument, name, &answer);
	if (port == NULL)
		return answer;
	if (port->port == NULL)
		return complain("the port is not open", name);
	count = port->port->queue_count;
	answer = json_pack("{s:s, s:I, s:I}", "name", name, "count", (json_int_t)count, "start",
			   (json_int_t)start);
	for (unsigned long q = start; q < count && q < start + QUEUES_PAGE; q++) {
		json_t *queue = stats_queue_to_json(port->port, (uint16_t)q);

		add_columns(answer, queue);
		json_decref(queue);
	}
	if (start + QUEUES_PAGE < count)
		json_object_set_new(answer, "next", json_integer((json_int_t)start + QUEUES_PAGE));
	return answer;
}

static json_t *list_workers(void *argument, const char *parameters)
{
	const struct daemon *daemon = argument;
	json_t *list = json_array();

	(void)parameters;
	for (uint16_t i = 0; i < daemon->control->worker_count; i++)
		json_array_append_new(list, json_integer(i));
	return list;
}

static json_t *show_worker(void *argument, const char *parameters)
{
	const struct daemon *daemon = argument;
	unsigned long index;

	if (!parse_number(parameters, daemon->control->worker_count - 1u, &index))
		return complain("no such worker", parameters);
	return stats_worker_to_json(daemon, (uint16_t)index);
}

static json_t *show_fdb(void *argument, const char *parameters)
{
	const struct daemon *daemon = argument;

	(void)parameters;
	return stats_fdb_to_json(daemon->control);
}

static json_t *show_control(void *argument, const char *parameters)
{
	(void)parameters;
	return stats_control_to_json(argument);
}

static json_t *show_http(void *argument, const char *parameters)
{
	(void)argument;
	(void)parameters;
	return stats_http_to_json();
}

static json_t *show_events(void *argument, const char *parameters)
{
	const struct daemon *daemon = argument;

	(void)parameters;
	return stats_events_to_json(daemon->control);
}

static json_t *show_info(void *argument, const char *parameters)
{
	const struct daemon *daemon = argument;
	json_t *answer = json_pack("{s:s, s:s, s:s}", "version", RINGWAY_VERSION, "dpdk",
				   rte_version(), "socket", daemon->socket);

	(void)parameters;
	json_object_update_new(answer, stats_process_to_json(daemon));
	return answer;
}

static const struct endpoint table[] = {
	{ "/ringway/ports", "The ports' names. Parameter: which to begin with (0)", list_ports },
	{ "/ringway/port", "A port's state and counters. Parameter: its name", show_port },
	{ "/ringway/queues",
	  "Counters by queue pair. Parameters: the port's name, the queue to begin with (0)",
	  show_queues },
	{ "/ringway/drops", "A port's drops by reason. Parameter: its name", show_drops },
	{ "/ringway/workers", "The workers' numbers", list_workers },
	{ "/ringway/worker", "What a worker did. Parameter: its number", show_worker },
	{ "/ringway/fdb", "The forwarding table", show_fdb },
	{ "/ringway/control", "The control socket", show_control },
	{ "/ringway/http", "The HTTP server", show_http },
	{ "/ringway/events", "Events and who missed them", show_events },
	{ "/ringway/info", "Version and process", show_info },
	{ NULL }
};

int stats_register_endpoints(struct daemon *daemon)
{
	return endpoints_open(daemon->loop, table, daemon);
}
