package engine

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"certbook/schema"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/types"
)

// Compiler turns documents into a Plan.
type Compiler struct {
	Registry  Registry
	Facts     any // zero value of the struct that Runner.Gather returns; nil for none
	Playbook  *schema.Playbook
	Overlays  []*schema.Overlay
	Inventory *schema.Inventory
	Set       map[string]schema.Value // variables that win over all others
	Limit     schema.Hosts            // the only hosts to work on; nil for all
	Run       RunInfo
}

// Compile checks every step for every host and returns the plan, or all
// mistakes at once.
func (c Compiler) Compile() (*Plan, error) {
	playbook := c.Playbook
	for _, o := range c.Overlays {
		var err error
		if playbook, err = playbook.With(o); err != nil {
			return nil, err
		}
	}
	b := &builder{Compiler: c, playbook: playbook, plan: &Plan{
		Name: playbook.Name.Value, Run: c.Run, Hosts: map[string]PlannedHost{},
		Documents: c.documents(), registry: c.Registry, facts: c.Facts, secrets: &secrets{},
	}, secret: map[string]bool{}, beyond: map[string]bool{}, seen: types.Map{}, failed: map[string]map[string]bool{}, anyVars: map[string]bool{}, given: map[string][]schema.Value{}}
	b.hosts()
	b.specs = b.stepSpecs()
	limit := b.limit()
	for _, play := range playbook.Plays {
		b.play(play, limit)
	}
	b.explain()
	b.hide()
	if err := b.d.Err(); err != nil {
		return nil, err
	}
	b.plan.Assumed = sortedKeys(b.beyond)
	return b.plan, nil
}

func (c Compiler) documents() map[string]string {
	docs := map[string]string{c.Playbook.Source.Name: c.Playbook.Source.SHA256()}
	for _, o := range c.Overlays {
		docs[o.Source.Name] = o.Source.SHA256()
	}
	docs[c.Inventory.Source.Name] = c.Inventory.Source.SHA256()
	if sealed := c.Inventory.Sealed; sealed != nil {
		docs[sealed.Name] = sealed.SHA256() // as it is encrypted: a hash of secrets could be guessed
	}
	return docs
}

type builder struct {
	Compiler
	playbook *schema.Playbook
	plan     *Plan
	specs    map[string]Spec            // by step id
	seen     types.Map                  // the steps that come before the present one
	failed   map[string]map[string]bool // by host: the variables without a value: with a mistake, or made of one in beyond
	secret   map[string]bool            // the variables that are secret on some host
	beyond   map[string]bool            // the variables that only secrets that were not opened can have
	others   types.Map                  // all hosts as expressions see them; nil until it is needed
	anyVars  map[string]bool            // the variables that some host has
	given    map[string][]schema.Value  // what the variables are set to, on any host
	d        schema.Diagnostics
}

// hosts computes the variables of every host.
func (b *builder) hosts() {
	for _, name := range sortedKeys(b.Inventory.Hosts) {
		h := PlannedHost{Name: name, Groups: b.Inventory.GroupsOf(name), address: b.Inventory.Hosts[name].Address.Value, locked: b.Inventory.Locked()}
		if h.address == "" {
			h.address = name
		}
		raw := maps.Clone(b.playbook.Vars)
		if raw == nil {
			raw = map[string]schema.Value{}
		}
		maps.Copy(raw, b.Inventory.VarsOf(name))
		maps.Copy(raw, b.Set)
		host := h.hostValues()
		delete(host, "vars")
		v := &variables{raw: raw, host: host, run: b.Run.values(), values: map[string]any{}, failed: map[string]bool{},
			secret: b.secret, locked: h.locked, beyond: b.beyond, d: &b.d}
		v.resolveAll()
		h.Vars, b.failed[name] = v.values, v.failed
		b.plan.Hosts[name] = h
		for v := range h.Vars {
			b.anyVars[v] = true
			b.given[v] = append(b.given[v], raw[v])
		}
	}
	for _, name := range sortedKeys(b.secret) {
		for _, h := range b.plan.Hosts {
			b.plan.secrets.add(h.Vars[name])
		}
	}
	b.unknownSet()
}

