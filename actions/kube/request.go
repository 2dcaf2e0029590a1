package kube

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// A certificate whose CA's key is elsewhere is renewed by a certificate signing
// request (CSR): the host makes a new key, which never leaves it, and asks for
// the same certificate again.

// plain are the values that openssl's configuration takes as they are.
var plain = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9:._@/ -]*$`)

// RequestConfig returns the openssl configuration of a request for the same
// certificate as c with another key.
func RequestConfig(c *x509.Certificate) ([]byte, error) {
	subject, err := requestSubject(c.Subject)
	if err != nil {
		return nil, err
	}
	extensions, err := extensionLines(c)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteString("[req]\nprompt = no\nutf8 = yes\nstring_mask = utf8only\ndistinguished_name = subject\nreq_extensions = extensions\n\n[subject]\n")
	b.WriteString(subject)
	b.WriteString("\n[extensions]\n")
	b.WriteString(extensions)
	return b.Bytes(), nil
}

// requestSubject knows what kubeadm and kubelet put into a subject.
func requestSubject(n pkix.Name) (string, error) {
	var b strings.Builder
	known := pkix.Name{CommonName: n.CommonName, Organization: n.Organization}
	if n.CommonName == "" || known.String() != n.String() {
		return "", fmt.Errorf("subject %q has more than a common name and organizations", clip(n.String()))
	}
	for i, o := range n.Organization {
		if !plain.MatchString(o) {
			return "", fmt.Errorf("organization %q cannot be requested", clip(o))
		}
		fmt.Fprintf(&b, "%d.O = %s\n", i, o)
	}
	if !plain.MatchString(n.CommonName) {
		return "", fmt.Errorf("common name %q cannot be requested", clip(n.CommonName))
	}
	fmt.Fprintf(&b, "CN = %s\n", n.CommonName)
	return b.String(), nil
}

// extensionLines are the extensions of c as openssl's configuration has them.
func extensionLines(c *x509.Certificate) (string, error) {
	var b strings.Builder
	fmt.Fprintln(&b, "basicConstraints = critical, CA:FALSE")
	if u := KeyUsages(c); len(u) > 0 {
		for i := range u {
			if u[i] == "contentCommitment" {
				u[i] = "nonRepudiation" // its older name, which openssl knows
			}
		}
		fmt.Fprintln(&b, "keyUsage = critical, "+strings.Join(u, ", "))
	}
	var purposes []string // in the order that they have
	for _, u := range c.ExtKeyUsage {
		purposes = append(purposes, usageNames[u])
	}
	for _, oid := range c.UnknownExtKeyUsage {
		purposes = append(purposes, oid.String())
	}
	if slices.Contains(purposes, "") || slices.Contains(purposes, "any") {
		return "", fmt.Errorf("extended key usages %q cannot be requested", EKUs(c))
	}
	if len(purposes) > 0 {
		fmt.Fprintln(&b, "extendedKeyUsage = "+strings.Join(purposes, ", "))
	}
	var sans []string // in the order that they have
	for _, n := range c.DNSNames {
		if !plain.MatchString(strings.TrimPrefix(n, "*.")) {
			return "", fmt.Errorf("subject alternative name %q cannot be requested", clip(n))
		}
		sans = append(sans, "DNS:"+n)
	}
	for _, ip := range c.IPAddresses {
		sans = append(sans, "IP:"+ip.String())
	}
	if len(c.URIs)+len(c.EmailAddresses) > 0 {
		return "", fmt.Errorf("subject alternative names %s cannot be requested", list(SANs(c)))
	}
	if len(sans) > 0 {
		fmt.Fprintln(&b, "subjectAltName = "+strings.Join(sans, ", "))
	}
	return b.String(), nil
}

// RequestKeyArgs returns openssl req's arguments for a new key of the same
// algorithm and size as the certificate's.
func RequestKeyArgs(c *x509.Certificate) ([]string, error) {
	switch k := c.PublicKey.(type) {
	case *rsa.PublicKey:
		return []string{"-newkey", fmt.Sprintf("rsa:%d", k.N.BitLen())}, nil
	case *ecdsa.PublicKey:
		return []string{"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:" + k.Curve.Params().Name}, nil
	case ed25519.PublicKey:
		return []string{"-newkey", "ed25519"}, nil
	}
	return nil, errors.New("the certificate has a key of an unknown algorithm")
}

// ParseRequest reads a PEM file with a certificate signing request and proves
// that whoever made it has the key.
func ParseRequest(data []byte) (*x509.CertificateRequest, error) {
	if len(data) > MaxFile {
		return nil, fmt.Errorf("too large: %d bytes, at most %d are read", len(data), MaxFile)
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST" {
		return nil, errors.New("no PEM certificate request in it")
	}
	req, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the request is damaged: %v", err)
	}
	if err := req.CheckSignature(); err != nil {
		return nil, fmt.Errorf("the request is not signed by its own key: %v", err)
	}
	return req, nil
}

// asked is a certificate with all that a request asks for, without a key or a
// signature.
func asked(req *x509.CertificateRequest) (*x509.Certificate, error) {
	c := &x509.Certificate{Subject: req.Subject, DNSNames: req.DNSNames, IPAddresses: req.IPAddresses, URIs: req.URIs, EmailAddresses: req.EmailAddresses}
	for _, e := range req.Extensions {
		switch e.Id.String() {
		case "2.5.29.15":
			var bits asn1.BitString
			if _, err := asn1.Unmarshal(e.Value, &bits); err != nil {
				return nil, fmt.Errorf("key usage: %v", err)
			}
			for i := range keyUsageNames {
				if bits.At(i) != 0 {
					c.KeyUsage |= 1 << i
				}
			}
		case "2.5.29.37":
			var oids []asn1.ObjectIdentifier
			if _, err := asn1.Unmarshal(e.Value, &oids); err != nil {
				return nil, fmt.Errorf("extended key usage: %v", err)
			}
			for _, oid := range oids {
				if u, ok := usages[oid.String()]; ok {
					c.ExtKeyUsage = append(c.ExtKeyUsage, u)
				} else {
					c.UnknownExtKeyUsage = append(c.UnknownExtKeyUsage, oid)
				}
			}
		case "2.5.29.19":
			var basic struct {
				CA bool `asn1:"optional"`
			}
			if rest, err := asn1.Unmarshal(e.Value, &basic); err != nil || len(rest) > 0 {
				return nil, errors.New("basic constraints of an unknown form")
			}
			c.IsCA = basic.CA
		}
	}
	return c, nil
}

var usages = map[string]x509.ExtKeyUsage{
	"1.3.6.1.5.5.7.3.1": x509.ExtKeyUsageServerAuth,
	"1.3.6.1.5.5.7.3.2": x509.ExtKeyUsageClientAuth,
}

// SameRequest says in what way a request asks for something else than the
// certificate c; nil is none.
func SameRequest(req *x509.CertificateRequest, c *x509.Certificate) error {
	want, err := asked(req)
	switch {
	case err != nil:
		return err
	case Subject(want) != Subject(c):
		return fmt.Errorf("it asks for the subject %q, the certificate has %q", clip(Subject(want)), clip(Subject(c)))
	case !slices.Equal(SANs(want), SANs(c)):
		return fmt.Errorf("it asks for other names: %s", list(SANs(want)))
	case !slices.Equal(EKUs(want), EKUs(c)) || want.KeyUsage != c.KeyUsage || want.IsCA != c.IsCA:
		return errors.New("it asks for other usages")
	}
	return nil
}

// etcdClients are the certificates that are signed on the host of an external
// etcd for others, and the common name of each.
var etcdClients = map[string]string{
	"apiserver-etcd-client":   "kube-apiserver-etcd-client",
	"etcd-healthcheck-client": "kube-etcd-healthcheck-client",
}

// SignConfig returns the extensions that openssl is to put into the certificate
// for a request, if it asks for what the certificate of that name is: a client
// of etcd and nothing else.
func SignConfig(name string, req *x509.CertificateRequest) ([]byte, error) {
	cn, ok := etcdClients[name]
	if !ok {
		return nil, fmt.Errorf("%q is no client of etcd", name)
	}
	c, err := asked(req)
	if err != nil {
		return nil, err
	}
	switch {
	case c.Subject.CommonName != cn:
		return nil, fmt.Errorf("it asks for the common name %q, want %q", clip(c.Subject.CommonName), cn)
	case c.IsCA || slices.Contains(KeyUsages(c), "keyCertSign"):
		return nil, errors.New("it asks for a CA")
	case !slices.Equal(EKUs(c), []string{"clientAuth"}):
		return nil, fmt.Errorf("it asks for the usages %q, want clientAuth only", EKUs(c))
	case len(SANs(c)) > 0:
		return nil, fmt.Errorf("it asks for the names %s, a client has none", list(SANs(c)))
	}
	if _, err := requestSubject(c.Subject); err != nil {
		return nil, err
	}
	lines, err := extensionLines(c)
	return []byte(lines + "authorityKeyIdentifier = keyid\n"), err
}
