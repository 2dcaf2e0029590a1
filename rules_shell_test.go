package certbook_test

import (
	"go/ast"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestShellScriptsAreConstant keeps what comes from a document or a host out of
// the texts that a shell reads: values are arguments of a script.
func TestShellScriptsAreConstant(t *testing.T) {
	all := sources(t)
	constants := map[string]map[string]bool{} // by directory
	for _, s := range all {
		if constants[s.dir()] == nil {
			constants[s.dir()] = map[string]bool{}
		}
		for _, name := range constantNames(s.file) {
			constants[s.dir()][name] = true
		}
	}
	found := 0
	for _, s := range all {
		if strings.HasPrefix(s.path, "lab/") || strings.Contains(s.path, "/sandbox/") {
			continue // they run on no host of a user's
		}
		known, variables := constants[s.dir()], variableNames(s.file)
		for _, script := range scripts(s.file) {
			found++
			at := s.set.Position(script.Pos())
			if id, ok := script.(*ast.Ident); ok && id.Name == "text" && s.path == "engine/host/host.go" {
				continue // the parameter of one of scriptMethods, whose callers are looked at
			}
			require.True(t, isConstant(script, known, variables), "%s: a shell reads a text that is not constant", at)
		}
	}
	require.Greater(t, found, 20)
}

// scriptMethods are the methods of a host that take a script after the context.
var scriptMethods = []string{"script", "askScript", "runScript", "converse"}

// scripts returns the texts after "sh", "-c" and those given to scriptMethods.
func scripts(file *ast.File) []ast.Expr {
	var list []ast.Expr
	words := func(args []ast.Expr) {
		for i := 0; i+2 < len(args); i++ {
			if literal(args[i]) == "sh" && literal(args[i+1]) == "-c" {
				list = append(list, args[i+2])
			}
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CompositeLit:
			words(n.Elts)
		case *ast.CallExpr:
			words(n.Args)
			if sel, ok := n.Fun.(*ast.SelectorExpr); ok && slices.Contains(scriptMethods, sel.Sel.Name) && len(n.Args) > 1 {
				list = append(list, n.Args[1])
			}
		}
		return true
	})
	return list
}

func literal(e ast.Expr) string {
	b, ok := e.(*ast.BasicLit)
	if !ok || b.Kind != token.STRING {
		return ""
	}
	text, _ := strconv.Unquote(b.Value) // the parser has read it
	return text
}

func isConstant(e ast.Expr, constants, variables map[string]bool) bool {
	switch e := e.(type) {
	case *ast.BasicLit:
		return true
	case *ast.Ident:
		return constants[e.Name] && !variables[e.Name]
	case *ast.BinaryExpr:
		return isConstant(e.X, constants, variables) && isConstant(e.Y, constants, variables)
	}
	return false
}

// constantNames returns the names of all constants in a file.
func constantNames(file *ast.File) []string {
	var names []string
	ast.Inspect(file, func(n ast.Node) bool {
		if d, ok := n.(*ast.GenDecl); ok && d.Tok == token.CONST {
			for _, spec := range d.Specs {
				for _, id := range spec.(*ast.ValueSpec).Names {
					names = append(names, id.Name)
				}
			}
		}
		return true
	})
	return names
}

// variableNames returns the names of all variables and parameters in a file.
func variableNames(file *ast.File) map[string]bool {
	names := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			for _, e := range n.Lhs {
				if id, ok := e.(*ast.Ident); ok && n.Tok == token.DEFINE {
					names[id.Name] = true
				}
			}
		case *ast.GenDecl:
			for _, spec := range n.Specs {
				if v, ok := spec.(*ast.ValueSpec); ok && n.Tok == token.VAR {
					for _, id := range v.Names {
						names[id.Name] = true
					}
				}
			}
		case *ast.Field:
			for _, id := range n.Names {
				names[id.Name] = true
			}
		}
		return true
	})
	return names
}
