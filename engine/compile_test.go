package engine_test

import (
	"fmt"
	"strings"
	"testing"

	"certbook/engine"
	"certbook/schema"

	"github.com/hashicorp/go-multierror"
	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"
)

func overlay(t *testing.T, text string) *schema.Overlay {
	t.Helper()
	o, err := schema.ParseOverlay(&schema.Source{Name: "site.yaml", Data: []byte("version: 1\nname: site\n" + text)})
	require.NoError(t, err)
	return o
}

// complaints returns the mistakes of an error as "line:column message" or, for
// other documents, "file:line:column message". Line 1 is the first of plays.
func complaints(t *testing.T, err error) []string {
	t.Helper()
	require.Error(t, err)
	var all *multierror.Error
	require.ErrorAs(t, err, &all)
	var list []string
	for _, e := range all.Errors {
		var d *schema.Diagnostic
		require.ErrorAs(t, e, &d)
		place := d.Pos.String()
		if d.Pos.Source != nil && d.Pos.Source.Name == "book.yaml" {
			place = fmt.Sprintf("%d:%d", d.Pos.Line-2, d.Pos.Column)
		}
		list = append(list, place+" "+d.Message)
	}
	return list
}

// wrong compiles steps of a play on m1. The mark ¦ stands where each mistake
// should be reported, in order; it is not part of the document.
func wrong(t *testing.T, steps string, messages ...string) {
	t.Helper()
	wrongPlays(t, one("  - {id: x, action: look}\n"+steps), messages...)
}

func wrongPlays(t *testing.T, plays string, messages ...string) {
	t.Helper()
	var want []string
	line, column, text := 1, 1, ""
	for _, r := range plays {
		switch r {
		case '¦':
			require.Less(t, len(want), len(messages), "more marks than messages")
			want = append(want, fmt.Sprintf("%d:%d %s", line, column, messages[len(want)]))
			continue
		case '\n':
			line, column = line+1, 0
		}
		column++
		text += string(r)
	}
	require.Len(t, want, len(messages), "a mark for each message")
	_, err := compiler(t, text).Compile()
	require.Equal(t, want, complaints(t, err), text)
}

func TestMisspeltNames(t *testing.T) {
	const step = `no step "xx"; did you mean "x"?`
	wrong(t, "  - {id: a, action: look, when: steps.¦xx.count > 0}\n", step)
	wrong(t, "  - {id: a, action: look, when: 'steps.¦xx.count > 0'}\n", step)
	wrong(t, "  - {id: a, action: look, when: \"'ü' == \\\"\\u00e9\\\" && steps.¦xx.changed\"}\n", step)
	wrong(t, "  - id: a\n    action: look\n    when: |\n      1 > 0 &&\n        steps.¦xx.changed\n", step)
	wrong(t, "  - id: a\n    action: look\n    when: >-\n      1 > 0\n\n      && steps.¦xx.changed\n", step)
	wrong(t, "  - id: a\n    action: look\n    when: 1 > 0 &&\n      steps.¦xx.changed\n", step)
	wrong(t, "  - {id: a, action: look, with: {text: 'it''s ${steps.¦xx.have}'}}\n", step)
	wrong(t, "  - {id: a, action: look, with: {text: \"\\t${vars.¦nope} ${steps.¦xx.have}\"}}\n", `no variable "nope" (known: own)`, step)
	wrong(t, "  - id: a\n    action: look\n    with:\n      text: |\n        one\n          ${ steps.¦xx.have }\n", step)
	wrong(t, "  - {id: a, action: look, with: {names: ['a', 'ü ${steps.¦xx.have}']}}\n", step)
	wrong(t, "  - {id: a, action: look, retry: {until: steps.¦b.changed}}\n  - {id: b, action: look}\n", `step "b" has no result yet: it comes later`)
	wrong(t, "  - {id: a, action: look, when: steps.¦a.changed}\n", `step "a" has no result yet: it comes later`)
	wrong(t, "  - {id: a, action: look, when: steps.x.¦cuont > 0}\n", `step "x" has no output "cuont"; did you mean "count"?`)
	wrong(t, "  - {id: a, action: look, when: hosts.¦m9.steps.x.changed}\n", `no host "m9"; did you mean "m1"?`)
	wrong(t, "  - {id: a, action: look, when: 'hosts[\"m2\"].steps.¦xx.changed'}\n", step[:strings.Index(step, ";")]+`; did you mean "x"?`)
	wrong(t, "  - {id: a, action: look, when: hosts.m2.steps.x.¦chnged}\n", `step "x" has no output "chnged"; did you mean "changed"?`)
	wrong(t, "  - {id: a, action: look, when: facts.¦verzion == '1'}\n", `facts has no field "verzion"; did you mean "version"?`)
	wrong(t, "  - {id: a, action: look, when: run.¦dri}\n", `run has no field "dri"; did you mean "dry"?`)
	wrong(t, "  - {id: a, action: look, when: 'host.¦nam == \"m1\"'}\n", `host has no field "nam"; did you mean "name"?`)
	wrong(t, "  - {id: a, action: look, when: ¦step.x.changed}\n", `expression "step.x.changed": unknown name "step"; did you mean "steps"?`)
	wrong(t, "  - {id: a, action: look, when: '¦$env.steps.x.changed'}\n", `the name $env is not supported`)
}

