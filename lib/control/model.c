/* SPDX-License-Identifier: BSD-3-Clause */
/* The configuration as a whole, and edited copies of it; control/model.h is the contract. */
#include "control/model.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "control/port_keys.h"
#include "control/vlan_list.h"
#include "rpc/describe.h"
#include "rpc/param.h"

#define PORTS_MAX 1024

struct root_config {
	json_t *workers;
	struct model_bridge bridge;
	struct model_metrics metrics;
	json_t *addresses;
	json_t *suppression;
	json_t *ports;
};

static int check_suppression(const void *value, struct error *err)
{
	struct vlan_set set = { { 0 } };

	return vlan_list_parse(*(json_t *const *)value, 0, &set, err);
}

static json_t *describe_suppression(void)
{
	return vlan_list_schema(0);
}

static const struct param worker_params[] = {
	{ "cpu", PARAM_UINT, PARAM_AT(struct model_worker, cpu), .required = true, .max = 1023,
	  .help = "the CPU that the worker is pinned to" },
	{ "idle", PARAM_CHOICE, PARAM_AT(struct model_worker, idle), .choices = worker_idle_names,
	  .initial = "\"adaptive\"",
	  .help = "busy: never sleeps; adaptive: sleeps while there is no traffic" },
	{ NULL }
};

static const struct param bridge_params[] = {
	{ "ageing", PARAM_UINT, PARAM_AT(struct root_config, bridge.ageing), .max = 65000,
	  .initial = "300", .help = "seconds after which a silent address is forgotten, 0: never" },
	{ "capacity", PARAM_UINT, PARAM_AT(struct root_config, bridge.capacity),
	  .min = FDB_CAPACITY_MIN, .max = FDB_CAPACITY_MAX, .initial = "65536",
	  .help = "addresses that the table holds; read at start" },
	{ "addresses", PARAM_JSON, PARAM_AT(struct root_config, addresses),
	  .json_kind = JSON_ARRAY, .help = "static addresses, as fdb.add takes them" },
	{ "neighbor_suppression", PARAM_JSON, PARAM_AT(struct root_config, suppression),
	  .json_kind = -1, .check = check_suppression, .schema = describe_suppression,
	  .help = "the VLANs (0: ports without any) where requests for the addresses of guarded "
		  "ports (ARP, neighbour discovery) go to them alone: \"all\", or VLANs and "
		  "ranges" },
	{ NULL }
};

static int check_listen(const void *value, struct error *err)
{
	struct listen_address address;

	return listen_parse(value, &address, err);
}

static const struct param metrics_params[] = {
	{ "listen", PARAM_STRING, PARAM_AT(struct root_config, metrics.listen),
	  .check = check_listen,
	  .help = "an address and port (127.0.0.1:9477, [::1]:9477), or the path of a unix socket; "
		  "by default none" },
	{ NULL }
};

static const struct param root_params[] = {
	{ "workers", PARAM_JSON, PARAM_AT(struct root_config, workers), .json_kind = JSON_ARRAY,
	  .help = "the polling threads, each on a CPU of its own; read at start" },
	{ "bridge", PARAM_OBJECT, .fields = bridge_params, .help = "the forwarding table" },
	{ "ports", PARAM_JSON, PARAM_AT(struct root_config, ports), .json_kind = JSON_ARRAY,
	  .help = "the ports" },
	{ "metrics", PARAM_OBJECT, .fields = metrics_params,
	  .help = "where metrics and the status page are served, over HTTP" },
	{ NULL }
};

static int out_of_memory(struct error *err)
{
	return error_set(err, ERROR_INTERNAL, ENOMEM, "out of memory");
}

/* ---- ports ---- */

struct model_port *model_find_port(const struct model *model, const char *name)
{
	for (uint32_t i = 0; i < model->port_count; i++)
		if (strcmp(model->ports[i]->name, name) == 0)
			return model->ports[i];
	return NULL;
}

static bool owns(const struct model_port *port, const uint8_t mac[6])
{
	return port->settings.mac.given && memcmp(port->settings.mac.mac, mac, 6) == 0;
}

struct model_port *model_find_owner(const struct model *model, const uint8_t mac[6], uint16_t vlan)
{
	for (uint32_t i = 0; i < model->port_count; i++)
		if (owns(model->ports[i], mac) &&
		    vlan_contains(&model->ports[i]->settings.vlan, vlan))
			return model->ports[i];
	return NULL;
}

