package engine

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"

	"certbook/schema"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/types"
	"github.com/expr-lang/expr/vm"
)

// What bounds the size of one expression, in nodes and in bytes: the parser
// calls itself for each bracket.
const (
	maxExpressionNodes  = 2000
	maxExpressionLength = 16 << 10
)

// scope is what an expression may name.
type scope struct {
	types types.Map
	later map[string]bool // the steps that have no result yet

	secret map[string]bool // the variables that are secret
	locked bool            // other variables exist, all secret, whose names are not known

	host      string          // the host that it is for
	elsewhere map[string]bool // the variables that some host has
}

// places gives where byte n of an expression's text is written.
type places func(n int) schema.Pos

// expression is a compiled expr-lang expression.
type expression struct {
	text    string
	pos     schema.Pos
	program *vm.Program
	typ     reflect.Type    // nil when known at run time only
	roots   map[string]bool // the top-level names that it uses
	steps   []string        // the steps of the same host whose results it uses
	vars    []string        // the variables that it uses
	anyStep bool            // it uses steps by a computed name
	anyVar  bool            // it uses variables by a computed name
	remote  bool            // it uses results of other hosts
	secret  string          // a secret that its value is made of, as vars.token; "" for none
	beyond  []string        // the variables that it uses and that are not known
}

// static reports whether the value is known before anything is dialled.
func (e *expression) static() bool {
	return !e.roots["steps"] && !e.roots["hosts"] && !e.roots["facts"]
}

// compileExpression type-checks text, whose bytes are written at the places
// that at gives, against a scope. Its mistakes go to d; the result is then nil.
func compileExpression(text string, at places, in scope, d *schema.Diagnostics, options ...expr.Option) *expression {
	if strings.TrimSpace(text) == "" {
		d.Add(at(0), "the expression is empty")
		return nil
	}
	if len(text) > maxExpressionLength {
		d.Add(at(0), "the expression has %d bytes; it may have %d", len(text), maxExpressionLength)
		return nil
	}
	tree, err := parser.Parse(text)
	if err != nil {
		addExpressionError(err, text, at, in, d)
		return nil
	}
	names := &nameChecker{scope: in, text: text, at: at, d: d, e: &expression{text: text, pos: at(0), roots: map[string]bool{}}}
	ast.Walk(&tree.Node, names)
	if names.failed {
		return nil
	}
	names.e.anyStep, names.e.anyVar = names.bare["steps"] > 0, names.bare["vars"] > 0
	program, err := expr.Compile(text, append([]expr.Option{
		expr.Env(names.used()), expr.MaxNodes(maxExpressionNodes), expr.DisableBuiltin("now"),
	}, options...)...)
	if err != nil {
		addExpressionError(err, text, at, in, d)
		return nil
	}
	names.e.program = program
	if t := program.Node().Type(); t != nil && t.Kind() != reflect.Interface {
		names.e.typ = t
	}
	names.e.secret = names.hides(names.e.typ)
	return names.e
}

// eval computes the expression's value in env.
func (e *expression) eval(env map[string]any) (any, error) {
	v, err := expr.Run(e.program, env)
	if err != nil {
		return nil, fmt.Errorf("%s: %q: %s", e.pos, e.text, because(err))
	}
	return v, nil
}

// because returns the reason of an error of expr without the place, which is
// counted from the beginning of the expression.
func because(err error) string {
	var fe *file.Error
	if errors.As(err, &fe) {
		return firstLine(fe.Message)
	}
	return firstLine(err.Error())
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

var unknownName = regexp.MustCompile(`^unknown name (\S+)`)

func addExpressionError(err error, text string, at places, in scope, d *schema.Diagnostics) {
	var fe *file.Error
	if !errors.As(err, &fe) {
		d.Add(at(0), "expression %q: %s", text, firstLine(err.Error()))
		return
	}
	p := at(byteIndex(text, fe.From))
	switch m := unknownName.FindStringSubmatch(fe.Message); {
	case m != nil:
		d.Add(p, "expression %q: unknown name %q%s", text, m[1], suggest(m[1], in.types))
	case strings.Contains(text, "${"):
		d.Add(p, "expression %q: %s; it is an expression already, write it without ${}", text, firstLine(fe.Message))
	default:
		d.Add(p, "expression %q: %s", text, firstLine(fe.Message))
	}
}

// byteIndex returns where rune n of text begins.
func byteIndex(text string, n int) int {
	for i := range text {
		if n == 0 {
			return i
		}
		n--
	}
	return len(text)
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
