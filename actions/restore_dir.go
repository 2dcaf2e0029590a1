package actions

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"certbook/engine"
)

// RestoreDir brings a directory back to a copy that backup-dir made.
type RestoreDir struct {
	Src  string `yaml:"src" required:"true" doc:"the copy, as in /var/backups/certbook/RUN/etc@kubernetes"`
	Dest string `yaml:"dest" required:"true" doc:"the directory to bring back"`
	Save string `yaml:"save" default:"/var/lib/certbook/replaced/${run.id}/restore" doc:"a directory on the host that keeps what is replaced"`

	replaced stash
}

func restoreDirSpec() engine.Spec {
	return engine.Spec{
		New:     func() engine.Action { return &RestoreDir{} },
		Summary: "bring a directory back to a backup, file by file",
		Doc: `Compares both trees by hash, mode and owner, and replaces what differs,
atomically file by file. Restored files get the present time, so that
restart-container sees that they are newer than the processes. Files that the
backup does not have stay where they are.`,
		Example: `- id: restore
  action: restore-dir
  with: {src: /var/backups/certbook/20261124T041500Z-x7k2/etc@kubernetes, dest: /etc/kubernetes}`,
	}
}

var (
	_ engine.Reverter  = (*RestoreDir)(nil)
	_ engine.Validator = (*RestoreDir)(nil)
)

// Validate implements engine.Validator.
func (a *RestoreDir) Validate() error {
	for name, p := range map[string]string{"src": a.Src, "dest": a.Dest} {
		if !path.IsAbs(p) || path.Clean(p) == "/" {
			return fmt.Errorf("%s: %q is not the absolute path of a directory", name, p)
		}
	}
	return nil
}

// Check implements engine.Action.
func (a *RestoreDir) Check(ctx context.Context, p engine.Probe) (engine.Result, error) {
	there, err := exist(ctx, p, a.Src)
	if err != nil {
		return engine.Result{}, err
	}
	if !there[0] {
		return engine.Result{}, fmt.Errorf("src: no backup %s on this host", a.Src)
	}
	d, err := restorable(ctx, p, a.Src, a.Dest)
	for i := range d {
		d[i].Path = path.Join(a.Dest, d[i].Subject)
	}
	return engine.Result{Changes: d}, err
}

// restorable lists what in dest is not as in the copy src.
func restorable(ctx context.Context, p engine.Probe, src, dest string) ([]engine.Change, error) {
	want, have, err := trees(ctx, p, src, dest)
	if err != nil {
		return nil, err
	}
	return difference(want, have), nil
}

// Apply implements engine.Applier.
func (a *RestoreDir) Apply(ctx context.Context, h engine.Host) error {
	a.replaced.dir = a.Save
	return restoreWith(ctx, h, a.Src, a.Dest, &a.replaced)
}

// Revert implements engine.Reverter.
func (a *RestoreDir) Revert(ctx context.Context, h engine.Host) error {
	return a.replaced.revert(ctx, h)
}

// restore brings dest back to the copy src.
func restore(ctx context.Context, h engine.Host, src, dest string) error {
	return restoreWith(ctx, h, src, dest, nil)
}

func restoreWith(ctx context.Context, h engine.Host, src, dest string, keep *stash) error {
	want, have, err := trees(ctx, h, src, dest)
	if err != nil {
		return err
	}
	changes := difference(want, have)
	slices.SortStableFunc(changes, func(a, b engine.Change) int { // directories before what is in them
		return strings.Count(a.Subject, "/") - strings.Count(b.Subject, "/")
	})
	var together []engine.Copy // keys change with their certificates
	for _, c := range changes {
		want, have := want[c.Subject], have[c.Subject]
		from, to := path.Join(src, c.Subject), path.Join(dest, c.Subject)
		if want.kind == "f" && have.kind == "f" && want.mode == have.mode && want.owner == have.owner {
			together = append(together, engine.Copy{Src: from, Dst: to})
			continue
		}
		if err := restoreNode(ctx, h, want, have, from, to, keep); err != nil {
			return fmt.Errorf("%s: %w", to, err)
		}
	}
	if err := restoreFiles(ctx, h, together, keep); err != nil {
		return err
	}
	if left, err := restorable(ctx, h, src, dest); err != nil || len(left) > 0 {
		if err == nil {
			err = fmt.Errorf("%s differs from the backup after it was restored", path.Join(dest, left[0].Subject))
		}
		return err
	}
	return nil
}

// nodeScript makes directory or link $3 like $2.
const nodeScript = `set -eu
case $1 in
d) mkdir -p -- "$3"; chmod --reference="$2" -- "$3"; chown --reference="$2" -- "$3" ;;
*) rm -f -- "$3.certbook-new"; cp -aT -- "$2" "$3.certbook-new"; mv -T -- "$3.certbook-new" "$3" ;;
esac`

// restoreFiles replaces files whose content alone differs.
func restoreFiles(ctx context.Context, h engine.Host, files []engine.Copy, keep *stash) error {
	if keep == nil {
		return h.InstallAll(ctx, files, engine.FileOptions{})
	}
	return keep.installAll(ctx, h, files)
}

func restoreNode(ctx context.Context, h engine.Host, want, have node, from, to string, keep *stash) error {
	if want.kind != "f" || have.kind != "" && have.kind != "f" {
		_, err := h.Exec(ctx, engine.Command{Argv: []string{"sh", "-c", nodeScript, "sh", want.kind, h.Path(from), h.Path(to)}})
		return err
	}
	mode, err := parseMode(want.mode)
	if err != nil {
		return err
	}
	opt := engine.FileOptions{Mode: mode, Owner: want.owner}
	if keep == nil {
		return h.Install(ctx, from, to, opt)
	}
	return keep.install(ctx, h, from, to, opt)
}
