/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A screen by escape sequences that every terminal of today knows (ECMA-48 and xterm's), which is
 * little enough to need no library. terminal.h is the contract.
 */
#include "terminal.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

/* The other screen, without a cursor; and back. */
#define BEGIN "\033[?1049h\033[?25l"
#define END "\033[?25h\033[?1049l"

/* What comes within so long behind an escape belongs to it. */
#define SEQUENCE_MS 50

static struct termios before, during;
static volatile sig_atomic_t active, resized;

static void write_all(const char *text, size_t size)
{
	while (size > 0) {
		ssize_t written = write(STDOUT_FILENO, text, size);

		if (written < 0 && errno != EINTR)
			return;
		if (written > 0) {
			text += written;
			size -= (size_t)written;
		}
	}
}

/* These two are called by handlers of signals as well. */
static void enter(void)
{
	tcsetattr(STDIN_FILENO, TCSANOW, &during);
	write_all(BEGIN, strlen(BEGIN));
	active = 1;
}

static void leave(void)
{
	if (!active)
		return;
	active = 0;
	write_all(END, strlen(END));
	tcsetattr(STDIN_FILENO, TCSANOW, &before);
}

static void on_end(int number)
{
	leave();
	if (number == SIGINT)
		_exit(0);
	/* Its default again: it comes once more when we return. */
	raise(number);
}

static void on_stop(int number)
{
	(void)number;
	leave();
	raise(SIGSTOP);
	enter();
	resized = 1;
}

static void on_resize(int number)
{
	(void)number;
	resized = 1;
}

static void handle(int number, void (*handler)(int number), int flags)
{
	struct sigaction action = { .sa_handler = handler, .sa_flags = flags };

	sigfillset(&action.sa_mask);
	sigaction(number, &action, NULL);
}

int terminal_begin(void)
{
	static const int ends[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGABRT, SIGSEGV, SIGPIPE };

	if (tcgetattr(STDIN_FILENO, &before) != 0)
		return -errno;
	during = before;
	during.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	during.c_cc[VMIN] = 1;
	during.c_cc[VTIME] = 0;
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		handle(ends[i], on_end, (int)SA_RESETHAND);
	handle(SIGTSTP, on_stop, SA_RESTART);
	handle(SIGWINCH, on_resize, 0);
	enter();
	return 0;
}

void terminal_end(void)
{
	leave();
}

void terminal_size(size_t *columns, size_t *rows)
{
	struct winsize size;

	*columns = 80;
	*rows = 24;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 && size.ws_row > 0) {
		*columns = size.ws_col;
		*rows = size.ws_row;
	}
}

void terminal_show(const char *text)
{
	char *screen = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&screen, &size);

	if (out == NULL)
		return;
	/* Each line is cleared behind its end, so that nothing flickers. */
	fputs("\033[H", out);
	for (; *text != '\0'; text++) {
		if (*text == '\n')
			fputs("\033[K\r\n", out);
		else
			fputc(*text, out);
	}
	fputs("\033[K\033[J", out);
	if (fclose(out) == 0)
		write_all(screen, size);
	free(screen);
}

/* One byte within the time, KEY_NONE (interrupted, too) or KEY_GONE. */
static int read_byte(int milliseconds)
{
	struct pollfd ready = { .fd = STDIN_FILENO, .events = POLLIN };
	unsigned char byte;
	ssize_t got;

	if (poll(&ready, 1, milliseconds) <= 0)
		return KEY_NONE;
	got = read(STDIN_FILENO, &byte, 1);
	if (got == 1)
		return byte;
	return got < 0 && (errno == EINTR || errno == EAGAIN) ? KEY_NONE : KEY_GONE;
}

/* What follows an escape: ESC [ A, ESC O A, ESC [ 5 ~. */
static int read_sequence(void)
{
	int byte = read_byte(SEQUENCE_MS), number = 0;

	if (byte != '[' && byte != 'O')
		return KEY_NONE;
	for (byte = read_byte(SEQUENCE_MS); byte >= '0' && byte <= '9';
	     byte = read_byte(SEQUENCE_MS))
		number = (number * 10 + byte - '0') % 100;
	switch (byte) {
	case 'A':
		return KEY_UP;
	case 'B':
		return KEY_DOWN;
	case 'H':
		return KEY_HOME;
	case 'F':
		return KEY_END;
	case '~':
		return number == 5 ? KEY_PAGE_UP : number == 6 ? KEY_PAGE_DOWN
		       : number == 1 || number == 7 ? KEY_HOME
		       : number == 4 || number == 8 ? KEY_END : KEY_NONE;
	default:
		return KEY_NONE;
	}
}

int terminal_key(int milliseconds)
{
	int byte = resized ? KEY_NONE : read_byte(milliseconds);

	if (byte == KEY_NONE && resized) {
		resized = 0;
		return KEY_RESIZED;
	}
	return byte == '\033' ? read_sequence() : byte;
}
