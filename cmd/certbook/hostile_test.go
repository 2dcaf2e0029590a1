package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"certbook/engine"
	"certbook/engine/audit"

	"github.com/stretchr/testify/require"
)

// TestHostileLog shows logs that somebody wrote: sound in themselves, with texts
// that a terminal would act on.
func TestHostileLog(t *testing.T) {
	const bad = "x\n\x1b[2J\u009b\u202e"
	file := filepath.Join(t.TempDir(), "audit.jsonl")
	log, err := audit.Create(file)
	require.NoError(t, err)
	write := func(e engine.Event) {
		t.Helper()
		e.Run = bad
		require.NoError(t, log.Write(e))
	}
	write(engine.Event{Kind: engine.RunStarted, Hosts: []string{bad}, Origin: &engine.Origin{Playbook: bad}})
	write(engine.Event{Kind: engine.PlayStarted, Play: bad, Hosts: []string{bad}})
	write(engine.Event{Kind: bad})
	shown := func(code int, args ...string) {
		t.Helper()
		got, stdout, stderr := certbook(t, args...)
		require.Equal(t, code, got, stderr)
		require.NotRegexp(t, "[\\x00-\\x09\\x0b-\\x1f\\x7f-\\x{9f}\\x{202e}]", stdout+stderr)
		require.NotRegexp(t, `(?m)^\?`, stdout+stderr, "the line was ended")
	}
	shown(1, "audit", "verify", file)
	shown(0, "audit", "show", file)
	write(engine.Event{Kind: engine.RunFinished, Outcome: bad})
	require.NoError(t, log.Close())
	shown(0, "audit", "verify", file)
	shown(0, "audit", "show", file)
}

// TestServerThatSpeaksUnasked is a health endpoint that answers before it was
// asked. What it says is not an answer, and not for the terminal.
func TestServerThatSpeaksUnasked(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 503 x\r\nContent-Length: 5\r\n\r\nnoise")
			c.Close()
		}
	}()
	dir := t.TempDir()
	playbook := filepath.Join(dir, "p.yaml")
	require.NoError(t, os.WriteFile(playbook, fmt.Appendf(nil, `version: 1
name: p
plays:
- {name: one, hosts: all, steps: [{id: ready, action: wait-ready, with: {components: [], urls: ["http://%s/"], within: 3s}}]}
`, l.Addr()), 0o600))
	r := prepare(t, "run", playbook, "--root", dir, "--run-dir", dir+"/runs", "--yes")
	r.starts(t)
	require.NotZero(t, r.ends(t))
	require.Contains(t, r.stderr.String(), "failed")
	require.NotContains(t, r.stderr.String(), "Unsolicited response")
}
