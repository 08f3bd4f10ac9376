/* SPDX-License-Identifier: BSD-3-Clause */
/* Guards as they are asked for; policy/guard_config.h is the contract. */
#include "policy/guard_config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/units.h"

#define ACCEPTED                                                                                   \
	"MAC addresses, IP addresses and prefixes: \"10.0.0.5\", \"10.0.1.0/24\", "                \
	"\"2001:db8::/64\""

static unsigned int bits_of(const struct guard_prefix *prefix)
{
	return prefix->is_ipv6 ? 128 : 32;
}

/* Clears the bits behind the prefix. Returns whether any was set. */
static bool clear_rest(struct guard_prefix *prefix)
{
	bool any = false;

	for (unsigned int bit = prefix->length; bit < bits_of(prefix); bit++) {
		const uint8_t mask = (uint8_t)(0x80 >> bit % 8);

		any |= (prefix->address[bit / 8] & mask) != 0;
		prefix->address[bit / 8] &= (uint8_t)~mask;
	}
	return any;
}

/* "/24" and nothing else, at most `max`. Returns 0 or -EINVAL. */
static int parse_length(const char *text, unsigned int max, uint8_t *length)
{
	unsigned int value = 0;

	if (*text == '\0' || strlen(text) > 3 || (text[0] == '0' && text[1] != '\0'))
		return -EINVAL;
	for (; *text != '\0'; text++) {
		if (*text < '0' || *text > '9')
			return -EINVAL;
		value = value * 10 + (unsigned int)(*text - '0');
	}
	if (value > max)
		return -EINVAL;
	*length = (uint8_t)value;
	return 0;
}

/* An address or a prefix. Returns 0 or -EINVAL. */
static int parse_prefix(const char *text, struct guard_prefix *prefix)
{
	const char *slash = strchr(text, '/');
	char address[INET6_ADDRSTRLEN];
	size_t length = slash != NULL ? (size_t)(slash - text) : strlen(text);

	memset(prefix, 0, sizeof(*prefix));
	if (length >= sizeof(address))
		return -EINVAL;
	memcpy(address, text, length);
	address[length] = '\0';
	prefix->is_ipv6 = strchr(address, ':') != NULL;
	if (inet_pton(prefix->is_ipv6 ? AF_INET6 : AF_INET, address, prefix->address) != 1)
		return -EINVAL;
	prefix->length = (uint8_t)bits_of(prefix);
	return slash == NULL ? 0 : parse_length(slash + 1, bits_of(prefix), &prefix->length);
}

/* Can no host have an address of these: are they groups', or "none yet"? */
static bool is_nobodys(const struct guard_prefix *prefix)
{
	static const uint8_t none[16], all[4] = { 255, 255, 255, 255 };

	if (prefix->is_ipv6 ? prefix->length >= 8 && prefix->address[0] == 0xff
			    : prefix->length >= 4 && prefix->address[0] >> 4 == 0xe)
		return true;
	return prefix->length == bits_of(prefix) &&
	       (memcmp(prefix->address, none, sizeof(none)) == 0 ||
		(!prefix->is_ipv6 && memcmp(prefix->address, all, sizeof(all)) == 0));
}

/* Says of an item that it `is` something; the error holds the object. Always -EINVAL. */
static int refuse(struct error *err, const char *item, const char *is, const char *accepted)
{
	char object[sizeof(err->object)], text[sizeof(err->value)];

	text_copy(object, sizeof(object), err->object);
	text_copy(text, sizeof(text), item);
	error_set(err, ERROR_INVALID, EINVAL, "%s%s\"allowed\": %s %s", object,
		  object[0] != '\0' ? ": " : "", text, is);
	error_detail(err, object, "allowed", text, accepted);
	return -EINVAL;
}

