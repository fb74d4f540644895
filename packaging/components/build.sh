#!/bin/bash
# build.sh [TYPE...] : makes the Debian packages of components (default: all) and prints the path of each.
#
# What: for every TYPE with a pom.xml here, and every version in TYPE/versions, one package from the official artifacts,
#       fetched by Maven and packed by jdeb. stdout: one path a line. stderr: what is being done.
# Why:  packages are kept by what they are made of, in $STRAAS_CACHE/components/TYPE-HASH/ (HASH covers this script, the
#       shared pom.xml and the whole folder of the type), so that only the first call costs anything, and a changed file
#       never meets an old package.
# Never: installs anything, names a registry, leaves a half-made package where a whole one is looked for.
set -euo pipefail
umask 022
here=$(cd "${BASH_SOURCE[0]%/*}" && pwd)
export LC_ALL=C.UTF-8

if [ -z "${STRAAS_CACHE:-}" ]; then
  if [ "$(id -u)" = 0 ]; then STRAAS_CACHE=/var/cache/straas; else STRAAS_CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/straas; fi
fi
cache=$STRAAS_CACHE/components
KEPT_DAYS=30   # packages of older contents that no build has asked for since are deleted

fail() { echo "build.sh: $*" >&2; exit 1; }

# content TYPE: a digest of everything the packages of TYPE are made of: paths, modes of programs, bytes.
content() {
  {
    echo build.sh pom.xml
    find "$1" -type f ! -name '*.md' -printf '%p\n'
  } | tr ' ' '\n' | sort | while read -r file; do
    [ -x "$file" ] && mode=x || mode=-
    printf '%s %s %s\n' "$mode" "$(sha256sum <"$file")" "$file"
  done | sha256sum | cut -c1-16
}

# build TYPE VERSION DIR: one package, into DIR.
build() {
  local log=$3/.log
  echo "packing $1 $2 (fetching its artifacts the first time)" >&2
  # -C: an artifact that does not fit its published checksum is refused.
  mvn -B -ntp -C -f "$1/pom.xml" -Dcomponent.version="$2" -Dcomponent.out="$3/.$2" package >"$log" 2>&1 || {
    grep -F '[ERROR]' "$log" | head -n 20 >&2
    fail "Maven could not make $1 $2; its errors are above"
  }
  mv "$3/.$2"/*.deb "$3/"
  rm -rf "$3/.$2" "$log"
}

# provide TYPE: prints the packages of TYPE, made now if need be.
provide() {
  local type=$1 version dir new
  { [ -f "$type/pom.xml" ] && [ -s "$type/versions" ]; } || fail "there is no component $type: $here/$type needs pom.xml and versions"
  dir=$cache/$type-$(content "$type")
  if [ ! -d "$dir" ]; then
    command -v mvn >/dev/null || fail "mvn is missing; apt-get install --no-install-recommends maven"
    mkdir -p "$cache"
    exec 9>"$cache/.$type.lock"
    flock 9
    if [ ! -d "$dir" ]; then   # nobody else made it in the meantime
      new=$cache/.$type.new
      rm -rf "$new"
      mkdir "$new"
      while read -r version; do
        case $version in '' | '#'*) continue ;; esac
        build "$type" "$version" "$new"
      done <"$type/versions"
      sync -f "$new"
      mv "$new" "$dir"
    fi
    exec 9>&-
  fi
  touch "$dir"   # in use; what nobody has used for long goes
  find "$cache" -mindepth 1 -maxdepth 1 -name "$type-????????????????" -mtime +"$KEPT_DAYS" -exec rm -rf {} +
  printf '%s\n' "$dir"/*.deb
}

cd "$here"
if [ $# = 0 ]; then
  for pom in */pom.xml; do set -- "$@" "${pom%/pom.xml}"; done
fi
for type in "$@"; do
  [[ $type =~ ^[a-z][a-z0-9-]*$ ]] || fail "'$type' is not a component's name"
  provide "$type"
done
