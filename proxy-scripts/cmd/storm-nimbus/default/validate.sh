#!/bin/bash
# What: one look at this node's nimbus: process, answer, leader; sends facts and active|inactive.
# Why:  a nimbus that runs may still be useless: without a leader no topology can be submitted or moved. storm-ask speaks
#       to it in its own protocol, without a JVM. When a node has to settle, the whole cluster must have a leader; when it
#       is merely looked at again, only the nimbus itself is judged, or a partition would fail every node at once.
# Never: waits for a better answer (the agent asks again), changes anything.
set -euo pipefail
# shellcheck source=proxy-scripts/cmd/lib/straas.sh
. "$STRAAS_SCRIPTS/cmd/lib/straas.sh"
# shellcheck source=proxy-scripts/cmd/lib/daemon.sh
. "$STRAAS_SCRIPTS/cmd/lib/daemon.sh"

conf=$STRAAS_PREFIX/etc/storm/straas
logs=$STRAAS_PREFIX/var/log/storm

straas_configured "$conf/storm.yaml"

if ! pid=$("$straas_ctl" pid); then
  straas_result inactive
  straas_show_logs "$logs/nimbus.log" "$logs/console.log"
  said=$(straas_why "$logs/nimbus.log" '^Caused by: ')
  straas_fail "the nimbus process is not running; its last log lines are above. A nimbus ends itself when its port is taken or ZooKeeper is out of reach for long${said:+. Its log says: $said}"
fi

code=0
answer=$("$conf/storm-ask" nimbus) || code=$?
if ((code == 75)); then
  straas_result inactive
  straas_wait "starting: process $pid runs, its nimbus does not answer yet ($answer)"
elif ((code != 0)); then
  straas_result inactive
  straas_fail "the nimbus answers, but refuses to say how it is: $answer"
fi

declare -A said=()
while IFS='=' read -r key value; do said[$key]=$value; done <<< "$answer"

leader=false
[[ -n ${said[leader]} && ${said[leader]} == "${said[own]}" ]] && leader=true
facts=("leader:=$leader" "topologies:=${said[topologies]}")
if [[ -n ${said[version]:-} ]]; then facts+=("version=${said[version]}"); fi
for key in nimbuses supervisors slots slots_used; do   # a nimbus without a leader does not say them
  if [[ -n ${said[$key]:-} ]]; then facts+=("$key:=${said[$key]}"); fi
done
straas_facts "${facts[@]}"

if [[ -z ${said[leader]} && ${STRAAS_SETTLED:-0} != 1 ]]; then
  straas_result inactive
  why="waiting for a leader among the nimbuses"
  ((said[topologies] == 0)) ||
    why+="; one that lacks the code of a topology does not lead (if no nimbus has it any more: storm-cmd/remove-corrupt-topologies)"
  straas_wait "$why"
fi
straas_result active
straas_progress "nimbus, leader is ${said[leader]:-nobody}; ${said[supervisors]:-unknown} supervisors, ${said[topologies]} topologies" 100
