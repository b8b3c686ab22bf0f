# Which daemons make a node, with which options, and how is each one started?
#
# All functions work on the node that read_node() read.
# shellcheck shell=bash disable=SC2054,SC2154  # commas belong to the options; the facts come from elsewhere

# write_configs: the files of config/, filled in.
write_configs() {
  local config=$node_dir/config
  mkdir -p "$config/cni" "$config/volume-plugins"
  cp "$cluster_home/config/audit-policy.yaml" "$config/"
  printf 'nameserver 127.0.0.1\n' >"$config/resolv.conf"
  fill containerd.toml >"$config/containerd.toml"
  fill kubelet.yaml >"$config/kubelet.yaml"
  fill cni.conflist >"$config/cni/10-pods.conflist"
}

# fill NAME: prints config/NAME.in with this node's facts.
fill() {
  sed -e "s#@DIR@#$node_dir#g" -e "s#@ADDRESS@#$node_address#g" -e "s#@CGROUP@#$node_cgroup#g" \
    -e "s#@PODS@#$node_pods#g" -e "s#@PAUSE_IMAGE@#$pause_image#g" -e "s#@CNI_BIN@#$(cni_directory)#g" \
    -e "s#@SNAPSHOTTER@#$(snapshotter)#g" -e "s#@MAX_OPEN_FILES@#$(max_open_files)#g" "$cluster_home/config/$1.in"
}

cni_directory() {
  local found
  for found in /usr/lib/cni /opt/cni/bin; do
    [ -x "$found/ptp" ] && printf '%s\n' "$found" && return
  done
  return 1
}

# An overlay cannot have another overlay as its writable layer (tests in a container).
snapshotter() {
  if [ "$(stat -f -c %T "$node_dir")" = overlayfs ]; then echo native; else echo overlayfs; fi
}

max_open_files() {
  local allowed usual=1000000
  allowed=$(ulimit -Hn)
  if [ "$allowed" = unlimited ] || [ "$allowed" -gt "$usual" ]; then echo "$usual"; else echo "$allowed"; fi
}

# start NAME COMMAND...: a supervised daemon in the node; see lib/supervise.sh.
start() {
  local name=$1
  shift
  # shellcheck disable=SC2016  # expanded inside the node
  enter "$node_dir" bash -c 'setsid bash "$@" </dev/null >/dev/null 2>&1 9>&- &' start \
    "$cluster_home/lib/supervise.sh" "$name" "$node_dir" "$@"
}

start_containerd() { start containerd containerd --config "$node_dir/config/containerd.toml"; }

start_etcd() { start etcd "$cluster_bin/etcd" "$node_dir/etcd" http://127.0.0.1:2379 http://127.0.0.1:2380; }

start_apiserver() {
  local pki=$node_dir/pki
  local options=(
    --etcd-servers=http://127.0.0.1:2379
    --bind-address=0.0.0.0 --advertise-address="$node_address" --secure-port=6443
    --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key"
    --client-ca-file="$pki/ca.crt"
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction
    --service-cluster-ip-range="$services_cidr"
    --allow-privileged=true
    # to the kubelets
    --kubelet-preferred-address-types=InternalIP
    --kubelet-certificate-authority="$pki/ca.crt"
    --kubelet-client-certificate="$pki/apiserver-kubelet-client.crt"
    --kubelet-client-key="$pki/apiserver-kubelet-client.key"
    # to aggregated API servers
    --requestheader-client-ca-file="$pki/ca.crt" --requestheader-allowed-names=front-proxy-client
    --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group
    --requestheader-extra-headers-prefix=X-Remote-Extra-
    --proxy-client-cert-file="$pki/front-proxy-client.crt" --proxy-client-key-file="$pki/front-proxy-client.key"
    # tokens of service accounts
    --service-account-issuer=https://kubernetes.default.svc
    --service-account-key-file="$pki/sa.pub" --service-account-signing-key-file="$pki/sa.key"
    # every request, written before it is answered; one file, never rotated
    --audit-policy-file="$node_dir/config/audit-policy.yaml" --audit-log-path="$node_dir/audit.log"
    --audit-log-mode=blocking --audit-log-maxsize=100000
  )
  start apiserver "$cluster_bin/kube-apiserver" "${options[@]}"
}

# client_options NAME: how a part of the control plane reaches the API server, one option a line.
client_options() {
  local kubeconfig=$node_dir/pki/$1.kubeconfig
  printf '%s\n' --kubeconfig="$kubeconfig" --authentication-kubeconfig="$kubeconfig" --authorization-kubeconfig="$kubeconfig"
}

start_controller_manager() {
  local pki=$node_dir/pki options
  mapfile -t options < <(client_options controller-manager)
  options+=(
    --bind-address=127.0.0.1 --leader-elect=false
    --kube-api-qps=200 --kube-api-burst=400 # with the default 20 and 30 it needs 4 s more to start its controllers
    --client-ca-file="$pki/ca.crt" --root-ca-file="$pki/ca.crt"
    --cluster-signing-cert-file="$pki/ca.crt" --cluster-signing-key-file="$pki/ca.key"
    --use-service-account-credentials --service-account-private-key-file="$pki/sa.key"
  )
  start controller-manager "$cluster_bin/kube-controller-manager" "${options[@]}"
}

start_scheduler() {
  local options
  mapfile -t options < <(client_options scheduler)
  start scheduler "$cluster_bin/kube-scheduler" "${options[@]}" --bind-address=127.0.0.1 --leader-elect=false
}

start_proxy() {
  local options=(
    --kubeconfig="$node_dir/pki/proxy.kubeconfig" --hostname-override="$node_name"
    --proxy-mode=iptables --cluster-cidr="$pods_cidr" --iptables-localhost-nodeports=false
    --bind-address="$node_address" --metrics-bind-address=127.0.0.1:10249 --healthz-bind-address=127.0.0.1:10256
    # These settings belong to the machine; a network namespace cannot write them.
    --conntrack-max-per-core=0 --conntrack-tcp-timeout-established=0 --conntrack-tcp-timeout-close-wait=0
  )
  start proxy "$cluster_bin/kube-proxy" "${options[@]}"
}

start_kubelet() {
  start kubelet "$cluster_bin/kubelet" --config="$node_dir/config/kubelet.yaml" \
    --kubeconfig="$node_dir/pki/kubelet.kubeconfig" --root-dir=/var/lib/kubelet \
    --hostname-override="$node_name" --node-ip="$node_address" --v=2
}
