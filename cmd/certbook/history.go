package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"certbook/engine"
	"certbook/engine/audit"
)

// past is a run as its log tells it.
type past struct {
	ID       string
	Log      string // the file
	Origin   engine.Origin
	Started  time.Time
	Finished time.Time // zero when the log does not say
	Outcome  engine.Outcome
	Running  bool // a process of this machine is writing the log
	Hosts    []string
	Done     map[string][]string          // play to the hosts that it has finished and changed; others can look again
	InFlight map[string]string            // host to the step that had begun to change it
	Changed  map[string]bool              // hosts on which a step had begun to make changes
	Before   map[string]map[string]string // host to file to the SHA-256 that it had before the run

	intents map[[2]string]bool // play and host
}

// readPast reads a run's log. One that was tampered with is an error; one that
// is cut off is what a crash leaves.
func readPast(file string) (*past, error) {
	p := &past{
		ID: filepath.Base(filepath.Dir(file)), Log: file, Done: map[string][]string{}, InFlight: map[string]string{},
		Changed: map[string]bool{}, Before: map[string]map[string]string{}, intents: map[[2]string]bool{},
	}
	err := audit.Read(file, func(r audit.Record) error {
		p.add(r.Event)
		return nil
	})
	var cut *audit.CutOffError
	if err != nil && !errors.As(err, &cut) {
		return nil, err
	}
	if p.Running, err = audit.Running(file); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *past) add(e engine.Event) {
	switch e.Kind {
	case engine.RunStarted:
		p.Started, p.Hosts = e.Time, e.Hosts
		if e.Origin != nil {
			p.Origin = *e.Origin
		}
	case engine.StepIntent:
		p.Changed[e.Host], p.InFlight[e.Host] = true, e.Step
		p.intents[[2]string{e.Play, e.Host}] = true
	case engine.StepChanged, engine.StepFailed, engine.StepOK, engine.StepSkipped:
		delete(p.InFlight, e.Host)
	case engine.FileWritten:
		if p.Before[e.Host] == nil {
			p.Before[e.Host] = map[string]string{}
		}
		if _, known := p.Before[e.Host][e.Path]; !known && e.Before != "" {
			p.Before[e.Host][e.Path] = e.Before
		}
	case engine.HostFinished:
		delete(p.InFlight, e.Host)
		if e.Outcome == engine.OutcomeOK && p.intents[[2]string{e.Play, e.Host}] {
			p.Done[e.Play] = append(p.Done[e.Play], e.Host)
		}
	case engine.RunFinished:
		p.Finished, p.Outcome = e.Time, e.Outcome
	}
}

// state says in a few words how the run ended.
func (p *past) state() string {
	switch {
	case p.Running:
		return "running"
	case p.Finished.IsZero():
		return "cut off"
	}
	return string(p.Outcome)
}

// changed returns the hosts on which the run had begun to change something.
func (p *past) changed() []string { return slices.Sorted(maps.Keys(p.Changed)) }

// unfinished returns the hosts on which the run had begun to change something in
// a play that it did not finish there.
func (p *past) unfinished() []string {
	hosts := map[string]bool{}
	for at := range p.intents {
		if play, host := at[0], at[1]; !slices.Contains(p.Done[play], host) {
			hosts[host] = true
		}
	}
	return slices.Sorted(maps.Keys(hosts))
}

// findPast finds a run by its id, its directory or its log; "" is the newest.
func findPast(name, runDir string) (*past, error) {
	var args []string
	if name != "" {
		args = []string{name}
	}
	file, err := auditFile(args, runDir)
	if err != nil {
		return nil, err
	}
	return readPast(file)
}

// pasts returns all runs in a directory, the oldest first, and what is wrong
// with those that cannot be read.
func pasts(runDir string) ([]*past, []error) {
	logs, err := filepath.Glob(filepath.Join(runDir, "*", "audit.jsonl"))
	if err != nil {
		return nil, []error{err}
	}
	var list []*past
	var errs []error
	for _, file := range logs {
		p, err := readPast(file)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		list = append(list, p)
	}
	return list, errs
}

// over tells whether a run has ended as wished by its log here. It may have left
// a lock all the same, when it ended while it gave that back.
func over(run, runDir string) bool {
	list, _ := pasts(runDir) // a log that cannot be read tells nothing
	return slices.ContainsFunc(list, func(p *past) bool {
		return p.ID == run && !p.Running && p.Outcome == engine.OutcomeOK && !p.Finished.IsZero()
	})
}

// again gives documents the flags that the run was started with.
func (p *past) again(o *documents) error {
	in := p.Origin.Invocation
	if in == nil {
		return fmt.Errorf("run %s: its log does not say how it was started; run it again yourself", p.ID)
	}
	if o.inventory == "" {
		o.inventory = in.Inventory
	}
	o.root = "/"
	if in.Root != "" {
		o.root = in.Root
	}
	if o.inventory != "" {
		if _, err := os.Stat(o.inventory); err != nil {
			return fmt.Errorf("the inventory of run %s: %w; name it with -i", p.ID, err)
		}
	}
	return nil
}
