# Keys of zoo.cfg as they stand there, each value one printable line.
type Zookeeper::Settings = Hash[
  Pattern[/\A[A-Za-z0-9][A-Za-z0-9.]*\z/],
  Variant[Integer, Float, Boolean, Pattern[/\A[\x20-\x7e]*\z/]]
]
