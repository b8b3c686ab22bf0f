# How a step is run, counted and summed up.

passed=0
failed=0
begun=$SECONDS
declare -a ran=()

# step NAME COMMAND...: prints the name, runs the command, counts one.
step() {
  local name=$1 from=$SECONDS status
  shift
  printf '\n=== %s\n' "$name"
  "$@"
  status=$?
  if [ $status -eq 0 ]; then
    passed=$((passed + 1)) && ran+=("ok      $name ($((SECONDS - from)) s)")
  else
    failed=$((failed + 1)) && ran+=("FAILED  $name ($((SECONDS - from)) s, exit code $status)")
  fi
  return 0
}

# rust_tests NAME ARGS...: cargo test, counting each of its tests.
rust_tests() {
  local name=$1 from=$SECONDS status counts log
  shift
  printf '\n=== %s\n' "$name"
  log=$(mktemp target/logs/tests.XXXXXX)
  cargo test "$@" -- --show-output 2>&1 | tee "$log" | show_tests
  status=${PIPESTATUS[0]}
  counts=$(awk '/^test result:/ { p += $4; f += $6; i += $8 } END { print p + 0, f + 0, i + 0 }' "$log")
  read -r p f ignored <<<"$counts"
  # A test binary that does not build, or that dies before its last line, is a failure that no test counts.
  if [ "$status" -ne 0 ] && [ "$f" -eq 0 ]; then f=1; fi
  if [ "$ignored" -ne 0 ]; then f=$((f + ignored)); fi
  if [ "$p" -eq 0 ]; then f=$((f + 1)); fi
  passed=$((passed + p))
  failed=$((failed + f))
  ran+=("$([ "$f" -eq 0 ] && echo 'ok     ' || echo 'FAILED ') $name: $p passed, $f failed ($((SECONDS - from)) s)")
}

# Of cargo's lines a person needs the programs, the failures and the figures (lines that begin with a lower-case word
# and a colon, as "chaos: 60 kills ...").
show_tests() {
  grep --line-buffered -E '^ +(Running|Compiling|Doc-tests)|^test result|^test .*FAILED|panicked|^error|^warning|^----|^[a-z-]+( [a-z-]+)?( seed [0-9]+)?: ' || true
}

# The programs of the images, so that they are compiled once.
demo() {
  local programs
  programs=$(deploy/images/binaries) && "$programs/mountpod" demo
}

benchmarks() {
  deploy/images/cargo bench --quiet 2>&1 | tee target/logs/bench.txt
  return "${PIPESTATUS[0]}"
}

# A real Kubernetes node comes up, does what the tests of mount pods will need, and leaves nothing.
cluster() {
  tests/cluster/install && tests/cluster/build.sh && tests/cluster/smoke
}

# kubernetes SPECS: the driver on a real Kubernetes: its chart, its images, the CSI sidecars. All that needs them shares
# one cluster. SPECS (--quick or --all) are those of Kubernetes' own suite.
kubernetes() {
  local cluster
  mkdir -p target/kubernetes
  cluster=$(mktemp -d "$PWD/target/kubernetes/XXXXXX")
  # shellcheck disable=SC2064  # the directory of now is meant
  trap "tests/kubernetes/down '$cluster'" EXIT
  step "a cluster with the driver on it" driver_cluster "$cluster"
  step "the driver on that Kubernetes" tests/kubernetes/run "$cluster"
  step "the external storage suite of Kubernetes" tests/cluster/e2e/run "$cluster" "$1"
  trap - EXIT
  step "that cluster goes, and leaves nothing" tests/kubernetes/down "$cluster"
}
driver_cluster() {
  tests/cluster/install && tests/cluster/build.sh && tests/kubernetes/up "$1" --dry-run
}

# A JuiceFS volume on the servers that tests use, without a mount.
servers() {
  tests/servers/build.sh && mount-image/clients >/dev/null && tests/servers/smoke
}

dependencies() {
  command -v cargo-deny >/dev/null || cargo install --quiet --locked --version 0.20.2 cargo-deny || return 1
  cargo deny --all-features check bans licenses sources
}

# What of ours a machine shows: mounts, processes of mount pods, control groups.
marks_of_ours() {
  grep -oE ' mountpod:[0-9a-f]+:[0-9a-f]+ ' /proc/self/mountinfo | sort | uniq -c
  for command in /proc/[0-9]*/cmdline; do
    { tr '\0' ' ' <"$command"; } 2>/dev/null | grep -oE '(mount-agent --socket|mount-hostdir serve|mountpod standalone).*'
  done
  find /sys/fs/cgroup -maxdepth 4 -path '*/mountpod/*' -type d 2>/dev/null
}

# nothing_left BEFORE: what was there before this run was somebody else's.
nothing_left() {
  local now
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    now=$(marks_of_ours)
    [ "$now" = "$1" ] && return 0
    sleep 1
  done
  diff <(printf '%s\n' "$1") <(printf '%s\n' "$now")
}

summary() {
  printf '\n=== what ran (%s, %d s)\n' "$1" $((SECONDS - begun))
  printf '%s\n' "${ran[@]}"
  printf '%d passed, %d failed\n' "$passed" "$failed"
  [ "$failed" -eq 0 ]
}
