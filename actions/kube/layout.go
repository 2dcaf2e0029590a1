package kube

import (
	"io/fs"
	"net"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"
)

// Where kubeadm and kubelet put things unless a flag says otherwise.
const (
	ConfigDir              = "/etc/kubernetes"
	DefaultCertificatesDir = "/etc/kubernetes/pki"
	DefaultManifestsDir    = "/etc/kubernetes/manifests"
	DefaultKubeletPKI      = "/var/lib/kubelet/pki"
)

// File is one file of a host without its secrets. Its fields are those of the
// engine's File, so that one converts to the other: kube.File(f).
type File struct {
	Path    string      // as it was found
	Target  string      // the real path, when a symbolic link leads elsewhere; else ""
	Mode    fs.FileMode // permission bits
	UID     int
	GID     int
	Size    int64
	ModTime time.Time
	Data    []byte // content without private keys; a key file is empty
	Err     string // why the content could not be read, "" when it could
	Pending bool
}

// Patterns returns the glob patterns of the one read that Survey wants.
func Patterns() []string {
	return []string{
		"/etc/kubernetes/*.conf",
		"/etc/kubernetes/kubelet.env", "/etc/kubernetes/kubelet-config.yaml", // kubespray
		"/etc/kubernetes/manifests/*",
		"/etc/kubernetes/pki/*.crt", "/etc/kubernetes/pki/*.key", "/etc/kubernetes/pki/*.pub",
		"/etc/kubernetes/pki/etcd/*.crt", "/etc/kubernetes/pki/etcd/*.key",
		"/etc/kubernetes/ssl/*.crt", "/etc/kubernetes/ssl/*.key", "/etc/kubernetes/ssl/*.pub",
		"/etc/kubernetes/ssl/etcd/*.crt", "/etc/kubernetes/ssl/etcd/*.key",
		"/lib/systemd/system/kubelet.service", "/lib/systemd/system/kubelet.service.d/*.conf",
		"/usr/lib/systemd/system/kubelet.service", "/usr/lib/systemd/system/kubelet.service.d/*.conf",
		"/etc/systemd/system/kubelet.service", "/etc/systemd/system/kubelet.service.d/*.conf",
		"/var/lib/kubelet/config.yaml", "/var/lib/kubelet/instance-config.yaml",
		"/var/lib/kubelet/kubeadm-flags.env", "/etc/default/kubelet", "/etc/sysconfig/kubelet",
		"/var/lib/kubelet/pki/*",
	}
}

// Layout is where things are on one host and how they belong together.
type Layout struct {
	CertificatesDir   string
	ManifestsDir      string
	Pods              Pods
	Node              Node
	Kubelet           Kubelet
	Etcd              EtcdTopology
	Servers           map[string]string // server URL of the current context, by the kubeconfig's path
	ExternalCAs       []string          // CAs whose certificate is here and whose key is not, by name
	HA                bool              // clients reach the API by another address than this node's, or etcd has several members
	ServiceAccountKey bool              // sa.key is here
	EtcdOnly          bool              // the host is a member of an external etcd and no control plane

	files []File
	index map[string]int // into files, by path
}

// Node is the node's name as Kubernetes has it, never the host's name.
type Node struct {
	Name string // "" when nothing on the host tells it
	From string // the file or flag that told
}

// EtcdTopology says which etcd the API server uses.
type EtcdTopology struct {
	External  bool     // not the one of this host's static pod
	Endpoints []string // URLs of --etcd-servers
	CAFile    string
	CertFile  string
	KeyFile   string
}

// Survey derives a host's layout from its files. Missing and damaged files
// are no error: what they would have told is left at kubeadm's default.
func Survey(files []File) Layout {
	l := Layout{files: files, index: map[string]int{}, Servers: map[string]string{}}
	for i, f := range files {
		if _, seen := l.index[f.Path]; !seen {
			l.index[f.Path] = i
		}
	}
	l.Kubelet = l.kubelet()
	l.ManifestsDir = l.manifestsDir()
	l.Pods = ParsePods(l.ManifestsDir, files)
	l.CertificatesDir = l.certificatesDir()
	l.Etcd = l.etcd()
	l.kubeconfigs()
	l.Node = l.node()
	for _, ca := range authorities {
		crt, key := l.pki(ca.base+".crt"), l.pki(ca.base+".key")
		if l.Exists(crt) && !l.Exists(key) {
			l.ExternalCAs = append(l.ExternalCAs, ca.name)
		}
	}
	l.ServiceAccountKey = l.Exists(l.pki("sa.key"))
	l.HA = l.ha()
	l.EtcdOnly = l.etcdOnly()
	return l
}

// File returns a file of the survey.
func (l Layout) File(path string) (File, bool) {
	i, ok := l.index[path]
	if !ok {
		return File{}, false
	}
	return l.files[i], true
}

// Exists says whether the survey found something at path, readable or not.
func (l Layout) Exists(path string) bool {
	_, ok := l.index[path]
	return ok
}

// data returns the content of a file, nil when there is none.
func (l Layout) data(path string) []byte {
	f, _ := l.File(path)
	return f.Data
}

// pki returns the path of a file in the certificates directory.
func (l Layout) pki(name string) string { return path.Join(l.CertificatesDir, name) }

// Version returns the cluster's version as the API server's image has it.
func (l Layout) Version() (Version, error) {
	m, _ := l.Pods.Component(APIServer)
	return m.Version()
}

