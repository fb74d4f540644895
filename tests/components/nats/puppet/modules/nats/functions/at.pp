# What:  an address as it stands before a port: IPv6 in brackets.
# Why:   every listener and every route needs it.
# Never: looks a name up.
function nats::at(String $address) >> String {
  if $address =~ /:/ { "[${address}]" } else { $address }
}
