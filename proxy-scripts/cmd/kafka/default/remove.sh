#!/bin/bash
# What: takes Kafka off this node: service, configuration, data, logs, every version's package. Again is success.
# Why:  a host of a pool goes back to its pool as clean as it came. Dependencies that apt pulled in (a Java runtime)
#       stay: the host's image may have had them before us, and nobody can tell afterwards.
# Never: deletes outside the kafka directories under STRAAS_PREFIX; purges packages when STRAAS_PREFIX is set, because
#        then other instances on the same machine run from them; moves partitions away (kafka-cmd/drain did).
set -euo pipefail
# shellcheck source=proxy-scripts/cmd/lib/straas.sh
. "$STRAAS_SCRIPTS/cmd/lib/straas.sh"

LOCK_WAIT_S=120   # another package run on this machine may hold dpkg's lock

straas_progress "stopping Kafka" 0
bash "${BASH_SOURCE[0]%/*}/stop.sh"

unit=/etc/systemd/system/kafka.service
if [[ -z $STRAAS_PREFIX && -e $unit ]]; then
  systemctl disable --quiet kafka.service || true
  rm -f -- "$unit"
  systemctl daemon-reload || true
fi

straas_progress "deleting data, logs and configuration" 30
rm -rf -- "$STRAAS_PREFIX"/{etc/kafka,var/lib/kafka,var/log/kafka,run/kafka}

if [[ -z $STRAAS_PREFIX ]]; then
  # One line a package: its name and status; kafka-3.9.2, not Debian's own packages that happen to begin so.
  mapfile -t packages < <(dpkg-query -W -f='${Package} ${db:Status-Status}\n' 'kafka-[0-9]*' 2>/dev/null |
    sed -nE '/ not-installed$/d; s/^(kafka-[0-9]+\.[0-9]+\.[0-9]+) .*/\1/p')
  if ((${#packages[@]})); then
    straas_progress "purging ${packages[*]}" 60
    DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout="$LOCK_WAIT_S" purge "${packages[@]}" </dev/null ||
      straas_fail "${packages[*]} could not be purged; the lines of apt-get are above"
  fi
fi
straas_progress "Kafka is removed" 100
