package actions

import (
	"context"
	"time"

	"certbook/actions/kube"
	"certbook/engine"
	"certbook/schema"
)

// CheckExpiry reads every certificate of a control plane and judges it by the
// host's clock. It changes nothing and fails only when the host cannot be
// read; what it finds is in its outputs.
type CheckExpiry struct {
	Before   schema.Duration `yaml:"before" default:"30d" doc:"a certificate that ends within this time is due"`
	CABefore schema.Duration `yaml:"ca_before" default:"180d" doc:"a CA that ends within this time is due; renewal cannot help there"`
	Homes    []string        `yaml:"homes" default:"[/root, '/home/*']" doc:"homes in which to look for copies of admin.conf with an older certificate"`
}

// Expiry is what CheckExpiry finds.
type Expiry struct {
	Certificates []Certificate `expr:"certificates" doc:"every certificate, see below" json:"certificates"`
	Due          int           `expr:"due" doc:"certificates that renew-certs would renew: due, expired or not yet valid, their CA's key at hand" json:"due"`
	KubeletDue   int           `expr:"kubelet_due" doc:"1 when the kubelet's client certificate is due, expired or missing" json:"kubelet_due"`
	ExternalDue  int           `expr:"external_due" doc:"certificates that are due and whose CA's key is not on this host" json:"external_due"`
	CADue        int           `expr:"ca_due" doc:"CAs that end within ca_before" json:"ca_due"`
	Expired      int           `expr:"expired" doc:"certificates that have ended, CAs included" json:"expired"`
	EtcdExpired  int           `expr:"etcd_expired" doc:"those of the expired that etcd shows to its peers and clients" json:"etcd_expired"`
	NotYetValid  int           `expr:"not_yet_valid" doc:"certificates that begin in the future" json:"not_yet_valid"`
	Missing      int           `expr:"missing" doc:"certificates that should be there and are not" json:"missing"`
	Unreadable   int           `expr:"unreadable" doc:"files that hold no readable certificate" json:"unreadable"`
	DaysLeft     int           `expr:"days_left" doc:"whole days until the first certificate ends, negative when one has" json:"days_left"`
	StaleCopies  []string      `expr:"stale_copies" doc:"files in homes that hold an older certificate than admin.conf" json:"stale_copies"`
	CAs          string        `expr:"cas" doc:"fingerprint over the certificates with which the CAs sign: the same on all masters of a cluster" json:"cas"`
	Node         string        `expr:"node" doc:"the node's name in the cluster" json:"node"`
}

// Certificate is one certificate of a host.
type Certificate struct {
	Name      string `expr:"name" doc:"kubeadm's name, or kubelet-client, kubelet-server, ca, etcd-ca, front-proxy-ca, FILE/ca" json:"name"`
	Path      string `expr:"path" doc:"the file" json:"path"`
	State     string `expr:"state" doc:"ok, due, expired, not-yet-valid, missing or unreadable" json:"state"`
	Reason    string `expr:"reason" doc:"why it is missing or unreadable" json:"reason,omitempty"`
	NotAfter  string `expr:"not_after" doc:"when it ends, RFC 3339, UTC" json:"not_after,omitempty"`
	DaysLeft  int    `expr:"days_left" doc:"whole days left, negative when it has ended" json:"days_left"`
	Serial    string `expr:"serial" doc:"serial number, hexadecimal" json:"serial,omitempty"`
	SHA256    string `expr:"sha256" doc:"fingerprint, hexadecimal" json:"sha256,omitempty"`
	Subject   string `expr:"subject" doc:"subject, RFC 2253" json:"subject,omitempty"`
	CA        string `expr:"ca" doc:"the CA that signs it" json:"ca,omitempty"`
	IsCA      bool   `expr:"is_ca" doc:"it is a CA's own certificate" json:"is_ca,omitempty"`
	Renewable bool   `expr:"renewable" doc:"kubeadm renews it" json:"renewable,omitempty"`
	External  bool   `expr:"external" doc:"its CA's key is not on this host" json:"external,omitempty"`
	Optional  bool   `expr:"optional" doc:"many healthy hosts have none" json:"optional,omitempty"`
}

