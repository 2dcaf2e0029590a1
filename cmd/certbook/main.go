// Command certbook renews the certificates of kubeadm control planes: it
// carries out a playbook on this machine or, over SSH, on an inventory of
// masters.
package main

import (
	"io"
	"log"
	"os"
)

func main() {
	log.SetOutput(io.Discard) // net/http would print there what a server says unasked
	os.Exit(run(os.Args[1:], streams{in: os.Stdin, out: os.Stdout, err: os.Stderr}))
}
