package cluster

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// boot starts the nodes and the load balancer.
func (l *Lab) boot(ctx context.Context, m made) error {
	if err := l.write(m); err != nil {
		return err
	}
	if _, err := l.docker.run(ctx, nil, "network", "create", "--subnet", subnet, "--label", network, network); err != nil {
		return err
	}
	if _, err := l.docker.run(ctx, nil, "run", "-d", "--name", container("lb"), "--hostname", "lb", "--network", network, "--ip", balancer,
		"--init", "--label", network, "-v", l.Path("nodes")+":/etc/lab:ro", m.node, "haproxy", "-f", "/etc/lab/haproxy.cfg"); err != nil {
		return err
	}
	if err := each(l.all(), func(n Node) error { return l.start(ctx, n, m) }); err != nil {
		return err
	}
	if err := l.hostKeys(ctx); err != nil {
		return err
	}
	l.say("%d nodes and the load balancer", len(l.all()))
	err := each(l.all(), func(n Node) error {
		_, err := l.Run(ctx, n, append(l.release().runtime().load, "/opt/lab/images.tar")...)
		return err
	})
	l.say("images imported")
	return err
}

func container(host string) string { return network + "-" + host }

// start runs a node's container and waits for its services.
func (l *Lab) start(ctx context.Context, n Node, m made) error {
	args := []string{
		"run", "-d", "--name", container(n.Host), "--hostname", n.Host, "--network", network, "--ip", n.Address, "--label", network,
		// All that systemd, containerd and the kubelet need, without --privileged, which
		// asks for capabilities that a machine in a sandbox may lack.
		"--cap-add=ALL", "--cap-drop=SYS_RESOURCE", "--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined",
		"--security-opt", "systempaths=unconfined", "--device-cgroup-rule", "a *:* rwm", "--cgroupns=private",
		"--stop-signal", "SIGRTMIN+3", "--tmpfs", "/run", "--tmpfs", "/tmp", "--volume", "/var", "-e", "container=docker",
		"-v", l.Path("nodes") + ":/etc/lab:ro", "-v", m.archive + ":/opt/lab/images.tar:ro",
	}
	for _, p := range []string{"kubeadm", "kubelet", "kubectl", "etcdctl", "etcdutl", "crictl"} {
		if p == "crictl" && !l.crictl(n) {
			continue
		}
		file, err := find(m.programs, p)
		if err != nil {
			return err
		}
		args = append(args, "-v", file+":/usr/bin/"+p+":ro")
	}
	args = append(args, "-v", m.reissue+":/opt/lab/kubeadm:ro")
	if _, err := l.docker.run(ctx, nil, append(args, m.node)...); err != nil {
		return err
	}
	return l.await(ctx, time.Minute, func(ctx context.Context) error {
		_, err := l.Run(ctx, n, "systemctl", "is-active", "-q", l.release().runtime().service, "ssh")
		return err
	})
}

// hostKeys records the keys that the masters' sshd have made.
func (l *Lab) hostKeys(ctx context.Context) error {
	var known strings.Builder
	for _, n := range l.all() {
		keys, err := l.Shell(ctx, n, "cat /etc/ssh/ssh_host_*_key.pub")
		if err != nil {
			return err
		}
		for line := range strings.Lines(keys) {
			fmt.Fprintf(&known, "%s %s", n.Address, line)
		}
	}
	return os.WriteFile(l.KnownHosts(), []byte(known.String()), 0o644)
}

// crictl reports whether a node has crictl. The others have containerd's own
// ctr only, as kubeadm's packages of late.
func (l *Lab) crictl(n Node) bool { return n.Host == "m1" && !l.release().docker }

