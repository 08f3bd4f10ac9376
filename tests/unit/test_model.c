/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * control/model.c and model_port.c: what a configuration means, its defaults, and that each mistake
 * in it is refused with the place, the value and what would have been accepted; patches, and what
 * it takes to get from one model to another.
 */
#include "control/model.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/units.h"

#define DEFAULT_CPU 3

static void replace(char *text, char from, char to)
{
	while ((text = strchr(text, from)) != NULL)
		*text = to;
}

/* JSON with ' for ", which C text would have to escape. */
static json_t *json_of(const char *text)
{
	char *quoted = strdup(text);
	json_t *root;

	assert_non_null(quoted);
	replace(quoted, '\'', '"');
	root = json_loads(quoted, 0, NULL);
	free(quoted);
	return root;
}

static struct model *parse(const char *text)
{
	json_t *root = json_of(text);
	struct model *model = NULL;
	struct error err;

	assert_non_null(root);
	if (model_parse(root, DEFAULT_CPU, &model, &err) != 0)
		fail_msg("%s was refused: %s", text, err.message);
	json_decref(root);
	assert_non_null(model);
	return model;
}

static void defaults(void **state)
{
	struct model *model;
	struct error err;

	(void)state;
	assert_int_equal(model_load(NULL, DEFAULT_CPU, &model, &err), 0);
	assert_int_equal(model->worker_count, 1);
	assert_int_equal(model->workers[0].cpu, DEFAULT_CPU);
	assert_int_equal(model->workers[0].idle, IDLE_ADAPTIVE);
	assert_int_equal(model->bridge.ageing, 300);
	assert_int_equal(model->bridge.capacity, 65536);
	assert_int_equal(model->port_count, 0);
	model_free(model);
	/* Empty lists and null are the same. */
	model = parse("{'workers': [], 'bridge': null, 'ports': null, 'metrics': null}");
	assert_int_equal(model->worker_count, 1);
	assert_int_equal(model->workers[0].cpu, DEFAULT_CPU);
	assert_int_equal(model->bridge.capacity, 65536);
	model_free(model);
	model = parse("{'workers': [{'cpu': 0}], 'bridge': {'ageing': 0}}");
	assert_int_equal(model->workers[0].cpu, 0);
	assert_int_equal(model->workers[0].idle, IDLE_ADAPTIVE);
	assert_int_equal(model->bridge.ageing, 0);
	assert_int_equal(model->bridge.capacity, 65536);
	model_free(model);
	model_free(NULL);
}

static void values(void **state)
{
	struct model *model = parse(
		"{'workers': [{'cpu': 1023, 'idle': 'busy'}, {'cpu': 2}],"
		" 'bridge': {'ageing': 65000, 'capacity': 1048576},"
		" 'ports': ["
		"  {'name': 'vm1', 'type': 'vhost-user', 'socket': '/run/a', 'queues': 128,"
		"   'labels': {'vm': '6f1c'}, 'workers': [1, 0, 1]},"
		"  {'name': 'A-z_0.9:x', 'type': 'vhost-user', 'socket': '/run/b'}]}");
	const struct model_port *port = model->ports[0];

	(void)state;
	assert_int_equal(model->workers[0].cpu, 1023);
	assert_int_equal(model->workers[0].idle, IDLE_BUSY);
	assert_int_equal(model->worker_count, 2);
	assert_int_equal(model->workers[1].cpu, 2);
	assert_int_equal(model->workers[1].idle, IDLE_ADAPTIVE);
	assert_int_equal(model->bridge.ageing, 65000);
	assert_int_equal(model->bridge.capacity, 1048576);
	assert_int_equal(model->port_count, 2);
	assert_string_equal(port->name, "vm1");
	assert_ptr_equal(port->ops, port_find_type("vhost-user"));
	assert_int_equal(port->queues, 128);
	assert_string_equal(json_string_value(json_object_get(port->labels, "vm")), "6f1c");
	assert_int_equal(json_array_size(port->workers), 3);
	assert_string_equal(json_string_value(json_object_get(port->source, "socket")), "/run/a");
	assert_non_null(port->config);
	assert_int_equal(model->ports[1]->queues, 1);
	assert_null(model->ports[1]->workers);
	assert_null(model->ports[1]->labels);
	assert_string_equal(model->ports[1]->name, "A-z_0.9:x");
	model_free(model);
}

static void settings(void **state)
{
	static const uint8_t mac[6] = { 0x52, 0x54, 0, 0, 0xab, 0xcd };
	struct model *model = parse(
		"{'bridge': {'addresses': ["
		"  {'mac': '52:54:00:00:00:01', 'port': 'b'},"
		"  {'mac': '52:54:00:00:00:02', 'blackhole': true},"
		"  {'mac': '52:54:00:00:00:03', 'port': 'a', 'blackhole': false}]},"
		" 'ports': ["
		"  {'name': 'a', 'type': 'vhost-user', 'socket': '/run/a', 'enabled': false,"
		"   'mac': '52:54:00:00:AB:cd', 'mtu': 68, 'labels': {},"
		"   'limits': {'ingress': {'bandwidth': {'rate': '1.5Gbit', 'burst': '1MiB',"
		"    'one_time_burst': 1500}, 'excess': 'drop'}}},"
		"  {'name': 'b', 'type': 'vhost-user', 'socket': '/run/b', 'mtu': 65535,"
		"   'limits': {'ingress': {'bandwidth': {'rate': 64000, 'burst': 1}}}},"
		"  {'name': 'c', 'type': 'vhost-user', 'socket': '/run/c',"
		"   'limits': {'ingress': {'bandwidth': {'rate': 1000000000000,"
		"    'burst': 4294967296}}}}]}");
	const struct port_settings *a = &model->ports[0]->settings;
	const struct port_settings *b = &model->ports[1]->settings;

	(void)state;
	assert_false(a->enabled);
	assert_true(a->mac.given);
	assert_memory_equal(a->mac.mac, mac, 6);
	assert_int_equal(a->mtu, 68);
	assert_int_equal(a->ingress.bandwidth.rate, 1500000000);
	assert_int_equal(a->ingress.bandwidth.burst, 1 << 20);
	assert_int_equal(a->ingress.bandwidth.one_time_burst, 1500);
	assert_int_equal(a->ingress.excess, EXCESS_DROP);
	assert_true(b->enabled);
	assert_false(b->mac.given);
	assert_int_equal(b->mtu, 65535);
	assert_int_equal(b->ingress.bandwidth.rate, 64000);
	assert_int_equal(b->ingress.bandwidth.burst, 1);
	assert_int_equal(b->ingress.bandwidth.one_time_burst, 0);
	assert_int_equal(b->ingress.excess, EXCESS_WAIT);
	assert_int_equal(model->ports[2]->settings.ingress.bandwidth.rate, 1000000000000);
	assert_int_equal(model->ports[2]->settings.ingress.bandwidth.burst, 1ll << 32);
	assert_int_equal(model->address_count, 3);
	assert_string_equal(model->addresses[0].port, "b");
	assert_string_equal(model->addresses[1].port, "");
	assert_string_equal(model->addresses[2].port, "a");
	assert_int_equal(model->addresses[2].mac[5], 3);
	model_free(model);
}

static void limits_have_two_forms(void **state)
{
	struct model *model = parse(
		"{'ports': [{'name': 'a', 'type': 'vhost-user', 'socket': '/run/a', 'limits': {"
		"  'ingress': {'bandwidth': {'size': 125000, 'refill_time': 1,"
		"    'one_time_burst': '1MiB'}, 'packets': {'rate': 1, 'burst': 7}},"
		"  'egress': {'bandwidth': {'rate': '1G'}, 'packets': {'size': '1k',"
		"    'refill_time': 3}, 'excess': 'queue', 'queue': {'bytes': '64KiB'}}}}]}");
	const struct port_settings *settings = &model->ports[0]->settings;

	(void)state;
	assert_int_equal(settings->ingress.bandwidth.rate, 1000000000);
	assert_int_equal(settings->ingress.bandwidth.burst, 125000);
	assert_int_equal(settings->ingress.bandwidth.one_time_burst, 1 << 20);
	assert_int_equal(settings->ingress.packets.rate, 1);
	assert_int_equal(settings->ingress.packets.burst, 7);
	assert_int_equal(settings->ingress.packets.one_time_burst, 0);
	assert_int_equal(settings->ingress.excess, EXCESS_WAIT);
	assert_int_equal(settings->egress.bandwidth.rate, 1000000000);
	assert_int_equal(settings->egress.bandwidth.burst, 0);
	assert_int_equal(settings->egress.packets.rate, 333333);
	assert_int_equal(settings->egress.packets.burst, 1000);
	assert_int_equal(settings->egress.excess, EXCESS_WAIT);
	assert_int_equal(settings->queue.bytes, 65536);
	assert_int_equal(settings->queue.time, 50);
	model_free(model);
}

/* A port that is right but for what is added. */
#define PORT(more) "{'ports': [{'name': 'vm1', 'type': 'vhost-user', 'socket': '/run/a'" more "}]}"

