/* SPDX-License-Identifier: BSD-3-Clause */
/* Ports on the background thread and back; port/opening.h is the contract. */
#include "port/opening.h"

#include <errno.h>
#include <stdlib.h>

#include "base/background.h"
#include "base/loop.h"

/* One opening or closing under way. */
struct job {
	struct port *port;
	const struct opening_steps *steps;
	port_opened opened;
	void (*closed)(void *argument);
	void *argument;
	int result;
	struct error fault;
};

static void finish_open(void *argument)
{
	struct job *job = argument;

	if (job->result != 0)
		job->steps->free(job->port);
	else if (job->steps->opened != NULL)
		job->steps->opened(job->port);
	job->opened(job->argument, job->result == 0 ? NULL : &job->fault);
	free(job);
}

static void run_open(void *argument)
{
	struct job *job = argument;

	job->result = job->steps->open(job->port, &job->fault);
	loop_post(job->port->host.loop, finish_open, job);
}

int opening_start(struct port *port, const struct opening_steps *steps, port_opened done,
		  void *argument, struct error *err)
{
	struct job *job = port->driver != NULL ? calloc(1, sizeof(*job)) : NULL;

	if (job != NULL) {
		*job = (struct job){ .port = port, .steps = steps, .opened = done,
				     .argument = argument };
		if (background_run(port->host.background, run_open, job) == 0)
			return 0;
	}
	free(job);
	if (port->driver != NULL)
		steps->free(port);
	return error_set(err, ERROR_SYSTEM, ENOMEM, "port %s: out of memory", port->name);
}

static void finish_close(void *argument)
{
	struct job *job = argument;

	job->steps->free(job->port);
	job->closed(job->argument);
	free(job);
}

static void run_close(void *argument)
{
	struct job *job = argument;

	job->steps->close(job->port);
	loop_post(job->port->host.loop, finish_close, job);
}

void opening_end(struct port *port, const struct opening_steps *steps,
		 void (*done)(void *argument), void *argument)
{
	struct job *job = port->driver != NULL ? calloc(1, sizeof(*job)) : NULL;

	if (job != NULL) {
		*job = (struct job){ .port = port, .steps = steps, .closed = done,
				     .argument = argument };
		if (background_run(port->host.background, run_close, job) == 0)
			return;
		free(job);
	}
	/* Without memory the control loop waits, once, rather than leaving something open. */
	if (port->driver != NULL) {
		steps->close(port);
		steps->free(port);
	}
	done(argument);
}
