/* SPDX-License-Identifier: BSD-3-Clause */
/* What the operator sees of a vhost-user session. Control thread. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "port/vhost_session.h"

/* As port_ops->status, connection and is_up. */
void session_status(struct session *session, json_t *object);
void session_connection(struct session *session, struct port_connection *connection);
bool session_is_up(struct session *session, const char **reason);
