# What do all commands share that need the driver on a test cluster: its place there, a cluster of their own, phases?
# shellcheck shell=bash disable=SC2034  # used by the scripts that source this file, whose working directory is the repository

namespace=mountpod-system
# The roots of values.yaml; the scenarios look into the first.
roots=(/var/lib/mountpod-data /var/lib/mountpod-local)
# Seconds for pods that start at once on two busy processors.
ready_limit=120

scratch=$(mktemp -d)
trap end_of_use EXIT
cluster='' keep=no cluster_is_ours=no

# phase NAME COMMAND...: runs a command and says how long it took; what it said is shown when it fails.
phase() {
  local name=$1 from=$SECONDS
  shift
  if ! "$@" >"$scratch/said" 2>&1; then
    printf '%-44s FAILED after %d s\n' "$name" $((SECONDS - from))
    tail -n 40 "$scratch/said" | cut -c1-400
    return 1
  fi
  printf '%-44s %4d s\n' "$name" $((SECONDS - from))
}

# servers_of CLUSTER: the directory of the servers that JuiceFS volumes need there (tests/servers).
servers_of() { printf '%s/servers\n' "$1"; }

in_node() { tests/cluster/in "$cluster" "$@"; }
kubectl() { in_node timeout $((ready_limit + 10)) kubectl "$@"; }

# What a sidecar logs when it lacks a permission or a definition, or ends; it shows up there and nowhere else. What else it
# logs as errors depends on the moment (conflicts, volumes that tests want to fail), and is upstream's to judge.
alarming='is forbidden: User|cannot [a-z]+ resource|Unauthorized|could not find the requested resource|no matches for kind'
alarming+='|no kind is registered|unknown flag|panic:|\] F[0-9]{4} '

# sidecars_are_content: fails when a sidecar has logged something alarming.
sidecars_are_content() {
  local pod name found
  for pod in $(kubectl get pods --namespace "$namespace" -o name); do
    kubectl logs --namespace "$namespace" --all-containers --prefix "$pod"
  done >"$scratch/logs"
  kubectl logs --namespace kube-system --prefix deployment/snapshot-controller >>"$scratch/logs"
  for name in csi-provisioner csi-resizer csi-snapshotter snapshot-controller; do
    grep -q "/$name\] I" "$scratch/logs" || { printf 'no log of %s could be read\n' "$name" && return 1; }
  done
  found=$(grep -E '\] [EWF][0-9]{4} ' "$scratch/logs" | grep -E "$alarming" || true)
  [ -z "$found" ] || { printf '%s\n' "$found" && return 1; }
}

# use_cluster [DIR]: sets $cluster to DIR, where tests/kubernetes/up was called, or makes one that ends with this
# script, unless $keep is yes.
use_cluster() {
  cluster=${1:-}
  [ -z "$cluster" ] || return 0
  mkdir -p target/kubernetes
  cluster=$(mktemp -d "$PWD/target/kubernetes/XXXXXX")
  cluster_is_ours=yes
  tests/kubernetes/up "$cluster"
}

# return_cluster: takes down a cluster that use_cluster made, and fails when something of it is left.
return_cluster() {
  [ "$cluster_is_ours" = yes ] && [ "$keep" = no ] || return 0
  cluster_is_ours=no
  tests/kubernetes/down "$cluster"
}

end_of_use() {
  rm -rf "$scratch"
  if [ "$cluster_is_ours" = yes ] && [ "$keep" = yes ] && [ -s "$cluster/node.env" ]; then
    printf 'the cluster stays: %s\n' "$cluster"
    printf '  %s\n' "tests/cluster/in $cluster kubectl get pods -A" "$0 $cluster" "tests/kubernetes/down $cluster"
  else
    keep=no
    return_cluster || true
  fi
}
