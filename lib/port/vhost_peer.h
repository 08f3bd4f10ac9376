/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The VMM at the other end of a connection: which process it is, and how long it may hold the vhost
 * library's only thread.
 *
 * The library does not tell the descriptor of a connection, so it is searched for among all of
 * ours. It reads a message in two parts, and drops the connection when it does not get either in
 * one piece; with the time-out that is set here, one message holds its thread for no longer than
 * that.
 *
 * Callbacks of the library; process_*: any thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* A process: numbers are used again, so the time of its start belongs to it. */
struct process {
	pid_t pid;      /* 0: not known */
	uint64_t start; /* clock ticks since the host's boot (proc(5)); 0: not known */
};

/* Fills *process with what is known of a process that runs now. */
void process_identify(struct process *process, pid_t pid);

bool process_same(const struct process *a, const struct process *b);

/* Does it still run? False also when that is not known. */
bool process_lives(const struct process *process);

struct peer {
	int theirs; /* the library's descriptor, for telling connections apart; -1: not found */
	int fd;     /* ours of the same connection, or -1 */
	struct process process;
	uid_t uid;
};

/*
 * Finds the connection at `bound` that is not among the `count` known ones; sets its time-outs and
 * close-on-exec. bound: the path that we listen at or, for a client, that we have connected to.
 * Returns 0, or -ENOENT with a peer of whom nothing is known.
 */
int peer_find(const char *bound, bool client, const struct peer *known, unsigned int count,
	      struct peer *peer);
void peer_release(struct peer *peer);

/* Ends the connection; the library notices. Any thread. */
void peer_hang_up(const struct peer *peer);

/*
 * Ends a connection whose peer does not read its answers: the next one would hold the library's
 * thread until its time-out, and so would each that follows. Returns true if it did.
 */
bool peer_drop_deaf(const struct peer *peer);

/* Marks the socket that listens at `bound` close-on-exec, which the library does not. */
void peer_hide_listener(const char *bound);
