package actions

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"certbook/engine"
	"certbook/schema"
)

// RestartService restarts a systemd unit.
type RestartService struct {
	Name         string          `yaml:"name" required:"true" doc:"the unit, as in kubelet or kubelet.service"`
	Reads        []string        `yaml:"reads" doc:"files (or patterns) that the service reads only at start; then it is restarted only when one of them is newer than it"`
	Force        bool            `yaml:"force" doc:"restart it even when it is younger than what it reads"`
	DaemonReload bool            `yaml:"daemon_reload" default:"true" doc:"let systemd read its unit files again first"`
	HealthURL    string          `yaml:"health_url" doc:"an http or https URL that must answer 200 afterwards, asked from the host"`
	Wait         schema.Duration `yaml:"wait" default:"2m" doc:"how long the service may take to be active and healthy"`

	restarted bool
	before    unit
}

func restartServiceSpec() engine.Spec {
	return engine.Spec{
		New:     func() engine.Action { return &RestartService{} },
		Summary: "restart a systemd service and wait until it is active and healthy",
		Doc: `Without reads the service is restarted once; with reads only when one of these
files was written after the service started, or when it is not running. A unit
that does not exist is an error that lists the units which do and look alike.

Restarting kubelet does not restart static pods: see restart-container.`,
		Example: `- id: kubelet
  action: restart-service
  with:
    name: kubelet
    reads: [/etc/kubernetes/kubelet.conf, /var/lib/kubelet/config.yaml]
    health_url: http://127.0.0.1:10248/healthz`,
	}
}

var (
	_ engine.Follower  = (*RestartService)(nil)
	_ engine.Validator = (*RestartService)(nil)
)

// Follow implements engine.Follower.
func (a *RestartService) Follow() { a.restarted = false }

// Validate implements engine.Validator.
func (a *RestartService) Validate() error {
	if a.Name == "" || strings.HasPrefix(a.Name, "-") || strings.ContainsAny(a.Name, " \t\n*?/'\"") {
		return fmt.Errorf("name: %q is not a unit's name", a.Name)
	}
	if a.HealthURL != "" && !strings.HasPrefix(a.HealthURL, "http://") && !strings.HasPrefix(a.HealthURL, "https://") {
		return fmt.Errorf("health_url: %q is not an http or https URL", a.HealthURL)
	}
	return nil
}

// unit is what systemd says of a unit.
type unit struct {
	load, active, sub, invocation string
	started                       time.Time // to about 10 ms
}

// unitScript prints properties of unit $1, the time since boot and the time of
// day in seconds. systemd tells when a service began in whole seconds only, but
// in microseconds since boot.
const unitScript = `systemctl show -p LoadState,ActiveState,SubState,InvocationID,ExecMainStartTimestampMonotonic -- "$1" || exit
echo "Uptime=$(cut -d' ' -f1 /proc/uptime)"
echo "Now=$(date +%s.%N)"`

func (a *RestartService) unit(ctx context.Context, p engine.Probe) (unit, error) {
	out, err := p.Query(ctx, engine.Command{Argv: []string{"sh", "-c", unitScript, "sh", a.Name}})
	if err != nil {
		return unit{}, err
	}
	var u unit
	var began, uptime, now float64 // seconds
	for line := range strings.Lines(string(out.Stdout)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		number, _ := strconv.ParseFloat(value, 64) // 0 for what is not a number
		switch key {
		case "LoadState":
			u.load = value
		case "ActiveState":
			u.active = value
		case "SubState":
			u.sub = value
		case "InvocationID":
			u.invocation = value
		case "ExecMainStartTimestampMonotonic":
			began = number / 1e6
		case "Uptime":
			uptime = number
		case "Now":
			now = number
		}
	}
	if began > 0 && uptime > 0 && now > 0 {
		u.started = time.UnixMicro(int64((now - uptime + began) * 1e6)).UTC()
	}
	if u.load == "" {
		return u, fmt.Errorf("systemctl show %s: no LoadState in its output", a.Name)
	}
	if u.load == "not-found" {
		return u, a.notFound(ctx, p)
	}
	return u, nil
}