/* null is the default at each level, and the same as nothing. */
static void null_is_the_default(void **state)
{
	static const char *const texts[] = {
		PORT(""),
		PORT(", 'queues': null, 'enabled': null, 'mac': null, 'mtu': null, 'labels': null,"
		     " 'limits': null, 'mode': null, 'permissions': null, 'guard': null,"
		     " 'allowed': null"),
		PORT(", 'guard': 'off', 'allowed': []"),
		PORT(", 'limits': {}"),
		PORT(", 'limits': {'ingress': null, 'egress': null}"),
		PORT(", 'limits': {'ingress': {}}"),
		PORT(", 'limits': {'ingress': {'bandwidth': null, 'packets': null,"
		     " 'excess': null}}"),
	};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct model *model = parse(texts[i]);
		const struct model_port *port = model->ports[0];

		assert_int_equal(port->queues, 1);
		assert_true(port->settings.enabled);
		assert_false(port->settings.mac.given);
		assert_int_equal(port->settings.mtu, 65535);
		assert_null(port->labels);
		assert_null(port->settings.guard);
		assert_int_equal(port->settings.ingress.bandwidth.rate, 0);
		assert_int_equal(port->settings.ingress.excess, EXCESS_WAIT);
		assert_int_equal(port->settings.ingress.packets.rate, 0);
		assert_int_equal(port->settings.egress.bandwidth.rate, 0);
		assert_int_equal(port->settings.egress.packets.rate, 0);
		assert_int_equal(port->settings.egress.excess, EXCESS_DROP);
		assert_int_equal(port->settings.queue.bytes, 1 << 20);
		assert_int_equal(port->settings.queue.time, 50);
		model_free(model);
	}
	model_free(parse(PORT(", 'limits': {'ingress': {'bandwidth': {'rate': '1M', 'burst': null,"
			      " 'one_time_burst': null}}}")));
	model_free(parse("{'bridge': {'ageing': null, 'capacity': null, 'addresses': null}}"));
}

static void guards(void **state)
{
	struct model *model = parse(
		PORT(", 'guard': 'ip', 'mac': '52:54:00:00:00:01', 'allowed': ['52:54:00:00:00:02',"
		     " '10.0.0.5', '10.0.1.0/24', '240.0.0.1', '2001:DB8::/64', '0.0.0.0/0'"
		     ", '::/0']"));
	const struct guard *guard = model->ports[0]->settings.guard;

	(void)state;
	assert_non_null(guard);
	assert_int_equal(guard->level, GUARD_IP);
	assert_int_equal(guard->mac_count, 2);
	assert_int_equal(guard->ipv4_count, 1);
	assert_int_equal(guard->ipv6_count, 1);
	model_free(model);
	/* An allowed address will do; without a guard addresses are checked, and that is all. */
	model = parse(PORT(", 'guard': 'arp', 'allowed': ['52:54:00:00:00:02']"));
	assert_int_equal(model->ports[0]->settings.guard->level, GUARD_ARP);
	model_free(model);
	model = parse(PORT(", 'allowed': ['10.0.0.5']"));
	assert_null(model->ports[0]->settings.guard);
	model_free(model);
}

/* Tests use the memory port, operators cannot. */
static void the_memory_port_is_no_type(void **state)
{
	(void)state;
	assert_null(port_find_type("memory"));
	assert_null(port_find_type(""));
	assert_non_null(strstr(port_types, "vhost-user"));
}

struct refusal {
	const char *text;
	const char *says;     /* part of the message */
	const char *object;
	const char *field;
	const char *value;    /* part of it; NULL: none */
	const char *accepted; /* part of it; NULL: nothing to say */
};

#define NO_BUCKET(rows, says, key, accepted)                                                       \
	{ BANDWIDTH(rows), says, "port vm1", "limits.ingress.bandwidth." key, NULL, accepted }
#define NO_PACKETS(rows, says, key, accepted)                                                      \
	{ PORT(", 'limits': {'ingress': {'packets': {" rows "}}}"), says, "port vm1",              \
	  "limits.ingress.packets." key, NULL, accepted }
#define EGRESS(rows) PORT(", 'limits': {'egress': {" rows "}}")
#define BANDWIDTH(rows) PORT(", 'limits': {'ingress': {'bandwidth': {" rows "}}}")
#define RATE(value) BANDWIDTH("'rate': " value)
#define NO_RATE(value, says) \
	{ RATE(value), says, "port vm1", "limits.ingress.bandwidth.rate", value, "64000 to" }
#define NO_BURST(key, value, says) \
	{ BANDWIDTH("'rate': '1M', '" key "': " value), says, "port vm1", \
	  "limits.ingress.bandwidth." key, value, "1 to 4294967296" }
#define NO_MAC(value, accepted) \
	{ PORT(", 'mac': " value), "mac", "port vm1", "mac", value, accepted }
/* A guard that has not what it needs, and text that stands for no address. */
#define NO_GUARD(level, more, says, accepted) \
	{ PORT(", 'guard': '" level "'" more), says, "port vm1", "guard", level, accepted }
#define NOT_ALLOWED(item, says, value, accepted) \
	{ PORT(", 'allowed': ['10.9.0.1', " item "]"), says, "port vm1", "allowed", value, \
	  accepted }
#define NO_MTU(value, says) \
	{ PORT(", 'mtu': " value), says, "port vm1", "mtu", value, "68 to 65535" }
/* Static addresses of a bridge with one port, whose own address is ...:05. */
#define ADDRESSES(list) \
	"{'bridge': {'addresses': [" list "]}, 'ports': [{'name': 'vm1', 'type': 'vhost-user'," \
	" 'socket': '/run/a', 'mac': '52:54:00:00:00:05'}]}"
#define MAC1 "'mac': '52:54:00:00:00:01'"
#define VLAN(keys) PORT(", 'vlan': {" keys "}")
#define NO_TRUNK(value) \
	{ VLAN("'trunk': " value), "vlan.trunk", "port vm1", "vlan.trunk", value, "from 1 to 4094" }
#define NO_VLAN(key, value, says) \
	{ VLAN("'" key "': " value), says, "port vm1", "vlan." key, value, "1 to 4094" }
#define NO_STORM(class, value, says) \
	{ PORT(", 'storm': {'" class "': " value "}"), says, "port vm1", "storm." class, value, \
	  "1 to 1000000000" }
#define NO_SWITCH(key, value) \
	{ PORT(", '" key "': " value), "true or false", "port vm1", key, value, "true" }
/* Two ports with one address, in these VLANs, and static addresses. */
#define TWO_IN(vlan_a, vlan_b, mac_b, list) \
	"{'bridge': {'addresses': [" list "]}, 'ports': [" \
	"{'name': 'a', 'type': 'vhost-user', 'socket': '/run/a', 'mac': '52:54:00:00:00:05'," \
	" 'vlan': " vlan_a "}, {'name': 'b', 'type': 'vhost-user', 'socket': '/run/b'," \
	" 'mac': '52:54:00:00:00:" mac_b "', 'vlan': " vlan_b "}]}"
#define NO_TWO(vlan_a, vlan_b) \
	{ TWO_IN(vlan_a, vlan_b, "05", ""), "taken by port a", "port b", "mac", \
	  "52:54:00:00:00:05", "no other port" }
#define NO_STATIC(vlan_a, address, says, value, accepted) \
	{ TWO_IN(vlan_a, "null", "06", "{" MAC1 ", " address "}"), says, "bridge.addresses[0]", \
	  "vlan", value, accepted }
#define ETHDEV(device)                                                                             \
	"{'ports': [{'name': 'nic0', 'type': 'ethdev', 'device': '" device "'}]}"
#define TAP(keys) "{'ports': [{'name': 'host0', 'type': 'tap', " keys "}]}"
#define NAMED(name) "{'ports': [{'name': " name ", 'type': 'vhost-user', 'socket': '/run/a'}]}"
#define LONG_63 "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"

