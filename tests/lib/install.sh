# What do the tests need of the machine, and how does it get there?

# The Go modules of the test programs ask for this version; an older go fetches it by itself (go.dev/doc/toolchain).
go_minimum=1.21

die() {
  printf 'tests/run: %s\n' "$1" >&2
  printf '0 passed, 1 failed\n'
  exit 1
}

require_machine() {
  [ "$(id -u)" -eq 0 ] || die "the tests mount real file systems and need root: sudo tests/run"
  [ -c /dev/fuse ] || modprobe fuse 2>/dev/null || true
  [ -c /dev/fuse ] || die "there is no /dev/fuse: this kernel has no FUSE, or the container does not show it"
  command -v cargo >/dev/null || die "there is no cargo: install Rust 1.95 or newer (https://rustup.rs)"
}

install_tools() {
  local wanted=()
  command -v cc >/dev/null || wanted+=(gcc libc6-dev)
  command -v jq >/dev/null || wanted+=(jq)
  go_is_new_enough || wanted+=(golang-go)
  # The server itself, without the service that the package redis-server starts.
  command -v redis-server >/dev/null || command -v redis-check-rdb >/dev/null || wanted+=(redis-tools)
  command -v ip >/dev/null || wanted+=(iproute2)
  command -v openssl >/dev/null || wanted+=(openssl)
  if [ ${#wanted[@]} -gt 0 ]; then
    command -v apt-get >/dev/null || die "these are missing and there is no apt-get to install them: ${wanted[*]}"
    printf '=== installing %s\n' "${wanted[*]}"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${wanted[@]}" ||
      die "apt-get could not install ${wanted[*]}"
  fi
  go_is_new_enough || die "go $go_minimum or newer is needed for csi-sanity; the one that apt-get installs is older"
}

go_is_new_enough() {
  local version
  version=$(go env GOVERSION 2>/dev/null) || return 1
  [ "$(printf '%s\n' "$go_minimum" "${version#go}" | sort -V | head -n 1)" = "$go_minimum" ]
}
