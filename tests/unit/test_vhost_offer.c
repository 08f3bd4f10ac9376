/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * port/vhost_offer.c: offers grow at any connect and shrink for another process only, also over a
 * restart; and port/vhost_peer.c: which process is which.
 */
#include "port/vhost_offer.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define ALL 0xff

static const struct process one = { 100, 5000 };
static const struct process same_number = { 100, 6000 };
static const struct process other = { 101, 5000 };

static void an_offer_is_the_wish_at_first(void **state)
{
	struct offer offer = { .available = ALL, .off = 0x0f };

	(void)state;
	assert_int_equal(offer_wish(&offer), 0xf0);
	assert_int_equal(offer_features(&offer, &one), 0xf0);
	assert_null(offer_remember(&offer));
}

static void it_shrinks_for_another_process(void **state)
{
	struct offer offer = { .available = ALL };

	(void)state;
	assert_true(offer_promise(&offer, &one, offer_features(&offer, &one)));
	offer.off = 0x0f;
	assert_int_equal(offer_features(&offer, &one), ALL);
	assert_int_equal(offer_features(&offer, &other), 0xf0);
	assert_int_equal(offer_features(&offer, &same_number), 0xf0);
	assert_false(offer_promise(&offer, &one, ALL));
	assert_true(offer_promise(&offer, &other, 0xf0));
	assert_int_equal(offer_features(&offer, &one), 0xf0);
}

static void it_grows_for_anybody(void **state)
{
	struct offer offer = { .available = ALL, .off = 0x0f };

	(void)state;
	offer_promise(&offer, &one, 0xf0);
	offer.off = 0xf0;
	assert_int_equal(offer_features(&offer, &one), ALL);
	assert_int_equal(offer_features(&offer, &other), 0x0f);
}

static void it_is_forgotten_on_demand(void **state)
{
	struct offer offer = { .available = ALL, .off = 0x0f };

	(void)state;
	assert_false(offer_forget(&offer));
	offer_promise(&offer, &one, ALL);
	assert_true(offer_forget(&offer));
	assert_int_equal(offer_features(&offer, &one), 0xf0);
	assert_null(offer_remember(&offer));
}

static void it_is_remembered(void **state)
{
	struct offer offer = { .available = ALL }, later = { .available = ALL, .off = 0x0f };
	struct process far = { 4000000, 1ull << 40 };
	json_t *value;

	(void)state;
	offer_promise(&offer, &far, 1ull << 62 | ALL);
	value = offer_remember(&offer);
	assert_non_null(value);
	offer_restore(&later, value);
	json_decref(value);
	/* What another version could do and this one cannot is not offered. */
	assert_int_equal(offer_features(&later, &far), ALL);
	assert_int_equal(later.features, 1ull << 62 | ALL);
	assert_int_equal(offer_features(&later, &other), 0xf0);
}

static void nonsense_is_not_remembered(void **state)
{
	static const char *const values[] = {
		"null", "3", "[]", "{}", "{\"pid\": 1, \"start\": 2}",
		"{\"pid\": \"1\", \"start\": 2, \"offer\": 3}",
		"{\"pid\": 1, \"start\": 2, \"offer\": []}",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		json_t *value = json_loads(values[i], JSON_DECODE_ANY, NULL);
		struct offer offer = { .available = ALL };

		offer_restore(&offer, value);
		assert_false(offer.promised);
		json_decref(value);
	}
}

static void what_changes_is_told(void **state)
{
	struct offer offer = { .available = ALL, .off = 0x01 };
	json_t *list = offer_pending(&offer, ALL & ~0x01);

	(void)state;
	assert_int_equal(json_array_size(list), 0);
	json_decref(list);
	offer.off = 0x02;
	list = offer_pending(&offer, ALL & ~0x01);
	assert_int_equal(json_array_size(list), 2);
	assert_string_equal(
		json_string_value(json_object_get(json_array_get(list, 0), "change")), "offered");
	assert_string_equal(
		json_string_value(json_object_get(json_array_get(list, 1), "change")), "withdrawn");
	json_decref(list);
}

static void processes_are_told_apart(void **state)
{
	struct process self, again, child, nobody;
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		pause();
		_exit(0);
	}
	process_identify(&self, getpid());
	process_identify(&again, getpid());
	process_identify(&child, pid);
	assert_int_not_equal(self.start, 0);
	assert_true(process_same(&self, &again));
	assert_false(process_same(&self, &child));
	assert_true(process_lives(&self));
	assert_true(process_lives(&child));
	again.start++;
	assert_false(process_lives(&again));
	kill(pid, SIGKILL);
	/* A process that nobody has waited for yet has ended all the same. */
	waitid(P_PID, (id_t)pid, &(siginfo_t){ 0 }, WEXITED | WNOWAIT);
	assert_false(process_lives(&child));
	waitpid(pid, NULL, 0);
	assert_false(process_lives(&child));
	process_identify(&nobody, 0);
	assert_false(process_lives(&nobody));
	process_identify(&nobody, pid);
	assert_int_equal(nobody.start, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_offer_is_the_wish_at_first),
		cmocka_unit_test(it_shrinks_for_another_process),
		cmocka_unit_test(it_grows_for_anybody),
		cmocka_unit_test(it_is_forgotten_on_demand),
		cmocka_unit_test(it_is_remembered),
		cmocka_unit_test(nonsense_is_not_remembered),
		cmocka_unit_test(what_changes_is_told),
		cmocka_unit_test(processes_are_told_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
