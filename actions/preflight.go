package actions

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"certbook/actions/kube"
	"certbook/engine"
	"certbook/schema"
)

// Preflight refuses to begin on a host where renewal would fail half way.
type Preflight struct {
	MaxClockSkew schema.Duration `yaml:"max_clock_skew" default:"1m" doc:"how far the host's clock may be from the controller's"`
	FreeMiB      int             `yaml:"free_mib" default:"100" doc:"free space that the file systems of paths must have, in MiB"`
	Paths        []string        `yaml:"paths" default:"[/etc/kubernetes, /var/lib]" doc:"paths whose file systems are looked at"`

	now func() time.Time
}

// Readiness is what Preflight finds.
type Readiness struct {
	Node         string   `expr:"node" doc:"the node's name in the cluster" json:"node"`
	Kubeadm      string   `expr:"kubeadm" doc:"version of the host's kubeadm, as in v1.34.4" json:"kubeadm"`
	Cluster      string   `expr:"cluster" doc:"version of the host's kube-apiserver; empty when not known" json:"cluster"`
	Runtime      string   `expr:"runtime" doc:"docker, containerd, crio or cri; empty when not known" json:"runtime"`
	ExternalCAs  []string `expr:"external_cas" doc:"CAs whose key is not on this host" json:"external_cas"`
	ExternalEtcd bool     `expr:"external_etcd" doc:"etcd is not this host's static pod" json:"external_etcd"`
	HA           bool     `expr:"ha" doc:"the cluster has several control planes" json:"ha"`
	ClockSkew    float64  `expr:"clock_skew" doc:"the host's clock minus the controller's, in seconds" json:"clock_skew"`
	EmbeddedConf bool     `expr:"kubelet_embedded" doc:"kubelet.conf embeds its client certificate" json:"kubelet_embedded"`
}

func preflightSpec(c Context) engine.Spec {
	return engine.Spec{
		New:     func() engine.Action { return &Preflight{now: c.Now} },
		Outputs: Readiness{},
		Summary: "refuse to begin where renewal would fail half way",
		Doc: `Checks that commands run as root, that kubeadm is there, knows how to renew and
fits the cluster's version, that there is space, that the clock agrees with the
controller's, that every private key (the CAs' included) belongs to its
certificate, and that no second manifest of the same component lies in the
manifests directory. Warns of other automation that renews certificates.

It changes nothing. All problems are named at once.`,
		Example: `- id: preflight
  action: preflight
  with: {max_clock_skew: 30s}`,
	}
}

var _ engine.Action = (*Preflight)(nil)

// preflightScript prints facts line by line: the user, free MiB of each path's
// file system, timers that renew certificates.
const preflightScript = `echo "uid $(id -u)"
for p; do
  d=$p
  while [ ! -e "$d" ] && [ "$d" != / ]; do d=$(dirname -- "$d"); done
  df -Pm -- "$d" 2>/dev/null | awk 'NR==2 {print "free", $4}'
done
for t in k8s-certs-renew.timer kubeadm-renew-certs.timer; do
  if systemctl is-enabled "$t" >/dev/null 2>&1; then echo "timer $t"; fi
done
exit 0`

// Check implements engine.Action.
func (a *Preflight) Check(ctx context.Context, p engine.Probe) (engine.Result, error) {
	layout, err := survey(ctx, p)
	if err != nil {
		return engine.Result{}, err
	}
	out := Readiness{
		Node: layout.Node.Name, ExternalCAs: layout.ExternalCAs, ExternalEtcd: layout.Etcd.External,
		HA: layout.HA, EmbeddedConf: layout.Kubelet.Embedded,
	}
	res := engine.Result{}
	var problems []string
	problem := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }

	if err := a.machine(ctx, p, problem, &res); err != nil {
		return res, err
	}
	if err := a.clock(ctx, p, &out, problem); err != nil {
		return res, err
	}
	a.versions(ctx, p, layout, &out, problem)
	if err := a.keys(ctx, p, layout, problem); err != nil {
		return res, err
	}
	for _, d := range layout.Pods.Duplicates {
		problem("%s; kubelet runs every file in the manifests directory, move the copy elsewhere", d)
	}
	if layout.Node.Name == "" {
		res.Warnings = append(res.Warnings, "no certificate on this host tells the node's name")
	}
	if r, err := kube.DetectRuntime(layout); err != nil {
		res.Warnings = append(res.Warnings, err.Error())
	} else {
		out.Runtime = string(r.Kind)
	}
	res.Outputs = out
	if len(problems) > 0 {
		return res, errors.New(strings.Join(problems, "; "))
	}
	return res, nil
}

