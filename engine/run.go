package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-multierror"
)

// Runner carries out plans. Its fields are its whole world.
type Runner struct {
	// Dial connects to a host of the plan, once per run and host.
	Dial func(ctx context.Context, name string) (Host, error)

	// Gather reads a host's facts after connecting; nil for none.
	Gather func(ctx context.Context, p Probe) (any, error)

	// Emit receives every event, one at a time, in order. When it fails the run
	// stops: what cannot be recorded is not done.
	Emit func(Event) error

	Now   func() time.Time
	Sleep func(ctx context.Context, d time.Duration) error
	Rand  func() float64 // 0 to 1, for jitter

	Forks int // hosts worked on at once; 0 is 10

	// Lock says in whose name the hosts are locked.
	Lock Locking

	// Stop, when closed, ends the run after the steps that are being carried
	// out. Cancelling the context ends it at once.
	Stop <-chan struct{}
}

// Report is how a run ended.
type Report struct {
	Run     RunInfo
	Outcome Outcome
	Err     error                    // why, every host that failed
	Waits   bool                     // no host failed but with an AttentionError
	Left    []string                 // what was not done: host/step
	Hosts   map[string]*HostReport   // every host that the plan works on
	Order   []string                 // their names in the order of the plan
	Steps   map[string][]*StepReport // by host, in order
}

// AttentionError fails a step for the reason that a person has something to do
// first, elsewhere. Nothing is wrong: later the same run goes on.
type AttentionError struct{ What string }

func (e *AttentionError) Error() string { return e.What }

// HostReport is how a run ended on one host.
type HostReport struct {
	Outcome Outcome
	Err     error
}

// StepReport is how one step ended on one host.
type StepReport struct {
	ID, Action string
	Status     string // ok, changed, skipped, failed, planned, pending or reverted
	Reason     string // of a skip, a failure or a pending step
	Changes    []Change
	Done       []Change
	Warnings   []string
	Outputs    any
	Duration   time.Duration
}

// Run carries out the plan, or with plan.Run.Plan finds what it would change.
func (r *Runner) Run(ctx context.Context, plan *Plan, origin Origin) *Report {
	x := &execution{Runner: r, plan: plan, secrets: plan.secrets.clone(), hosts: map[string]*hostState{}, undoes: origin.Undoes}
	origin.Playbook, origin.Documents, origin.Plan = plan.Name, plan.Documents, plan.Run.Plan
	names := plan.HostNames()
	for _, name := range names {
		x.hosts[name] = &hostState{name: name, results: map[string]*stepResult{}}
	}
	x.emit(Event{Kind: RunStarted, Hosts: names, Origin: &origin})
	if x.lock(ctx) {
		x.plays(ctx)
	}
	x.close(ctx)
	return x.report(ctx, names)
}

// execution is the state of one run.
type execution struct {
	*Runner
	plan    *Plan
	undoes  string   // the run that this one brings back
	secrets *secrets // of the plan, and what expressions make of them during the run
	hosts   map[string]*hostState
	done    []*hostState // hosts on which an earlier run has left nothing to do but perhaps its lock

	mu      sync.Mutex // guards writing events, hosts' results, and what follows
	broken  error      // the event stream failed
	stopped bool       // an interrupt was announced
	taken   error      // what the run had taken for its duration is another's
	kept    []*keeping // what it has taken
}

// hostState is one host during a run. Only one goroutine at a time works on a
// host; results are guarded by execution.mu, as other hosts read them.
type hostState struct {
	name     string
	conn     Host          // dialled, and locked when the run makes changes
	lost     error         // why it could not be dialled
	took     time.Duration // to dial it
	held     Held
	unlocked bool // the lock was lost, and the log says so
	host     Host // conn, when a play has begun there
	facts    any
	results  map[string]*stepResult
	reports  []*StepReport
	applied  []*appliedStep    // in the order of Apply
	pending  map[string]string // plan: paths that earlier steps would write, with the step
	awaited  bool              // plan: an earlier step would change something
	dirty    bool              // something was changed and not reverted
	outcome  Outcome
	err      error
}

// appliedStep is a step whose Apply was called.
type appliedStep struct {
	step   *PlannedStep
	action Applier
	kept   bool // a finally step, or one that succeeded in an earlier, finished batch
}

func (x *execution) emit(e Event) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.broken != nil {
		return
	}
	e = x.secrets.event(e)
	e.Time, e.Run = x.Now().UTC(), x.plan.Run.ID
	if err := x.Emit(e); err != nil {
		x.broken = fmt.Errorf("event log: %w", err)
	}
}

