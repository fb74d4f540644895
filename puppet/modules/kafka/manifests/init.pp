# What: one Kafka broker that keeps its metadata in ZooKeeper, from the package kafka-VERSION.
#
# Why so:
# * Versions stand side by side in /usr/lib/kafka; which one runs is a path in its command. So an upgrade, and its way
#   back, is a changed file and a restart.
# * What the broker reads (server.properties, log4j.properties) holds effective settings alone, no comment: a changed word
#   of explanation must not restart a broker. A changed setting does, by notify.
# * Where it lives, how it is started and stopped is straas::daemon's.
#
# Never: installs packages (the install stage did), deletes data, moves partitions (guest commands do), waits for other
# brokers (validate does).
#
# @param version          the version that runs
# @param broker_id        this broker's number, never used twice in a cluster
# @param address          where this broker listens, and what it tells clients
# @param zookeeper_connect   ensemble and namespace
# @param inter_broker_protocol  what brokers speak with each other; older than `version` until all run it
# @param default_replication  copies of a topic that asks for no number
# @param internal_replication copies of Kafka's own topics (offsets, transactions)
# @param min_insync       copies that must have a record before acks=all is answered
# @param prefix           "" or the directory of this instance
# @param port             port for clients and brokers
# @param settings         further keys of server.properties, taken as they are
# @param heap_mb          maximum heap of the JVM in MiB; its whole process is about 150 MiB larger
# @param jvm_flags        further flags of the JVM
# @param log_level        log4j's level
# @param log_file_mb_max  size at which the log is rolled, MiB
# @param log_files_max    rolled files kept
class kafka (
  Kafka::Version                         $version,
  Integer[0, 2147483647]                 $broker_id,
  Straas::Address                        $address,
  Kafka::Zkconnect                       $zookeeper_connect,
  Pattern[/\A[0-9]+\.[0-9]+\z/]          $inter_broker_protocol,
  Integer[1, 32767]                      $default_replication,
  Integer[1, 32767]                      $internal_replication,
  Integer[1, 32767]                      $min_insync,
  Straas::Prefix                         $prefix          = '',
  Straas::Port                           $port            = 9092,
  Kafka::Settings                        $settings        = {},
  Integer[128, 65536]                    $heap_mb         = 256,
  Array[Straas::Jvmflag]                 $jvm_flags       = [],
  Enum['ERROR', 'WARN', 'INFO', 'DEBUG'] $log_level       = 'INFO',
  Integer[1, 1024]                       $log_file_mb_max = 10,
  Integer[1, 100]                        $log_files_max   = 4,
) {
  $paths    = straas::paths($prefix, 'kafka')
  $conf_dir = $paths['conf_dir']
  $home     = "/usr/lib/kafka/${version}"

  # find_file looks at the disk of the host that compiles, which with `puppet apply` is this one.
  unless find_file("${home}/libs") =~ NotUndef {
    fail("kafka: there is no ${home}: the install stage has not brought the package kafka-${version}")
  }

  $own = {
    'broker.id'                                   => $broker_id,
    'broker.id.generation.enable'                 => false,
    'log.dirs'                                    => $paths['data_dir'],
    'listeners'                                   => "PLAINTEXT://${straas::hostport($address, $port)}",
    'advertised.listeners'                        => "PLAINTEXT://${straas::hostport($address, $port)}",
    'zookeeper.connect'                           => $zookeeper_connect,
    'inter.broker.protocol.version'               => $inter_broker_protocol,
    'default.replication.factor'                  => $default_replication,
    'offsets.topic.replication.factor'            => $internal_replication,
    'transaction.state.log.replication.factor'    => $internal_replication,
    'transaction.state.log.min.isr'               => $min_insync,
    'min.insync.replicas'                         => $min_insync,
    # A broker hands its partitions over before it stops, and a copy that lags never becomes the truth.
    'controlled.shutdown.enable'                  => true,
    'unclean.leader.election.enable'              => false,
  }

  # Whatever the broker reads at its start: a change restarts it.
  file {
    default:
      ensure => file,
      owner  => 'root',
      group  => 'root',
      mode   => '0644',
      notify => Service['kafka'],
      ;
    # what a configuration sets may be secret; the service reads it
    "${conf_dir}/server.properties":
      group   => 'kafka',
      mode    => '0640',
      content => epp('kafka/server.properties.epp', { 'settings' => $settings + $own }),
      ;
    "${conf_dir}/log4j.properties":
      content => epp('straas/log4j.properties.epp', {
          'file'        => "${paths['log_dir']}/server.log",
          'level'       => $log_level,
          'file_mb_max' => $log_file_mb_max,
          'files_max'   => $log_files_max,
          # state.change: a line for each partition at each change of a leader, thousands at a restart.
          'loggers'     => {
            'state.change.logger'  => 'WARN',
            'kafka.request.logger' => 'WARN',
            'org.apache.zookeeper' => 'WARN',
          },
      }),
      ;
  }

  $collector = $heap_mb ? {
    Integer[0, 1023] => [],
    default          => ['-XX:MaxGCPauseMillis=20', '-XX:InitiatingHeapOccupancyPercent=35'],
  }
  straas::daemon { 'kafka':
    component     => 'kafka',
    prefix        => $prefix,
    user          => 'kafka',
    description   => 'Kafka broker',
    documentation => 'https://kafka.apache.org/documentation/',
    command       => ['java'] + straas::jvm($heap_mb, $collector + $jvm_flags, 513) + [
      '-Djava.awt.headless=true',
      "-Dlog4j.configuration=file:${conf_dir}/log4j.properties",
      '-cp', "${home}/libs/*",
      'kafka.Kafka', "${conf_dir}/server.properties",
    ],
    mark          => "${conf_dir}/server.properties",
    stop_s        => 90,    # it hands its partitions over first
    unit          => { 'SuccessExitStatus' => '143' },    # ended by SIGTERM, which is how a JVM stops well
  }
}
