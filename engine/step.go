package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"time"
)

// status is how a step ended on a host.
type status string

const (
	statusOK       status = "ok"
	statusChanged  status = "changed"
	statusSkipped  status = "skipped"
	statusFailed   status = "failed"
	statusPlanned  status = "planned"
	statusPending  status = "pending"
	statusReverted status = "reverted"
)

// stepResult is what later expressions can know of a step.
type stepResult struct {
	status  status
	outputs any
}

// step carries out one step on one host: the one loop of the engine.
func (x *execution) step(ctx context.Context, p *PlannedPlay, step *PlannedStep, h *hostState) {
	s := &stepRun{execution: x, play: p, step: step, h: h, started: x.Now()}
	s.event(Event{Kind: StepStarted})
	s.run(ctx)
}

// stepRun is one step on one host.
type stepRun struct {
	*execution
	play    *PlannedPlay
	step    *PlannedStep
	h       *hostState
	started time.Time
	attempt int

	reverting bool // goes on without a log: half a rollback is worse than an unrecorded one
}

func (s *stepRun) event(e Event) {
	e.Play, e.Host, e.Step, e.Action = s.play.Name, s.h.name, s.step.ID, s.step.Action
	s.emit(e)
}

// end records how the step ended, for expressions, views and the report.
func (s *stepRun) end(st status, e Event, res Result) {
	s.mu.Lock()
	s.h.results[s.step.ID] = &stepResult{status: st, outputs: res.Outputs}
	s.mu.Unlock()
	s.h.awaited = s.h.awaited || st == statusPlanned || st == statusPending
	took := s.Now().Sub(s.started)
	reason := e.Message
	if e.Error != "" {
		reason = e.Error
	}
	s.h.reports = append(s.h.reports, &StepReport{
		ID: s.step.ID, Action: s.step.Action, Status: string(st), Reason: reason,
		Changes: e.Changes, Done: e.Done, Warnings: res.Warnings, Outputs: res.Outputs, Duration: took,
	})
	e.Millis, e.Warnings = took.Milliseconds(), res.Warnings
	if res.Outputs != nil {
		e.Outputs, _ = valueOf(reflect.ValueOf(res.Outputs)).(map[string]any)
	}
	s.event(e)
}

func (s *stepRun) fail(err error, res Result) {
	s.h.err = fmt.Errorf("%s: %w", s.step.ID, err)
	s.end(statusFailed, Event{Kind: StepFailed, Error: err.Error(), Attempt: s.attempt}, res)
}

func (s *stepRun) run(ctx context.Context) {
	if s.step.Off != "" {
		s.end(statusSkipped, Event{Kind: StepSkipped, Message: "turned off: " + s.step.Off}, Result{})
		return
	}
	bound := s.step.hosts[s.h.name]
	if on := s.withheld(bound.when); on != "" {
		s.end(statusPending, Event{Kind: StepPending, Message: fmt.Sprintf("its condition depends on step %s", on)}, Result{})
		return
	}
	if bound.when != nil {
		ok, err := bound.when.evalBool(s.values(bound.when.remote))
		if err != nil {
			s.fail(err, Result{})
			return
		}
		if !ok {
			s.end(statusSkipped, Event{Kind: StepSkipped, Message: "not needed: " + bound.when.text}, Result{})
			return
		}
	}
	for _, e := range bound.exprs {
		if on := s.withheld(e); on != "" {
			s.end(statusPending, Event{Kind: StepPending, Message: fmt.Sprintf("its arguments depend on step %s", on)}, Result{})
			return
		}
	}
	remote := false
	for _, e := range bound.exprs {
		remote = remote || e.remote
	}
	action, err := s.step.action(s.h.name, s.values(remote), s.secrets)
	if err != nil {
		s.fail(err, Result{})
		return
	}
	if s.plan.Run.Plan {
		s.foresee(ctx, action)
		return
	}
	s.attempts(ctx, bound, action)
}

