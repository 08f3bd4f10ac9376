/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The terminal as a screen: what is written appears in the place of what was there, keys come one
 * by one, and the terminal is as it was when the program ends or is stopped, by a signal, too.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum key {
	KEY_NONE, /* none came in time */
	KEY_UP = 256,
	KEY_DOWN,
	KEY_PAGE_UP,
	KEY_PAGE_DOWN,
	KEY_HOME,
	KEY_END,
	KEY_RESIZED, /* the screen has another size */
	KEY_GONE,    /* there is no terminal any more */
	/* All others stand for their own character. */
};

/*
 * Takes the screen over. ^C ends the program from then on, with status 0; the other signals as they
 * do. Returns 0 or -errno.
 */
int terminal_begin(void);

/* Gives it back. */
void terminal_end(void);

void terminal_size(size_t *columns, size_t *rows);

/* Shows a text of lines, each of which fits, in the place of all that was shown before. */
void terminal_show(const char *text);

/* Waits up to so many milliseconds for a key: an enum key, or a character. */
int terminal_key(int milliseconds);
