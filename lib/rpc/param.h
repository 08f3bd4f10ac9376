/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Parameter tables: one row a key, from which values are checked, stored and documented.
 *
 * A table describes a JSON object. The same rows parse a request or a part of the configuration
 * file into a C struct, refuse what they do not know, and make the JSON Schema, the documentation
 * and the client's completion (rpc/describe.h). Keys that the fixed shape has but this version does
 * not are rows of type PARAM_LATER: they are refused with "not in this version" rather than as
 * unknown.
 *
 *     static const struct param fields[] = {
 *         { "name", PARAM_STRING, PARAM_AT(struct port_config, name), .required = true,
 *           .check = port_name_check, .help = "..." },
 *         { "queues", PARAM_UINT, PARAM_AT(struct port_config, queues), .min = 1, .max = 128,
 *           .initial = "1", .help = "queue pairs" },
 *         { NULL }
 *     };
 *     param_parse(fields, json, &config, "port vm1", "", err);
 *
 * Thread-safe: no state of its own.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum param_type {
	PARAM_BOOL,   /* stored as bool */
	PARAM_UINT,   /* uint32_t or uint64_t by the row's size, min to max */
	PARAM_STRING, /* char[size], at most size - 1 bytes, no NUL inside */
	PARAM_CHOICE, /* uint32_t: the index into choices */
	PARAM_MODE,   /* uint32_t: file mode as an octal string, "0660" */
	PARAM_MAC,    /* struct param_mac: "52:54:00:00:00:01" */
	PARAM_RATE,   /* uint64_t, a second: a number, or "1Gbit", "64k": powers of 1000 */
	PARAM_SIZE,   /* uint64_t, bytes: a number, or "64KiB"; Ki Mi Gi, and k M G as for rates */
	PARAM_OBJECT, /* a struct of its own, described by fields */
	PARAM_JSON,   /* json_t *, a new reference; type json_kind, or any if json_kind is -1 */
	PARAM_LATER,  /* known, but not in this version: refused unless absent */
};

struct param {
	const char *name;
	enum param_type type;
	size_t offset;              /* where the value goes in the struct */
	size_t size;                /* bytes there */
	bool required;
	uint64_t min, max;          /* PARAM_UINT, RATE, SIZE; max 0: any value of its width */
	const char *initial;        /* the default as JSON text; NULL: zero, empty, none */
	const char *const *choices; /* PARAM_CHOICE, ends with NULL */
	const struct param *fields; /* PARAM_OBJECT */
	int json_kind;              /* PARAM_JSON: a json_type, or -1 */
	json_t *(*schema)(void);    /* PARAM_JSON: its JSON Schema, where there is more to say */
	/*
	 * Further check of a value that was given and stored: 0, or -errno. err comes with message,
	 * object, field and value filled: the check adds `accepted`, or a message of its own. May
	 * be NULL.
	 */
	int (*check)(const void *value, struct error *err);
	const char *help;           /* one phrase: meaning and unit */
};

/* Where a PARAM_MAC goes. */
struct param_mac {
	bool given;
	uint8_t mac[6];
};

#define PARAM_AT(type, member) .offset = offsetof(type, member), .size = sizeof(((type *)0)->member)

/*
 * Fills *out from object by the rows of table (which ends with a row without a name): first the
 * defaults, then what is given; null means the default. Keys that an object requires are asked for
 * only where the object itself is given. `object_name` is what the operator calls the thing
 * ("port vm1"), `prefix` the path of keys down to here ("" or "permissions.").
 * Refuses unknown keys, missing ones, wrong types and ranges, with all details in err and -EINVAL,
 * or with what the row's own check returned.
 * On failure *out holds nothing that must be freed.
 */
int param_parse(const struct param *table, const json_t *object, void *out, const char *object_name,
		const char *prefix, struct error *err);

/* The largest number that a PARAM_UINT, RATE or SIZE takes. */
uint64_t param_max(const struct param *row);

/* Frees what param_parse stored in *out (the json_t references). */
void param_release(const struct param *table, void *out);

/* The value as short text for a message: strings in quotes, long values end in "...". size >= 4. */
void param_describe(const json_t *value, char *text, size_t size);
