package kube

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"gopkg.in/yaml.v3"
)

// Redacted stands for a secret in content that was read without its secrets.
const Redacted = "REDACTED"

// Errors that callers match.
var (
	ErrNoUser        = errors.New("no such user")
	ErrAmbiguousUser = errors.New("more than one user matches")
)

// maxEntries is the number of clusters, users or contexts above which a
// kubeconfig is refused.
const maxEntries = 1000

// Kubeconfig is a view of a kubeconfig without its secrets.
type Kubeconfig struct {
	CurrentContext string
	Clusters       []Cluster
	Users          []User
	Contexts       []Context
}

// Cluster is one entry of clusters.
type Cluster struct {
	Name   string
	Server string
	CAData []byte // PEM, decoded; nil when there is none or it is not base64
	CAFile string
}

// User is one entry of users.
type User struct {
	Name     string
	CertData []byte // PEM, decoded; nil when there is none or it is not base64
	CertFile string
	KeyFile  string
	HasKey   bool // client-key-data is there, redacted or not
	Token    bool // token or tokenFile is there
	Exec     bool // a program or a provider supplies the credentials
}

// Context is one entry of contexts.
type Context struct{ Name, Cluster, User string }

// ParseKubeconfig reads a kubeconfig, YAML or JSON, redacted or not.
func ParseKubeconfig(data []byte) (Kubeconfig, error) {
	root, err := kubeconfigRoot(data)
	if err != nil {
		return Kubeconfig{}, err
	}
	k := Kubeconfig{CurrentContext: text(root, "current-context")}
	for _, n := range items(root, "clusters") {
		k.Clusters = append(k.Clusters, Cluster{
			Name:   text(n, "name"),
			Server: text(n, "cluster", "server"),
			CAData: decoded(text(n, "cluster", "certificate-authority-data")),
			CAFile: text(n, "cluster", "certificate-authority"),
		})
	}
	for _, n := range items(root, "users") {
		u := get(n, "user")
		k.Users = append(k.Users, User{
			Name:     text(n, "name"),
			CertData: decoded(text(u, "client-certificate-data")),
			CertFile: text(u, "client-certificate"),
			KeyFile:  text(u, "client-key"),
			HasKey:   text(u, "client-key-data") != "",
			Token:    text(u, "token") != "" || text(u, "tokenFile") != "",
			Exec:     get(u, "exec") != nil || get(u, "auth-provider") != nil,
		})
	}
	for _, n := range items(root, "contexts") {
		k.Contexts = append(k.Contexts, Context{Name: text(n, "name"), Cluster: text(n, "context", "cluster"), User: text(n, "context", "user")})
	}
	return k, nil
}

// kubeconfigRoot parses and refuses what cannot be a kubeconfig or is
// ambiguous: keys that stand twice in one mapping.
func kubeconfigRoot(data []byte) (*yaml.Node, error) {
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, errors.New("kubeconfig: empty")
	}
	root, err := parseYAML(data)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig: %v", err)
	}
	if root == nil || root.Kind != yaml.MappingNode || text(root, "kind") != "Config" && get(root, "clusters") == nil && get(root, "users") == nil {
		return nil, errors.New("kubeconfig: not a document of kind Config")
	}
	mappings := []*yaml.Node{root}
	for _, list := range []string{"clusters", "users", "contexts"} {
		entries := items(root, list)
		if len(entries) > maxEntries {
			return nil, fmt.Errorf("kubeconfig: %d %s, at most %d are read", len(entries), list, maxEntries)
		}
		for _, e := range entries {
			mappings = append(mappings, e, get(e, strings.TrimSuffix(list, "s")))
		}
	}
	for _, m := range mappings {
		if m == nil || m.Kind != yaml.MappingNode {
			continue
		}
		if key := repeated(m); key != "" {
			return nil, fmt.Errorf("kubeconfig: line %d: a key stands twice in one entry", m.Line)
		}
	}
	return root, nil
}

// decoded returns the bytes of a *-data field, nil when it is not base64.
func decoded(s string) []byte {
	s = strings.Map(func(r rune) rune {
		if r == ' ' || r == '\n' || r == '\r' || r == '\t' {
			return -1
		}
		return r
	}, s)
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil || len(b) == 0 {
		return nil
	}
	return b
}

// Current returns the cluster and the user of the current context. Without a
// current context a single cluster and a single user count.
func (k Kubeconfig) Current() (Cluster, User, error) {
	for _, c := range k.Contexts {
		if c.Name != k.CurrentContext {
			continue
		}
		cluster, ok := k.cluster(c.Cluster)
		if !ok {
			return Cluster{}, User{}, fmt.Errorf("kubeconfig: context %q: no cluster %q", clip(c.Name), clip(c.Cluster))
		}
		user, ok := k.user(c.User)
		if !ok {
			return Cluster{}, User{}, fmt.Errorf("kubeconfig: context %q: no user %q", clip(c.Name), clip(c.User))
		}
		return cluster, user, nil
	}
	if k.CurrentContext == "" && len(k.Clusters) == 1 && len(k.Users) == 1 {
		return k.Clusters[0], k.Users[0], nil
	}
	return Cluster{}, User{}, fmt.Errorf("kubeconfig: no context %q", clip(k.CurrentContext))
}

func (k Kubeconfig) cluster(name string) (Cluster, bool) {
	for _, c := range k.Clusters {
		if c.Name == name {
			return c, true
		}
	}
	return Cluster{}, false
}

func (k Kubeconfig) user(name string) (User, bool) {
	for _, u := range k.Users {
		if u.Name == name {
			return u, true
		}
	}
	return User{}, false
}

// Leaf returns the user's embedded certificate.
func (u User) Leaf() (*x509.Certificate, error) {
	chain, err := ParseChain(u.CertData)
	if err != nil {
		return nil, fmt.Errorf("user %q: %v", clip(u.Name), err)
	}
	return chain[0], nil
}

// matchUser finds the one user of k that the certificate leaf belongs to: the
// same common name and signed by the same CA. An expired certificate matches.
func (k Kubeconfig) matchUser(leaf *x509.Certificate, ca []*x509.Certificate) (User, error) {
	var found []User
	for _, u := range k.Users {
		have, err := u.Leaf()
		if err == nil && have.Subject.CommonName == leaf.Subject.CommonName && sameIssuer(have, leaf, ca) {
			found = append(found, u)
		}
	}
	cn := clip(leaf.Subject.CommonName)
	switch len(found) {
	case 0:
		return User{}, fmt.Errorf("kubeconfig: %w: none has a certificate of %q by the same CA", ErrNoUser, cn)
	case 1:
		return found[0], nil
	}
	return User{}, fmt.Errorf("kubeconfig: %w: %d have a certificate of %q by the same CA: name one", ErrAmbiguousUser, len(found), cn)
}

// sameIssuer says whether one CA of ca signed both. All kubeadm clusters have a
// CA of the same name, so a name alone proves nothing.
func sameIssuer(a, b *x509.Certificate, ca []*x509.Certificate) bool {
	return SignedBy(a, ca) != nil && SignedBy(b, ca) != nil
}
