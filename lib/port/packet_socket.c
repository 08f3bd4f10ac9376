/* SPDX-License-Identifier: BSD-3-Clause */
/* Socket options and ioctls of packet sockets; port/packet_socket.h is the contract. */
#include "port/packet_socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if_arp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/*
 * What the kernel may hold of frames each way, with its own overhead twice that: about 20,000 small
 * frames, or 200 of 64 KiB, wait while a worker is kept away.
 */
#define BUFFER_SIZE (8 << 20)

/* ---- which frames come in ---- */

enum admission { ADMIT_NONE, ADMIT_OWN, ADMIT_ALL };

/*
 * What goes out of the interface never comes in. PACKET_IGNORE_OUTGOING spares the kernel the
 * trouble, but not where sockets share frames.
 */
static int admit(int fd, enum admission admission)
{
	const uint32_t foreign = admission == ADMIT_OWN ? PACKET_OTHERHOST : PACKET_OUTGOING;
	struct sock_filter lines[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_PKTTYPE)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PACKET_OUTGOING, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, foreign, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, admission == ADMIT_NONE ? 0 : UINT32_MAX),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	const struct sock_fprog filter = { sizeof(lines) / sizeof(lines[0]), lines };

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)) == 0 ? 0
											  : -errno;
}

int packet_socket_set_promiscuous(const int *fds, uint16_t count, bool promiscuous)
{
	struct packet_mreq wish = { .mr_type = PACKET_MR_PROMISC };
	struct packet_link link;
	int result = 0;

	for (uint16_t i = 0; i < count && result == 0; i++)
		result = admit(fds[i], promiscuous ? ADMIT_ALL : ADMIT_OWN);
	if (result != 0)
		return result;
	if (!packet_socket_find(fds[0], &link))
		return -ENODEV;
	wish.mr_ifindex = link.index;
	/* One socket's wish does for all. It may not have had it. */
	if (setsockopt(fds[0], SOL_PACKET,
		       promiscuous ? PACKET_ADD_MEMBERSHIP : PACKET_DROP_MEMBERSHIP, &wish,
		       sizeof(wish)) != 0 &&
	    (promiscuous || errno != EADDRNOTAVAIL))
		return -errno;
	return 0;
}

/* ---- opening ---- */

static int refuse(const char *interface, const char *what, int errnum, struct error *err)
{
	error_set(err, ERROR_SYSTEM, errnum, "%s: %s: %s", interface, what, strerror(errnum));
	error_detail(err, NULL, "interface", interface, NULL);
	return -errnum;
}

/* Returns its number, or -errno with err filled. */
static int find_ethernet(int fd, const char *interface, struct error *err)
{
	struct ifreq request = { .ifr_flags = 0 };
	int index;

	memcpy(request.ifr_name, interface, IFNAMSIZ);
	if (ioctl(fd, SIOCGIFINDEX, &request) != 0) {
		if (errno != ENODEV)
			return refuse(interface, "cannot be found", errno, err);
		error_set(err, ERROR_SYSTEM, ENODEV, "there is no interface %s", interface);
		error_detail(err, NULL, "interface", interface, "an Ethernet interface");
		return -ENODEV;
	}
	index = request.ifr_ifindex;
	/* By another name it would be taken for another interface. */
	if (ioctl(fd, SIOCGIFNAME, &request) == 0 && strcmp(request.ifr_name, interface) != 0) {
		error_set(err, ERROR_SYSTEM, EINVAL, "%s is another name of the interface %s",
			  interface, request.ifr_name);
		error_detail(err, NULL, "interface", interface, request.ifr_name);
		return -EINVAL;
	}
	if (ioctl(fd, SIOCGIFHWADDR, &request) != 0)
		return refuse(interface, "its kind cannot be found", errno, err);
	if (request.ifr_hwaddr.sa_family != ARPHRD_ETHER) {
		error_set(err, ERROR_SYSTEM, EINVAL, "%s is no Ethernet interface", interface);
		error_detail(err, NULL, "interface", interface, "an Ethernet interface");
		return -EINVAL;
	}
	return index;
}

static int switch_on(int fd, int option)
{
	int on = 1;

	return setsockopt(fd, SOL_PACKET, option, &on, sizeof(on));
}

/* As much as the kernel grants. */
static void set_buffers(int fd)
{
	int size = BUFFER_SIZE;

	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) != 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) != 0)
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}

