package actions

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"certbook/actions/kube"
	"certbook/engine"
	"certbook/schema"
)

// RenewCerts renews a control plane's certificates with the host's own
// kubeadm.
type RenewCerts struct {
	Before   schema.Duration `yaml:"before" default:"30d" doc:"renew what ends within this time"`
	Names    []string        `yaml:"names" doc:"only these certificates, by kubeadm's names; all when not given"`
	Force    bool            `yaml:"force" doc:"renew also what is not due"`
	Missing  string          `yaml:"missing" default:"fail" enum:"fail|skip" doc:"what a certificate that should be there and is not does"`
	External string          `yaml:"external" default:"fail" enum:"fail|skip" doc:"what a due certificate whose CA's key is not on this host does"`
	Config   string          `yaml:"config" doc:"a kubeadm configuration file on the host; otherwise the one in the cluster, or one made from what is on disk when the API cannot be reached"`
	Scratch  string          `yaml:"scratch" default:"/run/certbook/${run.id}/renew" doc:"a directory on the host, removed afterwards, in which kubeadm works on copies"`
	Stash    string          `yaml:"stash" default:"/var/lib/certbook/replaced/${run.id}/renew" doc:"a directory on the host that keeps the replaced files"`

	targets  []kube.Found // what Check wants to renew, as it was
	passed   []Outcome    // what Check has passed over
	replaced stash
	applied  bool
	fellBack bool
	warnings []string
}

// Renewal is what RenewCerts did.
type Renewal struct {
	Renewed  []string  `expr:"renewed" doc:"names of the certificates that were renewed and proven" json:"renewed"`
	Outcomes []Outcome `expr:"outcomes" doc:"one for each certificate that is not simply ok" json:"outcomes"`
	FellBack bool      `expr:"fell_back" doc:"the configuration in the cluster could not be read; one was made from what is on disk" json:"fell_back"`
}

// Outcome is how one certificate fared.
type Outcome struct {
	Name   string `expr:"name" doc:"kubeadm's name" json:"name"`
	Result string `expr:"result" doc:"renewed, missing, external-ca, ca-ends-first or a finding such as validity-changed" json:"result"`
	Detail string `expr:"detail" doc:"one sentence" json:"detail"`
}

func renewCertsSpec() engine.Spec {
	return engine.Spec{
		New:     func() engine.Action { return &RenewCerts{} },
		Outputs: Renewal{},
		Summary: "renew the certificates that are due, with the host's kubeadm",
		Doc: `kubeadm writes a certificate's key before the certificate, in place, and stops
in the middle of its list at the first error. Therefore it works on copies in a
scratch directory (kubeadm --rootfs) here. Each new certificate is judged by
evidence before anything is installed: a new serial, a later end, the same
subject, SANs, key usages and key algorithm as the old one, a key that matches,
a signature by the CA on disk. Only then each pair replaces the old files,
atomically file by file; owner, mode and symbolic links stay. The replaced files
are kept in stash, from where a rollback brings them back.

The command fits the host's kubeadm: "alpha certs renew" up to 1.19, "certs
renew" from 1.20. (Later versions accept "alpha" and do nothing; that cannot
happen here.) When the cluster's configuration cannot be read kubeadm would use
defaults (RSA, one year, the default directory); Certbook then gives it a
configuration made from the certificates on disk.

CAs are never renewed. A certificate whose CA ends first is renewed with a
warning; one whose CA has ended, whose CA's key is missing or does not match, or
whose file or CA is damaged, fails the step before anything is changed. A damaged
one does so also when it is the only one that is not good.`,
		Example: `- id: renew
  action: renew-certs
  with: {before: 30d}
  timeout: 5m`,
	}
}

var _ engine.Reverter = (*RenewCerts)(nil)

// Check implements engine.Action. Before Apply it finds what to renew; after it
// it proves what was renewed.
func (a *RenewCerts) Check(ctx context.Context, p engine.Probe) (engine.Result, error) {
	if a.applied {
		return a.prove(ctx, p)
	}
	layout, now, err := surveyNow(ctx, p)
	if err != nil {
		return engine.Result{}, err
	}
	return a.find(ctx, p, layout, now)
}

