/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The guest memory map: which guest-physical addresses are mapped where in the switch.
 *
 * A map is immutable once its rings are attached. The guest chooses every address that is looked up
 * here, so nothing may overflow and nothing outside a region is ever returned.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* librte_vhost takes no more regions from a VMM. */
#define GUEST_REGIONS_MAX 8

struct guest_region {
	uint64_t guest; /* guest-physical address */
	uint64_t size;  /* bytes */
	uint8_t *host;  /* where it is mapped */
};

struct guest_memory {
	uint32_t count;
	struct guest_region regions[GUEST_REGIONS_MAX];
};

/*
 * Translates the start of [guest, guest + *length): returns where it is mapped and cuts *length to
 * what is contiguous there, or returns NULL if the first byte is not mapped. *length is at least 1.
 */
static inline uint8_t *guest_memory_part(const struct guest_memory *memory, uint64_t guest,
					 uint32_t *length)
{
	for (uint32_t i = 0; i < memory->count; i++) {
		const struct guest_region *region = &memory->regions[i];
		uint64_t offset = guest - region->guest;

		if (offset < region->size) {
			if (*length > region->size - offset)
				*length = (uint32_t)(region->size - offset);
			return region->host + offset;
		}
	}
	return NULL;
}

/* Translates a whole range that lies inside one region, or returns NULL. */
static inline uint8_t *guest_memory_whole(const struct guest_memory *memory, uint64_t guest,
					  uint32_t length)
{
	for (uint32_t i = 0; i < memory->count; i++) {
		const struct guest_region *region = &memory->regions[i];
		uint64_t offset = guest - region->guest;

		if (offset < region->size && length <= region->size - offset)
			return region->host + offset;
	}
	return NULL;
}

/*
 * Is [host, host + size) inside one mapped region? For the rings, whose host addresses are given.
 */
static inline int guest_memory_holds(const struct guest_memory *memory, const void *host,
				     uint64_t size)
{
	for (uint32_t i = 0; i < memory->count; i++) {
		const struct guest_region *region = &memory->regions[i];
		uint64_t offset = (uint64_t)((uintptr_t)host - (uintptr_t)region->host);

		if (offset < region->size && size <= region->size - offset)
			return 1;
	}
	return 0;
}

/* The guest-physical address of what is mapped at `host`; 0 for what is not mapped. */
static inline uint64_t guest_memory_address(const struct guest_memory *memory, const void *host)
{
	for (uint32_t i = 0; i < memory->count; i++) {
		const struct guest_region *region = &memory->regions[i];
		uint64_t offset = (uint64_t)((uintptr_t)host - (uintptr_t)region->host);

		if (offset < region->size)
			return region->guest + offset;
	}
	return 0;
}
