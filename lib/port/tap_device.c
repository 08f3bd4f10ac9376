/* SPDX-License-Identifier: BSD-3-Clause */
/* Ioctls for a TAP interface; port/tap_device.h is the contract. tap_source.c opens its queues. */
#include "port/tap_device.h"

#include <endian.h>
#include <errno.h>
#include <limits.h>
#include <linux/bpf.h>
#include <linux/if_tun.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "base/program.h"
#include "port/namespace.h"
#include "port/tap_source.h"

/* tun_net_init of the kernel: the longest IP packet less an Ethernet header. */
#define TAP_MTU_MAX 65521
#define SCRIPT_SECONDS 10

/* USO over IPv4 and IPv6, which go together; from Linux 6.2 on. */
#define TUN_F_USO (0x20u | 0x40u)

bool tap_device_is_there(int fd, char name[IFNAMSIZ])
{
	struct ifreq request = { .ifr_flags = 0 };

	if (ioctl(fd, TUNGETIFF, &request) != 0)
		return false;
	memcpy(name, request.ifr_name, IFNAMSIZ);
	return true;
}

/* Without being told where the interface is: one of its name and address is in our namespace. */
static bool is_here(const char *interface, int fd)
{
	struct ifreq request = { .ifr_flags = 0 };
	struct interface_facts facts;
	struct error err;

	return ioctl(fd, SIOCGIFHWADDR, &request) == 0 &&
	       interface_find(interface, &facts, &err) == 0 &&
	       memcmp(request.ifr_hwaddr.sa_data, facts.mac, sizeof(facts.mac)) == 0;
}

/*
 * Enters the namespace that the interface is in now. *former goes to namespace_leave; it is -1
 * where that is ours. Returns 0 or -errno: another interface of the same name must not be touched.
 */
static int enter_namespace(const char *interface, int fd, int *former)
{
	int namespace = ioctl(fd, TUNGETDEVNETNS);
	int errnum = errno;

	*former = -1;
	if (namespace < 0)
		return is_here(interface, fd) ? 0 : -errnum;
	if (namespace_is_own(namespace)) {
		close(namespace);
		return 0;
	}
	*former = namespace_enter(namespace);
	return *former >= 0 ? 0 : *former;
}

static int visit(const char *interface, int fd, int *former, struct error *err)
{
	int result = enter_namespace(interface, fd, former);

	if (result != 0)
		error_set(err, ERROR_SYSTEM, -result,
			  "%s is in a network namespace that cannot be entered: %s", interface,
			  strerror(-result));
	return result;
}

/* ---- what can change on open queues ---- */

/* Of large UDP frames each kernel knows another kind: the most that it takes. */
static int set_offloads(int fd, const struct offload_switches *offloads, struct tap_facts *facts)
{
	const unsigned int udp[] = { TUN_F_UFO | TUN_F_USO, TUN_F_UFO, 0 };
	unsigned long flags = 0;
	size_t i;

	facts->uso = false;
	if (facts->header == 0 || !offloads->checksum)
		return ioctl(fd, TUNSETOFFLOAD, 0ul) == 0 ? 0 : -errno;
	flags = TUN_F_CSUM;
	if (offloads->tso)
		flags |= TUN_F_TSO4 | TUN_F_TSO6;
	if (offloads->tso && offloads->ecn)
		flags |= TUN_F_TSO_ECN;
	for (i = offloads->ufo ? 0 : 2; i < 3; i++) {
		if (ioctl(fd, TUNSETOFFLOAD, flags | udp[i]) != 0)
			continue;
		facts->uso = i == 0;
		return 0;
	}
	return -errno;
}

/* Opens the pinned program. Returns its descriptor, or -errno with err filled. */
static int open_steering(const char *path, struct error *err)
{
	union bpf_attr attributes = { .pathname = (uint64_t)(uintptr_t)path };
	int fd = (int)syscall(SYS_bpf, BPF_OBJ_GET, &attributes, sizeof(attributes));
	struct bpf_prog_info info = { .type = 0 };
	union bpf_attr query = { .info = { .bpf_fd = (uint32_t)fd, .info_len = sizeof(info),
					   .info = (uint64_t)(uintptr_t)&info } };

	if (fd < 0) {
		error_set(err, ERROR_SYSTEM, errno, "the steering program %s cannot be opened: %s",
			  path, strerror(errno));
		error_detail(err, NULL, "steering", path, "the path of a pinned eBPF program");
		return -err->errnum;
	}
	/* Of a map the answer has another shape, and no such type at this place. */
	if (syscall(SYS_bpf, BPF_OBJ_GET_INFO_BY_FD, &query, sizeof(query)) != 0 ||
	    info.type == BPF_PROG_TYPE_SOCKET_FILTER)
		return fd;
	close(fd);
	error_set(err, ERROR_SYSTEM, EINVAL, "the steering program %s is no socket filter", path);
	error_detail(err, NULL, "steering", path, "a pinned program of type socket filter");
	return -EINVAL;
}

