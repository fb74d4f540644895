# What: one NATS server with JetStream, a member of a cluster, from Debian's package `nats-server`.
#
# Why so:
# * The package's own service listens on the loopback with no cluster; it is put to sleep where systemd runs, and a
#   service of our own name takes its place, with everything it reads in one directory of our own.
# * `$prefix` moves every path, so that several instances fit on one machine. With a prefix an instance is never known
#   to systemd: two instances would share one unit name.
# * Without systemd (containers, microhosts) Puppet starts the server through the same control script that the
#   component's start.sh and stop.sh call.
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
  Nats::Address                                  $address,
  Array[Nats::Address, 1]                        $peers,
  Nats::Prefix                                   $prefix          = '',
  Nats::Port                                     $client_port     = 4222,
  Nats::Port                                     $cluster_port    = 6222,
  Nats::Port                                     $monitor_port    = 8222,
  Integer[1, 65536]                              $max_payload_kb  = 1024,
  Integer[1, 1000000]                            $max_connections = 65536,
  Integer[1, 1024]                               $log_mb_max      = 10,
  Integer[1, 1048576]                            $memory_mb_max   = 64,
  Integer[1, 16777216]                           $disk_mb_max     = 1024,
) {
  $conf_dir = "${prefix}/etc/nats/straas"
  $data_dir = "${prefix}/var/lib/nats/data"
  $log_dir  = "${prefix}/var/log/nats"
  $run_dir  = "${prefix}/run/nats"

  # find_file looks at the disk of the host that compiles, which with `puppet apply` is this one.
  $systemd = $prefix == '' and find_file('/run/systemd/system') =~ NotUndef

  # What a Debian system has; under a prefix it is ours to make.
  unless $prefix == '' {
    file { ["${prefix}/etc", "${prefix}/var", "${prefix}/var/lib", "${prefix}/var/log", "${prefix}/run"]:
      ensure => directory,
      mode   => '0755',
    }
  }
  file { ["${prefix}/etc/nats", "${prefix}/var/lib/nats", $conf_dir]:
    ensure => directory,
    owner  => 'root',
    group  => 'root',
    mode   => '0755',
  }
  file { [$data_dir, $log_dir]:
    ensure => directory,
    owner  => 'nats',
    group  => 'nats',
    mode   => '0750',
    before => Service['straas-nats'],
  }

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
    before => Service['straas-nats'],
  }

  # Whatever the server reads at its start: a change restarts it.
  file {
    default:
      ensure => file,
      owner  => 'root',
      group  => 'root',
      mode   => '0644',
      notify => Service['straas-nats'],
      ;
    "${conf_dir}/nats.conf":
      content => epp('nats/nats.conf.epp', {
          'server_name'     => $server_name,
          'cluster_name'    => $cluster_name,
          'address'         => $address,
          'peers'           => $peers,
          'client_port'     => $client_port,
          'cluster_port'    => $cluster_port,
          'monitor_port'    => $monitor_port,
          'max_payload_kb'  => $max_payload_kb,
          'max_connections' => $max_connections,
          'log_mb_max'      => $log_mb_max,
          'memory_mb_max'   => $memory_mb_max,
          'disk_mb_max'     => $disk_mb_max,
          'data_dir'        => $data_dir,
          'log_dir'         => $log_dir,
      }),
      ;
    "${conf_dir}/nats-run":
      mode    => '0755',
      content => epp('nats/nats-run.epp', { 'conf_dir' => $conf_dir, 'data_dir' => $data_dir, 'log_dir' => $log_dir }),
      ;
  }

  # How it is started and stopped: a change here is no reason to disturb a running server.
  file { "${conf_dir}/nats-ctl":
    ensure  => file,
    owner   => 'root',
    group   => 'root',
    mode    => '0755',
    content => epp('nats/nats-ctl.epp', { 'conf_dir' => $conf_dir, 'run_dir' => $run_dir, 'systemd' => $systemd }),
    before  => Service['straas-nats'],
  }

  if $systemd {
    service { 'nats-server':
      ensure => stopped,
      enable => false,
      before => Service['straas-nats'],
    }
    file { '/etc/systemd/system/straas-nats.service':
      ensure  => file,
      owner   => 'root',
      group   => 'root',
      mode    => '0644',
      content => epp('nats/nats.service.epp', { 'conf_dir' => $conf_dir, 'data_dir' => $data_dir, 'log_dir' => $log_dir }),
      notify  => Service['straas-nats'],
    }
    service { 'straas-nats':
      ensure   => running,
      enable   => true,
      provider => systemd,
    }
  } else {
    service { 'straas-nats':
      ensure     => running,
      provider   => base,
      hasstatus  => true,
      hasrestart => true,
      start      => "${conf_dir}/nats-ctl start",
      stop       => "${conf_dir}/nats-ctl stop",
      restart    => "${conf_dir}/nats-ctl restart",
      status     => "${conf_dir}/nats-ctl pid",
    }
  }
}