// find lists what is to be renewed and refuses what cannot be.
func (a *RenewCerts) find(ctx context.Context, p engine.Probe, layout kube.Layout, now time.Time) (engine.Result, error) {
	found := kube.Inventory(layout, nil)
	if err := a.known(found); err != nil {
		return engine.Result{}, err
	}
	out := Renewal{}
	var problems []string
	a.targets = nil
	for _, f := range found {
		if !a.concerns(f) {
			continue
		}
		outcome, problem, target := a.triage(f, f.State(now, a.Before.Std()))
		if outcome.Name != "" {
			out.Outcomes = append(out.Outcomes, outcome)
		}
		if problem != "" {
			problems = append(problems, problem)
		}
		if target {
			a.targets = append(a.targets, f)
		}
	}
	a.passed = out.Outcomes
	res := engine.Result{Outputs: out}
	caProblems, err := a.authorities(ctx, p, found, now, &res)
	if err != nil {
		return res, err
	}
	if problems = append(problems, caProblems...); len(problems) > 0 {
		return res, fmt.Errorf("%s", strings.Join(problems, "; "))
	}
	for _, f := range a.targets {
		_, notAfter := f.Validity()
		res.Changes = append(res.Changes, engine.Change{
			Subject: f.Name, Path: f.Path, Before: certificate(f),
			From: fmt.Sprintf("%s (%s)", f.State(now, a.Before.Std()), days(now, notAfter)), To: "renewed",
		})
	}
	return res, nil
}

func days(now, t time.Time) string {
	if d := t.Sub(now); d < 0 {
		return "ended " + kube.Span(-d) + " ago"
	}
	return kube.Span(t.Sub(now)) + " left"
}

// known refuses names that no certificate has.
func (a *RenewCerts) known(found []kube.Found) error {
	var names []string
	for _, f := range found {
		if f.Renewable {
			names = append(names, f.Name)
		}
	}
	for _, n := range a.Names {
		if !slices.Contains(names, n) {
			return fmt.Errorf("names: this host has no certificate %q that kubeadm renews%s", n, schema.Suggest(n, names))
		}
	}
	return nil
}

// triage decides what one certificate needs.
func (a *RenewCerts) triage(f kube.Found, s kube.State) (outcome Outcome, problem string, target bool) {
	switch {
	case s == kube.Missing && f.Optional:
	case s == kube.Missing:
		outcome = Outcome{Name: f.Name, Result: "missing", Detail: f.Path + " does not exist"}
		if a.Missing == "fail" {
			problem = fmt.Sprintf("%s: %s does not exist, and kubeadm renews only what exists; restore it, or set missing: skip", f.Name, f.Path)
		}
	case s == kube.Unreadable:
		problem = fmt.Sprintf("%s: %s: %s; restore it from a backup, or leave it out with names", f.Name, f.Path, f.Reason)
	case s == kube.OK && !a.Force:
	case f.External:
		outcome = Outcome{Name: f.Name, Result: "external-ca", Detail: "the key of CA " + f.CA + " is not on this host"}
		if a.External == "fail" {
			problem = fmt.Sprintf("%s is due, but the key of CA %s is not on this host (external CA): have it signed there, or set external: skip", f.Name, f.CA)
		}
	default:
		target = true
	}
	return outcome, problem, target
}

// concerns says whether a certificate is one of those to look at.
func (a *RenewCerts) concerns(f kube.Found) bool {
	return f.Renewable && (a.Names == nil || slices.Contains(a.Names, f.Name))
}

