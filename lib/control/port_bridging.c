/* SPDX-License-Identifier: BSD-3-Clause */
/* The keys `vlan`, `flood` and `storm` of a port; control/port_keys.h is the contract. */
#include "control/port_keys.h"

#include <errno.h>

#include "control/vlan_list.h"

static int check_trunk(const void *value, struct error *err)
{
	struct vlan_set set = { { 0 } };

	return vlan_list_parse(*(json_t *const *)value, VLAN_FIRST, &set, err);
}

static json_t *describe_trunk(void)
{
	return vlan_list_schema(VLAN_FIRST);
}

const struct param port_vlan_params[] = {
	{ "access", PARAM_UINT, PARAM_AT(struct port_keys, vlan.access), .min = VLAN_FIRST,
	  .max = VLAN_LAST, .help = "the one VLAN that the port is in; its frames have no tag" },
	{ "trunk", PARAM_JSON, PARAM_AT(struct port_keys, vlan.trunk), .json_kind = -1,
	  .check = check_trunk, .schema = describe_trunk,
	  .help = "the VLANs that the port is in, whose frames have a tag: \"all\", or VLANs and "
		  "ranges" },
	{ "native", PARAM_UINT, PARAM_AT(struct port_keys, vlan.native), .min = VLAN_FIRST,
	  .max = VLAN_LAST,
	  .help = "the VLAN of a trunk's frames without a tag; by default they are dropped" },
	{ "native_tagged", PARAM_BOOL, PARAM_AT(struct port_keys, vlan.native_tagged),
	  .initial = "false", .help = "frames of the native VLAN leave with a tag all the same" },
	{ NULL }
};

const struct param port_flood_params[] = {
	{ "unknown", PARAM_BOOL, PARAM_AT(struct port_keys, settings.flood.unknown),
	  .initial = "true", .help = "frames to one station whose port is not known" },
	{ "broadcast", PARAM_BOOL, PARAM_AT(struct port_keys, settings.flood.broadcast),
	  .initial = "true", .help = "broadcast frames" },
	{ "multicast", PARAM_BOOL, PARAM_AT(struct port_keys, settings.flood.multicast),
	  .initial = "true", .help = "frames to other groups" },
	{ NULL }
};

const struct param port_storm_params[] = {
	{ "unknown", PARAM_UINT, PARAM_AT(struct port_keys, settings.storm.unknown),
	  .min = LIMIT_PACKETS_MIN, .max = LIMIT_PACKETS_MAX,
	  .help = "packets a second to stations whose port is not known" },
	{ "broadcast", PARAM_UINT, PARAM_AT(struct port_keys, settings.storm.broadcast),
	  .min = LIMIT_PACKETS_MIN, .max = LIMIT_PACKETS_MAX,
	  .help = "broadcast packets a second" },
	{ "multicast", PARAM_UINT, PARAM_AT(struct port_keys, settings.storm.multicast),
	  .min = LIMIT_PACKETS_MIN, .max = LIMIT_PACKETS_MAX,
	  .help = "packets a second to other groups" },
	{ NULL }
};

static int refuse(const char *object, const char *field, const char *what, const char *accepted,
		  struct error *err)
{
	error_set(err, ERROR_INVALID, EINVAL, "%s: \"%s\" %s", object, field, what);
	error_detail(err, object, field, NULL, accepted);
	return -EINVAL;
}

int port_vlan_check(struct port_keys *keys, bool given, const char *object, struct error *err)
{
	struct vlan_settings *vlan = &keys->settings.vlan;

	if (!given)
		return 0;
	if (keys->vlan.access == 0 && keys->vlan.trunk == NULL)
		return refuse(object, "vlan", "says neither access nor trunk",
			      "{\"access\": 10} or {\"trunk\": [\"10-20\", 30]}", err);
	if (keys->vlan.access != 0 && keys->vlan.trunk != NULL)
		return refuse(object, "vlan.trunk", "contradicts vlan.access",
			      "one of access and trunk", err);
	if (keys->vlan.access != 0 && keys->vlan.native != 0)
		return refuse(object, "vlan.native", "is for trunks, and this is an access port",
			      "no native, or trunk instead of access", err);
	if (keys->vlan.native_tagged && keys->vlan.native == 0)
		return refuse(object, "vlan.native_tagged", "needs vlan.native",
			      "false, or true beside native", err);
	*vlan = (struct vlan_settings){ .mode = VLAN_ACCESS,
					.native = (uint16_t)keys->vlan.access };
	if (keys->vlan.access != 0)
		return 0;
	vlan->mode = VLAN_TRUNK;
	vlan->native = (uint16_t)keys->vlan.native;
	vlan->native_tagged = keys->vlan.native_tagged;
	vlan_list_parse(keys->vlan.trunk, VLAN_FIRST, &vlan->trunk, err);
	if (vlan->native != 0)
		vlan_set_add(&vlan->trunk, vlan->native, vlan->native);
	return 0;
}