// hide takes secrets out of mistakes, which quote what they are about.
func (b *builder) hide() {
	b.d.Each(func(m *schema.Diagnostic) {
		m.Message, _ = b.plan.secrets.mask(m.Message)
		m.Hint, _ = b.plan.secrets.mask(m.Hint)
	})
}

var variableUse = regexp.MustCompile(`\bvars\.(\w+)`)

// explain adds to mistakes in the playbook which document gave a variable the
// value at fault: the line that uses it is not to blame.
func (b *builder) explain() {
	b.d.Each(func(m *schema.Diagnostic) {
		if m.Pos.Source == nil || m.Hint != "" {
			return
		}
		var given []string
		for _, use := range variableUse.FindAllStringSubmatch(m.Pos.Source.Line(m.Pos.Line), -1) {
			for _, v := range b.given[use[1]] {
				if v.Source != m.Pos.Source {
					given = append(given, fmt.Sprintf("vars.%s is from %s", use[1], v.Pos()))
				}
			}
		}
		slices.Sort(given)
		m.Hint = strings.Join(slices.Compact(given), ", ")
	})
}

// unknownSet reports --set of a variable that nothing declares: a typing
// error would otherwise be silent.
func (b *builder) unknownSet() {
	known := maps.Clone(b.playbook.Vars)
	if known == nil {
		known = map[string]schema.Value{}
	}
	for name := range b.Inventory.Hosts {
		maps.Copy(known, b.Inventory.VarsOf(name))
	}
	for name, v := range b.Set {
		if b.setSecret(name) {
			continue
		}
		if _, ok := known[name]; !ok {
			b.d.Add(v.Pos(), "no variable %q in playbook %q%s", name, b.playbook.Name.Value, schema.Suggest(name, sortedKeys(known)))
		}
	}
}

// setSecret reports --set of a secret variable: other users see the arguments
// of a command.
func (b *builder) setSecret(name string) bool {
	for host := range b.Inventory.Hosts {
		if v, ok := b.Inventory.VarsOf(host)[name]; ok && v.Secret() {
			b.d.Add(schema.Pos{}, "--set %s: the variable is secret, and other users can see the arguments of a command; write it into %s", name, v.Source.Name)
			return true
		}
	}
	return false
}

func (b *builder) stepSpecs() map[string]Spec {
	specs := map[string]Spec{}
	for _, s := range b.playbook.Steps() {
		spec, ok := b.Registry[s.Action.Value]
		if !ok {
			names := sortedKeys(b.Registry)
			hint := schema.Suggest(s.Action.Value, names)
			if hint == "" {
				hint = "; 'certbook actions' lists them"
			}
			b.d.Add(s.Action.Pos, "unknown action %q%s", s.Action.Value, hint)
			continue
		}
		specs[s.ID.Value] = spec
	}
	return specs
}

func (b *builder) limit() map[string]bool {
	if b.Limit == nil {
		return nil
	}
	set := map[string]bool{}
	before := b.d.Len()
	for _, h := range b.Inventory.Select(b.Limit, &b.d) {
		set[h] = true
	}
	if len(set) == 0 && b.d.Len() == before {
		b.d.Add(schema.Pos{}, "--limit %s leaves no host", b.Limit)
	}
	return set
}

func (b *builder) play(play schema.Play, limit map[string]bool) {
	out := PlannedPlay{Name: play.Name.Value, OnFailure: play.OnFailure}
	before := b.d.Len()
	hosts := b.Inventory.Select(play.Hosts, &b.d)
	if len(hosts) == 0 && b.d.Len() == before {
		b.d.Add(play.Hosts[0].Pos, "play %q has no host: %s of inventory %s is empty", play.Name.Value, play.Hosts, b.Inventory.Source.Name)
	}
	hosts = slices.DeleteFunc(hosts, func(h string) bool { return limit != nil && !limit[h] })
	size := play.Serial.Size(len(hosts))
	for batch := range slices.Chunk(hosts, size) {
		out.Batches = append(out.Batches, slices.Clone(batch))
	}
	out.Steps = b.steps(play.Steps, hosts)
	out.Finally = b.steps(play.Finally, hosts)
	b.plan.Plays = append(b.plan.Plays, out)
}

