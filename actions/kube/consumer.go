package kube

import (
	"net"
	"net/url"
	"path"
	"slices"
	"strings"
)

// Read is one file that a process reads its certificates, keys or kubeconfigs
// from.
type Read struct {
	Flag string // without dashes, as in tls-cert-file
	Path string
	Live bool // the process reads the file again by itself when it has changed
}

// fileFlag is one flag whose value is such a file. Since is the first minor
// version of Kubernetes 1.x in which the process reads it again by itself; 0
// is never.
type fileFlag struct {
	name  string
	since int
}

// always is the since of what every version reads again.
const always = 1

func fileFlags(component string) []fileFlag {
	switch component {
	case APIServer:
		return []fileFlag{
			{"tls-cert-file", 17}, {"tls-private-key-file", 17}, {"tls-sni-cert-key", 17},
			{"client-ca-file", 17}, {"requestheader-client-ca-file", 17},
			{"kubelet-client-certificate", 25}, {"kubelet-client-key", 25}, {"kubelet-certificate-authority", 0},
			{"proxy-client-cert-file", 20}, {"proxy-client-key-file", 20},
			{"etcd-certfile", always}, {"etcd-keyfile", always}, {"etcd-cafile", 0},
			{"service-account-key-file", 0}, {"service-account-signing-key-file", 0},
		}
	case Etcd:
		return []fileFlag{
			{"cert-file", always}, {"key-file", always}, {"trusted-ca-file", 0},
			{"peer-cert-file", always}, {"peer-key-file", always}, {"peer-trusted-ca-file", 0},
			{"client-cert-file", always}, {"client-key-file", always},
			{"peer-client-cert-file", always}, {"peer-client-key-file", always},
		}
	default:
		return []fileFlag{
			{"kubeconfig", 0}, {"authentication-kubeconfig", 0}, {"authorization-kubeconfig", 0},
			{"tls-cert-file", 17}, {"tls-private-key-file", 17},
			{"client-ca-file", 17}, {"requestheader-client-ca-file", 17}, {"root-ca-file", 0},
			{"cluster-signing-cert-file", 0}, {"cluster-signing-key-file", 0},
			{"service-account-private-key-file", 0},
		}
	}
}

// Reads returns the files which the pod's process reads its certificates, keys
// and kubeconfigs from, in the order of the known flags, then kubeconfigs that
// it mounts without a flag, as kube-vip does. Live is false when the version is
// not known or the evidence is thin: such a process must be restarted.
func (m Manifest) Reads() []Read {
	minor := 0
	if v, err := m.Version(); err == nil && v.Major == 1 {
		minor = v.Minor
	}
	var out []Read
	for _, f := range fileFlags(m.Component) {
		live := f.since > 0 && (minor >= f.since || f.since == always)
		values := []string{m.Args.Value(f.name)}
		if f.name == "tls-sni-cert-key" {
			values = m.Args.List(f.name)
			if len(values) == 2 {
				values[1], _, _ = strings.Cut(values[1], ":")
			}
		}
		for _, v := range values {
			if strings.HasPrefix(v, "/") {
				out = append(out, Read{Flag: f.name, Path: path.Clean(v), Live: live})
			}
		}
	}
	for _, p := range m.HostPaths {
		known := slices.ContainsFunc(out, func(r Read) bool { return r.Path == p })
		if strings.HasSuffix(p, ".conf") && path.Dir(p) == ConfigDir && !known {
			out = append(out, Read{Path: p})
		}
	}
	return out
}

// Endpoint is an address on which a process serves a certificate from a file.
type Endpoint struct {
	Address string // host:port, reachable from the host itself
	Path    string // the certificate's file
}

