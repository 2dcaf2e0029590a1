package actions

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"certbook/actions/kube"
	"certbook/engine"
)

// CopyFile copies one file.
type CopyFile struct {
	Src    string   `yaml:"src" required:"true" doc:"the file to copy"`
	Dest   string   `yaml:"dest" required:"true" doc:"where it goes; with users, relative to each user's home"`
	From   string   `yaml:"from" default:"host" enum:"host|controller" doc:"where src is"`
	To     string   `yaml:"to" default:"host" enum:"host|controller" doc:"where dest is"`
	Users  []string `yaml:"users" doc:"users of the host whose homes receive the file; it then belongs to them"`
	Owner  string   `yaml:"owner" doc:"user[:group] of dest; otherwise the owner that it has"`
	Mode   string   `yaml:"mode" doc:"octal mode of dest; otherwise the one that it has, 0600 for a new file"`
	Merge  string   `yaml:"merge" enum:"|kubeconfig" doc:"kubeconfig: put only the user entry of src into dest and leave the rest of dest alone"`
	User   string   `yaml:"user" doc:"with merge: the entry's name in dest; otherwise the one whose certificate has the same common name and CA"`
	Create bool     `yaml:"create" default:"true" doc:"whether a dest that does not exist is made; otherwise it is passed over"`
	Save   string   `yaml:"save" default:"/var/lib/certbook/replaced/${run.id}/copy" doc:"a directory on the host that keeps what is replaced"`

	replaced stash
	pushed   map[string]bool     // dests that were written
	cas      []*x509.Certificate // of the cluster
}

func copyFileSpec() engine.Spec {
	return engine.Spec{
		New:     func() engine.Action { return &CopyFile{} },
		Summary: "copy a file on the host, from the controller or to it",
		Doc: `Atomic: the new content is written aside and renamed into place. Owner and mode
stay unless given; what is replaced is kept in save and comes back in a rollback.

With merge: kubeconfig the destination may be a kubeconfig with many clusters:
only the entry of the user in src (its certificate and key) is replaced. The
entry is found by the certificate's common name and CA, because its name may be
used by several clusters. A destination that does not exist becomes a copy.`,
		Example: `- id: kubeconfigs
  action: copy-file
  with:
    src: /etc/kubernetes/admin.conf
    dest: .kube/config
    users: [root, ops]
    merge: kubeconfig`,
	}
}

var (
	_ engine.Reverter  = (*CopyFile)(nil)
	_ engine.Validator = (*CopyFile)(nil)
)

// Validate implements engine.Validator.
func (a *CopyFile) Validate() error {
	if _, err := parseMode(a.Mode); err != nil {
		return fmt.Errorf("mode: %w", err)
	}
	switch {
	case a.From == "controller" && a.To == "controller":
		return errors.New("from and to: one of them must be host")
	case a.From == "host" && !path.IsAbs(a.Src):
		return fmt.Errorf("src: %q is not an absolute path", a.Src)
	case a.Users != nil && (path.IsAbs(a.Dest) || strings.HasPrefix(path.Clean(a.Dest), "..")):
		return fmt.Errorf("dest: %q must be relative to the users' homes", a.Dest)
	case a.Users == nil && a.To == "host" && !path.IsAbs(a.Dest):
		return fmt.Errorf("dest: %q is not an absolute path", a.Dest)
	case a.Merge != "" && a.To == "controller":
		return errors.New("merge: works on the host only")
	case a.To == "controller" && len(a.Users) > 0:
		return errors.New("users: are those of the host")
	case a.User != "" && a.Merge == "":
		return errors.New("user: needs merge: kubeconfig")
	}
	return nil
}

// destination is one place to copy to.
type destination struct {
	path  string
	owner string // "" keeps
	home  string // the user's home, which dest's directories are made below
}

// passwdScript prints name:uid:gid:home of each user, and with a fifth field
// where $2 below that home really lies, when links lead out of the home. $1 is
// the root directory.
const passwdScript = `root=${1%/} dest=$2
shift 2
for u; do
	line=$(getent passwd -- "$u" | cut -d: -f1,3,4,6)
	[ -n "$line" ] || continue
	home=$(readlink -m -- "$root${line##*:}")
	real=$(readlink -m -- "$home/$dest")
	case $real in
	"${home%/}"/*) real= ;;
	*) real=:$real ;;
	esac
	printf '%s%s\n' "$line" "$real"
done`

func (a *CopyFile) destinations(ctx context.Context, p engine.Probe) ([]destination, error) {
	if a.Users == nil {
		return []destination{{path: a.Dest, owner: a.Owner}}, nil
	}
	if len(a.Users) == 0 {
		return nil, nil
	}
	out, err := p.Query(ctx, engine.Command{Argv: append([]string{"sh", "-c", passwdScript, "sh", p.Path("/"), a.Dest}, a.Users...)})
	if err != nil {
		return nil, fmt.Errorf("users: %w", err)
	}
	homes := map[string][]string{}
	for line := range strings.Lines(string(out.Stdout)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 5)
		switch {
		case len(f) == 4 && path.IsAbs(f[3]):
			homes[f[0]] = f
		case len(f) == 5: // root would write where the user may not
			return nil, fmt.Errorf("users: %s leads out of the home of %q, to %s; remove the link", path.Join(f[3], a.Dest), f[0], f[4])
		}
	}
	var list []destination
	for _, u := range a.Users {
		f, ok := homes[u]
		if !ok {
			return nil, fmt.Errorf("users: no user %q on this host", u)
		}
		list = append(list, destination{path: path.Join(f[3], a.Dest), owner: f[1] + ":" + f[2], home: f[3]})
	}
	return list, nil
}

