#!/bin/bash
# What: the config stage: applies the node's rendered site.pp, or looks for drift (STRAAS_NOOP=1).
# Why:  Puppet owns files and service; how it is started is the same for every component.
# Never: does anything of its own.
set -euo pipefail
# shellcheck source=proxy-scripts/cmd/lib/straas.sh
. "$STRAAS_SCRIPTS/cmd/lib/straas.sh"
# shellcheck source=proxy-scripts/cmd/lib/puppet.sh
. "$STRAAS_SCRIPTS/cmd/lib/puppet.sh"

straas_puppet_apply "$STRAAS_SITE_PP"
