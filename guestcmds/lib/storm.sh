# shellcheck shell=bash
# What: what the guest commands of storm-cmd share: the node's storm-ask, and checks of what would be dangerous.
# Why:  storm-ask talks to the nimbus that leads, without a JVM, and says its result itself; here its ways to fail become
#       hints. What only Storm's own classes can do runs in a JVM as user storm, with a small heap: it may be somebody's
#       code on a node of ours.
# Never: passes an argument through a shell; runs Java as root.
#
# Use:  . "$STRAAS_SCRIPTS/cmd/lib/straas.sh"; . "$STRAAS_SCRIPTS/guestcmds/lib/storm.sh"

storm_conf=$STRAAS_PREFIX/etc/storm/straas

# storm_name: checks the argument `name` once more and sets storm_topology.
storm_name() {
  local name=${STRAAS_ARG_NAME:-}
  [[ $name =~ ^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$ ]] ||
    straas_fail "the argument name must be 1 to 100 letters, digits, '_', '.' or '-', the first no '.' or '-'" 64
  # shellcheck disable=SC2034  # for the command that calls
  storm_topology=$name
}

# storm_number NAME VALUE MAX: VALUE must be empty or an integer from 0 to MAX.
storm_number() {
  [[ -z $2 ]] || { [[ $2 =~ ^[0-9]{1,6}$ ]] && ((10#$2 <= $3)); } ||
    straas_fail "the argument $1 must be a whole number from 0 to $3" 64
}

# storm_ask COMMAND ARG...: runs storm-ask; ends the command with a hint if it fails.
storm_ask() {
  local code=0
  [[ -x $storm_conf/storm-ask ]] || straas_fail "there is no $storm_conf/storm-ask: this node runs no configured Storm"
  "$storm_conf/storm-ask" "$@" || code=$?
  case $code in
    0) ;;
    75) straas_fail "no nimbus could answer, see above; does one of them run, and lead?" ;;
    *) straas_fail "the nimbus refused it; its reason is above" ;;
  esac
}

STORM_HEAP_MB=96   # of a command's JVM: enough to build a topology; the node's daemon needs the rest

# storm_java OPTION... CLASS ARG...: runs a class of Storm, or of a topology, with this cluster's configuration. Options of
# the JVM come first. Its output is shown; returns its exit code.
storm_java() {
  local home=/usr/lib/storm/$STRAAS_VERSION scratch code=0 path
  [[ -r $storm_conf/storm.yaml ]] || straas_fail "there is no $storm_conf/storm.yaml: this node runs no configured Storm"
  [[ -d $home/lib-worker ]] || straas_fail "there is no $home: the install stage has not run for this version"
  path="$home/lib-worker/*:$home/lib/*:$storm_conf${storm_jar:+:$storm_jar}"
  scratch=$(mktemp -d /tmp/storm-cmd.XXXXXX)
  chown storm:storm "$scratch"
  (cd "$scratch" && exec setpriv --reuid storm --regid storm --init-groups \
    java "-Xmx${STORM_HEAP_MB}m" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dstorm.home="$home" -Dstorm.log.dir="$scratch" \
    -Dstorm.options= -Dstorm.conf.file= -Djava.io.tmpdir="$scratch" -cp "$path" "$@" </dev/null 2>&1) || code=$?
  rm -rf "$scratch"
  return "$code"
}
