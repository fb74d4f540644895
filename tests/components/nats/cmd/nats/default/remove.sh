#!/bin/bash
# What: takes NATS off this node: server, configuration, data, logs, package. Running it again is success.
# Why:  a host of a pool goes back to its pool as clean as it came.
# Never: deletes outside the nats directories under STRAAS_PREFIX; purges the package when STRAAS_PREFIX is set, because
#        then other instances on the same machine run from it; tells the other servers (nats-cmd/remove-server does).
set -euo pipefail
# shellcheck source=proxy-scripts/cmd/lib/straas.sh
. "$STRAAS_SCRIPTS/cmd/lib/straas.sh"

LOCK_WAIT_S=120   # another package run on this machine may hold dpkg's lock

straas_progress "stopping the NATS server" 0
bash "${BASH_SOURCE[0]%/*}/stop.sh"

unit=/etc/systemd/system/straas-nats.service
if [[ -z $STRAAS_PREFIX && -e $unit ]]; then
  systemctl disable --quiet straas-nats.service || true
  rm -f -- "$unit"
  systemctl daemon-reload || true
fi

straas_progress "deleting data, logs and configuration" 30
rm -rf -- "$STRAAS_PREFIX"/{etc/nats,var/lib/nats,var/log/nats,run/nats}

if [[ -z $STRAAS_PREFIX ]]; then
  straas_progress "purging the package nats-server" 60
  # Not installed, or unknown to dpkg: nothing to purge. 'rc' (removed, configuration left) is purged as well.
  if status=$(dpkg-query -W -f='${db:Status-Status}' nats-server 2>/dev/null) && [[ $status != not-installed ]]; then
    DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout="$LOCK_WAIT_S" purge nats-server </dev/null ||
      straas_fail "the package nats-server could not be purged; the lines of apt-get are above"
  fi
fi
straas_progress "NATS is removed" 100
