/* SPDX-License-Identifier: BSD-3-Clause */
/* The offload switches and what they need of each other; port/offloads.h is the contract. */
#include "port/offloads.h"

#include <errno.h>

#include "frame/frame.h"

/* Of what was given as true: it needs something that was given as false. */
static int check_needs(const char *field, bool given, bool needed, const char *why,
		       struct error *err)
{
	if (!given || needed)
		return 0;
	error_set(err, ERROR_INVALID, EINVAL, "%s: \"%s\" %s", err->object, field, why);
	error_detail(err, NULL, NULL, NULL, "false, or true for what it needs");
	return -EINVAL;
}

static const struct offload_switches *switches_of(const void *value, size_t offset)
{
	return (const void *)((const char *)value - offset);
}

/* The rows stand in an order in which what is needed has been stored already. */
static int check_tso(const void *value, struct error *err)
{
	const struct offload_switches *all =
		switches_of(value, offsetof(struct offload_switches, tso));

	return check_needs("offloads.tso", all->tso, all->checksum,
			   "needs offloads.checksum, which is false", err);
}

static int check_ufo(const void *value, struct error *err)
{
	const struct offload_switches *all =
		switches_of(value, offsetof(struct offload_switches, ufo));

	return check_needs("offloads.ufo", all->ufo, all->checksum,
			   "needs offloads.checksum, which is false", err);
}

static int check_ecn(const void *value, struct error *err)
{
	const struct offload_switches *all =
		switches_of(value, offsetof(struct offload_switches, ecn));

	return check_needs("offloads.ecn", all->ecn, all->checksum && all->tso,
			   "needs offloads.checksum and offloads.tso, one of which is false", err);
}

const struct param offload_params[] = {
	{ "checksum", PARAM_BOOL, PARAM_AT(struct offload_switches, checksum), .initial = "true",
	  .help = "checksums that the other side completes" },
	{ "tso", PARAM_BOOL, PARAM_AT(struct offload_switches, tso), .initial = "true",
	  .check = check_tso, .help = "large TCP segments; needs checksum" },
	{ "ufo", PARAM_BOOL, PARAM_AT(struct offload_switches, ufo), .initial = "true",
	  .check = check_ufo, .help = "large UDP frames, UFO and USO; needs checksum" },
	{ "ecn", PARAM_BOOL, PARAM_AT(struct offload_switches, ecn), .initial = "true",
	  .check = check_ecn, .help = "large TCP segments with ECN; needs checksum and tso" },
	{ NULL }
};

uint8_t offload_needs(const struct offload_switches *switches)
{
	unsigned int needs = 0;

	if (!switches->checksum)
		return 0;
	needs = NEEDS_CHECKSUM | NEEDS_VALID;
	if (switches->tso)
		needs |= NEEDS_TSO4 | NEEDS_TSO6;
	if (switches->tso && switches->ecn)
		needs |= NEEDS_ECN;
	if (switches->ufo)
		needs |= NEEDS_UFO;
	return (uint8_t)needs;
}
