/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Lists of VLANs as the operator writes them: "all", or numbers and ranges, ["10-20", 30]. The
 * lowest that a list may have is 1, or 0 where that stands for ports without VLANs.
 *
 * Any thread.
 */
#pragma once

#include <jansson.h>

#include "base/error.h"
#include "bridge/vlan.h"

/*
 * Adds the VLANs of a list to a set. Returns 0, or -EINVAL with what is accepted added to err,
 * which has been set.
 */
int vlan_list_parse(const json_t *list, uint16_t lowest, struct vlan_set *set, struct error *err);

/* The list of a set that is not empty. A new reference. */
json_t *vlan_list_make(const struct vlan_set *set, uint16_t lowest);

/* The JSON Schema of such lists. A new reference. */
json_t *vlan_list_schema(uint16_t lowest);
