package kube

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func found(t *testing.T, h *host, name string) Found {
	for _, f := range Inventory(Survey(h.files), nil) {
		if f.Name == name {
			return f
		}
	}
	require.Fail(t, "not in the table", name)
	return Found{}
}

func TestInventoryTable(t *testing.T) {
	var names []string
	renewable := map[string]bool{}
	for _, f := range Inventory(Survey(newHost(t).files), nil) {
		names = append(names, f.Name)
		renewable[f.Name] = f.Renewable
		require.Equal(t, OK, f.State(noon, 30*24*time.Hour), f.Name)
		require.Equal(t, noon, f.ModTime)
	}
	require.Equal(t, strings.Fields(`apiserver apiserver-etcd-client apiserver-kubelet-client front-proxy-client
		etcd-server etcd-peer etcd-healthcheck-client admin.conf super-admin.conf controller-manager.conf scheduler.conf
		kubelet-client kubelet-server ca etcd-ca front-proxy-ca
		admin.conf/ca super-admin.conf/ca controller-manager.conf/ca scheduler.conf/ca kubelet.conf/ca`), names)
	v, _ := ParseVersion("v1.34.4")
	for name, is := range renewable {
		require.Equal(t, is, strings.Contains(" "+strings.Join(v.Names(), " ")+" ", " "+name+" "), name)
	}
}

func TestState(t *testing.T) {
	const day = 24 * time.Hour
	ca := newCA(t, "kubernetes")
	tmpl := leaf(t, "x")
	tmpl.NotBefore, tmpl.NotAfter = noon, noon.Add(90*day)
	cert := issue(t, ca, tmpl).cert
	f := Found{Chain: []*x509.Certificate{cert}}
	tests := []struct {
		at     time.Time
		before time.Duration
		want   State
	}{
		{noon.Add(-time.Nanosecond), 0, NotYetValid},
		{noon, 0, OK},
		{noon.Add(60*day - time.Nanosecond), 30 * day, OK},
		{noon.Add(60 * day), 30 * day, Due},
		{noon.Add(90 * day), 0, Due},
		{noon.Add(90*day - time.Nanosecond), 0, OK},
		{noon.Add(90*day + time.Nanosecond), 0, Expired},
		{noon.Add(90*day + time.Nanosecond), 365 * day, Expired},
		{noon, 90 * day, Due},
	}
	for _, tt := range tests {
		require.Equal(t, tt.want, f.State(tt.at, tt.before), "%s %s", tt.at, tt.before)
	}

	tmpl.NotBefore, tmpl.NotAfter = noon.Add(time.Hour), noon.Add(-time.Hour)
	inverted := Found{Chain: []*x509.Certificate{issue(t, ca, tmpl).cert}}
	require.Equal(t, Expired, inverted.State(noon, 0))

	old := newCAUntil(t, "intermediate", noon.Add(-time.Hour)).cert
	require.Equal(t, Expired, Found{Chain: []*x509.Certificate{cert, old}}.State(noon, 0), "the chain ends with its first end")
	require.Equal(t, OK, Found{Cert: Cert{Kind: KindCA}, Chain: []*x509.Certificate{cert, old}}.State(noon, 0), "a bundle's first CA signs")
}