/* What a port has that another one claims: its key, with the value as text; or NULL. */
static const char *shared_key(const struct model_port *port, const struct model_port *other,
			      char *value, size_t size)
{
	if (model_port_shares(port, other)) {
		text_copy(value, size, (const char *)port->config + port->ops->place);
		return port->ops->place_key;
	}
	/* In other VLANs it is another station. */
	if (port->settings.mac.given && owns(other, port->settings.mac.mac) &&
	    vlan_meet(&port->settings.vlan, &other->settings.vlan)) {
		char mac[MAC_TEXT_SIZE];

		mac_format(port->settings.mac.mac, mac);
		text_copy(value, size, mac);
		return "mac";
	}
	return NULL;
}

/* The port shares nothing with the others, but for the one that it replaces. */
static int check_distinct(const struct model *model, const struct model_port *port,
			  struct error *err)
{
	char object[PORT_NAME_SIZE + 8], value[sizeof(err->value)];

	snprintf(object, sizeof(object), "port %s", port->name);
	for (uint32_t i = 0; i < model->port_count; i++) {
		const struct model_port *other = model->ports[i];
		const char *key;

		if (strcmp(other->name, port->name) == 0)
			continue;
		key = shared_key(port, other, value, sizeof(value));
		if (key == NULL)
			continue;
		error_set(err, ERROR_EXISTS, EEXIST, "%s: the %s %s is taken by port %s", object,
			  key, value, other->name);
		error_detail(err, object, key, value, "one that no other port has");
		return -EEXIST;
	}
	return 0;
}

/* The workers that poll the port's queues are there. */
static int check_workers(const struct model *model, const struct model_port *port,
			 struct error *err)
{
	char object[PORT_NAME_SIZE + 8], value[24], accepted[32];
	const json_t *element;
	size_t i;

	json_array_foreach(port->workers, i, element) {
		const json_int_t worker = json_integer_value(element);

		if (worker < (json_int_t)model->worker_count)
			continue;
		snprintf(object, sizeof(object), "port %s", port->name);
		snprintf(value, sizeof(value), "%lld", (long long)worker);
		snprintf(accepted, sizeof(accepted), "0 to %u", model->worker_count - 1);
		error_set(err, ERROR_INVALID, EINVAL, "%s: there is no worker %s", object, value);
		error_detail(err, object, "workers", value, accepted);
		return -EINVAL;
	}
	return 0;
}

int model_put_port(struct model *model, struct model_port *port, struct error *err)
{
	struct model_port **ports;
	int result = check_distinct(model, port, err);

	if (result == 0)
		result = port_mirror_check(model, port, err);
	if (result == 0)
		result = model_addresses_allow(model, port, err);
	if (result == 0)
		result = check_workers(model, port, err);
	if (result != 0)
		goto fail;
	for (uint32_t i = 0; i < model->port_count; i++) {
		if (strcmp(model->ports[i]->name, port->name) != 0)
			continue;
		model_port_release(model->ports[i]);
		model->ports[i] = port;
		return 0;
	}
	if (model->port_count == PORTS_MAX) {
		result = error_set(err, ERROR_LIMIT, E2BIG, "at most %d ports", PORTS_MAX);
		goto fail;
	}
	ports = realloc(model->ports, (model->port_count + 1) * sizeof(*ports));
	if (ports == NULL) {
		result = out_of_memory(err);
		goto fail;
	}
	ports[model->port_count++] = port;
	model->ports = ports;
	return 0;

fail:
	model_port_release(port);
	return result;
}

int model_remove_port(struct model *model, const char *name)
{
	uint32_t kept = 0, place = 0;

	while (place < model->port_count && strcmp(model->ports[place]->name, name) != 0)
		place++;
	if (place == model->port_count)
		return -ENOENT;
	for (uint32_t i = 0; i < model->address_count; i++)
		if (strcmp(model->addresses[i].port, name) != 0)
			model->addresses[kept++] = model->addresses[i];
	model->address_count = kept;
	model_port_release(model->ports[place]);
	model->port_count--;
	memmove(&model->ports[place], &model->ports[place + 1],
		(model->port_count - place) * sizeof(*model->ports));
	return 0;
}

/* ---- the whole ---- */

int model_blame_configuration(int result, struct error *err)
{
	if (err->kind == ERROR_EXISTS || err->kind == ERROR_NOT_FOUND ||
	    err->kind == ERROR_CONFLICT)
		err->kind = ERROR_INVALID;
	return result;
}

