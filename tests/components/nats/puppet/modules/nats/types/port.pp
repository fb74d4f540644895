# A TCP port that a server without root's rights can listen on.
type Nats::Port = Integer[1024, 65535]
