package actions

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"certbook/actions/kube"
	"certbook/engine"
)

// generate lets kubeadm write a kubeconfig aside, proves it, and puts it in
// place.
func (a *GenKubeconfig) generate(ctx context.Context, h engine.Host, layout kube.Layout, version kube.Version, e existing, id identity) error {
	fresh := path.Join(a.Scratch, "kubeconfig")
	if err := a.scratch(ctx, h, layout); err != nil {
		return err
	}
	config := ""
	if version.AtLeast(20) {
		data, err := a.configuration(ctx, h, layout, version)
		if err != nil {
			return err
		}
		config = scratchConfig
		if err := h.WriteFile(ctx, path.Join(a.Scratch, scratchConfig), data, engine.FileOptions{Mode: 0o600}); err != nil {
			return err
		}
	}
	argv, err := kube.KubeconfigUserArgv(version, id.name, id.organizations, config)
	if err != nil {
		return err
	}
	argv = append(argv, "--rootfs="+h.Path(a.Scratch))
	if !version.AtLeast(20) {
		argv = append(argv, "--cert-dir="+layout.CertificatesDir)
		if api, ok := layout.Pods.Component(kube.APIServer); ok && api.Args.Value("advertise-address") != "" {
			argv = append(argv, "--apiserver-advertise-address="+api.Args.Value("advertise-address"))
		}
	}
	cmdCtx, cancel := context.WithTimeout(ctx, kubeadmTimeout)
	defer cancel()
	if _, err := h.Exec(cmdCtx, engine.Command{Argv: argv, Stdout: fresh}); err != nil {
		return err
	}
	if err := a.accept(ctx, h, layout, fresh, e, id); err != nil {
		return fmt.Errorf("kubeadm's new kubeconfig is not what it should be, nothing was replaced: %w", err)
	}
	if a.Name == "kubelet" && a.Rotate {
		return a.installRotating(ctx, h, layout, fresh)
	}
	return a.replaced.install(ctx, h, fresh, a.path(), engine.FileOptions{})
}

// scratch makes the scratch directory with copies of the CA, which is what
// kubeadm needs.
func (a *GenKubeconfig) scratch(ctx context.Context, h engine.Host, layout kube.Layout) error {
	files := relevant(layout)
	argv := copyArgv(h.Path("/"), h.Path(a.Scratch), files)
	if _, err := h.Exec(ctx, engine.Command{Argv: argv}); err != nil {
		return fmt.Errorf("copies in %s: %w", a.Scratch, err)
	}
	return nil
}

func (a *GenKubeconfig) configuration(ctx context.Context, h engine.Host, layout kube.Layout, version kube.Version) ([]byte, error) {
	if a.Config == "" {
		data, err := diskConfig(layout, version, a.Before)
		if err != nil {
			return nil, fmt.Errorf("no configuration for kubeadm can be made from what is on disk: %w; give one with config", err)
		}
		return data, nil
	}
	f, err := one(ctx, h, a.Config)
	if err != nil {
		return nil, err
	}
	if f == nil {
		return nil, fmt.Errorf("config: no file %s", a.Config)
	}
	return f.Data, nil
}

// accept proves the generated file and gives it the old one's server and CA.
func (a *GenKubeconfig) accept(ctx context.Context, h engine.Host, layout kube.Layout, fresh string, e existing, id identity) error {
	f, err := one(ctx, h, fresh)
	if err != nil {
		return err
	}
	if f == nil {
		return fmt.Errorf("kubeadm wrote nothing")
	}
	config, err := kube.ParseKubeconfig(f.Data)
	if err != nil {
		return err
	}
	cluster, user, err := config.Current()
	if err != nil {
		return err
	}
	leaf, err := user.Leaf()
	if err != nil {
		return err
	}
	if leaf.Subject.CommonName != id.name || !sameSet(leaf.Subject.Organization, id.organizations) {
		return fmt.Errorf("it is for %s, not for %s of %s", kube.Subject(leaf), id.name, strings.Join(id.organizations, ", "))
	}
	public, err := h.PublicKeys(ctx, fresh)
	if err != nil {
		return err
	}
	now, err := h.Now(ctx)
	if err != nil {
		return err
	}
	findings := kube.Judge(nil, leaf, chainOf(kube.Inventory(layout, nil), "ca"), public[fresh], now)
	if kube.HasFatal(findings) {
		return fmt.Errorf("%s", explain(findings))
	}
	return setCluster(ctx, h, fresh, cluster, a.keep(layout, e, cluster))
}

// keep returns the cluster as it should be: the old file's, or for a new file
// the server of another kubeconfig on this host.
func (a *GenKubeconfig) keep(layout kube.Layout, e existing, made kube.Cluster) kube.Cluster {
	want := made
	if len(e.cluster.CAData) > 0 {
		want.CAData = e.cluster.CAData
	}
	switch {
	case e.cluster.Server != "":
		want.Server = e.cluster.Server
	case a.Server != "":
		want.Server = a.Server
	default:
		for _, f := range []string{layout.Kubelet.Kubeconfig, path.Join(kube.ConfigDir, "admin.conf")} {
			if s := layout.Servers[f]; s != "" {
				want.Server = s
				break
			}
		}
	}
	return want
}