static int parse_ports(struct model *model, const json_t *list, struct error *err)
{
	size_t count = json_array_size(list);

	for (size_t i = 0; i < count; i++) {
		struct model_port *port;
		int result = model_port_parse(json_array_get(list, i), i, &port, err);

		if (result != 0)
			return result;
		if (model_find_port(model, port->name) != NULL) {
			error_set(err, ERROR_INVALID, EEXIST, "ports[%zu]: the name %s is taken", i,
				  port->name);
			error_detail(err, "ports", "name", port->name,
				     "one that no other port has");
			model_port_release(port);
			return -EEXIST;
		}
		result = model_put_port(model, port, err);
		if (result != 0)
			return model_blame_configuration(result, err);
	}
	return 0;
}

/* Two that poll would share a CPU. */
static int check_cpu(const struct model *model, uint32_t index, struct error *err)
{
	const uint32_t cpu = model->workers[index].cpu;
	char value[16];

	for (uint32_t i = 0; i < index; i++) {
		if (model->workers[i].cpu != cpu)
			continue;
		snprintf(value, sizeof(value), "%u", cpu);
		error_set(err, ERROR_INVALID, EEXIST,
			  "workers[%u]: CPU %s is that of workers[%u] already", index, value, i);
		error_detail(err, "workers", "cpu", value, "each CPU once");
		return -EEXIST;
	}
	return 0;
}

static int parse_workers(struct model *model, json_t *list, uint32_t default_cpu, struct error *err)
{
	const size_t count = list == NULL ? 0 : json_array_size(list);
	char object[24];

	if (count > WORKERS_MAX) {
		error_set(err, ERROR_INVALID, E2BIG, "there are more than %d workers", WORKERS_MAX);
		snprintf(object, sizeof(object), "1 to %d", WORKERS_MAX);
		error_detail(err, "workers", NULL, NULL, object);
		return -E2BIG;
	}
	model->workers = calloc(count + 1, sizeof(*model->workers));
	if (model->workers == NULL)
		return out_of_memory(err);
	model->workers_given = json_incref(list);
	model->worker_count = count > 0 ? (uint32_t)count : 1;
	model->workers[0] = (struct model_worker){ default_cpu, IDLE_ADAPTIVE };
	for (uint32_t i = 0; i < count; i++) {
		int result;

		snprintf(object, sizeof(object), "workers[%u]", i);
		result = param_parse(worker_params, json_array_get(list, i), &model->workers[i],
				     object, "", err);
		if (result == 0)
			result = check_cpu(model, i, err);
		if (result != 0)
			return result;
	}
	return 0;
}

int model_parse(const json_t *root, uint32_t default_cpu, struct model **model, struct error *err)
{
	struct root_config config = { .workers = NULL };
	int result;

	*model = calloc(1, sizeof(**model));
	if (*model == NULL)
		return out_of_memory(err);
	result = param_parse(root_params, root, &config, "configuration", "", err);
	if (result == 0) {
		(*model)->bridge = config.bridge;
		(*model)->metrics = config.metrics;
		if (config.suppression != NULL)
			vlan_list_parse(config.suppression, 0, &(*model)->bridge.suppression, err);
		result = parse_workers(*model, config.workers, default_cpu, err);
		if (result == 0)
			result = parse_ports(*model, config.ports, err);
		if (result == 0)
			result = model_parse_addresses(*model, config.addresses, err);
		param_release(root_params, &config);
	}
	if (result != 0) {
		model_free(*model);
		*model = NULL;
	}
	return result;
}

static int load_file(const char *path, json_t **root, struct error *err)
{
	FILE *file = fopen(path, "re");
	json_error_t fault;
	int reason;

	if (file == NULL)
		return error_set(err, ERROR_SYSTEM, errno, "%s: %s", path, strerror(errno));
	*root = json_loadf(file, JSON_REJECT_DUPLICATES, &fault);
	/* A directory, say, opens but cannot be read. */
	reason = ferror(file) ? errno : 0;
	fclose(file);
	if (*root == NULL && reason != 0)
		return error_set(err, ERROR_SYSTEM, reason, "%s: %s", path, strerror(reason));
	if (*root == NULL)
		return error_set(err, ERROR_INVALID, EINVAL, "%s, line %d, column %d: %s", path,
				 fault.line, fault.column, fault.text);
	return 0;
}

int model_load(const char *path, uint32_t default_cpu, struct model **model, struct error *err)
{
	json_t *root = NULL;
	int result;

	if (path != NULL) {
		result = load_file(path, &root, err);
		if (result != 0)
			return result;
	} else {
		root = json_object();
		if (root == NULL)
			return out_of_memory(err);
	}
	result = model_parse(root, default_cpu, model, err);
	json_decref(root);
	return result;
}

struct model *model_copy_without_ports(const struct model *model)
{
	struct model *copy = calloc(1, sizeof(*copy));

