/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A guest that loads a switch: two ports of any DPDK driver (virtio-user ones, for bench.py),
 * polled by one thread.
 *
 *     guest EAL-ARGUMENTS -- --size BYTES --frames N    closed loop
 *     guest EAL-ARGUMENTS -- --size BYTES --fresh       open loop
 *
 * In the closed loop N frames of each port circulate: what arrives at one port is sent on the other
 * one, so that each port gets its own frames back through the switch. As in a forwarding guest the
 * Ethernet header is written for each frame, and the payload stays as the switch wrote it. In the
 * open loop the first port sends as much as finds room, and every byte of every frame is written
 * just before, as applications do; the second port takes what arrives.
 *
 * Frames beyond 1,514 bytes are TSO frames. Each arriving frame is checked: its length, for TSO its
 * segment size, and in the open loop the end of one frame a burst. "ready" is printed when both
 * ports have been reached; from then on each line on stdin is answered with the counters. With the
 * line "stop" nothing more is sent, and the answer comes when what was under way has arrived: then
 * what was sent and has not been received is lost.
 */
#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_ip.h>
#include <rte_launch.h>
#include <rte_mbuf.h>
#include <rte_tcp.h>

#define BURST 32
#define TSO_BURST 4 /* what is written in one go stays in the cache */
#define POOL_SIZE 4096
#define PLAIN_MAX 1514
#define FRAME_MAX (14 + 65535)
#define ANNOUNCE_SIZE 60
#define ANNOUNCE_MS 10
#define QUIET_ROUNDS 5 /* of ANNOUNCE_MS, after which nothing is under way any more */
#define ANNOUNCE_ROUNDS 4096 /* of the open loop: between two frames of its receiver */

/* A segment's payload where the path has an MTU of 1,500 and TCP carries timestamps. */
#define SEGMENT 1448

/* Ethernet, IPv4 and TCP; they lie in the first piece of a frame. */
struct headers {
	struct rte_ether_hdr ethernet;
	struct rte_ipv4_hdr ip;
	struct rte_tcp_hdr tcp;
} __rte_packed __rte_aligned(2);

/* w: main, r: the polling thread */
static bool stopped;

static struct options {
	uint32_t size;
	uint16_t frames;
	bool fresh;
	bool tso;
} options;

/* Buffers of received frames, and of those that are made here. */
static struct rte_mempool *receive_pool, *send_pool;
static struct rte_ether_addr macs[2];

/* w: the polling thread, r: main */
static struct {
	uint64_t sent, received, wrong;
} counters;

static _Noreturn void fail(const char *what)
{
	fprintf(stderr, "guest: %s\n", what);
	exit(1);
}

static void count(uint64_t *counter, uint64_t amount)
{
	__atomic_store_n(counter, *counter + amount, __ATOMIC_RELAXED);
}

/* ---- frames ---- */

static void write_addresses(struct rte_mbuf *frame, uint16_t from)
{
	struct rte_ether_hdr *ethernet = rte_pktmbuf_mtod(frame, struct rte_ether_hdr *);

	ethernet->dst_addr = macs[!from];
	ethernet->src_addr = macs[from];
	ethernet->ether_type = RTE_BE16(RTE_ETHER_TYPE_IPV4);
}

static void ask_for_offloads(struct rte_mbuf *frame)
{
	frame->ol_flags = options.tso ? RTE_MBUF_F_TX_TCP_SEG | RTE_MBUF_F_TX_TCP_CKSUM |
						RTE_MBUF_F_TX_IPV4
				      : 0;
	frame->l2_len = sizeof(struct rte_ether_hdr);
	frame->l3_len = sizeof(struct rte_ipv4_hdr);
	frame->l4_len = sizeof(struct rte_tcp_hdr);
	frame->tso_segsz = SEGMENT;
}

