package kube

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Severity says whether a finding spoils the renewal.
type Severity string

// The severities. A fatal finding means that the new certificate must not be used.
const (
	Fatal   Severity = "fatal"
	Warning Severity = "warning"
)

// FindingKind names what a finding is about.
type FindingKind string

// The kinds of findings.
const (
	SerialKept       FindingKind = "serial-kept"       // the certificate was not replaced
	NotLater         FindingKind = "not-later"         // it does not end later than the old one
	SubjectChanged   FindingKind = "subject-changed"   // another CN, organization, ...
	SANsChanged      FindingKind = "sans-changed"      // a name was lost or has come
	EKUChanged       FindingKind = "eku-changed"       // another extended key usage
	KeyUsageChanged  FindingKind = "key-usage-changed" // another key usage
	AlgorithmChanged FindingKind = "algorithm-changed" // another algorithm or size of the key
	KeyKept          FindingKind = "key-kept"          // the same key was certified again
	KeyMismatch      FindingKind = "key-mismatch"      // the private key on disk is not the certificate's
	Untrusted        FindingKind = "untrusted"         // no CA on disk signed it
	CAInvalid        FindingKind = "ca-invalid"        // the CA that signed it is not valid now
	OutlivesCA       FindingKind = "outlives-ca"       // it ends later than its CA
	ValidityChanged  FindingKind = "validity-changed"  // another length of validity than before
	NotValidNow      FindingKind = "not-valid-now"     // not yet or no longer valid
	NoCertificate    FindingKind = "no-certificate"    // there is nothing to judge
)

// Finding is one way in which a certificate is not what the renewal of the old
// one should be.
type Finding struct {
	Kind     FindingKind
	Severity Severity
	Text     string // one sentence without a period
	Before   string // "" where there was nothing to compare
	After    string
}

// Judge compares a renewed certificate with the one before it, its CA and its
// key. No finding means that it is the same certificate with a new serial, a
// new key and a later end.
//
// before may be nil when there was none or it could not be read. ca are the
// certificates of the CA's file, any of which may have signed; keySPKI is the
// public key of the private key on disk, as DER SubjectPublicKeyInfo: an empty
// one is a mismatch.
func Judge(before, after *x509.Certificate, ca []*x509.Certificate, keySPKI []byte, now time.Time) []Finding {
	if after == nil {
		return []Finding{{Kind: NoCertificate, Severity: Fatal, Text: "there is no certificate"}}
	}
	j := judgement{}
	if before != nil {
		j.compare(before, after)
	}
	j.key(after, keySPKI)
	j.trust(before, after, ca, now)
	if now.After(after.NotAfter) || now.Before(after.NotBefore) {
		j.add(NotValidNow, Fatal, fmt.Sprintf("the certificate is not valid at %s", stamp(now)), "", window(after))
	}
	return j.findings
}

// HasFatal says whether one of the findings is fatal.
func HasFatal(findings []Finding) bool {
	return slices.ContainsFunc(findings, func(f Finding) bool { return f.Severity == Fatal })
}

type judgement struct{ findings []Finding }

func (j *judgement) add(kind FindingKind, s Severity, text, before, after string) {
	j.findings = append(j.findings, Finding{Kind: kind, Severity: s, Text: text, Before: before, After: after})
}

func (j *judgement) compare(before, after *x509.Certificate) {
	if before.SerialNumber.Cmp(after.SerialNumber) == 0 {
		j.add(SerialKept, Fatal, "the certificate was not replaced: its serial number is the same", Serial(before), Serial(after))
	}
	if !after.NotAfter.After(before.NotAfter) {
		j.add(NotLater, Fatal, "the certificate does not end later than the old one", stamp(before.NotAfter), stamp(after.NotAfter))
	}
	if a, b := Subject(before), Subject(after); a != b {
		severity, text := subjectChange(before, after)
		j.add(SubjectChanged, severity, text, a, b)
	}
	if a, b := SANs(before), SANs(after); !slices.Equal(a, b) {
		j.add(SANsChanged, Fatal, "the subject alternative names are not the same", list(a), list(b))
	}
	if a, b := EKUs(before), EKUs(after); !slices.Equal(a, b) {
		j.add(EKUChanged, Fatal, "the extended key usage is not the same", list(a), list(b))
	}
	if before.KeyUsage != after.KeyUsage {
		severity := Warning
		if before.KeyUsage&^after.KeyUsage != 0 || after.KeyUsage&x509.KeyUsageCertSign != 0 {
			severity = Fatal
		}
		j.add(KeyUsageChanged, severity, "the key usage is not the same", list(KeyUsages(before)), list(KeyUsages(after)))
	}
	if a, b := KeyAlgorithm(before), KeyAlgorithm(after); a != b {
		severity := Fatal // as when kubeadm has fallen back to its default
		if a == defaultAlgorithm {
			severity = Warning // only a configuration can have asked for another one
		}
		j.add(AlgorithmChanged, severity, "the key has another algorithm or size", a, b)
	}
	if bytes.Equal(before.RawSubjectPublicKeyInfo, after.RawSubjectPublicKeyInfo) {
		j.add(KeyKept, Warning, "the key was not replaced", SPKIHash(before), SPKIHash(after))
	}
}

