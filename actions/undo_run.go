package actions

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"certbook/actions/kube"
	"certbook/engine"
)

// UndoRun brings back the files that a run has replaced.
type UndoRun struct {
	Run    string            `yaml:"run" required:"true" doc:"the id of the run"`
	Force  bool              `yaml:"force" doc:"bring back also certificates that have ended, and over files that others have changed since"`
	Hashes map[string]string `yaml:"hashes" doc:"what the run's log says: file to the SHA-256 that it had before; certbook rollback fills it in"`
	Save   string            `yaml:"save" default:"/var/lib/certbook/replaced/${run.id}/undo" doc:"a directory on the host that keeps what is replaced"`

	replaced stash
}

func undoRunSpec() engine.Spec {
	return engine.Spec{
		New:     func() engine.Action { return &UndoRun{} },
		Summary: "bring back the files that a run has replaced",
		Doc: `Every file that a run has replaced lies with its hash below
/var/lib/certbook/replaced/RUN on its host. This proves that each of them is what
it was (by the list there, and by the hashes in the run's audit log), and puts
them back, keys together with their certificates; files that the run made are
removed. What is replaced now is kept in the same way, so that this can be undone
as well.

It refuses to bring back certificates that have ended in the meantime, and to
write over what others have changed since, unless forced; and, even then, what is
not as it was saved. It first repairs what a run that was cut off has left behind,
as repair-run does. Processes that hold the newer certificates must be restarted
afterwards.`,
		Example: `- id: undo
  action: undo-run
  with: {run: 20261124T041500Z-0a1b2c}`,
	}
}

var (
	_ engine.Reverter  = (*UndoRun)(nil)
	_ engine.Validator = (*UndoRun)(nil)
)

// Validate implements engine.Validator.
func (a *UndoRun) Validate() error { return validRun(a.Run) }

func validRun(run string) error {
	if run == "" || strings.HasPrefix(run, ".") || strings.ContainsAny(run, "/ \t\n*?[\\") {
		return fmt.Errorf("run: %q is not the id of a run", run)
	}
	return nil
}

// Check implements engine.Action.
func (a *UndoRun) Check(ctx context.Context, p engine.Probe) (engine.Result, error) {
	left, err := findLeftovers(ctx, p, a.Run)
	if err != nil {
		return engine.Result{}, err
	}
	files, err := readReplaced(ctx, p, a.Run)
	if err != nil {
		return engine.Result{}, err
	}
	if len(files) == 0 && len(a.Hashes) > 0 {
		return engine.Result{}, fmt.Errorf("nothing is kept in %s any more (the last %d runs' files are), so that the run cannot be undone", path.Join(replacedRoot, a.Run), keepReplaced)
	}
	if err := a.judge(ctx, p, files); err != nil {
		return engine.Result{}, err
	}
	res := engine.Result{Changes: left.changes()}
	for _, f := range files {
		if !f.back() {
			to := "as before the run"
			if f.old == "-" {
				to = "removed, as before the run"
			}
			res.Changes = append(res.Changes, engine.Change{Subject: f.path, Path: f.path, From: "as the run left it", To: to})
		} else if a.replaced.dir != "" {
			res.Done = append(res.Done, engine.Change{Subject: f.path, To: "as before the run", After: map[string]string{"sha256": f.old}})
		}
	}
	return res, nil
}

// judge proves that the old versions are what they were, and that they may be
// brought back.
func (a *UndoRun) judge(ctx context.Context, p engine.Probe, files []replacedFile) error {
	now, err := p.Now(ctx)
	if err != nil {
		return err
	}
	var problems []string
	var saved []string
	for _, f := range files {
		logged, known := a.Hashes[f.path]
		switch {
		case f.back():
			continue
		case known && logged != f.old:
			problems = append(problems, fmt.Sprintf("%s: the list of old versions does not agree with the run's log", f.path))
		case f.old != "-" && f.old != "link" && f.kept != f.old:
			problems = append(problems, fmt.Sprintf("%s: its old version %s is not what it was", f.path, f.saved))
		case f.old == "link" && !strings.HasPrefix(f.kept, "link "):
			problems = append(problems, fmt.Sprintf("%s: its old version %s is no link", f.path, f.saved))
		case f.is != f.new && f.new != "link" && !a.Force:
			problems = append(problems, fmt.Sprintf("%s was changed since the run; give --force to bring back the old version all the same", f.path))
		}
		if f.old != "-" && f.old != "link" {
			saved = append(saved, f.saved)
		}
	}
	if !a.Force && len(saved) > 0 {
		ended, err := endedAmong(ctx, p, saved, now)
		if err != nil {
			return err
		}
		for _, e := range ended {
			problems = append(problems, e+"; give --force to bring it back all the same")
		}
	}
	if len(problems) > 0 {
		return errors.New(strings.Join(problems, "; "))
	}
	return nil
}

// endedAmong names those of saved files that hold a certificate which has
// ended.
func endedAmong(ctx context.Context, p engine.Probe, saved []string, now time.Time) ([]string, error) {
	files, err := p.ReadFiles(ctx, saved...)
	if err != nil {
		return nil, err
	}
	var list []string
	for _, f := range files {
		chain, err := kube.ParseChain(f.Data)
		if err != nil {
			conf, confErr := kube.ParseKubeconfig(f.Data)
			if confErr != nil {
				continue // a key, or no certificate at all
			}
			_, user, confErr := conf.Current()
			if confErr != nil {
				continue
			}
			if chain, err = kube.ParseChain(user.CertData); err != nil {
				continue
			}
		}
		if end := chain[0].NotAfter; now.After(end) {
			list = append(list, fmt.Sprintf("%s holds a certificate that has ended %s ago", f.Path, kube.Span(now.Sub(end))))
		}
	}
	return list, nil
}

// Apply implements engine.Applier.
func (a *UndoRun) Apply(ctx context.Context, h engine.Host) error {
	a.replaced.dir = a.Save
	left, err := findLeftovers(ctx, h, a.Run)
	if err != nil {
		return err
	}
	if err := left.repair(ctx, h); err != nil {
		return err
	}
	files, err := readReplaced(ctx, h, a.Run)
	if err != nil {
		return err
	}
	if err := a.judge(ctx, h, files); err != nil {
		return err
	}
	if err := a.replaced.prepare(ctx, h); err != nil {
		return err
	}
	return bringBack(ctx, h, files, &a.replaced)
}

// Revert implements engine.Reverter: it undoes what this run has undone.
func (a *UndoRun) Revert(ctx context.Context, h engine.Host) error {
	own := path.Base(path.Dir(a.Save))
	files, err := readReplaced(ctx, h, own)
	if err != nil {
		return err
	}
	keep := &stash{dir: path.Join(path.Dir(a.Save), "undone")}
	return bringBack(ctx, h, files, keep)
}
