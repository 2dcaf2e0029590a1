package kube

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestClusterConfig(t *testing.T) {
	h := newHost(t)
	l := Survey(h.files)
	got, err := ClusterConfig(l, version(t, "v1.34.4"), Inventory(l, nil), 0)
	require.NoError(t, err)
	require.Equal(t, `apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint:
    advertiseAddress: 172.30.0.11
    bindPort: 6443
nodeRegistration:
    name: m1
    criSocket: unix:///run/containerd/containerd.sock
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: v1.34.4
certificatesDir: /etc/kubernetes/pki
controlPlaneEndpoint: 172.30.0.10:6443
encryptionAlgorithm: ECDSA-P256
certificateValidityPeriod: 8760h0m0s
`, string(got))
	got, err = ClusterConfig(l, version(t, "v1.34.4"), Inventory(l, nil), 366*24*time.Hour)
	require.NoError(t, err)
	require.NotContains(t, string(got), "certificateValidityPeriod", "what it makes would be due at once")
}

// at is a host of one version, with the algorithm of its keys changed at will.
func at(t *testing.T, cluster string) (*host, Layout, []Found) {
	h := newHost(t)
	const api = "/etc/kubernetes/manifests/kube-apiserver.yaml"
	h.put(api, bytes.Replace(h.data(api), []byte(":v1.34.4"), []byte(":"+cluster), 1))
	l := Survey(h.files)
	return h, l, Inventory(l, nil)
}

func TestClusterConfigVersions(t *testing.T) {
	for v, want := range map[string]string{
		"v1.19.16": "v1beta2", "v1.21.14": "v1beta2", "v1.22.0": "v1beta3", "v1.30.9": "v1beta3", "v1.31.0": "v1beta4", "v1.37.2": "v1beta4",
	} {
		_, l, found := at(t, v)
		got, err := ClusterConfig(l, version(t, v), found, 0)
		require.NoError(t, err)
		require.Equal(t, 2, strings.Count(string(got), "apiVersion: kubeadm.k8s.io/"+want+"\n"))
		old := want != "v1beta4"
		require.Equal(t, old, strings.Contains(string(got), "featureGates:\n    PublicKeysECDSA: true\n"))
		require.Equal(t, !old, strings.Contains(string(got), "encryptionAlgorithm: ECDSA-P256\n"))
		require.Equal(t, !old, strings.Contains(string(got), "certificateValidityPeriod: 8760h0m0s\n"))
	}
}

// TestClusterConfigOldKubeconfigs: kubeadm 1.19 with PublicKeysECDSA makes
// kubeconfigs of RSA all the same.
func TestClusterConfigOldKubeconfigs(t *testing.T) {
	h, l, _ := at(t, "v1.19.16")
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	const admin = "/etc/kubernetes/admin.conf"
	h.put(admin, conf(l.Servers[admin], h.ca, sign(t, leaf(t, "kubernetes-admin"), &h.ca, key), Redacted))
	got, err := ClusterConfig(l, version(t, "v1.19.16"), Inventory(l, h.files), 0)
	require.NoError(t, err)
	require.Contains(t, string(got), "PublicKeysECDSA: true")

	h.put("/etc/kubernetes/pki/apiserver.crt", sign(t, leaf(t, "kube-apiserver"), &h.ca, key).pem())
	_, err = ClusterConfig(l, version(t, "v1.19.16"), Inventory(l, h.files), 0)
	require.ErrorContains(t, err, "a configuration can name one")
}

func TestClusterConfigExternalEtcd(t *testing.T) {
	h := newHost(t)
	const api = "/etc/kubernetes/manifests/kube-apiserver.yaml"
	h.put(api, bytes.ReplaceAll(h.data(api), []byte("https://127.0.0.1:2379"), []byte("https://10.0.0.1:2379,https://10.0.0.2:2379")))
	h.drop("/etc/kubernetes/manifests/etcd.yaml")
	l := Survey(h.files)
	got, err := ClusterConfig(l, version(t, "v1.34.4"), Inventory(l, nil), 0)
	require.NoError(t, err)
	require.Contains(t, string(got), `etcd:
    external:
        endpoints:
            - https://10.0.0.1:2379
            - https://10.0.0.2:2379
        caFile: /etc/kubernetes/pki/etcd/ca.crt
        certFile: /etc/kubernetes/pki/apiserver-etcd-client.crt
        keyFile: /etc/kubernetes/pki/apiserver-etcd-client.key
`)
}

