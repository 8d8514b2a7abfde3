#!/bin/bash
# PID 1 of a node, in new net, pid, mount, uts and ipc namespaces. It makes itself a root filesystem
# below the lab's folder, leaves the host's, and brings Kubernetes up (MODE=node) or only imports
# images into a containerd root (MODE=import). Lines "phase: ..." say what is being done.
set -euo pipefail
: "${MODE:?}" "${NAME:?}" "${DIR:?}" "${ROOTFS:?}" "${PROGRAMS:?}" "${HOST_NETNS:?}"
: "${NODE_ADDRESSES:?}" "${PODS:?}" # with commas: IPv4, and IPv6 where that is wanted

declare -A pids # of what is kept running

main() {
  refuse_the_host
  enter_root
  cgroups
  network
  containerd_up
  case $MODE in
    import) import_images ;;
    node) kubernetes_up; keep_running ;;
  esac
}

phase() { echo "phase: $*"; }

refuse() { echo "refusing to run: $*"; exit 9; }

refuse_the_host() {
  [ "$$" = 1 ] || refuse "not PID 1 of a pid namespace"
  [ "$(readlink /proc/self/ns/net)" != "$HOST_NETNS" ] || refuse "this is the host's network"
  # Fallback tunnels appear in every new namespace, where the kernel has them loaded.
  local others
  others=$(tail -n +3 /proc/self/net/dev | cut -d: -f1 | tr -d ' ' |
    grep -vxE 'lo|(tunl|sit|ip6tnl|gre|gretap|erspan|ip_vti|ip6_vti|ip6gre)0' || true)
  [ -z "$others" ] || refuse "this network namespace has $others"
}

enter_root() {
  phase "make the root filesystem"
  mount --make-rprivate /
  local root=$DIR/root
  mkdir -p "$root" "$DIR"/{upper,work,var} "$DIR"/var/{lib/meshgate,log,tmp,cache}
  ln -sfn /run "$DIR/var/run"
  mount -t overlay overlay -o "lowerdir=$ROOTFS,upperdir=$DIR/upper,workdir=$DIR/work" "$root"
  mount --bind "$DIR/var" "$root/var" # containerd's own overlays cannot sit on an overlay
  mount -t proc proc "$root/proc"
  mount -t sysfs sysfs "$root/sys"
  mount --rbind /sys/fs/cgroup "$root/sys/fs/cgroup"
  mount --rbind /dev "$root/dev"
  mount -t tmpfs tmpfs "$root/dev/shm"
  mount -t tmpfs tmpfs "$root/run"
  mount -t tmpfs tmpfs "$root/tmp"
  mount --bind "$PROGRAMS" "$root/usr/local/bin"
  mount -o remount,bind,ro "$root/usr/local/bin"
  mkdir -p "$root"/{etc/meshgate,.host}
  mount --bind "$DIR/config" "$root/etc/meshgate"
  cd "$root"
  pivot_root . .host
  cd /
  umount -l /.host
  export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
  hash -r
  hostname node
  printf '127.0.0.1 localhost\n172.30.0.2 node\n' > /etc/hosts
  : > /etc/resolv.conf
  shadow_sysctls
  mount --make-rshared / # the kubelet's mounts must reach containers
}

# The kubelet insists on machine-wide settings: show it files that have them, and leave the host's.
shadow_sysctls() {
  mkdir -p /run/sysctl
  local name value
  while read -r name value; do
    echo "$value" > "/run/sysctl/${name//\//_}"
    mount --bind "/run/sysctl/${name//\//_}" "/proc/sys/$name"
  done << 'END'
vm/overcommit_memory 1
vm/panic_on_oom 0
kernel/panic 10
kernel/panic_on_oops 1
kernel/keys/root_maxkeys 1000000
kernel/keys/root_maxbytes 25000000
END
}

