/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The pages of the HTTP server; stats.h says where it stands. `/` is the status page, which is
 * status.html as it was when the daemon was built, and asks for `/status.json` once a second.
 */
#include "stats.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "page.h"
#include "telemetry/http.h"

static void answer_text(struct http_answer *answer, int status, const char *text)
{
	size_t size = strlen(text) + 2;

	answer->status = status;
	answer->body = malloc(size);
	if (answer->body == NULL)
		return;
	snprintf(answer->body, size, "%s\n", text);
	answer->length = size - 1;
}

static void show_metrics(const struct daemon *daemon, const char *accept,
			 struct http_answer *answer)
{
	struct text text;

	text_begin(&text, text_wants_openmetrics(accept));
	if (!metrics_write(daemon, &text)) {
		free(text.bytes);
		answer_text(answer, 503, "out of memory");
		return;
	}
	answer->status = 200;
	answer->type = text.openmetrics ? TEXT_TYPE_OPENMETRICS : TEXT_TYPE_PROMETHEUS;
	answer->body = text.bytes;
	answer->length = text.length;
}

static void show_health(struct http_answer *answer)
{
	answer_text(answer, 200, "ok");
}

static void show_readiness(const struct daemon *daemon, struct http_answer *answer)
{
	const char *reason = NULL;

	if (stats_is_ready(daemon, &reason))
		answer_text(answer, 200, "ready");
	else
		answer_text(answer, 503, reason);
}

static json_t *ports_to_json(struct control *control)
{
	json_t *list = json_array();

	for (uint16_t i = 0; i < control->port_count; i++) {
		json_t *object;

		if (control->ports[i].model == NULL)
			continue;
		object = stats_port_summary(&control->ports[i]);
		json_object_update_new(object, stats_port_to_json(&control->ports[i]));
		json_array_append_new(list, object);
	}
	return list;
}

static void show_status(const struct daemon *daemon, struct http_answer *answer)
{
	const char *reason = NULL;
	bool ready = stats_is_ready(daemon, &reason);
	struct timespec now;
	json_t *object;

	clock_gettime(CLOCK_MONOTONIC, &now);
	object = json_pack("{s:I, s:s, s:I, s:b, s:s?, s:o, s:o, s:o, s:o, s:o, s:o}", "time_ms",
			   (json_int_t)now.tv_sec * 1000 + now.tv_nsec / 1000000, "version",
			   RINGWAY_VERSION, "uptime", (json_int_t)(now.tv_sec - daemon->started),
			   "ready", ready, "reason", ready ? NULL : reason, "ports",
			   ports_to_json(daemon->control), "workers",
			   stats_workers_to_json(daemon), "fdb",
			   stats_fdb_to_json(daemon->control), "control",
			   stats_control_to_json(daemon), "http", stats_http_to_json(), "process",
			   stats_process_to_json(daemon));
	answer->body = object != NULL ? json_dumps(object, JSON_COMPACT) : NULL;
	json_decref(object);
	if (answer->body == NULL) {
		answer_text(answer, 503, "out of memory");
		return;
	}
	answer->status = 200;
	answer->type = "application/json";
	answer->length = strlen(answer->body);
}

static void show_page(struct http_answer *answer)
{
	answer->status = 200;
	answer->type = "text/html; charset=utf-8";
	answer->policy = page_policy;
	answer->lasting = page_text;
	answer->length = page_length;
}

void pages_handle(void *argument, const char *path, const char *accept, struct http_answer *answer)
{
	const struct daemon *daemon = argument;

	if (strcmp(path, "/metrics") == 0)
		show_metrics(daemon, accept, answer);
	else if (strcmp(path, "/healthz") == 0)
		show_health(answer);
	else if (strcmp(path, "/readyz") == 0)
		show_readiness(daemon, answer);
	else if (strcmp(path, "/status.json") == 0)
		show_status(daemon, answer);
	else if (strcmp(path, "/") == 0)
		show_page(answer);
}
