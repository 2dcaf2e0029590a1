package actions

import (
	"context"
	"fmt"
	"path"
	"strings"

	"certbook/actions/kube"
	"certbook/engine"
	"certbook/schema"
)

// InstallCerts puts certificates that were signed elsewhere in place.
type InstallCerts struct {
	From   string          `yaml:"from" required:"true" doc:"the directory on the controller with NAME.crt, as given to request-certs"`
	Before schema.Duration `yaml:"before" default:"30d" doc:"install for what ends within this time"`
	Names  []string        `yaml:"names" doc:"only these certificates; all when not given"`
	Force  bool            `yaml:"force" doc:"install also for what is not due"`
	Dir    string          `yaml:"dir" default:"/var/lib/certbook/requests" doc:"the directory on the host with the keys, as given to request-certs"`
	Stash  string          `yaml:"stash" default:"/var/lib/certbook/replaced/${run.id}/install" doc:"a directory on the host that keeps the replaced files"`

	targets  []kube.Found // what Check wants to install, as it was
	replaced stash
	applied  bool
}

// Installation is what InstallCerts did.
type Installation struct {
	Installed []string `expr:"installed" doc:"names of the certificates that were installed and proven" json:"installed"`
}

func installCertsSpec() engine.Spec {
	return engine.Spec{
		New:     func() engine.Action { return &InstallCerts{} },
		Outputs: Installation{},
		Summary: "put certificates that were signed elsewhere in place",
		Doc: `Takes NAME.crt from the controller and the key that request-certs has left on the
host. Each certificate is judged before anything is replaced: a new serial, a
later end, the same subject, names, usages and kind of key as the old one, the
key that waits on this host, a signature by the CA on disk. What is wrong with
any of them is said, and nothing is installed.

Then keys and certificates replace the old ones right after each other, and
kubeconfigs get theirs embedded, on the host. The replaced files are kept in
stash, from where a rollback brings them back. Keys and requests stay in dir until
the next request replaces them.`,
		Example: `- id: install
  action: install-certs
  with: {from: "requests/${host.name}"}`,
	}
}

var _ engine.Reverter = (*InstallCerts)(nil)

// Check implements engine.Action. Before Apply it finds and judges what to
// install; after it it proves what was installed.
func (a *InstallCerts) Check(ctx context.Context, p engine.Probe) (engine.Result, error) {
	if a.applied {
		return a.prove(ctx, p)
	}
	targets, err := elsewhere(ctx, p, a.Before.Std(), a.Names, a.Force)
	if err != nil {
		return engine.Result{}, err
	}
	a.targets = targets
	if err := a.judge(ctx, p); err != nil {
		return engine.Result{}, err
	}
	now, err := p.Now(ctx)
	if err != nil {
		return engine.Result{}, err
	}
	res := engine.Result{Outputs: Installation{}}
	for _, t := range targets {
		_, notAfter := t.Validity()
		res.Changes = append(res.Changes, engine.Change{Subject: t.Name, Path: t.Path, Before: certificate(t),
			From: fmt.Sprintf("%s (%s)", t.State(now, a.Before.Std()), days(now, notAfter)), To: "as in " + exchange(a.From).file(t.Name, ".crt")})
	}
	return res, nil
}

