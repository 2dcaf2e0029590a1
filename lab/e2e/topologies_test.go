//go:build e2e

package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certbook/lab/authority"
	"certbook/lab/cluster"
)

// These scenarios are on labs of another shape. Each takes a minute to make, and
// so does the default lab after it: tests run in the order of their files, and
// this one is the last.

// TestOneMaster runs the classic procedure and a renewal on a single master,
// and recovers it when everything has expired.
func TestOneMaster(t *testing.T) {
	one := cluster.Options{Masters: 1}
	t.Run("seed", func(t *testing.T) {
		on(t, one)
		require.NoError(t, lab.Expire(t.Context(), 24*time.Hour, lab.Nodes...))
		before := serials(t)
		succeeds(t, "seed")
		requireServed(t, before)
		requireWorks(t)
	})
	t.Run("expired", func(t *testing.T) {
		on(t, one)
		require.NoError(t, lab.Expire(t.Context(), -time.Minute, lab.Nodes...))
		require.NoError(t, lab.RestartAll(t.Context(), lab.Nodes...))
		before := serials(t)
		succeeds(t) // a single master needs no recover
		requireServed(t, before)
		requireWorks(t)
	})
}

// TestExternalEtcd renews etcd on its own host first, brings the masters a
// client certificate for it, and then renews the masters.
func TestExternalEtcd(t *testing.T) {
	on(t, cluster.Options{Masters: 1, ExternalEtcd: true})
	etcd, master := lab.Etcd[0], lab.Nodes[0]
	require.NoError(t, lab.ExpireEtcd(t.Context(), 24*time.Hour, etcd))
	for _, suffix := range []string{".crt", ".key"} {
		require.NoError(t, lab.Carry(t.Context(), etcd, master, pki+"apiserver-etcd-client"+suffix))
	}
	require.NoError(t, lab.Expire(t.Context(), 24*time.Hour, master))
	before := map[string]string{}
	serial := func(n cluster.Node, file string) string { return onDisk(t, n, pki+file).SerialNumber.String() }
	for _, file := range []string{"etcd/server.crt", "etcd/peer.crt", "etcd/healthcheck-client.crt"} {
		before[file] = serial(etcd, file)
	}
	before["client"] = serial(master, "apiserver-etcd-client.crt")
	key := shell(t, master, "sha256sum "+pki+"apiserver-etcd-client.key")

	refused := play(t, "--set", "exchange="+t.TempDir())
	require.Equal(t, 3, refused.code, refused.stderr)
	require.Contains(t, refused.stderr, "certbook run external-etcd")

	exchange := filepath.Join(t.TempDir(), "exchange")
	succeeds(t, "external-etcd", "--set", "exchange="+exchange)
	for _, file := range []string{"etcd/server.crt", "etcd/peer.crt", "etcd/healthcheck-client.crt"} {
		require.NotEqual(t, before[file], serial(etcd, file))
	}
	for port, file := range map[string]string{"2379": "etcd/server.crt", "2380": "etcd/peer.crt"} {
		leaf, err := served(etcd.Address + ":" + port)
		require.NoError(t, err)
		require.Equal(t, onDisk(t, etcd, pki+file).SerialNumber, leaf.SerialNumber)
	}
	client := onDisk(t, master, pki+"apiserver-etcd-client.crt")
	require.NotEqual(t, before["client"], client.SerialNumber.String())
	require.Greater(t, time.Until(client.NotAfter), 360*24*time.Hour)
	require.NotEqual(t, key, shell(t, master, "sha256sum "+pki+"apiserver-etcd-client.key"), "it is a new key")
	keys, err := filepath.Glob(filepath.Join(exchange, "*", "*.key"))
	require.NoError(t, err)
	require.Empty(t, keys, "no key comes to the controller")

	restartProcess(t, etcd, "etcd") // new connections, with the new certificates
	eventually(t, time.Minute, func() error { return lab.Healthy(t.Context()) })
	succeeds(t, "--set", "exchange="+exchange)
	requireServed(t, nil)
	requireWorks(t)
	again := succeeds(t, "external-etcd", "--set", "exchange="+exchange)
	requireUnchanged(t, again)
}

