package actions

import (
	"context"
	"time"

	"certbook/actions/kube"
	"certbook/engine"
)

// judge says whether a component must be restarted, by what runs of it, and
// otherwise proves that it was.
func (a *RestartContainer) judge(ctx context.Context, p engine.Probe, c containers, layout kube.Layout, m kube.Manifest, list listing) (change, done *engine.Change, err error) {
	if c.tool == "" {
		return a.judgeBlind(c, m.Component)
	}
	running := list.of(m.Component)
	if len(running) == 0 {
		return &engine.Change{Subject: m.Component, From: "not running", To: "running"}, nil, nil
	}
	youngest := running[0]
	stopped, was := a.restarted[m.Component]
	older := a.older(layout, m, youngest.CreatedAt)
	if older == "" {
		older = behind(ctx, p, layout, m, youngest.CreatedAt)
	}
	switch {
	case older != "":
		return &engine.Change{Subject: m.Component, From: older, To: "restarted",
			Before: map[string]string{"container": youngest.ID, "started": youngest.CreatedAt.Format(time.RFC3339Nano)}}, nil, nil
	case a.Force && !was && !a.following:
		return &engine.Change{Subject: m.Component, From: "running", To: "restarted",
			Before: map[string]string{"container": youngest.ID}}, nil, nil
	case was:
		return nil, &engine.Change{Subject: m.Component, From: containerOrNone(stopped), To: "container " + short(youngest.ID),
			Before: map[string]string{"container": stopped},
			After:  map[string]string{"container": youngest.ID, "started": youngest.CreatedAt.Format(time.RFC3339Nano)}}, nil
	}
	return nil, nil, nil
}

// judgeBlind is judge without a tool that lists containers: only the first
// time, and only by moving the manifest.
func (a *RestartContainer) judgeBlind(c containers, component string) (change, done *engine.Change, err error) {
	if a.Method == "container" {
		return nil, nil, c.missing()
	}
	if _, was := a.restarted[component]; was {
		return nil, &engine.Change{Subject: component, To: "restarted by its manifest"}, nil
	}
	if _, was := a.undone[component]; a.following && !was {
		return nil, nil, nil // it has never seen other files
	}
	return &engine.Change{Subject: component, From: "of unknown age, there is no tool to ask", To: "restarted"}, nil, nil
}

// older says than which of the files that m's process reads its credentials
// from it is older, or would be in this plan; "" is none.
func (a *RestartContainer) older(layout kube.Layout, m kube.Manifest, started time.Time) string {
	for _, r := range m.Reads() {
		f, ok := layout.File(r.Path)
		switch {
		case r.Live && !a.All:
		case ok && f.Pending:
			return "older than " + r.Path + " will be"
		case ok && f.ModTime.After(started):
			return "older than " + r.Path
		}
	}
	return ""
}

// behind says in what way a process that should have read a changed
// certificate again by itself has not; "" is none.
func behind(ctx context.Context, p engine.Probe, layout kube.Layout, m kube.Manifest, started time.Time) string {
	for _, e := range m.Serves() {
		f, ok := layout.File(e.Path)
		if !ok || f.Pending || !f.ModTime.After(started) {
			continue
		}
		switch use := served(ctx, p, layout, m.Component, e, started); kube.Usage(use.State) {
		case kube.Stale, kube.Refused:
			return use.Reason
		}
	}
	return ""
}

// readsAgain is how long a process may take to read a changed certificate
// again: etcd does at each handshake, kube-apiserver when the file changes.
const readsAgain = 10 * time.Second

// settle waits until what reads a changed certificate by itself has done so, or
// has had the time to.
func (a *RestartContainer) settle(ctx context.Context, h engine.Host, layout kube.Layout, list listing) error {
	for _, component := range a.Components {
		m, ok := layout.Pods.Component(component)
		running := list.of(component)
		if !ok || len(running) == 0 {
			continue
		}
		started := running[0].CreatedAt
		if a.older(layout, m, started) != "" {
			continue // it must restart anyway
		}
		patient, cancel := context.WithTimeout(ctx, readsAgain)
		_ = poll(patient, pollInterval, func(ctx context.Context) (bool, string, error) { // judge tells the end of it
			return behind(ctx, h, layout, m, started) == "", "", nil
		})
		cancel()
	}
	return ctx.Err()
}

func containerOrNone(id string) string {
	if id == "" {
		return "not running"
	}
	return "container " + short(id)
}

func short(id string) string { return id[:min(12, len(id))] }
