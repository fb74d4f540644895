# Rendered by straas-agent from the sections of pre_config. Changes are overwritten.

class { 'straas::base':
}

class { 'zookeeper':
  client_port => 2181,
  data_dir => '/var/lib/zookeeper',
  empty => '',
  enabled => true,
  evil => 'it\'s ${facts[\'x\']} \\ and "quoted" \\\' end\\',
  factor => 1.5,
  lines => 'one
two',
  none => [],
  nothing => {},
  servers => [
    {
      'address' => '10.77.0.11',
      'id' => 1,
    },
    {
      'address' => '10.77.0.12',
      'id' => 2,
    },
  ],
  zoo_cfg => {
    '4lw.commands.whitelist' => '*',
    'it\'s' => -1,
    'tickTime' => 2000,
  },
}
