/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The JSON-RPC server.
 *
 * The scanner of framing.c finds the values in a client's input, method.c makes answers of them,
 * and this file keeps the socket, the clients and the limits. An answer may come long after its
 * request, when the client or the whole server is gone: what method.c holds on to is a `struct
 * pending`, which outlives both and knows whether its client is still there.
 *
 * A client is never freed while its own input is being handled, because any handler may complete
 * any call; it is marked and freed at the end.
 */
#include "rpc/server.h"

#include "base/log.h"
#include "rpc/framing.h"
#include "rpc/socket.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CLIENTS_MAX 256
#define REQUEST_MAX ((size_t)256 << 10)
#define DEPTH_MAX 32
#define OUTPUT_MAX ((size_t)8 << 20)
/* And so many that no further request of a client is begun before it has read them. */
#define OUTPUT_PAUSE ((size_t)1 << 20)
/* Of a feed so much waits in our memory; the rest stays with its owner. */
#define FEED_MAX ((size_t)64 << 10)
/* A client that reads nothing for so long, while answers wait for it, is dropped. */
#define READ_WITHIN_S 5
/* libevent goes on with an old timeout where a new one is none. */
#define FOREVER_S (10 * 365 * 86400)
#define PENDING_MAX 64
/* What is read in one go, and of descriptors with it: the kernel sends no more (SCM_MAX_FD). */
#define READ_SIZE 65536
#define DESCRIPTORS_MAX (sizeof(((struct call_descriptors *)0)->fds) / sizeof(int))
#define FAREWELL_SECONDS 10
#define ACCEPT_RETRY_MS 200

struct call_client {
	struct rpc_feed *feed; /* NULL: none */
};

struct connection {
	struct call_client handle; /* the first member */
	LIST_ENTRY(connection) link;
	struct rpc_server *server;
	struct bufferevent *stream; /* sends; what comes in is read here, for its descriptors */
	struct event *readable;
	struct evbuffer *input;
	struct framing framing;
	struct call_peer peer;
	struct call_descriptors descriptors;
	uint64_t received, handled; /* bytes; descriptors came with those up to... */
	uint64_t descriptors_until;
	LIST_HEAD(, pending) pending;
	unsigned int pending_count;
	bool stalled;    /* too many answers are due: nothing more is read */
	bool processing; /* its input is being handled further up the stack */
	bool eof;        /* the client sends no more */
	bool closing;    /* we read no more: freed once the answers have left */
	bool dropped;    /* freed as soon as nobody up the stack uses it */
};

/* A request that method.c has and that has not been answered. */
struct pending {
	LIST_ENTRY(pending) link;
	struct connection *client; /* NULL once it is gone */
};

struct rpc_server {
	struct loop *loop;
	struct rpc_socket socket;
	struct evconnlistener *listener;
	struct loop_timer accept_retry;
	const struct method *const *tables;
	void *context;
	LIST_HEAD(, connection) clients;
	struct rpc_counters counters;
};

static void descriptors_close(struct call_descriptors *descriptors)
{
	for (unsigned int i = 0; i < descriptors->count; i++)
		close(descriptors->fds[i]);
	descriptors->count = 0;
}

static struct connection *connection_of(struct call_client *handle)
{
	return (struct connection *)handle;
}

static void connection_free(struct connection *client)
{
	struct rpc_feed *feed = client->handle.feed;
	struct pending *pending;

	if (feed != NULL) {
		rpc_feed_end(feed);
		feed->ended(feed);
	}
	LIST_FOREACH(pending, &client->pending, link)
		pending->client = NULL;
	LIST_REMOVE(client, link);
	client->server->counters.clients--;
	descriptors_close(&client->descriptors);
	event_free(client->readable);
	evbuffer_free(client->input);
	/* libevent closes the socket in the loop's next round, which may never come. */
	shutdown(bufferevent_getfd(client->stream), SHUT_RDWR);
	bufferevent_free(client->stream);
	free(client);
}

