package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// The files of an external etcd that a master has.
var etcdClient = []string{"etcd/ca.crt", "apiserver-etcd-client.crt", "apiserver-etcd-client.key"}

const pki = "/etc/kubernetes/pki/"

// etcdConfig is the part of the ClusterConfiguration that says where etcd is.
func (l *Lab) etcdConfig() string {
	if len(l.Etcd) == 0 {
		return ""
	}
	var endpoints []string
	for _, n := range l.Etcd {
		endpoints = append(endpoints, "https://"+n.Address+":2379")
	}
	return fmt.Sprintf("etcd: {external: {endpoints: [%q], caFile: %[2]s%[3]s, certFile: %[2]s%[4]s, keyFile: %[2]s%[5]s}}\n",
		strings.Join(endpoints, `", "`), pki, etcdClient[0], etcdClient[1], etcdClient[2])
}

// etcdScript makes an etcd of one member as kubeadm's documentation does: the
// kubelet runs it as a static pod and knows of no cluster.
const etcdScript = `
cat >/etc/kubernetes/etcd.yaml
mkdir -p /etc/systemd/system/kubelet.service.d
cat >/etc/systemd/system/kubelet.service.d/kubelet.conf <<'E'
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
failSwapOn: false
failCgroupV1: false
address: 127.0.0.1
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
staticPodPath: /etc/kubernetes/manifests
E
cat >/etc/systemd/system/kubelet.service.d/20-etcd-service-manager.conf <<'E'
[Service]
Environment=
EnvironmentFile=
ExecStart=
ExecStart=/usr/bin/kubelet --config=/etc/systemd/system/kubelet.service.d/kubelet.conf
E
for phase in "certs etcd-ca" "certs etcd-server" "certs etcd-peer" "certs etcd-healthcheck-client" "certs apiserver-etcd-client" "etcd local"; do
	kubeadm init phase $phase --config /etc/kubernetes/etcd.yaml
done
systemctl daemon-reload
systemctl restart kubelet
`

// externalEtcd starts etcd on the nodes that are for it, and gives the first
// master what its API server needs to be a client.
func (l *Lab) externalEtcd(ctx context.Context) error {
	for _, n := range l.Etcd {
		config := fmt.Sprintf(`apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: {advertiseAddress: %[1]s}
nodeRegistration: %[2]s
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: v%[3]s
imageRepository: registry.k8s.io
etcd:
  local:
    serverCertSANs: [%[1]s]
    peerCertSANs: [%[1]s]
    extraArgs:
    - {name: initial-cluster, value: "%[4]s=https://%[1]s:2380"}
    - {name: initial-cluster-state, value: new}
    - {name: name, value: %[4]s}
    - {name: listen-peer-urls, value: "https://%[1]s:2380"}
    - {name: listen-client-urls, value: "https://%[1]s:2379,https://127.0.0.1:2379"}
    - {name: advertise-client-urls, value: "https://%[1]s:2379"}
    - {name: initial-advertise-peer-urls, value: "https://%[1]s:2380"}
`, n.Address, l.registration(n), l.Version, n.Name)
		if _, err := l.Pipe(ctx, n, strings.NewReader(config), "sh", "-ec", etcdScript); err != nil {
			return fmt.Errorf("%s: %w", n.Host, err)
		}
		for _, file := range etcdClient {
			if err := l.Carry(ctx, n, l.Nodes[0], pki+file); err != nil {
				return err
			}
		}
		l.say("%s: etcd", n.Host)
	}
	return nil
}

// Carry copies a file from one node to another.
func (l *Lab) Carry(ctx context.Context, from, to Node, file string) error {
	text, err := l.Run(ctx, from, "cat", file)
	if err != nil {
		return err
	}
	_, err = l.Pipe(ctx, to, strings.NewReader(text), "sh", "-ec", `mkdir -p "${1%/*}"; umask 077; cat >"$1"`, "sh", file)
	return err
}

// externalCA takes the CAs' keys away from the masters. They stay in the lab's
// directory, which plays the CA.
func (l *Lab) externalCA(ctx context.Context) error {
	if !l.ExternalCA {
		return nil
	}
	for _, ca := range []string{"ca", "front-proxy-ca", "etcd/ca"} {
		for _, suffix := range []string{".crt", ".key"} {
			text, err := l.Run(ctx, l.Nodes[0], "cat", pki+ca+suffix)
			if err != nil {
				return err
			}
			file := l.Path("ca/" + ca + suffix)
			if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
				return err
			}
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				return err
			}
		}
	}
	err := each(l.Nodes, func(n Node) error { // kubeadm would not let the controller manager sign either
		_, err := l.Shell(ctx, n, `
sed -E 's#(--cluster-signing-(cert|key)-file=).*#\1#' /etc/kubernetes/manifests/kube-controller-manager.yaml >/etc/kubernetes/kcm.yaml
mv /etc/kubernetes/kcm.yaml /etc/kubernetes/manifests/kube-controller-manager.yaml`)
		return err
	})
	if err == nil {
		err = l.TakeAway(ctx, l.Nodes...)
	}
	if err != nil {
		return err
	}
	l.say("the CAs' keys are away")
	return l.ready(ctx)
}

// TakeAway removes the keys of the CAs from masters; they are in the lab's
// directory.
func (l *Lab) TakeAway(ctx context.Context, nodes ...Node) error {
	return each(nodes, func(n Node) error {
		_, err := l.Shell(ctx, n, "rm -f "+pki+"ca.key "+pki+"front-proxy-ca.key "+pki+"etcd/ca.key")
		return err
	})
}

// Return lends the keys to a master again, to issue certificates there.
func (l *Lab) Return(ctx context.Context, n Node) error {
	for _, ca := range []string{"ca", "front-proxy-ca", "etcd/ca"} {
		key, err := os.ReadFile(l.Path("ca/" + ca + ".key"))
		if err != nil {
			return err
		}
		if _, err := l.Pipe(ctx, n, strings.NewReader(string(key)), "sh", "-ec", `umask 077; cat >"$1"`, "sh", pki+ca+".key"); err != nil {
			return err
		}
	}
	return nil
}
