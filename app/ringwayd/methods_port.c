/* SPDX-License-Identifier: BSD-3-Clause */
/* Methods about ports and addresses: port.list, port.get, fdb.list. */
#include "methods.h"

#include <errno.h>

#include "base/units.h"

struct port_get {
	char name[PORT_NAME_SIZE];
};

static const struct param port_get_params[] = {
	{ "name", PARAM_STRING, PARAM_AT(struct port_get, name), .required = true,
	  .help = "the port's name" },
	{ NULL }
};

/* What lists show of a port. */
static json_t *port_summary(struct control_port *port)
{
	const char *reason = NULL;
	bool up = control_port_is_up(port, &reason);
	json_t *labels = port->model->labels != NULL ? json_incref(port->model->labels)
						     : json_object();

	return json_pack("{s:s, s:s, s:s, s:s?, s:o}", "name", port->model->name, "type",
			 port->model->ops->type, "state", up ? "up" : "down", "reason",
			 up ? NULL : reason, "labels", labels);
}

static int port_list(struct call *call, const void *params, json_t **result, struct error *err)
{
	struct daemon *daemon = call_context(call);

	(void)params;
	(void)err;
	*result = json_array();
	for (uint16_t i = 0; i < daemon->control->port_count; i++)
		json_array_append_new(*result, port_summary(&daemon->control->ports[i]));
	return 0;
}

static int port_get(struct call *call, const void *params, json_t **result, struct error *err)
{
	struct daemon *daemon = call_context(call);
	const struct port_get *wish = params;
	struct control_port *port = control_find_port(daemon->control, wish->name);

	if (port == NULL) {
		error_set(err, ERROR_NOT_FOUND, ENOENT, "there is no port %s", wish->name);
		error_detail(err, "port", "name", wish->name, "a name that port.list shows");
		return -ENOENT;
	}
	*result = port_summary(port);
	json_object_update_missing(*result, port->model->source);
	json_object_set_new(*result, "queues", json_integer(port->model->queues));
	if (port->state == PORT_OPEN)
		port->port->ops->status(port->port, *result);
	return 0;
}

struct fdb_list {
	struct control *control;
	json_t *list;
};

static void add_entry(void *argument, const struct fdb_entry *entry)
{
	struct fdb_list *list = argument;
	const char *port = NULL;
	char mac[MAC_TEXT_SIZE];

	if (entry->port < list->control->port_count)
		port = list->control->ports[entry->port].model->name;
	mac_format(entry->mac, mac);
	json_array_append_new(list->list, json_pack("{s:i, s:s, s:s?, s:b, s:i}", "vlan",
						    entry->vlan, "mac", mac, "port", port, "static",
						    entry->fixed, "age", (int)entry->age));
}

static int list_addresses(struct call *call, const void *params, json_t **result,
			  struct error *err)
{
	struct daemon *daemon = call_context(call);
	struct fdb_list list = { daemon->control, json_array() };

	(void)params;
	(void)err;
	fdb_walk(daemon->control->fdb, control_now(), add_entry, &list);
	*result = list.list;
	return 0;
}

const struct method methods_port[] = {
	{ "port.list", "All ports with their state", NULL, 0, port_list },
	{ "port.get", "One port's configuration, state and connection", port_get_params,
	  sizeof(struct port_get), port_get },
	{ "fdb.list", "The forwarding table", NULL, 0, list_addresses },
	{ NULL }
};