static const struct refusal refusals[] = {
	/* the whole */
	{ "[]", "object", "configuration", "", NULL, "an object" },
	{ "{'worker': []}", "not known", "configuration", "worker", "[]", "workers" },
	/* metrics */
	{ "{'metrics': 1}", "object", "configuration", "metrics", "1", "object" },
	{ "{'metrics': {'port': 1}}", "not known", "configuration", "metrics.port", "1",
	  "listen" },
	{ "{'metrics': {'listen': 9477}}", "string", "configuration", "metrics.listen", "9477",
	  NULL },
	{ "{'metrics': {'listen': 'localhost:9477'}}", "metrics.listen", "configuration",
	  "metrics.listen", "'localhost:9477'", "ADDRESS:PORT" },
	/* workers */
	{ "{'workers': {}}", "array", "configuration", "workers", "{}", NULL },
	{ "{'workers': [1]}", "object", "workers[0]", "", "1", "an object" },
	{ "{'workers': [{}]}", "cpu", "workers[0]", "cpu", NULL, NULL },
	{ "{'workers': [{'cpu': -1}]}", "range", "workers[0]", "cpu", "-1", "0 to 1023" },
	{ "{'workers': [{'cpu': 1024}]}", "range", "workers[0]", "cpu", "1024", "0 to 1023" },
	{ "{'workers': [{'cpu': '1'}]}", "number", "workers[0]", "cpu", "'1'", "0 to 1023" },
	{ "{'workers': [{'cpu': 1.5}]}", "number", "workers[0]", "cpu", "1.5", "0 to 1023" },
	{ "{'workers': [{'cpu': 1, 'idle': 'lazy'}]}", "idle", "workers[0]", "idle", "'lazy'",
	  "adaptive, busy" },
	{ "{'workers': [{'cpu': 1, 'core': 1}]}", "not known", "workers[0]", "core", "1", "cpu" },
	{ "{'workers': [{'cpu': 1}, {'cpu': 2}, {'cpu': 1}]}",
	  "workers[2]: CPU 1 is that of workers[0] already", "workers", "cpu", "1",
	  "each CPU once" },
	{ "{'workers': [{'cpu': 1}, {'cpu': 1024}]}", "range", "workers[1]", "cpu", "1024",
	  "0 to 1023" },
	/* bridge */
	{ "{'bridge': 1}", "object", "configuration", "bridge", "1", "object" },
	{ "{'bridge': {'ageing': 65001}}", "range", "configuration", "bridge.ageing", "65001",
	  "0 to 65000" },
	{ "{'bridge': {'capacity': 63}}", "range", "configuration", "bridge.capacity", "63",
	  "64 to 1048576" },
	{ "{'bridge': {'capacity': 1048577}}", "range", "configuration", "bridge.capacity",
	  "1048577", "64 to 1048576" },
	{ "{'bridge': {'capacity': true}}", "number", "configuration", "bridge.capacity", "true",
	  "64 to 1048576" },
	{ "{'bridge': {'ageing': -1}}", "range", "configuration", "bridge.ageing", "-1",
	  "0 to 65000" },
	{ "{'bridge': {'ageing': 1.0}}", "whole number", "configuration", "bridge.ageing", "1.0",
	  "0 to 65000" },
	/* bridge: static addresses */
	{ "{'bridge': {'addresses': {}}}", "array", "configuration", "bridge.addresses", "{}",
	  NULL },
	{ ADDRESSES("7"), "object", "bridge.addresses[0]", "", "7", "an object" },
	{ ADDRESSES("{'port': 'vm1'}"), "mac", "bridge.addresses[0]", "mac", NULL, NULL },
	{ ADDRESSES("{" MAC1 "}"), "needs a port or a blackhole", "bridge.addresses[0]", "port",
	  NULL, "either" },
	{ ADDRESSES("{" MAC1 ", 'blackhole': false}"), "needs a port or a blackhole",
	  "bridge.addresses[0]", "port", NULL, "either" },
	{ ADDRESSES("{" MAC1 ", 'port': ''}"), "needs a port or a blackhole",
	  "bridge.addresses[0]", "port", NULL, "either" },
	{ ADDRESSES("{" MAC1 ", 'port': 'vm1', 'blackhole': true}"), "needs a port or a blackhole",
	  "bridge.addresses[0]", "port", NULL, "either" },
	{ ADDRESSES("{" MAC1 ", 'port': 'vm1', 'vlan': 1}"), "not in VLAN 1", "bridge.addresses[0]",
	  "vlan", "1", "a VLAN of the port" },
	{ ADDRESSES("{'mac': '52:54:00:00:00', 'port': 'vm1'}"), "MAC address",
	  "bridge.addresses[0]", "mac", "'52:54:00:00:00'", "six pairs" },
	{ ADDRESSES("{'mac': '01:00:5e:00:00:01', 'port': 'vm1'}"), "no station's",
	  "bridge.addresses[0]", "mac", "01:00:5e:00:00:01", "one station" },
	{ ADDRESSES("{'mac': '00:00:00:00:00:00', 'port': 'vm1'}"), "no station's",
	  "bridge.addresses[0]", "mac", "00:00:00:00:00:00", "one station" },
	{ ADDRESSES("{" MAC1 ", 'port': 'vm2'}"), "there is no port vm2", "bridge.addresses[0]",
	  "port", "vm2", NULL },
	{ ADDRESSES("{" MAC1 ", 'port': 'vm1'}, {" MAC1 ", 'blackhole': true}"), "twice",
	  "bridge.addresses[1]", "mac", "52:54:00:00:00:01", NULL },
	{ ADDRESSES("{'mac': '52:54:00:00:00:05', 'port': 'vm1'}"), "port vm1's own",
	  "bridge.addresses[0]", "mac", "52:54:00:00:00:05", NULL },
	{ "{'bridge': {'aging': 1}}", "not known", "configuration", "bridge.aging", "1", "ageing" },
	/* ports: the common keys */
	{ "{'ports': {}}", "array", "configuration", "ports", "{}", NULL },
	{ "{'ports': [7]}", "ports[0] is not an object", "ports[0]", "", NULL, "an object" },
	{ "{'ports': [{'type': 'vhost-user'}]}", "name", "ports[0]", "name", NULL, NULL },
	{ NAMED("7"), "string", "ports[0]", "name", "7", NULL },
	{ NAMED("''"), "name", "ports[0]", "name", "''", "1 to 63 of" },
	{ NAMED("'a b'"), "name", "ports[0]", "name", "'a b'", "1 to 63 of" },
	{ NAMED("'a/b'"), "name", "ports[0]", "name", "'a/b'", "1 to 63 of" },
	{ NAMED("'a\\nb'"), "name", "ports[0]", "name", "a\\nb", "1 to 63 of" },
	{ NAMED("'" LONG_63 "n'"), "name", "ports[0]", "name", "nnn", NULL },
	{ "{'ports': [{'name': 'vm1', 'socket': '/run/a'}]}", "type", "port vm1", "type",
	  NULL, NULL },
	{ "{'ports': [{'name': 'vm1', 'type': 'tun'}]}", "there is no port type tun",
	  "port vm1", "type", "tun", "vhost-user" },
	{ "{'ports': [{'name': 'vm1', 'type': 'memory'}]}", "there is no port type memory",
	  "port vm1", "type", "memory", "vhost-user" },
	{ TAP("'interface': 'a/b'"), "interface", "port host0", "interface", "'a/b'", "15 bytes" },
	{ TAP("'interface': 'abcdefghijklmnop'"), "too long", "port host0", "interface", NULL,
	  "15 bytes" },
	{ TAP("'addresses': '192.0.2.1/24'"), "array", "port host0", "addresses", NULL, NULL },
	{ TAP("'addresses': ['192.0.2.1']"), "addresses", "port host0", "addresses", "192.0.2.1",
	  "192.0.2.1/24" },
	{ TAP("'addresses': ['192.0.2.1/33']"), "addresses", "port host0", "addresses",
	  "192.0.2.1/33", "192.0.2.1/24" },
	{ TAP("'addresses': ['2001:db8::1/129']"), "addresses", "port host0", "addresses",
	  "2001:db8::1/129", "2001:db8::1/64" },
	{ TAP("'addresses': ['192.0.2.1/-1']"), "addresses", "port host0", "addresses",
	  "192.0.2.1/-1", NULL },
	{ TAP("'socket': '/run/a'"), "socket", "port host0", "socket", NULL, NULL },
	{ TAP("'vnet_header': 'off', 'endian': 'little'"), "exclude each other", "port host0",
	  "endian", "", NULL },
	{ "{'ports': [{'name': 'nic0', 'type': 'ethdev'}]}", "missing", "port nic0", "device", NULL,
	  NULL },
	{ ETHDEV("net_ring0 "), "device", "port nic0", "device", "net_ring0 ", "PCI address" },
	{ ETHDEV("net_ring0,\\u0001"), "device", "port nic0", "device", NULL, "white space" },
	{ ETHDEV(",iface=x"), "device", "port nic0", "device", ",iface=x", "PCI address" },
	{ ETHDEV("bus=pci,addr=03:00.0"), "device", "port nic0", "device", NULL, "PCI address" },
	{ ETHDEV("vhost-net:"), "device", "port nic0", "device", "vhost-net:", "IFNAME" },
	{ ETHDEV("vhost-net:a,b=c"), "device", "port nic0", "device", NULL, "IFNAME" },
	{ ETHDEV("vhost-net:sixteen-is-too-m"), "device", "port nic0", "device", NULL, "IFNAME" },
	{ "{'ports': [{'name': 'vm1', 'type': 'vhost-user', 'socket': 'vm1.sock'}]}", "socket",
	  "port vm1", "socket", "'vm1.sock'", "absolute path" },
	{ "{'ports': [{'name': 'vm1', 'type': 'vhost-user', 'socket': '/run/'}]}", "socket",
	  "port vm1", "socket", "'/run/'", "absolute path" },
	{ PORT(", 'queues': 0"), "range", "port vm1", "queues", "0", "1 to 128" },
	{ PORT(", 'queues': 129"), "range", "port vm1", "queues", "129", "1 to 128" },
	{ PORT(", 'labels': []"), "object", "port vm1", "labels", "[]", "object" },
	{ PORT(", 'labels': {'vm': 1}"), "labels", "port vm1", "labels", "{'vm': 1}", "strings" },
	{ PORT(", 'labels': {'vm': null}"), "labels", "port vm1", "labels", "{'vm': null}",
	  "strings" },
	{ PORT(", 'labels': {'vm': {}}"), "labels", "port vm1", "labels", NULL, "strings" },
	{ PORT(", 'labels': 'vm'"), "object", "port vm1", "labels", "'vm'", "object" },
	{ PORT(", 'enabled': 1"), "true or false", "port vm1", "enabled", "1", "true" },
	{ PORT(", 'enabled': 'no'"), "true or false", "port vm1", "enabled", "'no'", "true" },
	NO_MAC("7", "six pairs"), NO_MAC("''", "six pairs"),
	NO_MAC("'52:54:00:00:00'", "six pairs"), NO_MAC("'52:54:00:00:00:01:02'", "six pairs"),
	NO_MAC("'52-54-00-00-00-01'", "six pairs"), NO_MAC("'52:54:00:00:00:0g'", "six pairs"),
	NO_MAC("'5254:00:00:00:01'", "six pairs"),
	NO_MAC("'01:00:5e:00:00:01'", "one station"), NO_MAC("'ff:ff:ff:ff:ff:ff'", "one station"),
	NO_MAC("'00:00:00:00:00:00'", "one station"),
	NO_MTU("67", "range"), NO_MTU("65536", "range"), NO_MTU("0", "range"),
	NO_MTU("-1500", "range"), NO_MTU("1500.0", "whole number"),
	NO_MTU("'1500'", "whole number"), NO_MTU("true", "whole number"),
	NO_MTU("99999999999999999", "range"),
	{ PORT(", 'limits': []"), "object", "port vm1", "limits", "[]", "an object" },
	{ PORT(", 'limits': {'in': {}}"), "not known", "port vm1", "limits.in", "{}", "ingress" },
	{ PORT(", 'limits': {'ingress': 1}"), "object", "port vm1", "limits.ingress", "1",
	  "an object" },
	{ PORT(", 'limits': {'ingress': {'rate': 1}}"), "not known", "port vm1",
	  "limits.ingress.rate", "1", "bandwidth" },
	{ PORT(", 'limits': {'ingress': {'excess': 'queue'}}"), "none of the choices", "port vm1",
	  "limits.ingress.excess", "'queue'", "pause, drop" },
	{ PORT(", 'limits': {'ingress': {'excess': 1}}"), "none of the choices", "port vm1",
	  "limits.ingress.excess", "1", "pause, drop" },
	{ PORT(", 'limits': {'ingress': {'bandwidth': '1Gbit'}}"), "object", "port vm1",
	  "limits.ingress.bandwidth", "'1Gbit'", "an object" },
	{ BANDWIDTH(""), "rate", "port vm1", "limits.ingress.bandwidth.rate", NULL, NULL },
	{ BANDWIDTH("'burst': 1"), "rate", "port vm1", "limits.ingress.bandwidth.rate", NULL,
	  NULL },
	{ BANDWIDTH("'rate': null"), "rate", "port vm1", "limits.ingress.bandwidth.rate", NULL,
	  NULL },
	{ BANDWIDTH("'rate': '1M', 'peak': 1"), "not known", "port vm1",
	  "limits.ingress.bandwidth.peak", "1", "rate, burst, one_time_burst" },
	NO_RATE("0", "use null for none"), NO_RATE("'0'", "use null for none"),
	NO_RATE("63999", "range"), NO_RATE("'63k'", "range"), NO_RATE("1000000000001", "range"),
	NO_RATE("'1.1T'", "range"), NO_RATE("-64000", "rate"), NO_RATE("64000.0", "rate"),
	NO_RATE("'1Gb'", "rate"), NO_RATE("'fast'", "rate"), NO_RATE("''", "rate"),
	NO_RATE("'1KiB'", "rate"), NO_RATE("'-1M'", "rate"), NO_RATE("' 1M'", "rate"),
	NO_RATE("'1 M'", "rate"), NO_RATE("'1M '", "rate"), NO_RATE("'0.0000001k'", "rate"),
	NO_RATE("'99999999999999999999'", "rate"), NO_RATE("true", "rate"), NO_RATE("[]", "rate"),
	NO_BURST("burst", "0", "use null for none"), NO_BURST("burst", "-1", "size"),
	NO_BURST("burst", "4294967297", "range"), NO_BURST("burst", "'5GiB'", "range"),
	NO_BURST("burst", "1.5", "size"), NO_BURST("burst", "'1Mbit'", "size"),
	NO_BURST("burst", "'1.5'", "size"), NO_BURST("one_time_burst", "0", "use null for none"),
	NO_BURST("one_time_burst", "'x'", "size"),
	NO_BUCKET("'size': 1", "missing", "refill_time", NULL),
	NO_BUCKET("'refill_time': 1", "missing", "size", NULL),
	NO_BUCKET("'one_time_burst': 1", "missing", "rate", "rate and burst, or size and refill"),
	NO_BUCKET("'size': 1, 'refill_time': 1, 'rate': 64000", "does not go with", "size",
		  "rate and burst, or size and refill_time"),
	NO_BUCKET("'size': 1, 'burst': 1", "does not go with", "size", "rate and burst, or"),
	NO_BUCKET("'refill_time': 1, 'rate': '1M'", "does not go with", "refill_time", "rate and"),
	NO_BUCKET("'size': 0, 'refill_time': 1", "use null for none", "size", "1 to 4294967296"),
	NO_BUCKET("'size': 1, 'refill_time': 0", "range", "refill_time", "1 to 4294967295"),
	NO_BUCKET("'size': 1, 'refill_time': 1.5", "whole number", "refill_time", "1 to"),
	NO_BUCKET("'size': 799, 'refill_time': 100", "rate that is out of range", "refill_time",
		  "64000 to 1000000000000 bits a second"),
	NO_BUCKET("'size': 4294967296, 'refill_time': 34", "rate that is out of range",
		  "refill_time", "64000 to 1000000000000 bits"),
	NO_PACKETS("'rate': 0", "use null for none", "rate", "1 to 1000000000"),
	NO_PACKETS("'rate': '1.5G'", "range", "rate", "1 to 1000000000"),
	NO_PACKETS("'size': 1, 'refill_time': 2001", "rate that is out of range", "refill_time",
		   "1 to 1000000000 packets a second"),
	NO_PACKETS("'size': 4000001, 'refill_time': 1", "rate that is out of range",
		   "refill_time", "packets"),
	{ EGRESS("'excess': 'pause'"), "none of the choices", "port vm1", "limits.egress.excess",
	  "'pause'", "queue, drop" },
	{ EGRESS("'bandwidth': {'rate': 1}"), "range", "port vm1", "limits.egress.bandwidth.rate",
	  "1", "64000 to" },
	{ EGRESS("'bandwidth': {'size': 1}"), "missing", "port vm1",
	  "limits.egress.bandwidth.refill_time", NULL, NULL },
	{ EGRESS("'queue': 1"), "object", "port vm1", "limits.egress.queue", "1", "an object" },
	{ EGRESS("'queue': {'bytes': 65535}"), "range", "port vm1", "limits.egress.queue.bytes",
	  "65535", "65536 to 16777216" },
	{ EGRESS("'queue': {'bytes': '17MiB'}"), "range", "port vm1", "limits.egress.queue.bytes",
	  "'17MiB'", "65536 to 16777216" },
	{ EGRESS("'queue': {'time': 0}"), "range", "port vm1", "limits.egress.queue.time", "0",
	  "1 to 10000" },
	{ EGRESS("'queue': {'time': 10001}"), "range", "port vm1", "limits.egress.queue.time",
	  "10001", "1 to 10000" },
	{ PORT(", 'guard': 'on'"), "none of the choices", "port vm1", "guard", "'on'",
	  "off, mac, arp, ip" },
	{ PORT(", 'guard': true"), "none of the choices", "port vm1", "guard", "true",
	  "off, mac, arp, ip" },
	NO_GUARD("mac", "", "needs a MAC address", "allowed"),
	NO_GUARD("arp", ", 'allowed': ['10.0.0.5']", "needs a MAC address", "allowed"),
	NO_GUARD("ip", ", 'allowed': ['10.0.0.5']", "needs a MAC address", "allowed"),
	NO_GUARD("ip", ", " MAC1, "needs an IP address", "0.0.0.0/0"),
	NO_GUARD("ip", ", " MAC1 ", 'allowed': ['52:54:00:00:00:02']", "needs an IP address",
		 "::/0"),
	{ PORT(", 'allowed': {}"), "an array", "port vm1", "allowed", "{}", "an array" },
	{ PORT(", 'allowed': '10.0.0.5'"), "an array", "port vm1", "allowed", "10.0.0.5",
	  "an array" },
	NOT_ALLOWED("5", "an item is no address", "an item", "10.0.0.5"),
	NOT_ALLOWED("''", "is no address", "", "10.0.0.5"),
	NOT_ALLOWED("'10.0.0'", "is no address", "10.0.0", "10.0.0.5"),
	NOT_ALLOWED("'10.0.0.5/'", "is no address", "10.0.0.5/", "10.0.0.5"),
	NOT_ALLOWED("'10.0.0.5/33'", "is no address", "10.0.0.5/33", "10.0.0.5"),
	NOT_ALLOWED("'10.0.0.0/024'", "is no address", "10.0.0.0/024", "10.0.0.5"),
	NOT_ALLOWED("'10.0.0.0/-1'", "is no address", "10.0.0.0/-1", "10.0.0.5"),
	NOT_ALLOWED("'10.0.0.0/8/8'", "is no address", "10.0.0.0/8/8", "10.0.0.5"),
	NOT_ALLOWED("'10.0.0.0/255.0.0.0'", "is no address", "255.0.0.0", "10.0.0.5"),
	NOT_ALLOWED("'2001:db8::/129'", "is no address", "2001:db8::/129", "2001:db8::/64"),
	NOT_ALLOWED("'fe80::1%eth0'", "is no address", "fe80::1%eth0", "2001:db8::/64"),
	NOT_ALLOWED("'vm1'", "is no address", "vm1", "MAC addresses"),
	NOT_ALLOWED("'10.0.0.5/24'", "bits set behind its prefix", "10.0.0.5/24", "10.0.0.0/24"),
	NOT_ALLOWED("'10.0.0.1/0'", "bits set behind its prefix", "10.0.0.1/0", "0.0.0.0/0"),
	NOT_ALLOWED("'2001:db8::1/64'", "bits set behind its prefix", "2001:db8::1/64",
		    "2001:db8::/64"),
	NOT_ALLOWED("'01:00:5e:00:00:01'", "no station's", "01:00:5e:00:00:01", "one station"),
	NOT_ALLOWED("'00:00:00:00:00:00'", "no station's", "00:00:00:00:00:00", "one station"),
	NOT_ALLOWED("'0.0.0.0'", "no station's", "0.0.0.0", "stations"),
	NOT_ALLOWED("'255.255.255.255'", "no station's", "255.255.255.255", "stations"),
	NOT_ALLOWED("'224.0.0.0/4'", "no station's", "224.0.0.0/4", "stations"),
	NOT_ALLOWED("'::'", "no station's", "::", "stations"),
	NOT_ALLOWED("'ff02::1'", "no station's", "ff02::1", "stations"),
	{ PORT(", 'workers': 0"), "array", "port vm1", "workers", "0", NULL },
	{ PORT(", 'workers': []"), "workers", "port vm1", "workers", "[]", "1 to 128 numbers" },
	{ PORT(", 'workers': ['0']"), "workers", "port vm1", "workers", "['0']", "from 0 to 63" },
	{ PORT(", 'workers': [0, -1]"), "workers", "port vm1", "workers", "-1", "from 0 to 63" },
	{ PORT(", 'workers': [64]"), "workers", "port vm1", "workers", "64", "from 0 to 63" },
	{ PORT(", 'workers': [0, 1]"), "port vm1: there is no worker 1", "port vm1", "workers",
	  "1", "0 to 0" },
	/* ports: VLANs */
	{ VLAN(""), "neither access nor trunk", "port vm1", "vlan", NULL, "access" },
	{ VLAN("'native': 10"), "neither access nor trunk", "port vm1", "vlan", NULL, "trunk" },
	{ PORT(", 'vlan': 10"), "object", "port vm1", "vlan", "10", "an object" },
	{ VLAN("'access': 10, 'trunk': [10]"), "contradicts", "port vm1", "vlan.trunk", NULL,
	  "one of access and trunk" },
	{ VLAN("'access': 10, 'native': 10"), "is for trunks", "port vm1", "vlan.native", NULL,
	  "trunk instead" },
	{ VLAN("'access': 10, 'native_tagged': true"), "needs vlan.native", "port vm1",
	  "vlan.native_tagged", NULL, "true beside native" },
	{ VLAN("'trunk': 'all', 'native_tagged': true"), "needs vlan.native", "port vm1",
	  "vlan.native_tagged", NULL, "true beside native" },
	{ VLAN("'access': 10, 'id': 10"), "not known", "port vm1", "vlan.id", "10", "access" },
	NO_VLAN("access", "0", "range"), NO_VLAN("access", "4095", "range"),
	NO_VLAN("access", "'10'", "whole number"), NO_VLAN("access", "-1", "range"),
	NO_TRUNK("[]"), NO_TRUNK("{}"), NO_TRUNK("10"), NO_TRUNK("true"), NO_TRUNK("'10-20'"),
	NO_TRUNK("'ALL'"), NO_TRUNK("''"), NO_TRUNK("[0]"), NO_TRUNK("[4095]"), NO_TRUNK("[-1]"),
	NO_TRUNK("[1.0]"), NO_TRUNK("[true]"), NO_TRUNK("[[10]]"), NO_TRUNK("[10, 'all']"),
	NO_TRUNK("['0-10']"), NO_TRUNK("['10-4095']"), NO_TRUNK("['20-10']"), NO_TRUNK("['10-']"),
	NO_TRUNK("['-10']"), NO_TRUNK("['10-20-30']"), NO_TRUNK("['10,20']"), NO_TRUNK("[' 10']"),
	NO_TRUNK("['10 - 20']"), NO_TRUNK("['']"), NO_TRUNK("['9999999999']"),
	NO_TRUNK("[4294967306]"), NO_TRUNK("['1-65546']"),
	{ VLAN("'trunk': 'all', 'native': 0"), "range", "port vm1", "vlan.native", "0",
	  "1 to 4094" },
	{ VLAN("'trunk': 'all', 'native': 4095"), "range", "port vm1", "vlan.native", "4095",
	  "1 to 4094" },
	/* ports: what is flooded and learned */
	NO_SWITCH("isolated", "1"), NO_SWITCH("learning", "'no'"), NO_SWITCH("link_local", "0"),
	NO_SWITCH("isolated", "[]"),
	{ PORT(", 'flood': false"), "object", "port vm1", "flood", "false", "an object" },
	{ PORT(", 'flood': {'unknown': 1}"), "true or false", "port vm1", "flood.unknown", "1",
	  "true" },
	{ PORT(", 'flood': {'link_local': true}"), "not known", "port vm1", "flood.link_local",
	  "true", "unknown, broadcast, multicast" },
	{ PORT(", 'storm': 100"), "object", "port vm1", "storm", "100", "an object" },
	{ PORT(", 'storm': {'all': 100}"), "not known", "port vm1", "storm.all", "100",
	  "unknown, broadcast, multicast" },
	NO_STORM("unknown", "0", "range"), NO_STORM("broadcast", "0", "range"),
	NO_STORM("multicast", "0", "range"), NO_STORM("broadcast", "-1", "range"),
	NO_STORM("broadcast", "1000000001", "range"), NO_STORM("broadcast", "1.5", "whole number"),
	{ PORT(", 'max_addresses': 0"), "range", "port vm1", "max_addresses", "0", "1 to 1048576" },
	{ PORT(", 'max_addresses': 1048577"), "range", "port vm1", "max_addresses", "1048577",
	  "1 to 1048576" },
	/* one address in VLANs of which one is the same */
	NO_TWO("null", "null"), NO_TWO("{'access': 10}", "{'access': 10}"),
	NO_TWO("{'access': 10}", "{'trunk': ['9-11']}"),
	NO_TWO("{'trunk': 'all'}", "{'access': 1}"),
	NO_TWO("{'trunk': [1, 64]}", "{'trunk': ['64-65']}"),
	NO_TWO("{'trunk': [7], 'native': 8}", "{'access': 8}"),
	/* static addresses in VLANs */
	NO_STATIC("{'access': 10}", "'port': 'a', 'vlan': 11", "port a is not in VLAN 11", "11",
		  "a VLAN of the port"),
	NO_STATIC("{'trunk': ['10-20']}", "'port': 'a', 'vlan': 21", "port a is not in VLAN 21",
		  "21", "a VLAN of the port"),
	NO_STATIC("{'trunk': ['10-20']}", "'port': 'a'", "no VLAN for untagged frames", "0",
		  "a VLAN of the port"),
	NO_STATIC("{'access': 10}", "'port': 'b', 'vlan': 10", "port b is not in VLAN 10", "10",
		  "a VLAN of the port"),
	{ ADDRESSES("{" MAC1 ", 'blackhole': true, 'vlan': 4095}"), "range", "bridge.addresses[0]",
	  "vlan", "4095", "0 to 4094" },
	{ TWO_IN("{'access': 10}", "null", "06",
		 "{" MAC1 ", 'port': 'a'}, {" MAC1 ", 'port': 'a', 'vlan': 10}"), "twice",
	  "bridge.addresses[1]", "mac", "52:54:00:00:00:01", NULL },
	{ TWO_IN("{'trunk': 'all'}", "null", "06",
		 "{'mac': '52:54:00:00:00:05', 'blackhole': true, 'vlan': 9}"), "port a's own",
	  "bridge.addresses[0]", "mac", "52:54:00:00:00:05", NULL },
	/* ports: those of the type */
	{ "{'ports': [{'name': 'vm1', 'type': 'vhost-user'}]}", "socket", "port vm1", "socket",
	  NULL, NULL },
	{ PORT(", 'sockets': 1"), "not known", "port vm1", "sockets", "1", "socket" },
	{ PORT(", 'mode': 'both'"), "mode", "port vm1", "mode", "'both'", "server" },
	/* between ports */
	{ "{'ports': [{'name': 'a', 'type': 'vhost-user', 'socket': '/run/a'},"
	  " {'name': 'a', 'type': 'vhost-user', 'socket': '/run/b'}]}",
	  "ports[1]: the name a is taken", "ports", "name", "a", "no other port" },
	{ "{'ports': [{'name': 'a', 'type': 'vhost-user', 'socket': '/run/a'},"
	  " {'name': 'b', 'type': 'vhost-user', 'socket': '/run/b'},"
	  " {'name': 'a', 'type': 'vhost-user', 'socket': '/run/c'}]}",
	  "ports[2]: the name a is taken", "ports", "name", "a", "no other port" },
	{ "{'ports': [{'name': 'a', 'type': 'vhost-user', 'socket': '/run/a'},"
	  " {'name': 'b', 'type': 'vhost-user', 'socket': '/run/a'}]}",
	  "port b: the socket /run/a is taken by port a", "port b", "socket", "/run/a",
	  "no other port" },
	{ "{'ports': [{'name': 'a', 'type': 'vhost-user', 'socket': '/run/a',"
	  "  'mac': '52:54:00:00:00:01'},"
	  " {'name': 'b', 'type': 'vhost-user', 'socket': '/run/b', 'mac': '52:54:00:00:00:01'}]}",
	  "port b: the mac 52:54:00:00:00:01 is taken by port a", "port b", "mac",
	  "52:54:00:00:00:01", "no other port" },
};

