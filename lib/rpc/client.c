/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The blocking client. The socket itself does not block: each call waits with poll until its own
 * deadline, so a daemon that hangs half-way through an answer cannot hold the caller.
 */
#include "rpc/client.h"

#include "base/units.h"
#include "rpc/framing.h"
#include "rpc/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define ANSWER_MAX ((size_t)16 << 20) /* more than any server of ours sends */
#define ANSWER_DEPTH_MAX 256
#define READ_SIZE ((size_t)64 << 10)

struct rpc_client {
	int fd;
	unsigned int timeout; /* ms */
	json_int_t last_id;
	struct framing framing;
	char *input; /* bytes received and not yet parsed */
	size_t length;
	size_t size;
};

static long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000L + now.tv_nsec / 1000000;
}

static int transport_error(struct error *err, const char *what, int errnum)
{
	return error_set(err, ERROR_SYSTEM, errnum, "%s: %s", what, strerror(errnum));
}

int rpc_client_open(struct rpc_client **client, const char *path, unsigned int timeout,
		    struct error *err)
{
	const struct timeval limit = {
		.tv_sec = timeout / 1000,
		.tv_usec = timeout % 1000 * 1000,
	};
	struct rpc_client *new = calloc(1, sizeof(*new));
	struct sockaddr_un address;
	int rc;

	if (new == NULL)
		return error_set(err, ERROR_INTERNAL, ENOMEM, "out of memory");
	new->timeout = timeout;
	framing_init(&new->framing, ANSWER_MAX, ANSWER_DEPTH_MAX);
	rc = rpc_socket_address(&address, path, err);
	if (rc != 0)
		goto free_client;
	new->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (new->fd < 0) {
		rc = transport_error(err, "cannot make a socket", errno);
		goto free_client;
	}
	/* Bounds the connect too, which waits where the server's backlog is full. */
	if (setsockopt(new->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) != 0 ||
	    connect(new->fd, (const struct sockaddr *)&address, sizeof(address)) != 0) {
		int errnum = errno == EAGAIN ? ETIMEDOUT : errno;

		rc = error_set(err, ERROR_SYSTEM, errnum, "no daemon answers at %s: %s", path,
			       strerror(errnum));
		error_detail(err, NULL, "socket", path, NULL);
		goto close_fd;
	}
	*client = new;
	return 0;

close_fd:
	close(new->fd);
free_client:
	free(new);
	return rc;
}

void rpc_client_close(struct rpc_client *client)
{
	if (client == NULL)
		return;
	close(client->fd);
	free(client->input);
	free(client);
}

/* Waits until the socket is ready. Returns 0 or -ETIMEDOUT. */
static int wait_ready(const struct rpc_client *client, short events, long end)
{
	struct pollfd ready = { .fd = client->fd, .events = events };

	for (;;) {
		long left = end - now_ms();
		int rc = poll(&ready, 1, left > INT_MAX ? INT_MAX : left > 0 ? (int)left : 0);

		if (rc > 0)
			return 0;
		if (rc == 0 && left <= 0)
			return -ETIMEDOUT;
		if (rc < 0 && errno != EINTR)
			return -errno;
	}
}

/* descriptor: what goes with the bytes, or -1. */
static ssize_t send_some(int fd, const char *text, size_t length, int descriptor)
{
	struct iovec part = { (void *)(uintptr_t)text, length };
	char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8))) = { 0 };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };

	if (descriptor >= 0) {
		struct cmsghdr *rights;

		message.msg_control = control;
		message.msg_controllen = sizeof(control);
		rights = CMSG_FIRSTHDR(&message);
		rights->cmsg_level = SOL_SOCKET;
		rights->cmsg_type = SCM_RIGHTS;
		rights->cmsg_len = CMSG_LEN(sizeof(descriptor));
		memcpy(CMSG_DATA(rights), &descriptor, sizeof(descriptor));
	}
	return sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/*
 * Returns 0 or -errno. A server that refuses a request may close before it has read all of it; then
 * its reason waits to be read, so a closed connection is no failure here.
 */
