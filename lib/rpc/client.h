/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A blocking JSON-RPC client, for ringwayctl and tests.
 *
 *     struct rpc_client *client;
 *     rpc_client_open(&client, "/run/ringway/ringway.sock", 5000, err);
 *     rpc_client_call(client, "port.list", NULL, &result, err);
 *
 * One thread at a time.
 */
#pragma once

#include <jansson.h>

#include "base/error.h"

struct rpc_client;

/* Connects; timeout in ms for each later call. Returns 0, or -errno with err filled. */
int rpc_client_open(struct rpc_client **client, const char *path, unsigned int timeout,
		    struct error *err);
void rpc_client_close(struct rpc_client *client);

/*
 * Sends one request and waits for its answer. params is borrowed, NULL for none. On success *result
 * is a new reference. On a refusal by the server: its error in err and *error_object (a new
 * reference, may be NULL if not wanted), returns -EREMOTEIO. Transport failures: another -errno.
 */
int rpc_client_call(struct rpc_client *client, const char *method, const json_t *params,
		    json_t **result, json_t **error_object, struct error *err);

/* The same with a descriptor (SCM_RIGHTS, unix(7)) that goes with the request; it stays open. */
int rpc_client_call_with(struct rpc_client *client, const char *method, const json_t *params,
			 int descriptor, json_t **result, json_t **error_object,
			 struct error *err);

/*
 * Waits, as long as it takes, for what the server sends by itself: *message is a new reference.
 * Returns 0, or -errno when the connection has ended.
 */
int rpc_client_receive(struct rpc_client *client, json_t **message);
