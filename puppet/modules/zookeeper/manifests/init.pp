# What: one ZooKeeper server of an ensemble with static membership, from Debian's package `zookeeper`.
#
# Why so:
# * The package has no service, and its example configuration keeps data in /tmp. So everything the server reads is
#   ours, in one directory of our own; the package brings jars, a user and nothing else that we rely on.
# * `$prefix` moves every path, so that several instances fit on one machine. With a prefix an instance is never
#   known to systemd: two instances would share one unit name.
# * Without systemd (containers, microhosts) Puppet starts the server through the same control script that the
#   component's start.sh and stop.sh call: one place knows how a server is started.
# * A changed file restarts the server by notify; a run without changes touches nothing.
# * No facts, no stdlib, no exec: each would cost seconds or a dependency on every node.
#
# Never: installs packages (the install stage did), deletes data, waits for a quorum, joins or removes members at run
# time (membership is the `server.N` lines, the same on every node).
#
# @param myid        this server's number; must be a key of `servers`
# @param address     where this server listens, for clients, quorum and election
# @param servers     the whole ensemble: number => address
# @param prefix      "" or the directory of this instance
# @param client_port    port for clients
# @param quorum_port    port on which a leader listens to its followers
# @param election_port  port for votes
# @param settings    further keys of zoo.cfg, taken as they are
# @param heap_mb     maximum heap of the JVM in MiB; its whole process is about 50 MiB larger
# @param jvm_flags   further flags of the JVM
# @param log_level   log4j's level
# @param log_file_mb_max  size at which the log is rolled, MiB
# @param log_files_max    rolled files kept
class zookeeper (
  Zookeeper::Myid                        $myid,
  Zookeeper::Address                     $address,
  Hash[String, Zookeeper::Address, 1]    $servers,
  Zookeeper::Prefix                      $prefix          = '',
  Zookeeper::Port                        $client_port     = 2181,
  Zookeeper::Port                        $quorum_port     = 2888,
  Zookeeper::Port                        $election_port   = 3888,
  Zookeeper::Settings                    $settings        = {},
  Integer[32, 65536]                     $heap_mb         = 128,
  Array[Zookeeper::Jvmflag]              $jvm_flags       = [],
  Enum['ERROR', 'WARN', 'INFO', 'DEBUG'] $log_level       = 'INFO',
  Integer[1, 1024]                       $log_file_mb_max = 10,
  Integer[1, 100]                        $log_files_max   = 4,
) {
  unless "${myid}" in $servers { # lint:ignore:only_variable_string
    fail("zookeeper: server ${myid} is not in its own ensemble (${servers.keys.join(', ')})")
  }

  $conf_dir = "${prefix}/etc/zookeeper/straas"
  $data_dir = "${prefix}/var/lib/zookeeper/data"
  $log_dir  = "${prefix}/var/log/zookeeper"
  $run_dir  = "${prefix}/run/zookeeper"

  # find_file looks at the disk of the host that compiles, which with `puppet apply` is this one.
  $systemd = $prefix == '' and find_file('/run/systemd/system') =~ NotUndef

  # The package makes these on a host of its own; under a prefix they are ours to make.
  unless $prefix == '' {
    file { ["${prefix}/etc", "${prefix}/etc/zookeeper", "${prefix}/var", "${prefix}/var/lib",
        "${prefix}/var/lib/zookeeper", "${prefix}/var/log", "${prefix}/run"]:
      ensure => directory,
      mode   => '0755',
    }
    file { $log_dir:
      ensure => directory,
      owner  => 'zookeeper',
      group  => 'zookeeper',
      mode   => '0755',
      before => Service['zookeeper'],
    }
  }

  file { $conf_dir:
    ensure => directory,
    owner  => 'root',
    group  => 'root',
    mode   => '0755',
  }
  file { $data_dir:
    ensure => directory,
    owner  => 'zookeeper',
    group  => 'zookeeper',
    mode   => '0750',
  }

  $paths = {
    'conf_dir' => $conf_dir,
    'data_dir' => $data_dir,
    'log_dir'  => $log_dir,
  }

  # Whatever the server reads at its start: a change restarts it.
  file {
    default:
      ensure => file,
      owner  => 'root',
      group  => 'root',
      mode   => '0644',
      notify => Service['zookeeper'],
      ;
    "${data_dir}/myid":
      content => "${myid}\n",
      ;
    "${conf_dir}/zoo.cfg":
      content => epp('zookeeper/zoo.cfg.epp', {
          'data_dir'      => $data_dir,
          'address'       => $address,
          'servers'       => $servers,
          'client_port'   => $client_port,
          'quorum_port'   => $quorum_port,
          'election_port' => $election_port,
          'settings'      => $settings,
      }),
      ;
    "${conf_dir}/log4j.properties":
      content => epp('zookeeper/log4j.properties.epp', {
          'log_dir'     => $log_dir,
          'level'       => $log_level,
          'file_mb_max' => $log_file_mb_max,
          'files_max'   => $log_files_max,
      }),
      ;
    "${conf_dir}/zookeeper-run":
      mode    => '0755',
      content => epp('zookeeper/zookeeper-run.epp', $paths + { 'heap_mb' => $heap_mb, 'jvm_flags' => $jvm_flags }),
      ;
  }

  # How it is started and stopped: a change here is no reason to disturb a running server.
  file { "${conf_dir}/zookeeper-ctl":
    ensure  => file,
    owner   => 'root',
    group   => 'root',
    mode    => '0755',
    content => epp('zookeeper/zookeeper-ctl.epp', { 'conf_dir' => $conf_dir, 'run_dir' => $run_dir, 'systemd' => $systemd }),
    before  => Service['zookeeper'],
  }

  if $systemd {
    file { '/etc/systemd/system/zookeeper.service':
      ensure  => file,
      owner   => 'root',
      group   => 'root',
      mode    => '0644',
      content => epp('zookeeper/zookeeper.service.epp', $paths),
      notify  => Service['zookeeper'],
    }
    service { 'zookeeper':
      ensure   => running,
      enable   => true,
      provider => systemd,
    }
  } else {
    service { 'zookeeper':
      ensure     => running,
      provider   => base,
      hasstatus  => true,
      hasrestart => true,
      start      => "${conf_dir}/zookeeper-ctl start",
      stop       => "${conf_dir}/zookeeper-ctl stop",
      restart    => "${conf_dir}/zookeeper-ctl restart",
      status     => "${conf_dir}/zookeeper-ctl pid",
    }
  }
}
