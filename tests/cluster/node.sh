# Sourced by scripts/cluster: a node. Node 1 is in the machine's network, node 2 in a namespace of its own; each has its own processes, mounts
# and host name, so that the same DaemonSet finds on both what it expects: /etc/cni, /opt/cni, /run, /sys/fs/bpf, /var/lib/kubelet.
# With its first process all others of it end, and its mounts and what is pinned with them.
# shellcheck shell=bash disable=SC2154

PLACES="/etc/cni /opt/cni /var/lib/cni /var/lib/containerd /var/lib/kubelet /var/lib/canopy /var/log/pods /var/log/containers"

# start_node NUMBER: its namespaces, containerd in them, and with it the images.
start_node() {
    local name=node-$1 folder=$state/node-$1 place inside=()
    for place in $PLACES; do mkdir -p "$folder$place"; mount_point "$place"; done
    printf '%s\n' $PLACES >"$folder/places"
    [ "$1" = 1 ] || inside=(nsenter "--net=/run/netns/$NETNS")
    rm -f "$folder/init"
    launch "$name" "${inside[@]}" unshare --mount --propagation slave --pid --uts --fork --kill-child=KILL \
        "$root/tests/cluster/node-init.sh" "$folder" "$name"
    wait_for "the namespaces of $name" 10 "$name" test -e "$folder/init"
    cgroups "canopy-$name"
    plugins "$folder"
    containerd_config >"$folder/containerd.toml"
    launch_in "$1" containerd containerd --config "$folder/containerd.toml"
    wait_for "containerd of $name" 30 "$name-containerd" in_node "$1" ctr version
}

# start_kubelet NUMBER
start_kubelet() {
    local name=node-$1 folder=$state/node-$1
    kubelet_config "$1" >"$folder/kubelet.yaml"
    launch_in "$1" kubelet "$tools/kubelet" --config "$folder/kubelet.yaml" --kubeconfig "$state/$name.kubeconfig" \
        --hostname-override "$name" --node-ip "$(node_addresses "$1")" --node-labels "topology.kubernetes.io/zone=zone-$1"
}

# finish_node NUMBER: what needs the addresses that the controller manager has given the node.
finish_node() {
    local name=node-$1 folder=$state/node-$1 cidrs
    wait_for "the pods' addresses on $name" 60 "$name-kubelet" has_addresses "$name"
    read -ra cidrs < <(admin get node "$name" -o 'jsonpath={.spec.podCIDRs[*]}{"\n"}')
    pod_routes "$1" "${cidrs[@]}"
    proxy_config "$1" >"$folder/proxy.yaml"
    start_proxy "$1"
    cni_config "${cidrs[@]}" >"$folder/etc/cni/net.d/10-pods.conflist"
}

# start_proxy NUMBER: kube-proxy, of a node that was finished.
start_proxy() { launch_in "$1" proxy "$tools/kube-proxy" --config "$state/node-$1/proxy.yaml"; }

# stop_node NUMBER: ends its first process, which takes the others with it, and waits for the last of them.
stop_node() {
    local leader init
    if leader=$(pid_of "node-$1") && init=$(child_of "$leader") && [ -n "$init" ]; then kill -KILL "$init" 2>/dev/null || true; fi
    # The leader waits for the first process, and that is gone only when all are.
    halt "node-$1"
}

has_addresses() { admin get node "$1" -o 'jsonpath={.spec.podCIDR}' | grep -q /; }

# in_node NUMBER COMMAND…
in_node() {
    local init
    init=$(cat "$state/node-$1/init")
    shift
    nsenter --target "$init" --mount --pid --uts --net -- "$@"
}

# launch_in NODE NAME COMMAND…: as launch, inside a node, as NODE-NAME. What is known is the program itself, not who has led it in.
launch_in() {
    local name=node-$1-$2 init leader child= tries=100
    init=$(cat "$state/node-$1/init")
    shift 2
    launch "$name" nsenter --target "$init" --mount --pid --uts --net -- "$@"
    until leader=$(pid_of "$name") && child=$(child_of "$leader") && [ -n "$child" ]; do
        [ $((tries -= 1)) -gt 0 ] || die "$name has not started; see $state/log/$name.log"
        sleep 0.05
    done
    note "$name" "$child"
}

