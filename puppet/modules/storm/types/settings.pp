# Keys of storm.yaml as they stand there; values are one printable line, or a list of such.
type Storm::Settings = Hash[
  Pattern[/\A[a-z][A-Za-z0-9._-]*\z/],
  Variant[Integer, Float, Boolean, Pattern[/\A[\x20-\x7e]*\z/], Array[Variant[Integer, Pattern[/\A[\x20-\x7e]*\z/]]]]
]
