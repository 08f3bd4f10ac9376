/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * `top`: rates (rates.h) once a second, as a screen (terminal.h) that keys sort and scroll, or as
 * one plain table. Both are made by the same lines.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "command.h"
#include "rates.h"
#include "terminal.h"
#include "text.h"
#include "words.h"

#define INTERVAL_MS 1000
#define NAME_MIN 8
#define NAME_MAX 32
#define WORKERS_SHOWN 4
#define REVERSE "\033[7m"

static const char keys[] =
	"q quit  sort: p packets b bits d drops n name  space pause  arrows scroll";

struct top {
	const struct options *options;
	struct rpc_client *client; /* NULL: there is no connection */
	struct error fault;        /* why */
	struct reading before, now;
	struct rates rates;
	enum rates_order order;
	bool paused;
	size_t first;              /* the port in the first row */
	size_t shown;              /* rows of ports that the screen had room for */
};

static long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000L + now.tv_nsec / 1000000;
}

/* ---- readings ---- */

static void connect_again(struct top *top)
{
	if (top->client == NULL &&
	    rpc_client_open(&top->client, top->options->socket, top->options->timeout * 1000,
			    &top->fault) != 0)
		top->client = NULL;
}

/* One more reading, and the rates since the last one. What was shown stays where there is none. */
static int look(struct top *top)
{
	struct reading next;
	int rc;

	connect_again(top);
	if (top->client == NULL)
		return -ENOTCONN;
	rc = reading_take(&next, top->client, &top->fault);
	if (rc != 0) {
		rpc_client_close(top->client);
		top->client = NULL;
		return rc;
	}
	rates_release(&top->rates);
	reading_release(&top->before);
	top->before = top->now;
	top->now = next;
	rates_make(&top->rates, &top->before, &top->now);
	return 0;
}

/* ---- lines ---- */

/* Three digits and a power of 1000: "0", "999", "1.23M". */
static const char *short_number(double value, char *text, size_t size)
{
	static const char *const powers[] = { "", "k", "M", "G", "T" };
	unsigned int power = 0;

	while (value >= 999.5 && power < 4) {
		value /= 1000;
		power++;
	}
	snprintf(text, size, "%.*f%s", power == 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2,
		 value, powers[power]);
	return text;
}

/* A text of the daemon's, cut to the width; 0: not cut. */
static void write_cut(FILE *out, const char *text, size_t width)
{
	char *safe = text_safe(text);

	if (safe == NULL)
		return;
	if (width >= 4)
		text_fit(safe, width);
	fputs(safe, out);
	free(safe);
}

static void write_uptime(FILE *out, json_int_t seconds)
{
	if (seconds >= 86400)
		fprintf(out, "%d d ", (int)(seconds / 86400));
	fprintf(out, "%02d:%02d:%02d", (int)(seconds / 3600 % 24), (int)(seconds / 60 % 60),
		(int)(seconds % 60));
}

static void write_summary(FILE *out, const struct top *top)
{
	const json_t *info = top->now.info;
	const char *version = json_string_value(json_object_get(info, "version"));

	fputs("ringway ", out);
	write_cut(out, version != NULL ? version : "", 20);
	fputs("  up ", out);
	write_uptime(out, json_integer_value(json_object_get(info, "uptime")));
	fprintf(out, "  ports %zu, %zu up  addresses %" JSON_INTEGER_FORMAT "%s\n",
		top->rates.port_count, top->rates.up, top->rates.addresses,
		top->paused ? "  [paused]" : "");
}

static void write_workers(FILE *out, const struct rates *rates, size_t most)
{
	char number[16];

	for (size_t i = 0; i < rates->worker_count && i < most; i++) {
		const struct worker_rates *row = &rates->workers[i];

		fprintf(out, "worker %d  cpu %d  load %3.0f%%  %s packets/s\n", row->worker,
			row->cpu, 100 * row->load,
			short_number(row->packets, number, sizeof(number)));
	}
	if (rates->worker_count > most)
		fprintf(out, "and %zu more\n", rates->worker_count - most);
}

