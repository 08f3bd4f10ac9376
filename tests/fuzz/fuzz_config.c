/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Configurations: any text as a file of one. A refusal says why and keeps nothing. What is accepted
 * is a model whose own description makes the same model again, also after its ports have been
 * patched; and nothing that must be distinct is there twice.
 */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/units.h"
#include "control/model.h"
#include "grammar.h"
#include "text.h"

const char target_name[] = "config";
const bool text_takes_many = false;

#define DEFAULT_CPU 1

static json_t *document, *root_schema, *port_schema;

void target_init(void)
{
	const json_t *schemas;

	/* Some values are warned about. */
	log_set_level(LOG_ERROR);
	document = json_pack("{s:o}", "components", model_schema());
	schemas = json_object_get(json_object_get(document, "components"), "schemas");
	root_schema = json_object_get(schemas, "configuration");
	port_schema = json_object_get(schemas, "port");
	CHECK(root_schema != NULL && port_schema != NULL);
}

/* An address needs one of two keys, which no schema says; most shall have it. */
static void mend_addresses(struct entropy *entropy, const json_t *root)
{
	json_t *address;
	size_t i;

	json_array_foreach(json_object_get(json_object_get(root, "bridge"), "addresses"), i,
			   address) {
		if (entropy_chance(entropy, 8))
			continue;
		if (json_object_get(address, "port") != NULL)
			json_object_del(address, "blackhole");
		else
			json_object_set_new(address, "blackhole", json_true());
	}
}

json_t *text_value(struct entropy *entropy)
{
	json_t *root = grammar_make(entropy, root_schema, document);

	mend_addresses(entropy, root);
	return root;
}

static bool is_text(const char *text)
{
	json_t *string = json_string(text);

	json_decref(string);
	return string != NULL && text[0] != '\0';
}

static void check_refusal(int rc, const struct error *err)
{
	CHECK(rc < 0);
	CHECK(err->kind == ERROR_INVALID || err->kind == ERROR_EXISTS ||
	      err->kind == ERROR_NOT_FOUND || err->kind == ERROR_LIMIT ||
	      err->kind == ERROR_CONFLICT);
	CHECK(err->errnum == -rc);
	CHECK(is_text(err->message));
	CHECK(is_text(err->object) || err->kind == ERROR_LIMIT);
}

static void check_ports(const struct model *model)
{
	for (uint32_t i = 0; i < model->port_count; i++) {
		const struct model_port *port = model->ports[i];

		CHECK(name_check(port->name) == 0);
		CHECK(port->ops != NULL && port->config != NULL);
		CHECK(port->queues >= 1 && port->queues <= PORT_QUEUES_MAX);
		CHECK(port->settings.mtu >= PORT_MTU_MIN && port->settings.mtu <= PORT_MTU_MAX);
		CHECK(model_find_port(model, port->name) == port);
		for (uint32_t j = 0; j < i; j++) {
			const struct model_port *other = model->ports[j];

			CHECK(!port->settings.mac.given || !other->settings.mac.given ||
			      memcmp(port->settings.mac.mac, other->settings.mac.mac, 6) != 0 ||
			      !vlan_meet(&port->settings.vlan, &other->settings.vlan));
			CHECK(port->ops != other->ops ||
			      strcmp((char *)port->config + port->ops->place,
				     (char *)other->config + port->ops->place) != 0);
		}
	}
}

static void check_addresses(const struct model *model)
{
	CHECK(model->address_count <= model->bridge.capacity);
	for (uint32_t i = 0; i < model->address_count; i++) {
		const struct model_address *address = &model->addresses[i];

		CHECK((address->mac[0] & 1) == 0);
		CHECK(address->port[0] == '\0' || model_find_port(model, address->port) != NULL);
		for (uint32_t j = 0; j < i; j++)
			CHECK(memcmp(address->mac, model->addresses[j].mac, 6) != 0 ||
			      model_address_vlan(model, address) !=
				      model_address_vlan(model, &model->addresses[j]));
		for (uint32_t j = 0; j < model->port_count; j++)
			CHECK(!model->ports[j]->settings.mac.given ||
			      memcmp(address->mac, model->ports[j]->settings.mac.mac, 6) != 0 ||
			      !vlan_contains(&model->ports[j]->settings.vlan,
					     model_address_vlan(model, address)));
	}
}

