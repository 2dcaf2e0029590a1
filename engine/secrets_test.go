package engine_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"certbook/engine"
	"certbook/schema"

	"github.com/stretchr/testify/require"
)

// tellAction sends a text to a command's standard input and says what the
// command has printed.
type tellAction struct {
	Text string `yaml:"text" secret:"true" doc:"what is sent"`
	Word string `yaml:"word" default:"x"`
	Ok   bool   `yaml:"ok"`
}

type told struct {
	Have string            `expr:"have"`
	More map[string]string `expr:"more"`
	hid  string
}

func (a *tellAction) Check(ctx context.Context, p engine.Probe) (engine.Result, error) {
	out, err := p.Query(ctx, engine.Command{Argv: []string{"get", "tell"}, Stdin: []byte(a.Text)})
	said := string(out.Stdout) + a.Text
	return engine.Result{
		Outputs: told{Have: said, More: map[string]string{"said": said, "token": "unknown"}, hid: said}, Warnings: []string{"warned: " + said},
		Done: []engine.Change{{Subject: said, From: said, To: said, Before: map[string]string{"x": said}}},
	}, err
}

// secretCompiler compiles plays with secret variables: for all hosts token and
// pair, on m2 also own.
func secretCompiler(t *testing.T, plays string) engine.Compiler {
	t.Helper()
	c := compiler(t, plays)
	c.Registry["tell"] = engine.Spec{New: func() engine.Action { return &tellAction{} }, Outputs: told{}}
	s, err := schema.ParseSecrets(&schema.Source{Name: "secrets.age", Data: []byte(
		"version: 1\nvars:\n  token: hunter2'\"\\x\n  pair: {user: jane, pin: 246810}\nhosts: {m2: {vars: {own: secret of m2}}}\n")})
	require.NoError(t, err)
	c.Inventory.Sealed = &schema.Source{Name: "secrets.age", Data: []byte("sealed")}
	c.Inventory, err = c.Inventory.With(s)
	require.NoError(t, err)
	return c
}

const hunter = `hunter2'"\x`

func TestSecretsStayOutOfArguments(t *testing.T) {
	for code, secret := range map[string]string{
		"vars.token":                       "vars.token",
		"vars['token']":                    "vars.token",
		"vars?.token":                      "vars.token",
		"'x' + vars.token":                 "vars.token",
		"toBase64(vars.token)":             "vars.token",
		"vars.pair.user":                   "vars.pair",
		"vars.pair.pin + 1":                "vars.pair",
		"host.vars.token":                  "vars.token",
		"hosts.m3.vars.token":              "vars.token",
		"hosts.m2.vars.own":                "vars.own", // secret there, so nowhere to be shown
		"vars.own":                         "vars.own",
		"vars.made":                        "vars.made", // made of a secret
		"vars.made_again":                  "vars.made_again",
		"vars['tok' + 'en']":               "vars",
		"toJSON(vars)":                     "vars",
		"toJSON(host.vars)":                "vars",
		"let v = vars; v['tok' + 'en']":    "vars",
		"join(map([host], .vars.token))":   "vars.token",
		"steps.x.have + vars.token":        "vars.token",
		"run.dry ? vars.token : 'nothing'": "vars.token",
	} {
		c := secretCompiler(t, "vars: {made: 'x ${vars.token}', made_again: '${[vars.made]}'}\n"+one("  - {id: x, action: look}\n  - id: a\n    action: tell\n    with: {word: \"${"+code+"}\"}\n"))
		_, err := c.Compile()
		list := complaints(t, err)
		require.Len(t, list, 1, code)
		require.Equal(t, "9:21 word: "+secret+" is secret, and this argument is not: other users of the host, the terminal or the log would see it; "+
			"give it to the command by text, or by a file on the host that an earlier step has written so", list[0], code)
		require.NotContains(t, err.Error(), "hunter2")
	}
	c := secretCompiler(t, one("  - {id: a, action: look, with: {text: '${vars.token}'}}\n"))
	_, err := c.Compile()
	require.ErrorContains(t, err, "no argument of look keeps a secret: put it into a file on the host with a step run-command and its stdin; vars.token is from secrets.age:3:10")
}

func TestSecretsWhereTheyBelong(t *testing.T) {
	for _, with := range []string{
		"text: '${vars.token}'", "text: '${vars.pair.pin} ${toJSON(vars)}'", "ok: '${vars.token == \"x\"}'", "ok: '${\"token\" in vars}', text: '${steps.x.have + vars.token}'",
	} {
		c := secretCompiler(t, one("  - {id: x, action: look, when: 'vars.token != \"\" && len(host.vars.token) > 3'}\n  - {id: a, action: tell, with: {"+with+"}}\n"))
		_, err := c.Compile()
		require.NoError(t, err, with)
	}
}

// What an expression makes of a secret is one, whatever mistake there is.
func TestMistakesHideSecrets(t *testing.T) {
	for _, text := range []string{
		"vars: {bad: '${int(vars.token)}'}\n" + one("  - {id: x, action: look}\n"),
		one("  - {id: x, action: tell, with: {text: '${int(vars.token)}'}}\n"),
		one("  - {id: x, action: tell, with: {text: '${{\"a\": vars.token}}'}}\n"),
		one("  - {id: x, action: look, with: {n: '${vars.pair.pin}', before: '${vars.token}', mode: '${vars.token}'}}\n"),
	} {
		_, err := secretCompiler(t, text).Compile()
		require.Error(t, err, text)
		require.NotContains(t, err.Error(), "hunter2")
		require.NotContains(t, err.Error(), "246810")
	}
	c := secretCompiler(t, one("  - {id: x, action: look}\n"))
	c.Set = map[string]schema.Value{"token": set(t, "token", "hunter3")}
	_, err := c.Compile()
	require.EqualError(t, err, "--set token: the variable is secret, and other users can see the arguments of a command; write it into secrets.age")
}

