package kube

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestJudge renews one certificate in many wrong ways.
func TestJudge(t *testing.T) {
	ca := newCA(t, "kubernetes")
	start := func() *x509.Certificate {
		c := leaf(t, "kube-apiserver")
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		c.DNSNames, c.IPAddresses = []string{"b", "a"}, []net.IP{net.ParseIP("10.0.0.1").To4()}
		c.NotBefore, c.NotAfter = noon.AddDate(-1, 0, 1), noon.AddDate(0, 0, 1)
		return c
	}
	next := func() *x509.Certificate {
		c := start()
		c.NotBefore, c.NotAfter = noon.Add(-5*time.Minute), noon.Add(-5*time.Minute).AddDate(1, 0, 0)
		return c
	}
	type want map[FindingKind]Severity
	tests := map[string]struct {
		before, after func(*x509.Certificate)
		want          want
	}{
		"a proper renewal": {nil, nil, want{}},
		"order of names":   {nil, func(c *x509.Certificate) { c.DNSNames = []string{"a", "b"} }, want{}},
		"not later":        {nil, func(c *x509.Certificate) { c.NotAfter = noon.AddDate(0, 0, 1) }, want{NotLater: Fatal, ValidityChanged: Warning}},
		"another CN":       {nil, func(c *x509.Certificate) { c.Subject.CommonName = "x" }, want{SubjectChanged: Fatal}},
		"another OU":       {nil, func(c *x509.Certificate) { c.Subject.OrganizationalUnit = []string{"x"} }, want{SubjectChanged: Fatal}},
		"lost DNS name":    {nil, func(c *x509.Certificate) { c.DNSNames = []string{"a"} }, want{SANsChanged: Fatal}},
		"another IP":       {nil, func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.ParseIP("::1")} }, want{SANsChanged: Fatal}},
		"lost URI": {func(c *x509.Certificate) { c.URIs = []*url.URL{{Scheme: "spiffe", Host: "x"}} }, nil,
			want{SANsChanged: Fatal}},
		"lost e-mail":  {func(c *x509.Certificate) { c.EmailAddresses = []string{"a@b"} }, nil, want{SANsChanged: Fatal}},
		"another EKU":  {nil, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, want{EKUChanged: Fatal}},
		"less KU":      {nil, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }, want{KeyUsageChanged: Fatal}},
		"more KU":      {nil, func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageDataEncipherment }, want{KeyUsageChanged: Warning}},
		"not yet":      {nil, func(c *x509.Certificate) { c.NotBefore = noon.Add(time.Second) }, want{NotValidNow: Fatal}},
		"outlives CA":  {nil, func(c *x509.Certificate) { c.NotAfter = noon.AddDate(10, 0, 0) }, want{OutlivesCA: Warning, ValidityChanged: Warning}},
		"from 90 days": {func(c *x509.Certificate) { c.NotBefore = noon.AddDate(0, 0, -89) }, nil, want{ValidityChanged: Warning}},
		"backdated": {func(c *x509.Certificate) { c.NotBefore = ca.cert.NotBefore }, func(c *x509.Certificate) { c.NotBefore = ca.cert.NotBefore },
			want{}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			a, b := start(), next()
			if tt.before != nil {
				tt.before(a)
			}
			if tt.after != nil {
				tt.after(b)
			}
			before, after := issue(t, ca, a), issue(t, ca, b)
			got := want{}
			fatal := false
			for _, f := range Judge(before.cert, after.cert, []*x509.Certificate{ca.cert}, after.spki(), noon) {
				got[f.Kind] = f.Severity
				fatal = fatal || f.Severity == Fatal
				require.NotEmpty(t, f.Text)
				require.NotEmpty(t, f.After)
			}
			require.Equal(t, tt.want, got)
			require.Equal(t, fatal, HasFatal(Judge(before.cert, after.cert, []*x509.Certificate{ca.cert}, after.spki(), noon)))
		})
	}
}

func kinds(findings []Finding) []FindingKind {
	var out []FindingKind
	for _, f := range findings {
		out = append(out, f.Kind)
	}
	return out
}

