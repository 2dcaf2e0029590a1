package kube

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"gopkg.in/yaml.v3"
)

// Field types of the two documents, in the order in which they are written.
type (
	initConfiguration struct {
		APIVersion       string           `yaml:"apiVersion"`
		Kind             string           `yaml:"kind"`
		LocalAPIEndpoint localEndpoint    `yaml:"localAPIEndpoint,omitempty"`
		NodeRegistration nodeRegistration `yaml:"nodeRegistration,omitempty"`
	}
	localEndpoint struct {
		AdvertiseAddress string `yaml:"advertiseAddress,omitempty"`
		BindPort         int    `yaml:"bindPort,omitempty"`
	}
	nodeRegistration struct {
		Name      string `yaml:"name,omitempty"`
		CRISocket string `yaml:"criSocket,omitempty"`
	}
	clusterConfiguration struct {
		APIVersion                string          `yaml:"apiVersion"`
		Kind                      string          `yaml:"kind"`
		KubernetesVersion         string          `yaml:"kubernetesVersion"`
		CertificatesDir           string          `yaml:"certificatesDir"`
		ControlPlaneEndpoint      string          `yaml:"controlPlaneEndpoint,omitempty"`
		EncryptionAlgorithm       string          `yaml:"encryptionAlgorithm,omitempty"`
		FeatureGates              map[string]bool `yaml:"featureGates,omitempty"`
		CertificateValidityPeriod string          `yaml:"certificateValidityPeriod,omitempty"`
		Etcd                      *etcdConfig     `yaml:"etcd,omitempty"`
	}
	etcdConfig struct {
		External externalEtcd `yaml:"external"`
	}
	externalEtcd struct {
		Endpoints []string `yaml:"endpoints"`
		CAFile    string   `yaml:"caFile"`
		CertFile  string   `yaml:"certFile"`
		KeyFile   string   `yaml:"keyFile"`
	}
)

// ConfigAPIVersion returns the version of the configuration API that this
// kubeadm reads and that is best known.
func ConfigAPIVersion(kubeadm Version) string {
	switch {
	case kubeadm.AtLeast(31):
		return "kubeadm.k8s.io/v1beta4"
	case kubeadm.AtLeast(22):
		return "kubeadm.k8s.io/v1beta3"
	}
	return "kubeadm.k8s.io/v1beta2"
}

// ClusterConfig returns a kubeadm configuration (InitConfiguration and
// ClusterConfiguration, YAML) made from what is on disk. Given to kubeadm as
// --config it replaces the configuration in the cluster when the API is down,
// where kubeadm would silently use its defaults: another key algorithm, another
// validity, another directory, an etcd that is not there.
//
// The algorithm and validity are those of the certificates in found; a validity
// that does not exceed least, so that what is renewed would be due again at once,
// is taken for an accident and left to kubeadm. It is an error when the cluster's version, the API server's address or the algorithm
// cannot be written down for this kubeadm.
func ClusterConfig(l Layout, kubeadm Version, found []Found, least time.Duration) ([]byte, error) {
	if err := kubeadm.Supported(); err != nil {
		return nil, err
	}
	at, err := l.endpoint(kubeadm)
	if err != nil {
		return nil, fmt.Errorf("configuration for kubeadm: %w", err)
	}
	if err := Skew(kubeadm, at.version); err != nil {
		return nil, err
	}
	version := ConfigAPIVersion(kubeadm)
	first := initConfiguration{APIVersion: version, Kind: "InitConfiguration",
		LocalAPIEndpoint: localEndpoint{AdvertiseAddress: at.address, BindPort: at.port},
		NodeRegistration: nodeRegistration{Name: l.Node.Name, CRISocket: criSocket(l)},
	}
	second := clusterConfiguration{APIVersion: version, Kind: "ClusterConfiguration",
		KubernetesVersion: at.version.String(), CertificatesDir: l.CertificatesDir, ControlPlaneEndpoint: l.ControlPlaneEndpoint()}
	if err := second.algorithm(kubeadm, found); err != nil {
		return nil, err
	}
	if kubeadm.AtLeast(31) {
		if d := validity(found); d > max(least, 24*time.Hour) {
			second.CertificateValidityPeriod = d.String()
		}
	}
	if l.Etcd.External {
		second.Etcd = &etcdConfig{External: externalEtcd{Endpoints: l.Etcd.Endpoints, CAFile: l.Etcd.CAFile, CertFile: l.Etcd.CertFile, KeyFile: l.Etcd.KeyFile}}
	}
	a, err := yaml.Marshal(first)
	if err != nil {
		return nil, err
	}
	b, err := yaml.Marshal(second)
	if err != nil {
		return nil, err
	}
	return append(append(a, "---\n"...), b...), nil
}

