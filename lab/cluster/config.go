package cluster

import (
	"fmt"
	"strings"
)

// These are fixed: the cluster is for tests and on this machine only.
const (
	token          = "abcdef.0123456789abcdef"
	certificateKey = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
)

// registration is what kubeadm init and join are told of a node. The kernel's
// configuration is not to be had in a container, and early kubeadms look for
// proxies by URLs that today's Go takes for wrong, and for images of addons.
func (l *Lab) registration(n Node) string {
	return fmt.Sprintf(`{name: %s, criSocket: %q, taints: [], ignorePreflightErrors: [SystemVerification, HTTPProxyCIDR, ImagePull]}`, n.Name, l.release().runtime().socket)
}

func (l *Lab) initConfig(n Node) string {
	return fmt.Sprintf(`apiVersion: kubeadm.k8s.io/%[6]s
kind: InitConfiguration
bootstrapTokens: [{token: %[1]s, ttl: 24h0m0s}]
certificateKey: %[2]s
localAPIEndpoint: {advertiseAddress: %[3]s, bindPort: 6443}
nodeRegistration: %[4]s
---
%[5]s---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: cgroupfs
failSwapOn: false
imageGCHighThresholdPercent: 100
evictionHard: {nodefs.available: "0%%", nodefs.inodesFree: "0%%", imagefs.available: "0%%", imagefs.inodesFree: "0%%", memory.available: "10Mi"}
%[7]s`, token, certificateKey, n.Address, l.registration(n), l.clusterConfig(), l.release().api, l.release().kubelet)
}

func (l *Lab) clusterConfig() string {
	return fmt.Sprintf(`apiVersion: kubeadm.k8s.io/%s
kind: ClusterConfiguration
kubernetesVersion: v%s
clusterName: lab
imageRepository: registry.k8s.io
controlPlaneEndpoint: %s
networking: {podSubnet: 10.244.0.0/16, serviceSubnet: 10.96.0.0/16}
apiServer: {certSANs: [%q, 127.0.0.1, localhost]}
%s`, l.release().api, l.Version, l.Balancer(), balancer, l.etcdConfig())
}

func (l *Lab) joinConfig(n Node) string {
	return fmt.Sprintf(`apiVersion: kubeadm.k8s.io/%s
kind: JoinConfiguration
discovery: {bootstrapToken: {apiServerEndpoint: %q, token: %s, unsafeSkipCAVerification: true}}
controlPlane: {certificateKey: %s, localAPIEndpoint: {advertiseAddress: %s, bindPort: 6443}}
nodeRegistration: %s
`, l.release().api, l.Balancer(), token, certificateKey, n.Address, l.registration(n))
}

func (l *Lab) haproxy() string {
	var servers strings.Builder
	for _, n := range l.Nodes {
		fmt.Fprintf(&servers, "  server %s %s:6443\n", n.Host, n.Address)
	}
	return `global
  maxconn 2000
  log stdout format raw local0 warning
defaults
  mode tcp
  timeout connect 2s
  timeout client 10m
  timeout server 10m
  timeout check 2s
  option redispatch
  retries 2
frontend api
  bind :6443
  default_backend apis
backend apis
  balance roundrobin
  option httpchk GET /readyz
  http-check expect status 200
  default-server inter 1s fall 2 rise 1 check check-ssl verify none on-marked-down shutdown-sessions
` + servers.String()
}

// inventory is a Certbook inventory of the lab, with a user who has sudo.
func (l *Lab) inventory() string {
	var lines strings.Builder
	for _, n := range l.all() {
		fmt.Fprintf(&lines, "  %s: {address: %s}\n", n.Host, n.Address)
	}
	groups := fmt.Sprintf("  masters: {hosts: [%s]}\n", strings.Join(hosts(l.Nodes), ", "))
	if len(l.Etcd) > 0 {
		groups += fmt.Sprintf("  etcd: {hosts: [%s]}\n", strings.Join(hosts(l.Etcd), ", "))
	}
	return fmt.Sprintf(`version: 1
description: the lab's machines
ssh:
  user: ops
  identity: [%s]
  known_hosts: [%s]
hosts:
%sgroups:
%s`, l.KeyFile(), l.KnownHosts(), lines.String(), groups)
}

func hosts(nodes []Node) []string {
	var names []string
	for _, n := range nodes {
		names = append(names, n.Host)
	}
	return names
}