static void write_headers(struct rte_mbuf *frame, uint16_t from, uint8_t fill)
{
	struct headers *headers = rte_pktmbuf_mtod(frame, struct headers *);

	write_addresses(frame, from);
	headers->ip = (struct rte_ipv4_hdr){
		.version_ihl = RTE_IPV4_VHL_DEF,
		.total_length = rte_cpu_to_be_16(
			(uint16_t)(frame->pkt_len - sizeof(headers->ethernet))),
		.packet_id = rte_cpu_to_be_16(fill),
		.time_to_live = 64,
		.next_proto_id = IPPROTO_TCP,
		.src_addr = RTE_BE32(RTE_IPV4(10, 0, 0, 1)),
		.dst_addr = RTE_BE32(RTE_IPV4(10, 0, 0, 2)),
	};
	headers->tcp = (struct rte_tcp_hdr){ .src_port = RTE_BE16(40000),
					     .dst_port = RTE_BE16(5001),
					     .data_off = sizeof(headers->tcp) / 4 << 4,
					     .tcp_flags = RTE_TCP_ACK_FLAG };
}

/* A new frame of `size` bytes, all of which are written; NULL without buffers. */
static struct rte_mbuf *make_frame(uint16_t from, uint32_t size, uint8_t fill)
{
	struct rte_mbuf *frame = rte_pktmbuf_alloc(send_pool);

	for (struct rte_mbuf *piece = frame; piece != NULL; piece = piece->next) {
		uint32_t left = size - frame->pkt_len;
		uint16_t room = rte_pktmbuf_tailroom(piece);

		piece->data_len = left < room ? (uint16_t)left : room;
		frame->pkt_len += piece->data_len;
		memset(rte_pktmbuf_mtod(piece, void *), fill, piece->data_len);
		if (frame->pkt_len == size) {
			write_headers(frame, from, fill);
			return frame;
		}
		piece->next = rte_pktmbuf_alloc(send_pool);
		frame->nb_segs++;
	}
	rte_pktmbuf_free(frame);
	return NULL;
}

/* Did the frame arrive as it was sent? */
static bool is_whole(const struct rte_mbuf *frame)
{
	return frame->pkt_len == options.size &&
	       (!options.tso ||
		(frame->ol_flags & RTE_MBUF_F_RX_LRO && frame->tso_segsz == SEGMENT));
}

static bool has_its_end(struct rte_mbuf *frame)
{
	const struct headers *headers = rte_pktmbuf_mtod(frame, const struct headers *);
	const struct rte_mbuf *last = rte_pktmbuf_lastseg(frame);

	return *rte_pktmbuf_mtod_offset(last, const uint8_t *, last->data_len - 1) ==
	       (uint8_t)rte_be_to_cpu_16(headers->ip.packet_id);
}

static bool is_stopped(void)
{
	return __atomic_load_n(&stopped, __ATOMIC_RELAXED);
}

/* ---- traffic ---- */

/* Sends all, however long it takes. */
static void send_all(uint16_t port, struct rte_mbuf **frames, uint16_t amount)
{
	for (uint16_t done = 0; done < amount;)
		done = (uint16_t)(done + rte_eth_tx_burst(port, 0, frames + done,
							  (uint16_t)(amount - done)));
}

static void send_announcement(uint16_t from)
{
	struct rte_mbuf *frame = make_frame(from, ANNOUNCE_SIZE, 0);

	if (frame != NULL && rte_eth_tx_burst(from, 0, &frame, 1) == 0)
		rte_pktmbuf_free(frame);
}

static uint16_t throw_away(uint16_t port)
{
	struct rte_mbuf *frames[BURST];
	uint16_t amount = rte_eth_rx_burst(port, 0, frames, BURST);

	rte_pktmbuf_free_bulk(frames, amount);
	return amount;
}

