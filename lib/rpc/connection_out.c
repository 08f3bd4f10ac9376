/* SPDX-License-Identifier: BSD-3-Clause */
/* What goes to a client: answers, refusals, feeds; rpc/connection.h is the contract. */
#include "rpc/connection.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <stdlib.h>

#include "base/log.h"

#define OUTPUT_MAX ((size_t)8 << 20)
/* Of a feed so much waits in our memory; the rest stays with its owner. */
#define FEED_MAX ((size_t)64 << 10)
/* libevent goes on with an old timeout where a new one is none. */
#define FOREVER_S (10 * 365 * 86400)
#define FAREWELL_SECONDS 10

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

void connection_drop_deaf(struct connection *client)
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

void connection_set_patience(struct connection *client, bool owed)
{
	const struct timeval patience = { .tv_sec = owed ? CONNECTION_PATIENCE_S : FOREVER_S };

	if (client->handle.feed != NULL && !client->closing)
		bufferevent_set_timeouts(client->stream, NULL, &patience);
}

void connection_send(struct connection *client, json_t *response)
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
		connection_drop_deaf(client);
	} else if (evbuffer_add_buffer(output, text) != 0) {
		client->dropped = true;
	}
	evbuffer_free(text);
	connection_set_patience(client, true);
}

void connection_feed(struct connection *client)
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

void connection_refuse(struct connection *client, const struct error *err)
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

bool connection_flush(struct connection *client)
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

static struct connection *connection_of(struct call_client *handle)
{
	return (struct connection *)handle;
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
	connection_set_patience(connection_of(feed->client), true);
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
