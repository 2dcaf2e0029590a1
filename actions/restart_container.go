package actions

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"certbook/actions/kube"
	"certbook/engine"
	"certbook/schema"
)

// RestartContainer restarts static pods whose process is older than the
// certificates it reads.
type RestartContainer struct {
	Components []string        `yaml:"components" default:"[etcd, kube-apiserver, kube-controller-manager, kube-scheduler]" doc:"the static pods' containers, in this order"`
	Method     string          `yaml:"method" default:"auto" enum:"auto|container|manifest|none" doc:"stop the container and let kubelet start a new one; move the manifest out and back; auto: container where a tool is there, else manifest; none: leave them"`
	All        bool            `yaml:"all" doc:"restart also what reads a changed file again by itself: etcd, and kube-apiserver from 1.25 on"`
	Force      bool            `yaml:"force" doc:"restart also what is younger than its files"`
	Grace      schema.Duration `yaml:"grace" default:"5s" doc:"how long a container may take to end before it is killed (etcd at least 30s); an API server finishes its requests at once but waits for watches as long as it may"`
	Wait       schema.Duration `yaml:"wait" default:"3m" doc:"how long a new container may take to be healthy"`
	Park       string          `yaml:"park" default:"/var/lib/certbook/parked/${run.id}" doc:"a directory on the host for a manifest that is moved out"`

	restarted map[string]string // component to the id that was stopped
	following bool              // the files are as they were before
	undone    map[string]string // restarted, when they were not
	drained   bool              // the API server was stopped before its etcd, and its new container is still awaited
}

// Restarts is what RestartContainer did.
type Restarts struct {
	Restarted []string `expr:"restarted" doc:"the components that were restarted" json:"restarted"`
	Runtime   string   `expr:"runtime" doc:"docker, containerd, crio or cri" json:"runtime"`
	Tool      string   `expr:"tool" doc:"docker, crictl or ctr; empty when none is installed" json:"tool"`
}

func restartContainerSpec() engine.Spec {
	return engine.Spec{
		New:     func() engine.Action { return &RestartContainer{} },
		Outputs: Restarts{},
		Summary: "restart the static pods that are older than the certificates they read",
		Doc: `Restarting kubelet does not restart static pods, and deleting the pod in the API
only deletes its mirror. This stops the container (kubelet starts a new one), or
moves the manifest out, waits until the container has gone, and moves it back.

State decides: a component is restarted when a certificate, key or kubeconfig
that its flags name and that it reads only at its start was written after its
container was created; with all, whatever it reads; with force, always. etcd
reads a changed certificate at the next handshake, kube-apiserver (1.25 and
later) within a second: they stay up, and are restarted only when they still
serve another certificate after that. So a restart that was lost in a crash is
made up for by the next run, and nothing is restarted twice.

The components go one after the other in the given order; each must be running
anew and healthy before the next one is touched. Only an API server that must
restart as well is stopped before its etcd member, so that no client meets an
API server without etcd. A member without which the others have no quorum is not
stopped.

Before a manifest is moved out the host is told to move it back by itself, should
the controller not come back in time.

The runtime (docker, containerd, cri-o) comes from the kubelet's own
configuration; the tool is docker, crictl, or containerd's ctr where crictl is
missing. Containers are found by their exact labels: kube-system, the
component's name, a static pod. A component without a manifest on this host is
passed over.`,
		Example: `- id: restart
  action: restart-container
  with: {components: [etcd, kube-apiserver, kube-controller-manager, kube-scheduler]}
  timeout: 10m`,
	}
}

var _ engine.Follower = (*RestartContainer)(nil)

// Follow implements engine.Follower.
func (a *RestartContainer) Follow() {
	a.following, a.undone, a.restarted = true, a.restarted, nil
}

