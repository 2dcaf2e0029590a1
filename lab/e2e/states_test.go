//go:build e2e

package e2e_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var errAnswers = errors.New("the API still answers")

// TestNothingDue restarts nothing.
func TestNothingDue(t *testing.T) {
	reset(t)
	processes := containers(t)
	r := succeeds(t)
	for _, h := range r.Hosts {
		for _, s := range h.Steps {
			require.NotEqual(t, "changed", s.Status, "%s/%s", h.Name, s.ID)
		}
	}
	require.Equal(t, processes, containers(t))
	figures(t, "nothing due: %.1f s for %d masters", r.took.Seconds(), len(r.Hosts))
}

// TestHalfRenewed converges masters in three states: renewed by hand but not
// restarted, a manifest left outside the manifests directory by a run that
// died, and untouched.
func TestHalfRenewed(t *testing.T) {
	reset(t)
	require.NoError(t, lab.Expire(t.Context(), 24*time.Hour, lab.Nodes...))
	shell(t, lab.Nodes[0], "kubeadm certs renew all")
	shell(t, lab.Nodes[1], `mkdir -p -m 700 /var/lib/certbook/parked/died
mv /etc/kubernetes/manifests/kube-scheduler.yaml /var/lib/certbook/parked/died/etc@kubernetes@manifests@kube-scheduler.yaml`)
	eventually(t, time.Minute, func() error {
		out, err := lab.Shell(t.Context(), lab.Nodes[1], "pgrep -f '^kube-scheduler ' || echo none")
		if err == nil && out != "none\n" {
			err = errors.New("kube-scheduler still runs")
		}
		return err
	})
	r := succeeds(t)
	requireServed(t, nil)
	require.Equal(t, "skipped", r.steps("m1")["renew"].Status, "its certificates are good")
	require.Equal(t, "changed", r.steps("m1")["restart"].Status, "its processes hold old ones")
	require.Equal(t, "changed", r.steps("m3")["renew"].Status)
	for _, n := range lab.Nodes {
		requireYounger(t, n, "kube-controller-manager", "/etc/kubernetes/controller-manager.conf")
		requireYounger(t, n, "kube-scheduler", "/etc/kubernetes/scheduler.conf")
	}
	eventually(t, time.Minute, func() error { return lab.Healthy(t.Context()) })
	requireWorks(t)
}

// TestSeed runs the classic procedure on three masters.
func TestSeed(t *testing.T) {
	reset(t)
	require.NoError(t, lab.Expire(t.Context(), 24*time.Hour, lab.Nodes...))
	before := serials(t)
	succeeds(t, "seed")
	requireServed(t, before)
	eventually(t, time.Minute, func() error { return lab.Healthy(t.Context()) })
	requireWorks(t)
}

// TestMemberDown refuses to touch anything while one of etcd's members is
// away: the next one would cost the quorum.
func TestMemberDown(t *testing.T) {
	reset(t)
	require.NoError(t, lab.Expire(t.Context(), 24*time.Hour, lab.Nodes...))
	shell(t, lab.Nodes[2], "mv /etc/kubernetes/manifests/etcd.yaml /root/etcd.yaml")
	eventually(t, time.Minute, func() error {
		out, err := lab.Shell(t.Context(), lab.Nodes[2], "pgrep -f '^etcd ' || echo none")
		if err == nil && out != "none\n" {
			err = errors.New("etcd still runs")
		}
		return err
	})
	before := serials(t)
	r := play(t)
	require.Equal(t, 1, r.code, r.stderr)
	require.Equal(t, "unchanged", r.Outcome, r.stderr)
	require.Contains(t, r.stderr, "etcd")
	require.Equal(t, before, serials(t), "nothing was renewed")
	t.Log(r.stderr)
}

// TestLookalikes never restarts a pod of a user whose name holds the names of
// components.
func TestLookalikes(t *testing.T) {
	reset(t)
	require.NoError(t, lab.Expire(t.Context(), 24*time.Hour, lab.Nodes...))
	n := lab.Nodes[1] // the one with ctr only
	shell(t, n, `kubectl --kubeconfig /etc/kubernetes/admin.conf apply -f - <<'E'
apiVersion: v1
kind: Pod
metadata: {name: etcd-operator-kube-apiserver-x, labels: {component: kube-apiserver}}
spec:
  nodeName: `+n.Name+`
  hostNetwork: true
  automountServiceAccountToken: false
  containers:
  - {name: etcd, image: registry.k8s.io/pause:3.10.1, imagePullPolicy: Never}
E`)
	eventually(t, time.Minute, func() error {
		_, err := lab.Shell(t.Context(), n, "pgrep -f '^/usr/local/bin/pause$' >/dev/null && kubectl --kubeconfig /etc/kubernetes/admin.conf get pod etcd-operator-kube-apiserver-x | grep -q Running")
		return err
	})
	id := shell(t, n, "kubectl --kubeconfig /etc/kubernetes/admin.conf get pod etcd-operator-kube-apiserver-x -o jsonpath='{.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount}'")
	require.NotEqual(t, n.Host, n.Name)
	succeeds(t, "--limit", n.Host)
	require.Equal(t, id, shell(t, n, "kubectl --kubeconfig /etc/kubernetes/admin.conf get pod etcd-operator-kube-apiserver-x -o jsonpath='{.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount}'"))
	require.Contains(t, onDisk(t, n, "/var/lib/kubelet/pki/kubelet-client-current.pem").Subject.CommonName, "system:node:"+n.Name)
}
