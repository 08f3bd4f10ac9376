/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The words of the command line as a request: `port add vm1 limits.ingress.bandwidth.rate=1Gbit`
 * is the method port.add with {"name": "vm1", "limits": {"ingress": {...}}}.
 *
 * Values are typed by the schema: `mode=660` is text where the method wants text, `mtu=1500` a
 * number. null is null everywhere. What the schema does not know is JSON if it can be, else text.
 */
#pragma once

#include <jansson.h>

/* Exit statuses of the program. */
enum exit_code { DONE, REFUSED, USAGE, NO_DAEMON };

struct request {
	char *method;   /* "port.add" */
	json_t *params; /* NULL: none were given */
};

/*
 * How many of the words name the method: 1 ("port.get", or an object alone), 2 ("port get"), or 0.
 * Fills name, with a dot.
 */
int words_method(int count, char *const *words, char *name, size_t size);

/* Fills the request, to be released in any case. Returns DONE, or USAGE after a complaint. */
int words_parse(int count, char *const *words, struct request *request);
void request_release(struct request *request);

/* Complains on stderr; subject may be NULL. Returns USAGE. */
int words_refuse(const char *message, const char *subject);
