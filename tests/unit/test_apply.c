/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * control/apply.c, plan.c and slots.c: changes of the running switch, each as a whole or not at
 * all, while a worker runs. test_saving.c has those that are written down.
 */
#include "control/apply.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/units.h"

#include "control_fixture.h"
#include "keys.h"
#include "port/memory.h"

#define HOST 0x525400000001
#define MANY 500

/* What a change on top of others may take of the stack; each level takes some 200 bytes. */
#define STACK_MAX 4096

static uint16_t number_of(const char *name)
{
	return (uint16_t)(port_named(name) - fixture.control->ports);
}

/* What the workers see of a slot. */
static const struct snapshot_port *seen(uint16_t number)
{
	static const struct snapshot_port nothing;
	const struct snapshot *snapshot = fixture.control->snapshot;

	return number < snapshot->port_count ? &snapshot->ports[number] : &nothing;
}

static uint16_t leads_to(uint64_t mac)
{
	return fdb_lookup(fixture.control->fdb, key_of(mac, 0));
}

static void assert_fine(void)
{
	if (fixture.failed > 0)
		fail_msg("%s", fixture.fault.message);
}

/* Exactly one change has failed, for this reason. */
static void assert_fault(const char *part)
{
	if (fixture.failed != 1 || strstr(fixture.fault.message, part) == NULL)
		fail_msg("%u failed, the first with \"%s\", not one with \"%s\"", fixture.failed,
			 fixture.fault.message, part);
}

static void apply(struct change *change)
{
	fixture_submit(change);
	fixture_await();
}

static void retry_now(void)
{
	fixture.control->retry.run(fixture.control->retry.argument);
}

static void pass_on(void *argument)
{
	*(bool *)argument = true;
}

static bool flag;

static bool flag_is_set(void)
{
	return flag;
}

/* All that workers could still see of the past is gone, and what they posted has been learned. */
static void settle(void)
{
	flag = false;
	assert_int_equal(retire_later(fixture.control->retire, pass_on, &flag), 0);
	fixture_wait(flag_is_set);
}

/* Port a with an address of its own, and port b. */
static void start_two(void)
{
	fixture_start(with_mac(probe_port("a", "A"), HOST), probe_port("b", "B"), NULL);
	assert_int_equal(number_of("a"), 0);
	assert_int_equal(number_of("b"), 1);
	assert_int_equal(leads_to(HOST), 0);
}

static bool next_host_leads_to_a(void)
{
	return leads_to(HOST + 1) == number_of("a");
}

/* A port sends by way of its host, whichever worker that is. */
static void ports_can_inject(void **state)
{
	const struct port *a;
	uint8_t bytes[60] = { 0 };

	(void)state;
	fixture_start(probe_port("a", "A"), probe_port("b", "B"), NULL);
	a = port_named("a")->port;
	packet_ethernet(bytes, BROADCAST, HOST + 1, sizeof(bytes));
	assert_int_equal(a->host.inject(a->host.argument, a, bytes, sizeof(bytes)), 0);
	/* Its source is learned on the port, as of any frame from there. */
	fixture_wait(next_host_leads_to_a);
	settle();
	assert_memory_equal(memory_sent(port_named("b")->port, 0, 0)->bytes, bytes, sizeof(bytes));
	assert_null(memory_sent(port_named("a")->port, 0, 0));
	assert_fine();
}

/* ---- start and stop ---- */

