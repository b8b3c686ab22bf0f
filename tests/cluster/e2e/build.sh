#!/usr/bin/env bash
# Builds the external storage suite of Kubernetes, and images of what its specs start in pods.
# usage: tests/cluster/e2e/build.sh [OUTDIR]     (OUTDIR: target/cluster/e2e: e2e.test, and archives in images/)
#
# A call with nothing to do costs a checksum of the sources. The module has the pins of tests/cluster/go, so a cache in
# which the cluster was built spares half of the work. The caller may slow it down with nice(1) and GOFLAGS=-p=1.
set -euo pipefail
# shellcheck source=../lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/common.sh"
# shellcheck source=../lib/images.sh
. "$cluster_home/lib/images.sh"
# shellcheck source=images.sh
. "$cluster_home/e2e/images.sh"

module=$cluster_home/go/e2e
out=${1:-$cluster_target/e2e}
link=(-trimpath -buildvcs=false -ldflags '-s -w')

# Everything that decides what is built: the sources, the scripts, the compiler, the shell of the images.
fingerprint() {
  (
    cd "$cluster_home"
    sha256sum e2e/build.sh e2e/images.sh image.sh image/pause.c go/e2e/* "$(static_busybox)"
    go env GOVERSION GOARCH
  ) | sha256sum | cut -d' ' -f1
}

compile() {
  cd "$module"
  export CGO_ENABLED=0
  go test -c "${link[@]}" -o "$out/e2e.test" .
  go build "${link[@]}" -o "$out/agnhost" k8s.io/kubernetes/test/images/agnhost
  go build "${link[@]}" -o "$out/ginkgo" github.com/onsi/ginkgo/v2/ginkgo
}

command -v go >/dev/null || die "there is no go on PATH; Go 1.26 or newer is needed"
umask 022
mkdir -p "$out/images"
out=$(cd "$out" && pwd)

# One build at a time: two tests may call this at once.
exec 9>"$out/.lock"
flock 9
wanted=$(fingerprint)
[ "$(cat "$out/.fingerprint" 2>/dev/null)" != "$wanted" ] || exit 0
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
say "building the external storage suite with $(go env GOVERSION); the first time takes 5 to 20 minutes"
began=$EPOCHREALTIME
rm -f "$out/.fingerprint"
(compile)
make_agnhost
make_e2e_busybox
make_e2e_pause
printf '%s\n' "$wanted" >"$out/.fingerprint"
say "built the external storage suite in $(seconds_since "$began") s: $(du -h "$out/e2e.test" | cut -f1)"
