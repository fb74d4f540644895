# A TCP port that a server without root's rights can listen on.
type Straas::Port = Integer[1024, 65535]
