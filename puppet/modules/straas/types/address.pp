# An IPv4 or IPv6 address or a host name: nothing that could end a line or a field.
type Straas::Address = Variant[
  Pattern[/\A[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?\z/],
  Pattern[/\A[0-9A-Fa-f:]{2,39}\z/]
]
