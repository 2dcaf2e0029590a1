// Package certbook_test holds the rules about the source tree that the
// compiler does not know.
package certbook_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// source is one Go file that is not a test.
type source struct {
	path string // from the root of the module, with slashes
	file *ast.File
	set  *token.FileSet
}

// dir returns the directory of the file, "." for the root.
func (s source) dir() string { return filepath.ToSlash(filepath.Dir(s.path)) }

// sources parses the module's Go files, tests left out.
func sources(t *testing.T) []source {
	t.Helper()
	var list []source
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); name != "." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "vendor") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, nil, parser.ParseComments|parser.SkipObjectResolution)
		list = append(list, source{filepath.ToSlash(path), file, set})
		return err
	})
	require.NoError(t, err)
	require.Greater(t, len(list), 50, "the test runs at the root of the module")
	return list
}

// allowed are the packages of this module that a package may import. A package
// that is not listed, such as cmd, may import all.
var allowed = map[string][]string{
	"schema":               {},
	"engine":               {"schema"},
	"engine/audit":         {"engine", "schema"},
	"engine/host":          {"engine", "schema"},
	"engine/host/hosttest": {"engine", "engine/host", "schema"},
	"engine/report":        {"engine", "schema"},
	"actions":              {"engine", "schema", "actions/kube"},
	"actions/kube":         {},
	"playbooks":            {"schema"},
}

func TestImports(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range sources(t) {
		may, restricted := allowed[s.dir()]
		seen[s.dir()] = true
		inner := strings.HasPrefix(s.dir(), "engine/") || strings.HasPrefix(s.dir(), "actions/") || strings.HasPrefix(s.dir(), "schema/")
		require.True(t, restricted || !inner, "%s: say in this test what package %s may import", s.path, s.dir())
		for _, imp := range s.file.Imports {
			path, err := strconv.Unquote(imp.Path.Value)
			require.NoError(t, err)
			if own, ok := strings.CutPrefix(path, "certbook/"); ok && restricted {
				require.Contains(t, may, own, "%s imports %s", s.path, own)
			}
		}
	}
	for dir := range allowed {
		require.True(t, seen[dir], "no package %s any more; take it out of this test", dir)
	}
}

// TestTheEngineTouchesNothing keeps the machine, the network and the clock out
// of the engine: they are fields of the Runner.
func TestTheEngineTouchesNothing(t *testing.T) {
	forbidden := []string{"os", "os/exec", "os/signal", "os/user", "net", "net/http", "syscall", "log", "log/slog", "math/rand", "math/rand/v2", "crypto/rand", "unsafe"}
	for _, s := range sources(t) {
		if s.dir() != "engine" {
			continue
		}
		for _, imp := range s.file.Imports {
			path, err := strconv.Unquote(imp.Path.Value)
			require.NoError(t, err)
			require.NotContains(t, forbidden, path, s.path)
		}
		for _, call := range calls(s) {
			require.NotContains(t, []string{"time.Now", "time.Since", "time.Until", "time.Sleep", "time.After", "time.Tick", "time.NewTimer", "time.NewTicker", "time.AfterFunc"}, call.name, "%s", call.at)
		}
	}
}

func TestNoInitAndNoPanic(t *testing.T) {
	for _, s := range sources(t) {
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok {
				require.False(t, f.Recv == nil && f.Name.Name == "init", "%s has an init function", s.path)
			}
		}
		for _, call := range calls(s) {
			require.NotContains(t, []string{"panic", "log.Fatal", "log.Fatalf", "log.Panic"}, call.name, "%s", call.at)
			if call.name == "os.Exit" {
				require.Equal(t, "main main.go", s.file.Name.Name+" "+filepath.Base(s.path), "%s", call.at)
			}
		}
	}
}

func TestEveryPackageHasAComment(t *testing.T) {
	commented := map[string]bool{}
	for _, s := range sources(t) {
		commented[s.dir()] = commented[s.dir()] || s.file.Doc != nil
	}
	for dir, ok := range commented {
		require.True(t, ok, "package %s has no comment", dir)
	}
}

type call struct{ name, at string }

// calls returns the calls of functions that a file names directly or with a
// package, as "panic" and "time.Now"; also functions that are passed on.
func calls(s source) []call {
	var list []call
	packages := map[string]bool{}
	for _, imp := range s.file.Imports {
		path, _ := strconv.Unquote(imp.Path.Value) // the parser has read it
		packages[path[strings.LastIndex(path, "/")+1:]] = true
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		at := ""
		if n != nil {
			at = s.set.Position(n.Pos()).String()
		}
		switch n := n.(type) {
		case *ast.CallExpr:
			if id, ok := n.Fun.(*ast.Ident); ok {
				list = append(list, call{id.Name, at})
			}
		case *ast.SelectorExpr:
			if id, ok := n.X.(*ast.Ident); ok && packages[id.Name] {
				list = append(list, call{id.Name + "." + n.Sel.Name, at})
			}
		}
		return true
	})
	return slices.Clip(list)
}
