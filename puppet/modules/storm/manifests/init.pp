# What: one daemon of a Storm cluster, nimbus or supervisor, from the package `storm-VERSION`.
#
# Why so:
# * The package brings jars in a directory of their version, and a user. Versions stand side by side, and which one runs
#   is a path in its command: an upgrade is a changed file and a restart.
# * Where it lives, how it is started and stopped is straas::daemon's. Workers outlive a restart of their supervisor, so
#   that it disturbs no topology; storm-workers says when not.
# * storm-ask speaks to a nimbus without a JVM; validate.sh and the guest commands of storm-cmd use it.
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
  Straas::Address                        $address,
  Storm::Settings                        $settings,
  Straas::Prefix                         $prefix          = '',
  Integer[32, 65536]                     $heap_mb         = 256,
  Array[Straas::Jvmflag]                 $jvm_flags       = [],
  Enum['ERROR', 'WARN', 'INFO', 'DEBUG'] $log_level       = 'INFO',
  Integer[1, 1024]                       $log_file_mb_max = 10,
  Integer[1, 100]                        $log_files_max   = 4,
) {
  $paths    = straas::paths($prefix, 'storm')
  $conf_dir = $paths['conf_dir']
  $log_dir  = $paths['log_dir']
  $home     = "/usr/lib/storm/${version}"
  $log      = { 'level' => $log_level, 'file_mb_max' => $log_file_mb_max, 'files_max' => $log_files_max }

  # Whatever the daemon reads at its start: a change restarts it.
  file {
    default:
      ensure => file,
      owner  => 'root',
      group  => 'root',
      mode   => '0644',
      notify => Service["storm-${role}"],
      ;
    # what a configuration sets may be secret; the service reads it
    "${conf_dir}/storm.yaml":
      group   => 'storm',
      mode    => '0640',
      content => epp('storm/storm.yaml.epp', {
          'settings' => $settings + {
            'storm.local.hostname'  => $address,
            'storm.local.dir'       => $paths['data_dir'],
            'storm.log4j2.conf.dir' => $conf_dir,
          },
      }),
      ;
    "${conf_dir}/cluster.xml":
      content => epp('storm/log4j2.xml.epp', $log + {
          'file'   => "${log_dir}/${role}.log",
          'worker' => false,
      }),
      ;
  }

  # What workers read at theirs, and how daemons are asked: no reason to disturb a running one.
  file {
    default:
      ensure => file,
      owner  => 'root',
      group  => 'root',
      mode   => '0755',
      before => Service["storm-${role}"],
      ;
    "${conf_dir}/worker.xml":
      mode    => '0644',
      content => epp('storm/log4j2.xml.epp', $log + {
          'file'   => '${sys:workers.artifacts}/${sys:storm.id}/${sys:worker.port}/${sys:logfile.name}',
          'worker' => true,
      }),
      ;
    "${conf_dir}/storm-workers":
      content => epp('storm/storm-workers.epp', { 'home' => $home, 'data_dir' => $paths['data_dir'] }),
      ;
    "${conf_dir}/storm-ask":
      content => file('storm/storm-ask'),
      ;
  }

  $class = $role ? { 'nimbus' => 'nimbus.Nimbus', default => 'supervisor.Supervisor' }
  straas::daemon { "storm-${role}":
    component     => 'storm',
    prefix        => $prefix,
    user          => 'storm',
    description   => "Storm ${role}",
    documentation => 'https://storm.apache.org/documentation.html',
    # A worker finds its storm.yaml by the variable.
    command       => ['/usr/bin/env', "STORM_CONF_DIR=${conf_dir}", 'java'] + straas::jvm($heap_mb, $jvm_flags) + [
      "-Ddaemon.name=${role}", "-Dstorm.home=${home}", "-Dstorm.log.dir=${log_dir}", "-Dlogfile.name=${role}.log",
      '-Dstorm.options=', '-Dstorm.conf.file=', '-Djava.deserialization.disabled=true',
      "-Dlog4j.configurationFile=${conf_dir}/cluster.xml",
      '-cp', "${home}/lib/*:${home}/lib-worker/*:${conf_dir}",
      "org.apache.storm.daemon.${class}",
    ],
    mark          => "-Dlog4j.configurationFile=${conf_dir}/cluster.xml",
    stop_s        => 10,
    companions    => "${conf_dir}/storm-workers",
    unit          => {
      'KillMode'          => 'process',    # storm-workers ends workers
      'SuccessExitStatus' => '143 20',     # 143: ended by SIGTERM; 20: how Storm's daemons answer it
      'Restart'           => 'always',     # a daemon ends itself when it has lost ZooKeeper for long, and expects this
    },
  }
}
