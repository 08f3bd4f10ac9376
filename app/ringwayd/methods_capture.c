/* SPDX-License-Identifier: BSD-3-Clause */
/* Methods about frames themselves: capture.* and trace.start. */
#include "methods.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "control/captures.h"
#include "telemetry/trace.h"

#define BYTES_INITIAL (UINT64_C(1) << 30) /* of a file, if nothing is said */
#define BYTES_MIN 65536
#define SECONDS_MAX 604800
#define TRACE_SECONDS_MAX 600
#define TRACE_SNAP 128

static const char *const direction_names[] = { "both", "in", "out", NULL };

static int check_file(const void *value, struct error *err)
{
	if (((const char *)value)[0] == '/')
		return 0;
	error_detail(err, NULL, NULL, NULL, "an absolute path");
	return -EINVAL;
}

static const struct param start_params[] = {
	{ "port", PARAM_STRING, PARAM_AT(struct capture_wish, port), .required = true,
	  .help = "the port's name" },
	{ "filter", PARAM_STRING, PARAM_AT(struct capture_wish, filter),
	  .help = "which frames, as pcap-filter(7) describes it; by default all" },
	{ "direction", PARAM_CHOICE, PARAM_AT(struct capture_wish, direction),
	  .choices = direction_names, .initial = "\"both\"",
	  .help = "in: from the port into the switch; out: to the port" },
	{ "file", PARAM_STRING, PARAM_AT(struct capture_wish, file), .check = check_file,
	  .help = "where to write, as pcapng: the absolute path of a file that is not there yet" },
	{ "fd", PARAM_BOOL, PARAM_AT(struct capture_wish, to_descriptor), .initial = "false",
	  .help = "writes to the descriptor that came with the request (SCM_RIGHTS) instead; the "
		  "capture ends with the process that sent it" },
	{ "snap", PARAM_UINT, PARAM_AT(struct capture_wish, snap), .min = 1,
	  .max = CAPTURE_SNAP_MAX, .initial = "262144",
	  .help = "bytes of each frame that are kept, at most" },
	{ "seconds", PARAM_UINT, PARAM_AT(struct capture_wish, seconds), .min = 1,
	  .max = SECONDS_MAX, .initial = "3600", .help = "after which it ends" },
	{ "packets", PARAM_UINT, PARAM_AT(struct capture_wish, packets), .min = 1,
	  .help = "frames after which it ends" },
	{ "bytes", PARAM_SIZE, PARAM_AT(struct capture_wish, bytes), .min = BYTES_MIN,
	  .help = "size at which it ends; by default 1 GiB of a file, any of a descriptor" },
	{ "buffer", PARAM_SIZE, PARAM_AT(struct capture_wish, buffer), .min = CAPTURE_RING_MIN,
	  .max = CAPTURE_RING_MAX, .initial = "\"8MiB\"",
	  .help = "memory for each worker's frames that are not written yet" },
	{ NULL }
};

/* ---- a capture as JSON ---- */

static json_t *counts_to_json(const struct control_capture *capture)
{
	const struct recorder_counts counts = captures_count(capture);

	return json_pack("{s:I, s:I, s:I, s:I, s:I}", "seen", (json_int_t)counts.seen, "matched",
			 (json_int_t)counts.matched, "written", (json_int_t)counts.written,
			 "missed", (json_int_t)counts.missed, "bytes", (json_int_t)counts.bytes);
}

static json_t *capture_to_json(const struct control_capture *capture)
{
	static const char *const states[] = { "starting", "running", "ending", "ended" };
	const struct capture_wish *wish = &capture->wish;
	json_t *object = json_pack("{s:I, s:s, s:s, s:s}", "capture", (json_int_t)capture->id,
				   "port", wish->port, "state", states[capture->state],
				   "direction", direction_names[wish->direction]);

	if (capture->state == CAPTURE_ENDED)
		json_object_set_new(object, "reason", json_string(capture->reason));
	if (wish->filter[0] != '\0')
		json_object_set_new(object, "filter", json_string(wish->filter));
	if (wish->file[0] != '\0')
		json_object_set_new(object, "file", json_string(wish->file));
	if (wish->traces)
		json_object_set_new(object, "trace", json_true());
	json_object_update_new(object, counts_to_json(capture));
	return object;
}

/* ---- capture.start ---- */

