package engine

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

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
	keeps := keepers(spec)
	var argument string // the one that is looked at
	eval := func(code string, at places) (any, bool) {
		e := b.expression(code, at, in)
		pending = e
		if e == nil {
			return nil, false
		}
		out.exprs[code] = e
		if e.secret != "" && !keeps[argument] {
			b.d.Add(at(0), "%s", exposed(argument, e.secret, s.Action.Value, keeps))
			pending = nil // what it is does not matter
			return nil, false
		}
		if !e.static() {
			return nil, false
		}
		if len(e.beyond) > 0 {
			pending = nil
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
		if e.secret != "" {
			b.plan.secrets.add(v)
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
	for _, argument = range sortedKeys(out.args) {
		known[argument] = interpolate(out.args[argument], eval, later, &b.d)
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

// keepers returns the arguments of an action that may hold a secret.
func keepers(spec Spec) map[string]bool {
	keeps := map[string]bool{}
	for _, f := range schema.Fields(reflect.TypeOf(spec.New()).Elem()) {
		if f.Secret {
			keeps[f.Name] = true
		}
	}
	return keeps
}

// exposed says why an argument must not hold a secret, and what to do.
func exposed(argument, secret, action string, keeps map[string]bool) string {
	text := fmt.Sprintf("%s: %s is secret, and this argument is not: other users of the host, the terminal or the log would see it", argument, secret)
	if len(keeps) == 0 {
		return text + fmt.Sprintf("; no argument of %s keeps a secret: put it into a file on the host with a step run-command and its stdin", action)
	}
	return text + fmt.Sprintf("; give it to the command by %s, or by a file on the host that an earlier step has written so", strings.Join(sortedKeys(keeps), " or "))
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

// action makes the step's action for a host with the values of env. Secrets that
// come out of it are added to hidden.
func (s *PlannedStep) action(host string, env map[string]any, hidden *secrets) (Action, error) {
	bound := s.hosts[host]
	var d schema.Decoder
	var failure error
	args := map[string]schema.Value{}
	keeps := keepers(s.spec)
	for _, name := range sortedKeys(bound.args) {
		v := bound.args[name]
		args[name] = interpolate(v, func(code string, _ places) (any, bool) {
			e := bound.exprs[code]
			v, err := e.eval(env)
			switch {
			case e.secret != "":
				hidden.add(v)
			case err == nil && !e.static() && !keeps[name] && hidden.in(v): // a command has printed it
				err = fmt.Errorf("arguments: %s", exposed(name, fmt.Sprintf("what %q gives", code), s.Action, keeps))
			}
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
