# How are nodes connected with each other, and with nothing else?
#
#   first node's network namespace              node 2's
#   node0 10.77.0.1 --- port1 |
#                             | bridge "fabric"
#                       port2 |----------------- node0 10.77.0.2
#
# Each node has node0, and a cable of its own to each of its pods (10.244.N.0/24, CNI plugin ptp): between pods
# everything is routed, so kube-proxy's rules see all of it. The first node routes between the others.
# shellcheck shell=bash disable=SC2034  # used by daemons.sh and up

node_prefix=10.77.0
first_node_address=$node_prefix.1
pods_cidr=10.244.0.0/16
services_cidr=10.96.0.0/16
first_service_address=10.96.0.1 # the API server's Service: always the first address of the range
server_url=https://$first_node_address:6443

# make_fabric DIR: the bridge, in the first node.
make_fabric() {
  in_network "$1" ip link add fabric type bridge
  in_network "$1" ip link set fabric up
  # The bridge stands for a switch outside the nodes: the first node's packet filter must not see what crosses it.
  # Where br_netfilter is loaded it would, and would translate addresses of its own packets a second time.
  in_network "$1" sysctl -qew net.bridge.bridge-nf-call-iptables=0
}

# connect_node HUB_DIR DIR INDEX: a cable from the bridge to the node, with addresses and routes.
connect_node() {
  local hub=$1 dir=$2 index=$3 address=$node_prefix.$3 pid
  pid=$(init_pid "$dir") || return 1
  in_network "$hub" ip link add "port$index" type veth peer name node0 netns "$pid"
  in_network "$hub" ip link set "port$index" master fabric up
  in_network "$dir" ip address add "$address/24" dev node0
  in_network "$dir" ip link set node0 up
  in_network "$dir" sysctl -qw net.ipv4.ip_forward=1
  if [ "$index" = 1 ]; then
    # Leads nowhere, but without a route the kernel refuses Service addresses before kube-proxy's rules see them.
    in_network "$dir" ip route add default dev node0
  else
    in_network "$dir" ip route add default via "$first_node_address"
    in_network "$hub" ip route replace "$(pods_of "$index")" via "$address"
  fi
}

# pods_of INDEX: the subnet of a node's pods.
pods_of() { printf '10.244.%d.0/24\n' "$1"; }

# disconnect_node HUB_DIR INDEX: the route; the cable goes with the node.
disconnect_node() { in_network "$1" ip route del "$(pods_of "$2")" 2>/dev/null || true; }
