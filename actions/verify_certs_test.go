package actions

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certbook/engine/host/hosttest"
	"certbook/schema"
)

// serving puts a whole control plane on a node, in which each port serves what
// is on disk.
func serving(t *testing.T) (*fakeNode, pair) {
	t.Helper()
	n := newNode(t, "crictl")
	now, err := n.Now(t.Context())
	require.NoError(t, err)
	ca := plane(t, n.Fake, now)
	n.Advance(time.Minute)
	for i := range n.containers {
		n.containers[i].created = now.Add(time.Second)
	}
	for address, file := range map[string]string{
		"172.30.0.11:6443": "apiserver", "127.0.0.1:2379": "etcd/server", "172.30.0.11:2379": "etcd/server", "172.30.0.11:2380": "etcd/peer",
	} {
		n.Serve(address, func() ([][]byte, error) {
			f, _ := n.File("/etc/kubernetes/pki/" + file + ".crt")
			return [][]byte{der(t, f.Data)}, nil
		})
	}
	return n, ca
}

func verify() *VerifyCerts {
	return &VerifyCerts{Enabled: true, Processes: true, Fail: true, Components: []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"}}
}

func TestVerifyCerts(t *testing.T) {
	n, ca := serving(t)
	res, err := verify().Check(t.Context(), n)
	require.NoError(t, err)
	require.Len(t, res.Done, 4)
	var reads []string
	for _, p := range res.Outputs.(Proofs).Uses {
		require.Equal(t, "current", p.State)
		if p.Since != "" {
			reads = append(reads, p.Component+" "+p.Path)
		}
	}
	require.Subset(t, reads, []string{"kube-scheduler /etc/kubernetes/scheduler.conf", "kube-controller-manager /etc/kubernetes/controller-manager.conf"})

	now, err := n.Now(t.Context())
	require.NoError(t, err)
	other := issue(t, &ca, "kube-apiserver", now, now.Add(day))
	n.Serve("172.30.0.11:6443", func() ([][]byte, error) { return [][]byte{other.cert.Raw}, nil })
	n.Serve("172.30.0.11:2380", func() ([][]byte, error) { return nil, nil })
	n.renewed("scheduler.conf")
	_, err = verify().Check(t.Context(), n)
	require.ErrorContains(t, err, "kube-apiserver: 172.30.0.11:6443 serves another certificate (sha256 ")
	require.ErrorContains(t, err, "than /etc/kubernetes/pki/apiserver.crt")
	require.ErrorContains(t, err, "etcd: 172.30.0.11:2380 served no certificate")
	require.ErrorContains(t, err, "/etc/kubernetes/scheduler.conf was written at ")
	require.ErrorContains(t, err, "it still holds the old one")
	require.NotContains(t, err.Error(), "controller-manager")
	require.Empty(t, n.Calls("Exec"))
}

// TestVerifyCertsStates tells what is merely not in use yet from what is not
// accepted any more.
func TestVerifyCertsStates(t *testing.T) {
	n, ca := serving(t)
	now, err := n.Now(t.Context())
	require.NoError(t, err)
	ended := issue(t, &ca, "kube-apiserver", now.Add(-day), now.Add(-time.Hour))
	n.Serve("172.30.0.11:6443", func() ([][]byte, error) { return [][]byte{ended.cert.Raw}, nil })
	before := issue(t, &ca, "m1", now.Add(-day), now.Add(time.Hour))
	n.Serve("172.30.0.11:2380", func() ([][]byte, error) { return [][]byte{before.cert.Raw}, nil })
	n.renewed("scheduler.conf", "controller-manager.conf")
	n.logs = map[string]string{
		"kube-scheduler":          now.Add(30*time.Second).Format(time.RFC3339Nano) + " stderr F error retrieving resource lock: Unauthorized\n",
		"kube-controller-manager": now.Add(-time.Hour).Format(time.RFC3339Nano) + " stderr F error retrieving resource lock: Unauthorized\n",
	}
	a := verify()
	_, err = a.Check(t.Context(), n)
	require.ErrorContains(t, err, "it still holds the old one, which the API server refuses")
	a.Fail = false
	res, err := a.Check(t.Context(), n)
	require.NoError(t, err)
	out := res.Outputs.(Proofs)
	states := map[string]string{}
	for _, u := range out.Uses {
		states[u.Path] = u.State
	}
	require.Equal(t, "refused", states["/etc/kubernetes/pki/apiserver.crt"])
	require.Equal(t, "stale", states["/etc/kubernetes/pki/etcd/peer.crt"])
	require.Equal(t, "refused", states["/etc/kubernetes/scheduler.conf"])
	require.Equal(t, "stale", states["/etc/kubernetes/controller-manager.conf"])
	require.Equal(t, []int{2, 2}, []int{out.Stale, out.Refused})
	require.Len(t, res.Warnings, 4)
}

// TestVerifyCertsTool names the ports also when the runtime does not answer.
func TestVerifyCertsTool(t *testing.T) {
	n, _ := serving(t)
	n.Serve("172.30.0.11:6443", func() ([][]byte, error) { return nil, nil })
	n.Remove("/var/lib/kubelet/config.yaml")
	_, err := verify().Check(t.Context(), n)
	require.ErrorContains(t, err, "kube-apiserver: 172.30.0.11:6443 served no certificate")
	require.ErrorContains(t, err, "container runtime: ")

	n, _ = serving(t)
	n.tools = nil
	res, err := verify().Check(t.Context(), n)
	require.NoError(t, err)
	require.Len(t, res.Warnings, 1)
	require.Contains(t, res.Warnings[0], "not proven that the processes are younger")
	off := verify()
	off.Enabled = false
	res, err = off.Check(t.Context(), hosttest.NewFake())
	require.NoError(t, err)
	require.Len(t, res.Warnings, 1)
}

func TestPreflight(t *testing.T) {
	for name, c := range map[string]struct {
		set  func(n *fakeNode, a *Preflight)
		want []string // in the error; none when it passes
	}{
		"good":      {func(*fakeNode, *Preflight) {}, nil},
		"root":      {func(n *fakeNode, _ *Preflight) { n.facts = "uid 1000\nfree 999\nfree 999\n" }, []string{"user id 1000; kubeadm needs root"}},
		"space":     {func(n *fakeNode, _ *Preflight) { n.facts = "uid 0\nfree 999\nfree 7\n" }, []string{"/var/lib has 7 MiB free, want 100"}},
		"clock":     {func(n *fakeNode, _ *Preflight) { n.Advance(-2 * time.Minute) }, []string{"the clock differs from the controller's by -2m0s"}},
		"clock, ok": {func(n *fakeNode, _ *Preflight) { n.Advance(time.Minute) }, nil},
		"kubeadm":   {func(n *fakeNode, _ *Preflight) { n.kubeadm = "" }, []string{"kubeadm"}},
		"too old":   {func(n *fakeNode, _ *Preflight) { n.kubeadm = "v1.10.0" }, []string{"1.10"}},
		"key": {func(n *fakeNode, _ *Preflight) {
			f, _ := n.File("/etc/kubernetes/pki/front-proxy-client.key")
			n.Put("/etc/kubernetes/pki/apiserver.key", f.Data)
		}, []string{"apiserver: the key /etc/kubernetes/pki/apiserver.key does not match the certificate apiserver.crt"}},
		"no key": {func(n *fakeNode, _ *Preflight) { n.Put("/etc/kubernetes/pki/ca.key", []byte("x")) },
			[]string{"ca: /etc/kubernetes/pki/ca.key holds no readable private key"}},
		"all at once": {func(n *fakeNode, _ *Preflight) {
			n.facts = "uid 5\nfree 1\n"
			n.Advance(time.Hour)
		}, []string{"user id 5", "1 MiB free", "by 1h0m0s"}},
	} {
		t.Run(name, func(t *testing.T) {
			n, _ := serving(t)
			n.facts, n.kubeadm = "uid 0\nfree 999\nfree 999\ntimer kubeadm-renew-certs.timer\n", "v1.34.4"
			now, err := n.Now(t.Context())
			require.NoError(t, err)
			a := &Preflight{MaxClockSkew: schema.Duration(time.Minute), FreeMiB: 100, Paths: []string{"/etc/kubernetes", "/var/lib"}, now: func() time.Time { return now }}
			c.set(n, a)
			res, err := a.Check(t.Context(), n)
			require.Empty(t, n.Calls("Exec"))
			if c.want == nil {
				require.NoError(t, err)
				require.Equal(t, "m1", res.Outputs.(Readiness).Node)
				require.Equal(t, "containerd", res.Outputs.(Readiness).Runtime)
				require.Equal(t, "v1.34.4", res.Outputs.(Readiness).Kubeadm)
				require.Equal(t, []string{"kubeadm-renew-certs.timer also renews certificates on this host; turn one of the two off"}, res.Warnings)
				return
			}
			require.Error(t, err)
			for _, w := range c.want {
				require.ErrorContains(t, err, w)
			}
		})
	}
}
