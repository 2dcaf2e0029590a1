// Command build builds every kubeadm that the tests use into the cache, so
// that no test has to wait for it. It is quick when they are there already.
//
// usage: go run ./lab/kubeadm/build [version ...]
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"certbook/lab/kubeadm"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	versions := os.Args[1:]
	if len(versions) == 0 {
		versions = kubeadm.Versions()
	}
	for _, v := range versions {
		path, err := kubeadm.Build(ctx, v, os.Stderr)
		if err != nil {
			fmt.Fprintln(os.Stderr, "build:", err)
			os.Exit(1)
		}
		fmt.Println(path)
	}
}
