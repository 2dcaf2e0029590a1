package host

import (
	"context"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/crypto/ssh"
)

// streamScript joins standard input and output with a TCP connection, for
// servers that do not forward one. Closing its input ends it.
const streamScript = `
if command -v bash >/dev/null 2>&1; then
	exec bash -c '
exec 3<>"/dev/tcp/$0/$1" 4<&0 || exit 1
(cat <&4 >&3; kill $$) 2>/dev/null &
cat <&3
kill $! 2>/dev/null' "$1" "$2"
fi
for p in nc ncat; do
	if command -v $p >/dev/null 2>&1; then exec $p "$1" "$2"; fi
done
if command -v socat >/dev/null 2>&1; then exec socat - "TCP:$1:$2"; fi
echo "the SSH server forwards no TCP connections (AllowTcpForwarding), and the host has no bash, nc or socat" >&2
exit 1
`

// stream connects through a session instead of a forwarded channel.
func (r *remote) stream(ctx context.Context, address string) (net.Conn, error) {
	name, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	s, err := r.open(ctx, false)
	if err != nil {
		return nil, fmt.Errorf("no session: %w", r.why(err))
	}
	c := &streamConn{s: s, stderr: &bounded{limit: 4 << 10, full: func() {}}, address: address}
	s.Stderr = c.stderr
	if c.w, err = s.StdinPipe(); err == nil {
		c.r, err = s.StdoutPipe()
	}
	if err == nil {
		err = s.Start(quote([]string{"sh", "-c", streamScript, "sh", name, port}))
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("connect through a session: %w", r.why(err))
	}
	return c, nil
}

// streamConn is a session as a connection.
type streamConn struct {
	s       *ssh.Session
	w       io.WriteCloser
	r       io.Reader
	stderr  *bounded
	address string
}

// Read ends with what the far side said on standard error, when it said something.
func (c *streamConn) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if err == io.EOF && n == 0 {
		_ = c.s.Wait() // standard error has arrived then
		if text, _ := c.stderr.bytes(); len(text) > 0 {
			return 0, fmt.Errorf("connect from the host: %.200s", text)
		}
	}
	return n, err
}

func (c *streamConn) Write(p []byte) (int, error) { return c.w.Write(p) }

func (c *streamConn) Close() error {
	c.w.Close()
	return c.s.Close()
}

func (c *streamConn) LocalAddr() net.Addr              { return streamAddr("ssh session") }
func (c *streamConn) RemoteAddr() net.Addr             { return streamAddr(c.address) }
func (c *streamConn) SetDeadline(time.Time) error      { return nil } // the caller's context closes it
func (c *streamConn) SetReadDeadline(time.Time) error  { return nil }
func (c *streamConn) SetWriteDeadline(time.Time) error { return nil }

type streamAddr string

func (streamAddr) Network() string  { return "tcp" }
func (a streamAddr) String() string { return string(a) }