// Check implements engine.Action.
func (a *CopyFile) Check(ctx context.Context, p engine.Probe) (engine.Result, error) {
	if a.To == "controller" {
		return a.checkPull(ctx, p)
	}
	dests, err := a.destinations(ctx, p)
	if err != nil {
		return engine.Result{}, err
	}
	res := engine.Result{}
	src, err := a.source(ctx, p)
	if err != nil {
		return res, err
	}
	for _, d := range dests {
		have, err := one(ctx, p, d.path)
		if err != nil {
			return res, err
		}
		if have == nil && !a.Create {
			continue
		}
		problem, err := a.problem(ctx, p, src, have, d)
		if err != nil {
			return res, fmt.Errorf("%s: %w", d.path, err)
		}
		if problem != "" {
			res.Changes = append(res.Changes, engine.Change{Subject: d.path, Path: d.path, From: problem, To: "as in " + a.Src})
		} else if a.pushed[d.path] {
			res.Done = append(res.Done, engine.Change{Subject: d.path, To: "as in " + a.Src})
		}
	}
	return res, nil
}

// one returns the file at a path, nil when there is none.
func one(ctx context.Context, p engine.Probe, name string) (*engine.File, error) {
	files, err := p.ReadFiles(ctx, name)
	if err != nil || len(files) == 0 {
		return nil, err
	}
	if files[0].Err != "" {
		return nil, fmt.Errorf("%s: %s", name, files[0].Err)
	}
	return &files[0], nil
}

// source is what Check knows of the file to copy.
type source struct {
	file *engine.File // redacted; of the controller's, all of it
	hash string       // not for a merge
}

func (a *CopyFile) source(ctx context.Context, p engine.Probe) (source, error) {
	if a.From == "controller" {
		data, err := readController(a.Src)
		if err != nil {
			return source{}, err
		}
		return source{hash: hashOf(data), file: &engine.File{Path: a.Src, Data: data}}, nil
	}
	f, err := one(ctx, p, a.Src)
	if err != nil {
		return source{}, err
	}
	if f == nil {
		return source{}, fmt.Errorf("src: no file %s on this host", a.Src)
	}
	if a.Merge == "kubeconfig" && a.To != "controller" {
		return source{file: f}, nil
	}
	hash, err := hashOn(ctx, p, a.Src)
	return source{file: f, hash: hash}, err
}

func readController(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("src on the controller: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > engine.MaxFileSize {
		return nil, fmt.Errorf("src on the controller: %s is not a regular file of at most %d bytes", name, engine.MaxFileSize)
	}
	return os.ReadFile(name)
}

func hashOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func hashOn(ctx context.Context, p engine.Probe, name string) (string, error) {
	out, err := p.Query(ctx, engine.Command{Argv: []string{"sha256sum", "--", p.Path(name)}})
	if err != nil {
		return "", err
	}
	hash, _, _ := strings.Cut(strings.TrimPrefix(string(out.Stdout), "\\"), " ")
	if len(hash) != 64 {
		return "", fmt.Errorf("sha256sum %s: not understood: %q", name, out.Stdout)
	}
	return hash, nil
}

// problem says how a destination is not as it should be.
func (a *CopyFile) problem(ctx context.Context, p engine.Probe, src source, have *engine.File, d destination) (string, error) {
	switch {
	case have == nil:
		return "missing", nil
	case src.file.Pending:
		return "older than " + a.Src + " will be", nil
	}
	if mode, _ := parseMode(a.Mode); mode != 0 && have.Mode.Perm() != mode.Perm() {
		return fmt.Sprintf("mode %04o, not %04o", have.Mode.Perm(), mode.Perm()), nil
	}
	if owner, numeric := numericOwner(d.owner); numeric && owner != fmt.Sprintf("%d:%d", have.UID, have.GID) {
		return fmt.Sprintf("owned by %d:%d, not %s", have.UID, have.GID, owner), nil
	}
	if a.Merge == "kubeconfig" {
		return a.mergeProblem(ctx, p, src, have)
	}
	hash, err := hashOn(ctx, p, d.path)
	if err != nil || hash == src.hash {
		return "", err
	}
	return "different", nil
}

func numericOwner(s string) (string, bool) {
	return s, s != "" && strings.Contains(s, ":") && strings.Trim(s, "0123456789:") == ""
}

// mergeProblem compares the certificate and the public key of the user entry;
// both files were read without their private keys.
func (a *CopyFile) mergeProblem(ctx context.Context, p engine.Probe, src source, have *engine.File) (string, error) {
	merged, err := kube.MergeUser(have.Data, src.file.Data, a.mergeOptions(ctx, p))
	if err != nil {
		return "", err
	}
	if !bytes.Equal(merged, have.Data) {
		return "holds another certificate", nil
	}
	return "", nil
}