// await tries until there is no error.
func (l *Lab) await(ctx context.Context, limit time.Duration, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		attempt, done := context.WithTimeout(ctx, 10*time.Second)
		err := try(attempt)
		done()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not within %s: %w", limit, err)
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// Run runs a command on a node and returns its output.
func (l *Lab) Run(ctx context.Context, n Node, argv ...string) (string, error) {
	return l.Pipe(ctx, n, nil, argv...)
}

// Shell runs a script on a node and returns its output.
func (l *Lab) Shell(ctx context.Context, n Node, script string) (string, error) {
	return l.Pipe(ctx, n, nil, "sh", "-ec", script)
}

// Pipe is Run with standard input.
func (l *Lab) Pipe(ctx context.Context, n Node, stdin io.Reader, argv ...string) (string, error) {
	args := []string{"exec", container(n.Host)}
	if stdin != nil {
		args = []string{"exec", "-i", container(n.Host)}
	}
	out, err := l.docker.run(ctx, stdin, append(args, argv...)...)
	return string(out), err
}

// write makes the lab's files; the nodes see those in nodes as /etc/lab. It
// makes the key to log in with as well.
func (l *Lab) write(m made) error {
	for dir, mode := range map[string]os.FileMode{"ssh": 0o700, "nodes": 0o755} {
		if err := os.MkdirAll(l.Path(dir), mode); err != nil {
			return err
		}
	}
	if _, err := os.Stat(l.KeyFile()); err != nil {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", l.KeyFile()).CombinedOutput(); err != nil {
			return fmt.Errorf("ssh-keygen: %w: %s", err, out)
		}
	}
	public, err := os.ReadFile(l.KeyFile() + ".pub")
	if err != nil {
		return err
	}
	files := map[string]string{
		"nodes/authorized_keys": string(public),
		"nodes/haproxy.cfg":     l.haproxy(),
		"inventory.yaml":        l.inventory(),
		"programs":              strings.Join(m.programs, "\n"),
	}
	for i, n := range l.Nodes {
		if i == 0 {
			files["nodes/kubeadm-"+n.Host+".yaml"] = l.initConfig(n)
		} else {
			files["nodes/kubeadm-"+n.Host+".yaml"] = l.joinConfig(n)
		}
	}
	for name, text := range files {
		if err := os.WriteFile(l.Path(name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return os.RemoveAll(l.Path("lab.json")) // it is not complete now
}

// Program returns the path of one of the lab's programs on this machine.
func (l *Lab) Program(name string) (string, error) {
	text, err := os.ReadFile(l.Path("programs"))
	if err != nil {
		return "", err
	}
	return find(strings.Split(string(text), "\n"), name)
}

// Kubectl runs kubectl on this machine with the cluster's admin.conf, by way
// of the load balancer.
func (l *Lab) Kubectl(ctx context.Context, args ...string) (string, error) {
	program, err := l.Program("kubectl")
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, program, append([]string{"--kubeconfig", l.Path("admin.conf")}, args...)...)
	var out, problem bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problem
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args[:min(3, len(args))], " "), err, tail(problem.String()))
	}
	return out.String(), nil
}

// join makes the cluster with kubeadm.
func (l *Lab) join(ctx context.Context) error {
	for i, n := range l.Nodes {
		argv := []string{"kubeadm", "join", "--config", "/etc/lab/kubeadm-" + n.Host + ".yaml"}
		if i == 0 {
			argv = []string{"kubeadm", "init", "--config", "/etc/lab/kubeadm-" + n.Host + ".yaml", "--upload-certs", "--skip-phases=addon"}
		}
		out, err := l.Run(ctx, n, argv...)
		if writeErr := os.WriteFile(l.Path(filepath.Base("kubeadm-"+n.Host+".log")), []byte(out), 0o644); writeErr != nil {
			return writeErr
		}
		if err != nil {
			return fmt.Errorf("%s: %w", n.Host, err)
		}
		l.say("%s: %s %s", n.Host, argv[0], argv[1])
	}
	return l.ready(ctx)
}

// ready waits until the whole cluster is healthy and takes pods: those need an
// account, which kube-controller-manager makes when it leads.
func (l *Lab) ready(ctx context.Context) error {
	if err := l.admin(ctx); err != nil {
		return err
	}
	if err := l.await(ctx, 3*time.Minute, l.Healthy); err != nil {
		return err
	}
	account := func(ctx context.Context) error {
		_, err := l.Kubectl(ctx, "get", "serviceaccount", "default", "--request-timeout=5s")
		return err
	}
	if err := l.await(ctx, time.Minute, account); err != nil {
		return err
	}
	l.say("all nodes are ready")
	return nil
}

// admin takes admin.conf from the first node that has one.
func (l *Lab) admin(ctx context.Context) error {
	text, err := l.Run(ctx, l.Nodes[0], "cat", "/etc/kubernetes/admin.conf")
	if err != nil {
		return err
	}
	return os.WriteFile(l.Path("admin.conf"), []byte(text), 0o600)
}

// Healthy returns nil when the API answers through the load balancer, every
// API server is ready and so is every node, with all its static pods.
func (l *Lab) Healthy(ctx context.Context) error {
	nodes, err := l.Kubectl(ctx, "get", "nodes", "--no-headers", "--request-timeout=5s")
	if err != nil {
		return err
	}
	if n := strings.Count(nodes, " Ready "); n != len(l.Nodes) {
		return fmt.Errorf("%d of %d nodes are ready:\n%s", n, len(l.Nodes), nodes)
	}
	pods, err := l.Kubectl(ctx, "get", "pods", "-n", "kube-system", "-l", "tier=control-plane", "--no-headers", "--request-timeout=5s")
	if err != nil {
		return err
	}
	want := 4 * len(l.Nodes)
	if l.ExternalEtcd {
		want = 3 * len(l.Nodes)
	}
	if n := strings.Count(pods, " 1/1 "); n != want {
		return fmt.Errorf("%d of %d static pods are ready:\n%s", n, want, pods)
	}
	return each(l.Nodes, func(n Node) error {
		_, err := l.Run(ctx, n, "curl", "-sSfk", "-m", "5", "https://"+n.Address+":6443/readyz")
		return err
	})
}
