# What does a node's file system look like? Runs inside the node, once, before its daemons.
# usage: bash mounts.sh DIR
#
# The node sees the machine's files, except for the places that a node writes to: those are directories of DIR, so
# nothing is left on the machine.
# shellcheck shell=bash
set -euo pipefail
dir=$1

# The kubelet writes these (pkg/kubelet/cm/container_manager_linux.go, setupKernelTunables), and they belong to the
# whole machine. Inside the node a plain file lies over each of them.
kernel_settings=(vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops
  kernel/keys/root_maxkeys kernel/keys/root_maxbytes)

own_directory() { # PATH SOURCE
  mkdir -p "$2"
  mount --bind "$2" "$1"
}

own_kernel_settings() {
  local setting copy
  for setting in "${kernel_settings[@]}"; do
    [ -e "/proc/sys/$setting" ] || continue
    copy=/run/kernel-settings/${setting//\//.}
    cat "/proc/sys/$setting" >"$copy"
    mount --bind "$copy" "/proc/sys/$setting"
  done
}

own_directory /var/lib "$dir/host/var-lib"
own_directory /var/log "$dir/host/var-log"
mkdir -p /var/lib/kubelet
own_directory /var/lib/kubelet "$dir/kubelet"
mount -t tmpfs -o mode=0755 tmpfs /run
mkdir -p /run/containerd /run/lock /run/netns /run/kernel-settings
own_kernel_settings

# Bidirectional mount propagation needs shared mounts. They are shared only within the node: it was made with private ones.
mount --make-rshared /
