package host

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certbook/engine"
)

func FuzzParseFiles(f *testing.F) {
	f.Add([]byte("F /a\nS 81a4 0 0 2 1700000000.123456789\nT /a\n+x\nD 0\nZ\n"))
	f.Add([]byte("F /a\nE l\nF /b\nS 41ed 0 0 4096 1.0\nT /b\nE d\nZ\n"))
	f.Add([]byte("X too many\n"))
	f.Add([]byte("+\n\nZ"))
	f.Add([]byte("F /a\nS 81a4 0 0 2 253402300799.999999999\nE s\nF /b\nS ffffffff -1 -1 9223372036854775807 -1.0\nE p\nZ\n"))
	f.Fuzz(func(t *testing.T, out []byte) {
		files, err := parseFiles(out)
		if err != nil && files != nil {
			t.Fatal("files and an error")
		}
		if len(files) > maxFiles {
			t.Fatalf("%d files", len(files))
		}
		for _, file := range files {
			if file.Err == "" && keyBegin.Match(file.Data) {
				t.Fatalf("a key in %q", file.Data)
			}
			if file.Err != "" && file.Data != nil {
				t.Fatalf("%q has data and the error %q", file.Path, file.Err)
			}
			if file.Size < 0 || file.Mode > 0o777 || len(file.Data) > engine.MaxFileSize+1 || strings.Contains(file.Path, "\n") {
				t.Fatalf("%+v", file)
			}
			if _, err := file.ModTime.MarshalJSON(); err != nil {
				t.Fatal(err) // it could not be written to a log
			}
		}
	})
}

func TestParseFilesRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                         "incomplete",
		"F /a\n":                   "incomplete",
		"F /a\nZ":                  "ends within a line",
		"\nZ\n":                    "ends within a line",
		"E d\nZ\n":                 "unexpected answer",
		"F /a\nE ?\nZ\n":           "/a: unexpected reason",
		"F /a\nS x\nZ\n":           "GNU coreutils",
		"F /a\nS x 0 0 0 0.0\nZ\n": "GNU coreutils",
		"F /a\nQ x\nZ\n":           "/a: unexpected answer",
		"F /a\nE d\nE d\nZ\n":      "/a: unexpected answer",
		"X stop\n":                 "stop",
	} {
		_, err := parseFiles([]byte(text))
		require.ErrorContains(t, err, want, "%q", text)
	}
}

// The machine's awk must not matter.
func TestReadFilesWithEachAWK(t *testing.T) {
	for _, awk := range awks(t) {
		root := t.TempDir()
		require.NoError(t, os.MkdirAll(root+"/usr/local/bin", 0o700))
		require.NoError(t, os.Symlink(awk, root+"/usr/local/bin/awk"))
		h, err := Local(t.Context(), LocalOptions{Root: root})
		require.NoError(t, err)
		for name, c := range redactions() {
			require.NoError(t, os.WriteFile(filepath.Join(root, name+".conf"), []byte(c[0]), 0o600))
		}
		require.NoError(t, os.WriteFile(root+"/nul.der", []byte("\x30\x00\x01\n\x00"), 0o600))
		files, err := h.ReadFiles(t.Context(), "/*.conf", "/nul.der")
		require.NoError(t, err)
		require.Len(t, files, len(redactions())+1)
		for _, f := range files[:len(files)-1] {
			want := redactions()[strings.TrimSuffix(f.Path[1:], ".conf")]
			got := string(f.Data)
			if want[0] != want[1] {
				got, want[1] = strings.TrimSuffix(got, "\n"), strings.TrimSuffix(want[1], "\n")
			}
			require.Equal(t, want[1], got, "%s: %s", awk, f.Path)
		}
		nul := files[len(files)-1]
		require.True(t, string(nul.Data) == "\x30\x00\x01\n\x00" || strings.Contains(nul.Err, "is not text"), "%s: %q %q", awk, nul.Data, nul.Err)
	}
}

func TestReadFilesOddNames(t *testing.T) {
	root := t.TempDir()
	h, err := Local(t.Context(), LocalOptions{Root: root})
	require.NoError(t, err)
	for _, name := range []string{"a\nF x", "b=c", "-n", "c\\d", "e'\"f", "*"} {
		require.NoError(t, os.WriteFile(filepath.Join(root, name), []byte(name), 0o600))
	}
	files, err := h.ReadFiles(t.Context(), "/*")
	require.NoError(t, err)
	require.Len(t, files, 6)
	for _, f := range files {
		if f.Path == "/a?F x" {
			require.Equal(t, "has a newline in its name", f.Err)
			continue
		}
		require.Equal(t, f.Path[1:], string(f.Data))
	}
}

func TestReadFilesBounds(t *testing.T) {
	root := t.TempDir()
	h, err := Local(t.Context(), LocalOptions{Root: root})
	require.NoError(t, err)
	for i := range 65 {
		name := filepath.Join(root, "big"+string(rune('A'+i)))
		require.NoError(t, os.WriteFile(name, []byte("x"), 0o600))
		require.NoError(t, os.Truncate(name, engine.MaxFileSize))
	}
	_, err = h.ReadFiles(t.Context(), "/big*")
	require.ErrorContains(t, err, "larger than 67108864 bytes together")
	for i := range maxFiles + 1 {
		require.NoError(t, os.WriteFile(filepath.Join(root, "n"+time.Duration(i).String()), nil, 0o600))
	}
	_, err = h.ReadFiles(t.Context(), "/n*")
	require.ErrorContains(t, err, "more than 4096 files match")
}

// A FIFO and a device are not opened, or this test would hang.
func TestSpecialFiles(t *testing.T) {
	h, err := Local(t.Context(), LocalOptions{})
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.Symlink("/dev/zero", dir+"/zero"))
	require.NoError(t, syscall.Mkfifo(dir+"/fifo", 0o600))
	files, err := h.ReadFiles(t.Context(), dir+"/fifo", dir+"/zero")
	require.NoError(t, err)
	require.Equal(t, "is not a regular file", files[0].Err)
	require.Equal(t, "is not a regular file", files[1].Err)
	keys, err := h.PublicKeys(t.Context(), dir+"/fifo", dir+"/zero")
	require.NoError(t, err)
	require.Empty(t, keys)
	_, err = h.ReadSecret(t.Context(), dir+"/fifo")
	require.ErrorContains(t, err, "not a regular file")
}
