# HOST:PORT, an IPv6 address in brackets.
function straas::hostport(Straas::Address $host, Straas::Port $port) >> String {
  $host ? {
    /:/     => "[${host}]:${port}",
    default => "${host}:${port}",
  }
}
