/* SPDX-License-Identifier: BSD-3-Clause */
/* Help, from the schema; help.h is the contract. */
#include "help.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "print.h"
#include "schema.h"
#include "words.h"

#define NAME_SIZE 128
#define COLUMN_MAX 30 /* a longer name has a line of its own */
#define COMMAND_WIDTH 15

static const char usage[] =
	"Usage: ringwayctl [OPTION ...] OBJECT VERB [VALUE] [KEY=VALUE ...] [@FILE]\n"
	"       ringwayctl capture|trace|watch|top [WORD ...]\n"
	"       ringwayctl help [OBJECT [VERB]]\n"
	"\n"
	"Calls a method of ringwayd: `port get` and `port.get` are the same.\n"
	"\n"
	"  VALUE      without a key: the method's first required parameter\n"
	"  KEY=VALUE  a parameter; dots nest: limits.ingress.bandwidth.rate=1Gbit\n"
	"             VALUE is text, a number, true, false, null, or JSON in [ ] or { }\n"
	"  KEY=@FILE  a parameter whose value is JSON in a file; - is standard input\n"
	"  @FILE      an object of parameters, over which those of other words go\n"
	"\n"
	"  -s, --socket PATH      the daemon's control socket (" HELP_SOCKET ")\n"
	"  -j, --json             print the result as JSON\n"
	"  -t, --timeout SECONDS  how long to wait for the answer (10)\n"
	"      --color WHEN       auto, always or never; auto minds NO_COLOR\n"
	"  -h, --help             print this, or help on the words that are there\n"
	"  -V, --version          print the version and exit\n"
	"\n"
	"Exit status: 0 done, 1 refused, 2 wrong usage, 3 no daemon answers.\n"
	"\n"
	"Methods:\n";

static const char *text_of(const json_t *method, const char *key)
{
	const char *text = json_string_value(json_object_get(method, key));

	return text == NULL ? "" : text;
}

/* "port.get" as it is typed. */
static void spell(char *words, size_t size, const json_t *method)
{
	char *dot;

	snprintf(words, size, "%s", text_of(method, "name"));
	dot = strchr(words, '.');
	if (dot != NULL)
		*dot = ' ';
}

/* The methods of an object, or with NULL all of them. Returns how many there are. */
static unsigned int list_methods(const char *object, const struct style *style)
{
	char words[NAME_SIZE];
	unsigned int count = 0;
	size_t width = 0;
	json_t *method;
	size_t i;

	json_array_foreach(schema_methods(), i, method) {
		spell(words, sizeof(words), method);
		if (strlen(words) > width)
			width = strlen(words);
	}
	json_array_foreach(schema_methods(), i, method) {
		spell(words, sizeof(words), method);
		if (object != NULL && (strncmp(words, object, strlen(object)) != 0 ||
				       words[strlen(object)] != ' '))
			continue;
		print_pair(words, width, text_of(method, "summary"), style->width);
		count++;
	}
	return count;
}

/* A method's parameters: first the width of their names is found, then each kind is printed. */
struct listing {
	const struct style *style;
	size_t width;
	const char *heading; /* NULL while the width is looked for, "" once it is printed */
	bool required;
};

static void append(char *text, size_t size, const char *between, const char *item)
{
	size_t used = strlen(text);

	snprintf(text + used, size - used, "%s%s", used > 0 ? between : "", item);
}

static void visit_param(void *argument, const char *path, json_t *ways, bool required)
{
	const char *description = json_string_value(schema_fact(ways, "description"));
	const json_t *initial = schema_fact(ways, "default");
	struct listing *listing = argument;
	char text[1024] = "", range[512];
	char *initial_text;

	if (listing->heading == NULL) {
		if (strlen(path) > listing->width && strlen(path) <= COLUMN_MAX)
			listing->width = strlen(path);
		return;
	}
	if (required != listing->required)
		return;
	fputs(listing->heading, stdout);
	listing->heading = "";
	if (description != NULL)
		append(text, sizeof(text), "", description);
	schema_summarize(ways, range, sizeof(range));
	if (range[0] != '\0')
		append(text, sizeof(text), "; ", range);
	if (initial != NULL) {
		initial_text = json_is_string(initial) ? strdup(json_string_value(initial))
						       : json_dumps(initial, JSON_ENCODE_ANY);
		append(text, sizeof(text), "; default ", initial_text == NULL ? "" : initial_text);
		free(initial_text);
	}
	print_pair(path, listing->width, text, listing->style->width);
}

static void print_method(json_t *method, const struct style *style)
{
	struct listing listing = { .style = style };
	char words[NAME_SIZE];
	json_t *param;
	size_t i;

	spell(words, sizeof(words), method);
	printf("Usage: ringwayctl %s", words);
	json_array_foreach(json_object_get(method, "params"), i, param)
		if (json_is_true(json_object_get(param, "required")))
			printf(" %s=...", text_of(param, "name"));
	printf("%s\n\n%s%s.\n", json_array_size(json_object_get(method, "params")) > 0
				 ? " [KEY=VALUE ...]" : "", text_of(method, "summary"),
	       json_is_true(json_object_get(method, "x-changes")) ? "; changes what runs" : "");
	schema_walk(method, visit_param, &listing);
	listing.heading = "\nRequired:\n";
	listing.required = true;
	schema_walk(method, visit_param, &listing);
	listing.heading = "\nOptional:\n";
	listing.required = false;
	schema_walk(method, visit_param, &listing);
}

static bool has_methods(const char *object)
{
	char name[NAME_SIZE];

	snprintf(name, sizeof(name), "%s.start", object);
	return schema_method(name) != NULL;
}

static void list_commands(const struct style *style)
{
	puts("\nCommands that go on until they are ended:");
	for (const struct command *row = commands; row->name != NULL; row++)
		print_pair(row->name, COMMAND_WIDTH, row->summary, style->width);
}

int help_print(int count, char *const *words)
{
	const struct command *command;
	char name[NAME_SIZE];
	struct style style;
	json_t *method;

	style_choose(&style, "never");
	if (count == 0) {
		fputs(usage, stdout);
		list_methods(NULL, &style);
		list_commands(&style);
		return DONE;
	}
	command = command_find(count, words);
	if (command != NULL) {
		printf("Usage: ringwayctl %s %s\n\n%s", command->name, command->usage,
		       command->help);
		if (has_methods(command->name)) {
			puts("\nMethods:");
			list_methods(command->name, &style);
		}
		return DONE;
	}
	words_method(count, words, name, sizeof(name));
	method = schema_method(name);
	if (method != NULL)
		print_method(method, &style);
	else if (count > 1 || list_methods(words[0], &style) == 0)
		return words_refuse("there is no such method", name);
	return DONE;
}
