package actions

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"certbook/actions/kube"
	"certbook/engine"
	"certbook/schema"
)

// kubeadmTimeout bounds one kubeadm command; a black-holed load balancer makes
// it wait for the cluster's configuration.
const kubeadmTimeout = 90 * time.Second

// copyTree copies files from directory $1 to directory $2, which is made anew,
// 0700. They are given by their paths in both, and after -- those that have the
// same path there. kubeadm sees plain files where there are links.
const copyTree = `set -eu
umask 077
root=$1 dest=$2
shift 2
rm -rf -- "$dest"
mkdir -p -- "$dest"
chmod 700 "$dest"
cd -- "$root"
while [ "$1" != -- ]; do
	dir=$dest/${2%/*}
	[ -d "$dir" ] || mkdir -p -- "$dir"
	cp -L -T --preserve=mode,ownership,timestamps -- "$1" "$dest/$2"
	shift 2
done
shift
[ $# = 0 ] || cp -L --parents --preserve=mode,ownership,timestamps -- "$@" "$dest"`

// copyArgv returns the command that makes the copies.
func copyArgv(root, dest string, files [][2]string) []string {
	argv := []string{"sh", "-c", copyTree, "sh", root, dest}
	var same []string
	for _, f := range files {
		if f[0] == f[1] {
			same = append(same, f[0])
		} else {
			argv = append(argv, f[0], f[1])
		}
	}
	return append(append(argv, "--"), same...)
}

// scratchConfig is where a configuration lies inside the scratch directory.
const scratchConfig = "/etc/kubernetes/certbook-kubeadm.yaml"

// networkFiles are what kubeadm needs to reach the API server by name.
var networkFiles = []string{"/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf"}

// basis is what a renewal on copies starts from.
type basis struct {
	layout  kube.Layout
	version kube.Version
	now     time.Time
	network []engine.File
}

// Apply implements engine.Applier: renew on copies, judge, install.
func (a *RenewCerts) Apply(ctx context.Context, h engine.Host) error {
	a.replaced.dir = a.Stash
	var b basis
	err := together(
		func() (err error) { b.version, err = kubeadmVersion(ctx, h); return err },
		func() error {
			err := together(
				func() (err error) { b.layout, b.now, err = surveyNow(ctx, h); return err },
				func() (err error) { b.network, err = h.ReadFiles(ctx, networkFiles...); return err },
			)
			if err != nil {
				return err
			}
			return a.copies(ctx, h, b.layout, b.network)
		},
	)
	if err == nil {
		err = a.onCopies(ctx, h, b)
	}
	if removeErr := a.removeScratch(context.WithoutCancel(ctx), h); err == nil {
		err = removeErr
	}
	if err == nil {
		a.applied = true
	}
	return err
}

func (a *RenewCerts) onCopies(ctx context.Context, h engine.Host, b basis) error {
	config, err := a.chooseConfig(ctx, h, b)
	if err != nil {
		return err
	}
	output, err := a.renewCopies(ctx, h, b, config)
	if err != nil {
		return err
	}
	if output.Fallback && config == nil {
		a.fellBack = true
		if config, err = diskConfig(b.layout, b.version, a.Before); err != nil {
			return fmt.Errorf("the cluster's configuration cannot be read, and none can be made from what is on disk: %w; give one with config", err)
		}
		if err = a.copies(ctx, h, b.layout, b.network); err != nil {
			return err
		}
		if _, err = a.renewCopies(ctx, h, b, config); err != nil {
			return err
		}
	}
	if a.fellBack {
		a.warnings = append(a.warnings, "the cluster's configuration could not be read; kubeadm was given one made from the certificates on disk")
	}
	if err := a.judgeCopies(ctx, h, b.layout); err != nil {
		return err
	}
	return a.installCopies(ctx, h)
}