func TestJudgeKeyAndCA(t *testing.T) {
	ca, other := newCA(t, "kubernetes"), newCA(t, "kubernetes")
	a := leaf(t, "x")
	a.NotBefore, a.NotAfter = noon.AddDate(-1, 0, 1), noon.AddDate(0, 0, 1)
	before, after := issue(t, ca, a), issue(t, ca, leaf(t, "x"))
	both := []*x509.Certificate{other.cert, ca.cert}

	require.Empty(t, Judge(before.cert, after.cert, both, after.spki(), noon), "any CA of a bundle may have signed")
	require.Equal(t, []FindingKind{KeyMismatch}, kinds(Judge(before.cert, after.cert, both, before.spki(), noon)))
	none := Judge(before.cert, after.cert, both, nil, noon)
	require.Equal(t, []FindingKind{KeyMismatch}, kinds(none))
	require.Equal(t, "no private key was found for the certificate", none[0].Text)
	require.Equal(t, []FindingKind{Untrusted}, kinds(Judge(before.cert, after.cert, both[:1], after.spki(), noon)), "a CA of the same name")
	require.Equal(t, []FindingKind{Untrusted}, kinds(Judge(before.cert, after.cert, nil, after.spki(), noon)))
	require.Equal(t, []FindingKind{SerialKept, NotLater, KeyKept}, kinds(Judge(before.cert, before.cert, both, before.spki(), noon)))
	require.Equal(t, []FindingKind{NoCertificate}, kinds(Judge(before.cert, nil, both, nil, noon)))
	require.Empty(t, Judge(nil, after.cert, both, after.spki(), noon), "nothing to compare with")

	same := sign(t, leaf(t, "x"), &ca, before.key)
	require.Equal(t, []FindingKind{KeyKept}, kinds(Judge(before.cert, same.cert, both, same.spki(), noon)))

	old := newCAUntil(t, "kubernetes", noon.Add(-time.Second))
	b, c := issue(t, old, a), issue(t, old, leaf(t, "x"))
	require.Equal(t, []FindingKind{CAInvalid, OutlivesCA}, kinds(Judge(b.cert, c.cert, []*x509.Certificate{old.cert}, c.spki(), noon)))

	early := noon.AddDate(-1, 0, 0).Add(-time.Second) // a second before the CA begins
	found := kinds(Judge(nil, after.cert, both, after.spki(), early))
	require.Equal(t, []FindingKind{CAInvalid, NotValidNow}, found)

	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	r := sign(t, leaf(t, "x"), &ca, key)
	fallback := Judge(before.cert, r.cert, both, r.spki(), noon)
	require.Equal(t, []FindingKind{AlgorithmChanged}, kinds(fallback))
	require.Equal(t, Fatal, fallback[0].Severity, "ECDSA became kubeadm's default")
	start := sign(t, a, &ca, key)
	asked := Judge(start.cert, after.cert, both, after.spki(), noon)
	require.Equal(t, []FindingKind{AlgorithmChanged}, kinds(asked))
	require.Equal(t, Warning, asked[0].Severity, "the default became ECDSA, as configured")
}

// TestJudgeOrganization knows what kubeadm 1.29 and 1.37 change themselves.
func TestJudgeOrganization(t *testing.T) {
	tests := []struct {
		cn, from, to string
		want         Severity
		text         string
	}{
		{"kube-apiserver-etcd-client", "system:masters", "", Warning, "etcd does not need"},
		{"kube-etcd-healthcheck-client", "system:masters", "", Warning, "etcd does not need"},
		{"kube-apiserver-kubelet-client", "system:masters", "kubeadm:cluster-admins", Warning, "kubeadm:cluster-admins must exist"},
		{"kube-apiserver-kubelet-client", "kubeadm:cluster-admins", "", Warning, "kubeadm:apiserver-kubelet-client must exist"},
		{"kube-apiserver-kubelet-client", "system:masters", "", Warning, "kubeadm:apiserver-kubelet-client must exist"},
		{"kube-apiserver-kubelet-client", "kubeadm:cluster-admins", "system:masters", Fatal, "no authorization can limit"},
		{"kubernetes-admin", "kubeadm:cluster-admins", "system:masters", Fatal, "no authorization can limit"},
		{"kubernetes-admin", "system:masters", "", Fatal, "organization is not the same"},
		{"kube-apiserver-etcd-client", "x", "", Fatal, "organization is not the same"},
		{"kube-etcd-healthcheck-client", "system:masters", "kubeadm:cluster-admins", Fatal, "organization is not the same"},
		{"kube-apiserver-etcd-client", "", "x", Fatal, "organization is not the same"},
	}
	ca := newCA(t, "kubernetes")
	for _, tt := range tests {
		orgs := func(o string) []string {
			if o == "" {
				return nil
			}
			return []string{o}
		}
		a := leaf(t, tt.cn, orgs(tt.from)...)
		a.NotAfter = noon.AddDate(1, 0, -1)
		before, after := issue(t, ca, a), issue(t, ca, leaf(t, tt.cn, orgs(tt.to)...))
		got := Judge(before.cert, after.cert, []*x509.Certificate{ca.cert}, after.spki(), noon)
		require.Len(t, got, 1, "%+v", tt)
		require.Equal(t, SubjectChanged, got[0].Kind)
		require.Equal(t, tt.want, got[0].Severity, "%+v", tt)
		require.Contains(t, got[0].Text, tt.text)
	}
}
