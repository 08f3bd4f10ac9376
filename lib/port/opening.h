/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Opening and closing of a port on the background thread, where they may wait for the world, with
 * the answers on the control thread. For types of port: their ops->open and ops->close end here.
 */
#pragma once

#include "port/port.h"

/* A type's own part. */
struct opening_steps {
	/* Background thread. Returns 0, or -errno with err filled and nothing left open. */
	int (*open)(struct port *port, struct error *err);
	/* Control thread, after success: publishes what tx takes (port_set_tx). NULL: nothing. */
	void (*opened)(struct port *port);
	/* Background thread: the opposite of open. */
	void (*close)(struct port *port);
	/* Control thread, after close or a failure: frees port->driver and makes it NULL. */
	void (*free)(struct port *port);
};

/*
 * ops->open once port->driver is made, NULL being "out of memory". `steps` outlives the port.
 * Returns 0, or -ENOMEM with err filled and the driver freed.
 */
int opening_start(struct port *port, const struct opening_steps *steps, port_opened done,
		  void *argument, struct error *err);

/* ops->close of a port that was opened so. */
void opening_end(struct port *port, const struct opening_steps *steps,
		 void (*done)(void *argument), void *argument);
