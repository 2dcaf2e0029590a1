package hosttest

import (
	"bytes"
	"context"
	"errors"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certbook/engine"
)

// Run checks that a host keeps the promises of engine.Host. start returns the
// host and an empty directory on it (a path of the host) in which the suite
// may do as it likes. The commands that it uses are those that a Fake has.
func Run(t *testing.T, start func(t *testing.T) (engine.Host, string)) {
	h, dir := start(t)
	s := &suite{h: h, dir: dir}
	for _, c := range []struct {
		name string
		test func(*testing.T, *suite)
	}{
		{"output and status", testOutput},
		{"command not found", testNotFound},
		{"arguments arrive as they are", testArguments},
		{"environment", testEnv},
		{"standard input", testStdin},
		{"output to a file", testStdoutFile},
		{"too much output", testTooMuch},
		{"end of the context", testCancel},
		{"clock", testNow},
		{"read by pattern", testPatterns},
		{"read exactly", testExact},
		{"facts of a file", testFacts},
		{"what cannot be read", testUnreadable},
		{"links", testLinks},
		{"no secret is read", testRedaction},
		{"write", testWrite},
		{"write keeps", testKeeps},
		{"write through a link", testWriteLink},
		{"write refuses", testRefuses},
		{"save", testSave},
		{"install", testInstall},
		{"install all", testInstallAll},
		{"read a secret", testSecret},
		{"public keys", testKeys},
		{"handshake", testHandshake},
		{"get", testGet},
		{"lock", testLock},
		{"lock that was left", testLockLeft},
	} {
		t.Run(c.name, func(t *testing.T) {
			sub := *s
			sub.dir = path.Join(s.dir, strings.ReplaceAll(c.name, " ", "-"))
			sub.run(t, "mkdir", "-p", h.Path(sub.dir))
			c.test(t, &sub)
		})
	}
}

type suite struct {
	h   engine.Host
	dir string
}

// run runs a command that must succeed.
func (s *suite) run(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := s.h.Exec(t.Context(), engine.Command{Argv: argv})
	require.NoError(t, err)
	require.Zero(t, out.Code)
	return string(out.Stdout)
}

func (s *suite) at(name string) string { return s.dir + "/" + name }

func (s *suite) put(t *testing.T, name, data string) string {
	t.Helper()
	require.NoError(t, s.h.WriteFile(t.Context(), s.at(name), []byte(data), engine.FileOptions{}))
	return s.at(name)
}

func (s *suite) link(t *testing.T, target, name string) string {
	t.Helper()
	s.run(t, "ln", "-s", target, s.h.Path(s.at(name)))
	return s.at(name)
}

// one reads one file.
func (s *suite) one(t *testing.T, name string) engine.File {
	t.Helper()
	files, err := s.h.ReadFiles(t.Context(), name)
	require.NoError(t, err)
	require.Len(t, files, 1)
	return files[0]
}

func paths(files []engine.File) []string {
	out := []string{}
	for _, f := range files {
		out = append(out, f.Path)
	}
	return out
}

func testOutput(t *testing.T, s *suite) {
	out, err := s.h.Exec(t.Context(), engine.Command{Argv: []string{"echo", "hello"}})
	require.NoError(t, err)
	require.Equal(t, "hello\n", string(out.Stdout))
	require.Empty(t, string(out.Stderr))

	missing := s.h.Path(s.at("pass-word"))
	c := engine.Command{Argv: []string{"cat", missing}, Mask: []string{"pass-word"}}
	for _, run := range []func(context.Context, engine.Command) (engine.Output, error){s.h.Exec, s.h.Query} {
		out, err = run(t.Context(), c)
		var exit *engine.ExitError
		require.ErrorAs(t, err, &exit)
		require.Equal(t, 1, exit.Code)
		require.Equal(t, 1, out.Code)
		require.Empty(t, string(out.Stdout))
		require.Contains(t, string(out.Stderr), "pass-word")
		require.Contains(t, strings.ToLower(exit.Stderr), "no such file")
		require.NotContains(t, err.Error(), "pass-word")
		require.Contains(t, err.Error(), "***")
	}
	out, err = s.h.Exec(t.Context(), engine.Command{})
	require.ErrorContains(t, err, "without a program")
	require.Equal(t, -1, out.Code)
}

