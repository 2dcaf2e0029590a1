package kube

import (
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
)

// keepsNames ends what is said of names that a certificate should have.
const keepsNames = "; a renewal keeps the names, 'kubeadm init phase certs' makes other ones"

// Warnings says what a renewal leaves as it is and a person should know of, one
// sentence each.
func Warnings(l Layout, found []Found, now time.Time) []string {
	var list []string
	warn := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	if l.Kubelet.Embedded {
		warn("%s embeds its client certificate, which nothing rotates", l.Kubelet.Kubeconfig)
	}
	byName := map[string]Found{}
	for _, f := range found {
		byName[f.Name] = f
		if f.Kind == KindCA && len(f.Chain) > 1 && !strings.HasSuffix(f.Name, "/ca") {
			warn("%s holds %d certificates: a CA is being rotated, and kubeadm signs with the first", f.Path, len(f.Chain))
		}
	}
	api := byName["apiserver"].Leaf()
	for _, f := range found {
		if strings.HasSuffix(f.Name, "/ca") && api != nil && len(f.Chain) > 0 && SignedBy(api, f.Chain) == nil {
			warn("the CA in %s is not the one that signed %s", f.Path, byName["apiserver"].Path)
		}
	}
	for _, s := range l.reached() {
		if leaf := byName[s.name].Leaf(); leaf != nil && leaf.VerifyHostname(s.host) != nil {
			warn("%s does not name %s, by which it is reached"+keepsNames, byName[s.name].Path, clip(s.host))
		}
	}
	if server := byName["kubelet-server"]; l.Kubelet.ServerTLSBootstrap && server.State(now, servingDue) != OK {
		warn("%s is %s: with serverTLSBootstrap the kubelet asks for it and a person approves (kubectl get csr, kubectl certificate approve NAME)", server.Path, server.State(now, servingDue))
	}
	return list
}

// ConfigurationPath asks the API server for the configuration that kubeadm keeps
// in the cluster.
const ConfigurationPath = "/api/v1/namespaces/kube-system/configmaps?fieldSelector=metadata.name%3Dkubeadm-config"

// NameWarnings says which names that configuration, the answer for
// ConfigurationPath, gives the certificates of this host's servers and they do
// not have. A person has written them there for the next certificate, and a
// renewal keeps those of the last. What Warnings says of names is not repeated.
func NameWarnings(l Layout, found []Found, data []byte) ([]string, error) {
	list, err := parseObjects(data)
	if err != nil || len(list) == 0 {
		return nil, err // a cluster may have been made without it
	}
	config, err := parseYAML([]byte(list[0].Data["ClusterConfiguration"]))
	if err != nil {
		return nil, fmt.Errorf("ConfigMap kube-system/kubeadm-config: ClusterConfiguration: %w", err)
	}
	endpoint := text(config, "controlPlaneEndpoint")
	if host, _, err := net.SplitHostPort(endpoint); err == nil {
		endpoint = host
	}
	wanted := map[string][]string{
		"apiserver":   append(texts(config, "apiServer", "certSANs"), endpoint),
		"etcd-server": texts(config, "etcd", "local", "serverCertSANs"),
		"etcd-peer":   texts(config, "etcd", "local", "peerCertSANs"),
	}
	told := l.reached()
	var out []string
	for _, f := range found {
		lacks := lacking(f.Leaf(), slices.DeleteFunc(wanted[f.Name], func(host string) bool {
			return slices.Contains(told, reached{f.Name, host})
		}))
		if len(lacks) > 0 {
			out = append(out, fmt.Sprintf("%s does not name %s, as the cluster's configuration (ConfigMap kube-system/kubeadm-config) says it should"+keepsNames, f.Path, strings.Join(lacks, ", ")))
		}
	}
	return out, nil
}

// subject is a name that kubeadm writes into a certificate; others it leaves out.
var subject = regexp.MustCompile(`^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)

// maxNames bounds how many names that a certificate lacks are told.
const maxNames = 5

// lacking returns those of wanted that the certificate does not have.
func lacking(leaf *x509.Certificate, wanted []string) []string {
	var list []string
	for _, name := range wanted {
		if leaf == nil || net.ParseIP(name) == nil && !subject.MatchString(name) || leaf.VerifyHostname(name) == nil {
			continue
		}
		if name = clip(name); !slices.Contains(list, name) && len(list) < maxNames {
			list = append(list, name)
		}
	}
	return list
}

// servingDue is when a kubelet should long have got a new serving certificate: it
// asks for one when a fifth of its time is left, mostly a year.
const servingDue = 30 * 24 * time.Hour

// reached is a name or address by which clients reach the server that shows a
// certificate.
type reached struct{ name, host string }

// reached returns by what clients reach the API server and etcd's member, as far as
// the host's files tell. A certificate that was copied from another master does
// not name these.
func (l Layout) reached() []reached {
	var list []reached
	add := func(name, host string) {
		if host != "" {
			list = append(list, reached{name, host})
		}
	}
	if api, ok := l.Pods.Component(APIServer); ok && path.Clean(api.Args.Value("tls-cert-file")) == l.pki("apiserver.crt") {
		add("apiserver", api.Args.Value("advertise-address"))
		if host, _, err := net.SplitHostPort(l.ControlPlaneEndpoint()); err == nil {
			add("apiserver", host)
		}
	}
	etcd, _ := l.Pods.Component(Etcd)
	for _, e := range []struct{ flag, name string }{{"advertise-client-urls", "etcd-server"}, {"initial-advertise-peer-urls", "etcd-peer"}} {
		for _, raw := range etcd.Args.List(e.flag) {
			if u, err := url.Parse(raw); err == nil && u.Scheme == "https" {
				add(e.name, u.Hostname())
			}
		}
	}
	return list
}