static void opens_and_closes(void **state)
{
	const char *reason = NULL;
	struct control_port *b;

	(void)state;
	text_copy(fixture.denied, sizeof(fixture.denied), "b");
	fixture_begin(model_of(probe_port("a", "A"), probe_port("b", "B"), probe_port("c", "C"),
			       NULL));
	assert_false(fixture.ready);
	fixture_ready();
	b = port_named("b");
	assert_true(control_port_is_up(port_named("a"), &reason));
	assert_true(control_port_is_up(port_named("c"), &reason));
	assert_null(control_find_port(fixture.control, "d"));
	/* The one that the world refused says why, and workers do not see it. */
	assert_int_equal(b->state, PORT_FAULTY);
	assert_false(control_port_is_up(b, &reason));
	assert_string_equal(reason, "port b: B is not allowed");
	assert_null(seen(1)->port);
	assert_int_equal(fixture.control->snapshot->table.first[VLAN_COUNT], 2);
	assert_events("open a, open b, open c, ");
	fixture_stop();
	assert_events("close a, close c, closed a, closed c, ");
	for (unsigned int i = 0; i < 3; i++) {
		assert_int_equal(fixture.control->ports[i].state, PORT_FREE);
		assert_null(fixture.control->ports[i].port);
	}
	assert_int_equal(fixture.control->snapshot->table.first[VLAN_COUNT], 0);
}

static bool both_are_known(void)
{
	return leads_to(HOST + 1) == 0 && leads_to(HOST + 2) == 1 &&
	       memory_counts(port_named("a")->port, 0).sent > 0 &&
	       memory_counts(port_named("b")->port, 0).sent > 0;
}

static void learns_while_it_runs(void **state)
{
	(void)state;
	start_two();
	inject("a", HOST + 1);
	inject("b", HOST + 2);
	fixture_wait(both_are_known);
	assert_int_equal(memory_counts(port_named("a")->port, 0).sent, 1);
	assert_int_equal(memory_counts(port_named("b")->port, 0).sent, 1);
}

/* Leaving at once must not lose the openings that are still under way. */
static void stops_while_ports_open(void **state)
{
	(void)state;
	fixture_begin(model_of(probe_port("a", "A"), probe_port("b", "B"), NULL));
	fixture_stop();
	assert_true(fixture.ready);
	assert_events("open a, open b, close a, close b, closed a, closed b, ");
	assert_int_equal(fixture.control->ports[0].state, PORT_FREE);
	assert_int_equal(fixture.control->ports[1].state, PORT_FREE);
}

/* What waited is done before the switch stops, and what comes then is refused. */
static void stops_behind_what_was_asked(void **state)
{
	(void)state;
	start_two();
	fixture_submit(order_put(probe_port("c", "C"), NULL));
	fixture_submit(order_put(probe_port("d", "D"), NULL));
	fixture_submit(order_remove("c"));
	assert_int_equal(fixture.ended, 0);
	fixture_stop_soon();
	fixture_submit(order_remove("a"));
	assert_int_equal(fixture.ended, 1);
	assert_fault("being shut down");
	assert_int_equal(fixture.fault.kind, ERROR_BUSY);
	assert_int_equal(fixture.fault.errnum, ESHUTDOWN);
	fixture_await();
	assert_int_equal(fixture.failed, 1);
	fixture_stop();
	assert_events("open c, open d, close c, closed c, close a, close b, close d, closed a, "
		      "closed b, closed d, ");
}

/* ---- one thing at a time ---- */

static bool c_has_heard(void)
{
	return memory_counts(port_named("c")->port, 0).sent > 0;
}

static void adds(void **state)
{
	uint64_t revision;

	(void)state;
	start_two();
	revision = fixture.control->revision;
	apply(order_put(with_mtu(probe_port("c", "C"), 1500), NULL));
	assert_fine();
	assert_false(fixture.reopened);
	assert_events("open c, ");
	assert_int_equal(number_of("c"), 2);
	assert_ptr_equal(seen(2)->port, port_named("c")->port);
	assert_int_equal(seen(2)->max_length, 1514);
	assert_int_equal(fixture.control->revision, revision + 1);
	assert_int_equal(fixture.control->model->port_count, 3);
	inject("a", HOST + 1);
	fixture_wait(c_has_heard);
}

