/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the program was told by options, and the commands that are no methods of the daemon: they
 * call several of them, and go on until they are ended.
 */
#pragma once

#include <stdbool.h>

#include "print.h"

struct options {
	const char *socket;
	unsigned int timeout; /* seconds */
	bool json, help;
	struct style style;
	const char *since;    /* watch; NULL: not given */
	bool once;            /* top */
};

struct command {
	const char *name;
	const char *usage; /* behind the name */
	const char *summary;
	const char *help;  /* lines of text */
	/* Returns an exit_code. */
	int (*run)(int count, char *const *words, const struct options *options);
};

/* The end is a row without a name. */
extern const struct command commands[];

/* NULL: there is none of this name. */
const struct command *command_find(const char *name);

/* One line for each event, until ^C. */
int watch_run(int count, char *const *words, const struct options *options);

/* Rates of ports and workers, on a terminal until `q`, else once. */
int top_run(int count, char *const *words, const struct options *options);
