package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"certbook/actions"
	"certbook/playbooks"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"
)

// TestMain makes this test binary the program certbook as well: for scripts,
// and for the commands of a sandbox that was made by this process.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "demo-emulate" {
		main()
	}
	testscript.Main(m, map[string]func(){"certbook": main, "certbook-mortal": mortal})
}

// TestScript runs testdata/script: what the command line promises, one
// behaviour a file. Each begins in a directory of its own with root, an empty
// root directory, and with RUNS in its environment, a run directory.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", filepath.Join(env.WorkDir, "home"))
			env.Setenv("RUNS", filepath.Join(env.WorkDir, "runs"))
			env.Setenv("TERM", "xterm")
			return os.MkdirAll(filepath.Join(env.WorkDir, "root"), 0o755)
		},
		Condition: lacks,
		Cmds:      map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "json": jsonValue, "edit": edit, "seal": seal, "grow": grow},
	})
}

// lacks is the condition lacks:PROGRAM: this machine has no such program. In CI it
// must have.
func lacks(condition string) (bool, error) {
	program, ok := strings.CutPrefix(condition, "lacks:")
	if !ok {
		return false, fmt.Errorf("unknown condition %q", condition)
	}
	_, err := exec.LookPath(program)
	if err != nil && os.Getenv("CI") != "" {
		return false, fmt.Errorf("this test needs the program %s", program)
	}
	return err != nil, nil
}

// exits CODE PROGRAM [ARG...] runs a program and wants an exit code.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	code := 0
	var exit *exec.ExitError
	if err = ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if code != want {
		ts.Fatalf("exit code %d, not %d", code, want)
	}
}

// json FILE PATH [VALUE] wants a value in a JSON document, or with ! none. The
// words of the path are keys and indices: hosts.0.outcome.
func jsonValue(ts *testscript.TestScript, none bool, args []string) {
	var v any
	if err := json.Unmarshal([]byte(ts.ReadFile(args[0])), &v); err != nil {
		ts.Fatalf("%s: %v", args[0], err)
	}
	found := true
	for word := range strings.SplitSeq(args[1], ".") {
		switch at := v.(type) {
		case map[string]any:
			v, found = at[word]
		case []any:
			i, err := strconv.Atoi(word)
			if found = err == nil && i < len(at); found {
				v = at[i]
			}
		default:
			found = false
		}
		if !found {
			break
		}
	}
	switch {
	case found == none:
		ts.Fatalf("%s: found: %v", args[1], found)
	case !none && fmt.Sprint(v) != args[2]:
		ts.Fatalf("%s is %v, not %s", args[1], v, args[2])
	}
}

// edit FILE OLD NEW replaces the first OLD in a file.
func edit(ts *testscript.TestScript, _ bool, args []string) {
	old := ts.ReadFile(args[0])
	if !strings.Contains(old, args[1]) {
		ts.Fatalf("no %q in %s", args[1], args[0])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.Replace(old, args[1], args[2], 1)), 0o600))
}

// TestSchemas finds committed schemas that are not those of the code.
func TestSchemas(t *testing.T) {
	for _, kind := range []string{"playbook", "overlay", "inventory", "secrets"} {
		committed, err := os.ReadFile("../../schema/" + kind + ".schema.json")
		require.NoError(t, err)
		code, out, _ := certbook(t, "schema", kind)
		require.Zero(t, code)
		require.True(t, out == string(committed), "schema/%s.schema.json is stale; run: make schemas", kind)
	}
}

// TestActionPages looks at the page of every action.
func TestActionPages(t *testing.T) {
	_, list, _ := certbook(t, "actions")
	for name, spec := range actions.Registry(actions.Context{}) {
		require.Contains(t, list, name)
		code, page, _ := certbook(t, "actions", name)
		require.Zero(t, code)
		require.Truef(t, strings.HasPrefix(page, name+" - "+spec.Summary+"\n"), "%s", page)
		rest := page
		for _, part := range []string{"\nArguments:\n", "\nOutputs, as steps.ID.NAME in expressions:\n", "\nReverted by a rollback: ", "\nExample:\n  - id: "} {
			_, after, found := strings.Cut(rest, part)
			require.Truef(t, found, "%s: no %q in its place", name, part)
			rest = after
		}
		require.Containsf(t, rest, "action: "+name, "the example of %s", name)
	}
}

// TestActionExamples compiles the example of every action's page.
func TestActionExamples(t *testing.T) {
	for name, spec := range actions.Registry(actions.Context{}) {
		text := "version: 1\nname: example\nplays:\n- name: one\n  hosts: all\n  steps:\n"
		if strings.Contains(spec.Example, "steps.expiry.") && name != "check-expiry" {
			text += "  - {id: expiry, action: check-expiry}\n"
		}
		for line := range strings.Lines(spec.Example) {
			text += "  " + line
		}
		file := filepath.Join(t.TempDir(), "example.yaml")
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		code, _, errs := certbook(t, "lint", file)
		require.Zerof(t, code, "the example of %s: %s", name, errs)
	}
}

// TestExamples compiles the example overlays with their inventories.
func TestExamples(t *testing.T) {
	examples := playbooks.Examples()
	require.NotEmpty(t, examples)
	for _, file := range examples {
		dir := filepath.Join("../../playbooks", filepath.Dir(file))
		require.Contains(t, examples, filepath.ToSlash(filepath.Join(filepath.Dir(file), "inventory.yaml")))
		if filepath.Base(file) != "overlay.yaml" {
			code, _, errs := certbook(t, "lint", "-i", "../../playbooks/"+file)
			require.Zerof(t, code, "%s: %s", file, errs)
			continue
		}
		for _, playbook := range []string{"renew"} {
			code, _, errs := certbook(t, "lint", playbook, "-i", dir+"/inventory.yaml", "-f", dir+"/overlay.yaml")
			require.Zerof(t, code, "%s with %s: %s", playbook, file, errs)
		}
	}
	for _, name := range playbooks.Names() {
		require.True(t, slices.Contains([]string{"check", "external-etcd", "recover", "renew", "rollback", "seed"}, name), "say in this test what playbook %s is for", name)
		code, text, _ := certbook(t, "playbooks", name)
		require.Zero(t, code)
		committed, err := os.ReadFile("../../playbooks/" + name + ".yaml")
		require.NoError(t, err)
		require.Equal(t, string(committed), text)
	}
}
