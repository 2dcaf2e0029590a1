package hosttest

import (
	"context"
	"encoding/json"
	"errors"

	"certbook/engine"
)

// Lock takes the fake's lock, which is the file engine.LockFile.
func (f *Fake) Lock(ctx context.Context, by engine.Holder, take func(engine.Lock) error) (engine.Held, error) {
	f.mu.Lock()
	err := f.enter(ctx, Call{Method: "Lock"})
	left := f.lock()
	f.mu.Unlock()
	switch {
	case err != nil:
		return nil, err
	case left != nil && left.Living:
		return nil, &engine.LockedError{Lock: *left}
	case left != nil:
		if err := take(*left); err != nil {
			return nil, err
		}
		by.Changed = left.Changed
	}
	k := &fakeHeld{f: f, by: by}
	k.write()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held = k
	return k, nil
}

// ReadLock returns the fake's lock.
func (f *Fake) ReadLock(ctx context.Context) (*engine.Lock, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.enter(ctx, Call{Method: "ReadLock"}); err != nil {
		return nil, err
	}
	return f.lock(), nil
}

// BreakLock ends whoever holds the lock, as the death of its process does.
func (f *Fake) BreakLock() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held = nil
}

func (f *Fake) lock() *engine.Lock {
	file, ok := f.files[engine.LockFile]
	if !ok || len(file.Data) == 0 {
		return nil
	}
	lock := engine.Lock{Living: f.held != nil, Seen: file.ModTime, Now: f.now}
	if json.Unmarshal(file.Data, &lock.Holder) != nil {
		lock.Holder = engine.Holder{Changed: true}
	}
	return &lock
}

// fakeHeld is the lock of a fake as its holder has it.
type fakeHeld struct {
	f  *Fake
	by engine.Holder
}

func (k *fakeHeld) write() {
	line, _ := json.Marshal(k.by) // nothing in it can fail
	k.f.Put(engine.LockFile, append(line, '\n'))
}

// Check implements engine.Held.
func (k *fakeHeld) Check(ctx context.Context) error {
	k.f.mu.Lock()
	defer k.f.mu.Unlock()
	if k.f.held != k {
		return errors.New("the process that holds the lock has ended")
	}
	return ctx.Err()
}

// Change implements engine.Held.
func (k *fakeHeld) Change(ctx context.Context) error {
	err := k.Check(ctx)
	if err == nil && !k.by.Changed {
		k.by.Changed = true
		k.write()
	}
	return err
}

// Release implements engine.Held.
func (k *fakeHeld) Release(ctx context.Context) error {
	err := k.Check(ctx)
	if err == nil {
		k.f.Put(engine.LockFile, nil)
		k.f.BreakLock()
	}
	return err
}
