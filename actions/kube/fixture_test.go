package kube

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
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// noon is the moment at which the tests judge.
var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// signer is a certificate with its key.
type signer struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func (s signer) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.cert.Raw})
}

func (s signer) keyPEM(t testing.TB) []byte {
	der, err := x509.MarshalPKCS8PrivateKey(s.key)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func (s signer) spki() []byte { return s.cert.RawSubjectPublicKeyInfo }

func newKey(t testing.TB) crypto.Signer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return key
}

func newCA(t testing.TB, cn string) signer {
	return newCAUntil(t, cn, noon.AddDate(9, 0, 0))
}

func newCAUntil(t testing.TB, cn string, end time.Time) signer {
	key := newKey(t)
	tmpl := &x509.Certificate{
		SerialNumber: serial(t), Subject: pkix.Name{CommonName: cn}, DNSNames: []string{cn},
		NotBefore: noon.AddDate(-1, 0, 0), NotAfter: end,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageCertSign,
		IsCA:     true, BasicConstraintsValid: true,
	}
	return sign(t, tmpl, nil, key)
}

func serial(t testing.TB) *big.Int {
	n, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	require.NoError(t, err)
	return n.Add(n, big.NewInt(1))
}

func sign(t testing.TB, tmpl *x509.Certificate, ca *signer, key crypto.Signer) signer {
	parent, parentKey := tmpl, key
	if ca != nil {
		parent, parentKey = ca.cert, ca.key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), parentKey)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return signer{cert, key}
}

// leaf returns the template of a client certificate, valid for a year.
func leaf(t testing.TB, cn string, orgs ...string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: serial(t), Subject: pkix.Name{CommonName: cn, Organization: orgs},
		NotBefore: noon.Add(-5 * time.Minute), NotAfter: noon.AddDate(1, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
}

func issue(t testing.TB, ca signer, tmpl *x509.Certificate) signer {
	return sign(t, tmpl, &ca, newKey(t))
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// conf returns a kubeconfig as kubeadm writes it; without a key it is redacted.
func conf(server string, ca, client signer, key string) []byte {
	cn := client.cert.Subject.CommonName
	return fmt.Appendf(nil, `apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: %s
    server: %s
  name: kubernetes
contexts:
- context:
    cluster: kubernetes
    user: %s
  name: %[3]s@kubernetes
current-context: %[3]s@kubernetes
kind: Config
users:
- name: %[3]s
  user:
    client-certificate-data: %[4]s
    client-key-data: %[5]s
`, b64(ca.pem()), server, cn, b64(client.pem()), key)
}

// host is what kubeadm 1.34 lays out on the first of several masters.
type host struct {
	ca, etcdCA, proxyCA signer
	files               []File
}

func testdata(t testing.TB, name string) []byte {
	data, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	return data
}

func newHost(t testing.TB) *host {
	h := &host{ca: newCA(t, "kubernetes"), etcdCA: newCA(t, "etcd-ca"), proxyCA: newCA(t, "front-proxy-ca")}
	const pki = "/etc/kubernetes/pki/"
	for name, ca := range map[string]signer{"ca": h.ca, "etcd/ca": h.etcdCA, "front-proxy-ca": h.proxyCA} {
		h.pair(pki+name, ca)
	}
	h.pair(pki+"apiserver", issue(t, h.ca, leaf(t, "kube-apiserver")))
	h.pair(pki+"apiserver-kubelet-client", issue(t, h.ca, leaf(t, "kube-apiserver-kubelet-client", "kubeadm:cluster-admins")))
	h.pair(pki+"apiserver-etcd-client", issue(t, h.etcdCA, leaf(t, "kube-apiserver-etcd-client")))
	h.pair(pki+"front-proxy-client", issue(t, h.proxyCA, leaf(t, "front-proxy-client")))
	for _, n := range []string{"server", "peer"} {
		h.pair(pki+"etcd/"+n, issue(t, h.etcdCA, leaf(t, "m1")))
	}
	h.pair(pki+"etcd/healthcheck-client", issue(t, h.etcdCA, leaf(t, "kube-etcd-healthcheck-client")))
	h.put(pki+"sa.key", nil)
	h.put(pki+"sa.pub", []byte("x"))
	const lb, own = "https://172.30.0.10:6443", "https://172.30.0.11:6443"
	for name, c := range map[string]struct{ cn, org, server string }{
		"admin.conf":              {"kubernetes-admin", "kubeadm:cluster-admins", lb},
		"super-admin.conf":        {"kubernetes-super-admin", "system:masters", lb},
		"controller-manager.conf": {"system:kube-controller-manager", "", own},
		"scheduler.conf":          {"system:kube-scheduler", "", own},
	} {
		h.put("/etc/kubernetes/"+name, conf(c.server, h.ca, issue(t, h.ca, leaf(t, c.cn, c.org)), Redacted))
	}
	kubelet := issue(t, h.ca, leaf(t, "system:node:m1", "system:nodes"))
	h.put("/var/lib/kubelet/pki/kubelet-client-current.pem", kubelet.pem())
	h.put("/var/lib/kubelet/pki/kubelet.key", nil)
	h.put("/var/lib/kubelet/pki/kubelet.crt", newCA(t, "m1@1700000000").pem())
	pointed, err := PointToPEM(conf(own, h.ca, kubelet, Redacted), "/var/lib/kubelet/pki/kubelet-client-current.pem")
	require.NoError(t, err)
	h.put("/etc/kubernetes/kubelet.conf", pointed)
	for _, c := range Components() {
		h.put("/etc/kubernetes/manifests/"+c+".yaml", testdata(t, "manifests/"+c+".yaml"))
	}
	h.put("/var/lib/kubelet/config.yaml", []byte("kind: KubeletConfiguration\nstaticPodPath: /etc/kubernetes/manifests\ncontainerRuntimeEndpoint: unix:///run/containerd/containerd.sock\n"))
	return h
}

func (h *host) pair(base string, s signer) {
	h.put(base+".crt", s.pem())
	h.put(base+".key", nil)
}

// put adds or replaces a file.
func (h *host) put(path string, data []byte) {
	h.drop(path)
	h.files = append(h.files, File{Path: path, Mode: 0o600, Data: data, Size: int64(len(data)), ModTime: noon})
}

// drop removes files.
func (h *host) drop(paths ...string) {
	for _, p := range paths {
		for i := range h.files {
			if h.files[i].Path == p {
				h.files = append(h.files[:i:i], h.files[i+1:]...)
				break
			}
		}
	}
}

func (h *host) data(path string) []byte {
	for _, f := range h.files {
		if f.Path == path {
			return f.Data
		}
	}
	return nil
}
