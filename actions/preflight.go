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
	FreeInodes   int             `yaml:"free_inodes" default:"1000" doc:"how many files more the file systems of paths must have room for; one that does not count is passed over"`
	Cluster      bool            `yaml:"cluster" default:"true" doc:"also look for what renews certificates from within the cluster, as kucero and ekco do; one host of a cluster is enough"`
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
fits the cluster's version, that no other kubeadm is running there, that there is
space, that the clock agrees with the controller's, that every private key (the
CAs' included) belongs to its certificate, and that no second manifest of the
same component lies in the manifests directory.

Warns of what else renews certificates: timers and cron tables that call kubeadm,
or a script that does (kubespray's and KubeKey's by name), and, when the API
server answers, kucero, ekco and Cluster API. Then it also warns of names in the
cluster's configuration (certSANs) that the certificates here do not have.

It changes nothing. All problems are named at once.`,
		Example: `- id: preflight
  action: preflight
  with: {max_clock_skew: 30s}`,
	}
}

var _ engine.Action = (*Preflight)(nil)

// preflightScript prints facts line by line: the user; free MiB and inodes of
// each path's file system; processes named kubeadm, not below a root directory
// ($1) of its own, nor those in a container with another directory in place of
// /etc/kubernetes ($2); timers and cron tables that renew certificates, or start
// a script that does. The words after these are the paths.
const preflightScript = `root=${1%/}
conf=$2
shift 2
echo "uid $(id -u)"
i=0
for p; do
  d=$p
  while [ ! -e "$d" ] && [ "$d" != / ]; do d=$(dirname -- "$d"); done
  df -Pm -- "$d" 2>/dev/null | awk -v i=$i 'NR == 2 {print "free", i, $4}'
  df -Pi -- "$d" 2>/dev/null | awk -v i=$i 'NR == 2 && $2 + 0 > 0 {print "inodes", i, $4}'
  i=$((i + 1))
done

if [ -z "$root" ]; then
  for d in /proc/[0-9]*; do
    { read -r name <"$d/comm"; } 2>/dev/null || continue
    if [ "$name" = kubeadm ] && { [ ! -e "$conf" ] || [ "$d/root$conf" -ef "$conf" ]; }; then
      echo "kubeadm ${d#/proc/} $({ tr '\0\n' '  ' <"$d/cmdline" | head -c 1024; } 2>/dev/null)"
    fi
  done
fi

nl='
'
IFS=$nl
set -- "$root"/etc/systemd/system/*.wants/*.timer "$root"/run/systemd/system/*.wants/*.timer
set -f
named=$nl$(grep -ls '^Unit=' -- "$@")$nl
labels= files=
for f; do
  if [ ! -e "$f" ] && [ ! -L "$f" ]; then continue; fi
  t=${f##*/} u=
  case $named in *"$nl$f$nl"*) u=$(sed -n 's/^Unit=//p' "$f" | tail -n 1) ;; esac
  for d in etc run usr/local/lib usr/lib lib; do
    s=$root/$d/systemd/system/${u:-${t%.timer}.service}
    if [ -f "$s" ]; then
      labels=$labels$t$nl files=$files$s$nl
      break
    fi
  done
