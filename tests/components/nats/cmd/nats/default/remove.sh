#!/bin/bash
# What: takes NATS off this node: daemon, configuration, data, logs, package. Running it again is success.
# Why:  a host of a pool goes back to its pool as clean as it came; see straas_remove.
# Never: deletes outside the nats directories under STRAAS_PREFIX; tells the other servers (nats-cmd/remove-server does).
set -euo pipefail
# shellcheck source=proxy-scripts/cmd/lib/straas.sh
. "$STRAAS_SCRIPTS/cmd/lib/straas.sh"
# shellcheck source=proxy-scripts/cmd/lib/daemon.sh
. "$STRAAS_SCRIPTS/cmd/lib/daemon.sh"

straas_remove nats 'nats-server'
