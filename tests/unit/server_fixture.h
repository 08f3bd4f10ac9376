/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the tests of lib/rpc share: a real server on a thread of its own, in a directory of its own,
 * with methods that do as they are told; and plain sockets, for bytes that the real client would
 * never send.
 *
 *     cmocka_unit_test_setup_teardown(test, server_fixture_start, server_fixture_end)
 *
 * Helpers fail the test at once where something does not go as it should. What belongs to the
 * server's thread may be touched only before start_thread and after stop_thread.
 */
#pragma once

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "rpc/client.h"
#include "rpc/server.h"

#define TIMEOUT 20000 /* ms; reached only where something hangs */
#define MIB ((size_t)1 << 20)

struct server_fixture {
	char directory[64];
	char path[128];            /* of the socket */
	struct loop *loop;
	struct rpc_server *server; /* NULL: none to be freed at the end */
	pthread_t thread;
	bool running;              /* the thread */
	struct call *kept[512];    /* w: the server's thread */
	atomic_uint kept_count;    /* w: the server's thread, r: the test */
};

extern struct server_fixture fixture;

/*
 * Methods: `echo` {value, bytes} answers value, or a string of so many bytes; `keep` answers when
 * `release` is called, which answers how many it released; `who` answers who asks, as [pid, uid,
 * gid]; `shutdown` is an echo that stops the loop.
 */
extern const struct method *const server_fixture_tables[];
extern const char keep_request[];

/* Setup: a directory and a loop without a server; or both and a server that runs. */
int server_fixture_directory(void **state);
int server_fixture_start(void **state);

/* Teardown for either. Fails if a file was left behind. */
int server_fixture_end(void **state);

void start_thread(void);
void stop_thread(void);

/* Answers all kept calls. On the server's thread, or when that is stopped. */
void release_all(void *argument);

/* The real client. */
struct rpc_client *open_client(unsigned int timeout);

/* A client of its own gets its answer. */
void check_alive(void);

int connect_to_path(int fd);
int connect_raw(void);
void send_raw(int fd, const char *text, size_t size);

/* Waits until the server has read all that was sent, so that what follows comes by itself. */
void wait_until_read(int fd);

/* Receives some bytes; 0 at the end of the stream, however it came. */
size_t receive_raw(int fd, char *text, size_t size);

/* One line, which is one answer. Returns NULL at the end of the stream. */
json_t *receive_answer(int fd);

void expect_result(int fd, json_int_t id, const char *result);

/* An error without an id. */
void expect_error(int fd, int code);

/* The end of the stream; closes the socket. */
void expect_end(int fd);

/* A request to echo a text with the id, brackets and quotes in it; and the check of its answer. */
size_t format_echo(char *text, size_t size, unsigned int id);
void check_echo(int fd, unsigned int id);
