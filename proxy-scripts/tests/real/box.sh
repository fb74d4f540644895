#!/bin/bash
# What: box.sh SCENARIO.py [OVERLAY]: runs a scenario against real software: ZooKeeper, Storm, or whatever its lines
#       `# box packages:` and `# box components:` name, as processes of this machine, installed by nobody.
# Why:  the rest of proxy-scripts/tests says that scripts are right; this says that they work. All happens in a box:
#       mount, network and process namespaces of its own, with the packages' files laid over /usr for those inside only.
#       When the box ends, every process in it ends and every mount is gone; the machine has never known of it.
#       OVERLAY is a folder with a component of files alone; it is laid over the scripts and the configuration.
# Never: installs a package, listens on an address of the machine, leaves anything but downloads in $STRAAS_CACHE.
#
# Needs root, unshare, puppet, a JRE; says so if not.
set -euo pipefail
project=$(cd "${BASH_SOURCE[0]%/*}/../../.." && pwd)
scenario=$(realpath "$1")
overlay=${2:+$(realpath "$2")}
cache=${STRAAS_CACHE:-/var/cache/straas}/real
[[ -r $scenario ]] || { echo "there is no scenario $scenario"; exit 64; }
[[ $(id -u) == 0 ]] || { echo "box.sh needs root: it makes namespaces and starts daemons under their own users"; exit 1; }
for tool in unshare ip puppet java python3; do
  command -v "$tool" >/dev/null || { echo "box.sh needs $tool (packages util-linux, iproute2, puppet-agent, default-jre-headless, python3)"; exit 1; }
done

work=$(mktemp -d /var/tmp/straas-real.XXXXXX)
trap 'rm -rf "$work"' EXIT

# --- the packages: those of components built, those of Debian fetched, all unpacked, none installed
wanted=$(sed -n 's/^# box packages: //p' "$scenario")
types=$(sed -n 's/^# box components: //p' "$scenario")
mkdir -p "$cache/partial" "$work/root/usr" "$work/apt/partial"
if [[ -n $wanted ]]; then
  # What the machine has already is there for the box too; what it lacks is fetched, with its dependencies.
  # shellcheck disable=SC2086  # one word each
  apt-get -q -y --no-install-recommends --download-only -o Dir::Cache::archives="$work/apt" install $wanted >"$work/apt.log" 2>&1 ||
    { tail -n 20 "$work/apt.log"; echo "apt-get could not fetch $wanted; apt-get update?"; exit 1; }
fi
if [[ -n $types ]]; then
  # shellcheck disable=SC2086  # one word each
  "$project/packaging/components/build.sh" $types >"$work/debs"
fi
for deb in "$work"/apt/*.deb $(cat "$work/debs" 2>/dev/null); do
  if [[ -e $deb ]]; then dpkg-deb -x "$deb" "$work/root"; fi
done

# --- what a node has checked out and is configured with: the project's, with the overlay on top
mkdir -p "$work/release" "$work/config" "$work/lib"
cp "$project"/proxy-scripts/tests/real/*.py "$work/lib/"
cp -a "$project"/proxy-scripts/{cmd,pre_config} "$project/puppet" "$project/guestcmds" "$work/release/"
cp -a "$project"/controller/repos/defaults/{metadata,app} "$work/config/"
if [[ -n $overlay ]]; then
  for part in cmd pre_config puppet guestcmds; do [[ ! -d $overlay/$part ]] || cp -a "$overlay/$part" "$work/release/"; done
  for part in metadata app; do [[ ! -d $overlay/$part ]] || cp -a "$overlay/$part" "$work/config/"; done
fi

# --- the users that packages would have made; only those inside see them
cp /etc/passwd /etc/group "$work/"
number=64000
for user in zookeeper storm kafka nats; do
  number=$((number + 1))
  grep -q "^$user:" "$work/passwd" || echo "$user:x:$number:$number::/nonexistent:/usr/sbin/nologin" >>"$work/passwd"
  grep -q "^$user:" "$work/group" || echo "$user:x:$number:" >>"$work/group"
done
chmod 755 "$work"

# shellcheck disable=SC2016  # the inner shell expands its own arguments
unshare --mount --net --pid --fork --kill-child --mount-proc --propagation private bash -euc '
  work=$1 scenario=$2
  for part in lib sbin bin share; do
    [[ ! -d $work/root/usr/$part ]] || mount -t overlay overlay -o "lowerdir=$work/root/usr/$part:/usr/$part" "/usr/$part"
  done
  mount --bind "$work/passwd" /etc/passwd
  mount --bind "$work/group" /etc/group
  ip link set lo up
  # Not exec: this shell is the process that orphans go to, and it sees to it that none stays a zombie.
  code=0
  /usr/bin/python3 -IB "$scenario" "$work" || code=$?
  exit "$code"
' box "$work" "$scenario"
