/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What comes from a client: bytes and descriptors are read, the scanner of framing.c finds the
 * requests in them, method.c answers these; rpc/connection.h is the contract.
 */
#include "rpc/connection.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"

/* With so many requests under way, or so many bytes of answers unread, a client must wait. */
#define PENDING_MAX 64
#define OUTPUT_PAUSE ((size_t)1 << 20)
/* What is read in one go, and of descriptors with it: the kernel sends no more (SCM_MAX_FD). */
#define READ_SIZE 65536
#define DESCRIPTORS_MAX (sizeof(((struct call_descriptors *)0)->fds) / sizeof(int))

void connection_close_descriptors(struct connection *client)
{
	struct call_descriptors *descriptors = &client->descriptors;

	for (unsigned int i = 0; i < descriptors->count; i++)
		close(descriptors->fds[i]);
	descriptors->count = 0;
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
		connection_close_descriptors(client);
}

void connection_process(struct connection *client)
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

void connection_readable(evutil_socket_t fd, short events, void *argument)
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
	connection_process(client);
}
