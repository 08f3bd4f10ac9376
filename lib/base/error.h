/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Errors that an operator reads.
 *
 * Every function of ringway returns 0 or a negative errno. A function that acts on an operator's
 * wish also takes a `struct error *` (never NULL) and fills it at the place where the fact is
 * known: which object, which field, which value, and what would have been accepted. The RPC layer
 * prints it word for word, so the message is one plain sentence without a full stop.
 *
 *     return error_set(err, ERROR_SYSTEM, errno, "cannot open %s: %s", path, strerror(errno));
 *
 * Any thread may use these functions on an error of its own.
 */
#pragma once

#include <stdarg.h>

/* What went wrong, as a JSON-RPC error code (JSON-RPC 2.0 section 5.1, and our own range). */
enum error_kind {
	ERROR_PARSE = -32700,     /* no JSON; used by the RPC server alone, as are the next two */
	ERROR_REQUEST = -32600,   /* JSON, but no JSON-RPC 2.0 request */
	ERROR_METHOD = -32601,    /* no such method */
	ERROR_INTERNAL = -32603,
	ERROR_INVALID = -32602,   /* the request or file is wrong: key, type, range, duplicate */
	ERROR_NOT_FOUND = -32001,
	ERROR_EXISTS = -32002,
	ERROR_BUSY = -32003,
	ERROR_SYSTEM = -32004,    /* the world is wrong: permission, path; errnum says what */
	ERROR_CONFLICT = -32005,
	ERROR_LIMIT = -32006,
};

struct error {
	enum error_kind kind;
	int errnum;          /* positive errno, 0 if none applies */
	char message[320];
	char object[96];     /* what was being changed, as `port vm1`; empty if none */
	char field[96];      /* the key, dots for nesting: `permissions.mode`; empty if none */
	char value[128];     /* the value that was refused, as text; empty if none */
	char accepted[160];  /* what is accepted instead; empty if none */
};

/*
 * Fills kind, errnum and message, and clears the rest. Returns -errnum, or -EINVAL where errnum is
 * 0, so that a function can end with `return error_set(...)`. Text that does not fit is cut and
 * ends in "...". The arguments may point into *err.
 */
int error_set(struct error *err, enum error_kind kind, int errnum, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* Adds details to an error that error_set filled. Each may be NULL, which leaves it as it is. */
void error_detail(struct error *err, const char *object, const char *field, const char *value,
		  const char *accepted);
