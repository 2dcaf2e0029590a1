package actions

import (
	"context"
	"fmt"
	"strings"

	"certbook/actions/kube"
	"certbook/engine"
	"certbook/schema"
)

// WaitReady waits until health endpoints answer.
type WaitReady struct {
	Components []string        `yaml:"components" default:"[etcd, kube-apiserver, kube-controller-manager, kube-scheduler]" doc:"static pods of this host; one without a manifest here is passed over"`
	URLs       []string        `yaml:"urls" doc:"further http or https URLs, asked from the host; the certificate is not verified"`
	Within     schema.Duration `yaml:"within" default:"3m" doc:"how long to wait"`
}

func waitReadySpec() engine.Spec {
	return engine.Spec{
		New:     func() engine.Action { return &WaitReady{} },
		Summary: "wait until the control plane's health endpoints answer",
		Doc: `Asks from the host itself: kube-apiserver's /readyz, etcd's /health on its
metrics address (which is true only with a quorum) and that enough of its other
members are connected to do without this one, and what the manifests of
the others name as their probes. It changes nothing.`,
		Example: `- id: ready
  action: wait-ready
  with: {within: 5m}`,
	}
}

var _ engine.Waiter = (*WaitReady)(nil)

// Waits implements engine.Waiter.
func (a *WaitReady) Waits() {}

// Validate implements engine.Validator.
func (a *WaitReady) Validate() error {
	for _, u := range a.URLs {
		if !strings.HasPrefix(u, "http://") && !strings.HasPrefix(u, "https://") {
			return fmt.Errorf("urls: %q is not an http or https URL", u)
		}
	}
	return nil
}

// Check implements engine.Action.
func (a *WaitReady) Check(ctx context.Context, p engine.Probe) (engine.Result, error) {
	targets, err := a.targets(ctx, p)
	if err != nil {
		return engine.Result{}, err
	}
	problems := make([]string, len(targets))
	var ask []func() error
	for i, t := range targets {
		ask = append(ask, func() error { problems[i] = t.problem(ctx, p); return nil })
	}
	_ = together(ask...)
	res := engine.Result{}
	for i, t := range targets {
		if problem := problems[i]; problem != "" {
			res.Changes = append(res.Changes, engine.Change{Subject: t.name, From: problem, To: "healthy"})
		}
	}
	return res, nil
}

// Apply implements engine.Applier.
func (a *WaitReady) Apply(ctx context.Context, h engine.Host) error {
	targets, err := a.targets(ctx, h)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, a.Within.Std())
	defer cancel()
	for _, t := range targets {
		err := poll(ctx, pollInterval, func(ctx context.Context) (bool, string, error) {
			problem := t.problem(ctx, h)
			return problem == "", problem, nil
		})
		if err != nil {
			return fmt.Errorf("%s is not healthy after %s: %w", t.name, a.Within, err)
		}
	}
	return nil
}

type target struct {
	name, url string
	etcd      *kube.Manifest // a member that others depend on
	layout    kube.Layout
}

func (t target) problem(ctx context.Context, p engine.Probe) string {
	if problem := healthProblem(ctx, p, t.url); problem != "" || t.etcd == nil {
		return problem
	}
	return quorumProblem(ctx, p, t.layout, *t.etcd)
}

func (a *WaitReady) targets(ctx context.Context, p engine.Probe) ([]target, error) {
	var list []target
	if len(a.Components) > 0 {
		layout, err := survey(ctx, p)
		if err != nil {
			return nil, err
		}
		for _, name := range a.Components {
			if m, ok := layout.Pods.Component(name); ok && m.HealthURL() != "" {
				t := target{name: name, url: m.HealthURL(), layout: layout}
				if name == kube.Etcd {
					t.etcd = &m
				}
				list = append(list, t)
			}
		}
	}
	for _, u := range a.URLs {
		list = append(list, target{name: u, url: u})
	}
	return list, nil
}
