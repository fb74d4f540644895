#!/bin/bash
# deny.sh DIR : checks with cargo-deny what this is built from: licences, banned crates, sources, known advisories.
#
# cargo-deny is built once into DIR, without optimisation, which takes some minutes. The database of advisories is fetched from
# where it is kept; where that cannot be reached it is said that they were not checked, and the rest counts.
set -euo pipefail
cd "$(dirname "$0")/.."
version=0.20.2
deny=$1/bin/cargo-deny
# longest wait for the database: it is some megabytes
fetch_max=120

if [ "$("$deny" --version 2>/dev/null)" != "cargo-deny $version" ]; then
  echo "building cargo-deny $version (some minutes, once)"
  # a build of its own: its dependencies have nothing to do with this project's
  CARGO_TARGET_DIR=$1/build cargo install --quiet --locked --debug --root "$1" --version "$version" cargo-deny
  rm -rf "$1/build"
fi
"$deny" --locked check bans licenses sources
if timeout "$fetch_max" "$deny" --locked fetch db >/dev/null 2>&1; then
  "$deny" --locked check --disable-fetch advisories
else
  echo "ADVISORIES WERE NOT CHECKED: their database could not be fetched; run 'make deny' where it can" >&2
fi
