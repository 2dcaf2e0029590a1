// Package sandbox makes a sandbox of three masters on this machine: real
// certificates, real TLS servers on loopback that serve them, real processes.
// It needs neither root nor Kubernetes.
//
// Emulated are kubeadm, crictl, systemctl and the kubelet, as far as the
// shipped renew playbook uses them, and what the control plane's components do
// beside serving TLS and answering health checks.
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Version is the Kubernetes version that the sandbox claims to be.
const Version = "v1.34.4"

// Left is how long the sandbox's certificates last.
const Left = 9 * 24 * time.Hour

// Sandbox is three masters below one directory.
type Sandbox struct {
	Dir     string
	masters []*master
}

// master is one root directory.
type master struct {
	name  string
	root  string
	ports ports
}

// ports are a master's, all on 127.0.0.1.
type ports struct {
	apiserver, etcd, peer, metrics, controllerManager, scheduler int
}

// New lays out a sandbox below dir, which must be empty or not exist. program
// is the certbook binary that plays the emulated commands.
func New(dir, program string) (*Sandbox, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return nil, fmt.Errorf("%s is not empty", dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	cas, err := newAuthorities(time.Now())
	if err != nil {
		return nil, err
	}
	s := &Sandbox{Dir: dir}
	for _, name := range []string{"m1", "m2", "m3"} {
		m := &master{name: name, root: filepath.Join(dir, name)}
		if m.ports, err = freePorts(); err != nil {
			return nil, err
		}
		if err := m.lay(cas, program); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		s.masters = append(s.masters, m)
	}
	return s, os.WriteFile(s.Inventory(), []byte(s.inventory()), 0o600)
}

// Inventory returns the path of the sandbox's inventory.
func (s *Sandbox) Inventory() string { return filepath.Join(s.Dir, "inventory.yaml") }

func (s *Sandbox) inventory() string {
	var b strings.Builder
	b.WriteString("# The sandbox of certbook demo: three root directories on this machine.\nversion: 1\nhosts:\n")
	for _, m := range s.masters {
		fmt.Fprintf(&b, "  %s: {connection: local, root: %q}\n", m.name, m.root)
	}
	b.WriteString("groups:\n  masters: {hosts: [m1, m2, m3]}\n")
	return b.String()
}

// Run plays the kubelets until ctx ends: it starts a process for every
// manifest, again when one ends, and stops it when its manifest goes away. ready
// is closed when all ports with certificates answer.
func (s *Sandbox) Run(ctx context.Context, ready chan<- struct{}) error {
	results := make(chan error, len(s.masters))
	started := make(chan struct{}, len(s.masters))
	for _, m := range s.masters {
		go func() { results <- newKubelet(m.root).run(ctx, started) }()
	}
	go func() {
		for range s.masters {
			<-started
		}
		ticker := time.NewTicker(tick)
		defer ticker.Stop()
		for {
			if _, err := s.Served(ctx); err == nil {
				close(ready)
				return
			}
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	var errs []error
	for range s.masters {
		errs = append(errs, <-results)
	}
	return errors.Join(errs...)
}

// freePorts finds ports that are free now.
func freePorts() (ports, error) {
	var p ports
	var open []net.Listener
	defer func() {
		for _, l := range open {
			_ = l.Close() // it was only there to reserve the port
		}
	}()
	for _, port := range []*int{&p.apiserver, &p.etcd, &p.peer, &p.metrics, &p.controllerManager, &p.scheduler} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return p, err
		}
		open = append(open, l)
		*port = l.Addr().(*net.TCPAddr).Port
	}
	return p, nil
}
