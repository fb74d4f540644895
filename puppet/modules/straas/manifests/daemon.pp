# What: one daemon of a component: its directories, its control script /etc/straas.d/NAME, its service. NAME is the
#       resource's title, which is the role's `script_role`: so cmd/default/start.sh and stop.sh find it.
#
# Why so:
# * How a daemon is laid out, started, found again and stopped is the same for every component; what it reads is not. The
#   class that uses this writes that, below straas::paths, with `notify => Service[NAME]`.
# * `$prefix` moves every path, so that several instances fit on one machine. With a prefix an instance is never known to
#   systemd: two instances would share one unit name.
# * Without systemd (containers, microhosts) Puppet starts the daemon through the control script that start.sh and stop.sh
#   call, too: one place knows how.
# * What becomes the daemon are the words in `command`, one a line: a change of them restarts it. The control script and
#   the unit are no reason to disturb a daemon that runs.
# * No facts, no stdlib, no exec: each would cost seconds or a dependency on every node.
#
# Never: installs packages (the install stage did), deletes data, waits until the daemon serves (validate does).
#
# @param component      name of the directories below /etc, /var/lib, /var/log and /run
# @param prefix         "" or the directory of this instance
# @param user           who runs it; the package has made the user, and a group of that name
# @param description    for systemd
# @param documentation  for systemd: a URL
# @param command        what becomes the daemon, word by word; `/usr/bin/env NAME=VALUE` may come first
# @param mark           the word of its command line that no other instance's process has
# @param stop_signal    what asks it to end
# @param stop_s         how long it may take over that before it is killed
# @param companions     a program that ends processes which outlive the daemon: called with `stop` after a stop for good,
#                       with `restart` between the two halves of a restart
# @param unit           further lines for the unit's section [Service]
define straas::daemon (
  Pattern[/\A[a-z][a-z0-9_-]*\z/] $component,
  Pattern[/\A[a-z][a-z0-9_-]*\z/] $user,
  Pattern[/\A[\x20-\x7e]+\z/]     $description,
  Straas::Word                    $documentation,
  Array[Straas::Word, 1]          $command,
  Straas::Word                    $mark,
  Straas::Prefix                  $prefix      = '',
  Enum['TERM', 'INT']             $stop_signal = 'TERM',
  Integer[1, 600]                 $stop_s      = 20,
  Optional[Straas::Word]          $companions  = undef,
  Hash[String, String]            $unit        = {},
) {
  $paths    = straas::paths($prefix, $component)
  $conf_dir = $paths['conf_dir']
  $ctl      = "${prefix}/etc/straas.d/${title}"

  # find_file looks at the disk of the host that compiles, which with `puppet apply` is this one.
  $systemd = $prefix == '' and find_file('/run/systemd/system') =~ NotUndef

  # What a Debian system has; under a prefix it is ours to make.
  unless $prefix == '' {
    file { ["${prefix}/etc", "${prefix}/var", "${prefix}/var/lib", "${prefix}/var/log", "${prefix}/run"]:
      ensure => directory,
      mode   => '0755',
    }
  }
  # These two may be the package's, and their owner with them.
  file { ["${prefix}/etc/${component}", "${prefix}/var/lib/${component}"]:
    ensure => directory,
    mode   => '0755',
  }
  file { ["${prefix}/etc/straas.d", $conf_dir]:
    ensure => directory,
    owner  => 'root',
    group  => 'root',
    mode   => '0755',
  }
  file { [$paths['data_dir'], $paths['log_dir']]:
    ensure => directory,
    owner  => $user,
    group  => $user,
    mode   => '0750',
    before => Service[$title],
  }

  file {
    default:
      ensure => file,
      owner  => 'root',
      group  => 'root',
      mode   => '0644',
      before => Service[$title],
      ;
    "${conf_dir}/command":
      content => "${command.join("\n")}\n",
      notify  => Service[$title],
      ;
    "${conf_dir}/README":
      content => "Written by Puppet from this node's assignment; changes by hand are lost with the next run.\n",
      ;
    $ctl:
      mode    => '0755',
      content => epp('straas/ctl.epp', $paths + {
          'name'        => $title,
          'ctl'         => $ctl,
          'user'        => $user,
          'mark'        => $mark,
          'stop_signal' => $stop_signal,
          'stop_s'      => $stop_s,
          'companions'  => $companions,
          'systemd'     => $systemd,
      }),
      ;
  }

  if $systemd {
    file { "/etc/systemd/system/${title}.service":
      ensure  => file,
      owner   => 'root',
      group   => 'root',
      mode    => '0644',
      content => epp('straas/unit.epp', {
          'description'   => $description,
          'documentation' => $documentation,
          'service'       => {
            'User'            => $user,
            'Group'           => $user,
            'ExecStart'       => "${ctl} run",
            'KillSignal'      => "SIG${stop_signal}",
            'TimeoutStopSec'  => "${stop_s}", # lint:ignore:only_variable_string
            'Restart'         => 'on-failure',
            'RestartSec'      => '5',
            'LimitNOFILE'     => '100000',
            'NoNewPrivileges' => 'true',
            'PrivateTmp'      => 'true',
            'ProtectHome'     => 'true',
            'ProtectSystem'   => 'strict',
            'ReadWritePaths'  => "${paths['data_dir']} ${paths['log_dir']}",
          } + $unit,
      }),
      before  => Service[$title],
    }
    service { $title:
      ensure   => running,
      enable   => true,
      provider => systemd,
      restart  => "${ctl} restart",
    }
  } else {
    service { $title:
      ensure     => running,
      provider   => base,
      hasstatus  => true,
      hasrestart => true,
      start      => "${ctl} start",
      stop       => "${ctl} stop",
      restart    => "${ctl} restart",
      status     => "${ctl} pid",
    }
  }
}
