# Sourced by scripts/cluster: images of what is on this machine, and how they come into both nodes' containerd.
# shellcheck shell=bash disable=SC2154

# What the cluster itself and the tests' pods need; made again in a second or two, as cheaply as it could be known whether they are new.
images() {
    local archives=$root/target/images busybox=(/bin/busybox=/bin/busybox) applet
    mkdir -p "$archives"
    cc -static -Os -o "$archives/pause" tests/cluster/pause.c
    scripts/pack-image "$archives/pause.tar" canopy.mesh/pause:1 "/pause=$archives/pause"
    scripts/pack-image "$archives/coredns.tar" canopy.mesh/coredns:1 "/coredns=$tools/coredns"
    for applet in sh cat cp echo env false grep head httpd id ip kill ls mkdir mv nc nslookup printenv ps rm sleep tail tee test \
        timeout touch true wget; do
        busybox+=("/bin/$applet=@/bin/busybox")
    done
    scripts/pack-image "$archives/busybox.tar" canopy.mesh/busybox:1 "${busybox[@]}"
    load "$archives/"{pause,coredns,busybox}.tar
}

# load ARCHIVE…: into both nodes; pods then name it with imagePullPolicy: Never.
load() {
    local node archive
    for archive in "$@"; do
        [ -f "$archive" ] || die "$archive is not there; scripts/pack-image makes one"
        for node in 1 2; do in_node $node ctr --namespace k8s.io images import - <"$archive" >/dev/null; done
    done
}
