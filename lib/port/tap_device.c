/* SPDX-License-Identifier: BSD-3-Clause */
/* Ioctls and netlink messages for a TAP interface; port/tap_device.h is the contract. */
#include "port/tap_device.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/virtio_net.h>

#define TUN_DEVICE "/dev/net/tun"

int tap_address_parse(const char *text, struct tap_address *address)
{
	char host[INET6_ADDRSTRLEN];
	const char *slash = strchr(text, '/');
	unsigned long prefix;
	char *end;

	memset(address, 0, sizeof(*address));
	if (slash == NULL || (size_t)(slash - text) >= sizeof(host) || slash[1] < '0' ||
	    slash[1] > '9')
		return -EINVAL;
	memcpy(host, text, (size_t)(slash - text));
	host[slash - text] = '\0';
	address->family = strchr(host, ':') != NULL ? AF_INET6 : AF_INET;
	prefix = strtoul(slash + 1, &end, 10);
	if (*end != '\0' || prefix > (address->family == AF_INET6 ? 128 : 32) ||
	    inet_pton(address->family, host, address->bytes) != 1)
		return -EINVAL;
	address->prefix = (uint8_t)prefix;
	return 0;
}

/* ---- the descriptors ---- */

/* Why the kernel refused TUNSETIFF. */
static int refuse_interface(const struct tap_wish *wish, int errnum, struct error *err)
{
	const char *name = wish->interface[0] != '\0' ? wish->interface : "a new interface";
	const char *why = strerror(errnum);

	if (errnum == EBUSY)
		why = "another process has it open";
	else if (errnum == EPERM)
		why = "that takes the capability CAP_NET_ADMIN, or an interface of this user";
	else if (errnum == EINVAL)
		why = "it is no TAP interface, or has another number of queues";
	error_set(err, ERROR_SYSTEM, errnum, "%s cannot be opened as a TAP: %s", name, why);
	error_detail(err, NULL, "interface", wish->interface,
		     "a free name, or a TAP interface that nobody uses");
	return -errnum;
}

/* Opens one queue of the interface, whose name the kernel writes down if it chooses it. */
static int open_queue(const struct tap_wish *wish, char *interface, bool several, int *fd,
		      struct error *err)
{
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int size = sizeof(struct virtio_net_hdr);
	int errnum;

	*fd = open(TUN_DEVICE, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (*fd < 0) {
		errnum = errno;
		error_set(err, ERROR_SYSTEM, errnum, "cannot open %s: %s", TUN_DEVICE,
			  strerror(errnum));
		return -errnum;
	}
	if (several)
		request.ifr_flags |= IFF_MULTI_QUEUE;
	memcpy(request.ifr_name, interface, sizeof(request.ifr_name));
	if (ioctl(*fd, TUNSETIFF, &request) != 0)
		return refuse_interface(wish, errno, err);
	memcpy(interface, request.ifr_name, sizeof(request.ifr_name));
	/* A former owner may have left any header size and offloads. */
	if (ioctl(*fd, TUNSETVNETHDRSZ, &size) != 0) {
		errnum = errno;
		error_set(err, ERROR_SYSTEM, errnum,
			  "%s takes no offload header of %d bytes: %s", interface, size,
			  strerror(errnum));
		return -errnum;
	}
	errnum = -tap_device_offload(*fd, &wish->offloads);
	if (errnum != 0) {
		error_set(err, ERROR_SYSTEM, errnum, "%s does not take the port's offloads: %s",
			  interface, strerror(errnum));
		error_detail(err, NULL, "offloads", NULL, NULL);
	}
	return -errnum;
}

int tap_device_offload(int fd, const struct offload_switches *offloads)
{
	unsigned long flags = 0;

	if (offloads->checksum)
		flags |= TUN_F_CSUM;
	if (offloads->checksum && offloads->tso)
		flags |= TUN_F_TSO4 | TUN_F_TSO6;
	if (offloads->checksum && offloads->tso && offloads->ecn)
		flags |= TUN_F_TSO_ECN;
	if (offloads->checksum && offloads->ufo &&
	    ioctl(fd, TUNSETOFFLOAD, flags | TUN_F_UFO) == 0)
		return 0;
	return ioctl(fd, TUNSETOFFLOAD, flags) == 0 ? 0 : -errno;
}

bool tap_device_is_there(int fd, char name[IFNAMSIZ])
{
	struct ifreq request = { .ifr_flags = 0 };

	if (ioctl(fd, TUNGETIFF, &request) != 0)
		return false;
	memcpy(name, request.ifr_name, IFNAMSIZ);
	return true;
}

/* ---- the interface ---- */

static int refuse_setting(const char *interface, const char *what, const char *field, int errnum,
			  struct error *err)
{
	error_set(err, ERROR_SYSTEM, errnum, "%s: %s cannot be set: %s", interface, what,
		  strerror(errnum));
	error_detail(err, NULL, field, NULL, NULL);
	return -errnum;
}

static struct ifreq request_for(const char *interface)
{
	struct ifreq request = { .ifr_flags = 0 };

	memcpy(request.ifr_name, interface, sizeof(request.ifr_name));
	return request;
}

/* A socket to configure interfaces by. Returns it, or -errno with err filled. */
static int open_socket(const char *interface, struct error *err)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	return fd >= 0 ? fd : refuse_setting(interface, "nothing", NULL, errno, err);
}