/* Columns beside the name: state, four rates, held, drops, and what follows them. */
#define FIXED_WIDTH (1 + 4 + 4 * 9 + 5 + 8 + 2)

static size_t name_width(const struct rates *rates, size_t columns)
{
	size_t width = NAME_MIN;

	for (size_t i = 0; i < rates->port_count; i++)
		if (text_width(rates->ports[i].name) > width)
			width = text_width(rates->ports[i].name);
	if (columns == 0)
		return width;
	if (width > NAME_MAX)
		width = NAME_MAX;
	if (columns < FIXED_WIDTH + width + NAME_MIN)
		width = columns > FIXED_WIDTH + 2 * NAME_MIN ? columns - FIXED_WIDTH - NAME_MIN
							     : NAME_MIN;
	return width;
}

static void write_heading(FILE *out, size_t name, bool color)
{
	fprintf(out, "%s%-*s %-4s %8s %8s %8s %8s %4s %7s  %s%s\n", color ? REVERSE : "",
		(int)name, "port", "", "rx pps", "rx bit/s", "tx pps", "tx bit/s", "held",
		"drops/s", "reason ", color ? PRINT_PLAIN : "");
}

/* columns 0: nothing is cut. */
static void write_port(FILE *out, const struct port_rates *row, size_t name, size_t columns,
		       bool color)
{
	size_t rest = columns > FIXED_WIDTH + name + 4 ? columns - FIXED_WIDTH - name : 4;
	char number[16];

	write_cut(out, row->name, columns > 0 ? name : 0);
	fprintf(out, "%*s %s%-4s%s",
		(int)(name > text_width(row->name) ? name - text_width(row->name) : 0), "",
		!color ? "" : row->up ? PRINT_GREEN : PRINT_RED, row->up ? "up" : "down",
		color ? PRINT_PLAIN : "");
	for (enum way way = RX; way <= TX; way++) {
		fprintf(out, " %8s", short_number(row->packets[way], number, sizeof(number)));
		fprintf(out, " %8s", short_number(row->bits[way], number, sizeof(number)));
	}
	fprintf(out, " %3.0f%% %7s", 100 * row->held,
		short_number(row->drops, number, sizeof(number)));
	if (row->why[0] != '\0') {
		fputs("  ", out);
		write_cut(out, row->why, columns > 0 ? rest : 0);
	}
	fputc('\n', out);
}

/* ---- once ---- */

static int show_once(struct top *top)
{
	const bool color = top->options->style.color;
	size_t name;
	int rc = look(top);

	if (rc == 0) {
		usleep(INTERVAL_MS * 1000);
		rc = look(top);
	}
	if (rc != 0) {
		print_error(&top->fault);
		return rc == -EREMOTEIO ? REFUSED
		       : top->fault.kind == ERROR_INVALID ? USAGE : NO_DAEMON;
	}
	rates_sort(&top->rates, top->order);
	name = name_width(&top->rates, 0);
	write_summary(stdout, top);
	write_workers(stdout, &top->rates, top->rates.worker_count);
	write_heading(stdout, name, color);
	for (size_t i = 0; i < top->rates.port_count; i++)
		write_port(stdout, &top->rates.ports[i], name, 0, color);
	if (fflush(stdout) == 0 && !ferror(stdout))
		return DONE;
	fprintf(stderr, "ringwayctl: cannot print the table: %s\n", strerror(errno));
	return REFUSED;
}

/* ---- the screen ---- */

/* The lines of a text that fit, each cut at the screen's width; without the last newline. */
static void fit(char *text, size_t columns, size_t rows)
{
	char *to = text;
	size_t column = 0, row = 1;

	for (const char *from = text; *from != '\0'; from++) {
		if (*from == '\n') {
			if (row++ == rows)
				break;
			column = 0;
			*to++ = *from;
		} else if (*from == '\033') {
			/* Colours take no room. */
			do
				*to++ = *from;
			while (*from != 'm' && *++from != '\0');
		} else {
			column += ((unsigned char)*from & 0xc0) != 0x80;
			if (column <= columns)
				*to++ = *from;
		}
	}
	if (to > text && to[-1] == '\n')
		to--;
	*to = '\0';
}