child_of() { cat /proc/[0-9]*/stat 2>/dev/null | sed -n "s/^\([0-9]*\) (.*) [A-Z] $1 .*/\1/p"; }

# mount_point PLACE: it is there; what was made for it is noted, and goes with the cluster.
mount_point() {
    [ ! -d "$1" ] || return 0
    mount_point "$(dirname "$1")"
    echo "$1" >>"$state/made"
    mkdir "$1"
}

plugins() {
    local program
    mkdir -p "$1/opt/cni/bin" "$1/etc/cni/net.d"
    for program in bridge host-local loopback portmap; do cp "/usr/lib/cni/$program" "$1/opt/cni/bin/"; done
}

containerd_config() {
    cat <<'END'
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "canopy.mesh/pause:1"
  # Without CAP_SYS_RESOURCE runc cannot lower it below its own.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
END
}

kubelet_config() {
    cat <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $(node_address "$1")
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: $state/pki/ca.crt}
authorization: {mode: Webhook}
tlsCertFile: $state/pki/node-$1.crt
tlsPrivateKeyFile: $state/pki/node-$1.key
cgroupDriver: cgroupfs
cgroupRoot: /canopy-node-$1
failCgroupV1: false
failSwapOn: false
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
clusterDNS: [$(service_address 10)]
clusterDomain: cluster.local
resolvConf: ""
healthzPort: 0
readOnlyPort: 0
# kube-proxy's rules are nftables', so iptables stay the machine's.
makeIPTablesUtilChains: false
# A developer's disk may be fuller than a node's.
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, nodefs.inodesFree: 1%, imagefs.available: 1%}
imageGCHighThresholdPercent: 100
END
}

proxy_config() {
    cat <<END
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clientConnection: {kubeconfig: $state/proxy.kubeconfig}
clusterCIDR: "$(pods)"
hostnameOverride: node-$1
bindAddress: $(node_address "$1")
healthzBindAddress: $(node_address "$1"):10256
metricsBindAddress: $(node_address "$1"):10249
# The machine's limits on connections stay as they are.
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
END
}

# cni_config CIDR [CIDR]
cni_config() {
    local ranges="[{\"subnet\": \"$1\"}]" routes='{"dst": "0.0.0.0/0"}'
    if [ $# = 2 ]; then
        ranges+=", [{\"subnet\": \"$2\"}]"
        routes+=', {"dst": "::/0"}'
    fi
    cat <<END
{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "$PODS_BRIDGE", "isGateway": true, "hairpinMode": true, "ipMasq": false,
   "ipam": {"type": "host-local", "dataDir": "/var/lib/cni/networks", "ranges": [$ranges], "routes": [$routes]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
END
}

# cgroups NAME: a group of this name in every hierarchy, for a kubelet's below it.
cgroups() {
    local hierarchy file
    for hierarchy in $(hierarchies); do
        mkdir -p "$hierarchy/$1"
        for file in cpuset.cpus cpuset.mems; do
            # Of version 1 only, in which a new group has none and takes no process.
            [ ! -e "$hierarchy/cpuset.cpu_exclusive" ] || cat "$hierarchy/$file" >"$hierarchy/$1/$file"
        done
        [ ! -e "$hierarchy/cgroup.controllers" ] || hand_down "$hierarchy" "$1"
    done
}

# hand_down HIERARCHY GROUP: the controllers that version 2 gives only to whoever is handed them.
hand_down() {
    local controller
    for controller in $(cat "$1/cgroup.controllers"); do
        echo "+$controller" >"$1/cgroup.subtree_control" 2>/dev/null || true
        echo "+$controller" >"$1/$2/cgroup.subtree_control" 2>/dev/null || true
    done
}

hierarchies() { awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 }' /proc/self/mounts; }

# forget_cgroups NAME…: those of nodes in which nothing runs any more.
forget_cgroups() {
    local hierarchy node tries
    for hierarchy in $(hierarchies); do
        for node in "$@"; do
            tries=50
            while [ -d "$hierarchy/$node" ] && ! find "$hierarchy/$node" -depth -type d -exec rmdir {} + 2>/dev/null; do
                [ $((tries -= 1)) -gt 0 ] || die "$hierarchy/$node is still in use: $(find "$hierarchy/$node" -name cgroup.procs -exec cat {} + | tr '\n' ' ')"
                sleep 0.1
            done
        done
    done
}
