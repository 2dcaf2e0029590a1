package engine_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"certbook/engine"
	"certbook/schema"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a few machines in memory. A machine has keys with values, set by
// commands, and does what the test wants at a command.
type world struct {
	mu      sync.Mutex
	log     []string          // "m1 set a=1", every command in order
	lockLog []string          // "lock m1", "unlock m1"
	keys    map[string]string // "m1/a" to its value
	fail    map[string]int    // "m1 set a": how often it still fails; -1 is always
	hook    map[string]func(ctx context.Context) error
	events  []engine.Event
	emit    func(engine.Event) error // after recording; nil is none
	slept   []time.Duration
	clock   time.Time
	closed  int
	locks   map[string]*engine.Lock // by host
	gone    map[string]bool         // hosts whose lock was lost
}

func newWorld() *world {
	return &world{locks: map[string]*engine.Lock{}, gone: map[string]bool{}, keys: map[string]string{}, fail: map[string]int{}, hook: map[string]func(context.Context) error{},
		clock: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
}

// machine is one host of a world. What is not needed panics.
type machine struct {
	engine.Host
	w    *world
	name string
}

func (m *machine) Close() error {
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	m.w.closed++
	return nil
}

// Lock implements engine.Locker. Locks are in the log when taken and given back.
func (m *machine) Lock(ctx context.Context, by engine.Holder, take func(engine.Lock) error) (engine.Held, error) {
	w := m.w
	w.mu.Lock()
	left := w.locks[m.name]
	w.lockLog = append(w.lockLog, "lock "+m.name)
	w.mu.Unlock()
	switch {
	case w.fail[m.name+" lock"] != 0:
		return nil, errors.New("no flock")
	case left != nil && left.Living:
		return nil, &engine.LockedError{Lock: *left}
	case left != nil:
		if err := take(*left); err != nil {
			return nil, err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.locks[m.name] = &engine.Lock{Holder: by, Living: true}
	return held{m}, ctx.Err()
}

type held struct{ m *machine }

func (h held) Check(context.Context) error {
	h.m.w.mu.Lock()
	defer h.m.w.mu.Unlock()
	if h.m.w.gone[h.m.name] {
		return errors.New("the connection is closed")
	}
	return nil
}

func (h held) Change(ctx context.Context) error {
	err := h.Check(ctx)
	h.m.w.mu.Lock()
	defer h.m.w.mu.Unlock()
	if err == nil {
		h.m.w.locks[h.m.name].Changed = true
	}
	return err
}

func (h held) Release(ctx context.Context) error {
	if err := errors.Join(h.Check(ctx), ctx.Err()); err != nil {
		return err
	}
	h.m.w.mu.Lock()
	defer h.m.w.mu.Unlock()
	delete(h.m.w.locks, h.m.name)
	h.m.w.lockLog = append(h.m.w.lockLog, "unlock "+h.m.name)
	return nil
}

func (m *machine) ReadFiles(_ context.Context, patterns ...string) ([]engine.File, error) {
	var files []engine.File
	for _, p := range patterns {
		files = append(files, engine.File{Path: p})
	}
	return files, nil
}

func (m *machine) Query(ctx context.Context, c engine.Command) (engine.Output, error) {
	return m.run(ctx, c)
}

func (m *machine) Exec(ctx context.Context, c engine.Command) (engine.Output, error) {
	return m.run(ctx, c)
}

// run carries out "get KEY", "set KEY VALUE", "undo KEY VALUE" and "say TEXT".
func (m *machine) run(ctx context.Context, c engine.Command) (engine.Output, error) {
	verb, key, value := c.Argv[0], c.Argv[1], ""
	if len(c.Argv) > 2 {
		value = c.Argv[2]
	}
	name := m.name + " " + verb + " " + key
	w := m.w
	w.mu.Lock()
	w.log = append(w.log, name)
	left := w.fail[name]
	if left > 0 {
		w.fail[name]--
	}
	hook := w.hook[name]
	w.mu.Unlock()
	if hook != nil {
		if err := hook(ctx); err != nil {
			return engine.Output{Code: -1}, err
		}
	}
	if err := ctx.Err(); err != nil {
		return engine.Output{Code: -1}, err
	}
	if left != 0 {
		return engine.Output{Code: 1}, &engine.ExitError{Command: c.String(), Code: 1, Stderr: "broken"}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.keys[m.name+"/"+key]
	switch verb {
	case "set":
		w.keys[m.name+"/"+key] = value
	case "undo":
		delete(w.keys, m.name+"/"+key)
	}
	return engine.Output{Stdout: []byte(out)}, nil
}

type facts struct {
	Version string `expr:"version"`
	Cores   int    `expr:"cores"`
}

const threeHosts = "version: 1\nhosts: {m1: {address: 10.0.0.1}, m2: {vars: {own: 2}}, m3: }\ngroups: {masters: {hosts: [m1, m2, m3], vars: {own: g}}}\n"

// compiler compiles plays for threeHosts.
func compiler(t *testing.T, plays string) engine.Compiler {
	t.Helper()
	p, err := schema.ParsePlaybook(&schema.Source{Name: "book.yaml", Data: []byte("version: 1\nname: test\n" + plays)})
	require.NoError(t, err)
	inv, err := schema.ParseInventory(&schema.Source{Name: "hosts.yaml", Data: []byte(threeHosts)})
	require.NoError(t, err)
	return engine.Compiler{Registry: registry(), Facts: facts{}, Playbook: p, Inventory: inv,
		Run: engine.RunInfo{ID: "run-1", Started: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}}
}

func compile(t *testing.T, plays string) *engine.Plan {
	t.Helper()
	plan, err := compiler(t, plays).Compile()
	require.NoError(t, err)
	return plan
}

// runner returns a runner on the machines of the world.
func (w *world) runner() *engine.Runner {
	return &engine.Runner{
		Dial: func(ctx context.Context, name string) (engine.Host, error) {
			if w.fail[name+" dial"] != 0 {
				return nil, errors.New("no route")
			}
			return &machine{w: w, name: name}, ctx.Err()
		},
		Gather: func(_ context.Context, p engine.Probe) (any, error) {
			if _, writable := p.(engine.Host); writable {
				return nil, errors.New("Gather was handed a host")
			}
			return facts{Version: "1.34.2", Cores: 4}, nil
		},
		Emit: func(e engine.Event) error {
			w.events = append(w.events, e)
			if w.emit != nil {
				return w.emit(e)
			}
			return nil
		},
		Now: func() time.Time {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.clock = w.clock.Add(time.Millisecond)
			return w.clock
		},
		Sleep: func(ctx context.Context, d time.Duration) error {
			w.mu.Lock()
			w.slept = append(w.slept, d)
			w.mu.Unlock()
			return ctx.Err()
		},
		Rand: func() float64 { return 0.5 },
	}
}

func (w *world) run(t *testing.T, plays string) *engine.Report {
	t.Helper()
	return w.runner().Run(context.Background(), compile(t, plays), engine.Origin{})
}

// did returns the commands that changed something, in order.
func (w *world) did() string {
	var list []string
	for _, l := range w.log {
		if !strings.Contains(l, " get ") {
			list = append(list, l)
		}
	}
	return strings.Join(list, ", ")
}

// story returns the kinds of the events about steps of a host.
func (w *world) story(host string) string {
	var list []string
	for _, e := range w.events {
		if e.Host == host && e.Step != "" && e.Kind != engine.CommandRun {
			list = append(list, e.Step+":"+strings.TrimPrefix(string(e.Kind), "step-"))
		}
	}
	return strings.Join(list, " ")
}
