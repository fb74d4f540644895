# shellcheck shell=bash
# Shared by the build-*.sh scripts: makes a Debian package from a directory tree, reproducibly.
#
# No debhelper: it is not needed for a handful of files, and these scripts then run wherever
# dpkg-deb does. The same inputs give the same bytes: times come from SOURCE_DATE_EPOCH, owners are
# root, the order of files is dpkg-deb's own.
#
# Sourced with NAME set; the caller fills $TREE and $TREE/DEBIAN, then calls pack.

set -euo pipefail
umask 022
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
VERSION=${VERSION:-0.1.0}

need() { # PROGRAM PACKAGE
  command -v "$1" >/dev/null || { echo "$0: the program $1 is missing; apt-get install $2" >&2; exit 1; }
}
need dpkg-deb dpkg

ARCH=$(dpkg --print-architecture)
# The last commit's time when there is one, else a fixed day: never the time of the build.
if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
  SOURCE_DATE_EPOCH=$(git -C "$HERE" log -1 --format=%ct 2>/dev/null || true)
fi
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-1767225600}

TREE=$(mktemp -d)
trap 'rm -rf "$TREE"' EXIT
chmod 755 "$TREE"
mkdir -p "$TREE/DEBIAN"

binary() { # FILE DIRECTORY NAME : installs a program, stripped where possible
  local to=$TREE$2/$3
  [ -f "$1" ] || { echo "$0: there is no file $1; build it first" >&2; exit 1; }
  install -D -m 755 "$1" "$to"
  if command -v strip >/dev/null; then strip --strip-unneeded "$to" 2>/dev/null || true; fi
}

depends() { # FILE : the libraries a program needs, as a Depends value
  local dir out
  if command -v dpkg-shlibdeps >/dev/null; then
    dir=$(mktemp -d)
    mkdir -p "$dir/debian"
    printf 'Source: straas\n\nPackage: straas\nArchitecture: any\n' > "$dir/debian/control"
    out=$(cd "$dir" && dpkg-shlibdeps -O --ignore-missing-info "$1" 2>/dev/null | sed -n 's/^shlibs:Depends=//p' || true)
    rm -rf "$dir"
  fi
  # Without dpkg-dev: what a Rust program built on Debian 12 needs.
  echo "${out:-libc6 (>= 2.36), libgcc-s1}"
}

control() { # DEPENDS SUMMARY LONG [FIELDS] : FIELDS are whole lines, like `Recommends: maven`
  local more=${4:+$'\n'$4}
  cat > "$TREE/DEBIAN/control" <<CONTROL
Package: $NAME
Version: $VERSION
Architecture: $ARCH
Maintainer: StraaS maintainers <straas@localhost>
Section: admin
Priority: optional
Depends: $1$more
Installed-Size: $(du -sk --apparent-size --exclude=DEBIAN "$TREE" | cut -f1)
Description: $2
 $3
CONTROL
}

pack() { # OUTDIR : writes OUTDIR/NAME_VERSION_ARCH.deb and prints its path
  local out
  mkdir -p "$1"
  out=$(cd "$1" && pwd)/${NAME}_${VERSION}_${ARCH}.deb
  (cd "$TREE" && find . -type f ! -path './DEBIAN/*' -printf '%P\0' | LC_ALL=C sort -z | xargs -0 -r md5sum > DEBIAN/md5sums)
  find "$TREE" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
  dpkg-deb --root-owner-group -Zxz --build "$TREE" "$out.new" >/dev/null
  mv "$out.new" "$out"
  echo "$out"
}
