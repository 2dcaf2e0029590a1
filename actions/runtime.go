package actions

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
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

// A listing is the containers of the control plane that run on a host.
type listing []kube.Container

// of returns those of one component, the youngest first.
func (l listing) of(component string) []kube.Container { return kube.Select(l, component) }

// running returns a component's running containers, the youngest first.
func (c containers) running(ctx context.Context, p engine.Probe, component string) ([]kube.Container, error) {
	list, err := c.list(ctx, p, component)
	return list.of(component), err
}

// list returns the running containers of components, and perhaps more: one
// round trip, with docker two.
func (c containers) list(ctx context.Context, p engine.Probe, components ...string) (listing, error) {
	all, err := c.all(ctx, p, components)
	return slices.DeleteFunc(all, func(one kube.Container) bool { return one.State != kube.Running }), err
}

func (c containers) all(ctx context.Context, p engine.Probe, components []string) ([]kube.Container, error) {
	switch c.tool {
	case "crictl":
		out, err := p.Query(ctx, engine.Command{Argv: kube.CrictlPSArgv(c.runtime.Endpoint)})
		if err != nil {
			return nil, err
		}
		return kube.ParseCrictlPS(out.Stdout)
	case "docker":
		out, err := p.Query(ctx, engine.Command{Argv: kube.DockerPSArgv()})
		if err != nil {
			return nil, err
		}
		ids, err := kube.ParseIDs(out.Stdout)
		if err != nil || len(ids) == 0 {
			return nil, err
		}
		out, err = p.Query(ctx, engine.Command{Argv: kube.DockerInspectArgv(ids...)})
		var exit *engine.ExitError
		if gone := errors.As(err, &exit) && strings.Contains(exit.Stderr, "No such"); err != nil && !gone {
			return nil, err // else one has ended meanwhile, and the others are told of
		}
		return kube.ParseDockerInspect(out.Stdout)
	case "ctr":
		out, err := p.Query(ctx, engine.Command{Argv: kube.CtrListArgv(c.runtime.Socket(), components...)})
		if err != nil {
			return nil, err
		}
		return kube.ParseCtrList(out.Stdout)
	}
	return nil, c.missing()
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
		runs, err := kube.CtrRuns(id, tasks.Stdout)
		return err == nil && !runs, "container " + id + " is still running", err
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