# A cgroup of the lab's own in every hierarchy, this process in it, so that nothing is left elsewhere.
cgroups() {
  local hierarchy cgroup
  if [ -e /sys/fs/cgroup/cgroup.controllers ]; then # version 2
    mkdir -p "/sys/fs/cgroup/meshgate-$NAME/node"
    echo 1 > "/sys/fs/cgroup/meshgate-$NAME/node/cgroup.procs"
    for cgroup in /sys/fs/cgroup "/sys/fs/cgroup/meshgate-$NAME"; do
      sed 's/\</+/g' "$cgroup/cgroup.controllers" > "$cgroup/cgroup.subtree_control"
    done
    return
  fi
  for hierarchy in /sys/fs/cgroup/*/; do
    [ -e "$hierarchy/tasks" ] || continue # the empty version 2 hierarchy of a hybrid host
    for cgroup in "$hierarchy/meshgate-$NAME" "$hierarchy/meshgate-$NAME/node"; do
      mkdir -p "$cgroup"
      if [ -e "$cgroup/cpuset.cpus" ]; then
        cat "$hierarchy/cpuset.cpus" > "$cgroup/cpuset.cpus"
        cat "$hierarchy/cpuset.mems" > "$cgroup/cpuset.mems"
      fi
    done
    echo 1 > "$cgroup/cgroup.procs"
  done
}

# Both ends of the only link are in here: there is no way out. (Not every kernel has dummy links.)
network() {
  ip link set lo up
  ip link add eth0 type veth peer name eth0p
  ip link set eth0p up
  local address
  for address in ${NODE_ADDRESSES//,/ }; do
    ip addr add "$address" dev eth0
  done
  ip link set eth0 up
  ip route add default via 172.30.0.1
  echo 1 > /proc/sys/net/ipv4/ip_forward
  echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables || true
  if [[ $NODE_ADDRESSES == *:* ]]; then
    ip -6 route add default via fd00:172:30::1 dev eth0
    echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
    echo 1 > /proc/sys/net/bridge/bridge-nf-call-ip6tables || true
  fi
}

containerd_up() {
  phase "start containerd"
  begin containerd
  wait_for 30 ctr version
}

import_images() {
  phase "import images"
  tar -C /etc/meshgate/layout -cf - . | ctr -n k8s.io images import - > /var/log/import.log
  kill "${pids[containerd]}"
  wait "${pids[containerd]}" || true
}

kubernetes_up() {
  phase "kubeadm init"
  begin kubelet
  kubeadm init --config /etc/meshgate/kubeadm.yaml --ignore-preflight-errors=all \
    --skip-phases=addon/coredns,addon/kube-proxy,show-join-command > /var/log/kubeadm.log 2>&1 ||
    { tail -n 30 /var/log/kubeadm.log; exit 1; }
  export KUBECONFIG=/etc/kubernetes/admin.conf
  phase "wait for the node to be Ready"
  begin kube_proxy
  kubectl wait --for=condition=Ready node/node --timeout=60s
  cp $KUBECONFIG /etc/kubernetes/pki/ca.crt /var/lib/meshgate/
  phase "ready"
}

run_containerd() { exec containerd --config /etc/meshgate/containerd.toml; }

run_kubelet() {
  until [ -s /var/lib/kubelet/config.yaml ] && [ -s /etc/kubernetes/kubelet.conf ]; do
    sleep 0.1
  done
  local addresses
  addresses=$(sed -E 's#/[0-9]+##g' <<< "$NODE_ADDRESSES")
  exec kubelet --config=/var/lib/kubelet/config.yaml --kubeconfig=/etc/kubernetes/kubelet.conf \
    --hostname-override=node --node-ip="$addresses"
}

run_kube_proxy() {
  exec kube-proxy --kubeconfig=/etc/kubernetes/admin.conf --proxy-mode=iptables --cluster-cidr="$PODS" \
    --hostname-override=node --oom-score-adj=0 --conntrack-max-per-core=0 --conntrack-min=0
}

begin() {
  "run_$1" >> "/var/log/${1/_/-}.log" 2>&1 &
  pids[$1]=$!
}

# What has ended is begun again, as it would be on a machine; orphans are reaped by the way.
keep_running() {
  local name
  while :; do
    for name in "${!pids[@]}"; do
      kill -0 "${pids[$name]}" 2> /dev/null || begin "$name"
    done
    sleep 1 &
    wait $! || true
  done
}

wait_for() {
  local tenths=$(($1 * 10))
  shift
  until "$@" > /dev/null 2>&1; do
    ((tenths-- > 0)) || { echo "no answer from: $*"; exit 1; }
    sleep 0.1
  done
}

main
