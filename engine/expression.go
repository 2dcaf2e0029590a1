package engine

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"certbook/schema"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/types"
	"github.com/expr-lang/expr/vm"
)

// maxExpressionNodes bounds the size of one expression.
const maxExpressionNodes = 2000

// expression is a compiled expr-lang expression.
type expression struct {
	text    string
	pos     schema.Pos
	program *vm.Program
	typ     reflect.Type    // nil when known at run time only
	roots   map[string]bool // the top-level names that it uses
	steps   []string        // the steps of the same host whose results it uses
	vars    []string        // the variables that it uses
	remote  bool            // it uses results of other hosts
}

// static reports whether the value is known before anything is dialled.
func (e *expression) static() bool {
	return !e.roots["steps"] && !e.roots["hosts"] && !e.roots["facts"]
}

// compileExpression type-checks text, which stands at pos, against env. Its
// mistakes go to d; the result is then nil.
func compileExpression(text string, pos schema.Pos, env types.Map, d *schema.Diagnostics, options ...expr.Option) *expression {
	if strings.TrimSpace(text) == "" {
		d.Add(pos, "the expression is empty")
		return nil
	}
	tree, err := parser.Parse(text)
	if err != nil {
		addExpressionError(err, text, pos, d)
		return nil
	}
	names := &nameChecker{env: env, text: text, pos: pos, d: d, e: &expression{text: text, pos: pos, roots: map[string]bool{}}}
	ast.Walk(&tree.Node, names)
	if names.failed {
		return nil
	}
	program, err := expr.Compile(text, append([]expr.Option{
		expr.Env(env), expr.MaxNodes(maxExpressionNodes), expr.DisableBuiltin("now"),
	}, options...)...)
	if err != nil {
		addExpressionError(err, text, pos, d)
		return nil
	}
	names.e.program = program
	if t := program.Node().Type(); t != nil && t.Kind() != reflect.Interface {
		names.e.typ = t
	}
	return names.e
}

// eval computes the expression's value in env.
func (e *expression) eval(env map[string]any) (any, error) {
	v, err := expr.Run(e.program, env)
	if err != nil {
		return nil, fmt.Errorf("%s: %q: %s", e.pos, e.text, firstLine(err.Error()))
	}
	return v, nil
}

// evalBool computes a condition.
func (e *expression) evalBool(env map[string]any) (bool, error) {
	v, err := e.eval(env)
	if err != nil {
		return false, err
	}
	b, ok := v.(bool)
	if !ok {
		return false, fmt.Errorf("%s: %q gives %v, not true or false", e.pos, e.text, v)
	}
	return b, nil
}

func addExpressionError(err error, text string, pos schema.Pos, d *schema.Diagnostics) {
	var fe *file.Error
	if !errors.As(err, &fe) {
		d.Add(pos, "expression %q: %s", text, firstLine(err.Error()))
		return
	}
	d.Add(offset(pos, text, fe.From), "expression %q: %s", text, firstLine(fe.Message))
}

// offset returns the place of rune n of text, which begins at pos.
func offset(pos schema.Pos, text string, n int) schema.Pos {
	column := pos.Column
	for i, r := range []rune(text) {
		if i >= n {
			break
		}
		if r == '\n' {
			pos.Line++
			column = pos.Column
			continue
		}
		column += len(string(r))
	}
	pos.Column = column
	return pos
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// nameChecker finds misspelt names, with a suggestion, before expr's own type
// checker words them in Go's terms, and notes what an expression depends on.
type nameChecker struct {
	env    types.Map
	text   string
	pos    schema.Pos
	d      *schema.Diagnostics
	e      *expression
	failed bool
}

// Visit implements ast.Visitor.
func (c *nameChecker) Visit(node *ast.Node) {
	if id, ok := (*node).(*ast.IdentifierNode); ok && !strings.HasPrefix(id.Value, "$") {
		if _, known := c.env[id.Value]; known {
			c.e.roots[id.Value] = true
		}
		return
	}
	member, ok := (*node).(*ast.MemberNode)
	if !ok {
		return
	}
	path, last := chain(member)
	if path == nil || c.failed {
		return
	}
	c.note(path)
	c.check(path, last)
}

func (c *nameChecker) note(path []string) {
	switch {
	case path[0] == "steps" && len(path) > 1 && !slices.Contains(c.e.steps, path[1]):
		c.e.steps = append(c.e.steps, path[1])
	case path[0] == "vars" && len(path) > 1 && !slices.Contains(c.e.vars, path[1]):
		c.e.vars = append(c.e.vars, path[1])
	case path[0] == "hosts":
		c.e.remote = true
	}
}

// check follows path through the environment's types and reports its last name
// when that is not there. (Shorter paths are visited on their own.)
func (c *nameChecker) check(path []string, last ast.Node) {
	var t types.Type = c.env
	for i, name := range path {
		m, ok := t.(types.Map)
		if !ok {
			return
		}
		next, known := m[name]
		if !known {
			if _, open := m[types.Extra]; open || i < len(path)-1 {
				return
			}
			c.failed = true
			c.d.Add(offset(c.pos, c.text, last.Location().From), "%s%s", describeMissing(path), suggest(name, m))
			return
		}
		t = next
	}
}

// describeMissing says in the words of the documents that the last name of
// path does not exist.
func describeMissing(path []string) string {
	name := path[len(path)-1]
	switch {
	case len(path) == 2 && path[0] == "steps":
		return fmt.Sprintf("no step %q", name)
	case len(path) == 2 && path[0] == "vars":
		return fmt.Sprintf("no variable %q", name)
	case len(path) == 2 && path[0] == "hosts":
		return fmt.Sprintf("no host %q", name)
	case len(path) >= 3 && path[len(path)-3] == "steps":
		return fmt.Sprintf("step %q has no output %q", path[len(path)-2], name)
	}
	return fmt.Sprintf("%s has no field %q", strings.Join(path[:len(path)-1], "."), name)
}

func suggest(name string, m types.Map) string {
	names := slices.Sorted(maps.Keys(m))
	if s := schema.Suggest(name, names); s != "" {
		return s
	}
	if len(names) > 12 || len(names) == 0 {
		return ""
	}
	return " (known: " + strings.Join(names, ", ") + ")"
}

// chain returns a.b.c as its names, outermost first, and the node of the last
// name; nil when a part is computed.
func chain(m *ast.MemberNode) ([]string, ast.Node) {
	property, ok := m.Property.(*ast.StringNode)
	if !ok {
		return nil, nil
	}
	switch base := m.Node.(type) {
	case *ast.IdentifierNode:
		return []string{base.Value, property.Value}, property
	case *ast.MemberNode:
		if path, _ := chain(base); path != nil {
			return append(path, property.Value), property
		}
	case *ast.ChainNode:
		if inner, ok := base.Node.(*ast.MemberNode); ok {
			if path, _ := chain(inner); path != nil {
				return append(path, property.Value), property
			}
		}
	}
	return nil, nil
}
