package kube

import (
	"path"
	"slices"
)

// Kind says what kind of file holds a certificate.
type Kind string

// The kinds of files.
const (
	KindPKI        Kind = "pki"        // NAME.crt beside NAME.key
	KindKubeconfig Kind = "kubeconfig" // base64 in a kubeconfig
	KindPEM        Kind = "pem"        // certificate and key in one file
	KindCA         Kind = "ca"         // a CA's own certificate, or the copy in a kubeconfig
)

// Cert is one certificate that kubeadm or kubelet lays out on a control plane.
type Cert struct {
	Name      string // kubeadm's name, or ours where it has none: kubelet-client, "admin.conf/ca", ...
	Path      string
	KeyPath   string // where the private key is; "" for a CA inside a kubeconfig
	CA        string // name of the CA that signs it; "" when it signs itself
	Kind      Kind
	Renewable bool     // kubeadm certs renew knows the name
	Optional  bool     // many healthy hosts have none
	Consumers []string // components that read it
}

// authority is one of kubeadm's CAs; base is its path in the certificates
// directory without the suffix.
type authority struct{ name, base string }

var authorities = [...]authority{{"ca", "ca"}, {"etcd-ca", "etcd/ca"}, {"front-proxy-ca", "front-proxy-ca"}}

// leafs are the certificates in the certificates directory.
var leafs = [...]struct {
	name, base, ca string
	etcd           bool // of the stacked etcd
	consumer       string
}{
	{"apiserver", "apiserver", "ca", false, APIServer},
	{"apiserver-etcd-client", "apiserver-etcd-client", "etcd-ca", false, APIServer},
	{"apiserver-kubelet-client", "apiserver-kubelet-client", "ca", false, APIServer},
	{"front-proxy-client", "front-proxy-client", "front-proxy-ca", false, APIServer},
	{"etcd-server", "etcd/server", "etcd-ca", true, Etcd},
	{"etcd-peer", "etcd/peer", "etcd-ca", true, Etcd},
	{"etcd-healthcheck-client", "etcd/healthcheck-client", "etcd-ca", true, ""},
}

var kubeconfigs = [...]struct {
	name     string
	optional bool
	consumer string
}{
	{"admin.conf", false, ""},
	{"super-admin.conf", true, ""},
	{"controller-manager.conf", false, ControllerManager},
	{"scheduler.conf", false, Scheduler},
}

// Certs returns the certificates that belong on a host of this layout: what
// kubeadm renews, kubelet's own, the CAs, and the CA in each kubeconfig. On a
// host with nothing but etcd they are etcd's.
func (l Layout) Certs() []Cert {
	if l.EtcdOnly {
		return l.etcdHostCerts()
	}
	var out []Cert
	for _, leaf := range leafs {
		if leaf.etcd && l.Etcd.External {
			continue
		}
		c := Cert{Name: leaf.name, CA: leaf.ca, Kind: KindPKI, Renewable: true,
			Path: l.pki(leaf.base + ".crt"), KeyPath: l.pki(leaf.base + ".key"), Consumers: consumers(leaf.consumer)}
		if leaf.name == "apiserver-etcd-client" && l.Etcd.External {
			// kubeadm does not renew the client certificate of an external etcd.
			c.Renewable, c.Path, c.KeyPath = false, l.Etcd.CertFile, l.Etcd.KeyFile
			if c.Path == "" {
				continue // plain http
			}
		}
		out = append(out, c)
	}
	for _, k := range kubeconfigs {
		file := path.Join(ConfigDir, k.name)
		out = append(out, Cert{Name: k.name, Path: file, KeyPath: file, CA: "ca", Kind: KindKubeconfig,
			Renewable: true, Optional: k.optional, Consumers: consumers(k.consumer)})
	}
	return slices.Concat(out, l.kubeletCerts(), l.caCerts())
}

// etcdHostCerts are what kubeadm lays out on a host of an external etcd; the
// client certificate for the API servers was made on one of them.
func (l Layout) etcdHostCerts() []Cert {
	var out []Cert
	for _, leaf := range leafs {
		if leaf.ca == "etcd-ca" {
			out = append(out, Cert{Name: leaf.name, CA: leaf.ca, Kind: KindPKI, Renewable: true, Optional: !leaf.etcd,
				Path: l.pki(leaf.base + ".crt"), KeyPath: l.pki(leaf.base + ".key"), Consumers: consumers(leaf.consumer)})
		}
	}
	for _, c := range l.kubeletCerts() {
		c.Optional = c.Optional || !l.Exists(l.Kubelet.Kubeconfig) // it need not belong to a cluster
		out = append(out, c)
	}
	return append(out, Cert{Name: "etcd-ca", Path: l.pki("etcd/ca.crt"), KeyPath: l.pki("etcd/ca.key"), Kind: KindCA})
}

func consumers(name string) []string {
	if name == "" {
		return nil
	}
	return []string{name}
}

func (l Layout) kubeletCerts() []Cert {
	k := l.Kubelet
	reads := []string{"kubelet"}
	var out []Cert
	if k.Embedded || !l.Exists(k.Kubeconfig) {
		out = append(out, Cert{Name: "kubelet.conf", Path: k.Kubeconfig, KeyPath: k.Kubeconfig, CA: "ca", Kind: KindKubeconfig, Consumers: reads})
	}
	out = append(out, Cert{Name: "kubelet-client", Path: k.ClientPEM, KeyPath: k.ClientPEM, CA: "ca", Kind: KindPEM, Optional: k.Embedded, Consumers: reads})

	server := Cert{Name: "kubelet-server", Kind: KindPKI, Optional: true, Consumers: reads,
		Path: path.Join(k.PKI, "kubelet.crt"), KeyPath: path.Join(k.PKI, "kubelet.key")}
	if pem := path.Join(k.PKI, "kubelet-server-current.pem"); k.ServerTLSBootstrap || l.Exists(pem) {
		server.Path, server.KeyPath, server.CA, server.Kind = pem, pem, "ca", KindPEM
	}
	return append(out, server)
}

func (l Layout) caCerts() []Cert {
	var out []Cert
	for _, a := range authorities {
		c := Cert{Name: a.name, Path: l.pki(a.base + ".crt"), KeyPath: l.pki(a.base + ".key"), Kind: KindCA}
		if a.name == "etcd-ca" && l.Etcd.External {
			c.Path, c.KeyPath = l.Etcd.CAFile, ""
			if c.Path == "" {
				continue
			}
		}
		out = append(out, c)
	}
	files := []string{path.Join(ConfigDir, "admin.conf"), path.Join(ConfigDir, "super-admin.conf"),
		path.Join(ConfigDir, "controller-manager.conf"), path.Join(ConfigDir, "scheduler.conf"), l.Kubelet.Kubeconfig}
	for _, file := range files {
		k, err := ParseKubeconfig(l.data(file))
		if err != nil {
			continue
		}
		if cluster, _, err := k.Current(); err == nil && len(cluster.CAData) > 0 {
			out = append(out, Cert{Name: path.Base(file) + "/ca", Path: file, Kind: KindCA, Optional: true})
		}
	}
	return out
}
