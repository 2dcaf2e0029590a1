package actions

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"certbook/engine"
)

// stash remembers which files a step has replaced. Their old versions lie in
// dir on the host, under their full paths.
type stash struct {
	dir   string
	paths []string // in the order of replacement
	fresh []string // files that were not there before
	was   map[string]engine.File
}

// install puts src in place of dst and keeps the old dst.
func (s *stash) install(ctx context.Context, h engine.Host, src, dst string, opt engine.FileOptions) error {
	if err := s.note(ctx, h, dst); err != nil {
		return err
	}
	opt.Save = s.dir
	return h.Install(ctx, src, dst, opt)
}

// installAll puts files in place of others, all at once, and keeps the old ones.
func (s *stash) installAll(ctx context.Context, h engine.Host, files []engine.Copy) error {
	var dsts []string
	for _, f := range files {
		dsts = append(dsts, f.Dst)
	}
	if err := s.note(ctx, h, dsts...); err != nil {
		return err
	}
	return h.InstallAll(ctx, files, engine.FileOptions{Save: s.dir})
}

// write puts data in place of dst and keeps the old dst.
func (s *stash) write(ctx context.Context, h engine.Host, dst string, data []byte, opt engine.FileOptions) error {
	if err := s.note(ctx, h, dst); err != nil {
		return err
	}
	opt.Save = s.dir
	return h.WriteFile(ctx, dst, data, opt)
}

// note finds out which of the files are there, before they are replaced.
func (s *stash) note(ctx context.Context, h engine.Host, files ...string) error {
	files = slices.DeleteFunc(slices.Clone(files), func(f string) bool {
		return slices.Contains(s.paths, f) || slices.Contains(s.fresh, f)
	})
	if len(files) == 0 {
		return nil
	}
	var have []engine.File
	err := together(
		func() error {
			if len(s.paths)+len(s.fresh) > 0 {
				return nil
			}
			return s.prepare(ctx, h)
		},
		func() (err error) { have, err = h.ReadFiles(ctx, files...); return err },
	)
	if err != nil {
		return err
	}
	for _, f := range files {
		if i := slices.IndexFunc(have, func(h engine.File) bool { return h.Path == f }); i >= 0 {
			s.paths = append(s.paths, f)
			if s.was == nil {
				s.was = map[string]engine.File{}
			}
			s.was[f] = have[i]
		} else {
			s.fresh = append(s.fresh, f)
		}
	}
	return nil
}

// keepReplaced is how many runs' replaced files stay on a host: they hold old
// private keys.
const keepReplaced = 10

// prepare marks the run's directory, the one above dir, and removes those of
// the oldest runs beside it.
func (s *stash) prepare(ctx context.Context, h engine.Host) error {
	const script = `set -eu
umask 077
mkdir -p -- "$1"
: >"$1/` + marker + `"
`
	run := path.Dir(s.dir)
	argv := []string{"sh", "-c", script + pruneScript, "sh", h.Path(run), strconv.Itoa(keepReplaced)}
	if _, err := h.Exec(ctx, engine.Command{Argv: argv}); err != nil {
		return fmt.Errorf("directory for replaced files: %w", err)
	}
	return nil
}

// revert puts back what was replaced, all at once where that can be, and removes
// what was new. One file that cannot be put back does not keep the others from it.
func (s *stash) revert(ctx context.Context, h engine.Host) error {
	changed, err := s.changed(ctx, h)
	errs := []error{err}
	var together []engine.Copy
	for _, c := range changed {
		if c.sameAttributes {
			together = append(together, engine.Copy{Src: c.saved.Path, Dst: c.path})
		}
	}
	if h.InstallAll(ctx, together, engine.FileOptions{}) != nil {
		together = nil // one by one, to restore what can be
	}
	for _, c := range slices.Backward(changed) {
		if c.sameAttributes && together != nil {
			continue
		}
		opt := engine.FileOptions{Mode: c.saved.Mode, Owner: fmt.Sprintf("%d:%d", c.saved.UID, c.saved.GID)}
		if err := h.Install(ctx, c.saved.Path, c.path, opt); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w; its old version is %s", c.path, err, c.saved.Path))
		}
	}
	for _, p := range slices.Backward(s.fresh) {
		_, err := h.Exec(ctx, engine.Command{Argv: []string{"rm", "-f", "--", h.Path(p)}})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// replacement is a file that is not as it was.
type replacement struct {
	path           string
	saved          engine.File // its old version
	sameAttributes bool        // only the content differs
}

// changed lists the noted files that are not as they were. One that was noted
// but not replaced is not among them: it may be one that cannot be replaced.
func (s *stash) changed(ctx context.Context, h engine.Host) ([]replacement, error) {
	if len(s.paths) == 0 {
		return nil, nil
	}
	const script = `while [ $# -gt 0 ]; do
	cmp -s -- "$1" "$2" || printf '%s\n' "$3"
	shift 3
done`
	argv := []string{"sh", "-c", script, "sh"}
	var names []string
	for i, p := range s.paths {
		saved := path.Join(s.dir, p)
		names = append(names, saved, p)
		argv = append(argv, h.Path(saved), h.Path(p), strconv.Itoa(i))
	}
	list, err := h.ReadFiles(ctx, names...)
	if err != nil {
		return nil, err
	}
	differ, err := h.Query(ctx, engine.Command{Argv: argv})
	if err != nil {
		return nil, err
	}
	files := map[string]engine.File{}
	for _, f := range list {
		files[f.Path] = f
	}
	other := strings.Fields(string(differ.Stdout))
	var out []replacement
	var gone []error
	for i, p := range s.paths {
		saved, ok := files[path.Join(s.dir, p)]
		if !ok {
			if now := files[p]; !now.ModTime.Equal(s.was[p].ModTime) || now.Size != s.was[p].Size {
				gone = append(gone, fmt.Errorf("%s was replaced, and its old version %s has gone", p, path.Join(s.dir, p)))
			}
			continue
		}
		now, ok := files[p]
		same := ok && now.Mode == saved.Mode && now.UID == saved.UID && now.GID == saved.GID
		if !same || slices.Contains(other, strconv.Itoa(i)) {
			out = append(out, replacement{path: p, saved: saved, sameAttributes: same})
		}
	}
	return out, errors.Join(gone...)
}
