# Keeps one daemon of a node running, as systemd's Restart=always would: a test may kill it to see a restart.
# usage: bash supervise.sh NAME DIR COMMAND...    (inside the node; log: DIR/log/NAME.log, PID: DIR/pids/NAME)
# shellcheck shell=bash
name=$1 dir=$2
shift 2
exec >>"$dir/log/$name.log" 2>&1 </dev/null
while :; do
  "$@" &
  printf '%s\n' $! >"$dir/pids/$name"
  wait $!
  printf 'supervise: %s ended with status %d at %s; it starts again in 1 s\n' "$name" $? "$(date -u +%FT%TZ)"
  sleep 1
done