/* Sends single frames until both ports have received one: the switch is there, and knows them. */
static void reach_both(void)
{
	bool reached[2] = { false, false };

	while (!reached[0] || !reached[1]) {
		for (uint16_t port = 0; port < 2; port++) {
			struct rte_eth_link link;

			/* A virtio-user port that listens accepts its switch in here. */
			rte_eth_link_get_nowait(port, &link);
			send_announcement(port);
		}
		rte_delay_us_sleep(ANNOUNCE_MS * 1000);
		for (uint16_t port = 0; port < 2; port++)
			while (throw_away(port) > 0)
				reached[port] = true;
	}
}

/* Takes with take(port) until nothing has come for a while. */
static void drain(uint16_t (*take)(uint16_t port))
{
	for (unsigned int quiet = 0; quiet < QUIET_ROUNDS; quiet++) {
		rte_delay_us_sleep(ANNOUNCE_MS * 1000);
		while (take(0) + take(1) > 0)
			quiet = 0;
	}
}

/* Counts and checks what has arrived. Puts the whole frames first, frees others. */
static uint16_t receive(uint16_t port, struct rte_mbuf **frames, uint16_t *whole)
{
	uint16_t amount = rte_eth_rx_burst(port, 0, frames, BURST);

	*whole = 0;
	for (uint16_t i = 0; i < amount; i++) {
		if (is_whole(frames[i])) {
			frames[(*whole)++] = frames[i];
			continue;
		}
		count(&counters.wrong, frames[i]->pkt_len != ANNOUNCE_SIZE);
		rte_pktmbuf_free(frames[i]);
	}
	count(&counters.received, *whole);
	return amount;
}

static uint16_t receive_last(uint16_t port)
{
	struct rte_mbuf *frames[BURST];
	uint16_t whole, amount = receive(port, frames, &whole);

	rte_pktmbuf_free_bulk(frames, whole);
	return amount;
}

/* What has arrived at this port goes out of the other one. */
static void pass_on(uint16_t port)
{
	struct rte_mbuf *frames[BURST];
	uint16_t whole;

	receive(port, frames, &whole);
	for (uint16_t i = 0; i < whole; i++) {
		write_addresses(frames[i], !port);
		ask_for_offloads(frames[i]);
	}
	send_all(!port, frames, whole);
	count(&counters.sent, whole);
}

static void run_closed(void)
{
	for (uint16_t port = 0; port < 2; port++) {
		for (uint16_t i = 0; i < options.frames; i++) {
			struct rte_mbuf *frame = make_frame(port, options.size, 0);

			if (frame == NULL)
				fail("not enough buffers");
			ask_for_offloads(frame);
			send_all(port, &frame, 1);
		}
		count(&counters.sent, options.frames);
	}
	while (!is_stopped()) {
		pass_on(0);
		pass_on(1);
	}
}

static void send_fresh(void)
{
	static struct rte_mbuf *frames[BURST]; /* the first `kept` are left of the last burst */
	static uint16_t kept;
	static uint8_t fill;
	const uint16_t burst = options.tso ? TSO_BURST : BURST;
	uint16_t sent;

	for (; kept < burst; kept++) {
		frames[kept] = make_frame(0, options.size, ++fill);
		if (frames[kept] == NULL)
			break;
		ask_for_offloads(frames[kept]);
	}
	sent = rte_eth_tx_burst(0, 0, frames, kept);
	kept = (uint16_t)(kept - sent);
	memmove(frames, frames + sent, kept * sizeof(*frames));
	count(&counters.sent, sent);
}

static void take_fresh(void)
{
	struct rte_mbuf *frames[BURST];
	uint16_t whole;

	while (receive(1, frames, &whole) > 0) {
		if (whole > 0 && !has_its_end(frames[whole - 1]))
			count(&counters.wrong, 1);
		rte_pktmbuf_free_bulk(frames, whole);
	}
}

static void run_open(void)
{
	for (uint64_t round = 1; !is_stopped(); round++) {
		send_fresh();
		take_fresh();
		/* A learning bridge must not forget the receiver. */
		if (round % ANNOUNCE_ROUNDS == 0) {
			send_announcement(1);
			throw_away(0);
		}
	}
}

