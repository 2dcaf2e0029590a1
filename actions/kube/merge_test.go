package kube

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// merged is a person's kubeconfig of several clusters; %s are the CA and the
// certificate of ours.
const merged = `# clusters of ops
apiVersion: v1
kind: Config
preferences: {colors: true}
current-context: other   # the one in use
clusters:
- name: other
  cluster:
    server: https://other:6443
    insecure-skip-tls-verify: true
- name: ours
  cluster: # behind the load balancer
    certificate-authority-data: %s
    server: https://lb:6443
contexts:
- {name: other, context: {cluster: other, user: kubernetes-admin}}
- {name: ours, context: {cluster: ours, user: admin@ours, namespace: ops}}
users:
- name: kubernetes-admin # the other cluster's
  user:
    token: other-token

- name: admin@ours
  user:
    # renewed once a year
    client-certificate-data: %s # 2025
    client-key-data: "old-key"
    token: stale
    x-extension: {keep: [1, 2]}
# the end
- name: last
  user:
    client-certificate: /a
`

type pairOfConfs struct {
	ca, old, fresh signer
	dst, src       []byte
	key            string
}

func newPair(t testing.TB) pairOfConfs {
	p := pairOfConfs{ca: newCA(t, "kubernetes")}
	p.old, p.fresh = issue(t, p.ca, leaf(t, "kubernetes-admin")), issue(t, p.ca, leaf(t, "kubernetes-admin"))
	p.key = b64(p.fresh.keyPEM(t))
	p.dst = fmt.Appendf(nil, merged, b64(p.ca.pem()), b64(p.old.pem()))
	p.src = conf("https://127.0.0.1:6443", p.ca, p.fresh, p.key)
	return p
}

func TestMergeUserTouchesOneEntry(t *testing.T) {
	p := newPair(t)
	want := strings.NewReplacer(b64(p.old.pem()), b64(p.fresh.pem()), `"old-key"`, `"`+p.key+`"`, "    token: stale\n", "").Replace(string(p.dst))
	for _, user := range []string{"", "admin@ours"} {
		got, err := MergeUser(p.dst, p.src, MergeOptions{User: user})
		require.NoError(t, err)
		require.Equal(t, want, string(got))
		again, err := MergeUser(got, p.src, MergeOptions{User: user})
		require.NoError(t, err)
		require.Equal(t, want, string(again), "a second merge changes nothing")
	}
	crlf := []byte(strings.ReplaceAll(string(p.dst), "\n", "\r\n"))
	got, err := MergeUser(crlf, p.src, MergeOptions{})
	require.NoError(t, err)
	require.Equal(t, strings.ReplaceAll(want, "\n", "\r\n"), string(got))
}

func TestMergeUserLayouts(t *testing.T) {
	p := newPair(t)
	tests := map[string]string{
		"files":         "    client-certificate: /a/b.crt\n    client-key: /a/b.key\n",
		"token only":    "    token: abc\n",
		"password":      "    username: u\n    password: p\n",
		"literal":       "    client-certificate-data: |\n      AAAA\n\n      BBBB\n    client-key-data: |-\n      CCCC\n",
		"folded plain":  "    client-certificate-data: AAAA\n      BBBB\n    client-key-data: >\n      CCCC\n",
		"empty value":   "    client-certificate-data:\n    client-key-data: ''\n",
		"single quote":  "    client-certificate-data: 'A'\n    client-key-data: 'it''s'\n    token: \"a\\\"b\"\n",
		"tagged":        "    client-certificate-data: !!str AAAA\n    client-key-data: &k x\n",
		"flow":          "    {client-certificate: /a, client-key: /b, token: 'x,y'}\n",
		"flow, lines":   "    {\n      \"token\": \"x\",\n      \"client-key\":\n        \"/b\"\n    }\n",
		"flow, umlauts": "    {x-ä: 'öü', token: y, client-key: /b}\n",
		"empty flow":    "    {}\n",
		"with exec":     "    exec:\n      command: x\n      args:\n      - a\n    token: x\n",
		"umlauts":       "    token: äöü\n    x-note: {ä: 'ö', token: y}\n",
	}
	for name, entry := range tests {
		t.Run(name, func(t *testing.T) {
			const head, tail = "kind: Config\n# ünten\nusers:\n- name: a\n  user: {token: other}\n- name: ours\n  user:\n", "- name: z # last\n  user:\n    token: z\n# end\n"
			got, err := MergeUser([]byte(head+entry+tail), p.src, MergeOptions{User: "ours"})
			require.NoError(t, err)
			k, err := ParseKubeconfig(got)
			require.NoError(t, err)
			require.Len(t, k.Users, 3)
			require.Equal(t, User{Name: "a", Token: true}, k.Users[0])
			require.Equal(t, User{Name: "ours", CertData: p.fresh.pem(), HasKey: true, Exec: strings.Contains(entry, "exec")}, k.Users[1])
			require.Equal(t, User{Name: "z", Token: true}, k.Users[2])
			require.Contains(t, string(got), "# ünten")
			require.Contains(t, string(got), "# end")
			require.NotContains(t, string(got), "password")
			if name != "tagged" && name != "flow, lines" {
				require.True(t, bytes.HasPrefix(got, []byte(head)), string(got))
				require.True(t, bytes.HasSuffix(got, []byte(tail)), string(got))
			}
		})
	}
}

