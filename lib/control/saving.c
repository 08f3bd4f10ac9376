/* SPDX-License-Identifier: BSD-3-Clause */
/* The content of the state file; control/saving.h is the contract. */
#include "control/saving.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"

/*
 * The state file's object: {"ringway": FORMAT, "revision": N, "configuration": {...},
 * "configured": {...}, "remembered": {"PORT": ...}}.
 */
#define FORMAT 1

json_t *saving_identify(const char *config, struct error *err)
{
	uint64_t hash = UINT64_C(14695981039346656037); /* FNV-1a, 64 bits */
	FILE *file = fopen(config, "re");
	json_t *identity;
	char text[20];
	int byte;

	if (file == NULL) {
		error_set(err, ERROR_SYSTEM, errno, "%s: %s", config, strerror(errno));
		return NULL;
	}
	while ((byte = getc(file)) != EOF)
		hash = (hash ^ (unsigned char)byte) * UINT64_C(1099511628211);
	if (ferror(file)) {
		error_set(err, ERROR_SYSTEM, errno, "%s: %s", config, strerror(errno));
		fclose(file);
		return NULL;
	}
	fclose(file);
	snprintf(text, sizeof(text), "%016" PRIx64, hash);
	identity = json_pack("{s:s, s:s}", "file", config, "hash", text);
	if (identity == NULL)
		error_set(err, ERROR_INVALID, EINVAL, "the path of the configuration is not UTF-8");
	return identity;
}

/* Takes what the state file says. Returns -errno with err filled where it is no state of ours. */
static int take_state(const char *path, const json_t *content, uint32_t default_cpu,
		      struct saving_start *start, struct error *err)
{
	const json_t *configuration = json_object_get(content, "configuration");
	struct error fault;
	int result;

	if (json_integer_value(json_object_get(content, "ringway")) != FORMAT ||
	    configuration == NULL)
		return error_set(err, ERROR_INVALID, EINVAL,
				 "%s is no state file of this version", path);
	result = model_parse(configuration, default_cpu, &start->model, &fault);
	if (result != 0) {
		*err = fault;
		error_set(err, fault.kind, fault.errnum, "%s: %s", path, fault.message);
		error_detail(err, fault.object, fault.field, fault.value, fault.accepted);
		return result;
	}
	start->from_state = true;
	return 0;
}

int saving_load(const char *state, const char *config, uint32_t default_cpu,
		struct saving_start *start, struct error *err)
{
	json_t *content = NULL;
	int result = 0;

	memset(start, 0, sizeof(*start));
	if (state != NULL)
		result = state_load(state, &content, err);
	if (result == 0 && config != NULL) {
		start->configured = saving_identify(config, err);
		if (start->configured == NULL)
			result = -(err->errnum != 0 ? err->errnum : EIO);
	}
	if (result != 0)
		goto done;
	start->revision =
		(uint64_t)json_integer_value(json_object_get(content, "revision"));
	start->remembered = json_incref(json_object_get(content, "remembered"));
	if (!json_is_object(start->remembered)) {
		json_decref(start->remembered);
		start->remembered = json_object();
	}
	if (content != NULL && (config == NULL ||
				json_equal(start->configured,
					   json_object_get(content, "configured")))) {
		if (config == NULL)
			start->configured =
				json_incref(json_object_get(content, "configured"));
		result = take_state(state, content, default_cpu, start, err);
		goto done;
	}
	if (content != NULL)
		log_info("control", "%s has changed since it was applied: it counts, not %s",
			 config, state);
	result = model_load(config, default_cpu, &start->model, err);

done:
	json_decref(content);
	if (result != 0)
		saving_start_release(start);
	return result;
}

void saving_start_release(struct saving_start *start)
{
	model_free(start->model);
	json_decref(start->remembered);
	json_decref(start->configured);
	memset(start, 0, sizeof(*start));
}

void saving_begin(struct control *control, struct saving_start *start, struct state *state)
{
	control->state = state;
	control->revision = start->revision + !start->from_state;
	json_decref(control->remembered);
	control->remembered = start->remembered;
	control->configured = start->configured;
	start->remembered = NULL;
	start->configured = NULL;
}

static void complain(void *argument, const struct error *fault)
{
	(void)argument;
	if (fault != NULL)
		LOG_LIMITED(LOG_ERROR, "control", "the state is not saved: %s",
			    fault->message);
}

int saving_write(struct control *control, void (*done)(void *argument, const struct error *fault),
		 void *argument)
{
	json_t *content;

	if (control->state == NULL) {
		if (done != NULL)
			done(argument, NULL);
		return 0;
	}
	content = json_pack("{s:i, s:I, s:o, s:o}", "ringway", FORMAT, "revision",
			    (json_int_t)control->revision, "configuration",
			    model_to_json(control->model), "remembered",
			    json_deep_copy(control->remembered));
	if (content == NULL)
		return -ENOMEM;
	if (control->configured != NULL)
		json_object_set(content, "configured", control->configured);
	return state_write(control->state, content, done != NULL ? done : complain, argument);
}

/* What is taken back is not saved; when that is done all is saved anew. */
static void save_soon(struct control *control)
{
	/* When the switch stops its ports are gone from the model, and what was saved stays. */
	if (!control->taking_back && !control->stopping)
		saving_write(control, NULL, NULL);
}

void saving_configured(struct control *control, json_t *identity)
{
	json_decref(control->configured);
	control->configured = identity;
	save_soon(control);
}

const json_t *saving_remembered(const struct control *control, const char *name)
{
	return json_object_get(control->remembered, name);
}

void saving_remember(struct control *control, const char *name, json_t *value)
{
	const json_t *old = json_object_get(control->remembered, name);

	if (control->stopping || (old == NULL && value == NULL) ||
	    (old != NULL && value != NULL && json_equal(old, value))) {
		json_decref(value);
		return;
	}
	if (value != NULL)
		json_object_set_new(control->remembered, name, value);
	else
		json_object_del(control->remembered, name);
	save_soon(control);
}

void saving_forget_port(struct control *control, const char *name)
{
	/* The removal that this belongs to is saved anyway. */
	if (!control->stopping)
		json_object_del(control->remembered, name);
}
