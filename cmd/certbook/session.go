package main

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"os/user"
	"strings"
	"sync"
	"syscall"
	"time"

	"certbook/actions"
	"certbook/engine"
	"certbook/schema"

	"golang.org/x/term"
)

// session is what run, plan and check have in common: documents, connections
// and a way to show what happens.
type session struct {
	std     streams
	docs    documents
	conn    connection
	sign    signing
	yes     bool
	verbose bool
	signal  os.Signal  // the one that interrupted the run
	asking  sync.Mutex // one question at a time
	secrets *prompter  // the answers hold for the plan that is shown first and for the run

	invocation *engine.Invocation // what this run was started with
	resumes    string             // the run that this one goes on with
	undoes     string             // the run that this one brings back

	breakLock bool                  // take over what any other run has left locked
	own       func(run string) bool // runs whose locks this one may take over; nil is none

	opened   *schema.Secrets // the inventory's, once they were opened
	lintOnly bool            // nothing is dialled and nobody is asked
}

// terminal reports whether a person is there to answer.
func (s *session) terminal() bool {
	return s.std.in != nil && term.IsTerminal(int(s.std.in.Fd()))
}

// actions returns what the actions need of the controller.
func (s *session) actions() actions.Context {
	return actions.Context{Ask: s.ask, Now: time.Now, Lock: s.locking()}
}

// ask puts a question on the terminal. With --yes the answer is yes.
func (s *session) ask(ctx context.Context, question string) (bool, error) {
	if s.yes {
		return true, nil
	}
	if !s.terminal() {
		return false, fmt.Errorf("nobody is there to answer %q; give --yes", question)
	}
	s.asking.Lock()
	defer s.asking.Unlock()
	fmt.Fprintf(s.std.err, "%s [yes/no] ", clean(question))
	answer := make(chan string, 1)
	go func() { // ends with the line, or with the process
		line, _ := bufio.NewReader(s.std.in).ReadString('\n')
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case a := <-answer:
		return a == "yes" || a == "y", nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// origin says who runs what.
func (s *session) origin() engine.Origin {
	o := engine.Origin{User: "unknown", Version: version(), Invocation: s.invocation, Resumes: s.resumes, Undoes: s.undoes}
	if u, err := user.Current(); err == nil {
		o.User = u.Username
	}
	if sudo := os.Getenv("SUDO_USER"); sudo != "" {
		o.User = sudo + " as " + o.User
	}
	o.Machine, _ = os.Hostname() // "" when not known
	return o
}

// locking says in whose name hosts are locked.
func (s *session) locking() engine.Locking {
	o := s.origin()
	user, _, _ := strings.Cut(o.User, " as ") // the person
	return engine.Locking{Owner: user + "@" + o.Machine, PID: os.Getpid(), Own: s.own, Break: s.breakLock}
}

// runner returns a runner for the documents that passes events to emit.
func (s *session) runner(l *loaded, emit func(engine.Event) error) *engine.Runner {
	d := s.dialer(l.inventory)
	return &engine.Runner{
		Dial: d.dial, Emit: emit, Now: time.Now, Sleep: sleep, Rand: rand.Float64, Forks: s.conn.forks,
		Lock: s.locking(),
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// execute carries out a plan. The first SIGINT or SIGTERM ends the run after
// the present steps, the second at once.
func (s *session) execute(ctx context.Context, l *loaded, plan *engine.Plan, emit func(engine.Event) error) *engine.Report {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := make(chan struct{})
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	done := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		s.watch(signals, done, stop, cancel)
	}()
	r := s.runner(l, emit)
	r.Stop = stop
	if s.std.point != nil && !plan.Run.Plan {
		mark(r, s.std.point)
	}
	rep := r.Run(ctx, plan, s.origin())
	close(done)
	<-watched
	return rep
}

func (s *session) watch(signals <-chan os.Signal, done <-chan struct{}, stop chan struct{}, cancel func()) {
	for n := 1; ; n++ {
		select {
		case <-done:
			return
		case sig := <-signals:
			s.signal = sig
			switch n {
			case 1:
				fmt.Fprintf(s.std.err, "%s: finishing the present step, then stopping; once more stops at once\n", sig)
				close(stop)
			case 2:
				fmt.Fprintf(s.std.err, "%s: stopping at once\n", sig)
				cancel()
			}
		}
	}
}

// outcome turns how a run ended into an exit code.
func (s *session) outcome(rep *engine.Report) error {
	var text string
	if rep.Err != nil {
		text = rep.Err.Error()
	}
	code := map[engine.Outcome]int{
		engine.OutcomeOK: 0, engine.OutcomeUnchanged: 1, engine.OutcomeReverted: 1, engine.OutcomePartial: 5,
	}[rep.Outcome]
	if rep.Outcome == engine.OutcomeUnchanged && rep.Waits {
		code = 3
	}
	if rep.Outcome == engine.OutcomeInterrupted {
		code = 130
		if s.signal == syscall.SIGTERM {
			code = 143
		}
		text = "interrupted"
		if len(rep.Left) > 0 {
			text += "; not done: " + briefLeft(rep.Left)
		}
		if s.invocation != nil && s.undoes == "" {
			text += " (certbook resume goes on from here)"
		}
		for _, name := range rep.Order {
			if rep.Hosts[name].Outcome == engine.OutcomePartial {
				text += "; a person has to look at " + name
			}
		}
	}
	if code == 0 {
		return nil
	}
	return &exitError{code: code, text: text}
}

// briefLeft names what was not done, of many steps only where each host stopped.
func briefLeft(left []string) string {
	const most = 8
	if len(left) <= most {
		return strings.Join(left, ", ")
	}
	var hosts []string
	first, count := map[string]string{}, map[string]int{}
	for _, l := range left {
		host, step, _ := strings.Cut(l, "/")
		if count[host] == 0 {
			hosts = append(hosts, host)
			first[host] = step
		}
		count[host]++
	}
	var texts []string
	for _, host := range hosts[:min(len(hosts), most)] {
		texts = append(texts, fmt.Sprintf("%s from %s on (%d)", host, first[host], count[host]))
	}
	if more := len(hosts) - most; more > 0 {
		texts = append(texts, fmt.Sprintf("and %d more hosts", more))
	}
	return strings.Join(texts, ", ")
}