func testNotFound(t *testing.T, s *suite) {
	_, err := s.h.Exec(t.Context(), engine.Command{Argv: []string{"certbook-no-such-program", "x"}})
	var exit *engine.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, 127, exit.Code)
	require.Contains(t, exit.Stderr, "certbook-no-such-program: command not found")
}

func testArguments(t *testing.T, s *suite) {
	words := []string{"", " ", "a b", "it's", `"`, "$HOME", "`id`", "$(id)", "*", "~", "\\", "\\n", "a\nb", "--", "-n", ";", "&", "|", "!", "#", "ä€", "\xff", "'\"'\"'", "%s", "\t"}
	got := s.run(t, append([]string{"printf", `<%s>\n`}, words...)...)
	require.Equal(t, "<"+strings.Join(words, ">\n<")+">\n", got)
}

func testEnv(t *testing.T, s *suite) {
	out, err := s.h.Exec(t.Context(), engine.Command{Argv: []string{"env"}, Env: []string{"CERTBOOK_A=1 '$x' *", "CERTBOOK_B="}})
	require.NoError(t, err)
	lines := strings.Split(string(out.Stdout), "\n")
	require.Contains(t, lines, "CERTBOOK_A=1 '$x' *")
	require.Contains(t, lines, "CERTBOOK_B=")
}

func testStdin(t *testing.T, s *suite) {
	for _, in := range [][]byte{nil, []byte("x"), []byte("line\nno end"), bytes.Repeat([]byte("\x00\xff binary\n"), 50_000)} {
		out, err := s.h.Exec(t.Context(), engine.Command{Argv: []string{"cat"}, Stdin: in})
		require.NoError(t, err)
		require.True(t, bytes.Equal(in, out.Stdout), "%d bytes in, %d out", len(in), len(out.Stdout))
	}
	// A command that does not read its input succeeds all the same.
	_, err := s.h.Exec(t.Context(), engine.Command{Argv: []string{"true"}, Stdin: bytes.Repeat([]byte("x"), 1<<20)})
	require.NoError(t, err)
}

func testStdoutFile(t *testing.T, s *suite) {
	name := s.put(t, "out put", "an older and longer content")
	s.run(t, "chmod", "644", s.h.Path(name))
	out, err := s.h.Exec(t.Context(), engine.Command{Argv: []string{"echo", "it's"}, Stdout: name})
	require.NoError(t, err)
	require.Empty(t, string(out.Stdout))
	f := s.one(t, name)
	require.Equal(t, "it's\n", string(f.Data))
	require.EqualValues(t, 0o600, f.Mode)
}

func testTooMuch(t *testing.T, s *suite) {
	name := s.put(t, "big", strings.Repeat("0123456789abcde\n", 320<<10))
	p := s.h.Path(name)
	_, err := s.h.Exec(t.Context(), engine.Command{Argv: []string{"cat", p, p}})
	require.ErrorContains(t, err, "printed more than")
}

func testCancel(t *testing.T, s *suite) {
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	begin := time.Now()
	_, err := s.h.Exec(ctx, engine.Command{Argv: []string{"sleep", "60"}})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Less(t, time.Since(begin), 15*time.Second)
	var exit *engine.ExitError
	require.False(t, errors.As(err, &exit), "a command that was ended has no exit status: %v", err)
	s.run(t, "true") // the host is still of use

	gone, stop := context.WithCancel(t.Context())
	stop()
	_, err = s.h.Exec(gone, engine.Command{Argv: []string{"true"}})
	require.ErrorIs(t, err, context.Canceled)
	_, err = s.h.ReadFiles(gone, "/*")
	require.ErrorIs(t, err, context.Canceled)
}

func testNow(t *testing.T, s *suite) {
	a, err := s.h.Now(t.Context())
	require.NoError(t, err)
	b, err := s.h.Now(t.Context())
	require.NoError(t, err)
	require.False(t, b.Before(a))
	require.Less(t, b.Sub(a), time.Minute)
}
