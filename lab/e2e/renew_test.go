//go:build e2e

package e2e_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certbook/lab/cluster"
)

// lifetime of the certificates that are renewed under load. They must outlast
// the run, and then end while somebody looks.
const lifetime = 4 * time.Minute

// TestRenewalUnderLoad renews everything on three masters while clients work.
func TestRenewalUnderLoad(t *testing.T) {
	reset(t)
	require.NoError(t, lab.Expire(t.Context(), lifetime, lab.Nodes...))
	ends := onDisk(t, lab.Nodes[0], pki+"apiserver.crt").NotAfter
	// The processes that read theirs only at start hold the short ones now.
	require.NoError(t, lab.RestartAll(t.Context(), lab.Nodes...))
	eventually(t, 3*time.Minute, func() error { return lab.Healthy(t.Context()) })
	for _, n := range lab.Nodes { // kubeconfigs of two users, as kubeadm's advice has it
		shell(t, n, `for u in root ops; do
	h=$(getent passwd $u | cut -d: -f6)
	mkdir -p $h/.kube; cp /etc/kubernetes/admin.conf $h/.kube/config; chown -R $u: $h/.kube
done`)
	}
	before := serials(t)

	conf := credentials(t, lab.Path("admin.conf"))
	balanced := probe(t, "balanced", lab.Balancer(), conf, time.Second/rate, false)
	var direct []*prober
	for _, n := range lab.Nodes {
		direct = append(direct, probe(t, n.Host, n.Address+":6443", conf, time.Second/4, false))
	}
	quorum := watchQuorum(t)

	r := succeeds(t, "--set", "kubeconfig_users=[ops]")
	require.Less(t, r.took, lifetime-time.Minute, "the old certificates must outlast the run")
	time.Sleep(3 * time.Second)
	balanced.end()
	quorum.end()
	for _, p := range direct {
		p.end()
	}

	figures(t, "load balancer: %d requests, %d failed, %d retried", balanced.requests, len(balanced.failed), len(balanced.retried))
	require.Empty(t, balanced.failed)
	require.Greater(t, balanced.requests, 500)
	figures(t, "etcd: %d samples, never fewer than %d of %d members healthy", quorum.samples, quorum.least, len(lab.Nodes))
	require.GreaterOrEqual(t, quorum.least, 2, "etcd was without quorum")
	var last time.Time
	for _, p := range direct {
		down := p.outages()
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
	for _, n := range lab.Nodes {
		requireYounger(t, n, "kube-controller-manager", "/etc/kubernetes/controller-manager.conf")
		requireYounger(t, n, "kube-scheduler", "/etc/kubernetes/scheduler.conf")
		requireYounger(t, n, "kube-apiserver", pki+"apiserver-etcd-client.crt")
		requireYounger(t, n, "etcd", pki+"etcd/server.crt")
	}

	// What still held an old certificate would fail from now on.
	time.Sleep(time.Until(ends) + 5*time.Second)
	requireWorks(t)
	for _, n := range lab.Nodes {
		for _, user := range []string{"root", "ops"} {
			out := shell(t, n, "su - "+user+" -c 'kubectl get --raw /version'")
			require.Contains(t, out, lab.Version)
		}
	}
	again := succeeds(t, "--set", "kubeconfig_users=[ops]")
	for _, h := range again.Hosts {
		for _, s := range h.Steps {
			require.NotEqual(t, "changed", s.Status, "%s/%s", h.Name, s.ID)
		}
	}
}

// requireWorks proves that the control plane does its work with valid
// certificates: leases are renewed, a pod is scheduled and runs, its log is
// read by way of each API server, and so by each one's kubelet client.
func requireWorks(t *testing.T) {
	t.Helper()
	require.NoError(t, lab.Healthy(t.Context()))
	now := time.Now()
	for _, lease := range []string{"kube-controller-manager", "kube-scheduler"} {
		eventually(t, time.Minute, func() error { return renewed(t, lease, now) })
	}
	name := fmt.Sprintf("after-%d", now.Unix())
	manifest := fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":%q},"spec":{"hostNetwork":true,"restartPolicy":"Never","automountServiceAccountToken":false,
"containers":[{"name":"c","image":"registry.k8s.io/etcd:3.6.5-0","imagePullPolicy":"Never","command":["/usr/local/bin/etcd","--version"]}]}}`, name)
	_, err := lab.Shell(t.Context(), lab.Nodes[0], "cat >/tmp/pod.json <<'E'\n"+manifest+"\nE\nkubectl --kubeconfig /etc/kubernetes/admin.conf apply -f /tmp/pod.json")
	require.NoError(t, err)
	for _, n := range lab.Nodes {
		eventually(t, time.Minute, func() error {
			out, err := lab.Shell(t.Context(), n, "kubectl --kubeconfig /etc/kubernetes/admin.conf --server https://"+n.Address+":6443 logs "+name)
			if err == nil && !strings.Contains(out, "etcd Version") {
				err = fmt.Errorf("the log is %q", out)
			}
			return err
		})
	}
}

// renewed returns nil when the holder of a lease has renewed it after a time.
func renewed(t *testing.T, name string, after time.Time) error {
	text, err := lab.Kubectl(t.Context(), "get", "lease", "-n", "kube-system", name, "-o", "json")
	if err != nil {
		return err
	}
	var lease struct {
		Spec struct {
			Holder  string    `json:"holderIdentity"`
			Renewed time.Time `json:"renewTime"`
		} `json:"spec"`
	}
	if err := json.Unmarshal([]byte(text), &lease); err != nil {
		return err
	}
	if !lease.Spec.Renewed.After(after) {
		return fmt.Errorf("%s: %s renewed its lease last at %s", name, lease.Spec.Holder, lease.Spec.Renewed)
	}
	return nil
}

// printSteps prints what each step of the first master took.
func printSteps(t *testing.T, r result) {
	t.Helper()
	for _, h := range r.Hosts {
		var sum int64
		var line strings.Builder
		for _, s := range h.Steps {
			sum += s.Millis
			if s.Millis >= 100 {
				fmt.Fprintf(&line, ", %s %.1f", s.ID, float64(s.Millis)/1000)
			}
		}
		figures(t, "%s: %.1f s in steps%s", h.Name, float64(sum)/1000, line.String())
	}
}

// members watches how many of etcd's members are healthy.
type members struct {
	stop    context.CancelFunc
	done    sync.WaitGroup
	samples int
	least   int
}

// watchQuorum asks every member for its health every 200 ms, which is true
// only with a quorum.
func watchQuorum(t *testing.T) *members {
	t.Helper()
	n := lab.Nodes[0]
	pair, err := tls.X509KeyPair([]byte(shell(t, n, "cat "+pki+"etcd/healthcheck-client.crt")), []byte(shell(t, n, "cat "+pki+"etcd/healthcheck-client.key")))
	require.NoError(t, err)
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{
		Certificates: []tls.Certificate{pair}, InsecureSkipVerify: true, // health is asked, not trust
	}}}
	ctx, stop := context.WithCancel(context.Background())
	m := &members{stop: stop, least: len(lab.Nodes)}
	m.done.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			good := healthy(client, lab.Nodes)
			m.samples++
			m.least = min(m.least, good)
		}
	})
	t.Cleanup(m.end)
	return m
}

func (m *members) end() {
	m.stop()
	m.done.Wait()
}

func healthy(client *http.Client, nodes []cluster.Node) int {
	good := make([]bool, len(nodes))
	var group sync.WaitGroup
	for i, n := range nodes {
		group.Go(func() {
			resp, err := client.Get("https://" + n.Address + ":2379/health?serializable=true")
			if err == nil {
				resp.Body.Close()
				good[i] = resp.StatusCode == http.StatusOK
			}
		})
	}
	group.Wait()
	sum := 0
	for _, g := range good {
		if g {
			sum++
		}
	}
	return sum
}
