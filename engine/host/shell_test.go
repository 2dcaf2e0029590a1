package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"certbook/engine"
)

// counted is a login shell that counts what is started by it. It refuses what
// can be done without, when it is told to.
type counted struct {
	loginShell
	shells, sessions atomic.Int32
	full             bool
}

func (c *counted) run(ctx context.Context, p process) (int, error) {
	switch {
	case !p.option:
		c.sessions.Add(1)
	case c.full:
		c.shells.Add(1)
		return -1, errors.New("no session left")
	default:
		c.shells.Add(1)
	}
	return c.loginShell.run(ctx, p)
}

func started(t *testing.T, full bool) (*Host, *counted) {
	c := &counted{full: full}
	h := &Host{t: c}
	t.Cleanup(func() { require.NoError(t, h.Close()) })
	return h, c
}

func query(t *testing.T, h *Host, script string, args ...string) (engine.Output, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return h.Query(ctx, engine.Command{Argv: append([]string{"sh", "-c", script, "sh"}, args...), Env: []string{"WORD=it's"}})
}

// TestShell asks one shell many things: each answer is whole, and its own.
func TestShell(t *testing.T) {
	h, c := started(t, false)
	big := strings.Repeat("\x01\x01 0123456789abcdef", 20_000)
	for range 3 {
		for _, one := range []struct {
			script           string
			args             []string
			out, errOut, why string
		}{
			{script: `printf %s "$1"`, args: []string{"no newline"}, out: "no newline"},
			{script: `printf '\001%s 0\n' "$1"; printf '\001' >&2`, args: []string{"ABCDEFGHIJKLMNOPQRSTUVWXYZ"}, out: "\x01ABCDEFGHIJKLMNOPQRSTUVWXYZ 0\n", errOut: "\x01"},
			{script: `printf '\000\377\n'; echo err >&2; exit 3`, out: "\x00\xff\n", errOut: "err\n", why: "exit status 3"},
			{script: `i=0; while [ $i -lt 10 ]; do printf %s "$1"; i=$((i+1)); done`, args: []string{strings.Repeat("\x01\x01 0", 20_000)}, out: strings.Repeat("\x01\x01 0", 200_000)},
			{script: `kill -9 $$`, why: "exit status 137"},
			{script: `read -r line && echo "$line"; exit 0`},
			{script: `echo "$WORD"`, out: "it's\n"},
			{script: `true`},
		} {
			out, err := query(t, h, one.script, one.args...)
			if one.why != "" {
				require.ErrorContains(t, err, one.why)
			} else {
				require.NoError(t, err, one.script)
			}
			require.True(t, one.out == string(out.Stdout), "%s: %.80q", one.script, out.Stdout)
			require.Equal(t, one.errOut, strings.ReplaceAll(string(out.Stderr), "Killed\n", ""), one.script)
		}
	}
	require.EqualValues(t, 1, c.shells.Load())
	require.Zero(t, c.sessions.Load())
	out, err := h.Exec(t.Context(), engine.Command{Argv: []string{"printf", "%s", big[:1000]}})
	require.NoError(t, err)
	require.Equal(t, big[:1000], string(out.Stdout))
	require.EqualValues(t, 1, c.sessions.Load(), "what may change something has a session of its own")
}

// TestShellsAtOnce asks more at once than there are shells for.
func TestShellsAtOnce(t *testing.T) {
	h, c := started(t, false)
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			out, err := query(t, h, `sleep 0.3; echo "$1"`, fmt.Sprint(i))
			assert.NoError(t, err)
			assert.Equal(t, fmt.Sprintln(i), string(out.Stdout))
		})
	}
	all.Wait()
	require.EqualValues(t, mostShells, c.shells.Load())
	require.EqualValues(t, 20-mostShells, c.sessions.Load())
}

