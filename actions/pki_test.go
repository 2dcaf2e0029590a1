package actions

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certbook/engine/host/hosttest"
)

// pair is a certificate with its key.
type pair struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// issue signs a certificate; without ca it is a CA that signs itself.
func issue(t *testing.T, ca *pair, cn string, notBefore, notAfter time.Time) pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 62))
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: cn}, NotBefore: notBefore, NotAfter: notAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
	}
	parent, signer := template, crypto.Signer(key)
	if ca == nil {
		template.IsCA, template.KeyUsage = true, x509.KeyUsageCertSign
	} else {
		parent, signer = ca.cert, ca.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return pair{cert, key}
}

func (p pair) certPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.cert.Raw})
}

func (p pair) keyPEM(t *testing.T) []byte {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(p.key.(*ecdsa.PrivateKey))
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
}

// der returns the first certificate of a PEM file.
func der(t *testing.T, data []byte) []byte {
	t.Helper()
	block, _ := pem.Decode(data)
	require.NotNil(t, block)
	return block.Bytes
}

// kubeconfig is a cluster with a user of the given name, and its context.
func kubeconfig(t *testing.T, ca, client pair, cluster, user string) string {
	t.Helper()
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: %[2]s@%[1]s
clusters:
- cluster:
    certificate-authority-data: %[3]s
    server: https://%[1]s:6443
  name: %[1]s
contexts:
- context: {cluster: %[1]s, user: %[2]s}
  name: %[2]s@%[1]s
users:
- name: %[2]s
  user:
    client-certificate-data: %[4]s
    client-key-data: %[5]s
`, cluster, user, b64(ca.certPEM()), b64(client.certPEM()), b64(client.keyPEM(t)))
}

// plane puts a control plane's files on a fake host, valid for a year from now;
// it returns the CA by which most is signed.
func plane(t *testing.T, f *hosttest.Fake, now time.Time) pair {
	t.Helper()
	from, end := now.Add(-time.Hour), now.Add(365*24*time.Hour)
	ten := now.Add(3650 * 24 * time.Hour)
	put := func(base string, p pair) {
		f.Put("/etc/kubernetes/pki/"+base+".crt", p.certPEM())
		f.Put("/etc/kubernetes/pki/"+base+".key", p.keyPEM(t))
	}
	ca, etcd, proxy := issue(t, nil, "kubernetes", from, ten), issue(t, nil, "etcd-ca", from, ten), issue(t, nil, "front-proxy-ca", from, ten)
	put("ca", ca)
	put("etcd/ca", etcd)
	put("front-proxy-ca", proxy)
	put("apiserver", issue(t, &ca, "kube-apiserver", from, end))
	put("apiserver-kubelet-client", issue(t, &ca, "kube-apiserver-kubelet-client", from, end))
	put("apiserver-etcd-client", issue(t, &etcd, "kube-apiserver-etcd-client", from, end))
	put("front-proxy-client", issue(t, &proxy, "front-proxy-client", from, end))
	for _, n := range []string{"server", "peer", "healthcheck-client"} {
		put("etcd/"+n, issue(t, &etcd, "m1", from, end))
	}
	for conf, cn := range map[string]string{"admin": "kubernetes-admin", "controller-manager": "system:kube-controller-manager", "scheduler": "system:kube-scheduler"} {
		f.Put("/etc/kubernetes/"+conf+".conf", []byte(kubeconfig(t, ca, issue(t, &ca, cn, from, end), "kubernetes", cn)))
	}
	kubelet := issue(t, &ca, "system:node:m1", from, end)
	f.Put("/var/lib/kubelet/pki/kubelet-client-current.pem", append(kubelet.certPEM(), kubelet.keyPEM(t)...))
	f.Put("/etc/kubernetes/kubelet.conf", fmt.Appendf(nil, `apiVersion: v1
kind: Config
current-context: c
clusters:
- {name: k, cluster: {server: "https://172.30.0.11:6443", certificate-authority-data: %s}}
contexts:
- {name: c, context: {cluster: k, user: u}}
users:
- name: u
  user:
    client-certificate: /var/lib/kubelet/pki/kubelet-client-current.pem
    client-key: /var/lib/kubelet/pki/kubelet-client-current.pem
`, base64.StdEncoding.EncodeToString(ca.certPEM())))
	return ca
}