static void check_part(const struct refusal *refusal, const char *what, const char *text,
		       const char *part)
{
	if (part == NULL || strstr(text, part) != NULL)
		return;
	fail_msg("%s: \"%s\" as %s has no \"%s\"", refusal->text, text, what, part);
}

static void check_refusal(const struct refusal *refusal, struct error *err)
{
	check_part(refusal, "message", err->message, refusal->says);
	check_part(refusal, "object", err->object, refusal->object);
	replace(err->value, '"', '\'');
	check_part(refusal, "value", err->value, refusal->value);
	check_part(refusal, "accepted", err->accepted, refusal->accepted);
	if (strcmp(err->field, refusal->field) != 0)
		fail_msg("%s: field \"%s\", not \"%s\"", refusal->text, err->field, refusal->field);
	if (err->message[strlen(err->message) - 1] == '.')
		fail_msg("%s: \"%s\" ends in a full stop", refusal->text, err->message);
}

static void mistakes_are_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
		const struct refusal *refusal = &refusals[i];
		json_t *root = json_of(refusal->text);
		struct model *model = (struct model *)&refusals;
		struct error err;

		if (root == NULL)
			fail_msg("%s is no JSON", refusal->text);
		memset(&err, 0, sizeof(err));
		if (model_parse(root, DEFAULT_CPU, &model, &err) >= 0)
			fail_msg("%s was taken", refusal->text);
		assert_null(model);
		json_decref(root);
		if (err.kind != ERROR_INVALID)
			fail_msg("%s: kind %d", refusal->text, err.kind);
		check_refusal(refusal, &err);
	}
}

