package sandbox

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// authority is one of kubeadm's CAs.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// authorities are the cluster's CAs, by the name of their file.
type authorities map[string]authority

func newAuthorities(now time.Time) (authorities, error) {
	cas := authorities{}
	for file, name := range map[string]string{"ca": "kubernetes", "etcd/ca": "etcd-ca", "front-proxy-ca": "front-proxy-ca"} {
		key, err := newKey()
		if err != nil {
			return nil, err
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(0), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
			NotBefore: now.Add(-356 * 24 * time.Hour), NotAfter: now.Add(9 * 365 * 24 * time.Hour),
			IsCA: true, BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		}
		cert, err := sign(template, authority{template, key}, key.Public())
		if err != nil {
			return nil, err
		}
		cas[file] = authority{cert, key}
	}
	return cas, nil
}

// newKey makes an ECDSA key: quicker than RSA, which is what kubeadm makes
// unless told otherwise.
func newKey() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

// sign signs a template with a fresh serial number.
func sign(template *x509.Certificate, ca authority, public crypto.PublicKey) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 62))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial.Add(serial, big.NewInt(1))
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, public, ca.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// leaf is one certificate as kubeadm lays it out.
type leaf struct {
	ca       string // file of the CA
	template x509.Certificate
}

func template(cn string, organizations []string, usages ...x509.ExtKeyUsage) x509.Certificate {
	return x509.Certificate{
		Subject:     pkix.Name{CommonName: cn, Organization: organizations},
		ExtKeyUsage: usages, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, BasicConstraintsValid: true,
	}
}

// leafs returns a master's certificates by their file below pki.
func (m *master) leafs() map[string]leaf {
	const client, server = x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth
	loopback := []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	apiserver := template("kube-apiserver", nil, server)
	apiserver.DNSNames = []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", m.name}
	apiserver.IPAddresses = []net.IP{net.IPv4(10, 96, 0, 1), net.IPv4(127, 0, 0, 1)}
	etcd := template(m.name, nil, server, client)
	etcd.DNSNames, etcd.IPAddresses = []string{"localhost", m.name}, loopback
	return map[string]leaf{
		"apiserver":                {"ca", apiserver},
		"apiserver-kubelet-client": {"ca", template("kube-apiserver-kubelet-client", []string{"kubeadm:cluster-admins"}, client)},
		"front-proxy-client":       {"front-proxy-ca", template("front-proxy-client", nil, client)},
		"apiserver-etcd-client":    {"etcd/ca", template("kube-apiserver-etcd-client", nil, client)},
		"etcd/server":              {"etcd/ca", etcd},
		"etcd/peer":                {"etcd/ca", etcd},
		"etcd/healthcheck-client":  {"etcd/ca", template("kube-etcd-healthcheck-client", nil, client)},
	}
}

// clients returns the subjects of a master's kubeconfigs by their file.
func (m *master) clients() map[string]x509.Certificate {
	const client = x509.ExtKeyUsageClientAuth
	return map[string]x509.Certificate{
		"admin.conf":              template("kubernetes-admin", []string{"kubeadm:cluster-admins"}, client),
		"controller-manager.conf": template("system:kube-controller-manager", nil, client),
		"scheduler.conf":          template("system:kube-scheduler", nil, client),
	}
}

// issue signs a certificate for a new key and returns both as PEM.
func issue(t x509.Certificate, ca authority, notBefore, notAfter time.Time) (cert, key []byte, err error) {
	signer, err := newKey()
	if err != nil {
		return nil, nil, err
	}
	t.NotBefore, t.NotAfter = notBefore, notAfter
	c, err := sign(&t, ca, signer.Public())
	if err != nil {
		return nil, nil, err
	}
	key, err = keyPEM(signer)
	return certPEM(c), key, err
}

func certPEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

func keyPEM(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// write makes a file with its directories.
func write(root, name string, data []byte, mode os.FileMode) error {
	file := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(file, data, mode); err != nil {
		return fmt.Errorf("sandbox: %w", err)
	}
	return nil
}