func set(t *testing.T, name, text string) schema.Value {
	t.Helper()
	o := overlay(t, "vars: {"+name+": "+text+"}\n")
	v := o.Vars[name]
	v.Source = &schema.Source{Name: "--set " + name, Data: []byte(text), Flag: true}
	return v
}

// A host repeats the secrets that it was sent, as they are and in other forms.
func TestSecretsDoNotLeaveARun(t *testing.T) {
	pem := "-----BEGIN EC PRIVATE KEY-----\nQUJDREVGR0g\n-----END EC PRIVATE KEY-----"
	said := fmt.Sprintf("%s %q 246810 %s", hunter, hunter, base64.StdEncoding.EncodeToString([]byte(hunter)))
	for _, plan := range []bool{false, true} {
		w := newWorld()
		w.keys["m1/tell"] = said + " " + pem + " kept"
		c := secretCompiler(t, one("  - {id: a, action: tell, with: {text: '${vars.token} ${upper(vars.pair.user)}'}}\n"+
			"  - {id: b, action: tell, with: {text: '${upper(steps.a.have + vars.token)}'}}\n  - {id: bad, action: look, with: {key: k}}\n"))
		w.hook["m1 get k"] = func(context.Context) error { return errors.New("it has JANE" + said) }
		c.Run.Plan = plan
		p, err := c.Compile()
		require.NoError(t, err)
		require.NotContains(t, fmt.Sprint(p.Documents), "hunter2")
		rep := w.runner().Run(context.Background(), p, engine.Origin{})
		require.Error(t, rep.Err)
		shown, err := json.Marshal(rep.Steps)
		require.NoError(t, err)
		all := fmt.Sprintf("%+v\n%s\n%v\n%v", w.events, shown, rep.Err, rep.Hosts["m1"].Err)
		for _, secret := range []string{"hunter2", "HUNTER2", "246810", "JANE", "QUJDREVGR0g", base64.StdEncoding.EncodeToString([]byte(hunter))[:12]} {
			require.NotContains(t, all, secret)
		}
		require.Contains(t, all, "it has ***")
		require.Contains(t, string(shown), "REDACTED kept")
		require.Equal(t, "REDACTED", rep.Steps["m1"][0].Outputs.(told).More["token"], "a map that calls it so")
		require.Contains(t, rep.Steps["m1"][0].Outputs.(told).hid, "hunter2", "what is not shown is as it was")
		for _, e := range w.events {
			if e.Kind == engine.StepOK || e.Kind == engine.RunStarted { // of others the recorder has taken some out before
				require.Equal(t, e.Kind == engine.StepOK, e.Redacted > 0, e.Kind)
			}
		}
	}
}

// A command prints a secret, and a later step would put that into its arguments.
func TestPrintedSecretsStayOutOfArguments(t *testing.T) {
	w := newWorld()
	w.keys["m1/tell"] = "it is " + hunter
	c := secretCompiler(t, one("  - {id: a, action: tell}\n  - {id: b, action: tell, with: {word: '${steps.a.have}'}}\n"))
	p, err := c.Compile()
	require.NoError(t, err)
	rep := w.runner().Run(context.Background(), p, engine.Origin{})
	require.EqualError(t, rep.Err, `m1: b: arguments: word: what "steps.a.have" gives is secret, and this argument is not: other users of the host, the terminal or the log would see it; `+
		`give it to the command by text, or by a file on the host that an earlier step has written so`)
	require.Equal(t, "m1 get tell", strings.Join(w.log, ", "))
}

// Without its secrets an inventory still shows whether a playbook is well made.
func TestLockedSecrets(t *testing.T) {
	locked := func(plays string) engine.Compiler {
		c := secretCompiler(t, plays)
		inv, err := schema.ParseInventory(&schema.Source{Name: "hosts.yaml", Data: []byte(threeHosts)})
		require.NoError(t, err)
		inv.Sealed = c.Inventory.Sealed
		c.Inventory = inv
		return c
	}
	const vars = "vars: {made: 'x ${vars.token}', renew: 3}\n"
	p, err := locked(vars + one("  - {id: a, action: tell, when: vars.flag == 1 && host.vars.b > hosts.m2.vars.c, with: {text: '${vars.made} ${vars.pair.user}', word: '${vars.renew}'}}\n")).Compile()
	require.NoError(t, err)
	require.Equal(t, []string{"b", "c", "flag", "pair", "token"}, p.Assumed)
	const shown = " is secret, and this argument is not: other users of the host, the terminal or the log would see it; give it to the command by text, or by a file on the host that an earlier step has written so"
	_, err = locked(vars + one("  - {id: a, action: tell, when: steps.zz.changed, with: {text: '${vars.made}', word: '${vars.made} ${vars.known}'}}\n")).Compile()
	require.Equal(t, []string{`6:39 no step "zz"`, "6:89 word: vars.made" + shown, "6:102 word: vars.known" + shown}, complaints(t, err))
	p, err = secretCompiler(t, one("  - {id: a, action: tell}\n")).Compile()
	require.NoError(t, err)
	require.Empty(t, p.Assumed)
	require.Equal(t, (&schema.Source{Data: []byte("sealed")}).SHA256(), p.Documents["secrets.age"])
}