func TestWrongTypes(t *testing.T) {
	wrong(t, "  - {id: a, action: look, when: ¦steps.x.count}\n", `expression "steps.x.count": expected bool, but got int`)
	wrong(t, "  - {id: a, action: look, when: 'steps.x.count ¦> \"1\"'}\n", `expression "steps.x.count > \"1\"": invalid operation: > (mismatched types int and string)`)
	wrong(t, "  - {id: a, action: look, when: '¦'}\n", `the expression is empty`)
	wrong(t, "  - {id: a, action: look, when: '1 >¦ '}\n", `expression "1 > ": unexpected token EOF`)
	wrong(t, "  - {id: a, action: look, when: '$¦{run.dry}'}\n", `expression "${run.dry}": unexpected token Bracket("{"); it is an expression already, write it without ${}`)
	wrong(t, "  - {id: a, action: look, when: ¦now() > now()}\n", `expression "now() > now()": unknown name "now" (known: facts, host, hosts, run, steps, vars)`)
	for field, want := range map[string]string{
		"before: ¦'${steps.x.count}'":  "before: want a duration, but the expression gives a whole number",
		"names: ¦'${steps.x.count}'":   "names: want a list, but the expression gives a whole number",
		"names: ¦'a ${steps.x.count}'": "names: want a list, but the expression gives text",
		"n: ¦'${steps.x.have}'":        "n: want a whole number, but the expression gives text",
		"n: ¦'${steps.x.count}0'":      "n: want a whole number, but the expression gives text",
		"flag: ¦'${steps.x.have}'":     "flag: want true or false, but the expression gives text",
		"text: ¦'${steps.x.names}'":    "text: want text, but the expression gives a list",
		"names: [¦'${steps.x.names}']": "names: want text, but the expression gives a list",
		"before: ¦'${1 + 1}'":          `before: not a duration: "2" (write 90s, 5m, 12h, 30d or 2w)`,
		"mode: ¦'${\"fsat\"}'":         `mode: want one of fast, slow, not "fsat"; did you mean "fast"?`,
		"text: 'a ${¦host.groups} b'":  `"host.groups": a list or mapping cannot be part of a text`,
		"text: 'a ¦${host.name'":       "${ without its closing }",
		"text: 'a ${¦}'":               "the expression is empty",
		"n: '${¦1 / [][2]}'":           "",
		"tetx: ¦b":                     `unknown argument "tetx"; did you mean "text"?`,
		"n: ¦2.5":                      `n: want a whole number, not "2.5"`,
		"names: ¦{}":                   "names: want a list, not a mapping",
	} {
		if want == "" {
			continue
		}
		wrong(t, "  - {id: a, action: look, with: {"+field+"}}\n", want)
	}
	wrong(t, "  - {id: a, action: ¦put}\n", `missing argument "key": the key`)
	wrong(t, "  - {id: ¦a, action: look, with: {even: 3}}\n", `step "a": even is 3`)
	wrong(t, "  - {id: a, action: ¦loook}\n  - {id: b, action: ¦zzzzzz, when: steps.a.anything}\n", `unknown action "loook"; did you mean "look"?`, `unknown action "zzzzzz"; 'certbook actions' lists them`)
}

