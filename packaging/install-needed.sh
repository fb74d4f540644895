#!/bin/bash
# install-needed.sh demo|test : installs the Debian packages that building, the demo or the tests
# need and this machine lacks.
#
# It asks dpkg first and does nothing where nothing is missing, so it is cheap to call every time.
# It never upgrades a package that is there and never starts a service.
set -euo pipefail
build=(gcc libc6-dev make pkg-config dpkg-dev ca-certificates)
# maven: packages of components (packaging/components)
demo=("${build[@]}" maven mmdebstrap debian-archive-keyring apt-utils gnupg iproute2 util-linux procps)
# without namespaces nodes are processes of this machine, which then needs what a host image has
unshare --mount --net --pid --fork true 2>/dev/null || demo+=(puppet-agent python3 default-jre)
# g++: the fuzzing engine
tests=("${demo[@]}" g++ git openssh-client openssh-server openssl postgresql puppet-agent python3 python3-venv shellcheck haproxy patroni python3-etcd etcd-server curl ethtool kcat python3-kazoo python3-confluent-kafka e2fsprogs nftables libfaketime)
case ${1:-} in
  demo) wanted=("${demo[@]}") ;;
  test) wanted=("${tests[@]}") ;;
  *) echo "usage: $0 demo|test" >&2; exit 2 ;;
esac

if ! command -v cargo >/dev/null; then
  echo "cargo is missing: install Rust's toolchain (1.95 or newer) first, see https://rustup.rs" >&2
  exit 1
fi
missing=()
for package in "${wanted[@]}"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" != 0 ]; then
  echo "these Debian packages are missing: ${missing[*]}" >&2
  echo "run this as root, or: sudo apt-get install --no-install-recommends ${missing[*]}" >&2
  exit 1
fi
echo "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# the tests start PostgreSQL servers of their own; Debian's default cluster is not wanted
if [[ " ${missing[*]} " == *" postgresql "* ]]; then
  mkdir -p /etc/postgresql-common
  [ -e /etc/postgresql-common/createcluster.conf ] || echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf
fi
# nor is a machine to be reached over ssh because a test runs an sshd of its own
if [[ " ${missing[*]} " == *" openssh-server "* ]]; then
  mkdir -p /etc/ssh
  touch /etc/ssh/sshd_not_to_be_run
fi
log=$(mktemp)
if ! { apt-get -q update && apt-get -q -y install --no-install-recommends "${missing[@]}"; } > "$log" 2>&1; then
  tail -n 20 "$log" >&2
  echo "apt-get could not install ${missing[*]}; its output is in $log" >&2
  exit 1
fi
rm -f "$log"