static void write_screen(FILE *out, struct top *top, size_t columns, size_t rows)
{
	const bool color = top->options->style.color;
	const size_t workers = top->rates.worker_count > WORKERS_SHOWN ? WORKERS_SHOWN + 1
								       : top->rates.worker_count;
	const size_t name = name_width(&top->rates, columns);
	/* Summary, heading and keys. */
	const size_t used = workers + 3;

	top->shown = rows > used ? rows - used : 0;
	if (top->first + top->shown > top->rates.port_count)
		top->first = top->rates.port_count > top->shown
				     ? top->rates.port_count - top->shown : 0;
	if (top->client != NULL) {
		write_summary(out, top);
	} else {
		write_cut(out, top->fault.message, columns);
		fputs("; trying again\n", out);
	}
	write_workers(out, &top->rates, WORKERS_SHOWN);
	write_heading(out, name, color);
	for (size_t i = 0; i < top->shown; i++) {
		if (top->first + i < top->rates.port_count)
			write_port(out, &top->rates.ports[top->first + i], name, columns, color);
		else
			fputc('\n', out);
	}
	fputs(keys, out);
}

static void draw(struct top *top)
{
	size_t columns, rows, size;
	char *text = NULL;
	FILE *out = open_memstream(&text, &size);

	if (out == NULL)
		return;
	terminal_size(&columns, &rows);
	rates_sort(&top->rates, top->order);
	write_screen(out, top, columns, rows);
	if (fclose(out) == 0) {
		fit(text, columns, rows);
		terminal_show(text);
	}
	free(text);
}

static void scroll(struct top *top, long lines)
{
	if (lines < 0 && top->first < (size_t)-lines)
		top->first = 0;
	else
		top->first += (size_t)lines;
}

/* Returns false at the end. */
static bool obey(struct top *top, int key)
{
	switch (key) {
	case 'q':
	case KEY_GONE:
		return false;
	case 'p':
		top->order = BY_PACKETS;
		break;
	case 'b':
		top->order = BY_BITS;
		break;
	case 'd':
		top->order = BY_DROPS;
		break;
	case 'n':
		top->order = BY_NAME;
		break;
	case ' ':
		top->paused = !top->paused;
		break;
	case KEY_UP:
	case KEY_DOWN:
		scroll(top, key == KEY_UP ? -1 : 1);
		break;
	case KEY_PAGE_UP:
	case KEY_PAGE_DOWN:
		scroll(top, key == KEY_PAGE_UP ? -(long)top->shown : (long)top->shown);
		break;
	case KEY_HOME:
		top->first = 0;
		break;
	case KEY_END:
		top->first = top->rates.port_count;
		break;
	default:
		break;
	}
	return true;
}

static int show_live(struct top *top)
{
	long due = now_ms() + INTERVAL_MS;
	int key, rc = look(top);

	if (rc != 0) {
		print_error(&top->fault);
		return rc == -EREMOTEIO ? REFUSED
		       : top->fault.kind == ERROR_INVALID ? USAGE : NO_DAEMON;
	}
	if (terminal_begin() != 0)
		return words_refuse("the terminal cannot be used", NULL);
	do {
		long left = due - now_ms();

		if (left <= 0) {
			if (!top->paused)
				(void)look(top);
			due = now_ms() + INTERVAL_MS;
			left = INTERVAL_MS;
		}
		draw(top);
		key = terminal_key((int)left);
	} while (obey(top, key));
	terminal_end();
	return DONE;
}

int top_run(int count, char *const *words, const struct options *options)
{
	const bool live = !options->once && options->style.terminal && !options->style.dumb &&
			  isatty(STDIN_FILENO) == 1;
	struct top top = { .options = options };
	int rc;

	if (count > 0)
		return words_refuse("top takes no words", words[0]);
	if (options->json)
		return words_refuse("top has no JSON; stats get has all counters", NULL);
	rc = live ? show_live(&top) : show_once(&top);
	rpc_client_close(top.client);
	rates_release(&top.rates);
	reading_release(&top.before);
	reading_release(&top.now);
	return rc;
}
