package kubeadm

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The fields of a kubeconfig that hold PEM.
const (
	certificateData = "client-certificate-data"
	keyData         = "client-key-data"
	authorityData   = "certificate-authority-data"
)

// authorities are the names of the CAs in `kubeadm certs check-expiration`,
// with their files below the certificates directory, without extension.
func authorities() map[string]string {
	return map[string]string{"ca": "ca", "front-proxy-ca": "front-proxy-ca", "etcd-ca": "etcd/ca"}
}

// leafFiles are the names of the leaf certificates that are files, with their
// files below the certificates directory, without extension.
func leafFiles() map[string]string {
	return map[string]string{
		"apiserver":                "apiserver",
		"apiserver-etcd-client":    "apiserver-etcd-client",
		"apiserver-kubelet-client": "apiserver-kubelet-client",
		"etcd-healthcheck-client":  "etcd/healthcheck-client",
		"etcd-peer":                "etcd/peer",
		"etcd-server":              "etcd/server",
		"front-proxy-client":       "front-proxy-client",
	}
}

// kubeconfigs are the names of the kubeconfigs, kubelet.conf included.
func kubeconfigs() []string {
	return []string{"admin.conf", "controller-manager.conf", "kubelet.conf", "scheduler.conf", "super-admin.conf"}
}

// Names returns the certificates that the tree has, by the names that
// `kubeadm certs` gives them: the CAs and then the leafs with kubelet.conf,
// each sorted.
func (t Tree) Names() []string {
	return append(t.present(slices.Collect(maps.Keys(authorities()))), t.leafs()...)
}

// leafs returns the names of the leaf certificates that the tree has, sorted.
func (t Tree) leafs() []string {
	return t.present(append(slices.Collect(maps.Keys(leafFiles())), kubeconfigs()...))
}

// reissuable returns the names of the leafs whose CA key is in the tree.
func (t Tree) reissuable() []string {
	return slices.DeleteFunc(t.leafs(), func(name string) bool {
		_, err := os.Stat(t.KeyFile(issuer(name)))
		return err != nil
	})
}

// present returns those of names whose file is there, sorted.
func (t Tree) present(names []string) []string {
	names = slices.DeleteFunc(names, func(name string) bool {
		_, err := os.Stat(t.CertFile(name))
		return err != nil
	})
	slices.Sort(names)
	return names
}

// CertFile returns where on this machine the file lies that holds the named
// certificate: a PEM file or a kubeconfig, for kubelet.conf the kubelet's own
// PEM file when it has one. An unknown name gives a path where nothing is.
func (t Tree) CertFile(name string) string { return t.Path(t.place(name, ".crt")) }

// KeyFile returns where on this machine the file lies that holds the private
// key of the named certificate, as CertFile does.
func (t Tree) KeyFile(name string) string { return t.Path(t.place(name, ".key")) }

// place returns the path of the node where a certificate or key is.
func (t Tree) place(name, ext string) string {
	if file, ok := authorities()[name]; ok {
		return path.Join(t.PKI, file+ext)
	}
	if file, ok := leafFiles()[name]; ok {
		return path.Join(t.PKI, file+ext)
	}
	if name == "kubelet.conf" {
		if target, err := os.Readlink(t.Path(kubeletPEM)); err == nil {
			return target
		}
	}
	return path.Join(kubernetesDir, name)
}

// issuer returns the name of the CA that signs the named certificate.
func issuer(name string) string {
	switch {
	case name == "front-proxy-client", name == "front-proxy-ca":
		return "front-proxy-ca"
	case strings.HasPrefix(name, "etcd-"), name == "apiserver-etcd-client":
		return "etcd-ca"
	}
	return "ca"
}

// Certificate returns the named certificate. The test fails when it is not
// there or unreadable.
func (t Tree) Certificate(tb testing.TB, name string) *x509.Certificate {
	tb.Helper()
	cert, err := x509.ParseCertificate(block(tb, name, t.pem(tb, name, ".crt", certificateData), "CERTIFICATE"))
	if err != nil {
		tb.Fatalf("certificate %s: %v", name, err)
	}
	return cert
}

// Key returns the private key of the named certificate. The test fails when it
// is not there or unreadable.
func (t Tree) Key(tb testing.TB, name string) crypto.Signer {
	tb.Helper()
	text := t.pem(tb, name, ".key", keyData)
	if bytes.Contains(text, []byte("BEGIN EC PRIVATE KEY")) {
		key, err := x509.ParseECPrivateKey(block(tb, name, text, "EC PRIVATE KEY"))
		if err != nil {
			tb.Fatalf("key of %s: %v", name, err)
		}
		return key
	}
	if bytes.Contains(text, []byte("BEGIN PRIVATE KEY")) {
		key, err := x509.ParsePKCS8PrivateKey(block(tb, name, text, "PRIVATE KEY"))
		if err != nil {
			tb.Fatalf("key of %s: %v", name, err)
		}
		return key.(crypto.Signer) // all kinds of keys are
	}
	key, err := x509.ParsePKCS1PrivateKey(block(tb, name, text, "RSA PRIVATE KEY"))
	if err != nil {
		tb.Fatalf("key of %s: %v", name, err)
	}
	return key
}

// pem returns the PEM text of a certificate or key, taken out of a kubeconfig
// where it is in one.
func (t Tree) pem(tb testing.TB, name, ext, field string) []byte {
	tb.Helper()
	file := t.place(name, ext)
	text := t.read(tb, file)
	if path.Ext(file) == ".conf" {
		return embedded(tb, text, field)
	}
	return text
}

// block returns the content of the first PEM block of a type.
func block(tb testing.TB, name string, text []byte, kind string) []byte {
	tb.Helper()
	for b, rest := pem.Decode(text); b != nil; b, rest = pem.Decode(rest) {
		if b.Type == kind {
			return b.Bytes
		}
	}
	tb.Fatalf("%s: no PEM block %q", name, kind)
	return nil
}

// embedded returns what a field of a kubeconfig holds, decoded. kubeadm's
// kubeconfigs have each field once.
func embedded(tb testing.TB, conf []byte, field string) []byte {
	tb.Helper()
	m := regexp.MustCompile(`(?m)^\s+` + field + `: (\S+)$`).FindSubmatch(conf)
	if m == nil {
		tb.Fatalf("kubeconfig: no %s", field)
	}
	data, err := base64.StdEncoding.DecodeString(string(m[1]))
	if err != nil {
		tb.Fatalf("kubeconfig: %s: %v", field, err)
	}
	return data
}
