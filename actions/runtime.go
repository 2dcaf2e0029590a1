package actions

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"certbook/actions/kube"
	"certbook/engine"
)

// containers speaks to a host's container runtime through the tool that is
// there: docker, crictl, or containerd's own ctr.
type containers struct {
	runtime kube.Runtime
	tool    string // docker, crictl or ctr; "" when there is none
}

// findRuntime takes the runtime from the kubelet's own configuration and the
// tool from what is installed.
func findRuntime(ctx context.Context, p engine.Probe, layout kube.Layout) (containers, error) {
	runtime, err := kube.DetectRuntime(layout)
	if err != nil {
		return containers{}, err
	}
	candidates := map[kube.RuntimeKind][]string{
		kube.Docker:     {"docker"},
		kube.Containerd: {"crictl", "ctr"},
		kube.CRIO:       {"crictl"},
		kube.OtherCRI:   {"crictl"},
	}[runtime.Kind]
	tool, err := firstTool(ctx, p, candidates...)
	return containers{runtime: runtime, tool: tool}, err
}

// firstTool returns the first of the programs that is installed, "" when none
// is.
func firstTool(ctx context.Context, p engine.Probe, names ...string) (string, error) {
	const script = `for t; do if command -v "$t" >/dev/null 2>&1; then echo "$t"; exit 0; fi; done; echo`
	out, err := p.Query(ctx, engine.Command{Argv: append([]string{"sh", "-c", script, "sh"}, names...)})
	if err != nil {
		return "", err
	}
	for _, n := range names {
		if string(out.Stdout) == n+"\n" {
			return n, nil
		}
	}
	return "", nil
}

// errNoTool says that a runtime is there, but no program to speak to it.
var errNoTool = errors.New("no program to speak to the container runtime")

func (c containers) missing() error {
	want := map[kube.RuntimeKind]string{kube.Docker: "docker", kube.Containerd: "crictl or ctr"}[c.runtime.Kind]
	if want == "" {
		want = "crictl"
	}
	return fmt.Errorf("%w: the kubelet uses %s (%s), but there is no %s; install it, or use method: manifest", errNoTool, c.runtime.Kind, c.runtime.From, want)
}

// running returns a component's running containers, the youngest first.
func (c containers) running(ctx context.Context, p engine.Probe, component string) ([]kube.Container, error) {
	list, err := c.list(ctx, p, component)
	if err != nil {
		return nil, err
	}
	var out []kube.Container
	for _, one := range kube.Select(list, component) {
		if one.State == kube.Running {
			out = append(out, one)
		}
	}
	return out, nil
}

func (c containers) list(ctx context.Context, p engine.Probe, component string) ([]kube.Container, error) {
	switch c.tool {
	case "crictl":
		out, err := p.Query(ctx, engine.Command{Argv: kube.CrictlPSArgv(c.runtime.Endpoint, false)})
		if err != nil {
			return nil, err
		}
		return kube.ParseCrictlPS(out.Stdout)
	case "docker":
		ids, err := c.ids(ctx, p, kube.DockerPSArgv(component, false))
		if err != nil || len(ids) == 0 {
			return nil, err
		}
		out, err := p.Query(ctx, engine.Command{Argv: kube.DockerInspectArgv(ids...)})
		if err != nil {
			return nil, err
		}
		return kube.ParseDockerInspect(out.Stdout)
	case "ctr":
		return c.ctr(ctx, p, component)
	}
	return nil, c.missing()
}

func (c containers) ids(ctx context.Context, p engine.Probe, argv []string) ([]string, error) {
	out, err := p.Query(ctx, engine.Command{Argv: argv})
	if err != nil {
		return nil, err
	}
	return kube.ParseIDs(out.Stdout)
}

// ctr asks for the tasks first: a container without one has exited.
func (c containers) ctr(ctx context.Context, p engine.Probe, component string) ([]kube.Container, error) {
	ids, err := c.ids(ctx, p, kube.CtrListArgv(c.runtime.Socket(), component))
	if err != nil {
		return nil, err
	}
	tasks, err := p.Query(ctx, engine.Command{Argv: kube.CtrTasksArgv(c.runtime.Socket())})
	if err != nil {
		return nil, err
	}
	var list []kube.Container
	for _, id := range ids {
		list = append(list, kube.Container{ID: id})
	}
	if list, err = kube.WithTasks(list, tasks.Stdout); err != nil {
		return nil, err
	}
	var out []kube.Container
	for _, one := range list {
		if one.State != kube.Running {
			continue
		}
		info, err := p.Query(ctx, engine.Command{Argv: kube.CtrInfoArgv(c.runtime.Socket(), one.ID)})
		if err != nil {
			return nil, err
		}
		full, err := kube.ParseCtrInfo(info.Stdout)
		if err != nil {
			return nil, err
		}
		full.State, full.Pid = one.State, one.Pid
		out = append(out, full)
	}
	return out, nil
}

// stop ends a container, with time to finish; kubelet then starts a new one.
func (c containers) stop(ctx context.Context, h engine.Host, id string, grace time.Duration) error {
	var argv []string
	switch c.tool {
	case "crictl":
		argv = kube.CrictlStopArgv(c.runtime.Endpoint, id, grace)
	case "docker":
		argv = kube.DockerStopArgv(id, grace)
	case "ctr":
		return c.stopTask(ctx, h, id, grace)
	default:
		return c.missing()
	}
	_, err := h.Exec(ctx, engine.Command{Argv: argv})
	return err
}

// stopTask is what crictl stop does, with ctr: SIGTERM, a while, SIGKILL.
func (c containers) stopTask(ctx context.Context, h engine.Host, id string, grace time.Duration) error {
	kill := func(signal string) error {
		_, err := h.Exec(ctx, engine.Command{Argv: kube.CtrKillArgv(c.runtime.Socket(), id, signal)})
		return err
	}
	if err := kill("SIGTERM"); err != nil {
		return err
	}
	graceCtx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	err := poll(graceCtx, pollInterval, func(ctx context.Context) (bool, string, error) {
		tasks, err := h.Query(ctx, engine.Command{Argv: kube.CtrTasksArgv(c.runtime.Socket())})
		if err != nil {
			return false, "", err
		}
		list, err := kube.WithTasks([]kube.Container{{ID: id}}, tasks.Stdout)
		return err == nil && list[0].State != kube.Running, "container " + id + " is still running", err
	})
	if err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return kill("SIGKILL")
	}
	return err
}

// within runs a program that changes nothing in a container.
func (c containers) within(ctx context.Context, p engine.Probe, id string, argv ...string) (engine.Output, error) {
	switch c.tool {
	case "crictl":
		argv = kube.CrictlExecArgv(c.runtime.Endpoint, id, argv...)
	case "docker":
		argv = kube.DockerExecArgv(id, argv...)
	case "ctr":
		argv = kube.CtrExecArgv(c.runtime.Socket(), id, "certbook-"+rand.Text(), argv...)
	default:
		return engine.Output{}, c.missing()
	}
	return p.Query(ctx, engine.Command{Argv: argv})
}

// pollInterval is how often a host is asked whether something has happened.
const pollInterval = 200 * time.Millisecond
