/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Running a program of the operator's to its end, within a time limit.
 *
 * It starts with the caller's environment, namespaces and standard error, nothing on its standard
 * input, and without any descriptor of ours but the one that it is given.
 */
#pragma once

#include "base/error.h"

/* The descriptor that a program gets has this number there. */
#define PROGRAM_FD 3

/*
 * Runs argv[0], an absolute path, and waits. fd: for the program, or -1. Who is not done after
 * `seconds` is killed; who fails leaves no process of its group behind.
 * Returns 0 where its exit status was 0, otherwise -errno with err filled: -EIO for another
 * status, -ETIMEDOUT, or why it could not be started.
 */
int program_run(const char *const argv[], int fd, unsigned int seconds, struct error *err);
