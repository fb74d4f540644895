# A version of Kafka, as its package and its directory have it.
type Kafka::Version = Pattern[/\A[0-9]+(\.[0-9]+){2}\z/]