static void sets_live(void **state)
{
	struct port *port;
	struct change *change;

	(void)state;
	start_two();
	port = port_named("a")->port;
	apply(order_put(with_mac(with_mtu(probe_port("a", "A"), 1280), HOST + 5), NULL));
	assert_fine();
	assert_false(fixture.reopened);
	assert_events("set a, ");
	assert_ptr_equal(port_named("a")->port, port);
	assert_ptr_equal(port_named("a")->model, fixture.control->model->ports[0]);
	assert_int_equal(port->settings.mtu, 1280);
	assert_int_equal(seen(0)->max_length, 1294);
	assert_true(seen(0)->enabled);
	assert_int_equal(leads_to(HOST), FDB_NO_PORT);
	assert_int_equal(leads_to(HOST + 5), 0);
	/* What the type itself can change, and what it promised. */
	change = order_put(switched_off(with_accepts(probe_port("a", "A"), 0)), NULL);
	change->renegotiate = true;
	apply(change);
	assert_fine();
	assert_events("set a, ");
	assert_true(fixture.renegotiate);
	assert_int_equal(port->tx_accepts, 0);
	assert_false(seen(0)->enabled);
	assert_false(fixture.control->snapshot->table.ports[0].enabled);
	assert_int_equal(seen(0)->max_length, PORT_MTU_MAX + 14);
	assert_int_equal(leads_to(HOST + 5), FDB_NO_PORT);
	/* The same once more, and only this port. */
	change = order_put(switched_off(with_accepts(probe_port("a", "A"), 0)), NULL);
	change->renegotiate = true;
	apply(change);
	assert_fine();
	assert_events("set a, ");
	assert_true(fixture.renegotiate);
	apply(order_put(probe_port("a", "A"), NULL));
	assert_false(fixture.renegotiate);
	assert_true(seen(0)->enabled);
	assert_int_equal(port->tx_accepts, NEEDS_ALL);
}

/* What is asked for runs already. */
static void changes_nothing(void **state)
{
	uint64_t revision;

	(void)state;
	start_two();
	revision = fixture.control->revision;
	apply(order_put(probe_port("b", "B"), NULL));
	assert_fine();
	assert_events("");
	assert_int_equal(fixture.control->revision, revision);
	/* The slot goes on with what the model has, lest the two drift apart. */
	assert_ptr_equal(port_named("b")->model, fixture.control->model->ports[1]);
}

static bool b_is_known(void)
{
	return leads_to(HOST + 2) == 1;
}

static void reopens(void **state)
{
	struct port *other;

	(void)state;
	start_two();
	other = port_named("a")->port;
	inject("b", HOST + 2);
	fixture_wait(b_is_known);
	apply(order_address(HOST + 3, "b"));
	apply(order_put(with_kept(probe_port("b", "B"), 7), NULL));
	assert_fine();
	assert_true(fixture.reopened);
	assert_events("close b, closed b, open b, ");
	assert_int_equal(number_of("b"), 1);
	assert_ptr_equal(seen(1)->port, port_named("b")->port);
	assert_ptr_equal(port_named("a")->port, other);
	/* What was learned is forgotten, what was said is not. */
	assert_int_equal(leads_to(HOST + 2), FDB_NO_PORT);
	assert_int_equal(leads_to(HOST + 3), 1);
	assert_int_equal(leads_to(HOST), 0);
}

static void removes(void **state)
{
	(void)state;
	start_two();
	inject("b", HOST + 2);
	fixture_wait(b_is_known);
	apply(order_address(HOST + 3, "b"));
	apply(order_address(HOST + 4, NULL));
	assert_int_equal(leads_to(HOST + 4), FDB_BLACKHOLE);
	apply(order_remove("b"));
	assert_fine();
	assert_events("close b, closed b, ");
	assert_null(control_find_port(fixture.control, "b"));
	assert_int_equal(fixture.control->ports[1].state, PORT_FREE);
	assert_null(seen(1)->port);
	assert_int_equal(fixture.control->snapshot->table.first[VLAN_COUNT], 1);
	assert_int_equal(leads_to(HOST + 2), FDB_NO_PORT);
	assert_int_equal(leads_to(HOST + 3), FDB_NO_PORT);
	assert_int_equal(leads_to(HOST + 4), FDB_BLACKHOLE);
	assert_int_equal(fixture.control->model->port_count, 1);
	assert_int_equal(fixture.control->model->address_count, 1);
	apply(order_remove("b"));
	assert_fault("no port b");
}

