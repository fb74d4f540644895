#!/bin/bash
# What: one look at this node's ZooKeeper server: process, port, mode, quorum; sends facts and active|inactive.
# Why:  `ruok` says imok without a quorum, so the word asked is `srvr`: only a server that serves names its mode. What
#       is looked at is the rendered zoo.cfg, which is what the server itself was given. Only bash and coreutils,
#       because a check must not fail for want of a tool, and must cost next to nothing every 30 s.
#       A quorum is no mere matter of settling (STRAAS_SETTLED): without one a server serves nobody, so it is inactive
#       whenever it is looked at. Its mode is then the fact `none`, not what it was before.
# Never: waits for a better answer (the agent asks again), changes anything, takes longer than 5 s.
set -euo pipefail
# shellcheck source=proxy-scripts/cmd/lib/straas.sh
. "$STRAAS_SCRIPTS/cmd/lib/straas.sh"
# shellcheck source=proxy-scripts/cmd/lib/daemon.sh
. "$STRAAS_SCRIPTS/cmd/lib/daemon.sh"

ANSWER_S_MAX=2    # own server, on this node: anything slower is a server in trouble
PEERS_S_MAX=1     # all peers are asked at once; one that is down may not answer at all

conf=$STRAAS_PREFIX/etc/zookeeper/straas
logs=$STRAAS_PREFIX/var/log/zookeeper

# ask SECONDS ADDRESS PORT WORD: prints the server's answer to a four-letter word; nothing if there is none in time.
ask() {
  # shellcheck disable=SC2016  # the inner shell expands its own arguments
  timeout "$1" bash -c 'exec 3<>"/dev/tcp/$1/$2" && printf %s "$3" >&3 && cat <&3' ask "$2" "$3" "$4" 2>/dev/null || true
}

# inactive: says so; every way out of this script but the last one goes through here.
inactive() { straas_result inactive; }

# show_log: both logs, the JVM's own words (those of the last start) nearest to the hint.
show_log() { straas_show_logs "$logs/zookeeper.log" "$logs/console.log"; }

straas_configured "$conf/zoo.cfg"

port='' address='' members=()
while IFS='=' read -r key value; do
  case $key in
    clientPort) port=$value ;;
    clientPortAddress) address=$value ;;
    server.*) value=${value%:*:*} value=${value#[} members+=("${value%]}") ;;   # host:2888:3888, host may be [v6]
  esac
done < "$conf/zoo.cfg"

if ! pid=$("$straas_ctl" pid); then
  inactive
  show_log
  if [[ -s $logs/console.log ]]; then
    IFS= read -r said < "$logs/console.log" || true
    straas_fail "the ZooKeeper process is not running; the JVM said: $said"
  fi
  straas_fail "the ZooKeeper process is not running and left no word; its last log lines are above. Was it killed? The kernel's out-of-memory killer would say so in dmesg: then lower jvm.heap_mb, or take a larger flavor"
fi

answer=$(ask "$ANSWER_S_MAX" "$address" "$port" srvr)
if [[ -z $answer ]]; then
  inactive
  straas_wait "starting: process $pid runs, $address:$port does not answer yet"
fi

if [[ $answer == *"not currently serving"* ]]; then
  straas_facts "mode=none" "ensemble_size:=${#members[@]}"
  inactive
  # Each peer is asked in the background and prints one letter if it answers at all.
  answering=$(
    for member in "${members[@]}"; do
      { [[ -n $(ask "$PEERS_S_MAX" "$member" "$port" ruok) ]] && printf x; } &
    done
    wait
  )
  straas_wait "waiting for quorum: ${#answering} of ${#members[@]} servers answer, $((${#members[@]} / 2 + 1)) are needed"
fi

mode='' version='' zxid='' nodes=0 connections=0 outstanding=0
while IFS=': ' read -r key value; do
  case $key in
    Zookeeper) value=${value#version: } version=${value%%-*} ;;
    Connections) connections=$value ;;
    Outstanding) outstanding=$value ;;
    Zxid) zxid=$value ;;
    Mode) mode=$value ;;
    Node) nodes=${value#count: } ;;
  esac
done <<< "$answer"

case "$mode:${#members[@]}" in
  standalone:1 | leader:* | follower:*) ;;
  *)
    inactive
    echo "$answer"
    straas_fail "the server says mode '${mode:-none}' in an ensemble of ${#members[@]}: it runs with another configuration than $conf/zoo.cfg; restart it"
    ;;
esac

facts=("mode=$mode" "version=$version" "zxid=$zxid" "ensemble_size:=${#members[@]}" "connections:=$((connections))"
  "outstanding:=$((outstanding))" "znodes:=$((nodes))")
if [[ $mode == leader ]]; then   # only the leader knows; a rolling change may wait until all are in sync
  while IFS=$'\t' read -r key value; do
    [[ $key == zk_synced_followers ]] && facts+=("synced_followers:=${value%%.*}")
  done <<< "$(ask "$ANSWER_S_MAX" "$address" "$port" mntr)"
fi
straas_facts "${facts[@]}"
straas_result active
straas_progress "$mode in an ensemble of ${#members[@]}, answers at $address:$port" 100
