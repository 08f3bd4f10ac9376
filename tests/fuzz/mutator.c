/* SPDX-License-Identifier: BSD-3-Clause */
/* How libFuzzer changes texts: by its own ways, and now and then to one that is nearly right. */
#include "text.h"

size_t LLVMFuzzerMutate(uint8_t *bytes, size_t count, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t count, size_t max, unsigned int seed);

size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t count, size_t max, unsigned int seed)
{
	struct entropy entropy;

	entropy_init(&entropy, seed, NULL, 0);
	if (entropy_chance(&entropy, 8))
		return text_make(&entropy, (char *)bytes, max);
	if (entropy_chance(&entropy, 2))
		return text_damage(&entropy, (char *)bytes, count, max);
	return LLVMFuzzerMutate(bytes, count, max);
}
