//go:build e2e

package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// requireWorks proves that the control plane does its work with valid
// certificates: leases are renewed, a pod is scheduled and runs, its log is
// read by way of each API server, and so by each one's kubelet client.
func requireWorks(t *testing.T) {
	t.Helper()
	leading(t)
	name := fmt.Sprintf("after-%d", time.Now().Unix())
	manifest := fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":%q},"spec":{"hostNetwork":true,"restartPolicy":"Never","automountServiceAccountToken":false,
"containers":[{"name":"c","image":%q,"imagePullPolicy":"Never","command":["/usr/local/bin/etcd","--version"]}]}}`, name, lab.Image("etcd"))
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

// leading waits until the cluster is healthy and somebody leads: what has been
// restarted waits for the leases to end.
func leading(t *testing.T) {
	t.Helper()
	eventually(t, 5*time.Minute, func() error { return lab.Healthy(t.Context()) })
	now := time.Now()
	for _, lease := range []string{"kube-controller-manager", "kube-scheduler"} {
		eventually(t, time.Minute, func() error { return renewed(t, lease, now) })
	}
}

// atRest waits until this machine has little to do: nodes that have just been
// started are busy for a while, which is no part of what is measured.
func atRest(t *testing.T) {
	t.Helper()
	eventually(t, 5*time.Minute, func() error {
		idle, all := jiffies(t)
		time.Sleep(3 * time.Second)
		nowIdle, now := jiffies(t)
		if part := float64(nowIdle-idle) / float64(now-all); part < 0.8 {
			return fmt.Errorf("the machine is idle for %.0f %% of its time, want 80", 100*part)
		}
		return nil
	})
}

// jiffies returns the time that the processors were idle since the machine was
// started, and all of it.
func jiffies(t *testing.T) (idle, all uint64) {
	t.Helper()
	data, err := os.ReadFile("/proc/stat")
	require.NoError(t, err)
	line, _, _ := strings.Cut(string(data), "\n")
	for i, word := range strings.Fields(line)[1:] {
		n, err := strconv.ParseUint(word, 10, 64)
		require.NoError(t, err)
		if all += n; i == 3 || i == 4 { // idle, and waiting for a disk
			idle += n
		}
	}
	return idle, all
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
