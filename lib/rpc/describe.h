/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Descriptions: from parameter tables and method tables to JSON Schema (draft 2020-12) and OpenRPC
 * (https://spec.open-rpc.org, 1.3).
 *
 * The rows that check a request are all there is to know of it; here they become a document that
 * programs read: rpc.discover and `ringwayd --schema` answer with it, and the client's typing of
 * values, its help and completion, docs/rpc.md and the schema of the configuration file are made
 * of it. So none of these can say anything else than the daemon does.
 *
 *     json_t *document = describe_methods(methods, RINGWAY_VERSION, components);
 *
 * All results are new references, NULL when memory ran out. Thread-safe: no state of its own.
 */
#pragma once

#include <jansson.h>

#include "rpc/method.h"
#include "rpc/param.h"

/*
 * The schema of the object that a table describes: its properties with type, range, choices,
 * default and meaning. Rows of type PARAM_LATER are left out. null is valid where the row is not
 * required, since it means the default. "format" is ours: rate, size, mac or mode, for those who
 * explain it to people. What a row's `check` refuses beyond that is not in it.
 */
json_t *describe_table(const struct param *table);

/*
 * The OpenRPC document of the methods (tables as for method_dispatch). `components` is taken over;
 * NULL for none: {"schemas": {...}}, to which the errors are added. A method that changes what runs
 * has "x-changes": true.
 */
json_t *describe_methods(const struct method *const *tables, const char *version,
			 json_t *components);
