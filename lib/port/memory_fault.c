/* SPDX-License-Identifier: BSD-3-Clause */
/* The SIGBUS handler and its table; port/memory_fault.h is the contract. */
#include "port/memory_fault.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

/* Eight regions and a dirty log a port, for as many ports as the vhost library serves. */
#define MAPPINGS_MAX (9 * 1024)

/* A page of huge ones cannot be replaced in part. */
static const size_t page_sizes[] = { 4096, 2 << 20, 1 << 30 };

/*
 * The handler reads without a lock: `start` is stored last and cleared first, so an entry that it
 * sees is whole. A mapping that is being released is used by no thread any more.
 */
struct mapping {
	uintptr_t start; /* 0: free */
	size_t size;
	void (*lost)(void *owner);
	void *owner;
};

static struct mapping mappings[MAPPINGS_MAX];
static unsigned int mapping_end; /* no entry in use from here on */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* What memory_fault_expect was told by this thread. */
static __thread void (*expected_lost)(void *owner);
static __thread void *expected_owner;

static const struct mapping *find_mapping(uintptr_t address)
{
	unsigned int end = __atomic_load_n(&mapping_end, __ATOMIC_ACQUIRE);

	for (unsigned int i = 0; i < end; i++) {
		uintptr_t start = __atomic_load_n(&mappings[i].start, __ATOMIC_ACQUIRE);

		if (start != 0 && address - start < mappings[i].size)
			return &mappings[i];
	}
	return NULL;
}

/* Puts anonymous memory in the place of what was lost. */
static bool replace(void *start, size_t size)
{
	return mmap(start, size, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1,
		    0) != MAP_FAILED;
}

/* Of a mapping that nobody has told us of. */
static bool replace_page(uintptr_t address)
{
	for (unsigned int i = 0; i < sizeof(page_sizes) / sizeof(page_sizes[0]); i++)
		if (replace((void *)(address & ~(uintptr_t)(page_sizes[i] - 1)), page_sizes[i]))
			return true;
	return false;
}

static void handle(int number, siginfo_t *info, void *context)
{
	uintptr_t address = (uintptr_t)info->si_addr;
	const struct mapping *mapping = find_mapping(address);
	int saved = errno;

	(void)context;
	/*
	 * All of a guarded mapping goes, not the page alone: half a guest is of no use, and the
	 * next access would fault again.
	 */
	if (mapping != NULL && replace((void *)mapping->start, mapping->size))
		mapping->lost(mapping->owner);
	else if (mapping == NULL && expected_lost != NULL &&
		 replace_page(address))
		expected_lost(expected_owner);
	else
		signal(number, SIG_DFL); /* the access is repeated and ends the process */
	errno = saved;
}

void memory_fault_expect(void (*lost)(void *owner), void *owner)
{
	expected_owner = owner;
	expected_lost = lost;
}

int memory_fault_init(void)
{
	struct sigaction action;

	memset(&action, 0, sizeof(action));
	action.sa_sigaction = handle;
	action.sa_flags = SA_SIGINFO;
	sigemptyset(&action.sa_mask);
	return sigaction(SIGBUS, &action, NULL) == 0 ? 0 : -errno;
}

int memory_fault_guard(void *start, size_t size, void (*lost)(void *owner), void *owner)
{
	int result = -ENOSPC;

	pthread_mutex_lock(&lock);
	for (unsigned int i = 0; i < MAPPINGS_MAX; i++) {
		if (mappings[i].start != 0)
			continue;
		mappings[i].size = size;
		mappings[i].lost = lost;
		mappings[i].owner = owner;
		__atomic_store_n(&mappings[i].start, (uintptr_t)start, __ATOMIC_RELEASE);
		if (i >= mapping_end)
			__atomic_store_n(&mapping_end, i + 1, __ATOMIC_RELEASE);
		result = 0;
		break;
	}
	pthread_mutex_unlock(&lock);
	return result;
}

void memory_fault_release(void *owner)
{
	pthread_mutex_lock(&lock);
	for (unsigned int i = 0; i < mapping_end; i++)
		if (mappings[i].start != 0 && mappings[i].owner == owner)
			__atomic_store_n(&mappings[i].start, 0, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&lock);
}
