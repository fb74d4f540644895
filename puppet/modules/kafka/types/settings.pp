# Keys of server.properties as they stand there, each value one printable line. A backslash would escape or go on.
type Kafka::Settings = Hash[
  Pattern[/\A[a-z][A-Za-z0-9.]*\z/],
  Variant[Integer, Float, Boolean, Pattern[/\A[\x20-\x5b\x5d-\x7e]*\z/]]
]
