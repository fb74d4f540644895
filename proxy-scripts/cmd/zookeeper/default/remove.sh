#!/bin/bash
# What: takes ZooKeeper off this node: service, configuration, data, logs, package. Running it again is success.
# Why:  a host of a pool goes back to its pool as clean as it came. Dependencies that apt pulled in (a Java runtime)
#       stay: the host's image may have had them before us, and nobody can tell afterwards.
# Never: deletes outside the zookeeper directories under STRAAS_PREFIX; purges the package when STRAAS_PREFIX is set,
#        because then other instances on the same machine run from it.
set -euo pipefail
# shellcheck source=proxy-scripts/cmd/lib/straas.sh
. "$STRAAS_SCRIPTS/cmd/lib/straas.sh"

LOCK_WAIT_S=120   # another package run on this machine may hold dpkg's lock

straas_progress "stopping ZooKeeper" 0
bash "${BASH_SOURCE[0]%/*}/stop.sh"

unit=/etc/systemd/system/zookeeper.service
if [[ -z $STRAAS_PREFIX && -e $unit ]]; then
  systemctl disable --quiet zookeeper.service || true
  rm -f -- "$unit"
  systemctl daemon-reload || true
fi

straas_progress "deleting data, logs and configuration" 30
rm -rf -- "$STRAAS_PREFIX"/{etc/zookeeper/straas,var/lib/zookeeper/data,var/log/zookeeper,run/zookeeper}

if [[ -z $STRAAS_PREFIX ]]; then
  straas_progress "purging the package zookeeper" 60
  # Not installed, or unknown to dpkg: nothing to purge. 'rc' (removed, configuration left) is purged as well.
  if status=$(dpkg-query -W -f='${db:Status-Status}' zookeeper 2>/dev/null) && [[ $status != not-installed ]]; then
    DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout="$LOCK_WAIT_S" purge zookeeper </dev/null ||
      straas_fail "the package zookeeper could not be purged; the lines of apt-get are above"
  fi
  rm -rf -- /etc/zookeeper /var/lib/zookeeper   # what dpkg leaves of its own directories when files of ours were in them
fi
straas_progress "ZooKeeper is removed" 100
