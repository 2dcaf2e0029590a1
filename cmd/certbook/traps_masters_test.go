package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"certbook/lab/kubeadm"

	"github.com/stretchr/testify/require"
)

// masters reaches trees as the masters m1, m2, ... of one inventory.
func masters(t *testing.T, trees ...kubeadm.Tree) machine {
	t.Helper()
	hosts, names := "", ""
	for i, tree := range trees {
		local(t, tree)
		hosts += fmt.Sprintf("  m%d: {connection: local, root: %q}\n", i+1, tree.Root)
		names += fmt.Sprintf("m%d, ", i+1)
	}
	inventory := filepath.Join(t.TempDir(), "inventory.yaml")
	require.NoError(t, os.WriteFile(inventory, []byte("version: 1\nhosts:\n"+hosts+"groups: {masters: {hosts: ["+names+"]}}\n"), 0o600))
	return machine{tree: trees[0], flags: []string{"-i", inventory}, dir: t.TempDir()}
}

// second lays out another master of the same cluster.
func second(t *testing.T, first kubeadm.Tree) kubeadm.Tree {
	t.Helper()
	tree := kubeadm.Layout(t, kubeadm.Options{Version: first.Version, Node: "node-b", Address: "192.0.2.12", Remaining: 10 * 24 * time.Hour, Shared: &first, NoSuperAdmin: true})
	kubeadm.Reissue(t, tree, []string{"kubelet.conf"}, time.Now().Add(-time.Hour), time.Now().Add(300*24*time.Hour))
	return tree
}

// TestTrapTwoMasters renews each master's certificates on that master: they have
// their own names, and the second one has no super-admin.conf.
func TestTrapTwoMasters(t *testing.T) {
	t.Parallel()
	first := due(t, "1.34.4")
	trees := []kubeadm.Tree{first, second(t, first)}
	m := masters(t, trees...)
	was, before := certificates(t, trees[0]), snapshot(t, trees[0])
	was2, before2 := certificates(t, trees[1]), snapshot(t, trees[1])
	require.NotContains(t, was2, "super-admin.conf")
	code, stdout, stderr := m.run(t, "run", "renew")
	require.Equal(t, 0, code, stderr)
	require.NotContains(t, stdout, "does not name")
	requireRenewed(t, trees[0], was, before)
	requireRenewed(t, trees[1], was2, before2)
	for i, address := range []string{"192.0.2.11", "192.0.2.12"} {
		for _, name := range []string{"apiserver", "etcd-server", "etcd-peer"} {
			require.NoError(t, trees[i].Certificate(t, name).VerifyHostname(address), name)
		}
	}
}

// TestTrapAnotherMastersCertificates are those of the first master on the second
// one, as a copied pki directory has them.
func TestTrapAnotherMastersCertificates(t *testing.T) {
	t.Parallel()
	first := due(t, "1.34.4")
	other := second(t, first)
	for _, name := range []string{"apiserver", "etcd-server", "etcd-peer"} {
		copyFile(t, first.CertFile(name), other.CertFile(name))
		copyFile(t, first.KeyFile(name), other.KeyFile(name))
	}
	m := masters(t, first, other)
	code, _, stderr := m.run(t, "check")
	require.Equal(t, 3, code)
	for _, file := range []string{"apiserver", "etcd/server", "etcd/peer"} {
		require.Contains(t, stderr, "m2: warning: /etc/kubernetes/pki/"+file+".crt does not name 192.0.2.12, by which it is reached")
	}
	require.NotContains(t, stderr, "m1: warning: ")
}

// TestTrapAnotherCA is a master that has a CA of its own: nothing is renewed on
// any.
func TestTrapAnotherCA(t *testing.T) {
	t.Parallel()
	first := due(t, "1.34.4")
	trees := []kubeadm.Tree{first, kubeadm.Layout(t, kubeadm.Options{Version: "1.34.4", Remaining: 10 * 24 * time.Hour})}
	m := masters(t, trees...)
	before, before2 := snapshot(t, trees[0]), snapshot(t, trees[1])
	code, _, stderr := m.run(t, "run", "renew")
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "same_cas: the masters do not all have the same CAs")
	require.Equal(t, before, snapshot(t, trees[0]))
	require.Equal(t, before2, snapshot(t, trees[1]))
}

// TestTrapCopiesInHomes is a renewal that leaves the copies of users who were not
// named behind, and says so.
func TestTrapCopiesInHomes(t *testing.T) {
	t.Parallel()
	tree := due(t, "1.34.4")
	m := local(t, tree)
	for _, home := range []string{"/root", "/home/jane"} {
		require.NoError(t, os.MkdirAll(tree.Path(home+"/.kube"), 0o700))
		copyFile(t, tree.Path("/etc/kubernetes/admin.conf"), tree.Path(home+"/.kube/config"))
	}
	code, stdout, stderr := m.run(t, "run", "renew")
	require.Equal(t, 0, code, stderr)
	require.Contains(t, stdout+stderr, "/home/jane/.kube/config holds an older certificate of kubernetes-admin than admin.conf")
	require.NotContains(t, stdout+stderr, "/root/.kube/config holds")
	_, _, stderr = m.run(t, "check")
	require.Contains(t, stderr, "localhost: warning: /home/jane/.kube/config holds an older certificate of kubernetes-admin than admin.conf")
}
