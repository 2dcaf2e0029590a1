//go:build e2e

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
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
	require.NoError(t, lab.Fault(t.Context(), "renewed-by-hand", lab.Nodes[0]))
	require.NoError(t, lab.Fault(t.Context(), "left-parked", lab.Nodes[1]))
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
	require.NoError(t, lab.Fault(t.Context(), "etcd-away", lab.Nodes[2]))
	eventually(t, time.Minute, func() error {
		out, err := lab.Shell(t.Context(), lab.Nodes[2], "pgrep -f '^etcd ' || echo none")
		if err == nil && out != "none\n" {
			err = errors.New("etcd still runs")
		}
		return err
	})
	before := serials(t)
	overlay := filepath.Join(t.TempDir(), "overlay.yaml")
	require.NoError(t, os.WriteFile(overlay, []byte("version: 1\nname: impatient\nsteps:\n- {id: gate, retry: {attempts: 2, delay: 3s}}\n"), 0o644))
	r := play(t, "-f", overlay)
	require.Equal(t, 1, r.code, r.stderr)
	require.Equal(t, "unchanged", r.Outcome, r.stderr)
	require.Contains(t, r.stderr, "etcd's member "+lab.Nodes[2].Name+" ")
	require.Contains(t, r.stderr, "2 of etcd's 3 members are healthy, and 2 are its quorum")
	require.Equal(t, before, serials(t), "nothing was renewed")
	t.Log(r.stderr)
}

// TestServerDown names the master whose API server is away, and what is wrong with
// it, before another one is touched.
func TestServerDown(t *testing.T) {
	reset(t)
	require.NoError(t, lab.Expire(t.Context(), 24*time.Hour, lab.Nodes...))
	sick := lab.Nodes[2]
	require.NoError(t, lab.Fault(t.Context(), "apiserver-sick", sick))
	eventually(t, 2*time.Minute, func() error {
		_, err := lab.Shell(t.Context(), lab.Nodes[0], "! curl -ks --max-time 2 https://"+sick.Address+":6443/readyz")
		return err
	})
	before := serials(t)
	overlay := filepath.Join(t.TempDir(), "overlay.yaml")
	require.NoError(t, os.WriteFile(overlay, []byte("version: 1\nname: impatient\nsteps:\n- {id: gate, retry: {attempts: 2, delay: 3s}}\n"), 0o644))
	r := play(t, "-f", overlay)
	require.Equal(t, 1, r.code, r.stderr)
	require.Equal(t, "unchanged", r.Outcome, r.stderr)
	require.Contains(t, r.stderr, "the API server "+sick.Address+":6443 is not ready: ")
	require.Equal(t, before, serials(t), "nothing was renewed")
}

