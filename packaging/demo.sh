#!/bin/bash
# demo.sh BIN_DIR : a 3-node ZooKeeper ensemble on this machine, from nothing to a read of what was
# written on another node. ONCE=1 removes everything again and checks that nothing is left.
#
# It only calls the command line that a user would call. It needs root, since hosts are made here.
set -euo pipefail
bin=$1
straas=$bin/straas
step() { printf '\n\033[1m== %s\033[0m\n' "$*"; }

if [ "$(id -u)" != 0 ]; then
  echo "the demo makes hosts on this machine and needs root: sudo make demo" >&2
  exit 1
fi

step "start a controller (the first time it makes a host image, which takes about two minutes)"
"$straas" dev up

step "create topology demo: ZooKeeper on three nodes"
if "$straas" topology show demo >/dev/null 2>&1; then
  echo "it is there already"
else
  "$straas" topology create demo --type zookeeper --size 3 --wait
fi

step "the ensemble"
"$straas" topology show demo

step "write on demo-zk-1, read on demo-zk-3"
zk() { # zk NODE COMMAND... : ZooKeeper's own client, inside a node's host
  local node=$1; shift
  "$straas" dev exec "$node" -- /usr/share/zookeeper/bin/zkCli.sh -server "$node:2181" "$@" 2>&1
}
path=/demo-$(date +%s)
zk demo-zk-1 create "$path" "written-on-demo-zk-1" | grep -F "Created $path"
read_back=$(zk demo-zk-3 get "$path" | grep -Fx "written-on-demo-zk-1" || true)
if [ "$read_back" != "written-on-demo-zk-1" ]; then
  echo "demo-zk-3 does not know $path" >&2
  exit 1
fi
echo "demo-zk-3 reads $path: $read_back"

if [ -z "${ONCE:-}" ]; then
  step "it keeps running; things to try"
  cat <<TEXT
  export PATH=$bin:\$PATH
  straas node list                                what every node does
  straas node why demo-zk-1                       what it waits for, with the evidence
  straas job list                                 what was asked for, and how it went
  straas topology create second --size 1 --wait   another one beside it
  straas dev exec demo-zk-2 -- bash               look inside a host
  straas topology delete demo --wait              remove it
  straas dev down --purge                         stop, and leave nothing behind
TEXT
  exit 0
fi

step "delete it"
"$straas" topology delete demo --wait
"$straas" dev down --purge

step "nothing is left"
left=0
for found in "$(ip netns list | grep '^straas-dev-' || true)" \
             "$(pgrep -af 'straas-(agent|controller)' | grep -F "$bin" || true)" \
             "$(grep -F /var/lib/straas-dev /proc/mounts || true)" \
             "$(ls -d /var/lib/straas-dev 2>/dev/null || true)"; do
  [ -z "$found" ] || { echo "left behind: $found" >&2; left=1; }
done
[ "$left" = 0 ] && echo "no namespace, no process, no mount, no file"
exit "$left"
