# What: one NATS server with JetStream, a member of a cluster, from Debian's package `nats-server`.
#
# Why so:
# * The package's own service listens on the loopback with no cluster; it is put to sleep where systemd runs, and a
#   service of our own name takes its place, with everything it reads in one directory of our own.
# * Where it lives, how it is started and stopped is straas::daemon's, which every component may use.
# * The system account's password is made on the node, once, and read there alone: it is in no repository, no context
#   and no log.
#
# Never: installs packages (the install stage did), deletes data, waits for a leader, takes a server out of the cluster.
#
# @param server_name   this server's name in its cluster; its place, so that a replacement has it too
# @param cluster_name  the same on all servers, and on nobody else's
# @param address       where this server listens
# @param peers         addresses of the other servers
# @param prefix        "" or the directory of this instance
# @param client_port, cluster_port, monitor_port   for clients, for the other servers, for read-only HTTP
# @param max_payload_kb   largest message, KiB
# @param max_connections  of clients
# @param log_mb_max       size at which the log is rolled, MiB
# @param memory_mb_max    memory for streams that are kept in memory, MiB
# @param disk_mb_max      disk for streams, MiB
class nats (
  Pattern[/\A[A-Za-z0-9][A-Za-z0-9_-]{0,99}\z/]  $server_name,
  Pattern[/\A[A-Za-z0-9][A-Za-z0-9_-]{0,99}\z/]  $cluster_name,
  Straas::Address                                $address,
  Array[Straas::Address, 1]                      $peers,
  Straas::Prefix                                 $prefix          = '',
  Straas::Port                                   $client_port     = 4222,
  Straas::Port                                   $cluster_port    = 6222,
  Straas::Port                                   $monitor_port    = 8222,
  Integer[1, 65536]                              $max_payload_kb  = 1024,
  Integer[1, 1000000]                            $max_connections = 65536,
  Integer[1, 1024]                               $log_mb_max      = 10,
  Integer[1, 1048576]                            $memory_mb_max   = 64,
  Integer[1, 16777216]                           $disk_mb_max     = 1024,
) {
  $paths    = straas::paths($prefix, 'nats')
  $conf_dir = $paths['conf_dir']

  # 24 bytes of the kernel's randomness. The pipe's last program would hide a failure, so the file is made whole or not.
  exec { 'password of the system account':
    command => "set -eu; umask 077; word=\$(head -c 24 /dev/urandom | base64); printf 'users: [ { user: straas, password: \"%s\" } ]\\n' \"\$word\" > system.conf.new; mv system.conf.new system.conf", # lint:ignore:140chars
    cwd     => $conf_dir,
    path    => ['/usr/bin', '/bin'],
    provider => shell,
    creates => "${conf_dir}/system.conf",
    require => File[$conf_dir],
  }
  -> file { "${conf_dir}/system.conf":
    owner  => 'root',
    group  => 'nats',
    mode   => '0640',
    before => Service['nats'],
  }

  # Whatever the server reads at its start: a change restarts it.
  file { "${conf_dir}/nats.conf":
    ensure  => file,
    owner   => 'root',
    group   => 'root',
    mode    => '0644',
    content => epp('nats/nats.conf.epp', {
        'server_name'     => $server_name,
        'listen'          => straas::hostport($address, $client_port),
        'http'            => straas::hostport($address, $monitor_port),
        'cluster_name'    => $cluster_name,
        'cluster_listen'  => straas::hostport($address, $cluster_port),
        'routes'          => $peers.map |$peer| { straas::hostport($peer, $cluster_port) },
        'max_payload_kb'  => $max_payload_kb,
        'max_connections' => $max_connections,
        'log_mb_max'      => $log_mb_max,
        'memory_mb_max'   => $memory_mb_max,
        'disk_mb_max'     => $disk_mb_max,
        'data_dir'        => $paths['data_dir'],
        'log_dir'         => $paths['log_dir'],
    }),
    notify  => Service['nats'],
  }

  # The package's own service would take the port.
  if $prefix == '' and find_file('/run/systemd/system') =~ NotUndef {
    service { 'nats-server':
      ensure => stopped,
      enable => false,
      before => Service['nats'],
    }
  }
  straas::daemon { 'nats':
    component     => 'nats',
    prefix        => $prefix,
    user          => 'nats',
    description   => 'NATS server',
    documentation => 'https://docs.nats.io/',
    command       => ['/usr/sbin/nats-server', '-c', "${conf_dir}/nats.conf"],
    mark          => "${conf_dir}/nats.conf",
    stop_signal   => 'INT',    # it hands its leaderships over and closes its files
  }
}
