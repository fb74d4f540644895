#!/bin/bash
# build-agent.sh BINARY OUTDIR : makes straas-agent_VERSION_ARCH.deb from a built binary.
#
# The package holds the agent, its unit and the (closed) directory for its secrets. It does not
# start the agent: whoever provides the join token does, as userdata does on a new host.
NAME=straas-agent
[ $# -eq 2 ] || { echo "usage: $0 BINARY OUTDIR" >&2; exit 2; }
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

binary "$1" /usr/sbin straas-agent
install -D -m 644 "$HERE/straas-agent.service" "$TREE/lib/systemd/system/straas-agent.service"
install -d -m 700 "$TREE/etc/straas" "$TREE/var/lib/straas/agent"
for script in postinst prerm postrm; do
  install -m 755 "$HERE/straas-agent.$script" "$TREE/DEBIAN/$script"
done
control "$(depends "$TREE/usr/sbin/straas-agent")" \
  "node agent of StraaS" \
  "Enrols with a StraaS controller, pulls what this node should be, and makes it so."
pack "$2"
