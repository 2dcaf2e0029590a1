package kube

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRunningKubeadm(t *testing.T) {
	for line, want := range map[string]string{
		"":                              "", // it has ended
		"kubeadm version -o short":      "",
		"/usr/bin/kubeadm":              "kubeadm",
		"kubeadm certs renew all":       "kubeadm certs renew all",
		"/opt/bin/kubeadm upgrade node": "kubeadm upgrade node",
		"kubeadm join 10.0.0.1:6443 --token abcdef.0123456789abcdef": "kubeadm join 10.0.0.1:6443 ...",
		"kubeadm --token abcdef.0123456789abcdef join":               "kubeadm ...",
		"/bin/sh /usr/bin/kubeadm upgrade apply -y":                  "kubeadm upgrade apply ...",
		"/bin/sh":                              "kubeadm",
		"kubeadm \x1b[2J\u202eupgrade\xff":     "kubeadm [2J upgrade",
		"kubeadm " + strings.Repeat("x", 1000): "kubeadm " + strings.Repeat("x", 112) + "...",
	} {
		require.Equal(t, want, RunningKubeadm(line), "%q", line)
	}
}

func TestHostRenewal(t *testing.T) {
	for _, c := range [][3]string{
		{"k8s-certs-renew.timer", "/usr/local/bin/kube-scripts/k8s-certs-renew.sh", "k8s-certs-renew.timer of KubeKey (/usr/local/bin/kube-scripts/k8s-certs-renew.sh)"},
		{"k8s-certs-renew.timer", "/opt/bin/k8s-certs-renew.sh", "k8s-certs-renew.timer of kubespray (/opt/bin/k8s-certs-renew.sh)"},
		{"/etc/cron.d/a", "/etc/cron.d/a", "/etc/cron.d/a"},
		{"/etc/cron.d/a\x1b", "/b", "/etc/cron.d/a (/b)"},
	} {
		require.Equal(t, c[2], HostRenewal(c[0], c[1]))
	}
}

func TestParseServers(t *testing.T) {
	pod := func(mirror, address, host string) string {
		return fmt.Sprintf(`{"metadata":{"annotations":{"kubernetes.io/config.mirror":%q,"kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint":%q}},"status":{"hostIP":%q}}`, mirror, address, host)
	}
	list := func(pods ...string) []byte { return []byte(`{"items":[` + strings.Join(pods, ",") + `]}`) }
	got, err := ParseServers(list(
		pod("a", "10.0.0.2:6443", ""), pod("b", "[fd00::1]:6443", ""), pod("c", "10.0.0.2:6443", ""),
		pod("d", "", "10.0.0.1"), pod("e", "", ""), // not annotated
		pod("", "10.0.0.9:6443", ""), // somebody's pod with that label
		pod("f", "host:6443", ""), pod("g", "10.0.0.8:0", ""), pod("h", "10.0.0.8:70000", ""), pod("i", "10.0.0.8:+1", ""), pod("j", "10.0.0.8:1/x", ""), pod("k", "10.0.0.8", ""),
	), "8443")
	require.NoError(t, err)
	require.Equal(t, []string{"10.0.0.1:8443", "10.0.0.2:6443", "[fd00::1]:6443"}, got)
	var many []string
	for i := range 100 {
		many = append(many, pod("a", fmt.Sprintf("10.0.1.%d:6443", i), ""))
	}
	got, err = ParseServers(list(many...), "6443")
	require.NoError(t, err)
	require.Len(t, got, maxServers)
	_, err = ParseServers([]byte("no"), "6443")
	require.ErrorContains(t, err, "not the expected JSON")
}

func TestParseLeases(t *testing.T) {
	got, err := ParseLeases([]byte(`{"items":[
		{"metadata":{"name":"kube-scheduler"},"spec":{"holderIdentity":"vm_f85b7baf","leaseDurationSeconds":15,"acquireTime":"2026-11-25T02:16:21.720000Z","renewTime":"2026-11-25T02:16:23.728801Z"}},
		{"metadata":{"name":"given up"},"spec":{"holderIdentity":""}},
		{"metadata":{"name":"broken"},"spec":"x"}]}`))
	require.NoError(t, err)
	require.Equal(t, []Lease{
		{"kube-scheduler", "vm_f85b7baf", time.Date(2026, 11, 25, 2, 16, 23, 728801000, time.UTC)},
		{Name: "given up"},
	}, got)
}

func TestEtcdctl(t *testing.T) {
	m := manifest(t, Etcd)
	require.Equal(t, "https://127.0.0.1:2379", m.ClientURL())
	require.Equal(t, []string{"etcdctl", "--dial-timeout=3s", "--command-timeout=5s", "--write-out=json",
		"--cacert=/etc/kubernetes/pki/etcd/ca.crt", "--cert=/etc/kubernetes/pki/etcd/server.crt", "--key=/etc/kubernetes/pki/etcd/server.key",
		"--endpoints=https://a:1", "member", "list"}, m.EtcdctlArgv("https://a:1", "member", "list"))
	plain := Manifest{Component: Etcd, Args: Args{"--listen-client-urls=bad,http://0.0.0.0:2379"}}
	require.Equal(t, "http://127.0.0.1:2379", plain.ClientURL())
	require.Equal(t, []string{"etcdctl", "--dial-timeout=3s", "--command-timeout=5s", "--write-out=json", "--endpoints=x", "member", "list"}, plain.EtcdctlArgv("x", "member", "list"))
	require.Empty(t, Manifest{Component: Etcd}.ClientURL())
}