static int refuse_host_bits(struct error *err, const char *item, const struct guard_prefix *prefix)
{
	char network[INET6_ADDRSTRLEN], accepted[INET6_ADDRSTRLEN + 8];

	inet_ntop(prefix->is_ipv6 ? AF_INET6 : AF_INET, prefix->address, network, sizeof(network));
	snprintf(accepted, sizeof(accepted), "\"%s/%u\"", network, prefix->length);
	return refuse(err, item, "has bits set behind its prefix", accepted);
}

/* Adds one item. Returns 0 or -EINVAL with err, which holds the object, filled. */
static int add_item(struct guard_addresses *addresses, const json_t *item, struct error *err)
{
	const char *text = json_string_value(item);
	struct guard_prefix prefix;
	uint8_t mac[6];

	if (text == NULL || strlen(text) != json_string_length(item))
		return refuse(err, text != NULL ? text : "an item", "is no address", ACCEPTED);
	if (mac_parse(text, mac) == 0) {
		if (!mac_is_station(mac))
			return refuse(err, text, "is no station's address",
				      "an address of one station: not a group's, not zero");
		/* One place is the port's own address's. */
		if (addresses->mac_count > GUARD_MACS_MAX)
			return refuse(err, text, "is one too many", "at most 64 MAC addresses");
		memcpy(addresses->macs[addresses->mac_count++], mac, sizeof(mac));
		return 0;
	}
	if (parse_prefix(text, &prefix) != 0)
		return refuse(err, text, "is no address", ACCEPTED);
	if (clear_rest(&prefix))
		return refuse_host_bits(err, text, &prefix);
	if (is_nobodys(&prefix))
		return refuse(err, text, "is no station's address",
			      "addresses of stations: not of groups, not unspecified");
	if (addresses->ip_count == GUARD_IPS_MAX)
		return refuse(err, text, "is one too many",
			      "at most 256 IP addresses and prefixes");
	addresses->ips[addresses->ip_count++] = prefix;
	return 0;
}

int guard_config_check(const void *value, struct error *err)
{
	/* As if there were an address of the port's own: its place is not theirs to take. */
	struct guard_addresses addresses = { .mac_count = 1 };
	json_t *list;
	json_t *item;
	size_t i;

	memcpy(&list, value, sizeof(list));
	json_array_foreach(list, i, item)
		if (add_item(&addresses, item, err) != 0)
			return -EINVAL;
	return 0;
}

json_t *guard_config_describe(void)
{
	return json_pack("{s:s, s:i, s:{s:s}}", "type", "array", "maxItems",
			 GUARD_MACS_MAX + GUARD_IPS_MAX, "items", "type", "string");
}

static int refuse_level(enum guard_level level, const char *object, const char *needs,
			const char *accepted, struct error *err)
{
	const char *name = guard_level_names[level];

	error_set(err, ERROR_INVALID, EINVAL, "%s: \"guard\" %s needs %s", object, name, needs);
	error_detail(err, object, "guard", name, accepted);
	return -EINVAL;
}

int guard_config_make(enum guard_level level, const uint8_t *mac, const json_t *allowed,
		      const char *object, struct guard **guard, struct error *err)
{
	struct guard_addresses addresses = { .mac_count = 0 };
	json_t *item;
	size_t i;

	*guard = NULL;
	if (level == GUARD_OFF)
		return 0;
	if (mac != NULL)
		memcpy(addresses.macs[addresses.mac_count++], mac, 6);
	json_array_foreach((json_t *)(uintptr_t)allowed, i, item)
		if (add_item(&addresses, item, err) != 0)
			return -EINVAL;
	if (addresses.mac_count == 0)
		return refuse_level(level, object, "a MAC address",
				    "with it \"mac\", or a MAC address in \"allowed\"", err);
	if (level == GUARD_IP && addresses.ip_count == 0)
		return refuse_level(level, object, "an IP address",
				    "with it an IP address in \"allowed\"; \"0.0.0.0/0\" and "
				    "\"::/0\" are all",
				    err);
	*guard = guard_new(level, &addresses);
	return *guard != NULL ? 0 : error_set(err, ERROR_INTERNAL, ENOMEM, "out of memory");
}