static void the_longest_name_is_fine(void **state)
{
	struct model *model = parse(NAMED("'" LONG_63 "'"));

	(void)state;
	assert_string_equal(model->ports[0]->name, LONG_63);
	model_free(model);
}

static void too_many_ports(void **state)
{
	json_t *root = json_object(), *list = json_array();
	struct model *model = NULL;
	struct error err;

	(void)state;
	json_object_set_new(root, "ports", list);
	for (int i = 0; i <= 1024; i++) {
		char name[16], socket[16];

		snprintf(name, sizeof(name), "p%d", i);
		snprintf(socket, sizeof(socket), "/run/%d", i);
		json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "name", name, "type",
						      "vhost-user", "socket", socket));
	}
	assert_true(model_parse(root, DEFAULT_CPU, &model, &err) < 0);
	assert_int_equal(err.kind, ERROR_LIMIT);
	assert_non_null(strstr(err.message, "1024"));
	json_array_remove(list, 0);
	assert_int_equal(model_parse(root, DEFAULT_CPU, &model, &err), 0);
	assert_int_equal(model->port_count, 1024);
	model_free(model);
	json_decref(root);
}

/* ---- editing ---- */

static json_t *port_json(const char *more)
{
	char text[512];
	json_t *json;

	snprintf(text, sizeof(text), "{'name': 'vm1', 'type': 'vhost-user', 'socket': '/run/a'%s}",
		 more);
	json = json_of(text);
	assert_non_null(json);
	return json;
}

