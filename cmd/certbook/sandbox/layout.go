package sandbox

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// lay writes a master's files as kubeadm and kubelet would.
func (m *master) lay(cas authorities, program string) error {
	now := time.Now()
	files, err := m.files(cas, now)
	if err != nil {
		return err
	}
	long := now.Add(-time.Hour) // older than the processes that read them, whatever a clock is rounded to
	for name, data := range files {
		mode := os.FileMode(0o600)
		if strings.HasSuffix(name, ".crt") || strings.HasSuffix(name, ".yaml") {
			mode = 0o644
		}
		if err := write(m.root, name, data, mode); err != nil {
			return err
		}
		if err := os.Chtimes(filepath.Join(m.root, name), long, long); err != nil {
			return err
		}
	}
	for _, command := range []string{"kubeadm", "kubectl", "crictl", "systemctl"} {
		script := fmt.Sprintf("#!/bin/sh\n# Emulated for certbook demo.\nexec %s demo-emulate %s \"$@\"\n", quote(program), command)
		if err := write(m.root, "usr/bin/"+command, []byte(script), 0o755); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(m.root, "run"), 0o755); err != nil {
		return err
	}
	return os.Symlink("kubelet-client-2026.pem", filepath.Join(m.root, "var/lib/kubelet/pki/kubelet-client-current.pem"))
}

// files returns what is in a master's files, by their path below its root.
func (m *master) files(cas authorities, now time.Time) (map[string][]byte, error) {
	began, ends := now.Add(Left-365*24*time.Hour), now.Add(Left)
	files := map[string][]byte{}
	for name, ca := range cas {
		key, err := keyPEM(ca.key)
		if err != nil {
			return nil, err
		}
		files["etc/kubernetes/pki/"+name+".crt"], files["etc/kubernetes/pki/"+name+".key"] = certPEM(ca.cert), key
	}
	for name, l := range m.leafs() {
		cert, key, err := issue(l.template, cas[l.ca], began, ends)
		if err != nil {
			return nil, err
		}
		files["etc/kubernetes/pki/"+name+".crt"], files["etc/kubernetes/pki/"+name+".key"] = cert, key
	}
	for name, t := range m.clients() {
		cert, key, err := issue(t, cas["ca"], began, ends)
		if err != nil {
			return nil, err
		}
		files["etc/kubernetes/"+name] = m.kubeconfig(cas, t.Subject.CommonName,
			"client-certificate-data: "+base64.StdEncoding.EncodeToString(cert),
			"client-key-data: "+base64.StdEncoding.EncodeToString(key))
	}
	// The kubelet renews its own; it is fine.
	node := template("system:node:"+m.name, []string{"system:nodes"}, m.clients()["admin.conf"].ExtKeyUsage...)
	cert, key, err := issue(node, cas["ca"], now.Add(-time.Hour), now.Add(300*24*time.Hour))
	if err != nil {
		return nil, err
	}
	const current = "/var/lib/kubelet/pki/kubelet-client-current.pem"
	files["var/lib/kubelet/pki/kubelet-client-2026.pem"] = append(cert, key...)
	files["etc/kubernetes/kubelet.conf"] = m.kubeconfig(cas, node.Subject.CommonName, "client-certificate: "+current, "client-key: "+current)
	files["var/lib/kubelet/config.yaml"] = []byte("apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n" +
		"staticPodPath: /etc/kubernetes/manifests\nrotateCertificates: true\ncontainerRuntimeEndpoint: unix:///run/containerd/containerd.sock\n")
	files["var/lib/kubelet/kubeadm-flags.env"] = []byte("KUBELET_KUBEADM_ARGS=\"--pod-infra-container-image=registry.k8s.io/pause:3.10.1\"\n")
	for name, manifest := range m.manifests() {
		files["etc/kubernetes/manifests/"+name+".yaml"] = []byte(manifest)
	}
	return files, nil
}