// chooseConfig returns the configuration to give to kubeadm, nil to let it read
// the cluster's. With an admin.conf that has ended there is no use in asking.
func (a *RenewCerts) chooseConfig(ctx context.Context, h engine.Host, b basis) ([]byte, error) {
	if a.Config != "" {
		files, err := h.ReadFiles(ctx, a.Config)
		switch {
		case err != nil:
			return nil, err
		case len(files) == 0:
			return nil, fmt.Errorf("config: no file %s", a.Config)
		case files[0].Err != "":
			return nil, fmt.Errorf("config: %s: %s", a.Config, files[0].Err)
		}
		return files[0].Data, nil
	}
	admin := find(kube.Inventory(b.layout, nil), "admin.conf")
	if s := admin.State(b.now, 0); s == kube.OK || s == kube.Due {
		return nil, nil
	}
	a.fellBack = true
	config, err := diskConfig(b.layout, b.version, a.Before)
	if err != nil {
		return nil, fmt.Errorf("admin.conf is %s, so the cluster's configuration cannot be read, and none can be made from what is on disk: %w; give one with config", admin.State(b.now, 0), err)
	}
	return config, nil
}

func diskConfig(layout kube.Layout, version kube.Version, before schema.Duration) ([]byte, error) {
	return kube.ClusterConfig(layout, version, kube.Inventory(layout, nil), before.Std())
}

// copies makes fresh copies of what kubeadm reads.
func (a *RenewCerts) copies(ctx context.Context, h engine.Host, layout kube.Layout, network []engine.File) error {
	// To read the cluster's configuration kubeadm asks for the node by the name in
	// the kubelet's certificate, and takes the CRI socket from its files.
	copies := relevant(layout, "/etc/kubernetes/kubelet.conf", layout.Kubelet.ClientPEM,
		"/var/lib/kubelet/config.yaml", "/var/lib/kubelet/instance-config.yaml", "/var/lib/kubelet/kubeadm-flags.env")
	for _, f := range kubeFiles(network) {
		copies = append(copies, fromTo(f))
	}
	if _, err := h.Exec(ctx, engine.Command{Argv: copyArgv(h.Path("/"), h.Path(a.Scratch), copies)}); err != nil {
		return fmt.Errorf("copies in %s: %w", a.Scratch, err)
	}
	return nil
}

// renewCopies lets kubeadm renew the targets in the copies.
func (a *RenewCerts) renewCopies(ctx context.Context, h engine.Host, b basis, config []byte) (kube.RenewOutput, error) {
	opt := kube.RenewOptions{RootFS: h.Path(a.Scratch)}
	if config != nil {
		opt.Config = scratchConfig
		if err := h.WriteFile(ctx, path.Join(a.Scratch, scratchConfig), config, engine.FileOptions{Mode: 0o600}); err != nil {
			return kube.RenewOutput{}, err
		}
	} else if b.layout.CertificatesDir != kube.DefaultCertificatesDir {
		opt.CertDir = b.layout.CertificatesDir
	}
	var all kube.RenewOutput
	for _, name := range a.commands(b.version) {
		output, err := renewOne(ctx, h, b.version, name, opt)
		if err != nil {
			return all, err
		}
		all.Outcomes = append(all.Outcomes, output.Outcomes...)
		all.Fallback = all.Fallback || output.Fallback
		if all.Fallback && config == nil {
			break // it used its defaults: start again with a configuration
		}
	}
	return all, nil
}

// relevant returns the files that kubeadm reads, and others that are there.
func relevant(layout kube.Layout, others ...string) [][2]string {
	var list [][2]string
	seen := map[string]bool{}
	add := func(p string) {
		if f, ok := layout.File(p); ok && !seen[p] {
			seen[p] = true
			list = append(list, fromTo(f))
		}
	}
	for _, c := range layout.Certs() {
		if strings.HasPrefix(c.Name, "kubelet") {
			continue
		}
		add(c.Path)
		add(c.KeyPath)
	}
	add(path.Join(layout.CertificatesDir, "sa.key"))
	add(path.Join(layout.CertificatesDir, "sa.pub"))
	for _, p := range others {
		if f, _ := layout.File(p); f.Err == "" { // kubeadm can do without
			add(p)
		}
	}
	return list
}

