# What: one server; here Python's own web server stands in until the real one takes its place.
#
# @param address  where it listens
# @param port     for clients
# @param repeats  how often the page says hello
# @param prefix   "" or the directory of this instance
class @CLASS@ (
  String[1]            $address,
  Integer[1024, 65535] $port,
  Integer[1, 100]      $repeats,
  String               $prefix = '',
) {
  $conf_dir = "${prefix}/etc/@TYPE@/straas"
  $data_dir = "${prefix}/var/lib/@TYPE@"
  $hello    = Array(Integer[1, $repeats]).map |$n| { "hello ${n}\n" }

  unless $prefix == '' {
    file { ["${prefix}/etc", "${prefix}/var", "${prefix}/var/lib", "${prefix}/run"]:
      ensure => directory,
    }
  }
  file { ["${prefix}/etc/@TYPE@", $conf_dir, $data_dir]:
    ensure => directory,
    mode   => '0755',
  }
  # what the server reads at its start: a change restarts it
  file { "${conf_dir}/listen":
    content => "${address} ${port}\n",
    notify  => Service['straas-@TYPE@'],
  }
  file { "${data_dir}/index.html":
    content => join($hello),
    before  => Service['straas-@TYPE@'],
  }
  # how it is started: a change is no reason to disturb a running server
  file { "${conf_dir}/ctl":
    mode    => '0755',
    content => epp('@CLASS@/ctl.epp', {
        'address' => $address, 'port' => $port, 'data_dir' => $data_dir, 'run_dir' => "${prefix}/run/@TYPE@",
    }),
    before  => Service['straas-@TYPE@'],
  }
  service { 'straas-@TYPE@':
    ensure     => running,
    provider   => base,
    hasstatus  => true,
    hasrestart => true,
    start      => "${conf_dir}/ctl start",
    stop       => "${conf_dir}/ctl stop",
    restart    => "${conf_dir}/ctl restart",
    status     => "${conf_dir}/ctl pid",
  }
}
