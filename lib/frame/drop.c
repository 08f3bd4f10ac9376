/* SPDX-License-Identifier: BSD-3-Clause */
/* Names and sentences of the drop reasons; frame/drop.h is the table. */
#include "frame/drop.h"

static const char *const names[DROP_COUNT] = {
#define DROP_NAME(symbol, name, text) name,
	DROP_REASONS(DROP_NAME)
#undef DROP_NAME
};

static const char *const texts[DROP_COUNT] = {
#define DROP_TEXT(symbol, name, text) text,
	DROP_REASONS(DROP_TEXT)
#undef DROP_TEXT
};

const char *drop_name(enum drop reason)
{
	return names[reason];
}

const char *drop_text(enum drop reason)
{
	return texts[reason];
}
