#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Makes the test guest from Debian's packages: OUTDIR/vmlinuz (the cloud kernel, unpacked, not
# installed) and OUTDIR/initramfs.gz (busybox, the virtio modules, iperf3, ethtool, tcpdump,
# and init, blackout.c and udpecho.c beside this script). Usage: build.sh OUTDIR. Does nothing while
# both are newer than their sources.
set -eu

if [ $# -ne 1 ]; then
    echo "usage: $0 OUTDIR" >&2
    exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)

fresh() {
    [ -s "$1" ] && [ "$1" -nt "$here/build.sh" ] && [ "$1" -nt "$here/init" ] &&
        [ "$1" -nt "$here/blackout.c" ] && [ "$1" -nt "$here/udpecho.c" ]
}
if fresh "$out/vmlinuz" && fresh "$out/initramfs.gz"; then
    exit 0
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
chmod 755 "$work" # the package manager downloads as a user of its own

# linux-image-cloud-amd64 is an empty package whose first dependency is the current kernel.
package=$(apt-cache show --no-all-versions linux-image-cloud-amd64 |
          sed -n 's/^Depends: \(linux-image-[^ ,]*\).*/\1/p')
if [ -z "$package" ]; then
    echo "$0: apt knows no linux-image-cloud-amd64 (is 'apt-get update' missing?)" >&2
    exit 1
fi
(cd "$work" && apt-get download -q -o APT::Sandbox::User=root "$package")
dpkg-deb -x "$work/$package"_*.deb "$work/kernel"

root=$work/root
mkdir -p "$root/bin" "$root/modules" "$root/etc"
echo root:x:0:0::/:/bin/sh >"$root/etc/passwd" # tcpdump looks itself up
cp "$here/init" "$root/init"
chmod 755 "$root/init"
cp "$(command -v busybox)" "$root/bin/busybox"
for program in iperf3 ethtool tcpdump; do
    if ! path=$(PATH=/usr/bin:/usr/sbin:/bin:/sbin command -v $program); then
        echo "$0: $program is not installed" >&2
        exit 1
    fi
    cp "$path" "$root/bin/$program"
    # The third word of a line "name => path (address)", or the first of "path (address)".
    ldd "$path" | sed -n 's/^[^/]*\(\/[^ ]*\) (.*/\1/p' | while read -r library; do
        mkdir -p "$root$(dirname "$library")"
        cp -L "$library" "$root$library"
    done
done
for program in blackout udpecho; do
    cc -std=c11 -D_GNU_SOURCE -O2 -static -o "$root/bin/$program" "$here/$program.c"
done
# Each module needs those before it. Some are loaded only by tests that want them.
boot_modules="virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci
failover net_failover virtio_net"
vlan_modules="llc stp garp mrp 8021q"
for module in $boot_modules $vlan_modules; do
    find "$work/kernel" -name "$module.ko" -exec cp {} "$root/modules/" \;
    if [ ! -s "$root/modules/$module.ko" ]; then
        echo "$0: $package has no module $module" >&2
        exit 1
    fi
done
printf '%s\n' $boot_modules >"$root/modules/order"
printf '%s\n' $vlan_modules >"$root/modules/vlan"

(cd "$root" && find . | cpio --quiet -o -H newc) | gzip -1 >"$out/initramfs.gz.new"
cp "$work"/kernel/boot/vmlinuz-* "$out/vmlinuz.new"
mv "$out/initramfs.gz.new" "$out/initramfs.gz"
mv "$out/vmlinuz.new" "$out/vmlinuz"
