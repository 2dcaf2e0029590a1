package actions

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
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
}

// Proofs is what VerifyCerts proved.
type Proofs struct {
	Proofs []Proof `expr:"proofs" doc:"one for each port and each process" json:"proofs"`
}

// Proof is one proof that a certificate is in use.
type Proof struct {
	Component string `expr:"component" doc:"the container's name" json:"component"`
	Path      string `expr:"path" doc:"the file on disk" json:"path"`
	Address   string `expr:"address" doc:"where it is served, host:port; empty for a client certificate" json:"address,omitempty"`
	Serial    string `expr:"serial" doc:"serial number that is served, hexadecimal" json:"serial,omitempty"`
	Since     string `expr:"since" doc:"when the process that holds it was started, RFC 3339" json:"since,omitempty"`
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
is that their container is younger than the file.

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
		return engine.Result{Warnings: []string{"not proven that the new certificates are in use: verification is turned off"}}, nil
	}
	layout, err := survey(ctx, p)
	if err != nil {
		return engine.Result{}, err
	}
	out := Proofs{}
	res := engine.Result{}
	var problems []string
	for _, component := range a.Components {
		m, ok := layout.Pods.Component(component)
		if !ok {
			continue
		}
		for _, e := range m.Serves() {
			proof, problem := served(ctx, p, layout, component, e)
			if problem != "" {
				problems = append(problems, problem)
				continue
			}
			out.Proofs = append(out.Proofs, proof)
			res.Done = append(res.Done, engine.Change{Subject: component + " at " + e.Address, To: "serves " + e.Path + ", serial " + proof.Serial,
				After: map[string]string{"serial": proof.Serial, "path": e.Path}})
		}
	}
	if a.Processes {
		more, err := a.processes(ctx, p, layout, &out, &res)
		problems = append(problems, more...)
		if err != nil {
			problems = append(problems, err.Error())
		}
	}
	res.Outputs = out
	if len(problems) > 0 {
		return res, errors.New(strings.Join(problems, "; "))
	}
	return res, nil
}

// served compares the certificate that a port serves with the one on disk.
func served(ctx context.Context, p engine.Probe, layout kube.Layout, component string, e kube.Endpoint) (Proof, string) {
	f, _ := layout.File(e.Path)
	chain, err := kube.ParseChain(f.Data)
	if err != nil {
		return Proof{}, fmt.Sprintf("%s: %s: %v", component, e.Path, err)
	}
	raw, err := p.Handshake(ctx, e.Address)
	if err != nil {
		return Proof{}, fmt.Sprintf("%s: %s: %v", component, e.Address, err)
	}
	if len(raw) == 0 {
		return Proof{}, fmt.Sprintf("%s: %s served no certificate", component, e.Address)
	}
	sum := sha256.Sum256(raw[0])
	if got, want := hex.EncodeToString(sum[:]), kube.Fingerprint(chain[0]); got != want {
		return Proof{}, fmt.Sprintf("%s: %s serves another certificate (sha256 %s...) than %s (sha256 %s...)", component, e.Address, got[:16], e.Path, want[:16])
	}
	return Proof{Component: component, Path: e.Path, Address: e.Address, Serial: kube.Serial(chain[0])}, ""
}

// processes looks at what is read only at start.
func (a *VerifyCerts) processes(ctx context.Context, p engine.Probe, layout kube.Layout, out *Proofs, res *engine.Result) ([]string, error) {
	c, err := findRuntime(ctx, p, layout)
	if err != nil {
		return nil, err
	}
	if c.tool == "" {
		res.Warnings = append(res.Warnings, "not proven that the processes are younger than their kubeconfigs: "+c.missing().Error())
		return nil, nil
	}
	var problems []string
	for _, component := range a.Components {
		m, ok := layout.Pods.Component(component)
		if !ok {
			continue
		}
		running, err := c.running(ctx, p, component)
		if err != nil {
			return nil, err
		}
		if len(running) == 0 {
			problems = append(problems, component+" is not running")
			continue
		}
		since := running[0].CreatedAt
		seen := map[string]bool{}
		for _, r := range m.Reads() {
			f, ok := layout.File(r.Path)
			if !ok || r.Live || seen[r.Path] {
				continue
			}
			seen[r.Path] = true
			if f.ModTime.After(since) {
				problems = append(problems, fmt.Sprintf("%s runs since %s, but %s was written at %s: it still holds the old one",
					component, since.Format(time.RFC3339), r.Path, f.ModTime.UTC().Format(time.RFC3339)))
				continue
			}
			out.Proofs = append(out.Proofs, Proof{Component: component, Path: r.Path, Since: since.Format(time.RFC3339)})
		}
	}
	return problems, nil
}
