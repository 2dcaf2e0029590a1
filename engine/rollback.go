package engine

import (
	"context"
	"fmt"
	"slices"
)

// rollback brings a host back to where its batch began: the steps that were
// applied are reverted in reverse order, then what follows from the files they
// wrote (Follower) is checked and applied again in forward order. A first
// interrupt does not stop it; a second one ends ctx, and then the log says what
// was not reverted.
func (x *execution) rollback(ctx context.Context, p *PlannedPlay, h *hostState) {
	if h.host == nil || !slices.ContainsFunc(h.applied, func(a *appliedStep) bool { return !a.kept }) {
		return
	}
	if h.err == nil {
		h.err = fmt.Errorf("another host of the batch failed")
	}
	failed := false
	for _, a := range slices.Backward(h.applied) {
		reverter, ok := a.action.(Reverter)
		if a.kept || !ok {
			continue
		}
		if !x.revert(ctx, p, h, a, reverter) {
			failed = true
		}
	}
	for _, a := range h.applied {
		if follower, ok := a.action.(Follower); ok && !a.kept {
			if !x.follow(ctx, p, h, a, follower) {
				failed = true
			}
		}
	}
	for _, a := range h.applied {
		if !a.kept && !undoable(a.action) {
			failed = true
		}
	}
	h.dirty = failed || slices.ContainsFunc(h.applied, func(a *appliedStep) bool { return a.kept && !harmless(a.action) })
}

// undoable reports whether nothing of an applied action is left after a
// rollback.
func undoable(a Applier) bool {
	_, reverts := a.(Reverter)
	_, follows := a.(Follower)
	return reverts || follows || harmless(a)
}

// harmless reports whether a host is as it was after an action was applied.
func harmless(a Applier) bool {
	_, waits := a.(Waiter)
	_, prepares := a.(Preparer)
	return waits || prepares
}

func (x *execution) revert(ctx context.Context, p *PlannedPlay, h *hostState, a *appliedStep, reverter Reverter) bool {
	s := &stepRun{execution: x, play: p, step: a.step, h: h, started: x.Now(), reverting: true}
	ctx, cancel := context.WithTimeout(ctx, max(a.step.Timeout, rollbackTimeout))
	defer cancel()
	err := s.undo(ctx, reverter)
	s.reverted(err)
	return err == nil
}

func (s *stepRun) undo(ctx context.Context, r Reverter) (err error) {
	defer func() {
		if p := recover(); p != nil { // the other steps are reverted all the same
			err = fmt.Errorf("internal error in action %s: %v", s.step.Action, p)
		}
	}()
	return r.Revert(ctx, &recorder{Host: s.h.host, s: s})
}

// reverted records how a part of the rollback ended.
func (s *stepRun) reverted(err error) {
	took := s.Now().Sub(s.started).Milliseconds()
	if err != nil {
		s.event(Event{Kind: RevertFailed, Error: err.Error(), Attempt: s.attempt, Millis: took})
		return
	}
	s.mu.Lock()
	s.h.results[s.step.ID] = &stepResult{status: statusReverted}
	s.mu.Unlock()
	for _, r := range s.h.reports {
		if r.ID == s.step.ID {
			r.Status = string(statusReverted)
		}
	}
	s.event(Event{Kind: StepReverted, Attempt: s.attempt, Millis: took})
}

// follow brings what follows from files in line with the files as they are
// now, with the step's own retries.
func (x *execution) follow(ctx context.Context, p *PlannedPlay, h *hostState, a *appliedStep, f Follower) bool {
	s := &stepRun{execution: x, play: p, step: a.step, h: h, started: x.Now(), reverting: true}
	most := max(a.step.Retry.Attempts, followAttempts)
	f.Follow()
	for s.attempt = 1; ; s.attempt++ {
		_, _, err := s.once(ctx, f)
		if err != nil && s.attempt < most && x.Sleep(ctx, followPause) == nil {
			continue
		}
		s.reverted(err)
		return err == nil
	}
}
