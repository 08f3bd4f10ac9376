/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the daemon says of its methods (rpc/describe.h), built into the client. From it come the
 * types of `key=value`, help and completion. A method that is not in it is sent as it is: the
 * daemon may be newer.
 *
 * A parameter may be given in several ways (a number or text, one of several kinds of object).
 * `ways` is the array of all their schemas, without references and alternatives in between.
 *
 * All results are borrowed and live until schema_close, unless said otherwise. One thread.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* The document as JSON text; made at build time by embed.py. */
extern const char schema_text[];

/* Returns 0 or -ENOMEM. */
int schema_open(void);
void schema_close(void);

/* All methods, as OpenRPC method objects. */
json_t *schema_methods(void);

/* One by its name, "port.get"; NULL if it is not known. */
json_t *schema_method(const char *name);

/*
 * The ways to give the parameter at a path with dots, "limits.ingress.excess". A new reference;
 * empty where the method (which may be NULL) says nothing of it.
 */
json_t *schema_ways(json_t *method, const char *path);

/* Is a value of this JSON type good? `type` is JSON Schema's word: "string", "null". */
bool schema_takes(const json_t *ways, const char *type);

/* JSON Schema's word for the type of a value. */
const char *schema_type_of(const json_t *value);

/*
 * Calls visit for each parameter that is no object with keys of its own, and for the keys of those
 * that are; also for a required object itself, which may well come whole from a file.
 */
void schema_walk(json_t *method,
		 void (*visit)(void *argument, const char *path, json_t *ways, bool required),
		 void *argument);

/* What may be given, for people: "1 to 128", "server|client", "rate". Empty: anything. */
void schema_summarize(const json_t *ways, char *text, size_t size);

/* A property of the first way that has it ("description", "default"), or NULL. */
json_t *schema_fact(const json_t *ways, const char *key);
