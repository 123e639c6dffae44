#!/usr/bin/env bash
# One outputs/ for all machines of a cluster: checkpoints are written where a trial runs, and it may
# go on elsewhere. The head serves its own by NFS, workers mount it at the same path.
#
#   bash ~/sg-ray/clusters/share-outputs.sh serve        # on the head
#   bash ~/sg-ray/clusters/share-outputs.sh mount HEAD   # on a worker
set -euo pipefail
folder=$HOME/sg-ray/outputs
mkdir -p "$folder"

installed() {
    dpkg -s "$1" >/dev/null 2>&1 && return
    # A machine that has just started may still be installing its own updates.
    apt=(sudo DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600)
    "${apt[@]}" update
    "${apt[@]}" install -y "$1"
}

case $1 in
serve)
    installed nfs-kernel-server
    # For every machine that reaches the port. On AWS those are the cluster's own, by its firewall; on
    # Google Cloud all of the network. Whoever writes, the files are this user's.
    echo "$folder *(rw,no_subtree_check,all_squash,anonuid=$(id -u),anongid=$(id -g))" |
        sudo tee /etc/exports.d/sg-ray.exports >/dev/null
    sudo exportfs -ra
    ;;
mount)
    installed nfs-common
    # hard: a head that is away for a minute is waited for. The others: what one machine has just
    # written, another sees a second later.
    mountpoint -q "$folder" ||
        sudo mount -t nfs4 -o hard,actimeo=1,lookupcache=positive "$2:$folder" "$folder"
    ;;
esac