func TestAllMistakesAtOnce(t *testing.T) {
	wrongPlays(t, `vars:
  good: 1
  bad: "${vars.¦none}"
  ring: ¦"${vars.round}"
  round: "${vars.ring}"
  late: "${¦steps.a.have}"
  name: "${¦vars['x' + 'y']}"
plays:
- name: one
  hosts: [m1, ¦m8, "¦!m9"]
  steps:
  - {id: a, action: look, with: {text: "${vars.¦godo} ${vars.bad}", n: ¦many, typo: ¦1}, when: vars.bad == 1}
  - {id: b, action: ¦lok}
- name: two
  hosts: ¦zzz
  steps:
  - {id: c, action: put, when: steps.¦aa.changed, retry: {until: steps.c.¦hve == "x"}, with: {key: "${steps.b.what}", value: ¦[x]}}
`,
		`no variable "none" (known: bad, good, late, name, own, ring, round)`, `cyclic variables: ring -> round -> ring`,
		`a variable cannot use steps, hosts or facts: "steps.a.have"; use the expression where the value is needed`,
		`a variable can use another one by its name only, as in vars.name: "vars['x' + 'y']"`,
		`no host or group "m8" in inventory hosts.yaml; did you mean "m1"?`, `no host or group "m9" in inventory hosts.yaml; did you mean "m1"?`,
		`no variable "godo"; did you mean "good"?`, `n: want a whole number, not "many"`,
		`unknown argument "typo" (known: key, reads, before, names, n, text, flag, mode, even)`,
		`unknown action "lok"; did you mean "look"?`, `no host or group "zzz" in inventory hosts.yaml`,
		`no step "aa"; did you mean "a"?`, `step "c" has no output "hve"; did you mean "have"?`, `value: want text, not a list`)
}

func TestCyclesOfOne(t *testing.T) {
	wrongPlays(t, "vars: {a: ¦'x${vars.a}', b: '${vars.a}', c: '${vars.b}${vars.c2}', c2: 2}\nplays: [{name: p, hosts: m1, steps: [{id: s, action: look, with: {n: '${vars.b}', text: '${vars.c}'}}]}]\n",
		"cyclic variables: a -> a")
}

func TestUnknownSetAndLimit(t *testing.T) {
	c := compiler(t, "vars: {mine: 1}\n"+one("  - {id: a, action: look}\n"))
	src := &schema.Source{Name: "--set"}
	c.Set = map[string]schema.Value{"mien": {Node: &yaml.Node{Kind: yaml.ScalarNode, Value: "x", Line: 1, Column: 1}, Source: src}}
	c.Limit = schema.Hosts{{Value: "m7"}}
	_, err := c.Compile()
	require.ElementsMatch(t, []string{`--set:1:1 no variable "mien" in playbook "test"; did you mean "mine"?`, `- no host or group "m7" in inventory hosts.yaml; did you mean "m1"?`}, complaints(t, err))

	c.Set, c.Limit = nil, schema.Hosts{{Value: "m1"}, {Value: "!m1"}}
	_, err = c.Compile()
	require.Equal(t, []string{"- --limit m1,!m1 leaves no host"}, complaints(t, err))
}

func TestLimit(t *testing.T) {
	c := compiler(t, "plays:\n- {name: p, hosts: all, serial: 50%, steps: [{id: a, action: look}]}\n- {name: q, hosts: m3, steps: [{id: b, action: look}]}\n")
	c.Limit = schema.Hosts{{Value: "m1"}, {Value: "m2"}}
	plan, err := c.Compile()
	require.NoError(t, err)
	require.Equal(t, [][]string{{"m1"}, {"m2"}}, plan.Plays[0].Batches)
	require.Empty(t, plan.Plays[1].Batches)
	require.Equal(t, []string{"m1", "m2"}, plan.HostNames())

	c = compiler(t, "plays:\n- {name: p, hosts: m1, steps: [{id: a, action: look}]}\n- {name: q, hosts: m3, steps: [{id: b, action: look, when: steps.zz.changed}]}\n")
	c.Limit = schema.Hosts{{Value: "m1"}}
	_, err = c.Compile()
	require.Len(t, complaints(t, err), 1, "what --limit leaves out is checked all the same")
}

