/* SPDX-License-Identifier: BSD-3-Clause */
/* Ioctls for a TAP interface; port/tap_device.h is the contract. */
#include "port/tap_device.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/virtio_net.h>

#define TUN_DEVICE "/dev/net/tun"

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

/* The interface gets what is wished for. */
static int set_up(const struct tap_wish *wish, int queue, struct tap_facts *facts,
		  struct error *err)
{
	const char *interface = facts->interface;
	int result = interface_set(interface, wish->mtu, &wish->mac, err);

	if (result == 0)
		result = interface_bring_up(interface, err);
	for (uint32_t i = 0; result == 0 && i < wish->address_count; i++)
		result = interface_add_address(interface, &wish->addresses[i], err);
	if (result == 0)
		result = interface_find(interface, &facts->found, err);
	if (result == 0 && wish->persist && ioctl(queue, TUNSETPERSIST, 1) != 0)
		return interface_refuse(interface, "\"persist\"", "persist", errno, err);
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