// notFound lists the units that look alike, or else that are loaded.
func (a *RestartService) notFound(ctx context.Context, p engine.Probe) error {
	out, err := p.Query(ctx, engine.Command{Argv: []string{"systemctl", "list-unit-files", "--type=service", "--no-legend", "--no-pager", "--plain"}})
	if err != nil {
		return fmt.Errorf("no unit %q on this host", a.Name)
	}
	var all, alike []string
	word := strings.TrimSuffix(a.Name, ".service")
	for line := range strings.Lines(string(out.Stdout)) {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		name := strings.TrimSuffix(fields[0], ".service")
		all = append(all, name)
		for _, part := range strings.FieldsFunc(word, func(r rune) bool { return r == '-' || r == '_' }) {
			if len(part) > 2 && strings.Contains(name, part) {
				alike = append(alike, name)
				break
			}
		}
	}
	if s := schema.Suggest(word, all); s != "" {
		return fmt.Errorf("no unit %q on this host%s", a.Name, s)
	}
	const most = 20
	list := alike
	if len(list) == 0 {
		list = all
	}
	if len(list) > most {
		list = append(list[:most], "...")
	}
	return fmt.Errorf("no unit %q on this host; there are: %s", a.Name, strings.Join(list, ", "))
}

// Check implements engine.Action.
func (a *RestartService) Check(ctx context.Context, p engine.Probe) (engine.Result, error) {
	u, err := a.unit(ctx, p)
	if err != nil {
		return engine.Result{}, err
	}
	change := engine.Change{Subject: a.Name, To: "restarted", Before: map[string]string{"invocation": u.invocation, "started": u.started.Format(time.RFC3339)}}
	switch {
	case u.active != "active":
		change.From = u.active + " (" + u.sub + ")"
	case a.restarted:
		if u.invocation != "" && u.invocation == a.before.invocation {
			return engine.Result{}, fmt.Errorf("%s was restarted, but is the same as before", a.Name)
		}
		if a.HealthURL != "" {
			if problem := healthProblem(ctx, p, a.HealthURL); problem != "" {
				change.From, change.To = problem, "healthy"
				return engine.Result{Changes: []engine.Change{change}}, nil
			}
		}
		change.From, change.To = "running", "restarted"
		change.After = map[string]string{"invocation": u.invocation, "started": u.started.Format(time.RFC3339)}
		return engine.Result{Done: []engine.Change{change}}, nil
	case a.Force || len(a.Reads) == 0:
		change.From = "running"
	default:
		newer, err := newerThan(ctx, p, a.Reads, u.started)
		if err != nil {
			return engine.Result{}, err
		}
		if newer == "" {
			return engine.Result{}, nil
		}
		change.From = "older than " + newer
	}
	return engine.Result{Changes: []engine.Change{change}}, nil
}

// newerThan returns the first file that was written after t, or would be in
// this plan.
func newerThan(ctx context.Context, p engine.Probe, patterns []string, t time.Time) (string, error) {
	files, err := p.ReadFiles(ctx, patterns...)
	if err != nil {
		return "", err
	}
	for _, f := range files {
		if f.Pending || f.ModTime.After(t) {
			return f.Path, nil
		}
	}
	return "", nil
}

// Apply implements engine.Applier.
func (a *RestartService) Apply(ctx context.Context, h engine.Host) error {
	before, err := a.unit(ctx, h)
	if err != nil {
		return err
	}
	a.before = before
	if a.DaemonReload {
		if _, err := h.Exec(ctx, engine.Command{Argv: []string{"systemctl", "daemon-reload"}}); err != nil {
			return err
		}
	}
	if _, err := h.Exec(ctx, engine.Command{Argv: []string{"systemctl", "restart", "--", a.Name}}); err != nil {
		return err
	}
	a.restarted = true
	ctx, cancel := context.WithTimeout(ctx, a.Wait.Std())
	defer cancel()
	return poll(ctx, pollInterval, func(ctx context.Context) (bool, string, error) {
		u, err := a.unit(ctx, h)
		if err != nil {
			return false, "", err
		}
		if u.active != "active" {
			return false, fmt.Sprintf("%s is %s (%s)", a.Name, u.active, u.sub), nil
		}
		if a.HealthURL == "" {
			return true, "", nil
		}
		problem := healthProblem(ctx, h, a.HealthURL)
		return problem == "", problem, nil
	})
}
