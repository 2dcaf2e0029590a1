package host

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"sync/atomic"
)

// A session with sudo and a wrapper costs more than most of what is asked in
// it, and two round trips. What changes nothing is therefore asked of shells
// that last as long as the connection, each one question at a time. What
// changes something has a session of its own, and so has what is asked with
// input, or while all shells are busy.
//
// A shell that has ended, or says what it was not asked for, is not used again,
// and what it was asked is asked in a session of its own: it changes nothing.

// mostShells is how many shells one connection has at once.
const mostShells = 4

// shellScript runs command lines, one after the other. For each it reads the
// line's length in bytes and a mark, which nobody can guess, and the line; after
// it, it prints the mark and the exit status on both streams.
const shellScript = sayReady + `
while read -r size mark; do
	line=$(head -c "$size")
	eval "$line"
	code=$?
	printf '\001%s %d\n' "$mark" "$code"
	printf '\001%s %d\n' "$mark" "$code" >&2
done
`

// shells are those of one connection.
type shells struct {
	mu    sync.Mutex
	idle  []*shell
	alive map[*shell]bool
	less  int // by how many fewer than mostShells there may be
	tasks sync.WaitGroup
}

// shell is one of them. It is used by one question at a time.
type shell struct {
	say         chan string
	out, errOut *answer
	ended       chan struct{} // closed when it has ended
	stop        func()        // ends it
	answered    atomic.Bool
}

// takeShell returns a shell that nobody uses, nil when there can be none.
func (h *Host) takeShell() *shell {
	s := &h.shells
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.idle); n > 0 {
		one := s.idle[n-1]
		s.idle = s.idle[:n-1]
		return one
	}
	if len(s.alive) >= mostShells-s.less {
		return nil
	}
	one := h.startShell()
	if s.alive == nil {
		s.alive = map[*shell]bool{}
	}
	s.alive[one] = true
	return one
}

// give takes a shell back.
func (s *shells) give(one *shell) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.alive[one] {
		s.idle = append(s.idle, one)
	}
}

// gone forgets a shell. One that never answered was one too many.
func (s *shells) gone(one *shell, refused bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.alive, one)
	for i, other := range s.idle {
		if other == one {
			s.idle = append(s.idle[:i], s.idle[i+1:]...)
			break
		}
	}
	if refused {
		s.less++
	}
}

// spare ends a shell that nobody uses, for the session that it has, and says
// whether there are shells at all.
func (s *shells) spare() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	some := len(s.alive) > 0
	if n := len(s.idle); n > 0 {
		s.idle[n-1].stop()
		s.idle = s.idle[:n-1]
		s.less++
	}
	return some
}

// close ends them all.
func (s *shells) close() {
	s.mu.Lock()
	s.less = mostShells
	for one := range s.alive {
		one.stop()
	}
	s.mu.Unlock()
}

// startShell starts a shell. That it could not be started is seen at its first
// answer.
func (h *Host) startShell() *shell {
	ctx, cancel := context.WithCancelCause(context.Background())
	stop := func() { cancel(errors.New("given up")) }
	one := &shell{
		say: make(chan string), ended: make(chan struct{}), stop: stop,
		out: newAnswer(stop), errOut: newAnswer(stop),
	}
	h.shells.tasks.Go(func() {
		defer close(one.ended)
		// Why it has ended does not matter: what it was asked is asked otherwise.
		_, _ = h.converse(ctx, shellScript, nil, one.say, process{stdout: one.out, stderr: one.errOut, option: true})
		h.shells.gone(one, !one.answered.Load() && ctx.Err() == nil)
	})
	return one
}

// run runs a command line. When the shell cannot tell how that ended, ok is
// false. At the end of ctx the shell is ended, and the program with it.
func (s *shell) run(ctx context.Context, line string, stdout, stderr io.Writer) (code int, err error, ok bool) {
	mark := rand.Text()
	s.out.expect(mark, stdout)
	s.errOut.expect(mark, stderr)
	say := s.say
	text := fmt.Sprintf("%d %s\n%s", len(line), mark, line)
	first, second := s.out.code, s.errOut.code
	for first != nil || second != nil {
		select {
		case say <- text:
			say = nil
		case code = <-first:
			first = nil
		case <-second:
			second = nil
		case <-s.ended:
			return -1, nil, false
		case <-ctx.Done():
			s.stop()
			<-s.ended
			return -1, context.Cause(ctx), true
		}
	}
	s.answered.Store(true)
	return code, nil, true
}

// answer is one stream of a shell: what a command prints goes where it wants,
// up to its mark.
type answer struct {
	mu    sync.Mutex
	to    io.Writer // nil when nothing is expected
	mark  []byte
	held  []byte // may be the beginning of the mark
	code  chan int
	stray func() // called for what was not asked for
}

func newAnswer(stray func()) *answer { return &answer{code: make(chan int, 1), stray: stray} }

func (a *answer) expect(mark string, to io.Writer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mark, a.to, a.held = []byte("\x01"+mark+" "), to, nil
}

func (a *answer) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.to == nil {
		a.stray()
		return len(p), nil
	}
	a.held = append(a.held, p...)
	at := bytes.Index(a.held, a.mark)
	if at < 0 {
		at = max(0, len(a.held)-len(a.mark)+1)
	}
	if _, err := a.to.Write(a.held[:at]); err != nil {
		return 0, err
	}
	a.held = bytes.Clone(a.held[at:])
	status, found := bytes.CutPrefix(a.held, a.mark)
	if !found {
		return len(p), nil
	}
	status, rest, whole := bytes.Cut(status, []byte("\n"))
	if !whole && len(status) <= len("255") {
		return len(p), nil
	}
	code, err := strconv.Atoi(string(status))
	if !whole || err != nil || len(rest) > 0 {
		a.stray()
		return len(p), nil
	}
	a.to = nil
	a.code <- code
	return len(p), nil
}
