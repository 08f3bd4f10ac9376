/* SPDX-License-Identifier: BSD-3-Clause */
/* Ioctls and netlink messages for interfaces; port/interface.h is the contract. */
#include "port/interface.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

int interface_check_name(const void *value, struct error *err)
{
	const char *name = value;

	if (name[0] != '\0' && strcmp(name, ".") != 0 && strcmp(name, "..") != 0 &&
	    strpbrk(name, "/: \t\n%") == NULL)
		return 0;
	error_detail(err, NULL, NULL, NULL, "1 to 15 bytes without white space, '/', ':' and '%'");
	return -EINVAL;
}

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

/* ---- rtnetlink(7) ---- */

/* Sends a request and receives the answer to it. Returns its length, or -errno. */
static ssize_t ask(const struct nlmsghdr *request, void *answer, size_t size)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	const struct nlmsghdr *header = answer;
	ssize_t length = -1;

	if (fd < 0)
		return -errno;
	if (send(fd, request, request->nlmsg_len, 0) >= 0)
		length = recv(fd, answer, size, 0);
	if (length < 0)
		length = -errno;
	else if (length < (ssize_t)NLMSG_LENGTH(sizeof(int)))
		length = -EIO;
	else if (header->nlmsg_type == NLMSG_ERROR)
		length = ((const struct nlmsgerr *)NLMSG_DATA(header))->error;
	close(fd);
	return length;
}

/* Takes several addresses an interface, and both families. */
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
	char answer[512];

	memcpy(request.local.bytes, address->bytes, length);
	request.header.nlmsg_len = (uint32_t)(NLMSG_LENGTH(sizeof(request.message)) +
					      RTA_SPACE(length));
	return (int)ask(&request.header, answer, sizeof(answer));
}

/* The attribute of this type among those that fill `length` bytes, or NULL. */
static const struct rtattr *find_attribute(const void *attributes, ssize_t length, int type)
{
	const struct rtattr *attribute = attributes;

	for (; RTA_OK(attribute, length); attribute = RTA_NEXT(attribute, length))
		if ((attribute->rta_type & NLA_TYPE_MASK) == type)
			return attribute;
	return NULL;
}

/* What the kernel tells of a TAP, or NULL; valid as long as the answer. */
static const struct rtattr *find_tap_fact(const char *interface, int type, char *answer,
					  size_t size)
{
	struct {
		struct nlmsghdr header;
		struct ifinfomsg message;
	} request = {
		.header = { .nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg)),
			    .nlmsg_type = RTM_GETLINK, .nlmsg_flags = NLM_F_REQUEST },
		.message = { .ifi_index = (int)if_nametoindex(interface) },
	};
	const int path[] = { IFLA_LINKINFO, IFLA_INFO_DATA, type };
	const struct rtattr *attribute = NULL;
	const char *at = answer + NLMSG_LENGTH(sizeof(struct ifinfomsg));
	ssize_t length;

	if (request.message.ifi_index == 0)
		return NULL;
	length = ask(&request.header, answer, size);
	length -= (ssize_t)NLMSG_LENGTH(sizeof(struct ifinfomsg));
	for (size_t i = 0; i < sizeof(path) / sizeof(path[0]); i++) {
		attribute = length > 0 ? find_attribute(at, length, path[i]) : NULL;
		if (attribute == NULL)
			return NULL;
		at = RTA_DATA(attribute);
		length = (ssize_t)RTA_PAYLOAD(attribute);
	}
	return attribute;
}

/* Enough for all that the kernel says of one interface. */
#define ANSWER_SIZE 16384

uint32_t interface_tap_queues(const char *interface)
{
	char answer[ANSWER_SIZE];
	const struct rtattr *fact = find_tap_fact(interface, IFLA_TUN_NUM_QUEUES, answer,
						  sizeof(answer));
	uint32_t count = 0;

	if (fact != NULL && RTA_PAYLOAD(fact) >= sizeof(count))
		memcpy(&count, RTA_DATA(fact), sizeof(count));
	return count;
}

bool interface_tap_has_info(const char *interface)
{
	char answer[ANSWER_SIZE];
	const struct rtattr *fact = find_tap_fact(interface, IFLA_TUN_PI, answer, sizeof(answer));

	return fact != NULL && RTA_PAYLOAD(fact) >= 1 && *(const uint8_t *)RTA_DATA(fact) != 0;
}

int interface_add_address(const char *interface, const struct interface_address *address,
			  struct error *err)
{
	int result = add_address(interface, address);

	if (result != 0)
		return interface_refuse(interface, "an IP address", "addresses", -result, err);
	return 0;
}

int interface_join(const char *interface, const char *bridge, struct error *err)
{
	struct ifreq request = request_for(bridge);
	int fd = open_socket(interface, err);
	int result = 0;

	if (fd < 0)
		return fd;
	request.ifr_ifindex = (int)if_nametoindex(interface);
	/* Whoever is in it already (EBUSY) may be in another one. */
	if (ioctl(fd, SIOCBRADDIF, &request) != 0)
		result = -errno;
	close(fd);
	if (result == 0)
		return 0;
	error_set(err, ERROR_SYSTEM, -result, "%s cannot join the bridge %s: %s", interface, bridge,
		  result == -EOPNOTSUPP ? "it is no bridge" : strerror(-result));
	error_detail(err, NULL, "bridge", bridge, "a bridge of the interface's namespace");
	return result;
}

int interface_bring_up(const char *interface, struct error *err)
{
	struct ifreq request = request_for(interface);
	int fd = open_socket(interface, err);
	int result = 0;

	if (fd < 0)
		return fd;
	if (ioctl(fd, SIOCGIFFLAGS, &request) != 0)
		result = -errno;
	/* Who may not bring it up can use one that is up. */
	if (result == 0 && !(request.ifr_flags & IFF_UP)) {
		request.ifr_flags |= IFF_UP;
		if (ioctl(fd, SIOCSIFFLAGS, &request) != 0)
			result = -errno;
	}
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
