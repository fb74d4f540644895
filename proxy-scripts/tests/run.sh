#!/bin/bash
# What: tests the payload (proxy-scripts, guestcmds, puppet, the seed of the config repository) on any machine.
# Why:  most mistakes in a script need no ensemble to be found: a message that is not JSON, a check that takes a dead
#       server for a live one, an example that has gone stale. Takes seconds, needs bash and python3; shellcheck and
#       puppet are used when they are installed, and named when they are not.
# Never: installs anything, starts ZooKeeper or Java, writes outside a temporary folder (BLESS=1: golden files too).
#
# Usage: proxy-scripts/tests/run.sh          exit code 0: all is well
set -euo pipefail
project=$(cd "${BASH_SOURCE[0]%/*}/../.." && pwd)
work=$(mktemp -d)
server=''
# shellcheck disable=SC2064  # work is known now
trap "rm -rf '$work'; [[ -z \${server} ]] || kill \"\$server\" 2>/dev/null" EXIT
failures=0
export LC_ALL=C.UTF-8

# expect NAME WANTED GOT: WANTED is a pattern as in `case`.
expect() {
  # shellcheck disable=SC2053  # a pattern it is
  if [[ $3 == $2 ]]; then
    echo "ok    $1"
  else
    printf 'FAIL  %s\n  wanted: %s\n  got:    %s\n' "$1" "$2" "$3"
    failures=$((failures + 1))
  fi
}

# --- files: schemas, golden sections, headers
/usr/bin/python3 -IB "$project/proxy-scripts/tests/check_files.py" "$project" || failures=$((failures + 1))

