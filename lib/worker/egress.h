/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Egress: brings staged frames to their ports. It keeps what the receiver did not negotiate away
 * from it, spreads flows over the receiver's queues, transmits, and closes the second ledger.
 */
#pragma once

#include "worker/worker.h"

/* Empties all stages of the worker's last forward_burst. Adds to worker->notices. */
void egress_burst(struct worker *worker, const struct snapshot *snapshot);
