package sandbox

import (
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// kubeadm knows version and certs renew, with kubeadm's own words.
func kubeadm(root string, args []string, out io.Writer) error {
	if len(args) > 0 && args[0] == "version" {
		fmt.Fprintln(out, Version)
		return nil
	}
	if len(args) < 3 || args[0] != "certs" || args[1] != "renew" {
		return fmt.Errorf("%s is not emulated", strings.Join(args, " "))
	}
	for _, a := range args[3:] {
		if dir, ok := strings.CutPrefix(a, "--rootfs="); ok {
			root = dir
		}
	}
	names := []string{args[2]}
	if args[2] == "all" {
		names = slices.Sorted(maps.Keys(descriptions()))
	}
	for _, name := range names {
		long, ok := descriptions()[name]
		if !ok {
			return fmt.Errorf("unknown certificate %q", name)
		}
		missing, err := renew(root, name)
		switch {
		case err != nil:
			return fmt.Errorf("failed to renew certificate %s: %w", name, err)
		case missing:
			fmt.Fprintf(out, "MISSING! %s\n", long)
		default:
			fmt.Fprintf(out, "%s renewed\n", long)
		}
	}
	return nil
}

// descriptions are kubeadm's names for people.
func descriptions() map[string]string {
	return map[string]string{
		"admin.conf":               "certificate embedded in the kubeconfig file for the admin to use and for kubeadm itself",
		"apiserver":                "certificate for serving the Kubernetes API",
		"apiserver-etcd-client":    "certificate the apiserver uses to access etcd",
		"apiserver-kubelet-client": "certificate for the API server to connect to kubelet",
		"controller-manager.conf":  "certificate embedded in the kubeconfig file for the controller manager to use",
		"etcd-healthcheck-client":  "certificate for liveness probes to healthcheck etcd",
		"etcd-peer":                "certificate for etcd nodes to communicate with each other",
		"etcd-server":              "certificate for serving etcd",
		"front-proxy-client":       "certificate for the front proxy client",
		"scheduler.conf":           "certificate embedded in the kubeconfig file for the scheduler manager to use",
		"super-admin.conf":         "certificate embedded in the kubeconfig file for the super-admin",
	}
}

// renew replaces one certificate and its key, the key first, in place.
func renew(root, name string) (missing bool, err error) {
	dir := filepath.Join(root, "etc/kubernetes")
	if strings.HasSuffix(name, ".conf") {
		return renewKubeconfig(dir, filepath.Join(dir, name))
	}
	base := filepath.Join(dir, "pki", strings.Replace(name, "etcd-", "etcd/", 1))
	if strings.HasPrefix(name, "apiserver-etcd") {
		base = filepath.Join(dir, "pki", name)
	}
	old, err := os.ReadFile(base + ".crt")
	if os.IsNotExist(err) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	ca := "ca"
	switch {
	case name == "front-proxy-client":
		ca = "front-proxy-ca"
	case strings.Contains(name, "etcd"):
		ca = "etcd/ca"
	}
	cert, key, err := again(old, filepath.Join(dir, "pki", ca))
	if err != nil {
		return false, err
	}
	if err := os.WriteFile(base+".key", key, 0o600); err != nil {
		return false, err
	}
	return false, os.WriteFile(base+".crt", cert, 0o644)
}

var (
	certLine = regexp.MustCompile(`client-certificate-data: (\S+)`)
	keyLine  = regexp.MustCompile(`client-key-data: \S+`)
)

func renewKubeconfig(dir, file string) (missing bool, err error) {
	data, err := os.ReadFile(file)
	if os.IsNotExist(err) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	m := certLine.FindSubmatch(data)
	if m == nil {
		return false, fmt.Errorf("no client-certificate-data in %s", file)
	}
	old, err := base64.StdEncoding.DecodeString(string(m[1]))
	if err != nil {
		return false, err
	}
	cert, key, err := again(old, filepath.Join(dir, "pki/ca"))
	if err != nil {
		return false, err
	}
	data = certLine.ReplaceAll(data, []byte("client-certificate-data: "+base64.StdEncoding.EncodeToString(cert)))
	data = keyLine.ReplaceAll(data, []byte("client-key-data: "+base64.StdEncoding.EncodeToString(key)))
	return false, os.WriteFile(file, data, 0o600)
}

// again issues a certificate like old for a year, signed by the CA whose files
// begin with ca.
func again(old []byte, ca string) (cert, key []byte, err error) {
	was, err := parseCert(old)
	if err != nil {
		return nil, nil, err
	}
	data, err := os.ReadFile(ca + ".crt")
	if err != nil {
		return nil, nil, err
	}
	caCert, err := parseCert(data)
	if err != nil {
		return nil, nil, err
	}
	if data, err = os.ReadFile(ca + ".key"); err != nil {
		return nil, nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, nil, fmt.Errorf("%s.key: not PEM", ca)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, nil, err
	}
	signer, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, nil, fmt.Errorf("%s.key: not a signing key", ca)
	}
	t := x509.Certificate{
		Subject: was.Subject, DNSNames: was.DNSNames, IPAddresses: was.IPAddresses,
		ExtKeyUsage: was.ExtKeyUsage, KeyUsage: was.KeyUsage, BasicConstraintsValid: true,
	}
	now := time.Now()
	return issue(t, authority{caCert, signer}, now.Add(-5*time.Minute), now.Add(365*24*time.Hour))
}

func parseCert(data []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("not a PEM certificate")
	}
	return x509.ParseCertificate(block.Bytes)
}
