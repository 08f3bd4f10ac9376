/* SPDX-License-Identifier: BSD-3-Clause */
/* One port of the model: its parameters, parsing, patching; control/model.h is the contract. */
#include "control/model.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/units.h"
#include "control/port_keys.h"
#include "policy/guard_config.h"
#include "rpc/describe.h"
#include "rpc/param.h"

/* Guests may drop IPv6 below that (RFC 8200, 5). */
#define MTU_IPV6_MIN 1280

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

static json_t *describe_labels(void)
{
	return json_pack("{s:s, s:{s:s}}", "type", "object", "additionalProperties", "type",
			 "string");
}

static int check_workers(const void *value, struct error *err)
{
	const json_t *workers = *(json_t *const *)value;
	const size_t count = json_array_size(workers);
	bool good = count >= 1 && count <= PORT_QUEUES_MAX;
	char accepted[64];

	for (size_t i = 0; good && i < count; i++) {
		const json_t *worker = json_array_get(workers, i);

		good = json_is_integer(worker) && json_integer_value(worker) >= 0 &&
		       json_integer_value(worker) < WORKERS_MAX;
	}
	if (good)
		return 0;
	snprintf(accepted, sizeof(accepted), "1 to %d numbers from 0 to %d", PORT_QUEUES_MAX,
		 WORKERS_MAX - 1);
	error_detail(err, NULL, NULL, NULL, accepted);
	return -EINVAL;
}

static json_t *describe_workers(void)
{
	return json_pack("{s:s, s:{s:s, s:i, s:i}, s:i, s:i}", "type", "array", "items", "type",
			 "integer", "minimum", 0, "maximum", WORKERS_MAX - 1, "minItems", 1,
			 "maxItems", PORT_QUEUES_MAX);
}

static int check_mac(const void *value, struct error *err)
{
	const struct param_mac *mac = value;

	if (mac_is_station(mac->mac))
		return 0;
	error_detail(err, NULL, NULL, NULL, "an address of one station: not a group's, not zero");
	return -EINVAL;
}

static const struct param common_params[] = {
	{ "name", PARAM_STRING, PARAM_AT(struct port_keys, name), .required = true,
	  .check = check_name, .help = "1 to 63 of A-Z a-z 0-9 _ . : -" },
	{ "type", PARAM_STRING, PARAM_AT(struct port_keys, type), .required = true,
	  .help = "what kind of port" },
	{ "queues", PARAM_UINT, PARAM_AT(struct port_keys, queues), .min = 1,
	  .max = PORT_QUEUES_MAX, .initial = "1", .help = "queue pairs" },
	{ "workers", PARAM_JSON, PARAM_AT(struct port_keys, workers), .json_kind = JSON_ARRAY,
	  .check = check_workers, .schema = describe_workers,
	  .help = "which worker, as in worker.list, polls each queue: of so many numbers the "
		  "first is for queue 0, and behind the last comes the first again; without it "
		  "queues are spread" },
	{ "enabled", PARAM_BOOL, PARAM_AT(struct port_keys, settings.enabled), .initial = "true",
	  .help = "false keeps the rings and drops all frames" },
	{ "mac", PARAM_MAC, PARAM_AT(struct port_keys, settings.mac), .check = check_mac,
	  .help = "the address that lives behind the port: never learned elsewhere" },
	{ "mtu", PARAM_UINT, PARAM_AT(struct port_keys, settings.mtu), .min = PORT_MTU_MIN,
	  .max = PORT_MTU_MAX, .initial = "65535",
	  .help = "bytes behind the Ethernet header of a frame to the port, VLAN tags apart; a "
		  "TAP interface gets this MTU; without it an interface's own holds" },
	{ "limits", PARAM_OBJECT, .offset = offsetof(struct port_keys, limits),
	  .fields = model_limits_params, .help = "rates the port is held to" },
	{ "retry", PARAM_UINT, PARAM_AT(struct port_keys, settings.retry),
	  .max = PORT_RETRY_MAX, .initial = "0",
	  .help = "microseconds that a worker tries again when the port takes no more frames; all "
		  "that it does waits meanwhile" },
	{ "labels", PARAM_JSON, PARAM_AT(struct port_keys, labels), .json_kind = JSON_OBJECT,
	  .check = check_labels, .schema = describe_labels,
	  .help = "the operator's own words, shown in lists" },
	{ "guard", PARAM_CHOICE, PARAM_AT(struct port_keys, guard),
	  .choices = guard_level_names, .initial = "\"off\"",
	  .help = "what is checked of frames from the port: mac their source address; arp also "
		  "what ARP and neighbour discovery say; ip also the source of IP packets, and "
		  "that the port is no DHCP server and no router" },
	{ "allowed", PARAM_JSON, PARAM_AT(struct port_keys, allowed), .json_kind = JSON_ARRAY,
	  .check = guard_config_check, .schema = guard_config_describe,
	  .help = "what the guard lets the port use beside its `mac`: up to 64 MAC addresses and "
		  "256 IP addresses or prefixes, \"10.0.0.5\", \"2001:db8::/64\"; does nothing "
		  "without a guard" },
	{ "vlan", PARAM_OBJECT, .fields = port_vlan_params,
	  .help = "the VLANs that the port is in; without it tags are payload, and the port meets "
		  "only others without it" },
	{ "isolated", PARAM_BOOL, PARAM_AT(struct port_keys, settings.isolated),
	  .initial = "false", .help = "nothing passes between two isolated ports" },
	{ "learning", PARAM_BOOL, PARAM_AT(struct port_keys, settings.learning), .initial = "true",
	  .help = "the source addresses of frames from the port are learned" },
	{ "max_addresses", PARAM_UINT, PARAM_AT(struct port_keys, settings.max_addresses),
	  .min = 1, .max = FDB_CAPACITY_MAX,
	  .help = "so many addresses are learned behind the port, no more; by default any number" },
	{ "flood", PARAM_OBJECT, .fields = port_flood_params,
	  .help = "which frames without one known destination are sent to the port" },
	{ "storm", PARAM_OBJECT, .fields = port_storm_params,
	  .help = "how many frames without one known destination are taken from the port" },
	{ "mirror", PARAM_OBJECT, .fields = port_mirror_params,
	  .help = "copies of the port's frames go to another port as well" },
	{ "link_local", PARAM_BOOL, PARAM_AT(struct port_keys, settings.link_local),
	  .initial = "false",
	  .help = "frames to 01:80:c2:00:00:0x (LACP, LLDP, spanning trees) pass between this and "
		  "other such ports" },
	{ NULL }
};

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
	else if (index == MODEL_PORT_ALONE)
		snprintf(text, size, "the port");
	else
		snprintf(text, size, "ports[%zu]", index);
}

