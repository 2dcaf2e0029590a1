package kubeadm_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certbook/lab/kubeadm"
)

// samples is where what kubeadm prints is kept for the tests of those who read it.
const samples = "../../actions/kube/testdata/renew"

// renewal is a node in some state, and what `certs renew` makes of it.
type renewal struct {
	name     string
	external bool                                  // etcd runs elsewhere
	state    func(t *testing.T, tree kubeadm.Tree) // what is wrong with the node; nil nothing
	args     []string                              // of kubeadm
	code     int                                   // exit status
	renewed  func(name string) bool                // which leafs are new afterwards; nil none
	refuses  string                                // the version that exits with 1 and renews nothing
}

func only(names ...string) func(string) bool {
	return func(name string) bool { return slices.Contains(names, name) }
}

func except(names ...string) func(string) bool {
	return func(name string) bool { return !slices.Contains(names, name) }
}

// before says that `all`, which goes by name, came as far as that name.
func before(name string) func(string) bool { return func(n string) bool { return n < name } }

// The states that a node can be in.

func without(names ...string) func(*testing.T, kubeadm.Tree) {
	return func(t *testing.T, tree kubeadm.Tree) {
		for _, name := range names {
			require.NoError(t, os.Remove(tree.Path("/etc/kubernetes/"+name)))
		}
	}
}

func corrupt(name string) func(*testing.T, kubeadm.Tree) {
	return func(t *testing.T, tree kubeadm.Tree) { kubeadm.Corrupt(t, tree, name) }
}

func ending(left time.Duration, names ...string) func(*testing.T, kubeadm.Tree) {
	return func(t *testing.T, tree kubeadm.Tree) {
		end := time.Now().Add(left)
		kubeadm.Reissue(t, tree, names, end.AddDate(-1, 0, 0), end)
	}
}

func foreignKey(t *testing.T, tree kubeadm.Tree) { kubeadm.ReplaceKey(t, tree, "ca") }

// pointing makes admin.conf name files instead of holding certificate and key.
func pointing(t *testing.T, tree kubeadm.Tree) {
	name := tree.CertFile("admin.conf")
	text, err := os.ReadFile(name)
	require.NoError(t, err)
	text = regexp.MustCompile(`client-(certificate|key)-data: \S+`).ReplaceAll(text, []byte("client-$1: /etc/kubernetes/pki/admin.pem"))
	require.NoError(t, os.WriteFile(name, text, 0o600))
}

// leafs are what `renew all` renews.
func leafs(version string) []string {
	var names []string
	for name, want := range table(version) {
		if want.usages != nil && name != "kubelet.conf" {
			names = append(names, name)
		}
	}
	return names
}

func renewals(version string) []renewal {
	with := func(name string) []string { return []string{"certs", "renew", name, "--config", "/root/kubeadm.yaml"} }
	bare := func(name ...string) []string { return append([]string{"certs", "renew"}, name...) }
	stacked := []string{"etcd-healthcheck-client", "etcd-peer", "etcd-server"}
	return []renewal{
		{name: "ok", args: with("apiserver"), renewed: only("apiserver")},
		{name: "ok-kubeconfig", args: with("admin.conf"), renewed: only("admin.conf")},
		{name: "ok-all", args: with("all"), renewed: except()},
		{name: "expired-all", state: ending(-time.Hour, leafs(version)...), args: with("all"), renewed: except()},
		{name: "unreachable", args: bare("apiserver"), renewed: only("apiserver")},
		{name: "unreachable-all", args: bare("all"), renewed: except()},
		{name: "missing", state: without("pki/apiserver.crt"), args: with("apiserver")},
		{name: "missing-all", state: without("pki/apiserver.crt", "scheduler.conf"), args: with("all"), renewed: except("apiserver", "scheduler.conf")},
		{name: "no-key", state: without("pki/apiserver.key"), args: with("apiserver"), renewed: only("apiserver")},
		{name: "external-ca", state: without("pki/ca.key"), args: with("apiserver")},
		{name: "external-ca-kubeconfig", state: without("pki/ca.key"), args: with("admin.conf")},
		{name: "external-ca-all", state: without("pki/ca.key"), args: with("all"),
			renewed: only(append(stacked, "apiserver-etcd-client", "front-proxy-client")...)},
		{name: "no-ca", state: without("pki/ca.crt"), args: with("apiserver"), code: 1},
		{name: "ending-ca", state: ending(120*time.Hour, "ca"), args: with("apiserver"), renewed: only("apiserver")},
		{name: "expired-ca", state: ending(-time.Hour, "ca"), args: with("apiserver"), renewed: only("apiserver"), refuses: "1.19.16"},
		{name: "corrupt", state: corrupt("apiserver"), args: with("apiserver"), code: 1},
		{name: "corrupt-kubeconfig", state: corrupt("admin.conf"), args: with("admin.conf"), code: 1},
		{name: "corrupt-all", state: corrupt("etcd-peer"), args: with("all"), code: 1, renewed: before("etcd-peer")},
		{name: "kubeconfig-files", state: pointing, args: with("admin.conf"), code: 1},
		{name: "mismatched", state: foreignKey, args: with("apiserver"), code: 1},
		{name: "mismatched-all", state: foreignKey, args: with("all"), code: 1},
		{name: "external-etcd", external: true, args: with("etcd-server")},
		{name: "external-etcd-all", external: true, args: with("all"), renewed: except(append(stacked, "apiserver-etcd-client")...)},
		{name: "external-etcd-unreachable-all", external: true, args: bare("all"), code: 1, renewed: before("apiserver-etcd-client")},
		{name: "unknown", args: bare("zzz"), code: 1},
		{name: "bare", args: bare(), code: 1},
	}
}

