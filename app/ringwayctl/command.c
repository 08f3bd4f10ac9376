/* SPDX-License-Identifier: BSD-3-Clause */
/* The table of commands; command.h is the contract. */
#include "command.h"

#include <string.h>

static const char watch_help[] =
	"Follows what happens, one line an event, until ^C. Without words: all of it.\n"
	"\n"
	"  KIND         a family of events (port, guest, address, limit, worker, config, event)\n"
	"               or one kind (port.down, guest.gone)\n"
	"  port=NAME    events of this port alone; a word that is no kind is a port, too\n"
	"  --since N    begins behind event N of those that are kept; 0 is all of them\n"
	"  --json       one JSON object a line\n"
	"\n"
	"When the daemon goes away it is waited for, and nothing that is kept is left out.\n";

static const char top_help[] =
	"Shows what ports and workers do, once a second. In a pipe: once, and for one second.\n"
	"\n"
	"  --once       one plain table also on a terminal\n"
	"\n"
	"  rx is into the switch from the port, tx out of it to the port.\n"
	"  held is the share of the time in which a limit held the port's frames back.\n"
	"  reason is the commonest one of the frames dropped, or why the port is down.\n"
	"\n"
	"  p b d n      sorts by packets, bits, drops or name\n"
	"  space        stands still, and goes on\n"
	"  arrows       scroll; so do page up, page down, home and end\n"
	"  q            ends\n";

const struct command commands[] = {
	{ "watch", "[KIND ...] [port=NAME ...] [--since N]", "Follows events as they happen",
	  watch_help, watch_run },
	{ "top", "[--once]", "Rates of ports and workers, live", top_help, top_run },
	{ NULL }
};

const struct command *command_find(const char *name)
{
	for (const struct command *row = commands; row->name != NULL; row++)
		if (strcmp(row->name, name) == 0)
			return row;
	return NULL;
}
