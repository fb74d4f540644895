# shellcheck shell=bash
# What: what scripts of a role do with the daemon that its Puppet class declared as `straas::daemon`: stop it, show its
#       logs, take it off the node.
# Why:  where a daemon of a component lives is the same for all of them, so how it goes is, too; a component's own script
#       holds what is particular to it.
# Never: starts anything, touches another instance's files or process on the same machine.
#
# Use:  . "$STRAAS_SCRIPTS/cmd/lib/straas.sh"; . "$STRAAS_SCRIPTS/cmd/lib/daemon.sh"

STRAAS_LOCK_WAIT_S=120     # another package run on this machine may hold dpkg's lock
STRAAS_LOG_LINES_SHOWN=20

# The control script: start, stop, restart, pid.
straas_ctl=$STRAAS_PREFIX/etc/straas.d/$STRAAS_ROLE

# straas_stop: stops the daemon, or ends the script. One that was never configured is stopped.
straas_stop() {
  if [[ -x $straas_ctl ]]; then
    straas_progress "stopping $STRAAS_ROLE"
    "$straas_ctl" stop || straas_fail "$STRAAS_ROLE could not be stopped; see the lines above"
  fi
}

# straas_configured FILE: for validate.sh: ends the script unless the config stage has left this file.
straas_configured() {
  [[ -r $1 ]] || {
    straas_result inactive
    straas_fail "there is no $1: the config stage has not run on this node (or $STRAAS_ROLE was removed)"
  }
}

# straas_show_logs FILE...: the last lines of those that hold any; the nearest to the hint comes last.
straas_show_logs() {
  local file
  for file in "$@"; do
    [[ ! -s $file ]] || { echo "--- last lines of $file"; tail -n "$STRAAS_LOG_LINES_SHOWN" "$file"; }
  done
}

# straas_why FILE PATTERN: the last line that says why, near the end of a log; nothing if there is none.
straas_why() {
  local said
  said=$(tail -n 200 "$1" 2>/dev/null | grep -E -- "$2" | tail -n 1) || true
  printf '%s' "${said:0:500}"
}

# straas_remove COMPONENT PACKAGES: takes the daemon off this node: process, unit, the directories of straas::paths for
# COMPONENT, and every package whose whole name the extended regular expression PACKAGES matches. Dependencies that apt
# pulled in stay: the host's image may have had them before us. Under a prefix packages stay as well: other instances on
# the machine run from them. Once more is success.
straas_remove() {
  local at=$STRAAS_PREFIX component=$1 unit=/etc/systemd/system/$STRAAS_ROLE.service packages
  straas_stop
  if [[ -z $at && -e $unit ]]; then
    systemctl disable --quiet "$STRAAS_ROLE.service" || true
    rm -f -- "$unit"
    systemctl daemon-reload || true
  fi

  straas_progress "deleting data, logs and configuration" 30
  rm -rf -- "$at/etc/${component:?}/straas" "$at/var/lib/$component/data" "$at/var/log/$component" "$at/run/$component"

  if [[ -z $at ]]; then
    # Every version that an upgrade left behind; 'rc' (removed, configuration left) is purged as well.
    mapfile -t packages < <(dpkg-query -W -f='${db:Status-Status} ${Package}\n' 2>/dev/null |
      sed -nE "/^not-installed /d; s/^[^ ]+ ($2)\$/\\1/p")
    if ((${#packages[@]})); then
      straas_progress "purging ${packages[*]}" 60
      DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout="$STRAAS_LOCK_WAIT_S" \
        purge "${packages[@]}" </dev/null || straas_fail "${packages[*]} could not be purged; the lines of apt-get are above"
    fi
  fi
  # What dpkg leaves of its own directories when files of ours were in them; the control script last, for it stops.
  rm -rf -- "$at/etc/${component:?}" "$at/var/lib/${component:?}" "$straas_ctl"
  straas_progress "$STRAAS_ROLE is removed" 100
}
