/* SPDX-License-Identifier: BSD-3-Clause */
/* Static addresses of the bridge; control/model.h is the contract. */
#include "control/model.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "rpc/param.h"

#define ADDRESSES_MAX 65536

const struct param model_address_params[] = {
	{ "mac", PARAM_MAC, PARAM_AT(struct model_address_given, mac), .required = true,
	  .help = "the address of a station" },
	{ "port", PARAM_STRING, PARAM_AT(struct model_address_given, port),
	  .help = "the port that it is behind" },
	{ "blackhole", PARAM_BOOL, PARAM_AT(struct model_address_given, blackhole),
	  .help = "true: frames to it are dropped; instead of a port" },
	{ "vlan", PARAM_UINT, PARAM_AT(struct model_address_given, vlan), .max = VLAN_LAST,
	  .initial = "0",
	  .help = "the VLAN that it is in; 0: that of the port's untagged frames, or none" },
	{ NULL }
};

static uint16_t vlan_at(const struct model_port *port, const struct model_address *address)
{
	return address->vlan != 0 || port == NULL ? address->vlan : port->settings.vlan.native;
}

uint16_t model_address_vlan(const struct model *model, const struct model_address *address)
{
	return vlan_at(model_find_port(model, address->port), address);
}

struct model_address *model_find_address(const struct model *model, const uint8_t mac[6],
					 uint16_t vlan)
{
	for (uint32_t i = 0; i < model->address_count; i++)
		if (model->addresses[i].vlan == vlan &&
		    memcmp(model->addresses[i].mac, mac, 6) == 0)
			return &model->addresses[i];
	return NULL;
}

/* Is the VLAN of an address that leads to the port one of the port's? */
static int check_vlan(const struct model_port *port, const struct model_address *address,
		      struct error *err)
{
	const uint16_t vlan = vlan_at(port, address);
	char mac[MAC_TEXT_SIZE], value[16];

	if (vlan_contains(&port->settings.vlan, vlan))
		return 0;
	mac_format(address->mac, mac);
	snprintf(value, sizeof(value), "%u", vlan);
	if (vlan == 0)
		error_set(err, ERROR_CONFLICT, EINVAL,
			  "address %s: port %s has no VLAN for untagged frames, so the address "
			  "needs its own", mac, port->name);
	else
		error_set(err, ERROR_CONFLICT, EINVAL, "address %s: port %s is not in VLAN %u", mac,
			  port->name, vlan);
	error_detail(err, "bridge", "vlan", value, "a VLAN of the port");
	return -EINVAL;
}

static int refuse_owned(const uint8_t mac[6], const struct model_port *owner, struct error *err)
{
	char text[MAC_TEXT_SIZE];

	mac_format(mac, text);
	error_set(err, ERROR_EXISTS, EEXIST, "address %s is port %s's own", text, owner->name);
	error_detail(err, "bridge", "mac", text, "one that is no port's `mac`");
	return -EEXIST;
}

/* The address is nobody's own, and leads somewhere. */
static int check_address(const struct model *model, const struct model_address *address,
			 struct error *err)
{
	const struct model_port *port = model_find_port(model, address->port), *owner;
	char mac[MAC_TEXT_SIZE];
	int result;

	mac_format(address->mac, mac);
	if (address->port[0] != '\0' && port == NULL) {
		error_set(err, ERROR_NOT_FOUND, ENOENT, "address %s: there is no port %s", mac,
			  address->port);
		error_detail(err, "bridge", "port", address->port, "a name that port.list shows");
		return -ENOENT;
	}
	result = port != NULL ? check_vlan(port, address, err) : 0;
	if (result != 0)
		return result;
	owner = model_find_owner(model, address->mac, vlan_at(port, address));
	return owner != NULL ? refuse_owned(address->mac, owner, err) : 0;
}

