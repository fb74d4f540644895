# HOST:PORT, an IPv6 address in brackets.
function kafka::hostport(Kafka::Address $host, Kafka::Port $port) >> String {
  $host ? {
    /:/     => "[${host}]:${port}",
    default => "${host}:${port}",
  }
}
