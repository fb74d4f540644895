# What:  where an instance of a component has its things.
# Why:   one layout for all; scripts and people find every component's files in the same places.
# Never: makes them (straas::daemon does).
function straas::paths(Straas::Prefix $prefix, Pattern[/\A[a-z][a-z0-9_-]*\z/] $component) >> Hash[String, String] {
  {
    'conf_dir' => "${prefix}/etc/${component}/straas",
    'data_dir' => "${prefix}/var/lib/${component}/data",
    'log_dir'  => "${prefix}/var/log/${component}",
    'run_dir'  => "${prefix}/run/${component}",
  }
}
