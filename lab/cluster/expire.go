package cluster

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// expireScript issues every certificate of a node anew, from its own CAs, and
// the kubelet's client certificate too. Nothing is restarted. It takes the
// kubeadm of the default release: earlier ones know of no validity but a year.
const expireScript = `
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cat >"$dir/kubeadm.yaml"
/opt/lab/kubeadm certs renew all --config "$dir/kubeadm.yaml" >/dev/null
/opt/lab/kubeadm init phase kubeconfig kubelet --config "$dir/kubeadm.yaml" --kubeconfig-dir "$dir" >/dev/null
pem=/var/lib/kubelet/pki/kubelet-client-$(date +%Y-%m-%d-%H-%M-%S).pem
for k in client-certificate-data client-key-data; do
	sed -n "s/.*$k: //p" "$dir/kubelet.conf" | base64 -d
done >"$pem"
chmod 600 "$pem"
ln -sfn "$pem" /var/lib/kubelet/pki/kubelet-client-current.pem
`

// Expire gives the nodes' certificates so long to live; a negative time makes
// them end in the past. kubeadm lets them begin five minutes ago, so that
// less than -5m is not to be had.
func (l *Lab) Expire(ctx context.Context, validity time.Duration, nodes ...Node) error {
	if validity <= -5*time.Minute {
		return fmt.Errorf("%s: such certificates would end before they begin; more than -5m", validity)
	}
	return each(nodes, func(n Node) error {
		config := fmt.Sprintf(`apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: {advertiseAddress: %s}
nodeRegistration: %s
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: v%s
controlPlaneEndpoint: %s
certificateValidityPeriod: %s
%s`, n.Address, l.registration(n), Versions()[0], l.Balancer(), validity, l.etcdConfig())
		_, err := l.Pipe(ctx, n, strings.NewReader(config), "sh", "-ec", expireScript)
		return err
	})
}

// ExpireEtcd does that for a node of an external etcd, and for its copy of the
// masters' client certificate.
func (l *Lab) ExpireEtcd(ctx context.Context, validity time.Duration, nodes ...Node) error {
	return each(nodes, func(n Node) error {
		_, err := l.Run(ctx, n, "sh", "-ec", `
sed "s/^kubernetesVersion/certificateValidityPeriod: $1\n&/" /etc/kubernetes/etcd.yaml >/run/etcd.yaml
for name in etcd-server etcd-peer etcd-healthcheck-client apiserver-etcd-client; do
	kubeadm certs renew "$name" --config /run/etcd.yaml
done`, "sh", validity.String())
		return err
	})
}

// RestartAll restarts the kubelets and all static pods at once, as a power cut
// does.
func (l *Lab) RestartAll(ctx context.Context, nodes ...Node) error {
	if err := l.Halt(ctx, nodes...); err != nil {
		return err
	}
	return each(nodes, func(n Node) error {
		_, err := l.Run(ctx, n, "systemctl", "restart", "kubelet")
		return err
	})
}