/*
 * A worker has learned an address behind a port just before it lost sight of it. It runs, so what
 * learner_post remembers is its own.
 */
static void post_late(struct port *port)
{
	struct learner *learner = &fixture.control->workers[0]->learner;

	learner->items[learner->head % LEARNER_SLOTS] =
		(struct learner_item){ key_of(HOST + 7, 0), port->number };
	__atomic_store_n(&learner->head, learner->head + 1, __ATOMIC_RELEASE);
}

static void numbers_are_free_once_they_are_forgotten(void **state)
{
	(void)state;
	start_two();
	fixture.on_close = post_late;
	apply(order_remove("b"));
	fixture.on_close = NULL;
	settle();
	assert_int_equal(leads_to(HOST + 7), FDB_NO_PORT);
	apply(order_put(probe_port("c", "C"), NULL));
	assert_int_equal(number_of("c"), 1);
	settle();
	assert_int_equal(leads_to(HOST + 7), FDB_NO_PORT);
	/* The number of one that goes is not for one that comes by the same change. */
	apply(order_model(model_of(with_mac(probe_port("a", "A"), HOST), probe_port("d", "D"),
				   NULL)));
	assert_events("close b, closed b, open c, open d, close c, closed c, ");
	assert_int_equal(number_of("d"), 2);
	assert_fine();
}

/* ---- addresses ---- */

static bool a_has_heard(void)
{
	return memory_counts(port_named("a")->port, 0).sent > 0;
}

static void addresses_stay_where_they_were_set(void **state)
{
	(void)state;
	start_two();
	/* One that was learned elsewhere moves when it becomes a port's own. */
	inject("b", HOST + 2);
	fixture_wait(b_is_known);
	apply(order_put(with_mac(probe_port("a", "A"), HOST + 2), NULL));
	assert_int_equal(leads_to(HOST + 2), 0);
	assert_int_equal(leads_to(HOST), FDB_NO_PORT);
	apply(order_address(HOST + 3, "a"));
	/* Whoever claims it from elsewhere is heard, but not believed. */
	inject("b", HOST + 2);
	inject("b", HOST + 3);
	fixture_wait(a_has_heard);
	settle();
	assert_int_equal(leads_to(HOST + 2), 0);
	assert_int_equal(leads_to(HOST + 3), 0);
	/* An address goes from one port to another, and to a blackhole. */
	apply(order_address(HOST + 3, "b"));
	assert_int_equal(leads_to(HOST + 3), 1);
	apply(order_address(HOST + 3, NULL));
	assert_int_equal(leads_to(HOST + 3), FDB_BLACKHOLE);
	assert_fine();
	apply(order_address(HOST + 2, "b"));
	assert_fault("port a's own");
	assert_int_equal(leads_to(HOST + 2), 0);
}

static bool frame_is_dropped(void)
{
	struct port_counters sum;
	uint64_t dropped = 0;

	port_sum_counters(port_named("a")->port, &sum);
	for (unsigned int i = 0; i < DROP_COUNT; i++)
		dropped += sum.rx.dropped[i];
	return dropped == 1 && sum.rx.packets == 1;
}

/* An address may lead to a port that is not open: frames to it end there. */
static void addresses_of_a_faulty_port(void **state)
{
	uint8_t bytes[60];
	const struct memory_frame frame = { .bytes = bytes, .length = sizeof(bytes) };

	(void)state;
	text_copy(fixture.denied, sizeof(fixture.denied), "b");
	fixture_start(probe_port("a", "A"), with_mac(probe_port("b", "B"), HOST), NULL);
	assert_int_equal(leads_to(HOST), 1);
	packet_ethernet(bytes, HOST, HOST + 1, sizeof(bytes));
	assert_int_equal(memory_inject(port_named("a")->port, 0, &frame), 0);
	fixture_wait(frame_is_dropped);
	fixture.denied[0] = '\0';
	retry_now();
	settle();
	assert_int_equal(port_named("b")->state, PORT_OPEN);
	assert_int_equal(leads_to(HOST), 1);
}

/* ---- order ---- */

