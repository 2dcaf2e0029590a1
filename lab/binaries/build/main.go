// Command build builds what the lab's nodes run into the cache.
//
// usage: go run ./lab/binaries/build [VERSION]
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"certbook/lab/binaries"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	version := "1.34.4"
	if len(os.Args) > 1 {
		version = os.Args[1]
	}
	dirs, err := binaries.BuildNodes(ctx, version, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
	for _, dir := range dirs {
		fmt.Println(dir)
	}
}
