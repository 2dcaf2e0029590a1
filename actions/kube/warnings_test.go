package kube

import (
	"crypto/x509"
	"encoding/json"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// naming is newHost with certificates that name what their servers are reached by.
func naming(t *testing.T) *host {
	h := newHost(t)
	server := func(ca signer, cn string, names []string, addresses ...string) signer {
		c := leaf(t, cn)
		c.DNSNames = names
		for _, a := range addresses {
			c.IPAddresses = append(c.IPAddresses, net.ParseIP(a))
		}
		return issue(t, ca, c)
	}
	h.pair("/etc/kubernetes/pki/apiserver", server(h.ca, "kube-apiserver", []string{"m1", "*.wild.example.org"}, "172.30.0.11", "172.30.0.10"))
	h.pair("/etc/kubernetes/pki/etcd/server", server(h.etcdCA, "m1", []string{"m1"}, "172.30.0.11"))
	h.pair("/etc/kubernetes/pki/etcd/peer", server(h.etcdCA, "m1", []string{"m1"}, "172.30.0.11"))
	return h
}

func TestWarnings(t *testing.T) {
	const kubeletConfig = "/var/lib/kubelet/config.yaml"
	bootstrap := func(h *host) { h.put(kubeletConfig, append(h.data(kubeletConfig), "serverTLSBootstrap: true\n"...)) }
	const approve = ": with serverTLSBootstrap the kubelet asks for it and a person approves (kubectl get csr, kubectl certificate approve NAME)"
	const pem = "/var/lib/kubelet/pki/kubelet-server-current.pem"
	for name, tt := range map[string]struct {
		set  func(h *host)
		want []string
	}{
		"as it should be": {func(*host) {}, nil},
		"another master's certificates": {func(h *host) {
			for _, file := range []string{"apiserver", "etcd/server", "etcd/peer"} {
				ca := h.etcdCA
				if file == "apiserver" {
					ca = h.ca
				}
				c := leaf(t, "m2")
				c.IPAddresses = []net.IP{net.ParseIP("172.30.0.12"), net.ParseIP("172.30.0.10")}
				h.pair("/etc/kubernetes/pki/"+file, issue(t, ca, c))
			}
		}, []string{
			"/etc/kubernetes/pki/apiserver.crt does not name 172.30.0.11, by which it is reached" + keepsNames,
			"/etc/kubernetes/pki/etcd/server.crt does not name 172.30.0.11, by which it is reached" + keepsNames,
			"/etc/kubernetes/pki/etcd/peer.crt does not name 172.30.0.11, by which it is reached" + keepsNames,
		}},
		"a new load balancer": {func(h *host) {
			h.put("/etc/kubernetes/admin.conf", conf("https://lb.example.org:6443", h.ca, issue(t, h.ca, leaf(t, "kubernetes-admin")), Redacted))
		}, []string{"/etc/kubernetes/pki/apiserver.crt does not name lb.example.org, by which it is reached" + keepsNames}},
		"a CA is being rotated": {func(h *host) {
			h.put("/etc/kubernetes/pki/ca.crt", append(h.ca.pem(), newCA(t, "kubernetes").pem()...))
		}, []string{"/etc/kubernetes/pki/ca.crt holds 2 certificates: a CA is being rotated, and kubeadm signs with the first"}},
		"a kubeconfig of another CA": {func(h *host) {
			h.put("/etc/kubernetes/scheduler.conf", conf("https://172.30.0.11:6443", newCA(t, "kubernetes"), issue(t, h.ca, leaf(t, "system:kube-scheduler")), Redacted))
		}, []string{"the CA in /etc/kubernetes/scheduler.conf is not the one that signed /etc/kubernetes/pki/apiserver.crt"}},
		"a kubelet that waits for approval": {bootstrap, []string{pem + " is missing" + approve}},
		"a kubelet that was not approved in time": {func(h *host) {
			bootstrap(h)
			c := leaf(t, "system:node:m1")
			c.NotAfter = noon.AddDate(0, 0, 20)
			h.put(pem, issue(t, h.ca, c).pem())
		}, []string{pem + " is due" + approve}},
		"a kubelet that was approved": {func(h *host) {
			bootstrap(h)
			h.put(pem, issue(t, h.ca, leaf(t, "system:node:m1")).pem())
		}, nil},
		"an embedded certificate": {func(h *host) {
			h.put("/etc/kubernetes/kubelet.conf", conf("https://172.30.0.11:6443", h.ca, issue(t, h.ca, leaf(t, "system:node:m1")), Redacted))
		}, []string{"/etc/kubernetes/kubelet.conf embeds its client certificate, which nothing rotates"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := naming(t)
			tt.set(h)
			l := Survey(h.files)
			require.Equal(t, tt.want, Warnings(l, Inventory(l, nil), noon))
		})
	}
}

func TestNameWarnings(t *testing.T) {
	const pki = "/etc/kubernetes/pki/"
	lacks := func(file, names string) string {
		return pki + file + " does not name " + names + ", as the cluster's configuration (ConfigMap kube-system/kubeadm-config) says it should" + keepsNames
	}
	for name, tt := range map[string]struct {
		config string
		want   []string
	}{
		"none":                    {"kind: ClusterConfiguration\n", nil},
		"empty":                   {"", nil},
		"as it should be":         {"apiServer: {certSANs: [m1, 172.30.0.11, '::ffff:172.30.0.10']}\netcd: {local: {serverCertSANs: [m1], peerCertSANs: [172.30.0.11]}}\n", nil},
		"a name more":             {"apiServer: {certSANs: [m1, api.example.org, 192.0.2.7, '*.example.org', api.example.org]}\n", []string{lacks("apiserver.crt", "api.example.org, 192.0.2.7, *.example.org")}},
		"its endpoint":            {"controlPlaneEndpoint: lb.example.org:6443\n", []string{lacks("apiserver.crt", "lb.example.org")}},
		"without a port":          {"controlPlaneEndpoint: lb.example.org\n", []string{lacks("apiserver.crt", "lb.example.org")}},
		"etcd":                    {"etcd: {local: {serverCertSANs: [e1], peerCertSANs: ['2001:db8::1']}}\n", []string{lacks("etcd/server.crt", "e1"), lacks("etcd/peer.crt", "2001:db8::1")}},
		"a wildcard has it":       {"apiServer: {certSANs: [a.wild.example.org, '*.wild.example.org']}\n", nil},
		"what Warnings says":      {"controlPlaneEndpoint: vip.example.org:6443\n", nil},
		"what kubeadm leaves out": {"apiServer: {certSANs: [Upper.example.org, a_b, '', \"x\\e[2J\", -x, '**.a', {a: b}]}\n", nil},
		"many":                    {"apiServer: {certSANs: [a, b, c, d, e, f, g]}\n", []string{lacks("apiserver.crt", "a, b, c, d, e")}},
	} {
		t.Run(name, func(t *testing.T) {
			h := naming(t)
			h.put("/etc/kubernetes/admin.conf", conf("https://vip.example.org:6443", h.ca, issue(t, h.ca, leaf(t, "kubernetes-admin")), Redacted))
			l := Survey(h.files)
			answer, err := json.Marshal(map[string]any{"items": []any{map[string]any{"data": map[string]string{"ClusterConfiguration": tt.config}}}})
			require.NoError(t, err)
			got, err := NameWarnings(l, Inventory(l, nil), answer)
			require.NoError(t, err)
			require.Equal(t, tt.want, got)
		})
	}
	got, err := NameWarnings(Layout{}, nil, []byte(`{"items":[]}`))
	require.NoError(t, err)
	require.Empty(t, got, "a cluster without that configuration")
}

func TestAuthorities(t *testing.T) {
	h, other := newHost(t), newHost(t)
	of := func(h *host) string { return Authorities(Inventory(Survey(h.files), nil)) }
	require.NotEqual(t, of(h), of(other))
	require.Empty(t, Authorities(Inventory(Survey(nil), nil)))
	for _, ca := range []string{"ca", "etcd/ca", "front-proxy-ca"} {
		was := of(other)
		other.put("/etc/kubernetes/pki/"+ca+".crt", h.data("/etc/kubernetes/pki/"+ca+".crt"))
		require.NotEqual(t, was, of(other), ca)
	}
	require.Equal(t, of(h), of(other), "whatever else differs")
	other.put("/etc/kubernetes/pki/ca.crt", append(other.data("/etc/kubernetes/pki/ca.crt"), newCA(t, "next").pem()...))
	require.Equal(t, of(h), of(other), "it signs with the first")
}

func TestOlder(t *testing.T) {
	ca := newCA(t, "kubernetes")
	admin, old := issue(t, ca, leaf(t, "kubernetes-admin")), leaf(t, "kubernetes-admin")
	old.NotAfter = noon
	k, err := ParseKubeconfig(conf("https://x:6443", ca, issue(t, ca, old), Redacted))
	require.NoError(t, err)
	require.Len(t, k.Older(admin.cert, []*x509.Certificate{ca.cert}), 1)
	require.Empty(t, k.Older(admin.cert, []*x509.Certificate{newCA(t, "kubernetes").cert}), "of another cluster")
	require.Empty(t, k.Older(k.Older(admin.cert, []*x509.Certificate{ca.cert})[0], []*x509.Certificate{ca.cert}), "it is the same")
}