/* Frees the client if nothing is left to be done for it. */
static void connection_settle(struct connection *client)
{
	struct evbuffer *output = bufferevent_get_output(client->stream);
	bool last = client->closing || (client->eof && evbuffer_get_length(client->input) == 0);

	if (client->processing)
		return;
	if (client->dropped ||
	    (last && client->pending_count == 0 && evbuffer_get_length(output) == 0))
		connection_free(client);
}

struct writer {
	struct evbuffer *buffer;
	size_t size;
};

static int write_answer(const char *data, size_t size, void *argument)
{
	struct writer *writer = argument;

	writer->size += size;
	if (writer->size > METHOD_ANSWER_MAX)
		return -1;
	return evbuffer_add(writer->buffer, data, size);
}

/* The answer as text; NULL if it is too long or memory ran out. */
static struct evbuffer *answer_text(const json_t *response)
{
	struct writer writer = { .buffer = evbuffer_new() };

	if (writer.buffer == NULL)
		return NULL;
	if (json_dump_callback(response, write_answer, &writer, JSON_COMPACT) == 0 &&
	    evbuffer_add(writer.buffer, "\n", 1) == 0)
		return writer.buffer;
	evbuffer_free(writer.buffer);
	return NULL;
}

static void drop_deaf(struct connection *client)
{
	LOG_LIMITED(LOG_WARNING, "rpc",
		    "the client with pid %d and uid %u does not read its answers: dropped",
		    (int)client->peer.pid, (unsigned int)client->peer.uid);
	client->server->counters.deaf++;
	client->dropped = true;
}

static void count_refusals(struct rpc_counters *counters, const json_t *response)
{
	size_t count = json_array_size(response);

	if (json_object_get(response, "error") != NULL)
		counters->refusals++;
	for (size_t i = 0; i < count; i++)
		if (json_object_get(json_array_get(response, i), "error") != NULL)
			counters->refusals++;
}

/*
 * From a client that is owed an answer we want to see that it reads. Who only follows events may
 * stop for as long as it likes.
 */
static void set_patience(struct connection *client, bool owed)
{
	const struct timeval patience = { .tv_sec = owed ? READ_WITHIN_S : FOREVER_S };

	if (client->handle.feed != NULL && !client->closing)
		bufferevent_set_timeouts(client->stream, NULL, &patience);
}

/* Takes over the response. */
static void connection_send(struct connection *client, json_t *response)
{
	struct evbuffer *output = bufferevent_get_output(client->stream);
	struct evbuffer *text = answer_text(response);
	struct rpc_counters *counters = &client->server->counters;
	struct error err;

	if (text == NULL) {
		json_t *short_response;

		error_set(&err, ERROR_LIMIT, EMSGSIZE,
			  "the request was handled, but its answer is too long");
		error_detail(&err, NULL, NULL, NULL, "4 MiB an answer");
		/* The answer to a batch is an array, where this finds no id. */
		short_response = method_error_response(json_object_get(response, "id"), &err);
		text = answer_text(short_response);
		json_decref(short_response);
		counters->refusals++;
	} else {
		count_refusals(counters, response);
	}
	json_decref(response);
	if (text == NULL) {
		client->dropped = true;
		return;
	}
	counters->sent_bytes += evbuffer_get_length(text);
	if (evbuffer_get_length(output) + evbuffer_get_length(text) > OUTPUT_MAX) {
		drop_deaf(client);
	} else if (evbuffer_add_buffer(output, text) != 0) {
		client->dropped = true;
	}
	evbuffer_free(text);
	set_patience(client, true);
}

/* Has the feed fill what is free of its share of the output. */
static void connection_feed(struct connection *client)
{
	struct evbuffer *output = bufferevent_get_output(client->stream);

	while (client->handle.feed != NULL && !client->closing && !client->dropped &&
	       evbuffer_get_length(output) < FEED_MAX) {
		size_t size = 0;
		const char *text = client->handle.feed->next(client->handle.feed, &size);

		if (text == NULL)
			return;
		if (evbuffer_add(output, text, size) != 0)
			client->dropped = true;
	}
}

int rpc_feed_begin(struct call_client *client, struct rpc_feed *feed)
{
	if (client->feed != NULL)
		return -EBUSY;
	client->feed = feed;
	feed->client = client;
	return 0;
}

