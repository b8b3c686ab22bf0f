#!/bin/sh
# Builds the Go programs that the tests use into OUTDIR (default: target/go): csi-sanity and descriptor, static.
# Go itself sees what is up to date: a second call takes about a second and writes nothing.
# usage: tests/go/build.sh [OUTDIR]
set -eu

here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/../../target/go}

if ! command -v go >/dev/null 2>&1; then
    echo "tests/go/build.sh: 'go' is not on PATH; the CSI tests need Go 1.26 or later (https://go.dev/dl/)" >&2
    exit 1
fi

mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$here"

# One build at a time: two tests may call this at once, and a program must not be replaced while the other starts it.
exec 9>"$out/.lock"
flock 9
# -buildvcs=false: a commit alone makes nothing out of date.
CGO_ENABLED=0 exec go build -trimpath -buildvcs=false -ldflags '-s -w' -o "$out/" tool ./descriptor
