package actions

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"certbook/actions/kube"
	"certbook/engine"
	"certbook/schema"
)

// HealthGate refuses to go on where the cluster could not do without this host.
type HealthGate struct {
	MaxLeaseAge schema.Duration `yaml:"max_lease_age" default:"40s" doc:"how long ago the leases of kube-controller-manager and kube-scheduler may have been renewed, by this host's clock"`

	leases map[string]time.Time // when each had been renewed at the first look
}

// Health is what HealthGate finds.
type Health struct {
	Members int      `expr:"members" doc:"etcd's members that vote; 0 when not known or not on this host" json:"members"`
	Healthy int      `expr:"healthy" doc:"those of them that are healthy" json:"healthy"`
	Servers []string `expr:"servers" doc:"the API servers that were asked, host:port" json:"servers"`
}

func healthGateSpec() engine.Spec {
	return engine.Spec{
		New:     func() engine.Action { return &HealthGate{} },
		Outputs: Health{},
		Summary: "refuse to touch this host while the cluster could not do without it",
		Doc: `An assertion about the whole cluster, made from this host before it is touched:

every member that etcd knows is healthy (from etcdctl in the container of this
host's member; without a tool for containers from the member's metrics), so that
the members left without this one are a quorum, where there are enough for that;

the API server of every master answers /readyz, asked from here at its own
address;

the leases of kube-controller-manager and kube-scheduler are fresh: renewed
lately, or renewed between two looks. A stale one is a warning where this host's
component holds an older certificate than is on disk: a restart mends that.

That the clocks agree and that all masters have the same CAs is looked at before:
by preflight and by what check-expiry finds (cas).

The masters and the leases are asked of this host's API server, with kubectl and
admin.conf. What cannot be asked is a warning; all that is wrong is named at
once. It changes nothing. Give it a retry where a master has just been worked on.`,
		Example: `- id: gate
  action: health-gate
  retry: {attempts: 10, delay: 3s}`,
	}
}

var _ engine.Action = (*HealthGate)(nil)

// Check implements engine.Action.
func (a *HealthGate) Check(ctx context.Context, p engine.Probe) (engine.Result, error) {
	layout, err := survey(ctx, p)
	if err != nil {
		return engine.Result{}, err
	}
	members, servers := gate{layout: layout}, gate{layout: layout}
	err = together(
		func() error { members.etcd(ctx, p); return nil },
		func() error { return servers.cluster(ctx, p, a) },
	)
	if err != nil {
		return engine.Result{}, err
	}
	members.out.Servers = servers.out.Servers
	res := engine.Result{Outputs: members.out, Warnings: append(members.warnings, servers.warnings...)}
	if problems := append(members.problems, servers.problems...); len(problems) > 0 {
		return res, errors.New(strings.Join(problems, "; ") + "; mend that first; where certificates have expired on one master, renew that one first (--limit), and on several 'certbook run recover'")
	}
	return res, nil
}

// gate is one look at etcd, or at the API servers.
type gate struct {
	layout             kube.Layout
	out                Health
	problems, warnings []string
}

func (g *gate) problem(format string, args ...any) {
	g.problems = append(g.problems, fmt.Sprintf(format, args...))
}

func (g *gate) warn(format string, args ...any) {
	g.warnings = append(g.warnings, fmt.Sprintf(format, args...))
}

// etcd judges the members that this host's member knows.
func (g *gate) etcd(ctx context.Context, p engine.Probe) {
	m, ok := g.layout.Pods.Component(kube.Etcd)
	if !ok {
		return
	}
	var members []kube.EtcdMember
	var own string
	err := together(
		func() (err error) { members, err = etcdMembers(ctx, p, g.layout, m); return err },
		func() error {
			if url := m.HealthURL(); url != "" {
				own = healthProblem(ctx, p, url)
			}
			return nil
		},
	)
	if own != "" {
		g.problem("etcd's member on this host is not healthy: %s", own)
	}
	if err != nil {
		g.metrics(ctx, p, m, err)
	} else {
		problems, healthy := membersProblems(members)
		g.problems = append(g.problems, problems...)
		g.out.Healthy = healthy
		for _, one := range members {
			if !one.Learner {
				g.out.Members++
			}
		}
	}
	if g.out.Members == 2 {
		g.warn("etcd has two members: while one of them restarts it has no quorum")
	}
}

