# SPDX-License-Identifier: BSD-3-Clause
# What ringway needs from Debian's packages, and a function that installs what is missing of it.
# Sourced by app/run.sh and tests/run.sh; runs nothing by itself.

# To build and run the switch.
build_packages="gcc libc6-dev meson ninja-build pkg-config libdpdk-dev libjansson-dev libevent-dev
libpcap-dev"

# For guests: what runs them, and what tests/system/guest/build.sh puts into them.
guest_packages="python3 qemu-system-x86 busybox-static cpio iperf3 ethtool tcpdump"

# To test it as well.
test_packages="$guest_packages libcmocka-dev clang python3-pytest python3-jsonschema python3-scapy
dpdk-dev strace ovmf iproute2 iputils-ping procps prometheus python3-prometheus-client chromium
fonts-dejavu-core tmux tshark"

# install_packages NAME...: installs those that are missing; without any it makes no call.
install_packages() {
    missing=
    for package; do
        case $(dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null) in
            *'install ok installed'*) ;;
            *) missing="$missing $package" ;;
        esac
    done
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        echo "missing packages, and only root can install them:$missing" >&2
        return 1
    fi
    echo "installing:$missing" >&2
    DEBIAN_FRONTEND=noninteractive
    export DEBIAN_FRONTEND
    apt-get update -q >&2 || echo "apt-get update failed; trying with the lists that are there" >&2
    # Tools are wanted, not the services that some packages start: no service starts meanwhile.
    policy=
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        policy=/usr/sbin/policy-rc.d
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"
    fi
    # shellcheck disable=SC2086 # a list of words
    apt-get install -q -y --no-install-recommends $missing >&2
    result=$?
    [ -z "$policy" ] || rm -f "$policy"
    return "$result"
}
