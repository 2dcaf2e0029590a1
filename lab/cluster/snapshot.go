package cluster

import (
	"context"
	"time"
)

// haltScript ends what kubelet runs. Nothing is asked to end in good order:
// etcd is made for that, and it is ten times as quick.
const haltScript = `
systemctl stop kubelet
ctr=/usr/bin/ctr
for task in $($ctr -n k8s.io tasks list -q); do
	$ctr -n k8s.io tasks kill -a -s SIGKILL "$task" 2>/dev/null || :
done
tries=50
while $ctr -n k8s.io tasks list | grep -q RUNNING; do
	tries=$((tries - 1))
	[ "$tries" != 0 ] || { echo "these do not end:" >&2; $ctr -n k8s.io tasks list >&2; exit 1; }
	sleep 0.2
done
$ctr -n k8s.io tasks list -q | xargs -r $ctr -n k8s.io tasks delete -f >/dev/null 2>&1 || :
$ctr -n k8s.io containers list -q | xargs -r $ctr -n k8s.io containers delete >/dev/null 2>&1 || :
systemctl restart containerd
`

// kept are the directories whose state a snapshot holds.
const kept = "etc/kubernetes var/lib/etcd var/lib/kubelet root home/ops etc/systemd/system usr/lib/systemd/system/kubelet.service.d"

// Halt stops the kubelet and all containers of a node.
func (l *Lab) Halt(ctx context.Context, nodes ...Node) error {
	return each(nodes, func(n Node) error {
		_, err := l.Shell(ctx, n, haltScript)
		return err
	})
}

// save keeps the state of the nodes for Reset.
func (l *Lab) save(ctx context.Context) error {
	if err := l.Halt(ctx, l.Nodes...); err != nil {
		return err
	}
	l.say("halted")
	err := each(l.Nodes, func(n Node) error {
		_, err := l.Shell(ctx, n, "mkdir -p /var/lab; tar -C / --exclude=var/lib/kubelet/pods -cf /var/lab/state.tar "+kept)
		return err
	})
	if err != nil {
		return err
	}
	l.say("saved")
	return l.resume(ctx)
}

// Reset brings the lab back to what it was after Up.
func (l *Lab) Reset(ctx context.Context) error {
	l.started = time.Now()
	if err := l.docker.start(ctx, l.Out); err != nil {
		return err
	}
	for _, n := range l.Nodes { // a fault may have stopped it
		_, _ = l.docker.run(ctx, nil, "unpause", container(n.Host))
		if _, err := l.docker.run(ctx, nil, "start", container(n.Host)); err != nil {
			return err
		}
	}
	if err := l.Halt(ctx, l.Nodes...); err != nil {
		return err
	}
	l.say("halted")
	err := each(l.Nodes, func(n Node) error {
		_, err := l.Shell(ctx, n, `
umount /var/lib/kubelet/pods/*/volumes/*/* 2>/dev/null || :
cd /
rm -rf `+kept+` var/lib/certbook var/backups/certbook run/certbook
tar -C / -xf /var/lab/state.tar
systemctl daemon-reload`)
		return err
	})
	if err != nil {
		return err
	}
	l.say("restored")
	return l.resume(ctx)
}

// resume starts the kubelets and waits for the cluster.
func (l *Lab) resume(ctx context.Context) error {
	if err := each(l.Nodes, func(n Node) error {
		_, err := l.Run(ctx, n, "systemctl", "restart", "kubelet")
		return err
	}); err != nil {
		return err
	}
	return l.ready(ctx)
}
