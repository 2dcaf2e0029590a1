package host

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync"
	"time"
)

// grace is the time between asking a program to end and ending it.
const grace = 5 * time.Second

// A transport starts programs on a machine and connects to addresses from it.
type transport interface {
	// run starts a program and waits for its end. The exit status is 128+n
	// when signal n ended the program. An error says that there is no exit
	// status: the program did not start, ctx ended, the connection was lost.
	run(ctx context.Context, p process) (code int, err error)

	// dial connects to a TCP address (host:port) as the machine sees it.
	dial(ctx context.Context, address string) (net.Conn, error)

	close() error
}

// A process is one program to be started.
type process struct {
	argv   []string
	env    []string // NAME=value; a transport that goes through the wrapper gets none
	feed   feed     // writes standard input; nil for none
	hold   bool     // standard input stays open until the program ends
	lasts  bool     // it runs for as long as the connection is used
	option bool     // it can be done without, when the machine has no session left
	stdout io.Writer
	stderr io.Writer
}

// A feed writes the standard input of a program, in a goroutine of its own. It
// returns when done is closed, which says that the program has ended.
type feed func(w io.Writer, done <-chan struct{}) error

// A bounded buffer keeps the first limit bytes and calls full once, when more
// arrive.
type bounded struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	limit int
	full  func()
	over  bool
}

func (b *bounded) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	room := b.limit - b.buf.Len()
	if len(p) <= room {
		return b.buf.Write(p)
	}
	b.buf.Write(p[:max(room, 0)])
	if !b.over {
		b.over = true
		b.full()
	}
	return len(p), nil // keep reading, so that the program can end
}

// bytes returns what is there now; a program that was given up may still write.
func (b *bounded) bytes() (data []byte, over bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.buf.Bytes()), b.over
}
