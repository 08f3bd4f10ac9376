/* SPDX-License-Identifier: BSD-3-Clause */
/* A connection's life: made, settled, freed; rpc/connection.h is the contract. */
#include "rpc/connection.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"

#define REQUEST_MAX ((size_t)256 << 10)
#define DEPTH_MAX 32

void connection_free(struct connection *client)
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
	connection_close_descriptors(client);
	event_free(client->readable);
	evbuffer_free(client->input);
	/* libevent closes the socket in the loop's next round, which may never come. */
	shutdown(bufferevent_getfd(client->stream), SHUT_RDWR);
	bufferevent_free(client->stream);
	free(client);
}

void connection_settle(struct connection *client)
{
	struct evbuffer *output = bufferevent_get_output(client->stream);
	bool last = client->closing || (client->eof && evbuffer_get_length(client->input) == 0);

	if (client->processing)
		return;
	if (client->dropped ||
	    (last && client->pending_count == 0 && evbuffer_get_length(output) == 0))
		connection_free(client);
}

/* Called when all that was to be sent has left. */
static void written(struct bufferevent *stream, void *argument)
{
	(void)stream;
	connection_set_patience(argument, false);
	connection_process(argument);
}

static void stream_event(struct bufferevent *stream, short events, void *argument)
{
	struct connection *client = argument;

	(void)stream;
	if (events & BEV_EVENT_TIMEOUT)
		connection_drop_deaf(client);
	client->dropped = true;
	connection_settle(client);
}

void connection_new(struct rpc_server *server, int fd)
{
	struct connection *client = calloc(1, sizeof(*client));
	const struct timeval patience = { .tv_sec = CONNECTION_PATIENCE_S };
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
	client->readable = event_new(loop_base(server->loop), fd, EV_READ | EV_PERSIST,
				     connection_readable, client);
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
