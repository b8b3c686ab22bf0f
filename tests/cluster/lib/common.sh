# What do all commands of the test cluster share: messages, waits with a limit, the state directory, its programs?
# shellcheck shell=bash disable=SC2034  # used by the scripts that source this file

cluster_home=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cluster_target=$(cd "$cluster_home/../.." && pwd)/target/cluster
cluster_bin=${MOUNTPOD_CLUSTER_BIN:-$cluster_target/bin} # where build.sh puts the program and its names

# A proxy of the caller must not stand between the parts of the cluster.
unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY

say() { printf '%s\n' "$*"; }
complain() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() {
  complain "$*"
  exit 1
}

# seconds_since MARK: MARK is a value of $EPOCHREALTIME; prints one decimal.
seconds_since() {
  local now=$EPOCHREALTIME
  local tenths=$(((${now/./} - ${1/./} + 50000) / 100000))
  printf '%d.%d' $((tenths / 10)) $((tenths % 10))
}

# await SECONDS WHAT COMMAND...: repeats the command until it succeeds.
await() {
  local limit=$1 what=$2 end=$((SECONDS + $1))
  shift 2
  until "$@" >/dev/null 2>&1; do
    if [ "$SECONDS" -ge "$end" ]; then
      complain "waited $limit s in vain for $what"
      return 1
    fi
    sleep 0.1
  done
}

# show_tail FILE: the end of a log, after something went wrong.
show_tail() {
  complain "the end of $1:"
  tail -n 25 "$1" 2>/dev/null | cut -c1-400 >&2 || complain "(there is no such file)"
}

# --- the state directory of one node ----------------------------------------------------------------------------------

# Everything that `up` makes in it, and all that `down` removes from it.
state_entries=(node.env init log audit.log pki admin.kubeconfig kubectl-cache config etcd containerd kubelet host pids nodes)
log_entries=(log audit.log node.env) # with node.env, a later `down` still knows the directory

# read_node DIR: sets the facts that `up` wrote about a node:
#   node_dir, node_name, node_index, node_address, node_pods (its pods' subnet), node_hub (the first node's directory),
#   node_cgroup (name of its cgroup below the root of each hierarchy)
read_node() {
  local dir
  dir=$(realpath -e -- "$1" 2>/dev/null) || die "there is no directory '$1'"
  [ -s "$dir/node.env" ] || die "'$1' is not the directory of a node (it has no node.env): was it made by 'up'?"
  node_dir=$dir node_name='' node_index='' node_address='' node_pods='' node_hub='' node_cgroup=''
  # shellcheck source=/dev/null
  . "$dir/node.env"
}
