package main

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"certbook/lab/kubeadm"

	"github.com/stretchr/testify/require"
)

const currentPEM = "/var/lib/kubelet/pki/kubelet-client-current.pem"

// pair returns certificate and key of kubelet.conf as kubelet keeps them.
func pair(t *testing.T, tree kubeadm.Tree) []byte {
	t.Helper()
	block := &pem.Block{Type: "RSA PRIVATE KEY"}
	switch key := tree.Key(t, "kubelet.conf").(type) {
	case *rsa.PrivateKey:
		block.Bytes = x509.MarshalPKCS1PrivateKey(key)
	case *ecdsa.PrivateKey:
		der, err := x509.MarshalECPrivateKey(key)
		require.NoError(t, err)
		block = &pem.Block{Type: "EC PRIVATE KEY", Bytes: der}
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: tree.Certificate(t, "kubelet.conf").Raw})
	return append(cert, pem.EncodeToMemory(block)...)
}

// rotated puts a pem where kubelet rotates it, with the link that kubelet makes.
func rotated(t *testing.T, tree kubeadm.Tree, data []byte) {
	t.Helper()
	const file = "/var/lib/kubelet/pki/kubelet-client-2026-01-01-00-00-00.pem"
	require.NoError(t, os.MkdirAll(filepath.Dir(tree.Path(file)), 0o755))
	require.NoError(t, os.WriteFile(tree.Path(file), data, 0o600))
	require.NoError(t, os.Symlink(file, tree.Path(currentPEM)))
}

// field returns the value of a field of kubelet.conf, "" when it has none.
func field(t *testing.T, tree kubeadm.Tree, file, name string) string {
	t.Helper()
	data, err := os.ReadFile(tree.Path(file))
	require.NoError(t, err)
	m := regexp.MustCompile(`(?m)^\s+(?:- )?` + name + `: (\S+)$`).FindSubmatch(data)
	if m == nil {
		return ""
	}
	return string(m[1])
}

// current returns the pair that the link of the kubelet leads to.
func current(t *testing.T, tree kubeadm.Tree) (*x509.Certificate, string) {
	t.Helper()
	target, err := os.Readlink(tree.Path(currentPEM))
	require.NoError(t, err)
	if !filepath.IsAbs(target) {
		target = filepath.Join(filepath.Dir(currentPEM), target)
	}
	info, err := os.Stat(tree.Path(target))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
	data, err := os.ReadFile(tree.Path(target))
	require.NoError(t, err)
	both, err := tls.X509KeyPair(data, data)
	require.NoError(t, err, "certificate and key belong together")
	return both.Leaf, target
}

// requirePointed proves that kubelet.conf leads to the pem and kept the rest.
func requirePointed(t *testing.T, tree kubeadm.Tree, was map[string]entry) {
	t.Helper()
	const conf = "/etc/kubernetes/kubelet.conf"
	require.Equal(t, currentPEM, field(t, tree, conf, "client-certificate"))
	require.Equal(t, currentPEM, field(t, tree, conf, "client-key"))
	require.Empty(t, field(t, tree, conf, "client-certificate-data"))
	require.Empty(t, field(t, tree, conf, "client-key-data"))
	for _, kept := range []string{"server", "certificate-authority-data", "current-context"} {
		m := regexp.MustCompile(`(?m)^\s*` + kept + `: \S+$`).FindString(was[conf].data)
		require.NotEmpty(t, m)
		require.Contains(t, snapshot(t, tree)[conf].data, m)
	}
	require.Equal(t, was[conf].mode, snapshot(t, tree)[conf].mode)
}

