package actions

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certbook/actions/kube"
	"certbook/engine"
	"certbook/schema"
)

// What etcdctl 3.6.5 prints of three members.
const (
	listOfThree   = `{"header":{"cluster_id":17300438976491492131,"member_id":13668033151171901709,"raft_term":2},"members":[{"ID":185828541645115251,"name":"m2","peerURLs":["https://172.30.0.12:2380"],"clientURLs":["https://172.30.0.12:2379"]},{"ID":3990370604368066554,"name":"m3","peerURLs":["https://172.30.0.13:2380"],"clientURLs":["https://172.30.0.13:2379"]},{"ID":13668033151171901709,"name":"m1","peerURLs":["https://172.30.0.11:2380"],"clientURLs":["https://172.30.0.11:2379"]}]}` + "\n"
	healthOfThree = `[{"endpoint":"https://172.30.0.11:2379","health":true,"took":"9.705665ms"},{"endpoint":"https://172.30.0.13:2379","health":true,"took":"13.141621ms"},{"endpoint":"https://172.30.0.12:2379","health":true,"took":"30.921226ms"}]` + "\n"
)

// mirrorPods are what the API server lists of the masters' API servers.
func mirrorPods(addresses ...string) string {
	var list []string
	for _, a := range addresses {
		list = append(list, fmt.Sprintf(`{"metadata":{"name":"kube-apiserver","namespace":"kube-system","annotations":{"kubernetes.io/config.mirror":"1","kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint":%q}}}`, a))
	}
	return `{"items":[` + strings.Join(list, ",") + `]}`
}

// leaseList is those of the two, renewed at some time.
func leaseList(manager, scheduler time.Time) string {
	const one = `{"metadata":{"name":%q,"namespace":"kube-system"},"spec":{"holderIdentity":"m2_1","leaseDurationSeconds":15,"renewTime":%q}}`
	return fmt.Sprintf(`{"items":[{"metadata":{"name":"apiserver-x"},"spec":{"renewTime":"2020-01-01T00:00:00.000000Z"}},`+one+`,`+one+`]}`,
		kube.ControllerManager, manager.UTC().Format("2006-01-02T15:04:05.000000Z"), kube.Scheduler, scheduler.UTC().Format("2006-01-02T15:04:05.000000Z"))
}

// cluster is a node of a cluster of three masters in which all is well.
func cluster(t *testing.T, tool string) *fakeNode {
	t.Helper()
	n := newNode(t, tool)
	n.Put("/etc/kubernetes/admin.conf", []byte("x"))
	if tool == "docker" {
		n.Put("/var/lib/kubelet/config.yaml", []byte("kind: KubeletConfiguration\nstaticPodPath: /etc/kubernetes/manifests\n"))
		n.Put("/var/lib/kubelet/kubeadm-flags.env", []byte(`KUBELET_KUBEADM_ARGS="--container-runtime=docker"`))
	}
	n.etcdctl = map[string]string{"member list": listOfThree, "health --cluster": healthOfThree}
	now, err := n.Now(t.Context())
	require.NoError(t, err)
	n.api = map[string]string{
		kube.ServersPath: mirrorPods("172.30.0.13:6443", "172.30.0.11:6443", "172.30.0.12:6443"),
		kube.LeasesPath:  leaseList(now.Add(-2*time.Second), now.Add(-time.Second)),
	}
	for _, url := range []string{"https://172.30.0.12:6443/readyz", "https://172.30.0.13:6443/readyz"} {
		n.answers(url, 200, "ok")
	}
	return n
}

func (n *fakeNode) answers(url string, status int, body string) {
	n.Answer(url, func() (engine.Response, error) {
		return engine.Response{Status: status, Body: []byte(body)}, nil
	})
}

func newGate() *HealthGate { return &HealthGate{MaxLeaseAge: schema.Duration(40 * time.Second)} }

