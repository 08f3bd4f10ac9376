/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * `capture` and `trace`: capture.start with our own standard output as the descriptor, so that what
 * is captured goes from the daemon straight to whoever reads us; and trace.start, printed for
 * people. command.h is the contract.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command.h"
#include "rpc/client.h"
#include "schema.h"
#include "text.h"
#include "words.h"

#define WORDS_MAX 64
#define FILTER_SIZE 2048
#define WAIT_MS 700000000u /* longer than any capture may last */
#define TRACE_SECONDS 5    /* of trace.start, if nothing else is said */

/* ---- words: PORT [FILTER ...] [KEY=VALUE ...] ---- */

static bool is_param(json_t *method, const char *word)
{
	size_t length = strcspn(word, "=");
	json_t *param;
	size_t i;

	json_array_foreach(json_object_get(method, "params"), i, param) {
		const char *name = json_string_value(json_object_get(param, "name"));

		if (word[length] == '=' && strlen(name) == length &&
		    strncmp(name, word, length) == 0)
			return true;
	}
	return false;
}

/* Makes a request of the words, to be released in any case. Returns DONE or USAGE. */
static int parse_words(const char *name, int count, char *const *words, struct request *request)
{
	char method[32], port[128], filter[FILTER_SIZE + 16] = "filter=";
	char *parts[WORDS_MAX] = { method };
	int used = 1;
	bool filtered = false;

	snprintf(method, sizeof(method), "%s", name);
	if (count == 0)
		return words_refuse("a port is missing", NULL);
	for (int i = 0; i < count; i++) {
		const size_t length = strlen(filter);

		if (used > WORDS_MAX - 3)
			return words_refuse("there are too many words", words[i]);
		if (is_param(schema_method(name), words[i])) {
			parts[used++] = words[i];
		} else if (i == 0) {
			snprintf(port, sizeof(port), "port=%s", words[i]);
			parts[used++] = port;
		} else if (length + strlen(words[i]) + 2 > sizeof(filter)) {
			return words_refuse("the filter is too long", words[i]);
		} else {
			snprintf(filter + length, sizeof(filter) - length, "%s%s",
				 filtered ? " " : "", words[i]);
			filtered = true;
		}
	}
	if (filtered)
		parts[used++] = filter;
	return words_parse(used, parts, request);
}

/* Returns DONE or an exit code after a complaint. */
static int open_client(struct rpc_client **client, const struct options *options,
		       unsigned int timeout)
{
	struct error err;

	if (rpc_client_open(client, options->socket, timeout, &err) == 0)
		return DONE;
	print_error(&err);
	return err.kind == ERROR_INVALID ? USAGE : NO_DAEMON;
}

static int complain(int rc, const struct error *err)
{
	print_error(err);
	return rc == -EREMOTEIO ? REFUSED : NO_DAEMON;
}

/* ---- capture ---- */

/* The capture, for the thread that waits for ^C. */
struct running {
	const struct options *options;
	json_t *number; /* {"capture": N} */
	sigset_t signals;
};

static void *wait_for_signal(void *argument)
{
	struct running *running = argument;
	struct rpc_client *client;
	struct error err;
	json_t *result;
	int number;

	sigwait(&running->signals, &number);
	/* A daemon that does not answer holds nobody: another signal ends us as it ends others. */
	pthread_sigmask(SIG_UNBLOCK, &running->signals, NULL);
	if (rpc_client_open(&client, running->options->socket, running->options->timeout * 1000,
			    &err) != 0)
		return NULL;
	/* What comes of it the one who waits for the end is told. */
	if (rpc_client_call(client, "capture.stop", running->number, &result, NULL, &err) == 0)
		json_decref(result);
	rpc_client_close(client);
	return NULL;
}

static int print_end(const json_t *result, const struct options *options)
{
	static const char failed[] = "cannot be written";
	const char *reason = json_string_value(json_object_get(result, "reason"));
	json_int_t counts[4];
	static const char *const keys[] = { "seen", "matched", "written", "missed" };

	for (int i = 0; i < 4; i++)
		counts[i] = json_integer_value(json_object_get(result, keys[i]));
	if (options->json) {
		char *text = json_dumps(result, JSON_COMPACT | JSON_ENSURE_ASCII);

		fprintf(stderr, "%s\n", text != NULL ? text : "");
		free(text);
	} else {
		fprintf(stderr, "ringwayctl: %" JSON_INTEGER_FORMAT " frames seen, %"
			JSON_INTEGER_FORMAT " matched, %" JSON_INTEGER_FORMAT " written, %"
			JSON_INTEGER_FORMAT " missed: ", counts[0], counts[1], counts[2],
			counts[3]);
		text_write(stderr, reason != NULL ? reason : "");
		fputc('\n', stderr);
	}
	return reason != NULL && strncmp(reason, failed, sizeof(failed) - 1) == 0 ? REFUSED : DONE;
}

