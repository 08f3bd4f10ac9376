/* SPDX-License-Identifier: BSD-3-Clause */
/* Methods about the configuration as a whole: config.get, config.apply, config.save. */
#include "methods.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/background.h"
#include "base/units.h"
#include "control/saving.h"

static int config_get(struct call *call, const void *params, json_t **result, struct error *err)
{
	const struct daemon *daemon = call_context(call);
	const struct control *control = daemon->control;

	(void)params;
	(void)err;
	*result = json_pack("{s:I, s:b, s:s?, s:s?, s:o}", "revision",
			    (json_int_t)control->revision, "restart_required",
			    control_restart_required(control, control->model), "file",
			    daemon->config, "state", daemon->state, "configuration",
			    model_to_json(control->model));
	return 0;
}

/* ---- config.apply ---- */

struct apply_wish {
	json_t *configuration;
	bool dry_run;
	bool strict;
	uint32_t revision;
};

static json_t *describe_configuration(void)
{
	return json_pack("{s:s}", "$ref", "#/components/schemas/configuration");
}

static const struct param apply_params[] = {
	{ "configuration", PARAM_JSON, PARAM_AT(struct apply_wish, configuration),
	  .json_kind = JSON_OBJECT, .required = true, .schema = describe_configuration,
	  .help = "the whole wanted configuration, as in the file" },
	{ "dry_run", PARAM_BOOL, PARAM_AT(struct apply_wish, dry_run),
	  .help = "true: says what would change, and changes nothing" },
	{ "strict", PARAM_BOOL, PARAM_AT(struct apply_wish, strict),
	  .help = "true: a port that cannot be opened undoes the whole" },
	{ "revision", PARAM_UINT, PARAM_AT(struct apply_wish, revision), .min = 1,
	  .help = "refused unless this is the revision that runs" },
	{ NULL }
};

struct apply_request {
	struct request request;
	uint32_t revision; /* 0: any */
	bool dry_run, restart_required;
	struct model *model;
	json_t *changes;
};

static void release_apply(struct request *request)
{
	struct apply_request *own = (struct apply_request *)request;

	model_free(own->model);
	json_decref(own->changes);
}

/* The keys in which two objects differ. */
static json_t *differing_keys(const json_t *from, const json_t *to)
{
	json_t *keys = json_array();
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)from, key, value) {
		json_t *other = json_object_get(to, key);

		if (other == NULL || !json_equal(value, other))
			json_array_append_new(keys, json_string(key));
	}
	json_object_foreach((json_t *)(uintptr_t)to, key, value)
		if (json_object_get(from, key) == NULL)
			json_array_append_new(keys, json_string(key));
	return keys;
}

static void add_port_change(json_t *changes, const char *name, const char *action, json_t *keys)
{
	json_array_append_new(changes, json_pack("{s:s, s:s, s:o*}", "port", name, "action", action,
						 "keys", keys));
}

/* What a change from one model to the other does. */
static json_t *list_changes(const struct model *from, const struct model *to)
{
	static const char *const actions[] = { [MODEL_SET] = "set", [MODEL_REOPEN] = "reopen" };
	json_t *changes = json_array();

	for (uint32_t i = 0; i < from->port_count; i++)
		if (model_find_port(to, from->ports[i]->name) == NULL)
			add_port_change(changes, from->ports[i]->name, "remove", NULL);
	for (uint32_t i = 0; i < to->port_count; i++) {
		struct model_port *port = to->ports[i];
		const struct model_port *before = model_find_port(from, port->name);
		enum model_difference difference;

		if (before == NULL) {
			add_port_change(changes, port->name, "add", NULL);
			continue;
		}
		model_port_inherit(port, before);
		difference = model_port_compare(before, port);
		if (difference != MODEL_SAME)
			add_port_change(changes, port->name, actions[difference],
					differing_keys(before->source, port->source));
	}
	if (!model_same_metrics(from, to))
		json_array_append_new(changes, json_pack("{s:s, s:s}", "object", "metrics",
							 "action", "set"));
	if (!model_same_bridge(from, to))
		json_array_append_new(changes, json_pack("{s:s, s:s}", "object", "bridge", "action",
							 "set"));
	return changes;
}

static int make_applied(struct change *change, const struct model *now, struct model **wanted,
			struct error *err)
{
	struct apply_request *request = (struct apply_request *)change;
	const struct control *control = request->request.daemon->control;

	if (request->revision != 0 && request->revision != control->revision) {
		char given[16], accepted[40];

		snprintf(given, sizeof(given), "%u", request->revision);
		snprintf(accepted, sizeof(accepted), "%llu, after config.get",
			 (unsigned long long)control->revision);
		error_set(err, ERROR_CONFLICT, ESTALE,
			  "the configuration has changed since revision %s", given);
		error_detail(err, "config.apply", "revision", given, accepted);
		return -ESTALE;
	}
	request->changes = list_changes(now, request->model);
	request->restart_required = control_restart_required(control, request->model);
	return model_copy_to(request->dry_run ? now : request->model, wanted, err);
}

/* The ports, and the address for metrics, that the world did not let us open. */
static json_t *list_faults(const struct control *control)
{
	json_t *faults = json_array();

	for (uint16_t i = 0; i < control->port_count; i++) {
		const struct control_port *port = &control->ports[i];

		if (port->model != NULL && port->state == PORT_FAULTY)
			json_array_append_new(faults, json_pack("{s:s, s:s}", "port",
								port->model->name, "reason",
								port->fault.message));
	}
	if (control->listening.fault.message[0] != '\0')
		json_array_append_new(faults,
				      json_pack("{s:s, s:s}", "object", "metrics", "reason",
						control->listening.fault.message));
	return faults;
}

