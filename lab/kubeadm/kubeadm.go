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
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"certbook/lab/binaries"
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
	needRoot(tb) // there is little to do with it otherwise, and it is a long build
	path, err := Build(tb.Context(), version, os.Stderr)
	if err != nil {
		tb.Fatal(err)
	}
	return path
}

// Build returns the path of a kubeadm of one of Versions and builds it first
// when the cache does not have it; see [binaries.Build].
func Build(ctx context.Context, version string, progress io.Writer) (string, error) {
	source, err := sourceDir(version)
	if err != nil {
		return "", fmt.Errorf("kubeadm %s: %w", version, err)
	}
	dir, err := binaries.Build(ctx, binaries.Source{
		Name: "kubeadm", Version: version, Dir: source, Packages: []string{"."}, Program: "kubeadm",
		LDFlags: binaries.Kubernetes(version),
	}, progress)
	return filepath.Join(dir, "kubeadm"), err
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