func (m *master) kubeconfig(cas authorities, user string, credentials ...string) []byte {
	return fmt.Appendf(nil, `apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: %s
    server: https://127.0.0.1:%d
  name: kubernetes
contexts:
- context:
    cluster: kubernetes
    user: %s
  name: %s@kubernetes
current-context: %s@kubernetes
kind: Config
users:
- name: %s
  user:
    %s
`, base64.StdEncoding.EncodeToString(certPEM(cas["ca"].cert)), m.ports.apiserver, user, user, user, user, strings.Join(credentials, "\n    "))
}

// manifests returns the static pods, with the flags that kubeadm gives them as
// far as certificates and ports go.
func (m *master) manifests() map[string]string {
	const pki = "/etc/kubernetes/pki/"
	p := m.ports
	return map[string]string{
		"etcd": pod("etcd", "registry.k8s.io/etcd:3.6.5-0", "http", "/livez", p.metrics,
			"--name="+m.name, fmt.Sprintf("--advertise-client-urls=https://127.0.0.1:%d", p.etcd),
			"--cert-file="+pki+"etcd/server.crt", "--key-file="+pki+"etcd/server.key", "--client-cert-auth=true",
			fmt.Sprintf("--listen-client-urls=https://127.0.0.1:%d", p.etcd), fmt.Sprintf("--listen-metrics-urls=http://127.0.0.1:%d", p.metrics),
			fmt.Sprintf("--listen-peer-urls=https://127.0.0.1:%d", p.peer),
			"--peer-cert-file="+pki+"etcd/peer.crt", "--peer-key-file="+pki+"etcd/peer.key",
			"--peer-trusted-ca-file="+pki+"etcd/ca.crt", "--trusted-ca-file="+pki+"etcd/ca.crt"),
		"kube-apiserver": pod("kube-apiserver", "registry.k8s.io/kube-apiserver:"+Version, "https", "/livez", p.apiserver,
			"--advertise-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", p.apiserver), "--client-ca-file="+pki+"ca.crt",
			fmt.Sprintf("--etcd-servers=https://127.0.0.1:%d", p.etcd), "--etcd-cafile="+pki+"etcd/ca.crt",
			"--etcd-certfile="+pki+"apiserver-etcd-client.crt", "--etcd-keyfile="+pki+"apiserver-etcd-client.key",
			"--kubelet-client-certificate="+pki+"apiserver-kubelet-client.crt", "--kubelet-client-key="+pki+"apiserver-kubelet-client.key",
			"--proxy-client-cert-file="+pki+"front-proxy-client.crt", "--proxy-client-key-file="+pki+"front-proxy-client.key",
			"--tls-cert-file="+pki+"apiserver.crt", "--tls-private-key-file="+pki+"apiserver.key"),
		"kube-controller-manager": pod("kube-controller-manager", "registry.k8s.io/kube-controller-manager:"+Version, "https", "/healthz", p.controllerManager,
			"--kubeconfig=/etc/kubernetes/controller-manager.conf", fmt.Sprintf("--secure-port=%d", p.controllerManager),
			"--bind-address=127.0.0.1", "--client-ca-file="+pki+"ca.crt", "--root-ca-file="+pki+"ca.crt"),
		"kube-scheduler": pod("kube-scheduler", "registry.k8s.io/kube-scheduler:"+Version, "https", "/healthz", p.scheduler,
			"--kubeconfig=/etc/kubernetes/scheduler.conf", fmt.Sprintf("--secure-port=%d", p.scheduler), "--bind-address=127.0.0.1"),
	}
}

func pod(name, image, scheme, path string, port int, args ...string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata:
  labels: {component: %s, tier: control-plane}
  name: %s
  namespace: kube-system
spec:
  containers:
  - command:
    - %s
    - %s
    image: %s
    livenessProbe:
      httpGet: {host: 127.0.0.1, path: %s, port: %d, scheme: %s}
    name: %s
  hostNetwork: true
`, name, name, name, strings.Join(args, "\n    - "), image, path, port, strings.ToUpper(scheme), name)
}

// quote returns a word for sh.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