func TestHostsWithoutAVariable(t *testing.T) {
	c := compiler(t, "plays: [{name: p, hosts: all, steps: [{id: a, action: look, when: vars.only == 2}]}]\n")
	inv, err := schema.ParseInventory(&schema.Source{Name: "hosts.yaml", Data: []byte("version: 1\nhosts: {m1: {vars: {only: 1}}, m2: }\n")})
	require.NoError(t, err)
	c.Inventory = inv
	_, err = c.Compile()
	require.Equal(t, []string{`1:72 no variable "only" for host "m2"`}, complaints(t, err))
}

// TestWhereAValueComesFrom blames the document in which the winning value was
// written.
func TestWhereAValueComesFrom(t *testing.T) {
	c := compiler(t, "vars: {own: p, n: 1}\n"+one("  - {id: a, action: look, with: {n: 1, before: 1d}}\n"))
	c.Overlays = []*schema.Overlay{overlay(t, "steps: [{id: a, with: {before: soon, n: '${vars.nn}'}}]\n")}
	_, err := c.Compile()
	require.Equal(t, []string{`site.yaml:3:32 before: not a duration: "soon" (write 90s, 5m, 12h, 30d or 2w)`, `site.yaml:3:49 no variable "nn"; did you mean "n"?`}, complaints(t, err))
}

func TestVariables(t *testing.T) {
	c := compiler(t, "vars: {own: playbook, a: '${vars.b}/${host.name}', b: '${vars.own}-${run.id}', n: 3, m: '${vars.n}', l: '${[vars.n, vars.m + 1]}', d: {k: ['${vars.n}', x]}, e: '$${vars.n} $$ $', plain: '#{x}', nul: }\n"+one("  - {id: a, action: look}\n"))
	c.Overlays = []*schema.Overlay{overlay(t, "vars: {n: 4}")}
	c.Set = map[string]schema.Value{}
	plan, err := c.Compile()
	require.NoError(t, err)
	require.Equal(t, map[string]any{
		"own": "g", "a": "g-run-1/m1", "b": "g-run-1", "n": 4, "m": 4, "l": []any{4, 5}, "d": map[string]any{"k": []any{4, "x"}},
		"e": "${vars.n} $$ $", "plain": "#{x}", "nul": nil,
	}, plan.Hosts["m1"].Vars)
	require.Equal(t, 2, plan.Hosts["m2"].Vars["own"], "host before group before playbook")
	require.Len(t, plan.Documents, 3)
	require.Equal(t, "test", plan.Name)
}

// TestArgumentsKeepTheirTypes runs the values through to the action.
func TestArgumentsKeepTheirTypes(t *testing.T) {
	w := newWorld()
	w.keys["m1/look"] = "abc"
	rep := w.run(t, "vars: {n: 12, f: 1.30, names: [a, b], yes: true, before: 2w, hex: 0x10}\n"+one(
		"  - {id: x, action: look}\n  - {id: a, action: look, with: {n: '${vars.n}', names: '${vars.names}', flag: '${vars.yes}', before: '${vars.before}', text: '$${vars.n}'}}\n"+
			"  - {id: b, action: look, with: {n: '${steps.x.count}', names: ['${steps.x.have}', \"${'q'}\"], flag: '${steps.x.changed}', text: '${vars.f}|${vars.hex}|${vars.yes}|${2.5}|${1e21}'}}\n"+
			"  - {id: c, action: look, with: {n: '${4 / 2}', before: '${steps.x.count}h'}}\n"+
			"  - {id: d, action: look, with: {text: null, before: null, n: '${steps.x.count * 1.0}'}}\n"))
	require.NoError(t, rep.Err)
	text := func(i int) string { return rep.Steps["m1"][i].Outputs.(seen).Text }
	require.Equal(t, "${vars.n}", text(1))
	require.Equal(t, "2w", strings.Replace(rep.Steps["m1"][1].Outputs.(seen).Span, "14d", "2w", 1))
	require.Equal(t, "1.3|16|true|2.5|1000000000000000000000", text(2))
	require.Equal(t, "3h", rep.Steps["m1"][3].Outputs.(seen).Span)
	require.Equal(t, "30d", rep.Steps["m1"][4].Outputs.(seen).Span)
}

