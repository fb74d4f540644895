#!/bin/bash
# What: stops this node's broker; a broker that does not run, or was never configured, is success.
# Why:  the counterpart of start.sh, bounded: a broker hands its partitions over before it ends; one that has not ended
#       after 90 s is killed, and recovers its log at the next start.
# Never: removes anything, touches another instance's process on the same machine.
set -euo pipefail
# shellcheck source=proxy-scripts/cmd/lib/straas.sh
. "$STRAAS_SCRIPTS/cmd/lib/straas.sh"

ctl=$STRAAS_PREFIX/etc/kafka/kafka-ctl
if [[ -x $ctl ]]; then
  straas_progress "stopping Kafka; it hands its partitions over first"
  "$ctl" stop || straas_fail "Kafka could not be stopped; see the lines above"
fi
straas_progress "Kafka is stopped"
