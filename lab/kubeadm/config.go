package kubeadm

import (
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"
)

// Options say what kind of control-plane node a tree is. Only Version must be
// set; the zero value of a switch or period is what kubeadm does by default.
type Options struct {
	Version string // one of Versions
	Dir     string // becomes the node's root directory; "" is a new temporary directory

	Node            string // node name; "" is node-a, never the machine's own name
	Address         string // advertise address; "" is 192.0.2.11, where nothing listens
	Endpoint        string // controlPlaneEndpoint host:port; "" is 127.0.0.1:1, which refuses at once; "-" sets none
	CertificatesDir string // "" is /etc/kubernetes/pki
	CRISocket       string // "" is the version's own default: dockershim before 1.24, then containerd

	ECDSA        bool // P-256 keys instead of RSA-2048
	ExternalEtcd bool // etcd runs elsewhere; its CA certificate and the client pair are here, its CA key is not

	Validity        time.Duration // of leaf certificates, by the configuration and so also of renewed ones; 0 is a year. Before 1.31 kubeadm cannot: the leafs are re-signed once
	Remaining       time.Duration // not 0: the leafs end so long from now, negative ago; those renewed later are not affected
	KubeletEmbedded bool          // kubelet.conf keeps its certificate, as before kubelet took over its rotation
	NoSuperAdmin    bool          // super-admin.conf is removed, as people do and as on a node that joined
	Shared          *Tree         // another node of the same cluster: its CAs and service account key are taken over
}

// etcdAddress is where etcd runs in a tree with ExternalEtcd.
const etcdAddress = "https://192.0.2.21:2379"

func (o Options) withDefaults() Options {
	set := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	set(&o.Node, "node-a")
	set(&o.Address, "192.0.2.11")
	set(&o.Endpoint, "127.0.0.1:1")
	set(&o.CertificatesDir, "/etc/kubernetes/pki")
	if minor(o.Version) < 24 {
		set(&o.CRISocket, "/var/run/dockershim.sock")
	}
	set(&o.CRISocket, "unix:///run/containerd/containerd.sock")
	return o
}

// config returns the configuration file for kubeadm. It names the version, so
// that kubeadm never asks the internet for one.
func (o Options) config() string {
	api := "kubeadm.k8s.io/v1beta4"
	if minor(o.Version) < 22 {
		api = "kubeadm.k8s.io/v1beta2"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: %s\nkind: InitConfiguration\n", api)
	fmt.Fprintf(&b, "localAPIEndpoint:\n  advertiseAddress: %q\n  bindPort: 6443\n", o.Address)
	fmt.Fprintf(&b, "nodeRegistration:\n  name: %q\n  criSocket: %q\n", o.Node, o.CRISocket)
	fmt.Fprintf(&b, "---\napiVersion: %s\nkind: ClusterConfiguration\n", api)
	fmt.Fprintf(&b, "kubernetesVersion: v%s\ncertificatesDir: %q\n", o.Version, o.CertificatesDir)
	if o.Endpoint != "-" {
		fmt.Fprintf(&b, "controlPlaneEndpoint: %q\n", o.Endpoint)
	}
	if o.Validity > 0 && knowsValidity(o.Version) {
		fmt.Fprintf(&b, "certificateValidityPeriod: %s\n", o.Validity)
	}
	if o.ECDSA && minor(o.Version) < 31 {
		b.WriteString("featureGates:\n  PublicKeysECDSA: true\n")
	} else if o.ECDSA {
		b.WriteString("encryptionAlgorithm: ECDSA-P256\n")
	}
	if o.ExternalEtcd {
		fmt.Fprintf(&b, "etcd:\n  external:\n    endpoints: [%q]\n", etcdAddress)
		fmt.Fprintf(&b, "    caFile: %q\n", path.Join(o.CertificatesDir, "etcd/ca.crt"))
		fmt.Fprintf(&b, "    certFile: %q\n", path.Join(o.CertificatesDir, "apiserver-etcd-client.crt"))
		fmt.Fprintf(&b, "    keyFile: %q\n", path.Join(o.CertificatesDir, "apiserver-etcd-client.key"))
	}
	return b.String()
}

// knowsValidity reports whether kubeadm reads certificateValidityPeriod.
func knowsValidity(version string) bool { return minor(version) >= 31 }

// minor returns 34 for "1.34.4", 0 for what is not a version.
func minor(version string) int {
	_, text, _ := strings.Cut(majorMinor(version), ".")
	n, _ := strconv.Atoi(text) // 0 when it is no number
	return n
}