struct rpc_feed *rpc_feed_of(const struct call_client *client)
{
	return client->feed;
}

void rpc_feed_end(struct rpc_feed *feed)
{
	if (feed->client == NULL)
		return;
	set_patience(connection_of(feed->client), true);
	feed->client->feed = NULL;
	feed->client = NULL;
}

void rpc_feed_wake(struct rpc_feed *feed)
{
	struct connection *client = connection_of(feed->client);

	/* Else this is done when its input has been handled. */
	if (client->processing)
		return;
	connection_feed(client);
	connection_settle(client);
}

/* The answer that method.c owes us; response is NULL for notifications. */
static void answered(void *argument, json_t *response)
{
	struct pending *pending = argument;
	struct connection *client = pending->client;

	if (client == NULL) {
		json_decref(response);
		free(pending);
		return;
	}
	LIST_REMOVE(pending, link);
	free(pending);
	client->pending_count--;
	if (response != NULL && !client->dropped)
		connection_send(client, response);
	else
		json_decref(response);
	/*
	 * Requests that waited for this one are handled from the loop, not from within the handler
	 * which completed it.
	 */
	if (!client->processing && !client->dropped && !client->closing && client->stalled)
		event_active(client->readable, EV_READ, 0);
	connection_settle(client);
}

/* Tells the client why, and closes once it has read that. */
static void connection_refuse(struct connection *client, const struct error *err)
{
	const struct timeval farewell = { .tv_sec = FAREWELL_SECONDS };
	json_t *response = method_error_response(NULL, err);

	client->closing = true;
	bufferevent_set_timeouts(client->stream, NULL, &farewell);
	if (response == NULL)
		client->dropped = true;
	else
		connection_send(client, response);
}

static void refuse_frame(struct connection *client, enum framing_status status)
{
	struct error err;

	if (status == FRAMING_TOO_LONG) {
		error_set(&err, ERROR_LIMIT, EMSGSIZE, "the request is too long");
		error_detail(&err, NULL, NULL, NULL, "256 KiB a request");
	} else if (status == FRAMING_TOO_DEEP) {
		error_set(&err, ERROR_LIMIT, E2BIG, "the request is nested too deeply");
		error_detail(&err, NULL, NULL, NULL, "32 levels of arrays and objects");
	} else if (client->eof) {
		error_set(&err, ERROR_PARSE, 0, "the request was cut off");
	} else {
		error_set(&err, ERROR_PARSE, 0, "the request is no JSON");
	}
	connection_refuse(client, &err);
}

/*
 * The parser did not like a value that the scanner had found. Where the bytes are JSON after all,
 * but nothing that we take (a key given twice, a NUL in a string, a number out of range), the
 * stream is still good.
 */
static void refuse_value(struct connection *client, const json_error_t *error)
{
	struct error err;

	switch (json_error_code(error)) {
	case json_error_duplicate_key:
	case json_error_null_character:
	case json_error_null_byte_in_key:
	case json_error_numeric_overflow:
		error_set(&err, ERROR_REQUEST, 0, "the request cannot be taken: %s", error->text);
		connection_send(client, method_error_response(NULL, &err));
		return;
	case json_error_out_of_memory:
		error_set(&err, ERROR_INTERNAL, ENOMEM, "out of memory");
		break;
	default:
		error_set(&err, ERROR_PARSE, 0, "the request is no JSON: %s", error->text);
		break;
	}
	connection_refuse(client, &err);
}

static void log_request(const struct connection *client, const json_t *request)
{
	const char *name = json_string_value(json_object_get(request, "method"));

	if (json_is_array(request))
		name = "a batch";
	log_debug("rpc", "pid %d, uid %u: %s", (int)client->peer.pid,
		  (unsigned int)client->peer.uid, name == NULL ? "no request" : name);
}

