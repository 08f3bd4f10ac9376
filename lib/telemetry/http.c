/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The HTTP server; telemetry/http.h is the contract.
 *
 * libevent's server says when a connection begins, by asking for its buffers, and not when it ends.
 * So each is known by its descriptor and the inode of its socket, and looked after by a timer: a
 * descriptor that is another file by now is a connection that has ended.
 */
#include "telemetry/http.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/listener.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#include "base/log.h"
#include "rpc/socket.h"

#define LOOK_MS 200
#define BACKLOG 64
/* Whoever may enter the directory may read what changes nothing. */
#define SOCKET_MODE 0666

struct http_counters http_counters;

/* A connection. */
struct visitor {
	struct bufferevent *stream; /* until its descriptor is known; one reference */
	int fd;
	ino_t inode;
	uint64_t since; /* ms */
	bool present;
};

struct http {
	struct loop *loop;
	http_handler handler;
	void *argument;
	struct evhttp *server;
	struct evconnlistener *listener;
	struct event *arrived; /* there are visitors whose descriptor is not known */
	struct loop_timer look;
	struct rpc_socket socket; /* of a path */
	bool has_socket, full;
	unsigned int visitor_count;
	struct visitor visitors[HTTP_CONNECTIONS_MAX];
};

/* What waits to be read, of all servers: it may outlive the one that sent it. */
static size_t waiting;

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- connections ---- */

static bool is_there(const struct visitor *visitor)
{
	struct stat file;

	return fstat(visitor->fd, &file) == 0 && S_ISSOCK(file.st_mode) &&
	       file.st_ino == visitor->inode;
}

static void forget_visitor(struct http *http, struct visitor *visitor)
{
	visitor->present = false;
	http->visitor_count--;
	http_counters.clients--;
}

static void learn_descriptors(evutil_socket_t unused, short events, void *argument)
{
	struct http *http = argument;

	(void)unused;
	(void)events;
	for (unsigned int i = 0; i < HTTP_CONNECTIONS_MAX; i++) {
		struct visitor *visitor = &http->visitors[i];
		struct stat file;

		if (visitor->stream == NULL)
			continue;
		visitor->fd = bufferevent_getfd(visitor->stream);
		if (fstat(visitor->fd, &file) == 0)
			visitor->inode = file.st_ino;
		else
			forget_visitor(http, visitor);
		bufferevent_decref(visitor->stream);
		visitor->stream = NULL;
	}
}

static void look(void *argument)
{
	struct http *http = argument;
	uint64_t now = now_ms();

	learn_descriptors(-1, 0, http);
	for (unsigned int i = 0; i < HTTP_CONNECTIONS_MAX; i++) {
		struct visitor *visitor = &http->visitors[i];

		if (!visitor->present)
			continue;
		if (!is_there(visitor)) {
			forget_visitor(http, visitor);
		} else if (now - visitor->since >= HTTP_WHOLE_MS) {
			/* The server finds it ended, and closes it. */
			shutdown(visitor->fd, SHUT_RDWR);
			forget_visitor(http, visitor);
			http_counters.late++;
		}
	}
	if (http->full && http->visitor_count < HTTP_CONNECTIONS_MAX) {
		http->full = false;
		evconnlistener_enable(http->listener);
	}
}

static void pause_accepting(struct http *http)
{
	http->full = true;
	evconnlistener_disable(http->listener);
}

/* A connection has come. */
static struct bufferevent *begin_visit(struct event_base *base, void *argument)
{
	struct http *http = argument;
	struct bufferevent *stream = bufferevent_socket_new(base, -1, 0);

	http_counters.connects++;
	for (unsigned int i = 0; stream != NULL && i < HTTP_CONNECTIONS_MAX; i++) {
		struct visitor *visitor = &http->visitors[i];

		if (visitor->present)
			continue;
		bufferevent_incref(stream);
		*visitor = (struct visitor){ .stream = stream, .fd = -1, .since = now_ms(),
					     .present = true };
		http_counters.clients++;
		if (++http->visitor_count == HTTP_CONNECTIONS_MAX)
			pause_accepting(http);
		event_active(http->arrived, 0, 0);
		break;
	}
	return stream;
}

/* Out of descriptors: the listening socket stays readable, so waiting for it would spin. */
static void accept_failed(struct evconnlistener *listener, void *argument)
{
	(void)listener;
	LOG_LIMITED(LOG_WARNING, "http", "cannot accept a client: %s", strerror(errno));
	pause_accepting(argument);
}

/* ---- answers ---- */

static const char *reason_of(int status)
{
	switch (status) {
	case 200:
		return "OK";
	case 404:
		return "Not Found";
	case 405:
		return "Method Not Allowed";
	default:
		return "Service Unavailable";
	}
}

static void body_was_sent(const void *body, size_t length, void *own)
{
	(void)body;
	waiting -= length;
	free(own);
}

static void add_headers(struct evhttp_request *request, const struct http_answer *answer)
{
	struct evkeyvalq *headers = evhttp_request_get_output_headers(request);

	evhttp_add_header(headers, "Connection", "close");
	evhttp_add_header(headers, "Cache-Control", "no-store");
	evhttp_add_header(headers, "X-Content-Type-Options", "nosniff");
	evhttp_add_header(headers, "Referrer-Policy", "no-referrer");
	evhttp_add_header(headers, "Content-Security-Policy",
			  answer->policy != NULL ? answer->policy
						 : "default-src 'none'; frame-ancestors 'none'");
	evhttp_add_header(headers, "Content-Type",
			  answer->type != NULL ? answer->type : "text/plain; charset=utf-8");
	if (answer->status == 405)
		evhttp_add_header(headers, "Allow", "GET, HEAD");
}

