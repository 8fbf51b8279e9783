// SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only)
/*
 * Counts the internet sockets of a VE, and refuses those beyond its limit: numtcpsock and numothersock.
 *
 * Attached to the cgroup2 directory of each VE; what is counted lies in the storage that the kernel keeps for the directory, and goes with it.
 *
 * - A socket that a program makes is counted when it is made and until it is closed. Its storage says that it was: one that was made before anybody
 *   counted is never taken off.
 * - A connection that comes in is counted when it is established and until it is over, whether or not anybody accepts it. Over the limit nothing
 *   that is sent to a listening socket arrives: the client tries again, as with OpenVZ.
 */
#include "common.bpf.h"

enum { STORAGE_CREATE = 1 };
enum { AF_INET = 2, AF_INET6 = 10, STREAM = 1, PROTO_TCP = 6, PROTO_MPTCP = 262, ENOBUFS = 105 };
enum { TCP_CLOSE = 7, TCP_LISTEN = 10 };
enum { OP_TCP_CONNECT = 3, OP_PASSIVE_ESTABLISHED = 5, OP_STATE = 10, OP_TCP_LISTEN = 11, STATE_FLAG = 4 };
enum { REFUSE = 0, ALLOW = 1 };

struct bpf_sock {
	u32 bound_dev_if, family, type, protocol, mark, priority, src_ip4, src_ip6[4], src_port, dst_port, dst_ip4, dst_ip6[4], state;
};

struct sk_buff {
	u32 len, pkt_type, mark, queue_mapping, protocol, vlan_present, vlan_tci, vlan_proto, priority, ingress_ifindex, ifindex, tc_index, cb[5], hash,
		tc_classid, data, data_end, napi_id, family, remote_ip4, local_ip4, remote_ip6[4], local_ip6[4], remote_port, local_port, data_meta;
	u64 flow_keys, tstamp;
	u32 wire_len, gso_segs;
	struct bpf_sock *sk;
};

struct sock_ops {
	u32 op, args[4], family, remote_ip4, local_ip4, remote_ip6[4], local_ip6[4], remote_port, local_port, is_fullsock, snd_cwnd, srtt_us, cb_flags,
		more[20];
	u64 bytes_received, bytes_acked;
	struct bpf_sock *sk;
};

struct sock_addr {
	u32 user_family, user_ip4, user_ip6[4], user_port, family, type, protocol, msg_src_ip4, msg_src_ip6[4];
	struct bpf_sock *sk;
};

static long (*cb_flags_set)(struct sock_ops *ops, int flags) = (void *)59;
static void *(*get_local_storage)(void *map, u64 flags) = (void *)81;
static struct bpf_sock *(*sk_fullsock)(struct bpf_sock *sk) = (void *)95;
static void *(*sk_storage_get)(void *map, void *sk, void *value, u64 flags) = (void *)107;
static int (*set_retval)(int value) = (void *)187;

/* One of each VE. `key` is where its limits are; Veld writes it before anything can be counted. */
struct counters {
	u64 key;
	struct counter tcp, other;
};

struct limits {
	u64 tcp, other;
	/* A restore is under way: sockets are of processes that are counted already, or are gone. */
	u64 quiet;
};

struct {
	NUMBER(type, MAP_CGROUP_STORAGE);
	TYPE(key, u64);
	TYPE(value, struct counters);
} veld_counters SEC(".maps");

struct {
	NUMBER(type, MAP_HASH);
	NUMBER(max_entries, 65536);
	NUMBER(map_flags, MAP_NO_PREALLOC);
	TYPE(key, u64);
	TYPE(value, struct limits);
} veld_limits SEC(".maps");

/* What a socket is counted as. */
enum { NOT = 0, AS_TCP = 1, AS_OTHER = 2, INCOMING = 3 };

struct {
	NUMBER(type, MAP_SK_STORAGE);
	NUMBER(map_flags, MAP_NO_PREALLOC);
	TYPE(key, int);
	TYPE(value, u32);
} veld_sockets SEC(".maps");

