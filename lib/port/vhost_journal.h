/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The journal of a port's packed rings: where each of them stands, in a file that outlives the
 * switch.
 *
 * A split ring holds its position itself. A packed one does not, and a VMM learns it only when a
 * ring is stopped in order: after a switch that was killed, or a connection that broke, it names
 * the ring's beginning. So the ring engine keeps each position in a word of this file
 * (virtqueue/virtqueue.h). The file is mapped: what was stored is there when the process is
 * killed, whatever it was about to do next. It need not survive the host, whose VMMs do not either;
 * but it should lie in RAM, as /run does, for workers write to it.
 *
 * A word is believed for the process, the address and the size that it was written for. Each change
 * of these clears the words first and stores the new values after that; so whenever the switch
 * dies, a word that is left belongs to what stands beside it.
 *
 *     journal = journal_open(directory, "vm1", &reason);
 *     journal_begin(journal, &peer.process);                       a VMM connects
 *     word = journal_ring(journal, index, address, size, &known);  a ring is attached
 *     journal_clear(journal, index);                               the VMM was told the position
 *
 * One thread at a time; the words that journal_ring returned belong to the rings' workers.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "port/vhost_peer.h"

struct journal;

/*
 * Opens or makes the port's file in this directory. Returns NULL with *reason, a constant sentence,
 * where it cannot be made, or is none of ours. The background thread.
 */
struct journal *journal_open(const char *directory, const char *port, const char **reason);

/* Keeps the file. NULL is fine. */
void journal_close(struct journal *journal);

/* Removes the file of a port whose journal is closed, if there is one. */
void journal_remove(const char *directory, const char *port);

/* This process is connected now; what was written for another one is cleared. */
void journal_begin(struct journal *journal, const struct process *process);

/*
 * The word of a ring whose descriptors begin at this guest-physical address. *known: it may hold a
 * position; otherwise it is VIRTQUEUE_JOURNAL_NONE. index: below 2 * PORT_QUEUES_MAX.
 */
uint64_t *journal_ring(struct journal *journal, uint16_t index, uint64_t address, uint32_t size,
		       bool *known);

/* Forgets the position of a ring that is detached. */
void journal_clear(struct journal *journal, uint16_t index);