/* The value that framing has found at the head of the input. */
static void handle_value(struct connection *client)
{
	struct evbuffer *input = client->input;
	struct framing *framing = &client->framing;
	struct rpc_server *server = client->server;
	struct pending *pending = calloc(1, sizeof(*pending));
	const char *text;
	json_error_t error;
	json_t *request = NULL;

	evbuffer_drain(input, framing->skipped);
	text = (const char *)evbuffer_pullup(input, (ev_ssize_t)framing->length);
	if (pending == NULL || text == NULL) {
		free(pending);
		client->dropped = true;
		return;
	}
	request = json_loadb(text, framing->length, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES,
			     &error);
	evbuffer_drain(input, framing->length);
	client->handled += framing->skipped + framing->length;
	framing_reset(framing);
	if (request == NULL) {
		free(pending);
		refuse_value(client, &error);
		return;
	}
	log_request(client, request);
	pending->client = client;
	LIST_INSERT_HEAD(&client->pending, pending, link);
	client->pending_count++;
	server->counters.requests++;
	method_dispatch(server->tables, server->context, &client->peer, &client->descriptors,
			request, answered, pending);
	json_decref(request);
}

/* Scans what has not been scanned yet, piece by piece as it lies in memory. */
static enum framing_status scan_input(struct connection *client)
{
	struct evbuffer *input = client->input;
	struct framing *framing = &client->framing;
	enum framing_status status = FRAMING_MORE;

	while (status == FRAMING_MORE) {
		size_t scanned = framing->skipped + framing->length;
		struct evbuffer_ptr position;
		struct evbuffer_iovec piece;
		size_t used;

		if (scanned >= evbuffer_get_length(input))
			break;
		if (evbuffer_ptr_set(input, &position, scanned, EVBUFFER_PTR_SET) != 0 ||
		    evbuffer_peek(input, -1, &position, &piece, 1) < 1)
			return FRAMING_BAD;
		status = framing_scan(framing, piece.iov_base, piece.iov_len, &used);
	}
	if (status == FRAMING_MORE && client->eof)
		status = framing_end(framing);
	if (status == FRAMING_MORE) {
		/* White space must not pile up, nor count as part of the request. */
		evbuffer_drain(input, framing->skipped);
		client->handled += framing->skipped;
		framing->skipped = 0;
	}
	return status;
}

/* Whose bytes the descriptors came with has had its chance to take them. */
static void close_untaken(struct connection *client)
{
	if (client->handled >= client->descriptors_until)
		descriptors_close(&client->descriptors);
}

/* Handles what is there. Further requests of a client that has too many answers due must wait. */
static void process_input(struct connection *client)
{
	const struct evbuffer *output = bufferevent_get_output(client->stream);
	bool stalled = true;

	client->processing = true;
	while (!client->closing && !client->dropped && client->pending_count < PENDING_MAX &&
	       evbuffer_get_length(output) < OUTPUT_PAUSE) {
		enum framing_status status = scan_input(client);

		if (status == FRAMING_MORE) {
			stalled = false;
			break;
		}
		if (status == FRAMING_VALUE)
			handle_value(client);
		else
			refuse_frame(client, status);
		close_untaken(client);
	}
	client->processing = false;
	close_untaken(client);
	client->stalled = stalled;
	/* Reading on would mix the descriptors of requests that wait with those of others. */
	if (stalled || client->eof)
		event_del(client->readable);
	else
		event_add(client->readable, NULL);
	connection_feed(client);
	connection_settle(client);
}

/* Called when all that was to be sent has left. */
static void written(struct bufferevent *stream, void *argument)
{
	(void)stream;
	set_patience(argument, false);
	process_input(argument);
}

static void stream_event(struct bufferevent *stream, short events, void *argument)
{
	struct connection *client = argument;

	(void)stream;
	if (events & BEV_EVENT_TIMEOUT)
		drop_deaf(client);
	client->dropped = true;
	connection_settle(client);
}

/* Keeps the descriptors of a message; those over the limit are closed at once. */
static void keep_descriptors(struct connection *client, struct msghdr *message)
{
	struct call_descriptors *descriptors = &client->descriptors;

	for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part != NULL;
	     part = CMSG_NXTHDR(message, part)) {
		const int *fds = (const int *)(const void *)CMSG_DATA(part);
		size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < count; i++)
			if (descriptors->count < DESCRIPTORS_MAX)
				descriptors->fds[descriptors->count++] = fds[i];
			else
				close(fds[i]);
		client->descriptors_until = client->received;
	}
}