// authorities looks at the CAs that sign the targets, and for those that cannot
// be read.
func (a *RenewCerts) authorities(ctx context.Context, p engine.Probe, found []kube.Found, now time.Time, res *engine.Result) ([]string, error) {
	var problems, keys []string
	var cas []kube.Found
	for _, ca := range found {
		signs := func(f kube.Found) bool { return f.CA == ca.Name }
		switch {
		case ca.Kind != kube.KindCA:
		case slices.ContainsFunc(a.targets, signs):
			cas = append(cas, ca)
			keys = append(keys, ca.KeyPath)
		case ca.Leaf() == nil && slices.ContainsFunc(found, func(f kube.Found) bool { return signs(f) && a.concerns(f) && !f.Absent }):
			problems = append(problems, unreadableCA(ca))
		}
	}
	if len(cas) == 0 {
		return problems, nil
	}
	public, err := p.PublicKeys(ctx, keys...)
	if err != nil {
		return nil, fmt.Errorf("keys of the CAs: %w", err)
	}
	for _, ca := range cas {
		leaf := ca.Leaf()
		switch {
		case leaf == nil:
			problems = append(problems, unreadableCA(ca))
		case now.After(leaf.NotAfter):
			problems = append(problems, fmt.Sprintf("CA %s ended on %s: renewal cannot help, rotate the CA", ca.Name, leaf.NotAfter.UTC().Format(time.DateOnly)))
		case string(public[ca.KeyPath]) != string(leaf.RawSubjectPublicKeyInfo):
			problems = append(problems, fmt.Sprintf("CA %s: the key %s does not match the certificate %s", ca.Name, ca.KeyPath, ca.Path))
		case leaf.NotAfter.Sub(now) < a.Before.Std():
			res.Warnings = append(res.Warnings, fmt.Sprintf("CA %s ends on %s, before what it signs: rotate the CA", ca.Name, leaf.NotAfter.UTC().Format(time.DateOnly)))
		}
	}
	return problems, nil
}

func unreadableCA(ca kube.Found) string {
	return fmt.Sprintf("CA %s: %s: %s; restore it from a backup", ca.Name, ca.Path, ca.Reason)
}

// prove judges what is on disk now against what was there before.
func (a *RenewCerts) prove(ctx context.Context, p engine.Probe) (engine.Result, error) {
	out := Renewal{FellBack: a.fellBack, Outcomes: slices.Clone(a.passed)}
	res := engine.Result{Warnings: slices.Clone(a.warnings)}
	list, err := judgeAll(ctx, p, a.targets, "a proven renewal")
	if err != nil {
		return res, err
	}
	for _, j := range sortOut(list, &res) {
		out.Renewed = append(out.Renewed, j.name)
		out.Outcomes = append(out.Outcomes, outcomes(j.name, j.findings)...)
	}
	res.Outputs = out
	return res, nil
}

func ends(f kube.Found) string {
	if f.Leaf() == nil {
		return f.Reason
	}
	_, notAfter := f.Validity()
	return "ends " + notAfter.UTC().Format(time.DateOnly)
}

func outcomes(name string, findings []kube.Finding) []Outcome {
	list := []Outcome{{Name: name, Result: "renewed", Detail: "proven by its serial, end, subject, key and signature"}}
	for _, f := range findings {
		result := string(f.Kind)
		if f.Kind == kube.OutlivesCA {
			result = "ca-ends-first"
		}
		list = append(list, Outcome{Name: name, Result: result, Detail: describeFinding(f)})
	}
	return list
}

func describeFinding(f kube.Finding) string {
	switch {
	case f.Before != "" && f.After != "":
		return fmt.Sprintf("%s: %s, was %s", f.Text, f.After, f.Before)
	case f.After != "":
		return fmt.Sprintf("%s: %s", f.Text, f.After)
	}
	return f.Text
}

func explain(findings []kube.Finding) string {
	var texts []string
	for _, f := range findings {
		if f.Severity == kube.Fatal {
			texts = append(texts, describeFinding(f))
		}
	}
	return strings.Join(texts, ", ")
}

func find(found []kube.Found, name string) kube.Found {
	for _, f := range found {
		if f.Name == name {
			return f
		}
	}
	return kube.Found{Absent: true, Reason: "no such file"}
}

func chainOf(found []kube.Found, ca string) []*x509.Certificate {
	return find(found, ca).Chain
}

// Revert implements engine.Reverter.
func (a *RenewCerts) Revert(ctx context.Context, h engine.Host) error {
	if err := a.removeScratch(ctx, h); err != nil {
		return err
	}
	return a.replaced.revert(ctx, h)
}