	if (copy == NULL)
		return NULL;
	copy->bridge = model->bridge;
	copy->metrics = model->metrics;
	copy->workers = calloc(model->worker_count, sizeof(*copy->workers));
	if (copy->workers == NULL) {
		free(copy);
		return NULL;
	}
	copy->workers_given = json_incref(model->workers_given);
	copy->worker_count = model->worker_count;
	memcpy(copy->workers, model->workers, model->worker_count * sizeof(*copy->workers));
	return copy;
}

struct model *model_copy(const struct model *model)
{
	struct model *copy = model_copy_without_ports(model);

	if (copy == NULL)
		return NULL;
	copy->ports = calloc(model->port_count + 1u, sizeof(struct model_port *));
	copy->addresses = calloc(model->address_count + 1u, sizeof(*copy->addresses));
	if (copy->ports == NULL || copy->addresses == NULL) {
		model_free(copy);
		return NULL;
	}
	copy->address_count = model->address_count;
	if (model->address_count > 0)
		memcpy(copy->addresses, model->addresses,
		       model->address_count * sizeof(*copy->addresses));
	for (uint32_t i = 0; i < model->port_count; i++)
		copy->ports[copy->port_count++] = model_port_use(model->ports[i]);
	return copy;
}

json_t *model_to_json(const struct model *model)
{
	json_t *bridge = json_pack("{s:i, s:i}", "ageing", (int)model->bridge.ageing, "capacity",
				   (int)model->bridge.capacity);
	json_t *ports = json_array();
	json_t *root = json_object();

	if (model->workers_given != NULL)
		json_object_set(root, "workers", model->workers_given);
	if (!vlan_set_is_empty(&model->bridge.suppression))
		json_object_set_new(bridge, "neighbor_suppression",
				    vlan_list_make(&model->bridge.suppression, 0));
	if (model->address_count > 0)
		json_object_set_new(bridge, "addresses", model_addresses_to_json(model));
	json_object_set_new(root, "bridge", bridge);
	if (model->metrics.listen[0] != '\0')
		json_object_set_new(root, "metrics",
				    json_pack("{s:s}", "listen", model->metrics.listen));
	for (uint32_t i = 0; i < model->port_count; i++)
		json_array_append(ports, model->ports[i]->source);
	json_object_set_new(root, "ports", ports);
	return root;
}

/* The rows of one table with the elements of their lists described. */
static void describe_items(json_t *schema, const char *key, json_t *items)
{
	json_t *property = json_object_get(json_object_get(schema, "properties"), key);

	json_object_set_new(property, "items", items);
}

json_t *model_schema(void)
{
	json_t *root = describe_table(root_params);
	json_t *bridge = json_object_get(json_object_get(root, "properties"), "bridge");

	describe_items(root, "workers", describe_table(worker_params));
	describe_items(root, "ports", json_pack("{s:s}", "$ref", "#/components/schemas/port"));
	describe_items(bridge, "addresses", describe_table(model_address_params));
	return json_pack("{s:{s:o, s:o}}", "schemas", "configuration", root, "port",
			 model_port_schema());
}

int model_copy_to(const struct model *model, struct model **copy, struct error *err)
{
	*copy = model_copy(model);
	return *copy != NULL ? 0 : out_of_memory(err);
}

bool model_same_bridge(const struct model *model, const struct model *other)
{
	if (model->bridge.ageing != other->bridge.ageing ||
	    memcmp(&model->bridge.suppression, &other->bridge.suppression,
		   sizeof(model->bridge.suppression)) != 0 ||
	    model->bridge.capacity != other->bridge.capacity ||
	    model->address_count != other->address_count ||
	    (model->workers_given != other->workers_given &&
	     !json_equal(model->workers_given, other->workers_given)))
		return false;
	/* Most often the one is a copy of the other. */
	if (model->address_count == 0 ||
	    memcmp(model->addresses, other->addresses,
		   model->address_count * sizeof(*model->addresses)) == 0)
		return true;
	for (uint32_t i = 0; i < model->address_count; i++) {
		const struct model_address *address = &model->addresses[i], *known;

		known = model_find_address(other, address->mac, address->vlan);
		if (known == NULL || strcmp(known->port, address->port) != 0)
			return false;
	}
	return true;
}

bool model_same_metrics(const struct model *model, const struct model *other)
{
	return strcmp(model->metrics.listen, other->metrics.listen) == 0;
}

void model_free(struct model *model)
{
	if (model == NULL)
		return;
	for (uint32_t i = 0; i < model->port_count; i++)
		model_port_release(model->ports[i]);
	json_decref(model->workers_given);
	free(model->ports);
	free(model->addresses);
	free(model->workers);
	free(model);
}
