package engine

import (
	"cmp"
	"context"
	"errors"
	"path"
	"slices"
	"strings"
	"time"
)

// How patient a rollback is: longer than the steps it undoes, as nothing is
// behind it.
const (
	rollbackTimeout = 10 * time.Minute
	followAttempts  = 3
	followPause     = 5 * time.Second
)

// readOnly hides everything of a host but its Probe: a type assertion back to
// Host fails.
type readOnly struct{ Probe }

// recorder is a host whose commands and writes become events.
type recorder struct {
	Host
	s     *stepRun
	keeps bool // what is done lasts no longer than the run
}

func (r *recorder) command(c Command, run func(Command) (Output, error)) (Output, error) {
	started := r.s.Now()
	c.Mask = slices.Concat(c.Mask, r.s.secrets.masks())
	out, err := run(c)
	e := Event{Kind: CommandRun, Argv: c.String(), Code: out.Code, Attempt: r.s.attempt, Millis: r.s.Now().Sub(started).Milliseconds()}
	if err = maskError(err, c.Mask); err != nil {
		e.Error = err.Error()
	}
	r.s.event(e)
	return out, err
}

// maskError takes the secrets out of an error, which ends up in events.
func maskError(err error, secrets []string) error {
	if err == nil || mask(err.Error(), secrets) == err.Error() {
		return err
	}
	var exit *ExitError
	if errors.As(err, &exit) {
		return &ExitError{Command: mask(exit.Command, secrets), Code: exit.Code, Stderr: mask(exit.Stderr, secrets)}
	}
	return errors.New(mask(err.Error(), secrets))
}

// Query implements Probe.
func (r *recorder) Query(ctx context.Context, c Command) (Output, error) {
	return r.command(c, func(c Command) (Output, error) { return r.Host.Query(ctx, c) })
}

// Exec implements Host.
func (r *recorder) Exec(ctx context.Context, c Command) (Output, error) {
	if err := r.use(ctx); err != nil {
		return Output{Code: -1}, err
	}
	return r.command(c, func(c Command) (Output, error) { return r.Host.Exec(ctx, c) })
}

// WriteFile implements Host.
func (r *recorder) WriteFile(ctx context.Context, file string, data []byte, opt FileOptions) error {
	if err := r.use(ctx); err != nil {
		return err
	}
	return r.written(ctx, opt, r.Host.WriteFile(ctx, file, data, opt), file)
}

// Install implements Host.
func (r *recorder) Install(ctx context.Context, src, dst string, opt FileOptions) error {
	if err := r.use(ctx); err != nil {
		return err
	}
	return r.written(ctx, opt, r.Host.Install(ctx, src, dst, opt), dst)
}

// InstallAll implements Host.
func (r *recorder) InstallAll(ctx context.Context, files []Copy, opt FileOptions) error {
	if err := r.use(ctx); err != nil {
		return err
	}
	var paths []string
	for _, f := range files {
		paths = append(paths, f.Dst)
	}
	return r.written(ctx, opt, r.Host.InstallAll(ctx, files, opt), paths...)
}

// written records files that were written, and what the list beside their old
// versions says of them. When the list cannot be read now the event has no
// hashes; a rollback then has those on the host.
func (r *recorder) written(ctx context.Context, opt FileOptions, err error, paths ...string) error {
	var replaced []Replaced
	if opt.Save != "" && err == nil {
		if list, err := r.ReadFiles(ctx, path.Join(opt.Save, ReplacedList)); err == nil && len(list) == 1 {
			replaced = ParseReplaced(list[0].Data)
		}
	}
	for _, p := range paths {
		e := Event{Kind: FileWritten, Path: p, Attempt: r.s.attempt}
		for _, f := range replaced { // the last one counts
			if f.Path == path.Clean(p) {
				e.Before, e.After = f.Old, f.New
			}
		}
		if err != nil {
			e.Error = err.Error()
		}
		r.s.event(e)
	}
	return err
}

func mask(s string, secrets []string) string {
	longest := slices.SortedFunc(slices.Values(secrets), func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	for _, m := range longest {
		if m != "" {
			s = strings.ReplaceAll(s, m, "***")
		}
	}
	return s
}

// foresight is a probe of a plan: files that earlier steps would write are
// marked as pending.
type foresight struct {
	Probe
	pending map[string]string // path to step
	seen    []string          // the steps whose pending files were read
}

// ReadFiles implements Probe.
func (f *foresight) ReadFiles(ctx context.Context, patterns ...string) ([]File, error) {
	files, err := f.Probe.ReadFiles(ctx, patterns...)
	for i := range files {
		step, ok := f.pending[files[i].Path]
		if !ok {
			step, ok = f.pending[files[i].Target]
		}
		if !ok {
			continue
		}
		files[i].Pending = true
		if !slices.Contains(f.seen, step) {
			f.seen = append(f.seen, step)
		}
	}
	return files, err
}

func (f *foresight) steps() string { return strings.Join(f.seen, ", ") }
