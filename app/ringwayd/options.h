/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The command line of ringwayd, and the EAL arguments that follow from the configuration.
 */
#pragma once

#include <sched.h>

#include "control/model.h"

struct options {
	const char *config; /* NULL: start empty */
	const char *socket;
	int eal_argc;       /* what stands after -- */
	char **eal_argv;
};

/* Parses; prints help, version or a complaint and exits where one of these is asked for or due. */
void options_parse(struct options *options, int argc, char **argv);

/* The CPUs that the daemon may use, and the last of them. */
void options_allowed_cpus(cpu_set_t *allowed, unsigned int *last);

/*
 * Starts EAL for the model's workers: the control thread and the library's own threads stay off the
 * workers' CPUs, if there are others. Worker i is lcore i + 1. Returns 0 or -errno with err filled.
 */
int options_start_eal(const struct options *options, const struct model *model, struct error *err);
