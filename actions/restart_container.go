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
	Force      bool            `yaml:"force" doc:"restart also what is younger than its files"`
	Grace      schema.Duration `yaml:"grace" default:"5s" doc:"how long a container may take to end before it is killed (etcd at least 30s); an API server finishes its requests at once but waits for watches as long as it may"`
	Wait       schema.Duration `yaml:"wait" default:"3m" doc:"how long a new container may take to be healthy"`
	Park       string          `yaml:"park" default:"/var/lib/certbook/parked/${run.id}" doc:"a directory on the host for a manifest that is moved out"`

	restarted map[string]string // component to the id that was stopped
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
that its flags name was written after its container was created, or with force.
So a restart that was lost in a crash is made up for by the next run, and
nothing is restarted twice. The components go one after the other in the given
order; each must be running anew and healthy before the next one is touched.
Only an API server that must restart as well is stopped before its etcd member,
so that no client meets an API server without etcd. A member without which the
others have no quorum is not stopped.

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

// Follows implements engine.Follower.
func (a *RestartContainer) Follows() {}

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
	res := engine.Result{Outputs: out}
	for _, component := range a.Components {
		m, ok := layout.Pods.Component(component)
		if !ok {
			if parked, err := a.parked(ctx, p, component); err != nil || parked != "" {
				res.Changes = append(res.Changes, engine.Change{Subject: component, From: "its manifest is parked at " + parked, To: "moved back"})
			}
			continue
		}
		change, done, err := a.judge(ctx, p, c, layout, m)
		if err != nil {
			return res, fmt.Errorf("%s: %w", component, err)
		}
		if change != nil {
			res.Changes = append(res.Changes, *change)
		} else if done != nil {
			res.Done = append(res.Done, *done)
		}
	}
	return res, nil
}

// judge says whether a component must be restarted, and otherwise proves that
// it was.
func (a *RestartContainer) judge(ctx context.Context, p engine.Probe, c containers, layout kube.Layout, m kube.Manifest) (change, done *engine.Change, err error) {
	if c.tool == "" {
		return a.judgeBlind(c, m.Component)
	}
	running, err := c.running(ctx, p, m.Component)
	if err != nil {
		return nil, nil, err
	}
	if len(running) == 0 {
		return &engine.Change{Subject: m.Component, From: "not running", To: "running"}, nil, nil
	}
	youngest := running[0]
	stopped, was := a.restarted[m.Component]
	switch older := a.older(layout, m, youngest.CreatedAt); {
	case older != "":
		return &engine.Change{Subject: m.Component, From: older, To: "restarted",
			Before: map[string]string{"container": youngest.ID, "started": youngest.CreatedAt.Format(time.RFC3339Nano)}}, nil, nil
	case a.Force && !was:
		return &engine.Change{Subject: m.Component, From: "running", To: "restarted",
			Before: map[string]string{"container": youngest.ID}}, nil, nil
	case was:
		return nil, &engine.Change{Subject: m.Component, From: containerOrNone(stopped), To: "container " + short(youngest.ID),
			Before: map[string]string{"container": stopped},
			After:  map[string]string{"container": youngest.ID, "started": youngest.CreatedAt.Format(time.RFC3339Nano)}}, nil
	}
	return nil, nil, nil
}

// judgeBlind is judge without a tool that lists containers: only the first
// time, and only by moving the manifest.
func (a *RestartContainer) judgeBlind(c containers, component string) (change, done *engine.Change, err error) {
	if a.Method == "container" {
		return nil, nil, c.missing()
	}
	if _, was := a.restarted[component]; was {
		return nil, &engine.Change{Subject: component, To: "restarted by its manifest"}, nil
	}
	return &engine.Change{Subject: component, From: "of unknown age, there is no tool to ask", To: "restarted"}, nil, nil
}

// older says than which of the files that m's process reads its credentials
// from it is older, or would be in this plan; "" is none.
func (a *RestartContainer) older(layout kube.Layout, m kube.Manifest, started time.Time) string {
	for _, r := range m.Reads() {
		f, ok := layout.File(r.Path)
		switch {
		case ok && f.Pending:
			return "older than " + r.Path + " will be"
		case ok && f.ModTime.After(started):
			return "older than " + r.Path
		}
	}
	return ""
}