func TestHealthGate(t *testing.T) {
	const metrics = "http://127.0.0.1:2381/metrics"
	peers := func(known, active int) string {
		out := "etcd_server_has_leader 1\n"
		for i := range known {
			out += fmt.Sprintf("etcd_network_known_peers{Local=\"a\",Remote=\"%d\"} 1\n", i)
		}
		for i := range active {
			out += fmt.Sprintf("etcd_network_active_peers{Local=\"a\",Remote=\"%d\"} 1\n", i)
		}
		return out
	}
	all := Health{Members: 3, Healthy: 3, Servers: []string{"172.30.0.11:6443", "172.30.0.12:6443", "172.30.0.13:6443"}}
	for name, c := range map[string]struct {
		set      func(n *fakeNode, now time.Time)
		refused  []string // in the error; none when it passes
		warnings []string
		out      Health // not compared when it refuses
	}{
		"all is well": {func(*fakeNode, time.Time) {}, nil, nil, all},
		"a member does not answer": {func(n *fakeNode, _ time.Time) {
			n.etcdctl["health --cluster"] = strings.Replace(healthOfThree, `"health":true,"took":"13.141621ms"`, `"health":false,"took":"5.00174414s","error":"context deadline exceeded"`, 1)
		}, []string{"etcd's member m3 (https://172.30.0.13:2379) is not healthy: context deadline exceeded; 2 of etcd's 3 members are healthy, and 2 are its quorum; mend that first"}, nil, Health{}},
		"a member has never started": {func(n *fakeNode, _ time.Time) {
			n.etcdctl["member list"] = strings.Replace(listOfThree, `"members":[`, `"members":[{"ID":255,"peerURLs":["https://172.30.0.14:2380"]},`, 1)
		}, []string{"etcd's member ff, which was added and has never started, is not healthy; 3 of etcd's 4 members are healthy, and 3 are its quorum"}, nil, Health{}},
		"a learner has no vote": {func(n *fakeNode, _ time.Time) {
			n.etcdctl["member list"] = strings.Replace(listOfThree, `"members":[`, `"members":[{"ID":255,"name":"m4","isLearner":true,"peerURLs":["https://172.30.0.14:2380"]},`, 1)
		}, nil, nil, all},
		"two members": {func(n *fakeNode, _ time.Time) {
			n.etcdctl["member list"] = strings.Replace(listOfThree, `{"ID":3990370604368066554,"name":"m3","peerURLs":["https://172.30.0.13:2380"],"clientURLs":["https://172.30.0.13:2379"]},`, "", 1)
		}, nil, []string{"etcd has two members: while one of them restarts it has no quorum"}, Health{Members: 2, Healthy: 2, Servers: all.Servers}},
		"one master": {func(n *fakeNode, _ time.Time) {
			n.etcdctl = map[string]string{
				"member list":      `{"members":[{"ID":1,"name":"m1","clientURLs":["https://172.30.0.11:2379"]}]}`,
				"health --cluster": `[{"endpoint":"https://172.30.0.11:2379","health":true}]`,
			}
			n.api[kube.ServersPath] = mirrorPods("172.30.0.11:6443")
		}, nil, nil, Health{Members: 1, Healthy: 1, Servers: all.Servers[:1]}},
		"no quorum": {func(n *fakeNode, _ time.Time) {
			n.etcdctl = nil
			n.answers(healthURLs["etcd"], 503, `{"health":"false","reason":"RAFT NO LEADER"}`)
			n.answers(metrics, 200, strings.Replace(peers(3, 0), "has_leader 1", "has_leader 0", 1))
		}, []string{`etcd's member on this host is not healthy: http://127.0.0.1:2381/health: status 503: {"health":"false","reason":"RAFT NO LEADER"}`, "etcd has no leader: too few of its 3 members are up", "'certbook run recover'"}, nil, Health{}},
		"by the metrics": {func(n *fakeNode, _ time.Time) {
			n.etcdctl = nil
			n.answers(metrics, 200, peers(3, 2))
		}, nil, nil, all},
		"by the metrics, a member away": {func(n *fakeNode, _ time.Time) {
			n.etcdctl = nil
			n.answers(metrics, 200, peers(3, 1))
		}, []string{"etcd's member on this host is connected with 1 of the 2 others; without it etcd needs 2 for its quorum"}, nil, Health{}},
		"metrics of etcd 3.5": {func(n *fakeNode, _ time.Time) {
			n.etcdctl = nil
			n.answers(metrics, 200, peers(0, 2))
		}, nil, []string{"how many members etcd has, and whether they are healthy, is not known: etcdctl member list: exit status 1: Error: context deadline exceeded"}, Health{Servers: all.Servers}},
		"the list is not one": {func(n *fakeNode, _ time.Time) {
			n.etcdctl["member list"] = `{"members":[]}`
		}, nil, []string{"is not known: etcdctl member list: 0 members, want 1 to 64"}, Health{Servers: all.Servers}},
		"its container is away": {func(n *fakeNode, _ time.Time) {
			n.containers = slices.DeleteFunc(n.containers, func(c container) bool { return c.pod == "etcd-m1" })
		}, nil, []string{"is not known: its container does not run"}, Health{Servers: all.Servers}},
		"an API server is not ready": {func(n *fakeNode, _ time.Time) {
			n.answers("https://172.30.0.12:6443/readyz", 500, "[-]etcd failed: reason withheld")
		}, []string{"the API server 172.30.0.12:6443 is not ready: https://172.30.0.12:6443/readyz: status 500: [-]etcd failed: reason withheld; mend"}, nil, Health{}},
		"anonymous requests are off": {func(n *fakeNode, _ time.Time) {
			n.answers("https://172.30.0.12:6443/readyz", 401, "Unauthorized")
		}, nil, nil, all},
		"the lease is old": {func(n *fakeNode, now time.Time) {
			n.api[kube.LeasesPath] = leaseList(now.Add(-90*time.Second), now)
		}, []string{"nobody leads as kube-controller-manager: its lease, of m2_1, was last renewed at ", ", 1m30s ago by this host's clock"}, nil, Health{}},
		"nobody leads, as the old certificate has ended": {func(n *fakeNode, now time.Time) {
			n.renewed("controller-manager.conf")
			n.api[kube.LeasesPath] = leaseList(now.Add(-90*time.Second), now.Add(time.Minute))
		}, nil, []string{"nobody leads as kube-controller-manager: its lease, of m2_1, was last renewed at "}, all},
		"nobody leads, and another's is outdated": {func(n *fakeNode, now time.Time) {
			n.renewed("scheduler.conf")
			n.api[kube.LeasesPath] = leaseList(now.Add(-90*time.Second), now.Add(time.Minute))
		}, []string{"nobody leads as kube-controller-manager: its lease"}, nil, Health{}},
		"there is no lease": {func(n *fakeNode, _ time.Time) {
			n.api[kube.LeasesPath] = `{"items":[]}`
		}, nil, []string{"there is no lease kube-system/kube-controller-manager, so", "there is no lease kube-system/kube-scheduler, so"}, all},
		"no election": {func(n *fakeNode, _ time.Time) {
			n.api[kube.LeasesPath] = `{"items":[]}`
			for _, c := range []string{kube.ControllerManager, kube.Scheduler} {
				file := "/etc/kubernetes/manifests/" + c + ".yaml"
				f, _ := n.File(file)
				n.Put(file, []byte(strings.ReplaceAll(string(f.Data), "--leader-elect=true", "--leader-elect=false")))
			}
		}, nil, nil, all},
		"the API cannot be asked": {func(n *fakeNode, _ time.Time) { n.noAPI = "The connection to the server was refused" },
			nil, []string{"the other masters' API servers and the leases were not looked at: kubectl get --raw: exit status 1: The connection to the server was refused"}, Health{Members: 3, Healthy: 3}},
		"no admin.conf": {func(n *fakeNode, _ time.Time) { n.Remove("/etc/kubernetes/admin.conf") },
			nil, []string{"were not looked at: there is no /etc/kubernetes/admin.conf to ask the API server with"}, Health{Members: 3, Healthy: 3}},
		"hostile answers": {func(n *fakeNode, _ time.Time) {
			n.api[kube.ServersPath] = mirrorPods("169.254.169.254/latest:80", "example.org:6443", "172.30.0.12:6443@x", "172.30.0.12:99999", "172.30.0.12:6443")
		}, nil, nil, Health{Members: 3, Healthy: 3, Servers: []string{"172.30.0.12:6443"}}},
		"all at once": {func(n *fakeNode, now time.Time) {
			n.etcdctl["health --cluster"] = strings.ReplaceAll(healthOfThree, `"https://172.30.0.13:2379","health":true`, `"https://172.30.0.13:2379","health":false`)
			n.answers("https://172.30.0.13:6443/readyz", 500, "no")
			n.api[kube.LeasesPath] = leaseList(now.Add(-time.Hour), now.Add(-time.Hour))
		}, []string{"etcd's member m3 ", "the API server 172.30.0.13:6443", "kube-controller-manager", "kube-scheduler"}, nil, Health{}},
	} {
		t.Run(name, func(t *testing.T) {
			n := cluster(t, "crictl")
			now, err := n.Now(t.Context())
			require.NoError(t, err)
			c.set(n, now)
			res, err := newGate().Check(t.Context(), n)
			require.Empty(t, n.Calls("Exec"))
			require.Empty(t, res.Changes)
			if c.refused != nil {
				require.Error(t, err)
				for _, w := range c.refused {
					require.ErrorContains(t, err, w)
				}
				return
			}
			require.NoError(t, err)
			require.Len(t, res.Warnings, len(c.warnings), "%q", res.Warnings)
			for i, w := range c.warnings {
				require.Contains(t, res.Warnings[i], w)
			}
			require.Equal(t, c.out, res.Outputs)
		})
	}
}

