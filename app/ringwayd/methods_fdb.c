/* SPDX-License-Identifier: BSD-3-Clause */
/* Methods about the forwarding table: fdb.list, fdb.add, fdb.remove, fdb.flush. */
#include "methods.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"

#define LIST_DEFAULT "1000"
#define LIST_MAX 20000 /* stays below the longest answer */

struct fdb_list_wish {
	char port[PORT_NAME_SIZE];
	uint32_t vlan, limit;
	struct param_mac after;
	uint32_t after_vlan;
};

static const struct param fdb_list_params[] = {
	{ "port", PARAM_STRING, PARAM_AT(struct fdb_list_wish, port),
	  .help = "only addresses behind this port" },
	{ "vlan", PARAM_UINT, PARAM_AT(struct fdb_list_wish, vlan), .max = VLAN_LAST,
	  .initial = "0", .help = "only addresses in this VLAN; 0: in any" },
	{ "limit", PARAM_UINT, PARAM_AT(struct fdb_list_wish, limit), .min = 1, .max = LIST_MAX,
	  .initial = LIST_DEFAULT,
	  .help = "at most so many, in the order of the addresses and then of the VLANs" },
	{ "after", PARAM_MAC, PARAM_AT(struct fdb_list_wish, after),
	  .help = "only addresses greater than this: the last of the list before" },
	{ "after_vlan", PARAM_UINT, PARAM_AT(struct fdb_list_wish, after_vlan), .max = VLAN_LAST,
	  .initial = "4094",
	  .help = "and this one in greater VLANs than this: that of the last of the list before" },
	{ NULL }
};

/* The entries that are wanted, collected before they are sorted. */
struct collection {
	const struct fdb_list_wish *wish;
	uint16_t port; /* FDB_NO_PORT: any */
	size_t count, size;
	struct fdb_entry *entries;
};

static void collect(void *argument, const struct fdb_entry *entry)
{
	struct collection *collection = argument;
	const struct fdb_list_wish *wish = collection->wish;
	int order = wish->after.given ? memcmp(entry->mac, wish->after.mac, 6) : 1;

	if (collection->port != FDB_NO_PORT && entry->port != collection->port)
		return;
	if (wish->vlan != 0 && entry->vlan != wish->vlan)
		return;
	if (order < 0 || (order == 0 && entry->vlan <= wish->after_vlan))
		return;
	if (collection->count < collection->size)
		collection->entries[collection->count++] = *entry;
}

static int compare_entries(const void *a, const void *b)
{
	const struct fdb_entry *left = a, *right = b;
	int order = memcmp(left->mac, right->mac, sizeof(left->mac));

	return order != 0 ? order : (int)left->vlan - (int)right->vlan;
}

static json_t *entry_to_json(const struct control *control, const struct fdb_entry *entry)
{
	const char *port = NULL;
	char mac[MAC_TEXT_SIZE];

	if (entry->port < control->port_count && control->ports[entry->port].model != NULL)
		port = control->ports[entry->port].model->name;
	mac_format(entry->mac, mac);
	return json_pack("{s:i, s:s, s:s?, s:b, s:b, s:i}", "vlan", entry->vlan, "mac", mac, "port",
			 port, "static", entry->fixed, "blackhole", entry->port == FDB_BLACKHOLE,
			 "age", (int)entry->age);
}

static int fdb_list(struct call *call, const void *params, json_t **result, struct error *err)
{
	struct daemon *daemon = call_context(call);
	struct control *control = daemon->control;
	struct collection collection = { .wish = params, .port = FDB_NO_PORT };

	if (collection.wish->port[0] != '\0') {
		struct control_port *port = control_find_port(control, collection.wish->port);

		if (port == NULL)
			return no_such_port(collection.wish->port, err);
		collection.port = (uint16_t)(port - control->ports);
	}
	collection.size = control->fdb->entries;
	collection.entries = calloc(collection.size + 1, sizeof(*collection.entries));
	if (collection.entries == NULL)
		return error_set(err, ERROR_INTERNAL, ENOMEM, "out of memory");
	fdb_walk(control->fdb, control_now(), collect, &collection);
	qsort(collection.entries, collection.count, sizeof(*collection.entries), compare_entries);
	*result = json_array();
	for (size_t i = 0; i < collection.count && i < collection.wish->limit; i++)
		json_array_append_new(*result, entry_to_json(control, &collection.entries[i]));
	free(collection.entries);
	return 0;
}

/* ---- changing ---- */

struct address_request {
	struct request request;
	struct model_address address;
};

static int make_with_address(struct change *change, const struct model *now, struct model **wanted,
			     struct error *err)
{
	struct address_request *request = (struct address_request *)change;
	int result = model_copy_to(now, wanted, err);

	if (result == 0)
		result = model_put_address(*wanted, &request->address, err);
	return result;
}

static int fdb_add(struct call *call, const void *params, json_t **result, struct error *err)
{
	struct address_request *request = request_new(call, sizeof(*request), err);
	int fault;

	(void)result;
	if (request == NULL)
		return -ENOMEM;
	request->request.change.make = make_with_address;
	fault = model_address_check(params, "fdb.add", &request->address, err);
	if (fault == 0)
		return request_submit(&request->request);
	free(request);
	return fault;
}

