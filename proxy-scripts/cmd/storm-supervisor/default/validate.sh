#!/bin/bash
# What: one look at this node's supervisor: process, port, registration with a nimbus; sends facts and active|inactive.
# Why:  a supervisor works without a nimbus for hours (its workers go on), so once settled its own process and port are
#       all that is judged, and the nimbuses' view is a fact. When it has to settle it must be known to a nimbus: only
#       then it gets work.
# Never: waits for a better answer (the agent asks again), changes anything.
set -euo pipefail
# shellcheck source=proxy-scripts/cmd/lib/straas.sh
. "$STRAAS_SCRIPTS/cmd/lib/straas.sh"
# shellcheck source=proxy-scripts/cmd/lib/daemon.sh
. "$STRAAS_SCRIPTS/cmd/lib/daemon.sh"

CONNECT_S_MAX=2    # own daemon, on this node

conf=$STRAAS_PREFIX/etc/storm/straas
logs=$STRAAS_PREFIX/var/log/storm

straas_configured "$conf/storm.yaml"

if ! pid=$("$straas_ctl" pid); then
  straas_result inactive
  straas_show_logs "$logs/supervisor.log" "$logs/console.log"
  said=$(straas_why "$logs/supervisor.log" '^Caused by: ')
  straas_fail "the supervisor process is not running; its last log lines are above. A supervisor ends itself when its port is taken or ZooKeeper is out of reach for long${said:+. Its log says: $said}"
fi

host='' port=''
while IFS=': ' read -r key value; do
  case $key in
    storm.local.hostname) value=${value#\"} host=${value%\"} ;;
    supervisor.thrift.port) port=$value ;;
  esac
done < "$conf/storm.yaml"
# shellcheck disable=SC2016  # the inner shell expands its own arguments
if ! timeout "$CONNECT_S_MAX" bash -c 'exec 3<>"/dev/tcp/$1/$2"' connect "$host" "$port" 2>/dev/null; then
  straas_result inactive
  straas_wait "starting: process $pid runs, $host:$port does not listen yet"
fi

declare -A said=([registered]=false)
if answer=$("$conf/storm-ask" supervisor); then
  while IFS='=' read -r key value; do said[$key]=$value; done <<< "$answer"
else
  why=$answer
fi

facts=("registered:=${said[registered]}")
[[ ${said[registered]} == true ]] && facts+=("version=${said[version]}" "slots:=${said[slots]}" "slots_used:=${said[slots_used]}")
straas_facts "${facts[@]}"

if [[ ${said[registered]} != true ]]; then
  if [[ ${STRAAS_SETTLED:-0} != 1 ]]; then
    straas_result inactive
    straas_wait "waiting to be registered: ${why:-the nimbus does not know this supervisor yet}"
  fi
  straas_result active
  straas_progress "supervisor runs on its own: ${why:-the nimbus does not know it at the moment}" 100
  exit 0
fi
straas_result active
straas_progress "supervisor, ${said[slots_used]} of ${said[slots]} slots in use" 100