static int set_mtu_and_mac(int fd, const char *interface, uint32_t mtu,
			   const struct param_mac *mac, struct error *err)
{
	struct ifreq request = request_for(interface);

	if (mtu != 0) {
		request.ifr_mtu = (int)mtu;
		if (ioctl(fd, SIOCSIFMTU, &request) != 0)
			return refuse_setting(interface, "the MTU", "mtu", errno, err);
	}
	if (mac->given) {
		request = request_for(interface);
		request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
		memcpy(request.ifr_hwaddr.sa_data, mac->mac, sizeof(mac->mac));
		if (ioctl(fd, SIOCSIFHWADDR, &request) != 0)
			return refuse_setting(interface, "the address", "mac", errno, err);
	}
	return 0;
}

int tap_device_set(const char *interface, uint32_t mtu, const struct param_mac *mac,
		   struct error *err)
{
	int fd = open_socket(interface, err);
	int result;

	if (fd < 0)
		return fd;
	result = set_mtu_and_mac(fd, interface, mtu, mac, err);
	close(fd);
	return result;
}

/* RTM_NEWADDR (rtnetlink(7)): takes several addresses an interface, and both families. */
static int add_address(const char *interface, const struct tap_address *address)
{
	const uint16_t length = address->family == AF_INET ? 4 : 16;
	struct {
		struct nlmsghdr header;
		struct ifaddrmsg message;
		struct {
			struct rtattr header;
			uint8_t bytes[16];
		} local;
	} request = {
		.header = { .nlmsg_type = RTM_NEWADDR,
			    .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE |
					   NLM_F_REPLACE },
		.message = { .ifa_family = address->family, .ifa_prefixlen = address->prefix,
			     .ifa_index = if_nametoindex(interface) },
		.local = { .header = { .rta_type = IFA_LOCAL,
				       .rta_len = (unsigned short)RTA_LENGTH(length) } },
	};
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
		uint8_t more[256];
	} answer;
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	int result = 0;

	if (fd < 0)
		return -errno;
	memcpy(request.local.bytes, address->bytes, length);
	request.header.nlmsg_len = (uint32_t)(NLMSG_LENGTH(sizeof(request.message)) +
					      RTA_SPACE(length));
	if (send(fd, &request, request.header.nlmsg_len, 0) < 0 ||
	    recv(fd, &answer, sizeof(answer), 0) <
		    (ssize_t)NLMSG_LENGTH(sizeof(answer.error.error)))
		result = -errno;
	else if (answer.header.nlmsg_type == NLMSG_ERROR)
		result = answer.error.error;
	close(fd);
	return result;
}

static int add_addresses(const char *interface, const struct tap_wish *wish, struct error *err)
{
	for (uint32_t i = 0; i < wish->address_count; i++) {
		int result = add_address(interface, &wish->addresses[i]);

		if (result != 0)
			return refuse_setting(interface, "an IP address", "addresses", -result,
					      err);
	}
	return 0;
}

static int bring_up(int fd, const char *interface, struct error *err)
{
	struct ifreq request = request_for(interface);

	if (ioctl(fd, SIOCGIFFLAGS, &request) == 0) {
		request.ifr_flags |= IFF_UP;
		if (ioctl(fd, SIOCSIFFLAGS, &request) == 0)
			return 0;
	}
	return refuse_setting(interface, "\"up\"", NULL, errno, err);
}

/* What the interface has now. */
static int find_facts(int fd, struct tap_facts *facts, struct error *err)
{
	struct ifreq request = request_for(facts->interface);

	if (ioctl(fd, SIOCGIFMTU, &request) != 0)
		return refuse_setting(facts->interface, "nothing", NULL, errno, err);
	facts->mtu = (uint32_t)request.ifr_mtu;
	if (ioctl(fd, SIOCGIFHWADDR, &request) != 0)
		return refuse_setting(facts->interface, "nothing", NULL, errno, err);
	memcpy(facts->mac, request.ifr_hwaddr.sa_data, sizeof(facts->mac));
	return 0;
}

static int set_up(const struct tap_wish *wish, int queue, struct tap_facts *facts,
		  struct error *err)
{
	int fd = open_socket(facts->interface, err);
	int result;

	if (fd < 0)
		return fd;
	result = set_mtu_and_mac(fd, facts->interface, wish->mtu, &wish->mac, err);
	if (result == 0)
		result = bring_up(fd, facts->interface, err);
	if (result == 0)
		result = add_addresses(facts->interface, wish, err);
	if (result == 0)
		result = find_facts(fd, facts, err);
	close(fd);
	if (result == 0 && wish->persist && ioctl(queue, TUNSETPERSIST, 1) != 0)
		return refuse_setting(facts->interface, "\"persist\"", "persist", errno, err);
	return result;
}

int tap_device_open(const struct tap_wish *wish, int *fds, uint16_t count, struct tap_facts *facts,
		    struct error *err)
{
	uint16_t opened = 0;
	int result = 0;

	memset(facts, 0, sizeof(*facts));
	memcpy(facts->interface, wish->interface, sizeof(facts->interface));
	facts->made = wish->interface[0] == '\0' || if_nametoindex(wish->interface) == 0;
	while (opened < count && result == 0) {
		result = open_queue(wish, facts->interface, count > 1, &fds[opened], err);
		if (fds[opened] >= 0)
			opened++;
	}
	if (result == 0)
		result = set_up(wish, fds[0], facts, err);
	if (result == 0)
		return 0;
	/* With its last descriptor goes an interface that does not persist. */
	while (opened > 0)
		close(fds[--opened]);
	return result;
}
