package main

import (
	"encoding/base64"
	"encoding/pem"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestDemo runs the demo as a user does.
func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("the demo takes a while")
	}
	dir := filepath.Join(t.TempDir(), "sandbox")
	began := time.Now()
	var before []string // keys of the sandbox while it is fresh
	d := start(t, "demo", "--keep", dir)
	d.stdout.waits(t, "# The certificates end in nine days; exit code 3 says so.\n")
	before = privateKeys(t, dir)
	require.Zero(t, d.ends(t))
	t.Logf("the demo took %s", time.Since(began).Round(time.Second))
	require.NotEmpty(t, before)

	rest := d.stdout.String()
	for _, text := range []string{
		"\n# The certificates end in nine days; exit code 3 says so.\n$ certbook check -i ", "  DUE ",
		"\n# What would be done?\n$ certbook plan -i ", "~ apiserver: due (8d left) -> renewed\n",
		"\n# Renew, one master at a time, and prove that the new certificates are served.\n$ certbook run renew --yes ", ": ok\n",
		"\n# What the ports serve, asked without certbook.\n", "etcd peer",
		"\n# Everything is good for a year.\n$ certbook check -i ", "  OK ",
		"\n# The log of the run is whole.\n$ certbook audit verify ", " of renew: ok\nhead ",
		"\n# A second run changes nothing.\n$ certbook run renew --yes ", "Nothing was changed.\nrun ",
	} {
		_, after, found := strings.Cut(rest, text)
		require.Truef(t, found, "no %q in its place", text)
		rest = after
	}
	_, good, _ := strings.Cut(d.stdout.String(), "# Everything is good for a year.")
	require.NotContains(t, good, " DUE ")

	runs, err := filepath.Glob(filepath.Join(dir, "runs", "*"))
	require.NoError(t, err)
	require.Len(t, runs, 2)
	for _, run := range runs {
		code, out, _ := certbook(t, "audit", "verify", run)
		require.Zero(t, code)
		require.Contains(t, out, " of renew: ok\n")
	}
	lease, err := os.ReadFile(filepath.Join(dir, "lease.json"))
	require.NoError(t, err)
	require.Contains(t, string(lease), `"spec":{}`, "the cluster's lock was given back")
	require.NotContains(t, d.stderr.String(), "warning  the cluster is not locked")
	logs := tree(t, filepath.Join(dir, "runs")) + d.stdout.String() + d.stderr.String()
	for _, line := range append(before, privateKeys(t, dir)...) {
		require.NotContains(t, logs, line)
	}
	require.Empty(t, processes(t, dir))
}

// TestDemoInterrupted stops the demo with Ctrl-C while it renews.
func TestDemoInterrupted(t *testing.T) {
	if testing.Short() {
		t.Skip("the demo takes a while")
	}
	dir := filepath.Join(t.TempDir(), "sandbox")
	d := start(t, "demo", "--keep", dir)
	d.stderr.waits(t, "  m1  renew                  changing")
	require.NotEmpty(t, processes(t, dir), "this test looks at the right processes")
	// Not its process group: a command that is just being started is in that for a
	// moment, and would end before it has begun.
	require.NoError(t, d.Process.Signal(syscall.SIGINT))
	require.Equal(t, 130, d.ends(t))
	require.Regexp(t, `  m1  renew                  changed`, d.stderr.String())
	require.Regexp(t, `not done: m1 from \w+ on \(\d+\), m2 from \w+ on`, d.stderr.String())
	require.Contains(t, d.stdout.String(), "\nm3: interrupted\n")
	require.NotContains(t, d.stdout.String(), "# Everything is good for a year.")
	code, out, _ := certbook(t, "audit", "verify", "--run-dir", filepath.Join(dir, "runs"))
	require.Zero(t, code)
	require.Contains(t, out, " of renew: interrupted\n")
	require.Empty(t, processes(t, dir))
}

// privateKeys returns one line, from the middle, of each private key below dir,
// also of those in kubeconfigs, as it is there and as it is when it is decoded.
func privateKeys(t *testing.T, dir string) []string {
	t.Helper()
	var lines []string
	add := func(data []byte) {
		for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
			if strings.HasSuffix(block.Type, "PRIVATE KEY") {
				text := base64.StdEncoding.EncodeToString(block.Bytes)
				lines = append(lines, text[:60], text[64:120]) // two lines of PEM
			}
		}
	}
	inYAML := regexp.MustCompile(`client-key-data: (\S+)`)
	for _, master := range []string{"m1", "m2", "m3"} {
		require.NoError(t, filepath.WalkDir(filepath.Join(dir, master), func(file string, d fs.DirEntry, err error) error {
			if os.IsNotExist(err) || err == nil && !d.Type().IsRegular() {
				return nil
			}
			if err != nil {
				return err
			}
			data, err := os.ReadFile(file)
			if err != nil {
				return nil // it has gone: a process's state
			}
			add(data)
			for _, m := range inYAML.FindAllSubmatch(data, -1) {
				key, err := base64.StdEncoding.DecodeString(string(m[1]))
				require.NoError(t, err)
				add(key)
				lines = append(lines, string(m[1][100:200]))
			}
			return nil
		}))
	}
	slices.Sort(lines)
	return slices.Compact(lines)
}

// processes returns the command lines of the processes that work below dir.
func processes(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	var list []string
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err == nil && strings.Contains(string(data), dir) {
			list = append(list, strings.ReplaceAll(string(data), "\x00", " "))
		}
	}
	return list
}
