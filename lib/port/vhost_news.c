/* SPDX-License-Identifier: BSD-3-Clause */
/* The box of news, and what the control thread makes of it; port/vhost_news.h is the contract. */
#include "port/vhost_news.h"

#include <string.h>

#include "base/log.h"
#include "port/features.h"
#include "port/vhost_session.h"

static json_t *fields_of(const struct news_item *item)
{
	json_t *fields = json_pack("{s:i}", "pid", (int)item->pid);

	switch (item->kind) {
	case EVENT_GUEST_CONNECTED:
		json_object_set_new(fields, "uid", json_integer(item->uid));
		json_object_set_new(fields, "waiting", json_boolean(item->waiting));
		break;
	case EVENT_GUEST_FEATURES:
		json_object_set_new(fields, "features", features_to_json(item->features));
		break;
	default:
		json_object_set_new(fields, "reason", json_string(item->reason));
		break;
	}
	return fields;
}

static struct news take(struct session *session)
{
	struct news news;

	pthread_mutex_lock(&session->lock);
	news = session->news;
	memset(&session->news, 0, sizeof(session->news));
	pthread_mutex_unlock(&session->lock);
	return news;
}

/* On the control thread. The port is there: its closing is posted later than this was. */
static void tell(void *argument)
{
	struct port *port = argument;
	const struct port_host *host = &port->host;
	struct news news;

	if (port->driver == NULL)
		return;
	news = take(port->driver);
	for (unsigned int i = 0; i < news.count; i++)
		host->tell(host->argument, port, news.items[i].kind, fields_of(&news.items[i]));
	if (news.lost > 0)
		host->tell(host->argument, port, EVENT_LEFT_OUT,
			   json_pack("{s:s, s:i}", "kinds", event_family_names[EVENTS_GUEST],
				     "count", (int)news.lost));
	host->look(host->argument, port);
}

void news_look(struct session *session)
{
	struct port *port = session->port;

	if (port->host.tell == NULL || session->news.posted)
		return;
	session->news.posted = loop_post(port->host.loop, tell, port) == 0;
	if (!session->news.posted)
		LOG_LIMITED(LOG_ERROR, "vhost", "%s: out of memory: an event is not told of",
			    port->name);
}

void news_add(struct session *session, const struct news_item *item)
{
	struct news *news = &session->news;

	if (news->count < NEWS_MAX)
		news->items[news->count++] = *item;
	else
		news->lost++;
	news_look(session);
}
