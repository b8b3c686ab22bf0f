#!/usr/bin/env bash
# Makes a container image without a container engine: one layer from a directory, as an OCI archive.
#
# usage: tests/cluster/image.sh NAME:TAG ARCHIVE ROOTFS_DIR [KEY=JSON]...
#
#   NAME:TAG     full name, with its registry: mountpod.test/busybox:1
#   ARCHIVE      the tar file to write; containerd, Podman and Docker (25 or newer) can load it
#   ROOTFS_DIR   what the image holds; owners and times are not taken from it, modes are
#   KEY=JSON     a key of the image's config (OCI image specification, "config"), for example
#                'Entrypoint=["/pause"]' 'User="65532:65532"' 'Labels={"a":"b"}'
#
# The same input gives the same bytes: entries sorted, owner 0, all times SOURCE_DATE_EPOCH (default 0).
# PLATFORM=linux/arm64 (say) names a platform other than this machine's.
set -euo pipefail

epoch=${SOURCE_DATE_EPOCH:-0}
path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

fail() {
  printf 'tests/cluster/image.sh: %s\n' "$1" >&2
  exit 2
}

this_platform() {
  case "$(uname -m)" in
    x86_64) echo linux/amd64 ;;
    aarch64) echo linux/arm64 ;;
    *) echo "linux/$(uname -m)" ;;
  esac
}

# {"Env": [...], KEY: JSON, ...}
config_object() {
  local object word
  object=$(jq -nc --arg path "PATH=$path" '{Env: [$path]}')
  for word in "$@"; do
    [[ $word == *=* ]] || fail "'$word' is not KEY=JSON"
    object=$(jq -c --arg key "${word%%=*}" --argjson value "${word#*=}" '.[$key] = $value' <<<"$object") ||
      fail "the value of ${word%%=*} is not JSON: ${word#*=}"
  done
  printf '%s\n' "$object"
}

plain_tar() {
  tar --format=gnu --sort=name --mtime="@$epoch" --owner=0 --group=0 --numeric-owner --hard-dereference "$@"
}

sha256() { sha256sum "$1" | cut -d' ' -f1; }

# Moves FILE into the blobs of the layout and prints its descriptor for media type TYPE.
blob() {
  local file=$1 type=$2 digest
  digest=$(sha256 "$file")
  jq -nc --arg type "$type" --arg digest "sha256:$digest" --argjson size "$(stat -c %s "$file")" \
    '{mediaType: $type, digest: $digest, size: $size}'
  mv "$file" "$layout/blobs/sha256/$digest"
}

[ $# -ge 3 ] || fail "usage: image.sh NAME:TAG ARCHIVE ROOTFS_DIR [KEY=JSON]..."
name=$1 archive=$2 rootfs=$3
shift 3
[[ ${name##*/} == *:* ]] || fail "'$name' has no tag"
[ -d "$rootfs" ] || fail "there is no directory '$rootfs'"
command -v jq >/dev/null || fail "jq is missing"
config=$(config_object "$@")
platform=${PLATFORM:-$(this_platform)}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
layout=$scratch/layout
mkdir -p "$layout/blobs/sha256"
created=$(date -u -d "@$epoch" +%Y-%m-%dT%H:%M:%SZ)

plain_tar -C "$rootfs" -cf "$scratch/layer.tar" .
content=sha256:$(sha256 "$scratch/layer.tar")
gzip -n "$scratch/layer.tar"
layer=$(blob "$scratch/layer.tar.gz" application/vnd.oci.image.layer.v1.tar+gzip)

jq -nc --arg os "${platform%%/*}" --arg architecture "${platform#*/}" --arg created "$created" \
  --argjson config "$config" --arg content "$content" \
  '{architecture: $architecture, os: $os, created: $created, config: $config,
    rootfs: {type: "layers", diff_ids: [$content]}, history: [{created: $created}]}' >"$scratch/config.json"
config_blob=$(blob "$scratch/config.json" application/vnd.oci.image.config.v1+json)

jq -nc --argjson config "$config_blob" --argjson layer "$layer" \
  '{schemaVersion: 2, mediaType: "application/vnd.oci.image.manifest.v1+json", config: $config, layers: [$layer]}' \
  >"$scratch/manifest.json"
manifest_blob=$(blob "$scratch/manifest.json" application/vnd.oci.image.manifest.v1+json)

# containerd and Docker read the first annotation, Podman the second.
jq -nc --argjson manifest "$manifest_blob" --arg name "$name" --arg os "${platform%%/*}" --arg architecture "${platform#*/}" \
  '{schemaVersion: 2, manifests: [$manifest + {platform: {os: $os, architecture: $architecture},
    annotations: {"io.containerd.image.name": $name, "org.opencontainers.image.ref.name": $name}}]}' >"$layout/index.json"
printf '{"imageLayoutVersion":"1.0.0"}' >"$layout/oci-layout"
chmod -R u=rwX,go=rX "$layout"

mkdir -p "$(dirname "$archive")"
plain_tar -C "$layout" -cf "$scratch/archive.tar" blobs index.json oci-layout
mv "$scratch/archive.tar" "$archive"