// TestParseMembers reads what etcdctl 3.6.5 prints, with what crictl appends.
func TestParseMembers(t *testing.T) {
	members, err := ParseMembers([]byte(`{"header":{"cluster_id":17300438976491492131},"members":[
		{"ID":185828541645115251,"name":"b","peerURLs":["https://10.0.0.2:2380"],"clientURLs":["https://10.0.0.2:2379"]},
		{"ID":13668033151171901709,"name":"a","clientURLs":["https://10.0.0.1:2379","http://10.0.0.1:2390","https://x,y:1","unix://z"]},
		{"ID":255,"peerURLs":["https://10.0.0.3:2380"]},
		{"ID":256,"name":"new\u001b","isLearner":true}]}` + "\n\nwarning\n"))
	require.NoError(t, err)
	require.Equal(t, []EtcdMember{
		{ID: "2943212f5e2cf73", Name: "b", URLs: []string{"https://10.0.0.2:2379"}},
		{ID: "bdae9bbc11dd390d", Name: "a", URLs: []string{"https://10.0.0.1:2379", "http://10.0.0.1:2390"}},
		{ID: "ff"},
		{ID: "100", Name: "new", Learner: true},
	}, members)
	require.Equal(t, "b (https://10.0.0.2:2379)", members[0].String())
	require.Equal(t, "ff, which was added and has never started,", members[2].String())
	require.Equal(t, "new", members[3].String())

	require.NoError(t, ParseEndpointHealth([]byte(`[{"endpoint":"http://10.0.0.1:2390","health":true,"took":"4ms"},{"endpoint":"https://10.0.0.1:2379","health":false,"error":"x"},`+
		`{"endpoint":"https://10.0.0.2:2379","health":false,"took":"5.00174414s","error":"context deadline exceeded"},{"endpoint":"https://10.0.0.9:2379","health":true}]`+"\n"), members))
	require.Equal(t, []bool{false, true, false, false}, []bool{members[0].Healthy, members[1].Healthy, members[2].Healthy, members[3].Healthy})
	require.Equal(t, "context deadline exceeded", members[0].Problem)
	require.Equal(t, Quorum{Members: 3, Connected: 1, HasLeader: true}, Others(members, "b"))
	require.Equal(t, Quorum{Members: 3, Connected: 0, HasLeader: true}, Others(members, "a"))

	for _, data := range []string{"", "unhealthy cluster", `{"members":[]}`, `{"members":[{"ID":-1}]}`, `{"members":[` + strings.Repeat(`{},`, 64) + `{}]}`} {
		_, err := ParseMembers([]byte(data))
		require.Error(t, err, data)
	}
	require.ErrorContains(t, ParseEndpointHealth([]byte("https://127.0.0.1:2379 is healthy"), members), "not the expected JSON")
}

// FuzzCluster reads what the API server and etcdctl may say: what goes into a
// command or an address is no other thing.
func FuzzCluster(f *testing.F) {
	f.Add([]byte(`{"items":[{"metadata":{"name":"a","annotations":{"kubernetes.io/config.mirror":"1","kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint":"10.0.0.1:6443"}},"spec":{"renewTime":"2026-11-25T02:16:23.728801Z"},"status":{"hostIP":"::1"}}]}`))
	f.Add([]byte(`{"members":[{"ID":1,"name":"a","clientURLs":["https://10.0.0.2:2379"]}]}`))
	f.Add([]byte(`{"items":[{"data":{"ClusterConfiguration":"apiServer: {certSANs: [a, 1.2.3.4, '*.b']}"}}]}`))
	f.Add([]byte("/bin/sh /usr/bin/kubeadm upgrade apply --x"))
	l := Survey(newHost(f).files)
	found := Inventory(l, nil)
	f.Fuzz(func(t *testing.T, data []byte) {
		servers, _ := ParseServers(data, "6443")
		for _, s := range servers {
			if !isAddress(s) {
				t.Fatalf("%q is no address", s)
			}
		}
		members, _ := ParseMembers(data)
		for _, m := range members {
			for _, u := range m.URLs {
				argument(t, "client URL", u)
				if strings.Contains(u, ",") {
					t.Fatalf("%q is two endpoints", u)
				}
			}
		}
		_ = ParseEndpointHealth(data, members)
		leases, _ := ParseLeases(data)
		renewals, _ := ClusterRenewals([][]byte{data, data, data})
		names, _ := NameWarnings(l, found, data)
		said := append(append(renewals, names...), RunningKubeadm(string(data)), HostRenewal(string(data), "/x"))
		for _, m := range members {
			said = append(said, m.String(), m.Problem)
		}
		for _, l := range leases {
			said = append(said, l.Holder)
		}
		for _, s := range said {
			if strings.ContainsAny(s, "\x1b\n\x00\u202e") || len(s) > 1000 {
				t.Fatalf("%q is shown to people", s)
			}
		}
	})
}
