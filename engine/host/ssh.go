package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	maxSessions = 8 // at once on one connection; OpenSSH's MaxSessions is 10
	missed      = 3 // unanswered keepalives after which a connection is given up
)

// remote is a machine behind SSH: one connection, with a session for each
// program.
type remote struct {
	clients []*ssh.Client // the jump hosts in order, then the machine
	slots   chan struct{}
	done    chan struct{} // closed by close
	gone    chan struct{} // closed when the connection is
	tasks   sync.WaitGroup
	lasting atomic.Int32 // sessions whose end nobody waits for
	spare   func() bool  // gives up a session that could be done without, and says whether there are any; may be nil

	mu   sync.Mutex
	lost error // why the connection is gone
	once sync.Once
}

func newRemote(clients []*ssh.Client, keepAlive time.Duration) *remote {
	r := &remote{clients: clients, slots: make(chan struct{}, maxSessions), done: make(chan struct{}), gone: make(chan struct{})}
	r.tasks.Go(func() {
		defer close(r.gone)
		if err := r.client().Wait(); err != nil {
			r.lose(err)
		}
	})
	if keepAlive > 0 {
		r.tasks.Go(func() { r.keep(keepAlive) })
	}
	return r
}

func (r *remote) client() *ssh.Client { return r.clients[len(r.clients)-1] }

// lose remembers the first reason why the connection is gone.
func (r *remote) lose(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lost == nil {
		r.lost = err
	}
}

func (r *remote) why(err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lost != nil {
		return r.lost
	}
	return err
}

// keep asks the server for a sign of life until the connection ends.
func (r *remote) keep(every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-r.done:
			return
		case <-tick.C:
		}
		answer := make(chan error, 1)
		r.tasks.Go(func() {
			_, _, err := r.client().SendRequest("keepalive@openssh.com", true, nil)
			answer <- err
		})
		late := time.NewTimer(missed * every)
		select {
		case err := <-answer:
			late.Stop()
			if err != nil {
				return
			}
		case <-r.done:
			late.Stop()
			return
		case <-late.C:
			r.lose(fmt.Errorf("the host has not answered for %v", missed*every))
			r.hangUp()
			return
		}
	}
}

func (r *remote) hangUp() {
	for i := len(r.clients) - 1; i >= 0; i-- {
		r.clients[i].Close()
	}
}

func (r *remote) close() error {
	r.once.Do(func() {
		r.lose(errors.New("the connection is closed"))
		close(r.done)
		r.hangUp()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			r.tasks.Wait()
		}()
		late := time.NewTimer(grace + 2*time.Second)
		defer late.Stop()
		select {
		case <-ended:
		case <-late.C: // see run
		}
	})
	return nil
}

type ending struct {
	code int
	err  error
}

// run runs a program in a session of its own. When ctx or the connection ends it
// waits for the session as long as ending the program may take, and then goes
// without it: a session that is opened at the moment in which the connection is
// lost may wait for ever (in ssh's OpenChannel).
func (r *remote) run(ctx context.Context, p process) (int, error) {
	line, err := commandLine(p.argv)
	if err != nil {
		return -1, err
	}
	select {
	case r.slots <- struct{}{}:
	case <-ctx.Done():
		return -1, context.Cause(ctx)
	case <-r.done:
		return -1, r.why(nil)
	}
	result := make(chan ending, 1)
	r.tasks.Go(func() {
		defer func() { <-r.slots }()
		code, err := r.session(ctx, line, p)
		result <- ending{code, err}
	})
	select {
	case e := <-result:
		return e.code, e.err
	case <-ctx.Done():
	case <-r.gone:
	}
	late := time.NewTimer(grace + 2*time.Second)
	defer late.Stop()
	select {
	case e := <-result:
		if e.err == nil || ctx.Err() == nil {
			return e.code, e.err // its end may have come first
		}
	case <-late.C:
	}
	if ctx.Err() == nil {
		return -1, fmt.Errorf("the connection was lost, and the command may still run: %w", r.why(errors.New("it was closed")))
	}
	return -1, context.Cause(ctx)
}