// attempts tries the step until it succeeds or its retries are used up.
func (s *stepRun) attempts(ctx context.Context, bound *boundStep, action Action) {
	retry := s.step.Retry
	most := float64(retry.MaxDelay)
	pause := min(float64(retry.Delay), most)
	for s.attempt = 1; ; s.attempt++ {
		done, res, err := s.once(ctx, action)
		if err == nil && bound.until != nil {
			err = s.until(bound.until, done, res)
		}
		if err == nil {
			s.succeed(done, res)
			return
		}
		if s.attempt >= retry.Attempts || ctx.Err() != nil || s.halted(ctx) {
			s.fail(err, res)
			return
		}
		wait := time.Duration(pause)
		if retry.Jitter > 0 {
			wait -= time.Duration(pause * retry.Jitter * s.Rand())
		}
		s.event(Event{Kind: StepRetry, Attempt: s.attempt, Error: err.Error(),
			Message: fmt.Sprintf("attempt %d of %d failed, next in %s", s.attempt, retry.Attempts, wait.Round(time.Millisecond))})
		if s.Sleep(ctx, wait) != nil {
			s.fail(err, res)
			return
		}
		pause = min(pause*retry.Backoff, most)
	}
}

func (s *stepRun) until(e *expression, changed bool, res Result) error {
	env := s.values(e.remote)
	st := statusOK
	if changed {
		st = statusChanged
	}
	steps := maps.Clone(env["steps"].(map[string]any))
	steps[s.step.ID] = stepValues(s.step.spec, &stepResult{status: st, outputs: res.Outputs})
	env["steps"] = steps
	ok, err := e.evalBool(env)
	if err == nil && !ok {
		err = fmt.Errorf("until %q is false", e.text)
	}
	return err
}

func (s *stepRun) succeed(changed bool, res Result) {
	if changed && !res.Unchanged {
		s.end(statusChanged, Event{Kind: StepChanged, Done: res.Done, Attempt: s.attempt}, res)
		return
	}
	s.end(statusOK, Event{Kind: StepOK, Done: res.Done, Attempt: s.attempt}, res)
}

// once is Check, durable intent, Apply, Check.
func (s *stepRun) once(ctx context.Context, action Action) (changed bool, res Result, err error) {
	if s.step.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.step.Timeout)
		defer cancel()
	}
	defer func() {
		if p := recover(); p != nil { // the host is not left half changed by a bug
			err = fmt.Errorf("internal error in action %s: %v", s.step.Action, p)
		}
		if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			err = fmt.Errorf("timed out after %s: %w", s.step.Timeout, err)
		}
	}()
	host := &recorder{Host: s.h.host, s: s}
	probe := readOnly{host}
	res, err = action.Check(ctx, probe)
	if keeper, ok := action.(Keeper); ok && err == nil {
		res, err = s.take(ctx, keeper)
		return false, res, err
	}
	if err != nil || len(res.Changes) == 0 {
		return s.wasApplied(action), res, err
	}
	applier, ok := action.(Applier)
	if !ok {
		return false, res, fmt.Errorf("%s cannot make changes, but found some: %s", s.step.Action, describe(res.Changes))
	}
	s.event(Event{Kind: StepIntent, Changes: res.Changes, Attempt: s.attempt})
	if err := s.failedLog(); err != nil && !s.reverting {
		return false, res, err
	}
	s.remember(applier)
	if err := applier.Apply(ctx, host); err != nil {
		return false, res, err
	}
	res, err = action.Check(ctx, probe)
	if err == nil && len(res.Changes) > 0 {
		err = fmt.Errorf("done, but still not as it should be: %s", describe(res.Changes))
	}
	return true, res, err
}

// remember notes, before Apply, that the step may have changed the host.
func (s *stepRun) remember(a Applier) {
	if !s.wasApplied(a) {
		s.h.applied = append(s.h.applied, &appliedStep{step: s.step, action: a})
	}
	if !harmless(a) {
		s.h.dirty = true
	}
}