static json_t *answer_applied(struct request *request)
{
	struct apply_request *own = (struct apply_request *)request;

	return json_pack("{s:O, s:o, s:b, s:b}", "changes", own->changes, "faults",
			 list_faults(request->daemon->control), "restart_required",
			 own->restart_required, "dry_run", own->dry_run);
}

static int config_apply(struct call *call, const void *params, json_t **result, struct error *err)
{
	const struct apply_wish *wish = params;
	const struct options *options = ((struct daemon *)call_context(call))->options;
	struct apply_request *request = request_new(call, sizeof(*request), err);
	int fault;

	(void)result;
	if (request == NULL)
		return -ENOMEM;
	request->request.change.make = make_applied;
	request->request.change.strict = wish->strict;
	request->request.answer = answer_applied;
	request->request.release = release_apply;
	request->revision = wish->revision;
	request->dry_run = wish->dry_run;
	fault = model_parse(wish->configuration, options->last_cpu, &request->model, err);
	if (fault == 0)
		fault = options_check_cpus(options, request->model, err);
	if (fault == 0)
		return request_submit(&request->request);
	model_free(request->model);
	free(request);
	return fault;
}

/* ---- config.save ---- */

struct save_wish {
	char file[PATH_MAX];
};

static int check_absolute(const void *value, struct error *err)
{
	if (*(const char *)value == '/')
		return 0;
	error_detail(err, NULL, NULL, NULL, "an absolute path");
	return -EINVAL;
}

static const struct param save_params[] = {
	{ "file", PARAM_STRING, PARAM_AT(struct save_wish, file), .check = check_absolute,
	  .help = "an absolute path; by default the file that --config named" },
	{ NULL }
};

/* A file on its way to the disk, by the background thread. */
struct save {
	struct daemon *daemon;
	struct call *call;
	char file[PATH_MAX];
	char *text;
	json_t *identity; /* of the configuration file, if that is what was written */
	int result;
	struct error fault;
};

static void save_done(void *argument)
{
	struct save *save = argument;
	struct control *control = save->daemon->control;
	json_t *result = NULL;

	if (save->result == 0) {
		result = json_pack("{s:s}", "file", save->file);
		/* What was just written need not be applied again at the next start. */
		if (save->identity != NULL)
			saving_configured(control, json_incref(save->identity));
	}
	call_done(save->call, result, save->result == 0 ? NULL : &save->fault);
	json_decref(save->identity);
	free(save->text);
	free(save);
}

/* Do both paths lead to the same file? */
static bool is_same_file(const char *path, const char *other)
{
	struct stat one, two;

	return stat(path, &one) == 0 && stat(other, &two) == 0 && one.st_dev == two.st_dev &&
	       one.st_ino == two.st_ino;
}

static void save_run(void *argument)
{
	struct save *save = argument;

	save->result = state_replace(save->file, save->text, &save->fault);
	if (save->result != 0) {
		/* It is not the state file that was meant. */
		error_set(&save->fault, ERROR_SYSTEM, save->fault.errnum, "cannot write %s: %s",
			  save->file, strerror(save->fault.errnum));
		error_detail(&save->fault, "config.save", "file", save->file,
			     "a file in a directory that is there and may be written to");
	} else if (save->daemon->config != NULL && is_same_file(save->file, save->daemon->config)) {
		save->identity = saving_identify(save->daemon->config, &save->fault);
	}
	loop_post(save->daemon->loop, save_done, save);
}

static int config_save(struct call *call, const void *params, json_t **result, struct error *err)
{
	struct daemon *daemon = call_context(call);
	const struct save_wish *wish = params;
	const char *file = wish->file[0] != '\0' ? wish->file : daemon->config;
	struct save *save;
	json_t *configuration;

	(void)result;
	if (file == NULL) {
		error_set(err, ERROR_INVALID, EINVAL,
			  "config.save: the daemon was started without --config, so \"file\" "
			  "must say where");
		error_detail(err, "config.save", "file", NULL, "an absolute path");
		return -EINVAL;
	}
	if (strlen(file) >= PATH_MAX)
		return error_set(err, ERROR_INVALID, ENAMETOOLONG, "config.save: %s",
				 strerror(ENAMETOOLONG));
	save = calloc(1, sizeof(*save));
	if (save == NULL)
		return error_set(err, ERROR_INTERNAL, ENOMEM, "out of memory");
	configuration = model_to_json(daemon->control->model);
	save->daemon = daemon;
	save->call = call;
	snprintf(save->file, sizeof(save->file), "%s", file);
	save->text = json_dumps(configuration, JSON_INDENT(2));
	json_decref(configuration);
	if (save->text == NULL ||
	    background_run(daemon->control->background, save_run, save) != 0) {
		free(save->text);
		free(save);
		return error_set(err, ERROR_INTERNAL, ENOMEM, "out of memory");
	}
	return METHOD_LATER;
}

const struct method methods_config[] = {
	{ "config.get", "What was asked for, as config.apply takes it", .handle = config_get },
	{ "config.apply",
	  "Makes the wanted configuration run, and changes only what differs: all of it or nothing",
	  apply_params, sizeof(struct apply_wish), config_apply, .changes = true },
	{ "config.save", "Writes the configuration that runs to a file", save_params,
	  sizeof(struct save_wish), config_save, .changes = true },
	{ NULL }
};