static void new_ports_open_before_old_ones_close(void **state)
{
	struct port *port;

	(void)state;
	start_two();
	port = port_named("a")->port;
	apply(order_model(model_of(with_mac(probe_port("a", "A"), HOST), probe_port("c", "C"),
				   NULL)));
	assert_fine();
	assert_events("open c, close b, closed b, ");
	assert_ptr_equal(port_named("a")->port, port);
	assert_ptr_equal(seen(0)->port, port);
	assert_null(seen(1)->port);
	assert_ptr_equal(seen(2)->port, port_named("c")->port);
}

static void whoever_needs_anothers_place_waits_for_it(void **state)
{
	(void)state;
	start_two();
	apply(order_model(model_of(probe_port("a", "A"), probe_port("c", "B"), NULL)));
	assert_fine();
	assert_events("close b, closed b, open c, set a, ");
	/* Two that change places. */
	apply(order_model(model_of(probe_port("a", "B"), probe_port("c", "A"), NULL)));
	assert_fine();
	assert_true(fixture.reopened);
	assert_events("close a, close c, closed a, closed c, open a, open c, ");
	/* One that moves on, to where another was that stays. */
	apply(order_model(model_of(probe_port("a", "C"), probe_port("c", "B"), NULL)));
	assert_fine();
	assert_events("close a, close c, closed a, closed c, open a, open c, ");
}

/* ---- failures ---- */

/* What runs, to be compared with what runs later. */
struct picture {
	const struct model *model;
	uint64_t revision;
	struct model_port *models[2];
	struct port *ports[2];
};

static struct picture picture_of_two(void)
{
	struct picture picture = { .model = fixture.control->model,
				   .revision = fixture.control->revision };

	for (unsigned int i = 0; i < 2; i++) {
		picture.models[i] = fixture.control->ports[i].model;
		picture.ports[i] = fixture.control->ports[i].port;
	}
	return picture;
}

/* All is as before, but for ports that were closed and opened again. */
static void assert_undone(const struct picture *before)
{
	assert_ptr_equal(fixture.control->model, before->model);
	assert_int_equal(fixture.control->revision, before->revision);
	for (unsigned int i = 0; i < 2; i++) {
		assert_ptr_equal(fixture.control->ports[i].model, before->models[i]);
		assert_ptr_equal(before->models[i], before->model->ports[i]);
		assert_int_equal(fixture.control->ports[i].state, PORT_OPEN);
		assert_ptr_equal(seen((uint16_t)i)->port, fixture.control->ports[i].port);
	}
	for (uint16_t i = 2; i < fixture.control->port_count; i++) {
		assert_int_equal(fixture.control->ports[i].state, PORT_FREE);
		assert_null(fixture.control->ports[i].model);
		assert_null(seen(i)->port);
	}
	assert_int_equal(fixture.control->snapshot->table.first[VLAN_COUNT], 2);
	assert_int_equal(leads_to(HOST), 0);
	assert_int_equal(leads_to(HOST + 3), 1);
	assert_int_equal(leads_to(HOST + 4), FDB_BLACKHOLE);
	assert_int_equal(leads_to(HOST + 6), FDB_NO_PORT);
	assert_int_equal(fixture.control->fdb->entries, 3);
}

static struct picture start_with_addresses(void)
{
	start_two();
	apply(order_address(HOST + 3, "b"));
	apply(order_address(HOST + 4, NULL));
	assert_fine();
	return picture_of_two();
}

static void a_failure_to_open_comes_before_anything_is_closed(void **state)
{
	struct picture before = start_with_addresses();

	(void)state;
	text_copy(fixture.denied, sizeof(fixture.denied), "d");
	apply(order_model(model_of(with_kept(with_mac(probe_port("a", "A"), HOST + 6), 3),
				   probe_port("c", "C"), probe_port("d", "D"), NULL)));
	assert_fault("port d: D is not allowed");
	assert_int_equal(fixture.fault.errnum, EACCES);
	assert_events("open c, open d, close c, closed c, ");
	assert_undone(&before);
	assert_ptr_equal(port_named("a")->port, before.ports[0]);
	assert_ptr_equal(port_named("b")->port, before.ports[1]);
}

