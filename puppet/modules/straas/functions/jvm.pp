# What:  the options of a daemon's JVM for a heap of some MiB, its own last.
# Why:   serial GC below 1 GiB: fewer threads and some MiB less, and pauses on so small a heap are short. Below
#        `$fast_below_mb` also only the fast compiler: sooner up, and less memory that so small a daemon has better use for.
# Never: lets a daemon linger that is out of memory: it ends and is started again.
function straas::jvm(Integer $heap_mb, Array[Straas::Jvmflag] $own, Integer $fast_below_mb = 256) >> Array[String] {
  $collector = $heap_mb ? { Integer[0, 1023] => '-XX:+UseSerialGC', default => '-XX:+UseG1GC' }
  $compiler = if $heap_mb < $fast_below_mb { ['-XX:TieredStopAtLevel=1'] } else { [] }
  ["-Xms${max(16, $heap_mb / 4)}m", "-Xmx${heap_mb}m", $collector] + $compiler + ['-XX:+ExitOnOutOfMemoryError'] + $own
}
