# shellcheck shell=bash
# What: one run of the real, masterless `puppet apply`, for every role's runpuppet.sh: applied, or, with STRAAS_NOOP=1,
#       only compared, with what would change sent as `drift`.
# Why:  how Puppet is started is the same for all components: cheap, private to the role, independent of whatever
#       Puppet configuration the host has (an operator's own agent is not disturbed).
# Never: talks to a Puppet server, reads the host's Hiera data, writes outside STRAAS_WORK (what the module manages
#        apart), decides whether a run is needed: the agent's digests did that.
#
# Use:  . "$STRAAS_SCRIPTS/cmd/lib/straas.sh"; . "$STRAAS_SCRIPTS/cmd/lib/puppet.sh"; straas_puppet_apply "$STRAAS_SITE_PP"

# A message is at most 64 KiB: so many resources are named, the rest is counted.
STRAAS_DRIFT_NAMED_MAX=200
STRAAS_DRIFT_NAME_CHARS_MAX=200

# straas_puppet_apply SITE_PP: ends the script unless Puppet is content. Afterwards straas_puppet_changed is 1 if it
# changed something, and straas_puppet_drift names, as JSON strings, what it would change.
# shellcheck disable=SC2034  # for the script that calls
straas_puppet_changed=0 straas_puppet_drift=''
straas_puppet_apply() {
  local site=$1 own=$STRAAS_WORK/puppet code=0 options report
  report=$own/report.yaml
  mkdir -p "$own/conf" "$own/var/yaml/facts"

  # The modules ask for no fact. Handing Puppet an empty set, in the place of a run of facter over every disk and
  # network card, saves 0.7 s of CPU of the 2.1 s that a run without changes costs, and 35 MB.
  printf -- '--- !ruby/object:Puppet::Node::Facts\nname: %s\nvalues: {}\n' "$STRAAS_NODE" >"$own/var/yaml/facts/$STRAAS_NODE.yaml"

  # No hierarchy: every value is in site.pp. (Without a file of its own Puppet falls back to an old format, and warns.)
  printf 'version: 5\nhierarchy: []\n' >"$own/conf/hiera.yaml"

  options=(
    --detailed-exitcodes
    --modulepath "$STRAAS_SCRIPTS/puppet/modules:/usr/share/puppet/modules"
    --confdir "$own/conf" --vardir "$own/var" --ssldir "$own/ssl" --rundir "$own/run" --logdir "$own/log"
    --certname "$STRAAS_NODE"      # else facter looks for the host's full name, in DNS if need be
    --facts_terminus yaml
    --hiera_config "$own/conf/hiera.yaml"
    --color false
  )
  if [[ ${STRAAS_NOOP:-0} == 1 ]]; then
    rm -f "$report"
    options+=(--noop --report --reports none --lastrunreport "$report")
  else
    options+=(--reports none --no-report)
  fi

  # Debian's puppet-agent and its libraries are no gems; not looking for gems saves another 0.2 s.
  export RUBYOPT=--disable=gems

  straas_progress "puppet apply"
  puppet apply "${options[@]}" "$site" </dev/null || code=$?

  # puppet apply --detailed-exitcodes: 0 nothing to do, 2 changed, 4 failures, 6 changes and failures, 1 does not compile.
  # With --noop 0 whether anything would change or not.
  case $code in
    0 | 2) ;;
    4 | 6) straas_fail "puppet: a resource failed; the first line that begins with 'Error:' above names it" ;;
    1) straas_fail "puppet: the manifest does not compile, nothing was changed; see the 'Error:' line above; it was given $site" ;;
    *) straas_fail "puppet ended with the unexpected exit code $code; is the package puppet-agent installed on this node?" ;;
  esac
  if [[ ${STRAAS_NOOP:-0} == 1 ]]; then
    [[ -s $report ]] || straas_fail "puppet --noop left no report at $report, so nothing is known of drift"
    straas_drift "$report"
  elif ((code == 0)); then
    straas_progress "puppet: nothing to change" 100
  else
    # shellcheck disable=SC2034
    straas_puppet_changed=1
    straas_progress "puppet: changes applied" 100
  fi
}

# straas_drift REPORT: sends what a report says would change. In it every resource is a key at two blanks below
# resource_statuses, its properties stand at four.
straas_drift() {
  local line in_statuses=0 resource='' list='' count=0
  while IFS= read -r line; do
    case $line in
      resource_statuses:*) in_statuses=1 ;;
      [a-z]*) in_statuses=0 ;;
      '  '[!\ -]*:*)
        ((in_statuses)) || continue
        resource=${line#  }
        resource=${resource%%]:*}]         # a tag may follow the colon
        resource=${resource#[\"\']}
        ;;
      '    out_of_sync: true')
        ((in_statuses)) || continue
        ((++count > STRAAS_DRIFT_NAMED_MAX)) ||
          list+="${list:+,}$(straas_json_string "${resource:0:STRAAS_DRIFT_NAME_CHARS_MAX}")"
        ;;
    esac
  done <"$1"
  ((count <= STRAAS_DRIFT_NAMED_MAX)) || list+=",$(straas_json_string "and $((count - STRAAS_DRIFT_NAMED_MAX)) more")"
  # shellcheck disable=SC2034
  straas_puppet_drift=$list
  [[ $STRAAS_STAGE == guestcmd ]] || printf '@straas {"drift":{"resources":[%s]}}\n' "$list"
  straas_progress "$((count)) resources differ from what they should be" 100
}