// fromTo is where a file's content is and where kubeadm looks for it.
func fromTo(f kube.File) [2]string {
	source := f.Path
	if f.Target != "" {
		source = f.Target
	}
	return [2]string{strings.TrimPrefix(source, "/"), strings.TrimPrefix(f.Path, "/")}
}

// commands returns the names for kubeadm: "all" in one go when everything it
// knows is a target, otherwise one by one.
func (a *RenewCerts) commands(version kube.Version) []string {
	var names []string
	for _, t := range a.targets {
		names = append(names, t.Name)
	}
	for _, n := range version.Names() {
		if n != "super-admin.conf" && !slices.Contains(names, n) {
			return names
		}
	}
	return []string{"all"}
}

func renewOne(ctx context.Context, h engine.Host, version kube.Version, name string, opt kube.RenewOptions) (kube.RenewOutput, error) {
	argv, err := kube.RenewArgv(version, name, opt)
	if err != nil {
		return kube.RenewOutput{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, kubeadmTimeout)
	defer cancel()
	out, err := h.Exec(ctx, engine.Command{Argv: argv})
	var exit *engine.ExitError
	if err != nil && !errors.As(err, &exit) {
		return kube.RenewOutput{}, err
	}
	parsed := kube.ParseRenew(out.Stdout, out.Stderr, out.Code)
	if parsed.NoOp {
		return parsed, fmt.Errorf("%s printed its help and did nothing", strings.Join(argv[:min(4, len(argv))], " "))
	}
	for _, o := range parsed.Outcomes {
		if o.Status == kube.RenewFailed {
			return parsed, fmt.Errorf("kubeadm %s: renew %s: %s", version, name, o.Detail)
		}
	}
	return parsed, nil
}

// judgeCopies proves every new certificate before anything is installed, and
// gives kubeconfigs back what kubeadm takes from them: all but the first CA of
// a bundle.
func (a *RenewCerts) judgeCopies(ctx context.Context, h engine.Host, layout kube.Layout) error {
	var paths, keys []string
	for _, t := range a.targets {
		paths = append(paths, path.Join(a.Scratch, t.Path))
		keys = append(keys, path.Join(a.Scratch, t.KeyPath))
	}
	var files []engine.File
	var public map[string][]byte
	var now time.Time
	err := together(
		func() (err error) { files, err = h.ReadFiles(ctx, paths...); return err },
		func() (err error) { public, err = h.PublicKeys(ctx, keys...); return err },
		func() (err error) { now, err = h.Now(ctx); return err },
	)
	if err != nil {
		return err
	}
	copies := kubeFiles(files)
	for i := range copies {
		copies[i].Path = strings.TrimPrefix(copies[i].Path, a.Scratch)
	}
	after, before := kube.Inventory(layout, copies), kube.Inventory(layout, nil)
	var problems []string
	for _, t := range a.targets {
		findings := kube.Judge(t.Leaf(), find(after, t.Name).Leaf(), chainOf(before, t.CA), public[path.Join(a.Scratch, t.KeyPath)], now)
		if kube.HasFatal(findings) {
			problems = append(problems, fmt.Sprintf("%s: %s", t.Name, explain(findings)))
		}
	}
	if len(problems) > 0 {
		return fmt.Errorf("kubeadm's new certificates are not what they should be, nothing was installed: %s", strings.Join(problems, "; "))
	}
	for _, t := range a.targets {
		if t.Kind == kube.KindKubeconfig {
			if err := keepCluster(ctx, h, layout, t.Path, path.Join(a.Scratch, t.Path), copies, chainOf(before, t.CA)); err != nil {
				return err
			}
		}
	}
	return nil
}

// keepCluster gives the kubeconfig at scratch the CA bundle and server URL of
// the old one at file, where they differ; a bundle that does not have the CA
// which signs now stays behind. All is public, so that the edit can be a sed
// command.
func keepCluster(ctx context.Context, h engine.Host, layout kube.Layout, file, scratch string, copies []kube.File, ca []*x509.Certificate) error {
	old, _ := layout.File(file)
	was, err := kube.ParseKubeconfig(old.Data)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	i := slices.IndexFunc(copies, func(f kube.File) bool { return f.Path == file })
	if i < 0 {
		return fmt.Errorf("%s: kubeadm has not written it", file)
	}
	is, err := kube.ParseKubeconfig(copies[i].Data)
	if err != nil {
		return fmt.Errorf("%s: %w", scratch, err)
	}
	wasCluster, _, err := was.Current()
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	isCluster, _, err := is.Current()
	if err != nil {
		return fmt.Errorf("%s: %w", scratch, err)
	}
	if bundle, err := kube.ParseChain(wasCluster.CAData); err == nil && !slices.ContainsFunc(bundle, ca[0].Equal) {
		wasCluster.CAData = isCluster.CAData
	}
	return setCluster(ctx, h, scratch, isCluster, wasCluster)
}

// setCluster edits server and CA of a kubeconfig as kubeadm writes it, with one
// cluster, on the host.
func setCluster(ctx context.Context, h engine.Host, file string, is, want kube.Cluster) error {
	var script []string
	if string(is.CAData) != string(want.CAData) && len(want.CAData) > 0 {
		script = append(script, "-e", `s|^\( *certificate-authority-data: \).*|\1`+base64.StdEncoding.EncodeToString(want.CAData)+"|")
	}
	if is.Server != want.Server && want.Server != "" {
		if strings.ContainsAny(want.Server, "|\\&\n\r") {
			return fmt.Errorf("%s: server %q cannot be kept", file, want.Server)
		}
		script = append(script, "-e", `s|^\( *server: \).*|\1`+want.Server+"|")
	}
	if script == nil {
		return nil
	}
	argv := append(append([]string{"sed", "-i"}, script...), "--", h.Path(file))
	_, err := h.Exec(ctx, engine.Command{Argv: argv})
	return err
}

// installCopies replaces the old pairs. etcd reads its certificate and key at
// every handshake, so that all of them change together.
func (a *RenewCerts) installCopies(ctx context.Context, h engine.Host) error {
	var files []engine.Copy
	for _, t := range a.targets {
		for _, p := range slices.Compact([]string{t.KeyPath, t.Path}) {
			files = append(files, engine.Copy{Src: path.Join(a.Scratch, p), Dst: p})
		}
	}
	return a.replaced.installAll(ctx, h, files)
}

// removeScratch removes the copies, which hold private keys.
func (a *RenewCerts) removeScratch(ctx context.Context, h engine.Host) error {
	_, err := h.Exec(ctx, engine.Command{Argv: []string{"rm", "-rf", "--", h.Path(a.Scratch)}})
	if err != nil {
		return fmt.Errorf("scratch directory: %w", err)
	}
	return nil
}

// kubeadmVersion asks the host's kubeadm for its version.
func kubeadmVersion(ctx context.Context, p engine.Probe) (kube.Version, error) {
	out, err := p.Query(ctx, engine.Command{Argv: []string{"kubeadm", "version", "-o", "short"}})
	var exit *engine.ExitError
	if errors.As(err, &exit) && exit.Code == 127 {
		return kube.Version{}, fmt.Errorf("there is no kubeadm on this host; install that of the cluster's version: %w", err)
	}
	if err != nil {
		return kube.Version{}, err
	}
	v, err := kube.ParseVersion(string(out.Stdout))
	if err != nil {
		return v, fmt.Errorf("kubeadm version: %w", err)
	}
	return v, v.Supported()
}
