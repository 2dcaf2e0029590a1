package binaries

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
)

// Nodes returns what the lab's nodes run, for one version of Kubernetes.
func Nodes(kubernetes string) ([]Source, error) {
	dir, err := here()
	if err != nil {
		return nil, err
	}
	minor := kubernetes[:max(0, len(kubernetes)-len(filepath.Ext(kubernetes)))]
	module := filepath.Join(dir, "kubernetes-"+minor)
	if !isDir(module) {
		return nil, fmt.Errorf("no module for Kubernetes %s: %s is missing", kubernetes, module)
	}
	list := []Source{{Name: "kubernetes", Version: kubernetes, Dir: module, Packages: []string{"tool"}, LDFlags: Kubernetes(kubernetes)}}
	if minor == "1.23" {
		// The published module lacks generated code without which its
		// kube-apiserver does not build. The next version's serves it as well.
		next := "1.24.17"
		list = append(list, Source{Name: "kube-apiserver", Version: next, Dir: filepath.Join(dir, "kubernetes-1.24"), Packages: []string{"tool"}, LDFlags: Kubernetes(next)})
	}
	return append(list,
		Source{Name: "etcd", Version: "3.6.5", Dir: filepath.Join(dir, "etcd-3.6"), Packages: []string{"tool", "./etcd"}},
		Source{Name: "node", Version: "1", Dir: filepath.Join(dir, "node"), Packages: []string{"./crictl", "./pause"}},
	), nil
}

// BuildNodes builds them all and returns the directories that hold them.
func BuildNodes(ctx context.Context, kubernetes string, progress io.Writer) ([]string, error) {
	sources, err := Nodes(kubernetes)
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, s := range sources { // two at once repeat each other's work
		dir, err := Build(ctx, s, progress)
		if err != nil {
			return nil, err
		}
		dirs = append(dirs, dir)
	}
	return dirs, nil
}

// here returns the directory of this package's source.
func here() (string, error) {
	if _, file, _, ok := runtime.Caller(0); ok && filepath.IsAbs(file) {
		return filepath.Dir(file), nil
	}
	wd, err := os.Getwd()
	if err != nil {
		return "", err
	}
	return filepath.Join(wd, "lab", "binaries"), nil
}
