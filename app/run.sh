#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Installs what ringway needs, builds it, and runs it: sudo sh app/run.sh [demo]
# Without `demo`: the switch with config/default.json, in the foreground until Ctrl-C.
# With it: a switch and two real guests, shown step by step in about a minute, and nothing left
# behind; the exit status says whether all went as it should.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
mode=${1-}
if [ $# -gt 1 ] || [ "${mode:-demo}" != demo ]; then
    echo "usage: $0 [demo]" >&2
    exit 2
fi

. "$root/app/install.sh"
# shellcheck disable=SC2086 # lists of words
install_packages $build_packages ${mode:+$guest_packages}
[ -f build/build.ninja ] || meson setup build --buildtype=release >&2
ninja -C build app/ringwayd/ringwayd app/ringwayctl/ringwayctl >&2

if [ "$mode" = demo ]; then
    [ -s build/guest/vmlinuz ] || echo "making the guests' image" >&2
    sh tests/system/guest/build.sh build/guest
    BUILD=$root/build exec /usr/bin/python3 -B tests/system/demo.py
fi

mkdir -p /run/ringway
chmod 0755 /run/ringway
control=/run/ringway/ringway.sock
daemon=
# Ctrl-C reaches the daemon as well; this only waits for its farewell.
trap : INT
trap '[ -z "$daemon" ] || kill "$daemon" 2>/dev/null || :' TERM

build/app/ringwayd/ringwayd --config config/default.json --socket "$control" &
daemon=$!
tries=100
until build/app/ringwayctl/ringwayctl --socket "$control" system.info >/dev/null 2>&1; do
    tries=$((tries - 1))
    if [ "$tries" -eq 0 ] || ! kill -0 "$daemon" 2>/dev/null; then
        echo "run.sh: the switch did not start; its own words are above" >&2
        kill "$daemon" 2>/dev/null || :
        exit 1
    fi
    sleep 0.1
done

cat <<END

The switch is running. Plug a VM in (and a second one with vm2.sock and another mac):

  qemu-system-x86_64 -machine q35,accel=kvm:tcg,memory-backend=mem -m 1G \\
    -object memory-backend-memfd,id=mem,size=1G,share=on \\
    -chardev socket,id=net,path=/run/ringway/vm1.sock,reconnect=1 \\
    -netdev vhost-user,id=net,chardev=net \\
    -device virtio-net-pci,netdev=net,mac=52:54:00:00:00:01 \\
    YOUR DISK AND CONSOLE OPTIONS

The guest's memory must be shared (share=on), or no frame gets through.
See what happens:

  sudo $root/build/app/ringwayctl/ringwayctl port list
  sudo $root/build/app/ringwayctl/ringwayctl port get name=vm1
  sudo $root/build/app/ringwayctl/ringwayctl stats get

Ctrl-C ends the switch.
END

status=0
while kill -0 "$daemon" 2>/dev/null; do
    wait "$daemon" && status=0 || status=$?
done
exit "$status"
