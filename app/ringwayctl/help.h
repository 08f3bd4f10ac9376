/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What `ringwayctl help ...` prints and what completion offers, both made from the schema.
 */
#pragma once

/*
 * Help on stdout: without words on the program, with one on an object ("port"), with the words of a
 * method on that. Returns an exit_code.
 */
int help_print(int count, char *const *words);

/* Where the daemon is and how to use the program, in general. */
#define HELP_SOCKET "/run/ringway/ringway.sock"

/*
 * Prints what may stand in the place of the last word, one candidate a line. `socket` is where to
 * ask for the names of ports.
 */
void complete_print(int count, char *const *words, const char *socket);
