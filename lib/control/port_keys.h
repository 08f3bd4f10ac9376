/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The keys that ports of all types have, as they are parsed, before what belongs together is
 * checked and becomes a model_port. For model_port.c, which has the table, and the files that have
 * parts of it. Control thread.
 */
#pragma once

#include <jansson.h>

#include "base/error.h"
#include "control/model_limits.h"
#include "port/port.h"
#include "rpc/param.h"

struct port_keys {
	char name[PORT_NAME_SIZE];
	char type[32];
	uint32_t queues;
	json_t *labels;
	json_t *workers;
	uint32_t guard; /* enum guard_level */
	json_t *allowed;
	struct {
		uint32_t access, native;
		bool native_tagged;
		json_t *trunk;
	} vlan;
	struct limits_given limits;
	struct port_settings settings;
};

/* ---- port_bridging.c: how a port takes part in the bridge ---- */

extern const struct param port_vlan_params[], port_flood_params[], port_storm_params[];

/*
 * Fills settings.vlan from the keys of `vlan`, which were `given` or not. Returns 0 or -EINVAL with
 * err filled.
 */
int port_vlan_check(struct port_keys *keys, bool given, const char *object, struct error *err);

/* ---- port_mirror.c: copies of a port's frames for another one ---- */

struct model;
struct model_port;

extern const struct param port_mirror_params[];

/*
 * Refuses a port that is mirrored to itself, or, with the others of the model, would make copies of
 * copies. Returns 0 or -errno with err filled.
 */
int port_mirror_check(const struct model *model, const struct model_port *port, struct error *err);
