package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"certbook/lab/authority"
	"certbook/lab/kubeadm"

	"github.com/stretchr/testify/require"
)

// foreign is a tree whose CAs' keys are elsewhere.
type foreign struct {
	machine
	keys     map[string][]byte // by the name of the CA
	requests string            // the directory on the controller
}

func newForeign(t *testing.T, m machine) foreign {
	t.Helper()
	f := foreign{machine: m, keys: map[string][]byte{}, requests: filepath.Join(t.TempDir(), "requests")}
	f.flags = append(f.flags, "--set", "exchange="+f.requests)
	for _, ca := range []string{"ca", "etcd-ca", "front-proxy-ca"} {
		key, err := os.ReadFile(m.tree.KeyFile(ca))
		require.NoError(t, err)
		f.keys[ca] = key
		require.NoError(t, os.Remove(m.tree.KeyFile(ca)))
	}
	return f
}

// authorityOf is the CA of a certificate.
func authorityOf(name string) string {
	switch {
	case strings.HasPrefix(name, "etcd-") || name == "apiserver-etcd-client":
		return "etcd-ca"
	case name == "front-proxy-client":
		return "front-proxy-ca"
	}
	return "ca"
}

// sign plays the CA: it signs every request that is there and returns their
// names.
func (f foreign) sign(t *testing.T, end time.Time) []string {
	t.Helper()
	requests, err := filepath.Glob(filepath.Join(f.requests, "*", "*.csr"))
	require.NoError(t, err)
	var names []string
	for _, file := range requests {
		name := strings.TrimSuffix(filepath.Base(file), ".csr")
		names = append(names, name)
		ca := authorityOf(name)
		request, err := os.ReadFile(file)
		require.NoError(t, err)
		cert, err := os.ReadFile(f.tree.CertFile(ca))
		require.NoError(t, err)
		signed, err := authority.Sign(request, cert, f.keys[ca], end)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(strings.TrimSuffix(file, ".csr")+".crt", signed, 0o644))
	}
	return names
}

// keysWaiting returns the private keys on the host for which there is a request.
func (f foreign) keysWaiting(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob(f.tree.Path("/var/lib/certbook/requests/*.key"))
	require.NoError(t, err)
	require.Len(t, files, len(renewable(f.tree)))
	out := map[string]string{}
	for _, file := range files {
		info, err := os.Stat(file)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode())
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		out[file] = string(data)
	}
	return out
}

// TestExternalCA stops with requests, installs what comes back, and then finds
// nothing to do, locally and over SSH.
func TestExternalCA(t *testing.T) {
	t.Parallel()
	for how, connect := range map[string]func(*testing.T, kubeadm.Tree) machine{"local": local, "ssh": remote} {
		t.Run(how, func(t *testing.T) {
			m := newForeign(t, connect(t, due(t, "1.34.4")))
			old, before := certificates(t, m.tree), snapshot(t, m.tree)

			code, _, stderr := m.run(t, "run", "renew")
			require.Equal(t, 3, code)
			require.Contains(t, stderr, "some certificates are signed elsewhere; sign each NAME.csr in "+m.requests)
			require.Equal(t, before, snapshot(t, m.tree), "nothing is changed before all are signed")
			waiting := m.keysWaiting(t)
			code, _, _ = m.run(t, "run", "renew")
			require.Equal(t, 3, code)
			require.Equal(t, waiting, m.keysWaiting(t), "a second run keeps the requests")

			require.ElementsMatch(t, renewable(m.tree), m.sign(t, time.Now().Add(300*24*time.Hour)))
			code, _, stderr = m.run(t, "run", "renew")
			require.Equal(t, 0, code, stderr)
			requireRenewed(t, m.tree, old, before)

			after := snapshot(t, m.tree)
			code, _, stderr = m.run(t, "run", "renew")
			require.Equal(t, 0, code, stderr)
			require.Equal(t, after, snapshot(t, m.tree), "a third run changes nothing")
			logs, err := filepath.Glob(filepath.Join(m.dir, "*", "audit.jsonl"))
			require.NoError(t, err)
			for _, log := range logs {
				requireNoSecrets(t, log, m.tree)
			}
		})
	}
}

// TestExternalCARefuses installs nothing when one of the certificates is not
// what was asked for.
func TestExternalCARefuses(t *testing.T) {
	t.Parallel()
	fresh := due(t, "1.34.4")
	write := func(t *testing.T, f foreign, name string, data []byte) {
		require.NoError(t, os.WriteFile(filepath.Join(f.requests, "localhost", name+".crt"), data, 0o644))
	}
	for name, c := range map[string]struct {
		spoil func(*testing.T, foreign)
		code  int
		want  string
	}{
		"not signed": {func(t *testing.T, f foreign) {
			require.NoError(t, os.Remove(filepath.Join(f.requests, "localhost", "scheduler.conf.crt")))
		}, 3, "some certificates are signed elsewhere"},
		"another CA": {func(t *testing.T, f foreign) {
			request, err := os.ReadFile(filepath.Join(f.requests, "localhost", "apiserver.csr"))
			require.NoError(t, err)
			ca, err := os.ReadFile(f.tree.CertFile("front-proxy-ca"))
			require.NoError(t, err)
			signed, err := authority.Sign(request, ca, f.keys["front-proxy-ca"], time.Now().Add(300*24*time.Hour))
			require.NoError(t, err)
			write(t, f, "apiserver", signed)
		}, 1, "apiserver.crt: no CA certificate on disk has signed the certificate"},
		"the old one": {func(t *testing.T, f foreign) {
			old, err := os.ReadFile(f.tree.CertFile("apiserver"))
			require.NoError(t, err)
			write(t, f, "apiserver", old)
		}, 3, "some certificates are signed elsewhere"}, // it is not for the request's key
		"ends too soon": {func(t *testing.T, f foreign) { f.sign(t, time.Now().Add(time.Hour)) },
			1, "apiserver.crt: the certificate does not end later than the old one"},
		"no certificate": {func(t *testing.T, f foreign) { write(t, f, "apiserver", []byte("hello")) },
			1, "apiserver.crt: no PEM certificate in it"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newForeign(t, local(t, fresh.Copy(t)))
			code, _, _ := f.run(t, "run", "renew")
			require.Equal(t, 3, code)
			f.sign(t, time.Now().Add(300*24*time.Hour))
			c.spoil(t, f)
			before := snapshot(t, f.tree)
			code, _, stderr := f.run(t, "run", "renew")
			require.Equal(t, c.code, code)
			require.Contains(t, stderr, c.want)
			require.Equal(t, before, snapshot(t, f.tree))
		})
	}
}
