/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The HTTP server: libevent's, on the control loop, for pages that are made when asked for.
 *
 * It answers GET and HEAD, one request for each connection, and closes. Limits: 64 connections (the
 * next wait in the kernel), 8 KiB of request line and headers, no body, 5 s without progress and
 * 15 s from begin to end; while more than 16 MiB of answers wait to be read others of more than
 * 1 KiB are 503.
 *
 *     http_open(&http, loop, &address, handler, argument, err);
 *
 * Control thread, all of it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/loop.h"
#include "telemetry/listen.h"

#define HTTP_CONNECTIONS_MAX 64
#define HTTP_HEADERS_MAX 8192
#define HTTP_WAITING_MAX ((size_t)16 << 20)
#define HTTP_SHORT 1024
#define HTTP_IDLE_S 5
#define HTTP_WHOLE_MS 15000

/* Of all servers that this process ever had. */
struct http_counters {
	uint64_t clients;  /* connected now */
	uint64_t connects;
	uint64_t late;     /* dropped after HTTP_WHOLE_MS */
	uint64_t requests;
	uint64_t refusals; /* answers of 400 and more that a handler or this file gave */
	uint64_t sent_bytes; /* of answers' bodies */
};
extern struct http_counters http_counters;

struct http;

struct http_answer {
	int status;          /* 200, 404, 503 */
	const char *type;    /* Content-Type */
	const char *policy;  /* Content-Security-Policy; NULL: nothing may be loaded or run */
	char *body;          /* from malloc, taken over; or NULL */
	const char *lasting; /* without body: text that stays where it is, or NULL */
	size_t length;
};

/*
 * Fills the answer, which is a 404 without a body until then. `accept`: the request's header of
 * that name, or NULL.
 */
typedef void (*http_handler)(void *argument, const char *path, const char *accept,
			     struct http_answer *answer);

/* Returns 0, or -errno with err filled where the address cannot be listened at. */
int http_open(struct http **http, struct loop *loop, const struct listen_address *address,
	      http_handler handler, void *argument, struct error *err);

/* Ends all connections at once. NULL is fine. Not from a handler. */
void http_close(struct http *http);
