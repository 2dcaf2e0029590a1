package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// LockDir is where a host keeps its lock, the file "lock".
const LockDir = "/var/lib/certbook"

// LockFile holds one JSON line, a Holder, while a run works on the host, and
// afterwards when the run could not release it. Empty is not locked.
const LockFile = LockDir + "/lock"

// Locker is a machine on which one run at a time works.
type Locker interface {
	// Lock takes the machine's lock and keeps it until Release, or until this
	// process or the connection ends. That a living run has it is a *LockedError.
	// One that a run has left is shown to take; its error is returned as it is,
	// and the lock stays as it was.
	Lock(ctx context.Context, by Holder, take func(left Lock) error) (Held, error)

	// ReadLock returns the machine's lock, nil when there is none.
	ReadLock(ctx context.Context) (*Lock, error)
}

// Held is a lock that this process has.
type Held interface {
	// Check returns an error once the machine does not hold the lock for this
	// process any more, or when that cannot be told.
	Check(ctx context.Context) error

	// Change is Check before a change: from then on a lock that is left says
	// that changes were begun.
	Change(ctx context.Context) error

	// Release gives the lock back.
	Release(ctx context.Context) error
}

// Holder is who has a lock, as the host keeps it.
type Holder struct {
	Owner    string    `json:"owner"` // user@controller
	Run      string    `json:"run"`
	Playbook string    `json:"playbook"`
	PID      int       `json:"pid"` // of the controller's process
	Since    time.Time `json:"since"`
	Undoes   string    `json:"undoes,omitempty"` // the run that this one brings back
	Changed  bool      `json:"changed"`          // changes on the host were begun
}

// Lock is a host's lock as it was found. When what the host keeps is not a
// Holder, Owner is "" and Changed is true.
type Lock struct {
	Holder
	Living bool      // the run's process holds it
	Seen   time.Time // its last sign of life, by the host's clock
	Now    time.Time // the host's clock
}

// Age is how long ago the lock was taken.
func (l Lock) Age() time.Duration { return max(0, l.Now.Sub(l.Since)) }

// Silence is how long ago the lock's run gave its last sign of life.
func (l Lock) Silence() time.Duration { return max(0, l.Now.Sub(l.Seen)) }

// String says whose lock it is.
func (l Lock) String() string {
	if l.Owner == "" {
		return "an unknown owner"
	}
	layout := "15:04:05"
	if l.Age() >= 24*time.Hour {
		layout = "2006-01-02 15:04:05"
	}
	text := fmt.Sprintf("%s since %s UTC (%s ago): run %s", l.Owner, l.Since.UTC().Format(layout), Ago(l.Age()), l.Run)
	if l.Playbook != "" {
		text += " of " + l.Playbook
	}
	return text
}

// Ago writes a duration in its largest unit.
func Ago(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}

// LockedError says that another run has the lock.
type LockedError struct{ Lock Lock }

func (e *LockedError) Error() string {
	return fmt.Sprintf("locked by %s; wait for it or stop it there (--break-lock breaks no lock of a living run)", e.Lock)
}

// LeftError says that another run has left its lock.
type LeftError struct{ Lock Lock }

func (e *LeftError) Error() string {
	if e.Lock.Owner == "" {
		return "left locked by an unknown owner, whose process is gone: " + LockFile + " holds no lock of Certbook's; --break-lock takes it over"
	}
	cure := fmt.Sprintf("'certbook resume %[1]s' goes on, 'certbook rollback %[1]s' brings back", e.Lock.Run)
	if e.Lock.Undoes != "" {
		cure = fmt.Sprintf("'certbook rollback %s' goes on", e.Lock.Undoes)
	}
	return fmt.Sprintf("left locked by %s; its process is gone, last seen %s ago; there %s, --break-lock takes the lock over", e.Lock, Ago(e.Lock.Silence()), cure)
}

// Locking says in whose name a run locks its hosts, and what other runs have
// left it takes over. A lock whose run had changed nothing on the host is
// always taken over.
type Locking struct {
	Owner string                // user@controller
	PID   int                   // of this process
	Own   func(run string) bool // runs that this one goes on with or brings back; nil is none
	Break bool                  // also any other run's
}

