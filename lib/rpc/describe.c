/* SPDX-License-Identifier: BSD-3-Clause */
/* Descriptions of parameters and methods; rpc/describe.h is the contract. */
#include "rpc/describe.h"

#include <string.h>

/* The texts that base/units.h takes, as regular expressions. */
#define MODE_PATTERN "^0?[0-7]{1,3}$"
#define MAC_PATTERN "^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}$"
#define RATE_PATTERN "^[0-9]{1,18}(\\.[0-9]{1,9})?[kMGT]?(bit|bit/s|bps|/s)?$"
#define SIZE_PATTERN "^[0-9]{1,18}(\\.[0-9]{1,9})?(Ki|Mi|Gi|k|M|G)?B?$"

static const struct {
	const char *name;
	enum error_kind code;
	const char *message;
} errors[] = {
	{ "parse", ERROR_PARSE, "The bytes are no JSON" },
	{ "request", ERROR_REQUEST, "The JSON is no JSON-RPC 2.0 request" },
	{ "method", ERROR_METHOD, "There is no such method" },
	{ "invalid", ERROR_INVALID, "The parameters are wrong: key, type, range or duplicate" },
	{ "internal", ERROR_INTERNAL, "The daemon failed, or its memory ran out" },
	{ "not_found", ERROR_NOT_FOUND, "What is named does not exist" },
	{ "exists", ERROR_EXISTS, "What is to be made exists already" },
	{ "busy", ERROR_BUSY, "It is being used or changed; try again" },
	{ "system", ERROR_SYSTEM, "The system refused: a permission, a path, an interface" },
	{ "conflict", ERROR_CONFLICT, "It contradicts what is there" },
	{ "limit", ERROR_LIMIT, "A limit was reached" },
};

static const char *const kind_names[] = {
	[JSON_OBJECT] = "object",   [JSON_ARRAY] = "array",   [JSON_STRING] = "string",
	[JSON_INTEGER] = "integer", [JSON_REAL] = "number",   [JSON_TRUE] = "boolean",
	[JSON_FALSE] = "boolean",   [JSON_NULL] = "null",
};

static void add_range(json_t *schema, const struct param *row)
{
	json_object_set_new(schema, "minimum", json_integer((json_int_t)row->min));
	json_object_set_new(schema, "maximum", json_integer((json_int_t)param_max(row)));
}

/* Of a number, or of text with a unit: JSON Schema applies each rule to the type that it is for. */
static json_t *describe_quantity(const struct param *row)
{
	bool is_rate = row->type == PARAM_RATE;
	json_t *schema = json_pack("{s:[s, s], s:s}", "type", "integer", "string", "format",
				   is_rate ? "rate" : "size");

	add_range(schema, row);
	json_object_set_new(schema, "pattern", json_string(is_rate ? RATE_PATTERN : SIZE_PATTERN));
	return schema;
}

static json_t *describe_choice(const struct param *row)
{
	json_t *names = json_array();

	for (size_t i = 0; row->choices[i] != NULL; i++)
		json_array_append_new(names, json_string(row->choices[i]));
	return json_pack("{s:s, s:o}", "type", "string", "enum", names);
}

static json_t *describe_json(const struct param *row)
{
	if (row->schema != NULL)
		return row->schema();
	if (row->json_kind < 0)
		return json_object();
	return json_pack("{s:s}", "type", kind_names[row->json_kind]);
}

static json_t *describe_type(const struct param *row)
{
	json_t *schema;

	switch (row->type) {
	case PARAM_BOOL:
		return json_pack("{s:s}", "type", "boolean");
	case PARAM_UINT:
		schema = json_pack("{s:s}", "type", "integer");
		add_range(schema, row);
		return schema;
	case PARAM_STRING:
		return json_pack("{s:s, s:I}", "type", "string", "maxLength",
				 (json_int_t)row->size - 1);
	case PARAM_CHOICE:
		return describe_choice(row);
	case PARAM_MODE:
		return json_pack("{s:s, s:s, s:s}", "type", "string", "format", "mode",
				 "pattern", MODE_PATTERN);
	case PARAM_MAC:
		return json_pack("{s:s, s:s, s:s}", "type", "string", "format", "mac",
				 "pattern", MAC_PATTERN);
	case PARAM_RATE:
	case PARAM_SIZE:
		return describe_quantity(row);
	case PARAM_OBJECT:
		return describe_table(row->fields);
	case PARAM_JSON:
		return describe_json(row);
	case PARAM_LATER:
		break;
	}
	return json_object();
}

/* Takes the schema over. */
static json_t *allow_null(json_t *schema)
{
	json_t *type = json_object_get(schema, "type");
	json_t *choices = json_object_get(schema, "enum");

	if (json_object_size(schema) == 0)
		return schema;
	if (type == NULL)
		return json_pack("{s:[o, {s:s}]}", "anyOf", schema, "type", "null");
	if (json_is_string(type))
		json_object_set_new(schema, "type", json_pack("[O, s]", type, "null"));
	else
		json_array_append_new(type, json_string("null"));
	if (choices != NULL)
		json_array_append_new(choices, json_null());
	return schema;
}

static json_t *describe_row(const struct param *row)
{
	json_t *schema = describe_type(row);

	if (!row->required)
		schema = allow_null(schema);
	if (row->help != NULL)
		json_object_set_new(schema, "description", json_string(row->help));
	if (row->initial != NULL)
		json_object_set_new(schema, "default",
				    json_loads(row->initial, JSON_DECODE_ANY, NULL));
	return schema;
}

