package kubeadm_test

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"certbook/lab/kubeadm"
)

// each runs a test for every version.
func each(t *testing.T, test func(t *testing.T, version string)) {
	for _, version := range kubeadm.Versions() {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			test(t, version)
		})
	}
}

func TestBinaryKnowsItsVersion(t *testing.T) {
	each(t, func(t *testing.T, version string) {
		path := kubeadm.Binary(t, version)
		require.Equal(t, "kubeadm", filepath.Base(path))
		out, err := exec.Command(path, "version", "-o", "short").Output()
		require.NoError(t, err)
		require.Equal(t, "v"+version+"\n", string(out))
	})
}

// With an empty cache, several at once run one build; with a filled one there
// is no build, and neither network nor Go is needed.
func TestBuildOnce(t *testing.T) {
	bin, cache := t.TempDir(), t.TempDir()
	t.Setenv("CERTBOOK_CACHE", cache)
	t.Setenv("PATH", bin+":/usr/bin:/bin")
	// stands in for Go: notes its arguments and makes the file after -o, slowly
	script := "#!/bin/sh\necho \"$@\" >>" + bin + "/calls\nwhile [ \"$1\" != -o ]; do shift; done\nsleep 0.2\nprintf built >\"$2\"\nchmod 755 \"$2\"\n"
	require.NoError(t, os.WriteFile(filepath.Join(bin, "go"), []byte(script), 0o755))

	var group sync.WaitGroup
	paths, errs := make([]string, 4), make([]error, 4)
	for i := range paths {
		group.Go(func() { paths[i], errs[i] = kubeadm.Build(t.Context(), "1.19.16", io.Discard) })
	}
	group.Wait()
	for i, path := range paths {
		require.NoError(t, errs[i])
		require.Equal(t, paths[0], path)
	}
	built, err := os.ReadFile(paths[0])
	require.NoError(t, err)
	require.Equal(t, "built", string(built))
	entries, err := os.ReadDir(filepath.Dir(paths[0]))
	require.NoError(t, err)
	require.Len(t, entries, 1, "only the program is in its directory")
	calls, err := os.ReadFile(filepath.Join(bin, "calls"))
	require.NoError(t, err)
	require.Regexp(t, `^build -mod=readonly .*version\.gitVersion=v1\.19\.16 .* -o .*\.draft/kubeadm \.\n$`, string(calls))

	t.Setenv("PATH", "")
	var progress strings.Builder
	again, err := kubeadm.Build(t.Context(), "1.19.16", &progress)
	require.NoError(t, err)
	require.Equal(t, paths[0], again)
	require.Empty(t, progress.String())
}

func TestBuildFails(t *testing.T) {
	cache := t.TempDir()
	t.Setenv("CERTBOOK_CACHE", cache)
	for _, version := range []string{"1.18.0", "1.34.5", "1", "", "../../x.1"} {
		_, err := kubeadm.Build(t.Context(), version, io.Discard)
		require.ErrorContains(t, err, "no module for it", version)
		require.ErrorContains(t, err, "known: 1.19.16, 1.34.4, 1.37.2")
	}
	t.Setenv("PATH", "")
	_, err := kubeadm.Build(t.Context(), "1.34.4", io.Discard)
	require.ErrorContains(t, err, "go build in")
	found, err := filepath.Glob(filepath.Join(cache, "kubeadm", "*", "*"))
	require.NoError(t, err)
	require.Empty(t, found, "a build that failed leaves nothing")
}
