/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ringwayctl: one JSON-RPC call to the daemon from the command line.
 *
 * words.c makes a request of the words, lib/rpc/client.c sends it, print.c shows the result. What
 * there is to know of methods comes from the daemon's own description (schema.h). A few commands
 * are more than one call (command.h).
 */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/descriptors.h"
#include "base/error.h"
#include "command.h"
#include "help.h"
#include "print.h"
#include "rpc/client.h"
#include "schema.h"
#include "words.h"

#define DEFAULT_TIMEOUT 10
#define MAX_TIMEOUT 86400

static int parse_timeout(const char *text, unsigned int *timeout)
{
	unsigned long value;
	char *end;

	errno = 0;
	value = strtoul(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || value < 1 ||
	    value > MAX_TIMEOUT)
		return words_refuse("the timeout must be 1 to 86400 seconds", text);
	*timeout = (unsigned int)value;
	return DONE;
}

/* Options may stand anywhere; what follows "--" are words. Returns DONE, USAGE, or -1 to exit. */
static int parse_options(int argc, char **argv, struct options *options)
{
	static const struct option known[] = {
		{ "socket", required_argument, NULL, 's' },
		{ "json", no_argument, NULL, 'j' },
		{ "timeout", required_argument, NULL, 't' },
		{ "color", required_argument, NULL, 'c' },
		{ "since", required_argument, NULL, 'S' },
		{ "once", no_argument, NULL, 'O' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL },
	};
	int rc = DONE;
	int option;

	while (rc == DONE && (option = getopt_long(argc, argv, "s:jt:hV", known, NULL)) != -1) {
		switch (option) {
		case 's':
			options->socket = optarg;
			break;
		case 'j':
			options->json = true;
			break;
		case 't':
			rc = parse_timeout(optarg, &options->timeout);
			break;
		case 'c':
			if (style_choose(&options->style, optarg) != 0)
				rc = words_refuse("colour is auto, always or never", optarg);
			break;
		case 'S':
			options->since = optarg;
			break;
		case 'O':
			options->once = true;
			break;
		case 'h':
			options->help = true;
			break;
		case 'V':
			puts("ringwayctl " RINGWAY_VERSION);
			return -1;
		default:
			/* getopt_long has said what is wrong. */
			return USAGE;
		}
	}
	return rc;
}

static int print_answer(json_t *result, const struct options *options)
{
	if (options->json)
		print_json(result);
	else
		print_result(result, &options->style);
	if (fflush(stdout) == 0 && !ferror(stdout))
		return DONE;
	fprintf(stderr, "ringwayctl: cannot print the result: %s\n", strerror(errno));
	return REFUSED;
}

static int call(const struct request *request, const struct options *options)
{
	struct rpc_client *client;
	struct error err;
	json_t *result;
	int rc;

	rc = rpc_client_open(&client, options->socket, options->timeout * 1000, &err);
	if (rc != 0) {
		print_error(&err);
		return err.kind == ERROR_INVALID ? USAGE : NO_DAEMON;
	}
	rc = rpc_client_call(client, request->method, request->params, &result, NULL, &err);
	rpc_client_close(client);
	if (rc != 0) {
		print_error(&err);
		return rc == -EREMOTEIO ? REFUSED : NO_DAEMON;
	}
	rc = print_answer(result, options);
	json_decref(result);
	return rc;
}

/* `help`, `help port add`, `port help`, and --help behind any words. */
static bool asks_for_help(int *count, char ***words, bool option)
{
	if (*count > 0 && strcmp((*words)[0], "help") == 0) {
		++*words;
		--*count;
		return true;
	}
	if (*count == 2 && strcmp((*words)[1], "help") == 0) {
		--*count;
		return true;
	}
	return option;
}

/* Options of one command are odd for the others. */
static int check_options(const struct command *command, const struct options *options)
{
	const char *name = command != NULL ? command->name : "";

	if (options->since != NULL && strcmp(name, "watch") != 0)
		return words_refuse("--since belongs to watch", NULL);
	if (options->once && strcmp(name, "top") != 0)
		return words_refuse("--once belongs to top", NULL);
	return DONE;
}

static int run(int count, char **words, const struct options *options)
{
	struct request request = { NULL };
	const struct command *command;
	int rc;

	if (asks_for_help(&count, &words, options->help))
		return help_print(count, words);
	command = command_find(count, words);
	rc = check_options(command, options);
	if (rc != DONE)
		return rc;
	if (command != NULL)
		return command->run(count - 1, words + 1, options);
	rc = words_parse(count, words, &request);
	if (rc == DONE)
		rc = call(&request, options);
	request_release(&request);
	return rc;
}

/* --complete WORDS...: the words behind it are what was typed, so odd options are no errors. */
static int complete(int argc, char **argv, struct options *options)
{
	char *last = argv[argc - 1];

	opterr = 0;
	/* The last word is what is being completed, whatever it looks like. */
	(void)parse_options(argc - 1, argv, options);
	argv[argc - 1] = last;
	complete_print(argc - optind, argv + optind, options->socket);
	return DONE;
}

int main(int argc, char **argv)
{
	struct options options = { .socket = HELP_SOCKET, .timeout = DEFAULT_TIMEOUT };
	int rc;

	if (descriptors_fill_standard() != 0)
		return words_refuse("/dev/null cannot be opened", NULL);
	if (schema_open() != 0)
		return words_refuse("out of memory", NULL);
	style_choose(&options.style, "auto");
	if (argc > 2 && strcmp(argv[1], "--complete") == 0) {
		rc = complete(argc - 1, argv + 1, &options);
	} else {
		rc = parse_options(argc, argv, &options);
		if (rc == DONE)
			rc = run(argc - optind, argv + optind, &options);
		else if (rc < 0)
			rc = DONE;
	}
	schema_close();
	return rc;
}
