#!/bin/bash
# What: one look: does the server serve the page that was configured last?
# Why:  a process that runs with an old page is not what is wanted.
# Never: waits.
set -euo pipefail
# shellcheck source=proxy-scripts/cmd/lib/straas.sh
. "$STRAAS_SCRIPTS/cmd/lib/straas.sh"
# shellcheck source=tests/components/moody/cmd/lib/moody.sh
. "$STRAAS_SCRIPTS/cmd/lib/moody.sh"

serves() {
  # shellcheck disable=SC2016  # the inner shell expands its own arguments
  timeout 2 bash -c 'exec 3<>/dev/tcp/127.0.0.1/8080 && printf "GET /page HTTP/1.0\r\n\r\n" >&3 && cat <&3' 2>/dev/null
}

moody_ask validate
# whoever conducts hears how it ended
trap '[[ $? == 0 ]] && moody_ask up || moody_ask down' EXIT
if ! page=$(serves); then
  straas_result inactive
  [[ $(cat "/proc/$(cat /var/lib/moody/pid 2>/dev/null)/comm" 2>/dev/null) =~ mini_httpd|setsid|bash ]] &&
    straas_wait "starting: it does not answer yet"
  straas_fail "mini_httpd does not run"
fi
# not $STRAAS_SITE_PP, which may be rendered anew already while what is configured still serves
if [[ $page != *"$(</var/lib/moody/page)"* ]]; then
  straas_result inactive
  straas_fail "it serves another page than the one that is configured"
fi
straas_facts "settled:=true" "version=$STRAAS_VERSION"
straas_result active