func (j *judgement) key(after *x509.Certificate, spki []byte) {
	switch {
	case len(spki) == 0:
		j.add(KeyMismatch, Fatal, "no private key was found for the certificate", "", SPKIHash(after))
	case !bytes.Equal(spki, after.RawSubjectPublicKeyInfo):
		j.add(KeyMismatch, Fatal, "the private key on disk does not belong to the certificate", "", SPKIHash(after))
	}
}

func (j *judgement) trust(before, after *x509.Certificate, ca []*x509.Certificate, now time.Time) {
	signer := SignedBy(after, ca)
	if signer == nil {
		text := "no CA certificate on disk has signed the certificate"
		if len(ca) == 0 {
			text = "there is no CA certificate to check the signature with"
		}
		j.add(Untrusted, Fatal, text, "", "issuer "+clip(after.Issuer.String()))
		return
	}
	if now.After(signer.NotAfter) || now.Before(signer.NotBefore) {
		j.add(CAInvalid, Fatal, fmt.Sprintf("the CA %q is not valid at %s: a renewal cannot help, the CA must be replaced", clip(signer.Subject.CommonName), stamp(now)), "", window(signer))
	}
	if after.NotAfter.After(signer.NotAfter) {
		j.add(OutlivesCA, Warning, fmt.Sprintf("the certificate ends later than its CA %q, which ends at %s", clip(signer.Subject.CommonName), stamp(signer.NotAfter)), "", stamp(after.NotAfter))
	}
	if before == nil {
		return
	}
	a, known := lifetime(before, ca)
	b, same := lifetime(after, ca)
	if known && same && differ(a, b) {
		j.add(ValidityChanged, Warning, "the certificate is valid for another length of time than the old one", Span(a), Span(b))
	}
}

// Span returns a length of time as people say it: in days when there are two of
// them, else in hours and minutes.
func Span(d time.Duration) string {
	if d.Abs() >= 48*time.Hour {
		return fmt.Sprintf("%dd", int(d/(24*time.Hour)))
	}
	text := strings.TrimSuffix(d.Truncate(time.Minute).String(), "0s")
	if text == "" {
		return "0m"
	}
	return strings.Replace(text, "h0m", "h", 1)
}

// lifetime returns the length of time for which a certificate was made valid.
// It is not known of a certificate that starts together with its CA and is
// valid for much more than a year: kubeadm up to 1.30 starts renewed ones so,
// and the length then says how old the CA is.
func lifetime(c *x509.Certificate, ca []*x509.Certificate) (d time.Duration, known bool) {
	d = c.NotAfter.Sub(c.NotBefore)
	backdated := slices.ContainsFunc(ca, func(a *x509.Certificate) bool { return c.NotBefore.Equal(a.NotBefore) })
	return d, !backdated || d <= 366*24*time.Hour
}

// differ allows for backdating by minutes and for one percent.
func differ(a, b time.Duration) bool {
	return (a - b).Abs() > 10*time.Minute+max(a, b).Abs()/100
}

// Groups that kubeadm has put into certificates.
const (
	mastersGroup = "system:masters"
	adminsGroup  = "kubeadm:cluster-admins"
)

// subjectChange knows the changes that kubeadm itself makes: 1.29 takes
// system:masters from the clients of etcd and kubelet, 1.37 takes the group
// from the kubelet client altogether. Rights only ever shrink by these.
func subjectChange(before, after *x509.Certificate) (Severity, string) {
	a, b := before.Subject, after.Subject
	from, to := strings.Join(a.Organization, ","), strings.Join(b.Organization, ",")
	a.Organization, b.Organization = nil, nil
	if a.String() != b.String() {
		return Fatal, "the subject is not the same"
	}
	known := false
	switch a.CommonName {
	case "kube-etcd-healthcheck-client", "kube-apiserver-etcd-client":
		known = from == mastersGroup && to == ""
	case "kube-apiserver-kubelet-client":
		known = from == mastersGroup && (to == adminsGroup || to == "") || from == adminsGroup && to == ""
	}
	switch {
	case known && to == adminsGroup:
		return Warning, "kubeadm 1.29 has changed the organization: the ClusterRoleBinding kubeadm:cluster-admins must exist"
	case known && to == "" && a.CommonName == "kube-apiserver-kubelet-client":
		return Warning, "kubeadm 1.37 has removed the organization: the ClusterRoleBinding kubeadm:apiserver-kubelet-client must exist"
	case known:
		return Warning, "kubeadm 1.29 has removed the organization, which etcd does not need"
	case to == mastersGroup || slices.Contains(after.Subject.Organization, mastersGroup):
		return Fatal, "the organization has become system:masters, which no authorization can limit"
	}
	return Fatal, "the organization is not the same"
}

func list(s []string) string { return clip(strings.Join(s, ", ")) }

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func window(c *x509.Certificate) string { return stamp(c.NotBefore) + " to " + stamp(c.NotAfter) }