func TestMergeUserJSON(t *testing.T) {
	p := newPair(t)
	for _, indent := range []string{"", "  ", "    "} {
		doc := map[string]any{"kind": "Config", "apiVersion": "v1",
			"users": []any{map[string]any{"name": "other", "user": map[string]any{"token": "keep"}},
				map[string]any{"name": "ours", "user": map[string]any{"client-certificate": "/a", "token": "stale", "username": "u"}}}}
		data, err := json.MarshalIndent(doc, "", indent)
		require.NoError(t, err)
		got, err := MergeUser(data, p.src, MergeOptions{User: "ours"})
		require.NoError(t, err)
		var out struct {
			Users []struct {
				Name string
				User map[string]string
			}
		}
		require.NoError(t, json.Unmarshal(got, &out), "still JSON: %s", got)
		require.Equal(t, map[string]string{"token": "keep"}, out.Users[0].User)
		require.Equal(t, map[string]string{"client-certificate-data": b64(p.fresh.pem()), "client-key-data": p.key}, out.Users[1].User)
	}
}

func TestMergeUserErrors(t *testing.T) {
	p := newPair(t)
	stranger := newCA(t, "kubernetes")
	foreign := conf("https://x", stranger, issue(t, stranger, leaf(t, "kubernetes-admin")), Redacted)
	twice := append(append([]byte{}, p.dst...), fmt.Appendf(nil, "- name: copy\n  user: {client-certificate-data: %s}\n", b64(p.old.pem()))...)
	tests := map[string]struct {
		dst, src []byte
		user     string
		is       error
		want     string
	}{
		"no such name":       {p.dst, p.src, "nobody", ErrNoUser, "nobody"},
		"another CA":         {foreign, p.src, "", ErrNoUser, "by the same CA"},
		"two of them":        {twice, p.src, "", ErrAmbiguousUser, "name one"},
		"same name twice":    {[]byte("kind: Config\nusers:\n- {name: a, user: {token: x}}\n- {name: a, user: {token: x}}\n"), p.src, "a", ErrAmbiguousUser, `"a"`},
		"foreign key":        {p.dst, conf("https://x", p.ca, p.fresh, b64(p.old.keyPEM(t))), "", nil, "does not belong"},
		"no key":             {p.dst, conf("https://x", p.ca, p.fresh, ""), "", nil, "no client-key-data"},
		"empty destination":  {nil, p.src, "", nil, "destination kubeconfig: empty"},
		"empty source":       {p.dst, nil, "", nil, "source kubeconfig: empty"},
		"aliases":            {[]byte("kind: Config\nusers:\n- {name: b, user: &u {token: x}}\n- {name: a, user: *u}\n"), p.src, "a", nil, "aliases"},
		"second document":    {[]byte("kind: Config\nusers: [{name: a, user: {token: x}}]\n---\na: b\n"), p.src, "a", nil, "several documents"},
		"entry without user": {[]byte("kind: Config\nusers: [{name: a}]\n"), p.src, "a", nil, "is empty"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			out, err := MergeUser(tt.dst, tt.src, MergeOptions{User: tt.user})
			require.ErrorContains(t, err, tt.want)
			require.Nil(t, out)
			if tt.is != nil {
				require.ErrorIs(t, err, tt.is)
			}
			require.NotContains(t, err.Error(), p.key)
		})
	}
}

func TestMergeUserRedacted(t *testing.T) {
	p := newPair(t)
	got, err := MergeUser(bytes.ReplaceAll(p.dst, []byte(`"old-key"`), []byte(Redacted)), conf("https://x", p.ca, p.fresh, Redacted), MergeOptions{})
	require.NoError(t, err)
	require.Contains(t, string(got), b64(p.fresh.pem()))
	require.Contains(t, string(got), "client-key-data: REDACTED\n")
}