static int send_all(struct rpc_client *client, const char *text, size_t length, int descriptor,
		    long end)
{
	while (length > 0) {
		ssize_t sent = send_some(client->fd, text, length, descriptor);

		if (sent < 0 && (errno == EPIPE || errno == ECONNRESET))
			return 0;
		if (sent < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		if (sent < 0) {
			int rc = wait_ready(client, POLLOUT, end);

			if (rc != 0)
				return rc;
			continue;
		}
		text += sent;
		length -= (size_t)sent;
		descriptor = -1;
	}
	return 0;
}

/* Receives some more bytes. Returns 0 or -errno; the end of the stream is -ECONNRESET. */
static int receive(struct rpc_client *client, long end)
{
	ssize_t got;
	int rc;

	if (client->size - client->length < READ_SIZE) {
		size_t size = client->size * 2 + READ_SIZE;
		char *bigger = realloc(client->input, size);

		if (bigger == NULL)
			return -ENOMEM;
		client->input = bigger;
		client->size = size;
	}
	do {
		rc = wait_ready(client, POLLIN, end);
		if (rc != 0)
			return rc;
		got = recv(client->fd, client->input + client->length,
			   client->size - client->length, MSG_DONTWAIT);
	} while (got < 0 && (errno == EAGAIN || errno == EINTR));
	if (got < 0)
		return -errno;
	if (got == 0)
		return -ECONNRESET;
	client->length += (size_t)got;
	return 0;
}

/* Reads one JSON value. Returns 0 with a new reference, or -errno. */
static int read_value(struct rpc_client *client, json_t **value, long end)
{
	struct framing *framing = &client->framing;
	enum framing_status status = FRAMING_MORE;
	size_t taken;

	while (status == FRAMING_MORE) {
		size_t scanned = framing->skipped + framing->length;
		size_t used;

		if (scanned == client->length) {
			int rc = receive(client, end);

			if (rc != 0)
				return rc;
		}
		status = framing_scan(framing, client->input + scanned, client->length - scanned,
				      &used);
	}
	if (status != FRAMING_VALUE)
		return -EPROTO;
	*value = json_loadb(client->input + framing->skipped, framing->length, JSON_DECODE_ANY,
			    NULL);
	taken = framing->skipped + framing->length;
	client->length -= taken;
	memmove(client->input, client->input + taken, client->length);
	framing_reset(framing);
	return *value == NULL ? -EPROTO : 0;
}

static void copy_text(char *to, size_t size, const json_t *data, const char *key)
{
	const char *text = json_string_value(json_object_get(data, key));

	if (text != NULL)
		text_copy(to, size, text);
}

/* The server's error object as a struct error. */
static void read_error(const json_t *object, struct error *err)
{
	const json_t *data = json_object_get(object, "data");
	const char *message = json_string_value(json_object_get(object, "message"));

	error_set(err, (enum error_kind)json_integer_value(json_object_get(object, "code")),
		  (int)json_integer_value(json_object_get(data, "errno")), "%s",
		  message == NULL ? "the server refused and did not say why" : message);
	copy_text(err->object, sizeof(err->object), data, "object");
	copy_text(err->field, sizeof(err->field), data, "field");
	copy_text(err->value, sizeof(err->value), data, "value");
	copy_text(err->accepted, sizeof(err->accepted), data, "accepted");
}

/* Ours is the answer with our id, and an error without any, which says that nothing can follow. */
static bool is_ours(const struct rpc_client *client, const json_t *response)
{
	const json_t *id = json_object_get(response, "id");

	if (json_is_integer(id))
		return json_integer_value(id) == client->last_id;
	return json_is_null(id) && json_object_get(response, "error") != NULL;
}

static int send_request(struct rpc_client *client, const char *method, const json_t *params,
			int descriptor, long end)
{
	json_t *request;
	char *text;
	int rc;

	request = json_pack("{s:s, s:I, s:s}", "jsonrpc", "2.0", "id", ++client->last_id, "method",
			    method);
	/* Dumping does not change the parameters; jansson has no const way to lend them. */
	if (params != NULL)
		json_object_set(request, "params", (json_t *)(uintptr_t)params);
	text = json_dumps(request, JSON_COMPACT);
	json_decref(request);
	if (text == NULL)
		return -EINVAL;
	rc = send_all(client, text, strlen(text), descriptor, end);
	free(text);
	return rc;
}

int rpc_client_call(struct rpc_client *client, const char *method, const json_t *params,
		    json_t **result, json_t **error_object, struct error *err)
{
	return rpc_client_call_with(client, method, params, -1, result, error_object, err);
}

int rpc_client_call_with(struct rpc_client *client, const char *method, const json_t *params,
			 int descriptor, json_t **result, json_t **error_object,
			 struct error *err)
{
	long end = now_ms() + (long)client->timeout;
	json_t *response;
	json_t *error;
	int rc;

	if (error_object != NULL)
		*error_object = NULL;
	rc = send_request(client, method, params, descriptor, end);
	if (rc != 0)
		return transport_error(err, "cannot send the request", -rc);
	for (;;) {
		rc = read_value(client, &response, end);
		if (rc != 0)
			return transport_error(err, "no answer came from the daemon", -rc);
		if (is_ours(client, response))
			break;
		/* A late answer to a call that timed out, or an event. */
		json_decref(response);
	}
	error = json_object_get(response, "error");
	if (error != NULL) {
		read_error(error, err);
		if (error_object != NULL)
			*error_object = json_incref(error);
		rc = -EREMOTEIO;
	} else {
		*result = json_incref(json_object_get(response, "result"));
		rc = *result == NULL ? transport_error(err, "the answer is empty", EPROTO) : 0;
	}
	json_decref(response);
	return rc;
}

int rpc_client_receive(struct rpc_client *client, json_t **message)
{
	return read_value(client, message, LONG_MAX);
}
