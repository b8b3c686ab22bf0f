# Process 1 of a node: stays until it is killed, and reaps what is orphaned in its PID namespace (bash does by itself).
# shellcheck shell=bash
ip link set lo up
while :; do
  sleep 86400 &
  wait $!
done