static int refuse_output(const char *what, struct error *err)
{
	error_set(err, ERROR_INVALID, EINVAL, "capture.start: %s", what);
	error_detail(err, "capture", "file", NULL,
		     "either file=/PATH, or \"fd\": true and a descriptor beside the request");
	return -EINVAL;
}

/* Takes the descriptor that came with the request. Returns it, or -errno. */
static int take_output(struct call *call, struct error *err)
{
	unsigned int have;
	int fd, flags;

	if (call_take_descriptors(call, &fd, 1, &have) != 0)
		return refuse_output("no descriptor came with the request's bytes", err);
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || (flags & O_ACCMODE) == O_RDONLY) {
		close(fd);
		return refuse_output("the descriptor cannot be written to", err);
	}
	/* Nobody could read it there, and it may keep its writer waiting for ever. */
	if (isatty(fd)) {
		close(fd);
		return refuse_output("the descriptor is a terminal", err);
	}
	return fd;
}

static void answer_start(void *argument, struct control_capture *capture,
			 const struct error *fault)
{
	json_t *result = capture != NULL ? json_pack("{s:I}", "capture", (json_int_t)capture->id)
					 : NULL;

	call_done(argument, result, fault);
}

static int start_capture(struct call *call, const void *params, json_t **result,
			 struct error *err)
{
	struct daemon *daemon = call_context(call);
	struct capture_wish wish = *(const struct capture_wish *)params;
	int fd = -1, owner = -1, rc;

	(void)result;
	if (control_find_port(daemon->control, wish.port) == NULL)
		return no_such_port(wish.port, err);
	if (wish.to_descriptor == (wish.file[0] != '\0'))
		return refuse_output("there must be one output", err);
	wish.buffer &= ~UINT64_C(7);
	if (wish.bytes == 0 && !wish.to_descriptor)
		wish.bytes = BYTES_INITIAL;
	if (wish.to_descriptor) {
		fd = take_output(call, err);
		if (fd < 0)
			return fd;
		/* -1 where its process cannot be seen from here: then the limits end it. */
		owner = (int)syscall(SYS_pidfd_open, call_peer(call)->pid, 0);
	}
	rc = captures_start(daemon->control, &wish, fd, owner, answer_start, call, err);
	return rc == 0 ? METHOD_LATER : rc;
}

/* ---- capture.stop, capture.wait, capture.list ---- */

struct capture_number {
	uint64_t capture;
};

static const struct param number_params[] = {
	{ "capture", PARAM_UINT, PARAM_AT(struct capture_number, capture), .required = true,
	  .min = 1, .help = "its number, which capture.start gave" },
	{ NULL }
};

struct waiting_call {
	struct capture_waiter waiter;
	struct call *call;
};

static void answer_waiting(struct capture_waiter *waiter, struct control_capture *capture)
{
	struct waiting_call *waiting = (struct waiting_call *)waiter;

	call_done(waiting->call, capture_to_json(capture), NULL);
	free(waiting);
}

static int wait_for_end(struct call *call, const void *params, bool stop, struct error *err)
{
	struct daemon *daemon = call_context(call);
	const struct capture_number *wish = params;
	struct control_capture *capture = captures_find(daemon->control, wish->capture);
	struct waiting_call *waiting;

	if (capture == NULL) {
		error_set(err, ERROR_NOT_FOUND, ENOENT, "there is no capture %llu",
			  (unsigned long long)wish->capture);
		error_detail(err, "capture", "capture", NULL, "a number that capture.list shows");
		return -ENOENT;
	}
	waiting = calloc(1, sizeof(*waiting));
	if (waiting == NULL)
		return error_set(err, ERROR_INTERNAL, ENOMEM, "out of memory");
	waiting->waiter.ended = answer_waiting;
	waiting->call = call;
	if (stop)
		captures_stop(capture, "stopped");
	captures_wait(capture, &waiting->waiter);
	return METHOD_LATER;
}

static int stop_capture(struct call *call, const void *params, json_t **result, struct error *err)
{
	(void)result;
	return wait_for_end(call, params, true, err);
}

static int wait_capture(struct call *call, const void *params, json_t **result, struct error *err)
{
	(void)result;
	return wait_for_end(call, params, false, err);
}

static int list_captures(struct call *call, const void *params, json_t **result,
			 struct error *err)
{
	struct daemon *daemon = call_context(call);
	struct control_capture *capture;