// endpoint is where a host's API server is and which one.
type endpoint struct {
	version Version
	address string
	port    int
}

// endpoint takes it from the API server's manifest. A host with nothing but etcd
// has none: there it is etcd's address, and kubeadm's own version.
func (l Layout) endpoint(kubeadm Version) (endpoint, error) {
	if l.EtcdOnly {
		etcd, _ := l.Pods.Component(Etcd)
		for _, u := range etcd.Args.List("advertise-client-urls") {
			if ip := net.ParseIP(hostname(u)); ip != nil && !ip.IsUnspecified() {
				return endpoint{kubeadm, ip.String(), 6443}, nil
			}
		}
		return endpoint{}, errors.New("etcd has no usable --advertise-client-urls")
	}
	api, ok := l.Pods.Component(APIServer)
	if !ok {
		return endpoint{}, fmt.Errorf("no static pod kube-apiserver in %q", l.ManifestsDir)
	}
	version, err := api.Version()
	if err != nil {
		return endpoint{}, fmt.Errorf("kube-apiserver: %v", err)
	}
	address := api.Args.Value("advertise-address")
	if ip := net.ParseIP(address); ip == nil || ip.IsUnspecified() {
		return endpoint{}, errors.New("kube-apiserver has no usable --advertise-address")
	}
	port, err := strconv.Atoi(api.securePort())
	if err != nil || port < 1 || port > 65535 {
		return endpoint{}, fmt.Errorf("kube-apiserver: --secure-port %q is not a port", clip(api.securePort()))
	}
	return endpoint{version, address, port}, nil
}

// defaultAlgorithm is what kubeadm uses when nothing is configured.
const defaultAlgorithm = "RSA-2048"

// criSocket is the kubelet's runtime endpoint when one is written down.
func criSocket(l Layout) string {
	r, err := DetectRuntime(l)
	if err != nil {
		return ""
	}
	return r.Endpoint
}

// algorithm writes down the algorithm of the renewable certificates' keys. A
// kubeconfig of RSA-2048 has no say: older kubeadms made them so whatever was
// configured, and renew them in the algorithm of the configuration.
func (c *clusterConfiguration) algorithm(kubeadm Version, found []Found) error {
	name, from := "", ""
	for _, f := range found {
		leaf := f.Leaf()
		if leaf == nil || !f.Renewable {
			continue
		}
		switch a := KeyAlgorithm(leaf); {
		case f.Kind == KindKubeconfig && a == defaultAlgorithm:
		case name == "":
			name, from = a, f.Name
		case a != name:
			return fmt.Errorf("configuration for kubeadm: %s has a key of %s and %s one of %s: a configuration can name one", from, name, f.Name, a)
		}
	}
	switch name {
	case "", defaultAlgorithm:
		return nil
	case "ECDSA-P256":
		if !kubeadm.AtLeast(31) {
			c.FeatureGates = map[string]bool{"PublicKeysECDSA": true}
			return nil
		}
	case "ECDSA-P384":
		if !kubeadm.AtLeast(34) {
			return fmt.Errorf("configuration for kubeadm: %s has a key of %s, which kubeadm %s does not make", from, name, kubeadm)
		}
	case "RSA-3072", "RSA-4096":
		if !kubeadm.AtLeast(31) {
			return fmt.Errorf("configuration for kubeadm: %s has a key of %s, which kubeadm %s does not make", from, name, kubeadm)
		}
	default:
		return fmt.Errorf("configuration for kubeadm: %s has a key of %s, which kubeadm does not make", from, name)
	}
	c.EncryptionAlgorithm = name
	return nil
}

// backdating is how far kubeadm of 1.31 and later puts NotBefore into the past.
const backdating = 5 * time.Minute

// validity returns the longest validity among the renewable certificates, 0
// when none tells.
func validity(found []Found) time.Duration {
	var cas []*x509.Certificate
	for _, f := range found {
		if f.Kind == KindCA {
			cas = append(cas, f.Chain...)
		}
	}
	longest := time.Duration(0)
	for _, f := range found {
		leaf := f.Leaf()
		if leaf == nil || !f.Renewable {
			continue
		}
		d, known := lifetime(leaf, cas)
		if d%time.Hour != 0 {
			d -= backdating // a whole number of hours has none in it
		}
		if known {
			longest = max(longest, d)
		}
	}
	return longest.Round(time.Minute)
}
