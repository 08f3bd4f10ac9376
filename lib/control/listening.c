/* SPDX-License-Identifier: BSD-3-Clause */
/* The listener for metrics; control/listening.h is the contract. */
#include "control/listening.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"

static int open_wanted(struct listening *listening, struct loop *loop)
{
	struct listen_address address;
	struct error fault;
	int result;

	/* The model holds only what can be parsed. */
	error_set(&fault, ERROR_INVALID, EINVAL, "no address: %s", listening->wanted);
	result = listen_parse(listening->wanted, &address, &fault);
	if (result == 0)
		result = http_open(&listening->http, loop, &address, listening->handler,
				   listening->argument, &fault);
	if (result == 0) {
		memset(&listening->fault, 0, sizeof(listening->fault));
		log_info("control", "metrics are served at %s", listening->wanted);
		return 0;
	}
	if (strcmp(listening->fault.message, fault.message) != 0)
		log_warning("control", "%s", fault.message);
	listening->fault = fault;
	return result;
}

int listening_set(struct listening *listening, struct loop *loop, const struct model *model,
		  bool again)
{
	bool same = strcmp(listening->wanted, model->metrics.listen) == 0;

	if (listening->handler == NULL || (same && !(again && listening->fault.message[0] != '\0')))
		return 0;
	if (!same) {
		/* First, for the new address may be the old one in other words. */
		listening_close(listening);
		snprintf(listening->wanted, sizeof(listening->wanted), "%s",
			 model->metrics.listen);
	}
	return listening->wanted[0] != '\0' ? open_wanted(listening, loop) : 0;
}

void listening_retry(struct listening *listening, struct loop *loop)
{
	if (listening->fault.message[0] != '\0')
		open_wanted(listening, loop);
}

void listening_close(struct listening *listening)
{
	http_close(listening->http);
	listening->http = NULL;
	listening->wanted[0] = '\0';
	memset(&listening->fault, 0, sizeof(listening->fault));
}
