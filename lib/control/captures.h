/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The captures of the running switch: beginning them, hanging them on ports, ending them.
 *
 * A capture belongs to a port by its slot, so it goes on while the port is closed and opened anew,
 * and ends when the port is removed. It is not part of the model: a daemon that is started again
 * has none.
 *
 * It ends in order: the workers lose sight of it, its recorder writes what is left, whoever waits
 * is told. What it counted can be asked for until CAPTURES_KEPT others have ended after it.
 *
 * Control thread, all of it.
 */
#pragma once

#include <limits.h>

#include "control/control.h"
#include "telemetry/recorder.h"

#define CAPTURES_MAX 16 /* that run at a time */
#define CAPTURES_KEPT 16

enum capture_direction { CAPTURE_BOTH, CAPTURE_IN, CAPTURE_OUT };

struct capture_wish {
	char port[PORT_NAME_SIZE];
	uint32_t direction; /* enum capture_direction */
	char filter[PCAPNG_FILTER_MAX + 1];
	uint32_t snap;
	uint64_t buffer;    /* bytes of each worker's ring */
	uint64_t bytes;     /* 0: any */
	uint64_t packets;   /* 0: any; of a trace: how many frames */
	uint32_t seconds;
	char file[PATH_MAX]; /* "": none */
	bool to_descriptor;
	bool traces;
};

enum capture_state { CAPTURE_STARTING, CAPTURE_RUNNING, CAPTURE_ENDING, CAPTURE_ENDED };

struct control_capture;

/* Whoever waits for the end of a capture; frees itself. */
struct capture_waiter {
	void (*ended)(struct capture_waiter *waiter, struct control_capture *capture);
	STAILQ_ENTRY(capture_waiter) next;
};

struct control_capture {
	struct control *control;
	uint64_t id;
	struct capture_wish wish;
	enum capture_state state;
	uint16_t slot;
	struct capture *capture;   /* NULL once it has ended, as the recorder */
	struct recorder *recorder;
	const char *end_reason;    /* for the recorder */
	char reason[128];          /* of the end; "" before it */
	struct recorder_counts counts; /* once it has ended */
	/* Its start, or its failure to; fault: NULL, or why. Then it is gone. */
	void (*started)(void *argument, struct control_capture *capture,
			const struct error *fault);
	void *argument;
	bool leaks; /* workers may see it for ever */
	STAILQ_HEAD(, capture_waiter) waiters;
	STAILQ_ENTRY(control_capture) next;
};

/*
 * Begins a capture. `fd` and `owner` are as in recorder_wish, and taken over. Returns 0 and later
 * calls started, or -errno with err filled.
 */
int captures_start(struct control *control, const struct capture_wish *wish, int fd, int owner,
		   void (*started)(void *argument, struct control_capture *capture,
				   const struct error *fault),
		   void *argument, struct error *err);

/* One that runs or has ended lately, or NULL. */
struct control_capture *captures_find(struct control *control, uint64_t id);

/* Ends one that runs. reason: a string that lasts. */
void captures_stop(struct control_capture *capture, const char *reason);

/* Tells the waiter when the capture has ended; at once if it has. */
void captures_wait(struct control_capture *capture, struct capture_waiter *waiter);

/* What it has counted until now. */
struct recorder_counts captures_count(const struct control_capture *capture);

/* The port in this slot goes: its captures end. For slots.c. */
void captures_lose_port(struct control_port *slot);

/* Ends all of them, and waits a moment for what has to be written. No worker runs any more. */
void captures_close(struct control *control);
