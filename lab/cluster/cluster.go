// Package cluster runs a real kubeadm cluster on this machine: control-plane
// nodes in containers, each with its own systemd, containerd, kubelet and
// sshd, joined by the real kubeadm, behind a load balancer with health checks.
// It needs root, Go and Debian's packages.
//
// A Lab keeps its state, logs and keys in one directory; what takes long to
// build (programs, the nodes' root file system, images) is in the cache that
// [binaries.Cache] names.
package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Options say what cluster to make.
type Options struct {
	Version      string // of Kubernetes: one of Versions
	Masters      int    // 1 or 3
	ExternalEtcd bool   // etcd has a node of its own, and the masters none of its CA's key
	ExternalCA   bool   // no master has the key of a CA; they are in the lab's directory
}

// Node is one machine of the cluster.
type Node struct {
	Host    string // name of the container and of the host in it
	Name    string // name of the node in Kubernetes, another one
	Address string
}

// Lab is a cluster on this machine.
type Lab struct {
	Options
	Dir   string    // state, logs and keys
	Nodes []Node    // the masters
	Etcd  []Node    // those of an external etcd
	Out   io.Writer // progress; a line for each step

	started time.Time
	docker  engine
}

// The addresses of the lab: a network of its own that is on this machine only.
const (
	network  = "certbook-lab"
	subnet   = "172.30.0.0/24"
	balancer = "172.30.0.10"

	// Gateway is this machine in that network.
	Gateway = "172.30.0.1"
)

// Open returns the lab whose state is in dir. It need not be running, nor
// exist.
func Open(dir string, opt Options, out io.Writer) (*Lab, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if opt.Version == "" {
		opt.Version = Versions()[0]
	}
	if opt.Masters == 0 {
		opt.Masters = 3
	}
	if !slices.Contains(Versions(), opt.Version) {
		return nil, fmt.Errorf("version %s: a lab can have %q", opt.Version, Versions())
	}
	if opt.Masters != 1 && opt.Masters != 3 {
		return nil, fmt.Errorf("%d masters: a lab has 1 or 3", opt.Masters)
	}
	l := &Lab{Options: opt, Dir: dir, Out: out, started: time.Now()}
	for i := 1; i <= opt.Masters; i++ {
		l.Nodes = append(l.Nodes, Node{Host: fmt.Sprintf("m%d", i), Name: fmt.Sprintf("node-%c", 'a'+i-1), Address: fmt.Sprintf("172.30.0.1%d", i)})
	}
	if opt.ExternalEtcd {
		l.Etcd = []Node{{Host: "e1", Name: "etcd-a", Address: "172.30.0.21"}}
	}
	l.docker, err = newEngine()
	return l, err
}

// all are the machines of the cluster.
func (l *Lab) all() []Node { return slices.Concat(l.Etcd, l.Nodes) }

// Balancer returns the address of the load balancer, which is the cluster's
// controlPlaneEndpoint.
func (l *Lab) Balancer() string { return balancer + ":6443" }

// Path returns the path of a file of the lab's state.
func (l *Lab) Path(name string) string { return filepath.Join(l.Dir, name) }

// KeyFile returns the private key that root and ops log in with.
func (l *Lab) KeyFile() string { return l.Path("ssh/id_ed25519") }

// KnownHosts returns the file with the masters' host keys.
func (l *Lab) KnownHosts() string { return l.Path("ssh/known_hosts") }

// say reports a step that is done.
func (l *Lab) say(format string, args ...any) {
	fmt.Fprintf(l.Out, "%7.1fs  %s\n", time.Since(l.started).Seconds(), fmt.Sprintf(format, args...))
}