/* Nothing comes in before it is bound, and then nothing as long as the filter is there. */
static int open_socket(const char *interface, int *fd, struct error *err)
{
	struct sockaddr_ll address = { .sll_family = AF_PACKET,
				       .sll_protocol = htons(ETH_P_ALL) };
	int result;

	*fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (*fd < 0 && errno == EPERM)
		return refuse(interface, "a packet socket takes the capability CAP_NET_RAW", EPERM,
			      err);
	if (*fd < 0)
		return refuse(interface, "a packet socket cannot be opened", errno, err);
	address.sll_ifindex = find_ethernet(*fd, interface, err);
	if (address.sll_ifindex < 0)
		return address.sll_ifindex;
	set_buffers(*fd);
	if (switch_on(*fd, PACKET_VNET_HDR) != 0)
		return refuse(interface, "the kernel gives no offload headers", errno, err);
	if (switch_on(*fd, PACKET_AUXDATA) != 0)
		return refuse(interface, "the kernel tells of no VLAN tags", errno, err);
	if (switch_on(*fd, PACKET_IGNORE_OUTGOING) != 0)
		return refuse(interface, "the kernel cannot leave out what is sent", errno, err);
	result = admit(*fd, ADMIT_NONE);
	if (result != 0)
		return refuse(interface, "no filter can be set", -result, err);
	if (bind(*fd, (struct sockaddr *)&address, sizeof(address)) != 0)
		return refuse(interface, "a packet socket cannot be bound", errno, err);
	return 0;
}

/*
 * A flow stays with one socket, in order: what one of them has no room for does not roll over to
 * another. The kernel chooses a number for the group that nobody has.
 */
static int join_group(const int *fds, uint16_t count, int *group)
{
	uint32_t wish = (PACKET_FANOUT_HASH | PACKET_FANOUT_FLAG_UNIQUEID) << 16;

	for (uint16_t i = 0; i < count; i++) {
		uint32_t joined;
		socklen_t size = sizeof(joined);

		if (setsockopt(fds[i], SOL_PACKET, PACKET_FANOUT, &wish, sizeof(wish)) != 0 ||
		    getsockopt(fds[i], SOL_PACKET, PACKET_FANOUT, &joined, &size) != 0)
			return -errno;
		*group = (uint16_t)joined;
		wish = PACKET_FANOUT_HASH << 16 | (uint16_t)joined;
	}
	return 0;
}

int packet_socket_open(const char *interface, bool promiscuous, int *fds, uint16_t count,
		       int *group, struct error *err)
{
	uint16_t opened = 0;
	int result = 0;

	*group = -1;
	while (opened < count && result == 0) {
		result = open_socket(interface, &fds[opened], err);
		if (fds[opened] >= 0)
			opened++;
	}
	if (result == 0 && count > 1) {
		result = join_group(fds, count, group);
		if (result != 0)
			refuse(interface, "its frames cannot be spread over queues", -result, err);
	}
	if (result == 0) {
		result = packet_socket_set_promiscuous(fds, count, promiscuous);
		if (result != 0)
			refuse(interface, "\"promiscuous\" cannot be set", -result, err);
	}
	if (result == 0)
		return 0;
	while (opened > 0)
		close(fds[--opened]);
	return result;
}

/* ---- questions ---- */

bool packet_socket_find(int fd, struct packet_link *link)
{
	struct sockaddr_ll address;
	socklen_t size = sizeof(address);
	struct ifreq request = { .ifr_flags = 0 };

	/* The kernel lets a socket forget its interface when that goes. */
	if (getsockname(fd, (struct sockaddr *)&address, &size) != 0 || address.sll_ifindex <= 0)
		return false;
	request.ifr_ifindex = address.sll_ifindex;
	if (ioctl(fd, SIOCGIFNAME, &request) != 0)
		return false;
	link->index = address.sll_ifindex;
	memcpy(link->name, request.ifr_name, sizeof(link->name));
	if (ioctl(fd, SIOCGIFMTU, &request) != 0)
		return false;
	link->mtu = (uint32_t)request.ifr_mtu;
	if (ioctl(fd, SIOCGIFFLAGS, &request) != 0)
		return false;
	link->up = request.ifr_flags & IFF_UP;
	link->carrier = request.ifr_flags & IFF_RUNNING;
	return true;
}

uint32_t packet_socket_take_drops(int fd)
{
	struct tpacket_stats stats = { .tp_drops = 0 };
	socklen_t size = sizeof(stats);

	getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &stats, &size);
	return stats.tp_drops;
}
