package main

import (
	"os"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func newestRun(t *testing.T, dir string) string {
	t.Helper()
	runs, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	require.NotEmpty(t, runs)
	return filepath.Base(runs[len(runs)-1])
}

// TestResumeNewest leaves a run half done; runs that fail before they
// change anything do not hide it, until it has been gone on with.
func TestResumeNewest(t *testing.T) {
	b := startBlocked(t)
	b.interrupts(t, syscall.SIGINT)
	b.stderr.waits(t, "finishing the present step")
	require.NoError(t, b.gate.Close())
	require.Equal(t, 130, b.ends(t))
	require.NoError(t, os.Remove(filepath.Join(b.dir, "gate")))
	require.NoError(t, os.WriteFile(filepath.Join(b.dir, "gate"), nil, 0o600))
	half := newestRun(t, b.runs)

	refuses := filepath.Join(b.dir, "refuses.yaml")
	require.NoError(t, os.WriteFile(refuses, []byte(`version: 1
name: refuses
plays: [{name: one, hosts: all, steps: [{id: no, action: assert, with: {that: "${false}", message: no}}]}]
`), 0o600))
	refused := func() string {
		second := time.Now().Unix() // runs of one second are in no order
		require.Eventually(t, func() bool { return time.Now().Unix() != second }, patience, tick)
		code, _, _ := certbook(t, "run", refuses, "--yes", "--run-dir", b.runs)
		require.Equal(t, 1, code)
		return newestRun(t, b.runs)
	}
	resume := func() (int, string) {
		code, _, stderr := certbook(t, "resume", "--yes", "--run-dir", b.runs)
		return code, regexp.MustCompile(`resuming run (\S+) of`).FindStringSubmatch(stderr)[1]
	}
	refused()
	code, resumed := resume()
	require.Equal(t, half, resumed)
	require.Zero(t, code)
	require.FileExists(t, filepath.Join(b.dir, "third"))

	newest := refused()
	code, resumed = resume()
	require.Equal(t, newest, resumed, "the older one has been gone on with")
	require.Equal(t, 1, code)
}
