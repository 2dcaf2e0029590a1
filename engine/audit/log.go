package audit

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"certbook/engine"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// Log is the log of one run while it is being written. Its methods may be
// called concurrently: lines are written one after the other.
type Log struct {
	mu   sync.Mutex
	f    file
	n    int    // lines written
	head string // hash of the last one
	run  string // of the first event
	done bool   // run-finished was written
	err  error  // the first failure; nothing is written after it

	dir      string     // where checkpoints go
	key      ssh.Signer // signs them; nil for none
	playbook string     // of the first event
	doc, sig []byte     // the last checkpoint
}

// file is what a log needs of an open file.
type file interface {
	io.Writer
	Sync() error
	Close() error
}

// Create makes the log of a new run. The file must not exist; it is made with
// mode 0600, missing directories above it with 0700, and all of this is on
// stable storage when Create returns.
func Create(path string) (*Log, error) {
	dir := filepath.Dir(path)
	last, err := makeDir(dir)
	if err != nil {
		return nil, fmt.Errorf("audit log: make directory: %w", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	// Whoever holds this is the run that writes the log: see Running.
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close() // the error that matters is the one above
		return nil, fmt.Errorf("audit log: lock %q: %w", path, err)
	}
	if err := f.Sync(); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("audit log: sync %q: %w", path, err)
	}
	if err := syncUp(dir, last); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("audit log: %w", err)
	}
	log := newLog(f)
	log.dir = dir
	return log, nil
}

// Running reports whether a process of this machine is writing the log at path.
func Running(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, fmt.Errorf("audit log: %w", err)
	}
	defer f.Close()
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("audit log: lock %q: %w", path, err)
	}
	return false, nil
}

func newLog(f file) *Log { return &Log{f: f, head: Genesis} }

// makeDir makes dir and what is missing above it, and returns the directory
// nearest to dir that was there before.
func makeDir(dir string) (string, error) {
	there := dir
	for {
		if _, err := os.Stat(there); err == nil {
			break
		}
		up := filepath.Dir(there)
		if up == there {
			break
		}
		there = up
	}
	return there, os.MkdirAll(dir, 0o700)
}

// syncUp syncs the directories from dir up to and with last, so that their new
// entries survive a loss of power.
func syncUp(dir, last string) error {
	for {
		d, err := os.Open(dir)
		if err != nil {
			return fmt.Errorf("sync directory: %w", err)
		}
		err = errors.Join(d.Sync(), d.Close())
		if err != nil {
			return fmt.Errorf("sync directory %q: %w", dir, err)
		}
		up := filepath.Dir(dir)
		if dir == last || up == dir {
			return nil
		}
		dir = up
	}
}

// Write adds an event. It is on stable storage when Write returns, if its kind
// is Durable. The first event must be run-started, none follows run-finished,
// and all belong to one run. After an error every further Write fails with the
// same one.
func (l *Log) Write(e engine.Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = l.write(e)
	}
	if l.err == nil && l.key != nil && Checkpointed(e.Kind) {
		l.err = l.checkpoint(e)
	}
	return l.err
}

func (l *Log) write(e engine.Event) error {
	if l.f == nil {
		return fmt.Errorf("audit log: write %s: it is closed", e.Kind)
	}
	if l.n == 0 {
		l.run = e.Run
		if clean, _, _ := scrub(e); clean.Origin != nil {
			l.playbook = clean.Origin.Playbook
		}
	}
	if err := follows(l.n+1, l.run, l.done, e); err != nil {
		return fmt.Errorf("audit log: write: %w", err)
	}
	line, hash, err := encode(l.n+1, l.head, e)
	if err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	if _, err := l.f.Write(line); err != nil {
		return fmt.Errorf("audit log: write %s: %w", e.Kind, err)
	}
	l.n, l.head, l.done = l.n+1, hash, e.Kind == engine.RunFinished
	if !e.Kind.Durable() {
		return nil
	}
	if err := l.f.Sync(); err != nil {
		return fmt.Errorf("audit log: sync %s: %w", e.Kind, err)
	}
	return nil
}

// follows says why an event may not be line n of the log of a run.
func follows(n int, run string, done bool, e engine.Event) error {
	switch {
	case done:
		return errors.New("it follows run-finished, which is the last event")
	case n == 1 && e.Kind != engine.RunStarted:
		return fmt.Errorf("the first event is %q, want run-started", e.Kind)
	case n > 1 && e.Kind == engine.RunStarted:
		return errors.New("a second run-started")
	case e.Run != run:
		return fmt.Errorf("an event of run %q in the log of run %q", e.Run, run)
	}
	return nil
}

// Head returns the number of lines written and the hash of the last one. The
// hash stands for the whole log: keep it elsewhere to notice a log that was
// rewritten.
func (l *Log) Head() (lines int, hash string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n, l.head
}

// Close syncs and closes the file. Only the first call does something.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return nil
	}
	err := errors.Join(l.f.Sync(), l.f.Close())
	l.f = nil
	if err != nil {
		return fmt.Errorf("audit log: close: %w", err)
	}
	return nil
}
