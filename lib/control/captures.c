/* SPDX-License-Identifier: BSD-3-Clause */
/* The life of captures; control/captures.h is the contract. */
#include "control/captures.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/units.h"
#include "control/slots.h"
#include "sync/retire.h"

/* A daemon that ends waits so long for captures to be written. */
#define CLOSE_MS 2000

/* Forgets the oldest of those that have ended, if there are too many. */
static void forget_old(struct control *control)
{
	struct control_capture *capture, *oldest = NULL;
	unsigned int count = 0;

	STAILQ_FOREACH(capture, &control->captures, next) {
		if (capture->state != CAPTURE_ENDED)
			continue;
		count++;
		if (oldest == NULL)
			oldest = capture;
	}
	if (count <= CAPTURES_KEPT)
		return;
	STAILQ_REMOVE(&control->captures, oldest, control_capture, next);
	free(oldest);
}

/* ---- what workers see ---- */

static void free_set(void *argument)
{
	free(argument);
}

/* Hangs on the slot's port what runs there. Returns 0 or -ENOMEM with nothing changed. */
static int hang_up(struct control *control, uint16_t number)
{
	struct control_port *slot = &control->ports[number];
	struct capture_set *old = slot->captures, *new = NULL;
	struct control_capture *capture;

	new = calloc(1, sizeof(*new) + CAPTURES_MAX * sizeof(new->captures[0]));
	if (new == NULL)
		return -ENOMEM;
	STAILQ_FOREACH(capture, &control->captures, next)
		if (capture->slot == number && capture->state == CAPTURE_RUNNING)
			new->captures[new->count++] = capture->capture;
	if (new->count == 0) {
		free(new);
		new = NULL;
	}
	slot->captures = new;
	if (slots_publish(control) != 0) {
		slot->captures = old;
		free(new);
		return -ENOMEM;
	}
	if (old != NULL && retire_later(control->retire, free_set, old) != 0)
		log_error("capture", "out of memory: an old list of captures is leaked");
	return 0;
}

/* ---- the end ---- */

static void release(struct control_capture *capture)
{
	if (recorder_free(capture->recorder, CLOSE_MS) && !capture->leaks)
		capture_free(capture->capture);
	capture->recorder = NULL;
	capture->capture = NULL;
}

static void ended(void *argument)
{
	struct control_capture *capture = argument;
	struct capture_waiter *waiter;

	capture->counts = recorder_count(capture->recorder);
	text_copy(capture->reason, sizeof(capture->reason), recorder_reason(capture->recorder));
	capture->state = CAPTURE_ENDED;
	log_info("capture", "capture %llu of port %s has ended: %s",
		 (unsigned long long)capture->id, capture->wish.port, capture->reason);
	while ((waiter = STAILQ_FIRST(&capture->waiters)) != NULL) {
		STAILQ_REMOVE_HEAD(&capture->waiters, next);
		waiter->ended(waiter, capture);
	}
	release(capture);
	forget_old(capture->control);
}

static void finish(void *argument)
{
	struct control_capture *capture = argument;

	recorder_finish(capture->recorder, capture->end_reason);
}

/* The workers have been told, or are about to be, and once they have heard it is finished. */
static void retire(struct control_capture *capture)
{
	if (retire_later(capture->control->retire, finish, capture) == 0)
		return;
	log_error("capture", "out of memory: a capture is leaked");
	capture->leaks = true;
	finish(capture);
}

void captures_stop(struct control_capture *capture, const char *reason)
{
	if (capture->state != CAPTURE_RUNNING)
		return;
	capture->state = CAPTURE_ENDING;
	capture->end_reason = reason;
	if (hang_up(capture->control, capture->slot) != 0) {
		log_error("capture", "out of memory: workers go on to see a capture");
		capture->leaks = true;
	}
	retire(capture);
}

void captures_lose_port(struct control_port *slot)
{
	struct control *control = slot->control;
	const char *reason = control->stopping ? "the daemon stops" : "the port was removed";
	struct control_capture *capture;

	STAILQ_FOREACH(capture, &control->captures, next) {
		if (capture->state != CAPTURE_RUNNING || &control->ports[capture->slot] != slot)
			continue;
		/* No snapshot has the port any more. */
		capture->state = CAPTURE_ENDING;
		capture->end_reason = reason;
		retire(capture);
	}
	if (slot->captures != NULL && retire_later(control->retire, free_set, slot->captures) != 0)
		log_error("capture", "out of memory: an old list of captures is leaked");
	slot->captures = NULL;
}

void captures_close(struct control *control)
{
	struct control_capture *capture;

	STAILQ_FOREACH(capture, &control->captures, next)
		if (capture->state == CAPTURE_STARTING || capture->state == CAPTURE_RUNNING)
			recorder_finish(capture->recorder, "the daemon stops");
	while ((capture = STAILQ_FIRST(&control->captures)) != NULL) {
		STAILQ_REMOVE_HEAD(&control->captures, next);
		if (capture->recorder != NULL)
			release(capture);
		free(capture);
	}
	for (uint16_t i = 0; control->ports != NULL && i < control->port_count; i++)
		free(control->ports[i].captures);
}

/* ---- the beginning ---- */