func TestClusterConfigValidity(t *testing.T) {
	const day = 24 * time.Hour
	h := newHost(t)
	start := h.ca.cert.NotBefore
	tests := map[string]struct {
		from, to time.Time
		want     string // "" leaves it to kubeadm
	}{
		"90 days":                    {noon.Add(-backdating), noon.Add(90 * day), "2160h0m0s"},
		"90 days, no backdating":     {noon, noon.Add(90 * day), "2160h0m0s"},
		"90 days, as old as the CA":  {start, start.Add(90*day + backdating), "2160h0m0s"},
		"a year, as old as the CA":   {start, start.Add(365 * day), "8760h0m0s"},
		"renewed by 1.30":            {start, noon.Add(365 * day), ""},
		"an accident":                {noon.Add(-backdating), noon.Add(45 * time.Second), ""},
		"end before start":           {noon.Add(-backdating), noon.Add(-time.Hour), ""},
		"ten years, by another tool": {noon, noon.Add(3650 * day), "87600h0m0s"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for _, n := range []string{"admin.conf", "super-admin.conf", "scheduler.conf", "controller-manager.conf"} {
				c := leaf(t, "x")
				c.NotBefore, c.NotAfter = tt.from, tt.to
				h.put("/etc/kubernetes/"+n, conf("https://172.30.0.11:6443", h.ca, issue(t, h.ca, c), Redacted))
			}
			l := Survey(h.files)
			var found []Found
			for _, f := range Inventory(l, nil) {
				if f.Kind == KindKubeconfig || f.Kind == KindCA {
					found = append(found, f)
				}
			}
			got, err := ClusterConfig(l, version(t, "v1.34.4"), found, 0)
			require.NoError(t, err)
			require.NotContains(t, string(got), "controlPlaneEndpoint", "admin.conf leads to this node")
			_, period, _ := strings.Cut(string(got), "certificateValidityPeriod: ")
			require.Equal(t, tt.want, strings.TrimSpace(period))
		})
	}
}

func TestClusterConfigRefuses(t *testing.T) {
	h, l, found := at(t, "v1.34.4")
	_, err := ClusterConfig(l, version(t, "v1.37.2"), found, 0)
	require.ErrorContains(t, err, "does not fit a cluster of v1.34.4")
	_, err = ClusterConfig(Survey(nil), version(t, "v1.34.4"), nil, 0)
	require.ErrorContains(t, err, "no static pod kube-apiserver")
	_, err = ClusterConfig(l, version(t, "v1.14.1"), found, 0)
	require.ErrorContains(t, err, "does not renew kubeconfigs")

	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	odd := sign(t, leaf(t, "kube-apiserver"), &h.ca, key)
	h.put("/etc/kubernetes/pki/apiserver.crt", odd.pem())
	_, err = ClusterConfig(Survey(h.files), version(t, "v1.34.4"), Inventory(Survey(h.files), nil), 0)
	require.ErrorContains(t, err, "apiserver has a key of ECDSA-P384 and apiserver-etcd-client one of ECDSA-P256")

	one := []Found{{Cert: Cert{Name: "apiserver", Renewable: true}}}
	one[0].Chain = append(one[0].Chain, odd.cert)
	_, l33, _ := at(t, "v1.33.1")
	_, err = ClusterConfig(l33, version(t, "v1.33.1"), one, 0)
	require.ErrorContains(t, err, "which kubeadm v1.33.1 does not make")
	got, err := ClusterConfig(l, version(t, "v1.34.4"), one, 0)
	require.NoError(t, err)
	require.Contains(t, string(got), "encryptionAlgorithm: ECDSA-P384\n")

	_, l, found = at(t, "latest")
	_, err = ClusterConfig(l, version(t, "v1.34.4"), found, 0)
	require.ErrorContains(t, err, `"latest" is not a version`)
}