static void a_failure_after_closing_opens_again_what_was_closed(void **state)
{
	struct picture before = start_with_addresses();

	(void)state;
	text_copy(fixture.denied, sizeof(fixture.denied), "c");
	/* a is opened anew, b goes, c takes its place and cannot, d is new. */
	apply(order_model(model_of(with_kept(with_mac(probe_port("a", "A"), HOST + 6), 3),
				   probe_port("c", "B"), probe_port("d", "D"), NULL)));
	assert_fault("port c: B is not allowed");
	assert_events("open d, close a, close b, closed a, closed b, open a, open c, "
		      "open b, close a, close d, closed a, closed d, open a, ");
	assert_undone(&before);
	/* And the switch goes on. */
	fixture.denied[0] = '\0';
	fixture.failed = 0;
	apply(order_put(probe_port("c", "C"), NULL));
	assert_fine();
	assert_int_equal(number_of("c"), 2);
}

/* A port that is set keeps what it had when the same change fails elsewhere. */
static void a_failure_leaves_what_could_be_set(void **state)
{
	struct picture before = start_with_addresses();

	(void)state;
	text_copy(fixture.denied, sizeof(fixture.denied), "c");
	apply(order_put(with_mtu(with_mac(probe_port("a", "A"), HOST + 6), 1280),
			probe_port("c", "C"), NULL));
	assert_fault("port c");
	assert_events("open c, ");
	assert_undone(&before);
	assert_int_equal(port_named("a")->port->settings.mtu, PORT_MTU_MAX);
}

static void deny_b(struct port *port)
{
	(void)port;
	text_copy(fixture.denied, sizeof(fixture.denied), "b");
}

/* The old port cannot be opened any more: then it is faulty, and comes back when it can. */
static void a_failure_that_cannot_be_undone(void **state)
{
	struct picture before = start_with_addresses();

	(void)state;
	fixture.on_close = deny_b;
	apply(order_put(with_kept(probe_port("b", "B"), 3), NULL));
	fixture.on_close = NULL;
	assert_fault("port b");
	assert_events("close b, closed b, open b, open b, ");
	assert_ptr_equal(fixture.control->model, before.model);
	assert_ptr_equal(port_named("b")->model, before.models[1]);
	assert_int_equal(port_named("b")->state, PORT_FAULTY);
	assert_null(seen(1)->port);
	fixture.denied[0] = '\0';
	retry_now();
	settle();
	assert_events("open b, ");
	before.model = fixture.control->model; /* a copy, for opening again is a change, too */
	assert_undone(&before);
}

static void a_change_that_makes_no_model(void **state)
{
	struct picture before = start_with_addresses();

	(void)state;
	apply(order_put(with_mac(probe_port("c", "C"), HOST), NULL));
	assert_fault("is taken by port a");
	assert_events("");
	assert_undone(&before);
}

static void no_room_for_more_ports(void **state)
{
	struct model *model = model_of(NULL, NULL);
	struct error err;

	(void)state;
	for (unsigned int i = 0; i < CONTROL_PORTS_MAX; i++) {
		char name[16];

		snprintf(name, sizeof(name), "p%u", i);
		assert_int_equal(model_put_port(model, probe_port(name, name), &err), 0);
	}
	fixture_begin(model);
	fixture_ready();
	fixture.events[0] = '\0';
	assert_int_equal(fixture.control->snapshot->table.first[VLAN_COUNT], CONTROL_PORTS_MAX);
	/* One goes and one comes, but at no time are there more than all. */
	model = model_copy(fixture.control->model);
	assert_int_equal(model_remove_port(model, "p7"), 0);
	assert_int_equal(model_put_port(model, probe_port("q", "q"), &err), 0);
	apply(order_model(model));
	assert_fault("no room for more ports");
	assert_int_equal(fixture.fault.kind, ERROR_LIMIT);
	assert_events("");
	assert_int_equal(fixture.control->snapshot->table.first[VLAN_COUNT], CONTROL_PORTS_MAX);
	assert_int_equal(port_named("p7")->state, PORT_OPEN);
}

