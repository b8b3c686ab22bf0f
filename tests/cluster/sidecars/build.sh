#!/usr/bin/env bash
# Builds the CSI sidecars, and of each an image for tests/cluster/load under the name that the project's manifests use.
# usage: tests/cluster/sidecars/build.sh [OUTDIR]     (OUTDIR: target/cluster/sidecars; programs there, images in images/)
#
# A call with nothing to do costs a checksum of the sources. A cold build takes about 6 CPU minutes; the caller may slow
# it down with nice(1) and GOFLAGS=-p=1.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${1:-$here/../../../target/cluster/sidecars}
registry=registry.k8s.io/sig-storage

# program, image, tag, package. The last two are stand-ins of our own: upstream's are not published as Go modules.
# The tags are the defaults of the project's Helm chart.
table() {
  local csi=github.com/kubernetes-csi
  cat <<END
csi-provisioner        csi-provisioner            v6.3.0   $csi/external-provisioner/v6/cmd/csi-provisioner
csi-resizer            csi-resizer                v2.3.0   $csi/external-resizer/v2/cmd/csi-resizer
csi-snapshotter        csi-snapshotter            v8.7.0   $csi/external-snapshotter/v8/cmd/csi-snapshotter
snapshot-controller    snapshot-controller        v8.7.0   $csi/external-snapshotter/v8/cmd/snapshot-controller
csi-attacher           csi-attacher               v4.13.0  $csi/external-attacher/v4/cmd/csi-attacher
node-driver-registrar  csi-node-driver-registrar  v2.15.0  ./node-driver-registrar
livenessprobe          livenessprobe              v2.17.0  ./livenessprobe
END
}

# Everything that decides what the images are: the sources, the scripts, the compiler.
fingerprint() {
  (cd "$here" && sha256sum build.sh ../image.sh go/go.mod go/go.sum go/*/*.go && go env GOVERSION GOARCH) |
    sha256sum | cut -d' ' -f1
}

# make PROGRAM IMAGE TAG PACKAGE
make() {
  local program=$1 image=$2 tag=$3 package=$4 root=$scratch/$1
  # The version is what the program prints and says of itself to the API server.
  (cd "$here/go" && CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$tag" \
    -o "$out/$program.new" "$package")
  mv "$out/$program.new" "$out/$program"
  mkdir -p "$root"
  install -m 0555 "$out/$program" "$root/$program"
  "$here/../image.sh" "$registry/$image:$tag" "$out/images/$program.tar" "$root" "Entrypoint=[\"/$program\"]"
  rm -rf "$root"
}

if ! command -v go >/dev/null; then
  printf 'tests/cluster/sidecars/build.sh: there is no go on PATH; Go 1.26 or newer is needed\n' >&2
  exit 1
fi
umask 022
mkdir -p "$out/images"
out=$(cd "$out" && pwd)

# One build at a time: two tests may call this at once.
exec 9>"$out/.lock"
flock 9
wanted=$(fingerprint)
if [ "$(cat "$out/.fingerprint" 2>/dev/null)" = "$wanted" ]; then
  exit 0
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
printf 'building the CSI sidecars with %s; the first time takes 3 to 10 minutes\n' "$(go env GOVERSION)"
began=$SECONDS
rm -f "$out/.fingerprint" # half a set must not pass for one
while read -r program image tag package; do
  make "$program" "$image" "$tag" "$package"
done < <(table)
printf '%s\n' "$wanted" >"$out/.fingerprint"
printf 'built the sidecars in %d s: %s of programs, %s of images\n' $((SECONDS - began)) \
  "$(cd "$out" && table | cut -d' ' -f1 | xargs du -ch | tail -1 | cut -f1)" "$(du -sh "$out/images" | cut -f1)"
