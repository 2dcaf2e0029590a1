package cluster

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"embed"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"certbook/lab/binaries"
)

// rootfs is what the nodes have beyond Debian's packages.
//
//go:embed all:rootfs
var rootfs embed.FS

// debian are the packages of a node, beyond the smallest Debian.
var debian = []string{
	"attr", "ca-certificates", "conntrack", "containerd", "containernetworking-plugins", "curl", "dbus", "ebtables",
	"ethtool", "haproxy", "iproute2", "iptables", "kmod", "openssh-client", "openssh-server", "openssl", "procps",
	"runc", "socat", "sudo", "systemd", "systemd-sysv", "util-linux-extra",
}

const suite = "bookworm"

// setup makes a node of the root file system.
const setup = `set -eu
systemctl disable haproxy
rm -f /etc/ssh/ssh_host_* /etc/machine-id /var/lib/dbus/machine-id
touch /etc/machine-id
useradd -m -s /bin/bash -G sudo ops
chmod 440 /etc/sudoers.d/ops
mkdir -p /etc/kubernetes/manifests /opt/cni
ln -sfn /usr/lib/cni /opt/cni/bin
systemctl enable kubelet ssh containerd
systemctl mask systemd-networkd-wait-online systemd-resolved systemd-timesyncd getty.target console-getty
`

// made is what is built once.
type made struct {
	programs []string // directories
	reissue  string   // the kubeadm that issues certificates of any validity
	node     string   // image of a node
	archive  string   // of the control plane's images
}

// prepare builds what the cache and the engine do not have yet.
func (l *Lab) prepare(ctx context.Context) (made, error) {
	var m made
	var err error
	if m.programs, err = binaries.BuildNodes(ctx, l.Version, l.Out); err != nil {
		return m, err
	}
	first := m.programs
	if l.Version != Versions()[0] {
		if first, err = binaries.BuildNodes(ctx, Versions()[0], l.Out); err != nil {
			return m, err
		}
	}
	if m.reissue, err = find(first, "kubeadm"); err != nil {
		return m, err
	}
	if m.node, err = l.nodeImage(ctx); err != nil {
		return m, err
	}
	m.archive, err = l.controlPlane(ctx, m.programs)
	return m, err
}

// nodeImage returns the image of a node.
func (l *Lab) nodeImage(ctx context.Context) (string, error) {
	packages := slices.Clone(debian)
	if l.release().docker {
		packages = append(packages, "docker.io")
	}
	sum := sha256.New()
	fmt.Fprint(sum, packages, suite, setup)
	err := fs.WalkDir(rootfs, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := rootfs.ReadFile(name)
		fmt.Fprintln(sum, name, len(data))
		sum.Write(data)
		return err
	})
	if err != nil {
		return "", err
	}
	image := fmt.Sprintf("%s-node:%x", network, sum.Sum(nil)[:6])
	if _, err := l.docker.run(ctx, nil, "image", "inspect", image); err == nil {
		return image, nil
	}
	cache, err := binaries.Cache()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	root, err := os.MkdirTemp(cache, "rootfs-*")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(root)
	if err := os.Chmod(root, 0o755); err != nil {
		return "", err
	}
	if err := command(ctx, "debootstrap", "--variant=minbase", "--include="+strings.Join(packages, ","), suite, root); err != nil {
		return "", err
	}
	if err := writeRootfs(root); err != nil {
		return "", err
	}
	if err := command(ctx, "chroot", root, "sh", "-c", setup); err != nil {
		return "", err
	}
	archive := exec.CommandContext(ctx, "tar", "-C", root, "-c", ".")
	if err := l.load(ctx, archive, image, `CMD ["/usr/local/sbin/labinit"]`); err != nil {
		return "", err
	}
	l.say("image of the nodes")
	return image, nil
}

// load imports what a command writes as an image.
func (l *Lab) load(ctx context.Context, archive *exec.Cmd, image string, changes ...string) error {
	pipe, err := archive.StdoutPipe()
	if err != nil {
		return err
	}
	if err := archive.Start(); err != nil {
		return err
	}
	args := []string{"import"}
	for _, c := range changes {
		args = append(args, "-c", c)
	}
	if _, err := l.docker.run(ctx, pipe, append(args, "-", image)...); err != nil {
		_ = archive.Process.Kill() // its output is not wanted
		_ = archive.Wait()
		return err
	}
	return archive.Wait()
}

func command(ctx context.Context, argv ...string) error {
	if out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", argv[0], err, tail(string(out)))
	}
	return nil
}

// writeRootfs puts the embedded files below root.
func writeRootfs(root string) error {
	return fs.WalkDir(rootfs, "rootfs", func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := filepath.Join(root, strings.TrimPrefix(name, "rootfs"))
		if e.IsDir() {
			return os.MkdirAll(to, 0o755)
		}
		data, err := rootfs.ReadFile(name)
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		if path.Dir(name) == "rootfs/usr/local/sbin" {
			mode = 0o755
		}
		return os.WriteFile(to, data, mode)
	})
}

// controlPlane returns an archive of the images that kubeadm expects, made of
// the built programs.
func (l *Lab) controlPlane(ctx context.Context, programs []string) (string, error) {
	sum := sha256.Sum256([]byte(strings.Join(programs, "\n")))
	cache, err := binaries.Cache()
	if err != nil {
		return "", err
	}
	archive := filepath.Join(cache, fmt.Sprintf("images-%s-%x.tar", l.Version, sum[:6]))
	if _, err := os.Stat(archive); err == nil {
		return archive, nil
	}
	images := map[string][]string{"pause": {"pause"}, "etcd": {"etcd", "etcdctl"}}
	for _, c := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
		images[c] = []string{c}
	}
	var names []string
	for program, programsOf := range images {
		name := l.Image(program)
		names = append(names, name)
		pipe, write := io.Pipe()
		go func() { write.CloseWithError(imageTar(write, programs, programsOf)) }()
		if _, err := l.docker.run(ctx, pipe, "import", "-c", "ENV PATH=/usr/local/bin", "-c", fmt.Sprintf("ENTRYPOINT [%q]", "/usr/local/bin/"+programsOf[0]), "-", name); err != nil {
			return "", err
		}
	}
	draft := archive + ".draft"
	if _, err := l.docker.run(ctx, nil, append([]string{"save", "-o", draft}, names...)...); err != nil {
		return "", err
	}
	if err := os.Rename(draft, archive); err != nil {
		return "", err
	}
	l.say("images of the control plane")
	return archive, nil
}

// imageTar writes the root file system of an image.
func imageTar(w io.Writer, dirs, programs []string) error {
	out := tar.NewWriter(w)
	for _, d := range []struct {
		name string
		mode int64
	}{{"etc/", 0o755}, {"tmp/", 0o1777}, {"usr/", 0o755}, {"usr/local/", 0o755}, {"usr/local/bin/", 0o755}} {
		if err := out.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: d.name, Mode: d.mode}); err != nil {
			return err
		}
	}
	for _, p := range programs {
		file, err := find(dirs, p)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := out.WriteHeader(&tar.Header{Name: "usr/local/bin/" + p, Mode: 0o755, Size: int64(len(data))}); err != nil {
			return err
		}
		if _, err := out.Write(data); err != nil {
			return err
		}
	}
	return out.Close()
}

// find returns the path of a built program.
func find(dirs []string, program string) (string, error) {
	for _, d := range dirs {
		file := filepath.Join(d, program)
		if _, err := os.Stat(file); err == nil {
			return file, nil
		}
	}
	return "", fmt.Errorf("%s is not among the built programs", program)
}