SEC("cgroup/sock_create")
int veld_create(struct bpf_sock *ctx)
{
	int tcp = ctx->type == STREAM && (ctx->protocol == PROTO_TCP || ctx->protocol == PROTO_MPTCP);
	struct counters *counters = get_local_storage(&veld_counters, 0);
	struct counter *counter = tcp ? &counters->tcp : &counters->other;
	u64 key = counters->key;
	struct limits *limits = map_lookup(&veld_limits, &key);
	u64 now = __sync_fetch_and_add(&counter->held, 1) + 1;
	if (limits && now > (tcp ? limits->tcp : limits->other)) {
		release(counter);
		__sync_fetch_and_add(&counter->failcnt, 1);
		set_retval(-ENOBUFS);
		return REFUSE;
	}
	u32 *kind = sk_storage_get(&veld_sockets, ctx, 0, STORAGE_CREATE);
	if (!kind) {
		/* No memory: better not counted than for ever. */
		release(counter);
		return ALLOW;
	}
	*kind = tcp ? AS_TCP : AS_OTHER;
	if (!limits || !limits->quiet)
		peak(counter, now);
	return ALLOW;
}

SEC("cgroup/sock_release")
int veld_release(struct bpf_sock *ctx)
{
	u32 *kind = sk_storage_get(&veld_sockets, ctx, 0, 0);
	struct counters *counters = get_local_storage(&veld_counters, 0);
	if (!kind)
		return ALLOW;
	if (*kind == AS_TCP)
		release(&counters->tcp);
	else if (*kind == AS_OTHER)
		release(&counters->other);
	else
		return ALLOW; /* an incoming one goes when its connection does */
	*kind = NOT;
	return ALLOW;
}

INLINE void count_incoming(struct sock_ops *ops, struct bpf_sock *sk, struct counters *counters, u64 flags)
{
	u32 *kind = sk_storage_get(&veld_sockets, sk, 0, flags);
	if (!kind || *kind != NOT)
		return;
	if (cb_flags_set(ops, ops->cb_flags | STATE_FLAG))
		return; /* nobody would tell when it is over */
	*kind = INCOMING;
	peak(&counters->tcp, __sync_fetch_and_add(&counters->tcp.held, 1) + 1);
}

SEC("sockops")
int veld_connections(struct sock_ops *ops)
{
	u32 op = ops->op;
	if (op != OP_PASSIVE_ESTABLISHED && op != OP_STATE && op != OP_TCP_CONNECT && op != OP_TCP_LISTEN)
		return ALLOW;
	struct bpf_sock *sk = ops->sk;
	struct counters *counters = get_local_storage(&veld_counters, 0);
	if (!sk)
		return ALLOW;
	if (op == OP_STATE) {
		if (ops->args[1] != TCP_CLOSE)
			return ALLOW;
		u32 *kind = sk_storage_get(&veld_sockets, sk, 0, 0);
		if (!kind || *kind != INCOMING)
			return ALLOW;
		*kind = NOT;
		release(&counters->tcp);
	} else {
		/* Also one that came in, was disconnected, and is used once more. */
		count_incoming(ops, sk, counters, op == OP_PASSIVE_ESTABLISHED ? STORAGE_CREATE : 0);
	}
	return ALLOW;
}

/* Whether there is no room for one TCP socket more; that is counted as a refusal. */
INLINE int is_full(struct counters *counters)
{
	u64 key = counters->key;
	struct limits *limits = map_lookup(&veld_limits, &key);
	if (!limits || counters->tcp.held < limits->tcp)
		return 0;
	__sync_fetch_and_add(&counters->tcp.failcnt, 1);
	return 1;
}

/* Only there where there is a limit: every packet for a socket of the VE comes by. */
SEC("cgroup_skb/ingress")
int veld_ingress(struct sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct counters *counters = get_local_storage(&veld_counters, 0);
	if (!sk)
		return ALLOW;
	sk = sk_fullsock(sk);
	if (!sk || sk->state != TCP_LISTEN || sk->type != STREAM)
		return ALLOW;
	if (!is_full(counters))
		return ALLOW;
	return REFUSE;
}

/* One that came in, was disconnected, and is to be used once more is as good as a new one. */
INLINE int reuse(struct sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct counters *counters = get_local_storage(&veld_counters, 0);
	if (!sk || ctx->type != STREAM)
		return ALLOW;
	u32 *kind = sk_storage_get(&veld_sockets, sk, 0, 0);
	if (!kind || *kind != NOT)
		return ALLOW;
	if (!is_full(counters))
		return ALLOW;
	set_retval(-ENOBUFS);
	return REFUSE;
}

SEC("cgroup/connect4")
int veld_connect4(struct sock_addr *ctx)
{
	return reuse(ctx);
}

SEC("cgroup/connect6")
int veld_connect6(struct sock_addr *ctx)
{
	return reuse(ctx);
}

/* The kernel gives some of the functions used above to programs under the GPL only. */
char licence[] SEC("license") = "Dual BSD/GPL";