func TestRenew(t *testing.T) {
	each(t, func(t *testing.T, version string) {
		stacked := kubeadm.Layout(t, kubeadm.Options{Version: version, ECDSA: true})
		external := kubeadm.Layout(t, kubeadm.Options{Version: version, ECDSA: true, ExternalEtcd: true})
		for _, tt := range renewals(version) {
			t.Run(tt.name, func(t *testing.T) {
				tree := stacked.Copy(t)
				if tt.external {
					tree = external.Copy(t)
				}
				if version == "1.19.16" {
					tt.args = append([]string{"alpha"}, tt.args...)
				}
				if tt.refuses == version {
					tt.code, tt.renewed = 1, nil
				}
				renew(t, tree, tt)
			})
		}
		// the words of the other age do nothing, and say so with different success
		tt := renewal{name: "other-words", args: []string{"alpha", "certs", "renew", "all"}}
		if version == "1.19.16" {
			tt.args, tt.code = []string{"certs", "renew", "all"}, 1
		}
		t.Run(tt.name, func(t *testing.T) { renew(t, stacked.Copy(t), tt) })
	})
}

// renew runs kubeadm and requires that exactly what is expected was renewed,
// that nothing else in the tree changed, and that what kubeadm said is what
// the sample says.
func renew(t *testing.T, tree kubeadm.Tree, tt renewal) {
	if tt.state != nil {
		tt.state(t, tree)
	}
	old := tree.Files(t)
	started := time.Now()
	out := tree.Run(t, tt.args...)
	if strings.Contains(out.Stderr, "no acceptable interface with global unicast address") {
		lacks(t, "without --config kubeadm wants a network interface with a default route and this machine has none: give it one")
	}
	t.Logf("kubeadm %s: exit status %d after %s", strings.Join(tt.args, " "), out.Code, time.Since(started).Round(10*time.Millisecond))

	var want, changed []string
	for _, name := range leafs(tree.Version) {
		if tt.renewed != nil && tt.renewed(name) {
			want = append(want, tree.CertFile(name), tree.KeyFile(name))
		}
	}
	after := tree.Files(t)
	for name := range after {
		if old[name] != after[name] {
			changed = append(changed, tree.Path(name))
		}
		delete(old, name)
	}
	require.Empty(t, old, "files that are gone")
	slices.Sort(want)
	slices.Sort(changed)
	sample(t, tree.Version+"-"+tt.name, tt.args, out)
	require.Equal(t, tt.code, out.Code, out.Stdout+out.Stderr)
	require.Equal(t, slices.Compact(want), slices.Compact(changed))
}

// lacks skips the test for want of something, or fails it where CI is set.
func lacks(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// A kubeconfig for a user comes on standard output, signed by the tree's CA.
// Only from 1.20 on is there a configuration file, and with it no question to
// the internet and the right address.
func TestKubeconfigUser(t *testing.T) {
	each(t, func(t *testing.T, version string) {
		tree := kubeadm.Layout(t, kubeadm.Options{Version: version, ECDSA: true})
		old := tree.Files(t)
		args, server := []string{"kubeconfig", "user", "--config", tree.Config}, "https://127.0.0.1:1"
		if version == "1.19.16" {
			args, server = []string{"alpha", "kubeconfig", "user", "--apiserver-advertise-address", "192.0.2.11"}, "https://192.0.2.11:6443"
		}
		out := tree.Run(t, append(args, "--client-name", "alice", "--org", "a,b")...)
		require.Equal(t, 0, out.Code, out.Stderr)
		require.Equal(t, old, tree.Files(t))
		require.Contains(t, out.Stdout, "server: "+server+"\n")

		name := tree.CertFile("admin.conf") // read it as if it were that one
		require.NoError(t, os.WriteFile(name, []byte(out.Stdout), 0o600))
		cert := tree.Certificate(t, "admin.conf")
		require.Equal(t, "CN=alice,O=a+O=b", cert.Subject.String())
		require.NoError(t, cert.CheckSignatureFrom(tree.Certificate(t, "ca")))
		require.Equal(t, cert.PublicKey, tree.Key(t, "admin.conf").Public())
	})
}

// sample compares what kubeadm printed with the sample of that name, and
// writes the sample where CERTBOOK_UPDATE is set. Times and process numbers in
// it are always the same ones.
func sample(t *testing.T, name string, args []string, out kubeadm.Output) {
	t.Helper()
	log := regexp.MustCompile(`(?m)^([IWEF])\d{4} [\d:.]+ +\d+ `)
	date := regexp.MustCompile(`\d{4}-\d\d-\d\d([T ])\d\d:\d\d:\d\d(\.\d+)?`)
	still := func(s string) string {
		s = log.ReplaceAllString(s, "${1}0102 15:04:05.000000    1000 ")
		return date.ReplaceAllString(s, "2026-01-02${1}15:04:05")
	}
	text := fmt.Sprintf("kubeadm %s\nexit status %d\n-- stdout --\n%s-- stderr --\n%s",
		strings.Join(args, " "), out.Code, still(out.Stdout), still(out.Stderr))
	file := filepath.Join(samples, name+".txt")
	if os.Getenv("CERTBOOK_UPDATE") != "" {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err, "set CERTBOOK_UPDATE=1 to write it")
	require.Equal(t, string(want), text, "what kubeadm prints")
}