// Check implements engine.Action.
func (a *RestartContainer) Check(ctx context.Context, p engine.Probe) (engine.Result, error) {
	out := Restarts{}
	for _, c := range a.Components {
		if _, done := a.restarted[c]; done {
			out.Restarted = append(out.Restarted, c)
		}
	}
	if a.Method == "none" {
		return engine.Result{Outputs: out}, nil
	}
	layout, err := survey(ctx, p)
	if err != nil {
		return engine.Result{}, err
	}
	c, err := findRuntime(ctx, p, layout)
	if err != nil {
		return engine.Result{}, err
	}
	out.Runtime, out.Tool = string(c.runtime.Kind), c.tool
	running, err := a.list(ctx, p, c, layout)
	if err != nil {
		return engine.Result{}, err
	}
	res := engine.Result{Outputs: out}
	for _, component := range a.Components {
		m, ok := layout.Pods.Component(component)
		if !ok {
			if parked, err := a.parked(ctx, p, component); err != nil || parked != "" {
				res.Changes = append(res.Changes, engine.Change{Subject: component, From: "its manifest is parked at " + parked, To: "moved back"})
			}
			continue
		}
		change, done, err := a.judge(ctx, p, c, layout, m, running)
		if err != nil {
			return res, fmt.Errorf("%s: %w", component, err)
		}
		if change != nil {
			res.Changes = append(res.Changes, *change)
		} else if done != nil {
			res.Done = append(res.Done, *done)
		}
	}
	res.Warnings = a.others(layout, running)
	return res, nil
}

// list returns what runs of all static pods of the host; nothing without a tool.
func (a *RestartContainer) list(ctx context.Context, p engine.Probe, c containers, layout kube.Layout) (listing, error) {
	if c.tool == "" {
		return nil, nil
	}
	names := slices.Clone(a.Components)
	for _, m := range layout.Pods.Manifests {
		if !slices.Contains(names, m.Component) {
			names = append(names, m.Component)
		}
	}
	return c.list(ctx, p, names...)
}

// others warns of static pods of other components that hold an older kubeconfig,
// as a load balancer does that asks the API server for its lease.
func (a *RestartContainer) others(layout kube.Layout, running listing) []string {
	var list []string
	for _, m := range layout.Pods.Manifests {
		if slices.Contains(a.Components, m.Component) || slices.Contains(kube.Components(), m.Component) || len(m.Reads()) == 0 {
			continue
		}
		of := running.of(m.Component)
		if len(of) == 0 {
			continue
		}
		if older := a.older(layout, m, of[0].CreatedAt); older != "" {
			list = append(list, fmt.Sprintf("the static pod %s is %s and is not restarted: name it in components when it reads that only once", m.Component, older))
		}
	}
	return list
}