// TestExternalCA stops with requests, and goes on when they are signed.
func TestExternalCA(t *testing.T) {
	on(t, cluster.Options{Masters: 1, ExternalCA: true})
	n := lab.Nodes[0]
	require.NoError(t, lab.Return(t.Context(), n)) // to have something due
	require.NoError(t, lab.Expire(t.Context(), 24*time.Hour, n))
	require.NoError(t, lab.TakeAway(t.Context(), n))
	before, processes := serials(t), containers(t)
	exchange := filepath.Join(t.TempDir(), "exchange")

	r := play(t, "--set", "exchange="+exchange)
	require.Equal(t, 3, r.code, r.stderr)
	require.Equal(t, "unchanged", r.Outcome)
	require.Contains(t, r.stderr, "sign each NAME.csr in "+exchange)
	require.Equal(t, before, serials(t))
	require.Equal(t, processes, containers(t))

	requests, err := filepath.Glob(filepath.Join(exchange, n.Host, "*.csr"))
	require.NoError(t, err)
	require.Greater(t, len(requests), 10)
	for _, file := range requests {
		request, err := os.ReadFile(file)
		require.NoError(t, err)
		ca := authorityOf(strings.TrimSuffix(filepath.Base(file), ".csr"))
		cert, err := os.ReadFile(lab.Path("ca/" + ca + ".crt"))
		require.NoError(t, err)
		key, err := os.ReadFile(lab.Path("ca/" + ca + ".key"))
		require.NoError(t, err)
		signed, err := authority.Sign(request, cert, key, time.Now().Add(365*24*time.Hour))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(strings.TrimSuffix(file, ".csr")+".crt", signed, 0o644))
	}
	succeeds(t, "--set", "exchange="+exchange)
	requireServed(t, before)
	requireWorks(t)
	shell(t, n, "test ! -e /etc/kubernetes/pki/ca.key")
	requireUnchanged(t, succeeds(t, "--set", "exchange="+exchange))
}

// authorityOf returns the CA of a certificate, as its file is called.
func authorityOf(name string) string {
	switch {
	case strings.HasPrefix(name, "etcd-") || name == "apiserver-etcd-client":
		return "etcd/ca"
	case name == "front-proxy-client":
		return "front-proxy-ca"
	}
	return "ca"
}

// TestDocker is on the last Kubernetes whose kubelet speaks to docker itself.
// Its API server does not read all of its certificates again.
func TestDocker(t *testing.T) {
	if testing.Short() {
		t.Skip("its programs take long to build: make e2e-all")
	}
	old := cluster.Options{Masters: 1, Version: "1.23.17"}
	t.Run("renew", func(t *testing.T) {
		on(t, old)
		require.NoError(t, lab.Expire(t.Context(), 24*time.Hour, lab.Nodes...))
		before, processes := serials(t), containers(t)
		r := succeeds(t)
		requireServed(t, before)
		requireRestarted(t, processes, "kube-apiserver", "kube-controller-manager", "kube-scheduler")
		requireWorks(t)
		requireUnchanged(t, succeeds(t))
		figures(t, "docker: %.1f s for one master", r.took.Seconds())
	})
	t.Run("recover", func(t *testing.T) {
		on(t, old)
		require.NoError(t, lab.Expire(t.Context(), -time.Minute, lab.Nodes...))
		require.NoError(t, lab.RestartAll(t.Context(), lab.Nodes...))
		before := serials(t)
		r := succeeds(t, "recover")
		requireServed(t, before)
		requireWorks(t)
		figures(t, "docker: recover %.1f s for one master", r.took.Seconds())
	})
}

// requireUnchanged proves that no step has changed anything.
func requireUnchanged(t *testing.T, r result) {
	t.Helper()
	for _, h := range r.Hosts {
		for _, s := range h.Steps {
			require.NotEqual(t, "changed", s.Status, fmt.Sprintf("%s/%s", h.Name, s.ID))
		}
	}
}
