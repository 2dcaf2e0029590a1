package kubeadm

import (
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	kubernetesDir = "/etc/kubernetes"
	kubeletDir    = "/var/lib/kubelet"
	configFile    = "/root/kubeadm.yaml"
	kubeletPEM    = kubeletDir + "/pki/kubelet-client-current.pem"
	year          = 365 * 24 * time.Hour
)

// Layout makes the tree of a control-plane node with the phases of the real
// `kubeadm init`: certificates, kubeconfigs, static pod manifests, the
// kubelet's configuration, and a kubelet.conf that points at the kubelet's own
// certificate. It takes one to three seconds, most of it for RSA keys.
//
// It needs root, for kubeadm's --rootfs is a chroot: without it the test is
// skipped, or fails where CI is set.
func Layout(tb testing.TB, opt Options) Tree {
	tb.Helper()
	needRoot(tb)
	opt = opt.withDefaults()
	if opt.Dir == "" {
		opt.Dir = tb.TempDir()
	}
	root, err := filepath.Abs(opt.Dir)
	if err != nil {
		tb.Fatalf("tree: %v", err)
	}
	t := Tree{
		Root: root, Version: opt.Version, Binary: Binary(tb, opt.Version),
		Config: configFile, PKI: opt.CertificatesDir, Node: opt.Node, Address: opt.Address,
	}
	t.write(tb, configFile, []byte(opt.config()), 0o600)
	if opt.Shared != nil {
		t.takeOver(tb, *opt.Shared, opt.ExternalEtcd)
	} else if opt.ExternalEtcd {
		t.makeEtcdCA(tb)
	}
	t.phases(tb, opt)
	if opt.NoSuperAdmin || opt.Shared != nil {
		if err := os.RemoveAll(t.Path(kubernetesDir + "/super-admin.conf")); err != nil {
			tb.Fatalf("tree: %v", err)
		}
	}
	t.setValidity(tb, opt, time.Now())
	return t
}

// phases runs what `kubeadm init` runs before there is a cluster.
func (t Tree) phases(tb testing.TB, opt Options) {
	tb.Helper()
	phases := []string{"certs all", "kubeconfig all", "control-plane all", "etcd local", "kubelet-start"}
	for _, phase := range phases {
		if phase == "etcd local" && opt.ExternalEtcd {
			continue
		}
		t.phase(tb, phase)
	}
	if !opt.KubeletEmbedded {
		t.startRotation(tb)
	}
}

func (t Tree) phase(tb testing.TB, phase string) {
	tb.Helper()
	args := append([]string{"init", "phase"}, strings.Fields(phase)...)
	if out := t.Run(tb, append(args, "--config", t.Config)...); out.Code != 0 {
		tb.Fatalf("kubeadm %s init phase %s: exit status %d\n%s%s", t.Version, phase, out.Code, out.Stdout, out.Stderr)
	}
}

// startRotation does what the kubelet does at its first start: it puts
// certificate and key of kubelet.conf into a file of its own. kubeadm then
// makes kubelet.conf point there.
func (t Tree) startRotation(tb testing.TB) {
	tb.Helper()
	conf := t.read(tb, kubernetesDir+"/kubelet.conf")
	pair := append(embedded(tb, conf, certificateData), embedded(tb, conf, keyData)...)
	stamp := t.Certificate(tb, "kubelet.conf").NotBefore.Format("2006-01-02-15-04-05")
	file := kubeletDir + "/pki/kubelet-client-" + stamp + ".pem"
	t.write(tb, file, pair, 0o600)
	if err := os.Symlink(file, t.Path(kubeletPEM)); err != nil {
		tb.Fatalf("tree: %v", err)
	}
	t.phase(tb, "kubelet-finalize all")
}

// setValidity gives the leaf certificates the validity that was asked for.
func (t Tree) setValidity(tb testing.TB, opt Options, now time.Time) {
	tb.Helper()
	switch {
	case opt.Validity < 0:
		tb.Fatalf("tree: validity %s: use Remaining for expired certificates", opt.Validity)
	case opt.Remaining != 0:
		end := now.Add(opt.Remaining)
		Reissue(tb, t, t.reissuable(), end.Add(-year), end)
	case opt.Validity > 0 && !knowsValidity(opt.Version):
		Reissue(tb, t, t.reissuable(), now.Add(-time.Minute), now.Add(opt.Validity))
	}
}

// takeOver copies what all control-plane nodes of a cluster have in common.
func (t Tree) takeOver(tb testing.TB, from Tree, externalEtcd bool) {
	tb.Helper()
	names := []string{"ca.crt", "ca.key", "front-proxy-ca.crt", "front-proxy-ca.key", "sa.key", "sa.pub", "etcd/ca.crt"}
	if externalEtcd {
		names = append(names, "apiserver-etcd-client.crt", "apiserver-etcd-client.key")
	} else {
		names = append(names, "etcd/ca.key")
	}
	for _, name := range names {
		mode := os.FileMode(0o600)
		if path.Ext(name) == ".crt" {
			mode = 0o644
		}
		t.write(tb, path.Join(t.PKI, name), from.read(tb, path.Join(from.PKI, name)), mode)
	}
}

// needRoot skips the test when it cannot work, and says why.
func needRoot(tb testing.TB) {
	tb.Helper()
	if os.Geteuid() == 0 {
		return
	}
	const why = "real kubeadm makes its trees in a chroot, which only root may do: run this test as root"
	if os.Getenv("CI") != "" {
		tb.Fatal(why)
	}
	tb.Skip(why)
}

// read returns the content of a file of the node.
func (t Tree) read(tb testing.TB, name string) []byte {
	tb.Helper()
	data, err := os.ReadFile(t.Path(name))
	if err != nil {
		tb.Fatalf("tree: %v", err)
	}
	return data
}

// write makes a file of the node, with its parent directories, or changes the
// content of one that is there, which keeps its mode.
func (t Tree) write(tb testing.TB, name string, data []byte, mode os.FileMode) {
	tb.Helper()
	if err := os.MkdirAll(filepath.Dir(t.Path(name)), 0o755); err != nil {
		tb.Fatalf("tree: %v", err)
	}
	if err := os.WriteFile(t.Path(name), data, mode); err != nil {
		tb.Fatalf("tree: %v", err)
	}
}
