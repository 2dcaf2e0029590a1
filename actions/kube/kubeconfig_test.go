package kube

import (
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseKubeconfig(t *testing.T) {
	ca := newCA(t, "kubernetes")
	admin := issue(t, ca, leaf(t, "kubernetes-admin"))
	data := conf("https://lb:6443", ca, admin, Redacted)
	k, err := ParseKubeconfig(data)
	require.NoError(t, err)
	cluster, user, err := k.Current()
	require.NoError(t, err)
	require.Equal(t, "https://lb:6443", cluster.Server)
	require.Equal(t, ca.pem(), cluster.CAData)
	require.True(t, user.HasKey)
	cert, err := user.Leaf()
	require.NoError(t, err)
	require.Equal(t, admin.cert, cert)

	asJSON := `{"kind":"Config","clusters":[{"name":"c","cluster":{"server":"https://j"}}],"users":[{"name":"u","user":{"exec":{"command":"x"}}}]}`
	k, err = ParseKubeconfig([]byte(asJSON))
	require.NoError(t, err)
	cluster, user, err = k.Current()
	require.NoError(t, err)
	require.Equal(t, "https://j", cluster.Server)
	require.True(t, user.Exec)
}

func TestParseKubeconfigRefuses(t *testing.T) {
	bomb := "kind: Config\na: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b,*b]\nclusters: []\n"
	tests := map[string]struct{ data, want string }{
		"empty":      {" \n", "empty"},
		"other kind": {"kind: Pod\n", "not a document of kind Config"},
		"text":       {"hello", "not a document of kind Config"},
		"syntax":     {"kind: Config\n\tusers: [", "not valid YAML, line"},
		"secret":     {"kind: Config\nclient-key-data: *c2VjcmV0\n", "not valid YAML"},
		"bomb":       {bomb, "aliases"},
		"deep":       {"kind: Config\nclusters: " + strings.Repeat("[", 60) + strings.Repeat("]", 60), "nested deeper"},
		"large":      {"kind: Config\n#" + strings.Repeat("x", MaxFile), "too large"},
		"users":      {"kind: Config\nusers:\n" + strings.Repeat("- name: a\n", maxEntries+1), "1001 users"},
		"twice":      {"kind: Config\nusers:\n- name: a\n  user:\n    token: x\n    token: y\n", "stands twice"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := ParseKubeconfig([]byte(tt.data))
			require.ErrorContains(t, err, tt.want)
			require.NotContains(t, err.Error(), "c2VjcmV0")
		})
	}
}

// TestKubeconfigOfMillions is refused for what it is, in little memory and time:
// by its size, and below that by the number of its entries or values.
func TestKubeconfigOfMillions(t *testing.T) {
	const head = "kind: Config\nusers:\n"
	for name, c := range map[string]struct{ data, want string }{
		"a million users":       {head + strings.Repeat("- {name: u, user: {token: x}}\n", 1_000_000), "too large: 30000020 bytes, at most 1048576 are read"},
		"the most in a file":    {head + strings.Repeat("-\n", (MaxFile-100)/2), "more than 50000 values"},
		"some more than enough": {head + strings.Repeat("- {name: u}\n", maxEntries+1), "1001 users, at most 1000 are read"},
		"nested":                {head + strings.Repeat("[", MaxFile/2), "not valid YAML"},
		"aliases":               {"kind: Config\na: &a [x]\nusers: [" + strings.Repeat("*a, ", 200_000) + "]\n", "aliases"},
	} {
		t.Run(name, func(t *testing.T) {
			data := []byte(c.data)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := ParseKubeconfig(data)
			runtime.ReadMemStats(&after)
			require.ErrorContains(t, err, c.want)
			require.Less(t, len(err.Error()), 200)
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(400<<20))
		})
	}
}
