# A server's number in its ensemble. ZooKeeper keeps it in one byte of every session id.
type Zookeeper::Myid = Integer[1, 255]