// Apply implements engine.Applier.
func (a *RestartContainer) Apply(ctx context.Context, h engine.Host) error {
	layout, err := survey(ctx, h)
	if err != nil {
		return err
	}
	c, err := findRuntime(ctx, h, layout)
	if err != nil {
		return err
	}
	if a.restarted == nil {
		a.restarted = map[string]string{}
	}
	a.drained = false
	back := false
	for _, component := range a.Components {
		moved, err := a.unpark(ctx, h, layout, component)
		if err != nil {
			return fmt.Errorf("%s: %w", component, err)
		}
		back = back || moved
	}
	if back {
		if layout, err = survey(ctx, h); err != nil {
			return err
		}
	}
	running, err := a.list(ctx, h, c, layout)
	if err != nil {
		return err
	}
	if err := a.settle(ctx, h, layout, running); err != nil {
		return err
	}
	for _, component := range a.Components {
		m, ok := layout.Pods.Component(component)
		if !ok {
			continue
		}
		if component == kube.APIServer && a.drained {
			a.drained = false
			if err := a.awaitNew(ctx, h, c, m, a.restarted[component]); err != nil {
				return fmt.Errorf("%s: %w", component, err)
			}
			continue
		}
		change, _, err := a.judge(ctx, h, c, layout, m, running)
		if err == nil && change != nil {
			if err = a.restart(ctx, h, c, layout, m); err == nil {
				running, err = a.list(ctx, h, c, layout) // others may have ended meanwhile
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", component, err)
		}
	}
	return nil
}

// restart replaces one component's container and waits until the new one is
// healthy.
func (a *RestartContainer) restart(ctx context.Context, h engine.Host, c containers, layout kube.Layout, m kube.Manifest) error {
	if m.Component == kube.Etcd {
		if err := a.spare(ctx, h, layout, m); err != nil {
			return err
		}
		if err := a.drain(ctx, h, c, layout); err != nil {
			return err
		}
	}
	if m.Component != kube.Etcd && m.Component != kube.APIServer {
		// These two end when they lose their lease, and then come back ever later.
		if err := a.apiserver(ctx, h, layout); err != nil {
			return err
		}
	}
	old := ""
	if c.tool != "" {
		running, err := c.running(ctx, h, m.Component)
		if err != nil {
			return err
		}
		if len(running) > 0 {
			old = running[0].ID
		}
	}
	var err error
	switch {
	case old == "" && c.tool != "": // kubelet is starting it
	case a.Method == "manifest" || c.tool == "":
		err = a.moveManifest(ctx, h, c, m)
	default:
		err = c.stop(ctx, h, old, a.grace(m.Component))
	}
	if err != nil {
		return err
	}
	a.restarted[m.Component] = old
	return a.awaitNew(ctx, h, c, m, old)
}

// etcdGrace is what kubelet gives to a static pod. An etcd that leads hands its
// leadership over at the very end; killed before, it leaves the others to hold
// an election, and writes fail meanwhile.
const etcdGrace = 30 * time.Second

func (a *RestartContainer) grace(component string) time.Duration {
	if component == kube.Etcd {
		return max(etcdGrace, a.Grace.Std())
	}
	return a.Grace.Std()
}

// drain stops the API server of an etcd member that is about to be restarted, if
// it has to be restarted anyway: clients are sent elsewhere in good order,
// instead of meeting an API server without its etcd, and etcd, which nobody
// uses any more, ends at once. Apply then waits for the new one.
func (a *RestartContainer) drain(ctx context.Context, h engine.Host, c containers, layout kube.Layout) error {
	m, ok := layout.Pods.Component(kube.APIServer)
	if !ok || !slices.Contains(a.Components, kube.APIServer) || c.tool == "" || a.Method == "manifest" {
		return nil
	}
	running, err := c.list(ctx, h, kube.APIServer)
	if err != nil {
		return err
	}
	change, _, err := a.judge(ctx, h, c, layout, m, running)
	of := running.of(kube.APIServer)
	if err != nil || change == nil || len(of) == 0 {
		return err
	}
	if err := c.stop(ctx, h, of[0].ID, a.grace(kube.APIServer)); err != nil {
		return err
	}
	a.restarted[kube.APIServer] = of[0].ID
	a.drained = true
	return nil
}

// apiserver waits for this host's API server.
func (a *RestartContainer) apiserver(ctx context.Context, h engine.Host, layout kube.Layout) error {
	m, ok := layout.Pods.Component(kube.APIServer)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, a.Wait.Std())
	defer cancel()
	_, anew := a.restarted[kube.APIServer]
	if err := awaitHealthy(ctx, h, m, anew); err != nil {
		return fmt.Errorf("waiting for kube-apiserver first: %w", err)
	}
	return nil
}

var _ engine.Validator = (*RestartContainer)(nil)

// Validate implements engine.Validator.
func (a *RestartContainer) Validate() error {
	for i, c := range a.Components {
		if c == "" || strings.ContainsAny(c, "*?[]/ ,\"'") {
			return fmt.Errorf("components: %q is not a container's name", c)
		}
		if slices.Contains(a.Components[:i], c) {
			return fmt.Errorf("components: %q is listed twice", c)
		}
	}
	return nil
}