/* Begins the capture. *number: what names it. */
static int begin(const struct request *request, const struct options *options, json_t **number)
{
	const int output = STDOUT_FILENO;
	struct rpc_client *client;
	struct error err;
	int rc = open_client(&client, options, options->timeout * 1000);

	if (rc != DONE)
		return rc;
	rc = rpc_client_call_with(client, request->method, request->params, output, number, NULL,
				  &err);
	rpc_client_close(client);
	return rc == 0 ? DONE : complain(rc, &err);
}

static int wait_for_end(struct running *running)
{
	struct rpc_client *client;
	pthread_t thread;
	struct error err;
	json_t *result;
	int rc = open_client(&client, running->options, WAIT_MS);

	if (rc != DONE)
		return rc;
	if (pthread_create(&thread, NULL, wait_for_signal, running) != 0) {
		rpc_client_close(client);
		return words_refuse("out of memory", NULL);
	}
	pthread_detach(thread);
	rc = rpc_client_call(client, "capture.wait", running->number, &result, NULL, &err);
	rpc_client_close(client);
	if (rc != 0)
		return complain(rc, &err);
	rc = print_end(result, running->options);
	json_decref(result);
	return rc;
}

int capture_run(int count, char *const *words, const struct options *options)
{
	/* The thread that waits for a signal may be left behind. */
	static struct running running;
	struct request request = { NULL };
	int rc = parse_words("capture.start", count, words, &request);

	if (rc == DONE && isatty(STDOUT_FILENO) == 1)
		rc = words_refuse("a capture is nothing for a terminal: send it to a file, or "
				  "through a pipe to `tcpdump -r -` or `wireshark -k -i -`", NULL);
	if (rc == DONE) {
		running.options = options;
		sigemptyset(&running.signals);
		sigaddset(&running.signals, SIGINT);
		sigaddset(&running.signals, SIGTERM);
		sigaddset(&running.signals, SIGHUP);
		pthread_sigmask(SIG_BLOCK, &running.signals, NULL);
		json_object_set_new(request.params, "fd", json_true());
		rc = begin(&request, options, &running.number);
	}
	request_release(&request);
	return rc == DONE ? wait_for_end(&running) : rc;
}

/* ---- trace ---- */

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text != NULL ? text : "";
}

static void print_frame(const json_t *frame)
{
	const json_t *tag = json_object_get(frame, "tag");
	json_t *step;
	size_t i;

	text_write(stdout, text_of(frame, "time"));
	printf("  %s  %s > %s  type %s", text_of(frame, "direction"), text_of(frame, "source"),
	       text_of(frame, "destination"), text_of(frame, "type"));
	if (tag != NULL)
		printf("  VLAN %" JSON_INTEGER_FORMAT, json_integer_value(tag));
	printf("  %" JSON_INTEGER_FORMAT " bytes",
	       json_integer_value(json_object_get(frame, "length")));
	if (text_of(frame, "offloads")[0] != '\0') {
		fputs("  ", stdout);
		text_write(stdout, text_of(frame, "offloads"));
	}
	putchar('\n');
	json_array_foreach(json_object_get(frame, "steps"), i, step) {
		printf("  %-7s ", text_of(step, "step"));
		if (json_object_get(step, "port") != NULL) {
			text_write(stdout, text_of(step, "port"));
			fputs(": ", stdout);
		}
		text_write(stdout, text_of(step, "result"));
		putchar('\n');
	}
}

static void print_trace(const json_t *result)
{
	const json_t *frames = json_object_get(result, "frames");
	json_t *frame;
	size_t i;

	json_array_foreach(frames, i, frame) {
		if (i > 0)
			putchar('\n');
		print_frame(frame);
	}
	fflush(stdout);
	fprintf(stderr, "ringwayctl: %zu frames: ", json_array_size(frames));
	text_write(stderr, text_of(result, "reason"));
	fputc('\n', stderr);
}

int trace_run(int count, char *const *words, const struct options *options)
{
	struct request request = { NULL };
	struct rpc_client *client;
	json_int_t seconds = TRACE_SECONDS;
	struct error err;
	json_t *result;
	int rc = parse_words("trace.start", count, words, &request);

	if (rc == DONE) {
		const json_t *given = json_object_get(request.params, "seconds");

		/* What is out of range is for the daemon to refuse. */
		if (json_integer_value(given) > 0 && json_integer_value(given) < 86400)
			seconds = json_integer_value(given);
		rc = open_client(&client, options,
				 (options->timeout + (unsigned int)seconds) * 1000);
	}
	if (rc != DONE) {
		request_release(&request);
		return rc;
	}
	rc = rpc_client_call(client, request.method, request.params, &result, NULL, &err);
	rpc_client_close(client);
	request_release(&request);
	if (rc != 0)
		return complain(rc, &err);
	if (options->json)
		print_json(result);
	else
		print_trace(result);
	json_decref(result);
	return DONE;
}