/* ---- faults of the world ---- */

static void faulty_ports_are_tried_again(void **state)
{
	struct change *change = order_put(probe_port("c", "C"), probe_port("d", "D"), NULL);

	(void)state;
	start_two();
	text_copy(fixture.denied, sizeof(fixture.denied), "c");
	change->strict = false;
	apply(change);
	assert_fine();
	assert_events("open c, open d, ");
	assert_int_equal(port_named("c")->state, PORT_FAULTY);
	assert_int_equal(port_named("d")->state, PORT_OPEN);
	assert_int_equal(fixture.control->model->port_count, 4);
	/* Others are changed while it is faulty, strictly, and so is the port itself. */
	apply(order_put(with_mtu(probe_port("d", "D"), 1280), NULL));
	apply(order_put(with_mtu(probe_port("c", "C"), 1280), NULL));
	assert_fine();
	assert_events("set d, ");
	/* Who says the same once more insists on it. */
	apply(order_put(with_mtu(probe_port("c", "C"), 1280), NULL));
	assert_fault("port c");
	assert_events("open c, ");
	fixture.failed = 0;
	retry_now();
	settle();
	assert_events("open c, ");
	assert_int_equal(port_named("c")->state, PORT_FAULTY);
	fixture.denied[0] = '\0';
	retry_now();
	settle();
	assert_events("open c, ");
	assert_int_equal(port_named("c")->state, PORT_OPEN);
	assert_int_equal(seen(2)->max_length, 1294);
	retry_now();
	settle();
	assert_events("");
}

static void faulty_ports_can_be_changed_and_removed(void **state)
{
	struct change *change = order_put(probe_port("c", "C"), NULL);

	(void)state;
	start_two();
	text_copy(fixture.denied, sizeof(fixture.denied), "c");
	change->strict = false;
	apply(change);
	/* With another configuration it is tried at once. */
	apply(order_put(with_kept(probe_port("c", "C"), 3), NULL));
	assert_fault("port c");
	assert_events("open c, open c, open c, ");
	fixture.failed = 0;
	apply(order_remove("c"));
	assert_fine();
	assert_events("");
	assert_null(control_find_port(fixture.control, "c"));
}

static bool a_is_open_again(void)
{
	return strstr(fixture.events, "open a, ") != NULL && port_named("a")->state == PORT_OPEN;
}

static void lost_ports_are_opened_anew(void **state)
{
	uint64_t revision;

	(void)state;
	start_two();
	revision = fixture.control->revision;
	text_copy(fixture.lost, sizeof(fixture.lost), "a");
	retry_now();
	fixture_wait(a_is_open_again);
	assert_events("close a, closed a, open a, ");
	assert_int_equal(leads_to(HOST), 0);
	/* Nobody asked for it. */
	assert_int_equal(fixture.control->revision, revision);
	fixture.lost[0] = '\0';
	retry_now();
	settle();
	assert_events("");
}

/* ---- many ---- */

static uintptr_t deepest, shallowest;
static uint32_t last_mtu;

static void measure_stack(void)
{
	uintptr_t here = (uintptr_t)__builtin_frame_address(0);

	if (deepest == 0 || here < deepest)
		deepest = here;
	if (here > shallowest)
		shallowest = here;
}

/* Of changes that each give port a one more byte. */
static void note_order(struct change *change, const struct error *fault)
{
	(void)change;
	assert_null(fault);
	measure_stack();
	if (port_named("a")->port->settings.mtu != PORT_MTU_MAX)
		assert_int_equal(port_named("a")->port->settings.mtu, ++last_mtu);
}