static int fill_port(struct model_port *port, struct port_keys *common, const json_t *source,
		     json_t *own_keys, const char *object, struct error *err)
{
	int rc;

	memcpy(port->name, common->name, sizeof(port->name));
	port->queues = common->queues;
	port->settings = common->settings;
	model_limits_convert(&common->limits, &port->settings);
	port->labels = json_incref(common->labels);
	port->workers = json_incref(common->workers);
	port->source = json_deep_copy(source);
	rc = guard_config_make((enum guard_level)common->guard,
			       common->settings.mac.given ? common->settings.mac.mac : NULL,
			       common->allowed, object, &port->settings.guard, err);
	if (rc != 0)
		return rc;
	port->ops = port_find_type(common->type);
	if (port->ops == NULL)
		return unknown_type(common->type, object, err);
	port->config = calloc(1, port->ops->config_size);
	if (port->config == NULL || port->source == NULL)
		return out_of_memory(err);
	rc = param_parse(port->ops->params, own_keys, port->config, object, "", err);
	if (rc != 0 || port->ops->check == NULL)
		return rc;
	return port->ops->check(port->config, &port->queues, object, err);
}

int model_port_parse(const json_t *source, size_t index, struct model_port **result,
		     struct error *err)
{
	struct port_keys common = { .labels = NULL };
	json_t *common_keys = NULL, *own_keys = NULL;
	struct model_port *port = NULL;
	char object[PORT_NAME_SIZE + 8];
	int rc;

	name_object(source, index, object, sizeof(object));
	if (!json_is_object(source)) {
		error_set(err, ERROR_INVALID, EINVAL, "%s is not an object", object);
		error_detail(err, object, NULL, NULL, "an object");
		return -EINVAL;
	}
	rc = split_keys(source, &common_keys, &own_keys);
	if (rc != 0)
		out_of_memory(err);
	if (rc == 0)
		rc = param_parse(common_params, common_keys, &common, object, "", err);
	if (rc == 0) {
		rc = port_vlan_check(&common, json_is_object(json_object_get(source, "vlan")),
				     object, err);
		port = rc == 0 ? calloc(1, sizeof(*port)) : NULL;
		if (port != NULL) {
			port->references = 1;
			rc = fill_port(port, &common, source, own_keys, object, err);
		} else if (rc == 0) {
			rc = out_of_memory(err);
		}
		param_release(common_params, &common);
	}
	json_decref(common_keys);
	json_decref(own_keys);
	if (rc != 0) {
		model_port_release(port);
		return rc;
	}
	if (port->settings.mtu < MTU_IPV6_MIN)
		log_warning("control", "%s: an MTU of %u is too small for IPv6, which needs %d",
			    object, port->settings.mtu, MTU_IPV6_MIN);
	*result = port;
	return 0;
}

