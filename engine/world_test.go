package engine_test

import (
	"context"
	"errors"
	"fmt"
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
	mu     sync.Mutex
	log    []string          // "m1 set a=1", every command in order
	keys   map[string]string // "m1/a" to its value
	fail   map[string]int    // "m1 set a": how often it still fails; -1 is always
	hook   map[string]func(ctx context.Context) error
	events []engine.Event
	emit   func(engine.Event) error // after recording; nil is none
	slept  []time.Duration
	clock  time.Time
	closed int
}

func newWorld() *world {
	return &world{keys: map[string]string{}, fail: map[string]int{}, hook: map[string]func(context.Context) error{},
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

// setAction makes a key have a value, as most actions do. It cannot be undone.
type setAction struct {
	Key   string `yaml:"key" required:"true" doc:"the key"`
	Value string `yaml:"value" default:"done"`
	Path  string `yaml:"path" doc:"the file that Apply writes"`
	Reads string `yaml:"reads" doc:"a file that Check reads"`
}

func (a *setAction) Check(ctx context.Context, p engine.Probe) (engine.Result, error) {
	if _, writable := p.(engine.Host); writable {
		return engine.Result{}, errors.New("Check was handed a host")
	}
	res := engine.Result{}
	if a.Reads != "" {
		files, err := p.ReadFiles(ctx, a.Reads)
		if err != nil {
			return engine.Result{}, err
		}
		if files[0].Pending {
			res.Changes = append(res.Changes, engine.Change{Subject: a.Reads, To: "read again"})
		}
	}
	out, err := p.Query(ctx, engine.Command{Argv: []string{"get", a.Key}})
	if err != nil {
		return engine.Result{}, err
	}
	have := string(out.Stdout)
	res.Outputs = seen{Have: have, Count: len(have)}
	change := engine.Change{Subject: a.Key, Path: a.Path, From: have, To: a.Value}
	if have != a.Value {
		res.Changes = append(res.Changes, change)
	} else {
		res.Done = append(res.Done, change)
	}
	return res, nil
}

func (a *setAction) Apply(ctx context.Context, h engine.Host) error {
	_, err := h.Exec(ctx, engine.Command{Argv: []string{"set", a.Key, a.Value}})
	return err
}

// putAction is setAction with Revert.
type putAction struct{ setAction }

func (a *putAction) Revert(ctx context.Context, h engine.Host) error {
	_, err := h.Exec(ctx, engine.Command{Argv: []string{"undo", a.Key}})
	return err
}

// followAction follows the keys of the others: it is satisfied when its key
// was set after theirs were.
type followAction struct {
	Key string `yaml:"key" required:"true"`
	Of  string `yaml:"of" required:"true"`
}

func (a *followAction) Follows() {}

func (a *followAction) Check(ctx context.Context, p engine.Probe) (engine.Result, error) {
	want, err := p.Query(ctx, engine.Command{Argv: []string{"get", a.Of}})
	if err != nil {
		return engine.Result{}, err
	}
	have, err := p.Query(ctx, engine.Command{Argv: []string{"get", a.Key}})
	if err != nil || string(have.Stdout) == string(want.Stdout) {
		return engine.Result{}, err
	}
	return engine.Result{Changes: []engine.Change{{Subject: a.Key}}}, nil
}

func (a *followAction) Apply(ctx context.Context, h engine.Host) error {
	want, err := h.Query(ctx, engine.Command{Argv: []string{"get", a.Of}})
	if err != nil {
		return err
	}
	_, err = h.Exec(ctx, engine.Command{Argv: []string{"set", a.Key, string(want.Stdout)}})
	return err
}

// waitAction only waits.
type waitAction struct{ setAction }

func (a *waitAction) Waits() {}

// lookAction is a question: it has outputs and fails when its key is "bad".
type lookAction struct {
	Key    string          `yaml:"key" default:"look"`
	Reads  string          `yaml:"reads"`
	Before schema.Duration `yaml:"before" default:"30d"`
	Names  []string        `yaml:"names"`
	N      int             `yaml:"n"`
	Text   string          `yaml:"text"`
	Flag   bool            `yaml:"flag"`
	Mode   string          `yaml:"mode" enum:"fast|slow"`
	Even   int             `yaml:"even"`
}

func (a *lookAction) Validate() error {
	if a.Even%2 != 0 {
		return fmt.Errorf("even is %d", a.Even)
	}
	return nil
}

func (a *lookAction) Check(ctx context.Context, p engine.Probe) (engine.Result, error) {
	if a.Reads != "" {
		if _, err := p.ReadFiles(ctx, a.Reads); err != nil {
			return engine.Result{}, err
		}
	}
	out, err := p.Query(ctx, engine.Command{Argv: []string{"get", a.Key}})
	have := string(out.Stdout)
	if err == nil && have == "bad" {
		err = errors.New("it is bad")
	}
	return engine.Result{Outputs: seen{Have: have, Count: len(have), Names: []string{"x", have}, Text: a.Text, Span: a.Before.String()}}, err
}

type seen struct {
	Have  string   `expr:"have"`
	Count int      `expr:"count"`
	Names []string `expr:"names"`
	Text  string   `expr:"text"`
	Span  string   `expr:"span"`
}

// oddAction finds changes but cannot make them.
type oddAction struct{}

func (oddAction) Check(context.Context, engine.Probe) (engine.Result, error) {
	return engine.Result{Changes: []engine.Change{{Subject: "s", From: "a", To: "b"}}}, nil
}

// panicAction has a bug.
type panicAction struct{ putAction }

func (a *panicAction) Apply(ctx context.Context, h engine.Host) error {
	if err := a.putAction.Apply(ctx, h); err != nil {
		return err
	}
	var nothing map[string]int
	nothing["x"] = 1
	return nil
}

// sayAction runs a command with a secret, which the host then repeats.
type sayAction struct{}

func (sayAction) Check(ctx context.Context, p engine.Probe) (engine.Result, error) {
	_, err := p.Query(ctx, engine.Command{Argv: []string{"say", "token=s3cret-long s3cret"}, Mask: []string{"s3cret", "s3cret-long"}})
	return engine.Result{}, err
}

func registry() engine.Registry {
	return engine.Registry{
		"set":    {New: func() engine.Action { return &setAction{} }, Outputs: seen{}},
		"put":    {New: func() engine.Action { return &putAction{} }, Outputs: seen{}},
		"follow": {New: func() engine.Action { return &followAction{} }},
		"wait":   {New: func() engine.Action { return &waitAction{} }},
		"look":   {New: func() engine.Action { return &lookAction{} }, Outputs: seen{}},
		"odd":    {New: func() engine.Action { return &oddAction{} }},
		"panic":  {New: func() engine.Action { return &panicAction{} }},
		"say":    {New: func() engine.Action { return &sayAction{} }},
	}
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