# --- components made of files alone: laid over a copy, they must fit as if they had always been there
for overlay in "$project"/tests/components/*/; do
  merged=$work/merged/$(basename "$overlay")
  mkdir -p "$merged/controller/repos"
  cp -a "$project/proxy-scripts" "$project/guestcmds" "$merged/"
  cp -a "$project/controller/repos/defaults" "$merged/controller/repos/"
  for part in cmd pre_config; do [[ ! -d $overlay/$part ]] || cp -a "$overlay/$part" "$merged/proxy-scripts/"; done
  for part in metadata app; do [[ ! -d $overlay/$part ]] || cp -a "$overlay/$part" "$merged/controller/repos/defaults/"; done
  [[ ! -d $overlay/guestcmds ]] || cp -a "$overlay/guestcmds" "$merged/"
  [[ ! -d $overlay/golden ]] || cp -a "$overlay/golden" "$merged/proxy-scripts/tests/"
  /usr/bin/python3 -IB "$project/proxy-scripts/tests/check_files.py" "$merged" || failures=$((failures + 1))
  [[ ${BLESS:-} != 1 || ! -d $overlay/golden ]] || (cd "$merged/proxy-scripts/tests/golden" && cp -- "$(basename "$overlay")"-*.json refused-"$(basename "$overlay")"-*.json "$overlay/golden/")
done

# --- the message library: whatever the text, the message is JSON that says the same
cat > "$work/echo.py" <<'PY'
import json, sys
for line in sys.stdin.buffer:
    assert line.startswith(b"@straas "), line
    print(ascii(next(iter(json.loads(line[8:]).values()))))
PY
# shellcheck source=proxy-scripts/cmd/lib/straas.sh
. "$project/proxy-scripts/cmd/lib/straas.sh"
say() { "$@" | /usr/bin/python3 -IB "$work/echo.py"; }
expect "quotes, backslash, line end, tab" "'a\"b\\\\\\\\c\\\\nd\\\\te'" "$(say straas_hint $'a"b\\c\nd\te')"
expect "control characters" "'\\\\x1b\\[0m\\\\x01\\\\x7f'" "$(say straas_hint $'\e[0m\x01\x7f')"
expect "beyond ASCII" "'gr\\\\xfc\\\\xdfe \\\\u2713'" "$(say straas_hint 'grüße ✓')"
expect "broken UTF-8" "'a\\?b'" "$(say straas_hint $'a\xffb')"
expect "progress with percent" "{'text': 'x', 'percent': 40}" "$(say straas_progress x 40)"
expect "facts keep their types" "{'mode': 'leader', 'n': 3, 'ok': True, 'odd': 'a=b'}" \
  "$(say straas_facts mode=leader n:=3 ok:=true odd=a=b)"
long=$(printf 'x%.0s' {1..5000})
expect "a long text is cut, not refused" "2002" "$(($(say straas_hint "$long" | wc -c) - 1))"

# --- validate.sh: every answer a server gives, from a fake one
prefix=$work/node conf=$work/node/etc/zookeeper/straas answers=$work/answers
mkdir -p "$conf" "$prefix/var/log/zookeeper" "$answers"
/usr/bin/python3 -IB "$project/proxy-scripts/tests/fake_server.py" "$answers" > "$work/port" &
server=$!
deadline=$((SECONDS + 30))
until [[ -s $work/port ]]; do   # the port is known as soon as the interpreter is up
  ((SECONDS < deadline)) || { echo "the fake server did not come up"; exit 1; }
  read -r -t 0.05 _ <> <(:) || true
done
port=$(< "$work/port")
# ctl ROLE PID: a control script that knows this process as long as its own file ROLE.alive is there.
ctl() {
  mkdir -p "$prefix/etc/straas.d"
  # shellcheck disable=SC2016  # the script that is written expands it
  printf '#!/bin/sh\n[ "$1" != pid ] || { [ -e "$0.alive" ] && echo %s; }\n' "$2" > "$prefix/etc/straas.d/$1"
  chmod 755 "$prefix/etc/straas.d/$1"
}
ctl zookeeper 4711

# configure SERVERS: a zoo.cfg whose first server is the fake one; the others are addresses where nobody listens.
configure() {
  local i
  printf 'clientPort=%s\nclientPortAddress=127.0.0.1\nserver.1=127.0.0.1:2888:3888\n' "$port" > "$conf/zoo.cfg"
  for ((i = 2; i <= $1; i++)); do echo "server.$i=127.0.0.$((100 + i)):2888:3888" >> "$conf/zoo.cfg"; done
}
# stage SCRIPT [NAME=VALUE...]: its output on one line, then the exit code.
stage() {
  local script=$1 code=0 out
  shift
  out=$(env -i PATH="$PATH" LC_ALL=C.UTF-8 STRAAS_SCRIPTS="$work/release" STRAAS_PREFIX="$prefix" STRAAS_ROLE=zookeeper "$@" \
    bash "$work/release/$script" 2>&1) || code=$?
  printf '%s exit=%s' "${out//$'\n'/ | }" "$code"
}
validate() { stage cmd/zookeeper/default/validate.sh; }
# What a node has checked out: proxy-scripts' folders at the top, beside puppet and guestcmds.
mkdir "$work/release"
ln -s "$project"/proxy-scripts/{cmd,pre_config} "$project/puppet" "$project/guestcmds" "$work/release/"
srvr() { # MODE
  printf 'Zookeeper version: 3.8.0-x, built on 2023-10-17 15:46 UTC\nLatency min/avg/max: 0/0.5/7\nReceived: 9\nSent: 8\nConnections: 2\nOutstanding: 1\nZxid: 0x100000003\nMode: %s\nNode count: 5\n' "$1" > "$answers/srvr"
}

expect "validate: never configured" '*"inactive"*"hint":*config stage has not run*exit=1' "$(validate)"
configure 3
printf 'Error: Invalid maximum heap size: -Xmx"9"\n' > "$prefix/var/log/zookeeper/console.log"
expect "validate: dead process shows its log" '*"inactive"*Invalid maximum heap size*"hint":*the JVM said: Error: Invalid*exit=1' "$(validate)"
: > "$prefix/var/log/zookeeper/console.log"
expect "validate: process killed" '*"inactive"*"hint":*out-of-memory*exit=1' "$(validate)"
touch "$prefix/etc/straas.d/zookeeper.alive"
expect "validate: port silent" '*"inactive"*starting: process 4711*exit=75' "$(validate)"
echo "This ZooKeeper instance is not currently serving requests" > "$answers/srvr"
printf imok > "$answers/ruok"
expect "validate: no quorum" '*"inactive"*waiting for quorum: 1 of 3 servers answer, 2 are needed*exit=75' "$(validate)"
srvr follower
expect "validate: follower" '*"mode":"follower","version":"3.8.0","zxid":"0x100000003","ensemble_size":3,"connections":2,"outstanding":1,"znodes":5}}*"active"*exit=0' "$(validate)"
srvr leader
printf 'zk_version\t3.8.0\nzk_synced_followers\t2.0\n' > "$answers/mntr"
expect "validate: leader" '*"mode":"leader"*"synced_followers":2}}*"active"*exit=0' "$(validate)"
srvr standalone
expect "validate: alone where there should be three" '*"inactive"*"hint":*restart it*exit=1' "$(validate)"
configure 1
expect "validate: ensemble of one" '*"mode":"standalone"*"active"*exit=0' "$(validate)"

# --- guest commands that need no JVM
expect "four-letter-word" 'imok exit=0' "$(stage guestcmds/zk-cmd/four-letter-word STRAAS_ARG_WORD=ruok)"
expect "four-letter-word: not on the list" '*"hint":*exit=64' "$(stage guestcmds/zk-cmd/four-letter-word STRAAS_ARG_WORD=kill)"
for name in '' zookeeper ../a -a "a b" 'a;b' "$long"; do
  expect "create-namespace refuses '${name:0:20}'" '*"hint":*exit=64' \
    "$(stage guestcmds/zk-cmd/create-namespace STRAAS_ARG_NAME="$name")"
done
listed=$(env -i PATH="$PATH" STRAAS_SCRIPTS="$work/release" "$work/release/guestcmds/assist-cmd/list")
commands=$(find "$project/guestcmds" -mindepth 2 -name '*.json' ! -path '*/schema/*' | wc -l)
expect "assist-cmd/list" "*zk-cmd/create-namespace*(name)*@straas {\"result\":{\"count\":$commands,*" "$listed"

# --- Kafka: plans and protocol without a broker; what needs one is in real/kafka.py
/usr/bin/python3 -IB "$project/proxy-scripts/tests/check_kafka_plan.py" "$project" || failures=$((failures + 1))
kafka=$prefix/etc/kafka/straas
kafka_validate() { stage cmd/kafka/default/validate.sh STRAAS_ROLE=kafka; }
expect "kafka validate: never configured" '*"inactive"*"hint":*config stage has not run*exit=1' "$(kafka_validate)"
mkdir -p "$kafka" "$prefix/var/log/kafka"
printf 'broker.id=3\nlisteners=PLAINTEXT://127.0.0.1:%s\n' "$port" > "$kafka/server.properties"
ctl kafka "$$"
printf '2026-01-01 00:00:00,000 ERROR [main] Kafka: disk is full\n2026-01-01 00:00:01,000 INFO  x\n' > "$prefix/var/log/kafka/server.log"
expect "kafka validate: dead process shows its log" '*"inactive"*"hint":*its log says:*disk is full*exit=1' "$(kafka_validate)"
touch "$prefix/etc/straas.d/kafka.alive"
expect "kafka validate: what answers is no broker" '*"inactive"*starting: process*exit=75' "$(kafka_validate)"
# command_python NAME ARGUMENTS: a guest command in Python with its arguments as JSON; output and exit code as `stage`.
command_python() {
  local code=0 out
  printf '%s' "$2" > "$work/args"
  out=$(env -i PATH="$PATH" LC_ALL=C.UTF-8 STRAAS_SCRIPTS="$work/release" STRAAS_PREFIX="$prefix" STRAAS_ARGS="$work/args" \
    "$work/release/guestcmds/$1" 2>&1) || code=$?
  printf '%s exit=%s' "${out//$'\n'/ | }" "$code"
}
expect "create-topic refuses a bad name" '*"hint":*exit=64' "$(command_python kafka-cmd/create-topic '{"topic":"../x"}')"
expect "drain refuses what is no number" '*"hint":*exit=64' "$(command_python kafka-cmd/drain '{"broker":"-1"}')"
expect "delete-topic refuses Kafka's own" '*"hint":*belongs to Kafka*exit=64' "$(command_python kafka-cmd/delete-topic '{"topic":"__consumer_offsets"}')"
rm -rf "$kafka"
expect "list-topics without a broker" '*"hint":*runs no configured Kafka*exit=1' "$(command_python kafka-cmd/list-topics '{}')"

# --- commands of any node
mkdir -p "$prefix/var/log/kafka" "$work/own"
printf 'one\n@straas {"facts":{}}\nthree\n' > "$prefix/var/log/kafka/server.log"
any() { local name=$1; shift; stage "guestcmds/$name" STRAAS_ROLE=kafka STRAAS_NODE=t STRAAS_STAGE=guestcmd STRAAS_WORK="$work/own" "$@"; }
expect "collect-logs shows ends, never as a message" '*server.log | @ straas * | three |*"files":1*exit=0' "$(any admin-cmd/collect-logs STRAAS_ARG_LINES=2)"
expect "collect-logs by text" '*server.log | one |*exit=0' "$(any admin-cmd/collect-logs STRAAS_ARG_PATTERN=one)"
expect "collect-logs stays in /var/log" '*"hint":*exit=64' "$(any admin-cmd/collect-logs STRAAS_ARG_FOLDER=..)"
expect "disk-usage" '*"file_systems":\[{"at":*"folders":*exit=0' "$(any admin-cmd/disk-usage)"
expect "enable-module refuses a path" '*"hint":*exit=64' "$(any admin-cmd/enable-module STRAAS_ARG_MODULE=../x)"
expect "enable-module refuses what is not there" '*"hint":*has no module*exit=1' "$(any admin-cmd/enable-module STRAAS_ARG_MODULE=nosuch)"
printf '{"config":{"x":{"ssl.password":"p4","port":1}},"peers":[]}' > "$work/context"
echo_context() { env -i PATH="$PATH" STRAAS_CONTEXT="$work/context" "$@" "$work/release/guestcmds/assist-cmd/echo-context"; }
expect "echo-context hides what sounds secret" '*"ssl.password":"(hidden)","port":1*' "$(echo_context)"
expect "echo-context: one part" '*"result":{"peers":\[\]}}' "$(echo_context STRAAS_ARG_PART=peers)"
described=$(env -i PATH="$PATH" STRAAS_SCRIPTS="$work/release" STRAAS_ARG_COMMAND=kafka-cmd/drain "$work/release/guestcmds/assist-cmd/describe")
expect "assist-cmd/describe" '*broker (string)*may be repeated; on nodes of role kafka*"result":{"command":"kafka-cmd/drain"*' "$described"

# --- stop and remove where nothing is configured
rm -rf "$conf" "$prefix/etc/straas.d"
expect "stop: nothing there is success" '*exit=0' "$(stage cmd/default/stop.sh)"
expect "start: nothing there is a failure with a hint" '*"hint":*exit=1' "$(stage cmd/default/start.sh)"
mkdir -p "$prefix/var/lib/zookeeper/data" "$prefix/var/lib/other"
expect "remove under a prefix" '*"percent":100}} exit=0' "$(stage cmd/zookeeper/default/remove.sh)"
expect "remove deletes only its own" "other" "$(ls "$prefix/var/lib")"

# --- the tools that know more
if command -v shellcheck > /dev/null; then
  cd "$project"   # the `source=` directives name files from here
  mapfile -t shell < <(grep -rlE '^#!/bin/bash|^# shellcheck shell=bash' proxy-scripts guestcmds tests/components)
  expect "shellcheck: ${#shell[@]} files" "" "$(shellcheck -x "${shell[@]}" 2>&1 || true)"
else
  echo "skip  shellcheck is not installed (apt-get install shellcheck)"
fi
if command -v puppet > /dev/null; then
  code=0
  shopt -s nullglob   # not every module has all these folders
  puppet parser validate --confdir "$work/p" --vardir "$work/p" "$project"/{puppet,tests/components/*/puppet}/modules/*/{manifests,types,functions}/*.pp || code=$?
  puppet epp validate --confdir "$work/p" --vardir "$work/p" "$project"/{puppet,tests/components/*/puppet}/modules/*/templates/*.epp || code=$?
  expect "puppet parser and epp validate" 0 "$code"
else
  echo "skip  puppet is not installed (apt-get install puppet-agent)"
fi

((failures == 0)) || { echo "payload: $failures failures"; exit 1; }
echo "payload: all well"
