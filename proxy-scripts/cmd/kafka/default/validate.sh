#!/bin/bash
# What: one look at this node's broker: process, port, what it answers; sends facts and active|inactive.
# Why:  an open port says little: the broker is asked for its metadata, and must be registered itself. While the node has
#       to settle (STRAAS_SETTLED is not 1) its own copies must be in sync before it counts as done, for only then may the
#       next broker restart. Copies that other brokers owe are told as the fact under_replicated, and are not waited for
#       here: a broker that is to be repaired must not have to wait for itself.
# Never: waits for a better answer (the agent asks again), starts a JVM, changes anything.
set -euo pipefail
# shellcheck source=proxy-scripts/cmd/lib/straas.sh
. "$STRAAS_SCRIPTS/cmd/lib/straas.sh"
# shellcheck source=proxy-scripts/cmd/lib/daemon.sh
. "$STRAAS_SCRIPTS/cmd/lib/daemon.sh"

# After a crash a broker reads its last segments anew before it answers; longer than this is no start.
START_S_MAX=3600

conf=$STRAAS_PREFIX/etc/kafka/straas
logs=$STRAAS_PREFIX/var/log/kafka

# inactive: says so; every way out of this script but the last two goes through here.
inactive() { straas_result inactive; }

# show_log: both logs, the JVM's own words (those of the last start) nearest to the hint.
show_log() { straas_show_logs "$logs/server.log" "$logs/console.log"; }

straas_configured "$conf/server.properties"

id='' listener=''
while IFS='=' read -r key value; do
  case $key in
    broker.id) id=$value ;;
    listeners) listener=${value#*://} ;;
  esac
done < "$conf/server.properties"
port=${listener##*:} host=${listener%:*} host=${host#[} host=${host%]}

if ! pid=$("$straas_ctl" pid); then
  inactive
  show_log
  said=''
  [[ ! -s $logs/console.log ]] || IFS= read -r said < "$logs/console.log" || true
  [[ -z $said ]] || straas_fail "the broker's process is not running; the JVM said: $said"
  # What a broker gives up for stands in its own log, behind the last FATAL or ERROR.
  said=$(straas_why "$logs/server.log" '^[0-9-]+ [0-9:,]+ (FATAL|ERROR) ')
  [[ -z $said ]] || straas_fail "the broker's process is not running; its log says: $said"
  straas_fail "the broker's process is not running and left no word; its last log lines are above. Was it killed? The kernel's out-of-memory killer would say so in dmesg: then lower jvm.heap_mb, or take a larger flavor"
fi

# The version that runs is the one on the process's class path, whatever the files say by now.
version=$(tr '\0' '\n' < "/proc/$pid/cmdline" 2>/dev/null | sed -nE 's|^/usr/lib/kafka/([0-9.]+)/libs/.*|\1|p') || true

if ! answer=$(/usr/bin/python3 -IB "$STRAAS_SCRIPTS/cmd/lib/kafka_look.py" "$host" "$port" "$id"); then
  inactive
  age=$(($(date +%s) - $(stat -c %Y "/proc/$pid" 2>/dev/null || date +%s)))
  if ((age > START_S_MAX)); then
    show_log
    straas_fail "process $pid has been running for $age s and does not answer: $answer. Its last log lines are above; a restart may help"
  fi
  straas_wait "starting: process $pid runs since $age s: $answer"
fi

declare -A seen=()
while read -r key value; do seen[$key]=$value; done <<< "$answer"

straas_facts "broker_id:=$id" "version=$version" "controller:=${seen[controller]}" "brokers:=${seen[brokers]}" \
  "partitions:=${seen[partitions]}" "leading:=${seen[leading]}" "under_replicated:=${seen[under_replicated]}" \
  "offline:=${seen[offline]}"

if ((!seen[registered])); then
  inactive
  straas_wait "broker $id answers, but is not registered in ZooKeeper (yet, or no more)"
fi
straas_result active
if ((seen[behind])) && [[ ${STRAAS_SETTLED:-0} != 1 ]]; then
  straas_wait "catching up: ${seen[behind]} of ${seen[partitions]} copies on this broker are not in sync yet"
fi
straas_progress "broker $id$([[ ${seen[controller]} == true ]] && echo ', the controller,') of ${seen[brokers]}, version $version, ${seen[partitions]} partitions, answers at $listener" 100
