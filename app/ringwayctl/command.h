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

/* Which one the words begin with, unless they are a method: `capture stop`. NULL: none. */
const struct command *command_find(int count, char *const *words);

/* One line for each event, until ^C. */
int watch_run(int count, char *const *words, const struct options *options);

/* A port's frames on standard output, as pcapng, until ^C, a limit, or the end of the reader. */
int capture_run(int count, char *const *words, const struct options *options);

/* What becomes of a port's next frames. */
int trace_run(int count, char *const *words, const struct options *options);

/* Rates of ports and workers, on a terminal until `q`, else once. */
int top_run(int count, char *const *words, const struct options *options);
