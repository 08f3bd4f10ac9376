/* SPDX-License-Identifier: BSD-3-Clause */
/* Parsing the configuration into a model; control/model.h is the contract. */
#include "control/model.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "bridge/fdb.h"
#include "rpc/param.h"

#define PORTS_MAX 1024

struct root_config {
	json_t *workers;
	struct model_bridge bridge;
	json_t *ports;
};

struct port_common {
	char name[PORT_NAME_SIZE];
	char type[32];
	uint32_t queues;
	json_t *labels;
};

static int check_name(const void *value, struct error *err)
{
	if (name_check(value) == 0)
		return 0;
	error_detail(err, NULL, NULL, NULL, "1 to 63 of A-Z a-z 0-9 _ . : -");
	return -EINVAL;
}

static int check_labels(const void *value, struct error *err)
{
	json_t *labels = *(json_t *const *)value;
	const char *key;
	json_t *label;

	json_object_foreach(labels, key, label) {
		if (json_is_string(label))
			continue;
		error_detail(err, NULL, NULL, NULL, "an object whose values are strings");
		return -EINVAL;
	}
	return 0;
}

static const struct param worker_params[] = {
	{ "cpu", PARAM_UINT, PARAM_AT(struct model_worker, cpu), .required = true, .max = 1023,
	  .help = "the CPU that the worker is pinned to" },
	{ "idle", PARAM_CHOICE, PARAM_AT(struct model_worker, idle), .choices = worker_idle_names,
	  .initial = "\"adaptive\"", .help = "busy: never sleeps; adaptive: naps without traffic" },
	{ NULL }
};

static const struct param bridge_params[] = {
	{ "ageing", PARAM_UINT, PARAM_AT(struct root_config, bridge.ageing), .max = 65000,
	  .initial = "300", .help = "seconds after which a silent address is forgotten, 0: never" },
	{ "capacity", PARAM_UINT, PARAM_AT(struct root_config, bridge.capacity),
	  .min = FDB_CAPACITY_MIN, .max = FDB_CAPACITY_MAX, .initial = "65536",
	  .help = "addresses that the table holds" },
	{ NULL }
};

static const struct param root_params[] = {
	{ "workers", PARAM_JSON, PARAM_AT(struct root_config, workers), .json_kind = JSON_ARRAY,
	  .help = "the polling threads" },
	{ "bridge", PARAM_OBJECT, .fields = bridge_params, .help = "the forwarding table" },
	{ "ports", PARAM_JSON, PARAM_AT(struct root_config, ports), .json_kind = JSON_ARRAY,
	  .help = "the ports" },
	{ "metrics", PARAM_LATER, .help = "where metrics are served" },
	{ NULL }
};

static const struct param common_params[] = {
	{ "name", PARAM_STRING, PARAM_AT(struct port_common, name), .required = true,
	  .check = check_name, .help = "1 to 63 of A-Z a-z 0-9 _ . : -" },
	{ "type", PARAM_STRING, PARAM_AT(struct port_common, type), .required = true,
	  .help = "what kind of port" },
	{ "queues", PARAM_UINT, PARAM_AT(struct port_common, queues), .min = 1,
	  .max = PORT_QUEUES_MAX, .initial = "1", .help = "queue pairs" },
	{ "labels", PARAM_JSON, PARAM_AT(struct port_common, labels), .json_kind = JSON_OBJECT,
	  .check = check_labels, .help = "the operator's own words, shown in lists" },
	{ "enabled", PARAM_LATER }, { "mtu", PARAM_LATER }, { "mac", PARAM_LATER },
	{ "guard", PARAM_LATER }, { "allowed", PARAM_LATER }, { "vlan", PARAM_LATER },
	{ "isolated", PARAM_LATER }, { "learning", PARAM_LATER }, { "flood", PARAM_LATER },
	{ "storm", PARAM_LATER }, { "max_addresses", PARAM_LATER }, { "link_local", PARAM_LATER },
	{ "retry", PARAM_LATER }, { "limits", PARAM_LATER },
	{ NULL }
};

/* Types of the design's shape that have no file yet. */
static const char *const later_types[] = { "tap", "af_packet", "ethdev", NULL };

static int out_of_memory(struct error *err)
{
	return error_set(err, ERROR_INTERNAL, ENOMEM, "out of memory");
}

static bool is_common(const char *key)
{
	for (const struct param *row = common_params; row->name != NULL; row++)
		if (strcmp(row->name, key) == 0)
			return true;
	return false;
}

/* Splits a port's object in the keys of all ports and those of its type. */
static int split_keys(const json_t *source, json_t **common, json_t **own)
{
	const char *key;
	json_t *value;

	*common = json_object();
	*own = json_object();
	if (*common == NULL || *own == NULL)
		return -ENOMEM;
	json_object_foreach((json_t *)(uintptr_t)source, key, value) {
		if (json_object_set(is_common(key) ? *common : *own, key, value) != 0)
			return -ENOMEM;
	}
	return 0;
}