func (s *stepRun) wasApplied(a Action) bool {
	for _, done := range s.h.applied {
		if Action(done.action) == a {
			return true
		}
	}
	return false
}

// foresee finds what the step would change.
func (s *stepRun) foresee(ctx context.Context, action Action) {
	if s.step.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.step.Timeout)
		defer cancel()
	}
	foresight := &foresight{Probe: &recorder{Host: s.h.host, s: s}, pending: s.h.pending}
	s.attempt = 1
	res, err := s.safely(ctx, action, foresight)
	_, writes := action.(Applier)
	switch {
	case (err != nil || !writes) && len(foresight.seen) > 0:
		s.end(statusPending, Event{Kind: StepPending, Message: "judged after step " + foresight.steps()}, res)
	case err != nil && s.h.awaited:
		s.end(statusPending, Event{Kind: StepPending, Message: "judged after the changes; today: " + err.Error()}, res)
	case err != nil:
		s.fail(err, res)
	case len(res.Changes) == 0:
		s.end(statusOK, Event{Kind: StepOK}, res)
	default:
		if s.h.pending == nil {
			s.h.pending = map[string]string{}
		}
		for _, c := range res.Changes {
			if c.Path != "" {
				s.h.pending[c.Path] = s.step.ID
			}
		}
		s.end(statusPlanned, Event{Kind: StepPlanned, Changes: res.Changes}, res)
	}
}

// safely is Check in a plan.
func (s *stepRun) safely(ctx context.Context, action Action, p Probe) (res Result, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("internal error in action %s: %v", s.step.Action, p)
		}
	}()
	return action.Check(ctx, readOnly{p})
}

// withheld returns the step on whose result, withheld by a plan, an expression
// depends, or "".
func (s *stepRun) withheld(e *expression) string {
	if e == nil || !s.plan.Run.Plan {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := e.steps
	if e.anyStep {
		ids = sortedKeys(s.h.results)
	}
	for _, id := range ids {
		if r := s.h.results[id]; r != nil && (r.status == statusPlanned || r.status == statusPending) {
			return id
		}
	}
	if e.remote {
		for _, name := range sortedKeys(s.hosts) {
			for _, id := range sortedKeys(s.hosts[name].results) {
				r := s.hosts[name].results[id]
				if r.status == statusPlanned || r.status == statusPending {
					return name + "/" + id
				}
			}
		}
	}
	return ""
}

// values returns the environment of the step's expressions; that of the other
// hosts only when it is asked for, as it grows with their number.
func (s *stepRun) values(remote bool) map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	host := s.plan.Hosts[s.h.name]
	hosts := map[string]any{}
	for name, ph := range s.plan.Hosts {
		if !remote {
			break
		}
		v := ph.hostValues()
		v["steps"] = s.plan.stepValues(s.hosts[name])
		hosts[name] = v
	}
	facts := s.h.facts
	if facts == nil {
		facts = s.plan.facts
	}
	return map[string]any{
		"vars": host.Vars, "host": host.hostValues(), "run": s.plan.Run.values(), "hosts": hosts,
		"steps": s.plan.stepValues(s.h), "facts": valueOf(reflect.ValueOf(facts)),
	}
}

// stepValues returns the results of all steps on a host, nil when the run does
// not work on it.
func (p *Plan) stepValues(h *hostState) map[string]any {
	values := map[string]any{}
	for _, play := range p.Plays {
		for _, list := range [][]PlannedStep{play.Steps, play.Finally} {
			for _, step := range list {
				var r *stepResult
				if h != nil {
					r = h.results[step.ID]
				}
				values[step.ID] = stepValues(step.spec, r)
			}
		}
	}
	return values
}

// describe names changes in a few words.
func describe(changes []Change) string {
	const most = 4
	var parts []string
	for i, c := range changes {
		if i == most {
			parts = append(parts, fmt.Sprintf("and %d more", len(changes)-most))
			break
		}
		text := c.Subject
		if c.From != "" {
			text += " is " + c.From
		}
		if c.To != "" {
			text += ", want " + c.To
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, "; ")
}
