# Sourced by scripts/cluster: the addresses, the bridge between the nodes, and the second node's network namespace. Nothing that the
# machine had is changed but forwarding, and that is put back.
# shellcheck shell=bash disable=SC2154

BRIDGE=canopy-nodes
PODS_BRIDGE=canopy-pods
NETNS=canopy-node-2

# Everything is in one /16 ($block, as "10.213"): nodes in .0.0/24, pods from .64.0 on with a /24 of each node, Services from .128.0 on; and, where the
# machine has IPv6, in one /48 in the same way.
node_address() { echo "$block.0.$1"; }
node_address6() { echo "fdca:ca0b:${block#*.}::$1"; }
service_address() { echo "$block.128.$1"; }
services4() { echo "$block.128.0/20"; }
services6() { echo "fdca:ca0b:${block#*.}:200::/112"; }
services() { both "$(services4)" "$(services6)"; }
pods() { both "$block.64.0/18" "fdca:ca0b:${block#*.}:100::/56"; }
node_addresses() { both "$(node_address "$1")" "$(node_address6 "$1")"; }

# both IPV4 IPV6: as Kubernetes wants it where a cluster has both.
both() { if has_v6; then echo "$1,$2"; else echo "$1"; fi; }
has_v6() { [ "$(cat /proc/sys/net/ipv6/conf/all/disable_ipv6 2>/dev/null)" = 0 ]; }

# The first block that no route of this machine has anything to do with; where all of 10.0.0.0/8 leads somewhere, of the addresses that are
# for measurements (RFC 2544).
choose_block() {
    for block in 10.{213..250} 198.{18,19}; do
        [ -z "$(routes_of "$block.0.0/16")" ] || continue
        echo "$block" >"$state/block"
        return
    done
    die "no 10.N.0.0/16 with N from 213 to 250 is free, nor 198.18.0.0/15: each has a route on this machine (ip route)"
}

# routes_of NETWORK: the routes to it, to a part of it or to what it is part of, but for those to everywhere.
routes_of() {
    ip -4 route show table all root "$1"
    ip -4 route show table all match "$1" | grep -v -e '^default' -e ' default ' || true
}

