// Package kubeadm gives tests the real kubeadm, several versions of it, and
// control-plane trees that were laid out by it.
//
// Each version is built once from published Go modules (the directories
// v1.*, each a module of its own with upstream's main) and kept in a cache
// outside the checkout, so that only the first build needs the network:
//
//	go run ./lab/kubeadm/build
//
// [Binary] returns such a program and [Layout] a tree below a directory with
// everything that `kubeadm init` writes to a node: /etc/kubernetes and
// /var/lib/kubelet. No cluster runs there and nothing is dialled. [Reissue],
// [Corrupt] and [ReplaceKey] then break a tree in the ways that real nodes
// are broken.
package kubeadm

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// Versions returns the versions that can be built, oldest first. The oldest
// still says `kubeadm alpha certs` and knows no certificateValidityPeriod.
func Versions() []string {
	return []string{"1.19.16", "1.34.4", "1.37.2"}
}

// Binary returns the path of a kubeadm of one of Versions, a file named
// kubeadm alone in its directory. It is built when the cache does not have it,
// which takes minutes and, once, the module proxy.
func Binary(tb testing.TB, version string) string {
	tb.Helper()
	path, err := Build(tb.Context(), version, os.Stderr)
	if err != nil {
		tb.Fatal(err)
	}
	return path
}

// Build returns the path of a kubeadm of one of Versions and builds it first
// when the cache does not have it. Processes that ask for the same one at the
// same time wait for a single build. Progress lines go to progress, nothing
// when the program is there already.
//
// The cache is $CERTBOOK_CACHE, or certbook in the user's cache directory.
func Build(ctx context.Context, version string, progress io.Writer) (string, error) {
	source, err := sourceDir(version)
	if err != nil {
		return "", fmt.Errorf("kubeadm %s: %w", version, err)
	}
	path, err := cachePath(source, version)
	if err != nil {
		return "", fmt.Errorf("kubeadm %s: %w", version, err)
	}
	if executable(path) {
		return path, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", fmt.Errorf("kubeadm %s: make cache directory: %w", version, err)
	}
	unlock, err := lock(filepath.Dir(path) + ".lock")
	if err != nil {
		return "", fmt.Errorf("kubeadm %s: lock cache: %w", version, err)
	}
	defer unlock()
	if executable(path) { // built by the process that had the lock
		return path, nil
	}
	if err := compile(ctx, source, version, path, progress); err != nil {
		return "", fmt.Errorf("kubeadm %s: %w", version, err)
	}
	return path, nil
}

// compile builds the module in source and puts the program at path in one
// step, so that path is either absent or complete.
func compile(ctx context.Context, source, version, path string, progress io.Writer) error {
	started := time.Now()
	fmt.Fprintf(progress, "kubeadm %s: building, a few minutes the first time\n", version)
	draft := path + ".draft" // ours alone: the lock is held
	defer os.Remove(draft)

	cmd := exec.CommandContext(ctx, "go", "build", "-mod=readonly", "-buildvcs=false", "-trimpath",
		"-ldflags", ldflags(version), "-o", draft, ".")
	cmd.Dir = source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=",
		"GOOS="+runtime.GOOS, "GOARCH="+runtime.GOARCH)
	cmd.WaitDelay = 5 * time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build in %s: %w (the first build needs the Go module proxy)\n%s", source, err, tail(out))
	}
	if err := os.Rename(draft, path); err != nil {
		return fmt.Errorf("keep in cache: %w", err)
	}
	fmt.Fprintf(progress, "kubeadm %s: built in %s\n", version, time.Since(started).Round(time.Second))
	return nil
}

// ldflags are the linker flags that make a build from modules call itself by
// its version, as an official build does.
func ldflags(version string) string {
	const pkg = "k8s.io/component-base/version."
	major, minor, _ := strings.Cut(majorMinor(version), ".")
	return "-s -w" +
		" -X " + pkg + "gitVersion=v" + version +
		" -X " + pkg + "gitMajor=" + major +
		" -X " + pkg + "gitMinor=" + minor +
		" -X " + pkg + "gitTreeState=clean"
}

// majorMinor returns "1.34" for "1.34.4".
func majorMinor(version string) string {
	return version[:max(0, strings.LastIndexByte(version, '.'))]
}

// sourceDir returns the directory of the module that builds version. It lies
// beside this file, or, where the compiler was told not to keep paths, below
// the module that the working directory belongs to.
func sourceDir(version string) (string, error) {
	name := "v" + majorMinor(version)
	if _, file, _, ok := runtime.Caller(0); ok && filepath.IsAbs(file) {
		if dir := filepath.Join(filepath.Dir(file), name); requires(dir, version) {
			return dir, nil
		}
	}
	wd, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find module: %w", err)
	}
	for dir := wd; ; dir = filepath.Dir(dir) {
		if source := filepath.Join(dir, "lab", "kubeadm", name); requires(source, version) {
			return source, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no module for it in lab/kubeadm above %s (known: %s)", wd, strings.Join(Versions(), ", "))
		}
	}
}

// requires reports whether dir holds a module that requires this version.
func requires(dir, version string) bool {
	mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	return err == nil && strings.Contains(string(mod), "k8s.io/kubernetes v"+version+"\n")
}

// cachePath returns where the program is kept. The directory's name changes
// with everything that the program is made of, the Go release excepted.
func cachePath(source, version string) (string, error) {
	base := os.Getenv("CERTBOOK_CACHE")
	if base == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find cache directory: %w (set CERTBOOK_CACHE)", err)
		}
		base = filepath.Join(dir, "certbook")
	}
	sum := sha256.New()
	fmt.Fprintln(sum, runtime.GOOS, runtime.GOARCH, ldflags(version))
	for _, name := range []string{"go.mod", "go.sum", "main.go"} {
		data, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			return "", err
		}
		fmt.Fprintln(sum, name, len(data))
		sum.Write(data)
	}
	dir := fmt.Sprintf("%s-%x", version, sum.Sum(nil)[:6])
	return filepath.Abs(filepath.Join(base, "kubeadm", dir, "kubeadm"))
}

// executable reports whether path is a program.
func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o100 != 0
}

// tail returns the last lines of a program's output.
func tail(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}