func TestTrapKubeletEmbedded(t *testing.T) {
	t.Parallel()
	fresh := kubeadm.Layout(t, kubeadm.Options{Version: "1.34.4", KubeletEmbedded: true, Endpoint: "127.0.0.1:7"})
	yesterday := func(t *testing.T, tree kubeadm.Tree) {
		kubeadm.Reissue(t, tree, []string{"kubelet.conf"}, time.Now().Add(-366*24*time.Hour), time.Now().Add(-24*time.Hour))
	}
	for name, set := range map[string]struct {
		set     func(*testing.T, kubeadm.Tree)
		newPair bool
	}{
		"good, pem good":       {func(t *testing.T, tree kubeadm.Tree) { rotated(t, tree, pair(t, tree)) }, false},
		"expired, pem good":    {func(t *testing.T, tree kubeadm.Tree) { p := pair(t, tree); yesterday(t, tree); rotated(t, tree, p) }, false},
		"expired, pem expired": {func(t *testing.T, tree kubeadm.Tree) { yesterday(t, tree); rotated(t, tree, pair(t, tree)) }, true},
		"expired, no pem":      {yesterday, true},
		"expired, pem damaged": {func(t *testing.T, tree kubeadm.Tree) { yesterday(t, tree); rotated(t, tree, []byte("x")) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			m := local(t, fresh.Copy(t))
			set.set(t, m.tree)
			before, old := snapshot(t, m.tree), serials(t, m.tree)
			code, _, stderr := m.run(t, "run", "renew")
			require.Equal(t, 0, code, stderr)
			requirePointed(t, m.tree, before)
			requireOnly(t, m.tree, old)
			leaf, file := current(t, m.tree)
			require.Equal(t, "system:node:node-a", leaf.Subject.CommonName)
			require.Equal(t, []string{"system:nodes"}, leaf.Subject.Organization)
			require.NoError(t, leaf.CheckSignatureFrom(m.tree.Certificate(t, "ca")))
			require.True(t, leaf.NotAfter.After(time.Now().Add(90*24*time.Hour)))
			_, known := before[file]
			require.Equal(t, set.newPair, !known, file)
		})
	}
}

// TestTrapKubeletRollback brings link, pem and kubelet.conf back.
func TestTrapKubeletRollback(t *testing.T) {
	t.Parallel()
	tree := kubeadm.Layout(t, kubeadm.Options{Version: "1.34.4", Remaining: -time.Hour})
	m := local(t, tree)
	before := snapshot(t, tree)
	code, _, stderr := m.run(t, append([]string{"run", "renew"},
		overlay(t, "- {id: verify, with: {enabled: true}, retry: {attempts: 1}}\n")...)...)
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "verify: ")
	requireRolledBack(t, m, before, "renew", "kubelet_conf", "backup_pki", "backup_kubernetes")
}

// TestTrapEverythingExpired renews a node that was off for too long: no API
// tells the configuration, and what was special about the certificates stays.
func TestTrapEverythingExpired(t *testing.T) {
	t.Parallel()
	const validity = 2160 * time.Hour
	for _, v := range kubeadm.Versions() {
		t.Run(v, func(t *testing.T) {
			tree := kubeadm.Layout(t, kubeadm.Options{Version: v, ECDSA: true, Validity: validity})
			end := time.Now().Add(-time.Hour)
			names := append(renewable(tree), "kubelet.conf")
			kubeadm.Reissue(t, tree, names, end.Add(-validity), end)
			m := local(t, tree)
			old, before := certificates(t, tree), snapshot(t, tree)
			code, _, _ := m.run(t, "check")
			require.Equal(t, 4, code)
			code, _, stderr := m.run(t, "run", "renew")
			require.Equal(t, 0, code, stderr)
			code, _, _ = m.run(t, "check")
			require.Equal(t, 0, code)

			for name, is := range certificates(t, tree) {
				was := old[name]
				require.IsType(t, &ecdsa.PublicKey{}, is.PublicKey, name)
				require.Equal(t, is.PublicKey, tree.Key(t, name).Public(), name)
				require.NotEqual(t, was.SerialNumber, is.SerialNumber, name)
				require.Equal(t, was.Subject.String(), is.Subject.String(), name)
				require.Equal(t, was.DNSNames, is.DNSNames, name)
				require.Len(t, is.IPAddresses, len(was.IPAddresses), name)
				if v != "1.19.16" { // it knows no other validity than a year
					require.InDelta(t, validity.Hours(), time.Until(is.NotAfter).Hours(), 1, name)
				}
			}
			requirePointed(t, tree, before)
			leaf, _ := current(t, tree)
			require.Equal(t, "system:node:node-a", leaf.Subject.CommonName)
			if v != "1.19.16" { // its "kubeconfig user" knows RSA alone
				require.IsType(t, &ecdsa.PublicKey{}, leaf.PublicKey)
			}
		})
	}
}

func decoded(t *testing.T, s string) string {
	t.Helper()
	data, err := base64.StdEncoding.DecodeString(s)
	require.NoError(t, err)
	return string(data)
}
