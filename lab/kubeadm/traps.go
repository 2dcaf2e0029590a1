package kubeadm

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"os"
	"path"
	"testing"
	"time"
)

// Reissue signs the named certificates again, with the tree's own CA keys and
// for the same public key, subject, SANs and usages. Only serial number and
// validity differ. Names are those of Names; a CA is signed by itself again,
// also inside the kubeconfigs, and what it has signed stays valid.
//
// So a certificate becomes due, expired or not yet valid, for every version.
func Reissue(tb testing.TB, t Tree, names []string, notBefore, notAfter time.Time) {
	tb.Helper()
	for _, name := range names {
		old := t.Certificate(tb, name)
		ca := issuer(name)
		template := *old
		template.SerialNumber = serial(tb)
		template.NotBefore, template.NotAfter = notBefore, notAfter
		template.SignatureAlgorithm = x509.UnknownSignatureAlgorithm // the CA key's own
		parent := &template
		if !old.IsCA {
			parent = t.Certificate(tb, ca)
		}
		der, err := x509.CreateCertificate(rand.Reader, &template, parent, old.PublicKey, t.Key(tb, ca))
		if err != nil {
			tb.Fatalf("reissue %s: %v", name, err)
		}
		was, is := encode("CERTIFICATE", old.Raw), encode("CERTIFICATE", der)
		t.replace(tb, t.place(name, ".crt"), was, is)
		if name != "ca" {
			continue
		}
		for _, conf := range kubeconfigs() {
			if _, err := os.Stat(t.Path(path.Join(kubernetesDir, conf))); err == nil {
				t.replace(tb, path.Join(kubernetesDir, conf), was, is)
			}
		}
	}
}

// Corrupt cuts the named certificates in half, as a crash while they were
// written does. In a kubeconfig it is the certificate that is cut.
func Corrupt(tb testing.TB, t Tree, names ...string) {
	tb.Helper()
	for _, name := range names {
		whole := t.pem(tb, name, ".crt", certificateData)
		t.replace(tb, t.place(name, ".crt"), whole, whole[:len(whole)/2])
	}
}

// ReplaceKey puts a new private key of the same kind in the place of the named
// certificate's, so that the two no longer belong together. A CA's key is
// replaced in the same way.
func ReplaceKey(tb testing.TB, t Tree, name string) {
	tb.Helper()
	t.replace(tb, t.place(name, ".key"), encodeKey(tb, t.Key(tb, name)), encodeKey(tb, newKey(tb, t.Key(tb, name))))
}

// makeEtcdCA makes what the owner of an external etcd hands out: its CA's
// certificate, and a certificate and key for the API server.
func (t Tree) makeEtcdCA(tb testing.TB) {
	tb.Helper()
	now := time.Now()
	caKey, key := newKey(tb, (*ecdsa.PrivateKey)(nil)), newKey(tb, (*ecdsa.PrivateKey)(nil))
	ca := &x509.Certificate{
		SerialNumber: serial(tb), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(10 * year),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	ca.Subject.CommonName = "external-etcd-ca"
	client := &x509.Certificate{
		SerialNumber: serial(tb), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(year),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	client.Subject.CommonName = "kube-apiserver-etcd-client"
	for name, template := range map[string]*x509.Certificate{"etcd-ca": ca, "apiserver-etcd-client": client} {
		public := key.Public()
		if template.IsCA {
			public = caKey.Public()
		}
		der, err := x509.CreateCertificate(rand.Reader, template, ca, public, caKey)
		if err != nil {
			tb.Fatalf("external etcd: %v", err)
		}
		t.write(tb, t.place(name, ".crt"), encode("CERTIFICATE", der), 0o644)
	}
	t.write(tb, t.place("apiserver-etcd-client", ".key"), encodeKey(tb, key), 0o600)
}

// replace changes PEM text in a file, or in the base64 of a kubeconfig. Owner,
// mode and everything else in the file stay.
func (t Tree) replace(tb testing.TB, file string, was, is []byte) {
	tb.Helper()
	if path.Ext(file) == ".conf" {
		was, is = []byte(base64.StdEncoding.EncodeToString(was)), []byte(base64.StdEncoding.EncodeToString(is))
	}
	text := t.read(tb, file)
	if !bytes.Contains(text, was) {
		tb.Fatalf("%s: what is to be replaced is not there", file)
	}
	t.write(tb, file, bytes.Replace(text, was, is, 1), 0o600)
}

// newKey returns a new key of the kind of like.
func newKey(tb testing.TB, like crypto.Signer) crypto.Signer {
	tb.Helper()
	if old, ok := like.(*rsa.PrivateKey); ok {
		key, err := rsa.GenerateKey(rand.Reader, old.N.BitLen())
		if err != nil {
			tb.Fatalf("new key: %v", err)
		}
		return key
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatalf("new key: %v", err)
	}
	return key
}

// encodeKey returns a key as PEM, in the form that kubeadm writes.
func encodeKey(tb testing.TB, key crypto.Signer) []byte {
	tb.Helper()
	switch key := key.(type) {
	case *rsa.PrivateKey:
		return encode("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key))
	case *ecdsa.PrivateKey:
		der, err := x509.MarshalECPrivateKey(key)
		if err != nil {
			tb.Fatalf("encode key: %v", err)
		}
		return encode("EC PRIVATE KEY", der)
	}
	tb.Fatalf("encode key: unexpected kind %T", key)
	return nil
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func serial(tb testing.TB) *big.Int {
	tb.Helper()
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 63))
	if err != nil {
		tb.Fatalf("serial number: %v", err)
	}
	return n.Add(n, big.NewInt(1))
}
