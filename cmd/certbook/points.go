package main

import (
	"context"

	"certbook/engine"
)

// The points of a run at which it can be cut off with something half done:
// before and after each durable event, each command that makes changes, and
// each call that writes files. Only tests look at them, to end the process
// there; see streams.

// marked is a host whose changes are points.
type marked struct {
	engine.Host
	name  string
	point func(name string)
}

func (h marked) around(what string, do func() error) error {
	h.point("before " + h.name + " " + what)
	err := do()
	h.point("after " + h.name + " " + what)
	return err
}

// Lock implements engine.Host.
func (h marked) Lock(ctx context.Context, by engine.Holder, take func(engine.Lock) error) (held engine.Held, err error) {
	err = h.around("lock", func() error {
		held, err = h.Host.Lock(ctx, by, take)
		return err
	})
	if held != nil {
		held = markedLock{held, h}
	}
	return held, err
}

// markedLock is a lock whose release is a point.
type markedLock struct {
	engine.Held
	h marked
}

// Release implements engine.Held.
func (l markedLock) Release(ctx context.Context) error {
	return l.h.around("unlock", func() error { return l.Held.Release(ctx) })
}

// Exec implements engine.Host.
func (h marked) Exec(ctx context.Context, c engine.Command) (out engine.Output, err error) {
	err = h.around("command "+c.Argv[0], func() error {
		out, err = h.Host.Exec(ctx, c)
		return err
	})
	return out, err
}

// WriteFile implements engine.Host.
func (h marked) WriteFile(ctx context.Context, path string, data []byte, opt engine.FileOptions) error {
	return h.around("file "+path, func() error { return h.Host.WriteFile(ctx, path, data, opt) })
}

// Install implements engine.Host.
func (h marked) Install(ctx context.Context, src, dst string, opt engine.FileOptions) error {
	return h.around("file "+dst, func() error { return h.Host.Install(ctx, src, dst, opt) })
}

// InstallAll implements engine.Host.
func (h marked) InstallAll(ctx context.Context, files []engine.Copy, opt engine.FileOptions) error {
	return h.around("files", func() error { return h.Host.InstallAll(ctx, files, opt) })
}

// mark makes the changes and durable events of a runner points.
func mark(r *engine.Runner, point func(name string)) {
	dial, emit := r.Dial, r.Emit
	r.Dial = func(ctx context.Context, name string) (engine.Host, error) {
		h, err := dial(ctx, name)
		if err != nil {
			return nil, err
		}
		return marked{h, name, point}, nil
	}
	r.Emit = func(e engine.Event) error {
		if !e.Kind.Durable() {
			return emit(e)
		}
		what := string(e.Kind) + " " + e.Host + "/" + e.Step
		point("before " + what)
		err := emit(e)
		point("after " + what)
		return err
	}
}
