/* SPDX-License-Identifier: BSD-3-Clause */
/* From JSON to sets of VLANs and back; control/vlan_list.h is the contract. */
#include "control/vlan_list.h"

#include <errno.h>
#include <stdio.h>

#include "base/units.h"

/* Adds a VLAN or a range. Returns 0 or -EINVAL. */
static int add_vlans(const json_t *item, uint16_t lowest, struct vlan_set *set)
{
	uint32_t first, last;

	if (json_is_string(item)) {
		if (range_parse(json_string_value(item), &first, &last) != 0)
			return -EINVAL;
	} else if (json_is_integer(item) && json_integer_value(item) >= 0 &&
		   json_integer_value(item) <= VLAN_LAST) {
		first = last = (uint32_t)json_integer_value(item);
	} else {
		return -EINVAL;
	}
	if (first < lowest || last > VLAN_LAST)
		return -EINVAL;
	vlan_set_add(set, (uint16_t)first, (uint16_t)last);
	return 0;
}

static int add_list(const json_t *list, uint16_t lowest, struct vlan_set *set)
{
	if (json_is_string(list) && strcmp(json_string_value(list), "all") == 0) {
		vlan_set_add(set, lowest, VLAN_LAST);
		return 0;
	}
	if (json_array_size(list) == 0)
		return -EINVAL;
	for (size_t i = 0; i < json_array_size(list); i++)
		if (add_vlans(json_array_get(list, i), lowest, set) != 0)
			return -EINVAL;
	return 0;
}

int vlan_list_parse(const json_t *list, uint16_t lowest, struct vlan_set *set, struct error *err)
{
	char accepted[sizeof(err->accepted)];

	if (add_list(list, lowest, set) == 0)
		return 0;
	snprintf(accepted, sizeof(accepted),
		 "\"all\", or a list of VLANs and ranges: [\"10-20\", 30], from %u to %d", lowest,
		 VLAN_LAST);
	error_detail(err, NULL, NULL, NULL, accepted);
	return -EINVAL;
}

json_t *vlan_list_make(const struct vlan_set *set, uint16_t lowest)
{
	json_t *list = json_array();
	uint16_t vlan = lowest;

	while (vlan <= VLAN_LAST) {
		uint16_t first = vlan;
		char range[16];

		while (vlan <= VLAN_LAST && vlan_set_has(set, vlan))
			vlan++;
		if (first == lowest && vlan > VLAN_LAST) {
			json_decref(list);
			return json_string("all");
		}
		snprintf(range, sizeof(range), "%u-%d", first, vlan - 1);
		if (vlan == first + 1)
			json_array_append_new(list, json_integer(first));
		else if (vlan > first)
			json_array_append_new(list, json_string(range));
		while (vlan <= VLAN_LAST && !vlan_set_has(set, vlan))
			vlan++;
	}
	return list;
}

json_t *vlan_list_schema(uint16_t lowest)
{
	return json_pack("{s:[{s:s}, {s:s, s:i, s:{s:[{s:s, s:i, s:i}, {s:s, s:s}]}}]}", "anyOf",
			 "const", "all", "type", "array", "minItems", 1, "items", "anyOf", "type",
			 "integer", "minimum", lowest, "maximum", VLAN_LAST, "type", "string",
			 "pattern", "^[0-9]+(-[0-9]+)?$");
}
