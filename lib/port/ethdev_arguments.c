/* SPDX-License-Identifier: BSD-3-Clause */
/* The words for a device; port/ethdev_arguments.h is the contract. */
#include "port/ethdev_arguments.h"

#include <errno.h>
#include <libgen.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_dev.h>
#include <rte_devargs.h>
#include <rte_pci.h>

#define VHOST_NET "/dev/vhost-net"
#define VHOST_NET_PREFIX "vhost-net:"

#define PCI_ADDRESS_SIZE sizeof("0000:00:00.0")

const char ethdev_accepted[] =
	"a PCI address as \"0000:03:00.0\", \"vhost-net:IFNAME\", or a device of DPDK with its "
	"arguments as \"net_memif0,role=server\"; no white space";

int ethdev_refuse(const struct ethdev_wish *wish, const char *field, int errnum,
		  const char *accepted, struct error *err, const char *format, ...)
{
	char text[200];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	error_set(err, ERROR_SYSTEM, errnum, "%.*s: %s", (int)strcspn(wish->arguments, ","),
		  wish->arguments, text);
	error_detail(err, NULL, field, strcmp(field, "device") == 0 ? wish->arguments : NULL,
		     accepted);
	return -errnum;
}

/* ---- what the operator calls a device ---- */

static bool is_vhost_net(const char *arguments)
{
	return strncmp(arguments, VHOST_NET_PREFIX, strlen(VHOST_NET_PREFIX)) == 0;
}

int ethdev_check_arguments(const char *arguments, struct error *err)
{
	const size_t name = strcspn(arguments, ",");
	bool good = name > 0 && name < RTE_DEV_NAME_MAX_LEN &&
		    /* The other syntax of DPDK, whose names cannot be told apart. */
		    memchr(arguments, '=', name) == NULL && memchr(arguments, '/', name) == NULL;

	for (const char *c = arguments; *c != '\0'; c++)
		good = good && *c > ' ' && *c <= '~';
	if (is_vhost_net(arguments))
		good = good && arguments[name] == '\0' && name > strlen(VHOST_NET_PREFIX) &&
		       name < strlen(VHOST_NET_PREFIX) + 16;
	if (good && strncmp(arguments, "net_virtio_user", 15) == 0 &&
	    strstr(arguments, ",server=1") != NULL) {
		error_detail(err, NULL, NULL, NULL,
			     "no server=1, which waits for a back-end without end");
		return -EINVAL;
	}
	if (good)
		return 0;
	error_detail(err, NULL, NULL, NULL, ethdev_accepted);
	return -EINVAL;
}

int ethdev_make_arguments(const struct ethdev_wish *wish, char *text, size_t size,
			  struct error *err)
{
	const char *interface = wish->arguments + strlen(VHOST_NET_PREFIX);

	if (!is_vhost_net(wish->arguments)) {
		snprintf(text, size, "%s", wish->arguments);
		return 0;
	}
	if (access(VHOST_NET, R_OK | W_OK) != 0)
		return ethdev_refuse(wish, "device", errno,
			      "a host whose kernel has vhost_net, and the right to open it", err,
				     "cannot open %s: %s", VHOST_NET, strerror(errno));
	snprintf(text, size, "net_virtio_user_%s,path=%s,iface=%s,queues=%u,queue_size=%u",
		 interface, VHOST_NET, interface, wish->queues, ETHDEV_DESCRIPTORS);
	return 0;
}

/* ---- PCI devices ---- */

bool ethdev_is_pci(const char *name)
{
	struct rte_pci_addr parsed;

	return rte_pci_addr_parse(name, &parsed) == 0;
}

/* The driver of the kernel that a device is bound to, "" for none. */
static void find_kernel_driver(const char *address, char *name, size_t size)
{
	char path[64 + PCI_ADDRESS_SIZE], target[256];
	ssize_t length;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver", address);
	length = readlink(path, target, sizeof(target) - 1);
	target[length > 0 ? length : 0] = '\0';
	snprintf(name, size, "%s", length > 0 ? basename(target) : "");
}

/* Some drivers of DPDK would take a device from the kernel. The last three work beside theirs. */
static int check_pci(const struct ethdev_wish *wish, const char *name, struct error *err)
{
	static const char *const fit[] = { "vfio-pci", "uio_pci_generic", "igb_uio",
					   "mlx4_core", "mlx5_core", "mana", NULL };
	static const char *const accepted = "a device that is bound to vfio-pci";
	char address[PCI_ADDRESS_SIZE + 8], path[96], driver[64];
	struct rte_pci_addr parsed;

	if (rte_pci_addr_parse(name, &parsed) != 0)
		return 0;
	rte_pci_device_name(&parsed, address, sizeof(address));
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s", address);
	if (access(path, F_OK) != 0)
		return ethdev_refuse(wish, "device", ENODEV, accepted, err,
				     "there is no such PCI device");
	find_kernel_driver(address, driver, sizeof(driver));
	for (const char *const *one = fit; *one != NULL; one++)
		if (strcmp(driver, *one) == 0)
			return 0;
	if (driver[0] == '\0')
		return ethdev_refuse(wish, "device", ENODEV, accepted, err,
				     "the PCI device is bound to no driver");
	return ethdev_refuse(wish, "device", EBUSY, accepted, err,
			     "the PCI device belongs to the kernel's driver %s", driver);
}

/* ---- what the words say of the device ---- */

int ethdev_find_name(const struct ethdev_wish *wish, const char *arguments, char *name,
		     size_t size, struct error *err)
{
	struct rte_devargs parsed = { 0 };
	struct rte_pci_addr address;
	int result = rte_devargs_parse(&parsed, arguments);

	if (result == 0)
		snprintf(name, size, "%s", parsed.name);
	free(parsed.data);
	if (result != 0)
		return ethdev_refuse(wish, "device", EINVAL, ethdev_accepted, err,
				     "no driver has devices of that name");
	/* It may have been written in short. */
	if (rte_pci_addr_parse(name, &address) == 0)
		rte_pci_device_name(&address, name, size);
	return check_pci(wish, name, err);
}

bool ethdev_is_client(const char *driver, const char *arguments)
{
	if (strcmp(driver, "net_memif") == 0)
		return strstr(arguments, ",role=server") == NULL &&
		       strstr(arguments, ",role=master") == NULL;
	return strcmp(driver, "net_virtio_user") == 0 &&
	       strstr(arguments, ",path=" VHOST_NET) == NULL;
}

void ethdev_find_memif(const char *arguments, char *path, size_t size)
{
	const char *given = strstr(arguments, ",socket=");

	given = given != NULL ? given + strlen(",socket=") : "/run/memif.sock";
	snprintf(path, size, "%.*s", (int)strcspn(given, ","), given);
}
