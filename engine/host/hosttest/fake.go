// Package hosttest helps to test with hosts: Fake is a host in memory, Run is
// the conformance suite that every implementation of engine.Host passes, and
// SSHD starts a real OpenSSH server on the loopback interface.
package hosttest

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"sync"
	"time"

	"certbook/engine"
)

var _ engine.Host = (*Fake)(nil)

// FakeFile is a file of a Fake, secrets included.
type FakeFile struct {
	Data    []byte
	Mode    fs.FileMode // permission bits; 0 means 0600 when it is put
	UID     int
	GID     int
	ModTime time.Time // the fake's clock when zero
	Link    string    // target of a symbolic link; the other fields are unused then
}

// Call is one use of a method that runs something or changes a file.
type Call struct {
	Method  string // "Exec", "Query", "WriteFile", "Install", "ReadSecret"
	Command engine.Command
	Path    string // the file that is written or read
	Src     string // of Install
	Data    []byte // of WriteFile
	Options engine.FileOptions
}

// Handler answers a command. It may change the fake. An Output with a Code
// other than 0 becomes an *engine.ExitError, as on a real host.
type Handler func(ctx context.Context, c engine.Command) (engine.Output, error)

// Fake is a host in memory, for tests of actions: files with owner and mode,
// a clock that stands still until it is set, commands and servers that the
// test programs, failures that it injects, and a record of what was done.
// true, false, cat, echo, printf, env, sleep, mkdir, ln, chmod, touch, rm and
// id exist from the start, in a simple form. Its user is root.
type Fake struct {
	mu       sync.Mutex
	now      time.Time
	files    map[string]FakeFile
	dirs     map[string]bool
	handlers []handler
	chains   map[string]func() ([][]byte, error)
	answers  map[string]func() (engine.Response, error)
	calls    []Call
	fail     map[string][]failure
	closed   bool
	held     *fakeHeld // the lock, as long as somebody has it
}

type handler struct {
	match func(argv []string) bool
	run   Handler
}

type failure struct {
	after int // calls that still pass
	err   error
}

// NewFake returns a host without files, whose clock stands at
// 2026-01-02 03:04:05 UTC.
func NewFake() *Fake {
	return &Fake{
		now:     time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		files:   map[string]FakeFile{},
		dirs:    map[string]bool{"/": true},
		chains:  map[string]func() ([][]byte, error){},
		answers: map[string]func() (engine.Response, error){},
		fail:    map[string][]failure{},
	}
}

// Put makes a file with mode 0600, owned by root, modified now.
func (f *Fake) Put(path string, data []byte) { f.PutFile(path, FakeFile{Data: data}) }

// PutFile makes a file, a symbolic link when Link is set, and the directories above it.
func (f *Fake) PutFile(name string, file FakeFile) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if file.Mode == 0 {
		file.Mode = 0o600
	}
	if file.ModTime.IsZero() {
		file.ModTime = f.now
	}
	file.Data = append([]byte{}, file.Data...)
	name = path.Clean(name)
	f.mkdir(path.Dir(name))
	f.files[name] = file
}

func (f *Fake) mkdir(dir string) {
	for ; !f.dirs[dir]; dir = path.Dir(dir) {
		f.dirs[dir] = true
	}
}

// Mkdir makes a directory and those above it.
func (f *Fake) Mkdir(dir string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mkdir(path.Clean(dir))
}

// Remove takes away a file or a directory with all that is in it.
func (f *Fake) Remove(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	below := func(p string) bool { return p == name || len(p) > len(name) && p[:len(name)+1] == name+"/" }
	maps.DeleteFunc(f.files, func(p string, _ FakeFile) bool { return below(p) })
	maps.DeleteFunc(f.dirs, func(p string, _ bool) bool { return below(p) })
}

// File returns the file at path with its secrets; symbolic links are followed.
func (f *Fake) File(path string) (FakeFile, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	real, ok := f.resolve(path)
	if !ok {
		return FakeFile{}, false
	}
	file, ok := f.files[real]
	return file, ok
}

// Files returns the paths of all files and links, and what they are.
func (f *Fake) Files() map[string]FakeFile {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.files)
}

// SetNow sets the clock.
func (f *Fake) SetNow(t time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = t
}

// Advance moves the clock.
func (f *Fake) Advance(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(d)
}

// Handle answers the commands whose argv[0] is name. The handler that was
// added last wins.
func (f *Fake) Handle(name string, run Handler) {
	f.HandleFunc(func(argv []string) bool { return argv[0] == name }, run)
}

// HandleFunc answers the commands that match.
func (f *Fake) HandleFunc(match func(argv []string) bool, run Handler) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.handlers = append(f.handlers, handler{match, run})
}

// Serve answers Handshake with address by what chain returns: DER, leaf first.
func (f *Fake) Serve(address string, chain func() ([][]byte, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.chains[address] = chain
}

// Answer answers Get of url.
func (f *Fake) Answer(url string, answer func() (engine.Response, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answers[url] = answer
}

// Fail lets the nth call of a method from now on (1 is the next) return err.
// The method is the name of one of engine.Host's.
func (f *Fake) Fail(method string, nth int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail[method] = append(f.fail[method], failure{nth - 1, err})
}

// Calls returns what was run, written and read as a secret, in order; only
// calls of the given methods when there are any.
func (f *Fake) Calls(methods ...string) []Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []Call
	for _, c := range f.calls {
		ok := len(methods) == 0
		for _, m := range methods {
			ok = ok || m == c.Method
		}
		if ok {
			out = append(out, c)
		}
	}
	return out
}

// Closed says whether Close was called.
func (f *Fake) Closed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.closed
}

// enter records a call and returns the failure that was asked for. The lock is held.
func (f *Fake) enter(ctx context.Context, c Call) error {
	switch c.Method {
	case "Exec", "Query", "WriteFile", "Install", "ReadSecret":
		f.calls = append(f.calls, c)
	}
	var err error
	left := f.fail[c.Method][:0]
	for _, x := range f.fail[c.Method] {
		switch {
		case x.after == 0 && err == nil:
			err = x.err
		default:
			x.after--
			left = append(left, x)
		}
	}
	f.fail[c.Method] = left
	if err == nil {
		err = ctx.Err()
	}
	if err == nil && f.closed {
		err = fmt.Errorf("the host is closed")
	}
	return err
}

// resolve follows symbolic links in every part of a path, as readlink -f does:
// the last part need not exist, its directory must.
func (f *Fake) resolve(name string) (string, bool) {
	for range 40 {
		next, moved := f.follow(path.Clean(name))
		if !moved {
			return next, f.dirs[path.Dir(next)]
		}
		name = next
	}
	return "", false
}

// follow replaces the first symbolic link in a path.
func (f *Fake) follow(name string) (string, bool) {
	for i := 1; i <= len(name); i++ {
		if i < len(name) && name[i] != '/' {
			continue
		}
		file, ok := f.files[name[:i]]
		if !ok || file.Link == "" {
			continue
		}
		to := file.Link
		if !path.IsAbs(to) {
			to = path.Join(path.Dir(name[:i]), to)
		}
		return path.Clean(to + name[i:]), true
	}
	return name, false
}