// halted reports whether no further step may begin, and announces an
// interrupt once.
func (x *execution) halted(ctx context.Context) bool {
	stop := ctx.Err() != nil
	select {
	case <-x.Stop:
		stop = true
	default:
	}
	x.mu.Lock()
	broken := x.broken != nil
	announce := stop && !broken && !x.stopped
	x.stopped = x.stopped || announce
	taken := x.taken != nil
	x.mu.Unlock()
	if announce {
		x.emit(Event{Kind: Interrupted, Message: "no further step is begun"})
	}
	return stop || broken || taken
}

// interrupted reports whether an interrupt was announced.
func (x *execution) interrupted() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.stopped
}

// failedLog returns the error that stopped the event stream, or nil.
func (x *execution) failedLog() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.broken
}

// plays carries out one play after the other.
func (x *execution) plays(ctx context.Context) {
	for i := range x.plan.Plays {
		if !x.play(ctx, &x.plan.Plays[i]) {
			return
		}
	}
}

// play carries out one play batch by batch and reports whether the run goes
// on.
func (x *execution) play(ctx context.Context, p *PlannedPlay) bool {
	if x.halted(ctx) {
		return false
	}
	x.emit(Event{Kind: PlayStarted, Play: p.Name, Hosts: p.Hosts()})
	for _, batch := range p.Batches {
		if x.halted(ctx) || !x.batch(ctx, p, batch) {
			return false
		}
	}
	return true
}

// batch carries out a play on a batch of hosts, step by step.
func (x *execution) batch(ctx context.Context, p *PlannedPlay, names []string) bool {
	names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return x.hosts[name].err != nil }) // in an earlier play, with "continue"
	if len(p.Batches) > 1 {
		x.emit(Event{Kind: BatchStarted, Play: p.Name, Hosts: names})
	}
	x.each(names, func(h *hostState) { x.connect(ctx, p, h) })
	for i := range p.Steps {
		step := &p.Steps[i]
		if x.halted(ctx) || p.OnFailure != "continue" && x.failed(names) {
			break
		}
		x.each(names, func(h *hostState) {
			if h.err == nil {
				x.step(ctx, p, step, h)
			}
		})
	}
	if ctx.Err() != nil { // stop at once: the log says what is left
		x.each(names, func(h *hostState) { x.finish(p, h) })
		return false
	}
	if x.failed(names) && p.OnFailure == "rollback" && !x.plan.Run.Plan {
		x.each(names, func(h *hostState) { x.rollback(ctx, p, h) })
	}
	for i := range p.Finally {
		if ctx.Err() != nil { // stop at once
			break
		}
		step := &p.Finally[i]
		x.each(names, func(h *hostState) {
			if h.host != nil {
				x.finally(ctx, p, step, h)
			}
		})
	}
	x.each(names, func(h *hostState) { x.finish(p, h) })
	return !x.failed(names) || p.OnFailure == "continue"
}

// finally carries out a step although the host may have failed, and after a
// first interrupt.
func (x *execution) finally(ctx context.Context, p *PlannedPlay, step *PlannedStep, h *hostState) {
	before := h.err
	h.err = nil
	x.step(ctx, p, step, h)
	if before != nil {
		h.err = before
	}
}

// each works on several hosts at once.
func (x *execution) each(names []string, work func(*hostState)) {
	forks := x.Forks
	if forks <= 0 {
		forks = 10
	}
	slots := make(chan struct{}, forks)
	var wg sync.WaitGroup
	for _, name := range names {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			work(x.hosts[name])
		})
	}
	wg.Wait()
}

func (x *execution) failed(names []string) bool {
	for _, name := range names {
		if x.hosts[name].err != nil {
			return true
		}
	}
	return false
}

// dial connects to a host unless that was tried before.
func (x *execution) dial(ctx context.Context, h *hostState) {
	if h.conn != nil || h.lost != nil {
		return
	}
	started := x.Now()
	h.conn, h.lost = x.Dial(ctx, h.name)
	h.took = x.Now().Sub(started)
}

// connect begins to work on a host unless an earlier play has.
func (x *execution) connect(ctx context.Context, p *PlannedPlay, h *hostState) {
	if h.host != nil {
		return
	}
	x.dial(ctx, h)
	err := h.lost
	if err == nil && x.Gather != nil {
		started := x.Now()
		if h.facts, err = x.Gather(ctx, readOnly{h.conn}); err != nil {
			err = fmt.Errorf("facts: %w", err)
		}
		h.took += x.Now().Sub(started)
	}
	if err != nil {
		h.err = err
		x.emit(Event{Kind: HostUnreachable, Play: p.Name, Host: h.name, Error: err.Error()})
		return
	}
	h.host = h.conn
	x.emit(Event{Kind: HostConnected, Play: p.Name, Host: h.name, Millis: h.took.Milliseconds()})
}