// TestHealthGateClocks takes a lease for fresh that is renewed between two looks,
// whatever the clock of its holder says.
func TestHealthGateClocks(t *testing.T) {
	n := cluster(t, "crictl")
	now, err := n.Now(t.Context())
	require.NoError(t, err)
	a := newGate()
	ahead := now.Add(5 * time.Minute)
	n.api[kube.LeasesPath] = leaseList(ahead, now)
	_, err = a.Check(t.Context(), n)
	require.ErrorContains(t, err, "nobody leads as kube-controller-manager")
	_, err = a.Check(t.Context(), n)
	require.Error(t, err, "it was not renewed")
	n.api[kube.LeasesPath] = leaseList(ahead.Add(2*time.Second), now)
	_, err = a.Check(t.Context(), n)
	require.NoError(t, err)
}

// TestHealthGateTools asks etcdctl through each of the tools for containers.
func TestHealthGateTools(t *testing.T) {
	for _, tool := range []string{"crictl", "docker"} {
		n := cluster(t, tool)
		res, err := newGate().Check(t.Context(), n)
		require.NoError(t, err)
		require.Empty(t, res.Warnings, tool)
		require.Equal(t, 3, res.Outputs.(Health).Healthy, tool)
	}
}

// TestHealthGateElsewhere passes over what is not on the host.
func TestHealthGateElsewhere(t *testing.T) {
	n := cluster(t, "crictl")
	n.Remove("/etc/kubernetes/manifests/etcd.yaml")
	n.etcdctl = nil
	res, err := newGate().Check(t.Context(), n)
	require.NoError(t, err)
	require.Empty(t, res.Warnings)
	require.Zero(t, res.Outputs.(Health).Members)

	n = cluster(t, "crictl") // a host of an external etcd
	for _, c := range []string{kube.APIServer, kube.ControllerManager, kube.Scheduler} {
		n.Remove("/etc/kubernetes/manifests/" + c + ".yaml")
	}
	n.Remove("/etc/kubernetes/admin.conf")
	n.Remove("/etc/kubernetes/pki/apiserver.crt")
	n.noAPI = "no"
	res, err = newGate().Check(t.Context(), n)
	require.NoError(t, err)
	require.Empty(t, res.Warnings)
	require.Equal(t, Health{Members: 3, Healthy: 3}, res.Outputs)
}