/* The port vm1 with what is added. */
static struct model_port *port_of(const char *more)
{
	json_t *json = port_json(more);
	struct model_port *port = NULL;
	struct error err;

	if (model_port_parse(json, 0, &port, &err) != 0)
		fail_msg("%s was refused: %s", more, err.message);
	json_decref(json);
	return port;
}

/*
 * RFC 7396, appendix A, as far as both sides are objects: what is patched is the port's labels,
 * whose keys are free, or its whole object.
 */
static void patches_as_in_the_rfc(void **state)
{
	static const struct {
		const char *before, *patch, *after;
	} rows[] = {
		{ "{'a': 'b'}", "{'a': 'c'}", "{'a': 'c'}" },
		{ "{'a': 'b'}", "{'b': 'c'}", "{'a': 'b', 'b': 'c'}" },
		{ "{'a': 'b'}", "{'a': null}", "{}" },
		{ "{'a': 'b', 'b': 'c'}", "{'a': null}", "{'b': 'c'}" },
		{ "{}", "{'a': null}", "{}" },
		{ "{'e': 'f'}", "{}", "{'e': 'f'}" },
		/* A target that is no object becomes one. */
		{ "null", "{'a': 'b', 'c': null}", "{'a': 'b'}" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char text[128];
		struct model_port *port, *patched;
		json_t *patch, *after = json_of(rows[i].after);
		struct error err;

		snprintf(text, sizeof(text), ", 'labels': %s", rows[i].before);
		port = port_of(text);
		snprintf(text, sizeof(text), "{'labels': %s}", rows[i].patch);
		patch = json_of(text);
		if (model_port_patch(port, patch, &patched, &err) != 0)
			fail_msg("%s: %s", rows[i].patch, err.message);
		if (!json_equal(patched->labels, after))
			fail_msg("%s with %s is not %s", rows[i].before, rows[i].patch,
				 rows[i].after);
		model_port_release(patched);
		model_port_release(port);
		json_decref(patch);
		json_decref(after);
	}
}

static struct model_port *patch(const struct model_port *port, const char *text)
{
	json_t *json = json_of(text);
	struct model_port *patched = NULL;
	struct error err;

	assert_non_null(json);
	if (model_port_patch(port, json, &patched, &err) != 0)
		fail_msg("%s was refused: %s", text, err.message);
	json_decref(json);
	return patched;
}

static void patches_deep_and_back(void **state)
{
	struct model_port *port = port_of(", 'mtu': 1500, 'labels': {'a': '1', 'b': '2'}");
	struct model_port *second, *third, *last;
	json_t *before = json_deep_copy(port->source);

	(void)state;
	second = patch(port, "{'limits': {'ingress': {'bandwidth': {'rate': '1M'}}}, 'mtu': null,"
			     " 'labels': {'a': null}}");
	assert_int_equal(second->settings.ingress.bandwidth.rate, 1000000);
	assert_int_equal(second->settings.mtu, 65535);
	assert_null(json_object_get(second->labels, "a"));
	assert_string_equal(json_string_value(json_object_get(second->labels, "b")), "2");
	assert_string_equal(second->name, "vm1");
	/* Beside the rate, which stays. */
	third = patch(second, "{'limits': {'ingress': {'bandwidth': {'burst': '2KiB'},"
			      " 'excess': 'drop'}}}");
	assert_int_equal(third->settings.ingress.bandwidth.rate, 1000000);
	assert_int_equal(third->settings.ingress.bandwidth.burst, 2048);
	assert_int_equal(third->settings.ingress.excess, EXCESS_DROP);
	/* null takes a whole tree away. */
	last = patch(third, "{'limits': null, 'labels': {'a': '1'}, 'mtu': 1500}");
	assert_true(json_equal(last->source, before));
	assert_int_equal(last->settings.ingress.bandwidth.rate, 0);
	/* What was patched is as it was. */
	assert_true(json_equal(port->source, before));
	assert_int_equal(port->settings.mtu, 1500);
	assert_int_equal(third->settings.ingress.excess, EXCESS_DROP);
	json_decref(before);
	model_port_release(port);
	model_port_release(second);
	model_port_release(third);
	model_port_release(last);
}

/* The result is checked as any port is. */
static void patches_that_are_refused(void **state)
{
	static const struct refusal rows[] = {
		{ "{'mtu': 1}", "range", "port vm1", "mtu", "1", "68 to 65535" },
		{ "{'socket': null}", "socket", "port vm1", "socket", NULL, NULL },
		{ "{'type': null}", "type", "port vm1", "type", NULL, NULL },
		{ "{'limits': {'ingress': {'bandwidth': {'burst': 5}}}}", "rate", "port vm1",
		  "limits.ingress.bandwidth.rate", NULL, NULL },
		{ "{'limits': 7}", "object", "port vm1", "limits", "7", "an object" },
		{ "{'labels': {'a': 7}}", "labels", "port vm1", "labels", "{'a': 7}", "strings" },
		{ "{'color': 'red'}", "not known", "port vm1", "color", "'red'", NULL },
		{ "{'color': {'red': null}}", "not known", "port vm1", "color", "{}", NULL },
		{ "{'name': 'a b'}", "name", "the port", "name", "'a b'", "1 to 63 of" },
		{ "[]", "object", "the port", "", NULL, "an object" },
	};
	struct model_port *port = port_of("");

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		json_t *json = json_of(rows[i].text);
		struct model_port *patched = port;
		struct error err;

		memset(&err, 0, sizeof(err));
		if (model_port_patch(port, json, &patched, &err) >= 0)
			fail_msg("%s was taken", rows[i].text);
		check_refusal(&rows[i], &err);
		json_decref(json);
	}
	assert_int_equal(port->references, 1);
	model_port_release(port);
}

static void compares(void **state)
{
	static const struct {
		const char *to;
		enum model_difference difference;
	} rows[] = {
		{ "", MODEL_SAME },
		{ ", 'mtu': 1500", MODEL_SET },
		{ ", 'mac': '52:54:00:00:00:01'", MODEL_SET },
		{ ", 'enabled': false", MODEL_SET },
		{ ", 'labels': {'a': 'b'}", MODEL_SET },
		{ ", 'limits': {'ingress': {'bandwidth': {'rate': '1M'}}}", MODEL_SET },
		/* Said, but no other than what is: nothing to close a port for. */
		{ ", 'queues': 1, 'mtu': null", MODEL_SET },
		{ ", 'queues': 2", MODEL_REOPEN },
		{ ", 'queues': 2, 'mtu': 1500", MODEL_REOPEN },
		{ ", 'permissions': {'mode': '0600'}", MODEL_REOPEN },
	};
	struct model_port *port = port_of(""), *other;
	json_t *json = json_of("{'name': 'vm1', 'type': 'vhost-user', 'socket': '/run/b'}");
	struct error err;

	(void)state;
	assert_int_equal(model_port_compare(port, port), MODEL_SAME);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		other = port_of(rows[i].to);
		if (model_port_compare(port, other) != rows[i].difference ||
		    model_port_compare(other, port) != rows[i].difference)
			fail_msg("%s is %d, not %d", rows[i].to, model_port_compare(port, other),
				 rows[i].difference);
		assert_true(model_port_shares(port, other));
		model_port_release(other);
	}
	assert_int_equal(model_port_parse(json, 0, &other, &err), 0);
	assert_int_equal(model_port_compare(port, other), MODEL_REOPEN);
	assert_false(model_port_shares(port, other));
	model_port_release(other);
	json_decref(json);
	model_port_release(port);
}

/* The order of keys means nothing. */
static void order_is_no_difference(void **state)
{
	struct model_port *port = port_of(", 'mtu': 1500, 'labels': {'a': '1', 'b': '2'}");
	struct model_port *other = port_of(", 'labels': {'b': '2', 'a': '1'}, 'mtu': 1500");

	(void)state;
	assert_int_equal(model_port_compare(port, other), MODEL_SAME);
	model_port_release(port);
	model_port_release(other);
}

