/* SPDX-License-Identifier: BSD-3-Clause */
/* Ioctls and netlink messages for interfaces; port/interface.h is the contract. */
#include "port/interface.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

int interface_parse_address(const char *text, struct interface_address *address)
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

int interface_refuse(const char *interface, const char *what, const char *field, int errnum,
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

	return fd >= 0 ? fd : interface_refuse(interface, "nothing", NULL, errno, err);
}

static int set_mtu_and_mac(int fd, const char *interface, uint32_t mtu,
			   const struct param_mac *mac, struct error *err)
{
	struct ifreq request = request_for(interface);

	if (mtu != 0) {
		request.ifr_mtu = (int)mtu;
		if (ioctl(fd, SIOCSIFMTU, &request) != 0)
			return interface_refuse(interface, "the MTU", "mtu", errno, err);
	}
	if (mac->given) {
		request = request_for(interface);
		request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
		memcpy(request.ifr_hwaddr.sa_data, mac->mac, sizeof(mac->mac));
		if (ioctl(fd, SIOCSIFHWADDR, &request) != 0)
			return interface_refuse(interface, "the address", "mac", errno, err);
	}
	return 0;
}

int interface_set(const char *interface, uint32_t mtu, const struct param_mac *mac,
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
static int add_address(const char *interface, const struct interface_address *address)
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

int interface_add_address(const char *interface, const struct interface_address *address,
			  struct error *err)
{
	int result = add_address(interface, address);

	if (result != 0)
		return interface_refuse(interface, "an IP address", "addresses", -result, err);
	return 0;
}

int interface_bring_up(const char *interface, struct error *err)
{
	struct ifreq request = request_for(interface);
	int fd = open_socket(interface, err);
	int result = 0;

	if (fd < 0)
		return fd;
	if (ioctl(fd, SIOCGIFFLAGS, &request) == 0)
		request.ifr_flags |= IFF_UP;
	else
		result = -errno;
	if (result == 0 && ioctl(fd, SIOCSIFFLAGS, &request) != 0)
		result = -errno;
	close(fd);
	return result == 0 ? 0 : interface_refuse(interface, "\"up\"", NULL, -result, err);
}

int interface_find(const char *interface, struct interface_facts *facts, struct error *err)
{
	struct ifreq mtu = request_for(interface), mac = request_for(interface);
	int fd = open_socket(interface, err);
	int result = 0;

	if (fd < 0)
		return fd;
	if (ioctl(fd, SIOCGIFMTU, &mtu) != 0 || ioctl(fd, SIOCGIFHWADDR, &mac) != 0)
		result = -errno;
	close(fd);
	if (result != 0)
		return interface_refuse(interface, "nothing", NULL, -result, err);
	facts->mtu = (uint32_t)mtu.ifr_mtu;
	memcpy(facts->mac, mac.ifr_hwaddr.sa_data, sizeof(facts->mac));
	return 0;
}
