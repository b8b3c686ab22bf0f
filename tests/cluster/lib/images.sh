# Which images does every node of the test cluster hold, and how are they made?
# shellcheck shell=bash disable=SC2154  # cluster_home: common.sh

pause_image=mountpod.test/pause:1
busybox_image=mountpod.test/busybox:1

# make_images OUTDIR: writes pause.tar and busybox.tar there, unless they are newer than what they are made of.
make_images() {
  local out=$1 busybox scratch
  busybox=$(static_busybox) || return 1
  mkdir -p "$out"
  (
    flock 9
    up_to_date "$out/busybox.tar" "$busybox" && up_to_date "$out/pause.tar" "$cluster_home/image/pause.c" && exit 0
    umask 022
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    make_pause "$scratch/pause" "$out/pause.tar"
    make_busybox "$scratch/busybox" "$busybox" "$out/busybox.tar"
  ) 9>"$out/.lock"
}

# up_to_date ARCHIVE SOURCE
up_to_date() {
  [ "$1" -nt "$2" ] && [ "$1" -nt "$cluster_home/image.sh" ] && [ "$1" -nt "$cluster_home/lib/images.sh" ]
}

make_pause() {
  local root=$1 archive=$2
  mkdir -p "$root"
  cc -Os -static -s -o "$root/pause" "$cluster_home/image/pause.c"
  "$cluster_home/image.sh" "$pause_image" "$archive" "$root" 'Entrypoint=["/pause"]' 'User="65535:65535"'
}

make_busybox() {
  local root=$1 busybox=$2 archive=$3 applet
  mkdir -p "$root"/{bin,dev,etc,mnt,proc,root,sys,tmp,var}
  chmod 1777 "$root/tmp"
  install -m 0755 "$busybox" "$root/bin/busybox"
  for applet in $("$busybox" --list); do
    [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
  done
  echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
  echo 'root:x:0:' >"$root/etc/group"
  "$cluster_home/image.sh" "$busybox_image" "$archive" "$root" 'Cmd=["/bin/sh"]'
}

# A dynamically linked busybox would not start in an image of its own.
static_busybox() {
  local found
  for found in /bin/busybox /usr/bin/busybox /bin/busybox.static; do
    if [ -x "$found" ] && ! ldd "$found" >/dev/null 2>&1; then # ldd fails on a static program
      printf '%s\n' "$found"
      return 0
    fi
  done
  complain "there is no static busybox (Debian's package busybox-static)"
  return 1
}
