/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where metrics are served: the listener that the model wants, kept open as the model changes.
 *
 * An address that cannot be listened at is a fault of the world: it is said, and tried again with
 * the ports that could not be opened. Control thread.
 */
#pragma once

#include "base/error.h"
#include "base/loop.h"
#include "control/model.h"
#include "telemetry/http.h"

struct listening {
	/* Set before the first model; no handler: nothing is ever opened. */
	http_handler handler;
	void *argument;

	struct http *http;             /* NULL: closed, or faulty */
	char wanted[LISTEN_TEXT_SIZE]; /* "": nowhere */
	struct error fault;            /* why it is not open; message "": it is, or need not be */
};

/*
 * Goes over to what the model says. Where that is what it was and could not be opened, `again` says
 * to try it now. Returns 0, or -errno with `fault` filled.
 */
int listening_set(struct listening *listening, struct loop *loop, const struct model *model,
		  bool again);

/* Tries again where it could not be opened. */
void listening_retry(struct listening *listening, struct loop *loop);

void listening_close(struct listening *listening);
