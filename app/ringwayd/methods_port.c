/* SPDX-License-Identifier: BSD-3-Clause */
/* Methods about ports: port.list, port.get, port.add, port.set, port.remove. */
#include "methods.h"

#include <errno.h>
#include <string.h>

#include "base/units.h"
#include "rpc/describe.h"
#include "stats.h"

struct port_name {
	char name[PORT_NAME_SIZE];
};

static const struct param port_name_params[] = {
	{ "name", PARAM_STRING, PARAM_AT(struct port_name, name), .required = true,
	  .help = "the port's name" },
	{ NULL }
};

/* ---- looking ---- */

static int list_ports(struct call *call, const void *params, json_t **result, struct error *err)
{
	struct daemon *daemon = call_context(call);

	(void)params;
	(void)err;
	*result = json_array();
	for (uint16_t i = 0; i < daemon->control->port_count; i++)
		if (daemon->control->ports[i].model != NULL)
			json_array_append_new(*result,
					      stats_port_summary(&daemon->control->ports[i]));
	return 0;
}

/* A limit as it is set, and what is in its bucket; null without one. */
static json_t *limit_to_json(const struct limit_settings *settings, const struct limiter *limiter)
{
	uint64_t now = limiter_now();

	if (settings->rate == 0)
		return json_null();
	return json_pack("{s:I, s:I, s:I, s:I, s:I}", "rate", (json_int_t)settings->rate, "burst",
			 (json_int_t)limiter_burst(limiter), "one_time_burst",
			 (json_int_t)settings->one_time_burst, "tokens",
			 (json_int_t)limiter_tokens(limiter, now), "one_time_tokens",
			 (json_int_t)limiter_one_time(limiter));
}

static json_t *direction_to_json(const struct port_limits *settings, const struct limits *limits,
				 const char *waits)
{
	return json_pack("{s:o, s:o, s:s}", "bandwidth",
			 limit_to_json(&settings->bandwidth, &limits->bandwidth), "packets",
			 limit_to_json(&settings->packets, &limits->packets), "excess",
			 settings->excess == EXCESS_WAIT ? waits : "drop");
}

static json_t *limits_to_json(const struct port *port)
{
	const struct port_queue_limits *queue = &port->settings.queue;
	json_t *egress = direction_to_json(&port->settings.egress, &port->egress, "queue");

	json_object_set_new(egress, "queue",
			    json_pack("{s:I, s:I}", "bytes", (json_int_t)queue->bytes, "time",
				      (json_int_t)queue->time));
	return json_pack("{s:o, s:o}", "ingress",
			 direction_to_json(&port->settings.ingress, &port->ingress, "pause"),
			 "egress", egress);
}

/* How the port takes part in the bridge. */
static void add_bridging(const struct control_port *port, json_t *object)
{
	const struct port_settings *settings = &port->model->settings;
	const struct fdb_port *addresses =
		&port->control->fdb->ports[port - port->control->ports];

	json_object_set_new(object, "isolated", json_boolean(settings->isolated));
	json_object_set_new(object, "learning", json_boolean(settings->learning));
	json_object_set_new(object, "link_local", json_boolean(settings->link_local));
	json_object_set_new(object, "flood",
			    json_pack("{s:b, s:b, s:b}", "unknown", settings->flood.unknown,
				      "broadcast", settings->flood.broadcast, "multicast",
				      settings->flood.multicast));
	json_object_set_new(object, "addresses",
			    json_pack("{s:i, s:I}", "learned", (int)addresses->held, "refused",
				      (json_int_t)addresses->refused));
}

/* Which worker polls each queue; null while it moves from one to another. */
static json_t *polled_by_to_json(const struct port *port)
{
	json_t *list = json_array();

	for (uint16_t q = 0; q < port->queue_count; q++)
		json_array_append_new(list, port->queues[q].worker == PORT_NO_WORKER
						    ? json_null()
						    : json_integer(port->queues[q].worker));
	return list;
}

static json_t *throttled_to_json(const struct throttled *throttled)
{
	/* In thousandths: the counters are no better than that. */
	const double share = (double)(int)(throttled->share * 1000 + 0.5) / 1000;

	return json_pack("{s:f, s:{s:I, s:I, s:I}}", "throttled", share, "dropped", "limit",
			 (json_int_t)throttled->limit, "queue_full",
			 (json_int_t)throttled->queue_full, "queue_timeout",
			 (json_int_t)throttled->queue_timeout);
}

/* Why a port is slow; null where it has no limits. */
static json_t *last_second_to_json(const struct port *port)
{
	if (!port_has_limits(port))
		return json_null();
	return json_pack("{s:o, s:o}", "ingress", throttled_to_json(&port->throttling.in),
			 "egress", throttled_to_json(&port->throttling.out));
}