/*
 * Reads what is there: a read ends behind the message that descriptors came with (unix(7)). Returns
 * false where the connection is broken.
 */
static bool receive(struct connection *client)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(DESCRIPTORS_MAX * sizeof(int))];
	} control;
	struct iovec space;
	struct msghdr message = { .msg_iov = &space, .msg_iovlen = 1, .msg_control = &control,
				  .msg_controllen = sizeof(control) };
	ssize_t length;

	if (evbuffer_reserve_space(client->input, READ_SIZE, &space, 1) != 1)
		return false;
	length = recvmsg(bufferevent_getfd(client->stream), &message,
			 MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (length < 0)
		return errno == EAGAIN || errno == EINTR;
	space.iov_len = (size_t)length;
	evbuffer_commit_space(client->input, &space, 1);
	client->received += (uint64_t)length;
	client->server->counters.received_bytes += (uint64_t)length;
	client->eof = length == 0;
	keep_descriptors(client, &message);
	return true;
}

static void readable(evutil_socket_t fd, short events, void *argument)
{
	struct connection *client = argument;

	(void)fd;
	(void)events;
	/* What waits in the input is handled first. */
	if (!client->stalled && !client->eof && !receive(client)) {
		client->dropped = true;
		connection_settle(client);
		return;
	}
	process_input(client);
}

