/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The model: what the operator asked for, as values. It knows nothing of what runs.
 *
 * It is made from the configuration object (a file, or config.apply) and refuses as a whole what is
 * wrong in it: an unknown key, a type, a range, a duplicate. A model is never changed once it is in
 * use: a change is a copy, edited, that takes its place. Copies share the ports that they have in
 * common, so comparing two models is mostly comparing pointers. Control thread.
 */
#pragma once

#include <jansson.h>
#include <stdint.h>

#include "base/error.h"
#include "bridge/fdb.h"
#include "port/port.h"
#include "telemetry/listen.h"
#include "worker/worker.h"

struct model_worker {
	uint32_t cpu;
	uint32_t idle; /* enum worker_idle */
};

struct model_bridge {
	uint32_t ageing;   /* seconds, 0: never */
	uint32_t capacity; /* entries */
	struct vlan_set suppression; /* where known neighbours are asked alone; 0: without VLAN */
};

struct model_metrics {
	char listen[LISTEN_TEXT_SIZE]; /* "": nowhere */
};

/* A static address of the bridge, beside those that ports have as their own. */
struct model_address {
	uint8_t mac[6];
	uint16_t vlan; /* 0: that of the port's untagged frames, or of ports without VLANs */
	char port[PORT_NAME_SIZE]; /* "": a blackhole */
};

struct model_port {
	unsigned int references;
	char name[PORT_NAME_SIZE];
	const struct port_ops *ops;
	uint32_t queues; /* pairs */
	struct port_settings settings;
	json_t *labels;  /* an object of strings, or NULL */
	json_t *workers; /* an array of numbers, for its queues in turn, or NULL: any */
	json_t *source;  /* as it was given */
	void *config;    /* ops->config_size bytes, filled from ops->params */
	struct descriptors *descriptors; /* that came for its key `fds`, or NULL */
};

struct model {
	json_t *workers_given; /* as it was, or NULL */
	uint32_t worker_count;
	struct model_worker *workers;
	struct model_bridge bridge;
	struct model_metrics metrics;
	uint32_t address_count;
	struct model_address *addresses;
	uint32_t port_count;
	struct model_port **ports;
};

/*
 * Makes a model of a configuration object. default_cpu is where the worker runs if none is named.
 * Returns 0 with *model to be freed, or -errno with err filled.
 */
int model_parse(const json_t *root, uint32_t default_cpu, struct model **model, struct error *err);

/*
 * The same from a file; NULL stands for an empty object. The error names line and column, or path.
 */
int model_load(const char *path, uint32_t default_cpu, struct model **model, struct error *err);

/* A copy to be edited. NULL without memory. */
struct model *model_copy(const struct model *model);

/* The same, but returns 0, or -ENOMEM with err filled. */
int model_copy_to(const struct model *model, struct model **copy, struct error *err);

/* A copy with no ports, and so no addresses. */
struct model *model_copy_without_ports(const struct model *model);
void model_free(struct model *model);

/* The configuration object that model_parse would take. A new reference; NULL without memory. */
json_t *model_to_json(const struct model *model);

/* Do both say the same of workers and bridge? */
bool model_same_bridge(const struct model *model, const struct model *other);

/* And of where metrics are served? */
bool model_same_metrics(const struct model *model, const struct model *other);

/* ---- editing a copy ---- */

/* A port by name, or NULL. */
struct model_port *model_find_port(const struct model *model, const char *name);

/* The port in this VLAN (0: without any) whose own address this is, or NULL. */
struct model_port *model_find_owner(const struct model *model, const uint8_t mac[6], uint16_t vlan);

/*
 * Adds a port (whose reference is taken over in any case), in the place of one of the same name if
 * there is one. Returns 0, or -errno with err filled where it takes another's socket or address, or
 * wants a worker that the model does not have.
 */
int model_put_port(struct model *model, struct model_port *port, struct error *err);

/* Takes a port away, and with it the addresses that lead to it. Returns 0 or -ENOENT. */
int model_remove_port(struct model *model, const char *name);

/* What would be a conflict with what runs is, within one configuration, its own mistake. */
int model_blame_configuration(int result, struct error *err);

/* ---- static addresses: model_address.c ---- */

/* How an address is given: in the configuration, and to fdb.add. */
struct model_address_given {
	struct param_mac mac;
	char port[PORT_NAME_SIZE];
	bool blackhole;
	uint32_t vlan;
};
extern const struct param model_address_params[];

/* Checks what was given; `object` is for messages. Returns 0 or -EINVAL with err filled. */
int model_address_check(const struct model_address_given *given, const char *object,
			struct model_address *address, struct error *err);

/* The VLAN that the address stands in: its own, or else the port's. */
uint16_t model_address_vlan(const struct model *model, const struct model_address *address);

/* The address as it was given, or NULL. */
struct model_address *model_find_address(const struct model *model, const uint8_t mac[6],
					 uint16_t vlan);

/* Adds an address or replaces it; refuses one that is a port's own, or leads nowhere. */
int model_put_address(struct model *model, const struct model_address *address, struct error *err);

/* Removes an address in the VLAN that it stands in, or (0) all of them. Returns how many. */
unsigned int model_remove_address(struct model *model, const uint8_t mac[6], uint16_t vlan);

/* May a port be, or become, this one as far as addresses are concerned? */
int model_addresses_allow(const struct model *model, const struct model_port *port,
			  struct error *err);

/* Adds those of a configuration's list, each of which may be given once. */
int model_parse_addresses(struct model *model, const json_t *list, struct error *err);

json_t *model_addresses_to_json(const struct model *model);

/* ---- one port: model_port.c ---- */

#define MODEL_PORT_ALONE SIZE_MAX

/*
 * Makes a port of its JSON object. `index` is its place in a list of ports, or MODEL_PORT_ALONE,
 * for messages about one that has no good name. Returns 0 with one reference in *port, or -errno
 * with err filled.
 */
int model_port_parse(const json_t *source, size_t index, struct model_port **port,
		     struct error *err);

/* The port with a JSON merge patch (RFC 7396) applied to its object. As model_port_parse. */
int model_port_patch(const struct model_port *port, const json_t *patch, struct model_port **result,
		     struct error *err);

/*
 * Gives a port that says it was made of descriptors (key `fds`) those of an earlier port, where
 * none came with it.
 */
void model_port_inherit(struct model_port *port, const struct model_port *earlier);

struct model_port *model_port_use(struct model_port *port);
void model_port_release(struct model_port *port);

/* What it takes to get from one port to another of the same name. */
enum model_difference {
	MODEL_SAME,
	MODEL_SET,    /* can be changed while it runs */
	MODEL_REOPEN, /* must be closed and opened anew */
};
enum model_difference model_port_compare(const struct model_port *from,
					 const struct model_port *to);

/* Are both plugged in at the same place (a socket, an interface)? */
bool model_port_shares(const struct model_port *port, const struct model_port *other);

/* ---- for documentation and completion ---- */

/*
 * JSON Schemas (draft 2020-12) made of the parameter tables: {"schemas": {"configuration": ...,
 * "port": ...}}. A new reference.
 */
json_t *model_schema(void);

/* Of a port as port.add takes it: one of the types. A new reference. */
json_t *model_port_schema(void);
