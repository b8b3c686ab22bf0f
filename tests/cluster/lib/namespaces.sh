# How does a node get its own namespaces, how does a command enter them, and how do they end?
#
# A node is the process that is number 1 in a PID namespace (lib/init.sh). When it is killed, the kernel kills every
# process of the namespace, and the mounts and the network go with the last of them.
# shellcheck shell=bash disable=SC2154  # cluster_home: common.sh

init_start_limit=10 # seconds for unshare(1) to start one shell
init_end_limit=60   # seconds for the kernel to end some hundred processes that may hold busy FUSE mounts

# start_init DIR: starts the node's process 1 and writes "PID STARTTIME" to DIR/init.
start_init() {
  local dir=$1 parent child
  setsid unshare --mount --pid --net --uts --ipc --fork --kill-child=SIGKILL --mount-proc \
    bash "$cluster_home/lib/init.sh" </dev/null >>"$dir/log/init.log" 2>&1 9>&- &
  parent=$!
  disown "$parent"
  if ! await "$init_start_limit" "the node's first process" child_of "$parent"; then
    show_tail "$dir/log/init.log"
    return 1
  fi
  child=$(child_of "$parent")
  printf '%s %s\n' "$child" "$(start_time "$child")" >"$dir/init"
}

# child_of PID: the only child of unshare(1).
child_of() {
  local children
  children=$(cat "/proc/$1/task/$1/children" 2>/dev/null) || return 1
  [ -n "${children// /}" ] && printf '%s\n' "${children// /}"
}

# start_time PID: with the PID it names one process for as long as the machine runs (proc(5), field 22 of stat).
start_time() {
  local stat
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  local fields
  read -r -a fields <<<"${stat##*) }"
  printf '%s\n' "${fields[19]}"
}

# init_pid DIR: the PID of a node's process 1, seen from outside; fails if the node is not running.
init_pid() {
  local pid started
  [ -s "$1/init" ] || return 1
  read -r pid started <"$1/init"
  [ "$(start_time "$pid")" = "$started" ] && printf '%s\n' "$pid"
}

# enter DIR COMMAND...: runs a command in all namespaces of the node, in the caller's working directory.
enter() {
  local pid
  pid=$(init_pid "$1") || die "the node of '$1' is not running"
  shift
  nsenter --target "$pid" --mount --pid --net --uts --ipc -- env -C "$PWD" "$@"
}

# in_network DIR COMMAND...: runs a command in the node's network, but with the machine's files and PIDs.
in_network() {
  local pid
  pid=$(init_pid "$1") || die "the node of '$1' is not running"
  shift
  nsenter --target "$pid" --net -- "$@"
}

# end_init DIR: kills the node's process 1 and waits until everything in the node is gone.
end_init() {
  local pid
  pid=$(init_pid "$1") || return 0
  kill -KILL "$pid"
  await "$init_end_limit" "the end of the node's processes (D-state ones in: ps -eo pid,stat,wchan,args)" init_is_gone "$1"
}

init_is_gone() { ! init_pid "$1"; }
