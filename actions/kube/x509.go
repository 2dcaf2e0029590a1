package kube

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// MaxChain is the number of certificates above which a file is refused.
const MaxChain = 64

// ParseChain returns the certificates of a PEM file, leaf first as the file
// has them. Blocks of another type, such as private keys, are passed over.
// Without one whole certificate it is an error that says why.
func ParseChain(data []byte) ([]*x509.Certificate, error) {
	switch {
	case len(bytes.TrimSpace(data)) == 0:
		return nil, errors.New("empty")
	case len(data) > MaxFile:
		return nil, fmt.Errorf("too large: %d bytes, at most %d are read", len(data), MaxFile)
	}
	var chain []*x509.Certificate
	for blocks := 0; ; blocks++ {
		var block *pem.Block
		block, data = pem.Decode(data)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			if blocks > 2*MaxChain {
				return nil, errors.New("too many PEM blocks")
			}
			continue
		}
		if len(chain) == MaxChain {
			return nil, fmt.Errorf("more than %d certificates", MaxChain)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d is damaged: %v", len(chain)+1, err)
		}
		chain = append(chain, cert)
	}
	if len(chain) == 0 {
		return nil, errors.New("no PEM certificate in it")
	}
	return chain, nil
}

// Serial returns the serial number in lower-case hexadecimal, no separators.
func Serial(c *x509.Certificate) string {
	if c.SerialNumber == nil {
		return ""
	}
	return c.SerialNumber.Text(16)
}

// Fingerprint returns the SHA-256 of the certificate in lower-case hexadecimal.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// SPKIHash returns the SHA-256 of the subject's public key (the DER-encoded
// SubjectPublicKeyInfo) in lower-case hexadecimal.
func SPKIHash(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

// Subject returns the subject as RFC 2253 text with the organizations in
// alphabetical order, so that equal subjects have equal texts.
func Subject(c *x509.Certificate) string {
	name := c.Subject
	name.Organization = slices.Sorted(slices.Values(name.Organization))
	name.OrganizationalUnit = slices.Sorted(slices.Values(name.OrganizationalUnit))
	return name.String()
}

// SANs returns the subject alternative names, sorted, each with its type as a
// prefix: DNS:, IP:, URI: or email:.
func SANs(c *x509.Certificate) []string {
	var out []string
	for _, n := range c.DNSNames {
		out = append(out, "DNS:"+n)
	}
	for _, ip := range c.IPAddresses {
		out = append(out, "IP:"+ip.String())
	}
	for _, u := range c.URIs {
		out = append(out, "URI:"+u.String())
	}
	for _, m := range c.EmailAddresses {
		out = append(out, "email:"+m)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

var usageNames = map[x509.ExtKeyUsage]string{
	x509.ExtKeyUsageAny:             "any",
	x509.ExtKeyUsageServerAuth:      "serverAuth",
	x509.ExtKeyUsageClientAuth:      "clientAuth",
	x509.ExtKeyUsageCodeSigning:     "codeSigning",
	x509.ExtKeyUsageEmailProtection: "emailProtection",
	x509.ExtKeyUsageTimeStamping:    "timeStamping",
	x509.ExtKeyUsageOCSPSigning:     "OCSPSigning",
}

// EKUs returns the extended key usages, sorted: serverAuth, clientAuth, ...,
// or the object identifier of one that has no common name.
func EKUs(c *x509.Certificate) []string {
	var out []string
	for _, u := range c.ExtKeyUsage {
		if name := usageNames[u]; name != "" {
			out = append(out, name)
		} else {
			out = append(out, fmt.Sprintf("usage-%d", u))
		}
	}
	for _, oid := range c.UnknownExtKeyUsage {
		out = append(out, oid.String())
	}
	slices.Sort(out)
	return slices.Compact(out)
}

var keyUsageNames = []string{"digitalSignature", "contentCommitment", "keyEncipherment",
	"dataEncipherment", "keyAgreement", "keyCertSign", "cRLSign", "encipherOnly", "decipherOnly"}

// KeyUsages returns the names of the key usage bits in the order of X.509.
func KeyUsages(c *x509.Certificate) []string {
	var out []string
	for i, name := range keyUsageNames {
		if c.KeyUsage&(1<<i) != 0 {
			out = append(out, name)
		}
	}
	return out
}

// KeyAlgorithm names the algorithm and size of the subject's key as kubeadm's
// encryptionAlgorithm does: RSA-2048, ECDSA-P256, ...; also Ed25519.
func KeyAlgorithm(c *x509.Certificate) string {
	switch key := c.PublicKey.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA-%d", key.N.BitLen())
	case *ecdsa.PublicKey:
		return "ECDSA-" + strings.ReplaceAll(key.Params().Name, "-", "")
	case ed25519.PublicKey:
		return "Ed25519"
	}
	return c.PublicKeyAlgorithm.String()
}

// SignedBy returns the first certificate of ca that signed c, nil when none did.
func SignedBy(c *x509.Certificate, ca []*x509.Certificate) *x509.Certificate {
	for _, signer := range ca {
		if bytes.Equal(c.RawIssuer, signer.RawSubject) && c.CheckSignatureFrom(signer) == nil {
			return signer
		}
	}
	return nil
}
