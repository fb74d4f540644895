# What: one Kafka broker that keeps its metadata in ZooKeeper, from the package kafka-VERSION.
#
# Why so:
# * Versions stand side by side in /usr/lib/kafka; which one runs is a path in java.args. So an upgrade, and its way
#   back, is a changed file and a restart.
# * What the broker reads (server.properties, log4j.properties, java.args) holds effective settings alone, no comment:
#   a changed word of explanation must not restart a broker. A changed setting does, by notify.
# * How it is started and stopped (kafka-run, kafka-ctl, the unit) is no reason to disturb a running broker.
# * `$prefix` moves every path of the instance, so that several fit on one machine; with a prefix systemd is never told.
# * No facts, no stdlib, no exec: each would cost seconds or a dependency on every node.
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
  Kafka::Address                         $address,
  Kafka::Zkconnect                       $zookeeper_connect,
  Pattern[/\A[0-9]+\.[0-9]+\z/]          $inter_broker_protocol,
  Integer[1, 32767]                      $default_replication,
  Integer[1, 32767]                      $internal_replication,
  Integer[1, 32767]                      $min_insync,
  Kafka::Prefix                          $prefix          = '',
  Kafka::Port                            $port            = 9092,
  Kafka::Settings                        $settings        = {},
  Integer[128, 65536]                    $heap_mb         = 256,
  Array[Kafka::Jvmflag]                  $jvm_flags       = [],
  Enum['ERROR', 'WARN', 'INFO', 'DEBUG'] $log_level       = 'INFO',
  Integer[1, 1024]                       $log_file_mb_max = 10,
  Integer[1, 100]                        $log_files_max   = 4,
) {
  $conf_dir = "${prefix}/etc/kafka"
  $data_dir = "${prefix}/var/lib/kafka/data"
  $log_dir  = "${prefix}/var/log/kafka"
  $run_dir  = "${prefix}/run/kafka"
  $home     = "/usr/lib/kafka/${version}"

  # find_file looks at the disk of the host that compiles, which with `puppet apply` is this one.
  unless find_file("${home}/libs") =~ NotUndef {
    fail("kafka: there is no ${home}: the install stage has not brought the package kafka-${version}")
  }
  $systemd = $prefix == '' and find_file('/run/systemd/system') =~ NotUndef

  unless $prefix == '' {
    file { ["${prefix}/etc", "${prefix}/var", "${prefix}/var/lib", "${prefix}/var/log", "${prefix}/run"]:
      ensure => directory,
      mode   => '0755',
    }
  }
  file { [$conf_dir, "${prefix}/var/lib/kafka"]:
    ensure => directory,
    owner  => 'root',
    group  => 'root',
    mode   => '0755',
  }
  file { [$data_dir, $log_dir]:
    ensure => directory,
    owner  => 'kafka',
    group  => 'kafka',
    mode   => '0750',
    before => Service['kafka'],
  }

  $own = {
    'broker.id'                                   => $broker_id,
    'broker.id.generation.enable'                 => false,
    'log.dirs'                                    => $data_dir,
    'listeners'                                   => "PLAINTEXT://${kafka::hostport($address, $port)}",
    'advertised.listeners'                        => "PLAINTEXT://${kafka::hostport($address, $port)}",
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
    "${conf_dir}/server.properties":
      content => epp('kafka/server.properties.epp', { 'settings' => $settings + $own }),
      ;
    "${conf_dir}/log4j.properties":
      content => epp('kafka/log4j.properties.epp', {
          'log_dir'     => $log_dir,
          'level'       => $log_level,
          'file_mb_max' => $log_file_mb_max,
          'files_max'   => $log_files_max,
      }),
      ;
    "${conf_dir}/java.args":
      content => epp('kafka/java.args.epp', {
          'conf_dir'  => $conf_dir,
          'home'      => $home,
          'heap_mb'   => $heap_mb,
          'jvm_flags' => $jvm_flags,
      }),
      ;
  }

  # How it is started and stopped, and a word to whoever looks in here.
  file {
    default:
      ensure => file,
      owner  => 'root',
      group  => 'root',
      before => Service['kafka'],
      ;
    "${conf_dir}/kafka-run":
      mode    => '0755',
      content => epp('kafka/kafka-run.epp', { 'conf_dir' => $conf_dir, 'data_dir' => $data_dir, 'log_dir' => $log_dir }),
      ;
    "${conf_dir}/kafka-ctl":
      mode    => '0755',
      content => epp('kafka/kafka-ctl.epp', { 'conf_dir' => $conf_dir, 'run_dir' => $run_dir, 'systemd' => $systemd }),
      ;
    "${conf_dir}/README":
      mode    => '0644',
      content => "Written by Puppet from this node's assignment; changes by hand are lost with the next run.\n",
      ;
  }

  if $systemd {
    file { '/etc/systemd/system/kafka.service':
      ensure  => file,
      owner   => 'root',
      group   => 'root',
      mode    => '0644',
      content => epp('kafka/kafka.service.epp', { 'conf_dir' => $conf_dir, 'data_dir' => $data_dir, 'log_dir' => $log_dir }),
      before  => Service['kafka'],
    }
    service { 'kafka':
      ensure   => running,
      enable   => true,
      provider => systemd,
    }
  } else {
    service { 'kafka':
      ensure     => running,
      provider   => base,
      hasstatus  => true,
      hasrestart => true,
      start      => "${conf_dir}/kafka-ctl start",
      stop       => "${conf_dir}/kafka-ctl stop",
      restart    => "${conf_dir}/kafka-ctl restart",
      status     => "${conf_dir}/kafka-ctl pid",
    }
  }
}
