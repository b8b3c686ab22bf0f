# Where do the CustomResourceDefinitions of volume snapshots come from?
#
# From the published Go module of the snapshotter's client, at the version that go/snapshot-crds/go.mod pins; nothing of
# it is compiled.
# shellcheck shell=bash disable=SC2154  # cluster_home: common.sh

snapshot_module=github.com/kubernetes-csi/external-snapshotter/client/v8
snapshot_kinds=(volumesnapshotclasses volumesnapshotcontents volumesnapshots)

# snapshot_crd_files: paths in the Go module cache.
snapshot_crd_files() {
  local module kind
  module=$(cd "$cluster_home/go/snapshot-crds" && go mod download -json "$snapshot_module" | jq -re .Dir) || return 1
  for kind in "${snapshot_kinds[@]}"; do
    printf '%s\n' "$module/config/crd/snapshot.storage.k8s.io_$kind.yaml"
  done
}

create_snapshot_crds() {
  local files file
  files=$(snapshot_crd_files) || die "the Go module $snapshot_module cannot be had"
  while read -r file; do
    kubectl apply --server-side -f "$file" >/dev/null
  done <<<"$files"
  kubectl wait --for=condition=Established --timeout=30s crd "${snapshot_kinds[@]/%/.snapshot.storage.k8s.io}" >/dev/null
}
