#!/bin/bash
# What: the config stage: what was rendered becomes the page that is served, and the server is started anew with it.
# Why:  Puppet would do the same in a second and a half; this component is about what happens when it does not.
# Never: looks for drift.
set -euo pipefail
# shellcheck source=tests/components/moody/cmd/lib/moody.sh
. "$STRAAS_SCRIPTS/cmd/lib/moody.sh"
moody_ask config

mkdir -p /var/lib/moody
install -m 0644 -- "$STRAAS_SITE_PP" /var/lib/moody/page.new
mv -- /var/lib/moody/page.new /var/lib/moody/page
MOODY_QUIET=1 "${BASH_SOURCE[0]%/*}/stop.sh"
MOODY_QUIET=1 "${BASH_SOURCE[0]%/*}/start.sh"
