# "" (the instance owns the host) or the absolute directory an instance lives in, without anything a shell would split.
type Straas::Prefix = Pattern[/\A\z/, /\A(\/[A-Za-z0-9@_+-][A-Za-z0-9@_.+-]*)+\z/]