done
set +f
set -- "$root"/etc/crontab "$root"/etc/anacrontab "$root"/etc/cron.*/* "$root"/var/spool/cron/* "$root"/var/spool/cron/crontabs/*
set -f
for f; do
  if [ -f "$f" ]; then labels=$labels${f#"$root"}$nl files=$files$f$nl; fi
done
[ -n "$files" ] || exit 0

# Most hosts have nothing that names kubeadm: one look at all files tells.
begun() { head -c 65536 -- "$@" /dev/null 2>/dev/null; }
programs() { sed '/^[[:space:]]*#/d' | grep -ao '/[A-Za-z0-9._/-]*' | grep -v -e '^/proc/' -e '^/dev/'; }
all=$files
for w in $(begun $files | programs | sort -u); do
  if [ -f "$root$w" ]; then all=$all$root$w$nl; fi
done
begun $all | grep -aq kubeadm || exit 0

text() { head -c 65536 -- "$1" 2>/dev/null | sed '/^[[:space:]]*#/d'; }
renews() { text "$1" | awk '/kubeadm/ {k = 1} /renew/ {r = 1} END {exit !(k && r)}'; }
look() {
  if renews "$2"; then
    printf 'renews %s\t%s\n' "$1" "${2#"$root"}"
    return
  fi
  for w in $(text "$2" | programs | head -n 50); do
    if [ -f "$root$w" ] && renews "$root$w"; then
      printf 'renews %s\t%s\n' "$1" "$w"
      return
    fi
  done
}
for f in $files; do
  look "${labels%%"$nl"*}" "$f"
  labels=${labels#*"$nl"}
done
exit 0`

// Check implements engine.Action.
func (a *Preflight) Check(ctx context.Context, p engine.Probe) (engine.Result, error) {
	var layout kube.Layout
	var found []kube.Found
	var facts engine.Output
	var inCluster []string
	var kubeadm kube.Version
	var public map[string][]byte
	var kubeadmErr error
	err := together(
		func() (err error) {
			if layout, err = survey(ctx, p); err != nil {
				return err
			}
			found = kube.Inventory(layout, nil)
			return together(
				func() (err error) { public, err = publicKeys(ctx, p, layout, found); return err },
				func() error { inCluster = a.inCluster(ctx, p, layout, found); return nil },
			)
		},
		func() (err error) { facts, err = a.machine(ctx, p); return err },
		func() error { kubeadm, kubeadmErr = kubeadmVersion(ctx, p); return nil },
	)
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

	a.judge(p, facts, problem, &res)
	if err := a.clock(ctx, p, &out, problem); err != nil {
		return res, err
	}
	res.Warnings = append(res.Warnings, inCluster...)
	versions(layout, kubeadm, kubeadmErr, &out, problem)
	keys(layout, found, public, problem)
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

// machine asks for the user, the free space, and what else works on
// certificates there.
func (a *Preflight) machine(ctx context.Context, p engine.Probe) (engine.Output, error) {
	argv := []string{"sh", "-c", preflightScript, "sh", p.Path("/"), p.Path(kube.ConfigDir)}
	for _, dir := range a.Paths {
		argv = append(argv, p.Path(dir))
	}
	out, err := p.Query(ctx, engine.Command{Argv: argv})
	if err != nil {
		return out, fmt.Errorf("preflight: %w", err)
	}
	return out, nil
}

// judge reads what preflightScript prints.
func (a *Preflight) judge(p engine.Probe, facts engine.Output, problem func(string, ...any), res *engine.Result) {
	running := 0
	for line := range strings.Lines(string(facts.Stdout)) {
		key, value, _ := strings.Cut(strings.TrimRight(line, "\n"), " ")
		first, rest, _ := strings.Cut(value, " ")
		switch key {
		case "uid":
			if value != "0" && p.Path("/") == "/" {
				problem("commands run as user id %s; kubeadm needs root: log in as root or let the user use sudo", value)
			}
		case "free":
			a.room(first, rest, a.FreeMiB, "MiB", problem)
		case "inodes":
			a.room(first, rest, a.FreeInodes, "inodes", problem)
		case "kubeadm":
			pid, err := strconv.Atoi(first)
			if does := kube.RunningKubeadm(rest); does != "" && err == nil && running < maxNamed {
				running++
				problem("kubeadm is running on this host (process %d: %s); wait until it has ended, or end it", pid, does)
			}
		case "renews":
			if name, file, ok := strings.Cut(value, "\t"); ok && len(res.Warnings) < maxNamed {
				res.Warnings = append(res.Warnings, kube.HostRenewal(name, file)+" also renews certificates on this host; turn one of the two off")
			}
		}
	}
}

// maxNamed bounds what is named of the same kind on one host.
const maxNamed = 16

// room judges what df says of the file system of one of the paths.
func (a *Preflight) room(index, free string, want int, unit string, problem func(string, ...any)) {
	i, err := strconv.Atoi(index)
	n, bad := strconv.Atoi(free)
	if err == nil && bad == nil && i >= 0 && i < len(a.Paths) && n < want {
		problem("%s has %d %s free, want %d", a.Paths[i], n, unit, want)
	}
}

// inCluster names what renews certificates from within the cluster, and the names
// that its configuration gives certificates which do not have them. An API server
// that does not answer is no problem.
func (a *Preflight) inCluster(ctx context.Context, p engine.Probe, layout kube.Layout, found []kube.Found) []string {
	paths := append([]string{kube.ConfigurationPath}, kube.RenewalPaths(layout.Node.Name, a.Cluster)...)
	answers, err := askCluster(ctx, p, layout, paths...)
	switch {
	case errors.Is(err, errNoCluster):
		return nil
	case err != nil:
		return []string{fmt.Sprintf("kucero, ekco and Cluster API were not looked for, nor names in the cluster's configuration: %v", err)}
	}
	names, err := kube.NameWarnings(layout, found, answers[0])
	if err != nil {
		names = []string{fmt.Sprintf("names in the cluster's configuration were not looked for: %v", err)}
	}
	renewals, err := kube.ClusterRenewals(answers[1:])
	if err != nil {
		renewals = []string{fmt.Sprintf("kucero, ekco and Cluster API were not looked for: %v", err)}
	}
	return append(names, renewals[:min(len(renewals), maxNamed)]...)
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

// versions judges whether the host's kubeadm fits its API server.
func versions(layout kube.Layout, kubeadm kube.Version, err error, out *Readiness, problem func(string, ...any)) {
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

// publicKeys returns the public keys of those found whose private key is here.
func publicKeys(ctx context.Context, p engine.Probe, layout kube.Layout, found []kube.Found) (map[string][]byte, error) {
	var paths []string
	for _, f := range found {
		if f.KeyPath != "" && len(f.Chain) > 0 && layout.Exists(f.KeyPath) {
			paths = append(paths, f.KeyPath)
		}
	}
	public, err := p.PublicKeys(ctx, paths...)
	if err != nil {
		return nil, fmt.Errorf("private keys: %w", err)
	}
	return public, nil
}

// keys proves that every private key belongs to its certificate.
func keys(layout kube.Layout, found []kube.Found, public map[string][]byte, problem func(string, ...any)) {
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
}
