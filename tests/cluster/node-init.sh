#!/usr/bin/env bash
# The first process of a node, in namespaces of its own: node-init.sh NODE'S_FOLDER NAME. It gives the node the places that a node has, each
# its own though both nodes share one machine, and then only waits for what has lost its parent. With it everything of the node ends.
set -euo pipefail
folder=$1 name=$2
# As the machine sees it: /proc is still the machine's.
read -r pid _ </proc/self/stat
mount --make-rshared /
mount -t proc proc /proc
# What is mounted there is the machine's: others' namespaces, which would otherwise live as long as this node.
tac /proc/self/mounts | while read -r _ place _; do [[ "$place" != /run/* ]] || umount --lazy "$place"; done
mount -t tmpfs -o mode=755 run /run
mkdir -p /run/lock /run/netns
for place in $(cat "$folder/places"); do mount --bind "$folder$place" "$place"; done
mount -t bpf bpf /sys/fs/bpf
echo "$name" >/proc/sys/kernel/hostname
trap 'exit 0' TERM
echo "$pid" >"$folder/init.part"
mv "$folder/init.part" "$folder/init"
while :; do
    sleep infinity &
    wait $!
done
