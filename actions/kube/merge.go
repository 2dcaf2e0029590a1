package kube

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"

	"gopkg.in/yaml.v3"
)

// MergeOptions say what MergeUser takes and where it puts it.
type MergeOptions struct {
	User  string              // name of the entry in the destination; "" finds it by certificate
	CA    []*x509.Certificate // CAs of the cluster; without them the source's own CA counts
	SetCA bool                // also replace the CA of the clusters which the user's contexts name
}

// MergeUser puts the client certificate and key of src, the current user of a
// kubeconfig such as admin.conf, into exactly one user of dst, and drops what
// that user had instead of them (files, token, password). Everything else of
// dst stays byte for byte as it is where its layout allows that, and keeps its
// meaning, order and comments where it does not.
//
// The user is the one named, or the one whose certificate has the same common
// name and is signed by the same CA: *not* the one that happens to have the
// same name. Errors wrap ErrNoUser and ErrAmbiguousUser. Both documents may be
// redacted; the result of that is good for comparing only.
func MergeUser(dst, src []byte, opt MergeOptions) ([]byte, error) {
	from, err := ParseKubeconfig(src)
	if err != nil {
		return nil, fmt.Errorf("source %v", err)
	}
	cluster, user, err := from.Current()
	if err != nil {
		return nil, fmt.Errorf("source %v", err)
	}
	leaf, err := user.Leaf()
	if err != nil {
		return nil, fmt.Errorf("source kubeconfig: %v", err)
	}
	root, err := kubeconfigRoot(src)
	if err != nil {
		return nil, err
	}
	entry, err := userEntry(user.Name)(root)
	if err != nil {
		return nil, err
	}
	key := text(entry, "client-key-data")
	if err := keyFits(user.CertData, key); err != nil {
		return nil, fmt.Errorf("source kubeconfig: user %q: %v", clip(user.Name), err)
	}
	to, err := ParseKubeconfig(dst)
	if err != nil {
		return nil, fmt.Errorf("destination %v", err)
	}
	ca := opt.CA
	if len(ca) == 0 {
		if ca, err = ParseChain(cluster.CAData); err != nil {
			return nil, fmt.Errorf("source kubeconfig: cluster %q: CA: %v", clip(cluster.Name), err)
		}
	}
	name := opt.User
	if name == "" {
		found, err := to.matchUser(leaf, ca)
		if err != nil {
			return nil, err
		}
		name = found.Name
	}
	out, err := apply(dst, userEntry(name), edit{
		set: []pair{
			{"client-certificate-data", base64.StdEncoding.EncodeToString(user.CertData)},
			{"client-key-data", key},
		},
		remove: []string{"client-certificate", "client-key", "token", "tokenFile", "username", "password"},
	})
	if err != nil || !opt.SetCA {
		return out, err
	}
	for _, c := range to.clustersOf(name) {
		if out, err = SetCA(out, c, cluster.CAData); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// keyFits refuses a key that is not the certificate's. A redacted one cannot be
// judged.
func keyFits(cert []byte, key string) error {
	switch key {
	case Redacted:
		return nil
	case "":
		return errors.New("no client-key-data")
	}
	if _, err := tls.X509KeyPair(cert, decoded(key)); err != nil {
		return errors.New("its private key does not belong to its certificate")
	}
	return nil
}

// clustersOf returns the names of the clusters that contexts use with a user.
func (k Kubeconfig) clustersOf(user string) []string {
	var out []string
	seen := map[string]bool{}
	for _, c := range k.Contexts {
		if c.User == user && !seen[c.Cluster] {
			seen[c.Cluster] = true
			out = append(out, c.Cluster)
		}
	}
	return out
}

// SetServer replaces the server URL of one cluster; "" is the current context's.
func SetServer(data []byte, cluster, server string) ([]byte, error) {
	return setCluster(data, cluster, edit{set: []pair{{"server", server}}})
}

// SetCA replaces the CA of one cluster by PEM certificates; "" is the current
// context's.
func SetCA(data []byte, cluster string, ca []byte) ([]byte, error) {
	if _, err := ParseChain(ca); err != nil {
		return nil, fmt.Errorf("kubeconfig: CA: %v", err)
	}
	return setCluster(data, cluster, edit{
		set:    []pair{{"certificate-authority-data", base64.StdEncoding.EncodeToString(bytes.TrimLeft(ca, "\n"))}},
		remove: []string{"certificate-authority"},
	})
}

func setCluster(data []byte, name string, e edit) ([]byte, error) {
	if name == "" {
		k, err := ParseKubeconfig(data)
		if err != nil {
			return nil, err
		}
		cluster, _, err := k.Current()
		if err != nil {
			return nil, err
		}
		name = cluster.Name
	}
	return apply(data, one("clusters", "cluster", name), e)
}

// PointToPEM makes the current user of kubelet.conf take its certificate and
// key from pem, the file that kubelet rotates, and drops what was embedded.
func PointToPEM(kubeletConf []byte, pem string) ([]byte, error) {
	k, err := ParseKubeconfig(kubeletConf)
	if err != nil {
		return nil, err
	}
	_, user, err := k.Current()
	if err != nil {
		return nil, err
	}
	return apply(kubeletConf, userEntry(user.Name), edit{
		set:    []pair{{"client-certificate", pem}, {"client-key", pem}},
		remove: []string{"client-certificate-data", "client-key-data", "token", "tokenFile", "username", "password"},
	})
}

// userEntry finds the mapping of one user.
func userEntry(name string) locate { return one("users", "user", name) }

// one finds the mapping of the one entry with that name in a list.
func one(list, field, name string) locate {
	return func(root *yaml.Node) (*yaml.Node, error) {
		var found []*yaml.Node
		for _, n := range items(root, list) {
			if text(n, "name") == name {
				found = append(found, get(n, field))
			}
		}
		noSuch := ErrNoUser
		many := ErrAmbiguousUser
		if list != "users" {
			noSuch, many = errors.New("no such "+field), errors.New("more than one "+field)
		}
		switch {
		case len(found) == 0:
			return nil, fmt.Errorf("kubeconfig: %w: %q", noSuch, clip(name))
		case len(found) > 1:
			return nil, fmt.Errorf("kubeconfig: %w: %q", many, clip(name))
		case found[0] == nil || found[0].Kind != yaml.MappingNode:
			return nil, fmt.Errorf("kubeconfig: %s %q is empty", field, clip(name))
		}
		return found[0], nil
	}
}