func containerOrNone(id string) string {
	if id == "" {
		return "not running"
	}
	return "container " + short(id)
}

func short(id string) string { return id[:min(12, len(id))] }

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
	for _, component := range a.Components {
		if err := a.unpark(ctx, h, layout, component); err != nil {
			return fmt.Errorf("%s: %w", component, err)
		}
	}
	if layout, err = survey(ctx, h); err != nil { // with what came back
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
		change, _, err := a.judge(ctx, h, c, layout, m)
		if err == nil && change != nil {
			err = a.restart(ctx, h, c, layout, m)
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
		if err := a.spare(ctx, h, m); err != nil {
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
	change, _, err := a.judge(ctx, h, c, layout, m)
	if err != nil || change == nil {
		return err
	}
	running, err := c.running(ctx, h, kube.APIServer)
	if err != nil || len(running) == 0 {
		return err
	}
	if err := c.stop(ctx, h, running[0].ID, a.grace(kube.APIServer)); err != nil {
		return err
	}
	a.restarted[kube.APIServer] = running[0].ID
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
	if err := awaitHealthy(ctx, h, m); err != nil {
		return fmt.Errorf("waiting for kube-apiserver first: %w", err)
	}
	return nil
}

// awaitNew waits for another running container than old, and for its health.
func (a *RestartContainer) awaitNew(ctx context.Context, h engine.Host, c containers, m kube.Manifest, old string) error {
	ctx, cancel := context.WithTimeout(ctx, a.Wait.Std())
	defer cancel()
	if c.tool != "" {
		err := poll(ctx, pollInterval, func(ctx context.Context) (bool, string, error) {
			running, err := c.running(ctx, h, m.Component)
			return len(running) > 0 && running[0].ID != old, "no new container", err
		})
		if err != nil {
			return err
		}
	}
	return awaitHealthy(ctx, h, m)
}

// awaitGone waits until a component has no running container, or, without a
// tool to ask, until nothing answers at its health URL.
func (a *RestartContainer) awaitGone(ctx context.Context, h engine.Host, c containers, m kube.Manifest) error {
	ctx, cancel := context.WithTimeout(ctx, a.grace(m.Component)+a.Wait.Std())
	defer cancel()
	return poll(ctx, pollInterval, func(ctx context.Context) (bool, string, error) {
		if c.tool != "" {
			running, err := c.running(ctx, h, m.Component)
			return len(running) == 0, "its container has not gone", err
		}
		_, err := h.Get(ctx, m.HealthURL())
		return err != nil, "it still answers", nil
	})
}

// awaitHealthy waits until a component's health URL answers 200 twice in a
// row: an API server answers once and then restarts its informers.
func awaitHealthy(ctx context.Context, p engine.Probe, m kube.Manifest) error {
	url := m.HealthURL()
	if url == "" {
		return nil
	}
	good := 0
	return poll(ctx, pollInterval, func(ctx context.Context) (bool, string, error) {
		problem := healthProblem(ctx, p, url)
		if problem == "" {
			good++
		} else {
			good = 0
		}
		return good >= 2, problem, nil
	})
}

// healthProblem says in what way a health URL does not answer, "" when it does.
func healthProblem(ctx context.Context, p engine.Probe, url string) string {
	r, err := p.Get(ctx, url)
	switch {
	case err != nil:
		return fmt.Sprintf("%s: %v", url, err)
	case r.Status == 401 || r.Status == 403:
		return "" // it answers; anonymous requests are turned off
	case r.Status != 200:
		return fmt.Sprintf("%s: status %d: %s", url, r.Status, firstWords(r.Body))
	case strings.Contains(string(r.Body), `"health":"false"`):
		return fmt.Sprintf("%s: %s", url, firstWords(r.Body))
	}
	return ""
}

func firstWords(b []byte) string {
	words := strings.Fields(string(b))
	if len(words) > 30 {
		words = append(words[:30], "...")
	}
	return strings.Join(words, " ")
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
