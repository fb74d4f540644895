#!/bin/bash
# build-cli.sh BINARY OUTDIR : makes straas-cli_VERSION_ARCH.deb with the command `straas`.
NAME=straas-cli
[ $# -eq 2 ] || { echo "usage: $0 BINARY OUTDIR" >&2; exit 2; }
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"

binary "$1" /usr/bin straas
control "$(depends "$TREE/usr/bin/straas")" \
  "command line of StraaS" \
  "Creates, watches and deletes clusters through the controller's API."
pack "$2"
