package kube

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSurvey(t *testing.T) {
	l := Survey(newHost(t).files)
	require.Equal(t, "/etc/kubernetes/pki", l.CertificatesDir)
	require.Equal(t, "/etc/kubernetes/manifests", l.ManifestsDir)
	require.Equal(t, Node{Name: "m1", From: "/var/lib/kubelet/pki/kubelet-client-current.pem"}, l.Node)
	require.Empty(t, l.ExternalCAs)
	require.True(t, l.HA)
	require.True(t, l.ServiceAccountKey)
	require.False(t, l.Etcd.External)
	require.False(t, l.Kubelet.Embedded)
	require.Empty(t, l.MorePatterns())
	require.Equal(t, "https://172.30.0.10:6443", l.Servers["/etc/kubernetes/admin.conf"])
	require.Equal(t, "https://172.30.0.11:6443", l.Servers["/etc/kubernetes/kubelet.conf"])
	require.Equal(t, "172.30.0.10:6443", l.ControlPlaneEndpoint())
	v, err := l.Version()
	require.NoError(t, err)
	require.Equal(t, "v1.34.4", v.String())
	require.Len(t, l.Pods.Manifests, 4)
	require.Empty(t, l.Pods.Unreadable)
}

func TestSurveyOfNothing(t *testing.T) {
	l := Survey(nil)
	require.Equal(t, DefaultCertificatesDir, l.CertificatesDir)
	require.Equal(t, DefaultManifestsDir, l.ManifestsDir)
	require.Empty(t, l.Node.Name)
	require.Empty(t, l.MorePatterns())
	require.False(t, l.HA)
	for _, f := range Inventory(l, nil) {
		require.Equal(t, Missing, f.State(noon, 0), f.Name)
	}
}

func TestSurveyElsewhere(t *testing.T) {
	h := newHost(t)
	for i, f := range h.files {
		if strings.Contains(f.Path, "/manifests/") {
			h.files[i].Data = bytes.ReplaceAll(f.Data, []byte("/etc/kubernetes/pki"), []byte("/srv/pki"))
			h.files[i].Path = strings.Replace(f.Path, "/etc/kubernetes/manifests", "/srv/pods", 1)
		}
	}
	h.put("/etc/default/kubelet", []byte("KUBELET_EXTRA_ARGS=\"--pod-manifest-path=/srv/pods --cert-dir=/srv/kubelet \\\n --v=2\"\n"))
	l := Survey(h.files)
	require.Equal(t, "/srv/pods", l.ManifestsDir)
	require.Equal(t, "/srv/pki", l.CertificatesDir)
	more := l.MorePatterns()
	for _, want := range []string{"/srv/pods/*", "/srv/pki/*.crt", "/srv/pki/etcd/*.key", "/srv/kubelet/*"} {
		require.Contains(t, more, want)
	}
	require.NotContains(t, more, "/srv/pki/apiserver-etcd-client.crt.bak")
	require.Empty(t, l.MorePatterns(more...), "what was read is not asked for again")
}

func TestNodeName(t *testing.T) {
	h := newHost(t)
	require.Equal(t, "m1", Survey(h.files).Node.Name)

	h.put("/etc/kubernetes/kubelet.conf", conf("https://x:6443", h.ca, issue(t, h.ca, leaf(t, "system:node:embedded")), Redacted))
	l := Survey(h.files)
	require.Equal(t, Node{"embedded", "/etc/kubernetes/kubelet.conf"}, l.Node)
	require.True(t, l.Kubelet.Embedded)

	h.drop("/etc/kubernetes/kubelet.conf", "/var/lib/kubelet/pki/kubelet-client-current.pem")
	require.Equal(t, Node{"m1", "/etc/kubernetes/pki/etcd/server.crt"}, Survey(h.files).Node)

	h.drop("/etc/kubernetes/pki/etcd/server.crt")
	h.put("/var/lib/kubelet/kubeadm-flags.env", []byte(`KUBELET_KUBEADM_ARGS="--hostname-override=Node.Example --x=y"`))
	require.Equal(t, Node{"node.example", "--hostname-override"}, Survey(h.files).Node)
}

func TestKubeletConfRelative(t *testing.T) {
	h := newHost(t)
	kubelet := h.data("/etc/kubernetes/kubelet.conf")
	h.put("/etc/kubernetes/kubelet.conf", bytes.ReplaceAll(kubelet, []byte("/var/lib/kubelet/pki/kubelet-client-current.pem"), []byte("keys/node.pem")))
	l := Survey(h.files)
	require.Equal(t, "/etc/kubernetes/keys/node.pem", l.Kubelet.ClientPEM)
	require.Equal(t, []string{"/etc/kubernetes/keys/node.pem"}, l.MorePatterns())
}