/* What a model says of itself makes the same model, which says the same. */
static void check_model(const struct model *model)
{
	json_t *said = model_to_json(model), *said_again;
	struct model *again = NULL;
	struct error err;

	CHECK(said != NULL);
	CHECK(model->worker_count >= 1);
	for (uint32_t i = 0; i < model->worker_count; i++)
		CHECK(model->workers[i].cpu < 1024);
	check_ports(model);
	check_addresses(model);
	CHECK(model_parse(said, DEFAULT_CPU, &again, &err) == 0);
	said_again = model_to_json(again);
	CHECK(json_equal(said, said_again));
	CHECK(again->port_count == model->port_count);
	for (uint32_t i = 0; i < model->port_count; i++)
		CHECK(model_port_compare(model->ports[i], again->ports[i]) == MODEL_SAME);
	CHECK(again->workers[0].cpu == model->workers[0].cpu);
	CHECK(again->workers[0].idle == model->workers[0].idle);
	model_free(again);
	json_decref(said_again);
	json_decref(said);
}

/* Puts a patched port into a copy of the model, as port.set does; the model itself stays. */
static void put_patched(const struct model *model, struct model_port *port)
{
	struct model *copy = model_copy(model);
	struct error err;
	int rc;

	CHECK(copy != NULL);
	rc = model_put_port(copy, port, &err);
	if (rc == 0)
		check_model(copy);
	else
		check_refusal(rc, &err);
	model_free(copy);
}

/* RFC 7396: null takes a key away, what is not mentioned stays. */
static void check_patched(const json_t *before, const json_t *patch, const json_t *after)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)patch, key, value) {
		const json_t *now = json_object_get(after, key);

		CHECK(json_is_null(value) ? now == NULL : now != NULL);
		CHECK(json_is_null(value) || json_is_object(value) || json_equal(now, value));
	}
	json_object_foreach((json_t *)(uintptr_t)before, key, value)
		CHECK(json_object_get(patch, key) != NULL ||
		      json_equal(value, json_object_get(after, key)));
}

static void patch_port(const struct model *model, struct entropy *entropy)
{
	const struct model_port *port =
		model->ports[entropy_below(entropy, model->port_count)];
	json_t *patch = entropy_chance(entropy, 8) ? json_object()
						   : grammar_make(entropy, port_schema, document);
	struct model_port *patched = NULL, *twice = NULL;
	struct error err;
	int rc;

	/* Ports are renamed by nobody. */
	json_object_del(patch, "name");
	rc = model_port_patch(port, patch, &patched, &err);
	if (rc == 0) {
		if (json_is_object(patch))
			check_patched(port->source, patch, patched->source);
		/* A patch says what the values are, not how they change. */
		CHECK(model_port_patch(patched, patch, &twice, &err) == 0);
		CHECK(model_port_compare(patched, twice) == MODEL_SAME);
		CHECK(strcmp(patched->name, port->name) == 0);
		if (json_object_size(patch) == 0)
			CHECK(model_port_compare(port, patched) == MODEL_SAME);
		model_port_release(twice);
		put_patched(model, patched);
	} else {
		check_refusal(rc, &err);
	}
	json_decref(patch);
}

/* One thing less, until there is none. */
static void take_apart(const struct model *model, struct entropy *entropy)
{
	struct model *copy = model_copy(model);

	CHECK(copy != NULL);
	while (copy->port_count > 0) {
		const char *name = copy->ports[entropy_below(entropy, copy->port_count)]->name;
		char removed[PORT_NAME_SIZE];

		text_copy(removed, sizeof(removed), name);
		CHECK(model_remove_port(copy, removed) == 0);
		CHECK(model_find_port(copy, removed) == NULL);
		check_addresses(copy);
	}
	while (copy->address_count > 0) {
		uint8_t mac[6];

		memcpy(mac, copy->addresses[entropy_below(entropy, copy->address_count)].mac, 6);
		CHECK(model_remove_address(copy, mac, 0) > 0);
	}
	check_model(copy);
	model_free(copy);
}

void text_run(const char *text, size_t size, struct entropy *entropy)
{
	json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL);
	struct model *model = NULL;
	struct error err;
	int rc;

	if (root == NULL)
		return;
	rc = model_parse(root, DEFAULT_CPU, &model, &err);
	if (rc != 0) {
		CHECK(model == NULL);
		check_refusal(rc, &err);
		json_decref(root);
		return;
	}
	/* A model does not need what it was made of. */
	json_decref(root);
	check_model(model);
	if (model->port_count > 0) {
		patch_port(model, entropy);
		check_model(model);
	}
	if (entropy_chance(entropy, 8))
		take_apart(model, entropy);
	model_free(model);
}
