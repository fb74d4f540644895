# shellcheck shell=bash
# What: asks at the point `install`, on behalf of apt, before anything is handed to dpkg.
# Why:  installing has no script of a component's own; apt's hook is where a package manager fails for reasons of its own.
# Never: runs outside of a stage (an operator's apt-get on the node has no STRAAS_NODE).
set -euo pipefail
[[ -n ${STRAAS_NODE:-} ]] || exit 0
# shellcheck source=tests/components/moody/cmd/lib/moody.sh
. "${BASH_SOURCE[0]%/*}/moody.sh"

moody_ask install