/* RFC 7396, 2: the pseudocode there. Returns a new reference, or NULL without memory. */
static json_t *merge_patch(const json_t *target, const json_t *patch)
{
	json_t *result;
	const char *key;
	json_t *value;

	if (!json_is_object(patch))
		return json_deep_copy(patch);
	result = json_is_object(target) ? json_deep_copy(target) : json_object();
	json_object_foreach((json_t *)(uintptr_t)patch, key, value) {
		json_t *merged;

		if (json_is_null(value)) {
			json_object_del(result, key);
			continue;
		}
		merged = merge_patch(json_object_get(result, key), value);
		if (merged == NULL || json_object_set_new(result, key, merged) != 0) {
			json_decref(result);
			return NULL;
		}
	}
	return result;
}

int model_port_patch(const struct model_port *port, const json_t *patch, struct model_port **result,
		     struct error *err)
{
	json_t *source = merge_patch(port->source, patch);
	int rc;

	if (source == NULL)
		return out_of_memory(err);
	rc = model_port_parse(source, MODEL_PORT_ALONE, result, err);
	json_decref(source);
	return rc;
}

json_t *model_port_schema(void)
{
	json_t *schema = describe_table(common_params);
	json_t *properties = json_object_get(schema, "properties");
	json_t *types = json_array(), *conditions = json_array();
	const struct port_ops *ops = port_type(1);

	/* What the only type needs every port needs. */
	if (ops == NULL) {
		json_t *own = describe_table(port_type(0)->params);

		json_array_extend(json_object_get(schema, "required"),
				  json_object_get(own, "required"));
		json_decref(own);
	}
	/* As the keys of one type mean nothing to another, all stand side by side. */
	for (unsigned int i = 0; (ops = port_type(i)) != NULL; i++) {
		json_t *own = describe_table(ops->params);

		json_object_update_missing(properties, json_object_get(own, "properties"));
		json_array_append_new(types, json_string(ops->type));
		json_array_append_new(conditions,
				      json_pack("{s:{s:{s:{s:s}}}, s:{s:O}}", "if", "properties",
						"type", "const", ops->type, "then", "required",
						json_object_get(own, "required")));
		json_decref(own);
	}
	json_object_set_new(schema, "allOf", conditions);
	json_object_set_new(json_object_get(properties, "type"), "enum", types);
	return schema;
}

void model_port_inherit(struct model_port *port, const struct model_port *earlier)
{
	const json_t *fds = json_object_get(port->source, "fds");

	/* As many as it wants: of fewer, one that stays open would take frames unread. */
	if (port->descriptors == NULL && fds != NULL && earlier->descriptors != NULL &&
	    json_integer_value(fds) == (json_int_t)earlier->descriptors->count)
		port->descriptors = descriptors_use(earlier->descriptors);
}

struct model_port *model_port_use(struct model_port *port)
{
	port->references++;
	return port;
}

void model_port_release(struct model_port *port)
{
	if (port == NULL || --port->references > 0)
		return;
	json_decref(port->labels);
	json_decref(port->workers);
	json_decref(port->source);
	guard_release(port->settings.guard);
	if (port->config != NULL)
		param_release(port->ops->params, port->config);
	free(port->config);
	descriptors_release(port->descriptors);
	free(port);
}

static const char *place_of(const struct model_port *port)
{
	return (const char *)port->config + port->ops->place;
}

/* Two names of one namespace are told apart by the kernel, which opens an interface once. */
static const char *space_of(const struct model_port *port)
{
	return port->ops->space != 0 ? (const char *)port->config + port->ops->space : "";
}

bool model_port_shares(const struct model_port *port, const struct model_port *other)
{
	const char *key = port->ops->place_key, *other_key = other->ops->place_key;

	/* Whatever the types: a frame would come in by one port and go out by the other. */
	if (key == NULL || other_key == NULL || strcmp(key, other_key) != 0)
		return false;
	/* What is not said in full is chosen by somebody else, who does not give one twice. */
	return *place_of(port) != '\0' && strstr(place_of(port), "%d") == NULL &&
	       strcmp(place_of(port), place_of(other)) == 0 &&
	       strcmp(space_of(port), space_of(other)) == 0;
}

enum model_difference model_port_compare(const struct model_port *from,
					 const struct model_port *to)
{
	if (from == to ||
	    (json_equal(from->source, to->source) && from->descriptors == to->descriptors))
		return MODEL_SAME;
	if (from->ops != to->ops || from->queues != to->queues ||
	    from->descriptors != to->descriptors)
		return MODEL_REOPEN;
	if (from->ops->can_set != NULL)
		return from->ops->can_set(from->config, to->config) ? MODEL_SET : MODEL_REOPEN;
	return memcmp(from->config, to->config, from->ops->config_size) == 0 ? MODEL_SET
									     : MODEL_REOPEN;
}