func TestInventoryDamage(t *testing.T) {
	const crt = "/etc/kubernetes/pki/apiserver.crt"
	good := newHost(t).data(crt)
	tests := map[string]struct {
		file   File
		state  State
		reason string
	}{
		"empty":      {File{Data: []byte(" \n")}, Unreadable, "empty"},
		"garbage":    {File{Data: []byte("garbage")}, Unreadable, "no PEM certificate"},
		"cut":        {File{Data: good[:len(good)/2]}, Unreadable, "no PEM certificate"},
		"damaged":    {File{Data: []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")}, Unreadable, "certificate 1 is damaged"},
		"permission": {File{Err: "permission denied"}, Unreadable, "permission denied"},
		"too large":  {File{Data: bytes.Repeat([]byte("x"), MaxFile+1)}, Unreadable, "too large"},
		"too many":   {File{Data: bytes.Repeat(good, MaxChain+1)}, Unreadable, "more than 64"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.drop(crt)
			tt.file.Path = crt
			h.files = append(h.files, tt.file)
			f := found(t, h, "apiserver")
			require.Equal(t, tt.state, f.State(noon, 0))
			require.Contains(t, f.Reason, tt.reason)
			require.Nil(t, f.Leaf())
		})
	}
	h := newHost(t)
	h.drop(crt)
	require.Equal(t, Missing, found(t, h, "apiserver").State(noon, 0))
	h.put("/etc/kubernetes/admin.conf", h.data("/etc/kubernetes/kubelet.conf"))
	require.Contains(t, found(t, h, "admin.conf").Reason, "kubelet-client-current.pem")
	h.put("/etc/kubernetes/scheduler.conf", nil)
	require.Contains(t, found(t, h, "scheduler.conf").Reason, "empty")
}

func TestKubeletCertificates(t *testing.T) {
	h := newHost(t)
	require.False(t, found(t, h, "kubelet-client").Optional)
	h.put("/etc/kubernetes/kubelet.conf", conf("https://x:6443", h.ca, issue(t, h.ca, leaf(t, "system:node:m1")), Redacted))
	require.Equal(t, OK, found(t, h, "kubelet.conf").State(noon, 0))
	require.True(t, found(t, h, "kubelet-client").Optional)
	require.Equal(t, "/var/lib/kubelet/pki/kubelet.crt", found(t, h, "kubelet-server").Path)
	h.put("/var/lib/kubelet/pki/kubelet-server-current.pem", issue(t, h.ca, leaf(t, "system:node:m1")).pem())
	server := found(t, h, "kubelet-server")
	require.Equal(t, "ca", server.CA)
	require.Equal(t, KindPEM, server.Kind)
	h.drop("/etc/kubernetes/kubelet.conf")
	require.Equal(t, Missing, found(t, h, "kubelet.conf").State(noon, 0))
}

func TestCertificateTexts(t *testing.T) {
	ca := newCA(t, "kubernetes")
	tmpl := leaf(t, "kube-apiserver", "b", "a")
	tmpl.DNSNames = []string{"z.example", "kubernetes"}
	tmpl.IPAddresses = []net.IP{net.ParseIP("10.0.0.1"), net.ParseIP("::1")}
	tmpl.URIs = []*url.URL{{Scheme: "spiffe", Host: "x", Path: "/y"}}
	tmpl.EmailAddresses = []string{"ops@example"}
	tmpl.ExtKeyUsage = append(tmpl.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	c := sign(t, tmpl, &ca, key).cert
	require.Equal(t, []string{"DNS:kubernetes", "DNS:z.example", "IP:10.0.0.1", "IP:::1", "URI:spiffe://x/y", "email:ops@example"}, SANs(c))
	require.Equal(t, []string{"clientAuth", "serverAuth"}, EKUs(c))
	require.Equal(t, []string{"digitalSignature", "keyEncipherment"}, KeyUsages(c))
	require.Equal(t, "RSA-2048", KeyAlgorithm(c))
	require.Equal(t, "ECDSA-P256", KeyAlgorithm(ca.cert))
	require.Equal(t, "CN=kube-apiserver,O=a+O=b", Subject(c))
	require.Equal(t, tmpl.SerialNumber.Text(16), Serial(c))
	require.Len(t, Fingerprint(c), 64)
	require.NotEqual(t, SPKIHash(c), SPKIHash(ca.cert))
	require.Equal(t, ca.cert, SignedBy(c, []*x509.Certificate{newCA(t, "kubernetes").cert, ca.cert}))
	require.Nil(t, SignedBy(c, []*x509.Certificate{newCA(t, "kubernetes").cert}))
}

func TestParseChainBundle(t *testing.T) {
	a, b := newCA(t, "a"), newCA(t, "b")
	data := append([]byte("a comment\n"), a.keyPEM(t)...)
	data = append(data, a.pem()...)
	data = append(data, b.pem()...)
	chain, err := ParseChain(data)
	require.NoError(t, err)
	require.Len(t, chain, 2)
	require.Equal(t, "a", chain[0].Subject.CommonName)
}

func FuzzParseChain(f *testing.F) {
	ca := newCA(f, "kubernetes")
	f.Add(ca.pem())
	f.Add(append(ca.pem(), ca.keyPEM(f)...))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Add([]byte(""))
	f.Fuzz(func(t *testing.T, data []byte) {
		chain, err := ParseChain(data)
		if (err == nil) != (len(chain) > 0) || len(chain) > MaxChain {
			t.Fatalf("%d certificates, error %v", len(chain), err)
		}
		for _, c := range chain {
			_, _, _, _ = Subject(c), SANs(c), EKUs(c), KeyAlgorithm(c)
			_, _, _ = Serial(c), KeyUsages(c), Judge(c, c, chain, c.RawSubjectPublicKeyInfo, noon)
		}
	})
}