func TestMergeUserSetCA(t *testing.T) {
	p := newPair(t)
	bundle := append(p.ca.pem(), newCA(t, "kubernetes").pem()...)
	src := bytes.Replace(p.src, []byte(b64(p.ca.pem())), []byte(b64(bundle)), 1)
	got, err := MergeUser(p.dst, src, MergeOptions{SetCA: true, CA: []*x509.Certificate{p.ca.cert}})
	require.NoError(t, err)
	k, err := ParseKubeconfig(got)
	require.NoError(t, err)
	require.Nil(t, k.Clusters[0].CAData)
	require.Equal(t, bundle, k.Clusters[1].CAData)
	require.Contains(t, string(got), "cluster: # behind the load balancer\n")
}

func TestSetServerAndCA(t *testing.T) {
	p := newPair(t)
	got, err := SetServer(p.dst, "ours", "https://new:6443")
	require.NoError(t, err)
	require.Equal(t, strings.Replace(string(p.dst), "https://lb:6443", "https://new:6443", 1), string(got))
	got, err = SetServer(p.src, "", "https://[::1]:6443")
	require.NoError(t, err)
	k, err := ParseKubeconfig(got)
	require.NoError(t, err)
	require.Equal(t, "https://[::1]:6443", k.Clusters[0].Server)

	data := []byte("kind: Config\nclusters:\n- name: c\n  cluster:\n    certificate-authority: /old.crt\n    server: https://x\n")
	got, err = SetCA(data, "c", p.ca.pem())
	require.NoError(t, err)
	require.Equal(t, "kind: Config\nclusters:\n- name: c\n  cluster:\n    certificate-authority-data: "+b64(p.ca.pem())+"\n    server: https://x\n", string(got))
	_, err = SetCA(data, "c", []byte("garbage"))
	require.ErrorContains(t, err, "no PEM certificate")
	_, err = SetServer(data, "d", "https://x")
	require.ErrorContains(t, err, `no such cluster: "d"`)
}

func TestPointToPEM(t *testing.T) {
	ca := newCA(t, "kubernetes")
	const pem = "/var/lib/kubelet/pki/kubelet-client-current.pem"
	data := conf("https://x:6443", ca, issue(t, ca, leaf(t, "system:node:m1")), Redacted)
	got, err := PointToPEM(data, pem)
	require.NoError(t, err)
	i := bytes.Index(data, []byte("    client-certificate-data"))
	require.Equal(t, string(data[:i])+"    client-certificate: "+pem+"\n    client-key: "+pem+"\n", string(got))
	crlf, err := PointToPEM(bytes.ReplaceAll(data, []byte("\n"), []byte("\r\n")), pem)
	require.NoError(t, err)
	require.Equal(t, strings.ReplaceAll(string(got), "\n", "\r\n"), string(crlf), "line breaks stay as they are")
	again, err := PointToPEM(got, pem)
	require.NoError(t, err)
	require.Equal(t, got, again)
}

func FuzzMergeUser(f *testing.F) {
	p := newPair(f)
	f.Add(p.dst, "admin@ours")
	f.Add(p.src, "kubernetes-admin")
	f.Add([]byte(`{"kind":"Config","users":[{"name":"a","user":{"token":"x","client-key":"y"}}]}`), "a")
	f.Add([]byte("kind: Config\nusers:\n- name: a\n  user:\n    client-key-data: |\n      x\n   # c\n    token: >\n      z\n"), "a")
	f.Add([]byte("kind: Config\nusers:\n- name: a\n  user: {token: x # c\n  , client-key: 'y'}\n"), "a")
	f.Add([]byte("kind: Config\nusers: [{name: a, user: {? token : x}}]\n---\n"), "a")
	f.Fuzz(func(t *testing.T, dst []byte, user string) {
		before, err := ParseKubeconfig(dst)
		if err != nil {
			return
		}
		_, _, _ = before.Current()
		out, err := MergeUser(dst, p.src, MergeOptions{User: user})
		if err != nil {
			return
		}
		after, err := ParseKubeconfig(out)
		if err != nil {
			t.Fatalf("the result is no kubeconfig: %v\n%q", err, out)
		}
		if len(after.Users) != len(before.Users) || fmt.Sprint(after.Clusters, after.Contexts) != fmt.Sprint(before.Clusters, before.Contexts) {
			t.Fatalf("more than one entry has changed:\n%q\n%q", dst, out)
		}
		changed := 0
		for i, u := range after.Users {
			if bytes.Equal(u.CertData, p.fresh.pem()) && (u.Name == user || user == "") {
				changed++
			} else if fmt.Sprint(u) != fmt.Sprint(before.Users[i]) {
				t.Fatalf("another user has changed:\n%q\n%q", dst, out)
			}
		}
		if changed != 1 && user != "" {
			t.Fatalf("%d entries have the new certificate", changed)
		}
	})
}
