#!/bin/bash
# What: one look at this node's NATS server: process, port, leader of the cluster, replicas up to date; sends facts and
#       active|inactive.
# Why:  a server that answers clients may still have no leader to create streams with, or hold replicas that lag behind.
#       The server itself knows both and says so over HTTP (healthz, jsz). `current` is a fact because the others must not
#       be disturbed while this one catches up. Only bash and coreutils: a check must not fail for want of a tool.
# Never: waits for a better answer (the agent asks again), changes anything, takes longer than 6 s.
set -euo pipefail
# shellcheck source=proxy-scripts/cmd/lib/straas.sh
. "$STRAAS_SCRIPTS/cmd/lib/straas.sh"
# shellcheck source=proxy-scripts/cmd/lib/daemon.sh
. "$STRAAS_SCRIPTS/cmd/lib/daemon.sh"

ANSWER_S_MAX=2    # own server, on this node: anything slower is a server in trouble

conf=$STRAAS_PREFIX/etc/nats/straas
logs=$STRAAS_PREFIX/var/log/nats

# ask PATH: the body of the monitor's answer; nothing if there is none in time.
ask() {
  # shellcheck disable=SC2016  # the inner shell expands its own arguments
  timeout "$ANSWER_S_MAX" bash -c '
    exec 3<>"/dev/tcp/$1/$2" && printf "GET %s HTTP/1.0\r\n\r\n" "$3" >&3
    while IFS= read -r line <&3 && [[ $line != $'"'\r'"' ]]; do :; done
    cat <&3' ask "$address" "$port" "$1" 2>/dev/null || true
}

# field NAME TEXT: the first string, number or boolean of that name in JSON with one key a line.
field() {
  local pattern="\"$1\": *(\"([^\"]*)\"|([0-9a-z.]+))"
  [[ $2 =~ $pattern ]] && printf '%s' "${BASH_REMATCH[2]}${BASH_REMATCH[3]}"
  return 0
}

straas_configured "$conf/nats.conf"
name='' address='' port=''
while IFS=': ' read -r key value; do
  value=${value#\"} value=${value%\"}
  case $key in
    server_name) name=$value ;;
    http) port=${value##*:} address=${value%:*} address=${address#[} address=${address%]} ;;
  esac
done < "$conf/nats.conf"

if ! pid=$("$straas_ctl" pid); then
  straas_result inactive
  straas_show_logs "$logs/nats.log" "$logs/console.log"
  straas_fail "the NATS server's process is not running; its last words are above"
fi

state=$(ask /jsz)
if [[ -z $state ]]; then
  straas_result inactive
  straas_wait "starting: process $pid runs, $address:$port does not answer yet"
fi
if [[ $(field disabled "$state") == true ]]; then
  straas_result inactive
  straas_fail "the server runs without JetStream: it was taken out of its cluster, or its disk failed; see $logs/nats.log"
fi

cluster=${state#*'"meta_cluster"'}
[[ $cluster != "$state" ]] || cluster=''
leader=$(field leader "$cluster") size=$(field cluster_size "$cluster")
health=$(ask /healthz)
current=false
[[ $(field status "$health") == ok ]] && current=true
leads=false
[[ -n $leader && $leader == "$name" ]] && leads=true
version=$(field version "$(ask /varz)")
straas_facts "leader:=$leads" "current:=$current" "version=$version" "cluster_size:=${size:-0}" \
  "streams:=$(field streams "${state%%'"meta_cluster"'*}")" "messages:=$(field messages "$state")"

if [[ ${STRAAS_SETTLED:-0} != 1 ]]; then
  if [[ -z $leader ]]; then
    straas_result inactive
    straas_wait "waiting for a leader of the cluster"
  fi
  if [[ $current != true ]]; then
    straas_result inactive
    straas_wait "catching up: ${health//[$'\n']/ }"
  fi
fi
straas_result active
straas_progress "$name in a cluster of ${size:-0}, led by ${leader:-nobody}" 100