// each does something on several nodes at once.
func each(nodes []Node, do func(Node) error) error {
	errs := make([]error, len(nodes))
	var group sync.WaitGroup
	for i, n := range nodes {
		group.Go(func() {
			if err := do(n); err != nil {
				errs[i] = fmt.Errorf("%s: %w", n.Host, err)
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

// Up makes the cluster, and a snapshot of it for Reset. A lab of the same
// options that answers is left as it is.
func (l *Lab) Up(ctx context.Context) error {
	l.started = time.Now()
	if err := l.docker.start(ctx, l.Out); err != nil {
		return err
	}
	if l.same() && l.settles(ctx) == nil {
		l.say("it is up already")
		return nil
	}
	made, err := l.prepare(ctx)
	if err != nil {
		return err
	}
	if err := l.down(ctx); err != nil {
		return err
	}
	if err := l.boot(ctx, made); err != nil {
		return err
	}
	if err := l.externalEtcd(ctx); err != nil {
		return err
	}
	if err := l.join(ctx); err != nil {
		return err
	}
	if err := l.externalCA(ctx); err != nil {
		return err
	}
	if err := l.save(ctx); err != nil {
		return err
	}
	return l.note()
}

// settles waits for the health of a lab whose machines run: what a node said
// before it was halted counts until it says something else, so that a cluster
// that has just become ready may once more not be.
func (l *Lab) settles(ctx context.Context) error {
	out, err := l.docker.run(ctx, nil, "ps", "-q", "--filter", "label="+network)
	if err != nil {
		return err
	}
	if n, want := len(fields(out)), len(l.all())+1; n < want { // one is the load balancer
		return fmt.Errorf("%d of %d machines run", n, want)
	}
	return l.await(ctx, 30*time.Second, l.Healthy)
}

// Fresh makes the lab be as it is after Up, whatever was there.
func (l *Lab) Fresh(ctx context.Context) error {
	if err := l.docker.start(ctx, l.Out); err != nil {
		return err
	}
	if l.same() && l.Reset(ctx) == nil {
		return nil
	}
	if err := os.RemoveAll(l.Path("lab.json")); err != nil { // whatever it is, it is not healthy
		return err
	}
	return l.Up(ctx)
}

// Down removes the cluster, and stops the container engine if the lab started
// it. The lab's directory goes as well.
func (l *Lab) Down(ctx context.Context) error {
	if l.docker.answers(ctx) {
		if err := l.down(ctx); err != nil {
			return err
		}
	}
	return errors.Join(l.docker.stop(ctx), os.RemoveAll(l.Dir))
}

// down removes the containers and the network.
func (l *Lab) down(ctx context.Context) error {
	out, err := l.docker.run(ctx, nil, "ps", "-aq", "--filter", "label="+network)
	if err != nil {
		return err
	}
	if ids := fields(out); len(ids) > 0 {
		if _, err := l.docker.run(ctx, nil, append([]string{"rm", "-fv"}, ids...)...); err != nil {
			return err
		}
	}
	if _, err := l.docker.run(ctx, nil, "network", "inspect", network); err != nil {
		return nil // there is none
	}
	_, err = l.docker.run(ctx, nil, "network", "rm", network)
	return err
}

// note writes down what the lab is, once it is complete.
func (l *Lab) note() error {
	text, err := json.Marshal(l.Options)
	if err != nil {
		return err
	}
	return os.WriteFile(l.Path("lab.json"), text, 0o644)
}

// same reports whether the lab in the directory was made with these options.
func (l *Lab) same() bool {
	text, err := os.ReadFile(l.Path("lab.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	var is Options
	return err == nil && json.Unmarshal(text, &is) == nil && is == l.Options
}

// Connect finds the engine that the lab runs in.
func (l *Lab) Connect(ctx context.Context) error {
	if !l.docker.answers(ctx) {
		return errors.New("no container engine answers; is the lab up?")
	}
	return nil
}

// Select returns the named nodes; without a name the masters.
func (l *Lab) Select(names ...string) ([]Node, error) {
	if len(names) == 0 {
		return l.Nodes, nil
	}
	var nodes []Node
	for _, h := range names {
		i := slices.IndexFunc(l.all(), func(n Node) bool { return n.Host == h })
		if i < 0 {
			return nil, fmt.Errorf("no host %q in the lab: it has %q", h, hosts(l.all()))
		}
		nodes = append(nodes, l.all()[i])
	}
	return nodes, nil
}
