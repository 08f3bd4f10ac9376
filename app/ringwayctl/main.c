/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ringwayctl: one JSON-RPC call to the daemon from the command line.
 *
 * It knows no method: what it is given becomes a method's name and an object of parameters, and the
 * daemon says whether they are good. So it never has to be changed when a method is added.
 */
#include "base/error.h"
#include "rpc/client.h"

#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_SOCKET "/run/ringway/ringway.sock"
#define DEFAULT_TIMEOUT 10
#define MAX_TIMEOUT 86400

enum exit_code { DONE, REFUSED, USAGE, NO_DAEMON };

struct options {
	const char *socket;
	unsigned int timeout; /* seconds */
	char *method;
	json_t *params;
};

static const char help[] =
	"Usage: ringwayctl [--socket PATH] [--timeout SECONDS] METHOD [KEY=VALUE ...]\n"
	"\n"
	"Calls a method of ringwayd and prints its result as JSON. The parts of METHOD may be\n"
	"written with a dot or as two words: `port.get` and `port get` are the same.\n"
	"\n"
	"A VALUE which is valid JSON is taken as such, everything else as a string; the string 12\n"
	"is written '\"12\"'. Dots in KEY nest: `permissions.mode=0660` is\n"
	"{\"permissions\": {\"mode\": \"0660\"}}.\n"
	"\n"
	"  -s, --socket PATH      the daemon's control socket (" DEFAULT_SOCKET ")\n"
	"  -t, --timeout SECONDS  how long to wait for the answer (10)\n"
	"  -h, --help             print this and exit\n"
	"  -V, --version          print the version and exit\n"
	"\n"
	"Exit status: 0 done, 1 refused by the daemon, 2 wrong usage, 3 no daemon answers.\n"
	"\n"
	"  ringwayctl port get name=vm1\n";

/*
 * Everything on stderr is one line, and says nothing to a terminal but text, wherever it comes
 * from.
 */
static void print_line(const char *label, const char *text)
{
	fputs(label, stderr);
	for (; *text != '\0'; text++)
		fputc((unsigned char)*text < ' ' || *text == 0x7f ? '?' : *text, stderr);
}

static int usage(const char *message, const char *subject)
{
	print_line("ringwayctl: ", message);
	if (subject != NULL)
		print_line(": ", subject);
	fputs(" (see ringwayctl --help)\n", stderr);
	return USAGE;
}

static void print_error(const struct error *err)
{
	const char *const details[][2] = {
		{ "object", err->object },
		{ "field", err->field },
		{ "value", err->value },
		{ "accepted", err->accepted },
	};
	const char *between = " [";

	print_line("ringwayctl: ", err->message);
	for (size_t i = 0; i < sizeof(details) / sizeof(details[0]); i++) {
		if (details[i][1][0] == '\0')
			continue;
		fputs(between, stderr);
		print_line(details[i][0], "");
		print_line(": ", details[i][1]);
		between = "; ";
	}
	fputs(between[0] == ';' ? "]\n" : "\n", stderr);
}

/* Puts the value under a key with dots; takes it over. Returns DONE or USAGE. */
static int set_value(json_t *params, char *key, json_t *value, const char *argument)
{
	json_t *object = params;
	char *dot;

	for (; (dot = strchr(key, '.')) != NULL; key = dot + 1) {
		json_t *inner;

		*dot = '\0';
		inner = json_object_get(object, key);
		if (inner == NULL && json_object_set_new(object, key, json_object()) == 0)
			inner = json_object_get(object, key);
		if (key[0] == '\0' || !json_is_object(inner))
			goto refuse;
		object = inner;
	}
	if (key[0] == '\0' || json_object_get(object, key) != NULL)
		goto refuse;
	if (json_object_set_new(object, key, value) != 0)
		return usage("this is not UTF-8", argument);
	return DONE;

refuse:
	json_decref(value);
	return usage("this key is empty, given twice, or a value and an object at once", argument);
}

static int add_param(json_t *params, const char *argument)
{
	const char *equals = strchr(argument, '=');
	json_t *value;
	char *key;
	int rc;

	if (equals == NULL)
		return usage("a parameter must be KEY=VALUE", argument);
	value = json_loads(equals + 1, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
	if (value == NULL)
		value = json_string(equals + 1);
	if (value == NULL)
		return usage("this is not UTF-8", argument);
	key = strndup(argument, (size_t)(equals - argument));
	if (key == NULL) {
		json_decref(value);
		return usage("out of memory", NULL);
	}
	rc = set_value(params, key, value, argument);
	free(key);
	return rc;
}

static int parse_timeout(const char *text, unsigned int *timeout)
{
	unsigned long value;
	char *end;

	errno = 0;
	value = strtoul(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || value < 1 ||
	    value > MAX_TIMEOUT)
		return usage("the timeout must be 1 to 86400 seconds", text);
	*timeout = (unsigned int)value;
	return DONE;
}

/* METHOD, in one word or two, and the parameters behind it. */
static int parse_words(int count, char **words, struct options *options)
{
	const char *second = NULL;
	int used = 1;

	if (count < 1)
		return usage("a method is missing", NULL);
	if (strchr(words[0], '=') != NULL)
		return usage("a method must come before its parameters", words[0]);
	if (count > 1 && strchr(words[1], '=') == NULL && strchr(words[0], '.') == NULL) {
		second = words[1];
		used = 2;
	}
	if (asprintf(&options->method, "%s%s%s", words[0], second == NULL ? "" : ".",
		     second == NULL ? "" : second) < 0) {
		options->method = NULL;
		return usage("out of memory", NULL);
	}
	for (int i = used; i < count; i++) {
		int rc;

		if (options->params == NULL)
			options->params = json_object();
		rc = add_param(options->params, words[i]);
		if (rc != DONE)
			return rc;
	}
	return DONE;
}

static int call(const struct options *options)
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
	rc = rpc_client_call(client, options->method, options->params, &result, NULL, &err);
	rpc_client_close(client);
	if (rc != 0) {
		print_error(&err);
		return rc == -EREMOTEIO ? REFUSED : NO_DAEMON;
	}
	rc = json_dumpf(result, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
	json_decref(result);
	if (rc != 0 || putchar('\n') == EOF || fflush(stdout) != 0) {
		print_line("ringwayctl: cannot print the result: ", strerror(errno));
		fputc('\n', stderr);
		return REFUSED;
	}
	return DONE;
}

int main(int argc, char **argv)
{
	static const struct option long_options[] = {
		{ "socket", required_argument, NULL, 's' },
		{ "timeout", required_argument, NULL, 't' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL },
	};
	struct options options = { .socket = DEFAULT_SOCKET, .timeout = DEFAULT_TIMEOUT };
	int option;
	int rc = DONE;

	/* "+": options end at the method, so that a parameter may begin with a dash. */
	while ((option = getopt_long(argc, argv, "+s:t:hV", long_options, NULL)) != -1) {
		switch (option) {
		case 's':
			options.socket = optarg;
			break;
		case 't':
			rc = parse_timeout(optarg, &options.timeout);
			break;
		case 'h':
			fputs(help, stdout);
			return DONE;
		case 'V':
			puts("ringwayctl " RINGWAY_VERSION);
			return DONE;
		default:
			/* getopt_long has said what is wrong. */
			return USAGE;
		}
		if (rc != DONE)
			return rc;
	}
	rc = parse_words(argc - optind, argv + optind, &options);
	if (rc == DONE)
		rc = call(&options);
	json_decref(options.params);
	free(options.method);
	return rc;
}