// mergeOptions names the CAs of the cluster, so that an entry of another
// cluster with the same user name is not taken for this one. No step changes a
// CA: they are read once.
func (a *CopyFile) mergeOptions(ctx context.Context, p engine.Probe) kube.MergeOptions {
	if a.cas == nil {
		layout, err := survey(ctx, p)
		if err != nil {
			return kube.MergeOptions{User: a.User} // then the CA inside src counts
		}
		for _, f := range kube.Inventory(layout, nil) {
			if f.Name == "ca" {
				a.cas = append(a.cas, f.Chain...)
			}
		}
	}
	return kube.MergeOptions{User: a.User, CA: a.cas}
}

// Apply implements engine.Applier.
func (a *CopyFile) Apply(ctx context.Context, h engine.Host) error {
	if a.pushed == nil {
		a.pushed = map[string]bool{}
	}
	a.replaced.dir = a.Save
	if a.To == "controller" {
		return a.pull(ctx, h)
	}
	dests, err := a.destinations(ctx, h)
	if err != nil {
		return err
	}
	src, err := a.source(ctx, h)
	if err != nil {
		return err
	}
	for _, d := range dests {
		have, err := one(ctx, h, d.path)
		if err != nil {
			return err
		}
		if have == nil && !a.Create {
			continue
		}
		problem, err := a.problem(ctx, h, src, have, d)
		if err != nil {
			return fmt.Errorf("%s: %w", d.path, err)
		}
		if problem == "" {
			continue
		}
		if err := a.put(ctx, h, src, have, d); err != nil {
			return fmt.Errorf("%s: %w", d.path, err)
		}
		a.pushed[d.path] = true
	}
	return nil
}

// homeScript makes the directories between home $1 and file $2, owned by $3.
const homeScript = `set -eu
d=$(dirname -- "$2")
[ -d "$d" ] && exit 0
umask 077
mkdir -p -- "$d"
while [ "$d" != "$1" ] && [ "$d" != / ]; do chown -- "$3" "$d"; d=$(dirname -- "$d"); done`

func (a *CopyFile) put(ctx context.Context, h engine.Host, src source, have *engine.File, d destination) error {
	mode, _ := parseMode(a.Mode) // Validate has looked
	opt := engine.FileOptions{Mode: mode, Owner: d.owner}
	if d.home != "" {
		argv := []string{"sh", "-c", homeScript, "sh", h.Path(d.home), h.Path(d.path), d.owner}
		if _, err := h.Exec(ctx, engine.Command{Argv: argv}); err != nil {
			return err
		}
	}
	switch {
	case a.Merge == "kubeconfig" && have != nil:
		full, err := a.sourceBytes(ctx, h)
		if err != nil {
			return err
		}
		into, err := h.ReadSecret(ctx, d.path)
		if err != nil {
			return err
		}
		merged, err := kube.MergeUser(into, full, a.mergeOptions(ctx, h))
		if err != nil {
			return err
		}
		return a.replaced.write(ctx, h, d.path, merged, opt)
	case a.From == "controller":
		data, err := readController(a.Src)
		if err != nil {
			return err
		}
		return a.replaced.write(ctx, h, d.path, data, opt)
	}
	return a.replaced.install(ctx, h, a.Src, d.path, opt)
}

func (a *CopyFile) sourceBytes(ctx context.Context, h engine.Host) ([]byte, error) {
	if a.From == "controller" {
		return readController(a.Src)
	}
	return h.ReadSecret(ctx, a.Src)
}

// checkPull compares a file of the controller with one on the host.
func (a *CopyFile) checkPull(ctx context.Context, p engine.Probe) (engine.Result, error) {
	src, err := a.source(ctx, p)
	if err != nil {
		return engine.Result{}, err
	}
	data, err := os.ReadFile(a.Dest)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return engine.Result{}, fmt.Errorf("dest on the controller: %w", err)
	}
	if err == nil && hashOf(data) == src.hash {
		return engine.Result{}, nil
	}
	from := "different"
	if err != nil {
		from = "missing"
	}
	return engine.Result{Changes: []engine.Change{{Subject: a.Dest + " on the controller", From: from, To: "as in " + a.Src}}}, nil
}

// pull writes the host's file on the controller, atomically, 0600 unless mode
// says otherwise.
func (a *CopyFile) pull(ctx context.Context, h engine.Host) error {
	data, err := h.ReadSecret(ctx, a.Src)
	if err != nil {
		return err
	}
	mode, _ := parseMode(a.Mode)
	if mode == 0 {
		mode = 0o600
	}
	if err := writeController(a.Dest, data, mode); err != nil {
		return fmt.Errorf("dest on the controller: %w", err)
	}
	return nil
}

// Revert implements engine.Reverter. A file that was pulled to the controller
// stays.
func (a *CopyFile) Revert(ctx context.Context, h engine.Host) error { return a.replaced.revert(ctx, h) }
