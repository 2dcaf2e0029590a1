package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// patience is how long a test waits for what must come on a machine that does a
// lot beside, tick how often it looks.
const (
	patience = 5 * time.Minute
	tick     = 10 * time.Millisecond
)

// output is what a process has printed so far.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// waits for a text.
func (o *output) waits(t *testing.T, text string) {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Contains(o.String(), text) }, patience, tick, "no %q", text)
}

// running is certbook as a process of its own, in a process group of its own,
// as a shell would start it.
type running struct {
	*exec.Cmd
	stdout, stderr output
	ended          chan error
}

func start(t *testing.T, args ...string) *running {
	t.Helper()
	r := prepare(t, args...)
	r.starts(t)
	return r
}

func prepare(t *testing.T, args ...string) *running {
	t.Helper()
	r := &running{Cmd: exec.Command("certbook", args...), ended: make(chan error, 1)} // TestMain has put it into PATH
	r.Stdout, r.Stderr = &r.stdout, &r.stderr
	r.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	r.WaitDelay = patience
	return r
}

func (r *running) starts(t *testing.T) {
	t.Helper()
	require.NoError(t, r.Start())
	go func() { r.ended <- r.Wait() }()
	t.Cleanup(func() {
		_ = syscall.Kill(-r.Process.Pid, syscall.SIGKILL) // when the test has failed
	})
}

// interrupts the process group, as a terminal does.
func (r *running) interrupts(t *testing.T, sig syscall.Signal) {
	t.Helper()
	require.NoError(t, syscall.Kill(-r.Process.Pid, sig))
}

// ends waits for the end and returns the exit code.
func (r *running) ends(t *testing.T) int {
	t.Helper()
	select {
	case err := <-r.ended:
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
	case <-time.After(patience):
		t.Fatalf("certbook does not end:\n%s", r.stderr.String())
	}
	t.Logf("exit %d\n%s%s", r.ProcessState.ExitCode(), r.stdout.String(), r.stderr.String())
	return r.ProcessState.ExitCode()
}

// blocked is a run whose first step reads from gate until that is closed.
type blocked struct {
	*running
	dir, runs string
	gate      *os.File
}

// startBlocked starts the playbook and returns when its first step runs.
func startBlocked(t *testing.T) *blocked {
	t.Helper()
	dir := t.TempDir()
	fifo, runs, playbook := filepath.Join(dir, "gate"), filepath.Join(dir, "runs"), filepath.Join(dir, "p.yaml")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	require.NoError(t, os.WriteFile(playbook, fmt.Appendf(nil, `version: 1
name: p
plays:
- name: one
  hosts: all
  steps:
  - {id: first, action: run-command, with: {argv: [cat, %s]}}
  - {id: second, action: run-command, with: {argv: [touch, %s/second]}}
- name: two
  hosts: all
  steps: [{id: third, action: run-command, with: {argv: [touch, %s/third]}}]
`, fifo, dir, dir), 0o600))
	b := &blocked{running: start(t, "run", playbook, "--yes", "--run-dir", runs), dir: dir, runs: runs}
	require.Eventually(t, func() bool {
		var err error
		b.gate, err = os.OpenFile(fifo, os.O_WRONLY|syscall.O_NONBLOCK, 0) // fails while nobody reads
		return err == nil
	}, patience, tick, "the step does not begin")
	t.Cleanup(func() { b.gate.Close() })
	return b
}

// stopped wants what is left after the first step not to have been done, and
// the log to say so.
func (b *blocked) stopped(t *testing.T, left string) {
	t.Helper()
	require.Contains(t, b.stderr.String(), "interrupted: no further step is begun\n")
	require.NoFileExists(t, filepath.Join(b.dir, "second"))
	require.NoFileExists(t, filepath.Join(b.dir, "third"))
	code, _, _ := certbook(t, "audit", "verify", "--run-dir", b.runs)
	require.Zero(t, code)
	_, log, _ := certbook(t, "audit", "show", "--run-dir", b.runs, "-o", "json")
	require.Contains(t, log, `"event":"interrupted"`)
	require.Contains(t, log, left)
}

func TestInterruptOnce(t *testing.T) {
	for sig, code := range map[syscall.Signal]int{syscall.SIGINT: 130, syscall.SIGTERM: 143} {
		t.Run(sig.String(), func(t *testing.T) {
			b := startBlocked(t)
			b.interrupts(t, sig)
			b.stderr.waits(t, sig.String()+": finishing the present step, then stopping; once more stops at once\n")
			_, err := b.gate.WriteString("still here")
			require.NoError(t, err, "the step goes on")
			require.NoError(t, b.gate.Close())
			require.Equal(t, code, b.ends(t))
			require.Contains(t, b.stderr.String(), "first                  changed")
			require.Contains(t, b.stdout.String(), "localhost: interrupted\n")
			require.Contains(t, b.stderr.String(), "certbook: interrupted; not done: localhost/second, localhost/third (certbook resume goes on from here)\n")
			b.stopped(t, `"left":["localhost/second","localhost/third"]`)
		})
	}
}

func TestInterruptTwice(t *testing.T) {
	b := startBlocked(t)
	b.interrupts(t, syscall.SIGINT)
	b.stderr.waits(t, "finishing the present step")
	b.interrupts(t, syscall.SIGINT)
	code := b.ends(t)
	require.Contains(t, b.stderr.String(), "interrupt: stopping at once\n")
	_, err := b.gate.WriteString("anybody?")
	require.ErrorIs(t, err, syscall.EPIPE, "the step's command goes on")
	// What the command has done by then nobody knows, and nothing brings it back.
	require.Equal(t, 130, code)
	require.Regexp(t, `(?m)^certbook: interrupted; not done: localhost/first, localhost/second, localhost/third \(certbook resume goes on from here\); a person has to look at localhost$`, b.stderr.String())
	require.Contains(t, b.stdout.String(), "localhost: failed, a person is needed\n")
	b.stopped(t, `"left":["localhost/first","localhost/second","localhost/third"]`)
}

func TestBriefLeft(t *testing.T) {
	var long, many []string
	for i := range 5 {
		long = append(long, fmt.Sprintf("m1/s%d", i), fmt.Sprintf("m2/s%d", i))
	}
	for i := range 10 {
		many = append(many, fmt.Sprintf("m%d/a", i))
	}
	require.Equal(t, "m1/a, m2/b", briefLeft([]string{"m1/a", "m2/b"}))
	require.Equal(t, "m1 from s0 on (5), m2 from s0 on (5)", briefLeft(long))
	require.Equal(t, "m0 from a on (1), m1 from a on (1), m2 from a on (1), m3 from a on (1), m4 from a on (1), m5 from a on (1), m6 from a on (1), m7 from a on (1), and 2 more hosts", briefLeft(many))
}
