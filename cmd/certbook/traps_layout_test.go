package main

import (
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"certbook/engine/host/hosttest"
	"certbook/lab/kubeadm"

	"github.com/stretchr/testify/require"
)

func TestTrapCertificatesDir(t *testing.T) {
	t.Parallel()
	for _, v := range []string{"1.19.16", "1.37.2"} {
		t.Run(v, func(t *testing.T) {
			tree := kubeadm.Layout(t, kubeadm.Options{Version: v, CertificatesDir: "/etc/kubernetes/ssl", Remaining: 10 * 24 * time.Hour})
			kubeadm.Reissue(t, tree, []string{"kubelet.conf"}, time.Now().Add(-time.Hour), time.Now().Add(300*24*time.Hour))
			m := local(t, tree)
			old, before := certificates(t, tree), snapshot(t, tree)
			code, _, stderr := m.run(t, "run", "renew", "-f", "../../playbooks/examples/kubespray/overlay.yaml")
			require.Equal(t, 0, code, stderr)
			requireRenewed(t, tree, old, before)
			backup, err := filepath.Glob(tree.Path("/var/backups/certbook/*/etc@kubernetes@ssl/apiserver.crt"))
			require.NoError(t, err)
			require.Len(t, backup, 1)
		})
	}
}

// TestTrapBundle is a CA rotation under way: kubeadm would write only the first
// CA of the bundle into the kubeconfigs.
func TestTrapBundle(t *testing.T) {
	t.Parallel()
	tree, other := due(t, "1.34.4"), kubeadm.Layout(t, kubeadm.Options{Version: "1.34.4"})
	one := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: tree.Certificate(t, "ca").Raw})
	two := append(one, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: other.Certificate(t, "ca").Raw})...)
	require.NoError(t, os.WriteFile(tree.CertFile("ca"), two, 0o644))
	encode := base64.StdEncoding.EncodeToString
	confs := []string{"admin.conf", "super-admin.conf", "controller-manager.conf", "scheduler.conf", "kubelet.conf"}
	for _, conf := range confs {
		file := tree.Path("/etc/kubernetes/" + conf)
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		text := strings.Replace(string(data), encode(one), encode(two), 1)
		text = strings.Replace(text, "server: https://127.0.0.1:1\n", "server: https://lb.example.org:8443/k8s?a=b\n", 1)
		require.NotEqual(t, string(data), text, conf)
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	}
	m := local(t, tree)
	old, before := certificates(t, tree), snapshot(t, tree)
	servers := map[string]string{}
	for _, conf := range confs {
		servers[conf] = field(t, tree, "/etc/kubernetes/"+conf, "server")
	}
	code, _, stderr := m.run(t, "run", "renew")
	require.Equal(t, 0, code, stderr)
	requireRenewed(t, tree, old, before)
	for _, conf := range confs {
		require.Equal(t, string(two), decoded(t, field(t, tree, "/etc/kubernetes/"+conf, "certificate-authority-data")), conf)
		require.Equal(t, servers[conf], field(t, tree, "/etc/kubernetes/"+conf, "server"), conf)
	}
}

// TestTrapReplacedCA is a CA that was replaced by hand: what is renewed is signed
// by the new one, and the kubeconfigs, which still had the old one, trust it.
func TestTrapReplacedCA(t *testing.T) {
	t.Parallel()
	tree, other := due(t, "1.34.4"), kubeadm.Layout(t, kubeadm.Options{Version: "1.34.4"})
	copyFile(t, other.CertFile("ca"), tree.CertFile("ca"))
	copyFile(t, other.KeyFile("ca"), tree.KeyFile("ca"))
	m := local(t, tree)
	old := serials(t, tree)
	code, _, stderr := m.run(t, "run", "renew")
	require.Equal(t, 0, code, stderr)
	require.Contains(t, stderr, "warning  the CA in /etc/kubernetes/kubelet.conf is not the one that signed /etc/kubernetes/pki/apiserver.crt")
	requireOnly(t, tree, old, renewable(tree)...)
	ca := other.Certificate(t, "ca")
	require.NoError(t, tree.Certificate(t, "apiserver").CheckSignatureFrom(ca))
	for _, conf := range []string{"admin.conf", "super-admin.conf", "controller-manager.conf", "scheduler.conf"} {
		text := decoded(t, field(t, tree, "/etc/kubernetes/"+conf, "certificate-authority-data"))
		require.Equal(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw})), text, conf)
	}
}

// TestTrapHalfRenewed is a renewal that was given up in the middle: one run
// renews the rest, and what is new already keeps its key.
func TestTrapHalfRenewed(t *testing.T) {
	t.Parallel()
	tree := due(t, "1.34.4")
	by := []string{"apiserver", "etcd-server", "admin.conf"}
	for _, name := range by {
		out := tree.Certs(t, "renew", name, "--config", tree.Config)
		require.Zero(t, out.Code, out.Stderr)
	}
	m := local(t, tree)
	old := serials(t, tree)
	code, _, stderr := m.run(t, "run", "renew")
	require.Equal(t, 0, code, stderr)
	requireOnly(t, tree, old, without(renewable(tree), by...)...)
	code, _, _ = m.run(t, "check")
	require.Equal(t, 0, code)
}

// TestTrapLinks is a certificates directory that is a link, and a kubeconfig
// that is one: the links stay and lead to the new files, which keep owner and
// extended attributes.
func TestTrapLinks(t *testing.T) {
	t.Parallel()
	tree := due(t, "1.34.4")
	require.NoError(t, os.MkdirAll(tree.Path("/etc/ssl"), 0o755))
	require.NoError(t, os.Rename(tree.Path("/etc/kubernetes/pki"), tree.Path("/etc/ssl/kubernetes")))
	require.NoError(t, os.Symlink("../ssl/kubernetes", tree.Path("/etc/kubernetes/pki")))
	require.NoError(t, os.Rename(tree.Path("/etc/kubernetes/admin.conf"), tree.Path("/etc/kubernetes/real.conf")))
	require.NoError(t, os.Symlink("real.conf", tree.Path("/etc/kubernetes/admin.conf")))
	require.NoError(t, os.Chown(tree.Path("/etc/kubernetes/scheduler.conf"), 1234, 2345))
	label := tree.Path("/etc/ssl/kubernetes/apiserver.key")
	if err := syscall.Setxattr(label, "user.certbook", []byte("kept"), 0); err != nil {
		hosttest.Lacks(t, fmt.Sprintf("this test needs a file system with extended attributes: %v", err))
	}
	m := local(t, tree)
	old := serials(t, tree)
	code, _, stderr := m.run(t, "run", "renew")
	require.Equal(t, 0, code, stderr)
	requireOnly(t, tree, old, renewable(tree)...)
	value := make([]byte, 8)
	n, err := syscall.Getxattr(label, "user.certbook", value)
	require.NoError(t, err)
	require.Equal(t, "kept", string(value[:n]))
	after := snapshot(t, tree)
	require.Equal(t, "../ssl/kubernetes", after["/etc/kubernetes/pki"].link)
	require.Equal(t, "real.conf", after["/etc/kubernetes/admin.conf"].link)
	require.Equal(t, uint32(1234), after["/etc/kubernetes/scheduler.conf"].uid)
	require.Equal(t, uint32(2345), after["/etc/kubernetes/scheduler.conf"].gid)
}
