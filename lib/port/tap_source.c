/* SPDX-License-Identifier: BSD-3-Clause */
/* Descriptors of a TAP interface; port/tap_source.h is the contract. */
#include "port/tap_source.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/program.h"
#include "port/namespace.h"
#include "port/tap_device.h"

#define TUN_DEVICE "/dev/net/tun"
#define HELPER_SECONDS 10
#define DEFAULT_BRIDGE "br0"

void tap_source_close(int *fds, uint16_t count)
{
	for (uint16_t i = 0; i < count; i++) {
		close(fds[i]);
		fds[i] = -1;
	}
}

/* ---- by name ---- */

/* Why the kernel refused TUNSETIFF. */
static int refuse_interface(const struct tap_config *config, int errnum, struct error *err)
{
	const char *wanted = config->place.interface;
	const char *why = strerror(errnum);

	if (errnum == EBUSY)
		why = "another process has it open";
	else if (errnum == EPERM)
		why = "that takes the capability CAP_NET_ADMIN, or an interface of this user";
	else if (errnum == EINVAL)
		why = "it is no TAP interface, or has another number of queues";
	error_set(err, ERROR_SYSTEM, errnum, "%s cannot be opened as a TAP: %s",
		  wanted[0] != '\0' ? wanted : "a new interface", why);
	error_detail(err, NULL, "interface", wanted,
		     "a free name, or a TAP interface that nobody uses");
	return -errnum;
}

/* Opens one queue of the interface, whose name the kernel writes down if it chooses it. */
static int open_queue(const struct tap_config *config, char *interface, bool several, int *fd,
		      struct error *err)
{
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI };

	*fd = open(TUN_DEVICE, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (*fd < 0)
		return error_set(err, ERROR_SYSTEM, errno, "cannot open %s: %s", TUN_DEVICE,
				 strerror(errno));
	if (config->place.vnet_header != TAP_VNET_OFF)
		request.ifr_flags |= IFF_VNET_HDR;
	if (several)
		request.ifr_flags |= IFF_MULTI_QUEUE;
	memcpy(request.ifr_name, interface, sizeof(request.ifr_name));
	if (ioctl(*fd, TUNSETIFF, &request) != 0) {
		int errnum = errno;

		tap_source_close(fd, 1);
		return refuse_interface(config, errnum, err);
	}
	memcpy(interface, request.ifr_name, sizeof(request.ifr_name));
	return 0;
}

static int open_queues(const struct tap_config *config, int *fds, uint16_t count,
		       struct tap_facts *facts, struct error *err)
{
	const char *wanted = config->place.interface;
	uint16_t opened = 0;
	int result = 0;

	memcpy(facts->interface, wanted, sizeof(facts->interface));
	facts->origin = wanted[0] == '\0' || if_nametoindex(wanted) == 0 ? "made" : "taken over";
	/* Of several queues the kernel would give us some beside another owner's. */
	if (count > 1 && interface_tap_queues(wanted) > 0)
		return refuse_interface(config, EBUSY, err);
	while (opened < count && result == 0) {
		result = open_queue(config, facts->interface, count > 1, &fds[opened], err);
		if (result == 0)
			opened++;
	}
	if (result != 0)
		tap_source_close(fds, opened);
	return result;
}

/* The namespace matters while the device is opened: what is made then stays there. */
static int open_by_name(const struct tap_config *config, int *fds, uint16_t count,
			struct tap_facts *facts, struct error *err)
{
	const char *netns = config->place.netns;
	int former = -1;
	int result;

	if (netns[0] != '\0') {
		int namespace = namespace_open(netns, err);

		if (namespace < 0)
			return namespace;
		former = namespace_enter(namespace);
		if (former < 0) {
			error_set(err, ERROR_SYSTEM, -former,
				  "the network namespace %s cannot be entered: %s", netns,
				  strerror(-former));
			error_detail(err, NULL, "netns", netns, "a network namespace");
			return former;
		}
	}
	result = open_queues(config, fds, count, facts, err);
	namespace_leave(former);
	facts->header = config->place.vnet_header == TAP_VNET_OFF ? 0 : 10;
	return result;
}

/* ---- adopted ---- */