static int run(void *unused)
{
	(void)unused;
	reach_both();
	drain(throw_away);
	puts("ready");
	if (options.fresh)
		run_open();
	else
		run_closed();
	drain(receive_last);
	return 0;
}

/* ---- start ---- */

static struct rte_mempool *make_pool(const char *name)
{
	/* Received TSO frames take buffers of a page, as Linux guests post them. */
	const uint16_t room = options.tso ? 4096 : 2048;
	struct rte_mempool *pool = rte_pktmbuf_pool_create(
		name, POOL_SIZE, 256, 0, (uint16_t)(RTE_PKTMBUF_HEADROOM + room), SOCKET_ID_ANY);

	if (pool == NULL)
		fail("no memory for buffers");
	return pool;
}

static void start_port(uint16_t port)
{
	struct rte_eth_conf conf = { .txmode.offloads = RTE_ETH_TX_OFFLOAD_MULTI_SEGS };

	if (options.tso) {
		conf.txmode.offloads |= RTE_ETH_TX_OFFLOAD_TCP_CKSUM | RTE_ETH_TX_OFFLOAD_TCP_TSO;
		conf.rxmode.offloads = RTE_ETH_RX_OFFLOAD_TCP_CKSUM | RTE_ETH_RX_OFFLOAD_TCP_LRO;
	}
	if (rte_eth_dev_configure(port, 1, 1, &conf) != 0 ||
	    rte_eth_rx_queue_setup(port, 0, 0, SOCKET_ID_ANY, NULL, receive_pool) != 0 ||
	    rte_eth_tx_queue_setup(port, 0, 0, SOCKET_ID_ANY, NULL) != 0 ||
	    rte_eth_dev_start(port) != 0 || rte_eth_macaddr_get(port, &macs[port]) != 0)
		fail("a port does not start");
}

static void parse_options(int argc, char **argv)
{
	static const struct option known[] = {
		{ "size", required_argument, NULL, 's' },
		{ "frames", required_argument, NULL, 'f' },
		{ "fresh", no_argument, NULL, 'o' },
		{ NULL, 0, NULL, 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		if (option == 's')
			options.size = (uint32_t)strtoul(optarg, NULL, 10);
		else if (option == 'f')
			options.frames = (uint16_t)strtoul(optarg, NULL, 10);
		else if (option == 'o')
			options.fresh = true;
		else
			fail("usage: guest EAL-ARGUMENTS -- --size BYTES --frames N|--fresh");
	}
	if (options.size <= ANNOUNCE_SIZE || options.size > FRAME_MAX)
		fail("--size is 61 to 65549");
	if ((options.frames == 0) != options.fresh)
		fail("either --frames or --fresh");
	options.tso = options.size > PLAIN_MAX;
}

int main(int argc, char **argv)
{
	int used = rte_eal_init(argc, argv);
	char line[16];

	if (used < 0)
		fail("EAL does not start");
	parse_options(argc - used, argv + used);
	if (rte_eth_dev_count_avail() != 2 || rte_lcore_count() != 2)
		fail("two ports and two lcores are needed, of which the second one polls");
	setvbuf(stdout, NULL, _IOLBF, 0);
	receive_pool = make_pool("receive");
	send_pool = make_pool("send");
	for (uint16_t port = 0; port < 2; port++)
		start_port(port);
	rte_eal_mp_remote_launch(run, NULL, SKIP_MAIN);
	while (fgets(line, sizeof(line), stdin) != NULL) {
		if (strcmp(line, "stop\n") == 0) {
			__atomic_store_n(&stopped, true, __ATOMIC_RELAXED);
			rte_eal_mp_wait_lcore();
		}
		printf("sent %lu received %lu wrong %lu\n",
		       __atomic_load_n(&counters.sent, __ATOMIC_RELAXED),
		       __atomic_load_n(&counters.received, __ATOMIC_RELAXED),
		       __atomic_load_n(&counters.wrong, __ATOMIC_RELAXED));
	}
	exit(0);
}
