//go:build e2e

package e2e_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// lifetime of the certificates that are renewed under load. They must outlast
// the run, and then end while somebody looks.
const lifetime = 4 * time.Minute

// TestRenewalUnderLoad renews everything on three masters while clients work.
// etcd and the API servers read their certificates again and stay up.
func TestRenewalUnderLoad(t *testing.T) {
	renewUnderLoad(t, "kube-controller-manager", "kube-scheduler")
}

// TestRenewalUnderLoadAll restarts every component as well.
func TestRenewalUnderLoadAll(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes ten minutes: make e2e-all")
	}
	renewUnderLoad(t, "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
}

func renewUnderLoad(t *testing.T, restarted ...string) {
	reset(t)
	require.NoError(t, lab.Expire(t.Context(), lifetime, lab.Nodes...))
	ends := onDisk(t, lab.Nodes[0], pki+"apiserver.crt").NotAfter
	// The processes that read theirs only at start hold the short ones now.
	require.NoError(t, lab.RestartAll(t.Context(), lab.Nodes...))
	leading(t)
	for _, n := range lab.Nodes { // kubeconfigs of two users, as kubeadm's advice has it
		shell(t, n, `for u in root ops; do
	h=$(getent passwd $u | cut -d: -f6)
	mkdir -p $h/.kube; cp /etc/kubernetes/admin.conf $h/.kube/config; chown -R $u: $h/.kube
done`)
	}
	before, processes := serials(t), containers(t)

	conf := credentials(t, lab.Path("admin.conf"))
	balanced := probe(t, "balanced", lab.Balancer(), conf, time.Second/rate, false)
	var direct []*prober
	for _, n := range lab.Nodes {
		direct = append(direct, probe(t, n.Host, n.Address+":6443", conf, time.Second/4, false))
	}
	quorum := watchQuorum(t)

	all := len(restarted) == 4
	r := succeeds(t, "--set", "kubeconfig_users=[ops]", "--set", fmt.Sprintf("restart_all=%v", all))
	require.Less(t, r.took, lifetime-time.Minute, "the old certificates must outlast the run")
	balanced.more(t, 3*rate) // also after it
	balanced.end()
	quorum.end()
	for _, p := range direct {
		p.end()
	}

	figures(t, "load balancer: %d requests, %d failed, %d retried", balanced.requests, len(balanced.failed), len(balanced.retried))
	require.Empty(t, balanced.failed)
	require.Greater(t, float64(balanced.requests), 0.9*rate*r.took.Seconds(), "the load was not what it should be")
	figures(t, "etcd: %d samples, never fewer than %d of %d members healthy", quorum.samples, quorum.least, len(lab.Nodes))
	require.GreaterOrEqual(t, quorum.least, 2, "etcd was without quorum")
	var last time.Time
	for _, p := range direct {
		down := p.outages()
		if !all {
			require.Empty(t, down, p.name)
		}
		figures(t, "kube-apiserver of %s: down %v; %s", p.name, down, p)
		for _, o := range down {
			require.False(t, o.from.Before(last), "two API servers were down at once: %v", down)
			last = o.to
		}
	}
	printSteps(t, r)

	requireServed(t, before)
	for _, h := range r.Hosts {
		for _, s := range h.Steps {
			for _, w := range s.Warnings {
				require.NotContains(t, w, "configuration could not be read", "kubeadm must have the cluster's own")
			}
		}
	}
	requireRestarted(t, processes, restarted...)
	for _, n := range lab.Nodes {
		requireYounger(t, n, "kube-controller-manager", "/etc/kubernetes/controller-manager.conf")
		requireYounger(t, n, "kube-scheduler", "/etc/kubernetes/scheduler.conf")
	}

	// What still held an old certificate would fail from now on.
	time.Sleep(time.Until(ends) + 5*time.Second)
	requireWorks(t)
	requireClientsNew(t)
	requireWorks(t)
	for _, n := range lab.Nodes {
		for _, user := range []string{"root", "ops"} {
			out := shell(t, n, "su - "+user+" -c 'kubectl get --raw /version'")
			require.Contains(t, out, lab.Version)
		}
	}
	processes = containers(t)
	again := succeeds(t, "--set", "kubeconfig_users=[ops]")
	for _, h := range again.Hosts {
		for _, s := range h.Steps {
			require.NotEqual(t, "changed", s.Status, "%s/%s", h.Name, s.ID)
		}
	}
	requireRestarted(t, processes)

	least := floor(t, lab.Nodes[0], restarted...)
	figures(t, "%s: %.1f s, by hand %.1f s", lab.Nodes[0].Host, r.seconds(lab.Nodes[0].Host), least.Seconds())
}

// requireRestarted proves that these components have another process than
// before on every master, and no others.
func requireRestarted(t *testing.T, before map[string]string, restarted ...string) {
	t.Helper()
	for name, process := range containers(t) {
		_, component, _ := strings.Cut(name, "/")
		if slices.Contains(restarted, component) {
			require.NotEqual(t, before[name], process, "%s was not restarted", name)
		} else {
			require.Equal(t, before[name], process, "%s was restarted", name)
		}
	}
}
