#!/bin/bash
# What: stops this node's daemon; one that does not run, or was never configured, is success.
# Why:  the counterpart of start.sh, bounded: a daemon that does not end in the time its module gives it is killed.
# Never: removes anything, touches another instance's process on the same machine.
set -euo pipefail
# shellcheck source=proxy-scripts/cmd/lib/straas.sh
. "$STRAAS_SCRIPTS/cmd/lib/straas.sh"
# shellcheck source=proxy-scripts/cmd/lib/daemon.sh
. "$STRAAS_SCRIPTS/cmd/lib/daemon.sh"

straas_stop
straas_progress "$STRAAS_ROLE is stopped"
