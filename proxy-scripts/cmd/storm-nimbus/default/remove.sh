#!/bin/bash
# What: takes the nimbus off this node: daemon, configuration, data, logs, packages of every version. Running it again is
#       success.
# Why:  a host of a pool goes back to its pool as clean as it came. Dependencies that apt pulled in (a Java runtime)
#       stay: the host's image may have had them before us, and nobody can tell afterwards.
# Never: deletes outside the storm directories under STRAAS_PREFIX; purges packages when STRAAS_PREFIX is set, because
#        then other instances on the same machine run from them.
set -euo pipefail
# shellcheck source=proxy-scripts/cmd/lib/straas.sh
. "$STRAAS_SCRIPTS/cmd/lib/straas.sh"

LOCK_WAIT_S=120   # another package run on this machine may hold dpkg's lock

straas_progress "stopping the nimbus" 0
bash "${BASH_SOURCE[0]%/*}/stop.sh"

unit=/etc/systemd/system/storm-nimbus.service
if [[ -z $STRAAS_PREFIX && -e $unit ]]; then
  systemctl disable --quiet storm-nimbus.service || true
  rm -f -- "$unit"
  systemctl daemon-reload || true
fi

straas_progress "deleting data, logs and configuration" 30
rm -rf -- "$STRAAS_PREFIX"/{etc/storm,var/lib/storm,var/log/storm,run/storm}

if [[ -z $STRAAS_PREFIX ]]; then
  # Every version that an upgrade left behind; 'rc' (removed, configuration left) is purged as well.
  mapfile -t packages < <(dpkg-query -W -f='${db:Status-Status} ${Package}\n' 'storm-[0-9]*' 2>/dev/null | sed -n '/^not-installed /!s/^[^ ]* //p')
  if ((${#packages[@]})); then
    straas_progress "purging ${packages[*]}" 60
    DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout="$LOCK_WAIT_S" purge "${packages[@]}" </dev/null ||
      straas_fail "the packages ${packages[*]} could not be purged; the lines of apt-get are above"
  fi
fi
straas_progress "the nimbus is removed" 100