/* Attaches the program, or detaches the one that was there. */
static int set_steering(int fd, const char *path, struct error *err)
{
	int program = path[0] != '\0' ? open_steering(path, err) : -1;
	int result = 0;

	if (path[0] != '\0' && program < 0)
		return program;
	if (ioctl(fd, TUNSETSTEERINGEBPF, &program) != 0) {
		result = -errno;
		error_set(err, ERROR_SYSTEM, errno, "%s cannot steer the queues: %s", path,
			  errno == EINVAL ? "it is no socket filter" : strerror(errno));
		error_detail(err, NULL, "steering", path, "a pinned program of type socket filter");
	}
	if (program >= 0)
		close(program);
	/* A kernel that cannot steer has nothing to detach. */
	return path[0] != '\0' ? result : 0;
}

/* Asking for what is so already is an error to the kernel (EINVAL), and none to us. */
static int set_active(int fd, bool active)
{
	struct ifreq request = { .ifr_flags = active ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE };

	return ioctl(fd, TUNSETQUEUE, &request) == 0 || errno == EINVAL ? 0 : -errno;
}

static int change_queues(const struct tap_wish *wish, const int *fds, uint16_t count,
			 struct tap_facts *facts, struct error *err)
{
	const struct tap_config *config = &wish->config;
	const uint32_t active = config->active_queues != 0 ? config->active_queues : count;
	int sndbuf = config->sndbuf != 0 ? (int)config->sndbuf : INT_MAX;
	int result = 0;

	for (uint16_t i = 0; i < count; i++) {
		if (count > 1 && set_active(fds[i], i < active) != 0)
			result = interface_refuse(facts->interface, "the active queues",
						  "active_queues", errno, err);
		/* A queue that is detached has no device to be told more about. */
		if (i >= active)
			continue;
		if (ioctl(fds[i], TUNSETSNDBUF, &sndbuf) != 0)
			result = interface_refuse(facts->interface, "the send buffer", "sndbuf",
						  errno, err);
		if (set_offloads(fds[i], &config->offloads, facts) != 0)
			result = interface_refuse(facts->interface, "the offloads", "offloads",
						  errno, err);
	}
	if (result == 0)
		result = set_steering(fds[0], config->steering, err);
	return result;
}

/* Of what is not given any more the interface gets what it had at first. */
static int change_interface(const char *interface, const struct tap_wish *wish,
			    const struct tap_facts *facts, struct error *err)
{
	struct param_mac mac = wish->mac;
	uint32_t mtu = wish->mtu;

	if (mtu == 0 && wish->mtu_left)
		mtu = facts->first.mtu;
	if (!mac.given && wish->mac_left) {
		mac.given = true;
		memcpy(mac.mac, facts->first.mac, sizeof(mac.mac));
	}
	return interface_set(interface, mtu, &mac, err);
}

static int set_persist(const struct tap_wish *wish, int fd, struct tap_facts *facts,
		       struct error *err)
{
	if (wish->config.persist == facts->persists)
		return 0;
	if (ioctl(fd, TUNSETPERSIST, (unsigned long)wish->config.persist) != 0)
		return interface_refuse(facts->interface, "\"persist\"", "persist", errno, err);
	facts->persists = wish->config.persist;
	return 0;
}

int tap_device_change(const struct tap_wish *wish, const int *fds, uint16_t count,
		      struct tap_facts *facts, struct error *err)
{
	struct error other;
	int result = change_queues(wish, fds, count, facts, err);
	int second = set_persist(wish, fds[0], facts, result == 0 ? err : &other);
	char name[IFNAMSIZ];
	int former;

	if (result == 0)
		result = second;
	if (!tap_device_is_there(fds[0], name))
		return result;
	second = visit(name, fds[0], &former, result == 0 ? err : &other);
	if (second == 0)
		second = change_interface(name, wish, facts, result == 0 ? err : &other);
	namespace_leave(former);
	return result != 0 ? result : second;
}

uint32_t tap_device_mtu(int fd)
{
	struct interface_facts facts = { .mtu = 0 };
	char name[IFNAMSIZ];
	struct error err;
	int former;

	if (!tap_device_is_there(fd, name) || visit(name, fd, &former, &err) != 0)
		return 0;
	interface_find(name, &facts, &err);
	namespace_leave(former);
	return facts.mtu;
}

