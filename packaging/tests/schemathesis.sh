#!/bin/bash
# What: schemathesis.sh image            installs schemathesis once, and prints where its program is
# Why:  the API is fuzzed from its own document. What is installed is pinned in schemathesis.txt and kept by content in
#       $STRAAS_CACHE/schemathesis/HASH, so that another version is another folder and nothing of this machine changes.
# Never: installs anything for the system's own Python.
#
# Needs python3-venv (packaging/install-needed.sh test).
set -euo pipefail
cache=${STRAAS_CACHE:-/var/cache/straas}/schemathesis
here=$(cd "$(dirname "$0")" && pwd)
pins=$here/schemathesis.txt
# one that nobody asked for in so many days goes when the next one is made
keep_days=30

make_venv() {
  local new
  rm -rf "$cache"/.new.*
  find "$cache" -mindepth 1 -maxdepth 1 -type d -mtime "+$keep_days" -exec rm -rf {} +
  new=$(mktemp -d "$cache/.new.XXXXXX")
  echo "installing schemathesis (once, half a minute)" >&2
  if ! { python3 -m venv "$new/venv" && "$new/venv/bin/python" -m pip install -q --no-input -r "$pins"; } >"$new/log" 2>&1; then
    tail -n 20 "$new/log" >&2
    echo "schemathesis cannot be installed; all that was said is in $new/log" >&2
    exit 1
  fi
  mv "$new/venv" "$1"
  rm -rf "$new"
}

case ${1:-} in
  image)
    place=$cache/$({ python3 --version; cat "$pins"; } | sha256sum | cut -c 1-16)
    mkdir -p "$cache"
    (flock 9; [ -d "$place" ] || make_venv "$place") 9>"$cache/.lock"
    touch "$place"
    # scripts of a folder that was moved name the old one
    echo "$place/bin/python -m schemathesis.cli"
    ;;
  *) echo "usage: $0 image" >&2; exit 2 ;;
esac
