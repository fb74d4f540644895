# The install stage where the role has no install.sh: packages by apt, checked with dpkg.
# Arguments: name=version, where a trailing * matches any packaging revision.
# POSIX sh. Never: removes a package, asks a question, updates apt's lists when they know enough; touches the host's
# /etc where agents share it.
set -u
export DEBIAN_FRONTEND=noninteractive

# Agents that share a host (process mode) take turns: apt's own lock timeout does not cover its lists.
if [ -z "${STRAAS_APT_LOCKED:-}" ] && command -v flock >/dev/null && ( : >>/run/straas-apt.lock ) 2>/dev/null; then
  export STRAAS_APT_LOCKED=1
  exec flock -w 900 /run/straas-apt.lock /bin/sh -c "$STRAAS_INSTALL" straas-install "$@"
fi

# Where agents share a machine there may be packages that only they shall see (process mode).
if [ -n "${STRAAS_PREFIX:-}" ] && [ -r "$STRAAS_PREFIX/etc/apt/straas.conf" ]; then
  export APT_CONFIG="$STRAAS_PREFIX/etc/apt/straas.conf"
fi

# So is a repository that the settings name: the file is below the prefix, where the host's own apt does not look.
own="${STRAAS_PREFIX:-}/etc/apt/sources.list.d/straas-packages.sources"
if [ -n "${STRAAS_PREFIX:-}" ] && [ -r "$own" ]; then
  apt="$STRAAS_PREFIX/var/lib/straas/apt"
  parts=''
  eval "$(apt-config shell parts Dir::Etc::sourceparts/d)"
  if ! { rm -rf "$apt/parts" && mkdir -p "$apt/parts" "$apt/lists/partial"; }; then exit 1; fi
  for source in "${parts%/}"/* "$own"; do
    if [ -e "$source" ]; then ln -sf "$source" "$apt/parts/" || exit 1; fi
  done
  # everything below the prefix is the agent's alone, so apt reads it as root
  { if [ -n "${APT_CONFIG:-}" ]; then cat "$APT_CONFIG"; fi
    echo "Dir::Etc::sourceparts \"$apt/parts/\"; Dir::State::lists \"$apt/lists/\";"
    echo 'Dir::Cache::pkgcache ""; Dir::Cache::srcpkgcache ""; APT::Sandbox::User "root";'
  } >"$apt/apt.conf" || exit 1
  export APT_CONFIG="$apt/apt.conf"
fi

missing() {
  for want; do
    name=${want%%=*} version=${want#*=}
    have=$(dpkg-query -W -f '${db:Status-Abbrev}|${Version}' "$name" 2>/dev/null) || have=''
    case $have in
      "ii |"$version) ;;
      '') echo "$name is not installed, wanted is $version" ;;
      *) echo "$name is '$have' (dpkg status|version), wanted is $version" ;;
    esac
  done
}

if [ -z "$(missing "$@")" ]; then
  echo '@straas {"progress":{"text":"all packages are installed already","percent":100}}'
  exit 0
fi
# A run that was killed inside dpkg (kill -9, power loss) leaves packages half-made, and apt-get refuses everything
# until they are mended. dpkg does not wait for its lock; where that is held, apt-get's turn comes after the wait.
if [ -n "$(ls -A /var/lib/dpkg/updates 2>/dev/null)" ] || [ -n "$(dpkg --audit 2>/dev/null)" ]; then
  echo '@straas {"progress":{"text":"mending an interrupted dpkg run"}}'
  dpkg --configure --pending --force-confdef --force-confold </dev/null \
    || apt-get install -q -y --fix-broken -o DPkg::Lock::Timeout=300 </dev/null
fi
updated=''
update() {
  updated=1
  echo '@straas {"progress":{"text":"apt-get update"}}'
  apt-get update -q || echo "apt-get update failed; trying with the lists there are"
}
install() {
  echo '@straas {"progress":{"text":"apt-get install"}}'
  apt-get install -q -y --no-install-recommends --allow-downgrades -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 \
    -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@"
}
apt-get install -qq --simulate --no-install-recommends --allow-downgrades "$@" >/dev/null 2>&1 || update
install "$@"
code=$?
# Lists that name what the repository has no more look good until it is fetched.
if [ "$code" -ne 0 ] && [ -z "$updated" ]; then
  update
  install "$@"
  code=$?
fi
if [ "$code" -ne 0 ]; then
  echo '@straas {"hint":"see the lines that begin with E: above; is the version in the apt sources of this host?"}'
  exit "$code"
fi
left=$(missing "$@")
if [ -n "$left" ]; then
  echo "$left"
  echo '@straas {"hint":"apt-get ended well, but dpkg does not show the wanted versions"}'
  exit 1
fi
echo '@straas {"progress":{"text":"packages installed and verified","percent":100}}'
