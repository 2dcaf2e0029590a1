// Package host implements engine.Host: the machine Certbook runs on (Local)
// and a machine that is reached over SSH (Dial).
//
// There is one implementation, Host. It knows what it means to read, to write
// and to prove something on a machine, and says it in constant POSIX shell
// scripts: values reach them only as positional arguments and on standard
// input. Below it lies a transport, which can start a program and connect to
// an address, and nothing else. A program is started either directly (the
// local machine) or by way of a wrapper, which sets the environment, ends the
// program when the connection is gone, and may be started by sudo.
//
//	Host   ReadFiles WriteFile Install ReadSecret PublicKeys Exec Handshake Get
//	  |
//	wrapper (wrap.go), sudo (sudo.go); for what only asks: shells that last (shell.go)
//	  |
//	transport: local (os/exec) | ssh (x/crypto/ssh, one connection, bounded sessions)
//
// What changes something has a session of its own. What only asks, which is most,
// shares a few shells that last as long as the connection: a round trip less, and
// sudo is asked once.
//
// Lock keeps a session for as long as it is held (lock.go): its script ends with
// the connection, or when it hears nothing more, and the lock with it. It has no
// wrapper, as it watches its input itself.
//
// A machine needs a POSIX sh, GNU coreutils, any awk, and flock when it is
// changed; a machine behind SSH also openssl, when PublicKeys is asked for.
// Nothing is installed on it.
//
// Private keys, tokens and passwords are taken out of what ReadFiles returns
// by the script on the machine (readfiles.go), and looked for a second time
// on arrival (redact.go).
package host
