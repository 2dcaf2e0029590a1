package actions

import (
	"context"
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
func (s *stash) revert(ctx context.Context, h engine.Host) error {
	for _, p := range slices.Backward(s.paths) {
		saved := path.Join(s.dir, p)
		have, err := h.ReadFiles(ctx, saved)
		if err != nil {
			return err
		}
		if len(have) == 0 {
			continue // it was noted, but not replaced any more
		}
		if err := h.Install(ctx, saved, p, engine.FileOptions{}); err != nil {
			return fmt.Errorf("%s: %w; its old version is %s", p, err, saved)
		}
	}
	for _, p := range slices.Backward(s.fresh) {
		if _, err := h.Exec(ctx, engine.Command{Argv: []string{"rm", "-f", "--", h.Path(p)}}); err != nil {
			return err
		}
	}
	return nil
}