#define WHOLE \
	"{'workers': [{'cpu': 0, 'idle': 'busy'}, {'cpu': 3}]," \
	" 'bridge': {'ageing': 17, 'capacity': 128, 'addresses': [" \
	"  {'mac': '52:54:00:00:00:01', 'port': 'b'}," \
	"  {'mac': '52:54:00:00:00:02', 'blackhole': true}]}," \
	" 'ports': [" \
	"  {'name': 'a', 'type': 'vhost-user', 'socket': '/run/a', 'mac': '52:54:00:00:00:05'," \
	"   'limits': {'ingress': {'bandwidth': {'rate': '1Gbit'}}}, 'mtu': null}," \
	"  {'name': 'b', 'type': 'vhost-user', 'socket': '/run/b', 'labels': {'x': 'y'}," \
	"   'workers': [1]}]}"

static void assert_same(const struct model *model, const struct model *other)
{
	assert_true(model_same_bridge(model, other));
	assert_true(model_same_bridge(other, model));
	assert_int_equal(model->port_count, other->port_count);
	for (uint32_t i = 0; i < model->port_count; i++)
		assert_int_equal(model_port_compare(model->ports[i], other->ports[i]), MODEL_SAME);
	assert_int_equal(model->worker_count, other->worker_count);
	assert_memory_equal(model->workers, other->workers,
			    model->worker_count * sizeof(*model->workers));
}

static void becomes_json_and_back(void **state)
{
	static const char *const texts[] = { "{}", "{'workers': []}", WHOLE,
					     "{'bridge': {'ageing': 0}}" };

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct model *model = parse(texts[i]), *back;
		json_t *json = model_to_json(model), *again;
		struct error err;

		assert_int_equal(model_parse(json, DEFAULT_CPU, &back, &err), 0);
		assert_same(model, back);
		again = model_to_json(back);
		assert_true(json_equal(json, again));
		json_decref(again);
		json_decref(json);
		model_free(back);
		model_free(model);
	}
}

static void copies_share_their_ports(void **state)
{
	struct model *model = parse(WHOLE), *copy = model_copy(model), *bare;
	struct model_port *a = model->ports[0], *b = model->ports[1];
	struct model_address address = { .mac = { 2, 0, 0, 0, 0, 9 }, .port = "a" };
	struct error err;
	json_t *json;

	(void)state;
	assert_same(model, copy);
	assert_ptr_equal(copy->ports[0], a);
	assert_ptr_equal(copy->ports[1], b);
	assert_int_equal(a->references, 2);
	bare = model_copy_without_ports(model);
	assert_int_equal(bare->port_count, 0);
	assert_int_equal(bare->address_count, 0);
	assert_int_equal(bare->bridge.ageing, 17);
	assert_int_equal(bare->workers[0].idle, IDLE_BUSY);
	model_free(bare);
	/* What is edited in the copy is the copy's. A port takes its addresses along. */
	assert_int_equal(model_put_address(copy, &address, &err), 0);
	assert_false(model_same_bridge(model, copy));
	assert_int_equal(model_remove_port(copy, "b"), 0);
	assert_int_equal(model_remove_port(copy, "b"), -ENOENT);
	assert_int_equal(b->references, 1);
	assert_int_equal(copy->port_count, 1);
	assert_int_equal(copy->address_count, 2);
	assert_int_equal(model->port_count, 2);
	assert_int_equal(model->address_count, 2);
	/* In the place of another of the same name, which keeps what it may have. */
	json = json_of("{'name': 'a', 'type': 'vhost-user', 'socket': '/run/a',"
		       " 'mac': '52:54:00:00:00:05', 'mtu': 1280}");
	assert_int_equal(model_port_parse(json, 0, &b, &err), 0);
	json_decref(json);
	assert_int_equal(model_put_port(copy, b, &err), 0);
	assert_int_equal(copy->port_count, 1);
	assert_ptr_equal(copy->ports[0], b);
	assert_ptr_equal(model->ports[0], a);
	assert_int_equal(a->references, 1);
	model_free(model);
	assert_int_equal(copy->ports[0]->settings.mtu, 1280);
	model_free(copy);
}

static void assert_refused(int result, const struct error *err, enum error_kind kind,
			   const char *says, const char *object, const char *field,
			   const char *value)
{
	assert_true(result < 0);
	assert_int_equal(err->kind, kind);
	if (strstr(err->message, says) == NULL)
		fail_msg("no \"%s\" in \"%s\"", says, err->message);
	assert_string_equal(err->object, object);
	assert_string_equal(err->field, field);
	assert_string_equal(err->value, value);
	assert_true(err->accepted[0] != '\0');
}

/* Between what comes and what is there. */
static void conflicts(void **state)
{
	struct model *model = parse(WHOLE);
	struct model_address address = { .mac = { 0x52, 0x54, 0, 0, 0, 5 }, .port = "b" };
	struct model_port *port;
	struct error err;

	(void)state;
	assert_refused(model_put_port(model, port_of(""), &err), &err, ERROR_EXISTS,
		       "taken by port a", "port vm1", "socket", "/run/a");
	port = patch(model->ports[1], "{'mac': '52:54:00:00:00:05'}");
	assert_refused(model_put_port(model, port, &err), &err, ERROR_EXISTS, "taken by port a",
		       "port b", "mac", "52:54:00:00:00:05");
	port = patch(model->ports[1], "{'mac': '52:54:00:00:00:01'}");
	assert_refused(model_put_port(model, port, &err), &err, ERROR_EXISTS, "static address",
		       "port b", "mac", "52:54:00:00:00:01");
	assert_refused(model_put_address(model, &address, &err), &err, ERROR_EXISTS,
		       "port a's own", "bridge", "mac", "52:54:00:00:00:05");
	address.mac[5] = 6;
	text_copy(address.port, sizeof(address.port), "z");
	assert_refused(model_put_address(model, &address, &err), &err, ERROR_NOT_FOUND,
		       "no port z", "bridge", "port", "z");
	assert_int_equal(model->port_count, 2);
	assert_int_equal(model->address_count, 2);
	/* One address more than once takes the place of the first. */
	text_copy(address.port, sizeof(address.port), "a");
	assert_int_equal(model_put_address(model, &address, &err), 0);
	address.port[0] = '\0';
	assert_int_equal(model_put_address(model, &address, &err), 0);
	assert_int_equal(model->address_count, 3);
	assert_string_equal(model->addresses[2].port, "");
	assert_int_equal(model_remove_address(model, address.mac, 0), 1);
	assert_int_equal(model_remove_address(model, address.mac, 0), 0);
	assert_int_equal(model->address_count, 2);
	model_free(model);
}

static bool trunk_has(const struct model *model, uint16_t first, uint16_t last)
{
	for (uint16_t vlan = 0; vlan < 4096; vlan++)
		if (vlan_set_has(&model->ports[0]->settings.vlan.trunk, vlan) !=
		    (vlan >= first && vlan <= last))
			return false;
	return true;
}

static void vlans(void **state)
{
	struct model *model = parse(PORT(""));
	const struct vlan_settings *vlan = &model->ports[0]->settings.vlan;

	(void)state;
	assert_int_equal(vlan->mode, VLAN_TRANSPARENT);
	assert_int_equal(vlan->native, 0);
	model_free(model);
	model = parse(VLAN("'access': 4094"));
	vlan = &model->ports[0]->settings.vlan;
	assert_int_equal(vlan->mode, VLAN_ACCESS);
	assert_int_equal(vlan->native, 4094);
	model_free(model);
	model = parse(VLAN("'trunk': 'all'"));
	vlan = &model->ports[0]->settings.vlan;
	assert_int_equal(vlan->mode, VLAN_TRUNK);
	assert_int_equal(vlan->native, 0);
	assert_true(trunk_has(model, 1, 4094));
	model_free(model);
	/* The native VLAN is one of the trunk's, said or not. */
	model = parse(VLAN("'trunk': ['7-9', 11, '12', '12-13'], 'native': 10,"
			   " 'native_tagged': true"));
	vlan = &model->ports[0]->settings.vlan;
	assert_int_equal(vlan->native, 10);
	assert_true(vlan->native_tagged);
	assert_true(trunk_has(model, 7, 13));
	model_free(model);
}

static void bridging(void **state)
{
	struct model *model = parse(PORT(""));
	const struct port_settings *port = &model->ports[0]->settings;

	(void)state;
	assert_false(port->isolated);
	assert_true(port->learning);
	assert_false(port->link_local);
	assert_true(port->flood.unknown && port->flood.broadcast && port->flood.multicast);
	assert_int_equal(port->storm.unknown + port->storm.broadcast + port->storm.multicast, 0);
	assert_int_equal(port->max_addresses, 0);
	model_free(model);
	model = parse(PORT(", 'isolated': true, 'learning': false, 'link_local': true,"
			   " 'flood': {'broadcast': false}, 'max_addresses': 1048576,"
			   " 'storm': {'unknown': 1, 'multicast': 1000000000}"));
	port = &model->ports[0]->settings;
	assert_true(port->isolated);
	assert_false(port->learning);
	assert_true(port->link_local);
	assert_true(port->flood.unknown && !port->flood.broadcast && port->flood.multicast);
	assert_int_equal(port->storm.unknown, 1);
	assert_int_equal(port->storm.broadcast, 0);
	assert_int_equal(port->storm.multicast, 1000000000);
	assert_int_equal(port->max_addresses, 1048576);
	model_free(model);
}

