# Sourced by scripts/cluster: what a control plane is made of, as processes of this machine that listen on the nodes' bridge.
# shellcheck shell=bash disable=SC2154

start_etcd() {
    local at pki=$state/pki
    at=$(node_address 1)
    # Nothing here outlives a power cut, so no write waits for the disk where this etcd can be told so.
    local fast=()
    ! etcd --help 2>&1 | grep -q -e --unsafe-no-fsync || fast=(--unsafe-no-fsync)
    launch etcd etcd --name cluster --data-dir "$state/etcd" "${fast[@]}" --logger zap --log-level warn \
        --listen-client-urls "https://$at:2379" --advertise-client-urls "https://$at:2379" \
        --listen-peer-urls "https://$at:2380" --initial-advertise-peer-urls "https://$at:2380" \
        --initial-cluster "cluster=https://$at:2380" \
        --client-cert-auth --trusted-ca-file "$pki/ca.crt" --cert-file "$pki/etcd.crt" --key-file "$pki/etcd.key" \
        --peer-client-cert-auth --peer-trusted-ca-file "$pki/ca.crt" --peer-cert-file "$pki/etcd.crt" --peer-key-file "$pki/etcd.key"
}

start_apiserver() {
    local at pki=$state/pki
    at=$(node_address 1)
    launch apiserver "$tools/kube-apiserver" --bind-address "$at" --advertise-address "$at" --secure-port 6443 \
        --etcd-servers "https://$at:2379" --etcd-cafile "$pki/ca.crt" --etcd-certfile "$pki/apiserver.crt" \
        --etcd-keyfile "$pki/apiserver.key" --client-ca-file "$pki/ca.crt" --tls-cert-file "$pki/apiserver.crt" \
        --tls-private-key-file "$pki/apiserver.key" --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction \
        --allow-privileged --service-cluster-ip-range "$(services)" --service-account-issuer https://kubernetes.default.svc.cluster.local \
        --service-account-key-file "$pki/accounts.key" --service-account-signing-key-file "$pki/accounts.key" \
        --kubelet-certificate-authority "$pki/ca.crt" --kubelet-client-certificate "$pki/to-kubelets.crt" \
        --kubelet-client-key "$pki/to-kubelets.key" --kubelet-preferred-address-types InternalIP \
        --proxy-client-cert-file "$pki/front-proxy.crt" --proxy-client-key-file "$pki/front-proxy.key" \
        --requestheader-client-ca-file "$pki/ca.crt" --requestheader-allowed-names front-proxy \
        --requestheader-username-headers X-Remote-User --requestheader-group-headers X-Remote-Group \
        --requestheader-extra-headers-prefix X-Remote-Extra-
}

start_controllers() {
    local as=$state/controllers.kubeconfig pki=$state/pki mask=(--node-cidr-mask-size 24)
    ! has_v6 || mask=(--node-cidr-mask-size-ipv4 24 --node-cidr-mask-size-ipv6 64)
    launch controllers "$tools/kube-controller-manager" --kubeconfig "$as" --authentication-kubeconfig "$as" \
        --authorization-kubeconfig "$as" --bind-address "$(node_address 1)" --leader-elect=false --use-service-account-credentials \
        --root-ca-file "$pki/ca.crt" --service-account-private-key-file "$pki/accounts.key" \
        --cluster-signing-cert-file "$pki/ca.crt" --cluster-signing-key-file "$pki/ca.key" \
        --allocate-node-cidrs --cluster-cidr "$(pods)" "${mask[@]}" --service-cluster-ip-range "$(services)"
}

start_scheduler() {
    local as=$state/scheduler.kubeconfig
    launch scheduler "$tools/kube-scheduler" --kubeconfig "$as" --authentication-kubeconfig "$as" \
        --authorization-kubeconfig "$as" --bind-address "$(node_address 1)" --leader-elect=false
}

admin() { "$tools/kubectl" --kubeconfig "$state/admin.kubeconfig" --cache-dir "$state/kubectl" "$@"; }

control_plane() {
    start_etcd
    start_apiserver
    wait_for "the API server" 60 apiserver admin get --raw /readyz
    start_controllers
    start_scheduler
}
