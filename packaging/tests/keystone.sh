#!/bin/bash
# What: keystone.sh image            makes a Debian root with Keystone in it, once, and prints where it is
#       keystone.sh serve PORT DIR   runs that Keystone on 127.0.0.1:PORT; what it remembers is in DIR
# Why:  the controller's tests ask a real Keystone. It is Debian's, in a root of its own that is never written again
#       (kept by content in $STRAAS_CACHE/keystone/HASH, with one user: admin, password "admin", project admin).
#       `serve` ends when its standard input ends, so that no Keystone outlives the test that has the other end.
# Never: installs anything on this machine, listens on an address of it that others reach.
#
# Needs root, namespaces, mmdebstrap (packaging/install-needed.sh test); says so, with exit status 77, where it may not
# make namespaces.
set -euo pipefail
cache=${STRAAS_CACHE:-/var/cache/straas}/keystone
suite=bookworm
packages=keystone,uwsgi-plugin-python3,sqlite3
# a root that nobody asked for in so many days goes when the next one is made
keep_days=30

# Makes the root $1.
make_root() {
  local new sources settings options line
  command -v mmdebstrap >/dev/null || { echo "mmdebstrap is missing: packaging/install-needed.sh test" >&2; exit 1; }
  # what a build left that was killed: this one has the lock
  rm -rf "$cache"/.new.*
  find "$cache" -mindepth 1 -maxdepth 1 -type d -mtime "+$keep_days" -exec rm -rf {} +
  new=$(mktemp -d "$cache/.new.XXXXXX")
  cat >"$new/setup" <<'SETUP'
set -eu
cat >/etc/keystone/keystone.conf <<'CONF'
[DEFAULT]
log_dir = /var/log/keystone
[database]
connection = sqlite:////var/lib/keystone/keystone.sqlite
[token]
provider = fernet
expiration = 3600
[fernet_tokens]
key_repository = /etc/keystone/fernet-keys/
[credential]
key_repository = /etc/keystone/credential-keys/
# without it a token costs hundreds of queries
[cache]
enabled = true
backend = dogpile.cache.memory
[identity]
password_hash_rounds = 4
CONF
cd /
mkdir -p /etc/keystone/fernet-keys /etc/keystone/credential-keys
chown -R keystone: /etc/keystone /var/lib/keystone /var/log/keystone
rm -f /var/lib/keystone/*.sqlite
keystone-manage db_sync
# else a write meets a read and waits until it fails: "database is locked"
sqlite3 /var/lib/keystone/keystone.sqlite 'PRAGMA journal_mode=WAL'
keystone-manage fernet_setup --keystone-user keystone --keystone-group keystone
keystone-manage credential_setup --keystone-user keystone --keystone-group keystone
keystone-manage bootstrap --bootstrap-password admin
chown -R keystone: /var/lib/keystone /var/log/keystone
SETUP
  # where this machine has its packages from, and how it gets there
  mapfile -t sources < <(grep -lsE "^(Suites:|deb )(.*[[:space:]])?$suite([[:space:]]|\$)" /etc/apt/sources.list /etc/apt/sources.list.d/*)
  mapfile -t settings < <(apt-config dump | grep -iE '^Acquire::(https?|Check-Valid-Until|Check-Date)' | grep -v ' "";')
  options=(--mode=root --variant=minbase --format=directory --include="$packages")
  for line in 'APT::Install-Recommends "false";' 'Acquire::Languages "none";' "${settings[@]}"; do options+=("--aptopt=$line"); done
  for line in force-unsafe-io 'path-exclude=/usr/share/doc/*' 'path-exclude=/usr/share/locale/*' 'path-exclude=/usr/share/man/*'; do
    options+=("--dpkgopt=$line")
  done
  # shellcheck disable=SC2016  # mmdebstrap's shell knows what $1 is
  options+=(
    --essential-hook='printf "#!/bin/sh\nexit 101\n" >"$1/usr/sbin/policy-rc.d"; chmod +x "$1/usr/sbin/policy-rc.d"'
    --essential-hook='for q in configure_db create-admin-tenant register-endpoint; do echo "keystone keystone/$q boolean false"; done | chroot "$1" debconf-set-selections'
    --customize-hook="cp '$new/setup' \"\$1/root/setup\" && chroot \"\$1\" sh /root/setup"
  )
  echo "making a Debian root with Keystone (once, some minutes)" >&2
  if ! mmdebstrap "${options[@]}" "$suite" "$new/root" "${sources[@]}" >"$new/log" 2>&1; then
    tail -n 30 "$new/log" >&2
    echo "mmdebstrap could not make a root with Keystone; all it said is in $new/log" >&2
    exit 1
  fi
  rm -rf "$new"/root/var/cache/apt/* "$new"/root/var/lib/apt/lists/*
  mv "$new/root" "$1"
  rm -rf "$new"
}

image() {
  if ! { [ "$(id -u)" = 0 ] && unshare --mount --pid --fork true 2>/dev/null; }; then
    echo "Keystone is run in a root and namespaces of its own, which only root may make; run the tests with sudo"
    exit 77
  fi
  root=$cache/$({ declare -f make_root; echo "$suite $packages"; } | sha256sum | cut -c 1-16)
  mkdir -p "$cache"
  (flock 9; [ -d "$root" ] || make_root "$root") 9>"$cache/.lock"
  touch "$root"
}

serve() {
  local port=$1 dir=$2
  mkdir -p "$dir/root"
  [ -d "$dir/lib" ] || cp -a "$root/var/lib/keystone" "$dir/lib"
  [ -d "$dir/log" ] || cp -a "$root/var/log/keystone" "$dir/log"
  # shellcheck disable=SC2016  # the inner shell expands its own arguments
  exec unshare --mount --pid --ipc --uts --fork --kill-child --propagation private bash -euc '
    root=$1 port=$2 dir=$3
    mount --bind "$root" "$dir/root"
    mount -o remount,bind,ro "$dir/root"
    cd "$dir/root"
    mount -t proc proc proc
    mount --rbind /dev dev
    mount -t tmpfs tmpfs tmp
    mount -t tmpfs tmpfs run
    mount --bind "$dir/lib" var/lib/keystone
    mount --bind "$dir/log" var/log/keystone
    # without "Connection: close" a client that keeps connections meets one that was cut
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
      chroot . /usr/bin/uwsgi_python3 --http-socket "127.0.0.1:$port" --processes 1 --threads 4 --enable-threads \
      --master --die-on-term --uid keystone --gid keystone --wsgi-file /usr/bin/keystone-wsgi-public --need-app \
      --lazy-apps --add-header "Connection: close" --buffer-size 65535 --logto /var/log/keystone/uwsgi.log \
      </dev/null >>"$dir/log/start.log" 2>&1 &
    # this shell is the first process of its kind in here: with it all others end
    read -r _ || true
  ' keystone "$root" "$port" "$dir"
}

case ${1:-} in
  image) image; echo "$root" ;;
  serve) image; serve "$2" "$3" ;;
  *) echo "usage: $0 image | serve PORT DIR" >&2; exit 2 ;;
esac