func sameSet(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// repoint lets a kubelet.conf that embeds its certificate point at the pem that
// kubelet rotates, when that is good.
func (a *GenKubeconfig) repoint(ctx context.Context, h engine.Host, layout kube.Layout) (bool, error) {
	if !layout.Kubelet.Embedded {
		return false, nil
	}
	now, err := h.Now(ctx)
	if err != nil {
		return false, err
	}
	found := kube.Inventory(layout, nil)
	pem := find(found, "kubelet-client")
	if pem.State(now, a.Before.Std()) != kube.OK || kube.SignedBy(pem.Leaf(), chainOf(found, "ca")) == nil ||
		pem.Leaf().Subject.CommonName != "system:node:"+layout.Node.Name {
		return false, nil
	}
	public, err := h.PublicKeys(ctx, pem.Path)
	if err != nil || string(public[pem.Path]) != string(pem.Leaf().RawSubjectPublicKeyInfo) {
		return false, err
	}
	return true, a.point(ctx, h, layout)
}

// point rewrites kubelet.conf without its embedded certificate and key, of
// which the redacted view therefore holds all that stays.
func (a *GenKubeconfig) point(ctx context.Context, h engine.Host, layout kube.Layout) error {
	f, err := one(ctx, h, a.path())
	if err != nil {
		return err
	}
	if f == nil {
		return fmt.Errorf("no file %s", a.path())
	}
	data, err := kube.PointToPEM(f.Data, layout.Kubelet.ClientPEM)
	if err != nil {
		return err
	}
	return a.replaced.write(ctx, h, a.path(), data, engine.FileOptions{})
}

// pemScript writes the certificate and key of kubeconfig $1 to the new file $2,
// on the host, notes it in list $4 as $5, and lets the link $3 lead to it.
const pemScript = `set -eu
mkdir -p -- "$(dirname -- "$2")"
umask 077
mkdir -p -- "$(dirname -- "$4")"
value() { sed -n "s/^ *$1: //p" "$2" | head -n 1; }
{ value client-certificate-data "$1" | base64 -d; value client-key-data "$1" | base64 -d; } >"$2"
sync -- "$2"
sum=$(sha256sum <"$2")
printf '%s\t-\t%s\t%s\n' "$(date +%s%N)" "${sum%% *}" "$5" >>"$4"
ln -s -- "$(basename -- "$2")" "$3.certbook-new"
mv -T -- "$3.certbook-new" "$3"`

// installRotating puts the new certificate and key where kubelet rotates them
// and lets kubelet.conf point there.
func (a *GenKubeconfig) installRotating(ctx context.Context, h engine.Host, layout kube.Layout, fresh string) error {
	now, err := h.Now(ctx)
	if err != nil {
		return err
	}
	link := layout.Kubelet.ClientPEM
	pem := path.Join(path.Dir(link), "kubelet-client-"+now.UTC().Format("2006-01-02-15-04-05")+".pem")
	if err := a.keepLink(ctx, h, link); err != nil {
		return err
	}
	a.link = link
	if _, err := h.Exec(ctx, engine.Command{Argv: []string{"sh", "-c", pemScript, "sh", h.Path(fresh), h.Path(pem), h.Path(link),
		h.Path(path.Join(a.Stash, engine.ReplacedList)), pem}}); err != nil {
		return err
	}
	a.replaced.fresh = append(a.replaced.fresh, pem)
	files, err := h.ReadFiles(ctx, pem)
	if err != nil || len(files) == 0 {
		return fmt.Errorf("%s: was not written: %v", pem, err)
	}
	if _, err := kube.ParseChain(files[0].Data); err != nil {
		return fmt.Errorf("%s: %w", pem, err)
	}
	if err := a.replaced.install(ctx, h, fresh, a.path(), engine.FileOptions{}); err != nil {
		return err
	}
	return a.point(ctx, h, layout)
}

// keepLink copies the link itself into the stash, and lists that it will be
// another one: the file that it leads to stays where it is.
func (a *GenKubeconfig) keepLink(ctx context.Context, h engine.Host, link string) error {
	const script = `set -eu
umask 077
mkdir -p -- "$(dirname -- "$2")" "$(dirname -- "$3")"
list=$3 name=$4
note() { printf '%s\t%s\tlink\t%s\n' "$(date +%s%N)" "$1" "$name" >>"$list"; }
if [ ! -L "$1" ] && [ ! -e "$1" ]; then
	note -
elif [ ! -L "$2" ] && [ ! -e "$2" ]; then
	cp -aT -- "$1" "$2"
	if [ -L "$1" ]; then note link; else sum=$(sha256sum <"$1"); note "${sum%% *}"; fi
fi`
	argv := []string{"sh", "-c", script, "sh", h.Path(link), h.Path(path.Join(a.Stash, link)), h.Path(path.Join(a.Stash, engine.ReplacedList)), link}
	_, err := h.Exec(ctx, engine.Command{Argv: argv})
	return err
}

// relinkScript brings back the link $2 from its copy $1; without a copy there
// was none.
const relinkScript = `set -eu
if [ -L "$1" ] || [ -e "$1" ]; then
  rm -rf -- "$2.certbook-new"
  cp -aT -- "$1" "$2.certbook-new"
  mv -T -- "$2.certbook-new" "$2"
else
  rm -f -- "$2"
fi`
