package actions

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"certbook/actions/kube"
	"certbook/engine"
)

// VerifyCerts proves that the control plane uses the certificates on disk.
type VerifyCerts struct {
	Components []string `yaml:"components" default:"[etcd, kube-apiserver, kube-controller-manager, kube-scheduler]" doc:"the static pods' containers to look at"`
	Processes  bool     `yaml:"processes" default:"true" doc:"also prove that each process is younger than the files which it reads only once"`
	Enabled    bool     `yaml:"enabled" default:"true" doc:"false skips the proof and says so"`
	Fail       bool     `yaml:"fail" default:"true" doc:"fail when something is not proven; false only tells, in the outputs"`
}

// Proofs is what VerifyCerts finds.
type Proofs struct {
	Uses    []Use `expr:"uses" doc:"one for each port and each process" json:"uses"`
	Stale   int   `expr:"stale" doc:"uses of a certificate that was replaced on disk" json:"stale"`
	Refused int   `expr:"refused" doc:"uses of a certificate that is not accepted any more" json:"refused"`
}

func verifyCertsSpec() engine.Spec {
	return engine.Spec{
		New:     func() engine.Action { return &VerifyCerts{} },
		Outputs: Proofs{},
		Summary: "prove that the certificates on disk are the ones in use",
		Doc: `By a TLS handshake from the host itself with kube-apiserver, etcd's client port
and etcd's peer port: the certificate that is served there must be the one on
disk. kube-controller-manager and kube-scheduler serve certificates that they
make in memory, and their health endpoints answer 200 even when their client
certificate has expired; for the kubeconfigs which they read only once, the proof
is that their container is younger than the file. When it is not, the end of its
log tells whether the API server refuses it already.

It fails and names every port and process that uses something else. Give it
retries: a process may need a second to read a new file.`,
		Example: `- id: verify
  action: verify-certs
  retry: {attempts: 10, delay: 2s}`,
	}
}

var _ engine.Action = (*VerifyCerts)(nil)

// Check implements engine.Action.
func (a *VerifyCerts) Check(ctx context.Context, p engine.Probe) (engine.Result, error) {
	if !a.Enabled {
		return engine.Result{Outputs: Proofs{}, Warnings: []string{"not proven that the new certificates are in use: verification is turned off"}}, nil
	}
	layout, now, err := surveyNow(ctx, p)
	if err != nil {
		return engine.Result{}, err
	}
	var manifests []kube.Manifest
	for _, component := range a.Components {
		if m, ok := layout.Pods.Component(component); ok {
			manifests = append(manifests, m)
		}
	}
	var uses, processes []Use
	var warnings []string
	var runtimeProblem error
	_ = together(
		func() error {
			for _, m := range manifests {
				for _, e := range m.Serves() {
					uses = append(uses, served(ctx, p, layout, m.Component, e, now))
				}
			}
			return nil
		},
		func() error {
			processes, warnings, runtimeProblem = a.processes(ctx, p, layout, manifests, now)
			return nil
		},
	)
	return a.sumUp(engine.Result{Warnings: warnings}, append(uses, processes...), runtimeProblem)
}

// processes tells of each component's process what it holds.
func (a *VerifyCerts) processes(ctx context.Context, p engine.Probe, layout kube.Layout, manifests []kube.Manifest, now time.Time) (uses []Use, warnings []string, err error) {
	if !a.Processes || len(manifests) == 0 {
		return nil, nil, nil
	}
	c, err := findRuntime(ctx, p, layout)
	if err != nil {
		return nil, nil, err
	}
	if c.tool == "" {
		return nil, []string{"not proven that the processes are younger than their kubeconfigs: " + c.missing().Error()}, nil
	}
	running, err := c.list(ctx, p, a.Components...)
	for i := 0; i < len(manifests) && err == nil; i++ {
		var more []Use
		more, err = held(ctx, p, running.of(manifests[i].Component), layout, manifests[i], now)
		uses = append(uses, more...)
	}
	return uses, nil, err
}

// sumUp makes the result of what was found.
func (a *VerifyCerts) sumUp(res engine.Result, uses []Use, problem error) (engine.Result, error) {
	out := Proofs{Uses: uses}
	var problems []string
	for _, u := range uses {
		switch kube.Usage(u.State) {
		case kube.Current:
			if u.Address != "" {
				res.Done = append(res.Done, engine.Change{Subject: u.Component + " at " + u.Address, To: "serves " + u.Path + ", serial " + u.Serial,
					After: map[string]string{"serial": u.Serial, "path": u.Path}})
			}
			continue
		case kube.Stale:
			out.Stale++
		case kube.Refused:
			out.Refused++
		}
		problems = append(problems, u.Component+": "+u.Reason)
	}
	if problem != nil {
		problems = append(problems, problem.Error())
	}
	res.Outputs = out
	switch {
	case len(problems) > 0 && a.Fail:
		return res, errors.New(strings.Join(slices.Compact(problems), "; "))
	case len(problems) > 0:
		res.Warnings = append(res.Warnings, problems...)
	}
	return res, nil
}
