package main

import (
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"certbook/lab/kubeadm"

	"github.com/stretchr/testify/require"
)

// external lays out a master whose etcd is elsewhere, with a client certificate
// that ends in ten days, and that other host.
func external(t *testing.T) (master, etcd kubeadm.Tree) {
	t.Helper()
	etcd = due(t, "1.34.4")
	master = kubeadm.Layout(t, kubeadm.Options{Version: "1.34.4", ExternalEtcd: true, Remaining: 10 * 24 * time.Hour})
	kubeadm.Reissue(t, master, []string{"kubelet.conf"}, time.Now().Add(-time.Hour), time.Now().Add(300*24*time.Hour))
	copyFile(t, etcd.CertFile("etcd-ca"), master.CertFile("etcd-ca"))
	copyFile(t, etcd.CertFile("apiserver-etcd-client"), master.CertFile("apiserver-etcd-client"))
	copyFile(t, etcd.KeyFile("apiserver-etcd-client"), master.KeyFile("apiserver-etcd-client"))
	for _, name := range []string{"apiserver.crt", "apiserver.key", "apiserver-etcd-client.crt", "apiserver-etcd-client.key", "apiserver-kubelet-client.crt",
		"apiserver-kubelet-client.key", "front-proxy-ca.crt", "front-proxy-ca.key", "front-proxy-client.crt", "front-proxy-client.key", "ca.key", "sa.key", "sa.pub"} {
		require.NoError(t, os.Remove(etcd.Path(etcd.PKI+"/"+name)))
	}
	for _, name := range []string{"admin.conf", "super-admin.conf", "controller-manager.conf", "scheduler.conf",
		"manifests/kube-apiserver.yaml", "manifests/kube-controller-manager.yaml", "manifests/kube-scheduler.yaml"} {
		require.NoError(t, os.Remove(etcd.Path("/etc/kubernetes/"+name)))
	}
	return master, etcd
}

// TestTrapExternalEtcd leaves the client certificate for an etcd that is not
// this host's to those who have its CA, and says how, before it renews.
func TestTrapExternalEtcd(t *testing.T) {
	t.Parallel()
	tree, _ := external(t)
	m := local(t, tree)
	requests := filepath.Join(t.TempDir(), "requests")
	m.flags = append(m.flags, "--set", "exchange="+requests)
	before := snapshot(t, tree)
	code, _, stderr := m.run(t, "run", "renew")
	require.Equal(t, 3, code)
	require.Contains(t, stderr, "for an external etcd 'certbook run external-etcd' does that")
	require.Equal(t, before, snapshot(t, tree))
	require.FileExists(t, filepath.Join(requests, "localhost", "apiserver-etcd-client.csr"))
}

// TestTrapExternalEtcdPlaybook renews etcd's own certificates on its host, has the
// master's client certificate signed there, and leaves the rest to renew.
func TestTrapExternalEtcdPlaybook(t *testing.T) {
	t.Parallel()
	master, etcd := external(t)
	local(t, master)
	local(t, etcd)
	dir := t.TempDir()
	inventory := filepath.Join(dir, "inventory.yaml")
	require.NoError(t, os.WriteFile(inventory, fmt.Appendf(nil, `version: 1
hosts:
  m1: {connection: local, root: %q}
  e1: {connection: local, root: %q}
groups: {masters: {hosts: [m1]}, etcd: {hosts: [e1]}}
`, master.Root, etcd.Root), 0o600))
	m := machine{tree: master, dir: filepath.Join(dir, "runs"), flags: []string{"-i", inventory, "--set", "exchange=" + filepath.Join(dir, "requests")}}
	run := func() {
		t.Helper()
		args := append([]string{"run", "external-etcd", "--yes", "--run-dir", m.dir, "--set", "restart=none"}, m.flags...)
		code, _, stderr := certbook(t, append(args, overlay(t, "- {id: etcd_healthy, off: nothing runs here}\n- {id: etcd_verified, off: likewise}\n- {id: healthy_before, off: likewise}\n")...)...)
		require.Equal(t, 0, code, stderr)
	}
	members := []string{"etcd-server", "etcd-peer", "etcd-healthcheck-client"}
	of := func(tree kubeadm.Tree, names ...string) map[string]*x509.Certificate {
		out := map[string]*x509.Certificate{}
		for _, name := range names {
			out[name] = tree.Certificate(t, name)
		}
		return out
	}
	was, before := of(etcd, members...), snapshot(t, etcd)
	was2, before2 := of(master, "apiserver-etcd-client"), snapshot(t, master)
	run()
	requireRenewed(t, etcd, was, before)
	requireRenewed(t, master, was2, before2)
	require.NoError(t, master.Certificate(t, "apiserver-etcd-client").CheckSignatureFrom(etcd.Certificate(t, "etcd-ca")))

	after, after2 := snapshot(t, etcd), snapshot(t, master)
	run()
	require.Equal(t, after, snapshot(t, etcd), "a second run changes nothing")
	require.Equal(t, after2, snapshot(t, master))
	code, _, stderr := m.run(t, "run", "renew")
	require.Equal(t, 0, code, stderr)
	require.Equal(t, after2["/etc/kubernetes/pki/apiserver-etcd-client.crt"], snapshot(t, master)["/etc/kubernetes/pki/apiserver-etcd-client.crt"])
	code, _, _ = certbook(t, "check", "-i", inventory, "--set", "verify_served=false")
	require.Equal(t, 0, code)
}
