/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The command line of ringwayd, and the EAL arguments that follow from the configuration.
 */
#pragma once

#include <sched.h>
#include <stdbool.h>
#include <sys/types.h>

#include "control/model.h"

struct options {
	const char *config; /* NULL: start empty */
	const char *state;  /* NULL: nothing is saved */
	const char *socket;
	char directory[108]; /* of the socket */
	uint32_t socket_mode;
	uid_t socket_user;  /* (uid_t)-1: the daemon's own */
	gid_t socket_group; /* (gid_t)-1: the daemon's own */
	bool schema;        /* print the schema and leave */
	bool metrics;       /* the same with the metrics */
	cpu_set_t allowed;  /* the CPUs that the daemon was started on */
	uint32_t last_cpu;  /* the last of them */
	int eal_argc;       /* what stands after -- */
	char **eal_argv;
};

/* Parses; prints help, version or a complaint and exits where one of these is asked for or due. */
void options_parse(struct options *options, int argc, char **argv);

/*
 * Are the workers' CPUs among those that the daemon was started on? Returns 0 or -EINVAL with err
 * filled.
 */
int options_check_cpus(const struct options *options, const struct model *model,
		       struct error *err);

/*
 * Starts EAL for the model's workers: the control thread and the library's own threads stay off the
 * workers' CPUs, if there are others. Worker i is lcore i + 1. Returns 0 or -errno with err filled.
 */
int options_start_eal(const struct options *options, const struct model *model, struct error *err);