func (b *builder) steps(steps []schema.Step, hosts []string) []PlannedStep {
	var list []PlannedStep
	for _, s := range steps {
		spec, ok := b.specs[s.ID.Value]
		if !ok { // reported; what uses it is not to blame
			b.seen[s.ID.Value] = types.Map{types.Extra: types.Any}
			continue
		}
		p := PlannedStep{
			ID: s.ID.Value, Name: s.Name, Action: s.Action.Value, Off: s.Off, Timeout: s.Timeout.Std(),
			spec: spec, pos: s.ID.Pos, hosts: map[string]*boundStep{}, Retry: schema.Retry{Attempts: 1, Backoff: 1},
		}
		if s.Retry != nil {
			p.Retry = *s.Retry
		}
		for _, h := range hosts {
			p.hosts[h] = b.bind(s, spec, h)
		}
		if len(hosts) == 0 { // left out by --limit: check it all the same
			for _, h := range sortedKeys(b.plan.Hosts)[:min(1, len(b.plan.Hosts))] {
				b.bind(s, spec, h)
			}
		}
		list = append(list, p)
		b.seen[s.ID.Value] = stepTypes(spec.Outputs)
	}
	return list
}

// scope returns what the expressions of a step may name.
func (b *builder) scope(host string) scope {
	if b.others == nil {
		b.others = b.allHosts()
	}
	var facts types.Type = types.Map{}
	if b.Facts != nil {
		facts = typeOf(reflect.TypeOf(b.Facts))
	}
	later := map[string]bool{}
	for _, s := range b.playbook.Steps() {
		if _, seen := b.seen[s.ID.Value]; !seen {
			later[s.ID.Value] = true
		}
	}
	h := b.plan.Hosts[host]
	return scope{later: later, host: host, elsewhere: b.anyVars, secret: b.secret, locked: h.locked, types: types.Map{
		"vars": h.varTypes(), "host": h.hostTypes(), "facts": facts,
		"steps": maps.Clone(b.seen), "hosts": b.others, "run": runTypes,
	}}
}

// allHosts describes every host with the results of all steps.
func (b *builder) allHosts() types.Map {
	steps := types.Map{}
	for _, s := range b.playbook.Steps() {
		if spec, ok := b.specs[s.ID.Value]; ok {
			steps[s.ID.Value] = stepTypes(spec.Outputs)
		} else {
			steps[s.ID.Value] = types.Map{types.Extra: types.Any}
		}
	}
	hosts := types.Map{}
	for name, h := range b.plan.Hosts {
		t := h.hostTypes()
		t["steps"] = steps
		hosts[name] = t
	}
	return hosts
}

// bind checks a step for one host and computes what is known of it.
func (b *builder) bind(s schema.Step, spec Spec, host string) *boundStep {
	out := &boundStep{}
	in := b.scope(host)
	if s.When != nil {
		out.when = b.condition(*s.When, in)
	}
	if s.Retry != nil && s.Retry.Until != nil {
		own := in
		own.types = maps.Clone(in.types)
		steps := maps.Clone(b.seen)
		steps[s.ID.Value] = stepTypes(spec.Outputs)
		own.types["steps"] = steps
		out.until = b.condition(*s.Retry.Until, own)
	}
	b.arguments(s, spec, host, in, out)
	return out
}

func (b *builder) condition(t schema.Text, in scope) *expression {
	return b.expression(t.Value, t.At, in, expr.AsBool())
}

// expression compiles an expression and notes which variables it takes from
// secrets that were not opened.
func (b *builder) expression(code string, at places, in scope, options ...expr.Option) *expression {
	e := compileExpression(code, at, in, &b.d, options...)
	if e != nil {
		for _, name := range e.beyond {
			b.beyond[name] = true
		}
	}
	return e
}
