package actions

import (
	"context"
	"fmt"

	"certbook/actions/kube"
	"certbook/engine"
)

// spare waits until etcd can do without this member.
func (a *RestartContainer) spare(ctx context.Context, h engine.Host, layout kube.Layout, m kube.Manifest) error {
	ctx, cancel := context.WithTimeout(ctx, a.Wait.Std())
	defer cancel()
	return poll(ctx, pollInterval, func(ctx context.Context) (bool, string, error) {
		problem := quorumProblem(ctx, h, layout, m)
		return problem == "" && ctx.Err() == nil, problem, nil // what does not answer in time tells nothing
	})
}

// quorumProblem says why this host's etcd member may not stop, "" when it may,
// or when it does not tell.
func quorumProblem(ctx context.Context, p engine.Probe, layout kube.Layout, m kube.Manifest) string {
	url := m.MetricsURL()
	if url == "" {
		return ""
	}
	r, err := p.Get(ctx, url)
	if err != nil || r.Status != 200 {
		return "" // there is no member that could be missed
	}
	q := kube.ParseQuorum(r.Body)
	if q.HasLeader && q.Members == 0 { // etcd before 3.6: its metrics do not tell how many there are
		members, err := etcdMembers(ctx, p, layout, m)
		if err != nil {
			return ""
		}
		q = kube.Others(members, m.Args.Value("name"))
	}
	if !q.Spare() {
		return fmt.Sprintf("this member is connected with %d of the %d others, and without it etcd needs %d for its quorum; bring the missing members back first",
			q.Connected, q.Members-1, q.Needed())
	}
	return ""
}
