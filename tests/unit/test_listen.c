/* SPDX-License-Identifier: BSD-3-Clause */
/* telemetry/listen.c: which texts are addresses to listen at. */
#include "telemetry/listen.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void addresses_of_both_kinds(void **state)
{
	struct listen_address address;
	const struct sockaddr_in *four = (const void *)address.address;
	const struct sockaddr_in6 *six = (const void *)address.address;
	struct error err;

	(void)state;
	assert_int_equal(listen_parse("127.0.0.1:9477", &address, &err), 0);
	assert_false(address.is_path);
	assert_int_equal(address.length, sizeof(*four));
	assert_int_equal(four->sin_family, AF_INET);
	assert_int_equal(ntohs(four->sin_port), 9477);
	assert_int_equal(ntohl(four->sin_addr.s_addr), INADDR_LOOPBACK);
	assert_string_equal(address.text, "127.0.0.1:9477");
	assert_int_equal(listen_parse("[::1]:1", &address, &err), 0);
	assert_int_equal(address.length, sizeof(*six));
	assert_int_equal(six->sin6_family, AF_INET6);
	assert_int_equal(ntohs(six->sin6_port), 1);
	assert_memory_equal(&six->sin6_addr, &in6addr_loopback, sizeof(in6addr_loopback));
	assert_int_equal(listen_parse("[::]:65535", &address, &err), 0);
	assert_int_equal(ntohs(six->sin6_port), 65535);
}

static void paths(void **state)
{
	char path[120];
	struct listen_address address;
	struct error err;

	(void)state;
	assert_int_equal(listen_parse("/run/ringway/metrics.sock", &address, &err), 0);
	assert_true(address.is_path);
	assert_string_equal(address.text, "/run/ringway/metrics.sock");
	/* What a unix socket's address has room for, unix(7). */
	memset(path, 'x', sizeof(path));
	path[0] = '/';
	path[107] = '\0';
	assert_int_equal(listen_parse(path, &address, &err), 0);
	path[107] = 'x';
	path[108] = '\0';
	error_set(&err, ERROR_INVALID, 0, "refused");
	assert_true(listen_parse(path, &address, &err) < 0);
	assert_non_null(strstr(err.accepted, "107 bytes"));
}

static void what_is_none(void **state)
{
	static const char *const texts[] = {
		"", ":", "9477", ":9477", "localhost:9477", "127.0.0.1", "127.0.0.1:",
		"127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:99999", "127.0.0.1:123456",
		"127.0.0.1:09477",
		"127.0.0.1:+1", "127.0.0.1:1 ", "127.0.0.1: 1", "127.0.0.1:1x", "127.0.0:1",
		"127.0.0.256:1", "::1:9477", "[::1]", "[::1]:", "[::1]9477", "[::1:9477", "[]:1",
		"[127.0.0.1]:1", "[::1%lo]:1", "[:1", "]:1", "metrics.sock", "./metrics.sock",
		"[1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc]:1",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct listen_address address;
		struct error err;

		error_set(&err, ERROR_INVALID, 0, "refused");
		if (listen_parse(texts[i], &address, &err) == 0)
			fail_msg("\"%s\" was taken", texts[i]);
		assert_string_equal(err.accepted, LISTEN_ACCEPTED);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_of_both_kinds),
		cmocka_unit_test(paths),
		cmocka_unit_test(what_is_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
