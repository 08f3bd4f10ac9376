/* SPDX-License-Identifier: BSD-3-Clause */
/* The table of commands; command.h is the contract. */
#include "command.h"

#include <string.h>

#include "schema.h"
#include "words.h"

#define NAME_SIZE 128

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

static const char capture_help[] =
	"Writes the frames of a port to standard output, until ^C, a limit, or the reader's end:\n"
	"\n"
	"  ringwayctl capture vm1 | tcpdump -n -r -\n"
	"  ringwayctl capture vm1 'arp or icmp' direction=in | wireshark -k -i -\n"
	"  ringwayctl capture vm1 packets=100 >vm1.pcapng\n"
	"\n"
	"  FILTER       as of tcpdump: pcap-filter(7); several words are joined\n"
	"  KEY=VALUE    parameters of capture.start\n"
	"\n"
	"What was counted is said on standard error.\n";

static const char trace_help[] =
	"Follows the next frames of a port through the switch, and says what became of each:\n"
	"\n"
	"  ringwayctl trace vm1 arp count=3\n"
	"\n"
	"  FILTER       as of tcpdump: pcap-filter(7); several words are joined\n"
	"  KEY=VALUE    parameters of trace.start\n";

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
	{ "capture", "PORT [FILTER] [KEY=VALUE ...]",
	  "Frames of a port as pcapng, to a pipe or file", capture_help, capture_run },
	{ "trace", "PORT [FILTER] [KEY=VALUE ...]", "What becomes of a port's next frames",
	  trace_help, trace_run },
	{ "watch", "[KIND ...] [port=NAME ...] [--since N]", "Follows events as they happen",
	  watch_help, watch_run },
	{ "top", "[--once]", "Rates of ports and workers, live", top_help, top_run },
	{ NULL }
};

const struct command *command_find(int count, char *const *words)
{
	char name[NAME_SIZE];

	if (count == 0 ||
	    (words_method(count, words, name, sizeof(name)) > 0 && schema_method(name) != NULL))
		return NULL;
	for (const struct command *row = commands; row->name != NULL; row++)
		if (strcmp(row->name, words[0]) == 0)
			return row;
	return NULL;
}
