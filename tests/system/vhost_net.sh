#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# An ethdev port over /dev/vhost-net, for hosts that have it; elsewhere it is only seen refused.
# Two such ports in two network namespaces, ping and iperf3 between them. As root:
#
#     sh tests/system/vhost_net.sh [BUILD]
set -eu
build=$(realpath "${1:-build}")
[ -c /dev/vhost-net ] || { echo "no /dev/vhost-net here: modprobe vhost_net"; exit 77; }
home=$(mktemp -d)
daemon=
server=
cleanup() {
	[ -z "$server" ] || kill "$server" 2>/dev/null || true
	[ -z "$daemon" ] || { kill "$daemon" 2>/dev/null && wait "$daemon"; } || true
	for side in a b; do ip netns delete "rwvhost-$side" 2>/dev/null || true; done
	rm -rf "$home"
}
trap cleanup EXIT INT TERM

RUNTIME_DIRECTORY=$home "$build/app/ringwayd/ringwayd" --socket "$home/ringway.sock" &
daemon=$!
ctl() { "$build/app/ringwayctl/ringwayctl" --socket "$home/ringway.sock" "$@"; }
tries=0
until ctl system info >/dev/null 2>&1; do
	tries=$((tries + 1))
	[ "$tries" -lt 100 ] || { echo "the switch does not answer"; exit 1; }
	sleep 0.1
done
number=1
for side in a b; do
	ip netns add "rwvhost-$side"
	ctl port add "$side" type=ethdev "device=vhost-net:rwvh$side"
	ip link set "rwvh$side" netns "rwvhost-$side"
	ip -n "rwvhost-$side" address add "10.7.9.$number/24" dev "rwvh$side"
	ip -n "rwvhost-$side" link set "rwvh$side" up
	number=$((number + 1))
done
ip netns exec rwvhost-a ping -c 5 -i 0.2 10.7.9.2
ip netns exec rwvhost-a ping -c 5 -i 0.2 -s 4000 10.7.9.2
ip netns exec rwvhost-b iperf3 -s -1 >/dev/null &
server=$!
sleep 1
ip netns exec rwvhost-a iperf3 -c 10.7.9.2 -t 3
ctl stats get
for side in a b; do ctl port remove "$side"; done
echo "vhost-net: good"