// metrics is etcd without etcdctl; why says why.
func (g *gate) metrics(ctx context.Context, p engine.Probe, m kube.Manifest, why error) {
	unknown := func() { g.warn("how many members etcd has, and whether they are healthy, is not known: %v", why) }
	url := m.MetricsURL()
	if url == "" {
		unknown()
		return
	}
	r, err := p.Get(ctx, url)
	if err != nil || r.Status != 200 {
		unknown()
		return
	}
	q := kube.ParseQuorum(r.Body)
	if q.Members == 0 { // etcd before 3.6 does not tell
		unknown()
		return
	}
	g.out.Members, g.out.Healthy = q.Members, 1+q.Connected
	switch {
	case !q.HasLeader:
		g.problem("etcd has no leader: too few of its %d members are up", q.Members)
	case q.Connected < q.Members-1:
		g.problem("etcd's member on this host is connected with %d of the %d others; without it etcd needs %d for its quorum", q.Connected, q.Members-1, q.Needed())
	}
}

// cluster judges the other masters and the leases by what the API server answers.
func (g *gate) cluster(ctx context.Context, p engine.Probe, a *HealthGate) error {
	answers, err := askCluster(ctx, p, g.layout, kube.ServersPath, kube.LeasesPath)
	if errors.Is(err, errNoCluster) {
		return nil
	}
	var leases []kube.Lease
	if err == nil {
		api, _ := g.layout.Pods.Component(kube.APIServer)
		if g.out.Servers, err = kube.ParseServers(answers[0], api.SecurePort()); err == nil {
			leases, err = kube.ParseLeases(answers[1])
		}
	}
	if err != nil {
		g.warn("the other masters' API servers and the leases were not looked at: %v", err)
		return nil
	}
	var now time.Time
	not := make([]string, len(g.out.Servers)) // why one is not ready
	ask := []func() error{func() (err error) { now, err = p.Now(ctx); return err }}
	for i, address := range g.out.Servers {
		ask = append(ask, func() error { not[i] = healthProblem(ctx, p, "https://"+address+"/readyz"); return nil })
	}
	if err := together(ask...); err != nil {
		return err
	}
	for i, address := range g.out.Servers {
		if not[i] != "" {
			g.problem("the API server %s is not ready: %s", address, not[i])
		}
	}
	for _, component := range []string{kube.ControllerManager, kube.Scheduler} {
		m, _ := g.layout.Pods.Component(component)
		if m.Args.Value("leader-elect") != "false" {
			name := cmp.Or(m.Args.Value("leader-elect-resource-name"), component)
			if stale := a.lease(g, leases, name, now); stale != "" && g.outdated(ctx, p, m, now) {
				g.warn("%s; the one on this host holds an older certificate than is on disk, and is restarted for that", stale)
			} else if stale != "" {
				g.problem("%s", stale)
			}
		}
	}
	return nil
}

// outdated says whether a component of this host is to be restarted as it holds
// an older certificate. When that has ended the component does not lead.
func (g *gate) outdated(ctx context.Context, p engine.Probe, m kube.Manifest, now time.Time) bool {
	c, err := findRuntime(ctx, p, g.layout)
	if err != nil || m.Component == "" {
		return false
	}
	running, err := c.running(ctx, p, m.Component)
	if err != nil {
		return false
	}
	uses, err := held(ctx, p, running, g.layout, m, now)
	return err == nil && slices.ContainsFunc(uses, func(u Use) bool {
		return u.State == string(kube.Stale) || u.State == string(kube.Refused)
	})
}

// lease says in what way a lease is stale, "" when it is not. A clock that is
// wrong does not make it stale when it is renewed between two looks.
func (a *HealthGate) lease(g *gate, leases []kube.Lease, name string, now time.Time) string {
	for _, l := range leases {
		if l.Name != name || l.Renewed.IsZero() {
			continue
		}
		before, looked := a.leases[name]
		if a.leases == nil {
			a.leases = map[string]time.Time{}
		}
		if !looked {
			a.leases[name] = l.Renewed
		}
		age := now.Sub(l.Renewed)
		if age.Abs() > a.MaxLeaseAge.Std() && (!looked || l.Renewed.Equal(before)) {
			return fmt.Sprintf("nobody leads as %s: its lease, of %s, was last renewed at %s, %s ago by this host's clock",
				name, l.Holder, l.Renewed.UTC().Format(time.RFC3339), age.Round(time.Second))
		}
		return ""
	}
	g.warn("there is no lease kube-system/%s, so that nothing is known of who leads", name)
	return ""
}