/* Is this a queue of the same TAP as those before it? Learns what kind of device it is. */
static int adopt(int fd, uint16_t index, struct tap_facts *facts, struct error *err)
{
	struct ifreq request = { .ifr_flags = 0 };
	uint32_t header;
	const char *why = NULL;

	if (ioctl(fd, TUNGETIFF, &request) != 0)
		why = errno == EBADFD ? "its interface was deleted, or was never there"
				      : "it is no TAP device";
	else if (!(request.ifr_flags & IFF_TAP))
		why = "it is a TUN device, without Ethernet headers";
	/* Whether it has packet information is not told: IFF_NOFILTER has the bit of IFF_NO_PI. */
	header = request.ifr_flags & IFF_VNET_HDR ? 10 : 0;
	if (why == NULL && index == 0) {
		memcpy(facts->interface, request.ifr_name, sizeof(facts->interface));
		facts->header = header;
	} else if (why == NULL && strcmp(facts->interface, request.ifr_name) != 0) {
		why = "it belongs to another interface than the first";
	} else if (why == NULL && facts->header != header) {
		why = "only some of the descriptors have an offload header";
	}
	if (why != NULL) {
		error_set(err, ERROR_SYSTEM, EBADF, "descriptor %u cannot be adopted: %s",
			  index + 1u, why);
		error_detail(err, NULL, "fds", NULL,
			     "open descriptors of one TAP interface (IFF_TAP, IFF_NO_PI)");
		return -EBADF;
	}
	if (fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK) != 0)
		return error_set(err, ERROR_SYSTEM, errno, "descriptor %u cannot be adopted: %s",
				 index + 1u, strerror(errno));
	return 0;
}

static int adopt_all(int *fds, uint16_t count, struct tap_facts *facts, struct error *err)
{
	int result = 0;

	for (uint16_t i = 0; result == 0 && i < count; i++)
		result = adopt(fds[i], i, facts, err);
	if (result != 0)
		tap_source_close(fds, count);
	return result;
}

/* ---- from a helper ---- */

/* The one descriptor that waits in the socket. Returns it, or -1. */
static int receive_descriptor(int fd)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	char byte;
	struct iovec data = { &byte, 1 };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control,
				  .msg_controllen = sizeof(control) };
	const struct cmsghdr *part;
	int received = -1;

	if (recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) <= 0)
		return -1;
	part = CMSG_FIRSTHDR(&message);
	if (part != NULL && part->cmsg_level == SOL_SOCKET && part->cmsg_type == SCM_RIGHTS)
		memcpy(&received, CMSG_DATA(part), sizeof(received));
	return received;
}

/* The protocol of QEMU's bridge helper. */
static int run_helper(const struct tap_config *config, int socket, struct error *err)
{
	const char *helper = config->place.helper;
	const char *bridge = config->place.bridge[0] != '\0' ? config->place.bridge
							     : DEFAULT_BRIDGE;
	char fd_option[16], bridge_option[IFNAMSIZ + 8];
	char command[TAP_PATH_SIZE + sizeof(fd_option) + sizeof(bridge_option) + 16];
	const char *const direct[] = { helper, "--use-vnet", fd_option, bridge_option, NULL };
	const char *const shell[] = { "/bin/sh", "-c", command, NULL };
	const bool is_command = strpbrk(helper, " \t") != NULL;

	snprintf(fd_option, sizeof(fd_option), "--fd=%d", PROGRAM_FD);
	snprintf(bridge_option, sizeof(bridge_option), "--br=%s", bridge);
	/* Whoever writes a command line may name the bridge there. */
	snprintf(command, sizeof(command), "%s --use-vnet %s %s", helper, fd_option,
		 strstr(helper, "--br=") == NULL ? bridge_option : "");
	return program_run(is_command ? shell : direct, socket, HELPER_SECONDS, err);
}

static int open_by_helper(const struct tap_config *config, int *fds, struct tap_facts *facts,
			  struct error *err)
{
	int pair[2];
	int result;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
		return error_set(err, ERROR_SYSTEM, errno, "no socket for the helper: %s",
				 strerror(errno));
	result = run_helper(config, pair[1], err);
	close(pair[1]);
	fds[0] = receive_descriptor(pair[0]);
	close(pair[0]);
	if (result == 0 && fds[0] < 0)
		result = error_set(err, ERROR_SYSTEM, EBADF, "%s passed no descriptor",
				   config->place.helper);
	/* Its status counts even where a descriptor came. */
	if (result != 0 && fds[0] >= 0)
		tap_source_close(fds, 1);
	if (result != 0)
		error_detail(err, NULL, "helper", config->place.helper,
			     "a program that speaks as QEMU's bridge helper does");
	return result != 0 ? result : adopt_all(fds, 1, facts, err);
}

int tap_source_open(const struct tap_config *config, int *fds, uint16_t count,
		    struct tap_facts *facts, struct error *err)
{
	int result;

	memset(facts, 0, sizeof(*facts));
	facts->swap = config->place.endian != TAP_ENDIAN_HOST &&
		      (config->place.endian == TAP_ENDIAN_LITTLE) != (BYTE_ORDER == LITTLE_ENDIAN);
	if (config->place.helper[0] != '\0') {
		facts->origin = "helper";
		result = open_by_helper(config, fds, facts, err);
	} else if (config->place.fds > 0) {
		facts->origin = "descriptors";
		result = adopt_all(fds, count, facts, err);
	} else {
		result = open_by_name(config, fds, count, facts, err);
	}
	if (config->place.vnet_header == TAP_VNET_12)
		facts->header = 12;
	return result;
}