func checkExpirySpec() engine.Spec {
	return engine.Spec{
		New:     func() engine.Action { return &CheckExpiry{} },
		Outputs: Expiry{},
		Summary: "read every certificate of the control plane and say how long it lasts",
		Doc: `Looks at the certificates directory (from kube-apiserver's flags, so that
kubespray's /etc/kubernetes/ssl is found), the stacked etcd's certificates, the
client certificate and the CA inside each kubeconfig, the kubelet's client and
serving certificates and the three CAs, and for copies of admin.conf in the homes
of users. It warns of what a renewal would not put right: a CA that ends or is
being rotated, a certificate that does not name the address by which its server is
reached, a kubeconfig that trusts another CA, a copy that still holds an older
certificate, a kubelet that waits for someone to approve its request.

It judges by the host's clock, changes nothing, and does not fail because
something is due: use its outputs in conditions.`,
		Example: `- id: expiry
  action: check-expiry
  with: {before: 30d}
- id: backup
  action: backup-dir
  when: steps.expiry.due > 0
  with: {src: /etc/kubernetes, dest: /var/backups/certbook}`,
	}
}

var _ engine.Action = (*CheckExpiry)(nil)

// Check implements engine.Action.
func (a *CheckExpiry) Check(ctx context.Context, p engine.Probe) (engine.Result, error) {
	var layout kube.Layout
	var now time.Time
	var configs []engine.File
	var configsErr error // what cannot be read there does no harm
	err := together(
		func() (err error) { layout, now, err = surveyNow(ctx, p); return err },
		func() error { configs, configsErr = homeConfigs(ctx, p, a.Homes); return nil },
	)
	if err != nil {
		return engine.Result{}, err
	}
	found := kube.Inventory(layout, nil)
	out := a.judge(found, now)
	out.Node, out.CAs = layout.Node.Name, kube.Authorities(found)
	warnings := append(authorityWarnings(out), kube.Warnings(layout, found, now)...)
	copies, more := olderCopies(configs, found)
	if configsErr != nil {
		more = append(more, configsErr.Error())
	}
	out.StaleCopies = copies
	return engine.Result{Outputs: out, Warnings: append(warnings, more...)}, nil
}

// judge sums up the certificates of a host.
func (a *CheckExpiry) judge(found []kube.Found, now time.Time) Expiry {
	out := Expiry{DaysLeft: daysLeft(now, now.Add(100*365*24*time.Hour))}
	for _, f := range found {
		if f.Optional && f.Absent {
			continue
		}
		before := a.Before
		if f.Kind == kube.KindCA {
			before = a.CABefore
		}
		c := describeCertificate(f, f.State(now, before.Std()), now)
		out.Certificates = append(out.Certificates, c)
		out.count(f, kube.State(c.State))
		if f.Leaf() != nil {
			out.DaysLeft = min(out.DaysLeft, c.DaysLeft)
		}
	}
	return out
}

func (e *Expiry) count(f kube.Found, s kube.State) {
	ends := s == kube.Due || s == kube.Expired || s == kube.NotYetValid
	switch {
	case ends && f.Kind == kube.KindCA:
		e.CADue++
	case ends && f.External:
		e.ExternalDue++
	case ends && f.Renewable:
		e.Due++
	case isKubeletClient(f) && (ends || s == kube.Missing):
		e.KubeletDue = 1
	}
	switch s {
	case kube.Expired:
		e.Expired++
		if f.Name == "etcd-server" || f.Name == "etcd-peer" {
			e.EtcdExpired++
		}
	case kube.NotYetValid:
		e.NotYetValid++
	case kube.Missing:
		e.Missing++
	case kube.Unreadable:
		e.Unreadable++
	}
}

func isKubeletClient(f kube.Found) bool {
	return f.Name == "kubelet-client" || f.Name == "kubelet.conf"
}

func describeCertificate(f kube.Found, s kube.State, now time.Time) Certificate {
	c := Certificate{
		Name: f.Name, Path: f.Path, State: string(s), Reason: f.Reason, CA: f.CA,
		IsCA: f.Kind == kube.KindCA, Renewable: f.Renewable && !f.External, External: f.External, Optional: f.Optional,
	}
	if leaf := f.Leaf(); leaf != nil {
		_, notAfter := f.Validity()
		c.NotAfter, c.DaysLeft = notAfter.UTC().Format(time.RFC3339), daysLeft(now, notAfter)
		c.Serial, c.SHA256, c.Subject = kube.Serial(leaf), kube.Fingerprint(leaf), kube.Subject(leaf)
	}
	return c
}
