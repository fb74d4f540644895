#!/bin/bash
# What: the Kafka payload on the real thing: packages, a ZooKeeper, three brokers on this machine, and the whole life of a
#       cluster: created, written to by a client that is not ours, restarted one by one, upgraded and taken back, grown,
#       drained.
# Why:  what a script says of Kafka is worth what Kafka then does. Everything runs in namespaces of its own (mounts,
#       network, processes), so it needs no free port, changes nothing on the machine, and ends when this ends.
# Never: installs anything, leaves a process behind.
#
# Usage: proxy-scripts/tests/kafka.sh      as root; needs maven (the first time), java, puppet-agent, kcat
set -euo pipefail
here=$(cd "${BASH_SOURCE[0]%/*}" && pwd)
project=${here%/*/*}
if [[ $(id -u) != 0 ]]; then echo "this test makes namespaces and needs root" >&2; exit 1; fi
for program in java puppet kcat unshare; do
  command -v "$program" >/dev/null || { echo "$program is missing: packaging/install-needed.sh test installs it" >&2; exit 1; }
done

if [[ ${1:-} != inside ]]; then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  for deb in $("$project/packaging/components/build.sh" kafka); do
    dpkg-deb -x "$deb" "$work/packages"
  done
  # setsid: a control-C ends the outer shell, and --kill-child the rest with it.
  unshare --mount --net --pid --fork --kill-child --mount-proc "$here/kafka.sh" inside "$work"
  exit
fi

work=$2
ip link set lo up
# What installing the packages would have brought: their files, and the user.
mkdir -p "$work/overlay"
mount -t overlay overlay -o "lowerdir=/usr/lib,upperdir=$work/packages/usr/lib,workdir=$work/overlay" /usr/lib
for file in passwd group; do
  cp "/etc/$file" "$work/$file"
done
grep -q '^kafka:' "$work/passwd" || echo 'kafka:x:899:899::/nonexistent:/usr/sbin/nologin' >>"$work/passwd"
grep -q '^kafka:' "$work/group" || echo 'kafka:x:899:' >>"$work/group"
for file in passwd group; do
  mount --bind "$work/$file" "/etc/$file"
done
# What a node has checked out: proxy-scripts' folders at the top, beside puppet and guestcmds.
mkdir -p "$work/release" "$work/nodes"
chmod 755 "$work" "$work/nodes"
ln -s "$project"/proxy-scripts/{cmd,pre_config} "$project/puppet" "$project/guestcmds" "$work/release/"
# Not exec: this shell is process 1 here, which has to reap the brokers that end.
/usr/bin/python3 -IB "$here/kafka_scenario.py" "$project" "$work" &
wait $!
