# What does the test cluster need of the machine?
# shellcheck shell=bash

# COMMAND PACKAGE, as Debian 12 names them.
requirements=(
  "containerd containerd"
  "runc runc"
  "busybox busybox-static"
  "iptables iptables"
  "ip iproute2"
  "nsenter util-linux"
  "sysctl procps"
  "curl curl"
  "jq jq"
  "cc gcc"
)

require_root() { [ "$(id -u)" -eq 0 ] || die "a node needs root"; }

# missing_packages: one a line.
missing_packages() {
  local line
  for line in "${requirements[@]}"; do
    command -v "${line% *}" >/dev/null || printf '%s\n' "${line#* }"
  done
  [ -x /usr/lib/cni/ptp ] || [ -x /opt/cni/bin/ptp ] || printf 'containernetworking-plugins\n'
  [ -e /usr/include/stdio.h ] || printf 'libc6-dev\n'
}

require_commands() {
  local missing
  missing=$(missing_packages | tr '\n' ' ')
  [ -z "$missing" ] || die "these packages are missing: $missing(tests/cluster/install installs them on Debian)"
}