func TestLateArgumentsFailTheStep(t *testing.T) {
	w := newWorld()
	w.keys["m1/look"] = "soon"
	for with, want := range map[string]string{
		"before: '${steps.x.have}'":    `m1: a: arguments: book.yaml:8:42: before: not a duration: "soon" (write 90s, 5m, 12h, 30d or 2w)`,
		"even: '${steps.x.count - 1}'": "m1: a: arguments: even is 3",
		"n: '${steps.x.count / 3}'":    `m1: a: arguments: book.yaml:8:37: n: want a whole number, not "1.3333333333333333"`,
		"text: '${steps.x.names[9]}'":  `m1: a: book.yaml:8:43: "steps.x.names[9]": index out of range: 9 (array length is 2)`,
		"mode: '${steps.x.have}'":      `m1: a: arguments: book.yaml:8:40: mode: want one of fast, slow, not "soon"`,
	} {
		rep := w.run(t, one("  - {id: x, action: look}\n  - {id: a, action: look, with: {"+with+"}}\n"))
		require.Error(t, rep.Err)
		require.Equal(t, want, strings.Split(rep.Err.Error(), "\n")[0])
		require.Equal(t, engine.OutcomeUnchanged, rep.Outcome)
	}
	rep := w.run(t, one("  - {id: x, action: look}\n  - {id: a, action: look, when: 'steps.x.names[9] == \"\"'}\n"))
	require.EqualError(t, rep.Err, `m1: a: book.yaml:8:34: "steps.x.names[9] == \"\"": index out of range: 9 (array length is 2)`)
}

// dirAction has a default with an expression.
type dirAction struct {
	lookAction
	Dest string `yaml:"dest" default:"/backup/${run.id}/${host.name}/${vars.nothing}"`
}

func TestDefaultsWithExpressions(t *testing.T) {
	c := compiler(t, one("  - {id: a, action: dir}\n"))
	c.Registry["dir"] = engine.Spec{New: func() engine.Action { return &dirAction{} }}
	_, err := c.Compile()
	require.Equal(t, []string{`5:21 no variable "nothing" (known: own)`}, complaints(t, err), "blamed on the action, as it is written nowhere")
}

func TestHugeExpressionsAreRefused(t *testing.T) {
	for _, text := range []string{strings.Repeat("(", 1<<20), strings.Repeat("!", 1<<20) + "true", "1" + strings.Repeat("+1", 3000) + " > 0", strings.Repeat("[", 9000)} {
		c := compiler(t, one("  - {id: a, action: look, when: '"+text+"'}\n"))
		_, err := c.Compile()
		require.Len(t, complaints(t, err), 1)
	}
}

// TestGrowingVariables is a document of a few lines that would fill the memory:
// every variable holds the one before it ten times.
func TestGrowingVariables(t *testing.T) {
	for kind, c := range map[string]struct{ first, next, want string }{
		"texts":    {"'0123456789'", "'" + strings.Repeat("${vars.LAST}", 10) + "'", "makes the text longer than 1048576 bytes"},
		"lists":    {"[0, 1, 2]", "'${[vars.LAST, vars.LAST, vars.LAST]}'", "gives more than 1048576 bytes"},
		"mappings": {"{a: 0}", "'${{\"a\": vars.LAST, \"b\": vars.LAST}}'", "gives more than 1048576 bytes"},
	} {
		t.Run(kind, func(t *testing.T) {
			text := "vars:\n  v0: " + c.first + "\n"
			for i := range 60 {
				text += fmt.Sprintf("  v%d: %s\n", i+1, strings.ReplaceAll(c.next, "LAST", fmt.Sprintf("v%d", i)))
			}
			_, err := compiler(t, text+one("  - {id: a, action: look}\n")).Compile()
			require.ErrorContains(t, err, c.want)
			require.Len(t, complaints(t, err), 1, "what follows from it is not to blame")
		})
	}
}
