#!/bin/bash
# build-controller.sh BINARY AGENT_DEB OUTDIR : makes straas-controller_VERSION_ARCH.deb.
#
# Two things travel inside, in /usr/share/straas: the agent's package, which the local driver installs
# into its image, and what makes the packages of components that Debian does not have. The daemon runs
# as root, because local hosts are made of namespaces. git and ssh are for upstream git servers only. It
# is not started: an operator reads /etc/straas/controller.toml first.
NAME=straas-controller
[ $# -eq 3 ] || { echo "usage: $0 BINARY AGENT_DEB OUTDIR" >&2; exit 2; }
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

binary "$1" /usr/sbin straas-controller
[ -f "$2" ] || { echo "$0: there is no file $2; run build-agent.sh first" >&2; exit 1; }
install -D -m 644 "$2" "$TREE/usr/share/straas/straas-agent.deb"
install -D -m 644 "$HERE/straas-controller.service" "$TREE/lib/systemd/system/straas-controller.service"
install -d -m 700 "$TREE/etc/straas" "$TREE/var/lib/straas/controller"
install -m 600 "$HERE/controller.toml" "$TREE/etc/straas/controller.toml"
echo /etc/straas/controller.toml > "$TREE/DEBIAN/conffiles"
(cd "$HERE/../components" && find . -type f ! -name '*.md' -exec install -D --mode=644 {} "$TREE/usr/share/straas/components/{}" \;)
(cd "$HERE/../components" && find . -type f -perm -u+x -exec chmod 755 "$TREE/usr/share/straas/components/{}" \;)
for script in postinst prerm; do
  install -m 755 "$HERE/straas-controller.$script" "$TREE/DEBIAN/$script"
done
control "$(depends "$TREE/usr/sbin/straas-controller"), iproute2, util-linux, mmdebstrap, apt-utils, gnupg" \
  "controller of StraaS" \
  "Keeps the desired state of clusters and tells every node's agent what its node should be." \
  "Recommends: maven, straas-cli, git, openssh-client
Suggests: straas-agent, postgresql"
pack "$3"