// Serves returns where the pod's process serves a certificate that it has from
// a file, so that a handshake shows whether it is the one on disk. The
// controller manager and the scheduler make theirs in memory and have none
// here, unless a flag says otherwise.
func (m Manifest) Serves() []Endpoint {
	if m.Component == Etcd {
		return append(m.urls("listen-client-urls", "cert-file"), m.urls("listen-peer-urls", "peer-cert-file")...)
	}
	cert := m.Args.Value("tls-cert-file")
	if port := m.securePort(); cert != "" && port != "" && port != "0" {
		return []Endpoint{{Address: net.JoinHostPort(m.host(), port), Path: path.Clean(cert)}}
	}
	return nil
}

func (m Manifest) securePort() string {
	if port, ok := m.Args.Get("secure-port"); ok {
		return port
	}
	return map[string]string{APIServer: "6443", ControllerManager: "10257", Scheduler: "10259"}[m.Component]
}

// host is where the process can be reached from its own host: the advertise
// address, else the bind address, else loopback.
func (m Manifest) host() string {
	for _, h := range []string{m.Args.Value("bind-address"), m.Args.Value("advertise-address")} {
		if ip := net.ParseIP(h); ip != nil && !ip.IsUnspecified() {
			return h
		}
	}
	return "127.0.0.1"
}

func (m Manifest) urls(flag, cert string) []Endpoint {
	var out []Endpoint
	for _, raw := range m.Args.List(flag) {
		u, err := url.Parse(raw)
		if err != nil || u.Scheme != "https" || u.Port() == "" || m.Args.Value(cert) == "" {
			continue
		}
		out = append(out, Endpoint{Address: net.JoinHostPort(reachable(u.Hostname()), u.Port()), Path: path.Clean(m.Args.Value(cert))})
	}
	return out
}

// reachable replaces the unspecified address by loopback.
func reachable(host string) string {
	ip := net.ParseIP(host)
	switch {
	case host == "" || ip != nil && ip.IsUnspecified() && ip.To4() != nil:
		return "127.0.0.1"
	case ip != nil && ip.IsUnspecified():
		return "::1"
	}
	return host
}

// HealthURL returns the URL that tells whether the process is ready, "" when
// the manifest says nothing. It is /readyz of the API server, /health of etcd's
// metrics address (which needs a quorum), and what the probes ask of others.
func (m Manifest) HealthURL() string {
	switch m.Component {
	case APIServer:
		return (&url.URL{Scheme: "https", Host: net.JoinHostPort(m.host(), m.securePort()), Path: "/readyz"}).String()
	case Etcd:
		if u := m.metricsURL(); u != "" {
			return u
		}
	}
	for _, kind := range []string{"readinessProbe", "livenessProbe", "startupProbe"} {
		p, ok := m.probes[kind]
		if !ok || p.port == "" {
			continue
		}
		host := p.host
		if host == "" {
			host = m.host()
		}
		where, query, _ := strings.Cut(p.path, "?")
		u := url.URL{Scheme: p.scheme, Host: net.JoinHostPort(reachable(host), p.port), Path: "/" + strings.TrimLeft(where, "/"), RawQuery: query}
		return u.String()
	}
	return ""
}

func (m Manifest) metricsURL() string {
	for _, raw := range m.Args.List("listen-metrics-urls") {
		if u, err := url.Parse(raw); err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Port() != "" {
			return (&url.URL{Scheme: u.Scheme, Host: net.JoinHostPort(reachable(u.Hostname()), u.Port()), Path: "/health"}).String()
		}
	}
	return ""
}

// Member is one etcd member as --initial-cluster names it. The list is that of
// the day when the member joined; the first one of a cluster names itself only.
type Member struct {
	Name    string
	PeerURL string
}

// EtcdMembers returns the members in --initial-cluster, in its order.
func (m Manifest) EtcdMembers() []Member {
	var out []Member
	for _, pair := range m.Args.List("initial-cluster") {
		if name, peer, ok := strings.Cut(pair, "="); ok {
			out = append(out, Member{Name: name, PeerURL: peer})
		}
	}
	return out
}
