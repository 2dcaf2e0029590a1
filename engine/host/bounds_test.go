package host

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"certbook/engine"
)

// requireAtMost runs f and wants that it takes no more than limit bytes of
// memory from the heap, freed ones included.
func requireAtMost(t *testing.T, limit uint64, f func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	require.LessOrEqual(t, after.TotalAlloc-before.TotalAlloc, limit)
}

// large makes a file of 50 MB below root.
func large(t *testing.T, root, name string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(root+name), 0o700))
	require.NoError(t, os.WriteFile(root+name, []byte("-----BEGIN CERTIFICATE-----\n"), 0o600))
	require.NoError(t, os.Truncate(root+name, 50_000_000))
}

func TestLargeFile(t *testing.T) {
	root := t.TempDir()
	local, err := Local(t.Context(), LocalOptions{Root: root})
	require.NoError(t, err)
	shell := &Host{t: loginShell{}}
	t.Cleanup(func() { require.NoError(t, shell.Close()) })
	for name, c := range map[string]struct {
		h   *Host
		dir string
	}{"local": {local, ""}, "through a shell": {shell, root}} {
		t.Run(name, func(t *testing.T) {
			const pki = "/etc/kubernetes/pki/"
			large(t, root, pki+"apiserver.crt")
			large(t, root, pki+"apiserver.key")
			require.NoError(t, os.WriteFile(root+pki+"ca.crt", []byte("fine"), 0o600))
			requireAtMost(t, 16<<20, func() {
				files, err := c.h.ReadFiles(t.Context(), c.dir+pki+"*")
				require.NoError(t, err)
				require.Len(t, files, 3)
				require.Equal(t, c.dir+pki+"apiserver.crt", files[0].Path)
				require.Equal(t, "has 50000000 bytes; at most 1048576 are read", files[0].Err)
				require.EqualValues(t, 50_000_000, files[0].Size)
				require.Nil(t, files[0].Data)
				require.Equal(t, "fine", string(files[2].Data))
				_, err = c.h.ReadSecret(t.Context(), c.dir+pki+"apiserver.key")
				require.EqualError(t, err, "read "+c.dir+pki+"apiserver.key: has 50000000 bytes; at most 8388608 are read")
				keys, err := c.h.PublicKeys(t.Context(), c.dir+pki+"apiserver.key")
				require.NoError(t, err)
				require.Empty(t, keys)
			})
		})
	}
}

// A host may say what it likes instead of what the script prints.
func TestHostileAnswers(t *testing.T) {
	many := bytes.Repeat([]byte("F /a\n"), 10_000_000)
	requireAtMost(t, 16<<20, func() {
		_, err := parseFiles(many)
		require.EqualError(t, err, "the answer has more than 4096 files")
	})
	file := func(stat, data string) string { return "F /a\nS " + stat + "\nT /a\n" + data + "D 1\nZ\n" }
	line := "+" + strings.Repeat("x", 127) + "\n"
	files, err := parseFiles([]byte(file("81a4 0 0 2 1.0", strings.Repeat(line, engine.MaxFileSize/128+1))))
	require.NoError(t, err)
	require.Equal(t, "is larger than it says; at most 1048576 bytes are read", files[0].Err)
	require.Nil(t, files[0].Data)
	for _, stat := range []string{"81a4 0 0 -2 1.0", "81a4 0 0 2 9999999999999.0", "81a4 0 0 2 -9999999999999.0", "81a4 0 0 2 1.-1"} {
		_, err := parseFiles([]byte(file(stat, "")))
		require.ErrorContains(t, err, "stat printed", stat)
	}
}

// What sudo prints before it lets the command through is bounded, and so is the
// time that it may take.
func TestSudoWithoutEnd(t *testing.T) {
	for _, stream := range []string{"stdout", "stderr"} {
		t.Run(stream, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			d := &sudoTalk{asked: make(chan struct{}, 1), passed: make(chan struct{}), prompt: []byte("p:"), cancel: cancel,
				stdout: &bounded{limit: 1 << 10, full: func() {}}, stderr: &bounded{limit: 1 << 20, full: func() {}}}
			write := talkErr{d}.Write
			if stream == "stdout" {
				write = talkOut{d}.Write
			}
			noise := make([]byte, 32<<10)
			requireAtMost(t, 4<<20, func() {
				for range 10_000 {
					n, err := write(noise)
					require.NoError(t, err)
					require.Equal(t, len(noise), n)
				}
			})
			require.EqualError(t, context.Cause(ctx), "sudo printed more than 65536 bytes before the command ran")
			require.ErrorIs(t, context.Cause(ctx), ErrSudo)
		})
	}
}
