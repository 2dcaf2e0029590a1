package engine

import (
	"strings"
	"testing"

	"certbook/schema"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/types"
	"gopkg.in/yaml.v3"
)

// fuzzScope is what the expressions of the fuzz targets may name, and values
// for it.
func fuzzScope() (scope, map[string]any) {
	vars := map[string]any{"n": 3, "s": "text", "b": true, "f": 1.5, "list": []any{"a", 2, nil}, "map": map[string]any{"k": "v"}, "none": nil}
	host := map[string]any{"name": "m1", "addr": "10.0.0.1", "groups": []any{"masters"}, "vars": vars}
	run := RunInfo{ID: "r"}.values()
	result := map[string]any{"changed": true, "skipped": false, "failed": false, "count": 1, "stdout": "a\nb"}
	steps := map[string]any{"a": result}
	env := map[string]any{"vars": vars, "host": host, "run": run, "facts": map[string]any{},
		"steps": steps, "hosts": map[string]any{"m1": map[string]any{"name": "m1", "steps": steps}}}
	in := scope{host: "m1", later: map[string]bool{"later": true}, elsewhere: map[string]bool{"other": true}, types: types.Map{}}
	for name, v := range env {
		in.types[name] = typeOfValue(v)
	}
	return in, env
}

// expressions are those of playbooks, and some that are not right.
func expressions() []string {
	return []string{
		"steps.a.count > 0", "vars.n + 1", "vars.s + 'ü'", "vars.map.k in ['v', \"w\"]", "len(vars.list) == 3 ? host.name : run.id",
		"filter(vars.list, # != nil)", "any(hosts.m1.steps.a.stdout | split('\\n'), {# startsWith 'a'})", "let x = vars.s; x + x",
		"hosts['m1'].steps.a.changed && !run.dry", "vars.none?.x ?? 'none'", "map(1..3, # * vars.n)", "vars.f ** 2", "vars.s matches '^t'",
		"steps.aa.count", "vars.nope", "steps.later.changed", "vars.other", "1 +", "'", "`a", "${vars.n}", "$env", "now()", "((((", "{a: {b: 1}}", "/* */",
		"repeat('x', 1000000000)", "1..1000000000", "all(1..1000, all(1..1000, true))", "vars.list[9]", "vars.n / 0", "vars.n % 0", "-vars.s", "#",
		"let a = repeat('x', 900); let b = a + a + a; let c = b + b + b; c + c + c",
	}
}

// within fails when a mistake lies outside of the document.
func within(t *testing.T, src *schema.Source, d *schema.Diagnostics) {
	t.Helper()
	lines := 1 + strings.Count(string(src.Data), "\n")
	d.Each(func(m *schema.Diagnostic) {
		width := len([]rune(src.Line(m.Pos.Line)))
		if m.Pos.Source != src || m.Pos.Line < 1 || m.Pos.Line > lines || m.Pos.Column < 1 || m.Pos.Column > width+1 {
			t.Fatalf("%s lies outside of the document: %s\n%q", m.Pos, m.Message, src.Data)
		}
		if m.Message == "" || strings.ContainsAny(m.Error(), "\x00\x1b\r") {
			t.Fatalf("not fit for a terminal: %q", m.Error())
		}
	})
}

// FuzzExpression compiles a text as a value and as a condition. It either has
// mistakes, each at its place, or a program that computes a value of the type
// that was promised, again and again, and changes nothing.
func FuzzExpression(f *testing.F) {
	for _, text := range expressions() {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.ContainsAny(text, "\r\n") {
			return // in one line its places are easy to tell
		}
		src := &schema.Source{Name: "fuzz.yaml", Data: []byte(text)}
		at := func(n int) schema.Pos {
			return schema.Pos{Source: src, Line: 1, Column: 1 + len([]rune(text[:n]))}
		}
		in, env := fuzzScope()
		for _, condition := range []bool{false, true} {
			var d schema.Diagnostics
			var options []expr.Option
			if condition {
				options = append(options, expr.AsBool())
			}
			e := compileExpression(text, at, in, &d, options...)
			if (e == nil) == d.Empty() {
				t.Fatalf("an expression: %v, mistakes: %d", e != nil, d.Len())
			}
			within(t, src, &d)
			if e == nil {
				continue
			}
			if condition {
				if _, err := e.evalBool(env); err != nil && !strings.HasPrefix(err.Error(), "fuzz.yaml:1:1: ") {
					t.Fatalf("the error has no place: %v", err)
				}
				continue
			}
			v, err := e.eval(env)
			if err != nil {
				continue
			}
			_, unchanged := fuzzScope()
			if again, err := e.eval(unchanged); err != nil || weight(again, maxWeight) != weight(v, maxWeight) {
				t.Fatalf("gives another value the second time: %v, %v", v, again)
			}
		}
	})
}

// FuzzInterpolate puts a text as the value of a key into a document. As it is,
// its ${...} are replaced or their mistakes lie within the document; with every
// ${ doubled to $${ it comes out as it went in.
func FuzzInterpolate(f *testing.F) {
	for _, e := range expressions() {
		f.Add("${" + e + "}")
		f.Add("a ü ${" + e + "} ${vars.n} $${x}")
	}
	for _, text := range []string{"", "$", "${", "$${", "$$${", "$$$${", "}", "${'}'}", "${\"\\\"}\"}", "${{a: {}}}", "a\n  ${vars.s}\nb\n", "${vars.nope}\n${", " ${vars.s} ", "\t${vars.s}", "é${vars.nope}"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		in, env := fuzzScope()
		src, v, ok := document(text)
		if !ok {
			return
		}
		var d schema.Diagnostics
		eval := func(code string, at places) (any, bool) {
			e := compileExpression(code, at, in, &d)
			if e == nil {
				return nil, false
			}
			value, err := e.eval(env)
			if err != nil {
				d.Add(at(0), "%v", err)
			}
			return value, err == nil
		}
		kept := 0
		later := func(v schema.Value) *yaml.Node { kept++; return v.Node }
		out := interpolate(v, eval, later, &d)
		within(t, src, &d)
		if out.Node == nil || (kept > 0) == d.Empty() {
			t.Fatalf("%d scalars are left for later with %d mistakes", kept, d.Len())
		}
		if n := weight(fromNode(out.Node), 8*maxWeight); n > maxWeight+len(text)+64 {
			t.Fatalf("%q has become %d bytes", text, n)
		}
		if !strings.Contains(text, "${") && out.Node.Value != text {
			t.Fatalf("%q became %q", text, out.Node.Value)
		}

		_, escaped, ok := document(strings.ReplaceAll(text, "${", "$${"))
		if !ok {
			return
		}
		never := func(string, places) (any, bool) { t.Fatal("there is no expression"); return nil, false }
		if got := interpolate(escaped, never, later, &d).Node.Value; got != text {
			t.Fatalf("%q came out as %q", text, got)
		}
	})
}

// document returns a document with text as its only value, when YAML can hold
// it.
func document(text string) (*schema.Source, schema.Value, bool) {
	data, err := yaml.Marshal(map[string]string{"a": text})
	if err != nil {
		return nil, schema.Value{}, false
	}
	src := &schema.Source{Name: "fuzz.yaml", Data: data}
	var d schema.Diagnostics
	top, ok := schema.Parse(src, &d)
	if !ok {
		return nil, schema.Value{}, false
	}
	v := schema.Value{Node: top.Node.Content[1], Source: src}
	return src, v, v.Node.Value == text
}
