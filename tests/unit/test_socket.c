/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rpc/socket.c: who owns a path, and what may be removed from it.
 */
#include "rpc/socket.h"

#include "base/units.h"

#include "server_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

static void client_without_daemon(void **state)
{
	struct rpc_client *client;
	char long_path[200];
	struct error err;

	(void)state;
	assert_int_equal(rpc_client_open(&client, fixture.path, 100, &err), -ENOENT);
	assert_string_equal(err.value, fixture.path);
	memset(long_path, 'p', sizeof(long_path));
	long_path[108] = '\0';
	assert_int_equal(rpc_client_open(&client, long_path, 100, &err), -EINVAL);
	assert_string_equal(err.accepted, "a path of 1 to 107 bytes");
	rpc_client_close(NULL);
}

static void second_server_is_refused(void **state)
{
	struct rpc_server *second;
	char expected[32];
	struct error err;

	(void)state;
	assert_int_equal(rpc_server_new(&second, fixture.loop, fixture.path, 0600,
					server_fixture_tables, NULL, &err), -EADDRINUSE);
	assert_int_equal(err.kind, ERROR_EXISTS);
	assert_string_equal(err.field, "socket");
	assert_string_equal(err.value, fixture.path);
	snprintf(expected, sizeof(expected), "(pid %ld)", (long)getpid());
	assert_non_null(strstr(err.message, expected));
	assert_int_equal(rpc_socket_probe(fixture.path, &err), -EADDRINUSE);
	assert_non_null(strstr(err.message, expected));
	check_alive();
	/* Once the first is gone, its lock is free and its socket file away. */
	stop_thread();
	rpc_server_free(fixture.server);
	fixture.server = NULL;
	assert_int_equal(access(fixture.path, F_OK), -1);
	assert_int_equal(rpc_socket_probe(fixture.path, &err), 0);
	assert_int_equal(rpc_server_new(&fixture.server, fixture.loop, fixture.path, 0600,
					server_fixture_tables, NULL, &err), 0);
	start_thread();
	check_alive();
}

/* Binds a socket to the path and leaves the file there. */
static int bind_raw(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	text_copy(address.sun_path, sizeof(address.sun_path), fixture.path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static void stale_socket_is_replaced(void **state)
{
	struct error err;

	(void)state;
	close(bind_raw());
	assert_int_equal(access(fixture.path, F_OK), 0);
	assert_int_equal(rpc_server_new(&fixture.server, fixture.loop, fixture.path, 0600,
					server_fixture_tables, NULL, &err), 0);
	start_thread();
	check_alive();
}

static void living_stranger_is_refused(void **state)
{
	int fd = bind_raw();
	struct error err;
	int client;

	(void)state;
	/* It has no lock of ours, but it listens. */
	assert_int_equal(listen(fd, 0), 0);
	assert_int_equal(rpc_server_new(&fixture.server, fixture.loop, fixture.path, 0600,
					server_fixture_tables, NULL, &err), -EADDRINUSE);
	assert_int_equal(err.kind, ERROR_EXISTS);
	assert_int_equal(access(fixture.path, F_OK), 0);
	/* It is just as alive when it is too busy to take more clients; the probe was the first. */
	client = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	assert_int_equal(connect_to_path(client), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(rpc_server_new(&fixture.server, fixture.loop, fixture.path, 0600,
					server_fixture_tables, NULL, &err), -EADDRINUSE);
	assert_int_equal(access(fixture.path, F_OK), 0);
	close(client);
	close(fd);
	fixture.server = NULL;
}

static void other_file_is_kept(void **state)
{
	int fd = open(fixture.path, O_CREAT | O_WRONLY, 0600);
	struct error err;

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(rpc_server_new(&fixture.server, fixture.loop, fixture.path, 0600,
					server_fixture_tables, NULL, &err), -EEXIST);
	assert_int_equal(err.kind, ERROR_EXISTS);
	assert_int_equal(access(fixture.path, F_OK), 0);
	fixture.server = NULL;
}

static void only_its_own_file_is_removed(void **state)
{
	struct error err;

	(void)state;
	assert_int_equal(rpc_server_new(&fixture.server, fixture.loop, fixture.path, 0600,
					server_fixture_tables, NULL, &err), 0);
	assert_int_equal(unlink(fixture.path), 0);
	close(bind_raw());
	rpc_server_free(fixture.server);
	fixture.server = NULL;
	assert_int_equal(access(fixture.path, F_OK), 0);
}

static void mode_ignores_the_umask(void **state)
{
	mode_t before = umask(0077);
	struct stat file;
	struct error err;

	(void)state;
	assert_int_equal(rpc_server_new(&fixture.server, fixture.loop, fixture.path, 0666,
					server_fixture_tables, NULL, &err), 0);
	umask(before);
	assert_int_equal(stat(fixture.path, &file), 0);
	assert_int_equal(file.st_mode & 07777, 0666);
}

static void bad_paths(void **state)
{
	char long_path[200];
	char missing[128];
	struct error err;

	(void)state;
	memset(long_path, 'p', sizeof(long_path));
	long_path[108] = '\0';
	assert_int_equal(rpc_server_new(&fixture.server, fixture.loop, long_path, 0600,
					server_fixture_tables, NULL, &err), -EINVAL);
	assert_int_equal(err.kind, ERROR_INVALID);
	assert_string_equal(err.accepted, "a path of 1 to 107 bytes");
	assert_int_equal(rpc_server_new(&fixture.server, fixture.loop, "", 0600,
					server_fixture_tables, NULL, &err), -EINVAL);
	snprintf(missing, sizeof(missing), "%s/no/s", fixture.directory);
	assert_int_equal(rpc_server_new(&fixture.server, fixture.loop, missing, 0600,
					server_fixture_tables, NULL, &err), -ENOENT);
	assert_int_equal(err.kind, ERROR_SYSTEM);
	assert_int_equal(err.errnum, ENOENT);
	fixture.server = NULL;
	rpc_server_free(NULL);
}

/* The tests start the server themselves, or fail to. */
#define WITHOUT_SERVER(test)                                                                       \
	cmocka_unit_test_setup_teardown(test, server_fixture_directory, server_fixture_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITHOUT_SERVER(client_without_daemon),
		cmocka_unit_test_setup_teardown(second_server_is_refused, server_fixture_start,
						server_fixture_end),
		WITHOUT_SERVER(stale_socket_is_replaced),
		WITHOUT_SERVER(living_stranger_is_refused),
		WITHOUT_SERVER(other_file_is_kept),
		WITHOUT_SERVER(only_its_own_file_is_removed),
		WITHOUT_SERVER(mode_ignores_the_umask),
		WITHOUT_SERVER(bad_paths),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
