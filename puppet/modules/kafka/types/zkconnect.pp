# host:port[,host:port...]/namespace: where in ZooKeeper this cluster lives; never the root, which is everybody's.
type Kafka::Zkconnect = Pattern[/\A[A-Za-z0-9\[][A-Za-z0-9.:\[\]-]*(,[A-Za-z0-9\[][A-Za-z0-9.:\[\]-]*)*\/[A-Za-z0-9][A-Za-z0-9._-]*\z/]