/* In VLANs that do not meet, one address may be two stations'. */
static void one_address_in_two_vlans(void **state)
{
	static const char *const texts[] = {
		TWO_IN("{'access': 10}", "{'access': 11}", "05", ""),
		TWO_IN("null", "{'trunk': 'all'}", "05", ""),
		TWO_IN("{'trunk': ['1-10']}", "{'trunk': ['11-4094']}", "05", ""),
		TWO_IN("{'access': 10}", "null", "06",
		       "{'mac': '52:54:00:00:00:05', 'port': 'b'}"),
		TWO_IN("{'access': 10}", "{'trunk': 'all'}", "06",
		       "{'mac': '52:54:00:00:00:05', 'port': 'b', 'vlan': 11},"
		       "{'mac': '52:54:00:00:00:05', 'blackhole': true, 'vlan': 12}"),
	};

	(void)state;
	for (unsigned int i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		model_free(parse(texts[i]));
}

/* ...:01 is static in the VLAN of a, wherever that is, and ...:02 in VLAN 20, behind b. */
#define MOVING \
	TWO_IN("{'access': 10}", "{'access': 20}", "06", \
	       "{" MAC1 ", 'port': 'a'}, {'mac': '52:54:00:00:00:02', 'port': 'b', 'vlan': 20}," \
	       "{" MAC1 ", 'blackhole': true, 'vlan': 30}")

static int set_port(struct model *model, unsigned int index, const char *text, struct error *err)
{
	return model_put_port(model, patch(model->ports[index], text), err);
}

static void ports_take_addresses_along(void **state)
{
	struct model *model = parse(MOVING);
	struct error err;

	(void)state;
	assert_int_equal(model_address_vlan(model, &model->addresses[0]), 10);
	assert_int_equal(set_port(model, 0, "{'vlan': {'access': 40}}", &err), 0);
	assert_int_equal(model_address_vlan(model, &model->addresses[0]), 40);
	/* Back to where it was said again meanwhile. */
	assert_refused(set_port(model, 0, "{'vlan': {'access': 30}}", &err), &err, ERROR_EXISTS,
		       "static address", "port a", "vlan", "52:54:00:00:00:01");
	assert_int_equal(model_address_vlan(model, &model->addresses[0]), 40);
	/* Onto another port's own. */
	assert_int_equal(set_port(model, 1, "{'mac': '52:54:00:00:00:01'}", &err), 0);
	assert_refused(set_port(model, 0, "{'vlan': {'access': 20}}", &err), &err, ERROR_EXISTS,
		       "port b's own", "bridge", "mac", "52:54:00:00:00:01");
	/* One that stands in a VLAN by its own word is not left behind. */
	assert_refused(set_port(model, 1, "{'vlan': {'access': 21}}", &err), &err, ERROR_CONFLICT,
		       "not in VLAN 20", "bridge", "vlan", "20");
	assert_refused(set_port(model, 0, "{'vlan': {'access': null, 'trunk': 'all'}}", &err), &err,
		       ERROR_CONFLICT, "no VLAN for untagged frames", "bridge", "vlan", "0");
	assert_int_equal(set_port(model, 1, "{'vlan': {'access': null, 'trunk': ['20-29']}}", &err),
			 0);
	model_free(model);
}

static void addresses_are_removed_by_vlan(void **state)
{
	static const uint8_t mac[6] = { 0x52, 0x54, 0, 0, 0, 1 };
	struct model *model = parse(MOVING), *copy = model_copy(model);

	(void)state;
	assert_int_equal(model_remove_address(model, mac, 11), 0);
	/* Said without a VLAN, it stands in that of its port. */
	assert_int_equal(model_remove_address(model, mac, 10), 1);
	assert_int_equal(model_remove_address(model, mac, 10), 0);
	assert_int_equal(model->address_count, 2);
	assert_int_equal(model_remove_address(copy, mac, 0), 2);
	assert_int_equal(copy->address_count, 1);
	model_free(copy);
	model_free(model);
}

static void bridges_differ(void **state)
{
	static const char *const texts[] = {
		"{'bridge': {'ageing': 18}}", "{'bridge': {'capacity': 128}}",
		"{'workers': [{'cpu': 0}]}",
		"{'bridge': {'addresses': [{'mac': '52:54:00:00:00:01', 'blackhole': true}]}}",
		"{'bridge': {'addresses': [{'mac': '52:54:00:00:00:02', 'blackhole': true}]}}",
		("{'bridge': {'addresses': [{'mac': '52:54:00:00:00:01', 'port': 'a'}]},"
		 " 'ports': [{'name': 'a', 'type': 'vhost-user', 'socket': '/run/a'}]}"),
		"{}",
	};
	enum { COUNT = sizeof(texts) / sizeof(texts[0]) };
	struct model *models[COUNT];

	(void)state;
	for (unsigned int i = 0; i < COUNT; i++)
		models[i] = parse(texts[i]);
	for (unsigned int i = 0; i < COUNT; i++)
		for (unsigned int j = 0; j < COUNT; j++)
			assert_int_equal(model_same_bridge(models[i], models[j]), i == j);
	for (unsigned int i = 0; i < COUNT; i++)
		model_free(models[i]);
}

/* As many as the table holds, in any order. */
static void many_addresses(void **state)
{
	struct model *model = parse("{'bridge': {'capacity': 64}}"), *copy;
	struct model_address address = { .mac = { 2 } };
	struct error err;

	(void)state;
	for (uint8_t i = 0; i < 64; i++) {
		address.mac[5] = i;
		assert_int_equal(model_put_address(model, &address, &err), 0);
	}
	copy = model_copy(model);
	address.mac[5] = 0;
	assert_int_equal(model_remove_address(copy, address.mac, 0), 1);
	assert_false(model_same_bridge(model, copy));
	assert_int_equal(model_put_address(copy, &address, &err), 0);
	assert_true(model_same_bridge(model, copy));
	address.mac[5] = 64;
	assert_true(model_put_address(model, &address, &err) < 0);
	assert_int_equal(err.kind, ERROR_LIMIT);
	assert_int_equal(model->address_count, 64);
	model_free(copy);
	model_free(model);
}

/* ---- files ---- */

static char path[] = "/tmp/ringway-test-model-XXXXXX";

static int make_file(void **state)
{
	int fd = mkstemp(path);

	(void)state;
	log_set_level(LOG_ERROR);
	if (fd < 0)
		return -1;
	close(fd);
	return 0;
}

static int remove_file(void **state)
{
	(void)state;
	return unlink(path);
}

static void write_file(const char *text)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static void a_file_is_read(void **state)
{
	struct model *model;
	struct error err;

	(void)state;
	write_file("{ \"bridge\": { \"ageing\": 17 } }\n");
	assert_int_equal(model_load(path, DEFAULT_CPU, &model, &err), 0);
	assert_int_equal(model->bridge.ageing, 17);
	model_free(model);
}

static void a_bad_file_names_the_line(void **state)
{
	static const struct {
		const char *text, *line;
	} files[] = {
		{ "", "line 1," },
		{ "{\n  \"bridge\": {\n    \"ageing\": 300,\n  }\n}\n", "line 4," },
		{ "{\n  \"bridge\": {},\n  \"bridge\": {}\n}\n", "line 3," },
		{ "{ \"ports\": [] }\nrubbish\n", "line 2," },
		{ "{\n\n\"bridge\": {\"ageing\": 0x10}}", "line 3," },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		struct model *model = NULL;
		struct error err;

		write_file(files[i].text);
		assert_int_equal(model_load(path, DEFAULT_CPU, &model, &err), -EINVAL);
		assert_null(model);
		assert_int_equal(err.kind, ERROR_INVALID);
		assert_non_null(strstr(err.message, path));
		if (strstr(err.message, files[i].line) == NULL)
			fail_msg("\"%s\": no \"%s\" in \"%s\"", files[i].text, files[i].line,
				 err.message);
	}
}

static void a_file_that_cannot_be_read(void **state)
{
	struct model *model = NULL;
	struct error err;

	(void)state;
	assert_int_equal(model_load("/nowhere/at/all.json", DEFAULT_CPU, &model, &err), -ENOENT);
	assert_null(model);
	assert_int_equal(err.kind, ERROR_SYSTEM);
	assert_non_null(strstr(err.message, "/nowhere/at/all.json"));
	assert_non_null(strstr(err.message, "No such file"));
	/* The reason is the world's, not always the same one. */
	assert_int_equal(model_load("/tmp", DEFAULT_CPU, &model, &err), -EISDIR);
	assert_null(model);
	assert_int_equal(err.kind, ERROR_SYSTEM);
	assert_non_null(strstr(err.message, "/tmp"));
	assert_non_null(strstr(err.message, "directory"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults),
		cmocka_unit_test(values),
		cmocka_unit_test(settings),
		cmocka_unit_test(limits_have_two_forms),
		cmocka_unit_test(null_is_the_default),
		cmocka_unit_test(guards),
		cmocka_unit_test(the_memory_port_is_no_type),
		cmocka_unit_test(mistakes_are_refused),
		cmocka_unit_test(the_longest_name_is_fine),
		cmocka_unit_test(too_many_ports),
		cmocka_unit_test(patches_as_in_the_rfc),
		cmocka_unit_test(patches_deep_and_back),
		cmocka_unit_test(patches_that_are_refused),
		cmocka_unit_test(compares),
		cmocka_unit_test(order_is_no_difference),
		cmocka_unit_test(becomes_json_and_back),
		cmocka_unit_test(copies_share_their_ports),
		cmocka_unit_test(conflicts),
		cmocka_unit_test(vlans),
		cmocka_unit_test(bridging),
		cmocka_unit_test(one_address_in_two_vlans),
		cmocka_unit_test(ports_take_addresses_along),
		cmocka_unit_test(addresses_are_removed_by_vlan),
		cmocka_unit_test(bridges_differ),
		cmocka_unit_test(many_addresses),
		cmocka_unit_test(a_file_is_read),
		cmocka_unit_test(a_bad_file_names_the_line),
		cmocka_unit_test(a_file_that_cannot_be_read),
	};

	return cmocka_run_group_tests(tests, make_file, remove_file);
}
