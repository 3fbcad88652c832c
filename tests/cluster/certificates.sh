# Sourced by scripts/cluster: one authority, and what it signs. Of a cluster that is thrown away, so they are good for a month.
# shellcheck shell=bash disable=SC2154

# sign FILE SUBJECT [NAMES]: a key and a certificate, pki/FILE.key and .crt; of no authority but itself where FILE is "ca".
sign() {
    local file=$state/pki/$1 options=()
    if [ "$1" = ca ]; then
        options=(-addext basicConstraints=critical,CA:true -addext keyUsage=critical,keyCertSign,cRLSign)
    else
        options=(-CA "$state/pki/ca.crt" -CAkey "$state/pki/ca.key" -addext basicConstraints=critical,CA:false
            -addext extendedKeyUsage=serverAuth,clientAuth)
    fi
    [ -z "${3:-}" ] || options+=(-addext "subjectAltName=$3")
    openssl req -x509 -config "$state/pki/openssl.conf" -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 \
        -keyout "$file.key" -out "$file.crt" -subj "$2" "${options[@]}" 2>"$state/log/openssl.log" ||
        { cat "$state/log/openssl.log" >&2; die "openssl has not signed $1"; }
}

# kubeconfig FILE: how the holder of pki/FILE.key reaches the API server; it names no other file, so it can be taken elsewhere.
kubeconfig() {
    local pki=$state/pki
    cat >"$state/$1.kubeconfig" <<END
apiVersion: v1
kind: Config
clusters:
- name: canopy
  cluster:
    server: https://$(node_address 1):6443
    certificate-authority-data: $(base64 -w0 "$pki/ca.crt")
users:
- name: $1
  user:
    client-certificate-data: $(base64 -w0 "$pki/$1.crt")
    client-key-data: $(base64 -w0 "$pki/$1.key")
contexts:
- name: $1
  context: {cluster: canopy, user: $1}
current-context: $1
END
    chmod 600 "$state/$1.kubeconfig"
}

certificates() {
    local node
    (umask 077 && mkdir -p "$state/pki")
    printf '[req]\ndistinguished_name=name\nprompt=no\n[name]\n' >"$state/pki/openssl.conf"
    sign ca /CN=canopy-cluster
    sign etcd /CN=etcd "IP:$(node_address 1)"
    sign apiserver /CN=kube-apiserver "IP:$(node_address 1),IP:$(service_address 1),DNS:kubernetes,DNS:kubernetes.default,\
DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
    sign to-kubelets /O=system:masters/CN=kube-apiserver
    sign front-proxy /CN=front-proxy
    sign admin /O=system:masters/CN=admin
    sign controllers /CN=system:kube-controller-manager
    sign scheduler /CN=system:kube-scheduler
    sign proxy /CN=system:kube-proxy
    for node in 1 2; do sign "node-$node" "/O=system:nodes/CN=system:node:node-$node" "IP:$(node_address $node),DNS:node-$node"; done
    openssl ecparam -genkey -name prime256v1 -noout -out "$state/pki/accounts.key"
    for holder in admin controllers scheduler proxy node-1 node-2; do kubeconfig "$holder"; done
}
