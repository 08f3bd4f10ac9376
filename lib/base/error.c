/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Filling of `struct error`. The arguments may point into the error that is being filled, since
 * callers like to wrap a message that they got in a longer one.
 */
#include "base/error.h"

#include "base/units.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int error_set(struct error *err, enum error_kind kind, int errnum, const char *format, ...)
{
	char message[1024];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(message, sizeof(message), format, arguments);
	va_end(arguments);
	memset(err, 0, sizeof(*err));
	err->kind = kind;
	err->errnum = errnum;
	text_copy(err->message, sizeof(err->message), message);
	return errnum == 0 ? -EINVAL : -errnum;
}

static void set_detail(char *field, size_t size, const char *text)
{
	if (text != NULL)
		text_copy(field, size, text);
}

void error_detail(struct error *err, const char *object, const char *field, const char *value,
		  const char *accepted)
{
	set_detail(err->object, sizeof(err->object), object);
	set_detail(err->field, sizeof(err->field), field);
	set_detail(err->value, sizeof(err->value), value);
	set_detail(err->accepted, sizeof(err->accepted), accepted);
}