static int unknown_type(const char *type, const char *object, struct error *err)
{
	for (size_t i = 0; later_types[i] != NULL; i++) {
		if (strcmp(later_types[i], type) != 0)
			continue;
		error_set(err, ERROR_INVALID, EINVAL, "%s: type %s is not in this version", object,
			  type);
		error_detail(err, object, "type", type, port_types);
		return -EINVAL;
	}
	error_set(err, ERROR_INVALID, EINVAL, "%s: there is no port type %s", object, type);
	error_detail(err, object, "type", type, port_types);
	return -EINVAL;
}

/* What errors call a port whose name may itself be wrong. */
static void name_object(const json_t *source, size_t index, char *text, size_t size)
{
	const char *name = json_string_value(json_object_get(source, "name"));

	if (name != NULL && name_check(name) == 0)
		snprintf(text, size, "port %s", name);
	else
		snprintf(text, size, "ports[%zu]", index);
}

static int parse_port(const json_t *source, size_t index, struct model_port *port,
		      struct error *err)
{
	struct port_common common = { .labels = NULL };
	json_t *common_keys = NULL, *own_keys = NULL;
	char object[PORT_NAME_SIZE + 8];
	int result;

	name_object(source, index, object, sizeof(object));
	if (!json_is_object(source)) {
		error_set(err, ERROR_INVALID, EINVAL, "%s is not an object", object);
		error_detail(err, object, NULL, NULL, "an object");
		return -EINVAL;
	}
	result = split_keys(source, &common_keys, &own_keys);
	if (result != 0)
		out_of_memory(err);
	if (result == 0)
		result = param_parse(common_params, common_keys, &common, object, "", err);
	if (result != 0)
		goto done;
	memcpy(port->name, common.name, sizeof(port->name));
	port->queues = common.queues;
	port->labels = common.labels;
	port->source = json_deep_copy(source);
	port->ops = port_find_type(common.type);
	if (port->ops == NULL) {
		result = unknown_type(common.type, object, err);
		goto done;
	}
	port->config = calloc(1, port->ops->config_size);
	if (port->config == NULL || port->source == NULL) {
		result = out_of_memory(err);
		goto done;
	}
	result = param_parse(port->ops->params, own_keys, port->config, object, "", err);

done:
	json_decref(common_keys);
	json_decref(own_keys);
	return result;
}

/* Where the port is plugged in: what no two ports of a type may share. */
static const char *place_of(const struct model_port *port)
{
	return (const char *)port->config + port->ops->place;
}

/* Port i has neither name nor place of one before it. */
static int check_distinct(const struct model *model, size_t i, struct error *err)
{
	const struct model_port *port = &model->ports[i];

	for (size_t other = 0; other < i; other++) {
		const struct model_port *before = &model->ports[other];
		const char *key = NULL, *value = port->name;

		if (strcmp(before->name, port->name) == 0) {
			key = "name";
		} else if (before->ops == port->ops && port->ops->place_key != NULL &&
			   strcmp(place_of(before), place_of(port)) == 0) {
			key = port->ops->place_key;
			value = place_of(port);
		}
		if (key == NULL)
			continue;
		error_set(err, ERROR_INVALID, EEXIST,
			  "ports[%zu]: the %s %s is taken by ports[%zu]", i, key, value, other);
		error_detail(err, "ports", key, value, "one that no other port has");
		return -EEXIST;
	}
	return 0;
}

static int parse_ports(struct model *model, const json_t *list, struct error *err)
{
	size_t count = json_array_size(list);

	if (count > PORTS_MAX)
		return error_set(err, ERROR_LIMIT, E2BIG, "%zu ports; at most %d", count,
				 PORTS_MAX);
	model->ports = calloc(count + 1, sizeof(*model->ports));
	if (model->ports == NULL)
		return out_of_memory(err);
	for (size_t i = 0; i < count; i++) {
		struct model_port *port = &model->ports[i];
		int result;

		model->port_count++;
		result = parse_port(json_array_get(list, i), i, port, err);
		if (result != 0)
			return result;
		result = check_distinct(model, i, err);
		if (result != 0)
			return result;
	}
	return 0;
}

static int parse_workers(struct model *model, const json_t *list, uint32_t default_cpu,
			 struct error *err)
{
	size_t count = list == NULL ? 0 : json_array_size(list);

	if (count > 1) {
		error_set(err, ERROR_INVALID, EINVAL,
			  "more than one worker is not in this version");
		error_detail(err, "workers", NULL, NULL, "one worker");
		return -EINVAL;
	}
	model->workers = calloc(1, sizeof(*model->workers));
	if (model->workers == NULL)
		return out_of_memory(err);
	model->worker_count = 1;
	if (count == 0) {
		model->workers[0].cpu = default_cpu;
		model->workers[0].idle = IDLE_ADAPTIVE;
		return 0;
	}
	return param_parse(worker_params, json_array_get(list, 0), &model->workers[0], "workers[0]",
			   "", err);
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
		result = parse_workers(*model, config.workers, default_cpu, err);
		if (result == 0)
			result = parse_ports(*model, config.ports, err);
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

void model_free(struct model *model)
{
	if (model == NULL)
		return;
	for (uint32_t i = 0; i < model->port_count; i++) {
		json_decref(model->ports[i].labels);
		json_decref(model->ports[i].source);
		free(model->ports[i].config);
	}
	free(model->ports);
	free(model->workers);
	free(model);
}