/* Where copies of its frames go, and why they do not. */
static void add_mirror(struct control *control, const struct control_port *port, json_t *object)
{
	static const char *const directions[] = { "in", "out", "both" };
	const struct port_mirror *mirror = &port->model->settings.mirror;
	const char *reason = NULL;
	struct control_port *to;

	if (mirror->to[0] == '\0')
		return;
	to = control_find_port(control, mirror->to);
	if (to == NULL)
		reason = "there is no such port";
	else
		control_port_is_up(to, &reason);
	json_object_set_new(object, "mirror",
			    json_pack("{s:s, s:s, s:s?}", "to", mirror->to, "direction",
				      directions[mirror->direction], "reason", reason));
}

static int get_port(struct call *call, const void *params, json_t **result, struct error *err)
{
	struct daemon *daemon = call_context(call);
	const struct port_name *wish = params;
	struct control_port *port = control_find_port(daemon->control, wish->name);
	const struct port_settings *settings;

	if (port == NULL)
		return no_such_port(wish->name, err);
	settings = &port->model->settings;
	*result = stats_port_summary(port);
	json_object_update_missing(*result, port->model->source);
	json_object_set_new(*result, "queues", json_integer(port->model->queues));
	json_object_set_new(*result, "enabled", json_boolean(settings->enabled));
	json_object_set_new(*result, "guard", json_string(guard_name(settings->guard)));
	json_object_set_new(*result, "mtu", json_integer(settings->mtu));
	json_object_set_new(*result, "retry", json_integer(settings->retry));
	add_bridging(port, *result);
	add_mirror(daemon->control, port, *result);
	if (port->state != PORT_OPEN)
		return 0;
	json_object_set_new(*result, "limits", limits_to_json(port->port));
	json_object_set_new(*result, "polled_by", polled_by_to_json(port->port));
	json_object_set_new(*result, "last_second", last_second_to_json(port->port));
	port->port->ops->status(port->port, *result);
	return 0;
}

/* ---- changing ---- */

/* port.add and port.set: what is asked for, as a port or as a patch to one. */
struct port_request {
	struct request request;
	bool replace;
	struct model_port *port; /* port.add */
	char name[PORT_NAME_SIZE];
	json_t *patch;           /* port.set */
	struct descriptors *descriptors;
};

static void release_port_request(struct request *request)
{
	struct port_request *own = (struct port_request *)request;

	model_port_release(own->port);
	json_decref(own->patch);
	descriptors_release(own->descriptors);
}

/* Takes a key that is the method's own, and of this type, out of the object of a port. */
static int take_flag(json_t *object, const char *key, const char *method, bool *flag,
		     struct error *err)
{
	json_t *value = json_object_get(object, key);

	*flag = json_is_true(value);
	if (value != NULL && !json_is_boolean(value) && !json_is_null(value)) {
		char text[sizeof(err->value)];

		param_describe(value, text, sizeof(text));
		error_set(err, ERROR_INVALID, EINVAL, "%s: \"%s\" must be true or false", method,
			  key);
		error_detail(err, method, key, text, "true, false");
		return -EINVAL;
	}
	json_object_del(object, key);
	return 0;
}

/* The descriptors that the object's key `fds` asks for, which must have come with the request. */
static int take_descriptors(struct call *call, const json_t *object,
			    struct descriptors **descriptors, struct error *err)
{
	const json_t *value = json_object_get(object, "fds");
	json_int_t count = json_integer_value(value);
	int fds[PORT_QUEUES_MAX];
	unsigned int have;

	/* Any other value is refused by its table. */
	if (count < 1 || count > PORT_QUEUES_MAX)
		return 0;
	if (call_take_descriptors(call, fds, (unsigned int)count, &have) != 0) {
		error_set(err, ERROR_INVALID, EBADF,
			  "\"fds\": %u descriptors came with the request's bytes, %d are asked for",
			  have, (int)count);
		error_detail(err, "port", "fds", NULL, "as many as were sent with SCM_RIGHTS");
		return -EBADF;
	}
	*descriptors = descriptors_new(fds, (unsigned int)count);
	return *descriptors != NULL ? 0
				    : error_set(err, ERROR_INTERNAL, ENOMEM, "out of memory");
}

static json_t *answer_reopened(struct request *request)
{
	return json_pack("{s:b}", "reopened", request->change.reopened);
}

static int make_with_port(struct change *change, const struct model *now, struct model **wanted,
			  struct error *err)
{
	struct port_request *request = (struct port_request *)change;
	int result;

	if (!request->replace && model_find_port(now, request->port->name) != NULL) {
		error_set(err, ERROR_EXISTS, EEXIST, "there is a port %s already",
			  request->port->name);
		error_detail(err, "port", "name", request->port->name,
			     "a new name, or \"replace\": true");
		return -EEXIST;
	}
	result = model_copy_to(now, wanted, err);
	if (result == 0)
		result = model_put_port(*wanted, model_port_use(request->port), err);
	return result;
}

