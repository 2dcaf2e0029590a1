package kube

import (
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
