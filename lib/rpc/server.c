/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The server's listening side: who is let in, and the end of all; rpc/server.h is the contract.
 * connection.h is about one client.
 */
#include "rpc/server.h"

#include <errno.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "rpc/connection.h"

#define CLIENTS_MAX 256
#define ACCEPT_RETRY_MS 200

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
			if (connection_flush(client))
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
