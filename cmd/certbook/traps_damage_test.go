package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"certbook/lab/kubeadm"

	"github.com/stretchr/testify/require"
)

// good lays out a node on which nothing is due.
func good(t *testing.T, version string) kubeadm.Tree {
	t.Helper()
	tree := kubeadm.Layout(t, kubeadm.Options{Version: version})
	kubeadm.Reissue(t, tree, []string{"kubelet.conf"}, time.Now().Add(-time.Hour), time.Now().Add(300*24*time.Hour))
	return tree
}

// TestTrapDamagedAndNothingDue does not end well just because what can be read
// is good: neither the plan nor the run, unless the step was told.
func TestTrapDamagedAndNothingDue(t *testing.T) {
	t.Parallel()
	fresh := good(t, "1.34.4")
	for name, trap := range map[string]struct {
		set  func(*testing.T, kubeadm.Tree)
		told string // the overlay that lets it pass
		want []string
	}{
		"certificate": {
			func(t *testing.T, tree kubeadm.Tree) { kubeadm.Corrupt(t, tree, "apiserver") },
			"names: [" + strings.Join(without(renewable(fresh), "apiserver"), ", ") + "]",
			[]string{"renew: apiserver: /etc/kubernetes/pki/apiserver.crt: no PEM certificate in it"},
		},
		"certificate and its CA": {
			func(t *testing.T, tree kubeadm.Tree) {
				kubeadm.Corrupt(t, tree, "apiserver")
				kubeadm.Corrupt(t, tree, "ca")
			},
			"names: [etcd-server, etcd-peer]",
			[]string{"renew: apiserver: /etc/kubernetes/pki/apiserver.crt: ", "CA ca: /etc/kubernetes/pki/ca.crt: no PEM certificate in it"},
		},
		"CA": {
			func(t *testing.T, tree kubeadm.Tree) { kubeadm.Corrupt(t, tree, "front-proxy-ca") },
			"names: [apiserver]",
			[]string{"renew: CA front-proxy-ca: /etc/kubernetes/pki/front-proxy-ca.crt: no PEM certificate in it"},
		},
		"missing": {
			func(t *testing.T, tree kubeadm.Tree) {
				require.NoError(t, os.Remove(tree.Path("/etc/kubernetes/scheduler.conf")))
			},
			"missing: skip",
			[]string{"renew: scheduler.conf: /etc/kubernetes/scheduler.conf does not exist"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := local(t, fresh.Copy(t))
			trap.set(t, m.tree)
			before := snapshot(t, m.tree)
			for _, command := range []string{"plan", "run"} {
				code, _, stderr := m.run(t, command, "renew")
				require.Equal(t, 1, code, command)
				for _, w := range trap.want {
					require.Contains(t, stderr, w)
				}
				require.Equal(t, before, snapshot(t, m.tree))
			}
			code, _, stderr := m.run(t, append([]string{"run", "renew"}, overlay(t, "- {id: renew, with: {"+trap.told+"}}\n")...)...)
			require.Equal(t, 0, code, stderr)
			require.Equal(t, before, snapshot(t, m.tree))
		})
	}
}