static int add_port(struct call *call, const void *params, json_t **result, struct error *err)
{
	struct port_request *request = request_new(call, sizeof(*request), err);
	json_t *source;
	int fault;

	(void)result;
	if (request == NULL)
		return -ENOMEM;
	source = json_copy((json_t *)(uintptr_t)params);
	request->request.change.make = make_with_port;
	request->request.change.strict = true;
	request->request.answer = answer_reopened;
	request->request.release = release_port_request;
	fault = take_flag(source, "replace", "port.add", &request->replace, err);
	if (fault == 0)
		fault = take_descriptors(call, source, &request->descriptors, err);
	if (fault == 0)
		fault = model_port_parse(source, MODEL_PORT_ALONE, &request->port, err);
	json_decref(source);
	if (fault == 0) {
		request->port->descriptors = descriptors_use(request->descriptors);
		return request_submit(&request->request);
	}
	release_port_request(&request->request);
	free(request);
	return fault;
}

static int make_patched(struct change *change, const struct model *now, struct model **wanted,
			struct error *err)
{
	struct port_request *request = (struct port_request *)change;
	const struct model_port *port = model_find_port(now, request->name);
	struct model_port *patched;
	int result;

	if (port == NULL)
		return no_such_port(request->name, err);
	result = model_copy_to(now, wanted, err);
	if (result == 0)
		result = model_port_patch(port, request->patch, &patched, err);
	if (result == 0) {
		patched->descriptors = descriptors_use(request->descriptors);
		result = model_put_port(*wanted, patched, err);
	}
	return result;
}

/* For port.set, whose other parameters are a patch and so not looked at yet. */
static int refuse_name(const json_t *given, struct error *err)
{
	char value[sizeof(err->value)] = "";

	if (given != NULL)
		param_describe(given, value, sizeof(value));
	error_set(err, ERROR_INVALID, EINVAL, "port.set: \"name\" must be the name of a port");
	error_detail(err, "port.set", "name", value, "a name that port.list shows");
	return -EINVAL;
}

static int set_port(struct call *call, const void *params, json_t **result, struct error *err)
{
	struct port_request *request = request_new(call, sizeof(*request), err);
	const char *name;
	int fault;

	(void)result;
	if (request == NULL)
		return -ENOMEM;
	request->request.change.make = make_patched;
	request->request.change.strict = true;
	request->request.answer = answer_reopened;
	request->request.release = release_port_request;
	request->patch = json_copy((json_t *)(uintptr_t)params);
	fault = take_flag(request->patch, "renegotiate", "port.set",
			  &request->request.change.renegotiate, err);
	name = json_string_value(json_object_get(request->patch, "name"));
	if (fault == 0 && (name == NULL || name_check(name) != 0))
		fault = refuse_name(json_object_get(request->patch, "name"), err);
	if (fault == 0)
		fault = take_descriptors(call, request->patch, &request->descriptors, err);
	if (fault == 0) {
		text_copy(request->name, sizeof(request->name), name);
		return request_submit(&request->request);
	}
	release_port_request(&request->request);
	free(request);
	return fault;
}

static int make_without_port(struct change *change, const struct model *now, struct model **wanted,
			     struct error *err)
{
	struct port_request *request = (struct port_request *)change;
	int result = model_copy_to(now, wanted, err);

	if (result == 0 && model_remove_port(*wanted, request->name) != 0)
		result = no_such_port(request->name, err);
	return result;
}

static int remove_port(struct call *call, const void *params, json_t **result, struct error *err)
{
	const struct port_name *wish = params;
	struct port_request *request = request_new(call, sizeof(*request), err);

	(void)result;
	if (request == NULL)
		return -ENOMEM;
	request->request.change.make = make_without_port;
	memcpy(request->name, wish->name, sizeof(request->name));
	return request_submit(&request->request);
}

/* ---- the table ---- */

static void describe_flag(json_t *schema, const char *key, const char *help)
{
	json_object_set_new(json_object_get(schema, "properties"), key,
			    json_pack("{s:s, s:b, s:s}", "type", "boolean", "default", false,
				      "description", help));
}

static json_t *describe_add(void)
{
	json_t *schema = model_port_schema();

	describe_flag(schema, "replace",
		      "takes the place of a port of this name, whatever it was, if there is one");
	return schema;
}

static json_t *describe_set(void)
{
	json_t *schema = model_port_schema();

	describe_flag(schema, "renegotiate",
		      "what was offered to the guest may shrink when its VMM connects next, even "
		      "if it is the same process");
	json_object_set_new(schema, "required", json_pack("[s]", "name"));
	json_object_del(schema, "allOf");
	return schema;
}

const struct method methods_port[] = {
	{ "port.list", "All ports with their state", .handle = list_ports },
	{ "port.get", "One port's configuration, state and connection", port_name_params,
	  sizeof(struct port_name), get_port },
	{ "port.add", "Adds a port and opens it; what cannot be opened is not added",
	  .handle = add_port, .changes = true, .whole = true, .describe = describe_add },
	{ "port.set",
	  "Changes what is given of a port, a JSON merge patch: null stands for the default; what "
	  "cannot change while it runs closes the port and opens it anew",
	  .handle = set_port, .changes = true, .whole = true, .describe = describe_set },
	{ "port.remove", "Takes a port away; answered when it is closed", port_name_params,
	  sizeof(struct port_name), remove_port, .changes = true },
	{ NULL }
};
