package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestRecoverSaysItsRule names the hosts on which something has expired, and what
// is not kept up for that reason; where nothing has expired it refuses.
func TestRecoverSaysItsRule(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, host := range []string{"m1", "m2", "m3"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, host, "etc/kubernetes/pki"), 0o755))
	}
	inventory := filepath.Join(dir, "inventory.yaml")
	require.NoError(t, os.WriteFile(inventory, fmt.Appendf(nil, `version: 1
hosts:
  m1: {connection: local, root: %q}
  m2: {connection: local, root: %q}
  m3: {connection: local, root: %q}
groups: {masters: {hosts: [m1, m2, m3]}}
`, filepath.Join(dir, "m1"), filepath.Join(dir, "m2"), filepath.Join(dir, "m3")), 0o600))
	ends := func(days map[string]int) {
		for host, d := range days {
			now := time.Now()
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			require.NoError(t, err)
			c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kube-apiserver"}, NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(0, 0, d)}
			der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
			require.NoError(t, err)
			data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
			require.NoError(t, os.WriteFile(filepath.Join(dir, host, "etc/kubernetes/pki/apiserver.crt"), data, 0o600))
		}
	}
	plan := func() string {
		args := append([]string{"plan", "recover", "-i", inventory}, overlay(t, "- {id: preflight, off: these are no machines}\n")...)
		_, out, stderr := certbook(t, args...)
		return out + stderr
	}
	const rule = "there is nothing to keep up, so all masters are worked on at once, and the gates on etcd, API servers and leases do not apply"
	ends(map[string]int{"m1": -1, "m2": 300, "m3": -1})
	require.Contains(t, plan(), "warning: certificates have expired on m1, m3: "+rule)

	ends(map[string]int{"m1": 5, "m3": 300})
	out := plan()
	require.Contains(t, out, "nothing has expired; run 'certbook run renew'")
	require.NotContains(t, out, rule)

	ends(map[string]int{"m1": 300}) // a second run
	out = plan()
	require.NotContains(t, out, "nothing has expired")
	require.NotContains(t, out, rule)
}