int tap_device_check(const struct tap_config *config, uint32_t mtu, struct error *err)
{
	int program;

	if (mtu > TAP_MTU_MAX) {
		error_set(err, ERROR_SYSTEM, EINVAL, "an MTU of %u cannot be set on a TAP", mtu);
		error_detail(err, NULL, "mtu", NULL, "68 to 65521");
		return -EINVAL;
	}
	if (config->steering[0] == '\0')
		return 0;
	program = open_steering(config->steering, err);
	if (program < 0)
		return program;
	close(program);
	return 0;
}

/* ---- opening ---- */

static int set_header(int fd, const struct tap_facts *facts, struct error *err)
{
	int size = (int)facts->header;
	int little = (BYTE_ORDER == LITTLE_ENDIAN) != facts->swap, big = !little;

	if (size == 0)
		return 0;
	/* A former owner may have left any size and order. */
	if (ioctl(fd, TUNSETVNETHDRSZ, &size) != 0) {
		error_set(err, ERROR_SYSTEM, errno, "%s takes no offload header of %d bytes: %s",
			  facts->interface, size, strerror(errno));
		error_detail(err, NULL, "vnet_header", NULL, NULL);
		return -err->errnum;
	}
	/* Kernels know of big-endian headers only where they were built so. */
	if (ioctl(fd, TUNSETVNETBE, &big) != 0 && big) {
		error_set(err, ERROR_SYSTEM, errno,
			  "%s takes no big-endian offload header: %s", facts->interface,
			  errno == EINVAL ? "this kernel was built without" : strerror(errno));
		error_detail(err, NULL, "endian", "big", "host, little");
		return -err->errnum;
	}
	if (ioctl(fd, TUNSETVNETLE, &little) != 0)
		return interface_refuse(facts->interface, "the byte order", "endian", errno, err);
	return 0;
}

static int run_script(const char *script, const char *interface, int fd, struct error *err)
{
	const char *const argv[] = { script, interface, NULL };

	return script[0] != '\0' ? program_run(argv, fd, SCRIPT_SECONDS, err) : 0;
}

/* The interface gets what is wished for. One that others made keeps what is not asked for. */
static int set_up(const struct tap_wish *wish, int fd, struct tap_facts *facts, struct error *err)
{
	const struct tap_config *config = &wish->config;
	const char *interface = facts->interface;
	const bool own = config->place.fds == 0 && config->place.helper[0] == '\0';
	int result = interface_find(interface, &facts->first, err);

	/* Of a device by name we know, as we opened it. */
	if (result == 0 && !own && interface_tap_has_info(interface)) {
		error_set(err, ERROR_SYSTEM, EBADF,
			  "%s has packet information before each frame", interface);
		error_detail(err, NULL, config->place.fds > 0 ? "fds" : "helper", NULL,
			     "a TAP that was opened with IFF_NO_PI");
		result = -EBADF;
	}
	if (result == 0)
		result = interface_set(interface, wish->mtu, &wish->mac, err);
	if (result == 0 && config->place.bridge[0] != '\0' && config->place.helper[0] == '\0')
		result = interface_join(interface, config->place.bridge, err);
	if (result == 0 && own)
		result = interface_bring_up(interface, err);
	for (uint32_t i = 0; result == 0 && i < wish->address_count; i++)
		result = interface_add_address(interface, &wish->addresses[i], err);
	if (result == 0)
		result = interface_find(interface, &facts->found, err);
	if (result == 0) {
		result = run_script(config->place.up_script, interface, fd, err);
		if (result != 0)
			error_detail(err, NULL, "up_script", config->place.up_script, NULL);
	}
	return result != 0 ? result : set_persist(wish, fd, facts, err);
}

int tap_device_open(const struct tap_wish *wish, int *fds, uint16_t count, struct tap_facts *facts,
		    struct error *err)
{
	int result = tap_source_open(&wish->config, fds, count, facts, err);
	int former = -1;

	if (result != 0)
		return result;
	/* All queues first: what one of them is told holds for the whole device. */
	for (uint16_t i = 0; result == 0 && i < count; i++)
		result = set_header(fds[i], facts, err);
	if (result == 0)
		result = change_queues(wish, fds, count, facts, err);
	if (result == 0)
		result = visit(facts->interface, fds[0], &former, err);
	if (result == 0)
		result = set_up(wish, fds[0], facts, err);
	namespace_leave(former);
	/* With its last descriptor goes an interface that does not persist. */
	if (result != 0)
		tap_source_close(fds, count);
	return result;
}

void tap_device_close(const struct tap_wish *wish, int *fds, uint16_t count)
{
	char name[IFNAMSIZ];
	struct error err;
	int former;

	if (wish->config.place.down_script[0] != '\0' && tap_device_is_there(fds[0], name)) {
		if (visit(name, fds[0], &former, &err) != 0 ||
		    run_script(wish->config.place.down_script, name, fds[0], &err) != 0)
			log_warning("tap", "%s: %s", name, err.message);
		namespace_leave(former);
	}
	tap_source_close(fds, count);
}
