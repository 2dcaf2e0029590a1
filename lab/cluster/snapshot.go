package cluster

import (
	"context"
	"time"
)

// kept are the directories whose state a snapshot holds.
const kept = "etc/kubernetes var/lib/etcd var/lib/kubelet root home/ops etc/systemd/system usr/lib/systemd/system/kubelet.service.d"

// Halt stops the kubelet and all containers of a node. Nothing is asked to end
// in good order: etcd is made for that, and it is ten times as quick.
func (l *Lab) Halt(ctx context.Context, nodes ...Node) error {
	return each(nodes, func(n Node) error {
		_, err := l.Shell(ctx, n, "systemctl stop kubelet\n"+l.release().runtime().halt)
		return err
	})
}

// save keeps the state of the nodes for Reset.
func (l *Lab) save(ctx context.Context) error {
	if err := l.Halt(ctx, l.all()...); err != nil {
		return err
	}
	l.say("halted")
	err := each(l.all(), func(n Node) error {
		_, err := l.Shell(ctx, n, "mkdir -p /var/lab /var/lib/etcd; tar -C / --exclude=var/lib/kubelet/pods -cf /var/lab/state.tar "+kept)
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
	for _, n := range l.all() { // a fault may have stopped it
		_, _ = l.docker.run(ctx, nil, "unpause", container(n.Host))
		if _, err := l.docker.run(ctx, nil, "start", container(n.Host)); err != nil {
			return err
		}
	}
	if err := l.Halt(ctx, l.all()...); err != nil {
		return err
	}
	l.say("halted")
	err := each(l.all(), func(n Node) error {
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
	if err := each(l.all(), func(n Node) error {
		_, err := l.Run(ctx, n, "systemctl", "restart", "kubelet")
		return err
	}); err != nil {
		return err
	}
	return l.ready(ctx)
}