// judge proves that every certificate has come back and is what was asked for.
func (a *InstallCerts) judge(ctx context.Context, p engine.Probe) error {
	if len(a.targets) == 0 {
		return nil
	}
	layout, now, err := surveyNow(ctx, p)
	if err != nil {
		return err
	}
	have, err := readRequests(ctx, p, a.Dir, a.targets)
	if err != nil {
		return err
	}
	found := kube.Inventory(layout, nil)
	var problems, absent []string
	for _, t := range a.targets {
		chain, err := signed(a.From, t.Name)
		switch {
		case err != nil:
			problems = append(problems, fmt.Sprintf("%s: %v", t.Name, err))
			continue
		case len(chain) == 0:
			absent = append(absent, t.Name+".crt")
			continue
		}
		findings := kube.Judge(t.Leaf(), chain[0], chainOf(found, t.CA), have.public[t.Name], now)
		if kube.HasFatal(findings) {
			problems = append(problems, fmt.Sprintf("%s: %s", exchange(a.From).file(t.Name, ".crt"), explain(findings)))
		}
	}
	if len(absent) > 0 {
		problems = append(problems, fmt.Sprintf("not signed yet: %s; sign the requests in %s, put the certificates beside them, and run again", strings.Join(absent, ", "), a.From))
	}
	if len(problems) > 0 {
		return fmt.Errorf("%s", strings.Join(problems, "; "))
	}
	return nil
}

// joinScript puts the certificate $1/$2.crt and the key $1/$2.key together for
// the file $3: a kubeconfig has them embedded, PEM files have both.
const joinScript = `set -eu
umask 077
cd -- "$1"
case $4 in
pem) cat -- "$2.crt" "$2.key" >"$2.new" ;;
kubeconfig)
	for k in client-certificate-data client-key-data; do
		if [ "$(grep -c "^ *$k: " "$3")" != 1 ]; then echo "$3 has not just one line with $k" >&2; exit 1; fi
	done
	for f in crt key; do base64 -w 0 <"$2.$f" >"$2.$f.b64"; echo >>"$2.$f.b64"; done
	awk '
		FNR == 1 { file++ }
		file < 3 { data[file] = $0; next }
		/^ *client-certificate-data: / { sub(/: .*/, ": "); print $0 data[1]; next }
		/^ *client-key-data: / { sub(/: .*/, ": "); print $0 data[2]; next }
		{ print }
	' "$2.crt.b64" "$2.key.b64" "$3" >"$2.new"
	rm -f -- "$2.crt.b64" "$2.key.b64" ;;
esac`

// Apply implements engine.Applier.
func (a *InstallCerts) Apply(ctx context.Context, h engine.Host) error {
	a.replaced.dir = a.Stash
	if err := a.judge(ctx, h); err != nil {
		return err
	}
	var files []engine.Copy
	for _, t := range a.targets {
		data, err := exchange(a.From).read(t.Name, ".crt")
		if err != nil {
			return err
		}
		wait := path.Join(a.Dir, t.Name)
		if err := h.WriteFile(ctx, wait+".crt", data, engine.FileOptions{Mode: 0o600}); err != nil {
			return fmt.Errorf("%s: %w", t.Name, err)
		}
		if t.Kind == kube.KindPKI {
			files = append(files, engine.Copy{Src: wait + ".key", Dst: t.KeyPath}, engine.Copy{Src: wait + ".crt", Dst: t.Path})
			continue
		}
		argv := []string{"sh", "-c", joinScript, "sh", h.Path(a.Dir), t.Name, h.Path(t.Path), string(t.Kind)}
		if _, err := h.Exec(ctx, engine.Command{Argv: argv}); err != nil {
			return fmt.Errorf("%s: %w", t.Name, err)
		}
		files = append(files, engine.Copy{Src: wait + ".new", Dst: t.Path})
	}
	if err := a.replaced.installAll(ctx, h, files); err != nil {
		return err
	}
	a.applied = true
	return nil
}

// prove judges what is on disk now against what was there before.
func (a *InstallCerts) prove(ctx context.Context, p engine.Probe) (engine.Result, error) {
	out := Installation{}
	res := engine.Result{}
	list, err := judgeAll(ctx, p, a.targets, "a proven certificate")
	if err != nil {
		return res, err
	}
	for _, j := range sortOut(list, &res) {
		out.Installed = append(out.Installed, j.name)
	}
	res.Outputs = out
	return res, nil
}

// Revert implements engine.Reverter.
func (a *InstallCerts) Revert(ctx context.Context, h engine.Host) error {
	return a.replaced.revert(ctx, h)
}
