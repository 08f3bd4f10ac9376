/* SPDX-License-Identifier: BSD-3-Clause */
/* The TAP port's keys; port/tap_config.h is the contract. */
#include "port/tap_config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "port/port.h"

static const char *const vnet_header_names[] = { "auto", "off", "10", "12", NULL };
static const char *const endian_names[] = { "host", "little", "big", NULL };

static int check_addresses(const void *value, struct error *err)
{
	const char *accepted = "at most 16 of the form \"192.0.2.1/24\" or \"2001:db8::1/64\"";
	struct interface_address address;
	const json_t *element;
	json_t *list;
	size_t i;

	memcpy(&list, value, sizeof(list));
	if (json_array_size(list) > TAP_ADDRESSES_MAX) {
		error_detail(err, NULL, NULL, NULL, accepted);
		return -EINVAL;
	}
	json_array_foreach(list, i, element) {
		const char *text = json_string_value(element);

		if (text == NULL || interface_parse_address(text, &address) != 0) {
			error_detail(err, NULL, NULL, text, accepted);
			return -EINVAL;
		}
	}
	return 0;
}

static json_t *describe_addresses(void)
{
	return json_pack("{s:s, s:i, s:{s:s}}", "type", "array", "maxItems", TAP_ADDRESSES_MAX,
			 "items", "type", "string");
}

/* The kernel chooses a name where there is none, or a number in the place of "%d". */
static int check_interface(const void *value, struct error *err)
{
	char name[IFNAMSIZ];
	char *number;

	memcpy(name, value, sizeof(name));
	number = strstr(name, "%d");
	if (number != NULL)
		memcpy(number, "00", 2);
	if (name[0] == '\0' || interface_check_name(name, err) == 0)
		return 0;
	error_detail(err, NULL, NULL, NULL,
		     "at most 15 bytes without white space, '/', ':' and '%', but for one \"%d\"");
	return -EINVAL;
}

static int check_path(const void *value, struct error *err)
{
	const char *path = value;

	if (path[0] == '/')
		return 0;
	error_detail(err, NULL, NULL, NULL, "an absolute path of at most 255 bytes");
	return -EINVAL;
}

static int check_netns(const void *value, struct error *err)
{
	const char *name = value;

	if (name[0] == '/' || (name[0] != '\0' && strchr(name, '/') == NULL &&
			       strcmp(name, ".") != 0 && strcmp(name, "..") != 0))
		return 0;
	error_detail(err, NULL, NULL, NULL,
		     "a name that `ip netns` shows, or the absolute path of a namespace's file");
	return -EINVAL;
}

#define AT(member) PARAM_AT(struct tap_config, member)

