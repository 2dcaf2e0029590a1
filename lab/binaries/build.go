// Package binaries builds the programs that tests and the lab need from
// published Go modules, once, into a cache outside the checkout:
//
//	kubernetes-1.34  kubeadm, kubelet, kubectl and the control plane
//	kubernetes-1.23  the same of the last version that knows docker, but for
//	kubernetes-1.24  kube-apiserver
//	etcd-3.6         etcd, etcdctl, etcdutl
//	node             small programs of our own that run on the lab's nodes
//
// Each of these directories is a module of its own, as Certbook itself does
// not depend on Kubernetes.
package binaries

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// Source says what to build from a module.
type Source struct {
	Name     string   // of the cached directory and in messages
	Version  string   // likewise
	Dir      string   // the module's directory
	Packages []string // what to build; each becomes a program named after its last element
	Program  string   // the program's name when there is one package; "" is that of the package
	LDFlags  string
}

// Build returns the directory that holds the programs of s, and nothing else.
// They are built when the cache does not have them. Processes that ask for the
// same ones at the same time wait for a single build. Progress lines go to
// progress, nothing when the programs are there already.
//
// The cache is $CERTBOOK_CACHE, or certbook in the user's cache directory.
func Build(ctx context.Context, s Source, progress io.Writer) (string, error) {
	dir, err := s.cacheDir()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", s.Name, s.Version, err)
	}
	if isDir(dir) {
		return dir, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", fmt.Errorf("%s %s: make cache directory: %w", s.Name, s.Version, err)
	}
	unlock, err := lock(dir + ".lock")
	if err != nil {
		return "", fmt.Errorf("%s %s: lock cache: %w", s.Name, s.Version, err)
	}
	defer unlock()
	if isDir(dir) { // built by the process that had the lock
		return dir, nil
	}
	if err := s.compile(ctx, dir, progress); err != nil {
		return "", fmt.Errorf("%s %s: %w", s.Name, s.Version, err)
	}
	return dir, nil
}

// compile builds the packages and puts dir in place in one step, so that it is
// either absent or complete.
func (s Source) compile(ctx context.Context, dir string, progress io.Writer) error {
	started := time.Now()
	fmt.Fprintf(progress, "%s %s: building, a few minutes the first time\n", s.Name, s.Version)
	draft := dir + ".draft" // ours alone: the lock is held
	defer os.RemoveAll(draft)
	if err := os.RemoveAll(draft); err != nil {
		return err
	}
	if err := os.Mkdir(draft, 0o755); err != nil {
		return err
	}
	args := []string{"build", "-mod=readonly", "-buildvcs=false", "-trimpath", "-ldflags", "-s -w " + s.LDFlags, "-o", filepath.Join(draft, s.Program) + s.slash()}
	cmd := exec.CommandContext(ctx, "go", append(args, s.Packages...)...)
	cmd.Dir = s.Dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=",
		"GOOS="+runtime.GOOS, "GOARCH="+runtime.GOARCH)
	cmd.WaitDelay = 5 * time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build in %s: %w (the first build needs the Go module proxy)\n%s", s.Dir, err, tail(out))
	}
	if err := os.Rename(draft, dir); err != nil {
		return fmt.Errorf("keep in cache: %w", err)
	}
	fmt.Fprintf(progress, "%s %s: built in %s\n", s.Name, s.Version, time.Since(started).Round(time.Second))
	return nil
}

// slash makes go build write into a directory unless there is a name.
func (s Source) slash() string {
	if s.Program == "" {
		return "/"
	}
	return ""
}

// Kubernetes returns the linker flags that make a build from modules call
// itself by its version, as an official build does.
func Kubernetes(version string) string {
	major, rest, _ := strings.Cut(version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	var flags []string
	for _, pkg := range []string{"k8s.io/component-base/version.", "k8s.io/client-go/pkg/version."} {
		flags = append(flags, "-X "+pkg+"gitVersion=v"+version, "-X "+pkg+"gitMajor="+major,
			"-X "+pkg+"gitMinor="+minor, "-X "+pkg+"gitTreeState=clean")
	}
	return strings.Join(flags, " ")
}

// cacheDir returns where the programs are kept. Its name changes with
// everything that they are made of, the Go release excepted.
func (s Source) cacheDir() (string, error) {
	base, err := Cache()
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	fmt.Fprintln(sum, runtime.GOOS, runtime.GOARCH, s.LDFlags, s.Packages, s.Program)
	err = filepath.WalkDir(s.Dir, func(file string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(file)
		fmt.Fprintln(sum, strings.TrimPrefix(file, s.Dir), len(data))
		sum.Write(data)
		return err
	})
	if err != nil {
		return "", err
	}
	return filepath.Join(base, s.Name, fmt.Sprintf("%s-%x", s.Version, sum.Sum(nil)[:6])), nil
}

// Cache returns the directory for what is built once: $CERTBOOK_CACHE, or
// certbook in the user's cache directory.
func Cache() (string, error) {
	if base := os.Getenv("CERTBOOK_CACHE"); base != "" {
		return filepath.Abs(base)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find cache directory: %w (set CERTBOOK_CACHE)", err)
	}
	return filepath.Join(dir, "certbook"), nil
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// tail returns the last lines of a program's output.
func tail(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}
