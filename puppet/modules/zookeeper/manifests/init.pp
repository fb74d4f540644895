# What: one ZooKeeper server of an ensemble with static membership, from Debian's package `zookeeper`.
#
# Why so:
# * The package has no service, and its example configuration keeps data in /tmp. So everything the server reads is
#   ours, in one directory of our own; the package brings jars, a user and nothing else that we rely on.
# * Where it lives, how it is started and stopped is straas::daemon's. A changed file restarts the server by notify; a run
#   without changes touches nothing.
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
  Straas::Address                        $address,
  Hash[String, Straas::Address, 1]       $servers,
  Straas::Prefix                         $prefix          = '',
  Straas::Port                           $client_port     = 2181,
  Straas::Port                           $quorum_port     = 2888,
  Straas::Port                           $election_port   = 3888,
  Zookeeper::Settings                    $settings        = {},
  Integer[32, 65536]                     $heap_mb         = 128,
  Array[Straas::Jvmflag]                 $jvm_flags       = [],
  Enum['ERROR', 'WARN', 'INFO', 'DEBUG'] $log_level       = 'INFO',
  Integer[1, 1024]                       $log_file_mb_max = 10,
  Integer[1, 100]                        $log_files_max   = 4,
) {
  unless "${myid}" in $servers { # lint:ignore:only_variable_string
    fail("zookeeper: server ${myid} is not in its own ensemble (${servers.keys.join(', ')})")
  }
  $paths    = straas::paths($prefix, 'zookeeper')
  $conf_dir = $paths['conf_dir']

  # Whatever the server reads at its start: a change restarts it.
  file {
    default:
      ensure => file,
      owner  => 'root',
      group  => 'root',
      mode   => '0644',
      notify => Service['zookeeper'],
      ;
    "${paths['data_dir']}/myid":
      content => "${myid}\n",
      ;
    # what a configuration sets may be secret; the service reads it
    "${conf_dir}/zoo.cfg":
      group   => 'zookeeper',
      mode    => '0640',
      content => epp('zookeeper/zoo.cfg.epp', {
          'data_dir'      => $paths['data_dir'],
          'address'       => $address,
          'servers'       => $servers,
          'client_port'   => $client_port,
          'quorum_port'   => $quorum_port,
          'election_port' => $election_port,
          'settings'      => $settings,
      }),
      ;
    "${conf_dir}/log4j.properties":
      content => epp('straas/log4j.properties.epp', {
          'file'        => "${paths['log_dir']}/zookeeper.log",
          'level'       => $log_level,
          'file_mb_max' => $log_file_mb_max,
          'files_max'   => $log_files_max,
      }),
      ;
  }

  # The package's wrapper is not used: it reads a configuration that is not ours.
  $jars = ['zookeeper', 'slf4j-log4j12', 'log4j-1.2'].map |$jar| { "/usr/share/java/${jar}.jar" }
  straas::daemon { 'zookeeper':
    component     => 'zookeeper',
    prefix        => $prefix,
    user          => 'zookeeper',
    description   => 'ZooKeeper server',
    documentation => 'https://zookeeper.apache.org/doc/r3.8.0/',
    command       => ['java'] + straas::jvm($heap_mb, $jvm_flags) + [
      '-cp', "${conf_dir}:${jars.join(':')}",
      "-Dlog4j.configuration=file:${conf_dir}/log4j.properties",
      'org.apache.zookeeper.server.quorum.QuorumPeerMain', "${conf_dir}/zoo.cfg",
    ],
    mark          => "${conf_dir}/zoo.cfg",
    unit          => { 'SuccessExitStatus' => '143' },    # ended by SIGTERM, which is how a JVM stops well
  }
}
