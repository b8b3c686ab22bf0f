# How a step is run, counted and summed up.

passed=0
failed=0
begun=$SECONDS
declare -a ran=()

# step NAME COMMAND...: prints the name, runs the command, counts one; $status says how it ended.
step() {
  local name=$1 from=$SECONDS log
  shift
  begin "$name"
  "$@" >"$log" 2>&1
  status=$?
  if [ $status -eq 0 ]; then
    passed=$((passed + 1)) && ran+=("ok      $name ($((SECONDS - from)) s)")
    figures "$log"
    tail -n 1 "$log" | short
  else
    failed=$((failed + 1)) && ran+=("FAILED  $name ($((SECONDS - from)) s, exit code $status)")
    fails "$log"
  fi
  return 0
}

# begin NAME: prints the name, and sets the caller's $log to a file for what the step prints. Whole, it would be too much
# to read, and would be cut where it is kept.
lane=''
begin() {
  log=target/logs/$lane$(printf '%s' "$1" | tr -c 'a-zA-Z0-9-' '_').log
  printf '\n=== %s (%s)\n' "$1" "$log"
}

# Lines for a person: not wider than a page.
short() { cut -c1-160 | sed 's/, 0 failed//'; }

# Of what a step printed, what was measured: "chaos: 60 kills ...", "warm publish ... held".
figures() {
  grep -E '^[a-z-]+( [a-z-]+)?( seed [0-9]+)?: .*[0-9]|  held$| x$' "$1" | grep -v '^test result' | sed 's/^ */    /' | short | head -n 40 || true
}

# fails LOG: shows why, now and once more at the end; the end of a long run is what is read.
reasons=''
fails() {
  local reason
  reason=$(reason_in "$1")
  printf 'FAILED:\n%s\n' "$reason"
  reasons+=$(printf '\n--- %s\n%s' "$1" "$reason")$'\n'
}

# What is near a word that only failures have; without such a word, the end.
failure_words='\.\.\. FAILED|^FAIL|FAILED after|^test result: FAILED|NOT HELD|^not ok|^error(\[|:)|^failures:$'
reason_in() {
  { grep -nE -B 8 -A 25 "$failure_words" "$1" || tail -n 40 "$1"; } | cut -c1-400 | head -n 120
}

# aside STEPS...: runs steps in the background, until join_aside shows what they printed and counts them.
aside=''
aside() {
  printf '\n=== in the background, shown when it has ended: %s\n' "$*"
  beside=$(mktemp target/logs/aside.XXXXXX)
  # A process group of its own, so that all of it can be ended.
  set -m
  {
    passed=0 failed=0 ran=() reasons='' aside='' lane=aside-
    "$@" </dev/null >"$beside" 2>&1
    printf '%s' "$reasons" >"$beside.reasons"
    printf '%s\n' "$passed" "$failed" "${ran[@]}" >"$beside.counts"
  } &
  aside=$!
  set +m
}

join_aside() {
  local p f lines
  [ -n "$aside" ] || return 0
  wait "$aside"
  aside=''
  cat "$beside"
  if { read -r p && read -r f && mapfile -t lines; } <"$beside.counts" && [ $((p + f)) -gt 0 ]; then
    passed=$((passed + p)) failed=$((failed + f)) ran+=("${lines[@]}")
    reasons+=$(cat "$beside.reasons")
  else
    failed=$((failed + 1)) && ran+=("FAILED  what ran in the background did not come to its end")
  fi
}

end_aside() {
  [ -z "$aside" ] || { kill -TERM -- "-$aside" && wait "$aside"; } 2>/dev/null
  aside=''
}

# rust_tests NAME ARGS...: cargo test, counting each of its tests.
rust_tests() {
  local name=$1 from=$SECONDS status counts log p f ignored
  shift
  begin "$name"
  # Most tests wait for something, a heartbeat or a limit, and leave the processors to others.
  export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$((2 * $(nproc)))}
  cargo test "$@" -- --show-output 2>&1 | tee "$log" | programs_that_ran
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
  figures "$log"
  [ "$f" -eq 0 ] || fails "$log"
}

# Of cargo's lines: each program that had tests, with their number.
programs_that_ran() {
  awk '/^ +(Running|Doc-tests)/ { name = $2 == "unittests" ? $3 : $2 }
    /^test result:/ && ($4 + $6 > 0) { printf "    %s: %d passed%s\n", name, $4, ($6 > 0 ? ", " $6 " FAILED" : ""); fflush() }'
}

# The programs of the images, so that they are compiled once.
demo() {
  local programs
  programs=$(deploy/images/binaries) && "$programs/mountpod" demo
}

benchmarks() { deploy/images/cargo bench --quiet; }

cluster_programs() {
  tests/cluster/install && tests/cluster/build.sh
}

# on_a_cluster STEPS...: runs steps that are told the directory of a new cluster with the driver on it: its chart, its
# images, the CSI sidecars.
on_a_cluster() {
  local cluster
  mkdir -p target/kubernetes
  cluster=$(mktemp -d "$PWD/target/kubernetes/XXXXXX")
  # shellcheck disable=SC2064  # the directory of now is meant
  trap "end_aside; tests/kubernetes/down '$cluster'" EXIT
  step "a cluster with the driver on it" tests/kubernetes/up "$cluster" --dry-run
  # Without it each of the others would wait for it, scenario by scenario.
  if [ "$status" -eq 0 ]; then "$@" "$cluster"; else join_aside; fi
  step "that cluster goes, and leaves nothing" tests/kubernetes/down "$cluster"
  trap end_aside EXIT
}

# Of JuiceFS, what goes beside the scenarios of the driver, so that both clusters take about as long.
here=(--only juicefs_configs --only juicefs_on_one_node)

scenarios_and_bench() {
  step "the driver on that Kubernetes" tests/kubernetes/run "$1" --without juicefs --without bench
  step "JuiceFS volumes that need something of a node or cluster" tests/kubernetes/run "$1" "${here[@]}"
  join_aside
  # The look for secrets once more: clients that are renewed and killed get theirs again.
  step "what is measured on that Kubernetes" tests/kubernetes/run "$1" \
    --only bench --only juicefs_clients --only juicefs_secrets
}

# juicefs_and_specs SPECS CLUSTER: SPECS are those of Kubernetes' own suite, --quick or --all.
juicefs_and_specs() {
  step "JuiceFS volumes on another Kubernetes" tests/kubernetes/run "$2" --only juicefs "${here[@]/--only/--without}" \
    --without juicefs_clients
  step "the external storage suite of Kubernetes" tests/cluster/e2e/run "$2" "$1"
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
  [ -z "$reasons" ] || printf '\n=== what failed\n%s\n\n' "$reasons"
  printf '%d passed, %d failed\n' "$passed" "$failed"
  [ "$failed" -eq 0 ]
}
