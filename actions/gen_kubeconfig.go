package actions

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"certbook/actions/kube"
	"certbook/engine"
	"certbook/schema"
)

// GenKubeconfig makes a kubeconfig with a new client certificate.
type GenKubeconfig struct {
	Name          string          `yaml:"name" required:"true" doc:"admin, super-admin, controller-manager, scheduler, kubelet, or a name of your own"`
	ClientName    string          `yaml:"client_name" doc:"the certificate's common name; for the five names it is known: the one in the existing file, else kubeadm's"`
	Organizations []string        `yaml:"organizations" doc:"the certificate's organizations (groups); for the five names those of the existing file, else kubeadm's"`
	Path          string          `yaml:"path" doc:"where the kubeconfig goes; /etc/kubernetes/NAME.conf when not given"`
	Server        string          `yaml:"server" doc:"the server URL of a new file; an existing file keeps its own"`
	Before        schema.Duration `yaml:"before" default:"30d" doc:"make a new one when the certificate in the existing file ends within this time"`
	Force         bool            `yaml:"force" doc:"make a new one even when the existing file is good"`
	Rotate        bool            `yaml:"rotate" default:"true" doc:"for kubelet: put certificate and key where kubelet rotates them (kubelet-client-current.pem) and let kubelet.conf point there"`
	Config        string          `yaml:"config" doc:"a kubeadm configuration file on the host; otherwise one is made from what is on disk"`
	Scratch       string          `yaml:"scratch" default:"/run/certbook/${run.id}/kubeconfig" doc:"a directory on the host, removed afterwards"`
	Stash         string          `yaml:"stash" default:"/var/lib/certbook/replaced/${run.id}/kubeconfig" doc:"a directory on the host that keeps the replaced files"`

	replaced stash
	link     string // kubelet-client-current.pem, when it was led elsewhere
	made     bool
}

func genKubeconfigSpec() engine.Spec {
	return engine.Spec{
		New:     func() engine.Action { return &GenKubeconfig{} },
		Summary: "make a kubeconfig with a new client certificate",
		Doc: `Uses the host's kubeadm (kubeadm kubeconfig user). The new file is generated
aside, 0600, and proven: it parses, certificate and key belong together, common
name, organizations and CA are right. Server URL and CA bundle of the existing
file are kept, and only then it is replaced atomically, with owner and mode as
they were. When anything fails the old file stays as it is.

A file that is good is left alone: renew-certs already renews admin.conf,
controller-manager.conf and scheduler.conf.

For kubelet the node's name comes from the existing certificate, never from the
host's name. Where kubelet.conf embeds a certificate while a valid
kubelet-client-current.pem is there, it is only pointed at that.`,
		Example: `- id: kubelet_conf
  action: gen-kubeconfig
  with: {name: kubelet}`,
	}
}

var (
	_ engine.Reverter  = (*GenKubeconfig)(nil)
	_ engine.Validator = (*GenKubeconfig)(nil)
)

// Validate implements engine.Validator.
func (a *GenKubeconfig) Validate() error {
	if a.Name == "" || strings.ContainsAny(a.Name, "/ \t\n'\"") {
		return fmt.Errorf("name: %q is not a name", a.Name)
	}
	if a.Path != "" && !path.IsAbs(a.Path) {
		return fmt.Errorf("path: %q is not an absolute path", a.Path)
	}
	if !slices.Contains([]string{"admin", "super-admin", "controller-manager", "scheduler", "kubelet"}, a.Name) && a.ClientName == "" {
		return fmt.Errorf("client_name: give the common name for %q", a.Name)
	}
	if strings.ContainsAny(a.Server, "|\\&\n\r ") {
		return fmt.Errorf("server: %q is not a URL", a.Server)
	}
	return nil
}

func (a *GenKubeconfig) path() string {
	if a.Path != "" {
		return a.Path
	}
	return path.Join(kube.ConfigDir, a.Name+".conf")
}

// identity is whom a client certificate names.
type identity struct {
	name          string
	organizations []string
}

// existing is the kubeconfig as it is.
type existing struct {
	found   kube.Found // its client certificate
	config  kube.Kubeconfig
	cluster kube.Cluster
	there   bool
}

// look reads the existing file.
func (a *GenKubeconfig) look(ctx context.Context, p engine.Probe, layout kube.Layout) (existing, error) {
	var e existing
	f, err := one(ctx, p, a.path())
	if err != nil || f == nil {
		return e, err
	}
	e.there = true
	config, err := kube.ParseKubeconfig(f.Data)
	if err != nil {
		e.found.Reason = err.Error()
		return e, nil // it is replaced
	}
	e.config = config
	cluster, user, err := config.Current()
	if err != nil {
		e.found.Reason = err.Error()
		return e, nil
	}
	e.cluster = cluster
	data := user.CertData
	if len(data) == 0 && user.CertFile != "" {
		pem, err := one(ctx, p, user.CertFile)
		if err != nil || pem == nil {
			e.found.Reason = "no certificate file " + user.CertFile
			return e, err
		}
		data = pem.Data
	}
	if e.found.Chain, err = kube.ParseChain(data); err != nil {
		e.found.Reason = err.Error()
	}
	return e, nil
}

