#!/usr/bin/env bash
# Builds s3-server, the object storage of the JuiceFS tests, into OUTDIR: 20 seconds at first, with nothing to do one.
#
# usage: tests/servers/build.sh [OUTDIR]     (OUTDIR: target/servers)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/../../target/servers}
command -v go >/dev/null || { printf 'tests/servers/build.sh: there is no go on PATH; Go 1.26 or newer is needed\n' >&2; exit 1; }
mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$here/go"

# One build at a time: two tests may call this at once.
exec 9>"$out/.lock"
flock 9
# -buildvcs=false: a commit alone makes nothing out of date.
CGO_ENABLED=0 exec go build -trimpath -buildvcs=false -ldflags '-s -w' -o "$out/" ./s3-server