static void fail_start(struct control_capture *capture, const struct error *fault)
{
	capture->started(capture->argument, NULL, fault);
	STAILQ_REMOVE(&capture->control->captures, capture, control_capture, next);
	release(capture);
	free(capture);
}

/* The recorder is ready: now the workers are told. */
static void started(void *argument, const struct error *fault)
{
	struct control_capture *capture = argument;
	struct control *control = capture->control;
	struct control_port *slot = control_find_port(control, capture->wish.port);
	struct error err;

	if (fault != NULL) {
		fail_start(capture, fault);
		return;
	}
	capture->state = CAPTURE_RUNNING;
	if (slot != NULL)
		capture->slot = (uint16_t)(slot - control->ports);
	if (slot == NULL)
		error_set(&err, ERROR_NOT_FOUND, ENOENT, "port %s was removed meanwhile",
			  capture->wish.port);
	else if (hang_up(control, capture->slot) != 0)
		error_set(&err, ERROR_INTERNAL, ENOMEM, "out of memory");
	else
		err.message[0] = '\0';
	if (err.message[0] == '\0') {
		capture->started(capture->argument, capture, NULL);
		return;
	}
	/* Its end comes as that of any other. */
	capture->started(capture->argument, NULL, &err);
	capture->state = CAPTURE_ENDING;
	recorder_finish(capture->recorder, err.message);
}

static void over(void *argument)
{
	captures_stop(argument, "");
}

/* Refuses one too many. A trace counts with the others, and there is but one at a time. */
static int check_room(struct control *control, const struct capture_wish *wish, struct error *err)
{
	struct control_capture *capture;
	unsigned int count = 0;

	STAILQ_FOREACH(capture, &control->captures, next) {
		if (capture->state == CAPTURE_ENDED)
			continue;
		count++;
		if (wish->traces && capture->wish.traces)
			return error_set(err, ERROR_BUSY, EBUSY,
					 "port %s is being traced, and there is one trace at a "
					 "time", capture->wish.port);
	}
	if (count < CAPTURES_MAX)
		return 0;
	error_set(err, ERROR_LIMIT, ENOSPC, "there are %u captures already", count);
	error_detail(err, "capture", NULL, NULL, "16 at a time");
	return -ENOSPC;
}

static struct capture *make_capture(const struct control *control, const struct capture_wish *wish)
{
	struct capture *capture = capture_new(control->worker_count, wish->buffer);

	if (capture == NULL)
		return NULL;
	capture->in = wish->direction != CAPTURE_OUT;
	capture->out = wish->direction != CAPTURE_IN;
	capture->snap = wish->snap;
	capture->traces = wish->traces;
	capture->most = (uint32_t)wish->packets;
	return capture;
}

static void close_both(int fd, int owner)
{
	if (fd >= 0)
		close(fd);
	if (owner >= 0)
		close(owner);
}

int captures_start(struct control *control, const struct capture_wish *wish, int fd, int owner,
		   void (*done)(void *argument, struct control_capture *capture,
				const struct error *fault),
		   void *argument, struct error *err)
{
	static const struct recorder_events events = { started, over, ended };
	const struct recorder_wish recorder = { .interface = wish->port,
						.filter = wish->filter,
						.bytes = wish->bytes,
						.packets = wish->packets,
						.seconds = wish->seconds,
						.file = wish->file,
						.fd = fd,
						.owner = owner };
	struct control_capture *capture;
	int result = check_room(control, wish, err);

	if (result != 0) {
		close_both(fd, owner);
		return result;
	}
	capture = calloc(1, sizeof(*capture));
	if (capture != NULL)
		capture->capture = make_capture(control, wish);
	if (capture == NULL || capture->capture == NULL) {
		close_both(fd, owner);
		free(capture);
		return error_set(err, ERROR_SYSTEM, ENOMEM, "no memory for the capture's buffer");
	}
	capture->control = control;
	capture->id = ++control->last_capture;
	capture->wish = *wish;
	capture->started = done;
	capture->argument = argument;
	STAILQ_INIT(&capture->waiters);
	capture->recorder = recorder_new(control->loop, capture->capture, &recorder, &events,
					 capture);
	if (capture->recorder == NULL) {
		capture_free(capture->capture);
		free(capture);
		return error_set(err, ERROR_SYSTEM, ENOMEM, "no memory for the capture's thread");
	}
	STAILQ_INSERT_TAIL(&control->captures, capture, next);
	return 0;
}

/* ---- looking ---- */

struct control_capture *captures_find(struct control *control, uint64_t id)
{
	struct control_capture *capture;

	STAILQ_FOREACH(capture, &control->captures, next)
		if (capture->id == id && capture->state != CAPTURE_STARTING)
			return capture;
	return NULL;
}

void captures_wait(struct control_capture *capture, struct capture_waiter *waiter)
{
	if (capture->state == CAPTURE_ENDED)
		waiter->ended(waiter, capture);
	else
		STAILQ_INSERT_TAIL(&capture->waiters, waiter, next);
}

struct recorder_counts captures_count(const struct control_capture *capture)
{
	return capture->recorder != NULL ? recorder_count(capture->recorder) : capture->counts;
}