json_t *describe_table(const struct param *table)
{
	json_t *properties = json_object();
	json_t *required = json_array();
	json_t *schema;

	for (const struct param *row = table; row != NULL && row->name != NULL; row++) {
		if (row->type == PARAM_LATER)
			continue;
		json_object_set_new(properties, row->name, describe_row(row));
		if (row->required)
			json_array_append_new(required, json_string(row->name));
	}
	schema = json_pack("{s:s, s:o}", "type", "object", "properties", properties);
	if (json_array_size(required) > 0)
		json_object_set(schema, "required", required);
	json_decref(required);
	json_object_set_new(schema, "additionalProperties", json_false());
	return schema;
}

/* Adds one more way in which a property may be given. */
static void add_property(json_t *properties, const char *name, json_t *schema)
{
	json_t *before = json_object_get(properties, name);
	json_t *ways = json_object_get(before, "anyOf");
	json_t *way;
	size_t i;

	if (before == NULL) {
		json_object_set(properties, name, schema);
		return;
	}
	if (json_equal(before, schema))
		return;
	json_array_foreach(ways, i, way)
		if (json_equal(way, schema))
			return;
	if (ways != NULL && json_object_size(before) == 1)
		json_array_append(ways, schema);
	else
		json_object_set_new(properties, name,
				    json_pack("{s:[O, O]}", "anyOf", before, schema));
}

/* The properties of an object, those of all its alternatives included. */
static void add_properties(json_t *properties, const json_t *schema)
{
	static const char *const alternatives[] = { "oneOf", "anyOf", "allOf" };
	json_t *property;
	const char *name;

	json_object_foreach(json_object_get(schema, "properties"), name, property)
		add_property(properties, name, property);
	for (size_t i = 0; i < sizeof(alternatives) / sizeof(alternatives[0]); i++) {
		json_t *alternative;
		size_t j;

		json_array_foreach(json_object_get(schema, alternatives[i]), j, alternative)
			add_properties(properties, alternative);
	}
}

/* Must the object have it, whichever alternative is taken? */
static bool is_required(const json_t *schema, const char *name)
{
	const json_t *alternatives = json_object_get(schema, "oneOf");
	json_t *item;
	size_t i;

	json_array_foreach(json_object_get(schema, "required"), i, item)
		if (strcmp(json_string_value(item), name) == 0)
			return true;
	json_array_foreach(json_object_get(schema, "allOf"), i, item)
		if (is_required(item, name))
			return true;
	if (alternatives == NULL)
		alternatives = json_object_get(schema, "anyOf");
	json_array_foreach(alternatives, i, item)
		if (!is_required(item, name))
			return false;
	return json_array_size(alternatives) > 0;
}

/* Takes the schema over. */
static json_t *describe_param(const char *name, bool required, json_t *schema)
{
	json_t *description = json_object_get(schema, "description");
	json_t *param = json_pack("{s:s, s:b, s:o}", "name", name, "required", required, "schema",
				  schema);

	if (description != NULL)
		json_object_set(param, "description", description);
	return param;
}

/* In the order of the rows, which is that of parameters by position. */
static json_t *describe_rows(const struct param *table)
{
	json_t *list = json_array();

	for (const struct param *row = table; row != NULL && row->name != NULL; row++)
		if (row->type != PARAM_LATER)
			json_array_append_new(list, describe_param(row->name, row->required,
								   describe_row(row)));
	return list;
}

/* OpenRPC wants what is required first. Takes the schema over. */
static json_t *describe_object(json_t *schema)
{
	json_t *properties = json_object();
	json_t *required = json_array();
	json_t *optional = json_array();
	json_t *property;
	const char *name;

	add_properties(properties, schema);
	json_object_foreach(properties, name, property) {
		bool must = is_required(schema, name);

		json_array_append_new(must ? required : optional,
				      describe_param(name, must, json_incref(property)));
	}
	json_array_extend(required, optional);
	json_decref(optional);
	json_decref(properties);
	json_decref(schema);
	return required;
}

static json_t *describe_method(const struct method *method, json_t *all_errors)
{
	json_t *params = method->whole ? describe_object(method->describe())
				       : describe_rows(method->params);
	json_t *result = method->describe_result == NULL ? json_object()
							 : method->describe_result();
	json_t *object;

	object = json_pack("{s:s, s:s, s:s, s:o, s:{s:s, s:o}, s:O}", "name", method->name,
			   "summary", method->help, "paramStructure",
			   method->whole ? "by-name" : "either", "params", params, "result",
			   "name", "result", "schema", result, "errors", all_errors);
	if (method->changes)
		json_object_set_new(object, "x-changes", json_true());
	return object;
}

/* {"not_found": {"code": -32001, ...}, ...}, and in *references a list that points to each. */
static json_t *describe_errors(json_t **references)
{
	json_t *object = json_object();

	*references = json_array();
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		json_object_set_new(object, errors[i].name,
				    json_pack("{s:i, s:s}", "code", (int)errors[i].code, "message",
					      errors[i].message));
		json_array_append_new(*references, json_pack("{s:s+}", "$ref",
							     "#/components/errors/",
							     errors[i].name));
	}
	return object;
}

json_t *describe_methods(const struct method *const *tables, const char *version,
			 json_t *components)
{
	json_t *methods = json_array();
	json_t *all_errors;

	if (components == NULL)
		components = json_object();
	json_object_set_new(components, "errors", describe_errors(&all_errors));
	for (; *tables != NULL; tables++)
		for (const struct method *row = *tables; row->name != NULL; row++)
			json_array_append_new(methods, describe_method(row, all_errors));
	json_decref(all_errors);
	return json_pack("{s:s, s:{s:s, s:s, s:{s:s}}, s:o, s:o}", "openrpc", "1.3.2", "info",
			 "title", "ringway", "version", version, "license", "name", "BSD-3-Clause",
			 "methods", methods, "components", components);
}