// takesOver returns why a lock that was left is taken over, or an error.
func (l Locking) takesOver(left Lock) (string, error) {
	switch {
	case left.Owner != "" && l.Own != nil && l.Own(left.Run):
		return "that run is over, or this one goes on with it or brings it back", nil
	case !left.Changed:
		return "that run had changed nothing here", nil
	case l.Break:
		return "--break-lock", nil
	}
	return "", &LeftError{left}
}

// changes reports whether any step may change a host: whether its action makes
// changes that it does not only wait for.
func (p *Plan) changes() bool {
	for _, play := range p.Plays {
		for _, step := range slices.Concat(play.Steps, play.Finally) {
			action := step.spec.New()
			_, applies := action.(Applier)
			_, waits := action.(Waiter)
			if applies && !waits && step.Off == "" {
				return true
			}
		}
	}
	return false
}

// lock takes the locks of all hosts before the first step, one after the other
// in the order of their names: of two runs that want the same hosts one gets
// them all. It reports whether the run may begin. A host that cannot be reached
// has no lock; its play says so.
func (x *execution) lock(ctx context.Context) bool {
	if x.plan.Run.Plan || !x.plan.changes() || x.halted(ctx) {
		return true
	}
	names := slices.Clone(x.plan.HostNames())
	for _, name := range x.plan.finished {
		if x.hosts[name] == nil {
			x.done = append(x.done, &hostState{name: name})
		}
	}
	x.each(names, func(h *hostState) { x.dial(ctx, h) })
	var all []*hostState
	for _, name := range names {
		all = append(all, x.hosts[name])
	}
	for _, h := range x.done {
		x.dial(ctx, h)
		all = append(all, h)
	}
	slices.SortFunc(all, func(a, b *hostState) int { return strings.Compare(a.name, b.name) })
	for _, h := range all {
		if h.conn == nil {
			continue
		}
		if err := x.lockHost(ctx, h); err != nil {
			h.err, h.outcome = err, OutcomeUnchanged
			x.emit(Event{Kind: HostLocked, Host: h.name, Error: err.Error()})
			return false
		}
	}
	return true
}

func (x *execution) lockHost(ctx context.Context, h *hostState) error {
	by := Holder{Owner: x.Lock.Owner, Run: x.plan.Run.ID, Playbook: x.plan.Name, PID: x.Lock.PID, Since: x.Now().UTC().Truncate(time.Second), Undoes: x.undoes}
	held, err := h.conn.Lock(ctx, by, func(left Lock) error {
		why, err := x.Lock.takesOver(left)
		if err != nil {
			return err
		}
		x.emit(Event{Kind: LockTakenOver, Host: h.name, Message: fmt.Sprintf("left by %s; taken over: %s", left, why)})
		return x.failedLog()
	})
	var locked *LockedError
	var left *LeftError
	switch {
	case errors.As(err, &locked) && locked.Lock.Run == by.Run:
		return errors.New("the inventory has this machine by another name as well; this run has locked it already")
	case errors.As(err, &locked), errors.As(err, &left), err == nil:
	default:
		err = fmt.Errorf("lock: %w", err)
	}
	h.held = held
	return err
}

// use asks before each change whether the host is still this run's: once its
// lock is lost, another run may work there.
func (r *recorder) use(ctx context.Context) error {
	held := r.s.h.held
	if held == nil {
		return nil
	}
	ask := held.Change
	if r.keeps {
		ask = held.Check
	}
	err := ask(ctx)
	if err == nil || ctx.Err() != nil {
		return err
	}
	return r.s.lostLock(r.s.h, err)
}

// lostLock records once that a host's lock was lost.
func (x *execution) lostLock(h *hostState, err error) error {
	x.mu.Lock()
	first := !h.unlocked
	h.unlocked = true
	x.mu.Unlock()
	if first {
		x.emit(Event{Kind: LockLost, Host: h.name, Error: err.Error()})
	}
	return fmt.Errorf("the host's lock is lost, nothing more is changed there: %w", err)
}

// unlock gives a host's lock back, also after an interrupt.
func (x *execution) unlock(ctx context.Context, h *hostState) {
	if h.held == nil {
		return
	}
	if err := h.held.Release(context.WithoutCancel(ctx)); err != nil {
		_ = x.lostLock(h, err) // the event tells
	}
}
