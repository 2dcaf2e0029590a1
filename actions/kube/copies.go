package kube

import "crypto/x509"

// Older returns the certificates in a kubeconfig that are the same client's as
// admin's, by the same CA, but not the same and ending before it: a copy of
// admin.conf that was not refreshed when that was renewed.
func (k Kubeconfig) Older(admin *x509.Certificate, ca []*x509.Certificate) []*x509.Certificate {
	var list []*x509.Certificate
	for _, u := range k.Users {
		leaf, err := u.Leaf()
		if err == nil && leaf.Subject.CommonName == admin.Subject.CommonName && sameIssuer(leaf, admin, ca) &&
			leaf.SerialNumber.Cmp(admin.SerialNumber) != 0 && leaf.NotAfter.Before(admin.NotAfter) {
			list = append(list, leaf)
		}
	}
	return list
}
