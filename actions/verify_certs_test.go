package actions

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certbook/engine/host/hosttest"
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