// open opens a session. A server that allows fewer of them than we want is
// asked again when others may have ended.
func (r *remote) open(ctx context.Context, option bool) (*ssh.Session, error) {
	for try := 1; ; try++ {
		s, err := r.client().NewSession()
		var refused *ssh.OpenChannelError
		lasting := int(r.lasting.Load())
		switch {
		case err == nil || !errors.As(err, &refused) || try == 50 || option:
			return s, err
		case r.spare != nil && r.spare(): // one will be free in a moment
		case len(r.slots)-lasting < 2 && lasting > 0:
			return nil, fmt.Errorf("the SSH server allows no second session on a connection, and the host's lock keeps one; set MaxSessions in sshd_config to 2 or more (%w)", err)
		case len(r.slots) < 2:
			return s, err
		}
		wait := time.NewTimer(200 * time.Millisecond)
		select {
		case <-ctx.Done():
			wait.Stop()
			return nil, context.Cause(ctx)
		case <-wait.C:
		}
	}
}

func (r *remote) session(ctx context.Context, line string, p process) (int, error) {
	s, err := r.open(ctx, p.option)
	if err != nil {
		return -1, fmt.Errorf("no session: %w", r.why(err))
	}
	defer s.Close()
	if p.lasts {
		r.lasting.Add(1)
		defer r.lasting.Add(-1)
	}
	w, err := s.StdinPipe()
	if err != nil {
		return -1, err
	}
	s.Stdout, s.Stderr = p.stdout, p.stderr
	if ctx.Err() != nil {
		return -1, context.Cause(ctx)
	}
	if err := s.Start(line); err != nil {
		return -1, fmt.Errorf("the host does not run commands: %w", r.why(err))
	}
	done, fed := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(fed)
		if p.feed != nil {
			_ = p.feed(w, done) // a program need not read its input
		}
		if p.hold {
			select {
			case <-ctx.Done():
			case <-done:
			}
		}
		w.Close()
	}()
	stop := context.AfterFunc(ctx, func() { end(s, done) })
	err = s.Wait()
	stop()
	close(done)
	s.Close()
	<-fed
	return r.status(err)
}

// end asks the server to end the program of a session, while the wrapper sees
// the end of its input. Some time later the session is closed.
func end(s *ssh.Session, done <-chan struct{}) {
	_ = s.Signal(ssh.SIGTERM)
	late := time.NewTimer(grace + time.Second)
	defer late.Stop()
	select {
	case <-done:
	case <-late.C:
		s.Close()
	}
}

// status turns the end of a session into an exit status.
func (r *remote) status(err error) (int, error) {
	var exit *ssh.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit):
		if n, ok := signalNumber(exit.Signal()); ok {
			return 128 + n, nil
		}
		return exit.ExitStatus(), nil
	}
	return -1, fmt.Errorf("the connection was lost, and the command may still run: %w", r.why(err))
}

func signalNumber(name string) (int, bool) {
	n, ok := map[string]int{
		"HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "ABRT": 6, "FPE": 8, "KILL": 9,
		"USR1": 10, "SEGV": 11, "USR2": 12, "PIPE": 13, "ALRM": 14, "TERM": 15,
	}[name]
	return n, ok
}

func (r *remote) dial(ctx context.Context, address string) (net.Conn, error) {
	c, err := r.client().DialContext(ctx, "tcp", address)
	var refused *ssh.OpenChannelError
	if errors.As(err, &refused) && (refused.Reason == ssh.Prohibited || refused.Reason == ssh.UnknownChannelType) {
		return r.stream(ctx, address) // AllowTcpForwarding no
	}
	if err != nil {
		return nil, r.why(err)
	}
	return c, nil
}
