# Which images do the specs start, and how are they made?
# shellcheck shell=bash disable=SC2154  # out, scratch: build.sh

# The names and tags are those that Kubernetes 1.34.4 uses (test/utils/image, manifest.go): the suite pulls nothing that is
# there.
e2e_registry=registry.k8s.io/e2e-test-images

make_agnhost() {
  local root=$scratch/agnhost
  mkdir -p "$root"/{bin,tmp}
  chmod 1777 "$root/tmp"
  install -m 0555 "$out/agnhost" "$root/agnhost"
  # The specs also start `/bin/sh` and its tools in it.
  add_busybox "$root"
  "$cluster_home/image.sh" "$e2e_registry/agnhost:2.56" "$out/images/agnhost.tar" "$root" 'Entrypoint=["/agnhost"]'
}

make_e2e_busybox() {
  local root=$scratch/busybox
  mkdir -p "$root"/{bin,dev,etc,mnt,proc,root,sys,tmp,usr/bin,var}
  chmod 1777 "$root/tmp"
  add_busybox "$root"
  echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
  echo 'root:x:0:' >"$root/etc/group"
  # Specs also run shell scripts in the images of nginx and of a DNS client, and need nothing else of them.
  local image
  for image in busybox:1.37.0-1 nginx:1.14-4 jessie-dnsutils:1.7; do
    "$cluster_home/image.sh" "$e2e_registry/$image" "$out/images/${image%%:*}.tar" "$root" 'Cmd=["sh"]'
  done
}

make_e2e_pause() {
  local root=$scratch/pause
  mkdir -p "$root"
  cc -Os -static -s -o "$root/pause" "$cluster_home/image/pause.c"
  "$cluster_home/image.sh" registry.k8s.io/pause:3.10.1 "$out/images/pause.tar" "$root" \
    'Entrypoint=["/pause"]' 'User="65535:65535"'
}

# add_busybox ROOT
add_busybox() {
  local busybox applet
  busybox=$(static_busybox) || return 1
  install -m 0755 "$busybox" "$1/bin/busybox"
  for applet in $("$busybox" --list); do
    [ "$applet" = busybox ] || ln -s busybox "$1/bin/$applet"
  done
}
