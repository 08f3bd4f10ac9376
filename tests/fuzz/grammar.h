/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * JSON values made after a JSON Schema, as describe_table makes it of a parameter table. What the
 * schema asks for is mostly there and mostly right, but for what is worth a try: bounds and their
 * neighbours, other types, keys too many.
 */
#pragma once

#include <jansson.h>

#include "entropy.h"

/* `document` is where a "$ref" of the schema is looked up; may be NULL. A new reference. */
json_t *grammar_make(struct entropy *entropy, const json_t *schema, const json_t *document);

/* A value of any type, up to so many levels deep. A new reference. */
json_t *grammar_any(struct entropy *entropy, unsigned int depth);