struct fdb_mac {
	struct param_mac mac;
	uint32_t vlan;
};

static const struct param fdb_mac_params[] = {
	{ "mac", PARAM_MAC, PARAM_AT(struct fdb_mac, mac), .required = true,
	  .help = "the address of a station" },
	{ "vlan", PARAM_UINT, PARAM_AT(struct fdb_mac, vlan), .max = VLAN_LAST, .initial = "0",
	  .help = "the VLAN that it is in; 0: wherever it is" },
	{ NULL }
};

/* Removes what was learned in a VLAN, or (0) in all. Returns whether there was anything. */
static bool remove_learned(struct fdb *fdb, const uint8_t *mac, uint16_t vlan)
{
	bool any = false;

	for (uint16_t v = 0; v <= VLAN_LAST; v++)
		if (vlan == 0 || v == vlan)
			any |= fdb_remove(fdb, fdb_key(mac, v)) == 0;
	return any;
}

/* The port whose own address it is, in that VLAN or (0) in any. */
static const struct model_port *find_owner(const struct model *model, const uint8_t *mac,
					   uint16_t vlan)
{
	for (uint32_t i = 0; i < model->port_count; i++) {
		const struct port_settings *settings = &model->ports[i]->settings;

		if (settings->mac.given && memcmp(settings->mac.mac, mac, 6) == 0 &&
		    (vlan == 0 || vlan_contains(&settings->vlan, vlan)))
			return model->ports[i];
	}
	return NULL;
}

/* What was learned is removed at once, what is static is a change of the model. */
static int make_without_address(struct change *change, const struct model *now,
				struct model **wanted, struct error *err)
{
	struct address_request *request = (struct address_request *)change;
	struct fdb *fdb = request->request.daemon->control->fdb;
	const uint8_t *mac = request->address.mac;
	const uint16_t vlan = request->address.vlan;
	const struct model_port *owner = find_owner(now, mac, vlan);
	char text[MAC_TEXT_SIZE];
	int result;

	mac_format(mac, text);
	if (owner != NULL) {
		error_set(err, ERROR_BUSY, EBUSY, "%s is port %s's own address", text, owner->name);
		error_detail(err, "fdb.remove", "mac", text,
			     "port.set with another \"mac\", or null");
		return -EBUSY;
	}
	result = model_copy_to(now, wanted, err);
	if (result != 0 || model_remove_address(*wanted, mac, vlan) > 0 ||
	    remove_learned(fdb, mac, vlan))
		return result;
	error_set(err, ERROR_NOT_FOUND, ENOENT, "the forwarding table has no %s", text);
	error_detail(err, "fdb.remove", "mac", text, "an address that fdb.list shows");
	return -ENOENT;
}

static int remove_address(struct call *call, const void *params, json_t **result, struct error *err)
{
	const struct fdb_mac *wish = params;
	struct address_request *request = request_new(call, sizeof(*request), err);

	(void)result;
	if (request == NULL)
		return -ENOMEM;
	request->request.change.make = make_without_address;
	memcpy(request->address.mac, wish->mac.mac, sizeof(request->address.mac));
	request->address.vlan = (uint16_t)wish->vlan;
	return request_submit(&request->request);
}

struct fdb_flush_wish {
	char port[PORT_NAME_SIZE];
	uint32_t vlan;
};

static const struct param fdb_flush_params[] = {
	{ "port", PARAM_STRING, PARAM_AT(struct fdb_flush_wish, port),
	  .help = "only addresses behind this port" },
	{ "vlan", PARAM_UINT, PARAM_AT(struct fdb_flush_wish, vlan), .max = VLAN_LAST,
	  .initial = "0", .help = "only addresses in this VLAN; 0: in any" },
	{ NULL }
};

static int flush_addresses(struct call *call, const void *params, json_t **result,
			   struct error *err)
{
	struct daemon *daemon = call_context(call);
	struct control *control = daemon->control;
	const struct fdb_flush_wish *wish = params;
	uint16_t number = FDB_NO_PORT, vlan = FDB_ANY_VLAN;

	if (wish->port[0] != '\0') {
		struct control_port *port = control_find_port(control, wish->port);

		if (port == NULL)
			return no_such_port(wish->port, err);
		number = (uint16_t)(port - control->ports);
	}
	if (wish->vlan != 0)
		vlan = (uint16_t)wish->vlan;
	*result = json_pack("{s:i}", "removed", (int)fdb_flush(control->fdb, number, vlan));
	return 0;
}

const struct method methods_fdb[] = {
	{ "fdb.list", "The forwarding table", fdb_list_params, sizeof(struct fdb_list_wish),
	  fdb_list },
	{ "fdb.add", "Sets a static address, or has frames to it dropped", model_address_params,
	  sizeof(struct model_address_given), fdb_add, .changes = true },
	{ "fdb.remove", "Removes an address, static or learned", fdb_mac_params,
	  sizeof(struct fdb_mac), remove_address, .changes = true },
	{ "fdb.flush", "Removes what was learned", fdb_flush_params,
	  sizeof(struct fdb_flush_wish), flush_addresses, .changes = true },
	{ NULL }
};
