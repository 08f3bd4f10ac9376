/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The lock of a queue's tx side, which any worker may use: frames of several go to one port.
 *
 * It is held while frames are copied (ops->tx_burst), while buffers are looked at ahead of need,
 * and for a look at the receiver's wish to be told; never while a worker waits for room or wakes
 * somebody up. So whoever waits for it does so for about a burst of another worker, whatever the
 * receiver does. With one worker, and for types whose tx_burst is parallel, nothing is done.
 *
 *     port_lock_tx(queue);
 *     result = queue->ops->tx_burst(queue, frames, count, &outcome);
 *     port_unlock_tx(queue);
 *
 * Workers.
 */
#pragma once

#include <rte_branch_prediction.h>
#include <rte_pause.h>

#include "port/port.h"

/* Takes the lock if that is possible at once. */
static inline bool port_try_lock_tx(struct port_queue *queue)
{
	return likely(!queue->locks) ||
	       (!__atomic_load_n(&queue->tx_locked, __ATOMIC_RELAXED) &&
		!__atomic_exchange_n(&queue->tx_locked, true, __ATOMIC_ACQUIRE));
}

static inline void port_lock_tx(struct port_queue *queue)
{
	while (unlikely(!port_try_lock_tx(queue)))
		rte_pause();
}

static inline void port_unlock_tx(struct port_queue *queue)
{
	if (unlikely(queue->locks))
		__atomic_store_n(&queue->tx_locked, false, __ATOMIC_RELEASE);
}
