// Command tally sums up the output of go test -json: failures in full, then
// what was skipped and why, then one closing line.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64
}

type tally struct {
	output                 map[string][]string // by package and test
	passed, failed         int
	skipped, bad, packages []string
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: tally FILE")
		os.Exit(2)
	}
	f, err := os.Open(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	t := tally{output: map[string][]string{}}
	if err := t.read(f); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	t.print(os.Stdout)
}

func (t *tally) read(r io.Reader) error {
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadString('\n')
		var e event
		if json.Unmarshal([]byte(line), &e) == nil {
			t.add(e)
		} else if strings.TrimSpace(line) != "" {
			fmt.Print(line) // what the tool says outside of its JSON
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (t *tally) add(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "output", "build-output":
		t.output[key] = append(t.output[key], e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			t.packages = append(t.packages, fmt.Sprintf("%-5s %7.1fs  %s", e.Action, e.Elapsed, e.Package))
			if e.Action == "fail" {
				t.bad = append(t.bad, key)
			}
			return
		}
		switch e.Action {
		case "pass":
			t.passed++
		case "fail":
			t.failed++
			t.bad = append(t.bad, key)
		case "skip":
			t.skipped = append(t.skipped, key)
		}
	}
}

func (t *tally) print(w io.Writer) {
	for _, key := range t.bad {
		fmt.Fprintf(w, "FAIL %s\n%s\n", key, strings.Join(t.output[key], ""))
	}
	slices.Sort(t.packages)
	for _, p := range t.packages {
		fmt.Fprintln(w, p)
	}
	for _, key := range t.skipped {
		why := ""
		for _, line := range t.output[key] {
			if i := strings.Index(line, ".go:"); i >= 0 {
				why = strings.TrimSpace(line)
			}
		}
		fmt.Fprintf(w, "skip %s: %s\n", key, why)
	}
	fmt.Fprintf(w, "%d passed, %d failed, %d skipped\n", t.passed, t.failed, len(t.skipped))
}
