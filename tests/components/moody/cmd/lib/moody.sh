# shellcheck shell=bash
# What: asks whoever conducts a test what a script is to do at a point: go on, wait, or fail with given words.
# Why:  a test has to fail any stage of any node on command, also of a node whose host is not there yet, and has to know
#       what ran when. The connection stays open as long as the script lives, so its end is seen however it comes.
# Never: fails, or waits for more than a second, where nobody conducts.
#
# Use:  . "$STRAAS_SCRIPTS/cmd/lib/moody.sh"; moody_ask POINT     (descriptor 9 must not go to a daemon)

MOODY_PORT=7979

moody_ask() {
  local gateway='' answer='' word
  for word in $(ip -4 route show default); do
    [[ $gateway != via ]] || { gateway=$word; break; }
    [[ $word != via ]] || gateway=via
  done
  # where the network is cut a connection takes longer to fail than a look may last
  # shellcheck disable=SC2016  # the inner shell expands its own arguments
  timeout 1 bash -c ': </dev/tcp/$0/$1' "$gateway" "$MOODY_PORT" 2>/dev/null || { exec 9</dev/null; return 0; }
  { exec 9<>"/dev/tcp/$gateway/$MOODY_PORT"; } 2>/dev/null || { exec 9</dev/null; return 0; }
  printf '%s %s %s\n' "$STRAAS_NODE" "$1" "$$" >&9
  # no line at all: whoever conducted is gone
  IFS= read -r answer <&9 || return 0
  [[ $answer == fail* ]] || return 0
  [[ $STRAAS_STAGE != validate ]] || printf '@straas {"result":{"service":"inactive"}}\n'
  echo "${answer#fail }"
  printf '@straas {"hint":"%s"}\n' "${answer#fail }"
  exit 3
}
