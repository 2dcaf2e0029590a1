package kube

import (
	"fmt"
	"net"
	"net/url"
	"path"
	"strings"
	"time"
)

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
			warn("%s does not name %s, by which it is reached; a renewal keeps the names, 'kubeadm init phase certs' makes other ones", byName[s.name].Path, clip(s.host))
		}
	}
	if server := byName["kubelet-server"]; l.Kubelet.ServerTLSBootstrap && server.State(now, servingDue) != OK {
		warn("%s is %s: with serverTLSBootstrap the kubelet asks for it and a person approves (kubectl get csr, kubectl certificate approve NAME)", server.Path, server.State(now, servingDue))
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