/* One client too many learns why, without waiting: the answer fits in any socket's buffer. */
static void turn_away(int fd)
{
	json_t *response;
	struct error err;
	char text[512];
	size_t size;

	error_set(&err, ERROR_LIMIT, EUSERS, "too many clients are connected");
	error_detail(&err, NULL, NULL, NULL, "256 clients");
	response = method_error_response(NULL, &err);
	size = json_dumpb(response, text, sizeof(text) - 1, JSON_COMPACT);
	if (size > 0 && size < sizeof(text)) {
		text[size] = '\n';
		(void)!send(fd, text, size + 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	}
	json_decref(response);
	close(fd);
}

static void connection_new(struct rpc_server *server, int fd)
{
	struct connection *client = calloc(1, sizeof(*client));
	const struct timeval patience = { .tv_sec = READ_WITHIN_S };
	struct ucred peer;
	socklen_t size = sizeof(peer);

	if (client == NULL)
		goto close_fd;
	client->server = server;
	LIST_INIT(&client->pending);
	framing_init(&client->framing, REQUEST_MAX, DEPTH_MAX);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
		goto free_client;
	client->peer = (struct call_peer){ peer.pid, peer.uid, peer.gid, &client->handle };
	client->stream = bufferevent_socket_new(loop_base(server->loop), fd,
						BEV_OPT_CLOSE_ON_FREE);
	if (client->stream == NULL)
		goto free_client;
	client->input = evbuffer_new();
	client->readable = event_new(loop_base(server->loop), fd, EV_READ | EV_PERSIST, readable,
				     client);
	if (client->input == NULL || client->readable == NULL ||
	    event_add(client->readable, NULL) != 0)
		goto free_stream;
	bufferevent_setcb(client->stream, NULL, written, stream_event, client);
	bufferevent_set_timeouts(client->stream, NULL, &patience);
	bufferevent_enable(client->stream, EV_WRITE);
	LIST_INSERT_HEAD(&server->clients, client, link);
	server->counters.clients++;
	server->counters.connects++;
	log_debug("rpc", "pid %d, uid %u: connected", (int)client->peer.pid,
		  (unsigned int)client->peer.uid);
	return;

free_stream:
	if (client->readable != NULL)
		event_free(client->readable);
	if (client->input != NULL)
		evbuffer_free(client->input);
	bufferevent_free(client->stream);
	free(client);
	return;
free_client:
	free(client);
close_fd:
	close(fd);
}

static void accepted(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address,
		     int length, void *argument)
{
	struct rpc_server *server = argument;

	(void)listener;
	(void)address;
	(void)length;
	if (server->counters.clients < CLIENTS_MAX) {
		connection_new(server, fd);
		return;
	}
	server->counters.turned_away++;
	turn_away(fd);
}

static void accept_again(void *argument)
{
	struct rpc_server *server = argument;

	loop_timer_stop(&server->accept_retry);
	evconnlistener_enable(server->listener);
}

/* Out of descriptors: the listening socket stays readable, so waiting for it would spin. */
static void accept_failed(struct evconnlistener *listener, void *argument)
{
	struct rpc_server *server = argument;

	LOG_LIMITED(LOG_WARNING, "rpc", "cannot accept a client: %s", strerror(errno));
	if (loop_timer_start(&server->accept_retry, server->loop, ACCEPT_RETRY_MS, accept_again,
			     server) == 0)
		evconnlistener_disable(listener);
}

int rpc_server_new(struct rpc_server **server, struct loop *loop, const char *path, uint32_t mode,
		   const struct method *const *tables, void *context, struct error *err)
{
	struct rpc_server *new = calloc(1, sizeof(*new));
	int rc;

	if (new == NULL)
		return error_set(err, ERROR_INTERNAL, ENOMEM, "out of memory");
	new->loop = loop;
	new->tables = tables;
	new->context = context;
	LIST_INIT(&new->clients);
	rc = rpc_socket_open(&new->socket, path, mode, err);
	if (rc != 0)
		goto free_server;
	/* The socket listens already: a backlog of 0 tells libevent to leave it as it is. */
	new->listener = evconnlistener_new(loop_base(loop), accepted, new, LEV_OPT_CLOSE_ON_EXEC, 0,
					   new->socket.fd);
	if (new->listener == NULL) {
		rc = error_set(err, ERROR_INTERNAL, ENOMEM, "out of memory");
		goto close_socket;
	}
	evconnlistener_set_error_cb(new->listener, accept_failed);
	*server = new;
	return 0;

close_socket:
	rpc_socket_close(&new->socket);
free_server:
	free(new);
	return rc;
}

void rpc_server_free(struct rpc_server *server)
{
	if (server == NULL)
		return;
	while (!LIST_EMPTY(&server->clients))
		connection_free(LIST_FIRST(&server->clients));
	loop_timer_stop(&server->accept_retry);
	evconnlistener_free(server->listener);
	rpc_socket_close(&server->socket);
	free(server);
}

const struct rpc_counters *rpc_server_counters(const struct rpc_server *server)
{
	return &server->counters;
}

static long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000L + now.tv_nsec / 1000000;
}

/* Sends what the socket takes now. Returns false once the client needs no more care. */
static bool flush(struct connection *client)
{
	struct evbuffer *output = bufferevent_get_output(client->stream);

	if (evbuffer_get_length(output) == 0)
		return false;
	/* The bufferevent, which is off by now, keeps the front of its buffer to itself. */
	evbuffer_unfreeze(output, 1);
	if (evbuffer_write(output, bufferevent_getfd(client->stream)) < 0 && errno != EAGAIN &&
	    errno != EINTR)
		return false;
	return evbuffer_get_length(output) > 0;
}

void rpc_server_drain(struct rpc_server *server, unsigned int milliseconds)
{
	struct connection *client;
	long end = now_ms() + (long)milliseconds;

	evconnlistener_disable(server->listener);
	loop_timer_stop(&server->accept_retry);
	LIST_FOREACH(client, &server->clients, link) {
		event_del(client->readable);
		bufferevent_disable(client->stream, EV_WRITE);
	}
	for (;;) {
		struct pollfd waiting[CLIENTS_MAX];
		nfds_t count = 0;
		long left;

		LIST_FOREACH(client, &server->clients, link)
			if (flush(client))
				waiting[count++] = (struct pollfd){
					.fd = bufferevent_getfd(client->stream),
					.events = POLLOUT,
				};
		left = end - now_ms();
		if (count == 0 || left <= 0)
			return;
		(void)poll(waiting, count, (int)left);
	}
}