# set_here NAME VALUE: a sysctl of this machine, put back by forget_network.
set_here() {
    local file=/proc/sys/${1//./\/}
    [ "$(cat "$file")" != "$2" ] || return 0
    printf '%s %s\n' "$file" "$(cat "$file")" >>"$state/sysctls"
    echo "$2" >"$file"
}

# Forwarding of IPv6 is the whole machine's. An interface that forwards takes no router's word for its own default route, so those that
# are there already are told not to.
forward_v6() {
    local file was=()
    [ "$(cat /proc/sys/net/ipv6/conf/all/forwarding)" = 0 ] || return 0
    for file in /proc/sys/net/ipv6/conf/*/forwarding; do
        case "$file" in */all/* | */default/*) ;; *) was+=("$file $(cat "$file")") ;; esac
    done
    set_here net.ipv6.conf.all.forwarding 1
    printf '%s\n' "${was[@]}" >>"$state/sysctls"
    put_back "${was[@]}"
}

# put_back "FILE VALUE"…: of interfaces that are still there.
put_back() {
    local line
    for line in "$@"; do { echo "${line#* }" >"${line%% *}"; } 2>/dev/null || true; done
}

network() {
    [ ! -e "/sys/class/net/$BRIDGE" ] && [ ! -e "/sys/class/net/$PODS_BRIDGE" ] && [ ! -e "/run/netns/$NETNS" ] ||
        die "a cluster of another folder is up, or was (there is $BRIDGE, $PODS_BRIDGE or $NETNS); take it down there: scripts/cluster down"
    ! nft list table ip kube-proxy >/dev/null 2>&1 || die "this machine is a node of a cluster already: nft list table ip kube-proxy"
    # Answers of a pod's neighbour on the same bridge have to pass by the rules that made it the Service's.
    [ -d /proc/sys/net/bridge ] || modprobe br_netfilter || die "the kernel has no br_netfilter, without which Services do not work on a bridge"
    choose_block
    nft list tables >"$state/tables" 2>/dev/null
    ! iptables -t nat -S 2>/dev/null | grep -q CNI-HOSTPORT || : >"$state/host-ports-of-others"
    set_here net.ipv4.ip_forward 1
    set_here net.bridge.bridge-nf-call-iptables 1
    ! has_v6 || forward_v6
    ip link add "$BRIDGE" type bridge
    ip address add "$(node_address 1)/24" dev "$BRIDGE"
    ip link set "$BRIDGE" up
    # A Service's address has to lead somewhere before it is made a pod's.
    ip route add "$(services4)" dev "$BRIDGE"
    ip netns add "$NETNS"
    ip link add "$NETNS" type veth peer name eth0 netns "$NETNS"
    ip link set "$NETNS" master "$BRIDGE" up
    ip -n "$NETNS" -batch - <<END
link set lo up
address add $(node_address 2)/24 dev eth0
link set eth0 up
route add default via $(node_address 1)
END
    nsenter "--net=/run/netns/$NETNS" sh -c 'echo 1 | tee /proc/sys/net/ipv4/ip_forward >/proc/sys/net/bridge/bridge-nf-call-iptables'
    ! has_v6 || network_v6
    # Where something else drops what is forwarded (Docker does), what is the cluster's passes.
    for program in iptables ip6tables; do
        ! "$program" -S FORWARD 2>/dev/null | grep -qx -e '-P FORWARD DROP' || forward "$program" -I
    done
}

network_v6() {
    set_here net.bridge.bridge-nf-call-ip6tables 1
    ip -6 address add "$(node_address6 1)/64" dev "$BRIDGE" nodad
    ip -6 route add "$(services6)" dev "$BRIDGE"
    ip -n "$NETNS" -6 address add "$(node_address6 2)/64" dev eth0 nodad
    ip -n "$NETNS" -6 route add default via "$(node_address6 1)"
    nsenter "--net=/run/netns/$NETNS" sh -c 'echo 1 | tee /proc/sys/net/ipv6/conf/all/forwarding >/proc/sys/net/bridge/bridge-nf-call-ip6tables'
}

# forward iptables|ip6tables -I|-D: the rules that let the cluster's packets through.
forward() {
    local link
    for link in "$BRIDGE" "$PODS_BRIDGE"; do
        "$1" "$2" FORWARD -i "$link" -m comment --comment canopy-cluster -j ACCEPT
        "$1" "$2" FORWARD -o "$link" -m comment --comment canopy-cluster -j ACCEPT
    done
}

# pod_routes NODE CIDR…: the other node reaches this node's pods by this node.
pod_routes() {
    local node=$1 cidr via other=()
    [ "$node" = 2 ] || other=(-n "$NETNS")
    shift
    for cidr in "$@"; do
        via=$(node_address "$node")
        [[ "$cidr" != *:* ]] || via=$(node_address6 "$node")
        ip "${other[@]}" route replace "$cidr" via "$via"
    done
}

# Takes back whatever of all this is there.
forget_network() {
    local program family saved=()
    nft delete table ip kube-proxy 2>/dev/null || true
    nft delete table ip6 kube-proxy 2>/dev/null || true
    for program in iptables ip6tables; do
        forget_host_ports "$program"
        while forward "$program" -D 2>/dev/null; do :; done
    done
    for family in ip ip6; do forget_table "$family nat"; done
    # Routes end with their links. A link may be going already, with a namespace that is no more.
    for link in "$NETNS" "$PODS_BRIDGE" "$BRIDGE"; do ip link delete "$link" 2>/dev/null || true; done
    ! ip netns list | grep -qw "$NETNS" || ip netns delete "$NETNS"
    for link in "$PODS_BRIDGE" "$BRIDGE"; do
        [ ! -e "/sys/class/net/$link" ] || die "the bridge $link does not go: ip link delete $link"
    done
    [ ! -e "$state/sysctls" ] || mapfile -t saved <"$state/sysctls"
    put_back "${saved[@]}"
}

# forget_host_ports iptables|ip6tables: the CNI plug-in for host ports leaves its chains behind with the last pod; those of pods that were
# killed, too.
forget_host_ports() {
    local chain rule verb
    [ ! -e "$state/host-ports-of-others" ] || return 0
    "$1" -t nat -S 2>/dev/null | sed -n 's/^-A \(.*-j CNI-HOSTPORT-.*\)/\1/p' | while read -r rule; do
        # The rule is quoted as a shell would have it.
        eval "$1 -t nat -D $rule"
    done
    for verb in -F -X; do
        for chain in $("$1" -t nat -S 2>/dev/null | sed -n 's/^-N \(CNI-\(HOSTPORT\|DN\)-.*\)/\1/p'); do
            "$1" -t nat "$verb" "$chain"
        done
    done
}

# forget_table "FAMILY NAME": one that iptables has made for the host ports' chains, and that nobody has put a rule into since.
forget_table() {
    local table
    ! grep -qx "table $1" "$state/tables" 2>/dev/null || return 0
    # shellcheck disable=SC2086
    table=$(nft list table $1 2>/dev/null) || return 0
    # Of nothing but its own heading, its chains, what they hook, and braces.
    ! grep -qvE '^(table .*\{|[[:space:]]*chain .*\{|[[:space:]]*type .* hook .*;|[[:space:]]*\}|)$' <<<"$table" || return 0
    # shellcheck disable=SC2086
    nft delete table $1
}
