package actions

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"

	"certbook/engine"
)

// stash remembers which files a step has replaced. Their old versions lie in
// dir on the host, under their full paths.
type stash struct {
	dir   string
	paths []string // in the order of replacement
	fresh []string // files that were not there before
}

// install puts src in place of dst and keeps the old dst.
func (s *stash) install(ctx context.Context, h engine.Host, src, dst string, opt engine.FileOptions) error {
	if err := s.note(ctx, h, dst); err != nil {
		return err
	}
	opt.Save = s.dir
	if err := h.Install(ctx, src, dst, opt); err != nil {
		return fmt.Errorf("%s: %w", dst, err)
	}
	return nil
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
	if err := h.WriteFile(ctx, dst, data, opt); err != nil {
		return fmt.Errorf("%s: %w", dst, err)
	}
	return nil
}

// note finds out which of the files are there, before they are replaced.
func (s *stash) note(ctx context.Context, h engine.Host, files ...string) error {
	files = slices.DeleteFunc(slices.Clone(files), func(f string) bool {
		return slices.Contains(s.paths, f) || slices.Contains(s.fresh, f)
	})
	if len(files) == 0 {
		return nil
	}
	if len(s.paths)+len(s.fresh) == 0 {
		if err := s.prepare(ctx, h); err != nil {
			return err
		}
	}
	have, err := h.ReadFiles(ctx, files...)
	if err != nil {
		return err
	}
	for _, f := range files {
		if slices.ContainsFunc(have, func(h engine.File) bool { return h.Path == f }) {
			s.paths = append(s.paths, f)
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

// revert puts back what was replaced and removes what was new, newest first.
// One file that cannot be put back does not keep the others from it.
func (s *stash) revert(ctx context.Context, h engine.Host) error {
	var errs []error
	for _, p := range slices.Backward(s.paths) {
		errs = append(errs, s.putBack(ctx, h, p))
	}
	for _, p := range slices.Backward(s.fresh) {
		_, err := h.Exec(ctx, engine.Command{Argv: []string{"rm", "-f", "--", h.Path(p)}})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// putBack brings the old version of a file back, with its owner and mode. A
// file that is as it was is not touched: it may be one that cannot be replaced.
func (s *stash) putBack(ctx context.Context, h engine.Host, p string) error {
	saved := path.Join(s.dir, p)
	found, err := h.ReadFiles(ctx, saved, p)
	if err != nil {
		return err
	}
	if len(found) == 0 || found[0].Path != saved {
		return nil // it was noted, but not replaced any more
	}
	old := found[0]
	if len(found) == 2 && found[1].Mode == old.Mode && found[1].UID == old.UID && found[1].GID == old.GID {
		if _, err := h.Query(ctx, engine.Command{Argv: []string{"cmp", "-s", "--", h.Path(saved), h.Path(p)}}); err == nil {
			return nil
		}
	}
	opt := engine.FileOptions{Mode: old.Mode, Owner: fmt.Sprintf("%d:%d", old.UID, old.GID)}
	if err := h.Install(ctx, saved, p, opt); err != nil {
		return fmt.Errorf("%s: %w; its old version is %s", p, err, saved)
	}
	return nil
}