	(void)params;
	(void)err;
	*result = json_array();
	STAILQ_FOREACH(capture, &daemon->control->captures, next)
		json_array_append_new(*result, capture_to_json(capture));
	return 0;
}

/* ---- trace.start ---- */

static const struct param trace_params[] = {
	{ "port", PARAM_STRING, PARAM_AT(struct capture_wish, port), .required = true,
	  .help = "the port's name" },
	{ "filter", PARAM_STRING, PARAM_AT(struct capture_wish, filter),
	  .help = "which frames, as pcap-filter(7) describes it; by default all" },
	{ "count", PARAM_UINT, PARAM_AT(struct capture_wish, packets), .min = 1,
	  .max = CAPTURE_TRACE_MAX, .initial = "10", .help = "frames to follow" },
	{ "direction", PARAM_CHOICE, PARAM_AT(struct capture_wish, direction),
	  .choices = direction_names, .initial = "\"both\"",
	  .help = "in: from the port into the switch; out: to the port" },
	{ "seconds", PARAM_UINT, PARAM_AT(struct capture_wish, seconds), .min = 1,
	  .max = TRACE_SECONDS_MAX, .initial = "5",
	  .help = "after which it is answered with the frames that there are" },
	{ NULL }
};

static const char *name_port(void *argument, uint16_t number)
{
	const struct control *control = argument;

	return number < control->port_count && control->ports[number].model != NULL
		       ? control->ports[number].model->name
		       : "(removed)";
}

static void answer_trace(struct capture_waiter *waiter, struct control_capture *capture)
{
	struct waiting_call *waiting = (struct waiting_call *)waiter;
	struct control_port *slot = control_find_port(capture->control, capture->wish.port);
	const struct trace_facts facts = {
		.name = name_port,
		.argument = capture->control,
		.port = capture->wish.port,
		.limited = slot != NULL && slot->port != NULL &&
			   limits_are_on(&slot->port->ingress),
		.guarded = slot != NULL && slot->port != NULL && slot->port->settings.guard != NULL,
		.most = (unsigned int)capture->wish.packets,
	};
	json_t *frames = trace_to_json(recorder_trace(capture->recorder), &facts);

	call_done(waiting->call, json_pack("{s:s, s:o}", "reason", capture->reason, "frames",
					   frames), NULL);
	free(waiting);
}

static void trace_started(void *argument, struct control_capture *capture,
			  const struct error *fault)
{
	struct waiting_call *waiting = argument;

	if (capture != NULL) {
		captures_wait(capture, &waiting->waiter);
		return;
	}
	call_done(waiting->call, NULL, fault);
	free(waiting);
}

static int start_trace(struct call *call, const void *params, json_t **result, struct error *err)
{
	struct daemon *daemon = call_context(call);
	struct capture_wish wish = *(const struct capture_wish *)params;
	struct waiting_call *waiting;
	int rc;

	(void)result;
	if (control_find_port(daemon->control, wish.port) == NULL)
		return no_such_port(wish.port, err);
	waiting = calloc(1, sizeof(*waiting));
	if (waiting == NULL)
		return error_set(err, ERROR_INTERNAL, ENOMEM, "out of memory");
	waiting->waiter.ended = answer_trace;
	waiting->call = call;
	wish.traces = true;
	wish.snap = TRACE_SNAP;
	wish.buffer = CAPTURE_RING_INITIAL;
	rc = captures_start(daemon->control, &wish, -1, -1, trace_started, waiting, err);
	if (rc == 0)
		return METHOD_LATER;
	free(waiting);
	return rc;
}

const struct method methods_capture[] = {
	{ "capture.start",
	  "Writes the frames of a port to a file or a descriptor, as pcapng, until a limit ends it",
	  start_params, sizeof(struct capture_wish), start_capture, .changes = true },
	{ "capture.stop", "Ends a capture; answered with what it counted once all is written",
	  number_params, sizeof(struct capture_number), stop_capture, .changes = true },
	{ "capture.wait", "The same, but lets it end by itself", number_params,
	  sizeof(struct capture_number), wait_capture },
	{ "capture.list", "The captures that run, and those that ended last",
	  .handle = list_captures },
	{ "trace.start",
	  "Follows frames of a port through the switch; answered when they have come or the time "
	  "is over",
	  trace_params, sizeof(struct capture_wish), start_trace },
	{ NULL }
};