// TestShellIsCut ends a question in the middle: its program ends, too, and so
// does the shell; the next question finds another.
func TestShellIsCut(t *testing.T) {
	h, c := started(t, false)
	dir := t.TempDir()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 300*time.Millisecond, errors.New("enough"))
	defer cancel()
	_, err := h.Query(ctx, engine.Command{Argv: []string{"sh", "-c", `while :; do : >"$1/there"; sleep 0.05; done`, "sh", dir}})
	require.ErrorContains(t, err, "enough")
	_, err = query(t, h, `rm -- "$1/there"; sleep 0.2; [ ! -e "$1/there" ]`, dir)
	require.NoError(t, err, "the program still runs")
	require.EqualValues(t, 2, c.shells.Load())

	_, err = query(t, h, `yes`)
	require.ErrorContains(t, err, "printed more than")
	_, err = query(t, h, `true`)
	require.NoError(t, err)
	require.EqualValues(t, 3, c.shells.Load())
	require.Zero(t, c.sessions.Load())
}

// TestShellEnds ends a shell while a program runs in it: that is run again.
func TestShellEnds(t *testing.T) {
	h, c := started(t, false)
	once := t.TempDir() + "/once"
	out, err := query(t, h, `
		[ -e "$1" ] && { echo again; exit 0; }
		: >"$1"
		echo first
		read -r pid comm state ppid group rest </proc/self/stat
		kill -s KILL -- "-$group"`, once)
	require.NoError(t, err)
	require.Equal(t, "again\n", string(out.Stdout))
	require.EqualValues(t, 1, c.sessions.Load())
	_, err = query(t, h, `true`)
	require.NoError(t, err)
	require.LessOrEqual(t, c.shells.Load()+c.sessions.Load(), int32(3))
}

// TestShellSaysMore has something say what was not asked for.
func TestShellSaysMore(t *testing.T) {
	h, c := started(t, false)
	_, err := query(t, h, `(sleep 0.2; echo late) & exit 0`)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		h.shells.mu.Lock()
		defer h.shells.mu.Unlock()
		return len(h.shells.alive) == 0
	}, 20*time.Second, 20*time.Millisecond, "the shell goes on")
	out, err := query(t, h, `echo now`)
	require.NoError(t, err)
	require.Equal(t, "now\n", string(out.Stdout))
	require.EqualValues(t, 2, c.shells.Load())
}

// TestNoShell is a machine that has no sessions for shells.
func TestNoShell(t *testing.T) {
	h, c := started(t, true)
	for i := range 2 * mostShells {
		out, err := query(t, h, `echo "$1"`, fmt.Sprint(i))
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintln(i), string(out.Stdout))
	}
	require.EqualValues(t, mostShells, c.shells.Load(), "it is not tried for ever")
	require.EqualValues(t, 2*mostShells, c.sessions.Load())
}

// TestAnswer gives a stream in pieces of every size.
func TestAnswer(t *testing.T) {
	text := "one\x01two\n\x01M"
	for size := 1; size < 20; size++ {
		a := newAnswer(func() { t.Error("stray") })
		var got bytes.Buffer
		a.expect("MARK", &got)
		for rest := []byte(text + "\x01MARK 255\n"); len(rest) > 0; rest = rest[min(size, len(rest)):] {
			n, err := a.Write(rest[:min(size, len(rest))])
			require.NoError(t, err)
			require.Equal(t, min(size, len(rest)), n)
		}
		require.Equal(t, 255, <-a.code)
		require.Equal(t, text, got.String())
	}
	for _, bad := range []string{"\x01MARK 255\nmore", "\x01MARK x\n", "\x01MARK 1234567", "\x01MARK 0\x01MARK 0\n"} {
		stray := 0
		a := newAnswer(func() { stray++ })
		a.expect("MARK", &bytes.Buffer{})
		_, err := a.Write([]byte(bad))
		require.NoError(t, err)
		require.Equal(t, 1, stray, "%q", bad)
		require.Empty(t, a.code)
	}
}
