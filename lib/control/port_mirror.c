/* SPDX-License-Identifier: BSD-3-Clause */
/* The key `mirror` of a port; control/port_keys.h is the contract. */
#include "control/port_keys.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/units.h"
#include "control/model.h"

static const char *const direction_names[] = { "in", "out", "both", NULL };

static int check_to(const void *value, struct error *err)
{
	if (name_check(value) == 0)
		return 0;
	error_detail(err, NULL, NULL, NULL, "the name of another port");
	return -EINVAL;
}

const struct param port_mirror_params[] = {
	{ "to", PARAM_STRING, PARAM_AT(struct port_keys, settings.mirror.to), .required = true,
	  .check = check_to, .help = "the port that gets the copies; it may be missing" },
	{ "direction", PARAM_CHOICE, PARAM_AT(struct port_keys, settings.mirror.direction),
	  .choices = direction_names, .initial = "\"both\"",
	  .help = "in: what comes from the port, even what is dropped then; out: what is meant for "
		  "it" },
	{ NULL }
};

static bool is_mirrored(const struct model_port *port)
{
	return port->settings.mirror.to[0] != '\0';
}

static int refuse(const struct model_port *port, const struct model_port *chained,
		  struct error *err)
{
	char object[PORT_NAME_SIZE + 8];

	snprintf(object, sizeof(object), "port %s", port->name);
	if (chained == port)
		error_set(err, ERROR_INVALID, EINVAL, "%s cannot be mirrored to itself", object);
	else
		error_set(err, ERROR_CONFLICT, ELOOP,
			  "%s: copies of copies: port %s is mirrored, and gets another one's",
			  object, chained->name);
	error_detail(err, object, "mirror.to", port->settings.mirror.to,
		     "a port that is not mirrored itself");
	return -err->errnum;
}

int port_mirror_check(const struct model *model, const struct model_port *port, struct error *err)
{
	if (is_mirrored(port) && strcmp(port->settings.mirror.to, port->name) == 0)
		return refuse(port, port, err);
	for (uint32_t i = 0; i < model->port_count; i++) {
		const struct model_port *other = model->ports[i];

		if (strcmp(other->name, port->name) == 0)
			continue;
		if (is_mirrored(port) && is_mirrored(other) &&
		    strcmp(port->settings.mirror.to, other->name) == 0)
			return refuse(port, other, err);
		if (is_mirrored(port) && is_mirrored(other) &&
		    strcmp(other->settings.mirror.to, port->name) == 0) {
			error_set(err, ERROR_CONFLICT, ELOOP,
				  "port %s: copies of copies: it gets those of port %s", port->name,
				  other->name);
			error_detail(err, "port", "mirror", port->settings.mirror.to,
				     "none, for a port that gets another one's copies");
			return -ELOOP;
		}
	}
	return 0;
}
