package cluster

import (
	"context"
	"fmt"
	"maps"
	"slices"
)

// Faults are what can be switched on in a node, by name, with the script that
// does it there. Reset is the way back. "paused" and "killed" are done to the
// node as a whole.
func Faults() map[string]string {
	return map[string]string{
		"paused":         "", // as if its connection was cut
		"killed":         "", // as a power cut does
		"etcd-away":      "mv /etc/kubernetes/manifests/etcd.yaml /root/etcd.yaml",
		"apiserver-sick": "sed -i s/--secure-port=6443/--secure-port=broken/ /etc/kubernetes/manifests/kube-apiserver.yaml",
		"kubelet-down":   "systemctl stop kubelet",
		"left-parked": `mkdir -p -m 700 /var/lib/certbook/parked/died
mv /etc/kubernetes/manifests/kube-scheduler.yaml /var/lib/certbook/parked/died/etc@kubernetes@manifests@kube-scheduler.yaml`,
		"renewed-by-hand": "kubeadm certs renew all", // and nothing restarted
	}
}

// Unpause ends the fault "paused".
func (l *Lab) Unpause(ctx context.Context, n Node) error {
	_, err := l.docker.run(ctx, nil, "unpause", container(n.Host))
	return err
}

// Fault switches a fault on in a node.
func (l *Lab) Fault(ctx context.Context, name string, n Node) error {
	script, ok := Faults()[name]
	if !ok {
		return fmt.Errorf("no fault %q; there are %q", name, slices.Sorted(maps.Keys(Faults())))
	}
	var err error
	switch name {
	case "paused":
		_, err = l.docker.run(ctx, nil, "pause", container(n.Host))
	case "killed":
		_, err = l.docker.run(ctx, nil, "kill", container(n.Host))
	default:
		_, err = l.Shell(ctx, n, script)
	}
	return err
}
