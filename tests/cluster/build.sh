#!/usr/bin/env bash
# Builds the program that holds Kubernetes and etcd, with one symlink for each of its parts.
# usage: tests/cluster/build.sh [OUTDIR]     (OUTDIR: target/cluster/bin)
#
# A call with nothing to do costs a checksum of the sources. A cold build takes about 10 CPU minutes and 1 GB of
# memory; the caller may slow it down with nice(1) and GOFLAGS=-p=1.
set -euo pipefail

kubernetes=1.34.4
program=mountpod-cluster
parts=(etcd kube-apiserver kube-controller-manager kube-proxy kube-scheduler kubelet kubectl cluster-pki)

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${1:-$here/../../target/cluster/bin}

version_flags() {
  local minor=${kubernetes#*.} package=k8s.io/component-base/version
  printf -- '-X %s ' \
    "$package.gitVersion=v$kubernetes" "$package.gitMajor=${kubernetes%%.*}" "$package.gitMinor=${minor%%.*}" \
    "$package.gitTreeState=clean" "k8s.io/client-go/pkg/version.gitVersion=v$kubernetes"
}

# Everything that decides what the program is: the sources, this script, the compiler.
fingerprint() {
  (cd "$here" && sha256sum build.sh go/go.mod go/go.sum go/*.go && go env GOVERSION GOARCH) | sha256sum | cut -d' ' -f1
}

compile() {
  cd "$here/go"
  CGO_ENABLED=0 go build -trimpath -buildvcs=false -tags grpcnotrace,selinux,notest \
    -ldflags "-s -w $(version_flags)" -o "$out/$program.new" .
  mv "$out/$program.new" "$out/$program"
}

if ! command -v go >/dev/null; then
  printf 'tests/cluster/build.sh: there is no go on PATH; Go 1.24 or newer is needed\n' >&2
  exit 1
fi
mkdir -p "$out"
out=$(cd "$out" && pwd)

# One build at a time: two tests may call this at once.
exec 9>"$out/.lock"
flock 9
wanted=$(fingerprint)
if [ -x "$out/$program" ] && [ "$(cat "$out/.fingerprint" 2>/dev/null)" = "$wanted" ]; then
  exit 0
fi
printf 'building %s (Kubernetes %s) with %s; the first time takes 5 to 15 minutes\n' "$program" "$kubernetes" "$(go env GOVERSION)"
began=$SECONDS
(compile)
for part in "${parts[@]}"; do
  ln -sfn "$program" "$out/$part"
done
printf '%s\n' "$wanted" >"$out/.fingerprint"
printf 'built %s in %d s: %s\n' "$program" $((SECONDS - began)) "$(du -h "$out/$program" | cut -f1)"