/* Takes over the answer's own body. */
static void add_body(struct evhttp_request *request, const struct http_answer *answer,
		     const char *body)
{
	struct evbuffer *buffer = evhttp_request_get_output_buffer(request);
	char length[24];

	if (evhttp_request_get_command(request) == EVHTTP_REQ_HEAD) {
		/* libevent would send a body there, too (RFC 9110, section 9.3.2). */
		snprintf(length, sizeof(length), "%zu", answer->length);
		evhttp_add_header(evhttp_request_get_output_headers(request), "Content-Length",
				  length);
		free(answer->body);
		return;
	}
	waiting += answer->length;
	http_counters.sent_bytes += answer->length;
	if (evbuffer_add_reference(buffer, body, answer->length, body_was_sent, answer->body) != 0)
		body_was_sent(body, answer->length, answer->body);
}

static void send_answer(struct evhttp_request *request, struct http_answer *answer)
{
	const char *body = answer->body != NULL ? answer->body : answer->lasting;

	/* However long this one is: a large switch has more metrics than that. */
	if (waiting > HTTP_WAITING_MAX && answer->length > HTTP_SHORT) {
		free(answer->body);
		*answer = (struct http_answer){ .status = 503 };
		body = NULL;
	}
	if (body == NULL) {
		body = reason_of(answer->status);
		answer->length = strlen(body);
	}
	add_headers(request, answer);
	if (answer->status >= 400)
		http_counters.refusals++;
	add_body(request, answer, body);
	evhttp_send_reply(request, answer->status, reason_of(answer->status), NULL);
}

static void handle(struct evhttp_request *request, void *argument)
{
	struct http *http = argument;
	struct http_answer answer = { .status = 404 };
	enum evhttp_cmd_type command = evhttp_request_get_command(request);
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(request);
	const char *path = uri != NULL ? evhttp_uri_get_path(uri) : NULL;
	struct evkeyvalq *headers = evhttp_request_get_input_headers(request);

	http_counters.requests++;
	if (command != EVHTTP_REQ_GET && command != EVHTTP_REQ_HEAD)
		answer.status = 405;
	else if (path != NULL)
		http->handler(http->argument, path, evhttp_find_header(headers, "Accept"),
			      &answer);
	send_answer(request, &answer);
}

/* ---- opening and closing ---- */

static int fail(struct error *err, const struct listen_address *address, int errnum)
{
	error_set(err, ERROR_SYSTEM, errnum, "cannot serve metrics at %s: %s", address->text,
		  strerror(errnum));
	error_detail(err, "metrics", "listen", address->text, NULL);
	return -errnum;
}

static int open_listener(struct http *http, const struct listen_address *address,
			 struct error *err)
{
	struct event_base *base = loop_base(http->loop);
	unsigned int flags = LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE;
	int result;

	if (!address->is_path) {
		http->listener = evconnlistener_new_bind(
			base, NULL, NULL, flags | LEV_OPT_CLOSE_ON_FREE, BACKLOG,
			(const void *)address->address, (int)address->length);
		return http->listener != NULL ? 0 : fail(err, address, errno);
	}
	result = rpc_socket_open(&http->socket, address->text, SOCKET_MODE, err);
	if (result != 0) {
		error_detail(err, "metrics", "listen", address->text, NULL);
		return result;
	}
	http->has_socket = true;
	http->listener = evconnlistener_new(base, NULL, NULL, flags, 0, http->socket.fd);
	return http->listener != NULL ? 0 : fail(err, address, ENOMEM);
}

static int start_server(struct http *http)
{
	struct event_base *base = loop_base(http->loop);

	http->server = evhttp_new(base);
	http->arrived = event_new(base, -1, EV_PERSIST, learn_descriptors, http);
	if (http->server == NULL || http->arrived == NULL ||
	    loop_timer_start(&http->look, http->loop, LOOK_MS, look, http) != 0 ||
	    evhttp_bind_listener(http->server, http->listener) == NULL)
		return -ENOMEM;
	evconnlistener_set_error_cb(http->listener, accept_failed);
	evhttp_set_bevcb(http->server, begin_visit, http);
	evhttp_set_gencb(http->server, handle, http);
	evhttp_set_timeout(http->server, HTTP_IDLE_S);
	evhttp_set_max_headers_size(http->server, HTTP_HEADERS_MAX);
	evhttp_set_max_body_size(http->server, 0);
	/* All come to `handle`, which says what is allowed. */
	evhttp_set_allowed_methods(http->server, UINT16_MAX);
	return 0;
}

int http_open(struct http **result, struct loop *loop, const struct listen_address *address,
	      http_handler handler, void *argument, struct error *err)
{
	struct http *http = calloc(1, sizeof(*http));
	int status;

	if (http == NULL)
		return fail(err, address, ENOMEM);
	http->loop = loop;
	http->handler = handler;
	http->argument = argument;
	status = open_listener(http, address, err);
	if (status == 0 && start_server(http) != 0) {
		/* Not the server's yet, which would free it. */
		if (http->server != NULL)
			evhttp_free(http->server);
		http->server = NULL;
		status = fail(err, address, ENOMEM);
	}
	if (status != 0) {
		http_close(http);
		return status;
	}
	*result = http;
	return 0;
}

void http_close(struct http *http)
{
	if (http == NULL)
		return;
	loop_timer_stop(&http->look);
	learn_descriptors(-1, 0, http);
	http_counters.clients -= http->visitor_count;
	/* Its connections and the listener go with the server. */
	if (http->server != NULL)
		evhttp_free(http->server);
	else if (http->listener != NULL)
		evconnlistener_free(http->listener);
	if (http->arrived != NULL)
		event_free(http->arrived);
	if (http->has_socket)
		rpc_socket_close(&http->socket);
	free(http);
}
