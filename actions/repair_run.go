package actions

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"certbook/engine"
)

// RepairRun mends what a run that was cut off has left behind.
type RepairRun struct {
	Run string `yaml:"run" required:"true" doc:"the id of the run"`
}

func repairRunSpec() engine.Spec {
	return engine.Spec{
		New:     func() engine.Action { return &RepairRun{} },
		Summary: "mend what a run that was cut off has left behind",
		Doc: `After a crash of the controller, a lost connection or a loss of power on the host
this puts right what no other step would: a manifest that was moved out goes back
to its place; files that are replaced together, of which only some were (a key
without its certificate), are brought back to their old versions; scratch
directories, which hold private keys, and half-written files are removed.

certbook resume does this first, and then goes on.`,
		Example: `- id: repair
  action: repair-run
  with: {run: 20261124T041500Z-0a1b2c}`,
	}
}

var (
	_ engine.Preparer  = (*RepairRun)(nil)
	_ engine.Validator = (*RepairRun)(nil)
)

// Prepares implements engine.Preparer: a host that was repaired is as it was
// before the step that was cut off.
func (a *RepairRun) Prepares() {}

// Validate implements engine.Validator.
func (a *RepairRun) Validate() error { return validRun(a.Run) }

// Check implements engine.Action.
func (a *RepairRun) Check(ctx context.Context, p engine.Probe) (engine.Result, error) {
	left, err := findLeftovers(ctx, p, a.Run)
	if err != nil {
		return engine.Result{}, err
	}
	return engine.Result{Changes: left.changes()}, nil
}

// Apply implements engine.Applier.
func (a *RepairRun) Apply(ctx context.Context, h engine.Host) error {
	left, err := findLeftovers(ctx, h, a.Run)
	if err != nil {
		return err
	}
	return left.repair(ctx, h)
}

// leftovers are what a run that was cut off has left on a host.
type leftovers struct {
	run    string
	parked []string       // manifests
	torn   []replacedFile // files of batches that were replaced in part
	trash  []string       // scratch directories and half-written files
}

// trashScript prints the scratch directory $1 if it is there, and the files
// that were being written in the directories that follow.
const trashScript = `if [ -e "$1" ]; then echo "$1"; fi
shift
for d; do
	for f in "$d"/.certbook.??????????* "$d"/*.certbook-new; do
		if [ -e "$f" ] || [ -L "$f" ]; then echo "$f"; fi
	done
done`

// written are the directories in which Certbook replaces files.
var written = []string{"/etc/kubernetes", "/etc/kubernetes/manifests", "/var/lib/kubelet/pki", "/var/lib/certbook/requests"}

func findLeftovers(ctx context.Context, p engine.Probe, run string) (leftovers, error) {
	l := leftovers{run: run}
	parked, err := p.ReadFiles(ctx, path.Join(parkedRoot, run, "*"))
	if err != nil {
		return l, err
	}
	for _, f := range parked {
		l.parked = append(l.parked, f.Path)
	}
	files, err := readReplaced(ctx, p, run)
	if err != nil {
		return l, err
	}
	l.torn = torn(files)
	layout, err := survey(ctx, p)
	if err != nil {
		return l, err
	}
	dirs := append(slices.Clone(written), layout.CertificatesDir, path.Join(layout.CertificatesDir, "etcd"), layout.ManifestsDir)
	for _, f := range files {
		dirs = append(dirs, path.Dir(f.path))
	}
	slices.Sort(dirs)
	argv := []string{"sh", "-c", trashScript, "sh", p.Path(path.Join("/run/certbook", run))}
	for _, d := range slices.Compact(dirs) {
		argv = append(argv, p.Path(d))
	}
	out, err := p.Query(ctx, engine.Command{Argv: argv})
	if err != nil {
		return l, err
	}
	for line := range strings.Lines(string(out.Stdout)) {
		l.trash = append(l.trash, strings.TrimSuffix(line, "\n"))
	}
	return l, nil
}

// torn returns the files of each batch of which some are new and some old.
func torn(files []replacedFile) []replacedFile {
	var list []replacedFile
	for _, f := range files {
		halves := [2]bool{}
		for _, other := range files {
			if other.last.time.Equal(f.last.time) && other.last.was != other.new {
				halves[0] = halves[0] || other.is == other.new
				halves[1] = halves[1] || other.is == other.last.was
			}
		}
		if halves[0] && halves[1] {
			list = append(list, f)
		}
	}
	return list
}

func (l leftovers) changes() []engine.Change {
	var list []engine.Change
	for _, p := range l.parked {
		list = append(list, engine.Change{Subject: p, From: "moved out by run " + l.run, To: "moved back"})
	}
	for _, f := range l.torn {
		if f.is != f.last.was {
			list = append(list, engine.Change{Subject: f.path, Path: f.path, From: "replaced without what belongs to it", To: "as before"})
		}
	}
	for _, t := range l.trash {
		list = append(list, engine.Change{Subject: t, From: "left behind", To: "removed"})
	}
	return list
}

// repair mends it all.
func (l leftovers) repair(ctx context.Context, h engine.Host) error {
	var errs []error
	for _, p := range l.parked {
		home, err := homeOf(p)
		if err == nil {
			err = moveBack(ctx, h, p, home)
		}
		errs = append(errs, err)
	}
	var files []engine.Copy
	for _, f := range l.torn {
		switch {
		case f.is == f.last.was:
		case f.last.was == "-":
			_, err := h.Exec(ctx, engine.Command{Argv: []string{"rm", "-f", "--", h.Path(f.path)}})
			errs = append(errs, err)
		default:
			files = append(files, engine.Copy{Src: f.last.saved, Dst: f.path})
		}
	}
	errs = append(errs, h.InstallAll(ctx, files, engine.FileOptions{}))
	if len(l.trash) > 0 {
		_, err := h.Exec(ctx, engine.Command{Argv: append([]string{"rm", "-rf", "--"}, l.trash...)})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// homeOf returns where a parked manifest belongs; its name says it.
func homeOf(parked string) (string, error) {
	name := path.Base(parked)
	home := "/" + strings.ReplaceAll(name, "@", "/")
	if !strings.Contains(name, "@") || path.Clean(home) != home {
		return "", fmt.Errorf("%s: its name does not say where it belongs", parked)
	}
	return home, nil
}