/* Another address that stands in the same place, said in other words. */
static struct model_address *find_same(const struct model *model,
				       const struct model_address *address)
{
	const uint16_t vlan = model_address_vlan(model, address);

	for (uint32_t i = 0; i < model->address_count; i++)
		if (memcmp(model->addresses[i].mac, address->mac, 6) == 0 &&
		    model_address_vlan(model, &model->addresses[i]) == vlan)
			return &model->addresses[i];
	return NULL;
}

int model_put_address(struct model *model, const struct model_address *address, struct error *err)
{
	struct model_address *addresses, *known;
	int result = check_address(model, address, err);

	if (result != 0)
		return result;
	known = find_same(model, address);
	if (known != NULL) {
		*known = *address;
		return 0;
	}
	if (model->address_count == ADDRESSES_MAX || model->address_count == model->bridge.capacity)
		return error_set(err, ERROR_LIMIT, ENOSPC, "no room for more static addresses");
	addresses = realloc(model->addresses, (model->address_count + 1) * sizeof(*addresses));
	if (addresses == NULL)
		return error_set(err, ERROR_INTERNAL, ENOMEM, "out of memory");
	addresses[model->address_count++] = *address;
	model->addresses = addresses;
	return 0;
}

unsigned int model_remove_address(struct model *model, const uint8_t mac[6], uint16_t vlan)
{
	const uint32_t before = model->address_count;
	uint32_t kept = 0;

	for (uint32_t i = 0; i < before; i++) {
		const struct model_address *address = &model->addresses[i];

		if (memcmp(address->mac, mac, 6) != 0 ||
		    (vlan != 0 && model_address_vlan(model, address) != vlan))
			model->addresses[kept++] = *address;
	}
	model->address_count = kept;
	return before - kept;
}

/* The VLAN that the address stands in once the port is this one. */
static uint16_t vlan_with(const struct model *model, const struct model_port *port,
			  const struct model_address *address)
{
	return strcmp(address->port, port->name) == 0 ? vlan_at(port, address)
						      : model_address_vlan(model, address);
}

static int refuse_static(const struct model_port *port, const char *field, const uint8_t mac[6],
			 const char *accepted, struct error *err)
{
	char object[PORT_NAME_SIZE + 8], text[MAC_TEXT_SIZE];

	mac_format(mac, text);
	snprintf(object, sizeof(object), "port %s", port->name);
	error_set(err, ERROR_EXISTS, EEXIST, "%s: %s is a static address of the bridge already",
		  object, text);
	error_detail(err, object, field, text, accepted);
	return -EEXIST;
}

static int compare_keys(const void *a, const void *b)
{
	const fdb_key_t *left = a, *right = b;

	return *left < *right ? -1 : *left > *right;
}

/* Each place of the table is said once, by an address or as a port's own? */
static int check_places(const struct model *model, const struct model_port *port, struct error *err)
{
	fdb_key_t *keys = calloc(model->address_count, sizeof(*keys));
	int result = 0;

	if (keys == NULL)
		return error_set(err, ERROR_INTERNAL, ENOMEM, "out of memory");
	for (uint32_t i = 0; i < model->address_count; i++)
		keys[i] = fdb_key(model->addresses[i].mac,
				  vlan_with(model, port, &model->addresses[i]));
	qsort(keys, model->address_count, sizeof(*keys), compare_keys);
	for (uint32_t i = 1; i < model->address_count && result == 0; i++) {
		uint8_t mac[6];

		if (keys[i] != keys[i - 1])
			continue;
		for (unsigned int byte = 0; byte < sizeof(mac); byte++)
			mac[byte] = (uint8_t)(keys[i] >> (8 * byte));
		result = refuse_static(port, "vlan", mac, "a VLAN where it is not", err);
	}
	free(keys);
	return result;
}