// machine looks at the user, the free space and the timers.
func (a *Preflight) machine(ctx context.Context, p engine.Probe, problem func(string, ...any), res *engine.Result) error {
	argv := []string{"sh", "-c", preflightScript, "sh"}
	for _, dir := range a.Paths {
		argv = append(argv, p.Path(dir))
	}
	facts, err := p.Query(ctx, engine.Command{Argv: argv})
	if err != nil {
		return fmt.Errorf("preflight: %w", err)
	}
	disk := 0
	for line := range strings.Lines(string(facts.Stdout)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch key {
		case "uid":
			if value != "0" && p.Path("/") == "/" {
				problem("commands run as user id %s; kubeadm needs root: log in as root or let the user use sudo", value)
			}
		case "free":
			free, err := strconv.Atoi(value)
			if err == nil && free < a.FreeMiB && disk < len(a.Paths) {
				problem("%s has %d MiB free, want %d", a.Paths[disk], free, a.FreeMiB)
			}
			disk++
		case "timer":
			res.Warnings = append(res.Warnings, value+" also renews certificates on this host; turn one of the two off")
		}
	}
	return nil
}

func (a *Preflight) clock(ctx context.Context, p engine.Probe, out *Readiness, problem func(string, ...any)) error {
	before := a.now()
	host, err := p.Now(ctx)
	if err != nil {
		return fmt.Errorf("clock: %w", err)
	}
	after := a.now()
	middle := before.Add(after.Sub(before) / 2)
	skew := host.Sub(middle)
	out.ClockSkew = skew.Seconds()
	if allowed := a.MaxClockSkew.Std() + after.Sub(before)/2; skew.Abs() > allowed {
		problem("the clock differs from the controller's by %s; set it first: expiry is judged by it", skew.Round(time.Second))
	}
	return nil
}

func (a *Preflight) versions(ctx context.Context, p engine.Probe, layout kube.Layout, out *Readiness, problem func(string, ...any)) {
	kubeadm, err := kubeadmVersion(ctx, p)
	if err != nil {
		problem("%v", err)
		return
	}
	out.Kubeadm = kubeadm.String()
	cluster, err := layout.Version()
	if err != nil {
		return // no API server here, or an image without a version
	}
	out.Cluster = cluster.String()
	if err := kube.Skew(kubeadm, cluster); err != nil {
		problem("%v", err)
	}
}

// keys proves that every private key belongs to its certificate.
func (a *Preflight) keys(ctx context.Context, p engine.Probe, layout kube.Layout, problem func(string, ...any)) error {
	var paths []string
	found := kube.Inventory(layout, nil)
	for _, f := range found {
		if f.KeyPath != "" && len(f.Chain) > 0 && layout.Exists(f.KeyPath) {
			paths = append(paths, f.KeyPath)
		}
	}
	public, err := p.PublicKeys(ctx, paths...)
	if err != nil {
		return fmt.Errorf("private keys: %w", err)
	}
	for _, f := range found {
		leaf := f.Leaf()
		if leaf == nil || f.KeyPath == "" || !layout.Exists(f.KeyPath) {
			continue
		}
		key, ok := public[f.KeyPath]
		switch {
		case !ok:
			problem("%s: %s holds no readable private key", f.Name, f.KeyPath)
		case string(key) != string(leaf.RawSubjectPublicKeyInfo):
			problem("%s: the key %s does not match the certificate %s", f.Name, f.KeyPath, path.Base(f.Path))
		}
	}
	return nil
}
