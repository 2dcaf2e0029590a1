package kube

import (
	"path"
	"strings"
)

// Kubelet is how a host's kubelet is set up.
type Kubelet struct {
	Args               Args   // from unit files, environment files and kubeadm-flags.env; the last counts
	Config             string // path of its configuration file
	Kubeconfig         string // path of kubelet.conf
	PKI                string // directory of its own certificates
	Embedded           bool   // kubelet.conf holds its client certificate itself, which nothing rotates
	ClientPEM          string // the file with the client certificate: that of kubelet.conf, else kubelet-client-current.pem
	ServerTLSBootstrap bool   // its serving certificate comes from the cluster, by a request that a person approves
	Endpoint           string // containerRuntimeEndpoint of its configuration files, "" when they have none
}

const nodePrefix = "system:node:"

// kubelet reads the kubelet's flags in the order in which systemd applies
// them: units, drop-ins, kubeadm's file, the administrator's.
func (l Layout) kubelet() Kubelet {
	k := Kubelet{
		Config:     "/var/lib/kubelet/config.yaml",
		Kubeconfig: ConfigDir + "/kubelet.conf",
		PKI:        DefaultKubeletPKI,
	}
	var units, env, extra Args
	for _, f := range l.files {
		switch {
		case strings.Contains(f.Path, "/systemd/system/kubelet.service"):
			units = append(units, environmentArgs(f.Data)...)
		case f.Path == "/var/lib/kubelet/kubeadm-flags.env":
			env = append(env, environmentArgs(f.Data)...)
		case f.Path == "/etc/default/kubelet", f.Path == "/etc/sysconfig/kubelet", f.Path == ConfigDir+"/kubelet.env":
			extra = append(extra, environmentArgs(f.Data)...)
		}
	}
	k.Args = append(append(units, env...), extra...)
	for flag, field := range map[string]*string{"config": &k.Config, "kubeconfig": &k.Kubeconfig, "cert-dir": &k.PKI} {
		if v := k.Args.Value(flag); path.IsAbs(v) {
			*field = path.Clean(v)
		}
	}
	for _, file := range []string{k.Config, "/var/lib/kubelet/instance-config.yaml"} {
		if root, err := parseYAML(l.data(file)); err == nil {
			if e := text(root, "containerRuntimeEndpoint"); e != "" {
				k.Endpoint = e
			}
			k.ServerTLSBootstrap = k.ServerTLSBootstrap || text(root, "serverTLSBootstrap") == "true"
		}
	}
	k.ClientPEM = path.Join(k.PKI, "kubelet-client-current.pem")
	if conf, err := ParseKubeconfig(l.data(k.Kubeconfig)); err == nil {
		if _, user, err := conf.Current(); err == nil {
			k.Embedded = len(user.CertData) > 0
			if !k.Embedded && user.CertFile != "" {
				k.ClientPEM = absolute(user.CertFile, k.Kubeconfig)
			}
		}
	}
	return k
}

// absolute resolves a path in a kubeconfig, which counts from its directory.
func absolute(file, kubeconfig string) string {
	if path.IsAbs(file) {
		return path.Clean(file)
	}
	return path.Join(path.Dir(kubeconfig), file)
}

// node takes the node's name from what was issued to it.
func (l Layout) node() Node {
	if conf, err := ParseKubeconfig(l.data(l.Kubelet.Kubeconfig)); err == nil {
		if _, user, err := conf.Current(); err == nil {
			if name, ok := nodeName(user.CertData); ok {
				return Node{Name: name, From: l.Kubelet.Kubeconfig}
			}
		}
	}
	if name, ok := nodeName(l.data(l.Kubelet.ClientPEM)); ok {
		return Node{Name: name, From: l.Kubelet.ClientPEM}
	}
	server := l.pki("etcd/server.crt")
	if chain, err := ParseChain(l.data(server)); err == nil && chain[0].Subject.CommonName != "" {
		return Node{Name: chain[0].Subject.CommonName, From: server}
	}
	if name := l.Kubelet.Args.Value("hostname-override"); name != "" {
		return Node{Name: strings.ToLower(name), From: "--hostname-override"}
	}
	return Node{}
}

func nodeName(pem []byte) (string, bool) {
	chain, err := ParseChain(pem)
	if err != nil {
		return "", false
	}
	name, ok := strings.CutPrefix(chain[0].Subject.CommonName, nodePrefix)
	return name, ok && name != ""
}