/* Addresses that go with the port to another VLAN meet nobody's there. */
static int check_moved(const struct model *model, const struct model_port *port, struct error *err)
{
	const struct model_port *before = model_find_port(model, port->name), *owner;
	bool any = false;

	if (before == NULL || before->settings.vlan.native == port->settings.vlan.native)
		return 0;
	for (uint32_t i = 0; i < model->address_count; i++) {
		const struct model_address *address = &model->addresses[i];

		if (address->vlan != 0 || strcmp(address->port, port->name) != 0)
			continue;
		any = true;
		owner = model_find_owner(model, address->mac, port->settings.vlan.native);
		if (owner != NULL && owner != before)
			return refuse_owned(address->mac, owner, err);
	}
	return any ? check_places(model, port, err) : 0;
}

int model_addresses_allow(const struct model *model, const struct model_port *port,
			  struct error *err)
{
	for (uint32_t i = 0; i < model->address_count; i++) {
		const struct model_address *address = &model->addresses[i];

		if (strcmp(address->port, port->name) == 0 && check_vlan(port, address, err) != 0)
			return -err->errnum;
		if (port->settings.mac.given &&
		    memcmp(port->settings.mac.mac, address->mac, 6) == 0 &&
		    vlan_contains(&port->settings.vlan, vlan_with(model, port, address)))
			return refuse_static(port, "mac", address->mac,
					     "one that fdb.list does not show as static", err);
	}
	return check_moved(model, port, err);
}

int model_address_check(const struct model_address_given *given, const char *object,
			struct model_address *address, struct error *err)
{
	char mac[MAC_TEXT_SIZE];

	if (!mac_is_station(given->mac.mac)) {
		mac_format(given->mac.mac, mac);
		error_set(err, ERROR_INVALID, EINVAL, "%s: %s is no station's address", object,
			  mac);
		error_detail(err, object, "mac", mac,
			     "an address of one station: not a group's, not zero");
		return -EINVAL;
	}
	if ((given->port[0] != '\0') == given->blackhole) {
		error_set(err, ERROR_INVALID, EINVAL, "%s: an address needs a port or a blackhole",
			  object);
		error_detail(err, object, "port", NULL, "either \"port\" or \"blackhole\": true");
		return -EINVAL;
	}
	memcpy(address->mac, given->mac.mac, sizeof(address->mac));
	memcpy(address->port, given->port, sizeof(address->port));
	address->vlan = (uint16_t)given->vlan;
	return 0;
}

/* Adds one of a configuration's static addresses, each of which may be given once. */
static int parse_address(struct model *model, const json_t *source, const char *object,
			 struct error *err)
{
	struct model_address_given given;
	struct model_address address;
	char mac[MAC_TEXT_SIZE];
	int result = param_parse(model_address_params, source, &given, object, "", err);

	if (result == 0)
		result = model_address_check(&given, object, &address, err);
	if (result != 0)
		return result;
	if (find_same(model, &address) == NULL)
		return model_put_address(model, &address, err);
	mac_format(address.mac, mac);
	error_set(err, ERROR_INVALID, EEXIST, "%s: %s is given twice", object, mac);
	error_detail(err, object, "mac", mac, "each address once");
	return -EEXIST;
}

int model_parse_addresses(struct model *model, const json_t *list, struct error *err)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		char object[40];
		int result;

		snprintf(object, sizeof(object), "bridge.addresses[%zu]", i);
		result = parse_address(model, json_array_get(list, i), object, err);
		if (result != 0) {
			error_detail(err, object, NULL, NULL, NULL);
			return model_blame_configuration(result, err);
		}
	}
	return 0;
}

json_t *model_addresses_to_json(const struct model *model)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < model->address_count; i++) {
		const struct model_address *address = &model->addresses[i];
		char mac[MAC_TEXT_SIZE];
		json_t *object;

		mac_format(address->mac, mac);
		object = address->port[0] != '\0'
				 ? json_pack("{s:s, s:s}", "mac", mac, "port", address->port)
				 : json_pack("{s:s, s:b}", "mac", mac, "blackhole", true);
		if (address->vlan != 0)
			json_object_set_new(object, "vlan", json_integer(address->vlan));
		json_array_append_new(list, object);
	}
	return list;
}