static void many_at_once_are_done_in_order(void **state)
{
	(void)state;
	start_two();
	fixture.on_done = note_order;
	deepest = shallowest = 0;
	last_mtu = 1500;
	/* One that takes a while, so that the others wait. */
	fixture_submit(order_put(probe_port("c", "C"), NULL));
	for (uint32_t i = 1; i <= MANY; i++)
		fixture_submit(order_put(with_mtu(probe_port("a", "A"), 1500 + i), NULL));
	assert_int_equal(fixture.ended, 0);
	fixture_await();
	assert_fine();
	assert_int_equal(fixture.ended, MANY + 1);
	assert_int_equal(last_mtu, 1500 + MANY);
	assert_in_range(shallowest - deepest, 0, STACK_MAX);
	fixture.on_done = NULL;
}

/* Whoever hears of the end of a change may ask for the next. */
static void ask_for_more(struct change *change, const struct error *fault)
{
	note_order(change, fault);
	if (fixture.submitted < MANY)
		fixture_submit(order_put(with_mtu(probe_port("a", "A"), last_mtu + 1), NULL));
}

static void one_leads_to_the_next(void **state)
{
	(void)state;
	start_two();
	fixture.on_done = ask_for_more;
	deepest = shallowest = 0;
	last_mtu = 1500;
	apply(order_put(probe_port("c", "C"), NULL));
	assert_fine();
	assert_int_equal(fixture.ended, MANY);
	assert_int_equal(last_mtu, 1500 + MANY - 1);
	assert_in_range(shallowest - deepest, 0, STACK_MAX);
	fixture.on_done = NULL;
}

#define ROUNDS 60
#define BURST 10

static unsigned int sent;

static bool all_have_arrived(void)
{
	return memory_counts(port_named("b")->port, 0).sent == sent;
}

static void speak(void)
{
	for (unsigned int i = 0; i < BURST; i++)
		inject("a", HOST + i % 3);
	sent += BURST;
}

static bool nothing_waits(void)
{
	return fixture.control->retired == 0;
}

/* Of what goes on between two ports nothing is lost while others come, change, fail and go. */
static void traffic_goes_on(void **state)
{
	(void)state;
	start_two();
	sent = 0;
	for (unsigned int i = 0; i < ROUNDS; i++) {
		speak();
		fixture_submit(order_put(probe_port("c", "C"), NULL));
		fixture_submit(order_put(with_mtu(probe_port("c", "C"), 1280 + i), NULL));
		speak();
		fixture_submit(order_put(with_kept(probe_port("c", "C"), 1 + i), NULL));
		fixture_await();
		assert_fine();
		speak();
		text_copy(fixture.denied, sizeof(fixture.denied), "d");
		fixture_submit(order_model(model_of(with_mac(probe_port("a", "A"), HOST),
						    probe_port("b", "B"), probe_port("d", "C"),
						    NULL)));
		fixture_await();
		assert_fault("port d");
		fixture.failed = 0;
		fixture.denied[0] = '\0';
		speak();
		fixture_submit(order_remove("c"));
		fixture_await();
		assert_fine();
		fixture.events[0] = '\0';
	}
	fixture_wait(all_have_arrived);
	fixture_wait(nothing_waits);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(opens_and_closes),
		TEST(learns_while_it_runs),
		TEST(ports_can_inject),
		TEST(stops_while_ports_open),
		TEST(stops_behind_what_was_asked),
		TEST(adds),
		TEST(sets_live),
		TEST(changes_nothing),
		TEST(reopens),
		TEST(removes),
		TEST(numbers_are_free_once_they_are_forgotten),
		TEST(addresses_stay_where_they_were_set),
		TEST(addresses_of_a_faulty_port),
		TEST(new_ports_open_before_old_ones_close),
		TEST(whoever_needs_anothers_place_waits_for_it),
		TEST(a_failure_to_open_comes_before_anything_is_closed),
		TEST(a_failure_after_closing_opens_again_what_was_closed),
		TEST(a_failure_leaves_what_could_be_set),
		TEST(a_failure_that_cannot_be_undone),
		TEST(a_change_that_makes_no_model),
		TEST(no_room_for_more_ports),
		TEST(faulty_ports_are_tried_again),
		TEST(faulty_ports_can_be_changed_and_removed),
		TEST(lost_ports_are_opened_anew),
		TEST(many_at_once_are_done_in_order),
		TEST(one_leads_to_the_next),
		TEST(traffic_goes_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