// TestKubeadmRuns touches nothing while a kubeadm is at work on one of the masters.
func TestKubeadmRuns(t *testing.T) {
	reset(t)
	require.NoError(t, lab.Expire(t.Context(), 24*time.Hour, lab.Nodes...))
	before := serials(t)
	n := lab.Nodes[1]
	t.Cleanup(func() {
		_, err := lab.Shell(context.WithoutCancel(t.Context()), n, "pkill -x kubeadm; rm /root/kubeadm")
		require.NoError(t, err)
	})
	shell(t, n, "cp /bin/sleep /root/kubeadm; setsid /root/kubeadm 600 >/dev/null 2>&1 </dev/null & for i in 1 2 3 4 5 6 7 8 9; do pgrep -x kubeadm && exit; sleep 0.2; done; exit 1")
	r := play(t)
	require.Equal(t, 1, r.code, r.stderr)
	require.Equal(t, "unchanged", r.Outcome, r.stderr)
	require.Contains(t, r.stderr, "kubeadm is running on this host (process ")
	require.Equal(t, before, serials(t), "nothing was renewed")
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
  - {name: etcd, image: `+lab.Image("pause")+`, imagePullPolicy: Never}
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

// TestRenewedNotRestarted has files that were renewed by hand, and processes
// that nobody has restarted. check says so by name before the old certificates
// end and after it, and run restarts just what holds them.
func TestRenewedNotRestarted(t *testing.T) {
	reset(t)
	require.NoError(t, lab.Expire(t.Context(), 2*time.Minute, lab.Nodes...))
	ends := onDisk(t, lab.Nodes[0], pki+"apiserver.crt").NotAfter
	require.NoError(t, lab.RestartAll(t.Context(), lab.Nodes...))
	eventually(t, 2*time.Minute, func() error { return lab.Healthy(t.Context()) })
	for _, n := range lab.Nodes {
		require.NoError(t, lab.Fault(t.Context(), "renewed-by-hand", n))
	}
	require.Less(t, time.Now(), ends)
	requireStates := func(code int, state string) error {
		got, stdout, stderr, _ := call(t, "check", "-i", lab.Path("inventory.yaml"))
		for _, n := range lab.Nodes {
			for _, f := range []string{"controller-manager.conf", "scheduler.conf"} {
				if !regexp.MustCompile(`(?m)^` + n.Host + ` +` + f + ` +` + state + ` `).MatchString(stdout) {
					return fmt.Errorf("%s of %s is not %s:\n%s%s", f, n.Host, state, stdout, stderr)
				}
			}
		}
		if n := strings.Count(stdout, " "+state+" "); got != code || n != 2*len(lab.Nodes) {
			return fmt.Errorf("exit code %d, %d times %s:\n%s%s", got, n, state, stdout, stderr)
		}
		return nil
	}
	eventually(t, time.Minute, func() error { return requireStates(3, "STALE") }) // the kubelets renew theirs meanwhile

	time.Sleep(time.Until(ends))
	eventually(t, time.Minute, func() error { return requireStates(4, "REFUSED") })
	for _, n := range lab.Nodes { // health tells nothing
		shell(t, n, "curl -sSfk https://127.0.0.1:10257/healthz; curl -sSfk https://127.0.0.1:10259/healthz")
	}

	processes := containers(t)
	succeeds(t)
	requireRestarted(t, processes, "kube-controller-manager", "kube-scheduler")
	requireWorks(t)
	code, stdout, stderr, _ := call(t, "check", "-i", lab.Path("inventory.yaml"))
	require.Zero(t, code, "%s%s", stdout, stderr)
}

// TestUnhealthyAfterRestart breaks the first master's API server in the middle
// of its renewal: that master is brought back, and no other is touched.
func TestUnhealthyAfterRestart(t *testing.T) {
	reset(t)
	require.NoError(t, lab.Expire(t.Context(), 24*time.Hour, lab.Nodes...))
	eventually(t, time.Minute, func() error { return lab.Healthy(t.Context()) })
	before, processes := serials(t), containers(t)
	overlay := filepath.Join(t.TempDir(), "overlay.yaml")
	require.NoError(t, os.WriteFile(overlay, []byte(`version: 1
name: break
vars: {restart_all: true}
steps:
  - {id: restart, with: {wait: 30s}}
insert:
  - before: restart
    steps:
      - id: break
        action: run-command
        with: {argv: [sed, -i, s/--secure-port=6443/--secure-port=broken/, /etc/kubernetes/manifests/kube-apiserver.yaml]}
`), 0o644))
	r := play(t, "-f", overlay)
	t.Log(r.stderr)
	require.NotZero(t, r.code)
	require.Contains(t, r.stderr, "kube-apiserver")
	require.Equal(t, before, serials(t), "the first master has its old certificates again, the others were not touched")
	for name, process := range containers(t) {
		if !strings.HasPrefix(name, "m1/") {
			require.Equal(t, processes[name], process, name)
		}
	}
	require.Empty(t, r.steps("m2")["backup_pki"].Status)
	shell(t, lab.Nodes[0], `test /proc/$(pidof kubelet) -nt /etc/kubernetes/kubelet.conf`) // it does not hold what was taken back
	eventually(t, time.Minute, func() error { return lab.Healthy(t.Context()) })
	requireServesDisk(t)
}
