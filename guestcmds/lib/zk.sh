# shellcheck shell=bash
# What: what the guest commands of zk-cmd share: where this node's server listens, and one call of ZooKeeper's own client.
# Why:  the client comes with the package, so it always fits the server. It is started without the package's wrapper,
#       which reads a configuration that is not ours. Arguments reach it as argv, never through a shell or a script.
# Never: connects to another server than this node's own; keeps a connection open.
#
# Use:  . "$STRAAS_SCRIPTS/cmd/lib/straas.sh"; . "$STRAAS_SCRIPTS/guestcmds/lib/zk.sh"

ZK_CONNECT_MS_MAX=10000   # the client's own wait for a connection, well below the command's timeout

# zk_address: sets zk_host and zk_port from the rendered zoo.cfg, or ends the command.
zk_address() {
  local key value conf=$STRAAS_PREFIX/etc/zookeeper/straas/zoo.cfg
  zk_host='' zk_port=''
  [[ -r $conf ]] || straas_fail "there is no $conf: this node runs no configured ZooKeeper"
  while IFS='=' read -r key value; do
    case $key in
      clientPort) zk_port=$value ;;
      clientPortAddress) zk_host=$value ;;
    esac
  done < "$conf"
}

# zk_cli COMMAND ARG...: runs one command of zkCli; its answer in zk_out (without the client's chatter), its exit code
# as return value.
zk_cli() {
  local code=0 line raw at
  zk_address
  at=$zk_host:$zk_port
  [[ $zk_host == *:* ]] && at="[$zk_host]:$zk_port"
  raw=$(java -Xmx48m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto \
    -cp /usr/share/java/slf4j-nop.jar:/usr/share/java/zookeeper.jar:/usr/share/java/commons-cli.jar \
    org.apache.zookeeper.ZooKeeperMain -server "$at" -timeout "$ZK_CONNECT_MS_MAX" -waitforconnection \
    "$@" </dev/null 2>&1) || code=$?
  zk_out=''
  while IFS= read -r line; do
    case $line in
      '' | 'Connecting to '* | 'WATCHER::' | 'WatchedEvent '*) ;;
      *) zk_out+="${zk_out:+$'\n'}$line" ;;
    esac
  done <<< "$raw"
  return "$code"
}

# zk_namespace: checks the argument `name` once more and sets zk_path.
zk_namespace() {
  local name=${STRAAS_ARG_NAME:-}
  [[ $name =~ ^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$ ]] ||
    straas_fail "the argument name must be 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit" 64
  [[ $name != zookeeper ]] || straas_fail "/zookeeper belongs to ZooKeeper itself; choose another name" 64
  # shellcheck disable=SC2034  # for the command that calls
  zk_path=/$name
}