func TestExternalEtcd(t *testing.T) {
	tests := map[string]struct {
		servers  string
		pod      bool
		external bool
	}{
		"stacked":             {"https://127.0.0.1:2379", true, false},
		"own address":         {"https://172.30.0.11:2379", true, false},
		"all members":         {"https://10.0.0.9:2379,https://172.30.0.11:2379", true, false},
		"elsewhere":           {"https://10.0.0.9:2379,https://10.0.0.10:2379", false, true},
		"elsewhere, pod left": {"https://10.0.0.9:2379", true, true},
		"IPv6":                {"https://[::1]:2379", true, false},
		"manifest moved away": {"https://127.0.0.1:2379", false, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			const api = "/etc/kubernetes/manifests/kube-apiserver.yaml"
			h.put(api, bytes.ReplaceAll(h.data(api), []byte("https://127.0.0.1:2379"), []byte(tt.servers)))
			if !tt.pod {
				h.drop("/etc/kubernetes/manifests/etcd.yaml")
			}
			l := Survey(h.files)
			require.Equal(t, tt.external, l.Etcd.External)
			require.Equal(t, "/etc/kubernetes/pki/apiserver-etcd-client.crt", l.Etcd.CertFile)
			for _, c := range l.Certs() {
				require.False(t, tt.external && c.Name == "etcd-server")
				if c.Name == "apiserver-etcd-client" {
					require.Equal(t, !tt.external, c.Renewable)
				}
			}
		})
	}
}

// TestEtcdOnly is a host of an external etcd, and what is not one: a master of
// which something is away.
func TestEtcdOnly(t *testing.T) {
	h := newHost(t)
	h.drop("/etc/kubernetes/manifests/kube-apiserver.yaml")
	require.False(t, Survey(h.files).EtcdOnly, "its API server is being restarted")
	h.drop("/etc/kubernetes/admin.conf")
	require.False(t, Survey(h.files).EtcdOnly)
	h.drop("/etc/kubernetes/pki/apiserver.crt", "/etc/kubernetes/kubelet.conf", "/var/lib/kubelet/pki/kubelet-client-current.pem")
	l := Survey(h.files)
	require.True(t, l.EtcdOnly)
	for _, f := range Inventory(l, nil) {
		require.Contains(t, []string{"apiserver-etcd-client", "etcd-server", "etcd-peer", "etcd-healthcheck-client", "etcd-ca", "kubelet.conf", "kubelet-client", "kubelet-server"}, f.Name)
		require.True(t, f.Optional || !f.Absent, f.Name)
	}
	got, err := ClusterConfig(l, version(t, "v1.34.4"), Inventory(l, nil), 0)
	require.NoError(t, err)
	require.Contains(t, string(got), "advertiseAddress: 172.30.0.11\n")
	require.Contains(t, string(got), "kubernetesVersion: v1.34.4\n")
	h.drop("/etc/kubernetes/manifests/etcd.yaml")
	_, err = ClusterConfig(Survey(h.files), version(t, "v1.34.4"), nil, 0)
	require.ErrorContains(t, err, "etcd has no usable --advertise-client-urls")

	h.drop("/etc/kubernetes/pki/etcd/server.crt")
	require.False(t, Survey(h.files).EtcdOnly, "nothing is here")
}

func TestExternalCA(t *testing.T) {
	h := newHost(t)
	h.drop("/etc/kubernetes/pki/front-proxy-ca.key")
	l := Survey(h.files)
	require.Equal(t, []string{"front-proxy-ca"}, l.ExternalCAs)
	for _, f := range Inventory(l, nil) {
		require.Equal(t, f.Name == "front-proxy-client", f.External, f.Name)
	}
}

func TestKubespray(t *testing.T) {
	h := newHost(t)
	for i, f := range h.files {
		h.files[i].Path = strings.Replace(f.Path, "/etc/kubernetes/pki", "/etc/kubernetes/ssl", 1)
		h.files[i].Data = bytes.ReplaceAll(f.Data, []byte("/etc/kubernetes/pki"), []byte("/etc/kubernetes/ssl"))
	}
	h.drop("/var/lib/kubelet/config.yaml")
	h.put("/etc/kubernetes/kubelet-config.yaml", []byte("staticPodPath: /etc/kubernetes/manifests\n"))
	h.put("/etc/kubernetes/kubelet.env", []byte("KUBELET_HOSTNAME=\"--hostname-override=m1\"\nKUBELET_ARGS=\"--config=/etc/kubernetes/kubelet-config.yaml --container-runtime-endpoint=unix:///var/run/crio/crio.sock\"\n"))
	l := Survey(h.files)
	require.Equal(t, "/etc/kubernetes/ssl", l.CertificatesDir)
	require.Equal(t, "/etc/kubernetes/kubelet-config.yaml", l.Kubelet.Config)
	r, err := DetectRuntime(l)
	require.NoError(t, err)
	require.Equal(t, CRIO, r.Kind)
	require.Empty(t, l.MorePatterns())
	for _, f := range Inventory(l, nil) {
		require.Equal(t, OK, f.State(noon, 0), f.Name)
	}
}

func TestEnvironmentArgs(t *testing.T) {
	unit := `[Service]
# Environment="X=--not-this=1"
Environment="KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf"
Environment="KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml"
ExecStart=
ExecStart=/usr/bin/kubelet $KUBELET_KUBECONFIG_ARGS --fail-swap-on $KUBELET_EXTRA_ARGS
ExecStop=/bin/true --node-ip 10.0.0.1
`
	args := environmentArgs([]byte(unit))
	require.Equal(t, "/etc/kubernetes/kubelet.conf", args.Value("kubeconfig"))
	require.Equal(t, "/var/lib/kubelet/config.yaml", args.Value("config"))
	require.Equal(t, "10.0.0.1", args.Value("node-ip"))
	v, ok := args.Get("fail-swap-on")
	require.True(t, ok)
	require.Empty(t, v)
	_, ok = args.Get("not-this")
	require.False(t, ok)
}