const struct param tap_params[] = {
	{ "interface", PARAM_STRING, AT(place.interface), .check = check_interface,
	  .help = "name of the interface, at most 15 bytes; the kernel chooses one where there is "
		  "none, and a number in the place of %d" },
	{ "fds", PARAM_UINT, AT(place.fds), .min = 1, .max = PORT_QUEUES_MAX,
	  .help = "adopts so many open descriptors of a TAP, one a queue pair, that come with the "
		  "request (SCM_RIGHTS)" },
	{ "helper", PARAM_STRING, AT(place.helper), .check = check_path,
	  .help = "a program that makes the interface and hands its descriptor over, as QEMU's "
		  "bridge helper does: run with --use-vnet --fd=N --br=BRIDGE; with blanks in it a "
		  "command line for sh" },
	{ "bridge", PARAM_STRING, AT(place.bridge), .check = interface_check_name,
	  .help = "kernel bridge that the interface joins; with helper the bridge that it is told, "
		  "br0 by default" },
	{ "netns", PARAM_STRING, AT(place.netns), .check = check_netns,
	  .help = "network namespace where the interface is: a name, or an absolute path" },
	{ "persist", PARAM_BOOL, AT(persist), .initial = "false",
	  .help = "the interface stays when the port goes" },
	{ "vnet_header", PARAM_CHOICE, AT(place.vnet_header), .choices = vnet_header_names,
	  .initial = "\"auto\"",
	  .help = "bytes of offload header before each frame: 10 or 12, auto takes what the device "
		  "has, off has none and no offloads" },
	{ "endian", PARAM_CHOICE, AT(place.endian), .choices = endian_names,
	  .initial = "\"host\"", .help = "byte order of the offload header" },
	{ "addresses", PARAM_JSON, AT(addresses), .json_kind = JSON_ARRAY,
	  .check = check_addresses, .schema = describe_addresses,
	  .help = "IP addresses that the interface gets, as \"192.0.2.1/24\"" },
	{ "offloads", PARAM_OBJECT, AT(offloads), .fields = offload_params,
	  .help = "offloads that frames may need to and from the interface" },
	{ "sndbuf", PARAM_SIZE, AT(sndbuf), .min = 1, .max = INT32_MAX,
	  .help = "bytes of frames to the interface that the kernel holds at most; no bound by "
		  "default" },
	{ "active_queues", PARAM_UINT, AT(active_queues), .min = 1, .max = PORT_QUEUES_MAX,
	  .help = "queue pairs in use, the others are detached; all by default" },
	{ "steering", PARAM_STRING, AT(steering), .check = check_path,
	  .help = "a pinned eBPF program (socket filter) that chooses the queue of each frame from "
		  "the interface" },
	{ "up_script", PARAM_STRING, AT(place.up_script), .check = check_path,
	  .help = "a program that is run with the interface's name once it is up; 10 s at most" },
	{ "down_script", PARAM_STRING, AT(place.down_script), .check = check_path,
	  .help = "the same before the interface is closed" },
	{ NULL }
};

/* ---- keys that exclude each other ---- */

static int exclude(const char *object, const char *key, const char *other, struct error *err)
{
	error_set(err, ERROR_INVALID, EINVAL, "%s: \"%s\" and \"%s\" exclude each other", object,
		  key, other);
	error_detail(err, object, other, NULL, NULL);
	return -EINVAL;
}

/* The first of the keys that only an interface of our own making takes, or NULL. */
static const char *own_key(const struct tap_config *config)
{
	const struct {
		const char *key;
		bool given;
	} keys[] = {
		{ "interface", config->place.interface[0] != '\0' },
		{ "netns", config->place.netns[0] != '\0' },
		{ "vnet_header", config->place.vnet_header != TAP_VNET_AUTO },
		{ "up_script", config->place.up_script[0] != '\0' },
		{ "down_script", config->place.down_script[0] != '\0' },
	};

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (keys[i].given)
			return keys[i].key;
	return NULL;
}

int tap_config_check(const void *value, uint32_t *queues, const char *object, struct error *err)
{
	const struct tap_config *config = value;
	const bool helped = config->place.helper[0] != '\0';
	char text[16];

	if (config->place.fds > 0 || helped) {
		const char *way = helped ? "helper" : "fds";
		const char *other = own_key(config);

		if (helped && config->place.fds > 0)
			other = "fds";
		else if (*queues != 1 && (helped || *queues != config->place.fds))
			other = "queues";
		if (other != NULL)
			return exclude(object, way, other, err);
		if (!helped)
			*queues = config->place.fds;
	}
	if (config->place.vnet_header == TAP_VNET_OFF && config->place.endian != TAP_ENDIAN_HOST)
		return exclude(object, "vnet_header", "endian", err);
	if (config->active_queues <= *queues)
		return 0;
	snprintf(text, sizeof(text), "1 to %u", *queues);
	error_set(err, ERROR_INVALID, EINVAL, "%s: \"active_queues\" is more than there are queues",
		  object);
	error_detail(err, object, "active_queues", NULL, text);
	return -EINVAL;
}
