#!/bin/bash
# What: starts this node's web server; one that already runs is success.
# Why:  after a reboot or on request it comes up with what the config stage left.
# Never: renders anything.
set -euo pipefail
# shellcheck source=proxy-scripts/cmd/lib/straas.sh
. "$STRAAS_SCRIPTS/cmd/lib/straas.sh"
# shellcheck source=tests/components/moody/cmd/lib/moody.sh
. "$STRAAS_SCRIPTS/cmd/lib/moody.sh"
[[ -n ${MOODY_QUIET:-} ]] || moody_ask start

pid_file=/var/lib/moody/pid
[[ -r /var/lib/moody/page ]] || straas_fail "there is no page to serve: the config stage has not run on this node"
if [[ -r $pid_file ]] && [[ $(cat "/proc/$(<"$pid_file")/comm" 2>/dev/null) == mini_httpd ]]; then
  straas_progress "it runs already"
  exit 0
fi
setsid /usr/sbin/mini_httpd -D -p 8080 -d /var/lib/moody -u nobody -l /dev/null </dev/null >/dev/null 2>&1 9>&- &
echo "$!" > "$pid_file"
straas_progress "mini_httpd is started"
