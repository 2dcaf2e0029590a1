package engine

import (
	"fmt"
	"reflect"
	"slices"

	"certbook/schema"

	"github.com/expr-lang/expr"
	"gopkg.in/yaml.v3"
)

// arguments interpolates what is known now and decodes the result into a
// scratch action, which finds every mistake in names and types.
func (b *builder) arguments(s schema.Step, spec Spec, host string, in scope, out *boundStep) {
	values := map[string]any{"vars": b.plan.Hosts[host].Vars, "host": b.plan.Hosts[host].hostValues(), "run": b.Run.values()}
	var pending *expression
	late := map[*yaml.Node]reflect.Type{}
	eval := func(code string, at places) (any, bool) {
		e := compileExpression(code, at, in, &b.d)
		pending = e
		if e == nil {
			return nil, false
		}
		out.exprs[code] = e
		if !e.static() {
			return nil, false
		}
		if slices.ContainsFunc(e.vars, func(name string) bool { return b.failed[host][name] }) {
			pending = nil // its type is not known
			return nil, false
		}
		v, err := expr.Run(e.program, values)
		if err != nil {
			b.d.Add(at(0), "expression %q: %s", code, because(err))
			return nil, false
		}
		return v, true
	}
	later := func(v schema.Value) *yaml.Node {
		n := *v.Node
		var t reflect.Type
		switch pieces, open := split(v.Node.Value); {
		case open >= 0: // reported
		case len(pieces) != 1:
			t = reflect.TypeFor[string]()
		case pending != nil:
			t = pending.typ
		}
		late[&n] = t
		return &n
	}
	out.args, out.exprs = withDefaults(s, spec), map[string]*expression{}
	known := map[string]schema.Value{}
	before := b.d.Len()
	for _, name := range sortedKeys(out.args) {
		known[name] = interpolate(out.args[name], eval, later, &b.d)
	}
	decoder := schema.Decoder{Deferred: func(n *yaml.Node) (reflect.Type, bool) { t, ok := late[n]; return t, ok }}
	action := spec.New()
	decoder.Arguments(known, s.Action.Pos, action)
	if decoder.Empty() && len(late) == 0 && b.d.Len() == before {
		if v, ok := action.(Validator); ok {
			if err := v.Validate(); err != nil {
				decoder.Add(s.ID.Pos, "step %q: %v", s.ID.Value, err)
			}
		}
	}
	b.d.Append(&decoder.Diagnostics)
}

// withDefaults returns a step's arguments, with the action's defaults for what
// is not given.
func withDefaults(s schema.Step, spec Spec) map[string]schema.Value {
	args := map[string]schema.Value{}
	for name, v := range s.With {
		if !v.IsNull() {
			args[name] = v
		}
	}
	near := &yaml.Node{Line: s.Action.Pos.Line, Column: s.Action.Pos.Column}
	for _, f := range schema.Fields(reflect.TypeOf(spec.New()).Elem()) {
		if _, given := args[f.Name]; f.Default != "" && !given {
			args[f.Name] = schema.Value{Node: f.DefaultNode(near), Source: s.Action.Pos.Source}
		}
	}
	return args
}

// action makes the step's action for a host with the values of env.
func (s *PlannedStep) action(host string, env map[string]any) (Action, error) {
	bound := s.hosts[host]
	var d schema.Decoder
	var failure error
	args := map[string]schema.Value{}
	for _, name := range sortedKeys(bound.args) {
		v := bound.args[name]
		args[name] = interpolate(v, func(code string, _ places) (any, bool) {
			v, err := bound.exprs[code].eval(env)
			if err != nil && failure == nil {
				failure = err
			}
			return v, true
		}, func(v schema.Value) *yaml.Node { return v.Node }, &d.Diagnostics)
	}
	if failure != nil {
		return nil, failure
	}
	action := s.spec.New()
	d.Arguments(args, s.pos, action)
	if err := d.Err(); err != nil {
		return nil, fmt.Errorf("arguments: %v", err)
	}
	if v, ok := action.(Validator); ok {
		if err := v.Validate(); err != nil {
			return nil, fmt.Errorf("arguments: %v", err)
		}
	}
	return action, nil
}
