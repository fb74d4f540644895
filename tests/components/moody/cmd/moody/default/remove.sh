#!/bin/bash
# What: takes the component off this node.
# Why:  the contract asks for it; hosts of tests are thrown away.
# Never: anything else.
set -euo pipefail
"${BASH_SOURCE[0]%/*}/stop.sh"
rm -rf /var/lib/moody
