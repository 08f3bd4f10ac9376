/* SPDX-License-Identifier: BSD-3-Clause */
/* Requests that change what runs, from the call to its answer; methods.h is the contract. */
#include "methods.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void tell_changed(const struct request *request)
{
	const struct call_peer *peer = call_peer(request->call);
	const char *method = call_method(request->call), *name = call_name(request->call);
	const bool of_a_port = strncmp(method, "port.", strlen("port.")) == 0 && name[0] != '\0';

	observer_changed(request->daemon->control, method, of_a_port ? name : NULL, peer->pid,
			 peer->uid);
}

static void request_done(struct change *change, const struct error *fault)
{
	struct request *request = (struct request *)change;
	json_t *result = NULL;

	if (fault == NULL && change->changed)
		tell_changed(request);
	if (fault == NULL) {
		result = request->answer != NULL ? request->answer(request) : json_object();
		json_object_set_new(result, "revision",
				    json_integer((json_int_t)request->change.revision));
	}
	call_done(request->call, result, fault);
	if (request->release != NULL)
		request->release(request);
	free(request);
}

void *request_new(struct call *call, size_t size, struct error *err)
{
	struct request *request = calloc(1, size);

	if (request == NULL) {
		error_set(err, ERROR_INTERNAL, ENOMEM, "out of memory");
		return NULL;
	}
	request->call = call;
	request->daemon = call_context(call);
	request->change.done = request_done;
	return request;
}

int request_submit(struct request *request)
{
	control_submit(request->daemon->control, &request->change);
	return METHOD_LATER;
}

int no_such_port(const char *name, struct error *err)
{
	error_set(err, ERROR_NOT_FOUND, ENOENT, "there is no port %s", name);
	error_detail(err, "port", "name", name, "a name that port.list shows");
	return -ENOENT;
}
