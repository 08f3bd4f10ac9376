/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The model: what the operator asked for, as values. It knows nothing of what runs.
 *
 * It is made from the configuration object (a file, later also config.apply) and refuses as a whole
 * what is wrong in it: an unknown key, a type, a range, a duplicate. Control thread.
 */
#pragma once

#include <jansson.h>
#include <stdint.h>

#include "base/error.h"
#include "port/port.h"
#include "worker/worker.h"

struct model_worker {
	uint32_t cpu;
	uint32_t idle; /* enum worker_idle */
};

struct model_bridge {
	uint32_t ageing;   /* seconds, 0: never */
	uint32_t capacity; /* entries */
};

struct model_port {
	char name[PORT_NAME_SIZE];
	const struct port_ops *ops;
	uint32_t queues; /* pairs */
	json_t *labels;  /* an object of strings, or NULL */
	json_t *source;  /* as it was given */
	void *config;    /* ops->config_size bytes, filled from ops->params */
};

struct model {
	uint32_t worker_count;
	struct model_worker *workers;
	struct model_bridge bridge;
	uint32_t port_count;
	struct model_port *ports;
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

void model_free(struct model *model);