// finish records how a batch ended on a host. What it applied is now history:
// a later failure does not revert it.
func (x *execution) finish(p *PlannedPlay, h *hostState) {
	for _, a := range h.applied {
		a.kept = true
	}
	h.outcome = OutcomeOK
	message := ""
	if h.err != nil {
		h.outcome, message = OutcomeUnchanged, h.err.Error()
		if h.dirty {
			h.outcome = OutcomePartial
		} else if slices.ContainsFunc(h.applied, func(a *appliedStep) bool { return !harmless(a.action) }) {
			h.outcome = OutcomeReverted
		}
	} else if x.interrupted() && len(x.leftOf(p, h.name)) > 0 {
		h.outcome = OutcomeInterrupted
	}
	x.emit(Event{Kind: HostFinished, Play: p.Name, Host: h.name, Outcome: h.outcome, Error: message})
}

// close gives the locks back and ends the connections.
func (x *execution) close(ctx context.Context) {
	x.letGo(ctx)
	all := x.done
	for _, name := range sortedKeys(x.hosts) {
		all = append(all, x.hosts[name])
	}
	for _, h := range all {
		if h.conn != nil {
			x.unlock(ctx, h)
			_ = h.conn.Close() // nothing is pending on the connection
		}
	}
}

// report sums up and emits the last event.
func (x *execution) report(ctx context.Context, names []string) *Report {
	rep := &Report{Run: x.plan.Run, Outcome: OutcomeOK, Hosts: map[string]*HostReport{}, Order: names, Steps: map[string][]*StepReport{}}
	errs := &multierror.Error{ErrorFormat: oneALine}
	waits := func(err error) bool { var a *AttentionError; return errors.As(err, &a) }
	dirty, lasting, failed := false, false, false
	for _, name := range names {
		h := x.hosts[name]
		rep.Hosts[name] = &HostReport{Outcome: h.outcome, Err: h.err}
		rep.Steps[name] = h.reports
		if h.err != nil {
			failed = true
			dirty = dirty || h.dirty
			errs = multierror.Append(errs, fmt.Errorf("%s: %w", name, h.err))
		} else if h.dirty {
			lasting = true
		}
	}
	for _, h := range x.done {
		if h.err != nil {
			failed = true
			errs = multierror.Append(errs, fmt.Errorf("%s: %w", h.name, h.err))
		}
	}
	rep.Left = x.left()
	if x.taken != nil && len(rep.Left) > 0 {
		failed = true
		errs = multierror.Append(errs, x.taken)
	}
	interrupted := len(rep.Left) > 0 && x.halted(ctx) && x.broken == nil && x.taken == nil
	switch {
	case x.broken != nil:
		rep.Outcome = OutcomePartial
	case interrupted: // Left says where a person has to look
		rep.Outcome = OutcomeInterrupted
	case failed && (dirty || lasting):
		rep.Outcome = OutcomePartial
	case failed && x.anyReverted():
		rep.Outcome = OutcomeReverted
	case failed:
		rep.Outcome = OutcomeUnchanged
	}
	x.emit(Event{Kind: RunFinished, Outcome: rep.Outcome, Left: rep.Left})
	rep.Waits = failed && !slices.ContainsFunc(errs.Errors, func(err error) bool { return !waits(err) })
	if x.broken != nil { // perhaps only now
		errs = multierror.Append(errs, x.broken)
		rep.Outcome = OutcomePartial
	}
	rep.Err = errs.ErrorOrNil()
	x.secrets.report(rep)
	return rep
}

func (x *execution) anyReverted() bool {
	for _, h := range x.hosts {
		if h.outcome == OutcomeReverted {
			return true
		}
	}
	return false
}

// left lists the steps that the plan holds and no host has finished.
func (x *execution) left() []string {
	var list []string
	for i := range x.plan.Plays {
		for _, host := range x.plan.Plays[i].Hosts() {
			list = append(list, x.leftOf(&x.plan.Plays[i], host)...)
		}
	}
	return list
}

func (x *execution) leftOf(p *PlannedPlay, host string) []string {
	var list []string
	for _, s := range p.Steps {
		if r := x.hosts[host].results[s.ID]; r == nil || r.status == statusFailed || r.status == statusReverted {
			list = append(list, host+"/"+s.ID)
		}
	}
	return list
}

func oneALine(errs []error) string {
	texts := make([]string, len(errs))
	for i, e := range errs {
		texts[i] = e.Error()
	}
	return strings.Join(texts, "\n")
}
