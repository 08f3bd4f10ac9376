/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A running switch for tests of control: its loop is run by the test, workers run in threads of
 * their own as in the daemon, and the ports are of the type "probe": memory ports in a world that
 * can refuse them, at a place that two of them cannot have at a time, which notes what is done to
 * them. Include after cmocka.h.
 *
 *     fixture_start(port_new_model("a", "here"), port_new_model("b", "there"), NULL);
 *     fixture_submit(order_remove("a"));
 *     fixture_await();
 *     assert_events("close a, ");
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "control/apply.h"

#define PLACE_SIZE 16
#define BROADCAST 0xffffffffffff

/* The test's view of the switch and of the world around it; all zero before each test. */
struct fixture {
	struct loop *loop;
	struct control *control;
	bool ready, stopping, stopped;

	/* What the world does not allow, and what it takes away; "": nothing. */
	char denied[PORT_NAME_SIZE]; /* the port that cannot be opened */
	char lost[PORT_NAME_SIZE];   /* the port whose way in is gone */
	char held[PORT_NAME_SIZE];   /* the port whose opening does not end yet */
	void (*on_close)(struct port *port);
	void (*on_done)(struct change *change, const struct error *fault);

	/* What was done to ports, "open a, close b, set a, " and so on. */
	char events[4096];
	bool renegotiate;     /* as ops->set was told last */
	char remembered[256]; /* what ops->open was given last, as JSON */
	char memory[64];      /* what ops->remember will say, as a string; "": nothing */

	/* How the changes ended. */
	unsigned int submitted, ended, failed;
	struct error fault;   /* of the first that failed */
	bool reopened;        /* by the last that did not */
};
extern struct fixture fixture;

/* For cmocka: a switch without ports; the same with three workers; its end. */
int fixture_setup(void **state);
int fixture_setup_three(void **state);
int fixture_teardown(void **state);

/*
 * The worker that polls this queue (0 to 3) stands still, from the return of this function on and
 * until the other one is called.
 */
void fixture_stall(const char *name, uint16_t queue);
void fixture_stall_ends(void);

/* The worker that has polled this queue last; PORT_NO_WORKER: none since it was opened. */
uint16_t fixture_poller(const char *name, uint16_t queue);

/* Ends the opening of the port that was held. */
void fixture_release(void);

/* Has the switch begin with these ports (up to NULL), and waits until it is ready. */
void fixture_start(struct model_port *port, ...);

/* The same in two steps; the model is taken over. */
void fixture_begin(struct model *model);
void fixture_ready(void);

/* Has the switch stop, and waits for it; the first may have been called before. */
void fixture_stop_soon(void);
void fixture_stop(void);

/* Runs the loop until this is true. */
void fixture_wait(bool (*reached)(void));

/* Compares fixture.events, and begins anew. */
void assert_events(const char *expected);

/* ---- ports ---- */

/* A port of the type "probe" with default settings, and one reference. */
struct model_port *probe_port(const char *name, const char *place);

/* The same with other settings: these can be set live. Each returns its port. */
struct model_port *with_mtu(struct model_port *port, uint32_t mtu);
struct model_port *with_mac(struct model_port *port, uint64_t mac);
struct model_port *switched_off(struct model_port *port);
struct model_port *with_worker(struct model_port *port, uint16_t queue, uint16_t worker);

/* The same with so many queue pairs. */
struct model_port *with_queues(struct model_port *port, uint16_t queues);

/* The same with another configuration of its type, which is no reason or one to open it anew. */
struct model_port *with_accepts(struct model_port *port, uint8_t accepts);
struct model_port *with_kept(struct model_port *port, uint32_t kept);

/* A model of the ports up to NULL. */
struct model *model_of(struct model_port *port, ...);

/* The running port of this name. */
struct control_port *port_named(const char *name);

/* A broadcast frame from `mac` is received by the port. */
void inject(const char *name, uint64_t mac);

/* ---- changes ---- */

/* Adds ports (up to NULL, taken over) or puts them in the place of those that have their names. */
struct change *order_put(struct model_port *port, ...);
struct change *order_remove(const char *name);

/* The whole model, taken over. */
struct change *order_model(struct model *model);

/* A static address; port NULL: a blackhole. */
struct change *order_address(uint64_t mac, const char *port);

void fixture_submit(struct change *change);

/* Runs the loop until all that was submitted has ended. */
void fixture_await(void);