// want returns whom the certificate should name: what the step says, else the
// existing certificate, else kubeadm's own choice.
func (a *GenKubeconfig) want(e existing, layout kube.Layout, v kube.Version) (identity, error) {
	id := identity{name: a.ClientName, organizations: a.Organizations}
	if leaf := e.found.Leaf(); leaf != nil && a.ClientName == "" {
		id.name = leaf.Subject.CommonName
		if a.Organizations == nil {
			id.organizations = leaf.Subject.Organization
		}
	}
	admins := "kubeadm:cluster-admins"
	if !v.AtLeast(29) {
		admins = "system:masters"
	}
	known := map[string]identity{
		"admin":              {"kubernetes-admin", []string{admins}},
		"super-admin":        {"kubernetes-super-admin", []string{"system:masters"}},
		"controller-manager": {"system:kube-controller-manager", nil},
		"scheduler":          {"system:kube-scheduler", nil},
		"kubelet":            {"system:node:" + layout.Node.Name, []string{"system:nodes"}},
	}
	k, ok := known[a.Name]
	if !ok {
		return id, nil
	}
	if a.Name == "kubelet" && layout.Node.Name == "" && id.name == "" {
		return id, errors.New("no certificate on this host tells the node's name; give client_name: system:node:NAME")
	}
	if id.name == "" {
		id = k
	}
	if a.Name == "kubelet" && a.ClientName == "" && layout.Node.Name != "" {
		id = k
	}
	return id, nil
}

// Check implements engine.Action.
func (a *GenKubeconfig) Check(ctx context.Context, p engine.Probe) (engine.Result, error) {
	layout, now, err := surveyNow(ctx, p)
	if err != nil {
		return engine.Result{}, err
	}
	e, err := a.look(ctx, p, layout)
	if err != nil {
		return engine.Result{}, err
	}
	problem := a.problem(e, layout, now)
	switch {
	case problem != "":
		return engine.Result{Changes: []engine.Change{{Subject: a.path(), Path: a.path(), From: problem, To: "a new certificate", Before: certificate(e.found)}}}, nil
	case a.made:
		return engine.Result{Done: []engine.Change{{Subject: a.path(), Path: a.path(), To: ends(e.found), After: certificate(e.found)}}}, nil
	}
	return engine.Result{}, nil
}

// problem says why the existing file will not do.
func (a *GenKubeconfig) problem(e existing, layout kube.Layout, now time.Time) string {
	switch s := e.found.State(now, a.Before.Std()); {
	case !e.there:
		return "missing"
	case s != kube.OK:
		if e.found.Leaf() == nil {
			return "unreadable: " + e.found.Reason
		}
		_, notAfter := e.found.Validity()
		return fmt.Sprintf("%s (%s)", s, days(now, notAfter))
	case a.ClientName != "" && e.found.Leaf().Subject.CommonName != a.ClientName:
		return "for " + e.found.Leaf().Subject.CommonName
	case a.Name == "kubelet" && a.Rotate && layout.Kubelet.Embedded && a.path() == layout.Kubelet.Kubeconfig:
		return "embeds its certificate, which nothing rotates"
	case a.Force && !a.made:
		return "good"
	}
	return ""
}

// Apply implements engine.Applier.
func (a *GenKubeconfig) Apply(ctx context.Context, h engine.Host) error {
	a.replaced.dir = a.Stash
	layout, err := survey(ctx, h)
	if err != nil {
		return err
	}
	e, err := a.look(ctx, h, layout)
	if err != nil {
		return err
	}
	if a.Name == "kubelet" && a.Rotate {
		done, err := a.repoint(ctx, h, layout)
		if done || err != nil {
			a.made = err == nil
			return err
		}
	}
	version, err := kubeadmVersion(ctx, h)
	if err != nil {
		return err
	}
	id, err := a.want(e, layout, version)
	if err != nil {
		return err
	}
	err = a.generate(ctx, h, layout, version, e, id)
	if _, rmErr := h.Exec(context.WithoutCancel(ctx), engine.Command{Argv: []string{"rm", "-rf", "--", h.Path(a.Scratch)}}); err == nil {
		err = rmErr
	}
	a.made = err == nil
	return err
}

// Revert implements engine.Reverter.
func (a *GenKubeconfig) Revert(ctx context.Context, h engine.Host) error {
	if a.link != "" {
		argv := []string{"sh", "-c", relinkScript, "sh", h.Path(path.Join(a.Stash, a.link)), h.Path(a.link)}
		if _, err := h.Exec(ctx, engine.Command{Argv: argv}); err != nil {
			return fmt.Errorf("%s: %w", a.link, err)
		}
	}
	return a.replaced.revert(ctx, h)
}
