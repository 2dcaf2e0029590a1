package engine

import (
	"fmt"
	"strings"

	"certbook/schema"

	"github.com/expr-lang/expr/types"
	"gopkg.in/yaml.v3"
)

// variables computes the values of one host's variables, which may use each
// other, host and run.
type variables struct {
	raw    map[string]schema.Value
	host   map[string]any // the host, without vars
	run    map[string]any
	values map[string]any
	path   []string        // the variables being computed, for cycles
	failed map[string]bool // the value is not known and nil
	secret map[string]bool // written in a secret document, or made of one that is
	locked bool            // there are more variables than raw has, all secret
	beyond map[string]bool // the names of these that are used
	d      *schema.Diagnostics
}

// resolveAll computes all values. Mistakes go to d.
func (v *variables) resolveAll() {
	for _, name := range sortedKeys(v.raw) {
		v.resolve(name)
	}
	for name := range v.failed {
		v.values[name] = nil
	}
}

func (v *variables) resolve(name string) {
	if _, done := v.values[name]; done || v.failed[name] {
		return
	}
	for i, n := range v.path {
		if n == name {
			cycle := append(append([]string{}, v.path[i:]...), name)
			v.d.Add(v.raw[cycle[0]].Pos(), "cyclic variables: %s", strings.Join(cycle, " -> "))
			for _, n := range cycle {
				v.failed[n] = true
			}
			return
		}
	}
	if v.raw[name].Secret() { // and literal: a password may hold any character
		v.secret[name] = true
		v.values[name] = fromNode(v.raw[name].Node)
		return
	}
	v.path = append(v.path, name)
	before := v.d.Len()
	result := interpolate(v.raw[name], v.eval, func(x schema.Value) *yaml.Node {
		v.failed[name] = true
		return x.Node
	}, v.d)
	v.path = v.path[:len(v.path)-1]
	if v.d.Len() > before {
		v.failed[name] = true
	}
	if !v.failed[name] {
		v.values[name] = fromNode(result.Node)
	}
}

// eval computes one ${...} of the variable that is being resolved, after the
// variables that it uses.
func (v *variables) eval(code string, at places) (any, bool) {
	known := types.Map{}
	for name := range v.raw {
		known[name] = types.Any
	}
	if v.locked {
		known[types.Extra] = types.Any
	}
	for _, name := range v.uses(code) {
		v.resolve(name)
		if v.secret[name] {
			v.secret[v.path[len(v.path)-1]] = true
		}
		if v.failed[name] {
			return nil, false // its mistake is reported
		}
		known[name] = typeOfValue(v.values[name])
	}
	e := compileExpression(code, at, scope{types: types.Map{
		"vars": known, "host": typesOfValues(v.host), "run": runTypes,
		"steps": types.Any, "hosts": types.Any, "facts": types.Any,
	}, locked: v.locked}, v.d)
	if e == nil {
		return nil, false
	}
	for _, name := range e.beyond {
		v.beyond[name] = true
		v.secret[v.path[len(v.path)-1]] = true
	}
	if len(e.beyond) > 0 {
		return nil, false
	}
	if !e.static() {
		v.d.Add(at(0), "a variable cannot use steps, hosts or facts: %q; use the expression where the value is needed", code)
		return nil, false
	}
	if e.anyVar {
		v.d.Add(at(0), "a variable can use another one by its name only, as in vars.name: %q", code)
		return nil, false
	}
	value, err := e.eval(map[string]any{"vars": v.values, "host": v.host, "run": v.run})
	if err != nil {
		v.d.Add(at(0), "%s", strings.TrimPrefix(err.Error(), fmt.Sprintf("%s: ", at(0))))
		return nil, false
	}
	return value, true
}

// uses returns the variables that an expression names.
func (v *variables) uses(code string) []string {
	var scratch schema.Diagnostics
	open := types.Map{"steps": types.Any, "hosts": types.Any, "facts": types.Any, "vars": types.Map{types.Extra: types.Any}, "host": types.Any, "run": types.Any}
	e := compileExpression(code, func(int) schema.Pos { return schema.Pos{} }, scope{types: open}, &scratch)
	if e == nil {
		return nil // the mistake is reported when it is compiled for real
	}
	var names []string
	for _, name := range e.vars {
		if _, ok := v.raw[name]; ok {
			names = append(names, name)
		}
	}
	return names
}
