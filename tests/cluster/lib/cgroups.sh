# Where do a node's cgroups hang, on cgroup v1, v2 and hybrid machines, and how are they removed?
#
# A node has one cgroup of its own below the root of every hierarchy (kubelet: cgroupRoot).
# shellcheck shell=bash

cgroup_mount=/sys/fs/cgroup
cgroup_empty_limit=20 # seconds for the kernel to empty the cgroups of killed processes

# cgroup_hierarchies: the roots in which the kubelet and runc make cgroups.
cgroup_hierarchies() {
  local root
  if cgroup_is_v2; then
    printf '%s\n' "$cgroup_mount"
    return
  fi
  for root in "$cgroup_mount"/*; do
    [ ! -L "$root" ] || continue # cpu -> cpu,cpuacct on many machines
    case "$(stat -f -c %T "$root")" in
      cgroupfs | cgroup2fs) printf '%s\n' "$root" ;; # a hybrid machine has both, and runc uses both
    esac
  done
}

cgroup_is_v2() { [ "$(stat -f -c %T "$cgroup_mount")" = cgroup2fs ]; }

# make_cgroups NAME
make_cgroups() {
  local root
  cgroup_is_v2 && delegate_controllers "$cgroup_mount"
  while read -r root; do
    mkdir "$root/$1" || return 1
    [ "${root##*/}" = cpuset ] && copy_cpuset "$root" "$root/$1"
  done < <(cgroup_hierarchies)
  cgroup_is_v2 && delegate_controllers "$cgroup_mount/$1"
  return 0
}

# delegate_controllers CGROUP: lets its children use every controller that it has (cgroup v2).
delegate_controllers() {
  local controller
  local -a controllers
  read -r -a controllers <"$1/cgroup.controllers"
  for controller in "${controllers[@]}"; do
    printf '+%s' "$controller" 2>/dev/null >"$1/cgroup.subtree_control" ||
      die "cannot switch on the $controller controller for the children of $1; in a container, move its processes to a child cgroup first"
  done
}

# copy_cpuset PARENT CHILD: a v1 cpuset is born empty, and no process can enter it.
copy_cpuset() {
  cat "$1/cpuset.cpus" >"$2/cpuset.cpus"
  cat "$1/cpuset.mems" >"$2/cpuset.mems"
}

# remove_cgroups NAME
remove_cgroups() {
  await "$cgroup_empty_limit" "the cgroups $cgroup_mount/.../$1 to become empty" remove_empty_cgroups "$1"
}

remove_empty_cgroups() {
  local root
  while read -r root; do
    [ -d "$root/$1" ] || continue
    find "$root/$1" -depth -type d -exec rmdir {} +
  done < <(cgroup_hierarchies)
  [ -z "$(cgroups_of "$1")" ]
}

# cgroups_of NAME: those that exist.
cgroups_of() {
  local root
  while read -r root; do
    [ ! -d "$root/$1" ] || printf '%s\n' "$root/$1"
  done < <(cgroup_hierarchies)
}
