package kube

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
)

// State is how a certificate stands at one moment.
type State string

// The states of a certificate.
const (
	OK          State = "ok"
	Due         State = "due" // it ends within the threshold
	Expired     State = "expired"
	NotYetValid State = "not-yet-valid"
	Missing     State = "missing"
	Unreadable  State = "unreadable"
)

// Found is a certificate of the table and what the host has of it.
type Found struct {
	Cert
	Chain    []*x509.Certificate // the leaf first; nil when there is none
	Reason   string              // why Chain is nil
	Absent   bool                // there is no such file; Reason says so
	Target   string              // the real path when Path is a symbolic link
	ModTime  time.Time           // of the file
	External bool                // the key of the CA that signs it is not on this host
}

// Inventory looks up every certificate of the layout in files: the survey's
// own, or those of a later read. A nil slice means the survey's.
func Inventory(l Layout, files []File) []Found {
	index := map[string]File{}
	if files == nil {
		files = l.files
	}
	for _, f := range files {
		index[f.Path] = f
	}
	var out []Found
	for _, c := range l.Certs() {
		found := Found{Cert: c, External: l.external(c)}
		f, ok := index[c.Path]
		switch {
		case !ok:
			found.Absent, found.Reason = true, "no such file"
		case f.Err != "":
			found.Reason = f.Err
		default:
			chain, err := certificates(c, f.Data)
			if err != nil {
				found.Reason = err.Error()
			}
			found.Chain = chain
		}
		found.Target, found.ModTime = f.Target, f.ModTime
		out = append(out, found)
	}
	return out
}

// external says whether the CA that signs c cannot sign here.
func (l Layout) external(c Cert) bool {
	if c.CA == "etcd-ca" && l.Etcd.External {
		return true
	}
	return c.CA != "" && slices.Contains(l.ExternalCAs, c.CA)
}

// certificates takes the certificate out of its kind of file.
func certificates(c Cert, data []byte) ([]*x509.Certificate, error) {
	kubeconfigCA := c.Kind == KindCA && strings.HasSuffix(c.Name, "/ca")
	if c.Kind != KindKubeconfig && !kubeconfigCA {
		return ParseChain(data)
	}
	k, err := ParseKubeconfig(data)
	if err != nil {
		return nil, err
	}
	cluster, user, err := k.Current()
	switch {
	case err != nil:
		return nil, err
	case kubeconfigCA:
		return ParseChain(cluster.CAData)
	case len(user.CertData) == 0 && user.CertFile != "":
		return nil, fmt.Errorf("no certificate in it: user %q has it in %q", clip(user.Name), clip(user.CertFile))
	case len(user.CertData) == 0:
		return nil, fmt.Errorf("no certificate in it: user %q has none", clip(user.Name))
	}
	return ParseChain(user.CertData)
}

// Authorities returns one fingerprint over the certificates with which the CAs
// sign, "" when there are none. It is the same on all masters of a cluster.
func Authorities(found []Found) string {
	sum := sha256.New()
	n := 0
	for _, f := range found {
		if leaf := f.Leaf(); leaf != nil && f.Kind == KindCA && !strings.HasSuffix(f.Name, "/ca") {
			fmt.Fprintf(sum, "%s %s\n", f.Name, Fingerprint(leaf))
			n++
		}
	}
	if n == 0 {
		return ""
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// Leaf returns the certificate itself, nil when there is none.
func (f Found) Leaf() *x509.Certificate {
	if len(f.Chain) == 0 {
		return nil
	}
	return f.Chain[0]
}

// Validity returns the time in which the whole chain is valid. Of a CA's file
// it is the first certificate's, the one that kubeadm signs with.
func (f Found) Validity() (notBefore, notAfter time.Time) {
	for i, c := range f.Chain {
		if i > 0 && f.Kind == KindCA {
			break
		}
		if i == 0 || c.NotBefore.After(notBefore) {
			notBefore = c.NotBefore
		}
		if i == 0 || c.NotAfter.Before(notAfter) {
			notAfter = c.NotAfter
		}
	}
	return notBefore, notAfter
}

// State judges the certificate at now. It is valid up to and including its
// NotAfter, and due from before that moment on: a threshold of 30 days counts
// when 30 days or less are left.
func (f Found) State(now time.Time, before time.Duration) State {
	if f.Absent {
		return Missing
	}
	if len(f.Chain) == 0 {
		return Unreadable
	}
	notBefore, notAfter := f.Validity()
	switch {
	case now.After(notAfter):
		return Expired
	case now.Before(notBefore):
		return NotYetValid
	case notAfter.Sub(now) <= before:
		return Due
	}
	return OK
}
