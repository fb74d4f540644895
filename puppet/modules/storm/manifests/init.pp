# What: one daemon of a Storm cluster, nimbus or supervisor, from the package `storm-VERSION`.
#
# Why so:
# * The package brings jars in a directory of their version, and a user. Versions stand side by side, and which one runs
#   is decided in storm-run: an upgrade is a changed file and a restart.
# * `$prefix` moves every path, so that several instances fit on one machine. With a prefix an instance is never
#   known to systemd: two instances would share one unit name.
# * Without systemd (containers, microhosts) Puppet starts the daemon through the same control script that the
#   component's start.sh and stop.sh call: one place knows how a daemon is started.
# * A changed file restarts the daemon by notify; workers go on meanwhile (storm-ctl says when not).
# * storm-ask speaks to a nimbus without a JVM; validate.sh and the guest commands of storm-cmd use it.
# * No facts, no stdlib, no exec: each would cost seconds or a dependency on every node.
#
# Never: installs packages (the install stage did), deletes data, waits for a leader, submits or kills a topology.
#
# @param role        nimbus or supervisor
# @param version     version of Storm, as in the package's name
# @param address     where others reach this node: storm.local.hostname
# @param settings    keys of storm.yaml, taken as they are; paths and the host's name are added here
# @param prefix      "" or the directory of this instance
# @param heap_mb     maximum heap of the daemon's JVM in MiB; its whole process is about 80 MiB larger
# @param jvm_flags   further flags of the daemon's JVM
# @param log_level   level of the daemon's log and of its workers'
# @param log_file_mb_max  size at which a log is rolled, MiB
# @param log_files_max    rolled files kept
class storm (
  Enum['nimbus', 'supervisor']           $role,
  Pattern[/\A[0-9]+(\.[0-9]+){1,3}\z/]   $version,
  Storm::Address                         $address,
  Storm::Settings                        $settings,
  Storm::Prefix                          $prefix          = '',
  Integer[32, 65536]                     $heap_mb         = 256,
  Array[Storm::Jvmflag]                  $jvm_flags       = [],
  Enum['ERROR', 'WARN', 'INFO', 'DEBUG'] $log_level       = 'INFO',
  Integer[1, 1024]                       $log_file_mb_max = 10,
  Integer[1, 100]                        $log_files_max   = 4,
) {
  $conf_dir = "${prefix}/etc/storm/straas"
  $data_dir = "${prefix}/var/lib/storm/data"
  $log_dir  = "${prefix}/var/log/storm"
  $run_dir  = "${prefix}/run/storm"
  $service  = "storm-${role}"

  # find_file looks at the disk of the host that compiles, which with `puppet apply` is this one.
  $systemd = $prefix == '' and find_file('/run/systemd/system') =~ NotUndef

  # What a Debian system has; under a prefix it is ours to make.
  unless $prefix == '' {
    file { ["${prefix}/etc", "${prefix}/var", "${prefix}/var/lib", "${prefix}/var/log", "${prefix}/run"]:
      ensure => directory,
      mode   => '0755',
    }
  }
  file { ["${prefix}/etc/storm", "${prefix}/var/lib/storm", $conf_dir]:
    ensure => directory,
    owner  => 'root',
    group  => 'root',
    mode   => '0755',
  }
  file { [$data_dir, $log_dir]:
    ensure => directory,
    owner  => 'storm',
    group  => 'storm',
    mode   => '0750',
    before => Service[$service],
  }

  $log = { 'level' => $log_level, 'file_mb_max' => $log_file_mb_max, 'files_max' => $log_files_max }

  # Whatever the daemon reads at its start: a change restarts it.
  file {
    default:
      ensure => file,
      owner  => 'root',
      group  => 'root',
      mode   => '0644',
      notify => Service[$service],
      ;
    "${conf_dir}/storm.yaml":
      content => epp('storm/storm.yaml.epp', {
          'settings' => $settings + {
            'storm.local.hostname'   => $address,
            'storm.local.dir'        => $data_dir,
            'storm.log4j2.conf.dir'  => $conf_dir,
          },
      }),
      ;
    "${conf_dir}/cluster.xml":
      content => epp('storm/log4j2.xml.epp', $log + {
          'file'   => "${log_dir}/${role}.log",
          'worker' => false,
      }),
      ;
    "${conf_dir}/storm-run":
      mode    => '0755',
      content => epp('storm/storm-run.epp', {
          'role'      => $role,
          'version'   => $version,
          'conf_dir'  => $conf_dir,
          'data_dir'  => $data_dir,
          'log_dir'   => $log_dir,
          'heap_mb'   => $heap_mb,
          'jvm_flags' => $jvm_flags,
      }),
      ;
  }

  # What workers read at theirs, and how a daemon is started, stopped and asked: no reason to disturb a running one.
  file {
    default:
      ensure => file,
      owner  => 'root',
      group  => 'root',
      mode   => '0755',
      before => Service[$service],
      ;
    "${conf_dir}/worker.xml":
      mode    => '0644',
      content => epp('storm/log4j2.xml.epp', $log + {
          'file'   => '${sys:workers.artifacts}/${sys:storm.id}/${sys:worker.port}/${sys:logfile.name}',
          'worker' => true,
      }),
      ;
    "${conf_dir}/storm-ctl":
      content => epp('storm/storm-ctl.epp', {
          'role'     => $role,
          'version'  => $version,
          'conf_dir' => $conf_dir,
          'data_dir' => $data_dir,
          'run_dir'  => $run_dir,
          'systemd'  => $systemd,
      }),
      ;
    "${conf_dir}/storm-ask":
      content => file('storm/storm-ask'),
      ;
  }

  if $systemd {
    file { "/etc/systemd/system/${service}.service":
      ensure  => file,
      owner   => 'root',
      group   => 'root',
      mode    => '0644',
      content => epp('storm/storm.service.epp', {
          'role'     => $role,
          'conf_dir' => $conf_dir,
          'data_dir' => $data_dir,
          'log_dir'  => $log_dir,
      }),
      notify  => Service[$service],
    }
    service { $service:
      ensure   => running,
      enable   => true,
      provider => systemd,
      restart  => "${conf_dir}/storm-ctl restart",
    }
  } else {
    service { $service:
      ensure     => running,
      provider   => base,
      hasstatus  => true,
      hasrestart => true,
      start      => "${conf_dir}/storm-ctl start",
      stop       => "${conf_dir}/storm-ctl stop",
      restart    => "${conf_dir}/storm-ctl restart",
      status     => "${conf_dir}/storm-ctl pid",
    }
  }
}