// MorePatterns returns what a complete survey needs beyond Patterns and the
// patterns read since: a certificates directory, static pods, kubeconfigs or
// certificates that flags have put elsewhere. It is empty when all was read.
func (l Layout) MorePatterns(read ...string) []string {
	want := []string{l.Kubelet.Config, l.Kubelet.Kubeconfig, l.Kubelet.ClientPEM, path.Join(l.Kubelet.PKI, "*")}
	if l.ManifestsDir != "" {
		want = append(want, path.Join(l.ManifestsDir, "*"))
	}
	for _, p := range []string{"*.crt", "*.key", "*.pub", "etcd/*.crt", "etcd/*.key"} {
		want = append(want, path.Join(l.CertificatesDir, p))
	}
	for _, m := range l.Pods.Manifests {
		for _, r := range m.Reads() {
			want = append(want, r.Path)
		}
	}
	have := slices.Concat(Patterns(), read)
	var more []string
	for _, w := range want {
		if path.IsAbs(w) && !strings.ContainsAny(w, "\n\x00") && !covered(w, have) && !slices.Contains(more, w) {
			more = append(more, w)
		}
	}
	return more
}

// covered says whether one of the patterns is w or matches it.
func covered(w string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := path.Match(p, w)
		return p == w || err == nil && ok
	})
}

func (l Layout) manifestsDir() string {
	if dir := l.Kubelet.Args.Value("pod-manifest-path"); path.IsAbs(dir) {
		return path.Clean(dir)
	}
	root, err := parseYAML(l.data(l.Kubelet.Config))
	if dir := text(root, "staticPodPath"); err == nil && path.IsAbs(dir) {
		return path.Clean(dir)
	}
	return DefaultManifestsDir
}

// certificatesDir is where the flags that kubeadm writes point to.
func (l Layout) certificatesDir() string {
	flags := []struct{ component, flag, base string }{
		{APIServer, "client-ca-file", "ca.crt"},
		{APIServer, "kubelet-client-certificate", "apiserver-kubelet-client.crt"},
		{APIServer, "tls-cert-file", "apiserver.crt"},
		{ControllerManager, "root-ca-file", "ca.crt"},
		{ControllerManager, "client-ca-file", "ca.crt"},
	}
	for _, f := range flags {
		m, _ := l.Pods.Component(f.component)
		if file := m.Args.Value(f.flag); path.IsAbs(file) && path.Base(file) == f.base {
			return path.Dir(path.Clean(file))
		}
	}
	if spray := "/etc/kubernetes/ssl"; !l.Exists(DefaultCertificatesDir+"/ca.crt") && l.Exists(spray+"/ca.crt") {
		return spray
	}
	return DefaultCertificatesDir
}

func (l Layout) etcd() EtcdTopology {
	api, ok := l.Pods.Component(APIServer)
	if !ok {
		return EtcdTopology{}
	}
	t := EtcdTopology{
		Endpoints: api.Args.List("etcd-servers"),
		CAFile:    api.Args.Value("etcd-cafile"),
		CertFile:  api.Args.Value("etcd-certfile"),
		KeyFile:   api.Args.Value("etcd-keyfile"),
	}
	own, pod := l.Pods.Component(Etcd)
	local := []string{api.Args.Value("advertise-address")}
	for _, flag := range []string{"listen-client-urls", "advertise-client-urls"} {
		for _, u := range own.Args.List(flag) {
			local = append(local, hostname(u))
		}
	}
	here := slices.ContainsFunc(t.Endpoints, func(u string) bool {
		h := hostname(u)
		return h != "" && (loopback(h) || slices.Contains(local, h))
	})
	t.External = len(t.Endpoints) > 0 && (!here || !pod && !l.Exists(l.pki("etcd/server.crt")))
	return t
}

func hostname(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// etcdOnly does not take a control plane for an etcd host just because one of
// its files is away.
func (l Layout) etcdOnly() bool {
	_, api := l.Pods.Component(APIServer)
	return !api && !l.Exists(l.pki("apiserver.crt")) && !l.Exists(ConfigDir+"/admin.conf") && l.Exists(l.pki("etcd/server.crt"))
}

// kubeconfigs fills in Servers.
func (l Layout) kubeconfigs() {
	for _, f := range l.files {
		if f.Path != l.Kubelet.Kubeconfig && (path.Dir(f.Path) != ConfigDir || !strings.HasSuffix(f.Path, ".conf")) {
			continue
		}
		if k, err := ParseKubeconfig(f.Data); err == nil {
			if cluster, _, err := k.Current(); err == nil {
				l.Servers[f.Path] = cluster.Server
			}
		}
	}
}

// ha looks at etcd's members and at where admin.conf leads.
func (l Layout) ha() bool {
	etcd, _ := l.Pods.Component(Etcd)
	return len(etcd.EtcdMembers()) > 1 || l.ControlPlaneEndpoint() != ""
}

// ControlPlaneEndpoint returns host:port of admin.conf's server when that is
// not this node's own API server, else "".
func (l Layout) ControlPlaneEndpoint() string {
	u, err := url.Parse(l.Servers[ConfigDir+"/admin.conf"])
	if err != nil || u.Host == "" || loopback(u.Hostname()) {
		return ""
	}
	api, _ := l.Pods.Component(APIServer)
	if u.Hostname() == api.Args.Value("advertise-address") {
		return ""
	}
	return u.Host
}
