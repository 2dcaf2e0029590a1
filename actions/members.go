package actions

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"certbook/actions/kube"
	"certbook/engine"
)

// etcdctlPatience bounds one call of etcdctl: it gives a member that does not
// answer 5s.
const etcdctlPatience = 20 * time.Second

// etcdMembers returns the members that etcd knows, each with its health, from
// etcdctl in the container of this host's member. Without a quorum there is no
// list.
func etcdMembers(ctx context.Context, p engine.Probe, layout kube.Layout, m kube.Manifest) ([]kube.EtcdMember, error) {
	if p.Path("/") != "/" {
		return nil, errors.New("no container runs below a root directory of its own")
	}
	own := m.ClientURL()
	if own == "" {
		return nil, fmt.Errorf("%s names no client URL", m.Path)
	}
	c, err := findRuntime(ctx, p, layout)
	if err != nil {
		return nil, err
	}
	running, err := c.running(ctx, p, kube.Etcd)
	switch {
	case err != nil:
		return nil, err
	case len(running) == 0:
		return nil, errors.New("its container does not run")
	}
	etcdctl := func(words ...string) ([]byte, error) {
		ctx, cancel := context.WithTimeout(ctx, etcdctlPatience)
		defer cancel()
		out, err := c.within(ctx, p, running[0].ID, m.EtcdctlArgv(own, words...)...)
		return out.Stdout, briefly("etcdctl "+strings.Join(words, " "), err)
	}
	var list, health []byte
	var healthErr error // its status says that a member is not healthy
	err = together(
		func() (err error) { list, err = etcdctl("member", "list"); return err },
		func() error { health, healthErr = etcdctl("endpoint", "health", "--cluster"); return nil },
	)
	if err != nil {
		return nil, err
	}
	members, err := kube.ParseMembers(list)
	if err != nil {
		return nil, err
	}
	if bad := kube.ParseEndpointHealth(health, members); bad != nil {
		return nil, errors.Join(healthErr, bad)
	}
	return members, nil
}

// membersProblems says why etcd cannot do without one of its members.
func membersProblems(members []kube.EtcdMember) (problems []string, healthy int) {
	voters := 0
	for _, m := range members {
		switch {
		case m.Learner:
			continue
		case m.Healthy:
			healthy++
		case m.Problem != "":
			problems = append(problems, fmt.Sprintf("etcd's member %s is not healthy: %s", m, m.Problem))
		default:
			problems = append(problems, fmt.Sprintf("etcd's member %s is not healthy", m))
		}
		voters++
	}
	if quorum := voters/2 + 1; len(problems) > 0 {
		problems = append(problems, fmt.Sprintf("%d of etcd's %d members are healthy, and %d are its quorum", healthy, voters, quorum))
	}
	return problems, healthy
}
